"""Execute notebooks in the way in which they are stored.

``python -m regdrop_lite.course.author.execute NOTEBOOK ...`` runs each notebook
from a clean kernel, in its own folder, and writes it back with its outputs. What would
differ from machine to machine is left out: times, and the lines of a traceback that
name files.
"""

import argparse
import os
from pathlib import Path

from regdrop_lite.course.extras import needs

with needs("author", "nbformat or nbclient"):
    import nbformat
    from nbclient import NotebookClient


def execute(path: Path) -> None:
    """Run a notebook from top to bottom and store it with its outputs.

    Args:
        path: an ``.ipynb`` file; it is replaced once all cells have run. Ids, tags and
            other metadata of the cells are kept.

    A cell that fails without the tag ``raises-exception`` stops the run with the
    ``CellExecutionError`` of nbclient. The file is then left as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    # The kernel inherits it. One thread is what the stored outputs were made with.
    os.environ["OMP_NUM_THREADS"] = "1"
    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = output.traceback[-1:]
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    unfinished = path.with_suffix(".ipynb.part")
    nbformat.write(notebook, unfinished)
    unfinished.replace(path)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Execute and store notebooks.")
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    for path in parser.parse_args().notebooks:
        execute(path)
        print(f"executed {path}")


if __name__ == "__main__":
    main()
