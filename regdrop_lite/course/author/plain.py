"""The plain edition: the book's notebooks for GitHub, Colab, VS Code and JupyterLab.

Usage::

    python -m regdrop_lite.course.author.plain OUT
    python -m regdrop_lite.course.author.plain OUT book/exercises/NAME.ipynb ...

writes every notebook of the book, or those that are named, into the folder OUT. Text is
plain Markdown, with numbers, citations and references filled in. A first cell prepares
an empty Colab. Exercises come without solutions and outputs: their plain edition is
what a learner works in. Run it in the repository's folder.
"""

import argparse
import copy
import json
import posixpath
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from regdrop_lite.course.extras import needs

with needs("author", "nbformat, PyYAML, docutils, markdown-it or pybtex"):
    import nbformat
    import yaml
    from docutils.nodes import make_id
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from nbformat import NotebookNode
    from nbformat.v4 import new_code_cell, new_markdown_cell
    from pybtex.database import BibliographyData, parse_file
    from pybtex.plugin import find_plugin

from regdrop_lite.course.author.markdown import (
    PlainError,
    Resolver,
    parse_directive,
    parser,
    to_plain,
)
from regdrop_lite.course.author.predict import END, PROMPT, Kind, reach
from regdrop_lite.course.author.student import has_solutions, student_version

__all__ = ["Book", "main", "plain_edition", "write_plain"]

GLUE = "application/papermill.record/text/plain"
# Boxes whose bodies name nothing.
_LEAVES = {"math", "code", "code-block", "figure", "explore"}

_DATA = ("results", "recipes")  # the folders of the book whose files chapters read

_FIRST_CELL = """\
# Prepares this notebook where it stands alone, as in Colab. Elsewhere it does nothing.
import importlib.util
import os
import subprocess
import sys

url = "{url}"
course = os.path.expanduser("~/{name}")
if "google.colab" in sys.modules{unless}:
    if not os.path.isdir(course):
        command = ["git", "clone", "--quiet", "--depth", "1", url, course]
        subprocess.run(command, check=True)
    if "google.colab" in sys.modules:
        command = [sys.executable, "-m", "pip", "install", "-q", f"{{course}}[course]"]
        subprocess.run(command, check=True)
    os.chdir(f"{{course}}/{folder}")
elif importlib.util.find_spec("regdrop_lite") is None:
    package = f"regdrop-lite[course] @ git+{{url}}"
    raise ModuleNotFoundError(
        f"the course's package is missing in this Python; run in a terminal:\\n"
        f'"{{sys.executable}}" -m pip install "{{package}}"'
    )"""


@dataclass(frozen=True)
class Target:
    """Where a label stands, and how text speaks of it."""

    page: str
    title: str = ""
    number: str = ""


