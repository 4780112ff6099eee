"""DropBlock: drop square regions of feature maps.

Neighbours in a map tell what a dropped element was, so whole blocks are dropped.

Reference: Ghiasi, Lin, Le, "DropBlock: A Regularization Method for Convolutional
Networks", NeurIPS 2018.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from regdrop_lite._block_mask import (
    Blocks,
    batch_scale,
    block_mask,
    draw_seeds,
    paint,
    weights,
)
from regdrop_lite._block_operator import draw
from regdrop_lite._checks import (
    by_name_after,
    check_choice,
    check_flag,
    check_floating,
    check_generator,
    check_probability,
    check_rank,
    overridable,
)
from regdrop_lite._compat import is_dtensor, is_plain
from regdrop_lite._painted import painted
from regdrop_lite._product import apply_mask, drop_all, scaled, wide
from regdrop_lite._shards import on_shards
from regdrop_lite.drop_block_gamma import BORDERS, check_block
from regdrop_lite.drop_layer import DropLayer

_NORMALIZE = ("expected", "batch")


@overridable
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
        inplace: write the result into ``input``. It saves no memory here.
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
        TypeError: ``p`` is no number, ``block_size`` no whole number, a flag neither
            True nor False, or ``input`` no floating-point tensor.
        ValueError: ``p`` is outside [0, 1], ``block_size`` below 1 or of the wrong
            length, ``border`` or ``normalize`` unknown, ``input`` of the wrong rank,
            or a weight too large for the dtype of ``input``.
        RuntimeError: an explicit generator under compile, export, vmap, a tracer or
            activation checkpointing.

    Warns:
        UserWarning: with "valid" and "expected" the weights 1 / P(keep) grow in the
            middle of the map; once, if they exceed 4. "clip" has no such weights.

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
    check_choice(border, "border", BORDERS)
    check_choice(normalize, "normalize", _NORMALIZE)
    check_flag(training, "training")
    check_flag(inplace, "inplace")
    check_flag(shared, "shared")
    check_rank(input, 3, 5, "(N, C, L), (N, C, H, W) or (N, C, D, H, W)")
    block = check_block(block_size, input.dim() - 2)
    if not training or p == 0.0:
        return input
    check_floating(input)
    check_generator(generator)
    if is_dtensor(input):
        of_shard = partial(
            drop_block,
            p=p,
            block_size=block,
            inplace=inplace,
            border=border,
            shared=shared,
            normalize=normalize,
            generator=generator,
        )
        free = () if normalize == "batch" else (0,) if shared else (0, 1)
        return on_shards(of_shard, input, free)
    if p == 1.0:
        return drop_all(input, inplace)
    blocks = Blocks(p, block, border, shared, normalize)
    plain = is_plain(input)
    if plain and input.numel() and not shared:
        seeds = draw_seeds(input.shape, blocks, generator)
        scale: float | Tensor
        if normalize == "batch":
            keep = torch.ones_like(input, dtype=torch.bool)
            scale = batch_scale(paint(keep, seeds, blocks))
        else:
            scale = weights(input.shape[2:], blocks, input.dtype, input.device)
        output = painted(input, scale, seeds, blocks)
        return input.copy_(output) if inplace else output
    if plain or generator is not None:
        keep, scale = block_mask(input.detach(), blocks, generator)
    else:
        keep, scale = draw(input, blocks)
    if shared and input.dtype == wide(input.dtype):
        return apply_mask(input, keep, scale, inplace)
    if shared:
        output = painted(input * keep.to(input.dtype), scale, None, blocks)
    else:  # a dropped element is 0 whatever it was; infinity times 0 would be NaN
        output = torch.where(keep, scaled(input, scale), 0.0)
    return input.copy_(output) if inplace else output


class _DropBlock(DropLayer):
    layout: str  # the expected shape

    @by_name_after(2)
    def __init__(
        self,
        p: float,
        block_size: int | Sequence[int],
        *,
        inplace: bool = False,
        border: str = "valid",
        shared: bool = False,
        normalize: str = "expected",
    ) -> None:
        super().__init__(p)
        check_block(block_size, self.layout.count(",") - 1)
        self.block_size = block_size
        self.inplace = check_flag(inplace, "inplace")
        self.border = check_choice(border, "border", BORDERS)
        self.shared = check_flag(shared, "shared")
        self.normalize = check_choice(normalize, "normalize", _NORMALIZE)

    def drop(self, input: Tensor) -> Tensor:
        dims = self.layout.count(",") + 1
        check_rank(input, dims, dims, self.layout)
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
        """p, block_size and the arguments that differ from their defaults."""
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
