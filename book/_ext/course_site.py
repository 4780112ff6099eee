"""What the site needs beyond Jupyter Book: one address, drawings that follow the theme.

* ``REPOSITORY_URL`` in a Markdown page becomes the address in ``_config.yml``.
* A figure with ``:class: inline-svg`` is put into the page as SVG, not as an image, so
  that it takes its colours from the page in light and in dark mode.
* An error that a cell shows on purpose is reduced to its message. The lines above it
  name files of the machine that ran the notebook and tell the reader nothing.
* Exercises and solutions are titled by their task, and a solution is folded; so are the
  objectives of a chapter, which opens with its question, and the command for a copy.
* A number stays on one line with its per cent sign, and with "×" and another number.
* A page says what it is about, for searches and links.
* The plain edition of the notebooks is written into ``notebooks/`` of the site, and the
  buttons for Colab, Binder and download lead there.
* What no template or option reaches, and a screen reader stumbles over, is mended;
  lines of code and rows of tables get what a phone needs to lay them out.
"""

import inspect
import re
from html import escape, unescape
from pathlib import Path
from textwrap import shorten
from typing import Any, get_type_hints
from urllib.parse import urlparse

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.autodoc import DataDocumenter
from sphinx.search.en import SearchEnglish
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.inspect import object_description, stringify_signature
from sphinx.writers.html5 import HTML5Translator
from sphinx_design.shared import create_component
from sphinx_exercise.nodes import exercise_node, solution_node

from regdrop_lite.course.author.plain import Book, write_plain

TOKEN = "REPOSITORY_URL"
LONGEST_LINE = 40  # of code, in characters, that a phone shows
LONGEST_ROW = 70  # of a table of four columns or more
LONGEST_NAME = 14  # in a table, that stays in one line
LONGEST_PART = 24  # so, too: of code, between brackets, commas and blanks
SHORT = 9  # characters of a cell; a table of such ones is no wider than they need
DATA_TABLES = ["timetable", "tag_decisions", "tag_recipes"]  # with looks of their own
OBJECTIVES = "What you will be able to do"
NUMBER = re.compile(r"\d\.\d+")  # of an objective
PER_CENT = re.compile(r"(?<=\d) ?%(?!\w)|^ %(?!\w)")  # or after another node
TIMES = re.compile(r"(?<=\d) × (?=\d)")
ERROR = re.compile(r"^[A-Za-z_.]*(Error|Exception|Warning|Interrupt)\b", flags=re.M)


