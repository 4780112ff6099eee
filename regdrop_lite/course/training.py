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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite.course.data import Dataset, as_tensors, make_generator, shift_flip
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
    "flip_labels",
    "given_labels",
    "learning_rate",
    "train",
    "train_step",
]

DTYPES = {"float64": torch.float64, "float32": torch.float32}
AUGMENTATIONS = ("none", "shift-flip")


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
    _check_logits(logits, labels)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@dataclass(frozen=True)
class Metrics:
    """How well predictions fit labels.

    Attributes:
        loss: the mean negative log-likelihood, in nats per image.
        accuracy: the share of images whose largest logit is the label's, 0 to 1.
    """

    loss: float
    accuracy: float


def eval_step(model: nn.Module, images: Tensor, labels: Tensor) -> Metrics:
    """Evaluate the model on one batch, with the masks switched off.

    Args and errors are those of :func:`train_step`. The model stays in eval mode.
    """
    check_batch(model, images, labels)
    model.eval()
    with torch.no_grad():
        logits = model(images)
    return score(logits, labels)


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
    _check_logits(logits, labels)
    logits = logits.double()  # so that the mean of many losses loses nothing
    return Metrics(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=_agreement(logits.argmax(dim=1), labels),
    )


# --- whole splits ---------------------------------------------------------------------


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

    Example:
        >>> from regdrop_lite.course.data import load_data
        >>> from regdrop_lite.course.models import TinyCNN
        >>> validation = load_data().validation
        >>> untrained = evaluate(TinyCNN(seed=0), validation)
        >>> untrained.accuracy < 0.3
        True
    """
    if not len(split):
        raise ValueError("split: expected at least one image, but got none")
    parameter = next(model.parameters())
    images, labels = _load(split, parameter.dtype, parameter.device)
    return score(predict(model, images, batch_size), labels)


@dataclass(frozen=True)
class TrainConfig:
    """All that fixes a run beside the model and the data.

    Attributes:
        epochs: how often every training image is seen, at least 1.
        batch_size: images per step, at least 1. The last batch of an epoch may be
            smaller.
        lr: the highest learning rate, above 0; see :func:`learning_rate`.
        momentum: Nesterov's, from 0 to below 1; 0 is plain gradient descent.
        weight_decay: of all parameters, at least 0.
        warmup: the share of the steps in which the learning rate rises, 0 to 1.
        label_noise: the share of the training labels to be replaced by a different
            class, 0 to 1; see :func:`flip_labels`.
        noise_seed: what the label noise is drawn from; None stands for ``seed``. Runs
            that share it learn from the same wrong labels.
        augmentation: ``"none"``, or ``"shift-flip"`` to change every image at random
            each time it is learnt from; see
            :func:`~regdrop_lite.course.data.shift_flip`.
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
        for name, fits, expected in (
            ("lr", lambda x: x > 0, "a number above 0"),
            ("momentum", lambda x: 0 <= x < 1, "a number from 0 to below 1"),
            ("weight_decay", lambda x: x >= 0, "a number from 0"),
            ("warmup", lambda x: 0 <= x <= 1, "a number from 0 to 1"),
            ("label_noise", lambda x: 0 <= x <= 1, "a number from 0 to 1"),
        ):
            value = getattr(self, name)
            _require(_is_finite(value) and fits(value), name, expected, value)
        for name, known in (("dtype", DTYPES), ("augmentation", AUGMENTATIONS)):
            value = getattr(self, name)
            _require(value in known, name, " or ".join(known), value)
        kind = str(self.device).partition(":")[0]
        _require(kind in ("cpu", "cuda"), "device", "cpu or cuda", self.device)
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device: got {self.device!r}, but PyTorch finds no such device here: "
                'give device="cpu" or set REGDROP_DEVICE=cpu'
            )


