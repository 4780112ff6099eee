"""SpatialDropout: drop whole feature maps.

Neighbouring values of a feature map are nearly the same, so dropping single values
hides little: the neighbours tell what is missing. SpatialDropout drops the whole map
of a channel instead, for each sample on its own.

Reference: Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient Object Localization
Using Convolutional Networks", CVPR 2015.
"""

from functools import partial

import torch
from torch import Tensor

from regdrop_lite._checks import (
    by_name_after,
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


@overridable
def spatial_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    channel_dim: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Zero whole channels of each sample, scale the others by 1 / (1 - p).

    Args:
        input: a batch of feature maps, at least three dimensions: (N, C, L),
            (N, C, H, W), (N, C, D, H, W), or channel last, e.g. (N, H, W, C), with
            ``channel_dim=-1``. The batch is dimension 0.
        p: the probability that a channel is dropped, in [0, 1].
        training: ``False`` returns ``input`` itself.
        inplace: write the result into ``input``.
        channel_dim: the dimension of the channels; negative ones count from the end.
        generator: the source of the mask; by default PyTorch's global generator.

    Returns:
        A tensor like ``input``. With ``training=False`` or p = 0 it is ``input``
        itself; with p = 1 it is all zeros. For p < 1 every element has the
        expectation of its input. A dropped channel is multiplied by 0: an infinity or
        NaN in it becomes NaN, as in torch.nn.Dropout2d (but p = 1 gives zeros).

    Raises:
        TypeError: ``p`` is no number, a flag neither True nor False, or ``input`` no
            floating-point tensor.
        ValueError: ``p`` is outside [0, 1], ``input`` has fewer than three dimensions,
            ``channel_dim`` is the batch or does not exist, or 1 / (1 - p) is too large
            for the dtype of ``input``.
        RuntimeError: an explicit generator under compile, export, vmap, a tracer or
            activation checkpointing.

    Example:
        >>> import torch
        >>> from regdrop_lite import spatial_dropout
        >>> x = torch.ones(1, 4, 2, 2)  # (N, C, H, W)
        >>> g = torch.Generator().manual_seed(0)
        >>> y = spatial_dropout(x, p=0.5, generator=g)
        >>> y.amax(dim=(2, 3)).tolist()  # one value per channel
        [[2.0, 2.0, 0.0, 2.0]]
    """
    p = check_probability(p)
    check_flag(training, "training")
    check_flag(inplace, "inplace")
    check_rank(input, 3, 64, "(N, C, ...) with at least one spatial dimension")
    channel = check_dim(channel_dim, "channel_dim", input, besides=0)
    if not training or p == 0.0:
        return input
    check_floating(input)
    check_generator(generator)
    if is_dtensor(input):
        of_shard = partial(
            spatial_dropout,
            p=p,
            inplace=inplace,
            channel_dim=channel,
            generator=generator,
        )
        return on_shards(of_shard, input, free=(0, channel))
    if p == 1.0:
        return drop_all(input, inplace)
    shape = [  # e.g. (N, C, 1, 1)
        n if d in (0, channel) else 1 for d, n in enumerate(input.shape)
    ]
    keep = sample_keep(shape, p, input.device, generator)
    return apply_mask(input, keep, inverse_keep(p, input.dtype), inplace)


class _SpatialDropout(DropLayer):
    layout: str  # the expected shape, channels first

    @by_name_after(1)
    def __init__(
        self, p: float = 0.5, *, inplace: bool = False, channel_dim: int = 1
    ) -> None:
        super().__init__(p)
        self.inplace = check_flag(inplace, "inplace")
        self.channel_dim = check_whole(channel_dim, "channel_dim", least=None)

    def drop(self, input: Tensor) -> Tensor:
        dims = self.layout.count(",") + 1
        check_rank(input, dims, dims, self.layout)
        return spatial_dropout(
            input,
            self.p,
            self.training,
            self.inplace,
            channel_dim=self.channel_dim,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        """p and the arguments that differ from their defaults."""
        text = f"p={self.p}"
        if self.inplace:
            text += ", inplace=True"
        if self.channel_dim != 1:
            text += f", channel_dim={self.channel_dim}"
        return text


class SpatialDropout1d(_SpatialDropout):
    """SpatialDropout for sequences (N, C, L); see :func:`spatial_dropout`.

    Args:
        p: the probability that a channel is dropped, in [0, 1].
        inplace: write the result into the input.
        channel_dim: the dimension of the channels: 1 for (N, C, L), -1 for (N, L, C).

    Example:
        >>> import torch
        >>> from regdrop_lite import SpatialDropout1d
        >>> SpatialDropout1d(p=0.2, channel_dim=-1)(torch.ones(8, 100, 16)).shape
        torch.Size([8, 100, 16])
    """

    layout = "(N, C, L)"


class SpatialDropout2d(_SpatialDropout):
    """SpatialDropout for images (N, C, H, W); see :func:`spatial_dropout`.

    Args:
        p: the probability that a channel is dropped, in [0, 1].
        inplace: write the result into the input.
        channel_dim: the dimension of the channels: 1 for (N, C, H, W), -1 for
            (N, H, W, C).

    Example:
        >>> import torch
        >>> from regdrop_lite import SpatialDropout2d
        >>> layer = SpatialDropout2d(p=0.2)
        >>> layer
        SpatialDropout2d(p=0.2)
        >>> x = torch.ones(8, 16, 32, 32)
        >>> layer.eval()(x) is x
        True
    """

    layout = "(N, C, H, W)"


class SpatialDropout3d(_SpatialDropout):
    """SpatialDropout for volumes (N, C, D, H, W); see :func:`spatial_dropout`.

    Args:
        p: the probability that a channel is dropped, in [0, 1].
        inplace: write the result into the input.
        channel_dim: the dimension of the channels: 1 for (N, C, D, H, W), -1 for
            (N, D, H, W, C).

    Example:
        >>> import torch
        >>> from regdrop_lite import SpatialDropout3d
        >>> SpatialDropout3d(p=0.2)(torch.ones(2, 16, 4, 8, 8)).shape
        torch.Size([2, 16, 4, 8, 8])
    """

    layout = "(N, C, D, H, W)"
