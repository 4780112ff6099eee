"""One run of a study: train a configuration with a seed, measure the net, keep a row.

A row can be made again from its configuration and seed alone: every random choice has
a generator of its own, and one thread does the work. A run is named by a hash of its
configuration, its seed and :data:`RESULTS_VERSION`, a number that people raise.
"""

import hashlib
import io
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regdrop_lite import DropLayer, LinearRamp, __version__
from regdrop_lite.course.data import Dataset, load_data, subset
from regdrop_lite.course.fashion_mnist_mini import content_sha256
from regdrop_lite.course.history import History
from regdrop_lite.course.measures import MEASURES, Subject
from regdrop_lite.course.models import ResNetSmall, ViTSmall
from regdrop_lite.course.study.plan import Config, make_net
from regdrop_lite.course.training import DTYPES, TrainConfig, given_labels, train

__all__ = [
    "RESULTS_VERSION",
    "build_model",
    "data_hash",
    "load_checkpoint",
    "perform",
    "prepare_data",
    "run_id",
    "source_hash",
]

RESULTS_VERSION = 1
"""To be raised by one when a change of the code may change results; all runs are then
open. What can be had by other code with equal results, to the last bit, does not count:
a new name, a moved file, a faster way. ``book/results/README.md`` has the history."""


def perform(
    config: Config,
    seed: int,
    *,
    device: str = "cpu",
    folder: str | None = None,
    version: int = RESULTS_VERSION,
    data: str | None = None,
    checkpoint: bool = False,
) -> dict[str, Any]:
    """Train and measure one net, on one thread of the CPU or on another device.

    Args:
        config: a configuration of a plan.
        seed: the seed of all the run's generators.
        device: ``"cpu"`` or ``"cuda"``.
        folder: where the data are, unless they are embedded; see ``load_data``.
        version: the RESULTS_VERSION that is expected, which matters on other machines.
        data: the :func:`data_hash` that is expected.
        checkpoint: whether to give the trained net too.

    Returns:
        ``row``: what a row says about the run itself, with ``status`` ``"ok"`` and
        ``metrics``, or ``"failed"`` and the ``error``; ``history``: figures of the
        epochs, rounded; ``checkpoint``: bytes for :func:`load_checkpoint`, or None.
        An error in the run is caught, an interrupt is not.
    """
    start, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)
    row: dict[str, Any] = {
        "device": device,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "versions": {
            "regdrop_lite": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    history, net = History(), None
    try:
        _check_same("results version", RESULTS_VERSION, version)
        _check_same("data hash", data_hash(config["data"], folder), data)
        model, metrics = _train_and_measure(config, seed, device, folder, history)
        row |= {"status": "ok", "metrics": metrics}
        net = _checkpoint(model) if checkpoint else None
    except Exception as error:  # a failed run is a result too, and stops no other
        row |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    finally:
        torch.set_num_threads(threads)
    row["seconds"] = round(time.perf_counter() - start, 2)
    return {"row": row, "history": _columns(history), "checkpoint": net}


def prepare_data(config: Config, seed: int, folder: str | None = None) -> Dataset:
    """Give the images that a run sees: a draw of the training split.

    The draw is that of ``data_seed`` if the configuration has one, else of the seed.

    Raises:
        ValueError: if a split has fewer images than the configuration asks for.
    """
    data = _load(config["data"], folder)
    if config["images"] is not None:
        draw = seed if config["data_seed"] is None else config["data_seed"]
        data = replace(data, train=subset(data.train, config["images"], seed=draw))
    if config["validation"] is not None:
        # The same images for all seeds: they are a yardstick.
        validation = subset(data.validation, config["validation"], seed=0)
        data = replace(data, validation=validation)
    return data


def build_model(config: Config, seed: int, data: Dataset) -> ResNetSmall | ViTSmall:
    """Make the untrained net of a run."""
    return make_net(
        config,
        data.num_classes,
        data.train.images.shape[1],
        seed=seed,
        dtype=DTYPES[config["dtype"]],
    )


def load_checkpoint(path: str | Path, row: dict[str, Any]) -> ResNetSmall | ViTSmall:
    """Give the trained net of a row, in eval mode.

    Its weights are rounded to half precision, so that its predictions differ a little
    from those that the row was made with.

    Args:
        path: the file of the run.
        row: the row of the run; it knows the shape of the net.
    """
    state = torch.load(path, weights_only=True)
    first = next(values for values in state.values() if values.ndim == 4)
    classes, channels = len(state["head.bias"]), first.shape[1]
    model = make_net(row["config"], classes, channels, dtype=torch.float32)
    model.load_state_dict(state)
    return model.eval()


# --- what a run is named by -----------------------------------------------------------


def run_id(config: Config, seed: int) -> str:
    """Name a run by its configuration, its seed and :data:`RESULTS_VERSION`.

    Neither the source nor the interpreter has a say: the name outlives a move, and is
    the same on each Python. The data set counts by its name; its content is
    :func:`data_hash`, which a row keeps.

    Example:
        >>> run_id({"p": 0.2}, 0) == run_id({"p": 0.2}, 1)
        False
    """
    return _sha256(json.dumps([config, seed, RESULTS_VERSION], sort_keys=True))[:16]


@cache
def source_hash() -> str:
    """Hash the source of the package: where a row comes from, and never compared."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return _sha256("\n".join(file.read_text(encoding="utf-8") for file in files))[:16]


@cache
def data_hash(name: str, folder: str | None = None) -> str:
    """Hash all images and labels of a data set."""
    data = _load(name, folder)
    arrays = {
        f"{split}_{kind}": getattr(getattr(data, split), kind).numpy()
        for split in ("train", "validation", "test")
        for kind in ("images", "labels")
    }
    return content_sha256(arrays)[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- helpers --------------------------------------------------------------------------


@cache
def _load(name: str, folder: str | None) -> Dataset:
    return load_data(name, folder=folder)


def _train_and_measure(
    config: Config, seed: int, device: str, folder: str | None, history: History
) -> tuple[nn.Module, dict[str, Any]]:
    data = prepare_data(config, seed, folder)
    model = build_model(config, seed, data)
    chosen = {f.name: config[f.name] for f in fields(TrainConfig) if f.name in config}
    settings = TrainConfig(**chosen, seed=seed, device=device)
    after_step = _ramp(model, settings, len(data.train), config["ramp"])
    train(model, data, settings, after_step=after_step, history=history)
    metrics: dict[str, Any] = asdict(history.epochs[-1])
    del metrics["epoch"]
    labels = given_labels(data, settings)
    subject = Subject(model, data, config["evaluate"], labels, seed)
    for name in config["measures"]:
        metrics |= MEASURES[name](subject)
    return model, metrics


def _ramp(
    model: nn.Module, settings: TrainConfig, n_images: int, share: float
) -> Callable[[], object] | None:
    """Let the rates rise from 0 in a share of the steps, to where they are now."""
    steps = settings.epochs * math.ceil(n_images / settings.batch_size)
    ramp_steps = round(share * steps)
    if not ramp_steps:
        return None
    rates = [m.p for m in model.modules() if isinstance(m, DropLayer)]
    return LinearRamp(model, [0.0] * len(rates), rates, ramp_steps).step


def _columns(history: History) -> dict[str, list[float | None]]:
    """Give the records as columns of four digits, with the mean loss of the steps.

    ``noisy_loss`` is that mean, over the steps since the record before: the loss that
    training lowers, with the masks on.
    """
    if not history.epochs:
        return {}
    columns: dict[str, list[float | None]] = {
        key: [_four_digits(getattr(record, key)) for record in history.epochs]
        for key in asdict(history.epochs[0])
    }
    # A run that failed may have taken more steps than its records know of.
    per_epoch = len(history.step_loss) // history.epochs[-1].epoch
    ends = [record.epoch * per_epoch for record in history.epochs]
    columns["noisy_loss"] = [
        _four_digits(statistics.fmean(history.step_loss[start:end]))
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    return columns


def _four_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _checkpoint(model: nn.Module) -> bytes:
    halves = {
        key: value.cpu().half() if value.is_floating_point() else value.cpu()
        for key, value in model.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save(halves, buffer)
    return buffer.getvalue()


def _check_same(what: str, found: str | int, expected: str | int | None) -> None:
    if expected not in (None, found):
        raise RuntimeError(
            f"the {what} of this machine is {found}, but {expected} was expected"
        )
