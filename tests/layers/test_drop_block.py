"""DropBlock: gamma, the law of the mask, the weights, the sampler.

The references count covering seeds with literal loops, enumerate every pattern of seeds
with exact fractions, and solve for gamma by bisection. They share nothing with the
package.
"""

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from regdrop_lite import (
    DropBlock1d,
    DropBlock2d,
    DropBlock3d,
    drop_block,
    drop_block_gamma,
    drop_block_keep_prob,
)
from regdrop_lite._block_mask import Blocks, _draw_everywhere, weights
from regdrop_lite._random import sample_seeds, uniform

SEED = 20261122  # fixed before the first run

CPU = torch.device("cpu")
Place = tuple[int, ...]
pytestmark = pytest.mark.filterwarnings("ignore:the weights")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


# ------------------------------------------------------------------------- references


def corners(size: int, block: int, border: str) -> range:
    """The first elements of all blocks along one dimension."""
    if border == "valid":  # blocks inside the map
        return range(size - block + 1)
    if border == "clip":  # blocks that touch the map
        return range(1 - block, size)
    return range(-(block // 2), size - block // 2)  # "centred": one on each element


@lru_cache(maxsize=64)
def covers(size: Place, block: Place, border: str) -> dict[Place, frozenset[Place]]:
    """For each seed (the corner of its block) the elements that it covers."""
    block = tuple(min(k, n) for k, n in zip(block, size, strict=True))
    seeds = [corners(n, k, border) for n, k in zip(size, block, strict=True)]
    inside = set(itertools.product(*map(range, size)))
    return {
        seed: frozenset(
            itertools.product(
                *(range(a, a + k) for a, k in zip(seed, block, strict=True))
            )
        )
        & inside
        for seed in itertools.product(*seeds)
    }


@lru_cache(maxsize=64)
def cover_counts(size: Place, block: Place, border: str) -> Tensor:
    """How many seeds cover each element."""
    counts = Counter(itertools.chain(*covers(size, block, border).values()))
    elements = itertools.product(*map(range, size))
    return torch.tensor([counts[e] for e in elements]).double().view(size)


def dropped_fraction(counts: Tensor, gamma: float) -> float:
    """The mean over the elements of 1 - (1 - gamma)^count."""
    terms = Counter(counts.flatten().tolist())
    dropped = [n * -math.expm1(c * math.log1p(-gamma)) for c, n in terms.items()]
    return math.fsum(dropped) / counts.numel()


def bisected_gamma(counts: Tensor, p: float) -> float:
    """The gamma of p by bisection of its logarithm."""
    low, high = math.log(p * 1e-6), 0.0
    for _ in range(100):
        middle = (low + high) / 2
        too_few = middle < 0.0 and dropped_fraction(counts, math.exp(middle)) < p
        low, high = (middle, high) if too_few else (low, middle)
    return math.exp(low)


def mask_law(size: Place, block: Place, border: str, gamma: float) -> list[Fraction]:
    """The probability of each mask; a dropped element e sets bit e of its index."""
    elements = list(itertools.product(*map(range, size)))
    seeds = [
        sum(1 << elements.index(e) for e in covered)
        for covered in covers(size, block, border).values()
    ]
    hit, law = Fraction(gamma), [Fraction(0)] * (1 << len(elements))
    chance = [hit**k * (1 - hit) ** (len(seeds) - k) for k in range(len(seeds) + 1)]
    for pattern in itertools.product([0, 1], repeat=len(seeds)):
        mask = 0
        for seed, falls in zip(seeds, pattern, strict=True):
            mask |= seed * falls
        law[mask] += chance[sum(pattern)]
    return law


def mask_indices(output: Tensor) -> Tensor:
    """The index into ``mask_law`` of each plane of an output."""
    dropped = (output.flatten(0, 1).flatten(1) == 0).long()
    return (dropped << torch.arange(dropped.shape[1])).sum(1)


# ------------------------------------------------------------------------------- gamma

MAPS = [
    ((3,), (2,)),
    ((64,), (7,)),
    ((31,), (100,)),
    ((3, 3), (3, 3)),
    ((7, 7), (3, 3)),
    ((7, 7), (6, 6)),
    ((13, 29), (4, 7)),
    ((14, 14), (7, 7)),
    ((28, 5), (9, 2)),
    ((56, 56), (1, 1)),
    ((64, 48), (7, 7)),
    ((64, 64), (12, 3)),
    ((3, 5, 4), (2, 2, 3)),
    ((9, 16, 11), (3, 4, 5)),
]
RATES = [1e-4, 1e-3, 0.05, 0.1, 0.3, 0.5, 0.9, 0.99]


@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize(("size", "block"), MAPS)
def test_gamma_drops_exactly_p_and_every_element_as_the_table_says(
    size, block, border
) -> None:
    """Literal counts; bisection finds the same gamma. Relative errors below 1e-10."""
    counts = cover_counts(size, block, border)
    for p in RATES:
        gamma = drop_block_gamma(size, block, p, border)
        assert dropped_fraction(counts, gamma) == pytest.approx(p, rel=1e-10, abs=0)
        assert gamma == pytest.approx(bisected_gamma(counts, p), rel=1e-10, abs=0)
        keep = drop_block_keep_prob(size, block, gamma, border)
        assert keep.dtype == torch.float64
        torch.testing.assert_close(keep, (1 - gamma) ** counts, rtol=1e-12, atol=0.0)


@given(
    st.lists(st.tuples(st.integers(3, 64), st.integers(1, 70)), min_size=1, max_size=2),
    st.floats(1e-4, 0.99),
    st.sampled_from(["valid", "clip"]),
)
def test_gamma_drops_exactly_p_for_any_map_and_block(pairs, p, border) -> None:
    size, block = zip(*pairs, strict=True)
    counts = torch.ones(1, dtype=torch.float64)
    for n, k in pairs:  # the seeds of a plane are pairs of seeds of its sides
        counts = counts.unsqueeze(-1) * cover_counts((n,), (k,), border)
    gamma = drop_block_gamma(size, block, p, border)
    assert dropped_fraction(counts, gamma) == pytest.approx(p, rel=1e-10, abs=0)


def counts_by_convolution(size: int, block: int, border: str) -> Tensor:
    """A block of ones over a seed at each of its places."""
    block = min(block, size)
    places = len(corners(size, block, border))
    ones = torch.ones((1, 1, block), dtype=torch.float64)
    seeds = torch.ones((1, 1, places), dtype=torch.float64)
    covered = torch.conv1d(seeds, ones, padding=block - 1).flatten()
    return covered if border == "valid" else covered[block - 1 :][:size]


@pytest.mark.slow
@pytest.mark.parametrize("border", ["valid", "clip"])
def test_gamma_drops_exactly_p_for_every_map_up_to_64_and_every_block(border) -> None:
    """Each map with H >= W and each block with one of the rates, in turn.

    The gamma of the other maps is that of their transpose; the next test sees to it.
    """
    rates = itertools.cycle([1e-4, 3e-3, 0.02, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 0.99])
    worst, checked = 0.0, 0
    for k in range(1, 67):
        counts = {n: counts_by_convolution(n, k, border) for n in range(3, 65)}
        for h in range(max(3, k - 2), 65):
            for w in range(3, h + 1):
                p = next(rates)
                log_miss = math.log1p(-drop_block_gamma((h, w), k, p, border))
                covers = counts[h].unsqueeze(1) * counts[w]
                rate = -torch.expm1(covers * log_miss).mean().item()
                worst, checked = max(worst, abs(rate / p - 1.0)), checked + 1
    assert checked == sum((h - 2) * (h + 2) for h in range(3, 65))
    assert worst <= 1e-10


@given(
    st.lists(st.tuples(st.integers(3, 64), st.integers(1, 66)), min_size=2, max_size=3),
    st.floats(1e-4, 0.99),
    st.sampled_from(["valid", "clip"]),
)
def test_gamma_does_not_depend_on_the_order_of_the_dimensions(pairs, p, border) -> None:
    gammas = [
        drop_block_gamma(*zip(*order, strict=True), p, border)
        for order in itertools.permutations(pairs)
    ]
    assert gammas == pytest.approx([gammas[0]] * len(gammas), rel=1e-12, abs=0)


@given(st.floats(1e-300, 1.0, exclude_max=True), st.sampled_from(["valid", "clip"]))
def test_gamma_is_found_for_every_p(p, border) -> None:
    gamma = drop_block_gamma((6, 9), (3, 4), p, border)
    rate = dropped_fraction(cover_counts((6, 9), (3, 4), border), gamma)
    assert rate == pytest.approx(p, rel=1e-10, abs=0)
    assert 0.0 < gamma < 1.0


@pytest.mark.parametrize("border", ["valid", "clip"])
def test_gamma_is_p_at_the_ends_and_for_single_elements(border) -> None:
    assert drop_block_gamma((7, 7), 3, 0, border) == 0.0
    assert drop_block_gamma((7, 7), 3, 1, border) == 1.0
    assert drop_block_gamma((7, 5), 1, 0.3, border) == pytest.approx(0.3, rel=1e-15)
    assert drop_block_gamma(7, 1, 0.3, border) == pytest.approx(0.3, rel=1e-15)
    whole = drop_block_gamma((7, 5), 7, 0.3, border)
    seeds = 1 if border == "valid" else 7 * 5
    assert whole == pytest.approx(1 - 0.7 ** (1 / seeds), rel=1e-14)


@pytest.mark.parametrize(
    ("side", "block", "p", "torchvision", "timm", "miguelvr"),
    [
        (7, 3, 0.1, "0.095", "0.149", "0.079"),
        (7, 5, 0.1, "0.095", "0.311", "0.066"),
        (7, 7, 0.1, "0.100", "0.930", "0.055"),
        (14, 7, 0.1, "0.093", "0.209", "0.074"),
        (14, 7, 0.5, "0.358", "0.683", "0.317"),
        (56, 7, 0.3, "0.255", "0.298", "0.246"),
    ],
)
def test_textbook_gamma_misses_p_and_the_solved_one_hits_it(
    side, block, p, torchvision, timm, miguelvr
) -> None:
    """What libraries drop for a nominal p.

    torchvision takes the paper's formula, with blocks inside the map. timm takes it
    too, but sets a seed on every element and clips the blocks. miguelvr does so with
    gamma = p / k^2.
    """
    size, k = (side, side), (block, block)
    paper = p / block**2 * side**2 / (side - block + 1) ** 2
    inside = cover_counts(size, k, "valid")
    centred = cover_counts(size, k, "centred")
    assert f"{dropped_fraction(inside, paper):.3f}" == torchvision
    assert f"{dropped_fraction(centred, paper):.3f}" == timm
    assert f"{dropped_fraction(centred, p / block**2):.3f}" == miguelvr
    ours = drop_block_gamma(size, k, p)
    assert dropped_fraction(inside, ours) == pytest.approx(p, rel=1e-10)


# ------------------------------------------------------------------ the law of the mask

TINY = [
    ((5,), 2, "valid"),
    ((4,), 3, "clip"),
    ((3,), 9, "valid"),
    ((3, 4), (2, 3), "valid"),
    ((3, 3), 2, "valid"),
    ((2, 4), (3, 2), "valid"),
    ((2, 3), 2, "clip"),
    ((2, 2), (1, 2), "clip"),
    ((2, 2), 1, "valid"),
    ((2, 2), 1, "clip"),
    ((2, 3, 2), (2, 2, 1), "valid"),
    ((1, 2, 2), 2, "clip"),
]


def per_dimension(block: int | Place, size: Place) -> Place:
    return (block,) * len(size) if isinstance(block, int) else block


def drawn_everywhere(
    input: Tensor,
    p: float,
    block: int | Place,
    *,
    border: str = "valid",
    shared: bool = False,
    generator: torch.Generator,
) -> Tensor:
    """The mask that other devices than the CPU draw: each place is asked for a seed."""
    shape = [len(input), 1 if shared else input.shape[1], *input.shape[2:]]
    size = per_dimension(block, tuple(shape[2:]))
    blocks = Blocks(p, size, border, shared, "expected")
    keep = _draw_everywhere(shape, blocks, CPU, generator)
    assert (keep.dtype, list(keep.shape)) == (torch.bool, shape)
    return keep.expand(input.shape).to(input.dtype)


by_each_way = pytest.mark.parametrize("draw", [drop_block, drawn_everywhere])


@by_each_way
@pytest.mark.parametrize(("size", "block", "border"), TINY)
@pytest.mark.parametrize("p", [0.15, 0.5])
def test_masks_follow_the_enumerated_law(
    size, block, border, p, draw, generator, assert_law
) -> None:
    """Every pattern of seeds with its exact probability against 30,000 planes."""
    k = per_dimension(block, size)
    law = mask_law(size, k, border, drop_block_gamma(size, block, p, border))
    shares = [Fraction(i.bit_count(), math.prod(size)) for i in range(len(law))]
    rate = sum(share * chance for share, chance in zip(shares, law, strict=True))
    assert float(rate) == pytest.approx(p, rel=1e-10)

    x = torch.ones(10_000, 3, *size)
    y = draw(x, p, block, border=border, generator=generator)
    seen = mask_indices(y).bincount(minlength=len(law))
    assert_law(seen.tolist(), [float(chance) for chance in law])


@pytest.mark.parametrize(("size", "block", "border"), TINY)
def test_weights_are_one_over_the_enumerated_probability_to_be_kept(
    size, block, border
) -> None:
    k = per_dimension(block, size)
    law = mask_law(size, k, border, drop_block_gamma(size, block, 0.3, border))
    keep = [
        float(sum(chance for i, chance in enumerate(law) if not i >> e & 1))
        for e in range(math.prod(size))
    ]
    x = torch.ones(400, 2, *size, dtype=torch.float64)
    y = drop_block(x, 0.3, block, border=border, generator=seeded())
    weights = y.amax((0, 1))  # each element is kept at least once in 800 planes
    expected = 1 / torch.tensor(keep, dtype=torch.float64).view(size)
    torch.testing.assert_close(weights, expected, rtol=1e-12, atol=0.0)
    assert ((y == 0) | ((y - weights).abs() < 1e-12)).all()


def reference(
    input: Tensor, p: float, block: Place, border: str, generator: torch.Generator
) -> Tensor:
    """DropBlock by loops, with the gaps between seeds drawn one by one."""
    size = tuple(input.shape[2:])
    counts = cover_counts(size, block, border)
    gamma = bisected_gamma(counts, p)
    blocks = list(covers(size, block, border).values())
    output = input / (1.0 - gamma) ** counts
    planes = output.view(-1, *size)
    position = -1
    while True:
        u = torch.rand(1, dtype=torch.float64, generator=generator).item()
        position += 1 + math.floor(math.log(1.0 - u) / math.log1p(-gamma))
        if position >= len(planes) * len(blocks):
            return output
        plane, seed = divmod(position, len(blocks))
        for element in blocks[seed]:
            planes[plane][element] = 0.0


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 8)), min_size=1, max_size=3),
    st.sampled_from(["valid", "clip"]),
    st.floats(0.02, 0.6),
)
def test_result_is_that_of_the_loops(batch, channels, pairs, border, p) -> None:
    """1-d, 2-d and 3-d; the same random numbers, read one by one."""
    size, block = zip(*pairs[:3], strict=True)
    size = size[:2] + tuple(min(n, 4) for n in size[2:])
    layer = (DropBlock1d, DropBlock2d, DropBlock3d)[len(size) - 1](
        p, block, border=border
    )
    x = torch.rand(batch, channels, *size, generator=seeded()).double() + 0.5
    layer.generator = seeded()
    expected = reference(x, p, block, border, seeded())
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=0.0)


