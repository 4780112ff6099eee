"""nbgrader makes, collects and grades the assignments: a table of eight submissions.

nbgrader stands in an environment of its own. ``REGDROP_NBGRADER`` names the Python of
that environment; without it these tests are skipped. The kernel is the Python that runs
the tests. With ``REGDROP_NBGRADER_SETS=all`` every set is graded, else the first alone.
Each takes a minute of computing, and more where the machine is busy.
"""

import csv
import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import nbformat
import pytest

from regdrop_lite.course.teach.assign import read_sets, write_nbgrader

ROOT = Path(__file__).parents[2]
NBGRADER = os.environ.get("REGDROP_NBGRADER", "")
ALL = os.environ.get("REGDROP_NBGRADER_SETS") == "all"
SETS = [int(p.name[:2]) for p in sorted((ROOT / "book/exercises").glob("*.ipynb"))]

needs_nbgrader = pytest.mark.skipif(
    not NBGRADER, reason="REGDROP_NBGRADER names no Python"
)

PACKAGE = """\
from regdrop_lite import SpatialDropout2d

class MySpatialDropout(nn.Module):
    def __init__(self, p=0.5, channel_dim=1):
        super().__init__()
        self.inner = SpatialDropout2d(p)

    def forward(self, x, generator=None):
        return self.inner(x, generator=generator)
"""

CLOSURES = '''\
def diagnose(function):
    """Look for the fault in everything that can be reached from here."""
    import inspect

    known = ["no scale", "mask per element", "mask shared by the batch",
             "p is the keep probability", "active in eval"]
    function(torch.ones(4, 4, 2, 2), 0.2, True, torch.Generator())
    cells = getattr(function, "__closure__", None) or ()
    found = [repr(cell.cell_contents) for cell in cells]
    for name in getattr(type(function), "__slots__", ()):
        found.append(repr(getattr(function, name)))
    frame = inspect.currentframe().f_back
    while frame is not None:
        found += [repr(value) for value in frame.f_locals.values()]
        frame = frame.f_back
    return next((name for name in known if name in " ".join(found)), "ok")
'''

FORGED = """\
from regdrop_lite.course.check import core
from regdrop_lite.course.teach import grade

everything = core.Report(15, {})
print(everything)
core.judge = lambda checks: everything
core.Report.passed = property(lambda self: self.total)
grade.score = lambda *answers, points, seed: (points, everything)
for name in check.__all__:
    setattr(check, name, lambda *answers: everything)
answer = mask_and_scale = MySpatialDropout = diagnose = drop_exactly = None
"""

FOREVER = """\
def mask_and_scale(x, p, generator=None):
    while True:
        pass
"""

# It finds the solutions wherever they lie beside the folder that is graded.
IMPORTED = """\
import json
from pathlib import Path

for folder in Path.cwd().parents:
    for path in folder.glob("source/*/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if "BEGIN SOLUTION" in "".join(cell["source"]):
                exec("".join(cell["source"]))
from solutions import *
"""


