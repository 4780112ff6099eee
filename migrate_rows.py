"""Rename all stored runs by settings, seed and RESULTS_VERSION. Run once, then deleted.

Before, a run was named by a hash that also took in its data and the source, as
``ast.unparse`` lays it out, which differs between versions of Python. Rows keep the
hash of that source as ``code``. The trained nets are renamed, and in histories and
repeats the name of the run is replaced; all figures stay as they are.
"""

import json
from collections.abc import Callable
from pathlib import Path

from regdrop_lite.course.runs import run_id

RESULTS = Path("book/results")


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines = [json.dumps(change(record), ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


for path in sorted((RESULTS / "rows").glob("*.jsonl")):
    names: dict[str, str] = {}

    def rename(row: dict, names: dict[str, str] = names) -> dict:
        if "content" in row:
            return row
        names[row["run"]] = run_id(row["config"], row["seed"])
        # Where the runner puts it: before the hash of the code.
        head = {k: v for k, v in row.items() if k not in ("code", "data_hash")}
        tail = {k: head.pop(k) for k in ("commit", "dirty")}
        new = {"results_version": 1, "code": row["code"], **tail}
        return head | {"run": names[row["run"]]} | new | {"data_hash": row["data_hash"]}

    rewrite(path, rename)
    assert len(set(names.values())) == len(names)
    for folder in ("histories", "repeats"):
        other = RESULTS / folder / path.name
        if other.exists():
            rewrite(other, lambda r, names=names: r | {"run": names[r["run"]]})
    for net in sorted((RESULTS / "checkpoints" / path.stem).glob("*.pt")):
        net.rename(net.with_stem(names[net.stem]))