@by_each_way
@pytest.mark.parametrize("border", ["valid", "clip"])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_rate_and_keep_probabilities_on_a_real_map(
    p, border, draw, generator, assert_mean
) -> None:
    """20,000 planes of 14 x 10 with blocks of 7 x 4: all pixels, then the mean."""
    size, block = (14, 10), (7, 4)
    x = torch.ones(2_000, 10, *size)
    y = draw(x, p, block, border=border, generator=generator)
    kept = (y != 0).flatten(0, 1).double()
    gamma = bisected_gamma(cover_counts(size, block, border), p)
    keep = (1 - gamma) ** cover_counts(size, block, border)
    assert_mean(kept, keep, keep * (1 - keep))
    share = kept.mean((1, 2))
    assert_mean(share, 1 - p, share.var().item())


@by_each_way
@pytest.mark.parametrize("shared", [False, True])
def test_samples_and_channels_have_masks_of_their_own_unless_shared(
    shared, draw, generator, assert_law
) -> None:
    """20,000 times 2 samples x 2 channels: which of the first elements fall?"""
    x = torch.ones(40_000, 2, 3, 4)
    y = draw(x, 0.3, 2, shared=shared, generator=generator)
    dropped = (y[..., 0, 0] == 0).view(20_000, 4).long()
    patterns = (dropped * torch.tensor([8, 4, 2, 1])).sum(1).bincount(minlength=16)
    p = drop_block_gamma((3, 4), 2, 0.3)  # one seed covers the corner
    if shared:
        assert torch.equal(y[:, 0], y[:, 1])
        law = [0.0] * 16
        for i in range(4):  # the two bits of a sample agree
            bits = (i >> 1) * 12 + (i & 1) * 3
            law[bits] = p ** i.bit_count() * (1 - p) ** (2 - i.bit_count())
    else:
        law = [p ** i.bit_count() * (1 - p) ** (4 - i.bit_count()) for i in range(16)]
    assert_law(patterns.tolist(), law)


