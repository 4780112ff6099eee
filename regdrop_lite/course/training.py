"""Training and evaluation that give the same numbers whenever they are repeated.

A run is fixed by its model, its data and one :class:`TrainConfig`. Whatever is random
in it (the order of the images, the label noise, the masks) comes from CPU generators of
its own, made from the run's seed by :func:`~regdrop_lite.course.data.make_generator`.
PyTorch's global generator is neither read nor moved.

In float64, rounding errors stay far below the printed digits, so that other processors
and numbers of threads give the same printed results. In float32, which is faster, they
do not: there, a few hundred steps make the third digit differ.

Example:
    >>> from dataclasses import replace
    >>> from regdrop_lite.course.data import load_data, subset
    >>> from regdrop_lite.course.models import TinyCNN
    >>> data = load_data()
    >>> few = replace(
    ...     data,
    ...     train=subset(data.train, 100, seed=0),
    ...     validation=subset(data.validation, 100, seed=0),
    ... )
    >>> model = TinyCNN(regulariser="spatial", p=0.1, seed=0)
    >>> history = train(model, few, TrainConfig(epochs=2, batch_size=25, seed=0))
    >>> len(history.step_loss), len(history.epochs)
    (8, 2)
"""

import math
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite.course.augmentation import flip_labels, shift_flip
from regdrop_lite.course.data import Dataset, as_tensors, make_generator
from regdrop_lite.course.evaluation import (
    check_batch,
    check_logits,
    draw_masks_from,
    predict,
    score,
)
from regdrop_lite.course.extras import needs
from regdrop_lite.course.history import EpochRecord, History, NonFiniteLossError
from regdrop_lite.course.measures.predictions import memorisation

__all__ = [
    "TrainConfig",
    "given_labels",
    "learning_rate",
    "train",
    "train_step",
]

DTYPES = {"float64": torch.float64, "float32": torch.float32}
AUGMENTATIONS = ("none", "shift-flip")
OPTIMIZERS = ("sgd", "adamw")


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> float:
    """Take one step of training, with the masks switched on.

    Args:
        model: maps images to logits of shape (N, K), one column for each class.
        optimizer: holds the parameters of the model.
        images: floating point, shape (N, C, H, W), in the model's dtype.
        labels: int64, shape (N,), from 0 to K - 1.

    Returns:
        The cross-entropy (nats per image) of the batch before the step.

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape or a label does not fit.
    """
    check_batch(model, images, labels)
    model.train()
    optimizer.zero_grad(set_to_none=True)
    logits = model(images)
    check_logits(logits, labels)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@dataclass(frozen=True)
