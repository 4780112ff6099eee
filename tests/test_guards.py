"""The notebooks guard the layers.

A copy of the package gets one fault at a time. The chapter's notebook, run against its
stored outputs, has to fail, and in the assertion that names the lost property. Where it
can be done, a fault leaves the random numbers as they are, so that nothing but the
property itself gives it away.
"""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAIN = "01_spatial_dropout"
PITFALLS = "01b_spatial_dropout_pitfalls"
KEEP = "keep = sample_keep(shape, p, input.device, generator)\n"
TEAR = """\
    keep = keep.expand(input.shape).flatten(2).clone()
    keep[..., 1::2] = keep.roll(1, 1)[..., 1::2]
    keep = keep.view(input.shape)
"""


@dataclass(frozen=True)
class Fault:
    """A replacement in one file, and the words of the assertion that has to fail."""

    name: str
    file: str
    old: str
    new: str
    notebook: str
    words: str
    cell: str = ""  # how to find the cell, where its source lacks the words


FAULTS = [
    Fault(
        "scale forgotten",
        "_apply.py",
        "output = multiply(input, keep, scale)",
        "output = multiply(input, keep)",
        MAIN,
        "kept means scaled by 1/q",
    ),
    Fault(
        "p for 1 - p",
        "_common.py",
        "uniform(shape, device, generator) >= p",
        "uniform(shape, device, generator) >= 1 - p",
        MAIN,
        "a channel is dropped with probability p",
    ),
    Fault(
        "mask per element",
        "spatial_dropout.py",
        KEEP,
        KEEP + TEAR,
        MAIN,
        "a channel has to fall as a whole",
    ),
    Fault(
        "mask shared by the batch",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep = keep[:1]\n",
        MAIN,
        "each sample draws its own mask",
    ),
    Fault(
        "mask shared by the channels",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep = keep[:, :1]\n",
        MAIN,
        "the channels do not all fall together",
    ),
    Fault(
        "channels fall in pairs",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep[:, 1::2] = keep[:, ::2]\n",
        MAIN,
        "channels fall independently",
    ),
    Fault(
        "active in eval",
        "spatial_dropout.py",
        "if not training or p == 0.0:",
        "if p == 0.0:",
        MAIN,
        "in eval mode the layer returns its input",
    ),
    Fault(
        "a copy for p = 0",
        "spatial_dropout.py",
        "    if not training or p == 0.0:\n        return input\n",
        "    if not training:\n        return input\n",
        MAIN,
        "p = 0 returns its input",
    ),
    Fault(
        "0 times infinity for p = 1",
        "_common.py",
        "return (input if inplace else input.clone()).zero_()",
        "return input * 0.0 * float('inf')",
        MAIN,
        "p = 1 gives zeros, no NaN",
    ),
    Fault(
        "the generator is ignored",
        "spatial_dropout.py",
        KEEP,
        KEEP.replace("generator)", "None)"),
        MAIN,
        "not equal at p = 0.1",
        cell="not equal at p",
    ),
    Fault(
        "scale rounded to bfloat16",
        "_apply.py",
        "wide = torch.promote_types(input.dtype, torch.float32)\n    if isinstance",
        "wide = input.dtype\n    if isinstance",
        PITFALLS,
        "low precision must not bias the sum",
    ),
    Fault(
        "bfloat16 becomes float32",
        "_apply.py",
        "output = multiply(input, keep, scale)",
        "output = multiply(input.to(wide), keep, scale)",
        PITFALLS,
        "the dtype is kept",
    ),
    Fault(
        "wrong axis for channel last",
        "spatial_dropout.py",
        "channel = channel_dim % input.dim()",
        "channel = 1",
        PITFALLS,
        "with channel_dim=-1 a channel falls for all tokens",
    ),
    Fault(
        "inplace is ignored",
        "_apply.py",
        "return input.mul_(_weights(input, keep, scale))",
        "return input * _weights(input, keep, scale)",
        PITFALLS,
        "in place returns its input",
    ),
    Fault(
        "an image without a batch is accepted",
        "_common.py",
        "if not min_dims <= input.dim() <= max_dims:",
        "if False:",
        PITFALLS,
        'SpatialDropout2d(0.5)(inputs["image',  # the cell that no longer stops
    ),
]


def up_to(words: str, notebook: Path) -> dict:
    """The notebook up to the first cell that holds the words: the rest costs time."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    last = next(
        i
        for i, cell in enumerate(content["cells"])
        if cell["cell_type"] == "code" and words in "".join(cell["source"])
    )
    return {**content, "cells": content["cells"][: last + 1]}


def run_notebook(notebook: Path, package: Path, report: Path) -> dict[str, str]:
    """Run nbval with another copy of the package; give the failures by cell."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--nbval", "--nbval-current-env", f"--junitxml={report}", str(notebook)]
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    failures = {}
    for case in ElementTree.parse(report).iter("testcase"):
        for failure in case.iter("failure"):
            failures[case.get("name", "")] = failure.text or ""
    return failures


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_chapter_catches(fault: Fault, tmp_path: Path, record_property) -> None:
    """The named assertion fails; which cell it stands in is recorded and printed."""
    shutil.copytree(ROOT / "regdrop_lite", tmp_path / "regdrop_lite")
    file = tmp_path / "regdrop_lite" / fault.file
    source = file.read_text(encoding="utf-8")
    assert source.count(fault.old) == 1, "the fault no longer fits the source"
    file.write_text(source.replace(fault.old, fault.new), encoding="utf-8")

    part = up_to(fault.cell or fault.words, ROOT / "book" / f"{fault.notebook}.ipynb")
    notebook = tmp_path / f"{fault.notebook}.ipynb"
    notebook.write_text(json.dumps(part), encoding="utf-8")
    failures = run_notebook(notebook, tmp_path, tmp_path / "report.xml")
    caught = [cell for cell, text in failures.items() if fault.words in text]
    assert caught, f"not caught by its assertion, only in {sorted(failures)}"
    record_property("caught in", caught[0])
    print(f"{fault.name}: caught in {caught[0]} of {fault.notebook}")