@pytest.mark.parametrize("block", [7, 9, (7, 6), (100, 100)])
def test_block_of_the_size_of_the_map_is_channel_dropout_inside_the_map_only(
    block, generator, assert_law
) -> None:
    """40,000 maps of 7 x 6. Clipped blocks let parts of a map fall."""
    x = torch.ones(4_000, 10, 7, 6)
    y = drop_block(x, 0.2, block, generator=generator).flatten(2)
    dropped = (y == 0).all(2)
    assert torch.equal(dropped, (y == 0).any(2))
    assert y.max() == pytest.approx(1 / 0.8)
    law = [math.comb(10, k) * 0.2**k * 0.8 ** (10 - k) for k in range(11)]
    assert_law(dropped.sum(1).bincount(minlength=11).tolist(), law)


def test_clipped_blocks_of_the_size_of_the_map_drop_parts_of_it(generator) -> None:
    """100,000 maps: 30.5 % are touched by one of 169 seeds, but .2 % fall whole."""
    x = torch.ones(100_000, 1, 7, 7)
    y = drop_block(x, 0.1, 7, border="clip", generator=generator).flatten(2)
    some, whole = (y == 0).any(2).sum().item(), (y == 0).all(2).sum().item()
    touched = 1 - 0.9 ** (169 / 49)
    assert f"{touched:.3f}" == "0.305"
    assert abs(some - 1e5 * touched) <= 4 * math.sqrt(1e5 * touched * (1 - touched))
    assert abs(whole - 200) <= 50 + 4 * math.sqrt(200)  # .2 has one digit


