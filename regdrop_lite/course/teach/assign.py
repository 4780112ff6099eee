"""Graded assignments, made from the exercise sets of the book.

Usage::

    python -m regdrop_lite.course.teach.assign OUT
    python -m regdrop_lite.course.teach.assign OUT --set 1 --seed 2027
    python -m regdrop_lite.course.teach.assign OUT --set 1 --only 2,3,4

writes every set in three forms, of which a class needs one:

* ``OUT/nbgrader``: a course folder for nbgrader, with ``source/set_N/set_N.ipynb``;
* ``OUT/otter``: ``set_N.ipynb`` for ``otter assign``;
* ``OUT/repository``: ``set_N``, a folder with adapters and tests to hand out, and
  ``set_N.json``, with which :mod:`regdrop_lite.course.teach.grade` gives the points.

The notebooks in the first two hold the solutions, which nbgrader and otter take out. A
task has one point for every five of its minutes; a part in words has three more, which
are given by hand. Run it in the repository's folder.
"""

import argparse
import ast
import json
import random
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regdrop_lite.course.author.markdown import PlainError
from regdrop_lite.course.author.plain import Book, plain_edition
from regdrop_lite.course.extras import needs

with needs("author", "nbformat"):
    import nbformat
    from nbformat import NotebookNode
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

__all__ = [
    "ExerciseSet",
    "Part",
    "Task",
    "choose_tasks",
    "main",
    "nbgrader_notebook",
    "otter_notebook",
    "read_set",
    "read_sets",
    "write_nbgrader",
    "write_otter",
    "write_repository",
]

MINUTES_A_POINT = 5
WORDS = 3
"""The points for a part in words, one for each level of a rubric."""

_HIDDEN = """\
# {points} points: the checks above, with other random numbers.
### BEGIN HIDDEN TESTS
import sys

# It is imported again, whatever an answer did to it; and it does so with the checks.
_ = sys.modules.pop("regdrop_lite.course.teach.grade", None)
from regdrop_lite.course.teach.grade import score

_points, _report = {call}
print(_report)
_points
### END HIDDEN TESTS"""

_CONFIG = '''\
"""The configuration of nbgrader. Adapt the lines in capitals to your class."""

import math

from nbgrader.plugins import LateSubmissionPlugin

FREE_DAYS = 1  # days late that cost nothing
SHARE_A_DAY = 0.1  # what each day after them costs, as a share of the points
# What files are called that you download from your learning platform, here
# set_1_mary_attempt_2027-01-15-12-00-00_set_1.ipynb.
FILE_NAME = (
    r".*_(?P<student_id>[A-Za-z0-9-]+)_attempt_(?P<timestamp>[0-9-]+)_"
    r"(?P<file_id>set_[0-9]+)"
)


class LateDays(LateSubmissionPlugin):
    """Some days for nothing, then a share of the points for each day begun."""

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        days = math.ceil(total_seconds_late / 86_400) - FREE_DAYS
        return min(score, round(score * SHARE_A_DAY * max(0, days), 1))


c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "structured_dropout"
c.ClearSolutions.code_stub = {"python": ""}  # a scaffold stands above each solution
c.ClearSolutions.text_stub = ""
c.Execute.timeout = 120
c.Execute.iopub_timeout = 60  # with 4 s a busy machine loses a submission
c.AssignLatePenalties.plugin_class = LateDays
c.FileNameCollectorPlugin.named_regexp = FILE_NAME
'''

_OTTER = """\
# ASSIGNMENT CONFIG
name: {name}
export_cell: false
generate: true
"""

_ADAPTERS = '''\
"""Where the answers are. Arrange your code as you like, in as many files as you like;
the tests find it through these functions and through nothing else.
"""
'''

_ADAPTER = '''

def get_{name}():
    """Task {number}, {title}: {what} ``{name}``."""
    raise NotImplementedError("task {number}")
'''

_README = """\
# {title}

Arrange your code as you like, in as many files as you like. `adapters.py` tells the
tests where it is: let each of its functions return what its docstring asks for.
Answers in words go into `answers.md`. To see how far you are, run `pytest` in this
folder.

| task | points | in words |
|---|--:|--:|
{rows}

A test shows all public checks of a task. Points are given for the same checks with
other random numbers: for each task the share that holds, rounded down to half a point.
The texts below begin with what your files may import.
"""

_TESTS = '''\
"""The public checks. Change nothing here: points are given with a fresh copy."""

import adapters
import torch

from regdrop_lite.course.check import {chapter} as check

torch.set_default_dtype(torch.float64)
'''

