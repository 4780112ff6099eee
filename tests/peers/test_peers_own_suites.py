"""What the peers check of their own, asked of ours.

The properties are those of torchvision's ``test/test_ops.py`` (TestStochasticDepth,
TestDropBlock), timm's ``tests/test_layers_drop.py``, PyTorch's
``test/nn/test_dropout.py`` and Keras' ``spatial_dropout_test.py``; the tests are
written anew. Their tolerances are kept where they are stricter than nothing; a rate is
also held to four sigma.
"""

import itertools

import pytest
import torch
from torch import nn

from regdrop_lite import (
    DropBlock2d,
    DropBlock3d,
    DropPath,
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    drop_block,
    drop_path,
)

# ---------------------------------------------------------------------- torchvision


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("mode", ["row", "batch"])
def test_torchvision_rows_or_batches_fall_with_probability_p(
    mode, p, assert_mean
) -> None:
    """10,000 batches of five samples."""
    layer = DropPath(p, mode=mode)
    x = torch.ones(5, 3, 4, 4)
    dropped = torch.stack([(layer(x) == 0).flatten(1).all(1) for _ in range(10_000)])
    if mode == "batch":
        assert torch.equal(dropped.any(1), dropped.all(1))
        assert_mean(dropped[:, 0], p, p * (1 - p))
    else:
        assert_mean(dropped.flatten(), p, p * (1 - p))


@pytest.mark.parametrize("p", [0, 1])
@pytest.mark.parametrize("mode", ["row", "batch"])
def test_torchvision_never_and_always(mode, p) -> None:
    x = torch.ones(5, 3, 4, 4)
    assert torch.equal(DropPath(p, mode=mode)(x), x * (1 - p))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("block", [5, 11])
@pytest.mark.parametrize("p", [0, 0.5])
@pytest.mark.parametrize(("build", "dims"), [(DropBlock2d, 2), (DropBlock3d, 3)])
@pytest.mark.filterwarnings("ignore:the weights")
def test_torchvision_a_block_of_the_maps_size_drops_all_of_it_or_nothing(
    build, dims, p, block, inplace
) -> None:
    x = torch.ones(5, 3, *[11] * dims)
    y = build(p=p, block_size=block, inplace=inplace)(x)
    assert (y is x) == (inplace or p == 0)
    kept = (y != 0).flatten(2).float().mean(2)
    if p == 0:
        assert torch.equal(y, torch.ones_like(y))
    elif block == 11:
        assert set(kept.unique().tolist()) == {0.0, 1.0}
    else:
        assert ((kept > 0) & (kept < 1)).any()


@pytest.mark.parametrize("p", [0.1, 0.2])
@pytest.mark.parametrize(("build", "dims"), [(DropBlock2d, 2), (DropBlock3d, 3)])
def test_torchvision_the_dropped_share_is_near_p(build, dims, p, assert_mean) -> None:
    """3,750 maps. torchvision allows 15 % of p, ours is held to four sigma."""
    y = build(p, 3)(torch.ones(1_250, 3, *[11] * dims))
    shares = (y == 0).double().flatten(2).mean(2).flatten()
    assert abs(shares.mean() - p) / p < 0.15
    assert_mean(shares, p, shares.var())


# ----------------------------------------------------------------------------- timm


@pytest.mark.parametrize("size", [(7, 7), (4, 8), (10, 5), (3, 3), (8, 16), (14, 7)])
@pytest.mark.parametrize("block", [2, 3, 4, 5, 6])
def test_timm_every_map_and_every_block_keeps_the_shape(size, block) -> None:
    x = torch.ones(2, 3, *size)
    for border in ("valid", "clip"):
        assert drop_block(x, 0.1, block, border=border).shape == x.shape


def test_timm_the_dropped_share_of_a_large_map_is_near_p() -> None:
    """512 maps of 56 × 56; timm allows 0.03."""
    y = drop_block(torch.ones(32, 16, 56, 56), 0.1, 7)
    assert abs((y == 0).double().mean() - 0.1) < 0.03


def test_timm_coupled_channels_share_a_mask_and_others_do_not() -> None:
    x = torch.ones(2, 4, 16, 16)
    coupled = DropBlock2d(0.3, 5, shared=True)(x) == 0
    assert coupled.any() and torch.equal(coupled, coupled[:, :1].expand_as(coupled))
    single = DropBlock2d(0.3, 5)(x) == 0
    assert not torch.equal(single[:, 0], single[:, 1])


def test_timm_scaled_values_are_above_one() -> None:
    for normalize in ("expected", "batch"):
        y = drop_block(torch.ones(2, 3, 16, 16), 0.3, 5, normalize=normalize)
        assert y[y != 0].min() > 1.0


def test_timm_block_works_in_place_and_in_training_only() -> None:
    x = torch.ones(2, 3, 8, 8)
    layer = DropBlock2d(0.5, 3, inplace=True)
    assert torch.equal(layer.eval()(x), torch.ones_like(x))
    assert layer.train()(x) is x
    assert (x == 0).any()


