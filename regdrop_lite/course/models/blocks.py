"""The blocks of the nets, with one place for any regulariser."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite import DropBlock2d, DropPath, SpatialDropout2d
from regdrop_lite._checks import check_choice

__all__ = [
    "PLACEMENTS",
    "REGULARISERS",
    "ConvNormAct",
    "ResidualBlock",
    "TransformerBlock",
    "make_regulariser",
]

REGULARISERS = ("none", "element", "spatial", "drop_path", "drop_block")
"""The names that :func:`make_regulariser` knows."""

PLACEMENTS = ("branch", "after_sum", "before_norm")
"""The places for a regulariser in a :class:`ResidualBlock`."""


def make_regulariser(
    name: str,
    p: float,
    *,
    block_size: int = 3,
    shared: bool = False,
    border: str = "valid",
) -> nn.Module:
    """Make a layer that drops, by name. Only the shape of its mask differs.

    Args:
        name: ``"none"`` (no mask, p has to be 0), ``"element"`` (one decision for each
            value), ``"spatial"`` (for each channel), ``"drop_path"`` (for each sample)
            or ``"drop_block"`` (for each block of a channel).
        p: the probability to drop, 0 to 1.
        block_size: the side of a block, in pixels; read by ``"drop_block"`` only.
        shared: one mask for all channels of a sample; read by ``"drop_block"`` only.
        border: ``"valid"`` or ``"clip"``, see :func:`~regdrop_lite.drop_block`; read
            by ``"drop_block"`` only.

    Raises:
        TypeError: if p is no number.
        ValueError: for an unknown name, or a rate that does not fit.

    Example:
        >>> make_regulariser("drop_block", 0.1, block_size=5)
        DropBlock2d(p=0.1, block_size=5)
    """
    check_choice(name, "regulariser", REGULARISERS)
    if name == "none":
        if p != 0:
            raise ValueError(f"regulariser 'none' has no rate, but got p={p}")
        return nn.Identity()
    if name == "element":
        # Blocks of one pixel are element dropout, exactly. nn.Dropout would do, but
        # takes no generator, and its masks could not be repeated on another device.
        return DropBlock2d(p, block_size=1)
    if name == "spatial":
        return SpatialDropout2d(p)
    if name == "drop_path":
        return DropPath(p)
    return DropBlock2d(p, block_size, border=border, shared=shared)


class ConvNormAct(nn.Module):
    """Convolution, batch norm, activation, and then, if given, a regulariser.

    The regulariser comes last: in front of the norm it would disturb the statistics
    that the norm measures, and the activation would act on a disturbed value.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd, so that a convolution with stride 1 keeps H and W.
        stride: 2 halves H and W (rounded up).
        act: ``"relu"`` or ``"silu"``.
        drop: a layer that drops, or None.

    Raises:
        ValueError: if ``kernel_size`` is even or ``act`` unknown.

    Example:
        >>> import torch
        >>> block = ConvNormAct(3, 16, act="silu", drop=SpatialDropout2d(0.2))
        >>> block(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        act: Literal["relu", "silu"] = "relu",
        drop: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_choice(act, "act", ("relu", "silu"))
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size has to be odd, but got {kernel_size}")
        # No bias: the norm would subtract it at once.
        around = kernel_size // 2
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, around, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU() if act == "relu" else nn.SiLU()
        self.drop = drop if drop is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))  # (N, out_channels, H', W')
        return self.drop(x)


class ResidualBlock(nn.Module):
    """The post-activation residual block: ``relu(skip(x) + branch(x))``.

    The branch is conv, norm, relu, conv, norm. The skip is the input itself or, where
    the shape changes, a 1 x 1 convolution with a norm.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution; 2 halves H and W (rounded up).
        drop: a layer that drops, or None.
        placement: where it stands. ``"branch"``: at the end of the branch, so that the
            skip always passes whole; ``"after_sum"``: on the sum, so that it hits the
            skip too; ``"before_norm"``: in front of the last norm of the branch.

    Raises:
        ValueError: if ``placement`` is unknown.

    Example:
        >>> import torch
        >>> block = ResidualBlock(8, 16, stride=2, drop=DropPath(0.1))
        >>> block(torch.zeros(2, 8, 14, 14)).shape
        torch.Size([2, 16, 7, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        drop: nn.Module | None = None,
        placement: str = "branch",
    ) -> None:
        super().__init__()
        check_choice(placement, "placement", PLACEMENTS)
        self.placement = placement
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, bias=False
        )
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()
        self.drop = drop if drop is not None else nn.Identity()
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.norm1(self.conv1(x)))  # (N, out_channels, H', W')
        out = self.conv2(out)
        if self.placement == "before_norm":
            out = self.drop(out)
        out = self.norm2(out)
        if self.placement == "branch":
            out = self.drop(out)
        out = out + self.skip(x)
        if self.placement == "after_sum":
            out = self.drop(out)
        return self.act(out)


class TransformerBlock(nn.Module):
    """The pre-norm Transformer block: two branches, each after a norm of its own.

    First ``x + attention(norm(x))``, then ``x + mlp(norm(x))``. The attention looks at
    all tokens; the MLP is linear, GELU, linear, with ``2 * dim`` values between. Each
    branch ends with a layer that drops, if given, so that the skip always passes whole.

    Args:
        dim: the length of a token.
        heads: the number of heads of the attention; has to divide ``dim``.
        attention_drop: a layer that drops, for the first branch, or None.
        mlp_drop: one for the second, or None. It has to be another layer.

    Raises:
        ValueError: if ``heads`` does not divide ``dim``.

    Example:
        >>> import torch
        >>> block = TransformerBlock(32, 4, DropPath(0.1), DropPath(0.1))
        >>> block(torch.zeros(2, 16, 32)).shape
        torch.Size([2, 16, 32])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention_drop: nn.Module | None = None,
        mlp_drop: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads has to divide dim, but got {heads} and {dim}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.drop1 = attention_drop if attention_drop is not None else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )
        self.drop2 = mlp_drop if mlp_drop is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop1(self._attend(self.norm1(x)))  # (N, tokens, dim)
        return x + self.drop2(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        # (N, tokens, 3 * dim) to three tensors of shape (N, heads, tokens, dim / heads)
        parts = self.query_key_value(x).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.mix(mixed.transpose(1, 2).flatten(2))
