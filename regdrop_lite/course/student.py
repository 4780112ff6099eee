"""Student versions of the exercise notebooks: the same, without the solutions.

An exercise notebook of the book holds the solutions in cells tagged "solution". A code
cell with that tag keeps in its metadata, under "scaffold", what a learner starts from.

    python -m regdrop_lite.course.student book/exercises/NAME.ipynb my_exercises.ipynb
"""

import argparse
import copy
import json
import os
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["student_version"]

_DIRECTIVE = re.compile(r":{3,}\{([\w-]+)\}\s*(.*)")


def student_version(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``notebook`` without solutions and outputs.

    Code cells tagged "solution" become their scaffolds; other cells with that tag, such
    as the explanations, are left out, and so is a code cell without a scaffold. Boxes
    that only the book can show become plain Markdown, and folds stay folded, those of
    code too.

    Args:
        notebook: the notebook as nbformat's dictionary, or as ``json.load`` reads it.

    Example:
        >>> solution = {
        ...     "cell_type": "code",
        ...     "metadata": {"tags": ["solution"], "scaffold": "answer = ..."},
        ...     "source": "answer = 42",
        ...     "outputs": [],
        ...     "execution_count": 1,
        ... }
        >>> student_version({"cells": [solution]})["cells"][0]["source"]
        'answer = ...'
    """
    cells = []
    for original in notebook["cells"]:
        cell = copy.deepcopy(original)
        metadata = cell["metadata"]
        tags = metadata.get("tags", [])
        if "solution" in tags:
            if "scaffold" not in metadata:
                continue
            cell["source"] = metadata["scaffold"]
            kept = [tag for tag in tags if tag != "solution"]
            cell["metadata"] = {"tags": [*kept, "answer"]}
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
            if "hide-input" in tags:  # what folds a cell in the book, and in Jupyter
                cell["metadata"].setdefault("jupyter", {})["source_hidden"] = True
        elif cell["cell_type"] == "markdown":
            cell["source"] = _plain(cell["source"])
        cells.append(cell)
    rest = {key: value for key, value in notebook.items() if key != "cells"}
    return {"cells": cells, **copy.deepcopy(rest)}


def _plain(source: str | Sequence[str]) -> str:
    """Turn the boxes of MyST into Markdown and HTML that every Jupyter shows.

    >>> print(_plain(":::{dropdown} Hint 1\\nLook at u.\\n:::"))
    <details><summary>Hint 1</summary>
    <BLANKLINE>
    Look at u.
    <BLANKLINE>
    </details>
    """
    lines, endings, options = [], [], False
    text = source if isinstance(source, str) else "".join(source)
    for line in text.splitlines():
        directive = _DIRECTIVE.fullmatch(line)
        if directive:
            kind, title = directive.groups()
            if kind == "dropdown":
                lines += [f"<details><summary>{title}</summary>", ""]
                endings.append(["", "</details>"])
            else:
                lines.append(f"**{title or kind.capitalize()}**")
                endings.append([])
            options = True
        elif endings and re.fullmatch(r":{3,}", line):
            lines += endings.pop()
        elif not (options and re.match(r":\w+:", line)):
            options = False
            # A reference becomes its text: {ref}`S2 <sources>` is S2.
            lines.append(re.sub(r"\{\w+\}`([^`<]*?)\s*<[^`]*>`", r"\1", line))
    return "\n".join(lines)


def _relink(notebook: dict[str, Any], source: str, target: str) -> None:
    """Let links between pages lead to the same pages from another folder."""

    def moved(link: re.Match[str]) -> str:
        page = os.path.join(os.path.dirname(source), link[1])
        link_to = os.path.relpath(page, os.path.dirname(target) or ".")
        return f"]({link_to.replace(os.sep, '/')})"

    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = re.sub(
                r"\]\(([^():#]+\.(?:ipynb|md))\)", moved, cell["source"]
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the student version of one notebook; never over an existing file."""
    parser = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.student",
        description="Write a copy of an exercise notebook without its solutions.",
    )
    parser.add_argument("source", help="the notebook with the solutions")
    parser.add_argument("target", help="the new notebook")
    paths = parser.parse_args(arguments)
    try:
        with open(paths.source, encoding="utf-8") as file:
            notebook = student_version(json.load(file))
        _relink(notebook, paths.source, paths.target)
        with open(paths.target, "x", encoding="utf-8") as file:
            json.dump(notebook, file, indent=1, ensure_ascii=False)
            file.write("\n")
    except FileExistsError:
        parser.error(f"{paths.target} exists already; choose another name")
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