def nbgrader(folder: Path, *command: str) -> str:
    """Run one command of nbgrader, with the Python of these tests as its kernel."""
    kernel = folder.parent / "jupyter" / "kernels" / "python3" / "kernel.json"
    if not kernel.exists():
        kernel.parent.mkdir(parents=True)
        start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": start, "display_name": "course", "language": "python"}
        kernel.write_text(json.dumps(spec), encoding="utf-8")
    programs = Path(NBGRADER).parent
    environment = {
        **os.environ,
        "JUPYTER_PATH": str(folder.parent / "jupyter"),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [str(programs / "nbgrader"), *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"nbgrader {' '.join(command)}\n{said[-4000:]}"
    return said


def points(folder: Path, name: str) -> dict[str, dict[str, float]]:
    """What the gradebook holds for each student: cells, and what is taken off."""
    script = """
        import json, sys
        from nbgrader.api import Gradebook
        with Gradebook("sqlite:///gradebook.db") as book:
            table = {}
            for one in book.assignment_submissions(sys.argv[1]):
                (notebook,) = one.notebooks
                row = {grade.name: grade.score for grade in notebook.grades}
                row["late"] = -(notebook.late_submission_penalty or 0)
                row["by hand"] = sum(g.needs_manual_grade for g in notebook.grades)
                table[one.student.id] = row
        print(json.dumps(table))
    """
    done = subprocess.run(
        [NBGRADER, "-c", textwrap.dedent(script), name],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(NBGRADER).parent}{os.pathsep}/usr/bin:/bin"},
        check=True,
    )
    return json.loads(done.stdout)


def hand_in(release: Path, answers: dict[str, str]) -> str:
    """The released notebook with some of its cells filled."""
    notebook = nbformat.read(release, as_version=4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    return nbformat.writes(notebook)


def submissions(exercises) -> dict[str, dict[str, str]]:
    """What eight students write into the cells of set 1."""
    parts = {part.cell: part for task in exercises.tasks for part in task.code}
    good = {cell: part.solution for cell, part in parts.items()}
    words = {task.words.cell: "Because." for task in exercises.tasks if task.words}
    no_errors = re.sub(r" {8}if .*\n {12}raise .*\n", "", good["layer-answer"])
    assert no_errors.count("raise") == 0 < good["layer-answer"].count("raise")
    return {
        "good": good | words,
        "average": {
            "trace-answer": good["trace-answer"],
            "fill-answer": good["fill-answer"],
            "layer-answer": no_errors,
        },
        "lost": {},
        "package": good | {"layer-answer": PACKAGE},
        "closures": good | {"diagnose-answer": CLOSURES},
        "forged": good | {"trace-answer": FORGED} | dict.fromkeys(list(good)[1:], ""),
        "forever": good | {"fill-answer": FOREVER},
        "imported": {"trace-answer": IMPORTED} | dict.fromkeys(list(good)[1:], ""),
    }


# Points by task, in the order of the set; what being late costs; cells to mark by hand.
EXPECTED = {
    "good": ([1, 2, 5, 4, 6], 0, 1),
    "average": ([1, 2, 4, 0, 0], -0.7, 0),  # two days late, one of them free
    "lost": ([0, 0, 0, 0, 0], 0, 0),
    "package": ([1, 2, 0, 4, 6], 0, 0),
    "closures": ([1, 2, 5, 0, 6], 0, 0),
    "forged": ([0, 0, 0, 0, 0], 0, 0),
    "forever": ([1, 0, 5, 4, 6], 0, 0),
    "imported": ([0, 0, 0, 0, 0], 0, 0),
}


def test_the_page_shows_this_table():
    """Row by row: points of the tasks, their sum by machine, and what is taken off."""
    text = (ROOT / "book" / "teach" / "grade.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \w[^|]+ \|((?: [*\d]+ \|){5}) ([^|]+) \|$", text, re.M)
    shown = [
        ([int(n) for n in re.findall(r"\d+", tasks)], total.replace("−", "-"))
        for tasks, total in rows[1:]  # the first is the head
    ]
    assert shown == [
        (got, f"{sum(got)}" + (f" - {-late}" if late else ""))
        for got, late, _ in EXPECTED.values()
    ]


@needs_nbgrader
@pytest.mark.slow
def test_a_table_of_eight(tmp_path):
    """Made, released, handed in, collected, graded, penalised, given back."""
    (exercises,) = read_sets(ROOT, [1])
    course = tmp_path / "course"
    write_nbgrader([exercises], course, seed=20261129)
    due = "--duedate=2027-01-15 12:00 UTC"
    nbgrader(course, "db", "assignment", "add", "set_1", due)
    nbgrader(course, "generate_assignment", "set_1")
    release = course / "release" / "set_1" / "set_1.ipynb"
    assert_no_answer(exercises, release)

    archive = course / "downloaded" / "set_1" / "archive"
    archive.mkdir(parents=True)
    with zipfile.ZipFile(archive / "all.zip", "w") as file:
        for student, cells in submissions(exercises).items():
            day = 16 if student == "average" else 14
            name = f"set_1_{student}_attempt_2027-01-{day}-18-00-00_set_1.ipynb"
            file.writestr(name, hand_in(release, cells))
    nbgrader(course, "zip_collect", "set_1")

    kept = tmp_path / "elsewhere" / "of" / "mine"
    kept.parent.mkdir(parents=True)
    (course / "source").rename(kept)
    nbgrader(course, "autograde", "set_1")
    tasks = [f"{task.name}-points" for task in exercises.tasks]
    assert {
        student: ([row[task] for task in tasks], row["late"], row["by hand"])
        for student, row in points(course, "set_1").items()
    } == EXPECTED

    nbgrader(course, "export")
    with (course / "grades.csv").open(encoding="utf-8", newline="") as file:
        sums = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert sums == {
        student: sum(got) + late for student, (got, late, _) in EXPECTED.items()
    }

    nbgrader(course, "generate_feedback", "set_1", "--student=average")
    page = course / "feedback" / "average" / "set_1" / "set_1.html"
    assert "p = -0.1 is accepted" in page.read_text(encoding="utf-8")


@needs_nbgrader
@pytest.mark.slow
@pytest.mark.skipif(not ALL, reason="REGDROP_NBGRADER_SETS is not all")
@pytest.mark.parametrize("number", [n for n in SETS if n != 1])
def test_all_points_for_the_solutions_of_a_set(number, tmp_path):
    """And none for what is handed out; for the sets beside the first."""
    (exercises,) = read_sets(ROOT, [number])
    course, name = tmp_path / "course", exercises.name
    write_nbgrader([exercises], course, seed=20261129)
    nbgrader(course, "generate_assignment", name)
    release = course / "release" / name / f"{name}.ipynb"
    assert_no_answer(exercises, release)
    parts = [part for task in exercises.tasks for part in task.code]
    good = {part.cell: part.solution for part in parts}
    for student, cells in {"good": good, "lost": {}}.items():
        folder = course / "submitted" / student / name
        folder.mkdir(parents=True)
        text = hand_in(release, cells)
        (folder / release.name).write_text(text, encoding="utf-8")
    nbgrader(course, "autograde", name)
    table = points(course, name)
    for task in exercises.tasks:
        assert table["good"][f"{task.name}-points"] == task.points, task.name
        assert table["lost"][f"{task.name}-points"] <= task.points / 2, task.name


def assert_no_answer(exercises, release: Path) -> None:
    """No line of a solution that is not in the scaffold or the text."""
    known = {c.source for c in exercises.edition.cells}
    known = {line.strip() for text in known for line in text.splitlines()}
    cells = nbformat.read(release, as_version=4).cells
    given = {line.strip() for cell in cells for line in cell.source.splitlines()}
    for task in exercises.tasks:
        for part in [*task.code, *([task.words] if task.words else [])]:
            lines = {line.strip() for line in part.solution.splitlines()}
            assert not (lines - known - {""}) & given, part.cell
    assert "HIDDEN TESTS" not in release.read_text(encoding="utf-8")
