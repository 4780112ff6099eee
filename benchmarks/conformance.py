"""One suite of properties over everybody's dropping layers.

``python -m benchmarks.conformance`` tries every implementation that is installed and
prints a matrix; ``--output FILE`` stores it as JSON, ``--page FILE`` writes the page of
the book from a stored file, ``--turned FILE`` writes what differs from a stored one, if
anything does. A layer of your own joins by its code::

    python -m benchmarks.conformance --kind path --code "from mine import DropPath;
    layer = DropPath({p})"

Every check is a program of three lines: make the layer, make the input, look. What is
stored as the reproduction of a failure is the program that was run. A rate or a mean is
that of independent replicates, and holds within four standard errors.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch

SEED = 20261129  # chosen before the first run


class Layer(NamedTuple):
    """An implementation: ``code`` binds ``layer``, with ``{p}`` and ``{k}`` filled."""

    name: str
    package: str  # whose version is stored
    kind: str  # "channel", "path" or "block"
    code: str
    function: bool = False  # no module: no eval(), no export


LAYERS = [
    Layer(
        "SpatialDropout2d",
        "regdrop_lite",
        "channel",
        "from regdrop_lite import SpatialDropout2d; layer = SpatialDropout2d({p})",
    ),
    Layer(
        "Dropout2d",
        "torch",
        "channel",
        "from torch.nn import Dropout2d; layer = Dropout2d({p})",
    ),
    Layer(
        "SpatialDropout2D",
        "keras",
        "channel",
        "import keras; spatial = keras.layers.SpatialDropout2D({p}, "
        "data_format='channels_first'); layer = lambda x: spatial(x, training=True)",
        function=True,
    ),
    Layer(
        "DropPath",
        "regdrop_lite",
        "path",
        "from regdrop_lite import DropPath; layer = DropPath({p})",
    ),
    Layer(
        "StochasticDepth",
        "torchvision",
        "path",
        "from torchvision.ops import StochasticDepth; "
        "layer = StochasticDepth({p}, 'row')",
    ),
    Layer(
        "DropPath",
        "timm",
        "path",
        "from timm.layers import DropPath; layer = DropPath({p})",
    ),
    Layer(
        "DropPath",
        "monai",
        "path",
        "from monai.networks.layers.drop_path import DropPath; layer = DropPath({p})",
    ),
    Layer(
        "DropBlock2d",
        "regdrop_lite",
        "block",
        "from regdrop_lite import DropBlock2d; layer = DropBlock2d({p}, {k})",
    ),
    Layer(
        "DropBlock2d clip",
        "regdrop_lite",
        "block",
        "from regdrop_lite import DropBlock2d; "
        "layer = DropBlock2d({p}, {k}, border='clip')",
    ),
    Layer(
        "DropBlock2d",
        "torchvision",
        "block",
        "from torchvision.ops import DropBlock2d; layer = DropBlock2d({p}, {k})",
    ),
    Layer(
        "DropBlock2d",
        "timm",
        "block",
        "from timm.layers import DropBlock2d; layer = DropBlock2d({p}, {k})",
    ),
]


class Check(NamedTuple):
    """A property: ``look`` on the input ``x`` gives what ``holds`` accepts."""

    name: str
    kinds: str
    p: float
    x: str
    look: str
    holds: Callable[[Any], bool]
    expected: str
    k: int = 7
    module: bool = False  # needs a module


def mean_is(value: float) -> Callable[[torch.Tensor], bool]:
    """Whether independent replicates have this mean, within four standard errors."""

    def check(replicates: torch.Tensor) -> bool:
        flat = replicates.double().flatten()
        error = flat.std().item() / math.sqrt(flat.numel())
        return abs(flat.mean().item() - value) <= 4 * error + 1e-12

    return check


def _true(value: Any) -> bool:
    return bool(value)


ALL, SHARE = "channel path block", "(layer(x) == 0).double().flatten(1).mean(1)"
RANDOM = "torch.rand(64, 32, 8, 8) + 0.5"
CHECKS = [
    Check(
        "rate",
        "channel path",
        0.1,
        "torch.ones(100_000, 1, 2, 2)",
        SHARE,
        mean_is(0.1),
        "0.1",
    ),
    *(
        Check(
            f"rate, {h} x {w}, k = {k}",
            "block",
            0.1,
            f"torch.ones(20_000, 1, {h}, {w})",
            SHARE,
            mean_is(0.1),
            "0.1",
            k,
        )
        for h, w, k in ((14, 14, 7), (7, 7, 3), (8, 20, 5), (14, 14, 6))
    ),
    Check(
        "expectation",
        "channel path",
        0.3,
        "torch.ones(100_000, 1, 1, 1)",
        "layer(x)",
        mean_is(1.0),
        "1",
    ),
    *(
        Check(
            f"expectation, {name}",
            "block",
            0.3,
            "torch.ones(20_000, 1, 14, 14)",
            f"layer(x)[:, 0, {i}, {i}]",
            mean_is(1.0),
            "1",
        )
        for name, i in (("corner", 0), ("centre", 7))
    ),
    Check(
        "bfloat16 without bias",
        "channel path",
        0.1,
        "(torch.rand(20_000, 4, 5, 5) + 0.5).bfloat16()",
        "(y := layer(x).double()).sum() * 0.9 / x.double()[y != 0].sum()",
        lambda value: abs(value.item() - 1) < 1e-4,
        "1 (0.0001)",
    ),
    Check(
        "bfloat16 stays bfloat16",
        ALL,
        0.1,
        f"({RANDOM}).bfloat16()",
        "layer(x).dtype",
        lambda value: value == torch.bfloat16,
        "torch.bfloat16",
        3,
    ),
    Check(
        "float16, 524,288 values",
        ALL,
        0.1,
        "torch.ones(64, 128, 8, 8, dtype=torch.float16)",
        "(layer(x) != 0).double().mean()",
        lambda value: value > 0.5,
        "most are kept",
        3,
    ),
    Check(
        "p = 0 changes nothing",
        ALL,
        0.0,
        RANDOM,
        "torch.equal(layer(x), x)",
        _true,
        "True",
        3,
    ),
    Check(
        "p = 1 drops all",
        ALL,
        1.0,
        RANDOM,
        "(layer(x) == 0).double().mean()",
        lambda value: value == 1,
        "1",
        3,
    ),
    Check(
        "p = 1, infinite input",
        ALL,
        1.0,
        "torch.full((4, 2, 8, 8), float('inf'))",
        "(layer(x) == 0).double().mean()",
        lambda value: value == 1,
        "1",
        3,
    ),
    Check(
        "empty batch",
        ALL,
        0.5,
        "torch.ones(0, 3, 8, 8)",
        "tuple(layer(x).shape)",
        lambda value: value == (0, 3, 8, 8),
        "(0, 3, 8, 8)",
        3,
    ),
    Check(
        "channels last stays",
        ALL,
        0.5,
        "torch.ones(2, 3, 8, 8).to(memory_format=torch.channels_last)",
        "layer(x).is_contiguous(memory_format=torch.channels_last)",
        _true,
        "True",
        3,
    ),
    Check(
        "samples do not scale each other",
        ALL,
        0.3,
        "torch.ones(2, 1, 8, 8)",
        "{v for _ in range(200) for v in layer(x)[0, 0, 0, :1].tolist() if v}",
        lambda value: len(value) == 1,
        "one value",
        3,
    ),
    Check(
        "gradient is mask times scale",
        ALL,
        0.3,
        f"({RANDOM}).requires_grad_()",
        "((y := layer(x)) / x - torch.autograd.grad(y.sum(), x)[0]).abs().max()",
        lambda value: value < 1e-5,
        "0",
        3,
    ),
    Check(
        "torch.manual_seed repeats",
        ALL,
        0.3,
        RANDOM,
        "torch.equal(*[layer(x) for _ in range(2) if torch.manual_seed(1)])",
        _true,
        "True",
        3,
    ),
    Check(
        "takes a torch.Generator",
        ALL,
        0.3,
        RANDOM,
        "torch.equal(*[setattr(layer, 'generator', torch.Generator().manual_seed(1)) "
        "or layer(x) for _ in range(2)])",
        _true,
        "True",
        3,
    ),
    Check(
        "vmap, other masks for each",
        ALL,
        0.3,
        "torch.ones(2, 64, 8, 8, 8)",
        "not torch.equal(*torch.vmap(layer, randomness='different')(x))",
        _true,
        "True",
        3,
    ),
    Check(
        "evaluation returns the input",
        ALL,
        0.3,
        RANDOM,
        "layer.eval()(x) is x",
        _true,
        "True",
        3,
        module=True,
    ),
    Check(
        "compiled: one graph, same rate",
        ALL,
        0.1,
        "torch.ones(20_000, 1, 8, 8)",
        "(torch.compile(layer, backend='aot_eager', fullgraph=True)(x) == 0)"
        ".double().flatten(1).mean(1)",
        mean_is(0.1),
        "0.1",
        1,
    ),
    Check(
        "export with any batch",
        ALL,
        0.3,
        "torch.ones(4, 3, 8, 8)",
        "tuple(torch.export.export(layer, (x,), dynamic_shapes="
        "({0: torch.export.Dim('n')},)).module()(torch.ones(7, 3, 8, 8)).shape)",
        lambda value: value == (7, 3, 8, 8),
        "(7, 3, 8, 8)",
        3,
        module=True,
    ),
]


def run(layer: Layer, check: Check) -> dict[str, str]:
    """One cell: "holds", "fails" or "error", what came, and the three lines."""
    lines = [
        layer.code.format(p=check.p, k=check.k),
        f"x = {check.x}",
        check.look,
    ]
    names: dict[str, Any] = {"torch": torch}
    torch.manual_seed(SEED)
    torch.compiler.reset()
    cell = {"layer": f"{layer.package} {layer.name}", "kind": layer.kind}
    cell |= {"property": check.name, "expected": check.expected}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec("\n".join(lines[:2]), names)
            value = eval(lines[2], names)
    except Exception as error:  # whatever a library raises is what is stored
        first = str(error).strip().splitlines() or [""]
        cell |= {"result": "error", "got": f"{type(error).__name__}: {brief(first[0])}"}
    else:
        result = "holds" if check.holds(value) else "fails"
        cell |= {"result": result, "got": _words(value)}
    if cell["result"] != "holds":
        cell["reproduction"] = "\n".join(lines)
    return cell


def brief(line: str, most: int = 90) -> str:
    """The sentences of a message that fit, or its first words and an ellipsis."""
    if len(line) <= most:
        return line
    sentences = line[:most].rpartition(". ")[0]
    return f"{sentences}." if sentences else shorten(line, most, placeholder=" …")


def _words(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.double().mean().item():.4f}"
    if isinstance(value, set):
        return f"{len(value)} values"
    return str(value)


def version(package: str) -> str | None:
    """The version that is installed, without the part that names a build."""
    try:
        if package == "regdrop_lite":
            return "this tree"
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def suite(layers: list[Layer]) -> dict[str, Any]:
    """All cells of what is installed, with versions."""
    versions = {name: version(name) for name in {x.package for x in layers} | {"torch"}}
    cells = [
        run(layer, check)
        for layer in layers
        if versions[layer.package] is not None
        for check in CHECKS
        if layer.kind in check.kinds.split() and not (check.module and layer.function)
    ]
    machine = {"python": platform.python_version(), "seed": SEED}
    return {"versions": versions, **machine, "cells": cells}


def matrix(stored: dict[str, Any]) -> str:
    """The page of the book, as Markdown."""
    have = {k: v for k, v in sorted(stored["versions"].items()) if v}
    text = [
        "# Everybody's layers, one suite",
        "",
        "What each library's layer does with the same questions. The tables are made "
        "of a stored run, `book/results/conformance.json`:",
        "",
        ", ".join(f"{name} {v}" for name, v in have.items())
        + f"; Python {stored['python']}, on a CPU.",
        "",
        "<!-- not run: it needs the libraries, and some minutes -->",
        "```bash",
        "python -m benchmarks.conformance --output book/results/conformance.json",
        "python -m benchmarks.conformance --page book/reference/conformance.md",
        "```",
        "",
        "✓ holds, ✗ does not, E raises an error. Rates and means are those of 20,000 "
        "maps or 100,000 samples and hold within four standard errors. Some rows are a "
        "matter of taste; [Other libraries](peers.md) says which, and why. A generator "
        "is given as the attribute `generator`, which only ours read. Keras "
        "computes in the dtype of its policy, here float32, and has a generator of its "
        "own, which `torch.manual_seed` does not reach.",
        "",
        "To try a layer of your own, write the code that makes it. For instance, from "
        "the root of the repository, a DropPath as one writes it in five minutes:",
        "",
        "```{literalinclude} ../recipes/mine.py",
        ":language: python",
        ":start-at: class DropPath",
        "```",
        "",
        "```bash",
        "python -m benchmarks.conformance --kind path \\",
        '    --code "from book.recipes.mine import DropPath; layer = DropPath({p})"',
        "```",
        "",
        "Rate, expectation and evaluation hold. It makes bfloat16 to float32, since a "
        "boolean divided by a number is float32; at $p = 1$ it divides by 0 and "
        "returns NaN; and it takes no generator. Each line that fails comes with the "
        "program that shows it. (A DropBlock has `{k}` for its block size.)",
        "",
        "Every week a workflow runs the suite on the newest releases, and opens an "
        "issue when a cell of these tables has turned.",
        "",
    ]
    titles = {"channel": "Channels", "path": "Paths", "block": "Blocks"}
    signs = {"holds": "✓", "fails": "✗", "error": "E"}
    for kind, title in titles.items():
        cells = [c for c in stored["cells"] if c["kind"] == kind]
        names = list(dict.fromkeys(c["layer"] for c in cells))
        rows = list(dict.fromkeys(c["property"] for c in cells))
        found = {(c["layer"], c["property"]): signs[c["result"]] for c in cells}
        text += [f"## {title}", "", "| | " + " | ".join(names) + " |"]
        text += ["|---" * (len(names) + 1) + "|"]
        for row in rows:
            marks = [found.get((name, row), "–") for name in names]
            text.append(f"| {row} | " + " | ".join(marks) + " |")
        text += [""]
    text += ["## What does not hold", ""]
    for cell in stored["cells"]:
        if cell["result"] != "holds":
            text += [f"**{cell['layer']}, {cell['property']}**: expected "]
            text[-1] += f"{cell['expected']}, got {_escaped(cell['got'])}"
            text += ["", "```{code-block} python", cell["reproduction"], "```", ""]
    return "\n".join(text).rstrip() + "\n"


def _escaped(text: str) -> str:
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def turned(stored: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two runs, as Markdown; empty if nothing does."""
    before = {(c["layer"], c["property"]): c for c in stored["cells"]}
    text = []
    for cell in new["cells"]:
        old = before.get((cell["layer"], cell["property"]))
        if old is not None and old["result"] != cell["result"]:
            words = f"**{cell['layer']}, {cell['property']}**: {old['result']} before, "
            words += f"now {cell['result']}: expected {cell['expected']}, got "
            text += [words + _escaped(cell["got"]), ""]
            if "reproduction" in cell:
                text += ["```python", cell["reproduction"], "```", ""]
    tried = {c["layer"] for c in new["cells"]}
    gone = sorted({c["layer"] for c in stored["cells"]} - tried)
    text += [f"**{name}** was not tried: it is not installed." for name in gone]
    if not text:
        return ""
    versions = (
        f"- {name}: {version} before, now {new['versions'].get(name)}"
        for name, version in sorted(stored["versions"].items())
    )
    return "\n".join([*text, "", *versions]) + "\n"


