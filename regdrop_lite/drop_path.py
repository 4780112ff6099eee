"""DropPath (stochastic depth): drop the whole branch of a residual block.

In ``y = x + F(x)`` the branch F is switched off for a sample with probability p. The
sample then passes the block by the skip alone.

Reference: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth",
ECCV 2016 (which drops per mini-batch); Larsson, Maire, Shakhnarovich, "FractalNet",
ICLR 2017 (the name).
"""

from functools import partial

import torch
from torch import Tensor

from regdrop_lite._checks import (
    by_name_after,
    check_choice,
    check_dim,
    check_flag,
    check_floating,
    check_generator,
    check_probability,
    check_rank,
    check_whole,
    overridable,
)
from regdrop_lite._compat import is_dtensor
from regdrop_lite._product import apply_mask, drop_all, inverse_keep
from regdrop_lite._random import sample_keep
from regdrop_lite._shards import on_shards
from regdrop_lite.drop_layer import DropLayer

_MODES = ("row", "batch")


@overridable
def drop_path(
    input: Tensor,
    p: float = 0.0,
    training: bool = True,
    *,
    mode: str = "row",
    scale_by_keep: bool = True,
    batch_dim: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Zero the branch output of whole samples, scale the others by 1 / (1 - p).

    Args:
        input: the output of a residual branch: (N, ...) with any number of dimensions,
            or with the batch elsewhere and ``batch_dim`` saying where.
        p: the probability that a path is dropped, in [0, 1].
        training: ``False`` returns ``input`` itself.
        mode: "row" decides for each sample, "batch" once for the whole mini-batch.
        scale_by_keep: ``False`` leaves the kept samples as they are; the expectation
            is then (1 - p) times the input, and evaluation has to make up for it.
        batch_dim: the dimension of the samples. ``torch.nn.MultiheadAttention`` and
            ``torch.nn.Transformer`` put it second, (T, N, C), unless they are built
            with ``batch_first=True``: pass 1 there, or time steps are dropped instead
            of samples. A tensor does not tell.
        generator: the source of the mask; by default PyTorch's global generator.

    Returns:
        A tensor like ``input``. With ``training=False`` or p = 0 it is ``input``
        itself; with p = 1 it is all zeros. A dropped path is multiplied by 0: an
        infinity or NaN in it becomes NaN, as in torch.nn.Dropout2d (but p = 1 gives
        zeros).

    Raises:
        TypeError: ``p`` is no number, a flag neither True nor False, or ``input`` no
            floating-point tensor.
        ValueError: ``p`` is outside [0, 1], ``mode`` unknown, ``input`` has no
            dimension ``batch_dim``, or 1 / (1 - p) is too large for its dtype.
        RuntimeError: an explicit generator under compile, export, vmap, a tracer or
            activation checkpointing.

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
    check_flag(training, "training")
    check_flag(scale_by_keep, "scale_by_keep")
    check_rank(input, 1, 64, "(N, ...)")
    batch = check_dim(batch_dim, "batch_dim", input)
    if not training or p == 0.0:
        return input
    check_floating(input)
    check_generator(generator)
    if is_dtensor(input):
        of_shard = partial(
            drop_path,
            p=p,
            mode=mode,
            scale_by_keep=scale_by_keep,
            batch_dim=batch,
            generator=generator,
        )
        return on_shards(of_shard, input, free=(batch,) if mode == "row" else ())
    if p == 1.0:
        return drop_all(input)
    shape = [1] * input.dim()  # e.g. (N, 1, 1, 1)
    if mode == "row":
        shape[batch] = input.shape[batch]
    keep = sample_keep(shape, p, input.device, generator)
    scale = inverse_keep(p, input.dtype) if scale_by_keep else 1.0
    return apply_mask(input, keep, scale)


class DropPath(DropLayer):
    """DropPath as a layer: ``x + self.drop_path(branch(x))``; see :func:`drop_path`.

    Args:
        p: the probability that a path is dropped, in [0, 1].
        mode: "row" decides for each sample, "batch" once for the whole mini-batch.
        scale_by_keep: scale the kept samples by 1 / (1 - p).
        batch_dim: the dimension of the samples: 0, or 1 for (T, N, C), the default
            order of ``torch.nn.MultiheadAttention``.

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

    @by_name_after(1)
    def __init__(
        self,
        p: float = 0.0,
        *,
        mode: str = "row",
        scale_by_keep: bool = True,
        batch_dim: int = 0,
    ) -> None:
        super().__init__(p)
        self.mode = check_choice(mode, "mode", _MODES)
        self.scale_by_keep = check_flag(scale_by_keep, "scale_by_keep")
        self.batch_dim = check_whole(batch_dim, "batch_dim", least=None)

    def drop(self, input: Tensor) -> Tensor:
        return drop_path(
            input,
            self.p,
            self.training,
            mode=self.mode,
            scale_by_keep=self.scale_by_keep,
            batch_dim=self.batch_dim,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        """p, mode and the arguments that differ from their defaults."""
        text = f"p={self.p}, mode={self.mode!r}"
        if not self.scale_by_keep:
            text += ", scale_by_keep=False"
        if self.batch_dim != 0:
            text += f", batch_dim={self.batch_dim}"
        return text
