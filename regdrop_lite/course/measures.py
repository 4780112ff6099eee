"""What chapters 2 and 5 measure on trained nets.

Most functions here give logits or log-probabilities, and :func:`classification` judges
them. They share their words:

* ``model`` maps images to logits of shape (N, K), one column for each class. It is left
  in eval mode, its parameters and buffers as they were, also after an error;
* ``images`` have shape (N, C, H, W) and the dtype and the device of the model;
* ``labels`` are int64, shape (N,), from 0 to K - 1;
* ``generator`` lives on the CPU, and all that is random comes from it;
* losses are in nats per image, accuracies and other shares go from 0 to 1.

At the end, :data:`MEASURES` names the measures of the study. Each takes a
:class:`Subject` and gives a flat dictionary of numbers and lists of numbers.

Example:
    >>> from regdrop_lite.course.data import load_data
    >>> from regdrop_lite.course.models import TinyCNN
    >>> data, model = load_data(), TinyCNN(regulariser="spatial", p=0.5, seed=0)
    >>> images, labels = as_tensors(data.validation)
    >>> averages = monte_carlo(model, images, make_generator(0, "masks"), passes=4)
    >>> [f"{classification(x, labels)['accuracy']:.3f}" for x in averages]
    ['0.123', '0.101', '0.107', '0.100']
    >>> subject = Subject(model, data, "validation", data.train.labels, seed=0)
    >>> MEASURES["deleted_blocks"](subject)
    {'deleted_none_accuracy': 0.118, 'deleted_block_accuracy': [0.1, 0.052]}
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from regdrop_lite import set_generator
from regdrop_lite._common import (
    DropLayer,
    check_choice,
    check_probability,
    sample_keep,
)
from regdrop_lite.course.data import Dataset, as_tensors, make_generator
from regdrop_lite.course.models import ResidualBlock
from regdrop_lite.course.training import _check_batch, predict, score

__all__ = [
    "MEASURES",
    "Subject",
    "ablate_channels",
    "classification",
    "delete_branch",
    "effective_rank",
    "ensemble",
    "features",
    "filter_normalised_direction",
    "gradient_norms",
    "memorisation",
    "monte_carlo",
    "occlude",
    "perturbed_loss",
    "residual_blocks",
    "top_eigenvalue",
    "top_hessian_eigenvalue",
]


# --- predictions against labels -------------------------------------------------------


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


# --- damage ---------------------------------------------------------------------------


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
        model, images, generator: see the head of this module.
        places: modules of the model, with outputs of shape (N, C', H', W'). The end of
            a block's branch is its ``norm2``: in eval mode a regulariser behind it is
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
        model, images: see the head of this module.
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
        images, generator: see the head of this module.
        size: the side of the square, in pixels.
        value: what covers; 0 is the mean grey of normalised images.

    Returns:
        New images.

    Raises:
        ValueError: if ``size`` is not from 0 to the smaller of H and W.

    Source: after Zeiler and Fergus 2014, Visualizing and understanding convolutional
    networks.

    Example:
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


# --- averages of predictions ----------------------------------------------------------


def monte_carlo(
    model: nn.Module, images: Tensor, generator: torch.Generator, passes: int = 16
) -> Tensor:
    """Average the probabilities of several passes with the masks switched on.

    Batch norm stays in eval mode: only the layers of this package are random.
    Afterwards they draw from the global generator again.

    Args:
        model, images, generator: see the head of this module.
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
    model.eval()
    set_generator(model, generator)
    try:
        for module in model.modules():
            module.training = isinstance(module, DropLayer)
        with torch.no_grad():
            logits = [_forward(model, images) for _ in range(passes)]
    finally:
        set_generator(model, None)
        model.eval()
    return _running_mean(logits)


def ensemble(models: Iterable[nn.Module], images: Tensor) -> Tensor:
    """Average the probabilities of several models.

    Args:
        models: M of them, with the same classes.
        images: see the head of this module.

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


# --- flatness -------------------------------------------------------------------------


def filter_normalised_direction(
    model: nn.Module, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw a random direction in which each filter is as long as the model's own.

    A filter makes one output: it is ``weight[i]`` of a convolution or a linear layer.
    Normal numbers d become ``d * |weight[i]| / |d|``. Biases and norms stay out, as in
    the source.

    Args:
        model, generator: see the head of this module.

    Returns:
        A tensor for each parameter with more than one dimension, by name.

    Source: Li et al. 2018, Visualizing the loss landscape of neural nets.
    """
    direction = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            weight = parameter.detach()
            numbers = torch.randn(
                weight.shape, dtype=torch.float64, generator=generator
            ).to(weight)
            direction[name] = numbers * (_filter_norms(weight) / _filter_norms(numbers))
    return direction