# ------------------------------------------------------------------------ large weights


@pytest.mark.parametrize(
    ("p", "largest"), [(0.1, "1.39"), (0.3, "3.4"), (0.5, "14"), (0.9, "8.7e+06")]
)
def test_weights_grow_in_the_middle_of_the_map(p, largest) -> None:
    digits = len(largest.split("e")[0].replace(".", ""))
    gamma = drop_block_gamma((14, 14), 7, p)
    weights = 1 / drop_block_keep_prob((14, 14), 7, gamma)
    assert f"{weights.max():.{digits}g}" == largest
    assert weights.argmax() in (14 * i + j for i in (6, 7) for j in (6, 7))
    y = drop_block(torch.ones(2_000, 1, 14, 14), p, 7, generator=seeded())
    assert ((y == 0) | ((y / weights - 1).abs() < 1e-6)).all()


def test_weights_above_four_warn_once_and_point_to_clip() -> None:
    x = torch.ones(1, 1, 14, 14)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        drop_block(x, 0.3, 7)  # 3.4
        drop_block(x, 0.9, 7, border="clip")
        drop_block(x, 0.9, 7, normalize="batch")
        drop_block(x, 0.9, 7, training=False)
        assert caught == []
        layer = DropBlock2d(0.0, 7)
        for p in (0.35, 0.35, 0.4, 0.5):  # as a ramp does
            layer.p = p
            for input in (x, x.double()):
                drop_block(input, p, 7)  # once for this line, and for all layers
                layer(input)
            layer.generator = seeded()
    assert len(caught) == 2
    assert caught[0].filename == __file__
    for warning in caught:
        assert warning.category is UserWarning
        for words in ("exceed 4", "(14, 14)", "(7, 7)", "border='clip'"):
            assert words in str(warning.message)


