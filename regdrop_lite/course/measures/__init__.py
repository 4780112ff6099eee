"""What chapters and studies measure on trained nets, one file for each kind.

* :mod:`~regdrop_lite.course.measures.predictions`: against labels, and their averages;
* :mod:`~regdrop_lite.course.measures.damage`: what is left when a part is missing;
* :mod:`~regdrop_lite.course.measures.flatness`: the loss around the parameters;
* :mod:`~regdrop_lite.course.measures.features`: what the net computes on its way;
* :mod:`~regdrop_lite.course.measures.norms`: batch norms, measured without masks.

Most functions give logits or log-probabilities, and ``classification`` judges
them. They share their words:

* ``model`` maps images to logits of shape (N, K), one column for each class. It is left
  in eval mode, its parameters, buffers and generators as they were, also after an
  error;
* ``images`` have shape (N, C, H, W) and the dtype and the device of the model;
* ``labels`` are int64, shape (N,), from 0 to K - 1;
* ``generator`` lives on the CPU, and all that is random comes from it;
* losses are in nats per image, accuracies and other shares go from 0 to 1.

A new measure is a function in one of the files, and below it what a study does with
it: takes a ``Subject``, gives a flat dictionary of numbers and lists of numbers,
and stands under ``measure``, which declares its name and its metrics. A new file needs
an import below, or no plan knows what it declares.

Example:
    >>> from regdrop_lite.course.data import as_tensors, load_data, make_generator
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

from regdrop_lite.course.measures.damage import (
    ablate_channels,
    delete_branch,
    occlude,
    residual_blocks,
)
from regdrop_lite.course.measures.features import (
    effective_rank,
    features,
    gradient_norms,
)
from regdrop_lite.course.measures.flatness import (
    filter_normalised_direction,
    perturbed_loss,
    top_eigenvalue,
    top_hessian_eigenvalue,
)
from regdrop_lite.course.measures.norms import measure_norms_again
from regdrop_lite.course.measures.predictions import (
    classification,
    ensemble,
    memorisation,
    monte_carlo,
)
from regdrop_lite.course.measures.subject import MEASURES, Measure, Subject, measure

__all__ = [
    "MEASURES",
    "Measure",
    "Subject",
    "ablate_channels",
    "classification",
    "delete_branch",
    "effective_rank",
    "ensemble",
    "features",
    "filter_normalised_direction",
    "gradient_norms",
    "measure",
    "measure_norms_again",
    "memorisation",
    "monte_carlo",
    "occlude",
    "perturbed_loss",
    "residual_blocks",
    "top_eigenvalue",
    "top_hessian_eigenvalue",
]
