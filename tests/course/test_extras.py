"""Modules whose extras are missing say what to install, all in one way."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from regdrop_lite.course.extras import needs

COURSE = Path(__file__).parents[2] / "regdrop_lite/course"
NEEDS = [
    ("plots", "matplotlib"),
    ("plots", "cycler"),
    ("fashion_mnist_mini/__init__", "numpy"),
    ("check/chapter_4", "scipy.stats"),
    ("study/plan", "pydantic"),
    ("study/report", "numpy"),
    ("study/statistics", "numpy"),
    ("study/statistics", "scipy"),
    ("study/sweep", "joblib"),
    ("study/sweep", "tqdm"),
    ("author/book", "pikepdf"),
    ("author/book", "bs4"),
    ("author/execute", "nbclient"),
    ("author/execute", "nbformat"),
    ("author/markdown", "markdown_it"),
    ("author/markdown", "mdformat_tables"),
    ("author/markdown", "myst_parser.config.main"),
    ("author/markdown", "yaml"),
    ("author/plain", "docutils.nodes"),
    ("author/plain", "nbformat"),
    ("author/plain", "pybtex.database"),
    ("author/student", "nbformat"),
    ("teach/archive", "pydantic"),
    ("teach/assign", "nbformat"),
    ("teach/bank", "pydantic"),
    ("teach/bank", "yaml"),
    ("teach/class_notebooks", "nbformat"),
    ("teach/exam", "pydantic"),
    ("teach/paper", "math_core"),
    ("teach/plans", "yaml"),
    ("teach/slides", "markdown_it"),
    ("teach/slides", "math_core"),
]
EXTRAS = {"author": "author", "teach": "(course,)?author"}  # elsewhere it is course


@pytest.mark.parametrize(("module", "missing"), NEEDS)
def test_a_module_names_the_extra_that_it_needs(monkeypatch, module, missing):
    spec = importlib.util.spec_from_file_location("a_copy", COURSE / f"{module}.py")
    copy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "a_copy", copy)  # dataclasses look for it
    monkeypatch.setitem(sys.modules, missing, None)  # makes the import fail
    with pytest.raises(ImportError) as caught:
        spec.loader.exec_module(copy)
    assert type(caught.value) is ImportError, "no bare ModuleNotFoundError"
    extra = EXTRAS.get(module.partition("/")[0], "course")
    command = rf'python -m pip install "regdrop-lite\[{extra}\]"$'
    assert re.search(command, str(caught.value))
    assert missing.partition(".")[0] in str(caught.value)


def test_every_import_of_an_extra_is_guarded():
    """What is listed above is all: other imports come with Python and PyTorch."""
    seen = set()
    free = {*sys.stdlib_module_names, "torch", "filelock", "regdrop_lite"}
    files = [*COURSE.glob("*.py"), COURSE / "fashion_mnist_mini/__init__.py"]
    for folder in ("author", "check", "models", "measures", "study", "teach"):
        files += (COURSE / folder).glob("*.py")
    for file in files:
        for node in ast.parse(file.read_text("utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            if any(name.split(".")[0] not in free for name in names):
                seen.add(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    assert not seen, "such an import stands in a block `with needs(...)`"


def test_interrupts_pass():
    with pytest.raises(KeyboardInterrupt), needs("course", "x"):
        raise KeyboardInterrupt
