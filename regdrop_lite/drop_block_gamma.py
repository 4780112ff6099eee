"""How often must a seed fall, so that DropBlock drops the share p? Solved exactly.

A seed falls with probability gamma and grows into a block; blocks overlap. The paper's
formula counts overlaps as if they did not happen, and misses. Here gamma is solved for.

Reference: Ghiasi, Lin, Le, "DropBlock: A Regularization Method for Convolutional
Networks", NeurIPS 2018 (the approximation).
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from regdrop_lite._checks import as_list, check_choice, check_probability, check_whole

BORDERS = ("valid", "clip")


def drop_block_gamma(
    size: int | Sequence[int],
    block_size: int | Sequence[int],
    p: float,
    border: str = "valid",
) -> float:
    """The seed probability at which the expected share of dropped elements is p.

    Args:
        size: the spatial size of the map, e.g. (H, W); one number means (L,).
        block_size: the side of a block; one number, or one per dimension.
        p: the wanted share, in [0, 1].
        border: "valid" or "clip", as in :func:`drop_block`.

    Returns:
        gamma, in [0, 1]. An element that c seeds can cover is kept with probability
        (1 - gamma)^c. For "clip" c is the same everywhere, so that
        gamma = 1 - (1 - p)^(1/c). For "valid" it is solved by Newton's method.

    Raises:
        TypeError: an argument is no number.
        ValueError: ``p`` is outside [0, 1], a size below 1, or ``border`` unknown.

    Example:
        >>> from regdrop_lite import drop_block_gamma
        >>> round(drop_block_gamma((14, 14), 7, 0.1), 6)
        0.006764
        >>> 0.1 / 7**2 * 14**2 / (14 - 7 + 1) ** 2  # the paper's formula: too small
        0.00625
    """
    sizes, block = _size_and_block(size, block_size)
    p = check_probability(p)
    check_choice(border, "border", BORDERS)
    if p in (0.0, 1.0):
        return p
    return -math.expm1(log_miss(sizes, block, p, border))


def drop_block_keep_prob(
    size: int | Sequence[int],
    block_size: int | Sequence[int],
    gamma: float,
    border: str = "valid",
) -> Tensor:
    """The probability of each element to be kept, for a given seed probability.

    Args:
        size: the spatial size of the map, e.g. (H, W); one number means (L,).
        block_size: the side of a block; one number, or one per dimension.
        gamma: the probability of a seed, in [0, 1].
        border: "valid" or "clip", as in :func:`drop_block`.

    Returns:
        A float64 tensor of shape ``size``.

    Raises:
        TypeError: an argument is no number.
        ValueError: ``gamma`` is outside [0, 1], a size below 1, or ``border`` unknown.

    Example:
        >>> from regdrop_lite import drop_block_gamma, drop_block_keep_prob
        >>> gamma = drop_block_gamma((5, 5), 3, 0.2)
        >>> keep = drop_block_keep_prob((5, 5), 3, gamma)
        >>> round(keep.mean().item(), 12)
        0.8
        >>> keep[0, 0] > keep[2, 2]  # the corner is kept more often than the centre
        tensor(True)
    """
    sizes, block = _size_and_block(size, block_size)
    gamma = check_probability(gamma, "gamma")
    check_choice(border, "border", BORDERS)
    table = cover_table(sizes, block, border, torch.device("cpu"))
    return (1.0 - gamma) ** table.to(torch.float64)


def check_block(block_size: int | Sequence[int], dims: int) -> list[int]:
    """``block_size`` as one checked number per spatial dimension."""
    listed = as_list(block_size)
    block = listed if isinstance(listed, list) else [listed] * dims
    if len(block) != dims:
        raise ValueError(
            f"block_size has to be one number or {dims}, one per spatial dimension, "
            f"but got {len(block)}: {tuple(block)}"
        )
    return [check_whole(k, "block_size") for k in block]


def _size_and_block(
    size: int | Sequence[int], block_size: int | Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both as checked tuples, the block no larger than the map."""
    listed = as_list(size)
    listed = listed if isinstance(listed, list) else [listed]
    sizes = tuple(check_whole(n, "size") for n in listed)
    return sizes, fitted(check_block(block_size, len(sizes)), sizes)


def fitted(block: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """A block that is larger than the map is the map."""
    return tuple(min(k, n) for k, n in zip(block, size, strict=True))


def cover_counts(size: int, block: int, border: str) -> list[int]:
    """How many seed positions cover each element, along one dimension."""
    if border == "clip":
        return [block] * size
    last = size - block  # the last position at which a block still fits
    return [min(i, last) - max(i - block + 1, 0) + 1 for i in range(size)]


def cover_table(
    size: Sequence[int], block: Sequence[int], border: str, device: torch.device
) -> Tensor:
    """How many seed positions cover each element: a product over the dimensions.

    Computed on ``device``, since a copy to it would wait for it.
    """
    table = torch.ones((), dtype=torch.int64, device=device)
    for n, k in zip(size, block, strict=True):
        i = torch.arange(n, device=device)
        if border == "clip":
            counts = torch.full_like(i, k)
        else:
            counts = i.clamp(max=n - k) - (i - k + 1).clamp(min=0) + 1
        table = table.unsqueeze(-1) * counts
    return table


@functools.lru_cache(maxsize=1024)  # numbers only: a hundred kilobytes at most
def log_miss(
    size: tuple[int, ...], block: tuple[int, ...], p: float, border: str
) -> float:
    """log(1 - gamma) at which the expected share of dropped elements is p, 0 < p < 1.

    Solves mean(1 - e^(c x)) = p for x < 0, where c runs over the cover counts. The
    left side is concave and falls in x, so Newton's method, started where Jensen's
    inequality puts it right of the root, walks left to the root without overshooting.
    ``expm1`` keeps all digits of a small p.
    """
    tally = Counter({1: 1})
    for n, k in zip(size, block, strict=True):
        counts = Counter(cover_counts(n, k, border))
        product: Counter[int] = Counter()
        for a, times_a in tally.items():
            for b, times_b in counts.items():
                product[a * b] += times_a * times_b
        tally = product
    total = math.prod(size)
    x = math.log1p(-p) * total / sum(c * times for c, times in tally.items())
    while True:
        excess = math.fsum(n * math.expm1(c * x) for c, n in tally.items()) / total + p
        slope = math.fsum(n * c * math.exp(c * x) for c, n in tally.items()) / total
        step = excess / slope
        if not x - step < x:  # rounding has the last word: no further descent
            return x
        x -= step
