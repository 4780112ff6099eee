"""The layers beside those of torch, torchvision and timm: time, memory, targets.

``python -m benchmarks.layers`` measures on the CPU and prints; ``--output FILE`` stores
what it measured as JSON. torchvision and timm are optional: a missing one is named.

Times are multiples of the least that one multiplication costs: ``x * 1.25``, forward
and backward, on the same tensor. ``drop_residual`` is timed as a training step
(forward, backward, SGD) of four residual blocks, as a multiple of that at p = 0.

Each round measures all candidates of a setting, in shuffled order, and ratios are taken
within a round: a machine that slows down slows both sides. Calls of more than 25
times the limit join every sixth round only. Stored are the number of rounds, the ratio
of the fastest calls of both, the median and quartiles of the ratios, and the bytes that
one call holds for its backward pass, as a share of those of its input.
"""

import argparse
import importlib
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
import timeit
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

import regdrop_lite as ours

Row = dict[str, Any]
Forward = Callable[[Tensor], Tensor]
Name = tuple[str, str, float | None]  # of a candidate: layer, source, p

_SECONDS = 0.01  # short calls are repeated until one timing takes that long
_SLOW, _EVERY = 25, 6  # calls of 25 times the limit: every sixth round


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


_BIG = Setting("layer", (32, 64, 56, 56))
_LATE = Setting("layer", (128, 512, 7, 7))
_SMALL = Setting("layer", (8, 512, 7, 7))
_HALF = _SMALL._replace(dtype="bfloat16")
_COLUMNS = _BIG._replace(layout="channels_last")
_VOLUME = Setting("layer", (2, 8, 32, 32, 32))
_IMAGES = Setting("4 blocks of 2 convolutions", (32, 64, 14, 14))
_TOKENS = Setting("4 blocks of an MLP", (32, 64, 192))
_SETTINGS = [_BIG, _COLUMNS, *(s._replace(dtype="bfloat16") for s in (_BIG, _COLUMNS))]
_SETTINGS += [Setting("layer", (128, 256, 14, 14)), _LATE, _SMALL, _HALF, _VOLUME]
_SETTINGS += [_IMAGES, _TOKENS]

_OURS, _LIMIT = "regdrop_lite", ("x * 1.25", "torch", None)
_BLOCK = ("DropBlock", _OURS, 0.1)
# The ratio of the first to the second candidate is to be at most, or at least, so much.
_TARGETS: list[tuple[Setting, Name, Name, str, float]] = [
    (
        _BIG,
        ("SpatialDropout", _OURS, 0.2),
        ("SpatialDropout", "torch", 0.2),
        "<=",
        1.05,
    ),
    (_BIG, ("DropPath", _OURS, 0.2), ("DropPath", "timm", 0.2), "<=", 1.05),
    *(
        (setting, (layer, _OURS, 0.2), (layer, peer, 0.2), "<=", 1.15)
        for setting in (_SMALL, _HALF)
        for layer, peer in (("SpatialDropout", "torch"), ("DropPath", "timm"))
    ),
    (_BIG, _BLOCK, _LIMIT, "<=", 2.0),
    (_COLUMNS, _BLOCK, _LIMIT, "<=", 2.5),
    *(
        (setting, ("DropBlock", peer, 0.1), _BLOCK, ">=", bound)
        for setting, bound in ((_BIG, 25.0), (_LATE, 8.0))
        for peer in ("torchvision", "timm")
    ),
    (_BIG, ("DropBlock shared", _OURS, 0.1), _LIMIT, "<=", 1.3),
    *(
        (stack, ("subset", _OURS, p), ("row", _OURS, 0.0), "<=", bound)
        for stack in (_IMAGES, _TOKENS)
        for p, bound in ((0.5, 0.55), (0.2, 0.85))
    ),
    (_VOLUME, ("DropBlock clip", _OURS, 0.1), _BLOCK, "<=", 5.0),
]


