"""What happens on other devices than the CPU, as far as a CPU can tell."""

import math
import sys

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regdrop_lite import (
    DropBlock2d,
    DropPath,
    SpatialDropout2d,
    drop_block,
    drop_block_gamma,
    drop_block_keep_prob,
    set_generator,
)
from regdrop_lite import _block_mask as room
from regdrop_lite._block_mask import Blocks

SEED = 20261122
WAITS = {  # what has to know a value on the host
    "_local_scalar_dense",
    "nonzero",
    "item",
    "is_nonzero",
    "equal",
    "masked_select",
    "unique_dim",
    "_unique2",
    "_assert_async",
    "repeat_interleave",
}


class NoWaiting(TorchDispatchMode):
    """Fails where a device would be waited for, or where order is not determined."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        assert name not in WAITS, f"{name} waits for the device"
        assert name != "index" or args[1][0].dtype != torch.bool, "a mask as an index"
        # A number becomes a CPU scalar, which needs no copy; torch.tensor(..., device)
        # would be a copy that waits.
        assert name != "lift_fresh", "a tensor made on the host"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_another_device(monkeypatch):
    """The way of other devices, on CPU tensors."""

    def elsewhere(input: Tensor, blocks: Blocks, generator=None):
        like = input[:, :1] if blocks.shared else input
        drawn = room._draw_everywhere(like.shape, blocks, input.device, generator)
        keep = torch.empty_like(like, dtype=torch.bool).copy_(drawn)
        if blocks.normalize == "batch":
            return keep, keep.numel() / keep.sum().clamp(min=1).to(torch.float64)
        return keep, room.weights(input.shape[2:], blocks, input.dtype, input.device)

    module = sys.modules["regdrop_lite.drop_block"]
    monkeypatch.setattr(module, "is_plain", lambda input: False)
    monkeypatch.setattr(module, "draw", elsewhere)
    monkeypatch.setattr(module, "painted", painted_elsewhere)


def painted_elsewhere(input, scale, seeds, blocks):
    from regdrop_lite._product import scaled

    assert seeds is None
    return scaled(input, scale)


@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("normalize", ["expected", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inplace", [False, True])
def test_drop_block_never_waits_for_the_device(
    border, shared, normalize, dtype, inplace, as_on_another_device
) -> None:
    x = torch.ones(3, 4, 9, 8, dtype=dtype, requires_grad=True)
    with NoWaiting():
        y = drop_block(
            x * 1,
            0.3,
            (3, 2),
            inplace=inplace,
            border=border,
            shared=shared,
            normalize=normalize,
        )
        y.backward(torch.ones_like(y))
    assert torch.equal(x.grad, y)
    assert 0 < (y == 0).sum() < y.numel()


@pytest.mark.parametrize("layer", [SpatialDropout2d(0.4), DropPath(0.4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_other_layers_never_wait(layer, dtype) -> None:
    x = torch.ones(9, 9, 4, 4, dtype=dtype, requires_grad=True)
    with NoWaiting():
        y = layer(x * 1)
        y.backward(torch.ones_like(y))
    assert torch.equal(x.grad, y)
    assert (y == 0).any()


@pytest.mark.parametrize("size", [(7,), (6, 9), (4, 5, 6)])
@pytest.mark.parametrize("border", ["valid", "clip"])
def test_the_way_of_other_devices_follows_the_same_law(size, border) -> None:
    """60,000 masks: the rate of every place within four sigma (Bonferroni)."""
    draws, block, p = 60_000, (2, 3, 2)[: len(size)], 0.3
    blocks = Blocks(p, block, border, False, "expected")
    g = torch.Generator().manual_seed(SEED)
    keep = room._draw_everywhere((draws, 1, *size), blocks, torch.device("cpu"), g)
    gamma = drop_block_gamma(size, block, p, border)
    expected = drop_block_keep_prob(size, block, gamma, border)
    sigma = (expected * (1 - expected) / draws).sqrt()
    bound = 4 + math.log10(expected.numel())  # more than Bonferroni's correction
    assert ((keep[:, 0].double().mean(0) - expected).abs() / sigma).max() < bound


@pytest.mark.parametrize(
    "layer",
    [
        SpatialDropout2d(0.4),
        DropPath(0.4),
        DropBlock2d(0.4, 3),
        DropBlock2d(0.4, 3, border="clip"),
        DropBlock2d(0.4, 3, shared=True),
        DropBlock2d(0.4, 3, normalize="batch"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("explicit", [False, True])
def test_deterministic_algorithms_are_allowed(layer, explicit) -> None:
    x = torch.rand(4, 3, 8, 8)
    results = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            set_generator(layer, torch.Generator() if explicit else None)
            torch.manual_seed(SEED)
            if explicit:
                layer.generator.manual_seed(SEED)
            leaf = x.clone().requires_grad_()
            y = layer(leaf)
            y.square().sum().backward()
            results += [y.detach(), leaf.grad]
        finally:
            torch.use_deterministic_algorithms(False)
            set_generator(layer, None)
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])


def test_positions_are_exact_beyond_two_to_the_24(monkeypatch) -> None:
    """A float32 knows no odd number there; seeds are drawn in float64 everywhere."""
    from regdrop_lite._random import sample_seeds

    g = torch.Generator().manual_seed(SEED)
    count = 2**27
    seeds = sample_seeds(count, math.log1p(-1e-4), g)
    late = seeds[seeds > 2**26]
    assert abs(len(late) - 2**26 * 1e-4) <= 4 * (2**26 * 1e-4) ** 0.5
    odd = (late % 2 == 1).double().mean().item()
    assert abs(odd - 0.5) <= 4 * (0.25 / len(late)) ** 0.5
    assert (seeds.diff() > 0).all()
