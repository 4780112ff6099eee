"""A mask meets its tensor: one product, rounded once, in every layout."""

import itertools

import pytest
import torch
from torch import Tensor

from regdrop_lite import (
    DropPath,
    SpatialDropout2d,
    drop_block,
    drop_path,
    spatial_dropout,
)
from regdrop_lite._product import apply_mask, drop_all, scaled, wide
from tests.conftest import SEED


def dense(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> Tensor:
    """Random numbers in one of the layouts that a tensor can have."""
    g = torch.Generator().manual_seed(SEED)
    x = torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
    if layout == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "sliced":
        return torch.cat([x, x], dim=1)[:, ::2]
    return x


LAYOUTS = ["contiguous", "channels last", "transposed", "sliced"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MASKS = [  # all ways in which a mask may vary over (N, C, H, W)
    shape
    for shape in itertools.product((3, 1), (4, 1), (5, 1), (6, 1))
    if shape != (1, 1, 1, 1)
] + [(5, 6), (), (1, 1, 1, 1)]
TABLES = [(5, 6), (4, 1, 1), (3, 1, 5, 6)]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_products_are_computed_in_float32_or_wider(dtype, expected) -> None:
    assert wide(dtype) == expected


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_mask_gives_the_product_rounded_once(dtype, layout, inplace) -> None:
    x = dense((3, 4, 5, 6), dtype, layout)
    before, high = x.clone(), wide(dtype)
    tables = [torch.rand(places, dtype=high) + 0.5 for places in TABLES]
    for shape in MASKS:
        keep = torch.rand(shape) > 0.3
        for scale in (1.25, 1 / 0.9, 1.0, 0.75, 0.0, *tables):
            expected = (x.to(high) * (keep.to(high) * scale)).to(dtype)
            input = x.as_strided(x.size(), x.stride()).clone() if inplace else x
            result = apply_mask(input, keep, scale, inplace)
            assert torch.equal(result, expected), shape
            assert result.dtype == dtype
            assert result.stride() == (x * 1.0).stride(), shape
            assert (result is input) == inplace
            assert torch.equal(x, before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_scale_alone_gives_the_product_rounded_once(dtype, layout) -> None:
    x = dense((3, 4, 5, 6), dtype, layout)
    tables = [torch.rand(places, dtype=wide(dtype)) + 0.5 for places in TABLES]
    for scale in (1.25, 1 / 0.9, 1.0, 0.75, 0.0, *tables):
        expected = (x.to(wide(dtype)) * scale).to(dtype)
        result = scaled(x, scale)
        assert torch.equal(result, expected)
        assert result.dtype == dtype
        assert result.stride() == (x * 1.0).stride()


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 4, 3), (6, 2, 6, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_is_right_in_every_order_of_memory(dtype, shape) -> None:
    """Strides that agree by chance are among them."""
    n, c, h, w = shape
    plain = dense(shape, dtype, "contiguous")
    for order in itertools.permutations(range(4)):
        x = torch.empty_permuted(shape, order, dtype=dtype).copy_(plain)
        for places in ((n, c, 1, 1), (c, 1, 1), (h, w), (n, 1, h, w), shape):
            keep = torch.rand(places) > 0.5
            result = apply_mask(x, keep, 1.25)
            assert torch.equal(result, (plain * (keep * 1.25)).to(dtype)), order
            steps = zip(shape, result.stride(), x.stride(), strict=True)
            assert all(a == b for size, a, b in steps if size > 1), order


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (3, 0, 5, 6), (3, 4, 0, 6)])
def test_a_tensor_without_elements_stays_so(shape) -> None:
    x = torch.empty(shape, dtype=torch.bfloat16)
    assert apply_mask(x, torch.ones(6) > 0, 2.0).shape == shape
    assert apply_mask(x, torch.ones((*shape[:2], 1, 1)) > 0, 2.0).shape == shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
def test_zeros_come_for_everything_and_so_do_the_gradients(
    inplace, dtype, layout
) -> None:
    x = dense((3, 4, 5, 6), dtype, layout).clone()
    x[0, 0, 0, :3] = torch.tensor([float("inf"), float("-inf"), float("nan")])
    leaf = x.clone().requires_grad_()
    input = leaf * 1.0
    y = drop_all(input, inplace)
    assert (y is input) == inplace
    assert y.stride() == input.stride()
    assert not y.any()
    (grad,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
    assert not grad.any()


def saved_bytes(layer, x: Tensor) -> int:
    """What autograd keeps of one call, beside the input itself."""
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() != x.untyped_storage().data_ptr():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_little_is_kept_for_the_backward_pass(dtype) -> None:
    x = torch.ones(32, 64, 28, 28, dtype=dtype, requires_grad=True)
    size = x.numel() * x.element_size()
    assert 0 < saved_bytes(SpatialDropout2d(0.1), x) <= 4 * 32 * 64
    assert 0 < saved_bytes(DropPath(0.1), x) <= 4 * 32
    per_channel = saved_bytes(lambda x: drop_block(x, 0.1, 7), x)
    assert 0 < per_channel <= 0.05 * size
    shared = saved_bytes(lambda x: drop_block(x, 0.1, 7, shared=True), x)
    assert 0 < shared <= 2 * 4 * 32 * 28 * 28


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "layer",
    [
        lambda x, g: spatial_dropout(x, 0.3, generator=g),
        lambda x, g: drop_path(x, 0.3, generator=g),
        lambda x, g: drop_block(x, 0.3, 3, shared=True, generator=g),
    ],
)
def test_a_product_shows_what_is_not_finite_even_where_it_is_dropped(
    layer, dtype, bad, generator
) -> None:
    state = generator.get_state()
    x = torch.ones(64, 4, 9, 9, dtype=dtype)
    dropped = layer(x, generator) == 0
    generator.set_state(state)
    y = layer(torch.full_like(x, bad), generator)
    assert dropped.any()
    assert y[dropped].isnan().all()
