"""A residual block that computes its branch for the kept samples only.

DropPath throws a branch's output away after it was computed. Here it is not computed.

Reference: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth",
ECCV 2016 (per mini-batch); Oquab et al., "DINOv2", TMLR 2024 (subsets of a batch, of a
fixed size).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from regdrop_lite._checks import (
    check_choice,
    check_dim,
    check_eager,
    check_flag,
    check_floating,
    check_generator,
    check_probability,
    check_rank,
)
from regdrop_lite._compat import is_dtensor, version
from regdrop_lite._product import inverse_keep, wide
from regdrop_lite._random import uniform
from regdrop_lite.drop_path import drop_path

_MODES = ("subset", "row", "batch")


def drop_residual(
    input: Tensor,
    branch: Callable[[Tensor], Tensor],
    p: float,
    training: bool = True,
    *,
    mode: str = "subset",
    batch_dim: int = 0,
    always_call: bool = False,
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
        batch_dim: the dimension of the samples, as in :func:`drop_path`.
        always_call: with "subset" and no sample kept, call ``branch`` with one sample
            all the same and multiply by 0. The law of the result does not change.
        generator: the source of the choice; by default PyTorch's global generator.

    Returns:
        A tensor of the shape and dtype of ``input``. The scaled sum is computed in
        float32 or wider, and rounded once.

    Raises:
        TypeError: ``p`` is no number, a flag neither True nor False, or ``input`` no
            floating-point tensor, or for "subset" a DTensor.
        ValueError: ``p`` is outside [0, 1], ``mode`` unknown, ``input`` has no
            dimension ``batch_dim``, 1 / (1 - p) is too large for its dtype, ``branch``
            changes the shape, or one sample was kept and is too few for BatchNorm in
            ``branch``.
        RuntimeError: ``branch`` writes into the input that the skip needs; "subset"
            under export, vmap, a tracer or ``fullgraph=True``; or an explicit generator
            there or under activation checkpointing.

    With b samples and q = 1 - p, "subset" keeps floor(b q) of them, and one more with
    probability frac(b q). Each sample is kept with probability exactly q, as in
    DropPath, but the samples are not independent. A branch with BatchNorm sees the kept
    samples only. ``torch.compile`` without ``fullgraph=True`` breaks the graph here and
    runs this function eagerly, with the right result.

    If none is kept, which needs b q < 1, ``branch`` is not called and its parameters
    get no gradient. DistributedDataParallel then needs ``find_unused_parameters=True``,
    and under FSDP the other ranks would wait for this one for ever: pass
    ``always_call=True`` there. It costs the branch for one sample in those calls, and
    an infinity in its output becomes NaN.

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
    check_choice(mode, "mode", _MODES)
    check_flag(training, "training")
    check_flag(always_call, "always_call")
    check_rank(input, 1, 64, "(N, ...)")
    dim = check_dim(batch_dim, "batch_dim", input)
    if not training or p == 0.0:
        return _add(input, _whole(branch, input))
    check_floating(input)
    weight = inverse_keep(p, input.dtype) if p < 1.0 else 0.0
    if mode != "subset":
        output = _whole(branch, input)
        output = output.to(_wider(input, output))
        return _add(
            input,
            drop_path(output, p, mode=mode, batch_dim=dim, generator=generator),
        )
    check_eager("drop_residual(mode='subset')")
    if is_dtensor(input):
        raise TypeError(
            "drop_residual(mode='subset') takes no DTensor, whose samples lie on "
            "several ranks: use mode='row'"
        )
    check_generator(generator)
    batch = input.shape[dim]
    kept = batch * (1.0 - p)
    count = math.floor(kept)
    # One draw decides about the fraction, the others rank the samples.
    draws = uniform((batch + 1,), torch.device("cpu"), generator)
    count += int(draws[0] < kept - count)
    scale = weight if count else 0.0
    if count == 0 and not (always_call and batch):
        return input.clone()  # a ReLU in place must not reach the input
    index = draws[1:].argsort()[: max(count, 1)].sort().values.to(input.device)
    rows = input.movedim(dim, 0)
    chosen = rows[index]  # keeps channels_last, as index_select does not
    output = _call(branch, chosen.movedim(0, dim)).movedim(dim, 0)
    added = output.to(_wider(input, output)) * scale
    # index_add would keep ``added`` for the backward pass, index_put does not.
    sums = rows.to(added.dtype).index_put((index,), added, accumulate=True)
    return sums.movedim(0, dim).to(input.dtype)


def _whole(branch: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    before = version(input)
    output = _same_shape(branch(input), input)
    if version(input) != before:
        raise RuntimeError(
            "branch has written into its input, which the skip still needs: build it "
            "without inplace=True, or let it begin with a copy"
        )
    return output


def _call(branch: Callable[[Tensor], Tensor], chosen: Tensor) -> Tensor:
    try:
        return _same_shape(branch(chosen), chosen)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "drop_residual(mode='subset') called branch with one kept sample, but its "
            "BatchNorm needs at least two values per channel: use mode='row', a larger "
            "batch, a smaller p, or a norm that does not mix samples"
        ) from error


def _add(input: Tensor, output: Tensor) -> Tensor:
    """The sum in the dtype of ``input``, rounded once."""
    return (input.to(_wider(input, output)) + output).to(input.dtype)


def _wider(input: Tensor, output: Tensor) -> torch.dtype:
    return wide(torch.promote_types(input.dtype, output.dtype))


def _same_shape(output: Tensor, input: Tensor) -> Tensor:
    if output.shape != input.shape:
        raise ValueError(
            "branch has to keep the shape of its input "
            f"{tuple(input.shape)}, but returned {tuple(output.shape)}"
        )
    return output
