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
import torch.fx
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite._apply import (
    apply_mask,
    is_plain,
    multiply,
    multiply_and_paint,
    paint,
)
from regdrop_lite._common import (
    DropLayer,
    check_choice,
    check_generator,
    check_input,
    check_probability,
    check_training,
    drop_all,
    inside_vmap,
    uniform,
)

# torch.fx does not look inside.
torch.fx.wrap("drop_block")
torch.fx.wrap("check_input")

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
        itself; with p = 1 it is all zeros. With a mask per channel a dropped element
        is 0 whatever it was; ``shared`` multiplies by 0, so that a dropped infinity or
        NaN becomes NaN, as in torch.nn.Dropout2d (but p = 1 gives zeros).

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
    check_training(training)
    block = _block(block_size, input.dim() - 2)
    if not training or p == 0.0:
        return input
    check_generator(generator)
    if p == 1.0:
        return drop_all(input, inplace)
    like = input.detach()
    settings = (p, block, border, shared, normalize)
    if is_plain(input) and input.device.type == "cpu" and input.numel():
        return _paint_blocks(input, *settings, inplace, generator)
    if generator is not None and not input.is_meta:  # there is nothing to draw there
        keep, scale = _block_mask(like, *settings, generator)
    else:
        # An operator of its own: the number of seeds is random, so compile, export and
        # vmap cannot look inside, and need not.
        if not torch.compiler.is_compiling() and inside_vmap():
            like = _random_for_vmap(like)
        # p as a tensor, computed and not created: a graph then serves every p.
        rate = torch.zeros((), dtype=torch.float64, device="cpu") + p
        if torch.compiler.is_compiling() and _HAS_VMAP:
            # A compiler joins two calls that look alike, whatever their tag says, but
            # never a random operator: this one draws nothing and makes them differ.
            # (PyTorch 2.4 cannot checkpoint a graph with such an operator.)
            rate = rate + torch.randperm(0, device="cpu").sum()
        keep, scale = torch.ops.regdrop_lite.block_mask(like, rate, *settings[1:])
    if shared:
        return apply_mask(input, keep, scale, inplace)
    # A dropped element is 0 whatever it was; infinity times 0 would be NaN.
    output = torch.where(keep, multiply(input, scale), 0.0)
    return input.copy_(output) if inplace else output


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
    table = torch.ones((), dtype=torch.float64, device="cpu")
    for n, k in zip(size, block, strict=True):
        counts = torch.tensor(
            _cover_counts(n, k, border), dtype=table.dtype, device="cpu"
        )
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
        u = uniform((draws,), device, generator)
        failures = u.neg_().add_(1.0).log_().div_(log_miss).floor_()
        positions = failures.add_(1.0).cumsum_(0).add_(last)
        last = positions[-1].item()
        inside = int(torch.searchsorted(positions, float(count)))
        found.append(positions[:inside].to(torch.int64))
    none = torch.empty(0, dtype=torch.int64, device=device)
    return torch.cat(found) if found else none


def _sample_blocks(
    input: Tensor,
    p: float,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, list[int], tuple[int, ...]]:
    """Seeds, the grid (N, C, ...) of places that they index, and the size of blocks."""
    size = input.shape[2:]
    block = tuple(min(k, n) for k, n in zip(block_size, size, strict=True))
    sign = 1 if border == "clip" else -1
    grid = [input.shape[0], 1 if shared else input.shape[1]]
    grid += [n + sign * (k - 1) for n, k in zip(size, block, strict=True)]
    log_miss = _log_miss(tuple(size), block, p, border)
    return sample_seeds(math.prod(grid), log_miss, input.device, generator), grid, block


