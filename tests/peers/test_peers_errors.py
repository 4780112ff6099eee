"""What each side accepts. A wrong argument should be refused, and early."""

import warnings

import pytest
import torch
from same_case import (
    CHANGED,
    OURS,
    PEERS,
    our_side,
    peer_raises,
    peer_side,
    set_p,
    timm_layers,
    torchvision_ops,
)
from torch import nn

from regdrop_lite import (
    DropBlock2d,
    DropBlock3d,
    DropPath,
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    drop_block,
)

NAN = float("nan")
X = torch.ones(4, 8, 14, 14)


# ------------------------------------------------------------- the drop probability


@our_side
@pytest.mark.parametrize("p", [1.5, -0.1, NAN])
def test_ours_refuses_a_bad_probability_at_construction_and_when_it_is_set(
    side, p
) -> None:
    with pytest.raises(ValueError, match="p has to be between 0 and 1, but got"):
        OURS[side](p)
    layer = OURS[side](0.5)
    with pytest.raises(ValueError, match="p has to be between 0 and 1, but got"):
        layer.p = p
    assert layer.p == 0.5


@our_side
@pytest.mark.parametrize("p", [True, "0.1", None])
def test_ours_refuses_what_is_no_number(side, p) -> None:
    with pytest.raises(TypeError, match="p has to be a number between 0 and 1"):
        OURS[side](p)


@peer_side
@pytest.mark.parametrize("p", [1.5, -0.1])
def test_only_torch_refuses_a_bad_probability_at_construction(side, p) -> None:
    if side == "torch channel":
        with peer_raises(ValueError, "has to be between 0 and 1"):
            PEERS[side](p)
    else:
        PEERS[side](p)  # raises if the peer has changed


@pytest.mark.parametrize("p", [1.5, -0.1])
@pytest.mark.parametrize("side", ["torchvision path", "torchvision block"])
def test_torchvision_refuses_a_bad_probability_at_the_call(side, p) -> None:
    with peer_raises(ValueError, "drop probability has to be between 0 and 1"):
        PEERS[side](p)(X)


def test_timm_refuses_a_bad_probability_by_an_error_about_the_wrong_number() -> None:
    with peer_raises(RuntimeError, "expects p to be in [0, 1], but got p=-0.5"):
        PEERS["timm path"](1.5)(X)
    with peer_raises(RuntimeError, "expects p to be in [0, 1]"):
        PEERS["timm block"](-0.1)(X)


def test_timm_block_runs_with_a_probability_above_one() -> None:
    """p = 1.5 is a gamma of 0.23 here: something is dropped, nothing is said."""
    y = timm_layers().DropBlock2d(1.5, 3)(X)
    assert (y == 0).any() and (y != 0).any(), CHANGED


@peer_side
def test_peers_take_nan_and_fail_at_the_first_call_or_training_step(side) -> None:
    layer = PEERS[side](NAN)
    if side == "torch channel":
        with peer_raises(RuntimeError, "between 0 and 1, but got nan"):
            layer.eval()(X)
    else:
        assert layer.eval()(X) is X, CHANGED
    with peer_raises(RuntimeError, "nan"):
        layer.train()(X)


@peer_side
def test_peers_take_true_for_one(side) -> None:
    runs = []
    for p in (True, 1.0):
        torch.manual_seed(20261122)
        runs.append(PEERS[side](p)(X))
    assert torch.equal(*runs) and (runs[0] == 0).any(), CHANGED


# --------------------------------------------------------------------- the input


@our_side
def test_ours_refuses_whole_numbers(side) -> None:
    with pytest.raises(TypeError, match=r"floating-point tensor, but got torch\.int64"):
        OURS[side](0.5)(X.long())


@pytest.mark.parametrize("side", ["torch channel", "torchvision path", "timm path"])
def test_torch_and_the_paths_fail_late_on_whole_numbers(side) -> None:
    layer = PEERS[side](0.5)
    with peer_raises(RuntimeError, "can't be cast to the desired output type Long"):
        layer(X.long())
    set_p(layer, 1.0)
    assert layer(X.long()).dtype == torch.int64, CHANGED


def test_torchvision_block_turns_whole_numbers_into_float32() -> None:
    y = torchvision_ops().DropBlock2d(0.3, 3)(X.long())
    assert y.dtype == torch.float32, CHANGED


