"""The whole course as one file: a PDF or an EPUB, made of the built site.

Usage::

    python -m regdrop_lite.course.author.book pdf
    python -m regdrop_lite.course.author.book epub

Run in the repository's folder, both read ``_build/html``, in which the site has been
built, and write beside its pages, where the site's links look for them. Hints stand
open, solutions stay out, and in the place of an interactive figure stands its picture.
A PDF takes an installed Chromium or Chrome.
"""

import argparse
import mimetypes
import os
import posixpath
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from regdrop_lite import __version__
from regdrop_lite.course.extras import needs

with needs("author", "pikepdf, PyYAML, Beautiful Soup (bs4) or Playwright"):
    import pikepdf
    import yaml
    from bs4 import BeautifulSoup, Tag
    from playwright.sync_api import sync_playwright

__all__ = ["NAME", "Course", "Page", "main", "read_course", "write_epub", "write_pdf"]

NAME = "structured-dropout"  # of the files, before ".pdf" and ".epub"

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_NOT_IN_A_BOOK = (
    "script, button, .headerlink, .solution, .sd-summary-state-marker, "
    "summary .expanded"
)


@dataclass
class Page:
    """A page of the site.

    Attributes:
        name: its file below the site, without ``.html``.
        part: the caption of its part in the table of contents; "" for the first page.
        depth: 0 for a chapter, 1 for a page below it.
        article: its text, which writers change.
    """

    name: str
    part: str
    depth: int
    article: Tag

    @property
    def title(self) -> str:
        """The words of its heading."""
        heading = self.article.find("h1")
        return heading.get_text(" ", strip=True) if heading else self.name

    def __repr__(self) -> str:
        return f"Page({self.name!r}, {self.part!r}, depth={self.depth})"


@dataclass
class Course:
    """The pages of a built site in order, and what stands on the title page.

    Attributes:
        site: the folder of the built site.
        pages: all pages, in the order of the table of contents.
        styles: the style sheets that they ask for, as paths below the site.
        title, author, address: as in ``_config.yml``; the address is the site's.
    """

    site: Path
    pages: list[Page]
    styles: list[str]
    title: str
    author: str
    address: str