def insert_address(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the repository's address where a page has the token."""
    if TOKEN in source[0] and str(app.env.doc2path(docname)).endswith(".md"):
        address = app.config.html_theme_options["repository_url"]
        source[0] = source[0].replace(TOKEN, address)


def inline_drawings(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace images of the class "inline-svg" by their source."""
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        if "inline-svg" not in image["classes"]:
            continue
        svg = (Path(app.srcdir) / image["uri"]).read_text(encoding="utf-8")
        role = "document" if "<a " in svg else "img"  # an image has no links
        # Data for a script are no words for the search.
        svg = re.sub(r"<(/?)metadata>", r"<\1script>", svg)
        svg = svg.replace("<script>", '<script type="application/json">')
        opening = (
            f'<svg role="{role}" class="inline-svg" aria-label="{escape(image["alt"])}"'
        )
        image.replace_self(
            nodes.raw("", svg.replace("<svg", opening, 1), format="html")
        )


def shorten_tracebacks(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Leave of a traceback the error's name and message."""
    for block in list(doctree.findall(nodes.literal_block)):
        if "traceback" in block["classes"]:
            last = list(ERROR.finditer(block.astext()))[-1]
            text = block.astext()[last.start() :]
            block.replace_self(
                nodes.literal_block(
                    text, text, language="none", classes=block["classes"]
                )
            )


class TitleExercises(SphinxPostTransform):
    """Title an exercise by its task, the heading above it, and fold its solution."""

    default_priority = 100  # sphinx_exercise has done its part, sphinx_design has not
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Go over the page's exercises and solutions, in order."""
        kinds = exercise_node | solution_node
        task = ""
        for node in list(self.document.findall(lambda n: isinstance(n, kinds))):
            if isinstance(node, exercise_node):
                section = node.parent
                while not isinstance(section, nodes.section):
                    section = section.parent
                number, _, words = section[0].astext().partition(". ")
                task = f"{number}: {words}" if number.isdigit() else number
                node[0].replace_self(nodes.title("", f"Exercise {task}"))
            else:
                title = f"Solution {task}"
                body = node.children[1:]
                node.replace_self(fold(title, body, "solution", ids=node["ids"]))


class FoldObjectives(SphinxPostTransform):
    """Fold the box of objectives, so that a chapter opens with its question.

    Their numbers are for teachers: a page has them in its source, the guide shows them.
    """

    default_priority = 100  # sphinx_design turns the fold into a card later
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Look for the box that every chapter has below its title."""
        for box in list(self.document.findall(nodes.admonition)):
            title = box[0].astext() if isinstance(box[0], nodes.title) else ""
            if title == OBJECTIVES:
                for strong in list(box.findall(nodes.strong)):
                    if NUMBER.fullmatch(strong.astext()):
                        item = strong.parent
                        item.remove(strong)
                        item[0] = nodes.Text(item[0].lstrip())
                words = f"{title}, and how long it takes"
                box.parent.replace(box, fold(words, box[1:]))


class FoldCommand(SphinxPostTransform):
    """Fold what exercises say to those at a computer, so that they open with a task."""

    default_priority = 100  # as above
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Look for the sentence before a command for the shell."""
        if not self.env.docname.startswith("book/exercises/"):
            return
        for block in list(self.document.findall(nodes.literal_block)):
            place = block.parent.index(block)
            before = block.parent[place - 1] if place else None
            if block["language"] == "bash" and isinstance(before, nodes.paragraph):
                parent = block.parent
                parent[place - 1 : place + 1] = [fold("On a computer", [before, block])]


class KeepTogether(SphinxPostTransform):
    """Let no line end between a number and what belongs to it."""

    default_priority = 950  # what reads the text has read it
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Look at all text that is neither code nor a formula."""
        apart = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block)
        for text in list(self.document.findall(nodes.Text)):
            node = text.parent
            while node is not None and not isinstance(node, (*apart, nodes.raw)):
                node = node.parent
            if node is None and (new := keep_together(text)) != text:
                text.parent.replace(text, nodes.Text(new))


def keep_together(text: str) -> str:
    """The text with blanks that do not break.

    >>> keep_together("25% or 3 % of 7 × 7")
    '25\\xa0% or 3\\xa0% of 7\\xa0×\\xa07'
    """
    return TIMES.sub("\xa0×\xa0", PER_CENT.sub("\xa0%", text))


def fold(title: str, body: list[nodes.Node], kind: str = "", **options: Any) -> Any:
    """A closed dropdown of sphinx_design; ``options`` are those of its title."""
    classes = [kind] if kind else []
    dropdown = create_component(
        "dropdown",
        classes=classes,
        opened=False,
        type="dropdown",
        has_title=True,
        icon=None,
        chevron=None,
        container_classes=classes,
        title_classes=[],
        body_classes=[],
    )
    dropdown += [nodes.rubric("", title, **options), *body]
    return dropdown


def describe(doctree: nodes.document) -> str:
    """The first paragraph that is text, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if isinstance(paragraph.parent, nodes.section) and len(text) > 60:
            return shorten(text, 180, placeholder=" …")
    return ""


def add_description(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """What the template "layout.html" says of a page to those who link to it."""
    if doctree is not None:
        texts = app.config.html_context["descriptions"]
        context["description"] = texts.get(page) or describe(doctree)
        # Whoever shows a link elsewhere needs the whole address of its picture.
        context["card"] = f"{app.config.html_baseurl}_static/card.png"
    # The path below which the site is served, for the page "404" that has no place.
    context["html_root"] = urlparse(app.config.html_baseurl).path
    context["html_base"] = app.config.html_baseurl


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    """Name all pages to search engines."""
    if exception is None and app.builder.name == "html":
        base = app.config.html_baseurl
        pages = [f"{base}{page}.html" for page in sorted(app.env.found_docs)]
        urls = "".join(f"<url><loc>{page}</loc></url>\n" for page in pages)
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
            f"{urls}</urlset>\n"
        )
        path = Path(app.outdir) / "sitemap.xml"
        path.write_text(text, encoding="utf-8", newline="\n")


class Questions(SearchEnglish):
    """English, where the words of a question are no search terms."""

    stopwords = SearchEnglish.stopwords | {
        *("can", "could", "do", "does", "how", "i", "me", "my", "should", "use"),
        *("between", "get", "much", "need", "than", "versus", "vs", "want", "would"),
        *("what", "when", "where", "which", "why", "you"),
    }


def visit_entry(self: HTML5Translator, node: nodes.entry) -> None:
    """The empty corner of a table is no header."""
    if isinstance(node.parent.parent, nodes.thead) and not node.astext():
        node.parent.column += 1
        self.body.append("<td>")
        self.context.append("</td>\n")
    else:
        HTML5Translator.visit_entry(self, node)


def depart_entry(self: HTML5Translator, node: nodes.entry) -> None:
    """Close what was opened."""
    self.body.append(self.context.pop())


def plain_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Let the buttons of a notebook's page lead to its plain edition."""
    if doctree is None or not str(app.env.doc2path(page)).endswith(".ipynb"):
        return
    name = page.removeprefix("book/") + ".ipynb"
    address = app.config.html_theme_options["repository_url"]
    repository = "/".join(address.rsplit("/", 2)[-2:])
    leads = {
        # A branch that the workflow "notebooks" fills: Colab opens files on GitHub.
        "Colab": "https://colab.research.google.com/github/"
        f"{repository}/blob/notebooks/{name}",
        # .binder/postBuild writes the same files there.
        "Binder": f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/"
        f"notebooks/{name}",
    }
    for group in context["header_buttons"]:
        for button in group.get("buttons", []):
            if button["text"] in leads:
                button["url"] = leads[button["text"]]
                button["icon"] = ""  # a picture that every page would load


def plain_download(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Tell the template "download-menu.html" where a page's notebook is."""
    if doctree is not None and str(app.env.doc2path(page)).endswith(".ipynb"):
        name = page.removeprefix("book/") + ".ipynb"
        url = f"{context['pathto']('notebooks', 1)}/{name}"
        context["plain_notebook"] = {"url": url, "name": Path(name).name}


def write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Write the plain edition beside the pages."""
    if exception is None and app.builder.name == "html":
        book = Book.read(Path(app.srcdir))
        write_plain(book, Path(app.outdir) / "notebooks", force=True)


def mend(html: str) -> str:
    """Mend a page: faults of the theme that readers or their tools stumble over."""
    page = BeautifulSoup(html, "html.parser")
    for summary in page.select("article summary[aria-label]"):
        del summary["aria-label"]
    # Lists that are none: parameters in a signature, entries of the bibliography.
    for part in page.select("dt.sig dl, dt.sig dd"):
        part["class"] = "sig-params" if part.name == "dl" else "sig-param-line"
        part.name = "div"
    for part in page.select(".citation-list, .citation"):
        del part["role"]
    for table in page.select("article .pst-scrollable-table-container > table"):
        sort_table(table)
    for name in page.select("article :is(td, th) code .pre"):
        offer_breaks(page, name)
    for block in page.select("article .highlight > pre"):
        mark_lines(block)
    for output in page.select("details.solution + .cell > .cell_output"):
        fold_check(page, output)
    return str(page)


def fold_check(page: BeautifulSoup, output: Tag) -> None:
    """Hide what a check printed of the solution, as the solution is, and say so."""
    part = page.new_tag("details", attrs={"class": "solution check-result"})
    summary = page.new_tag("summary")
    summary.string = "What it prints for the solution"
    output.wrap(part)
    part.insert(0, summary)


def sort_table(table: Tag) -> None:
    """Say what a table becomes on a phone: upright heads, or a card for each row."""
    heads = [cell.get_text(" ", strip=True) for cell in table.select("thead tr > *")]
    rows = [row.find_all(["td", "th"]) for row in table.select("tbody tr")]
    texts = [[cell.get_text(" ", strip=True) for cell in row] for row in rows]
    sorted_before = {"marks", "short", "stack"} & {*table["class"]}  # by another build
    if sorted_before or len(heads) < 3 or table.find_parent(class_=DATA_TABLES):
        return
    if table.select_one("thead .math"):  # a label is text, and no formula
        return
    longest = max(len(text) for row in texts for text in row)
    if max(len(text) for row in texts for text in row[1:]) <= 2:
        table["class"] = [*table["class"], "marks"]
    elif longest <= SHORT and max(map(len, heads)) <= SHORT:
        table["class"] = [*table["class"], "short"]
    elif longest > 40 or (len(heads) > 3 and max(map(width, texts)) > LONGEST_ROW):
        table["class"] = [*table["class"], "stack"]
        table["role"] = "table"
        for row in table.select("tr"):
            row["role"] = "row"
        for head in table.select("thead :is(td, th)"):
            head["role"] = "columnheader" if head.get_text(strip=True) else "cell"
        for row in rows:
            for cell, head in zip(row, heads, strict=False):
                cell["role"] = "cell"
                if head:
                    cell["data-label"] = head


def width(row: list[str]) -> int:
    """The characters of a row."""
    return sum(map(len, row))


def offer_breaks(page: BeautifulSoup, name: Tag) -> None:
    """Say where a long name in a table may break: after what joins its parts."""
    parts = re.findall(r"[^._(,=/]*[._(,=/]+|[^._(,=/]+", name.get_text())
    if len(name.get_text()) <= LONGEST_NAME or name.find(True):
        return
    name.clear()
    for k, part in enumerate(parts):
        if k:
            name.append(page.new_tag("wbr"))
        name.append(part)


JOINT = r'(<span class="[op]">[^<]*[.(\[,=]</span>)'  # in code: what joins its parts


def offer_joints(line: str) -> str:
    """Let a line of code break where its parts join, not within a word.

    After a bracket or a comma at once; after a dot or "=" only in a name that would
    else be too long.
    """
    pieces = re.split(JOINT, line)
    plain = [unescape(re.sub("<[^>]*>", "", piece)) for piece in pieces]
    html = pieces[0]
    for k in range(1, len(pieces), 2):
        before = re.split(r"[\s(\[,]", "".join(plain[:k]))[-1]
        after = re.split(r"[\s(\[,]", "".join(plain[k + 1 :]))[0]
        free = plain[k][-1] in "([," or len(before + plain[k] + after) > LONGEST_PART
        follows = re.match(r"\S", "".join(pieces[k + 1 :]))
        html += pieces[k] + ("<wbr>" if free and follows else "") + pieces[k + 1]
    return html


def mark_lines(block: Tag) -> None:
    """Put each line of long code into a span that knows by how much it is indented."""
    if block.select_one(".code-line"):  # by another build
        return
    lines = block.decode_contents().removeprefix("<span></span>").split("\n")
    plain = [unescape(re.sub("<[^>]*>", "", line)) for line in lines]
    whole = all(line.count("<span") == line.count("</span>") for line in lines)
    if not whole or max(map(len, plain)) <= LONGEST_LINE:
        return
    ends = [*["\n"] * (len(lines) - 1), ""]
    html = "<pre>"  # without it the parser would shorten blanks
    for line, text, end in zip(lines, plain, ends, strict=True):
        deep = len(text) - len(text.lstrip())
        style = f' style="--in:{deep}"' if deep else ""
        # Inside the span a newline makes a blank line as high as the others.
        inner, outer = ("", end) if text.strip() else (end, "")
        line = offer_joints(line)
        if line or end:
            html += f'<span class="code-line"{style}>{line}{inner}</span>{outer}'
    block.clear()
    block.extend(BeautifulSoup(f"{html}</pre>", "html.parser").pre.contents[:])


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    """Go over the written pages."""
    if exception or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        if "_static" not in path.parts:
            html = path.read_text(encoding="utf-8")
            path.write_text(mend(html), encoding="utf-8", newline="\n")


def plain_signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    *_: Any,
) -> tuple[str | None, None] | None:
    """Write what a reader needs: plain types, and ``...`` for a default that is made.

    What checks a value stands inside its type, and Sphinx would print all of it.
    """
    if what == "class" and hasattr(obj, "__pydantic_fields__"):
        hints = get_type_hints(obj)  # without what ``Annotated`` adds
        plain = inspect.signature(obj)
        parameters = [
            p.replace(annotation=hints[name]) for name, p in plain.parameters.items()
        ]
        plain = plain.replace(parameters=parameters, return_annotation=plain.empty)
        return stringify_signature(plain, unqualified_typehints=True), None
    if signature and "<factory>" in signature:
        return signature.replace("<factory>", "..."), None
    return None


class ShortData(DataDocumenter):
    """Of a constant, a value that is longer than a line is left to the source."""

    def should_suppress_value_header(self) -> bool:
        """No dictionary of tuples in a heading, and no address of a function."""
        long = len(object_description(self.object)) > 72
        return long or super().should_suppress_value_header()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_autodocumenter(ShortData, override=True)
    app.connect("source-read", insert_address)
    app.connect("doctree-resolved", inline_drawings)
    app.connect("doctree-resolved", shorten_tracebacks)
    app.add_post_transform(TitleExercises)
    app.add_post_transform(FoldObjectives)
    app.add_post_transform(FoldCommand)
    app.add_post_transform(KeepTogether)
    app.connect("autodoc-process-signature", plain_signature)
    # Before the theme leaves out templates that are empty, and after the handlers
    # that make its buttons.
    app.connect("html-page-context", plain_download, priority=100)
    app.connect("html-page-context", plain_buttons, priority=900)
    app.connect("html-page-context", add_description)
    app.add_search_language(Questions)
    app.add_node(nodes.entry, override=True, html=(visit_entry, depart_entry))
    app.connect("build-finished", write_sitemap)
    app.connect("build-finished", write_notebooks)
    app.connect("build-finished", mend_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
