"""What the tests of all checkers share: to run cells, and to compare a report."""

import ast
import linecache
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parents[3] / "book/exercises"


def cells_of(chapter):
    """The cells of a chapter's exercises, by their ids."""
    (path,) = FOLDER.glob(f"{chapter}_*_exercises.ipynb")
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def run(source, names, filename):
    """Run a cell in ``names``; return the value of its last line, if it has one."""
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    tree = ast.parse(source)
    last = (
        tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    )
    exec(compile(tree, filename, "exec"), names)
    if last is not None:
        return eval(compile(ast.Expression(last.value), filename, "eval"), names)
    return None


def run_notebook(notebook):
    """Run every code cell; return the names and the value of each cell, by its id."""
    names, values = {}, {}
    for cell in notebook["cells"]:
        is_code = cell["cell_type"] == "code"
        if is_code and "nbval-skip" not in cell["metadata"].get("tags", []):
            values[cell["id"]] = run(cell["source"], names, f"<{cell['id']}>")
    return names, values


def with_slips(source, slips):
    """A solution with every slip (old, new)."""
    for old, new in slips:
        assert source.count(old) == 1, f"{old!r} is not in the solution once"
        source = source.replace(old, new)
    return source


def assert_found(report, total, expected):
    assert report.total == total
    assert set(report.diagnoses) == set(expected), report
    for name, words in expected.items():
        assert words in report.diagnoses[name], report
    assert str(report).startswith(f"public checks {total - len(expected)}/{total}")


def assert_stopped(report, total, words):
    """One fault that leaves nothing to say for the checks behind it."""
    assert report.total == total and report.passed == 0, report
    (diagnosis,) = set(report.diagnoses.values())
    assert words in diagnosis, report
