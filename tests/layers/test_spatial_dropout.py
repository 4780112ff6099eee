"""SpatialDropout: the shape of the mask, its law, and PyTorch's own layers."""

import inspect
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regdrop_lite import (
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    spatial_dropout,
)

SEED = 20261122  # fixed before the first run

PAIRS = [
    (SpatialDropout1d, nn.Dropout1d, (4,)),
    (SpatialDropout2d, nn.Dropout2d, (2, 3)),
    (SpatialDropout3d, nn.Dropout3d, (2, 3, 2)),
]


def dropped_maps(output: Tensor) -> Tensor:
    """Bool (N, C); fails unless each map of positive inputs falls or stays whole."""
    zero = output.flatten(2) == 0
    assert torch.equal(zero.any(2), zero.all(2))
    return zero.all(2)


@given(
    st.lists(st.integers(1, 5), min_size=3, max_size=6),
    st.data(),
    st.floats(0.01, 0.99),
)
def test_result_is_the_input_times_one_uniform_comparison_per_channel(
    shape, data, p
) -> None:
    """For every channel dimension; the reference walks over samples and channels."""
    dim = data.draw(st.integers(1, len(shape) - 1))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()
    g = torch.Generator().manual_seed(SEED)
    u = torch.rand((shape[0], shape[dim]), dtype=torch.float64, generator=g)
    expected = torch.zeros_like(x)
    for n, c in itertools.product(range(shape[0]), range(shape[dim])):
        if u[n, c] >= p:
            kept = x[n].select(dim - 1, c) / (1.0 - p)
            expected[n].select(dim - 1, c).copy_(kept)
    for channel_dim in (dim, dim - len(shape)):
        g.manual_seed(SEED)
        y = spatial_dropout(x, p, channel_dim=channel_dim, generator=g)
        torch.testing.assert_close(y, expected, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("layer", [pair[0] for pair in PAIRS])
def test_channel_last_gets_the_mask_of_channel_first(layer) -> None:
    first = layer(0.5)
    last = layer(0.5, channel_dim=-1)
    x = torch.rand([8, 6, 4, 3, 5][: first.layout.count(",") + 1])
    torch.manual_seed(SEED)
    expected = first(x)
    torch.manual_seed(SEED)
    assert torch.equal(last(x.movedim(1, -1)), expected.movedim(1, -1))


@pytest.mark.parametrize(("ours", "theirs", "size"), PAIRS)
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_structure_and_law_are_those_of_the_dropout_of_pytorch(
    ours, theirs, size, p, generator, assert_law
) -> None:
    """Dropped maps among 6, in 20,000 samples of each: both follow Binomial(6, p)."""
    torch.manual_seed(SEED)
    x = torch.rand((20_000, 6, *size), generator=generator) + 0.5
    law = [math.comb(6, k) * p**k * (1 - p) ** (6 - k) for k in range(7)]
    for y in (ours(p)(x), theirs(p)(x)):
        dropped = dropped_maps(y)
        assert_law(dropped.sum(1).bincount(minlength=7).tolist(), law)
        kept = ~dropped.view(20_000, 6, *[1] * len(size)).expand_as(x)
        torch.testing.assert_close(y[kept], x[kept] / (1 - p))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_samples_and_channels_fall_independently(p, generator, assert_law) -> None:
    """All 16 patterns of 2 samples x 2 channels, in 20,000 calls' worth of maps."""
    y = spatial_dropout(torch.ones(40_000, 2, 3), p, generator=generator)
    pairs = dropped_maps(y).view(20_000, 4).long()
    patterns = (pairs * torch.tensor([8, 4, 2, 1])).sum(1).bincount(minlength=16)
    ones = [i.bit_count() for i in range(16)]
    assert_law(patterns.tolist(), [p**k * (1 - p) ** (4 - k) for k in ones])


@pytest.mark.parametrize("p", [1e-4, 0.05, 0.3, 0.9, 0.99])
def test_rate_is_p(p, generator) -> None:
    """1,000,000 maps, within four sigma."""
    y = spatial_dropout(torch.ones(1_000, 1_000, 1), p, generator=generator)
    dropped = dropped_maps(y).sum().item()
    assert abs(dropped - 1e6 * p) <= 4.0 * math.sqrt(1e6 * p * (1.0 - p))


@pytest.mark.parametrize("channel_dim", [0, -4, 4, -5])
def test_a_channel_dimension_that_is_none_is_told(channel_dim) -> None:
    x = torch.ones(2, 3, 4, 5)
    message = rf"channel_dim .*\(2, 3, 4, 5\).*batch.*got {channel_dim!r}"
    with pytest.raises(ValueError, match=message):
        spatial_dropout(x, channel_dim=channel_dim)
    with pytest.raises(ValueError, match=message):
        SpatialDropout2d(channel_dim=channel_dim)(x)


@pytest.mark.parametrize("wrong", [None, "last", 1.0, True])
def test_a_channel_dimension_that_is_no_whole_number_is_told(wrong) -> None:
    message = f"^channel_dim has to be a whole number, but got a {type(wrong).__name__}"
    for attempt in (
        lambda: spatial_dropout(torch.ones(2, 3, 4, 5), channel_dim=wrong),
        lambda: SpatialDropout2d(channel_dim=wrong),
    ):
        with pytest.raises(TypeError, match=message):
            attempt()


def test_maps_may_have_as_many_dimensions_as_pytorch_computes_with() -> None:
    y = spatial_dropout(torch.ones([2, 3] + [1] * 62), 0.5)
    assert set(y.flatten().tolist()) == {0.0, 2.0}
    with pytest.raises(ValueError, match="but got 65 dimensions"):
        spatial_dropout(torch.ones([2, 3] + [1] * 63), 0.5)


def test_arguments_and_defaults_are_those_of_torch_nn_functional_dropout() -> None:
    ours = inspect.signature(spatial_dropout).parameters
    theirs = inspect.signature(F.dropout).parameters
    assert list(ours)[:4] == list(theirs)
    assert [ours[k].default for k in theirs if k != "input"] == [0.5, True, False]
    assert [ours[k].kind.name for k in list(ours)[4:]] == ["KEYWORD_ONLY"] * 2


@pytest.mark.parametrize("layer", [pair[0] for pair in PAIRS])
def test_repr_shows_the_rate_and_what_differs_from_the_defaults(layer) -> None:
    name = layer.__name__
    assert repr(layer()) == f"{name}(p=0.5)"
    full = layer(0.2, inplace=True, channel_dim=-1)
    assert repr(full) == f"{name}(p=0.2, inplace=True, channel_dim=-1)"
    assert repr(layer(channel_dim=2)) == f"{name}(p=0.5, channel_dim=2)"
