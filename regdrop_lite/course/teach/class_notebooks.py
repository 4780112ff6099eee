"""Chapters to type along in class, and the same with everything for the instructor.

    python -m regdrop_lite.course.teach.class_notebooks OUT

writes the chapters twice: ``OUT/students``, where the functions and classes that a
chapter builds by hand (``my_...``, ``My...``) are scaffolds to fill in class and no
output is left; and ``OUT/instructor``, the plain edition with all code and outputs. In
both, what answers a prediction is folded. Run it in the repository's folder.
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

with needs("author", "nbformat"):
    import nbformat
    from nbformat import NotebookNode

__all__ = ["class_version", "main", "scaffold", "write_class"]

TO_WRITE = 'raise NotImplementedError("we write this in class")'

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

    A cell that has become a scaffold gets the tag "answer".
    """
    version = copy.deepcopy(notebook)
    for cell in version.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        if (source := scaffold(cell.source)) != cell.source:
            cell.source = source
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "answer"]
    return version


def write_class(book: Book, out: Path) -> list[Path]:
    """Write both versions of all chapters.

    Args:
        book: the book.
        out: the folder to write into.

    Raises:
        FileExistsError: if there are such notebooks already, in which somebody may have
            worked.
    """
    chapters = [page for page in book.notebooks if re.match(r"book/\d\d", page)]
    written = write_plain(book, out / "instructor", chapters)
    students = write_plain(book, out / "students", chapters)
    for path in students:
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
