"""Exercises without their solutions.

An exercise notebook holds its solutions in cells tagged "solution". Such a cell may
keep in its metadata, under "scaffold", what a learner starts from: a piece of code, or,
in a Markdown cell, the place for an answer in words.
"""

import copy

from regdrop_lite.course.extras import needs

with needs("author", "nbformat"):
    from nbformat import NotebookNode

__all__ = ["has_solutions", "student_version"]


def has_solutions(notebook: NotebookNode) -> bool:
    """Whether a cell of the notebook is tagged "solution"."""
    return any("solution" in cell.metadata.get("tags", []) for cell in notebook.cells)


def student_version(notebook: NotebookNode) -> NotebookNode:
    """Give a copy of ``notebook`` without solutions and outputs.

    Cells tagged "solution" become their scaffolds, with the tag "answer" instead; those
    without a scaffold are left out.

    Example:
        >>> from nbformat.v4 import new_code_cell, new_notebook
        >>> metadata = {"tags": ["solution"], "scaffold": "answer = ..."}
        >>> solution = new_code_cell("answer = 42", metadata=metadata)
        >>> student_version(new_notebook(cells=[solution])).cells[0].source
        'answer = ...'
    """
    version = copy.deepcopy(notebook)
    version.cells = [
        cell
        for cell in version.cells
        if "solution" not in cell.metadata.get("tags", [])
        or "scaffold" in cell.metadata
    ]
    for cell in version.cells:
        if "solution" in cell.metadata.get("tags", []):
            cell.source = cell.metadata["scaffold"]
            kept = [tag for tag in cell.metadata["tags"] if tag != "solution"]
            cell.metadata = NotebookNode(tags=[*kept, "answer"])
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return version
