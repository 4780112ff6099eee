"""DropBlock: drop square regions of feature maps.

A mask is made in three steps: seeds fall on a grid with probability gamma, each seed
grows into a block, and blocks may overlap. The only hard question is which gamma drops
the wanted share p. The paper's formula counts overlaps as if they did not happen and
misses; here gamma is solved for, so that the expected share is exactly p.

Reference: Ghiasi, Lin, Le, "DropBlock: A Regularization Method for Convolutional
Networks", NeurIPS 2018.
"""

import functools
import math
import numbers
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite._common import (
    DropLayer,
    apply_mask,
    check_choice,
    check_generator,
    check_input,
    check_probability,
    drop_all,
    inside_vmap,
    uniform,
)

_BORDERS = ("valid", "clip")
_NORMALIZE = ("expected", "batch")
_LARGE_WEIGHT = 4.0


def drop_block(
    input: Tensor,
    p: float,
    block_size: int | Sequence[int],
    training: bool = True,
    inplace: bool = False,
    *,
    border: str = "valid",
    shared: bool = False,
    normalize: str = "expected",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Zero blocks of each map, scale the rest so that the expectation is the input.

    Args:
        input: a batch of feature maps: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        p: the expected share of dropped elements, in [0, 1].
        block_size: the side of a block, in elements; one number, or one per spatial
            dimension. Even sizes are allowed. Larger than the map means the map.
        training: ``False`` returns ``input`` itself.
        inplace: write the result into ``input``.
        border: "valid" keeps every block inside the map, as the paper does; elements
            near the border are then dropped less often. "clip" lets blocks hang over
            the border; every element is then dropped with probability exactly p.
        shared: one mask for all channels of a sample, instead of one per channel.
        normalize: "expected" divides each element by its own probability of being
            kept. "batch" scales everything by (elements / kept elements) of this very
            mask, as the paper does; the expectation of single elements is then not
            their input.
        generator: the source of the mask; by default PyTorch's global generator.

    Returns:
        A tensor like ``input``. With ``training=False`` or p = 0 it is ``input``
        itself; with p = 1 it is all zeros.

    Raises:
        TypeError: ``p`` is no number, ``block_size`` no whole number, or ``input`` no
            floating-point tensor.
        ValueError: ``p`` is outside [0, 1], ``block_size`` below 1 or of the wrong
            length, ``border`` or ``normalize`` unknown, ``input`` of the wrong rank,
            or a weight too large for the dtype of ``input``.
        RuntimeError: an explicit generator under compile, export, vmap or activation
            checkpointing.

    Warns:
        UserWarning: with "valid" and "expected" the weights 1 / P(keep) grow in the
            middle of the map; above 4 you are told once. "clip" has no such weights.

    Example:
        >>> import torch
        >>> from regdrop_lite import drop_block
        >>> x = torch.ones(1, 1, 4, 6)  # (N, C, H, W)
        >>> g = torch.Generator().manual_seed(5)
        >>> y = drop_block(x, p=0.25, block_size=2, generator=g)
        >>> for row in (y[0, 0] > 0).int().tolist():
        ...     print(row)
        [1, 1, 1, 1, 1, 1]
        [1, 1, 1, 0, 0, 1]
        [1, 0, 0, 0, 0, 1]
        [1, 0, 0, 1, 1, 1]
    """
    p = check_probability(p)
    check_choice(border, "border", _BORDERS)
    check_choice(normalize, "normalize", _NORMALIZE)
    check_input(input, 3, 5, "(N, C, L), (N, C, H, W) or (N, C, D, H, W)")
    block = _block(block_size, input.dim() - 2)
    if not training or p == 0.0:
        return input
    check_generator(generator)
    if p == 1.0:
        return drop_all(input, inplace)
    like = input.detach()
    if generator is None:
        # An operator of its own: the number of seeds is random, so compile, export and
        # vmap cannot look inside, and need not.
        if not torch.compiler.is_compiling() and inside_vmap():
            like = _random_for_vmap(like)
        keep, scale = torch.ops.regdrop_lite.block_mask(
            like, p, block, border, shared, normalize
        )
    else:
        keep, scale = _block_mask(like, p, block, border, shared, normalize, generator)
    return apply_mask(input, keep, scale, inplace)


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
    size, block = _size_and_block(size, block_size)
    p = check_probability(p)
    check_choice(border, "border", _BORDERS)
    if p in (0.0, 1.0):
        return p
    return -math.expm1(_log_miss(size, block, p, border))


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
    size, block = _size_and_block(size, block_size)
    gamma = check_probability(gamma, "gamma")
    check_choice(border, "border", _BORDERS)
    return (1.0 - gamma) ** _cover_table(size, block, border)


# ------------------------------------------------------------------ gamma, exactly


def _cover_counts(size: int, block: int, border: str) -> list[int]:
    """How many seed positions cover each element, along one dimension."""
    if border == "clip":
        return [block] * size
    last = size - block  # the last position at which a block still fits
    return [min(i, last) - max(i - block + 1, 0) + 1 for i in range(size)]


def _cover_table(size: Sequence[int], block: Sequence[int], border: str) -> Tensor:
    """How many seed positions cover each element: a product over the dimensions."""
    table = torch.ones((), dtype=torch.float64)
    for n, k in zip(size, block, strict=True):
        counts = torch.tensor(_cover_counts(n, k, border), dtype=torch.float64)
        table = table.unsqueeze(-1) * counts
    return table


@functools.lru_cache(maxsize=1024)
def _log_miss(
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
        counts = Counter(_cover_counts(n, k, border))
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


# --------------------------------------------------------------------- the sampler


def sample_seeds(
    count: int,
    log_miss: float,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """Which of ``count`` independent trials succeed: their indices, ascending.

    A trial fails with probability e^log_miss. Seeds are rare, so it is cheaper to draw
    the distance to the next one than to ask every position: the number of failures
    before a success is floor(log(u) / log_miss) for a uniform u in (0, 1].
    """
    expected = count * -math.expm1(log_miss)
    draws = math.ceil(expected + 6.0 * math.sqrt(expected)) + 8
    last = -1.0
    found = []
    while last < count - 1:  # nearly always once
        u = 1.0 - uniform((draws,), device, generator)
        failures = torch.floor(torch.log(u) / log_miss)
        positions = last + torch.cumsum(failures + 1.0, dim=0)
        found.append(positions)
        last = positions[-1].item()
    positions = torch.cat(found) if found else torch.empty(0, device=device)
    return positions[positions < count].to(torch.int64)


def _block_mask(
    input: Tensor,
    p: float,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The mask of one call: ``keep`` (bool) and ``scale`` (float32 or float64)."""
    size = tuple(input.shape[2:])
    channels = 1 if shared else input.shape[1]
    keep = torch.ones((input.shape[0], channels, *size), device=input.device).bool()
    wide = torch.promote_types(input.dtype, torch.float32)
    if keep.numel() == 0:
        return keep, torch.ones((), dtype=wide, device=input.device)
    block = tuple(min(k, n) for k, n in zip(block_size, size, strict=True))
    log_miss = _log_miss(size, block, p, border)

    # Pad the map by a block less one on each side. A seed is the first corner of its
    # block in the padded map: "clip" allows all that touch the map, "valid" only those
    # whose block lies inside.
    reach = [k - 1 for k in block]
    if border == "clip":
        grid = [n + r for n, r in zip(size, reach, strict=True)]
        pad = [0] * len(size)
    else:
        grid = [n - r for n, r in zip(size, reach, strict=True)]
        pad = reach
    planes = input.shape[0] * channels
    seeds = torch.zeros(planes * math.prod(grid), device=input.device)
    seeds[sample_seeds(seeds.numel(), log_miss, input.device, generator)] = 1.0
    seeds = F.pad(seeds.view(planes, *grid), [r for r in reversed(pad) for _ in (0, 1)])
    max_pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(size) - 1]
    keep = (max_pool(seeds, block, stride=1) == 0).view(keep.shape)

    if normalize == "batch":
        kept = int(keep.sum())
        scale = torch.tensor(keep.numel() / kept if kept else 0.0, dtype=wide)
    else:
        scale = _weights(size, block, p, border, input.dtype).to(wide)
    return keep, scale.to(input.device)