def test_weights_that_the_dtype_cannot_hold_are_an_error_that_names_clip() -> None:
    x = torch.ones(1, 1, 14, 14, dtype=torch.float16)
    message = r"8\.72e\+06.*float16.*\(14, 14\).*\(7, 7\).*p=0\.9.*border='clip'"
    for g in (None, seeded()):
        with pytest.raises(ValueError, match=message):
            drop_block(x, 0.9, 7, generator=g)
    for dtype in (torch.bfloat16, torch.float32):
        assert drop_block(x.to(dtype), 0.9, 7).dtype == dtype
    for settings in ({"border": "clip"}, {"normalize": "batch"}):
        assert drop_block(x, 0.9, 7, **settings).isfinite().all()


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("border", ["valid", "clip"])
def test_normalizing_by_the_batch_keeps_the_sum_of_ones(p, border, generator) -> None:
    """All 131,072 elements: a count beyond the range of float16 does no harm."""
    x = torch.ones(8, 64, 16, 16, dtype=torch.float16)
    y = drop_block(x, p, 5, border=border, normalize="batch", generator=generator)
    kept = (y != 0).sum().item()
    assert 0 < kept < x.numel()
    assert y.max().item() == y[y != 0].min().item()
    assert y.max().item() == pytest.approx(x.numel() / kept, rel=2**-11)
    exact = drop_block(
        x.double(), p, 5, border=border, normalize="batch", generator=generator
    )
    assert exact.sum().item() == pytest.approx(x.numel(), rel=1e-12)


