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
from pathlib import Path

import pytest
from faults import Fault, chapter_1, chapter_2, chapter_3, chapter_4

ROOT = Path(__file__).parents[1]
FAULTS = chapter_1.FAULTS + chapter_2.FAULTS + chapter_3.FAULTS + chapter_4.FAULTS


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
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "results").symlink_to(ROOT / "book" / "results")
    notebook = tmp_path / "book" / f"{fault.notebook}.ipynb"
    notebook.write_text(json.dumps(part), encoding="utf-8")
    failures = run_notebook(notebook, tmp_path, tmp_path / "report.xml")
    caught = [cell for cell, text in failures.items() if fault.words in text]
    assert caught, f"not caught by its assertion, only in {sorted(failures)}"
    record_property("caught in", caught[0])
    print(f"{fault.name}: caught in {caught[0]} of {fault.notebook}")
