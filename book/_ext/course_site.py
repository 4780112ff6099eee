"""What the site needs beyond Jupyter Book: one address, drawings that follow the theme.

* ``REPOSITORY_URL`` in a Markdown page becomes the address in ``_config.yml``.
* A figure with ``:class: inline-svg`` is put into the page as SVG, not as an image, so
  that it takes its colours from the page in light and in dark mode.
* An error that a cell shows on purpose is reduced to its message. The lines above it
  name files of the machine that ran the notebook and tell the reader nothing.
* The plain edition of the notebooks is written into ``notebooks/`` of the site, and the
  buttons for Colab, Binder and download lead there.
* Faults of the stock theme that a screen reader stumbles over are mended.
"""

import inspect
import re
from html import escape
from pathlib import Path
from typing import Any, get_type_hints

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

from regdrop_lite.course.author.plain import Book, write_plain

TOKEN = "REPOSITORY_URL"
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
        opening = (
            f'<svg role="img" class="inline-svg" aria-label="{escape(image["alt"])}"'
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
        buttons = group.get("buttons", [])
        # The theme's own would open the source, with solutions, as text.
        buttons[:] = [b for b in buttons if b["text"] != ".ipynb"]
        for button in buttons:
            if button["text"] in leads:
                button["url"] = leads[button["text"]]
                button["icon"] = ""  # a picture that every page would load


def plain_download(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Tell the template "plain-download.html" where a page's notebook is."""
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
    for title in page.select("head title"):
        name, _, site = title.get_text().partition(" — ")
        if name == site:
            title.string = site
    for heading in page.select(".onlyprint h1"):
        heading.name = "p"  # the title a second time, for paper
    for bar in page.select("div.bd-sidebar-primary"):
        bar["role"], bar["aria-label"] = "region", "Sidebar"
    for summary in page.select(".bd-links summary"):
        above = summary.find_parent("li").find("a")
        summary["aria-label"] = f"Pages under {above.get_text(strip=True)}"
    # The name that is read out has to contain the text that is seen.
    for icon in page.select(".theme-switch-button i[title]"):
        del icon["title"]
    for button in page.select("button.search-button-field"):
        del button["title"], button["aria-label"], button["data-bs-toggle"]
    for summary in page.select("article summary[aria-label]"):
        del summary["aria-label"]
    # Lists that are none: parameters in a signature, entries of the bibliography.
    for part in page.select("dt.sig dl, dt.sig dd"):
        part["class"] = "sig-params" if part.name == "dl" else "sig-param-line"
        part.name = "div"
    for part in page.select(".citation-list, .citation"):
        del part["role"]
    for cell in page.select("th"):
        if not cell.contents:  # the corner of a table is no header
            cell.name = "td"
    return str(page)


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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", insert_address)
    app.connect("doctree-resolved", inline_drawings)
    app.connect("doctree-resolved", shorten_tracebacks)
    app.connect("autodoc-process-signature", plain_signature)
    # Before the theme leaves out templates that are empty, and behind the handlers
    # that make its buttons.
    app.connect("html-page-context", plain_download, priority=100)
    app.connect("html-page-context", plain_buttons, priority=900)
    app.connect("build-finished", write_notebooks)
    app.connect("build-finished", mend_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
