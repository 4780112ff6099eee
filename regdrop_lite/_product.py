"""How a mask meets its tensor: ``input * mask * scale``, rounded once.

In float32 and wider that is one plain multiplication. In bfloat16 and float16 the scale
must not be rounded first: 1 / 0.9 would become 1.109, and everything would be wrong by
one factor. A Python number as the scale is safe, since PyTorch multiplies by it in
float32 and rounds the product. A mask of zeros and ones is exact in every dtype.
"""

import torch
from torch import Tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a product is computed: float32 or wider."""
    return torch.promote_types(dtype, torch.float32)


def inverse_keep(p: float, dtype: torch.dtype) -> float:
    """``1 / (1 - p)``, the weight of what is kept; raise if ``dtype`` has no such."""
    scale = 1.0 / (1.0 - p)
    if scale > torch.finfo(dtype).max:
        raise ValueError(
            f"with p={p} what is kept is worth {scale:.3g} times its value, too much "
            f"for {dtype}: use a smaller p or a wider dtype"
        )
    return scale


def scaled(input: Tensor, scale: float | Tensor) -> Tensor:
    """``input * scale`` in the dtype of ``input``, rounded once."""
    if isinstance(scale, Tensor) and input.dtype != wide(input.dtype):
        return (input.to(wide(input.dtype)) * scale).to(input.dtype)
    return input * scale


def apply_mask(
    input: Tensor, keep: Tensor, scale: float | Tensor, inplace: bool = False
) -> Tensor:
    """The one multiplication of this package: ``input * keep * scale``.

    ``keep`` is bool, ``scale`` a number or a table in a wide dtype; both broadcast.
    """
    if input.dtype == wide(input.dtype):
        weights = keep.to(input.dtype) * scale  # small: the mask is not expanded
        return input.mul_(weights) if inplace else input * weights
    output = scaled(input * keep.to(input.dtype), scale)
    return input.copy_(output) if inplace else output


def drop_all(input: Tensor, inplace: bool = False) -> Tensor:
    """Zeros with zero gradients: the case p = 1, where no scale exists.

    ``input * 0`` would turn an infinity into NaN.
    """
    return (input if inplace else input.clone()).zero_()
