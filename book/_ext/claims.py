"""A ledger of claims, made of a data file: ``{claims} claims.yml``.

Numbers are not typed but taken from the notebooks: ``{study:study_runs}`` is what the
notebook whose name begins with "study" has glued under that name.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel, ConfigDict, Field
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Status = Literal["theorem", "measured", "reported", "heuristic", "refuted"]
NUMBER = re.compile(r"\{(\w+):(\w+)\}(?!`)")  # {cite:t}`key` is a role


class Claim(BaseModel):
    """What is said, and what stands behind it."""

    model_config = ConfigDict(extra="forbid")
    said: str
    status: list[Status] = Field(min_length=1)
    stands: str
    where: list[str]


class Topic(BaseModel):
    """Claims about one thing."""

    model_config = ConfigDict(extra="forbid")
    topic: str
    claims: list[Claim] = Field(min_length=1)


def read_claims(path: Path) -> list[Topic]:
    """Read the data file; a fault in it is an error that names its place."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Topic.model_validate(topic) for topic in data]


def notebook(book: Path, prefix: str) -> Path:
    """Find the one notebook of that name, or whose name begins with it."""
    paths = [*book.glob("*.ipynb"), *book.glob("reference/*.ipynb")]
    found = {path.stem: path for path in paths}
    exact = [found[prefix]] if prefix in found else []
    begin = [path for stem, path in found.items() if stem.startswith(f"{prefix}_")]
    if len(exact or begin) != 1:
        raise ValueError(f"expected one notebook {prefix}*, got {exact or begin}")
    return (exact or begin)[0]


def glued(path: Path) -> dict[str, str]:
    """Give the values that a notebook has stored under names."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    values = {}
    for output in (out for cell in cells for out in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
            data: dict[str, Any] = output["data"]
            (text,) = (v for k, v in data.items() if k.endswith("text/plain"))
            values[name] = "".join(text).strip("'\"")
    return values


def filled(text: str, book: Path) -> str:
    """Put the numbers into a text."""

    def value(match: re.Match[str]) -> str:
        values = glued(notebook(book, match[1]))
        if match[2] not in values:
            raise ValueError(f"{match[0]}: nothing is glued under that name")
        return values[match[2]]

    return NUMBER.sub(value, " ".join(text.split()))


class Claims(SphinxDirective):
    """Tables of claims, one for each topic."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make Markdown of the data, and nodes of that."""
        here = Path(self.env.doc2path(self.env.docname))
        path, book = here.parent / self.arguments[0], Path(self.env.srcdir) / "book"
        self.env.note_dependency(str(path))
        lines: list[str] = []
        try:
            for topic in read_claims(path):
                lines += ["", f"## {topic.topic}", ""]
                for claim in topic.claims:
                    for name, _ in NUMBER.findall(claim.stands):
                        self.env.note_dependency(str(notebook(book, name)))
                    lines += entry(claim, book)
        except ValueError as error:
            raise self.error(f"{path.name}: {error}") from None
        section = nodes.section()
        self.state.nested_parse(StringList(lines, source=str(here)), 0, section, True)
        return section.children


def entry(claim: Claim, book: Path) -> list[str]:
    """One claim as an item of a definition list."""
    words = ", ".join(f"*{status}*" for status in claim.status)
    links = " · ".join(f"[](../{target})" for target in claim.where)
    stands = filled(claim.stands, book)
    return [f"**{claim.said}**", f": {words}. {stands} {links}".rstrip(), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
