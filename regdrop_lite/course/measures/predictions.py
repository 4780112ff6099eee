"""Predictions against labels, and averages of predictions."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from regdrop_lite import DropLayer
from regdrop_lite.course.measures.subject import Result, Subject, forward, measure
from regdrop_lite.course.evaluation import draw_masks_from, predict, score

__all__ = ["classification", "ensemble", "memorisation", "monte_carlo"]


def classification(logits: Tensor, labels: Tensor, bins: int = 15) -> dict[str, float]:
    """Measure accuracy, likelihood and calibration.

    The expected calibration error sorts the images by confidence, the largest
    probability q of an image, into bins of equal width, (b - 1)/B < q <= b/B, and adds
    up ``(n_b / N) * |accuracy_b - mean confidence_b|``.

    Args:
        logits: shape (N, K); log-probabilities are logits too.
        labels: one for each row.
        bins: the number of bins, B, at least 1.

    Returns:
        ``accuracy``, ``nll`` (the mean negative log-likelihood) and ``ece``.

    Raises:
        ValueError: if a shape, a label or the number of bins does not fit.

    Source: Guo et al. 2017, On calibration of modern neural networks.

    Example:
        >>> logits = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()
        >>> found = classification(logits, torch.tensor([0, 1]))
        >>> {name: round(value, 3) for name, value in found.items()}
        {'accuracy': 0.5, 'nll': 0.857, 'ece': 0.45}
    """
    metrics = score(logits, labels)
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, but got {bins}")
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1].to(labels.device)
    gap = (predicted == labels).double() - confidence
    sums = gap.new_zeros(bins).index_add_(0, torch.bucketize(confidence, edges), gap)
    return {
        "accuracy": metrics.accuracy,
        "nll": metrics.loss,
        "ece": sums.abs().sum().item() / len(labels),
    }


def memorisation(
    predicted: Tensor, given_labels: Tensor, true_labels: Tensor
) -> dict[str, float | None]:
    """Measure what a model makes of training labels that were replaced by wrong ones.

    Args:
        predicted: the predicted classes, int64, shape (N,).
        given_labels: what the model was trained with, likewise.
        true_labels: the labels before the replacement, likewise.

    Returns:
        Two shares of the images with a replaced label. ``memorised`` are predicted as
        the wrong label given, and ``recovered`` as the true one.
        Both are None where no label was replaced.

    Raises:
        ValueError: if the shapes differ.

    Source: after Arpit et al. 2017, A closer look at memorization in deep networks.

    Example:
        >>> given, true = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 0])
        >>> memorisation(torch.tensor([0, 1, 1, 2]), given, true)
        {'memorised': 0.5, 'recovered': 0.5}
    """
    if not predicted.shape == given_labels.shape == true_labels.shape:
        raise ValueError(
            "expected three tensors of one shape, but got predicted "
            f"{tuple(predicted.shape)}, given_labels {tuple(given_labels.shape)} and "
            f"true_labels {tuple(true_labels.shape)}"
        )
    flipped = given_labels != true_labels
    if not flipped.any():
        return {"memorised": None, "recovered": None}
    return {
        "memorised": (predicted == given_labels)[flipped].double().mean().item(),
        "recovered": (predicted == true_labels)[flipped].double().mean().item(),
    }


# --- averages ------------------------------------------------------------------------


def monte_carlo(
    model: nn.Module, images: Tensor, generator: torch.Generator, passes: int = 16
) -> Tensor:
    """Average the probabilities of several passes with the masks switched on.

    Batch norm stays in eval mode: only the layers of this package are random.

    Args:
        model, images, generator: see :mod:`regdrop_lite.course.measures`.
        passes: the number of passes, T, at least 1.

    Returns:
        Log-probabilities of shape (T, N, K), float64. Entry t is the logarithm of the
        mean probabilities of the first t + 1 passes.

    Raises:
        ValueError: if ``passes`` is below 1.

    Source: Gal and Ghahramani 2016, Dropout as a Bayesian approximation.
    """
    if passes < 1:
        raise ValueError(f"passes: expected at least 1, but got {passes}")
    with draw_masks_from(generator, model), torch.no_grad():
        for module in model.modules():
            module.training = isinstance(module, DropLayer)
        logits = [forward(model, images) for _ in range(passes)]
    return _running_mean(logits)


def ensemble(models: Iterable[nn.Module], images: Tensor) -> Tensor:
    """Average the probabilities of several models.

    Args:
        models: M of them, with the same classes.
        images: see :mod:`regdrop_lite.course.measures`.

    Returns:
        Log-probabilities of shape (M, N, K), float64. Entry m is the logarithm of the
        mean probabilities of the first m + 1 models.

    Raises:
        ValueError: if there is no model.

    Source: Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty
    estimation using deep ensembles.
    """
    logits = [predict(model, images) for model in models]
    if not logits:
        raise ValueError("models: expected at least one, but got none")
    return _running_mean(logits)


# --- for studies ---------------------------------------------------------------------


@measure("classification", "accuracy", "nll", "ece")
def _measure_classification(subject: Subject) -> Result:
    images, labels = subject.judged()
    return {**classification(predict(subject.model, images), labels)}


@measure("memorisation", "memorised", "recovered")
def _measure_memorisation(subject: Subject) -> Result:
    images, given_labels = subject.trained()
    predicted = predict(subject.model, images).argmax(dim=1)
    true_labels = subject.data.train.labels.to(given_labels.device)
    return {**memorisation(predicted, given_labels, true_labels)}


@measure(
    "monte_carlo",
    "mc_passes",
    "mc_accuracy",
    "mc_nll",
    "mc_ece",
    "mc_off_accuracy",
    "mc_off_nll",
    "mc_off_ece",
)
def _measure_monte_carlo(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    generator = subject.generator("monte_carlo")
    averages = monte_carlo(subject.model, images, generator, passes=16)
    counts = [1, 2, 4, 8, 16]
    found = [classification(averages[count - 1], labels) for count in counts]
    off = classification(predict(subject.model, images), labels)
    return {
        "mc_passes": [float(count) for count in counts],
        **{f"mc_{name}": [one[name] for one in found] for name in off},
        **{f"mc_off_{name}": value for name, value in off.items()},
    }


def _running_mean(logits: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of the first 1, 2, ... entries, as logarithms."""
    log_probabilities = torch.stack(logits).double().log_softmax(dim=2)  # (T, N, K)
    counts = torch.arange(1.0, len(logits) + 1, dtype=torch.float64)
    sums = log_probabilities.logcumsumexp(dim=0)
    return sums - counts.log().to(sums.device).view(-1, 1, 1)
