"""What holds for the exercises of every chapter: solutions, scaffolds, hints, checks.

That the solutions get the stored reports is tested by nbval, which runs the notebooks.
"""

import importlib
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch
from answers import run, run_notebook

from regdrop_lite.course.author.student import student_version

BOOK = Path(__file__).parents[3] / "book"
PATHS = sorted((BOOK / "exercises").glob("*_exercises.ipynb"))
NOTEBOOKS = {path.stem[:2]: nbformat.read(path, as_version=4) for path in PATHS}
CELLS = {
    chapter: {cell.id: cell for cell in notebook.cells}
    for chapter, notebook in NOTEBOOKS.items()
}
EXERCISES = [
    (chapter, cell.removesuffix("-check"))
    for chapter, cells in CELLS.items()
    for cell in cells
    if cell.endswith("-check")
]

pytestmark = pytest.mark.usefixtures("float64")
every_chapter = pytest.mark.parametrize("chapter", NOTEBOOKS)
every_exercise = pytest.mark.parametrize(("chapter", "exercise"), EXERCISES)


def stored_total(chapter, exercise):
    """The number of checks, from a stored report in which all of them hold."""
    (output,) = CELLS[chapter][f"{exercise}-check"].outputs
    text = output["data"]["text/plain"]
    found = re.fullmatch(r"public checks (\d+)/\1", text)
    assert found, text
    return int(found[1])


@cache
def untouched(chapter):
    """The reports on the scaffolds, by the cells that check them."""
    return run_notebook(student_version(NOTEBOOKS[chapter]))[1]


def test_every_answer_has_a_check():
    answers = [
        (chapter, cell.removesuffix("-answer"))
        for chapter, cells in CELLS.items()
        for cell in cells
        if cell.endswith("-answer") and cells[cell].cell_type == "code"
    ]
    assert answers == EXERCISES and len(NOTEBOOKS) >= 4


@every_exercise
def test_the_stored_report_is_complete_and_the_answer_a_solution(chapter, exercise):
    assert stored_total(chapter, exercise) > 1
    assert "solution" in CELLS[chapter][f"{exercise}-answer"].metadata.tags


@pytest.mark.parametrize("chapter", ["01", "02", "04"])
def test_the_checks_do_not_depend_on_the_default_dtype(chapter):
    names = {}
    for cell in NOTEBOOKS[chapter].cells:
        skipped = "nbval-skip" in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and not (skipped or cell.id.endswith("-check")):
            run(cell.source, names, f"<{cell.id}>")
    torch.set_default_dtype(torch.float32)
    for exercise in (name for number, name in EXERCISES if number == chapter):
        if (chapter, exercise) != ("02", "test"):  # its solution wants float64
            cell = CELLS[chapter][f"{exercise}-check"]
            report = run(cell.source, names, f"<{cell.id}>")
            assert report.passed == report.total == stored_total(chapter, exercise)


@every_exercise
def test_an_untouched_scaffold_scores_nothing_and_gets_no_hint(chapter, exercise):
    report = untouched(chapter)[f"{exercise}-check"]
    assert (report.total, report.passed) == (stored_total(chapter, exercise), 0)
    part = "free is still all zeros: not written yet"  # a second answer, told apart
    (text,) = set(report.diagnoses.values()) - {part}
    same = "expected an answer that depends on what is handed over, got 'ok' every time"
    told = same if (chapter, exercise) == ("06", "find") else "not written yet"
    assert text.startswith(told), text


@every_exercise
def test_an_exercise_shows_its_scaffold_and_its_hints(chapter, exercise):
    text = CELLS[chapter][f"{exercise}-text"].source
    scaffold = CELLS[chapter][f"{exercise}-answer"].metadata.scaffold
    assert f"```python\n{scaffold}\n```" in text
    head = rf"\*Objectives? {int(chapter)}\.\d.* · difficulty \d/5 · importance \d/5 · "
    assert re.search(head + r"\d+ minutes\*", text)
    hints = re.findall(r":::\{dropdown\} Hint (\d)", text)
    assert hints == ["1", "2", "3"][: max(len(hints), 2)]


@every_chapter
def test_no_cell_of_a_learner_holds_a_checker_or_an_answer(chapter):
    version = student_version(NOTEBOOKS[chapter])
    code = [cell for cell in version.cells if cell.cell_type == "code"]
    for cell in code:
        assert "hide-input" not in cell.metadata.get("tags", [])
        if cell.id.endswith("-check"):
            assert cell.source.startswith("check.") and "\n" not in cell.source
    for word in ("require(", "judge(", "Wrong(", "isclose"):
        assert word not in "\n".join(cell.source for cell in code)


@every_chapter
def test_the_text_lists_the_faults_that_are_to_be_found(chapter):
    name = f"regdrop_lite.course.check.chapter_{int(chapter)}"
    text = "\n".join(cell.source for cell in NOTEBOOKS[chapter].cells)
    for fault in getattr(importlib.import_module(name), "_FAULTS", ()):
        assert f'| `"{fault}"` |' in text