def load_peers() -> tuple[dict[str, ModuleType], dict[str, str]]:
    """The modules of the peers, and their versions, or in words why one is missing."""
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
    tv, timm = peers.get("torchvision"), peers.get("timm")
    rows: list[tuple[Any, ...]] = [(*_LIMIT, None, lambda x: x * 1.25)]
    if setting.shape == _VOLUME.shape:
        rows.append((*_BLOCK, 15, ours.DropBlock3d(0.1, 15)))
        clip = ours.DropBlock3d(0.1, 15, border="clip")
        rows.append(("DropBlock clip", _OURS, 0.1, 15, clip))
        return [Candidate(*row) for row in rows]
    k, one = (3 if setting.shape[-1] == 7 else 7), "DropBlock shared"
    timm_each = timm and timm.DropBlock2d(0.1, k, couple_channels=False)
    rows += [
        ("SpatialDropout", _OURS, 0.2, None, ours.SpatialDropout2d(0.2)),
        ("SpatialDropout", "torch", 0.2, None, nn.Dropout2d(0.2)),
        ("DropPath", _OURS, 0.2, None, ours.DropPath(0.2)),
        ("DropPath", "torchvision", 0.2, None, tv and tv.StochasticDepth(0.2, "row")),
        ("DropPath", "timm", 0.2, None, timm and timm.DropPath(0.2)),
        ("DropBlock", _OURS, 0.1, k, ours.DropBlock2d(0.1, k)),
        ("DropBlock", _OURS, 0.3, k, ours.DropBlock2d(0.3, k)),
        ("DropBlock", "torchvision", 0.1, k, tv and tv.DropBlock2d(0.1, k)),
        ("DropBlock", "timm", 0.1, k, timm_each),
        (one, _OURS, 0.1, k, ours.DropBlock2d(0.1, k, shared=True)),
        (one, "timm", 0.1, k, timm and timm.DropBlock2d(0.1, k)),
    ]
    return [Candidate(*row) for row in rows if row[-1] is not None]


def _branch(setting: Setting) -> nn.Module:
    if setting.task == _TOKENS.task:
        c = setting.shape[-1]
        linear = nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c)
        return nn.Sequential(nn.LayerNorm(c), *linear)
    c = setting.shape[1]
    first, second = (nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(2))
    norm = nn.BatchNorm2d(c), nn.ReLU(inplace=True)
    return nn.Sequential(first, *norm, second, nn.BatchNorm2d(c))


def _stack(branches: nn.ModuleList, p: float, mode: str, x: Tensor) -> Tensor:
    for branch in branches:
        x = ours.drop_residual(x, branch, p, mode=mode)
    return x


def measure(calls: Sequence[Callable[[], object]], rounds: int) -> Tensor:
    """Seconds (call, round), in float64; nan where a slow call did not take part."""
    times = torch.full((len(calls), rounds), math.nan, dtype=torch.float64)
    threads = torch.get_num_threads()
    # Timer warms up before each timing. Once is enough: rounds have the plain timeit.
    timers = [Timer("f()", globals={"f": f}, num_threads=threads) for f in calls]
    once = [timer.timeit(1).mean for timer in timers]
    order, shuffle = list(range(len(calls))), random.Random(0).shuffle
    for turn in range(rounds):
        shuffle(order)
        for i in order:
            if once[i] < _SLOW * once[0] or turn % _EVERY == 0:
                number = math.ceil(_SECONDS / once[i])
                times[i, turn] = timeit.timeit(calls[i], number=number) / number
    return times


def saved_bytes(function: Forward, x: Tensor, known: Sequence[Tensor] = ()) -> int:
    """What one call keeps for its backward pass, without ``x`` and ``known``."""
    held: list[Tensor] = []  # the tensors themselves, so that no address comes twice
    with torch.autograd.graph.saved_tensors_hooks(held.append, lambda _: x):
        function(x)
    sizes = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in held)}
    for tensor in (x, *known):
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(sizes.values())


