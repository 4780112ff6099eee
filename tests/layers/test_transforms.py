"""Autograd, autocast, copies, DDP, checkpointing, compile, export and vmap.

Each of them may call a layer twice, once, or with something that is no tensor; the mask
has to be one mask in the forward and in the backward pass all the same.
"""

import contextlib
import copy
import os
import pickle
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim, export
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from regdrop_lite import (
    DropBlock1d,
    DropBlock2d,
    DropBlock3d,
    DropPath,
    LinearRamp,
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    drop_block,
    drop_path,
    drop_residual,
    set_generator,
    spatial_dropout,
)
from regdrop_lite.drop_block_gamma import log_miss

SEED = 20261122  # fixed before the first run

OLDEST = torch.__version__.startswith("2.4.")
needs_vmap = pytest.mark.skipif(
    not hasattr(torch.library, "register_vmap"),
    reason="a custom operator has no vmap rule before PyTorch 2.5",
)


class Residual(nn.Module):
    """A residual block around a branch that DropPath may switch off."""

    def __init__(self, mode: str, branch: nn.Module, p: float = 0.4) -> None:
        super().__init__()
        self.mode, self.branch, self.p = mode, branch, p

    def forward(self, input: Tensor) -> Tensor:
        return drop_residual(input, self.branch, self.p, self.training, mode=self.mode)


LAYERS = {
    "spatial": lambda: SpatialDropout2d(0.4),
    "spatial last": lambda: SpatialDropout2d(0.4, channel_dim=-1),
    "path": lambda: DropPath(0.4),
    "path batch": lambda: DropPath(0.25, mode="batch"),
    "block": lambda: DropBlock2d(0.4, 2),
    "block clip": lambda: DropBlock2d(0.4, (2, 3), border="clip"),
    "block shared": lambda: DropBlock2d(0.4, 2, shared=True),
    "block batch": lambda: DropBlock2d(0.4, 2, normalize="batch"),
}
EAGER = {**LAYERS, "residual": lambda: Residual("subset", nn.Tanh())}

every_layer = pytest.mark.parametrize("name", LAYERS)
every_eager = pytest.mark.parametrize("name", EAGER)
FORMATS = [torch.contiguous_format, torch.channels_last]
every_format = pytest.mark.parametrize("layout", FORMATS, ids=str)


PAINTED = (
    "block",
    "block clip",
    "block batch",
)  # a mask per channel that nothing else asks for


def input_like(*shape: int) -> Tensor:
    """Positive float64 numbers, the same in every run."""
    g = torch.Generator().manual_seed(SEED)
    return torch.rand(shape or (6, 3, 4, 5), dtype=torch.float64, generator=g) + 0.5


