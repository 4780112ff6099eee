"""DropPath (stochastic depth): drop the whole branch of a residual block.

In ``y = x + F(x)`` the branch F is switched off for a sample with probability p. The
sample then passes the block by the skip alone.

Reference: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth",
ECCV 2016 (which drops per mini-batch); Larsson, Maire, Shakhnarovich, "FractalNet",
ICLR 2017 (the name).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
import torch.fx
from torch import Tensor

from regdrop_lite._apply import apply_mask
from regdrop_lite._common import (
    DropLayer,
    check_choice,
    check_eager,
    check_generator,
    check_input,
    check_probability,
    check_training,
    drop_all,
    sample_keep,
    uniform,
)

# torch.fx does not look inside.
torch.fx.wrap("drop_path")
torch.fx.wrap("drop_residual")

_MODES = ("row", "batch")
_RESIDUAL_MODES = ("subset", "row", "batch")
_SCHEDULES = ("linear", "linear1", "constant")


def drop_path(
    input: Tensor,
    p: float = 0.0,
    training: bool = True,
    *,
    mode: str = "row",
    scale_by_keep: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Zero the branch output of whole samples, scale the others by 1 / (1 - p).

    Args:
        input: the output of a residual branch, (N, ...) with any number of dimensions.
        p: the probability that a path is dropped, in [0, 1].
        training: ``False`` returns ``input`` itself.
        mode: "row" decides for each sample, "batch" once for the whole mini-batch.
        scale_by_keep: ``False`` leaves the kept samples as they are; the expectation
            is then (1 - p) times the input, and evaluation has to make up for it.
        generator: the source of the mask; by default PyTorch's global generator.

    Returns:
        A tensor like ``input``. With ``training=False`` or p = 0 it is ``input``
        itself; with p = 1 it is all zeros. A dropped path is multiplied by 0: an
        infinity or NaN in it becomes NaN, as in torch.nn.Dropout2d (but p = 1 gives
        zeros).

    Raises:
        TypeError: ``p`` is no number, or ``input`` no floating-point tensor.
        ValueError: ``p`` is outside [0, 1], ``mode`` unknown, or ``input`` has no
            batch dimension.
        RuntimeError: an explicit generator under compile, export, vmap or activation
            checkpointing.

    Example:
        >>> import torch
        >>> from regdrop_lite import drop_path
        >>> branch = torch.ones(4, 3)
        >>> g = torch.Generator().manual_seed(0)
        >>> drop_path(branch, p=0.5, generator=g)[:, 0].tolist()  # one value per sample
        [2.0, 2.0, 0.0, 2.0]
    """
    p = check_probability(p)
    check_choice(mode, "mode", _MODES)
    check_input(input, 1, 64, "(N, ...)")
    check_training(training)
    if not training or p == 0.0:
        return input
    check_generator(generator)
    if p == 1.0:
        return drop_all(input)
    rows = input.shape[0] if mode == "row" else 1
    shape = (rows,) + (1,) * (input.dim() - 1)  # e.g. (N, 1, 1, 1)
    keep = sample_keep(shape, p, input.device, generator)
    return apply_mask(input, keep, 1.0 / (1.0 - p) if scale_by_keep else 1.0)


