"""The nets of the chapters: a small one, a residual one of any depth, and a ViT."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from regdrop_lite import DropPath, drop_path_rates
from regdrop_lite.course.data import make_generator
from regdrop_lite.course.models.blocks import (
    ConvNormAct,
    ResidualBlock,
    TransformerBlock,
    make_regulariser,
)

__all__ = ["ResNetSmall", "TinyCNN", "ViTSmall", "count_parameters", "initialise"]


class TinyCNN(nn.Module):
    """A small CNN: strided stem and convolution, two residual blocks, linear head.

    It has 10,786 parameters for one input channel and ten classes. The regulariser
    stands in both residual blocks and, if wanted, after the stem.

    Args:
        num_classes: the number of logits, K.
        in_channels: channels of the images.
        regulariser: one of :data:`~regdrop_lite.course.models.blocks.REGULARISERS`.
        p: the probability to drop; for ``"drop_path"`` the largest one.
        schedule: how the rates of ``"drop_path"`` grow with depth, see
            :func:`~regdrop_lite.drop_path_rates`. The other regularisers have p in
            every block.
        block_size: the side of a block of ``"drop_block"``, in pixels.
        shared: whether all channels of a sample share the mask of ``"drop_block"``.
        placement: one of :data:`~regdrop_lite.course.models.blocks.PLACEMENTS`.
        drop_in_stem: whether the stem ends with the regulariser too. ``"drop_path"``
            cannot: no skip would carry the sample on.
        seed: fixes the initial weights, see :func:`initialise`.
        dtype: of the parameters.

    Raises:
        TypeError: if p is no number.
        ValueError: if an argument is unknown or does not fit.

    Example:
        >>> model = TinyCNN(regulariser="spatial", p=0.1)
        >>> model(torch.zeros(2, 1, 28, 28, dtype=torch.float64)).shape
        torch.Size([2, 10])
        >>> count_parameters(model)
        10786
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        regulariser: str = "none",
        p: float = 0.0,
        *,
        schedule: str = "linear",
        block_size: int = 3,
        shared: bool = False,
        placement: str = "branch",
        drop_in_stem: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if drop_in_stem and regulariser == "drop_path":
            raise ValueError("drop_in_stem has to be False with 'drop_path'")
        drops = _make_regularisers(
            (2,), regulariser, p, schedule, block_size, shared=shared
        )
        stem_drop = None
        if drop_in_stem:
            stem_drop = make_regulariser(
                regulariser, p, block_size=block_size, shared=shared
            )
        with torch.random.fork_rng(devices=[]):  # PyTorch's own weights are replaced
            self.stem = ConvNormAct(in_channels, 8, stride=2, drop=stem_drop)
            self.down = ConvNormAct(8, 16, stride=2)
            self.block1 = ResidualBlock(16, 16, drop=next(drops), placement=placement)
            self.block2 = ResidualBlock(16, 16, drop=next(drops), placement=placement)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(16, num_classes)
        initialise(self.to(dtype), make_generator(seed, "weights"))

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.stem.conv.in_channels)  # (N, in_channels, 28, 28)
        x = self.stem(x)  # (N, 8, 14, 14)
        x = self.down(x)  # (N, 16, 7, 7)
        x = self.block2(self.block1(x))
        x = self.pool(x).flatten(1)  # (N, 16)
        return self.head(x)  # (N, num_classes)