def test_timm_block_forgets_the_scale_for_whole_numbers() -> None:
    """The scale, about 1.4, is cast to int64 and becomes 1."""
    y = timm_layers().DropBlock2d(0.3, 3)(X.long())
    assert y.dtype == torch.float32, CHANGED
    assert y.unique().tolist() == [0.0, 1.0], CHANGED


@pytest.mark.parametrize("dims", [1, 2, 3, 5, 6])
def test_every_block_refuses_a_wrong_rank_but_timm_does_not_say_why(dims) -> None:
    x = torch.ones([4] * dims)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), but got \d dimensions"):
        DropBlock2d(0.3, 3)(x)
    with peer_raises(ValueError, "input should be 4 dimensional. Got"):
        torchvision_ops().DropBlock2d(0.3, 3)(x)
    with peer_raises(ValueError, "values to unpack"):
        timm_layers().DropBlock2d(0.3, 3)(x)


def test_both_block_3d_refuse_an_unbatched_volume() -> None:
    x = torch.ones(8, 6, 6, 6)
    with pytest.raises(ValueError, match="but got 4 dimensions"):
        DropBlock3d(0.3, 3)(x)
    with peer_raises(ValueError, "input should be 5 dimensional"):
        torchvision_ops().DropBlock3d(0.3, 3)(x)


@pytest.mark.parametrize("side", ["torchvision path", "timm path"])
def test_a_number_has_no_batch_and_only_ours_says_so(side) -> None:
    with pytest.raises(ValueError, match="but got 0 dimensions"):
        DropPath(0.5)(torch.tensor(1.0))
    with peer_raises(IndexError, "tuple index out of range"):
        PEERS[side](0.5)(torch.tensor(1.0))


@pytest.mark.parametrize("dims", [2, 5, 6])
def test_dropout2d_only_warns_about_a_wrong_rank(dims) -> None:
    """The warning comes at every call, unless a filter hides the repetitions."""
    x = torch.ones([4] * dims)
    with pytest.warns(UserWarning, match="to dropout2d, which is deprecated"):
        assert nn.Dropout2d(0.5)(x).shape == x.shape, CHANGED
    with pytest.raises(ValueError, match=rf"\(N, C, H, W\), but got {dims} dimensions"):
        SpatialDropout2d(0.5)(x)


def test_dropout2d_drops_rows_of_an_unbatched_image() -> None:
    """(C, H, W) is read as (N, C, L): here 60 rows fall one by one."""
    x = torch.ones(20, 3, 7)  # meant as 20 channels
    with pytest.warns(UserWarning, match="assuming that channel-wise 1D dropout"):
        y = nn.Dropout2d(0.5)(x)
    rows = (y != 0).float().mean(2)
    assert ((rows == 0) | (rows == 1)).all(), CHANGED
    channels = rows.mean(1)
    assert ((channels > 0) & (channels < 1)).any(), CHANGED
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), but got 3 dimensions"):
        SpatialDropout2d(0.5)(x)


def test_dropout1d_and_dropout3d_take_one_sample_without_a_batch_as_documented() -> (
    None
):
    """Whole channels fall. Ours wants a batch: ``x[None]``."""
    for theirs, ours, shape in (
        (nn.Dropout1d, SpatialDropout1d, (200, 5)),
        (nn.Dropout3d, SpatialDropout3d, (200, 2, 3, 4)),
    ):
        x = torch.ones(shape)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kept = (theirs(0.5)(x) != 0).flatten(1).float().mean(1)
        assert sorted(kept.unique().tolist()) == [0.0, 1.0], CHANGED
        with pytest.raises(ValueError, match="expected an input of shape"):
            ours(0.5)(x)
        kept = (ours(0.5)(x[None])[0] != 0).flatten(1).float().mean(1)
        assert sorted(kept.unique().tolist()) == [0.0, 1.0]


def test_dropout1d_refuses_a_wrong_rank_as_ours_does() -> None:
    for dims in (1, 4):
        with peer_raises(RuntimeError, "Expected 2D or 3D input"):
            nn.Dropout1d(0.5)(torch.ones([4] * dims))
        with pytest.raises(ValueError, match=r"shape \(N, C, L\), but got"):
            SpatialDropout1d(0.5)(torch.ones([4] * dims))


def test_an_unknown_mode_is_refused_by_ours_at_construction() -> None:
    with pytest.raises(ValueError, match="one of 'row', 'batch', but got 'rows'"):
        DropPath(0.5, mode="rows")
    layer = torchvision_ops().StochasticDepth(0.5, "rows")
    with peer_raises(ValueError, "mode has to be either 'batch' or 'row'"):
        layer(X)