def repeatable(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function with the same masks in every call."""

    def seeded(*arguments: Tensor) -> Tensor:
        torch.manual_seed(SEED)
        return function(*arguments)

    return seeded


# ---------------------------------------------------------------------------- autograd


@pytest.mark.slow
@every_eager
def test_first_and_second_derivatives_are_right(name) -> None:
    """Backward, forward mode and double backward, through the layer and a sine."""
    layer = EAGER[name]()
    run = repeatable(lambda x: torch.sin(layer(x)))
    x = input_like(3, 2, 3, 4).requires_grad_()
    assert gradcheck(run, x, check_forward_ad=True)
    assert gradgradcheck(run, x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        SpatialDropout1d(0.4, inplace=True),
        SpatialDropout2d(0.4, inplace=True),
        SpatialDropout3d(0.4, inplace=True),
        DropBlock1d(0.4, 2, inplace=True),
        DropBlock2d(0.4, 2, inplace=True),
        DropBlock3d(0.4, 2, inplace=True, border="clip"),
    ],
)
def test_derivatives_are_right_in_place(layer) -> None:
    run = repeatable(lambda x: torch.sin(layer(x * 1)))
    x = input_like(*(3, 2, 3, 4, 2)[: layer.layout.count(",") + 1]).requires_grad_()
    assert gradcheck(run, x)
    assert gradgradcheck(run, x)


@every_eager
def test_derivatives_are_right_at_p_one(name) -> None:
    run = partial(drop_residual, branch=torch.exp, p=1.0)
    if name != "residual":
        run = EAGER[name]()
        run.p = 1.0
    x = input_like(2, 2, 2, 3).requires_grad_()
    assert gradcheck(lambda x: run(x) * x, x)
    assert gradgradcheck(lambda x: run(x) * x, x)


@pytest.mark.slow
@every_eager
@every_format
def test_many_derivatives_at_once_are_right(name, layout) -> None:
    """Backward, forward mode, double backward, and many gradients at once."""
    layer = EAGER[name]()
    run = repeatable(lambda x: torch.sin(layer(x)))
    x = input_like(3, 2, 3, 4).contiguous(memory_format=layout).requires_grad_()
    assert layer(x).grad_fn.name().startswith("_Painted") == (name in PAINTED)
    assert gradcheck(run, x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(run, x, check_batched_grad=True)


@every_eager
def test_a_backward_pass_may_be_vectorised(name) -> None:
    """By the two kinds of vmap that PyTorch has."""
    x = input_like().requires_grad_()
    y = repeatable(EAGER[name]())(x)
    rows = input_like(5, *y.shape)
    gradient = partial(torch.autograd.grad, y, x, retain_graph=True)
    expected = torch.stack([gradient(row)[0] for row in rows])
    (batched,) = gradient(rows, is_grads_batched=True)
    torch.testing.assert_close(batched, expected, rtol=1e-15, atol=0.0)
    mapped = vmap(lambda row: gradient(row)[0])(rows)
    torch.testing.assert_close(mapped, expected, rtol=1e-15, atol=0.0)
    assert expected.any()


@every_eager
@pytest.mark.parametrize("explicit", [False, True])
def test_grad_of_torch_func_is_that_of_a_backward_pass(name, explicit) -> None:
    layer = EAGER[name]()
    generator = torch.Generator() if explicit else torch.default_generator
    if explicit:
        if name == "residual":
            layer = partial(
                drop_residual, branch=torch.tanh, p=0.4, generator=generator
            )
        else:
            set_generator(layer, generator)

    def run(x: Tensor) -> Tensor:
        generator.manual_seed(SEED)
        return layer(x).square().sum()

    x = input_like().requires_grad_()
    run(x).backward()
    torch.testing.assert_close(grad(run)(x.detach()), x.grad, rtol=1e-15, atol=0.0)
    assert x.grad.any()


@every_layer
def test_the_forward_derivative_uses_the_mask_of_the_value(name) -> None:
    """The layers are linear: along x the derivative is the value."""
    x = input_like()
    value, tangent = jvp(LAYERS[name](), (x,), (x,))
    assert torch.equal(value, tangent)


def test_a_layer_runs_in_inference_mode_and_trains_afterwards() -> None:
    layer, x = DropBlock2d(0.4, 3), input_like(2, 2, 9, 11)
    with torch.inference_mode():
        layer(x)
    leaf = x.clone().requires_grad_()
    layer(leaf).sum().backward()
    assert leaf.grad.any()


@every_eager
@every_format
def test_a_tensor_without_data_gets_the_form_of_the_result(name, layout) -> None:
    """On the device "meta", and under FakeTensorMode."""
    layer = EAGER[name]()
    for dtype in (torch.float64, torch.bfloat16):
        real = input_like().to(dtype).contiguous(memory_format=layout)
        expected = layer(real)
        outputs = [layer(real.to("meta"))]
        if name != "residual":  # how many samples it keeps is not known without data
            with FakeTensorMode() as mode:
                outputs.append(layer(mode.from_tensor(real)))
            set_generator(layer, torch.Generator())
            outputs.append(layer(real.to("meta")))
            set_generator(layer, None)
        assert [str(y.device) for y in outputs[:2]] == ["meta", "cpu"][: len(outputs)]
        for y in outputs:
            assert (y.shape, y.dtype) == (expected.shape, dtype)
            assert y.stride() == expected.stride() == real.stride()


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


PLACES = {
    "default device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
}


@every_eager
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_place_of_a_first_call_changes_neither_it_nor_later_ones(
    name, place, dtype
) -> None:
    """The seed probability is kept from the first call on, and no tensor."""
    layer, runs = EAGER[name](), []
    x = input_like(6, 3, 7, 9).to(dtype)
    for enter in (contextlib.nullcontext, PLACES[place]):
        log_miss.cache_clear()
        with enter():
            first = repeatable(layer)(x)
        leaf = x.clone().requires_grad_()
        later = repeatable(layer)(leaf)
        later.square().sum().backward()
        runs.append((first, later, leaf.grad))
    for expected, result in zip(*runs, strict=True):
        assert result.dtype == dtype
        assert torch.equal(result, expected)


@pytest.mark.parametrize("transform", ["grad", "jvp"])
@pytest.mark.parametrize("settings", [{}, {"border": "clip"}, {"shared": True}])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_first_call_inside_torch_func_changes_no_later_one(
    transform, settings, explicit
) -> None:
    generator = torch.Generator() if explicit else None

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(SEED)
        if explicit:
            generator.manual_seed(SEED)
        return drop_block(x, 0.4, 2, generator=generator, **settings)

    x, results = input_like(), []
    for first in (False, True):
        log_miss.cache_clear()
        if first and transform == "grad":
            grad(lambda x: run(x).sum())(x)
        elif first:
            jvp(run, (x,), (x,))
        results.append(run(x))
    assert torch.equal(*results)


def test_no_tensor_is_kept_between_calls() -> None:
    """The one thing that is kept is the logarithm of a probability."""
    rooms = [m for name, m in sys.modules.items() if name.startswith("regdrop_lite.")]
    rooms = [m for m in rooms if not m.__name__.startswith("regdrop_lite.course")]
    caches = {
        value
        for room in rooms
        for value in vars(room).values()
        if hasattr(value, "cache_info")
    }
    assert caches == {log_miss}
    assert type(log_miss((7, 5), (3, 2), 0.1, "valid")) is float
    names = [
        (r.__name__, key)
        for r in rooms
        for key, v in vars(r).items()
        if isinstance(v, Tensor)
    ]
    assert names == []


@every_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_output_shares_no_memory_with_anything(name, dtype) -> None:
    """Not with the input, and not with what another call returned."""
    layer, x = LAYERS[name](), input_like().to(dtype)
    for p in (0.25, 1.0):
        layer.p = p
        before, outputs = x.clone(), [layer(x), layer(x)]
        places = [t.untyped_storage().data_ptr() for t in (x, *outputs)]
        assert len(set(places)) == 3
        for y in outputs:
            y.fill_(7.0)
        assert torch.equal(x, before)
        assert not (layer(x) == 7.0).any()


# -------------------------------------------------------------------- autocast, copies


@every_eager
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_hands_through_what_the_convolution_gives(name, dtype) -> None:
    conv = nn.Conv2d(3, 3, 1)
    layer = EAGER[name]()
    x = input_like().float()
    with torch.autocast("cpu", dtype):
        before = conv(x)
        y = torch.stack([layer(before) for _ in range(9)])
        assert before.dtype == y.dtype == dtype
        assert layer(x).dtype == torch.float32
    y.float().sum().backward()
    assert conv.weight.grad.isfinite().all()
    assert conv.weight.grad.any()


@every_layer
@every_format
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_no_result(name, layout, dtype) -> None:
    x = input_like().to(dtype).contiguous(memory_format=layout)
    layer = repeatable(LAYERS[name]())
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    assert torch.equal(y, expected)


@every_layer
def test_weights_of_other_people_load_strictly(name) -> None:
    """The layers add nothing to the state of a model, and functional_call works."""
    conv, norm = nn.Conv2d(3, 3, 1).double(), nn.BatchNorm2d(3).double()
    layer = LAYERS[name]()
    with_layer = nn.Sequential()
    for key, module in {"conv": conv, "drop": layer, "norm": norm}.items():
        with_layer.add_module(key, module)
    without = nn.Sequential()
    without.add_module("conv", nn.Conv2d(3, 3, 1))
    without.add_module("norm", nn.BatchNorm2d(3))
    assert list(with_layer.state_dict()) == list(without.state_dict())
    assert [*layer.parameters(), *layer.buffers()] == []
    weights = without.double().state_dict()
    x = input_like()
    called = repeatable(partial(functional_call, with_layer, weights))(x)
    assert not torch.equal(called, repeatable(with_layer)(x))
    with_layer.load_state_dict(weights, strict=True)
    assert torch.equal(called, repeatable(with_layer)(x))


@every_eager
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_a_copy_behaves_as_the_original(name, duplicate) -> None:
    layer, x = EAGER[name](), input_like()
    other = duplicate(layer)
    assert repr(other) == repr(layer)
    assert torch.equal(repeatable(other)(x), repeatable(layer)(x))
    assert torch.equal(other.eval()(x), layer.eval()(x))
    assert list(layer.state_dict()) == []


# ------------------------------------------------------------------------ checkpointing


@every_eager
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_repeats_the_mask(name, use_reentrant) -> None:
    layer = EAGER[name]()

    def block(x: Tensor) -> Tensor:
        return layer(x * 1).square().sin()

    def run(x: Tensor) -> Tensor:
        return checkpoint(block, x, use_reentrant=use_reentrant)

    results = []
    for function in (block, run):
        x = input_like().requires_grad_()
        y = repeatable(function)(x)
        torch.rand(7)  # the generator has moved on when the backward pass begins
        y.sum().backward()
        results.append((y, x.grad))
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)


@every_layer
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_with_an_explicit_generator_is_a_clear_error(
    name, use_reentrant
) -> None:
    """The generator has moved on: a second mask would make the gradients wrong."""
    layer = LAYERS[name]()
    set_generator(layer, torch.Generator())
    y = checkpoint(layer, input_like().requires_grad_(), use_reentrant=use_reentrant)
    message = r"checkpointing cannot repeat.*generator.*set_generator\(model, None\)"
    with pytest.raises(RuntimeError, match=message):
        y.sum().backward()


# --------------------------------------------------------------------------------- DDP


def ddp_steps(rank: int) -> None:
    """Four steps in one of two processes, with and without DDP.

    With one sample the branch of the last block is not called in some of them.
    """
    torch.manual_seed(0)  # equal weights
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        SpatialDropout2d(0.4),
        Residual("row", nn.Conv2d(6, 6, 1)),
        DropBlock2d(0.3, 2),
        Residual("subset", nn.Conv2d(6, 6, 1)),
    )
    alone = copy.deepcopy(net)
    parallel = DistributedDataParallel(net, find_unused_parameters=True)
    x, calls = torch.ones(1, 3, 5, 4), set()
    for step in range(4):
        outputs = []
        for model in (alone, parallel):
            model.zero_grad()
            torch.manual_seed(SEED + 10 * step + rank)
            outputs.append(model(x))
            outputs[-1].square().sum().backward()
        assert torch.equal(*outputs)
        calls.add(alone[-1].branch.weight.grad is None)
        for single, mean in zip(alone.parameters(), net.parameters(), strict=True):
            total, shared = (
                torch.zeros_like(p) if p.grad is None else p.grad
                for p in (single, mean)
            )
            dist.all_reduce(total)
            torch.testing.assert_close(shared, total / 2)
        masks = [torch.empty_like(outputs[0]) for _ in range(2)]
        dist.all_gather(masks, outputs[0].detach())
        assert not torch.equal(*masks)
    assert calls == {True, False}


def ddp_resume(rank: int, folder: str) -> None:
    """Six steps of a ramp in one run, and with a checkpoint after the third."""

    def start(seed: int) -> tuple[nn.Module, LinearRamp, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), DropBlock2d(0.0, 2)
        )
        net.append(DropPath()).append(nn.Conv2d(6, 2, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        return (
            DistributedDataParallel(net),
            LinearRamp(net, [0.0, 0.1], [0.3, 0.6], 5),
            optimizer,
        )

    def train(model, ramp, optimizer, steps: range) -> list[list[float]]:
        rates = []
        for step in steps:
            optimizer.zero_grad()
            x = torch.rand(4, 3, 5, 4, generator=torch.Generator().manual_seed(step))
            model(x + rank).square().mean().backward()
            optimizer.step()
            ramp.step()
            rates.append([layer.p for layer in model.module[2:4]])
        return rates

    path = f"{folder}/rank{rank}.pt"  # the masks of a process are its own
    whole = start(0)
    torch.manual_seed(SEED + rank)
    train(*whole, range(3))
    parts = [part.state_dict() for part in whole]
    torch.save({"parts": parts, "random": torch.get_rng_state()}, path)
    expected = train(*whole, range(3, 6))

    resumed = start(1)
    state = torch.load(path, weights_only=True)
    for part, values in zip(resumed, state["parts"], strict=True):
        part.load_state_dict(values)
    torch.set_rng_state(state["random"])
    assert train(*resumed, range(3, 6)) == expected
    assert expected[0] == [0.3 * 4 / 5, 0.1 + 0.5 * 4 / 5]
    assert expected[-1] == [0.3, 0.6]
    first, second = (part[0].state_dict() for part in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)


def ddp_unused(rank: int) -> None:
    """With no sample kept the branch is not called: DDP wants to be told."""
    x, net = torch.ones(2, 3, 5, 4), nn.Sequential(nn.Conv2d(3, 3, 1))
    net.append(Residual("subset", nn.Conv2d(3, 3, 1), p=1.0))
    told = DistributedDataParallel(copy.deepcopy(net), find_unused_parameters=True)
    untold = DistributedDataParallel(net)
    for _ in range(2):
        told(x).sum().backward()
    assert told.module[0].weight.grad.any()
    assert not torch.as_tensor(told.module[1].branch.weight.grad or 0).any()
    untold(x).sum().backward()
    with pytest.raises(RuntimeError, match="find_unused_parameters=True"):
        untold(x)


def ddp_worker(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = f"file://{folder}/store"
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", store, limit, world_size=2, rank=rank)
    ddp_steps(rank)
    ddp_resume(rank, folder)
    ddp_unused(rank)
    dist.barrier()
    os._exit(0)  # at once: taking gloo down may hang


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch has no distributed")
def test_two_processes_draw_their_own_masks_share_gradients_and_resume(
    tmp_path,
) -> None:
    mp.spawn(ddp_worker, args=(Path(tmp_path).as_posix(),), nprocs=2)


# ----------------------------------------------------------------------------- compile


@pytest.fixture
def compiled() -> Callable[..., Callable[..., Tensor]]:
    torch._dynamo.reset()
    return partial(torch.compile, fullgraph=True)


@pytest.mark.slow
@every_layer
def test_one_graph_trains_repeats_with_the_seed_and_drops(name, compiled) -> None:
    layer = LAYERS[name]()
    run = compiled(layer)
    x = torch.ones(16, 8, 6, 6, requires_grad=True)
    y = repeatable(run)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)  # a linear map of ones: one mask in both passes
    assert torch.equal(repeatable(run)(x), y)
    assert any(not torch.equal(run(x), y) for _ in range(9))
    values = y.unique().tolist()
    assert values[0] == 0.0 or name == "path batch"
    if name.startswith("block"):  # the sampler is one operator on every path
        assert torch.equal(repeatable(layer)(x), y)
    run.eval()
    assert torch.equal(run(x), x)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__.startswith("2.14."),
    reason="PyTorch 2.14 cannot compile a checkpoint of a whole graph, of sine either",
)
@every_layer
def test_one_graph_recomputes_with_the_same_mask(name, compiled) -> None:
    layer = LAYERS[name]()

    def block(x: Tensor) -> Tensor:
        return layer(x * 1).square().sin()

    x = input_like(32, 4, 6, 6).float().mul(0.2).requires_grad_()
    y = compiled(lambda x: checkpoint(block, x, use_reentrant=False))(x)
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)


@pytest.mark.slow
@every_layer
def test_two_calls_in_one_graph_are_two_masks(name, compiled) -> None:
    """Even of the same layer on the same input: the compiler must not merge them."""
    if OLDEST and name.startswith("block"):
        pytest.skip("PyTorch 2.4 merges equal calls of a custom operator")
    layer, x = LAYERS[name](), torch.ones(16, 8, 6, 6, requires_grad=True)
    run = compiled(lambda x: torch.stack([layer(x) for _ in range(9)]))
    y = run(x)
    assert any(not torch.equal(y[0], other) for other in y[1:])


RATES = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]
SIZES = [(8, 10, 12), (6, 9, 11), (5, 14, 13), (12, 7, 9), (9, 8, 6), (3, 5, 7)]
no_float_input = pytest.mark.skipif(
    OLDEST, reason="a Python number is a constant of a graph before PyTorch 2.5"
)


@pytest.mark.slow
@every_layer
@pytest.mark.parametrize(
    ("rates", "sizes", "dynamic"),
    [
        pytest.param(RATES, SIZES[:1] * 6, None, marks=no_float_input, id="rates"),
        pytest.param(RATES[-1:] * 6, SIZES, None, id="sizes"),
        pytest.param(RATES, SIZES, None, marks=no_float_input, id="both"),
        pytest.param(RATES, SIZES, True, marks=no_float_input, id="both, dynamic"),
        pytest.param(RATES[-1:] * 6, SIZES, True, id="sizes, dynamic"),
    ],
)
def test_two_graphs_serve_a_ramp_and_all_sizes(
    name, rates, sizes, dynamic, compiled
) -> None:
    """Batches, heights and widths differ. PyTorch may first take a size for fixed."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Tensor]:
        graphs.append(graph)
        return graph.forward

    layer = LAYERS[name]()
    if rates[0] != rates[-1]:
        ramp = LinearRamp(layer, rates[0], rates[-1], len(rates) - 1)
    else:
        layer.p = rates[0]
    run = compiled(layer, backend=backend, dynamic=dynamic)
    for rate, (batch, *size) in zip(rates, sizes, strict=True):
        assert layer.p == pytest.approx(rate)
        x = input_like(batch, 4, *size)
        y = repeatable(run)(x)
        expected = repeatable(layer)(x)  # its mask and its weights: this rate, no other
        torch.testing.assert_close(y, expected, rtol=1e-15, atol=0.0)
        if rates[0] != rates[-1]:
            ramp.step()
    assert len(graphs) == 1 if dynamic else 1 <= len(graphs) <= 2


@pytest.mark.slow
def test_one_graph_serves_an_expected_rate(compiled) -> None:
    """100,000 samples of a compiled layer, within four sigma."""
    run = compiled(DropPath(0.3))
    dropped = (repeatable(run)(torch.ones(100_000, 2)) == 0).all(1).sum().item()
    assert abs(dropped - 30_000) <= 4 * (1e5 * 0.3 * 0.7) ** 0.5


def with_generator(x: Tensor) -> dict[str, Callable[..., Tensor]]:
    """Every function with an explicit generator, and the subset mode."""
    g = torch.Generator()
    return {
        "spatial": lambda x: spatial_dropout(x, 0.4, generator=g),
        "path": lambda x: drop_path(x, 0.4, generator=g),
        "block": lambda x: drop_block(x, 0.4, 2, generator=g),
        "row": lambda x: drop_residual(x, torch.sin, 0.4, mode="row", generator=g),
        "subset": lambda x: drop_residual(x, torch.sin, 0.4),
    }


refused = pytest.mark.parametrize("name", ["spatial", "path", "block", "row", "subset"])


def complaint(name: str, place: str) -> str:
    if name == "subset":
        return rf"drop_residual\(mode='subset'\) works in eager mode only.*{place}"
    return rf"explicit generator works in eager.*{place}.*set_generator\(model, None\)"


@pytest.mark.slow
@refused
def test_one_graph_refuses_what_is_eager_only(name, compiled) -> None:
    run = compiled(with_generator(name)[name])
    # PyTorch 2.4 hides the text of an error raised while it compiles.
    message = "Observed exception" if OLDEST else complaint(name, "torch.compile")
    with pytest.raises(Exception, match=message):
        run(input_like())


# ------------------------------------------------------------------------------ export


class Wrapped(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.slow
@every_layer
@pytest.mark.parametrize("strict", [True, False])
def test_export_takes_any_batch_and_height(name, strict) -> None:
    batch, height = Dim("batch", min=2, max=999), Dim("height", min=2, max=999)
    layer = LAYERS[name]()
    shapes = {"x": {0: batch, 2: height}}
    wrapped = Wrapped(layer)
    program = export(wrapped, (input_like(),), dynamic_shapes=shapes, strict=strict)
    run = program.module()
    for shape in ((6, 3, 4, 5), (9, 3, 17, 5), (2, 3, 2, 5)):
        x = input_like(*shape)
        assert torch.equal(repeatable(run)(x), repeatable(layer)(x))


@refused
def test_export_refuses_what_is_eager_only(name) -> None:
    with pytest.raises(Exception, match=complaint(name, "torch.export")):
        export(Wrapped(with_generator(name)[name]), (input_like(),), strict=False)


@pytest.mark.parametrize(
    "shape", [(2, 3, 8), (2, 3, 6, 8), (0, 3, 6, 8), (2, 2, 4, 3, 5), (1, 1, 1)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize("normalize", ["expected", "batch"])
def test_operator_keeps_the_promises_that_compile_relies_on(
    shape, dtype, border, normalize
) -> None:
    """Its schema and the shapes of its fake."""
    x, block = torch.ones(shape, dtype=dtype), [2] * (len(shape) - 2)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    for shared in (True, False):
        p = torch.tensor(0.3, dtype=torch.float64)
        arguments = (x, p, block, border, shared, normalize)
        operator = torch.ops.regdrop_lite.block_mask
        torch.library.opcheck(operator, arguments, test_utils=checks)


# -------------------------------------------------------------------------------- vmap

vmapped = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_vmap if name.startswith("block") else ())
        for name in LAYERS
    ],
)


@vmapped
@pytest.mark.parametrize("dim", [0, 2])
def test_vmap_different_gives_each_example_a_mask_of_its_own(name, dim) -> None:
    """The masks are those of a loop over the examples."""
    layer, x = LAYERS[name](), input_like(7, 4, 3, 5, 4)
    run = vmap(layer, in_dims=dim, randomness="different")
    y = repeatable(run)(x.movedim(0, dim))
    expected = repeatable(lambda x: torch.stack([layer(part) for part in x]))(x)
    torch.testing.assert_close(y, expected, rtol=1e-15, atol=0.0)
    assert any(not torch.equal(y[0] == 0, other == 0) for other in y[1:])


@vmapped
def test_vmap_same_gives_all_examples_one_mask(name) -> None:
    layer, x = LAYERS[name](), input_like(7, 4, 3, 5, 4)
    y = repeatable(vmap(layer, randomness="same"))(x)
    expected = torch.stack([repeatable(layer)(part) for part in x])
    torch.testing.assert_close(y, expected, rtol=1e-15, atol=0.0)


@vmapped
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_takes_a_single_example(name, randomness) -> None:
    layer, x = LAYERS[name](), input_like(1, 4, 3, 5, 4)
    y = repeatable(vmap(layer, randomness=randomness))(x)
    assert torch.equal(y[0], repeatable(layer)(x[0]))


@vmapped
@pytest.mark.parametrize("batched", [True, False])
def test_vmap_error_refuses(name, batched) -> None:
    layer, x, y = LAYERS[name](), input_like(2, 4, 3, 5, 4), input_like()
    with pytest.raises(RuntimeError, match="random"):
        vmap(lambda part: part.sum() * layer(part if batched else y))(x)


@vmapped
def test_vmap_gives_masks_to_an_input_that_it_does_not_batch(name) -> None:
    """As in an ensemble: many weights, one input."""
    layer, x, weights = LAYERS[name](), input_like(), torch.ones(9).double()

    def run(weight: Tensor) -> Tensor:
        return weight * layer(x)

    y = repeatable(vmap(run, randomness="different"))(weights)
    assert any(not torch.equal(y[0], other) for other in y[1:])
    same = repeatable(vmap(run, randomness="same"))(weights)
    assert all(torch.equal(same[0], other) for other in same[1:])


@pytest.mark.slow
@needs_vmap
@every_layer
@pytest.mark.parametrize("batched", [True, False])
def test_compiled_vmap_gives_each_example_a_mask_of_its_own(
    name, batched, compiled
) -> None:
    layer, x, y = LAYERS[name](), input_like(9, 4, 3, 5, 4), input_like()

    def run(part: Tensor) -> Tensor:
        return layer(part if batched else y) * part.sum()

    mapped = vmap(run, randomness="different")
    zeros = compiled(mapped, backend="aot_eager")(x) == 0
    assert any(not torch.equal(zeros[0], other) for other in zeros[1:])


@vmapped
def test_vmap_of_grad_gives_the_gradients_of_single_samples(name) -> None:
    layer, x = LAYERS[name](), input_like(5, 1, 3, 5, 4)
    conv = nn.Conv2d(3, 3, 1).double()
    weights = dict(conv.named_parameters())

    def loss(weights: dict[str, Tensor], sample: Tensor) -> Tensor:
        return layer(functional_call(conv, weights, (sample,))).square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0), randomness="different")
    grads = repeatable(per_sample)(weights, x)
    torch.manual_seed(SEED)
    for i, sample in enumerate(x):
        single = grad(loss)(weights, sample)
        for key, value in single.items():
            torch.testing.assert_close(grads[key][i], value)