class ResNetSmall(nn.Module):
    """A residual net for small images: stem of stride 2, three stages, linear head.

    The stages have 8, 16 and 32 channels, on maps of 14 x 14, 7 x 7 and 4 x 4 for
    images of 28 x 28. With four blocks each, one input channel and ten classes the net
    has 93,058 parameters. The regulariser stands in every residual block and nowhere
    else.

    Args:
        num_classes, in_channels, seed, dtype: as in :class:`TinyCNN`.
        regulariser, p, schedule, shared, placement: as in :class:`TinyCNN`.
        depths: the number of blocks in each of the three stages, at least 1.
        block_size: the side of a block of ``"drop_block"``, in pixels: one number, or
            one for each stage.
        border: ``"valid"`` or ``"clip"``, see :func:`~regdrop_lite.drop_block`.
        stages: the stages, from 1 to 3, whose blocks have the regulariser. It does not
            change the rates of the others.
        path_p: the largest rate of a DropPath with the same ``schedule``, which stands
            beside the regulariser, after it; 0 for none.

    Raises:
        TypeError: if p is no number.
        ValueError: if an argument is unknown or does not fit.

    Example:
        >>> model = ResNetSmall(regulariser="drop_path", p=0.2, depths=(1, 1, 1))
        >>> [block.drop.p for stage in model.stages for block in stage]
        [0.0, 0.1, 0.2]
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        regulariser: str = "none",
        p: float = 0.0,
        *,
        depths: Sequence[int] = (4, 4, 4),
        schedule: str = "linear",
        block_size: int | Sequence[int] = 3,
        shared: bool = False,
        border: str = "valid",
        placement: str = "branch",
        stages: Sequence[int] = (1, 2, 3),
        path_p: float = 0.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if len(depths) != 3 or min(depths) < 1:
            raise ValueError(
                f"depths has to be three numbers from 1, but got {tuple(depths)}"
            )
        if not stages or not set(stages) <= {1, 2, 3}:
            raise ValueError(
                f"stages has to name some of 1, 2 and 3, but got {tuple(stages)}"
            )
        if path_p and (regulariser == "drop_path" or placement != "branch"):
            raise ValueError(
                "path_p has to be 0 with the regulariser 'drop_path' and with every "
                f"placement but 'branch', but got {path_p}"
            )
        drops = _make_regularisers(
            *(depths, regulariser, p, schedule, block_size),
            stages=stages,
            path_p=path_p,
            shared=shared,
            border=border,
        )
        with torch.random.fork_rng(devices=[]):  # PyTorch's own weights are replaced
            self.stem = ConvNormAct(in_channels, 8, stride=2)
            built, channels = [], 8
            for width, depth in zip((8, 16, 32), depths, strict=True):
                stage = []
                for _ in range(depth):
                    # Where the channels double, H and W halve.
                    stride = width // channels
                    block = ResidualBlock(
                        channels, width, stride, drop=next(drops), placement=placement
                    )
                    stage.append(block)
                    channels = width
                built.append(nn.Sequential(*stage))
            self.stages = nn.Sequential(*built)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(channels, num_classes)
        initialise(self.to(dtype), make_generator(seed, "weights"))

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.stem.conv.in_channels)  # (N, in_channels, 28, 28)
        x = self.stem(x)  # (N, 8, 14, 14)
        x = self.stages(x)  # (N, 32, 4, 4)
        x = self.pool(x).flatten(1)  # (N, 32)
        return self.head(x)  # (N, num_classes)


class ViTSmall(nn.Module):
    """A small Vision Transformer: patches, pre-norm blocks, mean, linear head.

    An image is cut into square patches, and each becomes a token of ``dim`` numbers, to
    which a learnt position is added. Blocks of type
    :class:`~regdrop_lite.course.models.blocks.TransformerBlock` follow. There is no
    class token: the head sees the mean of the tokens. With six blocks, tokens of 32
    numbers, patches of 7 x 7 pixels, one input channel and ten classes the net has
    53,770 parameters. Every branch of every block ends with a DropPath; the two of a
    block have the same rate and draw their own masks.

    Args:
        num_classes, in_channels, seed, dtype: as in :class:`TinyCNN`.
        p: the largest probability to drop a branch.
        schedule: how the rates grow with the block, see
            :func:`~regdrop_lite.drop_path_rates`.
        depth: the number of blocks, at least 1.
        dim: the length of a token.
        heads: the number of heads of each attention; has to divide ``dim``.
        patch_size: the side of a patch, in pixels.
        image_size: the side of the images, in pixels; a multiple of ``patch_size``.

    Raises:
        TypeError: if p is no number.
        ValueError: if an argument is unknown or does not fit.

    Example:
        >>> model = ViTSmall(p=0.2, depth=3)
        >>> [(block.drop1.p, block.drop2.p) for block in model.blocks]
        [(0.0, 0.0), (0.1, 0.1), (0.2, 0.2)]
        >>> model(torch.zeros(2, 1, 28, 28, dtype=torch.float64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        p: float = 0.0,
        *,
        schedule: str = "linear",
        depth: int = 6,
        dim: int = 32,
        heads: int = 2,
        patch_size: int = 7,
        image_size: int = 28,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth has to be a number from 1, but got {depth}")
        if patch_size < 1 or image_size < 1 or image_size % patch_size:
            raise ValueError(
                "patch_size has to divide image_size, but got "
                f"{patch_size} and {image_size}"
            )
        rates = drop_path_rates(p, depth, schedule)
        with torch.random.fork_rng(devices=[]):  # PyTorch's own weights are replaced
            self.patches = nn.Conv2d(in_channels, dim, patch_size, patch_size)
            tokens = (image_size // patch_size) ** 2
            self.position = nn.Parameter(torch.empty(1, tokens, dim))
            blocks = (
                TransformerBlock(dim, heads, DropPath(rate), DropPath(rate))
                for rate in rates
            )
            self.blocks = nn.Sequential(*blocks)
            self.norm = nn.LayerNorm(dim)
            self.head = nn.Linear(dim, num_classes)
        self.image_size = image_size
        generator = make_generator(seed, "weights")
        initialise(self.to(dtype), generator)
        _fill(self.position, 0.02, generator)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(x, self.patches.in_channels)  # (N, in_channels, H, W)
        if x.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"expected images of {self.image_size} x {self.image_size} pixels, "
                f"but got shape {tuple(x.shape)}"
            )
        x = self.patches(x).flatten(2).transpose(1, 2)  # (N, tokens, dim)
        x = self.blocks(x + self.position)
        x = self.norm(x).mean(dim=1)  # (N, dim)
        return self.head(x)  # (N, num_classes)


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw a model's initial weights from one CPU generator, in the modules' order.

    Convolutions get normal numbers of variance 2 / fan_out (Kaiming), linear layers of
    variance 1 / fan_in; biases are 0, norms start as the identity. The numbers are
    drawn in float64 and rounded to the parameters' dtype, so that float32 and float64
    models start alike, on every machine.

    Args:
        model: changed in place. Modules of other kinds are left as they are.
        generator: a CPU generator.

    Example:
        >>> layer = nn.Conv2d(3, 8, 3, bias=False)
        >>> initialise(layer, torch.Generator().manual_seed(0))
        >>> abs(layer.weight.std().item() - (2 / (8 * 9)) ** 0.5) < 0.02
        True
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            _fill(module.weight, math.sqrt(2 / fan_out), generator)
        elif isinstance(module, nn.Linear):
            _fill(module.weight, math.sqrt(1 / module.in_features), generator)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()  # draws no numbers
        bias = getattr(module, "bias", None)
        if isinstance(module, nn.Conv2d | nn.Linear) and bias is not None:
            nn.init.zeros_(bias)


def count_parameters(model: nn.Module) -> int:
    """Count the numbers that training adjusts.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _make_regularisers(
    depths: Sequence[int],
    name: str,
    p: float,
    schedule: str,
    block_size: int | Sequence[int],
    *,
    shared: bool,
    border: str = "valid",
    stages: Sequence[int] = (1, 2, 3),
    path_p: float = 0.0,
) -> Iterator[nn.Module]:
    """Give one layer for each block, from the first to the last."""
    sizes = [block_size] * len(depths) if isinstance(block_size, int) else block_size
    if len(sizes) != len(depths):
        raise ValueError(
            f"block_size has to be one number or {len(depths)}, one for each stage, "
            f"but got {tuple(sizes)}"
        )
    # Lists of rates for each stage. The schedule is checked in any case.
    rates = drop_path_rates(p, depths, schedule)
    if name != "drop_path":
        rates = [[p] * depth for depth in depths]
    path_rates = drop_path_rates(path_p, depths, schedule)
    layers: list[nn.Module] = []
    for stage, size in enumerate(sizes, start=1):
        for rate, path_rate in zip(
            rates[stage - 1], path_rates[stage - 1], strict=True
        ):
            layer = make_regulariser(
                name, rate, block_size=size, shared=shared, border=border
            )
            if path_p:
                layer = nn.Sequential(layer, DropPath(path_rate))
            layers.append(layer if stage in stages else nn.Identity())
    return iter(layers)


def _fill(weight: Tensor, std: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        numbers = torch.randn(weight.shape, dtype=torch.float64, generator=generator)
        weight.copy_(numbers * std)


def _check_images(x: Tensor, in_channels: int) -> None:
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(
            f"expected images of shape (N, {in_channels}, H, W), "
            f"but got {tuple(x.shape)}"
        )