def perturbed_loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    direction: Mapping[str, Tensor],
    radius: float,
) -> float:
    """Measure the mean loss, masks off, at ``parameters + radius * direction``.

    Args:
        model, images, labels: see the head of this module.
        direction: by name, of :func:`filter_normalised_direction` for example.
        radius: how far to go, a multiple of the length of each filter.

    Raises:
        KeyError: if the model has no parameter of such a name.

    Source: Li et al. 2018, Visualizing the loss landscape of neural nets.
    """
    parameters = dict(model.named_parameters())
    moved = {name: parameters[name] + radius * d for name, d in direction.items()}
    model.eval()
    with torch.no_grad():
        return score(_forward(model, images, moved), labels).loss


def top_eigenvalue(
    product: Callable[[Tensor], Tensor],
    size: int,
    generator: torch.Generator,
    *,
    tol: float = 1e-2,
    max_steps: int = 100,
) -> float:
    """Find the largest eigenvalue, by sign, of a symmetric matrix known by products.

    Lanczos' method: like the power iteration it multiplies a random vector again and
    again, but it takes the best vector in the span of all the products. So it needs
    fewer of them, and a negative eigenvalue of larger magnitude does not mislead it.

    Args:
        product: multiplies the matrix by a float64 vector of length ``size``.
        size: the number of rows of the matrix, at least 1.
        generator: draws the first vector.
        tol: stop when the residual ``|A v - λ v|`` is at most ``tol`` times the largest
            magnitude of an eigenvalue found. An eigenvalue lies that near to λ; with a
            gap to the next one, the error is about the residual's square by the gap.
        max_steps: how many products to spend.

    Raises:
        RuntimeError: if they are not enough.

    Source: Golub and Van Loan 2013, Matrix computations, chapter 10.

    Example:
        >>> matrix = torch.tensor([-3.0, 1.0, 2.0], dtype=torch.float64).diag()
        >>> round(top_eigenvalue(matrix.mv, 3, make_generator(0, "example")), 3)
        2.0
    """
    vector = torch.randn(size, dtype=torch.float64, generator=generator)
    basis = [vector / vector.norm()]
    projected = torch.zeros(max_steps + 1, max_steps + 1, dtype=torch.float64)
    for step in range(max_steps):
        vector = product(basis[-1])
        projected[step, step] = vector @ basis[-1]
        spanned = torch.stack(basis)
        for _ in range(2):  # a second time, since rounding spoils the first
            vector = vector - spanned.T @ (spanned @ vector)
        length = vector.norm()
        values, vectors = torch.linalg.eigh(projected[: step + 1, : step + 1])
        if length * vectors[-1, -1].abs() <= tol * values.abs().max():
            return values[-1].item()
        projected[step, step + 1] = projected[step + 1, step] = length
        basis.append(vector / length)
    raise RuntimeError(
        f"no eigenvalue within a tolerance of {tol} after {max_steps} products; "
        "a larger max_steps or tol may help"
    )


