"""Slides for each chapter, out of its own figures, with the lecturer's script as notes.

Usage::

    python -m regdrop_lite.course.teach.slides OUT

writes a page for each chapter, out of ``book/teach/slides/chapter_N.md``, and a page
that lists them. They need no network: reveal.js and the fonts lie beside them. The
build of the site writes them into ``teach/slides``. Run it in the repository's folder.

A source is Markdown. A line ``+++`` begins a slide, and ``. . .`` what waits for the
next key. A picture is named by where it stands: ``![](01_spatial_dropout#curves)`` is
what that cell of that notebook drew, ``![](figures/levels.svg)`` a drawing of the book;
both bring the alternative text that they have there. Of a cell that draws nothing it is
what the cell prints, or the text of its table. ``![](page#cell "top 40%")`` leaves the
rest away; the other ends are ``bottom``, ``left`` and ``right``, of what is printed
``top`` and ``bottom``. Lines such as these choose the notes::

    % section: Draw one number per channel
    % script: to how many values?
    % question: p = 0.5, and a sample

``section`` is one of ``sections.yml`` and gives minutes, objectives and the point not
to miss; ``script`` is part of what a row of the chapter's live-coding script asks, and
``question`` the beginning of one of its questions that uncover misconceptions.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from regdrop_lite.course.author.pictures import inside, size_of
from regdrop_lite.course.extras import needs
from regdrop_lite.course.teach.paper import formula
from regdrop_lite.course.teach.plans import Course, Section

with needs("course,author", "PyYAML, markdown-it or math-core"):
    import yaml
    from docutils.nodes import make_id
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from math_core import LatexError
    from mdit_py_plugins.dollarmath import dollarmath_plugin

__all__ = ["Deck", "Slide", "SlideError", "main", "read_deck", "write_slides"]

SETTING = re.compile(r"^% (\w+): *(.+)\n?", re.M)
PICTURE = re.compile(
    r"!\[\]\((?P<page>[\w/-]+)(?:#(?P<cell>[\w-]+)|\.svg)"
    r'(?: "(?P<end>top|bottom|left|right) (?P<part>[1-9]\d)%")?\)'
)
DRAWING = re.compile(
    r"^:+\{(?:figure|explore)\} (?P<name>\S+)\n"
    r"(?:---\n(?P<yaml>[\s\S]+?)^---$|(?P<lines>(?::\w+:.*\n)+))",
    re.M,
)
ROW = re.compile(r"^\| (?P<type>.+?) \| (?P<ask>.+?) \| (?P<hear>.+?) \|$", re.M)
KEYS = ("section", "script", "question")


class SlideError(ValueError):
    """What does not fit in a source of slides, and in which slide."""


@dataclass(frozen=True)
class Slide:
    """One slide.

    Attributes:
        title: its heading.
        parts: what it shows, as Markdown; each part after the first waits for a key.
        sections: of the chapter, that it belongs to.
        script: the rows of the live-coding script: what to type, what to ask, and what
            the room will say.
        questions: the texts of the questions that uncover misconceptions.
    """

    title: str
    parts: tuple[str, ...]
    sections: tuple[Section, ...]
    script: tuple[tuple[str, str, str], ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Deck:
    """The slides of a chapter.

    Attributes:
        chapter: its number.
        title: its title.
        opening: what the first slide says below the title.
        slides: the others.
    """

    chapter: int
    title: str
    opening: str
    slides: tuple[Slide, ...]


@dataclass(frozen=True)
class _Guide:
    """What the page of a chapter in the guide says to its lecturer."""

    rows: tuple[tuple[str, str, str], ...]
    text: str

    @classmethod
    def read(cls, path: Path) -> "_Guide":
        text = path.read_text(encoding="utf-8")
        script = text.partition("## Live-coding script")[2].partition("\n## ")[0]
        rows = [(m["type"], m["ask"], m["hear"]) for m in ROW.finditer(script)]
        return cls(tuple(rows[1:]), text)

    def row(self, part: str) -> tuple[str, str, str]:
        found = [row for row in self.rows if part in row[1]]
        if len(found) != 1:
            raise LookupError(f"{len(found)} rows of the script ask {part!r}, not one")
        return found[0]

    def question(self, start: str) -> str:
        """A question, from its first line up to the next one or the next heading."""
        beginning = rf"^(?:### Question \d: |\*\*[\"“]?){re.escape(start)}"
        pattern = rf"{beginning}.*?(?=^#|^\*\*|^Three more|\Z)"
        found = re.findall(pattern, self.text, re.M | re.S)
        if len(found) != 1:
            raise LookupError(f"{len(found)} questions begin with {start!r}, not one")
        return str(found[0]).strip()


def read_deck(root: Path, chapter: int, course: Course) -> Deck:
    """Read the source of a chapter's slides.

    Args:
        root: the repository's folder.
        chapter: its number.
        course: where the sections are looked up.

    Raises:
        SlideError: if a slide names what is not there.
    """
    teach = root / "book" / "teach"
    path = teach / "slides" / f"chapter_{chapter}.md"
    guide = _Guide.read(teach / f"chapter_{chapter}.md")
    text = path.read_text(encoding="utf-8")
    first, *others = re.split(r"^\+\+\+\n", text, flags=re.M)
    title, opening = _heading(first, "# ", f"{path.name}, first slide")
    slides = [
        _read_slide(part, f"{path.name}, slide {number}", chapter, course, guide)
        for number, part in enumerate(others, 2)
    ]
    return Deck(chapter, title, opening, tuple(slides))


def _heading(text: str, mark: str, where: str) -> tuple[str, str]:
    start, _, rest = text.strip().partition("\n")
    if not start.startswith(mark):
        raise SlideError(f"{where}: it should begin with {mark!r}, not {start!r}")
    return start.removeprefix(mark), rest.strip()


def _read_slide(
    text: str, where: str, chapter: int, course: Course, guide: _Guide
) -> Slide:
    title, body = _heading(text, "## ", where)
    chosen: dict[str, list[str]] = {key: [] for key in KEYS}
    for key, value in SETTING.findall(body + "\n"):
        if key not in chosen:
            raise SlideError(f"{where}: {key!r} is none of {', '.join(KEYS)}")
        chosen[key].append(value.strip())
    parts = re.split(r"^\. \. \.\n", SETTING.sub("", body + "\n"), flags=re.M)
    try:
        return Slide(
            title,
            tuple(part.strip() for part in parts),
            tuple(course.find(f"{chapter} {name}") for name in chosen["section"]),
            tuple(guide.row(part) for part in chosen["script"]),
            tuple(guide.question(start) for start in chosen["question"]),
        )
    except KeyError as error:
        raise SlideError(f"{where}: there is no section {error}") from None
    except LookupError as error:
        raise SlideError(f"{where}: {error}") from None


# --- writing --------------------------------------------------------------------------


def write_slides(
    root: Path, out: Path, course: Course | None = None, site: str = ""
) -> list[Path]:
    """Write the slides of all chapters.

    Args:
        root: the repository's folder.
        out: where to write. Files of an earlier time are replaced.
        course: the chapters, if they are read already.
        site: where links to the chapters lead; by default to the published site.

    Returns:
        the pages.

    Raises:
        SlideError: if a slide names what is not there.
        FileNotFoundError: if ``root`` holds no slides, or a chapter has none.
    """
    folder = root / "book" / "teach" / "slides"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{root} holds no slides: run this in the folder of the course's repository"
        )
    course = course or Course.read(root)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    site = site or config["html"]["baseurl"]
    pictures = _Pictures(root)
    page = Template((folder / "page.html").read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder / "reveal", out / "reveal", dirs_exist_ok=True)
    shutil.copytree(
        root / "book" / "_static" / "fonts", out / "fonts", dirs_exist_ok=True
    )
    for name in ("slides.css", "slides.js"):
        shutil.copyfile(folder / name, out / name)
    written, entries = [], []
    for chapter in course.titles:
        deck = read_deck(root, chapter, course)
        slides = "\n".join(_deck_html(deck, course, pictures, site))
        title = f"{chapter}. {deck.title}"
        path = out / f"chapter_{chapter}.html"
        _write(path, page.substitute(title=escape(title), body=slides))
        written.append(path)
        entries.append(f'<li><a href="{path.name}">{escape(title)}</a></li>')
    listed = f"<section><h1>Slides</h1><ul>{''.join(entries)}</ul></section>"
    _write(out / "index.html", page.substitute(title="Slides", body=listed))
    return written


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _shape(width: float, height: float) -> str:
    """Whether a picture stands beside all words, beside those below the heading, or
    between them.
    """
    ratio = width / height
    return "tall" if ratio < 1.3 else "broad" if ratio < 2.1 else "wide"


def _crop(
    size: tuple[float, float], end: str | None, part: str | None
) -> tuple[float, float, float, float]:
    """What stays of a picture: left, top, right, bottom."""
    width, height = size
    share = int(part or 100) / 100
    return {
        "top": (0, 0, width, share * height),
        "bottom": (0, (1 - share) * height, width, height),
        "left": (0, 0, share * width, height),
        "right": ((1 - share) * width, 0, width, height),
    }[end or "top"]


def _words(output: dict[str, Any]) -> str:
    """What an output says: a stream, an error, or a table as a terminal shows it."""
    if output["output_type"] == "stream":
        return "".join(output["text"])
    if output["output_type"] == "error":
        return str(output["evalue"])
    return "".join(output["data"].get("text/plain", "")) + "\n"


class _Pictures:
    """Takes pictures out of notebooks, and drawings out of the book."""

    def __init__(self, root: Path) -> None:
        self.book = root / "book"
        self.read: dict[str, list[dict[str, Any]]] = {}

    def html(self, match: re.Match[str]) -> tuple[str, str]:
        """A picture's HTML, and whether it is "tall", "broad", "wide" or "printed"."""
        if match["cell"] is None:
            return self._drawing(match)
        page, cell = match["page"], match["cell"]
        found = [c for c in self._cells(page) if c["id"] == cell]
        if not found:
            raise LookupError(f"{page} has no cell {cell!r}")
        outputs = found[0].get("outputs", ())
        data = [o.get("data", {}) for o in outputs]
        drawn = [d for d in data if "image/svg+xml" in d]
        if not drawn:
            return self._printed(outputs, match)
        alt = found[0]["metadata"].get("mystnb", {}).get("image", {}).get("alt")
        if len(drawn) != 1 or not alt:
            raise LookupError(
                f"expected one picture with an alternative text in {page}#{cell}"
            )
        svg = "".join(drawn[0]["image/svg+xml"])
        left, top, right, bottom = part = _crop(
            size_of(svg), match["end"], match["part"]
        )
        shown = inside(svg, alt, f"{page}-{cell}", part if match["end"] else None)
        return shown, _shape(right - left, bottom - top)

    def _printed(
        self, outputs: Sequence[dict[str, Any]], match: re.Match[str]
    ) -> tuple[str, str]:
        text = "".join(map(_words, outputs)).strip()
        if not text:
            raise LookupError(
                f"{match['page']}#{match['cell']} draws and prints nothing"
            )
        if match["end"] in ("left", "right"):
            raise LookupError(
                f"of what {match['page']}#{match['cell']} prints, top or bottom lines "
                f"can be shown, but not {match['end']}"
            )
        lines = text.splitlines()
        _, top, _, bottom = _crop((0, len(lines)), match["end"], match["part"])
        lines = lines[round(top) : round(bottom)]
        text, columns = "\n".join(lines), max(map(len, lines))
        kind = "printed" if columns <= 100 else "printed prose"
        html = f'<pre class="{kind}" style="--columns: {columns}">{escape(text)}</pre>'
        return html, "printed"

    def _drawing(self, match: re.Match[str]) -> tuple[str, str]:
        """A drawing goes into the page, so that it takes the colours of the page."""
        name, alt = match["page"], ""
        for path in sorted(self.book.glob("0*.ipynb")):
            for cell in self._cells(path.stem):
                text = "".join(cell["source"])
                for shown in DRAWING.finditer(text):
                    lines = re.findall(r"^:(\w+): (.+)$", shown["lines"] or "", re.M)
                    options = yaml.safe_load(shown["yaml"] or "{}") | dict(lines)
                    if options.get("image", shown["name"]) == f"{name}.svg":
                        alt = options["alt"]
        if not alt:
            raise LookupError(f"no chapter shows the drawing {name}.svg")
        svg = (self.book / f"{name}.svg").read_text(encoding="utf-8")
        svg = svg[svg.index("<svg") :]
        ((wide, high),) = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        whole = float(wide), float(high)
        left, top, right, bottom = _crop(whole, match["end"], match["part"])
        width, height = right - left, bottom - top
        if match["end"]:  # an inner drawing shows nothing beyond its edges
            size = f'width="{width:g}" height="{height:g}"'
            part = f'{size} viewBox="{left:g} {top:g} {width:g} {height:g}"'
            inner = re.sub(r'viewBox="[^"]+"', part, svg, count=1)
            svg = f'<svg viewBox="0 0 {width:g} {height:g}">{inner}</svg>'
        label = f'<svg class="drawing" role="img" aria-label="{escape(alt)}"'
        return svg.replace("<svg", label, 1), _shape(width, height)

    def _cells(self, page: str) -> list[dict[str, Any]]:
        if page not in self.read:
            path = self.book / f"{page}.ipynb"
            if not path.is_file():
                raise LookupError(f"there is no notebook {page}.ipynb")
            self.read[page] = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return self.read[page]


