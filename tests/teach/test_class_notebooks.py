"""In class, what a chapter builds by hand is written again; nothing else is missing."""

import ast
import re
import textwrap
from pathlib import Path

import nbformat
import pytest

from regdrop_lite.course.author.plain import Book
from regdrop_lite.course.author.student import has_solutions
from regdrop_lite.course.teach.class_notebooks import (
    CATCH_UP,
    TO_WRITE,
    TYPE_ALONG,
    main,
    scaffold,
    write_class,
)
from regdrop_lite.course.teach.plans import CLOSING

ROOT = Path(__file__).parents[2]
ADDED = {"catch-up", "type-along"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("class")
    write_class(Book.read(ROOT), out)
    return out


def test_both_versions_of_every_chapter(written):
    chapters = {path.name for path in (ROOT / "book").glob("0*.ipynb")}
    for folder in ("students", "instructor"):
        assert {path.name for path in (written / folder).glob("*.ipynb")} == chapters
        assert (written / folder / "results").is_dir()
    theirs = {path.name for path in (written / "students" / "exercises").iterdir()}
    assert theirs == {path.name for path in (ROOT / "book/exercises").glob("*.ipynb")}
    for path in (written / "students" / "exercises").iterdir():
        assert not has_solutions(nbformat.read(path, as_version=4))


def test_students_get_scaffolds_and_no_outputs(written):
    scaffolds, caught = 0, []
    for path in (written / "students").glob("*.ipynb"):
        theirs = nbformat.read(path, as_version=4)
        nbformat.validate(theirs)
        ours = nbformat.read(written / "instructor" / path.name, as_version=4)
        added = [c for c in theirs.cells if ADDED & set(c.metadata.get("tags", []))]
        theirs.cells = [cell for cell in theirs.cells if cell not in added]
        caught += [c.source for c in added if c.source.startswith(CATCH_UP)]
        for student, full in zip(theirs.cells, ours.cells, strict=True):
            if student.cell_type != "code":
                assert student == full
                continue
            assert student.outputs == [] and student.execution_count is None
            if "answer" in student.metadata.get("tags", []):
                ast.parse(student.source)
                assert TO_WRITE in student.source and TO_WRITE not in full.source
                assert len(student.source.splitlines()) <= len(full.source.splitlines())
                assert f"{CATCH_UP}\n\n{full.source}" in caught
                scaffolds += 1
            else:
                assert student.source == full.source
                assert "def my_" not in full.source and "class My" not in full.source
        assert any(cell.get("outputs") for cell in ours.cells), path.name
    assert scaffolds == len(caught) >= 7


def test_no_section_is_without_a_cell(written):
    """What is typed along in class needs a place."""
    along = 0
    for path in (written / "students").glob("*.ipynb"):
        sections, names = [], []
        for cell in nbformat.read(path, as_version=4).cells:
            if heading := re.search(r"^## (.+)$", cell.source, re.M):
                names.append(heading[1])
                sections.append([])
            elif sections:
                sections[-1].append(cell)
        for name, cells in zip(names, sections, strict=True):
            code = [cell for cell in cells if cell.cell_type == "code"]
            assert code or CLOSING.search(name) or name == "References", name
            along += [cell.source for cell in code] == [TYPE_ALONG]
    assert along >= 1


def test_work_is_not_overwritten(written, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main([str(written)])
    assert "not as they would be written" in capsys.readouterr().err


def test_only_what_is_built_by_hand_is_taken_out():
    source = textwrap.dedent(
        '''
        import torch

        class MyLayer(torch.nn.Module):
            """A layer."""

            def __init__(self, p):
                super().__init__()
                self.p = p

            def forward(self, x):
                """Drop."""
                # The mask first.
                return x * mask

        def my_mask(x): return x >= 0

        def mystery(x):
            return x

        class Mystery:
            def look(self):
                return self

        assert my_mask(1)'''
    )
    expected = textwrap.dedent(
        f'''
        import torch

        class MyLayer(torch.nn.Module):
            """A layer."""

            def __init__(self, p):
                {TO_WRITE}

            def forward(self, x):
                """Drop."""
                {TO_WRITE}

        def my_mask(x):
            {TO_WRITE}

        def mystery(x):
            return x

        class Mystery:
            def look(self):
                return self

        assert my_mask(1)'''
    )
    assert scaffold(source) == expected
    assert scaffold("%pip install x\ndef my_f(): return 1").startswith("%pip")
