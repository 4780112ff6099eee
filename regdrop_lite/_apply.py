"""How a mask meets its tensor: one pass over memory, in any layout.

A mask need not cost more than reading and writing the tensor once. Two pieces come
close to that:

- :func:`multiply` is ``input * (mask * scale)``, in float32 or wider and rounded once.
  A scale that is rounded to bfloat16 first would be wrong by one factor everywhere
  (1 / 0.9 becomes 1.109), and a conversion to float32 and back costs five to ten times
  as much as the multiplication.
- :func:`paint` writes zeros where blocks fell and leaves the rest of the memory alone.

Both are diagonal: the gradient meets the same weights and the same zeros. So the
backward pass is the forward pass once more, and keeps nothing as large as the input.
The page "A fast mask" of the course explains every step.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regdrop_lite._common import inside_transform

_SMALL = 2**18  # elements, below which the detour costs more than it saves


def apply_mask(
    input: Tensor, keep: Tensor, scale: float | Tensor, inplace: bool = False
) -> Tensor:
    """The one multiplication of this package: ``input * (keep * scale)``.

    ``keep`` is bool, ``scale`` a number or a table; both broadcast against ``input``.
    """
    wide = torch.promote_types(input.dtype, torch.float32)
    if inplace and wide == input.dtype:
        return input.mul_(_weights(input, keep, scale))  # in place indeed
    output = multiply(input, keep, scale)
    return input.copy_(output) if inplace else output


def multiply(input: Tensor, mask: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """``input * (mask * scale)`` in the dtype of ``input``, rounded once.

    ``mask`` is bool, or a table of weights that are at least float32. It is broadcast
    against ``input``, as ``scale`` is, and neither gets a gradient.
    """
    wide = torch.promote_types(input.dtype, torch.float32)
    if is_plain(input) and (input.numel() >= _SMALL or wide != input.dtype):
        return _Multiply.apply(input, mask, scale)
    # In pieces that every transform can look into and a compiler can join.
    return (input.to(wide) * _weights(input, mask, scale)).to(input.dtype)


def multiply_and_paint(
    input: Tensor, mask: Tensor, seeds: Tensor, block: Sequence[int], border: str
) -> Tensor:
    """:func:`multiply`, then :func:`paint`."""
    if is_plain(input):
        return _MultiplyAndPaint.apply(input, mask, seeds, block, border)
    # A backward pass under vmap: paint a mask, the same for each of the gradients.
    keep = torch.ones(input.shape, dtype=torch.uint8, device="cpu")
    keep = paint(keep, seeds, block, border).bool()
    return torch.where(keep, multiply(input, mask), 0.0)


def is_plain(input: Tensor) -> bool:
    """Whether ``input`` is an ordinary tensor in eager mode."""
    if torch.compiler.is_compiling() or type(input) not in (Tensor, nn.Parameter):
        return False
    # The second question is for torch.autograd.grad(..., is_grads_batched=True), which
    # has a vmap of its own.
    legacy_vmap = torch._C._functorch.is_legacy_batchedtensor
    return not inside_transform() and not legacy_vmap(input)


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, mask: Tensor, scale: float | Tensor) -> Tensor:
        tables = (mask, scale) if isinstance(scale, Tensor) else (mask,)
        ctx.save_for_backward(*tables)
        ctx.save_for_forward(*tables)
        ctx.number = () if isinstance(scale, Tensor) else (scale,)
        return _multiply(input, mask, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return multiply(grad, *ctx.saved_tensors, *ctx.number), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return multiply(tangent, *ctx.saved_tensors, *ctx.number)


class _MultiplyAndPaint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        mask: Tensor,
        seeds: Tensor,
        block: Sequence[int],
        border: str,
    ) -> Tensor:
        ctx.save_for_backward(mask, seeds)
        ctx.save_for_forward(mask, seeds)
        ctx.blocks = block, border
        return paint(_multiply(input, mask, 1.0), seeds, block, border)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = multiply_and_paint(grad, *ctx.saved_tensors, *ctx.blocks)
        return grad, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return multiply_and_paint(tangent, *ctx.saved_tensors, *ctx.blocks)


# ------------------------------------------------------------------- multiplication


def _weights(input: Tensor, mask: Tensor, scale: float | Tensor) -> Tensor:
    """``mask * scale`` in float32 or wider; 0 and 1 are exact in every dtype."""
    wide = torch.promote_types(input.dtype, torch.float32)
    if isinstance(scale, Tensor):
        return mask * scale.to(wide)
    if scale == 1.0:
        return mask.to(input.dtype if mask.dtype == torch.bool else wide)
    return mask.to(wide) * scale


def _multiply(input: Tensor, mask: Tensor, scale: float | Tensor) -> Tensor:
    if mask.numel() == 1 and not isinstance(scale, Tensor):
        # A tensor without dimensions counts as a number: PyTorch multiplies by it in
        # float32 and rounds once.
        return input * _weights(input, mask, scale).reshape(())
    output = torch.empty_like(input)
    if input.device.type == "cpu" and input.numel():
        # Views whose last dimension is the one that memory follows.
        if input.is_contiguous():
            _multiply_in_order(output, input, mask, scale)
            return output
        output_last, input_last = output.movedim(1, -1), input.movedim(1, -1)
        if input_last.is_contiguous():
            mask = _channels_last(mask, input)
            if isinstance(scale, Tensor):
                scale = _channels_last(scale, input)
            _multiply_in_order(output_last, input_last, mask, scale)
            return output
    return torch.mul(input, _weights(input, mask, scale), out=output)


def _channels_last(table: Tensor, input: Tensor) -> Tensor:
    return table[(None,) * (input.dim() - table.dim())].movedim(1, -1)


def _multiply_in_order(
    output: Tensor, input: Tensor, mask: Tensor, scale: float | Tensor
) -> None:
    """Write the product into ``output``; it and ``input`` are contiguous."""
    weights = _weights(input, mask, scale)
    weights = weights[(None,) * (input.dim() - weights.dim())]
    varies = [d for d, n in enumerate(weights.shape) if n > 1] or [0]
    first, last = varies[0], varies[-1] + 1
    if last < input.dim():  # one weight for each row of memory
        rows = weights.reshape(weights.shape[:last]).expand(input.shape[:last])
        rows = rows.flatten()
        shape = (1, len(rows), -1)
        _normalize(output.view(shape), input.view(shape), rows)
    elif first > 0:  # one weight for each column, the same in all rows
        columns = weights.reshape(weights.shape[first:]).expand(input.shape[first:])
        columns = columns.flatten()
        shape = (-1, len(columns))
        _normalize(output.view(shape), input.view(shape), columns)
    elif weights.dtype == input.dtype:
        if mask.dtype == torch.bool and not isinstance(scale, Tensor):
            torch.mul(input, weights, out=output)
        else:  # faster where rows are short, as they are in maps
            torch.addcmul(input.new_zeros(()), input, weights, out=output)
    elif isinstance(scale, Tensor):  # twice; a product by 0 or 1 needs no rounding
        _multiply_in_order(output, input, scale, 1.0)
        output.mul_(mask.to(input.dtype))
    elif mask.dtype == torch.bool:
        # PyTorch keeps the factor ``value`` in float32 and rounds once.
        keep, zero = mask.to(input.dtype), input.new_zeros(())
        torch.addcmul(zero, input, keep, value=scale, out=output)
    else:
        torch.mul(input, weights, out=output)


def _normalize(output: Tensor, input: Tensor, weights: Tensor) -> None:
    """``input`` (N, K) or (N, K, L), times one weight for each k.

    Batch normalisation in eval mode, with mean 0 and variance 1, is just that product.
    It is the one kernel of PyTorch for processors that multiplies bfloat16 numbers by
    float32 weights, rounds once and passes over the memory once.
    """
    mean, var = torch.zeros_like(weights), torch.ones_like(weights)
    unused = weights.new_empty(0)  # statistics of the batch, which are not computed
    torch.native_batch_norm(
        input, weights, None, mean, var, False, 0.0, 0.0, out=(output, unused, unused)
    )


# ------------------------------------------------------------------------- painting


def paint(output: Tensor, seeds: Tensor, block: Sequence[int], border: str) -> Tensor:
    """Zero the blocks of ``seeds`` in ``output`` (N, C, ...), in place.

    ``output`` is dense, in any order of memory. ``seeds`` index the flattened grid
    (N, C, ...) of first corners: with "valid" a block of k elements may begin at
    0 ... n - k along a dimension, with "clip" k - 1 earlier and later as well.
    """
    size, strides = output.shape[2:], output.stride()
    corner, kind, shapes = _windows(tuple(size), tuple(block), border, strides[2:])
    plane = torch.div(seeds, len(corner), rounding_mode="floor")
    places = corner[torch.sub(seeds, plane, alpha=len(corner))]
    if strides[0] == output.shape[1] * strides[1]:  # the planes are equally far apart
        places.add_(plane, alpha=strides[1])
    else:
        sample = torch.div(plane, output.shape[1], rounding_mode="floor")
        channel = plane - sample * output.shape[1]
        places.add_(sample, alpha=strides[0]).add_(channel, alpha=strides[1])
    if len(shapes) == 1:
        groups = [places]
    else:
        kinds, order = kind[torch.sub(seeds, plane, alpha=len(corner))].sort()
        edges = torch.searchsorted(kinds, torch.arange(1, len(shapes), device="cpu"))
        groups = places[order].tensor_split(edges)
    for (*lines, length), group in zip(shapes, groups, strict=True):
        # A block is a run of memory for each of its lines.
        for k, stride in zip(lines, strides[2:-1], strict=True):
            steps = torch.arange(0, k * stride, stride, device="cpu")
            group = (group.unsqueeze(-1) + steps).flatten()
        # A view whose entry i is the run that begins at place i of the memory. The
        # runs overlap, and all that is written is the same zero.
        count = output.numel() - (length - 1) * strides[-1]
        runs = output.as_strided((count, length), (1, strides[-1]), 0)
        runs.index_fill_(0, group, 0)
    return output


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)
def _windows(
    size: tuple[int, ...],
    block: tuple[int, ...],
    border: str,
    strides: tuple[int, ...],
) -> tuple[Tensor, Tensor, list[tuple[int, ...]]]:
    """For each place of a seed: where its window begins, and which shape it has.

    A window is the part of a block that lies on the map. With "valid" that is the whole
    block, with "clip" it has one of 1 ... k lengths along each dimension.
    """
    corner = torch.zeros(1, dtype=torch.int64, device="cpu")
    kind = corner
    lengths = []
    for n, k, stride in zip(size, block, strides, strict=True):
        begin, end = (1 - k, n) if border == "clip" else (0, n - k + 1)
        first = torch.arange(begin, end, device="cpu")
        begin, end = first.clamp(min=0), (first + k).clamp(max=n)
        corner = (corner.unsqueeze(1) + begin * stride).flatten()
        known, which = torch.unique(end - begin, return_inverse=True)
        kind = (kind.unsqueeze(1) * len(known) + which).flatten()
        lengths.append(known.tolist())
    return corner, kind, list(itertools.product(*lengths))