@dataclass(frozen=True)
class Book:
    """What the pages of a book know of each other. Made by :meth:`read`.

    Attributes:
        root: the repository's folder.
        site: the address of the site, without a slash at the end.
        repository: the address of the repository.
        branch: its branch.
        pages: the pages in their order, from the root, with their suffixes.
        labels: what has a name in a page.
        headings: for each page its headings, by the anchors of the site.
        bibliography: the cited works.
        markdown: the parser of the site.
    """

    root: Path
    site: str
    repository: str
    branch: str
    pages: list[str]
    labels: dict[str, Target]
    headings: dict[str, dict[str, str]]
    bibliography: BibliographyData
    markdown: MarkdownIt = field(repr=False)

    @property
    def notebooks(self) -> list[str]:
        """The pages that are notebooks."""
        return [page for page in self.pages if page.endswith(".ipynb")]

    @classmethod
    def read(cls, root: Path) -> "Book":
        """Read ``_config.yml``, ``_toc.yml`` and all pages.

        Raises:
            PlainError: if there is no book in the folder, or a page is missing.
        """
        if not (root / "_toc.yml").is_file() or not (root / "_config.yml").is_file():
            raise PlainError(
                f"{root} holds no book (_config.yml, _toc.yml): run this in the folder "
                "of the course's repository"
            )
        config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
        markdown = parser(config.get("parse", {}).get("myst_enable_extensions", []))
        bibliography = BibliographyData()
        for name in config.get("bibtex_bibfiles", []):
            bibliography.add_entries(parse_file(str(root / name)).entries.items())
        book = cls(
            root,
            config["html"]["baseurl"].rstrip("/"),
            config["repository"]["url"].rstrip("/"),
            config["repository"].get("branch", "main"),
            *([], {}, {}),
            bibliography,
            markdown,
        )
        counters: Counter[tuple[str, str]] = Counter()
        for docname, chapter in _documents(toc):
            found = [s for s in (".ipynb", ".md") if (root / (docname + s)).is_file()]
            if not found:
                raise PlainError(f"_toc.yml names {docname}, which does not exist")
            book.pages.append(docname + found[0])
            book._index(docname + found[0], chapter, counters)
        return book

    def _index(
        self, page: str, chapter: str, counters: Counter[tuple[str, str]]
    ) -> None:
        """Note the labels and headings of a page."""
        headings = self.headings.setdefault(page, {})

        def number(kind: str) -> str:
            counters[kind, chapter] += 1
            return f"{chapter}.{counters[kind, chapter]}".lstrip(".")

        def walk(text: str) -> None:
            tokens, waiting = self.markdown.parse(text), []
            for i, token in enumerate(tokens):
                if token.type == "myst_target":
                    waiting.append(token.content)
                elif token.type == "heading_open":
                    title = _text_of(tokens[i + 1])
                    headings[_slug(title)] = title
                    for label in waiting:
                        self.labels[label] = Target(page, title)
                    waiting = []
                elif token.type == "math_block_label":
                    self.labels[token.info] = Target(page, number=number("equation"))
                elif token.type in ("fence", "colon_fence"):
                    box = parse_directive(token.info, token.content)
                    if box is None:
                        continue
                    label = box.options.get("label") or box.options.get("name", "")
                    if box.name == "math" and label:
                        self.labels[label] = Target(page, number=number("equation"))
                    elif box.name in ("figure", "explore") and label:
                        self.labels[label] = Target(page, box.body, number("figure"))
                    elif label:
                        self.labels[label] = Target(page, box.argument)
                    if box.name not in _LEAVES:
                        walk(box.body)
            for label in waiting:
                self.labels[label] = Target(page)

        path = self.root / page
        if page.endswith(".md"):
            walk(path.read_text(encoding="utf-8"))
            return
        for cell in nbformat.read(path, as_version=4).cells:
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if cell.cell_type == "markdown":
                walk(cell.source)
            elif "name" in figure:
                caption = figure.get("caption", "")
                self.labels[figure["name"]] = Target(page, caption, number("figure"))