def test_timm_paths_are_scaled_by_one_over_keep_or_not_at_all() -> None:
    x = torch.ones(100, 8, 4, 4)
    for scaled, expected in ((True, 1.25), (False, 1.0)):
        y = drop_path(x, 0.2, scale_by_keep=scaled)
        kept = y[y != 0]
        assert 0 < kept.numel() < y.numel()
        assert (kept - expected).abs().max() < 1e-6


def test_timm_paths_drop_in_training_only_and_print_their_rate() -> None:
    layer, x = DropPath(0.123), torch.ones(200, 8, 4, 4)
    assert torch.equal(layer.eval()(x), x)
    assert (layer.train()(x) == 0).any()
    assert "0.123" in repr(layer)


# -------------------------------------------------------------------------- PyTorch

CHANNELS = [
    (SpatialDropout1d, (1_000, 12, 11)),
    (SpatialDropout2d, (1_000, 12, 3, 4)),
    (SpatialDropout3d, (1_000, 12, 2, 3, 4)),
]
every_rank = pytest.mark.parametrize(("build", "shape"), CHANNELS)


@every_rank
def test_pytorch_refuses_probabilities_outside_0_and_1(build, shape) -> None:
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            build(p)


@every_rank
@pytest.mark.parametrize("inplace", [False, True])
def test_pytorch_the_mean_and_the_gradient_stay_and_eval_changes_nothing(
    build, shape, inplace, assert_mean
) -> None:
    """12,000 channels of 0.8 at p = 0.2; PyTorch allows 0.05."""
    p = 0.2
    x = torch.full(shape, 1 - p, dtype=torch.float64, requires_grad=True)
    layer = build(p, inplace=inplace)
    y = layer(x + 0)
    y.backward(torch.full_like(x, 1 - p))
    for values in (y.detach(), x.grad):
        channels = values.flatten(2)[..., 0].flatten()
        assert abs(values.mean() - (1 - p)) < 0.05
        assert_mean(channels, 1 - p, (1 - p) * p)
    assert torch.equal(layer.eval()(x), x)
    assert str(layer) == repr(layer)


@every_rank
@pytest.mark.parametrize("inplace", [False, True])
def test_pytorch_channels_fall_as_a_whole(build, shape, inplace) -> None:
    kept = (
        (build(0.5, inplace=inplace)(torch.ones(shape)) != 0).flatten(2).float().mean(2)
    )
    assert set(kept.unique().tolist()) == {0.0, 1.0}


def test_pytorch_memory_formats_are_kept_forward_and_backward() -> None:
    formats = (
        (SpatialDropout2d, torch.contiguous_format, (9, 8, 4, 5)),
        (SpatialDropout2d, torch.channels_last, (9, 8, 4, 5)),
        (SpatialDropout3d, torch.channels_last_3d, (9, 8, 4, 5, 6)),
    )
    for build, memory_format, shape in formats:
        x = torch.ones(shape).contiguous(memory_format=memory_format).requires_grad_()
        y = build(0.2)(x)
        y.backward(torch.ones_like(y))
        assert y.is_contiguous(memory_format=memory_format)
        assert x.grad.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last]
)
@pytest.mark.parametrize("p", [0, 1e-10])
def test_pytorch_a_tiny_p_keeps_every_value_of_a_tensor_with_gaps(
    p, memory_format
) -> None:
    gaps = torch.empty(2, 3, 3, 6, memory_format=memory_format)[..., ::2].fill_(1)
    y = SpatialDropout2d(p)(gaps)
    assert torch.equal(y, gaps)
    if p != 0:
        assert y.is_contiguous(memory_format=memory_format)


def test_pytorch_permuted_and_shifted_inputs_get_the_strides_of_nn_dropout2d() -> None:
    x = torch.ones(3, 3, 4, 5)
    for order in itertools.permutations(range(4)):
        back = [order.index(i) for i in range(4)]
        permuted = x.permute(order).contiguous().permute(back)
        for rows, columns in itertools.product((0, 1), repeat=2):
            shifted = permuted[rows:, columns:]
            ours = SpatialDropout2d(0.5)(shifted)
            assert ours.stride() == nn.Dropout2d(0.5)(shifted).stride()
            assert torch.equal(SpatialDropout2d(1e-10)(shifted), shifted)


# ---------------------------------------------------------------------------- Keras


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (SpatialDropout1d, (10, 3, 10)),
        (SpatialDropout2d, (10, 3, 3, 10)),
        (SpatialDropout3d, (10, 3, 3, 3, 10)),
    ],
)
def test_keras_channel_last_two_places_of_a_sample_drop_the_same_channels(
    build, shape
) -> None:
    x = torch.ones(shape)
    layer = build(0.5, channel_dim=-1)
    places = layer(x).flatten(1, -2)  # (N, places, C)
    assert torch.equal(places[:, 0], places[:, 1])
    assert torch.equal(places, places[:, :1].expand_as(places))
    assert set(places.unique().tolist()) == {0.0, 2.0}
    assert layer.eval()(x) is x


def test_keras_channel_first_is_the_default_of_ours() -> None:
    y = SpatialDropout2d(0.5)(torch.ones(10, 10, 3, 3))
    assert torch.equal(y[:, :, 0, 0], y[:, :, 1, 1])
    assert set(y.unique().tolist()) == {0.0, 2.0}
