"""Points for an answer, from checks that are loaded anew and draw other numbers.

    python -m regdrop_lite.course.teach.grade SET.json FOLDER FOLDER ...

grades what was handed in as a folder with ``adapters.py``, each in a process of its
own, and prints a table with a line for each folder. ``SET.json`` comes from
:mod:`regdrop_lite.course.teach.assign`, and so do the notebooks whose hidden tests call
:func:`score`.
"""

import argparse
import contextlib
import csv
import importlib
import io
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regdrop_lite.course.check.core import Report

__all__ = ["grade_folder", "main", "score"]

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


def grade_folder(tasks: Path, folder: Path, timeout: float = TIMEOUT) -> list[float]:
    """Give the points of every task for one folder, graded in its own process.

    Args:
        tasks: the file with tasks, checks, points and seeds.
        folder: what was handed in; ``adapters.py`` lies in it.
        timeout: after so many seconds the tasks that are not graded yet get nothing.
    """
    wanted = json.loads(tasks.read_text(encoding="utf-8"))["tasks"]
    command = [sys.executable, "-m", _NAME, "--one", str(tasks.resolve())]
    try:
        said = subprocess.run(
            [*command, str(folder.resolve())],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
        ).stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
    got = [float(line) for line in said.decode().split()]
    return [*got, *[0.0] * (len(wanted) - len(got))]


def _grade_here(tasks: Path, folder: Path) -> None:
    """Print the points task by task, and nothing that the graded code prints."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    sys.path.insert(0, str(folder))
    task: Mapping[str, Any]
    for task in json.loads(tasks.read_text(encoding="utf-8"))["tasks"]:
        try:
            adapters = importlib.import_module("adapters")
            answers = [getattr(adapters, f"get_{name}")() for name in task["answers"]]
            points, _ = score(
                task["chapter"],
                task["check"],
                *answers,
                points=task["points"],
                seed=task["seed"],
            )
        except (Exception, SystemExit):
            points = 0.0
        print(points, file=out, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog=f"python -m {_NAME}",
        description="Grade folders with adapters; print a table.",
    )
    command.add_argument("tasks", type=Path, metavar="SET.json")
    command.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    command.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = command.parse_args(arguments)
    for path in chosen.folders:
        if not path.is_dir():
            command.error(f"{path} is no folder")
    if chosen.one:
        _grade_here(chosen.tasks, chosen.folders[0])
        return
    try:
        names = [task["name"] for task in json.loads(chosen.tasks.read_text())["tasks"]]
    except (OSError, ValueError, KeyError) as error:
        command.error(f"{chosen.tasks} is not a set that assign wrote: {error}")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["folder", *names, "sum"])
    for path in chosen.folders:
        points = grade_folder(chosen.tasks, path)
        table.writerow([path.name, *points, sum(points)])


if __name__ == "__main__":
    main()
