"""Run the code cells of a notebook with a given copy of the package.

Each run has a process of its own, forked from a server that has already imported the
libraries but never the package: no run sees another, and none waits for PyTorch.
"""

import contextlib
import linecache
import multiprocessing
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LIBRARIES = [
    "torch",
    "matplotlib.pyplot",
    "IPython.display",
    "myst_nb",
    "scipy.stats",
    "joblib",
    "tqdm.auto",
]


def code_cells(notebook: dict[str, Any], words: str) -> list[dict[str, Any]]:
    """The code cells up to the first one that holds the words."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        if words in "".join(cell["source"]):
            return cells[:number]
    raise ValueError(f"no code cell holds {words!r}")


def failures(
    cells: list[dict[str, Any]], package: Path, folder: Path, limit: float = 300.0
) -> dict[int, str]:
    """The cells that fail: number of the code cell, and the traceback as text.

    ``package`` is the folder that holds ``regdrop_lite``; the cells run in ``folder``.
    After an exception the next cell runs, as in a notebook that somebody steps through.
    A cell that is said to raise fails if it does not; the text is its source then.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(cells, package, folder, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            raise TimeoutError(f"the notebook needs more than {limit} s")
        found: dict[int, str] = receiver.recv()
        return found
    finally:
        process.kill()
        process.join()
        receiver.close()


def _run(
    cells: list[dict[str, Any]], package: Path, folder: Path, sender: Connection
) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(package))
    import matplotlib

    matplotlib.use("agg")
    import regdrop_lite

    if Path(regdrop_lite.__file__).parents[1] != package:
        raise ImportError(f"{regdrop_lite.__file__} was imported, not {package}")
    from IPython.display import display

    names = {"__name__": "__main__", "display": display}
    found = {}
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        for number, cell in enumerate(cells, start=1):
            tags = cell["metadata"].get("tags", [])
            if "nbval-skip" in tags:
                continue
            source = "".join(cell["source"])
            file = f"<code cell {number}>"
            linecache.cache[file] = (len(source), None, source.splitlines(True), file)
            try:
                exec(compile(source, file, "exec"), names)
            except Exception:
                if "raises-exception" not in tags:
                    found[number] = traceback.format_exc()
            else:
                if "raises-exception" in tags:
                    found[number] = source
    sender.send(found)
