"""Eager results are the same before and after any compiled, traced or exported call."""

import gc
import itertools
from collections.abc import Callable

import psutil
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import compiled_autograd
from torch.export import export
from torch.func import functionalize, grad, vmap

from regdrop_lite import (
    DropBlock2d,
    DropBlock3d,
    DropLayer,
    DropPath,
    LinearRamp,
    SpatialDropout2d,
)

SEED = 20261122
needs_new = pytest.mark.skipif(
    torch.__version__.startswith("2.4."), reason="PyTorch 2.4 lacks it or is wrong"
)

LAYERS: dict[str, Callable[[], DropLayer]] = {
    "spatial": lambda: SpatialDropout2d(0.4),
    "path": lambda: DropPath(0.4),
    "path batch": lambda: DropPath(0.4, mode="batch"),
}
for border, shared, normalize in itertools.product(
    ("valid", "clip"), (False, True), ("expected", "batch")
):
    LAYERS[f"{border} {'shared ' if shared else ''}{normalize}"] = (
        lambda border=border, shared=shared, normalize=normalize: DropBlock2d(
            0.4, (2, 3), border=border, shared=shared, normalize=normalize
        )
    )
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_layer = pytest.mark.parametrize("name", LAYERS)


def image(dtype: torch.dtype) -> Tensor:
    g = torch.Generator().manual_seed(SEED)
    return torch.rand(5, 4, 6, 7, dtype=torch.float64, generator=g).add(0.5).to(dtype)


def seeded(function, *arguments):
    torch.manual_seed(SEED)
    return function(*arguments)


def eager(layer: DropLayer, dtype: torch.dtype) -> list[Tensor]:
    """Outputs, and a gradient, of calls in eager mode."""
    x = image(dtype).requires_grad_()
    y = seeded(layer, x)
    (gradient,) = torch.autograd.grad(y, x, torch.linspace(1, 2, y.numel()).view_as(y))
    return [y.detach(), gradient, seeded(layer, image(dtype) * 2)]


def compiled(backend: str, training: bool) -> Callable[[DropLayer, Tensor], None]:
    def call(layer: DropLayer, x: Tensor) -> None:
        torch._dynamo.reset()
        # What follows the layer may be computed in its output's memory.
        run = torch.compile(lambda x: layer(x).mul(3).sin().mean(), backend=backend)
        if training:
            run(x.requires_grad_()).backward()
        else:
            with torch.no_grad():
                run(x)

    return call


def by_compiled_autograd(layer: DropLayer, x: Tensor) -> None:
    x.requires_grad_()
    expected = torch.autograd.grad(seeded(layer, x).sin().sum(), x)[0]
    loss = seeded(layer, x).sin().sum()
    with compiled_autograd._enable(torch.compile(backend="aot_eager")):
        loss.backward()
    torch.testing.assert_close(x.grad, expected, rtol=1e-3, atol=1e-6)
    assert torch.equal(x.grad == 0, expected == 0)


def exported(layer: DropLayer, x: Tensor) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mul_(3)

    program = export(Net(), (x,), strict=False).module()
    program(x)


def traced(layer: DropLayer, x: Tensor) -> None:
    torch.jit.trace(lambda x: layer(x).mul_(3), x, check_trace=False)(x)


CALLS = {
    "export": exported,
    "functionalize": lambda layer, x: functionalize(lambda x: layer(x).mul_(3))(x),
    "vmap": lambda layer, x: vmap(lambda x: layer(x).mul_(3), randomness="different")(
        torch.stack([x, x])
    ),
    "grad": lambda layer, x: grad(lambda x: layer(x).mul_(3).sum())(x),
    "jit.trace": traced,
}
SLOW = {
    "aot_eager, training": compiled("aot_eager", True),
    "aot_eager, no grad": compiled("aot_eager", False),
    "compiled autograd": by_compiled_autograd,
    "inductor, training": compiled("inductor", True),
    "inductor, no grad": compiled("inductor", False),
}


