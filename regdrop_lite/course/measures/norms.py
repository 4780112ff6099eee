"""Statistics of batch norms, measured once more without masks."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from regdrop_lite.course.evaluation import predict
from regdrop_lite.course.measures.predictions import classification
from regdrop_lite.course.measures.subject import Result, Subject, measure

__all__ = ["measure_norms_again"]

Model = TypeVar("Model", bound=nn.Module)


def measure_norms_again(
    model: Model, images: Tensor, *, batch_size: int = 250
) -> Model:
    """Give a copy whose batch norms know the statistics of these images without masks.

    A batch norm after a mask learns a variance that evaluation never shows. The copy
    is in eval mode, so that nothing is dropped, while its batch norms average over the
    batches. Each takes the statistics of what the norms before it give in training.

    Args:
        model: any module; it stays as it is.
        images: shape (N, ...), as the model takes them, more than one.
        batch_size: the most images in a batch; the batches are as equal as can be.

    Returns:
        The copy, in eval mode.

    Raises:
        ValueError: if the model has no batch norm with running statistics, or there
            are fewer than two images.

    Source: Li et al. 2019, Understanding the disharmony between dropout and batch
    normalization by variance shift.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1, affine=False))
        >>> images = torch.tensor([[1.0], [3.0]])
        >>> again = measure_norms_again(model, images)
        >>> again[1].running_mean.item(), again[1].running_var.item()
        (2.0, 2.0)
    """
    if len(images) < 2:
        raise ValueError(f"images: expected at least two, but got {len(images)}")
    copy = deepcopy(model).eval()
    norms = [
        module
        for module in copy.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.track_running_stats
    ]
    if not norms:
        raise ValueError(
            "expected a model with batch norms that keep running statistics, "
            f"but {type(model).__name__} has none"
        )
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    with torch.no_grad():
        for part in images.chunk(-(-len(images) // batch_size)):
            copy(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copy.eval()


# --- for studies ---------------------------------------------------------------------


@measure("norms_again", "norms_again_accuracy", "norms_again_nll")
def _measure_norms_again(subject: Subject) -> Result:
    images, _ = subject.trained()
    judged, labels = subject.judged()
    again = classification(
        predict(measure_norms_again(subject.model, images), judged), labels
    )
    return {
        "norms_again_accuracy": again["accuracy"],
        "norms_again_nll": again["nll"],
    }
