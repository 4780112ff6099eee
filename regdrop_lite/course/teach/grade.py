"""Points for an answer, from checks that are loaded anew and draw other numbers.

Usage::

    python -m regdrop_lite.course.teach.grade SET.json HAND_IN HAND_IN ...
    python -m regdrop_lite.course.teach.grade SET.json HAND_IN ... --feedback OUT

grades what was handed in, a notebook of exercises or a folder with ``adapters.py``,
each in a process of its own, and prints a table with a line for each. With
``--feedback`` a file for each says why, and holds the answers in words. ``SET.json``
comes from :mod:`regdrop_lite.course.teach.assign`, and so do the notebooks whose hidden
tests call :func:`score`.
"""

import argparse
import ast
import contextlib
import csv
import importlib
import io
import json
import math
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regdrop_lite.course.check.core import Report

__all__ = ["grade_hand_in", "main", "score"]

TIMEOUT = 600
_CHECKS = "regdrop_lite.course.check"
_NAME = "regdrop_lite.course.teach.grade"


def score(
    chapter: str, check: str, *answers: object, points: int, seed: int
) -> tuple[float, Report]:
    """Give the points of one answer, and the report of its check.

    Args:
        chapter: a module of :mod:`regdrop_lite.course.check`.
        check: the name of one of its checks.
        answers: what the check asks for.
        points: what an answer gets for which every check holds. Else it gets the share
            that holds, rounded down to half a point.
        seed: is added to the seeds of the checks.

    Example:
        >>> score("chapter_1", "trace", [3, 0, -1.2, 0], points=3, seed=7)
        (1.5, public checks 1/2
        - scale: kept values are not scaled: multiply them by 1/q = 1.667)
    """
    # nbgrader gives nothing to a cell that writes to stderr, be it a warning only.
    silent = contextlib.redirect_stderr(io.StringIO())
    with _new_checks(), silent, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = importlib.import_module(f"{_CHECKS}.{chapter}")
        vars(importlib.import_module(f"{_CHECKS}.core"))["SEED"] = seed
        report = getattr(checks, check)(*answers)
    return math.floor(2 * points * report.passed / report.total) / 2, report


@contextlib.contextmanager
def _new_checks() -> Iterator[None]:
    """Import the checks again, whatever an answer did to those that are there."""
    there = {name: m for name, m in sys.modules.items() if name.startswith(_CHECKS)}
    for name in there:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith(_CHECKS)]:
            del sys.modules[name]
        sys.modules.update(there)


def grade_hand_in(
    tasks: Path, hand_in: Path, timeout: float = TIMEOUT
) -> list[tuple[float, str]]:
    """Give the points of every task and the report, graded in a process of its own.

    Args:
        tasks: the file with tasks, checks, points and seeds.
        hand_in: a folder in which ``adapters.py`` lies, or a notebook.
        timeout: after so many seconds the tasks that are not graded yet get nothing.
    """
    wanted = json.loads(tasks.read_text(encoding="utf-8"))["tasks"]
    command = [sys.executable, "-m", _NAME, "--one", str(tasks.resolve())]
    try:
        said = subprocess.run(
            [*command, str(hand_in.resolve())],
            cwd=hand_in if hand_in.is_dir() else hand_in.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
        ).stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
    got = [(float(p), str(r)) for p, r in map(json.loads, said.decode().splitlines())]
    return [
        *got,
        *[(0.0, "not graded: the code did not end")] * (len(wanted) - len(got)),
    ]


def _grade_here(tasks: Path, hand_in: Path) -> None:
    """Print points and report task by task, and nothing that the graded code prints."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    task: Mapping[str, Any]
    find: Callable[[str], object] | None = None
    for task in json.loads(tasks.read_text(encoding="utf-8"))["tasks"]:
        try:
            find = find or _answers(hand_in)
            points, report = score(
                task["chapter"],
                task["check"],
                *map(find, task["answers"]),
                points=task["points"],
                seed=task["seed"],
            )
            said = repr(report)
        except (Exception, SystemExit) as error:
            points, said = 0.0, f"{type(error).__name__}: {error}"
        print(json.dumps([points, said]), file=out, flush=True)


def _answers(hand_in: Path) -> Callable[[str], object]:
    """What gives an answer by its name."""
    if hand_in.is_dir():
        sys.path.insert(0, str(hand_in))
        adapters = importlib.import_module("adapters")
        return lambda name: getattr(adapters, f"get_{name}")()
    module = types.ModuleType("notebook")
    sys.modules["notebook"] = module
    for cell in _cells(hand_in):
        if cell["cell_type"] != "code" or _only_checks(cell["source"]):
            continue
        with contextlib.suppress(Exception, SystemExit):  # as in Jupyter: the next cell
            exec(cell["source"], vars(module))
    return lambda name: getattr(module, name)


def _cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def _only_checks(source: str) -> bool:
    """Whether a cell does nothing but show a report to the learner."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a command of Jupyter, which means nothing here
        return True
    return bool(body) and all(
        isinstance(line, ast.Expr) and "check." in ast.unparse(line) for line in body
    )


def _words(hand_in: Path) -> str:
    """The answers in words, for whoever gives the points for them."""
    if hand_in.is_dir():
        path = hand_in / "answers.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    texts = [
        cell["source"]
        for cell in _cells(hand_in)
        if cell["cell_type"] == "markdown"
        and "answer" in cell["metadata"].get("tags", ())
    ]
    return "\n\n".join(texts)


def _feedback(
    tasks: Sequence[Mapping[str, Any]], got: Sequence[tuple[float, str]], words: str
) -> str:
    parts = [
        f"## {task['name']}: {points:g} of {task['points']}\n\n```text\n{report}\n```"
        for task, (points, report) in zip(tasks, got, strict=True)
    ]
    total = sum(points for points, _ in got)
    most = sum(task["points"] for task in tasks)
    return "\n\n".join(
        [f"# {total:g} of {most} points by machine", *parts, "## In words", words]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog=f"python -m {_NAME}",
        description="Grade notebooks, or folders with adapters; print a table.",
    )
    command.add_argument("tasks", type=Path, metavar="SET.json")
    command.add_argument("hand_ins", type=Path, nargs="+", metavar="HAND_IN")
    command.add_argument(
        "--feedback", type=Path, metavar="OUT", help="a file for each, with the reasons"
    )
    command.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = command.parse_args(arguments)
    for path in chosen.hand_ins:
        if not (path.is_dir() or (path.suffix == ".ipynb" and path.is_file())):
            command.error(f"{path} is no folder and no notebook")
    if chosen.one:
        _grade_here(chosen.tasks, chosen.hand_ins[0])
        return
    try:
        tasks = json.loads(chosen.tasks.read_text(encoding="utf-8"))["tasks"]
        names = [task["name"] for task in tasks]
    except (OSError, ValueError, KeyError) as error:
        command.error(f"{chosen.tasks} is not a set that assign wrote: {error}")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["hand-in", *names, "sum"])
    for path in chosen.hand_ins:
        got = grade_hand_in(chosen.tasks, path)
        points = [one for one, _ in got]
        table.writerow([path.stem, *points, sum(points)])
        if chosen.feedback:
            chosen.feedback.mkdir(parents=True, exist_ok=True)
            text = _feedback(tasks, got, _words(path)) + "\n"
            written = chosen.feedback / f"{path.stem}.md"
            written.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
