"""What every side does alike: one test, all layers.

A reader who swaps one layer for another may rely on all of this.
"""

import pytest
import torch
from same_case import CHANGED, PEERS, SIDES, every_side, groups
from torch import nn

SHAPE = (6, 8, 10, 12)


def positive(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    g = torch.Generator().manual_seed(20261122)
    return torch.rand(shape, dtype=torch.float64, generator=g).add(0.5).to(dtype)


@every_side
def test_each_value_is_zero_or_the_input_times_one_scale(side) -> None:
    """All but our DropBlock have one scale for all; see the next test."""
    x = positive(*SHAPE, dtype=torch.float64)
    ratio = SIDES[side](0.3)(x) / x
    kept = ratio[ratio != 0]
    assert 0 < kept.numel() < x.numel()
    if side == "our block":  # one scale for each place in the map
        kept = ratio.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)
        largest = kept.amax(1, keepdim=True)
        assert ((kept == 0) | ((kept / largest - 1).abs() < 1e-12)).all()
    else:
        assert (kept / kept[0] - 1).abs().max() < 1e-12


@pytest.mark.parametrize("side", [side for side in SIDES if "block" not in side])
def test_channels_and_samples_fall_as_a_whole_and_are_scaled_by_one_over_q(
    side,
) -> None:
    """About 500 channels or samples: some fall, some stay."""
    x = positive(500, 1, 3, 4, dtype=torch.float64)
    for p in (0.1, 0.3, 0.7):
        rows = groups(side, SIDES[side](p)(x) / x)
        zero = (rows == 0).all(1)
        whole = ((rows * (1 - p) - 1).abs() < 1e-12).all(1)
        assert (zero | whole).all()
        assert zero.any() and whole.any()


@every_side
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_the_output_has_the_shape_and_the_dtype_of_the_input(side, dtype) -> None:
    y = SIDES[side](0.3)(positive(*SHAPE, dtype=dtype))
    assert y.shape == SHAPE
    assert y.dtype == dtype


@every_side
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)])
def test_the_strides_of_a_dense_input_are_kept(side, order) -> None:
    """(0, 2, 3, 1) is channels_last."""
    back = [order.index(i) for i in range(4)]
    x = positive(*(SHAPE[i] for i in order)).permute(back)
    assert x.shape == SHAPE
    y = SIDES[side](0.3)(x)
    assert y.stride() == x.stride()


@every_side
def test_a_slice_with_gaps_works(side) -> None:
    x = positive(6, 8, 10, 24)[..., ::2]
    y = SIDES[side](0.3)(x)
    assert y.shape == SHAPE
    assert (y == 0).any() and (y != 0).any()


@every_side
def test_an_empty_batch_works(side) -> None:
    x = torch.ones(0, 8, 10, 12)
    for p in (0.3, 1.0):
        assert SIDES[side](p)(x).shape == x.shape


@every_side
def test_eval_mode_and_p_zero_return_the_input_itself(side) -> None:
    x = positive(*SHAPE)
    assert SIDES[side](0.3).eval()(x) is x
    assert SIDES[side](0.0)(x) is x


@every_side
def test_the_gradient_is_the_mask_times_the_scale(side) -> None:
    x = positive(*SHAPE, dtype=torch.float64).requires_grad_()
    y = SIDES[side](0.3)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach(), rtol=1e-12, atol=0)


@every_side
def test_the_input_is_not_written_to_and_a_seed_repeats_the_mask(side) -> None:
    layer, x = SIDES[side](0.3), positive(*SHAPE)
    before, runs = x.clone(), []
    for _ in range(2):
        torch.manual_seed(20261122)
        runs.append(layer(x))
    assert torch.equal(x, before)
    assert torch.equal(*runs)


@every_side
def test_there_is_nothing_in_the_state_dict(side) -> None:
    """So that checkpoints of a model load after a swap, in both directions."""
    assert SIDES[side](0.3).state_dict() == {}


@every_side
def test_a_kept_infinity_stays_one_and_a_dropped_one_is_nan_for_the_peers(side) -> None:
    """Ours promise zeros for p = 1 only; at p < 1 they may give NaN or zero."""
    y = SIDES[side](0.3)(torch.full((20, 8, 9, 9), float("inf")))
    dropped = ~y.isinf()
    assert 0 < dropped.sum() < y.numel()
    if side in PEERS:
        assert y[dropped].isnan().all(), CHANGED
    else:
        assert (y[dropped].isnan() | (y[dropped] == 0)).all()


@every_side
def test_the_output_may_be_changed_in_place(side) -> None:
    """``y += x`` behind the layer, as the residual blocks of torchvision do."""
    x = positive(*SHAPE, dtype=torch.float64).requires_grad_()
    y = SIDES[side](0.3)(x * 1)
    slope = (y / x).detach()
    y += x
    y.sum().backward()
    torch.testing.assert_close(x.grad, slope + 1, rtol=1e-12, atol=0)


@every_side
def test_vmap_with_one_mask_for_all_works(side) -> None:
    if side == "our block" and not hasattr(torch.library, "register_vmap"):
        pytest.skip("a custom operator has no vmap rule before PyTorch 2.5")
    y = torch.func.vmap(SIDES[side](0.3), randomness="same")(torch.ones(3, *SHAPE))
    assert (y == 0).any()
    assert all(torch.equal(y[0] != 0, other != 0) for other in y)


@every_side
def test_autocast_leaves_the_dtype_alone(side) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert SIDES[side](0.3)(positive(*SHAPE)).dtype == torch.float32


@every_side
def test_a_layer_is_printed_by_its_name(side) -> None:
    layer = SIDES[side](0.25)
    assert repr(layer).startswith(type(layer).__name__ + "(")


def test_the_gradient_through_a_stack_of_two_layers_is_one_product() -> None:
    """A sanity check of the comparison itself: both sides in one model."""
    model = nn.Sequential(SIDES["torch channel"](0.3), SIDES["our channel"](0.3))
    x = positive(*SHAPE, dtype=torch.float64).requires_grad_()
    y = model(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach(), rtol=1e-12, atol=0)