_TEST = """

def test_{number}_{name}():
    report = check.{check}({answers})
    assert not report.diagnoses, report
"""


@dataclass(frozen=True)
class Part:
    """A cell that a learner fills.

    Attributes:
        cell: its id.
        scaffold: what it holds at first.
        solution: what is put in.
    """

    cell: str
    scaffold: str
    solution: str


@dataclass(frozen=True)
class Task:
    """An exercise that gives points.

    Attributes:
        number: its place in the set, from 1.
        name: a short name, unique in the set.
        title: its heading.
        minutes: what it takes.
        text_cell: the cell that asks.
        code: the cells with code.
        words: the cell for an answer in words, if there is one.
        cell: the cell that calls the check.
        check: the name of the check.
        answers: the names of what the check is given.
    """

    number: int
    name: str
    title: str
    minutes: int
    text_cell: str
    code: tuple[Part, ...]
    words: Part | None
    cell: str
    check: str
    answers: tuple[str, ...]

    @property
    def points(self) -> int:
        """What the code is worth."""
        return max(1, round(self.minutes / MINUTES_A_POINT))


@dataclass(frozen=True)
class ExerciseSet:
    """An exercise notebook of the book.

    Attributes:
        name: such as ``set_1``.
        title: the notebook's.
        chapter: the module with its checks.
        edition: its plain edition, without solutions.
        tasks: its exercises.
    """

    name: str
    title: str
    chapter: str
    edition: NotebookNode
    tasks: tuple[Task, ...]

    def seed(self, seed: int, task: Task) -> int:
        """The seed for the hidden checks of a task."""
        return random.Random(f"{seed} {self.name} {task.name}").randrange(1, 10**6)

    def call(self, seed: int, task: Task) -> str:
        """The call that gives the points of a task."""
        answers = "".join(f"{name}, " for name in task.answers)
        return (
            f'score("{self.chapter}", "{task.check}", {answers}points={task.points}, '
            f"seed={self.seed(seed, task)})"
        )


def read_set(book: Book, page: str) -> ExerciseSet:
    """Read an exercise notebook.

    Args:
        book: the book.
        page: the notebook, such as ``book/exercises/01_name_exercises.ipynb``.

    Raises:
        PlainError: if a task has no minutes, no check, or no cell to fill.
    """
    notebook = nbformat.read(book.root / page, as_version=4)
    edition = plain_edition(book, page)
    code = "\n".join(cell.source for cell in notebook.cells if cell.id == "imports")
    chapter = re.search(r"check import (\w+) as check", code)
    if chapter is None:
        raise PlainError(f"{page}: the imports name no module of checks")
    groups: list[list[NotebookNode]] = []
    for cell in notebook.cells:
        if "{exercise}" in cell.source:
            groups.append([])
        elif cell.id == "closing":
            break
        if groups:
            groups[-1].append(cell)
    tasks = []
    for number, cells in enumerate(groups, 1):
        try:
            tasks.append(_task(number, cells))
        except ValueError as error:
            raise PlainError(f"{page}, cell {cells[0].id}: {error}") from None
    stem = Path(page).stem
    title = re.search(r"^# (.+)$", notebook.cells[0].source, re.M)
    return ExerciseSet(
        name=f"set_{int(stem[:2])}",
        title=title[1] if title else stem,
        chapter=chapter[1],
        edition=edition,
        tasks=tuple(tasks),
    )


def choose_tasks(exercises: ExerciseSet, numbers: Collection[int]) -> ExerciseSet:
    """Keep some tasks of a set, with their numbers.

    Args:
        exercises: the set.
        numbers: of the tasks that stay.

    Raises:
        ValueError: if the set has no task of that number, none stays, or one that stays
            uses what another one defines.
    """
    known = [task.number for task in exercises.tasks]
    if not numbers or set(numbers) - set(known):
        raise ValueError(
            f"{exercises.name} has the tasks {known}, but got {sorted(numbers)}"
        )
    starts = {task.text_cell: task for task in exercises.tasks}
    cells, current = [], None
    for cell in exercises.edition.cells:
        current = None if cell.id == "closing" else starts.get(cell.id, current)
        if current is None or current.number in numbers:
            cells.append(cell)
    gone = [task for task in exercises.tasks if task.number not in numbers]
    owner = {name: task for task in gone for name in task.answers}
    for task in exercises.tasks:
        for part in task.code if task.number in numbers else ():
            if used := sorted(_free_names(part.solution) & set(owner)):
                raise ValueError(
                    f"task {task.number} of {exercises.name} uses {used[0]} of task "
                    f"{owner[used[0]].number}: choose both"
                )
    edition = nbformat.from_dict({**exercises.edition, "cells": cells})
    tasks = tuple(task for task in exercises.tasks if task.number in numbers)
    return replace(exercises, edition=edition, tasks=tasks)


