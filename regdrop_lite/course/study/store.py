"""The stored rows of a study: how they are written, and how notebooks read them.

A plan ``plans/NAME.toml`` has its rows in ``rows/NAME.jsonl``, a line of JSON for each
run. The first line keeps the content of the plan, as proof of what was fixed before.
The figures of the epochs are in ``histories/NAME.jsonl``, trained nets in the folder
``checkpoints/NAME``, and repetitions of rows, if kept, in ``repeats/NAME.jsonl``.

The files only ever grow, by whole lines, so that nothing stored is in danger:

- A line is written at once and forced to the disk. If that fails (the disk may be
  full), the file is cut back to its old length.
- If the runner is killed while it writes, the file ends with a torn line. Readers pass
  over it, and the next runner cuts it off: it belongs to a run that is not done.
- A lock, which the operating system drops when its owner dies, keeps a second runner
  away. The file ``NAME.jsonl.lock`` may stay behind and means nothing.
- A run that was made again has several rows; the last good one counts.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout  # comes with torch

from regdrop_lite.course.models import ResNetSmall, ViTSmall
from regdrop_lite.course.study.plan import Plan, difference, matches, read_plan
from regdrop_lite.course.study.run import load_checkpoint

__all__ = [
    "RowsError",
    "Store",
    "add_repeat",
    "load_histories",
    "load_net",
    "load_repeats",
    "load_rows",
    "open_store",
    "select",
]

Row = dict[str, Any]


class RowsError(RuntimeError):
    """The stored rows cannot be used; the message says why. Nothing was changed."""


# --- for notebooks --------------------------------------------------------------------


def load_rows(plan: Plan | str | Path) -> list[Row]:
    """Give the rows of a plan: the last good one of each run, in the plan's order.

    Args:
        plan: a plan or its file.

    Returns:
        Dictionaries. ``row["config"]`` holds the configuration, ``row["metrics"]`` the
        results; ``group``, ``seed``, ``seconds``, ``versions``, ``results_version`` and
        others stand beside them.

    Raises:
        RowsError: if there are no rows, or the file is damaged or another plan's.
    """
    plan = _plan(plan)
    path = plan.file("rows", ".jsonl")
    if not path.exists():
        raise RowsError(f"{plan.name} has no rows yet: expected {path}")
    rows = {_key(row): row for row in _read_rows(plan) if row["status"] == "ok"}
    keys = (_key({"config": run.config, "seed": run.seed}) for run in plan.runs)
    return [rows[key] for key in keys if key in rows]


def select(rows: list[Row], **conditions: object) -> list[Row]:
    """Give the rows that meet all conditions, in their order.

    Args:
        rows: from :func:`load_rows`.
        conditions: wanted values of the row or of its configuration.

    Raises:
        KeyError: for a name that a row does not know.

    Example:
        >>> rows = [{"seed": seed, "config": {"p": 0.1}} for seed in (0, 1)]
        >>> [row["seed"] for row in select(rows, p=0.1, seed=1)]
        [1]
    """
    return [row for row in rows if matches(row, conditions)]


def load_histories(plan: Plan | str | Path) -> dict[str, Row]:
    """Give the figures of the epochs, by ``row["run"]``.

    Each is a dictionary of lists, one entry for each record of
    :class:`~regdrop_lite.course.history.History`, and ``noisy_loss``, the mean loss of
    the training steps since the record before.
    """
    path = _plan(plan).file("histories", ".jsonl")
    return {record.pop("run"): record for record in _read_lines(path)[0]}


def load_repeats(plan: Plan | str | Path) -> list[tuple[Row, Row]]:
    """Give rows with their kept repetitions, in the order in which these were made.

    Returns:
        Pairs of a stored row and the row that came out when the run was made again.
        The latter has no configuration: it is that of the former.

    Raises:
        RowsError: as :func:`load_rows`.
    """
    plan = _plan(plan)
    rows = {row["run"]: row for row in load_rows(plan)}
    repeats = _read_lines(plan.file("repeats", ".jsonl"))[0]
    return [(rows[r["run"]], r) for r in repeats if r["run"] in rows]


def load_net(plan: Plan | str | Path, row: Row) -> ResNetSmall | ViTSmall:
    """Give the trained net of a row, if the plan has it stored.

    Raises:
        RowsError: if it is not stored.
    """
    path = _checkpoint_path(_plan(plan), row["run"])
    if not path.exists():
        raise RowsError(f"the net of seed {row['seed']} is not stored in {path}")
    return load_checkpoint(path, row)


# --- for the runner -------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """The files of a plan, opened by :func:`open_store`.

    Attributes:
        plan: the plan.
        rows: all rows that were there when the store was opened.
    """

    plan: Plan
    rows: list[Row]

    def done(self) -> set[str]:
        """Give the names of the runs that have a good row."""
        return {row["run"] for row in self.rows if row["status"] == "ok"}

    def add(self, row: Row, history: Row, checkpoint: bytes | None) -> None:
        """Store a run. The row comes last: with it, the run is done.

        Raises:
            OSError: if the disk is full or cannot be written. The files then are as
                they were.
        """
        if checkpoint is not None:
            path = _checkpoint_path(self.plan, row["run"])
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, _deflate(checkpoint))
        if history:
            path = self.plan.file("histories", ".jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, {"run": row["run"]} | history)
        _append(self.plan.file("rows", ".jsonl"), row)


@contextmanager
def open_store(plan: Plan) -> Iterator[Store]:
    """Open the files of a plan for writing, and keep others away meanwhile.

    What a killed runner left of an unfinished line is cut off. A plan that has grown is
    written into the file.

    Raises:
        RowsError: if another runner is at work, the file is damaged or another
            plan's, or the plan has changed in more than seeds and groups.
    """
    path = plan.file("rows", ".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=0):
            header = {"plan": plan.name, "content": plan.content}
            if not path.exists():
                _replace(path, _line(header))
            rows = _read_rows(plan)  # refuses before anything is changed
            for file in (path, plan.file("histories", ".jsonl")):
                _cut(file)
            if _content(plan) != plan.content:
                _append(path, header)
            yield Store(plan, rows)
    except Timeout:
        raise RowsError(
            f"another runner is at work on {path}: wait for it or stop it"
        ) from None


def add_repeat(plan: Plan, row: Row, again: Row) -> None:
    """Store the repetition of a row, see :func:`load_repeats`.

    Raises:
        OSError: if the disk is full or cannot be written. The file then is as it was.
    """
    path = plan.file("repeats", ".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        _cut(path)
        _append(path, {key: row[key] for key in ("run", "group", "seed")} | again)


# --- helpers --------------------------------------------------------------------------


def _plan(plan: Plan | str | Path) -> Plan:
    return plan if isinstance(plan, Plan) else read_plan(plan)


def _key(row: Row) -> str:
    return json.dumps([row["config"], row["seed"]], sort_keys=True)


def _checkpoint_path(plan: Plan, run: str) -> Path:
    return plan.file("checkpoints", "") / f"{run}.pt"


def _read_rows(plan: Plan) -> list[Row]:
    """Give all rows, if the file is the plan's and nothing but extensions came."""
    path = plan.file("rows", ".jsonl")
    if changed := difference(_content(plan), plan.content):
        raise RowsError(
            f"{plan.name} has changed since its rows were made: {changed}. Take the "
            "change back, or give the new plan a name of its own (more seeds and more "
            "groups are welcome)"
        )
    rows = [record for record in _read_lines(path)[0] if "content" not in record]
    for row in rows:
        if missing := {"run", "status", "config", "seed"} - set(row):
            raise RowsError(f"{path}: a row lacks {', '.join(sorted(missing))}")
    return rows