def test_normalizing_by_a_batch_with_nothing_left_gives_zeros(generator) -> None:
    runs = [
        drop_block(torch.ones(1, 1, 3), 0.9, 3, normalize="batch", generator=generator)
        for _ in range(50)
    ]
    assert {tuple(y.flatten().tolist()) for y in runs} == {(0.0,) * 3, (1.0,) * 3}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_table_of_weights_is_new_in_every_call(dtype) -> None:
    """Nobody can change the weights of a later call, nor does an earlier p."""
    size, wide = (9, 6), torch.promote_types(dtype, torch.float32)
    for p in (0.1, 0.3, 0.1):
        blocks = Blocks(p, [3, 2], "valid", False, "expected")
        gamma = bisected_gamma(cover_counts(size, (3, 2), "valid"), p)
        expected = (1 - gamma) ** -cover_counts(size, (3, 2), "valid")
        for _ in range(2):
            table = weights(size, blocks, dtype, CPU)
            torch.testing.assert_close(table, expected.to(wide), rtol=2e-7, atol=0.0)
            table.zero_()
        assert weights(size, blocks._replace(border="clip"), dtype, CPU) == 1 / (1 - p)


# ------------------------------------------------------------------------------ sampler


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.02, 0.4, 0.9])
def test_neighbouring_trials_are_independent(gamma, generator, assert_law) -> None:
    """All 16 patterns of four trials, 20,000 times, in one run and in short ones."""
    log_miss, weigh = math.log1p(-gamma), torch.tensor([8, 4, 2, 1])
    long = torch.zeros(80_000, dtype=torch.int64)
    long[sample_seeds(80_000, log_miss, generator)] = 1
    long = (long.view(20_000, 4) * weigh).sum(1).tolist()
    short = [
        sum(8 >> i for i in sample_seeds(4, log_miss, generator).tolist())
        for _ in range(20_000)
    ]
    ones = [i.bit_count() for i in range(16)]
    law = [gamma**k * (1 - gamma) ** (4 - k) for k in ones]
    for patterns in (long, short):
        counts = Counter(patterns)
        assert_law([counts[i] for i in range(16)], law)


