"""Notebooks are stored without what differs from machine to machine."""

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from regdrop_lite.course.author.execute import execute


def store(path: Path, *cells: nbformat.NotebookNode) -> bytes:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python", "x": 1}}
    nbformat.write(new_notebook(cells=list(cells), metadata=metadata), path)
    return path.read_bytes()


def test_outputs_are_stored_without_times_and_paths(tmp_path):
    path = tmp_path / "book.ipynb"
    show = "import os\nprint(1, flush=True)\nprint(os.environ['OMP_NUM_THREADS'])"
    failing = new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]})
    store(path, new_code_cell(show, id="show"), failing)
    execute(path)
    first, second = nbformat.read(path, as_version=4).cells
    assert (first.id, first.execution_count) == ("show", 1)
    assert [output.text for output in first.outputs] == ["1\n1\n"]
    assert "execution" not in first.metadata
    assert second.metadata.tags == ["raises-exception"]
    (trace,) = second.outputs[0].traceback
    assert "division by zero" in trace and "/" not in trace
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "book.ipynb"
    before = store(path, new_code_cell("1 / 0"))
    with pytest.raises(CellExecutionError, match="division by zero"):
        execute(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
