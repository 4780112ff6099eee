"""The notebooks guard the layers.

A copy of the package gets one fault at a time. The chapter's notebook has to fail with
it, and in the assertion that names the lost property. Where it can be done, a fault
leaves the random numbers as they are, so that nothing but the property itself gives it
away. That no assertion fails without a fault is what the tests of the notebooks say.
"""

import json
import shutil
from pathlib import Path

import pytest
from faults import (
    Fault,
    chapter_1,
    chapter_2,
    chapter_3,
    chapter_4,
    chapter_5,
    chapter_6,
)
from notebook import code_cells, failures

ROOT = Path(__file__).parents[2]
CHAPTERS = (chapter_1, chapter_2, chapter_3, chapter_4, chapter_5, chapter_6)
FAULTS = [fault for chapter in CHAPTERS for fault in chapter.FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_fits_the_source(fault: Fault) -> None:
    """Quickly: a change of a layer changes its faults, too."""
    source = (ROOT / "regdrop_lite" / fault.file).read_text(encoding="utf-8")
    assert source.count(fault.old) == 1 and fault.old != fault.new


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_chapter_catches(fault: Fault, tmp_path: Path, record_property) -> None:
    """The named assertion fails; which cell it stands in is recorded and printed."""
    shutil.copytree(ROOT / "regdrop_lite", tmp_path / "regdrop_lite")
    file = tmp_path / "regdrop_lite" / fault.file
    source = file.read_text(encoding="utf-8")
    assert source.count(fault.old) == 1, "the fault no longer fits the source"
    file.write_text(source.replace(fault.old, fault.new), encoding="utf-8")
    (tmp_path / "book").mkdir()
    for data in ("results", "recipes"):
        (tmp_path / "book" / data).symlink_to(ROOT / "book" / data)

    notebook = (ROOT / "book" / fault.notebook).with_suffix(".ipynb")
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells = code_cells(content, fault.cell or fault.words)  # the rest costs time
    failed = failures(cells, tmp_path, tmp_path / "book")
    caught = [cell for cell, text in failed.items() if fault.words in text]
    assert caught, f"not caught by its assertion: {failed}"
    record_property("caught in", caught[0])
    print(f"{fault.name}: caught in code cell {caught[0]} of {fault.notebook}")


@pytest.mark.slow
def test_a_run_says_which_cells_fail(tmp_path: Path) -> None:
    """And goes on behind them."""
    raises = "raises-exception"
    cells = [
        ("x = 1", []),
        ("print(x)\n1 / 0", [raises]),
        ("1 / 0", ["nbval-skip"]),
        ("y = 2\nassert x == y, 'not two'", []),
        ("x / y", [raises]),
        ("x + 1", []),
    ]
    notebook = {
        "cells": [
            {"cell_type": "code", "source": [source], "metadata": {"tags": tags}}
            for source, tags in cells
        ]
    }
    part = code_cells(notebook, "x / y")
    assert len(part) == 5
    failed = failures(part, ROOT, tmp_path)
    assert list(failed) == [4, 5]
    assert "assert x == y" in failed[4] and "AssertionError: not two" in failed[4]
    assert "y = 2" not in failed[4], "the line that fails, not the whole cell"
    assert failed[5] == "x / y"
    with pytest.raises(ValueError, match="no code cell holds 'z'"):
        code_cells(notebook, "z")