@pytest.mark.parametrize("gamma", [0.01, 0.3])
def test_gaps_are_geometric_and_positions_uniform(gamma, generator, assert_law) -> None:
    """One run of 1,000,000 trials: 100 equal bins, and gaps up to 60 / gamma / 100."""
    seeds = sample_seeds(1_000_000, math.log1p(-gamma), generator)
    bins = (seeds // 10_000).bincount(minlength=100)
    assert_law(bins.tolist(), [0.01] * 100)
    width = max(1, round(0.06 / gamma))
    gaps = (torch.diff(seeds) - 1).div(width, rounding_mode="floor").clamp(max=50)
    cells = [(1 - gamma) ** (width * i) for i in range(51)] + [0.0]
    law = [a - b for a, b in itertools.pairwise(cells)]
    assert_law(gaps.bincount(minlength=51).tolist(), law)


@pytest.mark.parametrize(("count", "gamma"), [(12, 0.3), (40, 0.05), (5, 0.95)])
def test_number_of_seeds_is_binomial(count, gamma, generator, assert_law) -> None:
    """10,000 runs."""
    sizes = Counter(
        len(sample_seeds(count, math.log1p(-gamma), generator)) for _ in range(10_000)
    )
    law = [
        math.comb(count, k) * gamma**k * (1 - gamma) ** (count - k)
        for k in range(count + 1)
    ]
    assert_law([sizes[k] for k in range(count + 1)], law)


@given(st.integers(0, 400), st.floats(-40.0, -1e-12), st.integers(0, 2**31))
def test_seeds_are_ascending_places_in_range(count, log_miss, seed) -> None:
    g = torch.Generator().manual_seed(seed)
    seeds = sample_seeds(count, log_miss, g)
    assert (seeds.dtype, seeds.dim()) == (torch.int64, 1)
    assert seeds.tolist() == sorted(set(seeds.tolist()) & set(range(count)))


@pytest.mark.parametrize(
    ("count", "log_miss", "expected"),
    [
        (0, -1.0, []),
        (1, -800.0, [0]),
        (6, -800.0, [0, 1, 2, 3, 4, 5]),
        (1, -1e-300, []),
        (1_000_000, -1e-15, []),
        (1_000_000, -5e-324, []),
    ],
)
def test_seeds_at_the_edges(count, log_miss, expected, generator) -> None:
    assert sample_seeds(count, log_miss, generator).tolist() == expected


@pytest.mark.parametrize("short", [1, 2, 5])
@pytest.mark.parametrize("gamma", [0.05, 0.5, 0.999])
def test_seeds_do_not_depend_on_how_many_numbers_are_drawn_at_once(
    short, gamma, monkeypatch
) -> None:
    """The sampler draws again until it has passed the end."""
    expected = sample_seeds(200, math.log1p(-gamma), seeded())
    calls = []

    def few(shape: Sequence[int], *place: object) -> Tensor:
        calls.append(shape)
        return uniform((min(shape[0], short),), *place)

    monkeypatch.setattr("regdrop_lite._random.uniform", few)
    seeds = sample_seeds(200, math.log1p(-gamma), seeded())
    assert torch.equal(seeds, expected)
    assert len(calls) > 1
    assert len(calls) >= len(seeds) / short


def test_the_sampler_stops_with_the_last_trial(monkeypatch) -> None:
    """Every trial succeeds, and one number is drawn for each: no sixth call."""
    calls = []

    def one(_: object, *place: object) -> Tensor:
        calls.append(place)
        return uniform((1,), *place)

    monkeypatch.setattr("regdrop_lite._random.uniform", one)
    assert sample_seeds(5, -800.0, seeded()).tolist() == [0, 1, 2, 3, 4]
    assert len(calls) == 5


@pytest.mark.parametrize(
    ("count", "gamma", "numbers"), [(0, 0.5, 0), (90, 0.4, 80), (9_990, 0.01, 168)]
)
def test_seeds_take_six_sigma_more_numbers_than_expected(count, gamma, numbers) -> None:
    """Another number of them would change every mask that comes later in a run."""
    g, other = seeded(), seeded()
    sample_seeds(count, math.log1p(-gamma), g)
    uniform((numbers,), CPU, other)
    assert torch.equal(g.get_state(), other.get_state())


@pytest.mark.parametrize(
    "shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (2, 3, 0, 5), (0, 2, 3, 4, 5)]
)
@pytest.mark.parametrize("normalize", ["expected", "batch"])
def test_an_empty_map_stays_empty(shape, normalize) -> None:
    for g in (None, seeded()):
        y = drop_block(torch.ones(shape), 0.5, 2, normalize=normalize, generator=g)
        assert y.shape == shape


# ------------------------------------------------------------------------------- errors

WHOLE, LEAST = "whole number, but got a {}", "at least 1, but got {}"
WRONG_BLOCKS = [
    (2.0, TypeError, WHOLE.format("float")),
    (None, TypeError, WHOLE.format("NoneType")),
    (True, TypeError, WHOLE.format("bool")),
    ((3, 2.5), TypeError, WHOLE.format("float")),
    ("33", TypeError, WHOLE.format("str")),
    (0, ValueError, LEAST.format(0)),
    ((3, -1), ValueError, LEAST.format(-1)),
    ((3,), ValueError, r"one number or 2,.* but got 1: \(3,\)"),
    ([3, 3, 3], ValueError, r"one number or 2,.* but got 3: \(3, 3, 3\)"),
]


@pytest.mark.parametrize(("block", "error", "message"), WRONG_BLOCKS)
def test_a_wrong_block_size_is_told_everywhere(block, error, message) -> None:
    x = torch.ones(1, 1, 5, 5)
    for attempt in (
        lambda: DropBlock2d(0.1, block),
        lambda: drop_block(x, 0.1, block),
        lambda: drop_block(x, 0.1, block, training=False),
        lambda: drop_block_gamma((5, 5), block, 0.1),
        lambda: drop_block_keep_prob((5, 5), block, 0.1),
    ):
        with pytest.raises(error, match=f"^block_size has to be .*{message}"):
            attempt()


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (None, TypeError, WHOLE.format("NoneType")),
        ((5, 5.0), TypeError, WHOLE.format("float")),
        ((5, 0), ValueError, LEAST.format(0)),
    ],
)
def test_a_wrong_size_is_told(size, error, message) -> None:
    for function in (drop_block_gamma, drop_block_keep_prob):
        with pytest.raises(error, match=f"^size has to be .*{message}"):
            function(size, 3, 0.1)


