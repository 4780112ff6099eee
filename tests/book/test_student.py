"""Exercises without their solutions: scaffolds in, outputs out, no answer left."""

import copy
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from regdrop_lite.course.author.student import has_solutions, student_version

BOOK = Path(__file__).parents[2] / "book"
EXERCISES = sorted((BOOK / "exercises").glob("*.ipynb"))
every_exercise = pytest.mark.parametrize("path", EXERCISES, ids=lambda p: p.stem)


def test_there_are_exercises():
    assert len(EXERCISES) >= 4


@every_exercise
def test_solutions_are_out_and_scaffolds_are_in(path):
    notebook = nbformat.read(path, as_version=4)
    before = copy.deepcopy(notebook)
    version = student_version(notebook)
    assert notebook == before, "the original is left alone"
    nbformat.validate(version)
    assert has_solutions(notebook) and not has_solutions(version)
    kept = {cell.id: cell for cell in version.cells}
    text = "\n".join(cell.source for cell in version.cells)
    for cell in notebook.cells:
        if "solution" not in cell.metadata.get("tags", []):
            assert kept[cell.id].source == cell.source
        elif "scaffold" in cell.metadata:
            assert kept[cell.id].source == cell.metadata.scaffold
            assert kept[cell.id].metadata == {"tags": ["answer"]}
            assert cell.source not in text
        else:
            assert cell.id not in kept
    for cell in version.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@every_exercise
def test_there_is_a_place_for_every_answer_in_words(path):
    """A question that code cannot answer has a Markdown cell below the exercise."""
    cells = student_version(nbformat.read(path, as_version=4)).cells
    asked = [
        i
        for i, cell in enumerate(cells)
        if "**Then think.**" in cell.source or "Then answer" in cell.source
    ]
    for i in asked:
        until = next(
            (j for j in range(i + 1, len(cells)) if "{exercise}" in cells[j].source),
            len(cells),
        )
        assert any(
            cell.cell_type == "markdown" and "answer" in cell.metadata.get("tags", [])
            for cell in cells[i + 1 : until]
        ), cells[i].id


def test_other_tags_stay_and_a_solution_without_a_scaffold_goes():
    output = new_output("stream", text="42")
    cell = new_code_cell(
        "42", metadata={"tags": ["solution", "extra"]}, outputs=[output]
    )
    words = new_markdown_cell(
        "because", metadata={"tags": ["solution"], "scaffold": "*Yours:*"}
    )
    version = student_version(new_notebook(cells=[cell, words]))
    assert [c.source for c in version.cells] == ["*Yours:*"]
    cell.metadata["scaffold"] = "..."
    first, second = student_version(new_notebook(cells=[cell, words])).cells
    assert (first.source, first.outputs) == ("...", [])
    assert first.metadata.tags == ["extra", "answer"]
    assert second.metadata.tags == ["answer"]