def _entries(toc: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Name, part and depth of each page of a table of contents."""
    yield toc["root"], "", 0
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            yield chapter["file"], part["caption"], 0
            for section in chapter.get("sections", []):
                yield section["file"], part["caption"], 1


def _below(name: str, address: str) -> str:
    """The path below the site of what a page names by an address of its own."""
    path = posixpath.join(posixpath.dirname(name), unquote(urlsplit(address).path))
    return posixpath.normpath(path)


def read_course(source: Path, site: Path) -> Course:
    """Read the pages of a built site.

    Args:
        source: the folder with ``_config.yml`` and ``_toc.yml``.
        site: the folder of the built site.

    Raises:
        FileNotFoundError: a page of the table of contents is not built.
    """
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    pages = []
    styles: dict[str, None] = {}  # a set in order
    for name, part, depth in _entries(toc):
        path = site / f"{name}.html"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is missing: build the site first, by "
                "jupyter-book build . -W -n --keep-going"
            )
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        article = page.find("article")
        assert isinstance(article, Tag)
        for other in article.select(_NOT_IN_A_BOOK):
            other.decompose()
        for words in article.select("summary .collapsed"):
            words.unwrap()
        for link in page.select("head link[rel~=stylesheet]"):
            styles[_below(name, str(link["href"]))] = None
        pages.append(Page(name, part, depth, article))
    base = config["html"]["baseurl"]
    title, author = config["title"], config["author"]
    return Course(site, pages, list(styles), title, author, base)


def _relink(course: Course, to: Callable[[Page, str, str], str]) -> None:
    """Set all links: ``to(page, name, anchor)`` leads from a page to another.

    What is no page of the book is linked on the site; an anchor that the book does not
    have is left out.
    """
    known = {
        p.name: {str(t["id"]) for t in p.article.select("[id]")} for p in course.pages
    }
    for page in course.pages:
        for link in page.article.select("a[href]"):
            parts = urlsplit(str(link["href"]))
            if parts.scheme or parts.netloc:
                continue
            path = _below(page.name, parts.path)
            name = path.removesuffix(".html") if parts.path else page.name
            name = course.pages[0].name if name == "index" else name
            anchor = parts.fragment.partition("?")[0]
            if name not in known:
                link["href"] = course.address + quote(path)
            else:
                link["href"] = to(page, name, anchor if anchor in known[name] else "")


def _contents(course: Course, to: Callable[[Page], str]) -> str:
    """The list of all pages, by parts."""
    rows, part, depth = [], None, 0
    for page in course.pages:
        if page.part != part:
            if part is not None:
                rows.append("</li></ol>" * (depth + 1) + "</li>")
            words = page.part or "First page"
            rows.append(f'<li><a href="{to(page)}">{escape(words)}</a><ol>')
        elif page.depth > depth:
            rows.append("<ol>")
        else:
            rows.append("</li>" + "</ol></li>" * (depth - page.depth))
        rows.append(f'<li><a href="{to(page)}">{escape(page.title)}</a>')
        part, depth = page.part, page.depth
    return "<ol>" + "".join(rows) + "</li></ol>" * (depth + 1) + "</li></ol>"


def _title_page(course: Course, picture: str) -> str:
    """Title, picture, authors, version and licence."""
    return (
        f'<section class="title-page"><h1>{escape(course.title)}</h1>'
        f'<p><img src="{picture}" alt="Four ways to drop: masks of element dropout, '
        'SpatialDropout, DropBlock and DropPath."/></p>'
        f"<p>{escape(course.author)}</p><p>Version {__version__.partition('+')[0]}</p>"
        f'<p>As a site, where pictures answer: <a href="{course.address}">'
        f"{escape(course.address)}</a></p>"
        '<p>Text and figures: <a href="https://creativecommons.org/licenses/by/4.0/">'
        "CC BY 4.0</a>. Code: MIT.</p></section>"
    )


# PDF: one page of HTML, printed by a browser.

# How one part of a drawing names another; a picture inside has an address of its own.
_PART = re.compile(r"(^#|url\(#)")


def _one_page(course: Course) -> str:
    """All pages as one, with the site's looks."""
    styles = "".join(
        f'<link rel="stylesheet" href="{quote(path)}"/>'
        for path in [*course.styles, "_static/pdf.css"]
    )

    def target(name: str, anchor: str = "") -> str:
        return f"{name.replace('/', '-')}--{anchor}" if anchor else name

    _relink(course, lambda page, name, anchor: f"#{target(name, anchor)}")
    body = ""
    for page in course.pages:
        for image in page.article.select("img[src]"):
            image["src"] = quote(_below(page.name, str(image["src"])))
        for element in page.article.find_all(True):
            for key in ("id", "for", "aria-describedby", "aria-labelledby"):
                if key in element.attrs:
                    element[key] = target(page.name, str(element[key]))
        prefix = f"{page.name.replace('/', '-')}--"
        for element in page.article.select("svg *:not(a)"):
            for key, value in element.attrs.items():
                if isinstance(value, str) and (key == "href" or "url(#" in value):
                    element[key] = _PART.sub(rf"\g<1>{prefix}", value)
        for fold in page.article.select("details"):
            fold["open"] = ""
        page.article["id"] = target(page.name)
        body += str(page.article)
    contents = _contents(course, lambda page: f"#{target(page.name)}")
    return (
        f'<!DOCTYPE html><html lang="en-GB" data-theme="light"><head>'
        f'<meta charset="utf-8"/><title>{escape(course.title)}</title>{styles}</head>'
        f'<body><main class="bd-main"><div class="bd-content">'
        f'<div class="bd-article-container">'
        f'<article class="bd-article">'
        f"{_title_page(course, '_static/one-idea-light.svg')}"
        f'<nav class="course-contents"><h1>Contents</h1>{contents}</nav></article>'
        f"{body}</div></div></main></body></html>"
    )


def write_pdf(course: Course, out: Path) -> None:
    """Print all pages into one PDF, with an outline and working links.

    Raises:
        FileNotFoundError: no Chromium or Chrome is installed.
    """
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(_BROWSERS)} is there")
    html = course.site / "whole-course.html"  # beside what it shows
    html.write_text(_one_page(course), encoding="utf-8")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=executable, chromium_sandbox=False
            )
            page = browser.new_page()
            page.goto(html.resolve().as_uri(), wait_until="load", timeout=120_000)
            page.pdf(
                path=out,
                format="A4",
                outline=True,
                tagged=True,
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template='<p style="font-size: 8pt; margin: 0 auto">'
                '<span class="pageNumber"></span></p>',
                margin={
                    "top": "18mm",
                    "bottom": "20mm",
                    "left": "20mm",
                    "right": "20mm",
                },
            )
            browser.close()
    finally:
        html.unlink()
    # The browser writes the tags for screen readers unpacked: half of the file.
    with pikepdf.open(out, allow_overwriting_input=True) as pdf:
        pdf.docinfo["/Author"] = course.author
        pdf.save(out, object_stream_mode=pikepdf.ObjectStreamMode.generate)


