"""What the layers cost, side by side with those of torch, torchvision and timm.

``python -m regdrop_lite.course.bench`` measures on the CPU and prints tables;
``--output FILE`` also stores the rows and where they come from. torchvision and timm
are optional: one that is missing is named.

A layer is timed forward and backward and compared with the least that one
multiplication can cost: ``x * 1.25``, forward and backward, on the same tensor. A ratio
of 2 is twice that limit. ``drop_residual`` is timed as a training step (forward,
backward, SGD) of four residual blocks and compared with p = 0.

All candidates of a setting run in each round, in shuffled order, so that a machine that
slows down slows all of them down. A ratio is taken within a round; reported is the
median over the rounds, and stored with it are the quartiles. Beside it stands what one
call holds for its backward pass, as a share of the bytes of its input.

The layers have the same nominal p. Not every DropBlock realises it.
"""

import argparse
import importlib
import itertools
import json
import math
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import regdrop_lite as ours

if TYPE_CHECKING:  # the command runs without Matplotlib
    from matplotlib.figure import Figure

Row = dict[str, Any]
Forward = Callable[[Tensor], Tensor]

_MIN_SECONDS = 0.005  # short calls are repeated until one timing takes that long
_FORMAT = "regdrop_lite.course.bench, version 1"
_LAYERS, _IMAGES, _TOKENS = "layer", "4 blocks of 2 convolutions", "4 blocks of an MLP"
_MARKS = {  # marker, colour and place within a line of the figure
    "regdrop_lite": ("o", "#0072B2", -0.24),
    "torch": ("s", "#009E73", -0.08),
    "torchvision": ("^", "#D55E00", 0.08),
    "timm": ("D", "#CC79A7", 0.24),
}
_SHAPES = ((32, 64, 56, 56), (128, 256, 14, 14), (128, 512, 7, 7), (8, 512, 7, 7))


def measure(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    tick: Callable[[], object] = lambda: None,
) -> list[list[float]]:
    """Time all calls in turn, round after round, each round in another order.

    Args:
        calls: what to time.
        rounds: how often.
        clock: a function that returns seconds.
        tick: called after each round.

    Returns:
        For each call a list with the seconds that it took in each round.

    Example:
        >>> from regdrop_lite.course.bench import measure
        >>> now = 0.0
        >>> def work(seconds):
        ...     global now
        ...     now += seconds
        >>> measure([lambda: work(1.0), lambda: work(3.0)], 2, clock=lambda: now)
        [[1.0, 1.0], [3.0, 3.0]]
    """

    def seconds(call: Callable[[], object], times: int) -> float:
        start = clock()
        for _ in range(times):
            call()
        return clock() - start

    repeats = []
    for call in calls:  # finds the number of repetitions, and warms up
        times = 1
        while seconds(call, times) < _MIN_SECONDS:
            times *= 2
        repeats.append(times)
    order = list(range(len(calls)))
    results: list[list[float]] = [[] for _ in calls]
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for i in order:
            results[i].append(seconds(calls[i], repeats[i]) / repeats[i])
        tick()
    return results


def saved_bytes(function: Forward, x: Tensor, known: Iterable[Tensor] = ()) -> int:
    """The memory that autograd holds for the backward pass of one call.

    Args:
        function: what to call.
        x: its input.
        known: tensors that are alive anyway, such as parameters.

    Returns:
        The bytes of all storages that are saved. One that is saved twice counts once,
        those of ``x`` and of ``known`` not at all.

    Example:
        >>> import torch
        >>> from regdrop_lite.course.bench import saved_bytes
        >>> x = torch.ones(2, 3, 4, 4, requires_grad=True)
        >>> saved_bytes(lambda x: x * 1.25, x)
        0
        >>> saved_bytes(lambda x: x * torch.ones(2, 3, 1, 1), x)  # six float32 numbers
        24
    """
    held: list[Tensor] = []  # the tensors themselves, so that no address comes twice
    with torch.autograd.graph.saved_tensors_hooks(held.append, lambda _: x):
        function(x)
    sizes = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in held)}
    for tensor in (x, *known):
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(sizes.values())


# ------------------------------------------------------------- settings and candidates


class Setting(NamedTuple):
    """What is timed together: ``task`` is "layer" or the name of a residual stack."""

    task: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "contiguous"
    threads: int = 1


class Candidate(NamedTuple):
    """A layer of a library; the first candidate of a setting is the reference."""

    layer: str
    source: str
    p: float | None
    block_size: int | None
    forward: Forward


