"""Chapters to type along in class, and the same with everything for the instructor.

Usage::

    python -m regdrop_lite.course.teach.class_notebooks OUT

writes the chapters twice: ``OUT/students``, where the functions and classes that a
chapter builds by hand (``my_...``, ``My...``) are scaffolds to fill in class and no
output is left; and ``OUT/instructor``, the plain edition with all code and outputs. In
both, what answers a prediction is folded. Below each scaffold a folded cell catches up
whoever missed it, and a section without code has an empty cell to type along. The
exercises lie in both, without solutions. Run it in the repository's folder.
"""

import argparse
import ast
import copy
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from regdrop_lite.course.author.markdown import PlainError
from regdrop_lite.course.author.plain import Book, write_plain
from regdrop_lite.course.extras import needs
from regdrop_lite.course.teach.plans import CLOSING

with needs("author", "nbformat"):
    import nbformat
    from nbformat import NotebookNode
    from nbformat.v4 import new_code_cell

__all__ = ["class_version", "main", "scaffold", "write_class"]

TO_WRITE = 'raise NotImplementedError("we write this in class")'
CATCH_UP = "# Did you miss this, or are you stuck? Run this cell, and go on."
TYPE_ALONG = "# Type along here."

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def scaffold(source: str) -> str:
    """Take out what stands in the functions and classes that are built by hand.

    Args:
        source: the code of a cell. Names, arguments and docstrings are kept, and so is
            all code outside of these functions. Code with commands of IPython comes
            back as it is.

    Example:
        >>> print(scaffold("def my_scale(p):\\n    return 1 / (1 - p)"))
        def my_scale(p):
            raise NotImplementedError("we write this in class")
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    lines = source.splitlines()
    for function in sorted(_by_hand(tree), key=lambda f: f.lineno, reverse=True):
        first, last = function.body[0], function.body[-1]
        indent = " " * (function.col_offset + 4)
        if ast.get_docstring(function) is not None:
            start = first.end_lineno or 0
        elif first.lineno == function.lineno:  # "def my_f(x): return x"
            start = first.lineno
            head = lines[start - 1].encode()[: first.col_offset].decode()
            lines[start - 1] = head.rstrip()
        else:
            start = first.lineno - 1
        lines[start : last.end_lineno] = [indent + TO_WRITE]
    return "\n".join(lines)


def _by_hand(tree: ast.Module) -> Iterator[_Function]:
    for node in tree.body:
        if isinstance(node, _Function) and node.name.startswith("my_"):
            yield node
        elif isinstance(node, ast.ClassDef) and re.match(r"My[A-Z]", node.name):
            yield from (part for part in node.body if isinstance(part, _Function))


def class_version(notebook: NotebookNode) -> NotebookNode:
    """Give a copy of a plain notebook with scaffolds, and without outputs.

    A cell that has become a scaffold gets the tag "answer". Below it comes a folded
    one, tagged "catch-up", with the code that was taken out. A section without code
    ends with an empty cell, tagged "type-along".
    """
    cells: list[NotebookNode] = []
    code = True  # what stands above the first section is no section
    for cell in copy.deepcopy(notebook.cells):
        if cell.cell_type == "code":
            code = True
            cell.outputs, cell.execution_count = [], None
        elif heading := re.search(r"^## (.+)$", cell.source, re.M):
            if not code:
                cells.append(_cell(cells[-1], "type-along", TYPE_ALONG))
            code = CLOSING.search(heading[1]) is not None
        cells.append(cell)
        full = cell.source
        if cell.cell_type == "code" and (source := scaffold(full)) != full:
            cell.source = source
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "answer"]
            answer = _cell(cell, "catch-up", f"{CATCH_UP}\n\n{full}")
            answer.metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
            cells.append(answer)
    return NotebookNode({**copy.deepcopy(notebook), "cells": cells})


def _cell(above: NotebookNode, tag: str, source: str) -> NotebookNode:
    cell: NotebookNode = new_code_cell(
        source, id=f"{above.id}-{tag}", metadata={"tags": [tag]}
    )
    return cell


def write_class(book: Book, out: Path) -> list[Path]:
    """Write both versions of all chapters, and the exercises as students get them.

    Args:
        book: the book.
        out: the folder to write into.

    Raises:
        FileExistsError: if there are such notebooks already, in which somebody may have
            worked.
    """
    pages = [p for p in book.notebooks if re.match(r"book/(\d\d|exercises/)", p)]
    written = write_plain(book, out / "instructor", pages)
    students = write_plain(book, out / "students", pages)
    for path in students:
        if path.parent == out / "students":  # a chapter
            nbformat.write(class_version(nbformat.read(path, as_version=4)), path)
    return [*written, *students]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.teach.class_notebooks",
        description="Write the chapters to type along, and with everything.",
    )
    command.add_argument("out", type=Path, metavar="OUT")
    chosen = command.parse_args(arguments)
    try:
        for path in write_class(Book.read(Path.cwd()), chosen.out):
            print(f"wrote {path}")
    except (PlainError, OSError) as error:
        command.error(str(error))


if __name__ == "__main__":
    main()