def _paint_blocks(
    input: Tensor,
    p: float,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
    inplace: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """The fast way: paint the blocks into the product.

    A mask per channel is as large as the input, and to find it by max-pooling takes
    fifty times as long as to multiply by it. But few elements are dropped. So multiply
    all, then overwrite those.
    """
    seeds, grid, block = _sample_blocks(input, p, block_size, border, shared, generator)
    if shared or normalize == "batch":  # the mask itself is wanted
        keep = input.new_ones((*grid[:2], *input.shape[2:]), dtype=torch.uint8)
        keep = paint(keep, seeds, block, border).bool()
    if normalize == "batch":
        scale = _batch_scale(keep, input.dtype)
    else:
        scale = _weights(tuple(input.shape[2:]), block, p, border, input.dtype)
    if shared:
        number = scale.dim() == 0
        return apply_mask(input, keep, scale.item() if number else scale, inplace)
    output = multiply_and_paint(input, scale, seeds, block, border)
    return input.copy_(output) if inplace else output


def _block_mask(
    input: Tensor,
    p: float,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The reference: ``keep`` (bool) and ``scale`` (float32 or float64) of one call.

    It serves where painting does not: on other devices than the CPU, and under compile,
    export and torch.func.
    """
    size = input.shape[2:]
    wide = torch.promote_types(input.dtype, torch.float32)
    if input.numel() == 0:
        keep = torch.empty_like(input, dtype=torch.bool)
        return keep[:, :1].clone() if shared else keep, input.new_ones((), dtype=wide)
    seeds, grid, block = _sample_blocks(input, p, block_size, border, shared, generator)
    maps = torch.zeros(math.prod(grid), device=input.device)
    maps[seeds] = 1.0
    maps = maps.view(-1, *grid[2:])

    # A seed is the first corner of its block in a map that is padded by a block less
    # one on each side. "clip" has seeds on all of it that touch the map, "valid" only
    # where the block lies inside.
    reach = [0 if border == "clip" else k - 1 for k in block]
    maps = F.pad(maps, [r for r in reversed(reach) for _ in (0, 1)])
    max_pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(size) - 1]
    keep = (max_pool(maps, block, stride=1) == 0).view(*grid[:2], *size)
    if not shared:  # in the order of memory that the input has
        keep = torch.empty_like(input, dtype=torch.bool).copy_(keep)

    if normalize == "batch":
        return keep, _batch_scale(keep, input.dtype)
    scale = _weights(tuple(size), block, p, border, input.dtype)
    return keep, scale.to(dtype=wide, device=input.device)


def _batch_scale(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """Elements / kept elements, as the paper scales; 0 where none is kept."""
    kept = int(keep.sum())
    wide = torch.promote_types(dtype, torch.float32)
    return torch.tensor(
        keep.numel() / kept if kept else 0.0, dtype=wide, device=keep.device
    )


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)  # the table is kept, and may be needed outside as well
def _weights(
    size: tuple[int, ...],
    block: tuple[int, ...],
    p: float,
    border: str,
    dtype: torch.dtype,
) -> Tensor:
    """1 / P(keep) for each element, float64; warns once for each setting."""
    if border == "clip":
        return torch.tensor(1.0 / (1.0 - p), dtype=torch.float64, device="cpu")
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
    "(Tensor input, Tensor p, int[] block_size, str border, bool shared, str normalize)"
    " -> (Tensor, Tensor)",
    tags=(torch.Tag.nondeterministic_seeded,),  # two calls are two masks
)


@torch.library.impl("regdrop_lite::block_mask", "default")
def _block_mask_operator(
    input: Tensor, p: Tensor, *settings: Any
) -> tuple[Tensor, Tensor]:
    return _block_mask(input, p.item(), *settings)


@torch.library.register_fake("regdrop_lite::block_mask")
def _block_mask_shapes(
    input: Tensor,
    p: Tensor,
    block_size: Sequence[int],
    border: str,
    shared: bool,
    normalize: str,
) -> tuple[Tensor, Tensor]:
    keep = torch.empty_like(input, dtype=torch.bool)
    if shared:
        keep = input.new_empty((input.shape[0], 1, *input.shape[2:]), dtype=torch.bool)
    wide = torch.promote_types(input.dtype, torch.float32)
    table = border == "valid" and normalize == "expected" and input.numel() > 0
    return keep, input.new_empty(input.shape[2:] if table else (), dtype=wide)


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
    info: Any, in_dims: tuple[int | None, ...], input: Tensor, p: Tensor, *settings: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
    """Masks under torch.func.vmap: one for all, or one for each example."""
    block_mask = torch.ops.regdrop_lite.block_mask
    if in_dims[1] is not None:  # the random operator's doing; p is the same for all
        p = p.select(in_dims[1], 0)
    examples = [input] * info.batch_size
    if in_dims[0] is not None:
        examples = input.movedim(in_dims[0], 0)
    if info.randomness == "same":
        return block_mask(examples[0], p, *settings), (None, None)
    masks = [block_mask(example, p, *settings) for example in examples]
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