def _settings(quick: bool, threads: Iterable[int]) -> list[Setting]:
    dtypes, layouts = ("float32", "bfloat16"), ("contiguous", "channels_last")
    batch = 4 if quick else 32
    result = []
    for count in threads:
        shapes = _SHAPES[-1:] if quick else _SHAPES
        for combination in itertools.product([_LAYERS], shapes, dtypes, layouts):
            result.append(Setting(*combination, count))
        result.append(Setting(_IMAGES, (batch, 64, 28, 28), threads=count))
        result.append(Setting(_TOKENS, (batch, 196, 192), threads=count))
    return result


def load_peers() -> tuple[dict[str, ModuleType], dict[str, str]]:
    """The layers of torchvision and timm.

    Returns:
        The modules of those that can be imported; and for both of them the version, or
        in words why it is missing.
    """
    layers, found = {}, {}
    for name, module in (("torchvision", "torchvision.ops"), ("timm", "timm.layers")):
        try:
            layers[name] = importlib.import_module(module)
            found[name] = sys.modules[name].__version__
        except (ImportError, OSError, RuntimeError) as error:
            # torchvision raises a RuntimeError beside a torch of another release.
            absent = isinstance(error, ModuleNotFoundError) and error.name == name
            reason = f"cannot be imported ({type(error).__name__})"
            found[name] = "not installed" if absent else reason
    return layers, found


def _layers(setting: Setting, peers: dict[str, ModuleType]) -> list[Candidate]:
    vision, timm = peers.get("torchvision"), peers.get("timm")
    stochastic_depth = vision and vision.StochasticDepth(0.2, "row")
    rows = [
        ("x * 1.25", "torch", None, None, lambda x: x * 1.25),
        ("Dropout", "torch", 0.2, None, nn.Dropout(0.2)),
        ("SpatialDropout", "regdrop_lite", 0.2, None, ours.SpatialDropout2d(0.2)),
        ("SpatialDropout", "torch", 0.2, None, nn.Dropout2d(0.2)),
        ("DropPath", "regdrop_lite", 0.2, None, ours.DropPath(0.2)),
        ("DropPath", "torchvision", 0.2, None, stochastic_depth),
        ("DropPath", "timm", 0.2, None, timm and timm.DropPath(0.2)),
    ]
    k = 3 if setting.shape[-1] == 7 else 7
    # The higher rate in float32 only: it takes as long as all the rest together.
    for p in (0.1, 0.3) if setting.dtype == "float32" else (0.1,):
        ours_one = ours.DropBlock2d(p, k, shared=True)
        timm_each = timm and timm.DropBlock2d(p, k, couple_channels=False)
        timm_one = timm and timm.DropBlock2d(p, k, couple_channels=True)
        rows += [
            ("DropBlock", "regdrop_lite", p, k, ours.DropBlock2d(p, k)),
            ("DropBlock", "torchvision", p, k, vision and vision.DropBlock2d(p, k)),
            ("DropBlock", "timm", p, k, timm_each),
            ("DropBlock shared", "regdrop_lite", p, k, ours_one),
            ("DropBlock shared", "timm", p, k, timm_one),
        ]
    return [Candidate(*row) for row in rows if row[-1] is not None]


def _branch(setting: Setting) -> nn.Module:
    if setting.task == _TOKENS:
        c = setting.shape[-1]
        linear = nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c)
        return nn.Sequential(nn.LayerNorm(c), *linear)
    c = setting.shape[1]
    first, second = (nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(2))
    norm = nn.BatchNorm2d(c), nn.ReLU(inplace=True)
    return nn.Sequential(first, *norm, second, nn.BatchNorm2d(c))


def _stacks(branches: nn.ModuleList) -> list[Candidate]:
    def forward(p: float, mode: str, x: Tensor) -> Tensor:
        for branch in branches:
            x = ours.drop_residual(x, branch, p, mode=mode)
        return x

    rates = [("row", 0.0), *itertools.product(("row", "subset"), (0.1, 0.2, 0.5))]
    name = "drop_residual {}"
    return [
        Candidate(name.format(mode), "regdrop_lite", p, None, partial(forward, p, mode))
        for mode, p in rates
    ]


# ------------------------------------------------------------------------------- a run


