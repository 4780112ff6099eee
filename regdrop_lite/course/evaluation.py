"""Predictions and how well they fit labels: what training and measures share.

Example:
    >>> from regdrop_lite.course.data import load_data
    >>> from regdrop_lite.course.models import TinyCNN
    >>> untrained = evaluate(TinyCNN(seed=0), load_data().validation)
    >>> untrained.accuracy < 0.3
    True
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite import DropLayer, set_generator
from regdrop_lite.course.data import Split, as_tensors

__all__ = [
    "Metrics",
    "check_batch",
    "check_logits",
    "draw_masks_from",
    "evaluate",
    "predict",
    "score",
]


@dataclass(frozen=True)
class Metrics:
    """How well predictions fit labels.

    Attributes:
        loss: the mean negative log-likelihood, in nats per image.
        accuracy: the share of images whose largest logit is the label's, 0 to 1.
    """

    loss: float
    accuracy: float


def score(logits: Tensor, labels: Tensor) -> Metrics:
    """Compare logits of shape (N, K) with labels of shape (N,).

    Raises:
        ValueError: if a shape or a label does not fit.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> metrics = score(logits, torch.tensor([0, 1]))
        >>> print(f"{metrics.loss:.4f} nats, {metrics.accuracy:.0%} right")
        0.4100 nats, 50% right
    """
    check_logits(logits, labels)
    logits = logits.double()  # so that the mean of many losses loses nothing
    return Metrics(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(logits.argmax(dim=1) == labels).double().mean().item(),
    )


def predict(model: nn.Module, images: Tensor, batch_size: int = 100) -> Tensor:
    """Give the logits for any number of images, with the masks switched off.

    Args:
        model: maps (N, C, H, W) to (N, K). It stays in eval mode.
        images: floating point, shape (N, C, H, W), in the model's dtype.
        batch_size: how many images pass through the model at a time.
    """
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch) for batch in images.split(batch_size)])


def evaluate(model: nn.Module, split: Split, batch_size: int = 100) -> Metrics:
    """Evaluate the model on a split, normalised as in training.

    The images take on the dtype and the device of the model's parameters.

    Args:
        model: maps (N, C, H, W) to (N, K). It stays in eval mode.
        split: one part of a data set.
        batch_size: how many images pass through the model at a time.

    Raises:
        ValueError: if the split is empty, or the model gives another number of logits
            than the labels ask for.
    """
    if not len(split):
        raise ValueError("split: expected at least one image, but got none")
    parameter = next(model.parameters())
    images, labels = as_tensors(split, parameter.dtype)
    logits = predict(model, images.to(parameter.device), batch_size)
    return score(logits, labels.to(parameter.device))


@contextmanager
def draw_masks_from(generator: torch.Generator, model: nn.Module) -> Iterator[None]:
    """Let the layers of a model draw from a generator, for a while.

    Afterwards, and also after an error, each layer has the generator that it had, and
    the model is in eval mode.
    """
    before = [(m, m.generator) for m in model.modules() if isinstance(m, DropLayer)]
    set_generator(model, generator)
    try:
        yield
    finally:
        for layer, own in before:
            layer.generator = own
        model.eval()


def check_batch(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Raise unless a batch fits itself and the dtype of the model."""
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: expected int64, but got {labels.dtype}")
    if labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(
            "expected images of shape (N, ...) and labels of shape (N,) with N > 0, "
            f"but got {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    parameter = next(model.parameters())
    if images.dtype != parameter.dtype:
        raise TypeError(
            f"images: expected the model's {parameter.dtype}, but got {images.dtype}: "
            "give as_tensors or the model the other dtype"
        )


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise unless there is one row for each label and one column for each class."""
    if logits.ndim != 2 or len(logits) != len(labels) or not len(labels):
        raise ValueError(
            f"logits: expected the shape ({len(labels)}, number of classes), "
            f"but got {tuple(logits.shape)}"
        )
    low, high, classes = int(labels.min()), int(labels.max()), logits.shape[1]
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels: expected numbers from 0 to {classes - 1}, one for each of the "
            f"model's {classes} logits, but got {low} to {high}"
        )
