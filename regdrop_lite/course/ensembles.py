"""What chapter 2 counts out: all masks of a small net, and the noise that masks add.

A net with n droppable groups has 2^n masks. For small n all of them can be listed, each
with its probability, and an expectation is a finite sum: no sampling, no error bars.

The functions share their words:

* ``keep`` holds masks, one in each row: 1 for a kept group and 0 for a dropped one;
* ``probabilities`` belong to the rows and sum to 1;
* ``p`` is the probability to drop. What is kept is scaled by 1 / (1 - p).

Example:
    >>> keep, probabilities = all_masks(2, p=0.25)
    >>> z = keep @ torch.tensor([3.0, 1.0], dtype=torch.float64) / 0.75
    >>> f"{mean(z, probabilities).item():.3f}"  # the mean is kept: 3 + 1
    '4.000'
    >>> f"{variance(z, probabilities).item():.3f}"  # p/q * (3^2 + 1^2)
    '3.333'
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regdrop_lite import drop_block_gamma
from regdrop_lite._checks import check_probability

__all__ = [
    "added_variance",
    "all_masks",
    "all_outputs",
    "average_predictions",
    "block_covariance",
    "group_covariance",
    "mean",
    "variance",
]

_MOST_GROUPS = 20  # a million masks


# --- all masks ------------------------------------------------------------------------


def all_masks(groups: int, p: float | Sequence[float]) -> tuple[Tensor, Tensor]:
    """List every mask of some groups that fall independently, with its probability.

    Args:
        groups: how many there are, n, from 0 to 20.
        p: the probability that a group is dropped, or one for each group.

    Returns:
        ``keep``, float64, shape (2^n, n), and its ``probabilities``, shape (2^n,). The
        first mask keeps nothing and the last one everything.

    Raises:
        TypeError: if a probability is no number.
        ValueError: if there are too many groups, a probability is not from 0 to 1, or
            their number does not fit.

    Example:
        >>> keep, probabilities = all_masks(2, p=0.25)
        >>> keep.int().tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
        >>> probabilities.tolist()
        [0.0625, 0.1875, 0.1875, 0.5625]
    """
    if not 0 <= groups <= _MOST_GROUPS:
        raise ValueError(f"groups: expected 0 to {_MOST_GROUPS}, but got {groups}")
    rates = list(p) if isinstance(p, Sequence) else [p] * groups
    if len(rates) != groups:
        raise ValueError(f"p: expected {groups} probabilities, but got {len(rates)}")
    drop = torch.tensor([check_probability(r) for r in rates], dtype=torch.float64)
    digit = torch.arange(groups).flip(0)  # mask number i, in binary, from the left
    keep = (torch.arange(2**groups)[:, None] >> digit & 1).double()
    return keep, torch.where(keep == 1, 1 - drop, drop).prod(dim=1)


def all_outputs(
    x: Tensor,
    weights: Sequence[Tensor],
    p: float,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> tuple[Tensor, Tensor]:
    """Compute what a small net without biases puts out, for every one of its masks.

    Each hidden unit, after its activation, is dropped with probability p and otherwise
    scaled by 1 / (1 - p). Input and output units stay.

    Args:
        x: the inputs, float64, shape (N, features).
        weights: the matrices (units, units before) of the layers, from first to last.
        p: the probability to drop a hidden unit, below 1.
        activation: of the hidden units.

    Returns:
        Outputs of shape (2^n, N, K) for n hidden units, and their ``probabilities``.

    Raises:
        ValueError: if p is not from 0 to 1, or 1, or there are too many hidden units.

    Example:
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> weights = [torch.ones(2, 1).double(), torch.ones(1, 2).double()]
        >>> outputs, _ = all_outputs(x, weights, p=0.5)
        >>> outputs.flatten().tolist()  # none of two units, the second, the first, both
        [0.0, 2.0, 2.0, 4.0]
    """
    scale = 1 / (1 - _check_below_one(p))
    widths = [len(weight) for weight in weights[:-1]]
    keep, probabilities = all_masks(sum(widths), p)
    keep = keep.to(x)
    hidden = x.expand(len(keep), *x.shape)
    for weight, mask in zip(weights, keep.split(widths, dim=1), strict=False):
        hidden = activation(hidden @ weight.T) * mask[:, None] * scale
    return hidden @ weights[-1].T, probabilities


def mean(values: Tensor, probabilities: Tensor) -> Tensor:
    """Average values over all masks: the sum of probability times value.

    Args:
        values: shape (masks, ...), one entry for each mask.
        probabilities: shape (masks,).
    """
    average: Tensor = torch.tensordot(probabilities.to(values), values, dims=1)
    return average


def variance(values: Tensor, probabilities: Tensor) -> Tensor:
    """Give the variance of values over all masks; arguments as in :func:`mean`."""
    return mean((values - mean(values, probabilities)) ** 2, probabilities)


# --- the noise that masks add ---------------------------------------------------------


def group_covariance(groups: Tensor, p: float) -> Tensor:
    """Give the covariance of ``mask / q`` where whole groups fall independently.

    It is p / q for two values of one group and 0 for two values of different groups.

    Args:
        groups: the group of each value, any integers; the shape does not matter.
        p: the probability that a group is dropped, below 1.

    Returns:
        K, float64, shape (n, n) for n values.

    Raises:
        ValueError: if p is not from 0 to 1, or 1.

    Example:
        >>> group_covariance(torch.tensor([0, 0, 1]), p=0.5)
        tensor([[1., 1., 0.],
                [1., 1., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    p = _check_below_one(p)
    groups = groups.flatten()
    return (groups[:, None] == groups).double() * (p / (1 - p))


def block_covariance(
    size: Sequence[int], block_size: int, p: float, channels: int = 1
) -> Tensor:
    """Give the covariance of ``mask / P(keep)`` under DropBlock, for blocks inside.

    It is (1 - gamma)^(-s) - 1 for two values of a channel that s places of a block
    cover both, and 0 for two values of different channels. Border "valid",
    normalisation "expected" and a mask per channel are assumed, the defaults of
    :func:`~regdrop_lite.drop_block`.

    Args:
        size: of a map, for example (H, W).
        block_size: the side of a block; larger than the map means the map.
        p: the expected share of dropped values, below 1.
        channels: the number of channels.

    Returns:
        K, float64, shape (n, n) for n = channels * H * W values.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> block_covariance((3,), 2, p=0.5)  # the middle is covered by both blocks
        tensor([[0.7208, 0.7208, 0.0000],
                [0.7208, 1.9610, 0.7208],
                [0.0000, 0.7208, 0.7208]], dtype=torch.float64)
    """
    gamma = drop_block_gamma(size, block_size, _check_below_one(p))
    together = torch.ones(1, 1, dtype=torch.float64)  # s, the places that cover both
    for length in size:
        block = min(block_size, length)
        place = torch.arange(length - block + 1)[:, None]
        value = torch.arange(length)
        covers = ((place <= value) & (value < place + block)).double()
        together = torch.kron(together, covers.T @ covers)
    one = (1 - gamma) ** -together - 1
    covariance: Tensor = torch.block_diag(*[one] * channels)
    return covariance


def added_variance(contributions: Tensor, covariance: Tensor) -> Tensor:
    """Give the variance that masks add to a sum, given the input.

    The sum is ``z = sum_i u_i * mask_i / P(keep i)``. Its variance is the quadratic
    form ``sum_ij K_ij u_i u_j``.

    Args:
        contributions: u, what each value adds to the sum when nothing falls; its shape
            does not matter.
        covariance: K, of :func:`group_covariance` or :func:`block_covariance`.

    Raises:
        RuntimeError: if the sizes do not fit.

    Example:
        >>> u = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)
        >>> added_variance(u, group_covariance(torch.tensor([0, 0, 1]), p=0.5))
        tensor(10., dtype=torch.float64)
    """
    u = contributions.flatten()
    return u @ covariance @ u


# --- averages of predictions ----------------------------------------------------------


def average_predictions(logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Average the predicted distributions of all masks, in two ways.

    Args:
        logits: shape (masks, N, K), one column for each class.
        probabilities: shape (masks,).

    Returns:
        The log-probabilities, shape (N, K), of the arithmetic mean and of the geometric
        mean, which is normalised to sum 1 over the classes. Both weight a mask by its
        probability.

    Source: Baldi and Sadowski 2013, Understanding dropout.

    Example:
        >>> logits = torch.tensor([[[0.0, 4.0]], [[0.0, 0.0]]]).double()
        >>> half = torch.tensor([0.5, 0.5]).double()
        >>> arithmetic, geometric = average_predictions(logits, half)
        >>> [f"{x:.3f}" for x in geometric.exp()[0]]  # softmax of the mean logits, 0, 2
        ['0.119', '0.881']
    """
    members = logits.log_softmax(dim=2)
    weights = probabilities.to(logits).log()[:, None, None]
    arithmetic = (members + weights).logsumexp(dim=0)
    geometric = mean(members, probabilities).log_softmax(dim=1)
    return arithmetic, geometric


def _check_below_one(p: float) -> float:
    if check_probability(p) == 1:
        raise ValueError("p has to be below 1: with nothing kept there is no scale")
    return float(p)