@pytest.mark.parametrize(
    ("setting", "known"),
    [("border", "'valid', 'clip'"), ("normalize", "'expected', 'batch'")],
)
def test_an_unknown_border_or_normalization_is_told(setting, known) -> None:
    wrong = {setting: "paper"}
    attempts = [
        lambda: DropBlock2d(0.1, 3, **wrong),
        lambda: drop_block(torch.ones(1, 1, 5, 5), 0.1, 3, **wrong),
    ]
    if setting == "border":
        attempts.append(lambda: drop_block_gamma(5, 3, 0.1, "paper"))
        attempts.append(lambda: drop_block_keep_prob(5, 3, 0.1, "paper"))
    for attempt in attempts:
        with pytest.raises(ValueError, match=f"^{setting} .*{known}, but got 'paper'"):
            attempt()


@pytest.mark.parametrize("layer", [DropBlock1d, DropBlock2d, DropBlock3d])
def test_repr_shows_rate_block_and_what_differs_from_the_defaults(layer) -> None:
    name = layer.__name__
    assert repr(layer(0.1, 7)) == f"{name}(p=0.1, block_size=7)"
    full = layer(0.1, 7, inplace=True, border="clip", shared=True, normalize="batch")
    assert repr(full) == (
        f"{name}(p=0.1, block_size=7, inplace=True, border='clip', shared=True, "
        "normalize='batch')"
    )


def test_weights_beyond_any_float_are_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"the largest weight .* is inf, too large"):
        DropBlock2d(0.9999, 21)(torch.ones(1, 1, 56, 56, dtype=torch.float64))
