"""Blocks are painted where the drawn seeds say, in every layout and in both passes.

The references make masks of the same seeds element by element, and by max-pooling.
"""

import itertools
import math
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from regdrop_lite import _block_operator, drop_block
from regdrop_lite._block_mask import Blocks, block_mask, draw_seeds, paint
from regdrop_lite._painted import painted
from tests.conftest import SEED
from tests.layers.test_product import DTYPES, LAYOUTS, dense


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def settings_of(block: tuple[int, ...], border: str, shared: bool = False) -> Blocks:
    """What painting does depends on these two alone."""
    return Blocks(0.3, list(block), border, shared, "expected")


# ------------------------------------------------------------------------- references


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


def blocks_by_pooling(
    shape: tuple[int, ...], seeds: Tensor, block: tuple[int, ...], border: str
) -> Tensor:
    """True where no block fell: the maximum over the places that cover an element."""
    sign = 1 if border == "clip" else -1
    grid = [n + sign * (k - 1) for n, k in zip(shape[2:], block, strict=True)]
    maps = torch.zeros(math.prod(shape[:2]) * math.prod(grid))
    maps[seeds] = 1.0
    maps = maps.view(-1, 1, *grid)
    if border == "valid":
        maps = F.pad(maps, [k - 1 for k in reversed(block) for _ in range(2)])
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(block) - 1]
    return (pool(maps, block, stride=1) == 0).view(shape)


# --------------------------------------------------------------------------- painting


@given(
    planes=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pairs=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=3
    ),
    border=st.sampled_from(["valid", "clip"]),
    channels_last=st.booleans(),
    data=st.data(),
)
def test_painted_blocks_are_those_of_the_loops(
    planes, pairs, border, channels_last, data
) -> None:
    """A block that is larger than the map is the map."""
    size = tuple(n for n, _ in pairs)
    block = tuple(min(n, k) for n, k in pairs)
    sign = 1 if border == "clip" else -1
    count = planes[0] * planes[1]
    for n, k in zip(size, block, strict=True):
        count *= n + sign * (k - 1)
    drawn = data.draw(st.sets(st.integers(0, count - 1), max_size=8).map(sorted))
    seeds, shape = torch.tensor(drawn, dtype=torch.int64), (*planes, *size)
    expected = blocks_by_loops(shape, drawn, block, border)
    layout = "channels last" if channels_last else "contiguous"
    output = torch.ones_like(dense(shape, torch.float32, layout))
    blocks = settings_of(tuple(k for _, k in pairs), border)
    assert paint(output, seeds, blocks) is output
    assert torch.equal(output, expected)
    keep = _block_operator.keep_of_seeds(seeds, shape, blocks.block_size, border)
    assert torch.equal(keep, expected.bool())
    assert torch.equal(keep, blocks_by_pooling(shape, seeds, block, border))


@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 4, 3), (6, 2, 6, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_blocks_are_right_in_every_order_of_memory(dtype, shape, border) -> None:
    """Strides that agree by chance are among them."""
    n, c, h, w = shape
    sign, step = (2, 29) if border == "clip" else (-2, 3)
    seeds = list(range(0, n * c * (h + sign) * (w + sign), step))
    expected = blocks_by_loops(shape, seeds, (3, 3), border).to(dtype)
    assert expected.any() and not expected.all()
    for order in itertools.permutations(range(4)):
        output = torch.empty_permuted(shape, order, dtype=dtype).fill_(1)
        paint(output, torch.tensor(seeds), settings_of((3, 3), border))
        assert torch.equal(output, expected), order


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(3, 4, 7), (3, 4, 5, 6), (2, 1, 3, 4), (2, 3, 3, 4, 2)]
)
def test_tables_and_numbers_multiply_with_one_rounding(shape, dtype, layout) -> None:
    """In any layout the result is dense, new, and in the order of memory of x * 1."""
    x = dense(shape, dtype, layout)
    before, high = x.clone(), torch.promote_types(dtype, torch.float32)
    g = torch.Generator().manual_seed(SEED)
    table = torch.rand(shape[2:], dtype=torch.float64, generator=g).add(0.5).to(high)
    seeds, blocks = torch.tensor([0, 2]), settings_of((2,) * len(shape[2:]), "valid")
    for scale in (table, 1 / 0.9, 1.0):
        product = (x.to(high) * scale).to(dtype)
        for places in (None, seeds):
            result, expected = painted(x, scale, places, blocks), product
            if places is not None:
                keep = blocks_by_loops(shape, [0, 2], blocks.block_size, "valid")
                expected = torch.where(keep.bool(), product, 0)
            assert torch.equal(result, expected)
            assert result.dtype == dtype
            assert result.stride() == (x * 1.0).stride()
            assert result.data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


