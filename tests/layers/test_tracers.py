"""Traced and converted nets: they obey .eval(), and draw a new mask in every call."""

import functools
import io

import pytest
import torch
from torch import Tensor, nn
from torch.func import functionalize, linearize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import checkpoint as checkpointing
from torch.utils.checkpoint import checkpoint

from regdrop_lite import (
    DropBlock2d,
    DropPath,
    SpatialDropout2d,
    drop_block,
    drop_path,
    drop_residual,
    set_generator,
    spatial_dropout,
)

SEED = 20261122
LAYERS = {
    "spatial": lambda: SpatialDropout2d(0.4),
    "path": lambda: DropPath(0.4),
    "block": lambda: DropBlock2d(0.4, 3),
    "block clip": lambda: DropBlock2d(0.4, 3, border="clip"),
    "block shared": lambda: DropBlock2d(0.4, 3, shared=True),
    "block batch": lambda: DropBlock2d(0.4, 3, normalize="batch"),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
OLDEST = torch.__version__.startswith("2.4.")


def image(dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(SEED)
    return torch.rand(5, 4, 8, 9, dtype=torch.float64, generator=g).add(0.5).to(dtype)


def seeded(function, *arguments):
    torch.manual_seed(SEED)
    return function(*arguments)


def assert_draws_like(run, layer) -> None:
    x = image()
    assert torch.equal(seeded(run, x), seeded(layer, x))
    assert any(not torch.equal(run(x), run(x)) for _ in range(9))


@every_layer
def test_jit_trace_records_the_draw(name) -> None:
    layer = LAYERS[name]()
    run = torch.jit.trace(layer, image(), check_trace=False)
    assert_draws_like(run, layer)
    file = io.BytesIO()
    torch.jit.save(run, file)
    file.seek(0)
    assert_draws_like(torch.jit.load(file), layer)


@every_layer
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_records_the_draw(name, mode) -> None:
    layer = LAYERS[name]()
    assert_draws_like(make_fx(layer, tracing_mode=mode)(image()), layer)


@every_layer
def test_functionalize_and_linearize_go_through(name) -> None:
    layer, x = LAYERS[name](), image()
    assert_draws_like(functionalize(layer), layer)
    # The recorded derivative draws anew in every call, as that of nn.Dropout2d does.
    _, slope = linearize(layer, x)
    assert torch.equal(seeded(slope, x), seeded(layer, x))
    assert torch.equal(seeded(slope, 2 * x), 2 * seeded(layer, x))


@every_layer
def test_a_symbolically_traced_net_obeys_train_and_eval(name) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1).double(), LAYERS[name](), nn.ReLU())
    traced = torch.fx.symbolic_trace(net)
    assert [n.op for n in traced.graph.nodes] == [
        "placeholder",
        *["call_module"] * 3,
        "output",
    ]
    x = image()
    assert torch.equal(seeded(traced, x), seeded(net, x))
    assert not torch.equal(traced(x), traced(x))
    net.eval()
    assert torch.equal(traced.eval()(x), net(x))
    assert torch.equal(traced(x), net[2](net[0](x)))


def test_a_traced_function_is_a_leaf_too() -> None:
    """With a constant ``training``, as torch.nn.functional has it."""

    def net(x):
        x = spatial_dropout(x, 0.4, channel_dim=-1)
        return drop_path(drop_block(x, 0.4, 3, border="clip"), 0.4)

    traced = torch.fx.symbolic_trace(net)
    assert [n.target for n in traced.graph.nodes][1:-1] == [
        spatial_dropout,
        drop_block,
        drop_path,
    ]
    assert torch.equal(seeded(traced, image()), seeded(net, image()))


def test_a_quantised_net_obeys_eval() -> None:
    """Quantisation-aware training, then conversion."""
    quantize = pytest.importorskip("torch.ao.quantization.quantize_fx")
    mapping = torch.ao.quantization.get_default_qat_qconfig_mapping()
    x = image(torch.float32)
    net = nn.Sequential(
        nn.Conv2d(4, 4, 1), SpatialDropout2d(0.5), DropBlock2d(0.4, 3), DropPath(0.5)
    )
    net.append(nn.Conv2d(4, 4, 1))
    prepared = quantize.prepare_qat_fx(net.train(), mapping, (x,))
    assert not torch.equal(prepared(x), prepared(x))
    converted = quantize.convert_fx(prepared.eval())
    assert torch.equal(converted(x), converted(x))
    with torch.no_grad():
        reference = net.eval()(x)
    assert (converted(x) - reference).abs().mean() < 0.1 * reference.abs().mean()


ANYTHING = {
    "quantised": torch.quantize_per_tensor(torch.ones(2, 4, 6, 6), 0.1, 0, torch.qint8),
    "integer": torch.ones(2, 4, 6, 6, dtype=torch.int64),
    "complex": torch.ones(2, 4, 6, 6, dtype=torch.complex64),
    "bool": torch.ones(2, 4, 6, 6, dtype=torch.bool),
    "float8": torch.ones(2, 4, 6, 6).to(torch.float8_e4m3fn),
}