@functools.lru_cache(maxsize=256)
def _weights(
    size: tuple[int, ...],
    block: tuple[int, ...],
    p: float,
    border: str,
    dtype: torch.dtype,
) -> Tensor:
    """1 / P(keep) for each element, float64; warns once for each setting."""
    if border == "clip":
        return torch.tensor(1.0 / (1.0 - p), dtype=torch.float64)
    weights = torch.exp(
        _cover_table(size, block, border) * -_log_miss(size, block, p, border)
    )
    largest = weights.max().item()
    if largest > torch.finfo(dtype).max:
        raise ValueError(
            f"the largest weight 1/P(keep) is {largest:.3g}, too large for {dtype} "
            f"(map {size}, block {block}, p={p}): "
            "use border='clip', a smaller p or a smaller block"
        )
    if largest > _LARGE_WEIGHT:
        # No p in the text: Python shows equal warnings once, and p may ramp.
        warnings.warn(
            f"the weights 1/P(keep) exceed {_LARGE_WEIGHT:g} in the middle of the map "
            f"(map {size}, block {block}): consider border='clip', "
            "which has one weight for all elements",
            UserWarning,
            stacklevel=2,
        )
    return weights


# ---------------------------------- the operator for compile, export and torch.func

torch.library.define(
    "regdrop_lite::block_mask",
    "(Tensor input, float p, int[] block_size, str border, bool shared, str normalize)"
    " -> (Tensor, Tensor)",
    tags=(torch.Tag.nondeterministic_seeded,),  # two calls are two masks
)
torch.library.impl("regdrop_lite::block_mask", "default", _block_mask)