def measure_setting(
    setting: Setting,
    peers: dict[str, ModuleType],
    rounds: int,
    **measure_options: Callable[[], Any],
) -> list[Row]:
    """Measure all candidates of one setting.

    Args:
        setting: what they have in common.
        peers: the modules of other libraries, from :func:`load_peers`.
        rounds: the number of rounds.
        measure_options: ``clock`` and ``tick`` of :func:`measure`.

    Returns:
        One row for each candidate, the reference first.

    Example:
        >>> from regdrop_lite.course.bench import Setting, measure_setting
        >>> rows = measure_setting(Setting("layer", (2, 8, 7, 7)), {}, rounds=1)
        >>> rows[0]["layer"], rows[0]["ratio"], rows[0]["saved"]
        ('x * 1.25', 1.0, 0.0)
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(setting.shape, generator=generator)
    x = x.to(getattr(torch, setting.dtype))
    if setting.layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(x)
    x.requires_grad_()
    branches = nn.ModuleList()
    if setting.task == _LAYERS:
        candidates = _layers(setting, peers)
    else:
        branches.extend(_branch(setting) for _ in range(4))
        candidates = _stacks(branches)
    parameters = list(branches.parameters())
    # A rate of 0 does the work of a step and leaves each round the same weights.
    optimizer = torch.optim.SGD(parameters, lr=0.0) if parameters else None

    def step(forward: Forward) -> None:
        x.grad = None
        if optimizer:
            optimizer.zero_grad()
        forward(x).backward(gradient)
        if optimizer:
            optimizer.step()

    known = [*parameters, *branches.buffers()]
    calls = [partial(step, candidate.forward) for candidate in candidates]
    threads = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    try:
        saved = [saved_bytes(c.forward, x, known) / x.nbytes for c in candidates]
        times = measure(calls, rounds, **measure_options)
    finally:
        torch.set_num_threads(threads)
    rows = []
    for candidate, share, seconds in zip(candidates, saved, times, strict=True):
        ratios = [a / b for a, b in zip(seconds, times[0], strict=True)]
        quartiles = np.quantile(ratios, (0.25, 0.5, 0.75))
        numbers = (statistics.median(seconds), *quartiles, share)
        names = ("seconds", "ratio_low", "ratio", "ratio_high", "saved")
        row = {**setting._asdict(), **candidate._asdict()}
        del row["forward"]
        row.update(zip(names, (float(f"{n:.4g}") for n in numbers), strict=True))
        rows.append(row)
    return rows


def _provenance() -> dict[str, Any]:
    """Which code ran on what machine, and when; no names of hosts, no paths."""
    info = Path("/proc/cpuinfo")  # Linux only; elsewhere Python knows the name
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "regdrop_lite": ours.__version__,
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The last commit of the package's code, with "+" if it has been changed since."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(ours.__file__).parent), *words, "--", "."]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%H")
        return commit + "+" * bool(git("status", "--porcelain")) if commit else None
    except OSError:  # no git on this machine
        return None


def _store(result: dict[str, Any], path: Path) -> None:
    """Write one row a line; an old file stays whole until the new one is."""
    rows = ",\n".join(json.dumps(row) for row in result["rows"])
    origin = json.dumps(result["provenance"], indent=1)
    text = (
        f'{{"format": "{_FORMAT}",\n"provenance": {origin},\n"rows": [\n{rows}\n]}}\n'
    )
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | Path) -> dict[str, Any]:
    """Read what ``--output`` has stored.

    Args:
        path: the file.

    Returns:
        A dictionary with the ``provenance`` and the list of ``rows``.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:  # not text, or not JSON
        result = "no JSON"
    found = result.pop("format", None) if isinstance(result, dict) else result
    if found != _FORMAT:
        short = repr(found)[:60]
        raise ValueError(f"{path}: expected the format {_FORMAT!r}, but got {short}")
    return result


# ------------------------------------------------------------------- tables and figure


def table(rows: Sequence[Row]) -> str:
    """The rows as text: a table for each shape and number of threads.

    Args:
        rows: from :func:`measure_setting` or :func:`load`.

    Returns:
        Lines of at most 100 characters.
    """
    lines = ["time: a multiple of the first line; saved for backward: a share of x", ""]
    kind, column = itemgetter("task", "shape", "threads"), itemgetter("dtype", "layout")
    for (task, shape, threads), group in itertools.groupby(rows, kind):
        cells: dict[str, dict[tuple[str, str], str]] = {}
        for row in group:
            block = f" k={row['block_size']}" if row["block_size"] else ""
            name = f"{_label(row)}{block}".ljust(28) + row["source"].ljust(13)
            cell = f"{row['ratio']:8.2f}{row['saved']:6.2f}"
            cells.setdefault(name, {})[column(row)] = cell
        columns = next(iter(cells.values()))  # the reference is in all of them
        lines.append(f"{task}, {tuple(shape)}, threads: {threads}")
        for heads in (*zip(*columns, strict=True), ["time saved"] * len(columns)):
            lines.append(" " * 41 + "".join(head.rjust(14) for head in heads))
        for name, row in cells.items():
            lines.append(name + "".join(row.get(c, " " * 14) for c in columns))
        lines.append("")
    return "\n".join(line.rstrip() for line in lines)