# EPUB: the pages as they are, in a format that allows less.

# HTML does not tell small letters from capitals in a drawing's names; XHTML does.
_CAMEL = {
    name.lower(): name
    for name in ("viewBox", "patternUnits", "clipPath", "clipPathUnits")
}
_FRAMED = ("displaystyle", "scriptlevel")
_NAMESPACES = {
    "svg": "http://www.w3.org/2000/svg",
    "math": "http://www.w3.org/1998/Math/MathML",
}
_CONTAINER = """\
<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles>
<rootfile full-path="EPUB/book.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""


def _strict(page: Page) -> None:
    """Make a page's text XHTML that readers of e-books know."""
    article = page.article
    for fold in article.select("details"):
        fold.name = "div"
        name = fold.get("id")
        fold.attrs.clear()
        fold["class"] = "fold"
        if name:
            fold["id"] = name
        summary = fold.find("summary")
        if isinstance(summary, Tag):
            summary.name = "p" if not summary.find(["p", "div"]) else "div"
            summary["class"] = "fold-title"
    for element in article.find_all(True):
        element.name = _CAMEL.get(element.name, element.name)
        for key in list(element.attrs):
            if key.startswith("data-"):
                del element[key]
            elif key in _CAMEL:
                element[_CAMEL[key]] = element.attrs.pop(key)
            elif key == "image-rendering":  # "pixelated" is newer than the format
                element["style"] = f"{key}: {element.attrs.pop(key)}"
        if element.name in _NAMESPACES:
            element["xmlns"] = _NAMESPACES[element.name]
        # MathML 3, which EPUB asks for, knows these as attributes of a frame alone.
        style = {key: element[key] for key in _FRAMED if key in element.attrs}
        if style and element.name not in ("math", "mstyle"):
            for key in style:
                del element[key]
            element.wrap(Tag(name="mstyle", attrs=style))
        # An exercise's body has the same name in each of them, which nothing links to.
        if element.get("id") == "exercise-content":
            del element["id"]


