"""The fast way of DropBlock on the CPU: multiply everything, then paint zeros.

A mask per channel is as large as the input, and to find it by max-pooling takes fifty
times as long as to multiply by it. But few elements are dropped: so multiply all, then
overwrite those. The same is done to the gradient, and nothing as large as the input is
kept for it. The page "A fast mask" of the course explains every step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regdrop_lite import _block_operator
from regdrop_lite._block_mask import Blocks, paint
from regdrop_lite._compat import is_plain
from regdrop_lite._product import scaled, wide


def painted(
    input: Tensor, scale: float | Tensor, seeds: Tensor | None, blocks: Blocks
) -> Tensor:
    """``input * scale`` with the blocks of ``seeds`` set to zero.

    With ``seeds=None`` nothing is painted.
    """
    if is_plain(input):
        apply: Callable[..., Tensor] = _Painted.apply
        return apply(input, scale, seeds, blocks)
    # A backward pass may be compiled or vectorised where the forward pass was not.
    output = scaled(input, scale)
    if seeds is None:
        return output
    # Found anew in every call: who reloads that module has another operator then, and
    # PyTorch has freed the one before.
    operator = _block_operator.keep_of_seeds
    keep = operator(seeds, input.shape, list(blocks.block_size), blocks.border)
    return torch.where(keep, output, 0.0)


class _Painted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        scale: float | Tensor,
        seeds: Tensor | None,
        blocks: Blocks,
    ) -> Tensor:
        tensors = (scale if isinstance(scale, Tensor) else None, seeds)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.scale, ctx.blocks = (scale if tensors[0] is None else None), blocks
        output = _times(input, scale)
        return output if seeds is None else paint(output, seeds, blocks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, seeds = ctx.saved_tensors
        scale = ctx.scale if table is None else table
        return painted(grads[0], scale, seeds, ctx.blocks), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        table, seeds = ctx.saved_tensors
        scale = ctx.scale if table is None else table
        return painted(tangents[0], scale, seeds, ctx.blocks)


def _times(input: Tensor, scale: float | Tensor) -> Tensor:
    """``input * scale``, a new and dense tensor; a table is the same for all planes.

    A product of bfloat16 by a float32 table would convert the input to float32 and the
    result back, which costs five times the multiplication. Batch normalisation in
    evaluation, with mean 0 and variance 1, *is* a multiplication by its weights: it
    reads bfloat16, multiplies in float32, and rounds once.
    """
    if not isinstance(scale, Tensor) or input.dtype == wide(input.dtype):
        return torch.mul(input, scale, out=torch.empty_like(input))
    output = torch.empty_like(input)
    if input.is_contiguous():
        shape: tuple[int, ...] = (-1, scale.numel())
        rows, products = input.view(shape), output.view(shape)
    elif input.movedim(1, -1).is_contiguous():  # channels last
        shape = (len(input), scale.numel(), -1)
        rows = input.movedim(1, -1).view(shape)
        products = output.movedim(1, -1).view(shape)
    else:
        return output.copy_(scaled(input, scale))
    factors = scale.flatten()
    mean, var = torch.zeros_like(factors), torch.ones_like(factors)
    # Written into the output itself: autograd lets nobody change a view of a result.
    unused = factors.new_empty(0)  # the statistics of a batch
    torch.native_batch_norm(
        rows, factors, None, mean, var, False, 0.0, 0.0, out=(products, unused, unused)
    )
    return output