def top_hessian_eigenvalue(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    tol: float = 1e-2,
    max_steps: int = 100,
) -> float:
    """Find the largest curvature of the mean loss, over all directions of parameters.

    Masks are off and weight decay is left out. The Hessian is never built, see
    :func:`top_eigenvalue`: its product with v is the gradient of ``v · gradient``.

    Args:
        model, images, labels, generator: see the head of this module.
        tol, max_steps: see :func:`top_eigenvalue`. Float32 carries a tol of about 1e-5.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape does not fit.
        RuntimeError: if the products are not enough.

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    _check_batch(model, images, labels)
    model.eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = F.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(flat, parameters, vector.to(flat), True)
        return torch.cat([f.flatten() for f in found]).to("cpu", torch.float64)

    return top_eigenvalue(product, len(flat), generator, tol=tol, max_steps=max_steps)


# --- features and gradients -----------------------------------------------------------


def features(model: nn.Module, images: Tensor) -> Tensor:
    """Give what the last layer, the model's ``head``, gets to see.

    Args:
        model, images: see the head of this module.

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
    images. Its running statistics stay as they were. Afterwards the layers draw from
    the global generator again.

    Args:
        model, images, labels, generator: see the head of this module.

    Returns:
        For each of the :func:`residual_blocks`, the Euclidean norm of the gradient of
        the mean loss with respect to all its parameters.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape does not fit, or the model has no residual block.

    Source: after Huang et al. 2016, Deep networks with stochastic depth, figure 8.
    """
    _check_batch(model, images, labels)
    blocks = [list(block.parameters()) for block in residual_blocks(model)]
    parameters = [parameter for block in blocks for parameter in block]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    set_generator(model, generator)
    try:
        loss = F.cross_entropy(functional_call(model, buffers, (images,)), labels)
        gradients = iter(torch.autograd.grad(loss, parameters))
    finally:
        set_generator(model, None)
        model.eval()
    return [
        math.hypot(*(next(gradients).norm().item() for _ in block)) for block in blocks
    ]


# --- the measures of the study --------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model and what the measures of the study need to know of its run.

    Attributes:
        model: one with a ``stem``, residual blocks and a ``head``, such as
            :class:`~regdrop_lite.course.models.ResNetSmall`.
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
        order = torch.randperm(len(images), generator=self._generator(split))
        chosen = order[:most].sort().values
        return images[chosen].to(parameter.device), labels[chosen].to(parameter.device)

    def _generator(self, purpose: str) -> torch.Generator:
        return make_generator(self.seed, f"measure {purpose}")


Result = dict[str, float | list[float] | None]


def _classification(subject: Subject) -> Result:
    images, labels = subject.judged()
    return {**classification(predict(subject.model, images), labels)}


def _memorisation(subject: Subject) -> Result:
    images, given_labels = subject.trained()
    predicted = predict(subject.model, images).argmax(dim=1)
    true_labels = subject.data.train.labels.to(given_labels.device)
    return {**memorisation(predicted, given_labels, true_labels)}


def _ablated_channels(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    model, shares = subject.model, [0.0, 0.1, 0.2, 0.4]
    branches = [block.norm2 for block in residual_blocks(model)]

    def curve(places: list[nn.Module], rescale: bool = False) -> list[float]:
        generator = subject._generator("ablated_channels")
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


def _deleted_blocks(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    return {
        "deleted_none_accuracy": score(predict(subject.model, images), labels).accuracy,
        "deleted_block_accuracy": [
            score(delete_branch(subject.model, images, block), labels).accuracy
            for block in residual_blocks(subject.model)
        ],
    }


def _occlusion(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    generator = subject._generator("occlusion")
    sides = range(0, min(images.shape[2:]) * 3 // 4, 5)
    covered = (occlude(images, side, generator) for side in sides)
    return {
        "occlusion_size": [float(side) for side in sides],
        "occlusion_accuracy": [
            score(predict(subject.model, x), labels).accuracy for x in covered
        ],
    }


def _monte_carlo(subject: Subject) -> Result:
    images, labels = subject.judged(500)
    generator = subject._generator("monte_carlo")
    averages = monte_carlo(subject.model, images, generator, passes=16)
    counts = [1, 2, 4, 8, 16]
    found = [classification(averages[count - 1], labels) for count in counts]
    off = classification(predict(subject.model, images), labels)
    return {
        "mc_passes": [float(count) for count in counts],
        **{f"mc_{name}": [one[name] for one in found] for name in off},
        **{f"mc_off_{name}": value for name, value in off.items()},
    }


def _perturbation(subject: Subject) -> Result:
    images, labels = subject.trained(250)
    model, generator = subject.model, subject._generator("perturbation")
    directions = [filter_normalised_direction(model, generator) for _ in range(3)]
    radii = [0.0, 0.1, 0.2, 0.3, 0.4]
    losses = (
        [perturbed_loss(model, images, labels, d, radius) for d in directions]
        for radius in radii
    )
    return {
        "perturbation_radius": radii,
        "perturbation_loss": [sum(at) / len(directions) for at in losses],
    }


def _hessian(subject: Subject) -> Result:
    images, labels = subject.trained(100)
    value = top_hessian_eigenvalue(
        subject.model, images, labels, subject._generator("hessian")
    )
    return {"hessian_top_eigenvalue": value}


def _effective_rank(subject: Subject) -> Result:
    images, _ = subject.judged(500)
    return {"effective_rank": effective_rank(features(subject.model, images))}


def _gradient_norm(subject: Subject) -> Result:
    images, labels = subject.trained(250)
    generator = subject._generator("gradient_norm")
    return {"gradient_norm": gradient_norms(subject.model, images, labels, generator)}


MEASURES: dict[str, Callable[[Subject], Result]] = {
    "classification": _classification,
    "memorisation": _memorisation,
    "ablated_channels": _ablated_channels,
    "deleted_blocks": _deleted_blocks,
    "occlusion": _occlusion,
    "monte_carlo": _monte_carlo,
    "perturbation": _perturbation,
    "hessian": _hessian,
    "effective_rank": _effective_rank,
    "gradient_norm": _gradient_norm,
}
"""The measures of the study, by name."""


# --- helpers --------------------------------------------------------------------------


@contextmanager
def _changed_outputs(
    modules: Iterable[nn.Module], change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Let the modules give ``change(output)`` instead of their output."""
    handles = [
        module.register_forward_hook(lambda _, inputs, output: change(output))
        for module in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forward(
    model: nn.Module, images: Tensor, replaced: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Give the logits in the mode the model is in, with some parameters replaced."""
    batches = images.split(100)
    return torch.cat([functional_call(model, replaced or {}, (x,)) for x in batches])


def _running_mean(logits: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of the first 1, 2, ... entries, as logarithms."""
    log_probabilities = torch.stack(logits).double().log_softmax(dim=2)  # (T, N, K)
    counts = torch.arange(1.0, len(logits) + 1, dtype=torch.float64)
    sums = log_probabilities.logcumsumexp(dim=0)
    return sums - counts.log().to(sums.device).view(-1, 1, 1)


def _filter_norms(weight: Tensor) -> Tensor:
    """Give the length of each ``weight[i]``, in a shape that broadcasts."""
    return weight.flatten(1).norm(dim=1).view(-1, *(1,) * (weight.ndim - 1))
