"""One draw of DropBlock: which elements are kept, and what the kept are worth.

Seeds fall on a grid of first corners, and each grows into a block. On the CPU few seeds
are drawn by the gaps between them and painted; elsewhere every place of the grid is
asked and max-pooling lets the seeds grow, so that the device never waits for a number.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite._product import inverse_keep, wide
from regdrop_lite._random import sample_seeds, uniform, widest
from regdrop_lite.drop_block_gamma import cover_counts, cover_table, fitted, log_miss

_LARGE_WEIGHT = 4.0


class Blocks(NamedTuple):
    """The settings of a draw, whatever it is applied to."""

    p: float
    block_size: Sequence[int]
    border: str
    shared: bool
    normalize: str


def block_mask(
    input: Tensor, blocks: Blocks, generator: torch.Generator | None = None
) -> tuple[Tensor, float | Tensor]:
    """``keep`` (bool, one channel if shared) and ``scale`` (a number or a table)."""
    like = input[:, :1] if blocks.shared else input
    device = input.device
    if input.numel() == 0:
        return torch.empty_like(like, dtype=torch.bool), 1.0
    source = device if generator is None or input.is_meta else generator.device
    if source.type == "cpu":
        keep = torch.ones_like(like, dtype=torch.bool, device=source)
        paint(keep, draw_seeds(like.shape, blocks, generator), blocks)
        keep = keep.to(device)
    else:
        drawn = _draw_everywhere(like.shape, blocks, source, generator)
        # In the order of memory that the input has.
        keep = torch.empty_like(like, dtype=torch.bool).copy_(drawn)
    if blocks.normalize == "batch":
        return keep, batch_scale(keep)
    return keep, weights(input.shape[2:], blocks, input.dtype, device)


def draw_seeds(
    shape: Sequence[int], blocks: Blocks, generator: torch.Generator | None
) -> Tensor:
    """Indices into the flattened grid (N, C, ...) of first corners, ascending."""
    grid, _, miss = _grid(shape, blocks)
    return sample_seeds(math.prod(grid), miss, generator)


def paint(output: Tensor, seeds: Tensor, blocks: Blocks) -> Tensor:
    """Zero the blocks of ``seeds`` in ``output`` (N, C, ...), in place.

    ``output`` lies densely in memory, in any order of its dimensions.
    """
    grid, block, _ = _grid(output.shape, blocks)
    plane, inside = _divide(seeds, math.prod(grid[2:]))
    sample, channel = _divide(plane, grid[1])
    places = sample * output.stride(0) + channel * output.stride(1)
    # A block that lies inside is painted by runs along its last dimension. With "clip"
    # it may begin before the map and end beyond it: coordinates are moved to the
    # nearest one on the map, which the block covers as well.
    clip = blocks.border == "clip"
    run = 1 if clip else block[-1]
    lines = [*block[:-1], block[-1] // run]
    firsts: list[Tensor] = []
    for n in reversed(grid[2:]):
        inside, first = _divide(inside, n)
        firsts.insert(0, first)
    places = places.unsqueeze(-1)
    for first, k, line, n, stride in zip(
        firsts, block, lines, output.shape[2:], output.stride()[2:], strict=True
    ):
        place = first.unsqueeze(-1) + torch.arange(line, device=seeds.device)
        if clip:
            place = (place - (k - 1)).clamp_(0, n - 1)
        places = (places.unsqueeze(-1) + (place * stride).unsqueeze(1)).flatten(1)
    # A view whose entry i is the run that begins at place i of the memory. The runs
    # overlap, and all that is written is the same zero.
    step = output.stride(-1)
    count = output.numel() - (run - 1) * step
    output.as_strided((count, run), (1, step), 0).index_fill_(0, places.flatten(), 0)
    return output


def batch_scale(keep: Tensor) -> float | Tensor:
    """Elements / kept elements, as the paper scales. With none kept it is not used."""
    kept = torch.count_nonzero(keep).clamp(min=1)
    if keep.device.type == "cpu":
        return keep.numel() / int(kept)
    return keep.numel() / kept.to(widest(keep.device))  # no waiting for the device


def weights(
    size: Sequence[int], blocks: Blocks, dtype: torch.dtype, device: torch.device
) -> float | Tensor:
    """1 / P(keep): a number for "clip", a table of shape ``size`` for "valid".

    Nothing is kept between calls: p may change with every step.
    """
    if blocks.border == "clip":
        return inverse_keep(blocks.p, dtype)
    size, block = tuple(size), fitted(blocks.block_size, size)
    miss = log_miss(size, block, blocks.p, blocks.border)
    most = math.prod(
        max(cover_counts(n, k, blocks.border)) for n, k in zip(size, block, strict=True)
    )
    power = -miss * most
    largest = math.exp(power) if power < 700.0 else math.inf
    if largest > torch.finfo(dtype).max:
        raise ValueError(
            f"the largest weight 1/P(keep) is {largest:.3g}, too large for {dtype} "
            f"(map {size}, block {block}, p={blocks.p}): "
            "use border='clip', a smaller p or a smaller block"
        )
    if largest > _LARGE_WEIGHT:
        # No p in the text: Python shows equal warnings once, and p may ramp.
        warnings.warn(
            f"the weights 1/P(keep) exceed {_LARGE_WEIGHT:g} in the middle of the map "
            f"(map {size}, block {block}): consider border='clip', "
            "which has one weight for all elements",
            UserWarning,
            stacklevel=4,  # who called drop_block, which is decorated
        )
    table = cover_table(size, block, blocks.border, device).to(widest(device))
    return torch.exp(table * -miss).to(wide(dtype))


def _grid(
    shape: Sequence[int], blocks: Blocks
) -> tuple[list[int], tuple[int, ...], float]:
    """The places of seeds (N, C, ...), the size of blocks, log(1 - gamma).

    With "valid" a block may begin where it still fits, with "clip" up to k - 1 places
    before that and beyond.
    """
    size = tuple(shape[2:])
    block = fitted(blocks.block_size, size)
    sign = 1 if blocks.border == "clip" else -1
    places = [n + sign * (k - 1) for n, k in zip(size, block, strict=True)]
    return [*shape[:2], *places], block, log_miss(size, block, blocks.p, blocks.border)


def _divide(numbers: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder."""
    quotient = torch.div(numbers, by, rounding_mode="floor")
    return quotient, torch.sub(numbers, quotient, alpha=by)


def _draw_everywhere(
    shape: Sequence[int],
    blocks: Blocks,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """The reference: ask each place of the grid, then let the seeds grow."""
    grid, block, miss = _grid(shape, blocks)
    seeds = uniform(grid, device, generator) < -math.expm1(miss)
    maps = seeds.float().flatten(0, 1)
    # A seed is the first corner of its block in a map that is padded by a block less
    # one on each side: "clip" has places on all of that, "valid" on the map alone.
    reach = [0 if blocks.border == "clip" else k - 1 for k in block]
    maps = F.pad(maps, [r for r in reversed(reach) for _ in (0, 1)])
    max_pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(block) - 1]
    return (max_pool(maps, block, stride=1) == 0).view(*shape)