def _documents(toc: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the documents of a table of contents, with the numbers of their chapters."""
    yield toc["root"], ""
    chapter = 0

    def below(
        entries: Iterable[Mapping[str, Any]], number: str
    ) -> Iterator[tuple[str, str]]:
        for entry in entries:
            if "file" in entry:
                yield entry["file"], number
            yield from below(entry.get("sections", []), number)

    for part in toc.get("parts", [toc]):
        for entry in part.get("chapters", part.get("sections", [])):
            if part.get("numbered"):
                chapter += 1
            number = str(chapter) if part.get("numbered") else ""
            yield from below([entry], number)


def _text_of(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])


def _slug(title: str) -> str:
    """Make GitHub's anchor of a heading, which the site uses, too."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


class _Page(Resolver):
    """What roles and links of one notebook mean in its plain edition."""

    def __init__(
        self, book: Book, page: str, written: Collection[str], glued: Mapping[str, str]
    ) -> None:
        self.book, self.page, self.written, self.glued = book, page, written, glued
        self.cited: dict[str, None] = {}

    def role(self, name: str, text: str) -> str:
        match = re.fullmatch(r"(.*?)\s*<([^<>]+)>", text)
        title, target = match.groups() if match else ("", text)
        if name in ("glue:text", "glue", "glue:"):
            return self._glue(text)
        if name in ("cite", "cite:p", "cite:t", "cite:ps", "cite:ts"):
            return self._cite(name, text)
        if name == "eq":
            return f"({self.equation(target)})"
        if name == "term":
            word = make_id(f"term-{target}")
            page = self._site("book/reference/glossary.md")
            return f"[{title or target}]({page}#{word})"
        if name == "doc":
            address = f"{target}.ipynb"
            path = posixpath.normpath(f"{posixpath.dirname(self.page)}/{address}")
            known = path in self.book.pages
            page = path if known else path.replace(".ipynb", ".md")
            heading = next(iter(self.book.headings.get(page, {}).values()), "")
            return f"[{title or heading}]({self._to(page)})"
        if name in ("ref", "numref"):
            label = self._label(target)
            if name == "numref":
                if not label.number:
                    raise PlainError(f"{{numref}} to {target!r}, which has no number")
                text = (title or "Figure %s").replace("%s", label.number)
                text = text.replace("{number}", label.number)
                return text if label.page == self.page else self._linked(text, target)
            if not (title or label.title):
                raise PlainError(f"the reference to {target!r} has no text")
            return self._linked(title or label.title, target)
        return super().role(name, text)

    def equation(self, label: str) -> str:
        number = self._label(label).number
        if not number:
            raise PlainError(f"{label!r} is no equation")
        return number

    def link(self, address: str) -> str:
        if re.match(r"https?:|mailto:", address):
            return address
        path, _, anchor = unquote(address).partition("#")
        page = posixpath.normpath(posixpath.join(posixpath.dirname(self.page), path))
        if not path:
            page = self.page
        if page in self.book.pages:
            return self._to(page, anchor)
        if not (self.book.root / page).exists() or page.startswith(".."):
            raise PlainError(f"the link to {address!r} leads nowhere")
        kind = "raw" if re.search(r"\.(png|jpe?g|svg|gif)$", page) else "blob"
        return f"{self.book.repository}/{kind}/{self.book.branch}/{quote(page)}"

    def _label(self, label: str) -> Target:
        if label not in self.book.labels:
            raise PlainError(f"no page of the book has the label {label!r}")
        return self.book.labels[label]

    def _linked(self, text: str, label: str) -> str:
        page = self._label(label).page
        anchor = "" if page in self.written else f"#{make_id(label)}"
        return f"[{text}]({self._to(page)}{anchor})"

    def _site(self, page: str) -> str:
        return (
            f"{self.book.site}/{quote(str(Path(page).with_suffix('.html').as_posix()))}"
        )

    def _to(self, page: str, anchor: str = "") -> str:
        """Give the address of a page: of its plain edition, or on the site."""
        if page not in self.book.pages:
            raise PlainError(f"{page!r} is no page of the book")
        if anchor:
            headings = self.book.headings[page]
            if anchor not in headings and anchor not in self.book.labels:
                raise PlainError(f"{page} has no heading {anchor!r}")
            # Jupyter makes anchors of its own; so does GitHub for a notebook.
            title = headings.get(anchor) or self.book.labels[anchor].title
            inside = page == self.page or page in self.written
            anchor = "#" + (quote(title.replace(" ", "-")) if inside else anchor)
        if page == self.page and anchor:
            return anchor
        if page not in self.written:
            return self._site(page) + anchor
        start = posixpath.dirname(self.page) or "."
        return quote(posixpath.relpath(page, start)) + anchor

    def _glue(self, text: str) -> str:
        name, _, form = text.partition(":")
        if name not in self.glued:
            raise PlainError(f"nothing is glued under the name {name!r}")
        value = self.glued[name].strip("'\"")
        try:
            return f"{float(value):>{form}}" if form else value
        except ValueError as error:
            raise PlainError(f"{value!r} cannot be written as {form!r}") from error

    def _cite(self, name: str, text: str) -> str:
        parts = []
        for key in (key.strip() for key in text.split(",")):
            if key not in self.book.bibliography.entries:
                raise PlainError(f"the bibliography has no {key!r}")
            self.cited[key] = None
            entry = self.book.bibliography.entries[key]
            people = entry.persons.get("author") or entry.persons.get("editor") or []
            names = [
                _plain_name(" ".join(p.prelast_names + p.last_names)) for p in people
            ]
            who = names[0] + " *et al.*" if len(names) > 2 else " and ".join(names)
            year = entry.fields.get("year", "n.d.")
            textual = name in ("cite:t", "cite:ts")
            parts.append(f"{who} [{year}]" if textual else f"{who}, {year}")
        joined = "; ".join(parts)
        # Not a link: "[2018]" alone is text in Markdown, but "[a](b)" would be one.
        return joined if name in ("cite:t", "cite:ts") else f"[{joined}]"

    def references(self) -> str:
        """Give the works that were cited, as a list in Markdown."""
        style = find_plugin("pybtex.style.formatting", "plain")()
        backend = find_plugin("pybtex.backends", "markdown")()
        cited = BibliographyData(
            {key: self.book.bibliography.entries[key] for key in self.cited}
        )
        works = sorted(
            style.format_entries(style.sort(cited.entries.values())), key=str
        )
        lines = sorted(work.text.render(backend).replace("\n", " ") for work in works)
        return "\n".join(["## References", "", *(f"- {line}" for line in lines)])


def _plain_name(name: str) -> str:
    from pybtex.richtext import Text

    return str(Text.from_latex(name))


def plain_edition(book: Book, page: str, written: Collection[str] = ()) -> NotebookNode:
    """Make the plain edition of a notebook.

    Args:
        book: the book.
        page: the notebook, from the book's root, such as ``book/01_name.ipynb``.
        written: the notebooks that are written beside it; links to them are relative.

    Raises:
        PlainError: for what plain Markdown cannot say; it names the cell.
    """
    source = nbformat.read(book.root / page, as_version=4)
    glued = {
        output.metadata["scrapbook"]["name"]: output.data[GLUE]
        for cell in source.cells
        for output in cell.get("outputs", [])
        if GLUE in output.get("data", {})
    }
    exercise = has_solutions(source)
    notebook = student_version(source) if exercise else copy.deepcopy(source)
    resolver = _Page(book, page, {*written, page}, glued)
    cells = [_first_cell(book, page, source)]
    notebook.cells = [
        cell
        for cell in notebook.cells
        if not {"remove-cell", "site-only"} & set(cell.metadata.get("tags", []))
        and cell.id != "setup"
    ]
    _fold_answers(notebook.cells, book.markdown)
    for cell in notebook.cells:
        try:
            cells += _plain_cell(book, cell, resolver)
        except PlainError as error:
            raise PlainError(f"{page}, cell {cell.id}: {error}") from None
    if resolver.cited:
        cells.append(new_markdown_cell(resolver.references(), id="references"))
    notebook.cells = cells
    notebook.metadata = NotebookNode(
        kernelspec=source.metadata["kernelspec"], language_info={"name": "python"}
    )
    nbformat.validate(notebook)
    return notebook


def _blocks(
    cell: NotebookNode, markdown: MarkdownIt
) -> Iterator[tuple[Kind, bool, int, int]]:
    """Give what stands in a cell: its kind, whether it is a question, and its lines."""
    if cell.cell_type != "markdown":
        yield ("output" if cell.get("outputs") else "code"), False, 0, 0
        return
    tokens = markdown.parse(cell.source)
    for i, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        kind: Kind = "block"
        question = False
        if token.type == "paragraph_open":
            text = tokens[i + 1].content
            question = text.startswith(f"**{PROMPT}**")
            kind = "intro" if text.endswith(":") else "text"
        elif token.type in ("fence", "colon_fence"):
            box = parse_directive(token.info, token.content)
            question = box is not None and box.name == "predict"
        elif token.type in ("myst_line_comment", "myst_target"):
            kind = "mark" if token.content.strip() == END else "label"
        elif token.type == "heading_open":
            kind = "stop"
        first, last = token.map
        yield ("stop" if question else kind), question, first, last


def _fold_answers(cells: Sequence[NotebookNode], markdown: MarkdownIt) -> None:
    """Fold what answers a question, in the text and below the code."""
    blocks = [(cell, *b) for cell in cells for b in _blocks(cell, markdown)]
    spans: dict[str, tuple[int, int]] = {}
    for i in reversed(range(len(blocks))):
        if not blocks[i][2]:
            continue
        below = blocks[i + 1 :]
        spans.clear()
        for cell, _, _, start, end in below[: reach([kind for _, kind, *_ in below])]:
            if cell.cell_type == "markdown":
                spans[cell.id] = (spans.get(cell.id, (start, end))[0], end)
            elif cell.get("outputs"):
                tags = cell.metadata.get("tags", [])
                cell.metadata["tags"] = [*tags, "hide-output"]
        for cell in cells:
            if cell.id in spans:
                cell.source = _folded(cell.source, *spans[cell.id])


def _folded(text: str, start: int, end: int) -> str:
    """Fold some lines of a text."""
    lines = text.splitlines()
    inside = "\n".join(lines[start:end]).rstrip()
    colons = ":" * (
        max(map(len, re.findall("^:{3,}", inside, flags=re.M)), default=2) + 1
    )
    box = f"\n{colons}{{dropdown}} Result\n{inside}\n{colons}\n"
    return "\n".join([*lines[:start], box, *lines[end:]])


def _plain_cell(book: Book, cell: NotebookNode, resolver: _Page) -> list[NotebookNode]:
    tags = cell.metadata.get("tags", [])
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if cell.cell_type == "raw":
        return []
    cell.metadata = NotebookNode(tags=list(tags)) if tags else NotebookNode()
    if cell.cell_type == "markdown":
        cell.source = to_plain(cell.source, book.markdown, resolver)
        return [cell] if cell.source else []
    if re.search(r"\bglue\(|\bmyst_nb\b", cell.source):
        raise PlainError('glue belongs into a cell of its own, tagged "remove-cell"')
    cell.outputs = [o for o in cell.outputs if GLUE not in o.get("data", {})]
    if {"hide-input", "hide-cell"} & set(tags):
        cell.metadata["jupyter"] = {"source_hidden": True}
        cell.metadata["cellView"] = "form"  # Colab's way to fold the source
        if "hide-cell" in tags:
            cell.metadata["jupyter"]["outputs_hidden"] = True
            cell.metadata["collapsed"] = True
    if "hide-output" in tags:
        cell.metadata.setdefault("jupyter", {})["outputs_hidden"] = True
        cell.metadata["collapsed"] = True
    if not figure.get("caption") or not cell.outputs:
        return [cell]
    number = book.labels[figure["name"]].number
    caption = to_plain(figure["caption"], book.markdown, resolver)
    text = f"**Figure {number}.** {caption}"
    if "hide-output" in tags:
        text = f"<details>\n<summary>Result</summary>\n\n{text}\n\n</details>"
    return [cell, new_markdown_cell(text, id=f"{cell.id}-caption")]


def _folders_read(source: NotebookNode) -> list[str]:
    """Find the folders of stored data that a notebook's code reads, as it says them."""
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    found = re.findall(rf"[\"'](?:\./)?((?:\.\./)*(?:{'|'.join(_DATA)}))/", code)
    return sorted(set(found))


def _first_cell(book: Book, page: str, source: NotebookNode) -> NotebookNode:
    """Make the cell that brings the package and the folders that the page reads."""
    folders = _folders_read(source)
    text = _FIRST_CELL.format(
        url=book.repository,
        name=book.repository.rsplit("/", 1)[-1],
        folder=posixpath.dirname(page),
        unless="".join(f' or not os.path.isdir("{folder}")' for folder in folders),
    )
    metadata = {"tags": ["nbval-skip"], "jupyter": {"source_hidden": True}}
    cell: NotebookNode = new_code_cell(text, id="prepare", metadata=metadata)
    return cell


def write_plain(
    book: Book, out: Path, pages: Sequence[str] | None = None, force: bool = False
) -> list[Path]:
    """Write plain editions, in the folders that the notebooks have below ``book``.

    Args:
        book: the book.
        out: the folder to write into; it is made if there is none.
        pages: the notebooks, from the book's root; by default all of the book's.
        force: whether to write over files that differ.

    Raises:
        PlainError: for what plain Markdown cannot say.
        FileExistsError: if a file differs from what would be written, since somebody
            may have worked in it. Then nothing is written at all.
    """
    chosen = book.notebooks if pages is None else list(pages)
    texts: dict[Path, str] = {}
    folders: set[str] = set()
    for page in chosen:
        edition = plain_edition(book, page, chosen)
        text = json.dumps(edition, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        texts[out / Path(page).relative_to("book")] = text
        read = _folders_read(nbformat.read(book.root / page, as_version=4))
        folders |= {posixpath.basename(folder) for folder in read}
    different = [
        path
        for path, text in texts.items()
        if path.exists() and path.read_text(encoding="utf-8") != text
    ]
    if different and not force:
        names = ", ".join(map(str, different))
        raise FileExistsError(
            f"these files are not as they would be written, perhaps because you worked "
            f"in them: {names}. Nothing was written. Choose another folder, or give "
            "--force to lose what is in them"
        )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    for name in folders:
        if (book.root / "book" / name).is_dir():
            shutil.copytree(book.root / "book" / name, out / name, dirs_exist_ok=True)
    return list(texts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.author.plain",
        description="Write notebooks of the book in plain Markdown, exercises without "
        "their solutions. Run it in the repository's folder.",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="the folder to write to")
    command.add_argument(
        "notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all"
    )
    command.add_argument(
        "--force", action="store_true", help="write over files, with any work in them"
    )
    chosen = command.parse_args(arguments)
    try:
        if chosen.out.is_file() or chosen.out.suffix == ".ipynb":
            raise PlainError(f"OUT has to be a folder, but {chosen.out} is a file")
        start = chosen.notebooks[0].resolve() if chosen.notebooks else Path.cwd()
        folders = [start, *start.parents]
        root = next((f for f in folders if (f / "_toc.yml").is_file()), Path.cwd())
        book = Book.read(root)
        pages = [_page(book, path) for path in chosen.notebooks] or None
        for path in write_plain(book, chosen.out, pages, chosen.force):
            print(f"wrote {path}")
    except (PlainError, OSError) as error:
        command.error(str(error))


def _page(book: Book, path: Path) -> str:
    """Give the name of a notebook in its book."""
    root, full = book.root.resolve(), path.resolve()
    page = full.relative_to(root).as_posix() if full.is_relative_to(root) else ""
    if page not in book.notebooks:
        raise PlainError(
            f"{path} is none of the book's notebooks: {', '.join(book.notebooks)}"
        )
    return page


if __name__ == "__main__":
    main()