def _content(plan: Plan) -> Row:
    """Give the plan as it was when the newest rows were made."""
    path = plan.file("rows", ".jsonl")
    records, _ = _read_lines(path)
    if (
        not records
        or records[0].get("plan") != plan.name
        or "content" not in records[0]
    ):
        raise RowsError(f"{path} holds no rows of the plan {plan.name}: move it away")
    contents: list[Row] = [r["content"] for r in records if "content" in r]
    return contents[-1]


def _read_lines(path: Path) -> tuple[list[Row], int]:
    """Give the records of a file, and where its last whole line ends."""
    raw = path.read_bytes() if path.exists() else b""
    end = raw.rfind(b"\n") + 1  # what follows is torn
    records = []
    for number, line in enumerate(raw[:end].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RowsError(
                f"{path}, line {number} is damaged: restore the file"
            ) from error
        if not isinstance(record, dict):
            raise RowsError(f"{path}, line {number} is no row: restore the file")
        records.append(record)
    return records, end


def _cut(path: Path) -> None:
    """Cut off what a killed process left of an unfinished line."""
    _, end = _read_lines(path)
    if path.exists() and path.stat().st_size > end:
        os.truncate(path, end)


def _line(record: Row) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _append(path: Path, record: Row) -> None:
    """Add a line to a file, or leave the file as it was."""
    rest = _line(record)
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while rest:  # a full disk may take a part before it raises an error
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException as error:
            # An interrupt after the last byte leaves the line: it is whole.
            if rest or isinstance(error, OSError):
                file.truncate(size)
            raise


def _deflate(checkpoint: bytes) -> bytes:
    """Compress the file of a net, a zip archive that torch.save leaves as it is."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(checkpoint)) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            # No time of writing: the same net gives the same file.
            new.writestr(zipfile.ZipInfo(name), old.read(name), zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of another: it is there as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
