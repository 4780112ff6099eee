"""The fast way to apply a mask gives what the plain one gives, in every layout."""

import itertools
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regdrop_lite import (
    DropPath,
    SpatialDropout2d,
    drop_block,
    drop_path,
    spatial_dropout,
)
from regdrop_lite import _apply as fast
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


@pytest.mark.parametrize("small", [0, 2**18])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_mask_gives_the_product_rounded_once(
    dtype, layout, small, monkeypatch
) -> None:
    monkeypatch.setattr(fast, "_SMALL", small)
    x = dense((3, 4, 5, 6), dtype, layout)
    wide = torch.promote_types(dtype, torch.float32)
    for shape in MASKS:
        table = torch.rand(shape, dtype=wide) + 0.5
        keep = table > 0.8
        for mask, scale in ((table, 1.0), (table, 1.25), (keep, 1.25), (keep, 1.0)):
            expected = (x.to(wide) * (mask.to(wide) * scale)).to(dtype)
            result = fast.multiply(x, mask, scale)
            assert torch.equal(result, expected), shape
        for places in ((5, 6), (4, 1, 1), (3, 1, 5, 6)):  # a mask, and a table
            scale = torch.rand(places, dtype=torch.float64) + 0.5
            expected = (x.to(wide) * (keep * scale.to(wide))).to(dtype)
            result = fast.multiply(x, keep, scale)
            assert torch.equal(result, expected), (shape, places)
            assert result.dtype == dtype
            assert result.stride() == (x * 1.0).stride(), shape


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 4, 3), (6, 2, 6, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_and_blocks_are_right_in_every_order_of_memory(
    dtype, shape, monkeypatch
) -> None:
    """Strides that agree by chance are among them."""
    monkeypatch.setattr(fast, "_SMALL", 0)
    n, c, h, w = shape
    plain = dense(shape, dtype, "contiguous")
    seeds = list(range(0, n * c * (h - 2) * (w - 2), 3))
    blocks = blocks_by_loops(shape, seeds, (3, 3), "valid").to(dtype)
    for order in itertools.permutations(range(4)):
        x = torch.empty_permuted(shape, order, dtype=dtype).copy_(plain)
        for places in ((n, c, 1, 1), (c, 1, 1), (h, w), (n, 1, h, w), shape):
            keep = torch.rand(places) > 0.5
            result = fast.multiply(x, keep, 1.25)
            assert torch.equal(result, (plain * (keep * 1.25)).to(dtype)), order
            assert result.stride() == x.stride()
        painted = torch.empty_permuted(shape, order, dtype=dtype).fill_(1.0)
        fast.paint(painted, torch.tensor(seeds), (3, 3), "valid")
        assert torch.equal(painted, blocks), order


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (3, 0, 5, 6), (3, 4, 0, 6)])
def test_a_tensor_without_elements_stays_so(shape) -> None:
    x = torch.empty(shape, dtype=torch.bfloat16)
    assert fast.multiply(x, torch.ones(6) > 0, 2.0).shape == shape
    assert fast.multiply(x, torch.ones((*shape[:2], 1, 1)) > 0, 2.0).shape == shape


@pytest.mark.parametrize("scale", [0.0, 0.75])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_scale_may_be_below_one(dtype, scale) -> None:
    x, keep = dense((3, 4, 5, 6), dtype, "contiguous"), torch.rand(3, 4, 1, 1) > 0.5
    wide = torch.promote_types(dtype, torch.float32)
    expected = (x.to(wide) * (keep * scale)).to(dtype)
    assert torch.equal(fast.multiply(x, keep, scale), expected)


def blocks_by_loops(
    shape: tuple[int, ...], seeds: list[int], block: tuple[int, ...], border: str
) -> Tensor:
    """1 where no block fell: a mask made element by element."""
    keep = torch.ones(shape)
    reach = [k - 1 if border == "clip" else 0 for k in block]
    grid = [
        range(n - k + 1) if border == "valid" else range(n + k - 1)
        for n, k in zip(shape[2:], block, strict=True)
    ]
    places = list(itertools.product(range(shape[0]), range(shape[1]), *grid))
    for seed in seeds:
        sample, channel, *corner = places[seed]
        for offset in itertools.product(*(range(k) for k in block)):
            place = [c - r + o for c, r, o in zip(corner, reach, offset, strict=True)]
            if all(0 <= i < n for i, n in zip(place, shape[2:], strict=True)):
                keep[(sample, channel, *place)] = 0.0
    return keep