def _xhtml(title: str, style: str, body: str) -> str:
    """A page of an EPUB."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" '
        'xmlns:epub="http://www.idpf.org/2007/ops" lang="en-GB" xml:lang="en-GB">'
        f'<head><title>{escape(title)}</title><link rel="stylesheet" type="text/css" '
        f'href="{style}"/></head><body>{body}</body></html>\n'
    )


def write_epub(course: Course, out: Path) -> None:
    """Write all pages into an EPUB 3."""
    texts: dict[str, str] = {}  # by their path in the book
    images: set[str] = set()
    properties: dict[str, str] = {}

    def to(page: Page, name: str, anchor: str) -> str:
        path = posixpath.relpath(f"{name}.xhtml", posixpath.dirname(page.name))
        return f"{quote(path)}#{anchor}" if anchor else quote(path)

    _relink(course, to)
    for page in course.pages:
        _strict(page)
        folder = posixpath.dirname(page.name)
        for image in page.article.select("img[src]"):
            images.add(_below(page.name, str(image["src"])))
        path = f"{page.name}.xhtml"
        style = posixpath.relpath("_static/epub.css", folder)
        page.article.name = "main"
        page.article.attrs.clear()
        texts[path] = _xhtml(page.title, style, str(page.article))
        has = (("mathml", "math"), ("svg", "svg"))
        found = [name for name, tag in has if page.article.find(tag)]
        properties[path] = " ".join(found)
    images.add("_static/one-idea-light.svg")
    style = "_static/epub.css"
    front = _title_page(course, "_static/one-idea-light.svg")
    contents = _contents(course, lambda page: quote(f"{page.name}.xhtml"))
    nav = f'<nav epub:type="toc"><h1>Contents</h1>{contents}</nav>'
    texts = {
        "title.xhtml": _xhtml(course.title, style, front),
        "nav.xhtml": _xhtml("Contents", style, nav),
        **texts,
    }
    properties["nav.xhtml"] = "nav"
    package = _package(course, list(texts), sorted(images), properties)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as book:
        kind = "application/epub+zip"
        book.writestr("mimetype", kind, compress_type=zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", _CONTAINER)
        book.writestr("EPUB/book.opf", package)
        for path, text in texts.items():
            book.writestr(f"EPUB/{path}", text)
        for path in [style, *sorted(images)]:
            data = (course.site / path).read_bytes()
            if path.endswith(".svg"):  # "pixelated" is newer than the format, too
                data = re.sub(
                    rb'image-rendering="(\w+)"', rb'style="image-rendering: \1"', data
                )
            book.writestr(f"EPUB/{path}", data)


def _package(
    course: Course, texts: list[str], images: list[str], properties: dict[str, str]
) -> str:
    """What an EPUB consists of, and in which order it is read."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    names = {path: f"i{number}" for number, path in enumerate([*texts, *images])}
    items = '<item id="style" href="_static/epub.css" media-type="text/css"/>\n'
    for path, name in names.items():
        kind = mimetypes.guess_type(path)[0]
        kind = "application/xhtml+xml" if path in texts else kind
        more = f' properties="{properties[path]}"' if properties.get(path) else ""
        items += f'<item id="{name}" href="{quote(path)}" media-type="{kind}"{more}/>\n'
    spine = "".join(f'<itemref idref="{names[path]}"/>\n' for path in texts)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        'unique-identifier="id" xml:lang="en-GB">\n'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
        f'<dc:identifier id="id">urn:uuid:{uuid5(NAMESPACE_URL, course.address)}'
        f"</dc:identifier>\n<dc:title>{escape(course.title)}</dc:title>\n"
        f"<dc:creator>{escape(course.author)}</dc:creator>\n"
        "<dc:language>en-GB</dc:language>\n"
        f"<dc:source>{escape(course.address)}</dc:source>\n"
        "<dc:rights>Text and figures: CC BY 4.0. Code: MIT.</dc:rights>\n"
        f'<meta property="dcterms:modified">{now:%Y-%m-%dT%H:%M:%SZ}</meta>\n'
        f"</metadata>\n<manifest>\n{items}</manifest>\n<spine>\n{spine}</spine>\n"
        "</package>\n"
    )


_WRITERS = {"pdf": write_pdf, "epub": write_epub}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Make one file of the built site.")
    parser.add_argument("format", choices=_WRITERS)
    site = Path("_build", "html")
    parser.add_argument("--site", type=Path, default=site, help=f"by default {site}")
    parser.add_argument("--out", type=Path, help="by default in the site's folder")
    given = parser.parse_args(arguments)
    out = given.out or given.site / f"{NAME}.{given.format}"
    _WRITERS[given.format](read_course(Path(), given.site), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