def _free_names(code: str) -> set[str]:
    """The names that a piece of code uses and does not define."""
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
    return used - defined


def _task(number: int, cells: Sequence[NotebookNode]) -> Task:
    asked = cells[0].source
    title = re.search(r"^## (?:\d+\. )?(.+)$", asked, re.M)
    minutes = re.search(r"^\*Objective.*· (\d+) minutes\*$", asked, re.M)
    if title is None or minutes is None:
        raise ValueError("expected a heading, and a line that ends with the minutes")
    checks = [call for cell in cells for call in _checks(cell)]
    if len(checks) != 1:
        raise ValueError(f"expected one check, found {len(checks)}")
    scaffolds = [cell for cell in cells if "scaffold" in cell.metadata]
    code = [cell for cell in scaffolds if cell.cell_type == "code"]
    words = [cell for cell in scaffolds if cell.cell_type == "markdown"]
    if not code or len(words) > 1:
        raise ValueError(
            "expected cells with code to fill and at most one for words, found "
            f"{len(code)} and {len(words)}"
        )
    model = "\n\n".join(
        without
        for cell in cells
        if cell.cell_type == "markdown"
        and "solution" in cell.metadata.get("tags", [])
        and (without := _without_box(cell.source))
    )
    cell, check, answers = checks[0]
    return Task(
        number=number,
        name=cells[0].id.removesuffix("-text"),
        title=title[1],
        minutes=int(minutes[1]),
        text_cell=cells[0].id,
        code=tuple(Part(c.id, c.metadata.scaffold, c.source) for c in code),
        words=Part(words[0].id, words[0].metadata.scaffold, model) if words else None,
        cell=cell,
        check=check,
        answers=answers,
    )