@torch.library.register_fake("regdrop_lite::block_mask")
def _block_mask_shapes(
    input: Tensor,
    p: float,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
) -> tuple[Tensor, Tensor]:
    channels = 1 if shared else input.shape[1]
    size = input.shape[2:]
    keep = input.new_empty((input.shape[0], channels, *size), dtype=torch.bool)
    wide = torch.promote_types(input.dtype, torch.float32)
    table = border == "valid" and normalize == "expected" and keep.numel() > 0
    return keep, input.new_empty(size if table else (), dtype=wide)


_HAS_VMAP = hasattr(torch.library, "register_vmap")  # since PyTorch 2.5


def _random_for_vmap(input: Tensor) -> Tensor:
    """Tell torch.func.vmap that a mask is random even where the input is not batched.

    A random tensor is batched with randomness="different" and forbidden with "error".
    This one has no elements: it takes no number from the generator.
    """
    if not _HAS_VMAP:
        raise RuntimeError(
            "drop_block needs PyTorch 2.5 or newer under torch.func.vmap"
        )
    return input + torch.rand(0, device=input.device, dtype=input.dtype).sum()


def _block_mask_vmap(
    info: Any, in_dims: tuple[int | None, ...], input: Tensor, *settings: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
    """Masks under torch.func.vmap: one for all, or one for each example."""
    block_mask = torch.ops.regdrop_lite.block_mask
    examples = input.movedim(in_dims[0], 0)
    if info.randomness == "same":
        return block_mask(examples[0], *settings), (None, None)
    masks = [block_mask(example, *settings) for example in examples]
    return tuple(torch.stack(parts) for parts in zip(*masks, strict=True)), (0, 0)


if _HAS_VMAP:
    torch.library.register_vmap("regdrop_lite::block_mask", _block_mask_vmap)


# -------------------------------------------------------------------------- layers


def _block(block_size: int | Sequence[int], dims: int) -> list[int]:
    """``block_size`` as one checked number per spatial dimension."""
    one = not isinstance(block_size, Sequence)
    block = [block_size] * dims if one else list(block_size)
    if len(block) != dims:
        raise ValueError(
            f"block_size has to be one number or {dims}, one per spatial dimension, "
            f"but got {len(block)}: {tuple(block)}"
        )
    return _positive(block, "block_size")


def _positive(values: Sequence[int], name: str) -> list[int]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            kind = type(value).__name__
            raise TypeError(f"{name} has to be a whole number, but got a {kind}")
        if value < 1:
            raise ValueError(f"{name} has to be at least 1, but got {value}")
    return [int(value) for value in values]


def _size_and_block(
    size: int | Sequence[int], block_size: int | Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both as checked tuples, the block no larger than the map."""
    sizes = _positive(size if isinstance(size, Sequence) else [size], "size")
    block = _block(block_size, len(sizes))
    return tuple(sizes), tuple(min(k, n) for k, n in zip(block, sizes, strict=True))


class _DropBlock(DropLayer):
    layout: str

    def __init__(
        self,
        p: float,
        block_size: int | Sequence[int],
        inplace: bool = False,
        *,
        border: str = "valid",
        shared: bool = False,
        normalize: str = "expected",
    ) -> None:
        super().__init__(p)
        check_choice(border, "border", _BORDERS)
        check_choice(normalize, "normalize", _NORMALIZE)
        _block(block_size, self.layout.count(",") - 1)
        self.block_size = block_size
        self.inplace = inplace
        self.border = border
        self.shared = shared
        self.normalize = normalize

    def forward(self, input: Tensor) -> Tensor:
        """Drop blocks in training mode; return ``input`` itself in eval mode."""
        dims = self.layout.count(",") + 1
        check_input(input, dims, dims, self.layout)
        return drop_block(
            input,
            self.p,
            self.block_size,
            self.training,
            self.inplace,
            border=self.border,
            shared=self.shared,
            normalize=self.normalize,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, after p and block_size."""
        text = f"p={self.p}, block_size={self.block_size}"
        if self.inplace:
            text += ", inplace=True"
        if self.border != "valid":
            text += f", border={self.border!r}"
        if self.shared:
            text += ", shared=True"
        if self.normalize != "expected":
            text += f", normalize={self.normalize!r}"
        return text


class DropBlock1d(_DropBlock):
    """DropBlock for sequences (N, C, L); see :func:`drop_block`.

    Args:
        p: the expected share of dropped elements, in [0, 1].
        block_size: the length of a block, in elements.
        inplace: write the result into the input.
        border: "valid" or "clip".
        shared: one mask for all channels of a sample.
        normalize: "expected" or "batch".

    Example:
        >>> import torch
        >>> from regdrop_lite import DropBlock1d
        >>> DropBlock1d(p=0.1, block_size=5)(torch.ones(8, 16, 100)).shape
        torch.Size([8, 16, 100])
    """

    layout = "(N, C, L)"


class DropBlock2d(_DropBlock):
    """DropBlock for images (N, C, H, W); see :func:`drop_block`.

    Args:
        p: the expected share of dropped elements, in [0, 1].
        block_size: the side of a block, in elements, or (height, width).
        inplace: write the result into the input.
        border: "valid" or "clip".
        shared: one mask for all channels of a sample.
        normalize: "expected" or "batch".

    Example:
        >>> import torch
        >>> from regdrop_lite import DropBlock2d
        >>> layer = DropBlock2d(p=0.1, block_size=7)
        >>> layer
        DropBlock2d(p=0.1, block_size=7)
        >>> x = torch.ones(8, 16, 14, 14)
        >>> layer.eval()(x) is x
        True
    """

    layout = "(N, C, H, W)"


class DropBlock3d(_DropBlock):
    """DropBlock for volumes (N, C, D, H, W); see :func:`drop_block`.

    Args:
        p: the expected share of dropped elements, in [0, 1].
        block_size: the side of a block, in elements, or (depth, height, width).
        inplace: write the result into the input.
        border: "valid" or "clip".
        shared: one mask for all channels of a sample.
        normalize: "expected" or "batch".

    Example:
        >>> import torch
        >>> from regdrop_lite import DropBlock3d
        >>> DropBlock3d(p=0.1, block_size=3)(torch.ones(2, 8, 4, 8, 8)).shape
        torch.Size([2, 8, 4, 8, 8])
    """

    layout = "(N, C, D, H, W)"
