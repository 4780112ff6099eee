"""Figures that a notebook has stored as SVG stand in the page, not beside it.

Their letters are then those of the page, and what is grey in them follows light and
dark mode (``svg.plot`` in ``course.css``). A heavy one, which consists of pictures,
stays a file, loaded when it comes into view: the page's text would wait for it.
"""

import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from regdrop_lite.course.author.pictures import inside

HEAVY = 8_500  # bytes, compressed as a server sends them


class plot(nodes.General, nodes.Element):
    """A figure that stands in the page. It is no text: the search does not read it."""


def inline_plots(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the images that MyST-NB has written of a notebook's SVG."""
    if app.builder.format != "html":
        return
    number = 0
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir) / image["uri"]
        if path.suffix != ".svg" or "jupyter_execute" not in path.parts:
            continue
        svg = path.read_text(encoding="utf-8")
        if len(zlib.compress(svg.encode())) <= HEAVY:
            number += 1
            image.replace_self(
                plot(svg=inside(svg, image.get("alt", ""), f"f{number}"))
            )


def visit_plot(self: HTML5Translator, node: plot) -> None:
    """Write it."""
    self.body.append(f"{node['svg']}\n")


def depart_plot(self: HTML5Translator, node: plot) -> None:
    """Nothing is left to close."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(plot, html=(visit_plot, depart_plot))
    app.connect("doctree-resolved", inline_plots)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