# -------------------------------------------------------------------- draw, then paint


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize(
    ("size", "block"), [((9,), (3,)), ((7, 5), (3, 2)), ((4, 3, 5), (2, 9, 3))]
)
def test_the_mask_is_that_of_the_drawn_seeds(size, block, border, shared) -> None:
    x = torch.ones(20, 6, *size)
    blocks = settings_of(block, border, shared)
    drawn = (20, 1 if shared else 6, *size)
    seeds = draw_seeds(drawn, blocks, seeded())
    inside = tuple(min(k, n) for k, n in zip(block, size, strict=True))
    expected = blocks_by_pooling(drawn, seeds, inside, border)
    keep, _ = block_mask(x, blocks, seeded())
    assert torch.equal(keep, expected)
    assert 0 < keep.sum() < keep.numel()
    y = drop_block(x, 0.3, block, border=border, shared=shared, generator=seeded())
    assert torch.equal(y != 0, expected.expand_as(x))


def use_the_reference(monkeypatch) -> None:
    """Multiply by a whole mask, as where tensors are not plain."""
    for module in ("regdrop_lite._painted", "regdrop_lite.drop_block"):
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
    """The reference is a mask; it comes from the operator if there is no generator."""
    shape, block = (3, 5, 7, 6, 4)[: dims + 2], (3, 2, 3)[:dims]
    results = []
    for reference, explicit in ((False, True), (True, True), (True, False)):
        if reference:
            use_the_reference(monkeypatch)
        x = dense(shape, dtype, layout).requires_grad_()
        g = torch.Generator() if explicit else torch.default_generator
        g.manual_seed(SEED)
        asked = {"generator": g} if explicit else {}
        y = drop_block(x * 1.0, 0.3, block, **asked, **settings)
        weight = torch.linspace(-1, 1, y.numel(), dtype=dtype).view(y.shape)
        (grad,) = torch.autograd.grad(y, x, weight)
        results.append((y.detach(), grad, g.get_state()))
    y, grad, state = results[0]
    for expected, expected_grad, expected_state in results[1:]:
        assert torch.equal(y, expected)
        assert torch.equal(grad, expected_grad)
        assert torch.equal(state, expected_state)
        assert y.stride() == expected.stride()
    assert 0 < (y == 0).sum() < y.numel()


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", ["painted", "mask", "operator"])
@pytest.mark.parametrize("normalize", ["expected", "batch"])
def test_a_dropped_block_is_zero_whatever_it_was(
    normalize, way, dtype, bad, generator, monkeypatch
) -> None:
    if way != "painted":
        use_the_reference(monkeypatch)
    x = torch.full((4, 8, 9, 9), bad, dtype=dtype, requires_grad=True)
    generator = None if way == "operator" else generator
    y = drop_block(x, 0.3, 3, normalize=normalize, generator=generator)
    dropped = y == 0
    assert dropped.any()
    assert (y[~dropped].isnan() if bad != bad else y[~dropped] == bad).all()
    (grad,) = torch.autograd.grad(y, x, torch.full_like(y, float("inf")))
    assert (grad[dropped] == 0).all()
    assert (grad[~dropped] == float("inf")).all()
