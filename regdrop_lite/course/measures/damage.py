"""Predictions of a damaged net, or of damaged images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from regdrop_lite._checks import check_probability
from regdrop_lite._random import sample_keep
from regdrop_lite.course.evaluation import predict, score
from regdrop_lite.course.measures.subject import Result, Subject, measure
from regdrop_lite.course.models import ResidualBlock

__all__ = ["ablate_channels", "delete_branch", "occlude", "residual_blocks"]


def residual_blocks(model: nn.Module) -> list[ResidualBlock]:
    """List the residual blocks of a model, from the first to the last.

    Raises:
        ValueError: if there is none.
    """
    blocks = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    if not blocks:
        raise ValueError(
            "expected a model with modules of the class ResidualBlock, "
            f"but {type(model).__name__} has none"
        )
    return blocks


def ablate_channels(
    model: nn.Module,
    images: Tensor,
    places: Sequence[nn.Module],
    share: float,
    generator: torch.Generator,
    *,
    rescale: bool = False,
) -> Tensor:
    """Predict with a random share of the channels of some modules' outputs set to zero.

    Each channel of each image is zeroed with probability ``share``, independently. One
    draw for each image has the same mean accuracy as one for all of them, and much less
    scatter.

    Args:
        model, images, generator: see :mod:`regdrop_lite.course.measures`.
        places: modules of the model, with outputs of shape (N, C', H', W'). The end of
            a block's branch is its ``norm2``: in eval mode a regulariser after it is
            the identity.
        share: the probability to zero a channel.
        rescale: whether to multiply the other channels by 1 / (1 - share), as dropout
            does.

    Returns:
        Logits.

    Raises:
        ValueError: if ``share`` is not from 0 to 1, or there is no place.

    Source: after Morcos et al. 2018, On the importance of single directions for
    generalization.
    """
    check_probability(share, "share")
    if not places:
        raise ValueError("places: expected at least one module, but got none")
    scale = 1 / (1 - share) if rescale and share < 1 else 1.0

    def zero(output: Tensor) -> Tensor:
        shape = (*output.shape[:2], 1, 1)
        keep = sample_keep(shape, share, output.device, generator)
        return output * keep * scale

    with _changed_outputs(places, zero):
        return predict(model, images)


def delete_branch(model: nn.Module, images: Tensor, block: ResidualBlock) -> Tensor:
    """Predict with one residual branch removed, so that only its skip is left.

    Args:
        model, images: see :mod:`regdrop_lite.course.measures`.
        block: one of the :func:`residual_blocks` of the model.

    Returns:
        Logits.

    Source: Veit et al. 2016, Residual networks behave like ensembles of relatively
    shallow networks.
    """
    with _changed_outputs([block.norm2], torch.zeros_like):
        return predict(model, images)


def occlude(
    images: Tensor, size: int, generator: torch.Generator, value: float = 0.0
) -> Tensor:
    """Cover a square of each image, at a random place inside the image.

    Args:
        images, generator: see :mod:`regdrop_lite.course.measures`.
        size: the side of the square, in pixels.
        value: what covers; 0 is the mean grey of normalised images.

    Returns:
        New images.

    Raises:
        ValueError: if ``size`` is not from 0 to the smaller of H and W.

    Source: after Zeiler and Fergus 2014, Visualizing and understanding convolutional
    networks.

    Example:
        >>> from regdrop_lite.course.data import make_generator
        >>> occlude(torch.ones(1, 1, 4, 4), 3, make_generator(0, "example"))[0, 0]
        tensor([[1., 1., 1., 1.],
                [1., 0., 0., 0.],
                [1., 0., 0., 0.],
                [1., 0., 0., 0.]])
    """
    n, _, height, width = images.shape
    if not 0 <= size <= min(height, width):
        raise ValueError(
            f"size: expected 0 to {min(height, width)} pixels, but got {size}"
        )

    def cover(side: int) -> Tensor:
        start = torch.randint(side - size + 1, (n, 1), generator=generator)
        position = torch.arange(side)
        return (position >= start) & (position < start + size)  # (N, side)

    rows, columns = cover(height), cover(width)
    square = rows[:, None, :, None] & columns[:, None, None, :]  # (N, 1, H, W)
    return images.masked_fill(square.to(images.device), value)


# --- for studies ---------------------------------------------------------------------


@measure(
    "ablated_channels",
    "ablated_share",
    "ablated_branch_accuracy",
    "ablated_branch_rescaled_accuracy",
    "ablated_stem_accuracy",
)
def _measure_ablated_channels(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    model, shares = subject.model, [0.0, 0.1, 0.2, 0.4]
    branches = [block.norm2 for block in residual_blocks(model)]

    def curve(places: Sequence[nn.Module], rescale: bool = False) -> list[float]:
        generator = subject.generator("ablated_channels")
        return [
            score(
                ablate_channels(
                    model, images, places, share, generator, rescale=rescale
                ),
                labels,
            ).accuracy
            for share in shares
        ]

    return {
        "ablated_share": shares,
        "ablated_branch_accuracy": curve(branches),
        "ablated_branch_rescaled_accuracy": curve(branches, rescale=True),
        "ablated_stem_accuracy": curve([model.get_submodule("stem")]),
    }


@measure("deleted_blocks", "deleted_none_accuracy", "deleted_block_accuracy")
def _measure_deleted_blocks(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    return {
        "deleted_none_accuracy": score(predict(subject.model, images), labels).accuracy,
        "deleted_block_accuracy": [
            score(delete_branch(subject.model, images, block), labels).accuracy
            for block in residual_blocks(subject.model)
        ],
    }


@measure("occlusion", "occlusion_size", "occlusion_accuracy")
def _measure_occlusion(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    generator = subject.generator("occlusion")
    sides = range(0, min(images.shape[2:]) * 3 // 4, 5)
    covered = (occlude(images, side, generator) for side in sides)
    return {
        "occlusion_size": [float(side) for side in sides],
        "occlusion_accuracy": [
            score(predict(subject.model, x), labels).accuracy for x in covered
        ],
    }


@contextmanager
def _changed_outputs(
    modules: Iterable[nn.Module], change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Let the modules give ``change(output)`` instead of their output."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return change(output)

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
