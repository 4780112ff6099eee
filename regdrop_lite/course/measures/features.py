"""What a net computes on its way: features, and gradients of its blocks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from regdrop_lite.course.measures.damage import residual_blocks
from regdrop_lite.course.measures.subject import Result, Subject, measure
from regdrop_lite.course.evaluation import check_batch, draw_masks_from, predict

__all__ = ["effective_rank", "features", "gradient_norms"]


def features(model: nn.Module, images: Tensor) -> Tensor:
    """Give what the last layer, the model's ``head``, gets to see.

    Args:
        model, images: see :mod:`regdrop_lite.course.measures`.

    Returns:
        Shape (N, number of features).

    Raises:
        ValueError: if the model has no ``head``.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Module):
        raise ValueError(
            "expected a model whose last layer is named head, "
            f"but {type(model).__name__} has none"
        )
    seen = []
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        predict(model, images)
    finally:
        handle.remove()
    return torch.cat(seen)


def effective_rank(features: Tensor) -> float:
    """Measure over how many directions features spread.

    With the singular values s of the centred features and ``p = s / sum(s)``, it is
    ``exp(-sum(p * log(p)))``: 1 if all features move together, and their number if they
    spread evenly.

    Args:
        features: shape (N, number of features).

    Raises:
        ValueError: if the shape does not fit, or all rows are equal.

    Source: Roy and Vetterli 2007, The effective rank.

    Example:
        >>> round(effective_rank(torch.eye(5)), 6)  # centred, one direction is lost
        4.0
    """
    if features.ndim != 2:
        raise ValueError(
            "features: expected the shape (N, number of features), "
            f"but got {tuple(features.shape)}"
        )
    if not (features != features[:1]).any():
        raise ValueError("features: expected rows that differ, but all are equal")
    features = features.double()
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    return torch.special.entr(values / values.sum()).sum().exp().item()


def gradient_norms(
    model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
) -> list[float]:
    """Measure how strongly a training step pulls at each residual block.

    The gradient is that of training: masks on, batch norm with the statistics of these
    images. Its running statistics stay as they were.

    Args:
        model, images, labels, generator: see :mod:`regdrop_lite.course.measures`.

    Returns:
        For each of the ``residual_blocks``, the Euclidean norm of the gradient of
        the mean loss with respect to all its parameters.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape does not fit, or the model has no residual block.

    Source: after Huang et al. 2016, Deep networks with stochastic depth, figure 8.
    """
    check_batch(model, images, labels)
    blocks = [list(block.parameters()) for block in residual_blocks(model)]
    parameters = [parameter for block in blocks for parameter in block]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with draw_masks_from(generator, model):
        model.train()
        loss = F.cross_entropy(functional_call(model, buffers, (images,)), labels)
        gradients = iter(torch.autograd.grad(loss, parameters))
    return [
        math.hypot(*(next(gradients).norm().item() for _ in block)) for block in blocks
    ]


# --- for studies ---------------------------------------------------------------------


@measure("effective_rank", "effective_rank")
def _measure_effective_rank(subject: Subject) -> Result:
    images, _ = subject.judged(500)
    return {"effective_rank": effective_rank(features(subject.model, images))}


@measure("gradient_norm", "gradient_norm")
def _measure_gradient_norm(subject: Subject) -> Result:
    images, labels = subject.trained(250)
    generator = subject.generator("gradient_norm")
    return {"gradient_norm": gradient_norms(subject.model, images, labels, generator)}