def _checks(cell: NotebookNode) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Find a cell that is nothing but the call of a check."""
    if cell.cell_type != "code" or "solution" in cell.metadata.get("tags", []):
        return
    body = ast.parse(cell.source).body
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        return
    call = body[0].value
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and ast.unparse(call.func.value) == "check"
    ):
        if call.keywords or not all(isinstance(a, ast.Name) for a in call.args):
            raise ValueError(f"expected names only as the arguments of {cell.source}")
        yield cell.id, call.func.attr, tuple(ast.unparse(arg) for arg in call.args)


def _without_box(text: str) -> str:
    """Take the lines of the directive off that folds a solution."""
    lines = [line for line in text.splitlines() if not re.match(r":(::|\w+:)", line)]
    return "\n".join(lines).strip()


# --- nbgrader ---------------------------------------------------------------------


def nbgrader_notebook(exercises: ExerciseSet, seed: int) -> NotebookNode:
    """Make the instructor's notebook, with solutions and hidden tests.

    Args:
        exercises: the set.
        seed: chooses the random numbers of the hidden tests.
    """
    parts = {part.cell: part for task in exercises.tasks for part in task.code}
    words = {task.words.cell: task.words for task in exercises.tasks if task.words}
    tasks = {task.cell: task for task in exercises.tasks}
    cells = []
    for cell in exercises.edition.cells:
        if cell.id in parts:
            cell = _filled(parts[cell.id], new_code_cell)
            cell.metadata["nbgrader"] = _marks(cell.id, solution=True)
        elif cell.id in words:
            cell = _filled(words[cell.id], new_markdown_cell)
            cell.metadata["nbgrader"] = _marks(cell.id, solution=True, points=WORDS)
        elif cell.cell_type == "code":
            cell = new_code_cell(cell.source, id=cell.id)
            cell.metadata["nbgrader"] = _marks(cell.id, locked=True)
        cells.append(cell)
        if cell.id in tasks:
            task = tasks[cell.id]
            text = _HIDDEN.format(points=task.points, call=exercises.call(seed, task))
            test = new_code_cell(text, id=f"{task.name}-points")
            marks = _marks(test.id, locked=True, points=task.points)
            test.metadata["nbgrader"] = marks
            cells.append(test)
    return _notebook(exercises, cells)


def _filled(part: Part, make: Callable[..., NotebookNode]) -> NotebookNode:
    text = f"{part.scaffold}\n\n### BEGIN SOLUTION\n{part.solution}\n### END SOLUTION"
    return make(text, id=part.cell)


def _marks(
    name: str, solution: bool = False, locked: bool = False, points: int | None = None
) -> dict[str, object]:
    marks = {
        "grade": points is not None,
        "grade_id": name,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    return marks if points is None else {**marks, "points": points}


def _notebook(exercises: ExerciseSet, cells: list[NotebookNode]) -> NotebookNode:
    notebook: NotebookNode = nbformat.v4.new_notebook(
        cells=cells, metadata=exercises.edition.metadata
    )
    nbformat.validate(notebook)
    return notebook


def write_nbgrader(sets: Sequence[ExerciseSet], out: Path, seed: int) -> list[Path]:
    """Write a course folder for nbgrader.

    Args:
        sets: the exercise sets.
        out: the folder.
        seed: chooses the random numbers of the hidden tests.
    """
    written = [_write(out / "nbgrader_config.py", _CONFIG)]
    for exercises in sets:
        path = out / "source" / exercises.name / f"{exercises.name}.ipynb"
        written.append(_write(path, _json(nbgrader_notebook(exercises, seed))))
    return written


# --- otter-grader -----------------------------------------------------------------


def otter_notebook(exercises: ExerciseSet, seed: int) -> NotebookNode:
    """Make the notebook for ``otter assign``.

    Args:
        exercises: the set.
        seed: chooses the random numbers of the hidden tests.
    """
    first = {_cells(task)[0]: task for task in exercises.tasks}
    filled = {name for task in exercises.tasks for name in _cells(task)}
    cells = [new_raw_cell(_OTTER.format(name=exercises.name), id="config")]
    for cell in exercises.edition.cells:
        if cell.id in first:
            cells += _otter_task(exercises, first[cell.id], seed)
        if cell.id not in filled:
            cells.append(cell)
    return _notebook(exercises, cells)


def _cells(task: Task) -> list[str]:
    """The cells to fill, in their order."""
    words = [task.words.cell] if task.words else []
    return [*words, *(part.cell for part in task.code)]


def _otter_task(
    exercises: ExerciseSet, task: Task, seed: int
) -> Iterator[NotebookNode]:
    def raw(mark: str, end: str) -> NotebookNode:
        cell: NotebookNode = new_raw_cell(mark, id=f"{task.name}-{end}")
        return cell

    if task.words:
        name = f"{task.name}_in_words"
        yield raw(
            f"# BEGIN QUESTION\nname: {name}\nmanual: true\npoints: {WORDS}", "w1"
        )
        yield raw("# BEGIN SOLUTION", "w2")
        yield new_markdown_cell(task.words.solution, id=task.words.cell)
        yield raw("# END SOLUTION", "w3")
        yield raw("# END QUESTION", "w4")
    points = f"points:\n    - 0\n    - {task.points}"
    yield raw(f"# BEGIN QUESTION\nname: {task.name}\n{points}", "c1")
    yield raw("# BEGIN SOLUTION", "c2")
    for part in task.code:
        text = (
            f"{part.scaffold}\n\n# BEGIN SOLUTION NO PROMPT\n{part.solution}\n"
            "# END SOLUTION"
        )
        yield new_code_cell(text, id=part.cell)
    yield raw("# END SOLUTION", "c3")
    yield raw("# BEGIN TESTS", "c4")
    names = ", ".join(task.answers)
    public = f"assert not (report := check.{task.check}({names})).diagnoses, report"
    yield new_code_cell(public, id=f"{task.name}-public")
    hidden = (
        "# HIDDEN\nimport sys\n"
        '_ = sys.modules.pop("regdrop_lite.course.teach.grade", None)\n'
        "from regdrop_lite.course.teach.grade import score\n"
        f"assert {exercises.call(seed, task)}[0] == {task.points}"
    )
    yield new_code_cell(hidden, id=f"{task.name}-hidden")
    yield raw("# END TESTS", "c5")
    yield raw("# END QUESTION", "c6")


def write_otter(sets: Sequence[ExerciseSet], out: Path, seed: int) -> list[Path]:
    """Write the notebooks for ``otter assign``.

    Args:
        sets: the exercise sets.
        out: the folder.
        seed: chooses the random numbers of the hidden tests.
    """
    return [
        _write(out / f"{one.name}.ipynb", _json(otter_notebook(one, seed)))
        for one in sets
    ]


# --- a repository with adapters ---------------------------------------------------


def write_repository(sets: Sequence[ExerciseSet], out: Path, seed: int) -> list[Path]:
    """Write folders to hand out, and beside each the file that grades it.

    Args:
        sets: the exercise sets.
        out: the folder.
        seed: chooses the random numbers that give the points.
    """
    written = []
    for exercises in sets:
        folder = out / exercises.name
        rows = [
            f"| {task.number}. {task.title} | {task.points} | "
            f"{WORDS if task.words else ''} |"
            for task in exercises.tasks
        ]
        head = _README.format(title=f"{exercises.title}: hand in", rows="\n".join(rows))
        tests = _TESTS.format(chapter=exercises.chapter)
        adapters = _ADAPTERS
        words = ["# Answers in words"]
        grading = []
        for task in exercises.tasks:
            for name in task.answers:
                what = _kind(name, task)
                adapters += _ADAPTER.format(
                    name=name, number=task.number, title=task.title, what=what
                )
            asked = ", ".join(f"adapters.get_{name}()" for name in task.answers)
            tests += _TEST.format(
                number=task.number, name=task.name, check=task.check, answers=asked
            )
            if task.words:
                words.append(f"## {task.number}. {task.title}\n\n{task.words.scaffold}")
            grading.append(
                {
                    "name": task.name,
                    "chapter": exercises.chapter,
                    "check": task.check,
                    "answers": task.answers,
                    "points": task.points,
                    "seed": exercises.seed(seed, task),
                }
            )
        files = {
            "README.md": "\n\n".join([head, *_texts(exercises)]) + "\n",
            "adapters.py": adapters,
            f"test_{exercises.name}.py": tests,
            "answers.md": "\n\n".join(words) + "\n",
        }
        written += [_write(folder / name, text) for name, text in files.items()]
        table = json.dumps({"set": exercises.name, "tasks": grading}, indent=1) + "\n"
        written.append(_write(out / f"{exercises.name}.json", table))
    return written


def _texts(exercises: ExerciseSet) -> Iterator[str]:
    """Give the tasks as Markdown, with the code that belongs to them."""
    begun = False
    for cell in exercises.edition.cells:
        begun = begun or cell.id == exercises.tasks[0].text_cell
        if cell.id == "closing":
            return
        if "answer" in cell.metadata.get("tags", []) or cell.id == "prepare":
            continue  # the texts show their scaffolds themselves
        if cell.cell_type == "code" and not re.search(r"\bcheck\.\w+\(", cell.source):
            yield f"```python\n{cell.source}\n```"
        elif cell.cell_type == "markdown" and begun:
            yield cell.source


def _kind(name: str, task: Task) -> str:
    """Say what an adapter returns."""
    for part in task.code:
        for node in ast.parse(part.scaffold).body:
            if getattr(node, "name", "") == name:
                if isinstance(node, ast.ClassDef):
                    return "your class"
                return "your function"
    return "your answer"


# --- the command ------------------------------------------------------------------


def _json(notebook: NotebookNode) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def read_sets(root: Path, numbers: Sequence[int] = ()) -> list[ExerciseSet]:
    """Read the book's exercise sets.

    Args:
        root: the repository's folder.
        numbers: which ones; by default all.

    Raises:
        ValueError: if there is no set of that number.
    """
    book = Book.read(root)
    pages = [page for page in book.notebooks if page.startswith("book/exercises/")]
    known = {int(Path(page).stem[:2]): page for page in pages}
    if unknown := [n for n in numbers if n not in known]:
        raise ValueError(f"there is no exercise set {unknown[0]}, but {sorted(known)}")
    return [read_set(book, known[number]) for number in numbers or sorted(known)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.teach.assign",
        description="Write graded assignments from the exercise sets.",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="a folder to write")
    command.add_argument(
        "--set", type=int, action="append", default=[], help="may be repeated"
    )
    command.add_argument(
        "--seed",
        type=int,
        help="chooses the numbers of the hidden tests; by default another every time",
    )
    command.add_argument(
        "--only", metavar="2,3,4", help="these tasks of one set alone; needs one --set"
    )
    chosen = command.parse_args(arguments)
    if chosen.only is not None and len(chosen.set) != 1:
        command.error("--only chooses tasks of one set: name it with --set")
    if chosen.out.exists():
        command.error(f"{chosen.out} exists; name a folder that does not")
    seed = secrets.randbelow(10**9) if chosen.seed is None else chosen.seed
    try:
        sets = read_sets(Path.cwd(), chosen.set)
        if chosen.only is not None:
            numbers = [int(number) for number in chosen.only.split(",")]
            sets = [choose_tasks(sets[0], numbers)]
    except (PlainError, OSError, ValueError) as error:
        command.error(str(error))
    for name, write in (
        ("nbgrader", write_nbgrader),
        ("otter", write_otter),
        ("repository", write_repository),
    ):
        for path in write(sets, chosen.out / name, seed):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