def _deck_html(
    deck: Deck, course: Course, pictures: _Pictures, site: str
) -> Iterator[str]:
    listed = "".join(
        f"<li>{_inline(f'{number} {objective.text}')}</li>"
        for number, objective in course.objectives.items()
        if number.startswith(f"{deck.chapter}.")
    )
    yield (
        f'<section class="first"><p class="chapter">Chapter {deck.chapter}</p>'
        f"<h1>{_inline(deck.title)}</h1>{_render(deck.opening)}"
        '<aside class="notes"><p>What students will be able to do:</p>'
        f"<ul>{listed}</ul><p>Keys: space goes on, Esc shows all slides, D changes "
        "between light and dark, F fills the screen.</p></aside></section>"
    )
    slides = [section.title for slide in deck.slides for section in slide.sections]
    for number, slide in enumerate(deck.slides, 2):
        seconds = sum(60 * s.minutes // slides.count(s.title) for s in slide.sections)
        try:
            yield _slide_html(slide, seconds, pictures, site)
        except (LookupError, LatexError) as error:
            where = f"chapter_{deck.chapter}.md, slide {number}"
            raise SlideError(f"{where}: {error}") from None


def _slide_html(slide: Slide, seconds: int, pictures: _Pictures, site: str) -> str:
    kind = "text"
    body: list[str] = []
    for place, part in enumerate(slide.parts):
        blocks, shape = _blocks(part, pictures)
        kind = shape or kind
        fragment = " fragment" if place else ""
        body += [f'<div class="{name}{fragment}">{html}</div>' for name, html in blocks]
    links = " · ".join(
        f'<a href="{site}book/{section.page}.html#{make_id(section.title)}">'
        f"{', '.join(section.objectives)} {escape(section.title)}</a>"
        for section in slide.sections
    )
    return (
        f'<section class="{kind}" data-timing="{seconds}">'
        f"<h2>{_inline(slide.title)}</h2>"
        f'<div class="body">{"".join(body)}</div>'
        f"<footer>{links}</footer>"
        f'<aside class="notes">{_notes(slide)}</aside></section>'
    )


def _blocks(part: str, pictures: _Pictures) -> tuple[list[tuple[str, str]], str]:
    """Split a part into its picture and its words, each with its class."""
    found: list[tuple[str, str]] = []
    shape = ""
    end = 0
    for match in PICTURE.finditer(part):
        if text := part[end : match.start()].strip():
            found.append(("words", _render(text)))
        html, shape = pictures.html(match)
        found.append(("picture", html))
        end = match.end()
    if text := part[end:].strip():
        found.append(("words", _render(text)))
    if "![" in PICTURE.sub("", part):
        raise LookupError(f"a picture has another form: {part!r}")
    return found, shape


def _notes(slide: Slide) -> str:
    """What the lecturer sees: the point, the script, and the answers."""
    parts = [
        f"**{section.title}**, {section.minutes} minutes: {section.point}."
        for section in slide.sections
    ]
    parts += [
        f"**Type** {typed}  \n**Ask** {ask}  \n**They will say** {hear}"
        for typed, ask, hear in slide.script
    ]
    text = "\n\n".join([*parts, *slide.questions])
    text = re.sub(r"^#+ (.+)$", r"**\1**", text, flags=re.M)
    text = re.sub(r"\{\w+\}`([^`<]+?)(?: <[^>]+>)?`", r"\1", text)
    return _render(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text))


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"typographer": True})
    made.enable(["table", "smartquotes"])
    return made.use(dollarmath_plugin, renderer=formula, double_inline=True)


_MARKDOWN = _markdown()


def _render(text: str) -> str:
    return str(_MARKDOWN.render(text))


def _inline(text: str) -> str:
    return str(_MARKDOWN.renderInline(text))


def words(markdown: str) -> list[str]:
    """The words that a slide shows: neither code, nor formulas, nor pictures.

    Example:
        >>> words("Two *words*, and `x * mask`: $p$.")
        ['Two', 'words', 'and']
    """

    def texts(tokens: Sequence[Token]) -> Iterator[str]:
        for token in tokens:
            if token.type == "text":
                yield token.content
            yield from texts(token.children or ())

    return re.findall(r"\w[\w’'.,-]*\w|\w", " ".join(texts(_MARKDOWN.parse(markdown))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.teach.slides",
        description="Write the slides of all chapters.",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="a folder to write")
    chosen = command.parse_args(arguments)
    try:
        for path in write_slides(Path.cwd(), chosen.out):
            print(f"wrote {path}")
    except (OSError, SlideError) as error:
        command.error(str(error))


if __name__ == "__main__":
    main()