@vmapped
def test_vmap_may_be_nested_and_in_place(name) -> None:
    layer, x = LAYERS[name](), input_like(3, 4, 2, 3, 5, 4)
    if not name.startswith("path"):
        layer.inplace = True
    inner = vmap(lambda part: layer(part.clone()), randomness="different")
    y = repeatable(vmap(inner, randomness="different"))(x)
    assert y.shape == x.shape
    planes = (y == 0).flatten(0, 1).flatten(1)
    assert len(planes.unique(dim=0)) > 1


@refused
def test_vmap_refuses_what_is_eager_only(name) -> None:
    run = vmap(with_generator(name)[name], randomness="different")
    with pytest.raises(RuntimeError, match=complaint(name, "torch.func.vmap")):
        run(input_like(2, 4, 3, 5, 4))


@pytest.mark.parametrize("randomness", ["same", "different", "error"])
def test_vmap_of_drop_block_names_the_version_that_it_needs(
    randomness, monkeypatch
) -> None:
    """As an older PyTorch behaves."""
    monkeypatch.setattr("regdrop_lite._block_operator.HAS_VMAP", False)
    with pytest.raises(RuntimeError, match=r"drop_block needs PyTorch 2\.5.*vmap"):
        vmap(DropBlock2d(0.4, 2), randomness=randomness)(input_like(2, 4, 3, 5, 4))