def _label(row: Row) -> str:
    return row["layer"] if row["p"] is None else f"{row['layer']} p={row['p']:g}"


def plot(
    rows: Sequence[Row],
    *,
    dtype: str = "float32",
    layout: str = "contiguous",
    threads: int = 1,
) -> "Figure":
    """Draw the time of each layer relative to the limit, a panel for each shape.

    Args:
        rows: from :func:`load`.
        dtype: which rows to draw.
        layout: "contiguous" or "channels_last".
        threads: the number of threads.

    Returns:
        The figure. Dots are medians, lines span the quartiles.

    Raises:
        ValueError: there is no such row.
    """
    from regdrop_lite.course import plots

    plots.use_style()
    wanted = (_LAYERS, dtype, layout, threads)
    setting = itemgetter("task", "dtype", "layout", "threads")
    chosen = [row for row in rows if setting(row) == wanted and row["p"] is not None]
    if not chosen:
        raise ValueError(f"expected rows of the setting {wanted}, but there are none")
    labels = list(dict.fromkeys(_label(row) for row in chosen))
    sources = dict.fromkeys(row["source"] for row in chosen)
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in chosen))
    lines = math.ceil(len(shapes) / 2)
    figure, axes = plots.plt.subplots(
        *(lines, 2),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(7.2, 0.8 + lines * (0.6 + 0.28 * len(labels))),
    )
    for axis, shape in itertools.zip_longest(axes.flat, shapes):
        if shape is None:
            axis.set_visible(False)
            continue
        axis.axvline(1.0, color=plots.INK, linestyle=":", linewidth=1, marker="")
        here = [row for row in chosen if tuple(row["shape"]) == shape]
        k = max(row["block_size"] or 0 for row in here)
        axis.set_title(f"{' × '.join(map(str, shape))}, blocks of {k} × {k}")
        for source in sources:
            mine = [row for row in here if row["source"] == source]
            marker, color, shift = _MARKS[source]
            y = [labels.index(_label(row)) + shift for row in mine]
            low, ratio, high = (
                [row[key] for row in mine]
                for key in ("ratio_low", "ratio", "ratio_high")
            )
            fill = color if source == "regdrop_lite" else "none"
            style = {"color": color, "markerfacecolor": fill, "linestyle": "none"}
            axis.plot(ratio, y, marker=marker, label=source, **style)
            axis.hlines(y, low, high, colors=color, linewidth=1)
    axis = axes[0, 0]
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    figure.supxlabel("time / time of x · 1.25", color=plots.INK, fontsize=10)
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(sources))
    return figure


# ------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store if asked to. An interrupted run stores nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.bench",
        description="Time the layers beside those of other libraries, on the CPU.",
        epilog="Ctrl-C stores nothing and leaves an old file as it was.",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test only")
    parser.add_argument(
        "--rounds", type=_count, help="default: 9; with --quick 3", metavar="N"
    )
    parser.add_argument("--threads", type=_count, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, metavar="FILE", help="a JSON file")
    options = parser.parse_args(arguments)
    if options.output and not options.output.parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    rounds = options.rounds or (3 if options.quick else 9)
    peers, versions = load_peers()
    for name, version in versions.items():
        print(f"{name}: {version}")
    origin = {**_provenance(), **versions, "rounds": rounds, "quick": options.quick}
    settings = _settings(options.quick, options.threads)
    rows: list[Row] = []
    try:
        with tqdm(total=len(settings) * rounds, unit="round") as bar:
            for setting in settings:
                rows += measure_setting(setting, peers, rounds, tick=bar.update)
    except KeyboardInterrupt:
        print("interrupted: nothing is stored", file=sys.stderr)
        return 130
    print("\n" + table(rows))
    if options.output:
        _store({"provenance": origin, "rows": rows}, options.output)
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