class TrainConfig:
    """All that fixes a run beside the model and the data.

    Attributes:
        epochs: how often every training image is seen, at least 1.
        batch_size: images per step, at least 1. The last batch of an epoch may be
            smaller.
        lr: the highest learning rate, above 0; see :func:`learning_rate`.
        momentum: Nesterov's, from 0 to below 1; 0 is plain gradient descent. AdamW
            does not read it.
        weight_decay: of all parameters, at least 0.
        warmup: the share of the steps in which the learning rate rises, 0 to 1.
        label_noise: the share of the training labels to be replaced by a different
            class, 0 to 1; see :func:`~regdrop_lite.course.augmentation.flip_labels`.
        noise_seed: what the label noise is drawn from; None stands for ``seed``. Runs
            that share it learn from the same wrong labels.
        augmentation: ``"none"``, or ``"shift-flip"`` to change every image at random
            each time it is learnt from; see
            :func:`~regdrop_lite.course.augmentation.shift_flip`.
        optimizer: ``"sgd"``, or ``"adamw"`` with PyTorch's defaults for its moments.
        dtype: ``"float64"`` or ``"float32"``.
        seed: what the run's generators are made from.
        device: ``"cpu"`` or ``"cuda"``; by default what the environment variable
            ``REGDROP_DEVICE`` says, else the CPU.
        eval_every: epochs between two records; the last epoch always gets one.
        progress: whether to show a bar on stderr (needs tqdm).

    Raises:
        ValueError: if a value does not fit; the message says which and why.

    Example:
        >>> TrainConfig(lr=-1)
        Traceback (most recent call last):
        ...
        ValueError: lr: expected a number above 0, but got -1
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    label_noise: float = 0.0
    noise_seed: int | None = None
    augmentation: str = "none"
    optimizer: str = "sgd"
    dtype: str = "float64"
    seed: int = 0
    device: str = field(default_factory=lambda: os.environ.get("REGDROP_DEVICE", "cpu"))
    eval_every: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_every"):
            value = getattr(self, name)
            _require(
                _is_whole(value) and value >= 1, name, "a whole number from 1", value
            )
        _require(_is_whole(self.seed), "seed", "a whole number", self.seed)
        fits = self.noise_seed is None or _is_whole(self.noise_seed)
        _require(fits, "noise_seed", "a whole number or None", self.noise_seed)
        ranges: dict[str, tuple[Callable[[float], bool], str]] = {
            "lr": (lambda x: x > 0, "a number above 0"),
            "momentum": (lambda x: 0 <= x < 1, "a number from 0 to below 1"),
            "weight_decay": (lambda x: x >= 0, "a number from 0"),
            "warmup": (lambda x: 0 <= x <= 1, "a number from 0 to 1"),
            "label_noise": (lambda x: 0 <= x <= 1, "a number from 0 to 1"),
        }
        for name, (in_range, expected) in ranges.items():
            value = getattr(self, name)
            _require(_is_finite(value) and in_range(value), name, expected, value)
        choices = {"dtype": tuple(DTYPES), "augmentation": AUGMENTATIONS}
        choices |= {"optimizer": OPTIMIZERS}
        for name, known in choices.items():
            value = getattr(self, name)
            _require(value in known, name, " or ".join(known), value)
        kind = str(self.device).partition(":")[0]
        _require(kind in ("cpu", "cuda"), "device", "cpu or cuda", self.device)
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device: got {self.device!r}, but PyTorch finds no such device here: "
                'give device="cpu" or set REGDROP_DEVICE=cpu'
            )


def train(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    after_step: Callable[[], object] | None = None,
    history: History | None = None,
) -> History:
    """Train the model in place, by SGD with Nesterov momentum or by AdamW.

    The test split is left alone. Afterwards, and also after an error or an interrupt,
    the model is in eval mode and its layers draw from the generators that they had.

    Args:
        model: maps (N, C, H, W) to (N, K). It is moved to the device and the dtype of
            ``config``.
        data: its training split is learnt from, its validation split measured.
        config: everything else. Models with the same initial weights and configs with
            the same seed see the same batches and the same label noise, whatever
            regulariser they have.
        after_step: called after each step, for instance the ``step`` of a
            :class:`~regdrop_lite.LinearRamp`.
        history: an empty history to be filled. Who keeps it still has the records when
            the run is interrupted.

    Returns:
        The history of the run.

    Raises:
        NonFiniteLossError: if the training loss or the validation loss is not finite.
        ValueError: if the training or validation split is empty, or the model does not
            fit the data.
    """
    for name in ("train", "validation"):
        if not len(getattr(data, name)):
            raise ValueError(f"{name}: expected at least one image, but got none")
    history = History() if history is None else history
    dtype, device = DTYPES[config.dtype], torch.device(config.device)
    model.to(device=device, dtype=dtype)
    (images, true_labels), validation = (
        tuple(values.to(device) for values in as_tensors(split, dtype))
        for split in (data.train, data.validation)
    )
    given = given_labels(data, config).to(device)
    fast = dtype == torch.float32
    if fast:
        # Convolutions of float32 are a fifth faster with the channels last. In float64
        # nothing is gained, and the last bits of stored results would change.
        # PyTorch's annotations know it for tensors only.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _make_optimizer(model, config, fused=fast)
    order = make_generator(config.seed, "order")
    changes = make_generator(config.seed, "augmentation")
    num_steps = config.epochs * math.ceil(len(images) / config.batch_size)
    step, last_loss = 0, None
    masks = make_generator(config.seed, "masks")
    bar = _progress_bar(num_steps) if config.progress else None
    with draw_masks_from(masks, model), bar or nullcontext():
        for epoch in range(1, config.epochs + 1):
            shuffled = torch.randperm(len(images), generator=order).to(device)
            for batch in shuffled.split(config.batch_size):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, num_steps, config)
                step += 1
                shown = images[batch]
                if config.augmentation == "shift-flip":
                    shown = shift_flip(shown, changes)
                loss = train_step(model, optimizer, shown, given[batch])
                if not math.isfinite(loss):
                    raise NonFiniteLossError("training", loss, step, last_loss)
                last_loss = loss
                history.step_loss.append(loss)
                if after_step is not None:
                    after_step()
                if bar is not None:
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                    bar.update()
            if epoch % config.eval_every == 0 or epoch == config.epochs:
                logits = predict(model, images)
                learnt = score(logits, given)
                unseen = score(predict(model, validation[0]), validation[1])
                if not math.isfinite(unseen.loss):
                    raise NonFiniteLossError("validation", unseen.loss, step, last_loss)
                record = EpochRecord(
                    epoch,
                    learnt.loss,
                    learnt.accuracy,
                    unseen.loss,
                    unseen.accuracy,
                    **memorisation(logits.argmax(dim=1), given, true_labels),
                )
                history.epochs.append(record)
    return history


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Give the learning rate of a step: a linear rise, then half a cosine.

    With W warm-up steps of T (W is ``config.warmup * T``, rounded up), step t has
    ``lr * (t + 1) / W`` if t < W, and ``lr * (1 + cos(pi * (t - W) / (T - W))) / 2``
    after that.

    Args:
        step: the number of the step, t, from 0 to T - 1.
        num_steps: the number of all steps, T.
        config: its ``lr`` and ``warmup`` count.

    Example:
        >>> config = TrainConfig(lr=0.1, warmup=0.2)
        >>> [round(learning_rate(t, 10, config), 3) for t in range(10)]
        [0.05, 0.1, 0.1, 0.096, 0.085, 0.069, 0.05, 0.031, 0.015, 0.004]
    """
    warmup = math.ceil(config.warmup * num_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / (num_steps - warmup)
    return config.lr * (1 + math.cos(math.pi * done)) / 2


def given_labels(data: Dataset, config: TrainConfig) -> Tensor:
    """Give the labels that :func:`train` shows to the model, with their noise.

    Args:
        data: its training labels count.
        config: its ``label_noise``, ``noise_seed`` and ``seed`` count.

    Example:
        >>> from regdrop_lite.course.data import load_data
        >>> data = load_data()
        >>> given = given_labels(data, TrainConfig(label_noise=0.2))
        >>> (given != data.train.labels).sum().item()
        600
    """
    seed = config.seed if config.noise_seed is None else config.noise_seed
    noise = make_generator(seed, "label noise")
    return flip_labels(data.train.labels, data.num_classes, config.label_noise, noise)


# --- helpers --------------------------------------------------------------------------


def _make_optimizer(
    model: nn.Module, config: TrainConfig, *, fused: bool
) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(),
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def _progress_bar(num_steps: int) -> Any:
    with needs("course", "tqdm, for progress=True,"):
        from tqdm import tqdm
    return tqdm(total=num_steps, unit="step", file=sys.stderr)


def _require(fits: bool, name: str, expected: str, value: object) -> None:
    if not fits:
        raise ValueError(f"{name}: expected {expected}, but got {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