class DropPath(DropLayer):
    """DropPath as a layer: ``x + self.drop_path(branch(x))``; see :func:`drop_path`.

    Args:
        p: the probability that a path is dropped, in [0, 1].
        mode: "row" decides for each sample, "batch" once for the whole mini-batch.
        scale_by_keep: scale the kept samples by 1 / (1 - p).

    Example:
        >>> import torch
        >>> from regdrop_lite import DropPath
        >>> layer = DropPath(p=0.1)
        >>> layer
        DropPath(p=0.1, mode='row')
        >>> x = torch.ones(8, 196, 64)  # (N, T, C): tokens of a Transformer
        >>> layer.eval()(x) is x
        True
    """

    def __init__(
        self, p: float = 0.0, mode: str = "row", scale_by_keep: bool = True
    ) -> None:
        super().__init__(p)
        check_choice(mode, "mode", _MODES)
        self.mode = mode
        self.scale_by_keep = scale_by_keep

    def forward(self, input: Tensor) -> Tensor:
        """Drop paths in training mode; return ``input`` itself in eval mode."""
        return drop_path(
            input,
            self.p,
            self.training,
            mode=self.mode,
            scale_by_keep=self.scale_by_keep,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, after p and mode."""
        text = f"p={self.p}, mode={self.mode!r}"
        return text if self.scale_by_keep else text + ", scale_by_keep=False"


def drop_residual(
    input: Tensor,
    branch: Callable[[Tensor], Tensor],
    p: float,
    training: bool = True,
    *,
    mode: str = "subset",
    generator: torch.Generator | None = None,
) -> Tensor:
    """``input + DropPath(branch(input))``, computing the branch only where it is kept.

    Args:
        input: (N, ...), the input of a residual block whose skip is the identity.
        branch: maps a batch to a batch of the same shape.
        p: the probability that a sample's branch is dropped, in [0, 1].
        training: ``False`` returns ``input + branch(input)``.
        mode: "subset" calls ``branch`` with the kept samples only; "row" and "batch"
            compute all of it and mask, as :func:`drop_path` does.
        generator: the source of the choice; by default PyTorch's global generator.

    Returns:
        A tensor of the shape of ``input``.

    Raises:
        TypeError: ``p`` is no number, or ``input`` no floating-point tensor.
        ValueError: ``p`` is outside [0, 1], ``mode`` unknown, or ``branch`` changes
            the shape.
        RuntimeError: "subset" under compile, export or vmap (it is eager only), or an
            explicit generator there or under activation checkpointing.

    With b samples and q = 1 - p, "subset" keeps floor(b q) of them, and one more with
    probability frac(b q). Each sample is kept with probability exactly q, as in
    DropPath, but the samples are not independent. A branch with BatchNorm sees the kept
    samples only. If none is kept, ``branch`` is not called and its parameters get no
    gradient: DistributedDataParallel then needs ``find_unused_parameters=True``.

    Example:
        >>> import torch
        >>> from regdrop_lite import drop_residual
        >>> x = torch.zeros(4, 3)
        >>> g = torch.Generator().manual_seed(0)
        >>> y = drop_residual(x, lambda kept: kept + 1, p=0.5, generator=g)
        >>> y[:, 0].tolist()  # two of four samples, scaled by 2
        [0.0, 2.0, 0.0, 2.0]
    """
    p = check_probability(p)
    check_choice(mode, "mode", _RESIDUAL_MODES)
    check_input(input, 1, 64, "(N, ...)")
    check_training(training)
    if mode != "subset" or not training or p == 0.0:
        output = _same_shape(branch(input), input)
        if mode == "subset":
            return input + output
        return input + drop_path(output, p, training, mode=mode, generator=generator)
    check_eager("drop_residual(mode='subset')")
    check_generator(generator)
    batch = input.shape[0]
    kept = batch * (1.0 - p)
    count = math.floor(kept)
    # One draw decides about the fraction, the others rank the samples.
    draws = uniform((batch + 1,), torch.device("cpu"), generator)
    count += int(draws[0] < kept - count)
    if count == 0:
        return input.clone()  # a ReLU in place must not reach the input
    index = draws[1:].argsort()[:count].sort().values.to(input.device)
    chosen = input[index]  # keeps channels_last, as index_select does not
    output = _same_shape(branch(chosen), chosen)
    return _AddRows.apply(input, index, output, 1.0 / (1.0 - p))


class _AddRows(torch.autograd.Function):
    """``input``, with ``scale * output`` added to the rows of ``index``.

    Autograd's own index_add_ would keep ``output`` for the backward pass.
    """

    @staticmethod
    def forward(input: Tensor, index: Tensor, output: Tensor, scale: float) -> Tensor:
        dtype = torch.result_type(input, output)
        # index_add_ would round its factor alpha to a low precision.
        rows = (output * scale).to(dtype)
        return input.to(dtype, copy=True).index_add_(0, index, rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        """Apart from ``forward``, as torch.func.grad wants it."""
        input, index, output, ctx.scale = inputs
        ctx.save_for_backward(index)
        ctx.save_for_forward(index)
        ctx.dtypes = input.dtype, output.dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        first, second = ctx.dtypes
        return grad.to(first), None, (grad[index] * ctx.scale).to(second), None

    @staticmethod
    def jvp(ctx: Any, input: Tensor, _: None, output: Tensor, *__: None) -> Tensor:
        (index,) = ctx.saved_tensors
        return _AddRows.apply(input, index, output, ctx.scale)


def _same_shape(output: Tensor, input: Tensor) -> Tensor:
    if output.shape != input.shape:
        raise ValueError(
            "branch has to keep the shape of its input "
            f"{tuple(input.shape)}, but returned {tuple(output.shape)}"
        )
    return output


@overload
def drop_path_rates(
    p_max: float, num_blocks: int, schedule: str = "linear"
) -> list[float]: ...


@overload
def drop_path_rates(
    p_max: float, num_blocks: Sequence[int], schedule: str = "linear"
) -> list[list[float]]: ...


def drop_path_rates(
    p_max: float, num_blocks: int | Sequence[int], schedule: str = "linear"
) -> list[float] | list[list[float]]:
    """Drop probabilities for the residual blocks of a network, by depth.

    Args:
        p_max: the largest drop probability, in [0, 1].
        num_blocks: the number of blocks L, or the blocks of each stage.
        schedule: "linear" gives block l = 0 ... L - 1 the rate p_max * l / (L - 1),
            and a single block 0; "linear1" gives p_max * (l + 1) / L, the rule of the
            stochastic depth paper; "constant" gives p_max to all.

    Returns:
        A list of L rates; for a list of stages a list of lists. The depth counts
        through all stages.

    Raises:
        TypeError: ``p_max`` or a number of blocks is no number.
        ValueError: ``p_max`` is outside [0, 1], a number of blocks is negative, or
            ``schedule`` is unknown.

    Example:
        >>> from regdrop_lite import drop_path_rates
        >>> drop_path_rates(0.5, 3)
        [0.0, 0.25, 0.5]
        >>> drop_path_rates(0.5, [2, 2], "linear1")
        [[0.125, 0.25], [0.375, 0.5]]
    """
    p_max = check_probability(p_max, "p_max")
    check_choice(schedule, "schedule", _SCHEDULES)
    staged = isinstance(num_blocks, Sequence)
    stages = list(num_blocks) if staged else [num_blocks]
    for blocks in stages:
        if isinstance(blocks, bool) or not isinstance(blocks, int):
            kind = type(blocks).__name__
            raise TypeError(f"num_blocks has to be a whole number, but got a {kind}")
        if blocks < 0:
            raise ValueError(f"num_blocks has to be at least 0, but got {blocks}")
    total = sum(stages)
    if schedule == "linear":
        rates = [p_max * (i / max(total - 1, 1)) for i in range(total)]
    elif schedule == "linear1":
        rates = [p_max * ((i + 1) / total) for i in range(total)]
    else:
        rates = [p_max] * total
    if not staged:
        return rates
    remaining = iter(rates)
    return [[next(remaining) for _ in range(blocks)] for blocks in stages]