@given(
    planes=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pairs=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3
    ),
    border=st.sampled_from(["valid", "clip"]),
    channels_last=st.booleans(),
    data=st.data(),
)
def test_painted_blocks_are_those_of_the_loops(
    planes, pairs, border, channels_last, data
) -> None:
    size = tuple(n for n, _ in pairs)
    block = tuple(min(n, k) for n, k in pairs)
    sign = 1 if border == "clip" else -1
    count = planes[0] * planes[1]
    for n, k in zip(size, block, strict=True):
        count *= n + sign * (k - 1)
    seeds = data.draw(st.sets(st.integers(0, count - 1), max_size=8).map(sorted))
    layout = "channels last" if channels_last else "contiguous"
    output = torch.ones_like(dense((*planes, *size), torch.float32, layout))
    fast.paint(output, torch.tensor(seeds, dtype=torch.int64), block, border)
    assert torch.equal(output, blocks_by_loops((*planes, *size), seeds, block, border))


def use_the_reference(monkeypatch) -> None:
    for module in ("regdrop_lite._apply", "regdrop_lite.drop_block"):
        monkeypatch.setattr(sys.modules[module], "is_plain", lambda input: False)


SETTINGS = [
    {"border": border, "shared": shared, "normalize": normalize, "inplace": inplace}
    for border in ("valid", "clip")
    for shared in (False, True)
    for normalize in ("expected", "batch")
    for inplace in (False, True)
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_painting_and_the_reference_agree_in_value_and_gradient(
    dims, dtype, layout, settings, monkeypatch
) -> None:
    monkeypatch.setattr(fast, "_SMALL", 0)
    shape, block = (3, 5, 7, 6, 4)[: dims + 2], (3, 2, 3)[:dims]
    results = []
    for reference in (False, True):
        if reference:
            use_the_reference(monkeypatch)
        x = dense(shape, dtype, layout).requires_grad_()
        g = torch.Generator().manual_seed(SEED)
        y = drop_block(x * 1.0, 0.3, block, generator=g, **settings)
        weight = torch.linspace(-1, 1, y.numel(), dtype=dtype).view(y.shape)
        (grad,) = torch.autograd.grad(y, x, weight)
        results.append((y.detach(), grad, g.get_state()))
    (y, grad, state), (expected, expected_grad, expected_state) = results
    assert torch.equal(y, expected)
    assert torch.equal(grad, expected_grad)
    assert torch.equal(state, expected_state)
    assert y.stride() == expected.stride()
    assert 0 < (y == 0).sum() < y.numel()


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
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
    assert 0 < shared <= 4 * 32 * 28 * 28


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reference", [False, True])
def test_a_dropped_block_is_zero_whatever_it_was(
    reference, dtype, bad, generator, monkeypatch
) -> None:
    if reference:
        use_the_reference(monkeypatch)
    x = torch.full((4, 8, 9, 9), bad, dtype=dtype, requires_grad=True)
    y = drop_block(x, 0.3, 3, generator=generator)
    dropped = y == 0
    assert dropped.any()
    assert (y[~dropped].isnan() if bad != bad else y[~dropped] == bad).all()
    (grad,) = torch.autograd.grad(y, x, torch.full_like(y, float("inf")))
    assert (grad[dropped] == 0).all()
    assert (grad[~dropped] == float("inf")).all()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "layer",
    [
        lambda x, g: spatial_dropout(x, 0.3, generator=g),
        lambda x, g: drop_path(x, 0.3, generator=g),
        lambda x, g: drop_block(x, 0.3, 3, shared=True, generator=g),
    ],
)
def test_a_product_shows_what_is_not_finite_even_where_it_is_dropped(
    layer, bad, generator
) -> None:
    state = generator.get_state()
    x = torch.ones(64, 4, 9, 9)
    dropped = layer(x, generator) == 0
    generator.set_state(state)
    y = layer(torch.full_like(x, bad), generator)
    assert dropped.any()
    assert y[dropped].isnan().all()
