"""Chapter 2's sums over all masks, against sums written out in another way."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from regdrop_lite import drop_block, drop_block_gamma, spatial_dropout
from regdrop_lite.course.ensembles import (
    added_variance,
    all_masks,
    all_outputs,
    average_predictions,
    block_covariance,
    group_covariance,
    mean,
    variance,
)


def numbers(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


# --- all masks ------------------------------------------------------------------------


def test_every_mask_comes_once_with_its_probability():
    keep, probabilities = all_masks(4, p=0.3)
    assert keep.dtype == probabilities.dtype == torch.float64
    assert {tuple(row) for row in keep.tolist()} == set(
        itertools.product((0.0, 1.0), repeat=4)
    )
    for row, probability in zip(keep.tolist(), probabilities.tolist(), strict=True):
        kept = sum(row)
        assert math.isclose(probability, 0.7**kept * 0.3 ** (4 - kept))


def test_every_group_may_have_a_rate_of_its_own():
    rates = [0.0, 0.1, 0.9, 1.0]
    keep, probabilities = all_masks(4, rates)
    assert math.isclose(probabilities.sum(), 1.0)
    dropped = 1 - mean(keep, probabilities)
    assert torch.allclose(dropped, torch.tensor(rates, dtype=torch.float64))


def test_without_groups_there_is_one_empty_mask():
    keep, probabilities = all_masks(0, 0.5)
    assert keep.shape == (1, 0)
    assert probabilities.tolist() == [1.0]


@pytest.mark.parametrize(
    ("groups", "p", "words"),
    [
        (21, 0.5, "groups: expected 0 to 20, but got 21"),
        (-1, 0.5, "groups: expected 0 to 20, but got -1"),
        (3, [0.1, 0.2], "p: expected 3 probabilities, but got 2"),
        (2, [0.1, 1.2], "p has to be between 0 and 1, but got 1.2"),
    ],
)
def test_what_cannot_be_listed_is_refused(groups, p, words):
    with pytest.raises(ValueError, match=words):
        all_masks(groups, p)


def test_mean_and_variance_agree_with_many_draws(generator, assert_mean):
    u, p = torch.tensor([2.0, -1.0, 3.0]).double(), 0.3
    keep, probabilities = all_masks(3, p)
    z = keep @ u / (1 - p)
    ones = torch.ones(100_000, 3, 1, 1, dtype=torch.float64)
    drawn = spatial_dropout(ones, p, generator=generator).flatten(1) @ u
    expected = mean(z, probabilities), variance(z, probabilities)
    fourth = mean((z - expected[0]) ** 4, probabilities)
    assert_mean(drawn, *expected)
    assert_mean((drawn - expected[0]) ** 2, expected[1], fourth - expected[1] ** 2)


def test_mean_and_variance_keep_the_other_dimensions():
    _, probabilities = all_masks(3, 0.2)
    values = numbers(8, 4, 5)
    assert torch.allclose(
        mean(values, probabilities), (probabilities[:, None, None] * values).sum(0)
    )
    assert variance(values, probabilities).shape == (4, 5)
    assert torch.allclose(
        variance(values, probabilities),
        mean(values**2, probabilities) - mean(values, probabilities) ** 2,
    )


# --- small nets -----------------------------------------------------------------------


def test_outputs_of_all_masks_are_those_of_the_nets_one_by_one():
    x, p = numbers(5, 3), 0.4
    weights = [numbers(4, 3), numbers(2, 4), numbers(3, 2)]
    outputs, probabilities = all_outputs(x, weights, p, torch.tanh)
    assert outputs.shape == (2**6, 5, 3)
    keep, expected = all_masks(6, p)
    assert torch.equal(probabilities, expected)
    for row, output in zip(keep, outputs, strict=True):
        h = torch.tanh(F.linear(x, weights[0])) * row[:4] / 0.6
        h = torch.tanh(F.linear(h, weights[1])) * row[4:] / 0.6
        assert torch.allclose(output, F.linear(h, weights[2]), atol=1e-12)


def test_the_activation_is_relu_unless_another_is_given():
    x, weights = numbers(5, 3), [numbers(4, 3), numbers(2, 4)]
    outputs, _ = all_outputs(x, weights, 0.0)
    assert torch.allclose(outputs[-1], F.linear(F.relu(x @ weights[0].T), weights[1]))


# --- added variance -------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_the_covariance_of_groups_is_that_of_all_masks(p):
    groups = torch.tensor([[0, 0, 1], [2, 1, 0]])
    keep, probabilities = all_masks(3, p)
    y = keep[:, groups.flatten()] / (1 - p)
    covariance = mean(y[:, :, None] * y[:, None], probabilities) - 1
    assert torch.allclose(group_covariance(groups, p), covariance, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "block"),
    [((4, 4), 2), ((3, 5), 3), ((6,), 3), ((2, 3), 9), ((2, 2, 3), 2)],
)
@pytest.mark.parametrize("p", [0.1, 0.6])
def test_the_covariance_of_blocks_is_that_of_all_seeds(size, block, p):
    """An independent reference: seeds one by one, blocks painted by slices."""
    blocks = [min(block, n) for n in size]
    places = list(
        itertools.product(
            *[range(n - k + 1) for n, k in zip(size, blocks, strict=True)]
        )
    )
    empty, probabilities = all_masks(len(places), drop_block_gamma(size, block, p))
    masks = torch.ones(len(empty), *size, dtype=torch.float64)
    for i, place in enumerate(places):
        where = tuple(slice(a, a + k) for a, k in zip(place, blocks, strict=True))
        masks[(empty[:, i] == 0, *where)] = 0
    masks = masks.flatten(1)
    y = masks / mean(masks, probabilities)
    covariance = mean(y[:, :, None] * y[:, None], probabilities) - 1
    assert torch.allclose(block_covariance(size, block, p), covariance, atol=1e-10)


def test_blocks_of_different_channels_fall_independently():
    one = block_covariance((3, 4), 2, 0.2)
    two = block_covariance((3, 4), 2, 0.2, channels=2)
    assert torch.equal(two[:12, :12], one)
    assert torch.equal(two[12:, 12:], one)
    assert (two[:12, 12:] == 0).all()


def test_blocks_of_one_value_and_of_the_whole_map_are_groups():
    values, maps = torch.arange(2 * 12), torch.arange(2).repeat_interleave(12)
    for block, groups in ((1, values), (4, maps)):
        blocks = block_covariance((3, 4), block, 0.3, channels=2)
        assert torch.allclose(blocks, group_covariance(groups, 0.3))


def test_the_layer_adds_the_variance_of_the_quadratic_form(generator, assert_mean):
    u, p = numbers(2, 5, 6), 0.3
    expected = added_variance(u, block_covariance((5, 6), 3, p, channels=2))
    draws = u.expand(40_000, *u.shape)
    z = drop_block(draws, p, 3, generator=generator).sum(dim=(1, 2, 3))
    square = (z - u.sum()) ** 2
    assert_mean(square, expected, square.var())


def test_contributions_in_one_group_add_up_before_they_are_squared():
    u = torch.tensor([[2.0, -1.0], [3.0, 5.0]]).double()
    for groups, total in (
        ([0, 1, 2, 3], 4 + 1 + 9 + 25),
        ([0, 0, 1, 1], 1 + 64),
        ([0, 0, 0, 0], 81),
    ):
        covariance = group_covariance(torch.tensor(groups), 0.2)
        assert math.isclose(added_variance(u, covariance), 0.25 * total)


# --- averages of predictions ----------------------------------------------------------


def test_the_two_averages_are_those_of_their_definitions():
    _, weights = all_masks(3, 0.2)
    logits = numbers(8, 5, 4)
    members = logits.softmax(dim=2)
    arithmetic, geometric = average_predictions(logits, weights)
    expected = (weights[:, None, None] * members).sum(dim=0)
    assert torch.allclose(arithmetic.exp(), expected)
    products = (members ** weights[:, None, None]).prod(dim=0)
    assert torch.allclose(geometric.exp(), products / products.sum(1, keepdim=True))


def test_masks_that_cannot_come_count_nothing():
    _, weights = all_masks(2, [0.0, 0.5])
    logits = numbers(4, 3, 2)
    arithmetic, geometric = average_predictions(logits, weights)
    alone = average_predictions(logits[2:], weights[2:])
    assert torch.allclose(arithmetic, alone[0])
    assert torch.allclose(geometric, alone[1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: group_covariance(torch.arange(3), 1.0),
        lambda: block_covariance((4, 4), 2, 1.0),
        lambda: all_outputs(torch.ones(1, 1), [torch.ones(1, 1)] * 2, 1.0),
    ],
)
def test_a_rate_of_one_has_no_scale(call):
    with pytest.raises(ValueError, match="p has to be below 1"):
        call()
