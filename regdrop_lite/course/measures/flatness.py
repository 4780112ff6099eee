"""How the loss rises around the parameters of a trained net."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite.course.evaluation import check_batch, score
from regdrop_lite.course.measures.subject import Result, Subject, forward, measure

__all__ = [
    "filter_normalised_direction",
    "perturbed_loss",
    "top_eigenvalue",
    "top_hessian_eigenvalue",
]


def filter_normalised_direction(
    model: nn.Module, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw a random direction in which each filter is as long as the model's own.

    A filter makes one output: it is ``weight[i]`` of a convolution or a linear layer.
    Normal numbers d become ``d * |weight[i]| / |d|``. Biases and norms stay out, as in
    the source.

    Args:
        model, generator: see :mod:`regdrop_lite.course.measures`.

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
        model, images, labels: see :mod:`regdrop_lite.course.measures`.
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
        return score(forward(model, images, moved), labels).loss


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
        >>> from regdrop_lite.course.data import make_generator
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
        model, images, labels, generator: see :mod:`regdrop_lite.course.measures`.
        tol, max_steps: see :func:`top_eigenvalue`. Float32 carries a tol of about 1e-5.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape does not fit.
        RuntimeError: if the products are not enough.

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    check_batch(model, images, labels)
    model.eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = F.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(flat, parameters, vector.to(flat), True)
        return torch.cat([f.flatten() for f in found]).to("cpu", torch.float64)

    return top_eigenvalue(product, len(flat), generator, tol=tol, max_steps=max_steps)


# --- for studies ---------------------------------------------------------------------


@measure("perturbation", "perturbation_radius", "perturbation_loss")
def _measure_perturbation(subject: Subject) -> Result:
    images, labels = subject.trained(250)
    model, generator = subject.model, subject.generator("perturbation")
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


@measure("hessian", "hessian_top_eigenvalue")
def _measure_hessian(subject: Subject) -> Result:
    images, labels = subject.trained(100)
    value = top_hessian_eigenvalue(
        subject.model, images, labels, subject.generator("hessian")
    )
    return {"hessian_top_eigenvalue": value}


def _filter_norms(weight: Tensor) -> Tensor:
    """Give the length of each ``weight[i]``, in a shape that broadcasts."""
    return weight.flatten(1).norm(dim=1).view(-1, *(1,) * (weight.ndim - 1))