@dataclass(frozen=True)
class EpochRecord:
    """The state after an epoch, measured with the masks switched off.

    Attributes:
        epoch: how many epochs are over.
        train_loss: on the training images, with the labels given to the model.
        train_accuracy: likewise.
        validation_loss: on the validation images, whose labels carry no noise.
        validation_accuracy: likewise.
        memorised: the share of the replaced training labels that the model predicts,
            wrong as they are. None without label noise.
        recovered: the share of them where it predicts the true label instead.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    memorised: float | None = None
    recovered: float | None = None


@dataclass
class History:
    """What happened in a run; printed, a table of the epochs.

    Attributes:
        step_loss: the loss of each training step, with the masks switched on.
        epochs: the records of the epochs.
    """

    step_loss: list[float] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)

    def __str__(self) -> str:
        noisy = any(r.memorised is not None for r in self.epochs)
        lines = ["epoch   train: loss   acc.   validation: loss   acc."]
        lines[0] += "   memorised  recovered" if noisy else ""
        for r in self.epochs:
            line = f"{r.epoch:5d}   {r.train_loss:11.3f}  {r.train_accuracy:.3f}"
            line += f"   {r.validation_loss:16.3f}  {r.validation_accuracy:.3f}"
            if r.memorised is not None and r.recovered is not None:
                line += f"   {r.memorised:9.2f}  {r.recovered:9.2f}"
            lines.append(line)
        return "\n".join(lines)


class NonFiniteLossError(RuntimeError):
    """The loss is infinite or no number.

    Attributes:
        step: the number of the step, from 1.
        last_loss: the last finite training loss, or None if there was none.
    """

    def __init__(
        self, what: str, loss: float, step: int, last_loss: float | None
    ) -> None:
        self.step = step
        self.last_loss = last_loss
        last = "none before it was finite"
        if last_loss is not None:
            last = f"the last finite training loss was {last_loss:.6g}"
        super().__init__(
            f"the {what} loss is {loss} at step {step}; {last}. "
            "A lower learning rate or a longer warm-up may help"
        )


def train(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    after_step: Callable[[], object] | None = None,
    history: History | None = None,
) -> History:
    """Train the model in place by SGD with Nesterov momentum.

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
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fast,
    )
    order = make_generator(config.seed, "order")
    changes = make_generator(config.seed, "augmentation")
    num_steps = config.epochs * math.ceil(len(images) / config.batch_size)
    step, last_loss = 0, None
    masks = make_generator(config.seed, "masks")
    progress = _progress_bar(num_steps, config.progress)
    with draw_masks_from(masks, model), progress as advance:
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
                advance(loss)
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


def flip_labels(
    labels: Tensor, num_classes: int, share: float, generator: torch.Generator
) -> Tensor:
    """Replace a share of the labels by a different class, each with the same chance.

    Args:
        labels: int64, shape (N,), from 0 to ``num_classes - 1``, on the CPU.
        num_classes: the number of classes; at least 2 if any label is to change.
        share: exactly ``round(share * N)`` labels change.
        generator: chooses the labels and their new classes.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> labels = torch.arange(10)
        >>> noisy = flip_labels(labels, 10, 0.3, torch.Generator().manual_seed(0))
        >>> (noisy != labels).sum().item()
        3
    """
    count = round(share * len(labels))
    noisy = labels.clone()
    if count:
        _require(
            num_classes >= 2, "num_classes", "at least 2 to change one", num_classes
        )
        chosen = torch.randperm(len(labels), generator=generator)[:count]
        shift = torch.randint(1, num_classes, (count,), generator=generator)
        noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy


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


def _load(
    split: Split, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    images, labels = as_tensors(split, dtype)
    return images.to(device), labels.to(device)


def _measure(
    model: nn.Module,
    epoch: int,
    images: Tensor,
    given_labels: Tensor,
    true_labels: Tensor,
    validation: tuple[Tensor, Tensor],
) -> EpochRecord:
    logits = predict(model, images)
    on_train = score(logits, given_labels)
    on_validation = score(predict(model, validation[0]), validation[1])
    memorised = recovered = None
    flipped = given_labels != true_labels
    if flipped.any():
        predicted = logits.argmax(dim=1)[flipped]
        memorised = _agreement(predicted, given_labels[flipped])
        recovered = _agreement(predicted, true_labels[flipped])
    return EpochRecord(
        epoch,
        on_train.loss,
        on_train.accuracy,
        on_validation.loss,
        on_validation.accuracy,
        memorised,
        recovered,
    )


def _agreement(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()


@contextmanager
def _progress_bar(num_steps: int, show: bool) -> Iterator[Callable[[float], object]]:
    """Give a function to be called with the loss of each step."""
    if not show:
        yield lambda loss: None
        return
    with needs("course", "tqdm, for progress=True,"):
        from tqdm import tqdm
    with tqdm(total=num_steps, unit="step", file=sys.stderr) as bar:

        def advance(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        yield advance


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


def _check_logits(logits: Tensor, labels: Tensor) -> None:
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