@every_layer
@pytest.mark.parametrize("kind", ANYTHING)
def test_in_evaluation_and_at_p_zero_anything_comes_back_as_it_is(name, kind) -> None:
    x, layer = ANYTHING[kind], LAYERS[name]()
    assert layer.eval()(x) is x
    layer.p = 0.0
    assert layer.train()(x) is x
    assert layer.eval()(x) is x


@every_layer
@pytest.mark.parametrize("kind", ["integer", "complex", "bool"])
def test_what_cannot_be_scaled_is_refused_in_training(name, kind) -> None:
    for p in (0.4, 1.0):
        layer = LAYERS[name]()
        layer.p = p
        with pytest.raises(
            TypeError, match=r"expected a floating-point.*but got torch"
        ):
            layer(ANYTHING[kind])


@pytest.mark.parametrize("name", [*LAYERS, "residual"])
@pytest.mark.parametrize("tracer", ["jit.trace", "make_fx"])
def test_an_explicit_generator_is_refused_by_tracers(name, tracer) -> None:
    """It would become a constant of the graph."""
    run = lambda x: drop_residual(x, torch.sin, 0.4)  # noqa: E731
    if name != "residual":
        run = LAYERS[name]()
        set_generator(run, torch.Generator())
    message = "works in eager mode only, not under torch.jit.trace or make_fx"
    with pytest.raises(RuntimeError, match=message):
        if tracer == "make_fx":
            make_fx(run)(image())
        else:
            torch.jit.trace(run, image(), check_trace=False)


# ------------------------------------------------------- selective checkpointing


POLICIES = {
    "nothing": lambda op: False,
    "everything": lambda op: True,
    "random numbers": lambda op: "rand" in op,
    "products": lambda op: "mul" in op,
    "our operator": lambda op: "regdrop_lite" in op,
    "all but our operator": lambda op: "regdrop_lite" not in op,
}


@pytest.mark.skipif(OLDEST, reason="PyTorch 2.4 has no public selective checkpointing")
@every_layer
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_selective_checkpointing_repeats_the_mask(name, policy, dtype) -> None:
    """Whatever is saved, and in the first call of a process as in the next ones."""

    def choose(_, op, *__, **___):
        save = POLICIES[policy](str(op))
        policies = checkpointing.CheckpointPolicy
        return policies.MUST_SAVE if save else policies.PREFER_RECOMPUTE

    layer = LAYERS[name]()
    contexts = functools.partial(
        checkpointing.create_selective_checkpoint_contexts, choose
    )

    def block(x: Tensor) -> Tensor:
        return layer(x * 1).square().sin()

    def checkpointed(x: Tensor) -> Tensor:
        return checkpoint(block, x, use_reentrant=False, context_fn=contexts)

    results = []
    for run in (checkpointed, block, checkpointed):
        x = image(dtype).requires_grad_()
        y = seeded(run, x)
        torch.rand(7)  # the generator has moved on when the backward pass begins
        y.sum().backward()
        results.append((y.detach(), x.grad))
    for first, plain, again in zip(*results, strict=True):
        assert torch.equal(first, plain)
        assert torch.equal(again, plain)


# ------------------------------------------------------------------ torch.compile


def eager_only(kind: str) -> nn.Module:
    """A net with something that works in eager mode only, between convolutions."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return drop_residual(x, self.branch, 0.4, self.training)

    layer = Residual() if kind == "residual" else LAYERS[kind]()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 4, 1), layer, nn.Conv2d(4, 4, 1)).double()
    set_generator(net, torch.Generator())
    return net


def restart(net: nn.Module) -> None:
    torch.manual_seed(SEED)
    for module in net.modules():
        if getattr(module, "generator", None) is not None:
            module.generator.manual_seed(SEED)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["residual", "spatial", "path", "block"])
def test_what_is_eager_only_breaks_the_graph_and_is_right(kind) -> None:
    """``torch.compile(net)``: several graphs, and the results of eager mode."""
    torch._dynamo.reset()
    net, graphs = eager_only(kind), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    run = torch.compile(net, backend=backend)
    x = image()
    for _ in range(2):
        results = []
        for call in (net, run):
            restart(net)
            net.zero_grad()
            call(x).square().sum().backward()
            results.append([p.grad.clone() for p in net.parameters()])
            restart(net)
            results[-1].append(call(x).detach())
        for eager, compiled in zip(*results, strict=True):
            torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=0.0)
    assert not torch.equal(run(x), run(x))
    net.eval()
    torch.testing.assert_close(run(x), net(x), rtol=1e-12, atol=0.0)
    assert len(graphs) > 1


@pytest.mark.parametrize("kind", ["residual", "spatial", "path", "block"])
def test_what_is_eager_only_is_refused_in_one_graph(kind) -> None:
    torch._dynamo.reset()
    run = torch.compile(eager_only(kind), backend="eager", fullgraph=True)
    message = "Observed exception" if OLDEST else "works in eager mode only, not under"
    with pytest.raises(Exception, match=message):
        run(image())