def check_that_eager_results_stay(name: str, call) -> None:
    for dtype in DTYPES:
        layer, other = LAYERS[name](), LAYERS[name]()
        before = [eager(layer, dtype), eager(other, dtype)]
        call(layer, image(dtype))
        after = [eager(layer, dtype), eager(other, dtype)]
        for old, new in zip(
            itertools.chain(*before), itertools.chain(*after), strict=True
        ):
            assert torch.equal(old, new), dtype


@needs_new
@every_layer
@pytest.mark.parametrize("call", CALLS)
def test_eager_results_stay(name, call) -> None:
    check_that_eager_results_stay(name, CALLS[call])


@needs_new
@pytest.mark.slow
@every_layer
@pytest.mark.parametrize("call", SLOW)
def test_eager_results_stay_after_a_compiler(name, call) -> None:
    check_that_eager_results_stay(name, SLOW[call])


@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_call_returns_is_the_callers_alone(name, dtype) -> None:
    """Writing over a result, its gradient or what autograd keeps changes nothing."""
    layer, kept = LAYERS[name](), []
    expected = eager(layer, dtype)
    for _ in range(2):
        x = image(dtype).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.append(t) or t.clone(), lambda t: t
        ):
            y = layer(x)
        for tensor in (y.detach(), *kept):
            tensor.zero_()
    for old, new in zip(expected, eager(layer, dtype), strict=True):
        assert torch.equal(old, new)


@needs_new
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_operator_returns_new_memory(border, shared, dtype) -> None:
    p, x = torch.tensor(0.3, dtype=torch.float64), image(dtype)
    settings = ([2, 2], border, shared, "expected")
    kept = [x, p]  # so that no memory is handed out twice
    for _ in range(3):
        kept += torch.ops.regdrop_lite.block_mask(x, p, *settings)
    assert len({t.untyped_storage().data_ptr() for t in kept}) == len(kept)


def test_reloading_the_modules_leaves_a_working_operator() -> None:
    """As %autoreload does when a file changes."""
    import importlib
    import sys

    expected = seeded(
        torch.compile(DropBlock2d(0.4, 2), backend="aot_eager"), image(DTYPES[0])
    )
    names = [
        n for n in sys.modules if n.startswith("regdrop_lite.") and "course" not in n
    ]
    saved = {name: sys.modules[name] for name in names}
    contents = {name: dict(vars(module)) for name, module in saved.items()}
    try:
        for _ in range(2):
            for name in names:
                importlib.reload(sys.modules[name])
        torch._dynamo.reset()
        layer = sys.modules["regdrop_lite.drop_block"].DropBlock2d(0.4, 2)
        run = torch.compile(layer, backend="aot_eager", fullgraph=True)
        assert torch.equal(seeded(run, image(DTYPES[0])), expected)
    finally:  # other tests compare classes
        for name, module in saved.items():
            vars(module).update(contents[name])
        importlib.reload(sys.modules["regdrop_lite._block_operator"])
        vars(sys.modules["regdrop_lite.drop_block"])["draw"] = sys.modules[
            "regdrop_lite._block_operator"
        ].draw


def test_no_module_keeps_an_operator_of_another_one() -> None:
    """That one may be reloaded, and PyTorch frees the operator: a call would crash."""
    import sys

    holders = {
        name
        for name, module in sys.modules.items()
        if name.startswith("regdrop_lite.")
        and any(type(v).__name__ == "CustomOpDef" for v in vars(module).values())
    }
    assert holders == {"regdrop_lite._block_operator"}


@pytest.mark.slow
@pytest.mark.parametrize("border", ["valid", "clip"])
def test_a_long_ramp_on_a_large_volume_needs_no_memory(border) -> None:
    """1,000 rates on 96 x 96 x 96: nothing may be kept for each."""
    layer = DropBlock3d(0.0, 3, border=border)
    ramp = LinearRamp(layer, 0.001, 0.05, 1000)
    x = torch.ones(1, 1, 96, 96, 96)
    for _ in range(5):  # what any first call allocates
        layer(x)
    gc.collect()
    process = psutil.Process()
    start = process.memory_info().rss
    for _ in range(1000):
        ramp.step()
        layer(x)
    gc.collect()
    assert process.memory_info().rss - start < 64 * 2**20
