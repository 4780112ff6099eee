"""What a page loads: what it uses, images when they come into view."""

import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.images import get_image_size
from sphinx.writers.html5 import HTML5Translator

# A file that an extension puts into every page, and what it is for.
USES = {
    "clipboard": "highlight",
    "copybutton": "highlight",
    "decide": "walk",
    "design-tabs": "sd-tab-",
    "doctools": "search",
    "exercise": "exercise",
    "mystnb": "cell",
    "sphinx-design": "sd-",
    "sphinx_highlight": "search",
}
# Scripts that wait for the whole page anyway: its drawing need not wait for them.
DEFERRED = ("clipboard", "copybutton", "sphinx-book-theme")
VIEW = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


def leave_out_what_is_not_used(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take files off a page without the classes that they are for."""
    if page == "search":  # its script needs the others
        return
    classes = set()
    for names in re.findall(r'class="([^"]*)"', context.get("body", "")):
        classes.update(names.split())
    for kind in ("css_files", "script_files"):
        context[kind] = [
            file
            for file in context[kind]
            if all(
                any(name.startswith(use) for name in classes)
                for start, use in USES.items()
                if posixpath.basename(str(file.filename or "")).startswith(start)
            )
        ]
    for file in context["script_files"]:
        if posixpath.basename(str(file.filename or "")).startswith(DEFERRED):
            file.attributes["defer"] = "defer"


def find_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image in pixels, where its file tells them."""
    if path.suffix == ".svg":
        text = path.read_text(encoding="utf-8")[:1000]
        scale = 4 / 3 if 'pt"' in text.partition(">")[0] else 1  # pixels of a point
        if box := VIEW.search(text):
            return round(scale * float(box[1])), round(scale * float(box[2]))
        return None
    return get_image_size(str(path))


def visit_image(self: HTML5Translator, node: nodes.image) -> None:
    """Load an image when it comes into view; its place is kept free until then."""
    size = find_size(Path(self.builder.srcdir) / node["uri"])
    if size is None:
        HTML5Translator.visit_image(self, node)
        return
    name = quote(self.builder.images[node["uri"]])
    source = posixpath.join(self.builder.imgpath, name)
    width, height = map(str, size)
    attributes = {"src": source, "alt": node["alt"], "width": width, "height": height}
    self.body.append(self.emptytag(node, "img", "\n", loading="lazy", **attributes))


def depart_image(self: HTML5Translator, node: nodes.image) -> None:
    """Nothing is left to close."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_node(nodes.image, override=True, html=(visit_image, depart_image))
    # After all handlers that add files.
    app.connect("html-page-context", leave_out_what_is_not_used, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
