"""What a measure of a study is, and what it is given.

A function of this package becomes a measure by one decorator, which names it and the
metrics that it brings. New plans know both from then on, if ``__init__`` imports from
the function's file. A plan that has rows takes no new measure: its runs are over.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from regdrop_lite._checks import check_choice
from regdrop_lite.course.data import Dataset, as_tensors, make_generator

__all__ = ["MEASURES", "Measure", "Result", "Subject", "measure"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model and what the measures of the study need to know of its run.

    Attributes:
        model: one with a ``stem``, residual blocks and a ``head``, such as
            :class:`~regdrop_lite.course.models.nets.ResNetSmall`.
        data: what it was trained on.
        split: ``"validation"`` or ``"test"``: on which images it is judged.
        given_labels: the labels of the training images that the model was given, int64,
            shape (number of training images,).
        seed: fixes which images are drawn and all else that is random. Models with the
            same seed are measured on the same images.

    Raises:
        ValueError: if ``split`` is unknown or the labels do not fit the training split.
    """

    model: nn.Module
    data: Dataset
    split: str
    given_labels: Tensor
    seed: int

    def __post_init__(self) -> None:
        check_choice(self.split, "split", ("validation", "test"))
        given, true = self.given_labels, self.data.train.labels
        if given.shape != true.shape or given.dtype != true.dtype:
            raise ValueError(
                f"given_labels: expected {true.dtype} of shape {tuple(true.shape)}, "
                f"but got {given.dtype} of shape {tuple(given.shape)}"
            )

    def judged(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Give images of ``split`` and their labels: all, or at most so many."""
        return self._load(self.split, getattr(self.data, self.split).labels, most)

    def trained(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Give training images and the labels given to the model, likewise."""
        return self._load("train", self.given_labels, most)

    def _load(
        self, split: str, labels: Tensor, most: int | None
    ) -> tuple[Tensor, Tensor]:
        parameter = next(self.model.parameters())
        images, _ = as_tensors(getattr(self.data, split), parameter.dtype)
        order = torch.randperm(len(images), generator=self.generator(split))
        chosen = order[:most].sort().values
        return images[chosen].to(parameter.device), labels[chosen].to(parameter.device)

    def generator(self, purpose: str) -> torch.Generator:
        return make_generator(self.seed, f"measure {purpose}")


Result = dict[str, float | list[float] | None]


@dataclass(frozen=True)
class Measure:
    """A measure of a study; call it with a :class:`Subject`.

    Attributes:
        function: gives one number, or list of numbers, for each metric.
        metrics: their names.
    """

    function: Callable[[Subject], Result]
    metrics: tuple[str, ...]

    def __call__(self, subject: Subject) -> Result:
        result = self.function(subject)
        if tuple(result) != self.metrics:
            raise RuntimeError(
                f"expected the metrics {', '.join(self.metrics)}, "
                f"but got {', '.join(result)}"
            )
        return result


MEASURES: dict[str, Measure] = {}
"""The measures of a study, by the name that plans call them."""


def measure(
    name: str, *metrics: str
) -> Callable[[Callable[[Subject], Result]], Callable[[Subject], Result]]:
    """Make a function a measure of studies.

    Args:
        name: what plans call it.
        metrics: the names of what it gives, in its order.
    """

    def declare(function: Callable[[Subject], Result]) -> Callable[[Subject], Result]:
        MEASURES[name] = Measure(function, metrics)
        return function

    return declare


def forward(
    model: nn.Module, images: Tensor, replaced: dict[str, Tensor] | None = None
) -> Tensor:
    """Give the logits in the mode the model is in, with some parameters replaced."""
    batches = images.split(100)
    return torch.cat([functional_call(model, replaced or {}, (x,)) for x in batches])