def what_is_wrong_with(code: str) -> str:
    """Why ``code`` makes no layer at all; empty if it does."""
    names: dict[str, Any] = {"torch": torch}
    try:
        filled = code.format(p=0.1, k=3)
    except (IndexError, KeyError, ValueError) as error:
        return f"may hold {{p}} and {{k}}, and other braces doubled; came {error!r}"
    try:
        exec(filled, names)
    except Exception as error:  # whatever the code raises is what is told
        return f"raises {type(error).__name__}: {error}"
    return "" if callable(names.get("layer")) else "has to make a layer: `layer = ...`"


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, help="store the cells as JSON")
    parser.add_argument("--page", type=Path, help="write the page from --stored")
    parser.add_argument(
        "--stored", type=Path, default=Path("book/results/conformance.json")
    )
    parser.add_argument(
        "--turned", type=Path, help="write what differs from --stored, if anything does"
    )
    parser.add_argument("--code", help="code that binds `layer`, with {p} and {k}")
    parser.add_argument("--kind", choices=["channel", "path", "block"], default="path")
    chosen = parser.parse_args(argv)
    if chosen.page:
        stored = json.loads(chosen.stored.read_text("utf-8"))
        chosen.page.write_text(matrix(stored), "utf-8")
        return
    layers = LAYERS
    if chosen.code:
        fault = what_is_wrong_with(chosen.code)
        if fault:
            parser.error(f"--code {fault}")
        layers = [Layer("layer", "torch", chosen.kind, chosen.code)]
    result = suite(layers)
    for cell in result["cells"]:
        name = f"{cell['layer']}: {cell['property']}"
        print(f"{cell['result']:6} {name}: {cell['got']} (expected {cell['expected']})")
        if chosen.code and cell["result"] != "holds":
            print("       " + cell["reproduction"].replace("\n", "\n       "))
    if chosen.turned:
        differs = turned(json.loads(chosen.stored.read_text("utf-8")), result)
        if differs:
            chosen.turned.parent.mkdir(parents=True, exist_ok=True)
            chosen.turned.write_text(differs, "utf-8")
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        chosen.output.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