# ---------------------------------------------------------------------- the block


@pytest.mark.parametrize(
    ("block", "size"), [(2, (14, 14)), (7, (6, 6)), (5, (4, 8)), (6, (9, 12))]
)
def test_torchvision_refuses_even_blocks_also_those_it_cut_itself(block, size) -> None:
    """A block of 7 on a 6 × 6 map is cut to 6, and 6 is even."""
    x = torch.ones(4, 8, *size)
    with peer_raises(ValueError, "block size should be odd. Got"):
        torchvision_ops().DropBlock2d(0.1, block)(x)


@pytest.mark.parametrize(
    ("block", "size"), [(2, (14, 14)), (7, (6, 6)), (5, (4, 8)), (6, (9, 12))]
)
def test_ours_and_timm_take_even_blocks_and_blocks_larger_than_the_map(
    block, size
) -> None:
    x = torch.ones(200, 8, *size)
    for layer in (DropBlock2d(0.1, block), timm_layers().DropBlock2d(0.1, block)):
        y = layer(x)
        assert y.shape == x.shape
        assert (y == 0).any() and (y != 0).any()


def test_an_even_block_of_ours_has_that_size() -> None:
    """On a 2 × 3 map two blocks of 2 fit: columns 0 and 1, or 1 and 2."""
    kept = drop_block(torch.ones(500, 1, 2, 3), 0.5, 2)[:, 0] != 0
    assert torch.equal(kept[:, 0], kept[:, 1])
    patterns = {tuple(row) for row in kept[:, 0].int().tolist()}
    assert patterns == {(1, 1, 1), (0, 0, 1), (1, 0, 0), (0, 0, 0)}


@pytest.mark.parametrize("size", [(8, 15), (15, 8), (3, 30)])
def test_every_block_takes_maps_that_are_not_square(size) -> None:
    x = torch.ones(50, 4, *size)
    for layer in (
        DropBlock2d(0.2, 3),
        torchvision_ops().DropBlock2d(0.2, 3),
        timm_layers().DropBlock2d(0.2, 3),
    ):
        y = layer(x)
        assert y.shape == x.shape
        assert (y == 0).any() and (y != 0).any()


def test_only_ours_takes_blocks_that_are_not_square() -> None:
    """On a 3 × 9 map a block of (3, 1) is a column: it falls as a whole."""
    x = torch.ones(100, 4, 3, 9)
    columns = (DropBlock2d(0.2, (3, 1))(x) != 0).float().mean(2)
    assert sorted(columns.unique().tolist()) == [0.0, 1.0]
    for module in (torchvision_ops(), timm_layers()):
        with peer_raises(TypeError, "not supported between instances of"):
            module.DropBlock2d(0.2, (3, 1))(x)


@pytest.mark.parametrize("block", [0, -1])
def test_ours_refuses_a_block_below_one_at_construction(block) -> None:
    with pytest.raises(ValueError, match="block_size has to be at least 1, but got"):
        DropBlock2d(0.1, block)
    for module in (torchvision_ops(), timm_layers()):
        module.DropBlock2d(0.1, block)  # raises if the peer has changed


def test_the_errors_of_the_peers_about_a_block_below_one() -> None:
    with peer_raises(ValueError, "block size should be odd. Got 0 which is even"):
        torchvision_ops().DropBlock2d(0.1, 0)(X)
    with peer_raises(ZeroDivisionError, "division by zero"):
        timm_layers().DropBlock2d(0.1, 0)(X)
    for module in (torchvision_ops(), timm_layers()):
        with peer_raises(RuntimeError, "pad must be non-negative"):
            module.DropBlock2d(0.1, -1)(X)


def test_ours_warns_where_its_weights_grow_and_peers_have_no_such_weights() -> None:
    x = torch.ones(50, 8, 13, 13)
    with pytest.warns(UserWarning, match=r"the weights 1/P\(keep\) exceed 4"):
        ours = drop_block(x, 0.5, 7)
    assert ours.max() > 4
    for module in (torchvision_ops(), timm_layers()):
        y = module.DropBlock2d(0.5, 7)(x)
        assert y.max() < 4, CHANGED
    assert drop_block(x, 0.5, 7, border="clip").max() == 2