def summary(a: Tensor, b: Tensor) -> Row:
    """The ratios of two candidates over the rounds in which both took part."""
    both = ~(a / b).isnan()
    a, b = a[both], b[both]
    quartiles = (a / b).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=a.dtype))
    ratios = [(a.min() / b.min()).item(), *quartiles.tolist()]
    names = ("ratio_min", "ratio_low", "ratio", "ratio_high")
    return {"rounds": len(a), **dict(zip(names, map(_short, ratios), strict=True))}


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def run(
    setting: Setting, peers: dict[str, ModuleType], rounds: int
) -> tuple[list[Row], list[Row]]:
    """The rows of all candidates of a setting, the reference first; and its targets."""
    x = torch.randn(setting.shape, generator=torch.Generator().manual_seed(0))
    x = x.to(getattr(torch, setting.dtype))
    if setting.layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(x)
    x.requires_grad_()
    branches, optimizer = nn.ModuleList(), None
    if setting.task == "layer":
        candidates = _layers(setting, peers)
    else:
        branches.extend(_branch(setting) for _ in range(4))
        rates = [("row", 0.0), *itertools.product(("row", "subset"), (0.1, 0.2, 0.5))]
        candidates = [
            Candidate(mode, _OURS, p, None, partial(_stack, branches, p, mode))
            for mode, p in rates
        ]
        # A rate of 0 does the work of a step and leaves each round the same weights.
        optimizer = torch.optim.SGD(branches.parameters(), lr=0.0)

    def step(forward: Forward) -> None:
        x.grad = None
        if optimizer:
            optimizer.zero_grad()
        torch.autograd.backward(forward(x), gradient)
        if optimizer:
            optimizer.step()

    known = [*branches.parameters(), *branches.buffers()]
    threads = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    try:
        saved = [saved_bytes(c.forward, x, known) / x.nbytes for c in candidates]
        times = measure([partial(step, c.forward) for c in candidates], rounds)
    finally:
        torch.set_num_threads(threads)
    rows, found = [], {}
    for candidate, share, seconds in zip(candidates, saved, times, strict=True):
        found[candidate[:3]] = seconds
        row = {**setting._asdict(), **candidate._asdict(), **summary(seconds, times[0])}
        del row["forward"]
        rows.append(row | {"seconds": _short(seconds.nanmedian().item())})
        rows[-1]["saved"] = _short(share)
    targets = []
    for where, a, b, sign, bound in _TARGETS:
        same = where._replace(threads=setting.threads) == setting
        if same and a in found and b in found:
            row = {**setting._asdict(), "a": a, "b": b, "sign": sign, "bound": bound}
            row |= summary(found[a], found[b])
            row["met"] = (
                row["ratio"] <= bound if sign == "<=" else row["ratio"] >= bound
            )
            targets.append(row)
    return rows, targets


def provenance() -> Row:
    """Which code ran on what machine, and when; no names of hosts, no paths."""
    info = Path("/proc/cpuinfo")  # Linux only
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    git = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": model[1] if model else "unknown",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
    }


def table(rows: Sequence[Row], targets: Sequence[Row]) -> str:
    """What was measured, a block for each setting, then the targets."""
    lines = ["minimum and median ratio to the first line, memory, rounds"]
    kind = [[row[k] for k in Setting._fields] for row in rows]
    for i, row in enumerate(rows):
        if i == 0 or kind[i] != kind[i - 1]:
            lines += ["", f"{kind[i]}"]
        name = f"{row['layer']}, {row['source']}, p={row['p']}"
        ratios = f"{row['ratio_min']:8.2f}{row['ratio']:8.2f}"
        lines.append(f"{name:40}{ratios}{row['saved']:8.3f}{row['rounds']:4}")
    lines += ["", "targets: the median decides"]
    for row in targets:
        where = (
            f"{row['shape']} {row['dtype']} {row['layout']}, {row['threads']} threads"
        )
        names = f"{row['a']} / {row['b']} {row['sign']} {row['bound']}"
        numbers = f"minimum {row['ratio_min']}, median {row['ratio']}"
        verdict = "met" if row["met"] else "MISSED"
        lines.append(f"{verdict:7}{names}: {numbers}; {where}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and store if asked to. An interrupted run stores nothing."""
    parser = argparse.ArgumentParser("python -m benchmarks.layers")
    parser.add_argument("--quick", action="store_true", help="3 rounds, small inputs")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="channels_last ..."
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="a JSON file")
    options = parser.parse_args(arguments)
    if options.output and not options.output.parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    settings = [s._replace(threads=n) for n in (1, 2) for s in _SETTINGS]
    if options.quick:
        settings = [s for s in settings if math.prod(s.shape) < 1_000_000]
    settings = [s for s in settings if re.search(options.only, str(tuple(s)))]
    if not settings:
        parser.error(f"no setting matches {options.only!r}; try 'float32'")
    peers, versions = load_peers()
    print(*(f"{name}: {version}" for name, version in versions.items()), sep="\n")
    stored: Row = {
        "provenance": {**provenance(), **versions},
        "rows": [],
        "targets": [],
    }
    for setting in settings:
        print(*setting, file=sys.stderr, flush=True)
        rows, targets = run(setting, peers, 3 if options.quick else 30)
        stored["rows"] += rows
        stored["targets"] += targets
    print(table(stored["rows"], stored["targets"]))
    if options.output:  # one row a line
        text = json.dumps(stored).replace('{"task"', '\n{"task"')
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
