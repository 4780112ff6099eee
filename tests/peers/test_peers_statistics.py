"""Drop rates, expectations and low precision, ours and the peers'.

The references count the seeds that cover an element by literal loops, from what each
peer's documentation and code say. Samples: 20,000 maps of one channel for a rate, two
million elements with random mantissas for low precision.
"""

import re
from pathlib import Path

import pytest
import torch
from same_case import CHANGED, SIDES, timm_layers, torchvision_ops
from torch import Tensor, nn

from regdrop_lite import (
    DropBlock2d,
    SpatialDropout2d,
    drop_block,
    drop_block_gamma,
    drop_block_keep_prob,
)

PAGE = Path(__file__).parents[2] / "book" / "reference" / "peers.md"
MAPS = 20_000
BLOCKS = [(7, 3, 0.1), (7, 5, 0.1), (7, 7, 0.1), (14, 7, 0.1), (14, 7, 0.5)]
pytestmark = pytest.mark.filterwarnings("ignore:the weights")


def papers_gamma(size: int, block: int, p: float) -> float:
    """The formula of the paper, which torchvision and timm use."""
    return p * size**2 / block**2 / (size - block + 1) ** 2


def keep_table(peer: str, size: int, block: int, p: float) -> Tensor:
    """P(keep) for each element of a square map."""
    if peer == "torchvision":  # a seed is the first corner of a block inside the map
        seeds, reach = range(size - block + 1), range(block)
    else:  # timm: a seed anywhere is the centre of a block, cut at the border
        seeds, reach = range(size), range(-(block // 2), block - block // 2)
    covers = [sum(i - s in reach for s in seeds) for i in range(size)]
    counts = torch.tensor(covers, dtype=torch.float64)
    return (1 - papers_gamma(size, block, p)) ** (counts[:, None] * counts)


def peer_block(peer: str, p: float, block: int) -> nn.Module:
    module = torchvision_ops() if peer == "torchvision" else timm_layers()
    return module.DropBlock2d(p, block)


every_peer = pytest.mark.parametrize("peer", ["torchvision", "timm"])


# ------------------------------------------------------------------------ the rates


@pytest.mark.parametrize(("size", "block", "p"), BLOCKS)
def test_our_blocks_drop_the_share_that_was_asked_for(
    size, block, p, assert_mean
) -> None:
    dropped = drop_block(torch.ones(MAPS, 1, size, size), p, block) == 0
    shares = dropped.double().mean((1, 2, 3))
    assert_mean(shares, p, shares.var())


@every_peer
@pytest.mark.parametrize(("size", "block", "p"), BLOCKS)
def test_the_peers_drop_another_share(peer, size, block, p, assert_mean) -> None:
    dropped = peer_block(peer, p, block)(torch.ones(MAPS, 1, size, size)) == 0
    shares = dropped.double().mean((1, 2, 3))
    expected = 1 - keep_table(peer, size, block, p).mean()
    try:
        assert_mean(shares, expected, shares.var())
    except AssertionError as error:
        raise AssertionError(f"{CHANGED}: {error}") from error


def test_the_page_states_the_shares_of_the_closed_forms() -> None:
    rows = re.findall(
        r"^\| (\d+), (\d+), (0\.\d+|1) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$",
        PAGE.read_text(encoding="utf-8"),
        flags=re.M,
    )
    cases = {(int(size), int(block), float(p)) for size, block, p, *_ in rows}
    assert cases >= set(BLOCKS)
    for size, block, p, *shares in rows:
        case = int(size), int(block), float(p)
        for peer, share in zip(("torchvision", "timm"), shares, strict=False):
            assert share == f"{1 - keep_table(peer, *case).mean().item():.3f}", case
        gamma = drop_block_gamma((case[0], case[0]), *case[1:])
        ours = 1 - drop_block_keep_prob((case[0], case[0]), case[1], gamma).mean()
        assert shares[2] == f"{ours.item():.3f}", case


@every_peer
def test_p_one_drops_everything_with_ours_and_not_with_the_peers(peer) -> None:
    x = torch.ones(1_000, 1, 14, 14)
    assert not drop_block(x, 1.0, 7).any()
    share = (peer_block(peer, 1.0, 7)(x) == 0).double().mean().item()
    expected = {"torchvision": 0.549, "timm": 0.892}[peer]
    assert abs(share - expected) < 0.02, CHANGED  # over 10 sigma of the mean
    exact = 1 - keep_table(peer, 14, 7, 1.0).mean().item()
    assert abs(exact - expected) < 5e-4


def test_a_block_as_large_as_the_map_is_channel_dropout_for_torchvision_and_ours(
    assert_mean,
) -> None:
    """timm's blocks hang over the border: most maps fall in part."""
    x = torch.ones(MAPS, 1, 7, 7)
    for layer in (DropBlock2d(0.1, 7), torchvision_ops().DropBlock2d(0.1, 7)):
        shares = (layer(x) == 0).double().mean((1, 2, 3))
        assert sorted(shares.unique().tolist()) == [0.0, 1.0]
        assert_mean(shares, 0.1, 0.09)
    shares = (timm_layers().DropBlock2d(0.1, 7)(x) == 0).double().mean((1, 2, 3))
    assert ((shares > 0) & (shares < 1)).double().mean() > 0.5, CHANGED


@pytest.mark.parametrize("side", [side for side in SIDES if "block" not in side])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
def test_channels_and_paths_drop_with_probability_p_on_every_side(
    side, p, assert_mean
) -> None:
    """200,000 independent channels or samples."""
    shape = (2_000, 100, 1, 1) if "channel" in side else (200_000, 1)
    dropped = (SIDES[side](p)(torch.ones(shape)) == 0).flatten()
    assert_mean(dropped, p, p * (1 - p))


@pytest.mark.parametrize("side", [side for side in SIDES if "block" not in side])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_small_rate_is_right_in_low_precision_on_every_side(
    side, dtype, assert_mean
) -> None:
    """1,000,000 channels or samples. ``floor(keep + rand)`` would never drop."""
    shape = (10_000, 100, 1, 1) if "channel" in side else (1_000_000, 1)
    dropped = SIDES[side](0.001)(torch.ones(shape, dtype=dtype)) == 0
    assert_mean(dropped.flatten(), 0.001, 0.001 * 0.999)


def test_timm_has_one_mask_for_all_channels_and_torchvision_one_for_each() -> None:
    x = torch.ones(9, 8, 14, 14)
    for layer, same in (
        (timm_layers().DropBlock2d(0.3, 3), True),
        (DropBlock2d(0.3, 3, shared=True), True),
        (torchvision_ops().DropBlock2d(0.3, 3), False),
        (DropBlock2d(0.3, 3), False),
    ):
        kept = layer(x) != 0
        assert not kept.all()
        assert torch.equal(kept, kept[:, :1].expand_as(kept)) == same


# ------------------------------------------------------------------- the expectation


def test_the_mean_of_ours_is_the_input_at_every_place(assert_mean) -> None:
    y = drop_block(torch.ones(MAPS, 1, 14, 14, dtype=torch.float64), 0.3, 7)[:, 0]
    weight = y.amax(0)
    assert_mean(y, 1.0, weight - 1)


@every_peer
def test_the_mean_of_the_peers_is_too_large_in_the_corner(peer, assert_mean) -> None:
    """Their scale is one for the whole tensor, their keep probability is not."""
    y = peer_block(peer, 0.3, 7)(torch.ones(MAPS, 1, 14, 14))[:, 0]
    keep = keep_table(peer, 14, 7, 0.3)
    try:
        assert_mean((y != 0).flatten(1), keep.flatten(), (keep * (1 - keep)).flatten())
    except AssertionError as error:
        raise AssertionError(f"{CHANGED}: {error}") from error
    scale = (y != 0).double().mean().reciprocal()
    assert ((y == 0) | ((y / scale - 1).abs() < 1e-4)).all(), CHANGED
    mean = keep / keep.mean()
    figures = {"torchvision": (1.30, 0.52), "timm": (1.48, 0.79)}[peer]
    assert (round(mean[0, 0].item(), 2), round(mean[7, 7].item(), 2)) == figures


@every_peer
def test_the_scale_of_the_peers_depends_on_the_other_samples(peer) -> None:
    """One sample, alone and in a batch: same mask, other scale. Ours has one table."""
    x = torch.ones(64, 1, 14, 14)
    scales = [peer_block(peer, 0.3, 7)(x[:1]).max().item() for _ in range(20)]
    assert len(set(scales)) > 5, CHANGED
    tables = [drop_block(x, 0.3, 7).amax(0) for _ in range(20)]
    assert all(torch.equal(tables[0], table) for table in tables[1:])


def test_ours_can_reproduce_the_law_of_torchvision(assert_mean) -> None:
    """Ask for torchvision's own share, and for the scale of the batch."""
    for size, block, p in [*BLOCKS, (56, 7, 0.3)]:
        gamma = papers_gamma(size, block, p)
        share = 1 - drop_block_keep_prob((size, size), block, gamma).mean().item()
        solved = drop_block_gamma((size, size), block, share)
        assert solved == pytest.approx(gamma, rel=1e-12)
        expected = keep_table("torchvision", size, block, p)
        keep = drop_block_keep_prob((size, size), block, solved)
        torch.testing.assert_close(keep, expected, rtol=1e-12, atol=0)
    x = torch.ones(8, 4, 14, 14)
    ours = drop_block(x, 0.3, 7, normalize="batch")
    theirs = torchvision_ops().drop_block2d(x, 0.3, 7)
    for y in (ours, theirs):
        kept = y[y != 0]
        assert kept.unique().numel() == 1
        assert kept[0].item() == pytest.approx(y.numel() / kept.numel(), rel=1e-6)


# -------------------------------------------------------------------- low precision

LOW = [
    ("torch channel", (2_000, 1_000, 1, 1), lambda p: nn.Dropout2d(p)),
    ("torch element", (2_000, 1_000, 1, 1), lambda p: nn.Dropout(p)),
    ("torchvision path", (2_000_000, 1), SIDES["torchvision path"]),
    ("timm path", (2_000_000, 1), SIDES["timm path"]),
    (
        "torchvision block",
        (2_000, 1_000, 1, 1),
        lambda p: torchvision_ops().DropBlock2d(p, 1),
    ),
]


def kept_ratio(layer: nn.Module, shape: tuple[int, ...], p: float) -> float:
    """q * sum(y) / sum(x) over the kept elements: 1 without a systematic error."""
    g = torch.Generator().manual_seed(20261122)
    x = torch.rand(shape, generator=g).add(0.5).bfloat16()
    y = layer(x).double()
    kept = y != 0
    return ((1 - p) * y.sum() / x.double()[kept].sum()).item()


@pytest.mark.parametrize(("p", "factor"), [(0.1, 0.9984), (0.15, 1.0027)])
@pytest.mark.parametrize(("name", "shape", "build"), LOW, ids=[c[0] for c in LOW])
def test_the_peers_scale_bfloat16_by_a_rounded_weight(
    name, shape, build, p, factor
) -> None:
    """Two million elements; the rounding of single elements leaves about 1e-4."""
    rounded = torch.tensor(1 / (1 - p)).bfloat16().item() * (1 - p)
    assert abs(rounded - factor) < 5e-5
    assert abs(kept_ratio(build(p), shape, p) - factor) < 2e-4, CHANGED


@pytest.mark.parametrize("p", [0.1, 0.15])
@pytest.mark.parametrize("side", ["our channel", "our path", "our block"])
def test_ours_has_no_systematic_error_in_bfloat16(side, p) -> None:
    """The same two million elements and the same bound."""
    shape = (2_000_000, 1) if side == "our path" else (2_000, 1_000, 1, 1)
    assert abs(kept_ratio(SIDES[side](p), shape, p) - 1) < 2e-4


def test_torchvision_zeroes_a_large_float16_tensor() -> None:
    """65,504 is the largest float16: the count of kept elements becomes infinite."""
    x = torch.ones(8, 64, 32, 32, dtype=torch.float16)
    assert not torchvision_ops().DropBlock2d(0.1, 7)(x).any(), CHANGED
    small = torchvision_ops().DropBlock2d(0.1, 7)(x[:1, :32])
    assert (small != 0).double().mean() > 0.8, CHANGED
    for layer in (DropBlock2d(0.1, 7), timm_layers().DropBlock2d(0.1, 7)):
        assert (layer(x) != 0).double().mean() > 0.8


@every_peer
def test_nothing_kept_is_nan_in_float16_for_the_peers(peer) -> None:
    """Blocks as large as the map, p = 1: gamma is 1 on every side."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.ones(4, 8, 7, 7, dtype=dtype)
        y = peer_block(peer, 1.0, 7)(x)
        if dtype is torch.float16:
            assert y.isnan().all(), CHANGED
        else:
            assert not y.any(), CHANGED
        assert not drop_block(x, 1.0, 7).any()


@every_peer
def test_nothing_kept_by_chance_is_zero_for_ours(peer) -> None:
    """One map of one channel, 200 draws at p = 0.5: about half of them fall whole."""
    x = torch.ones(1, 1, 7, 7, dtype=torch.float16)
    theirs = [peer_block(peer, 0.5, 7)(x) for _ in range(200)]
    assert any(y.isnan().all() for y in theirs), CHANGED
    for normalize in ("expected", "batch"):
        ours = [drop_block(x, 0.5, 7, normalize=normalize) for _ in range(200)]
        assert any(not y.any() for y in ours)
        assert all(y.isfinite().all() for y in ours)


@pytest.mark.parametrize("side", [s for s in SIDES if "block" not in s])
def test_p_one_turns_infinity_into_nan_for_the_peers_and_into_zero_for_ours(
    side,
) -> None:
    ones = torch.ones(4, 8, 5, 5)
    assert not SIDES[side](1.0)(ones).any()
    y = SIDES[side](1.0)(ones * float("inf"))
    if side.startswith("our"):
        assert not y.any()
    else:
        assert y.isnan().all(), CHANGED


def test_p_one_has_zero_gradients_on_both_sides() -> None:
    for layer in (SpatialDropout2d(1.0), nn.Dropout2d(1.0)):
        x = torch.ones(2, 3, 4, 4, requires_grad=True)
        layer(x).sum().backward()
        assert not x.grad.any()
