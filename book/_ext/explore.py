"""Interactive figures: a picture in the page, and a module that takes its place.

The directive ``explore`` is a figure with the name of a module of ``book/explore``::

    :::{explore} mask
    ---
    image: explore/mask.svg
    name: fig-mask
    alt: ...
    state: method=block&p=0.1
    ---
    The caption.
    :::

A figure that a cell of a notebook draws needs no second picture: with the option
``figure``, its name, the module takes the place of that one, and the directive itself
shows nothing.

The picture stands in the page, in print, in a notebook and where no script runs. In a
browser ``book/explore/mask.js`` replaces it and begins with ``state``; what it needs to
know is in ``book/explore/mask.json``, if there is such a file.

The modules are plain ES modules and run as they are from a server. Pages opened as
files are another matter: from ``file://`` browsers load neither modules nor JSON.
Therefore the modules are written as classic scripts, in which each puts into the
object ``explore`` what it exports and takes from there what it imports. Nothing else
changes, so that a reader finds the source in the browser. ``explore/explore.js`` has
what all of them share, and fetches the script of a figure when that comes near.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.errors import ExtensionError

SOURCE = Path(__file__).resolve().parents[1] / "explore"
FIRST, LAST = ("laws", "shared"), "mount"

IMPORT = re.compile(r'^import \{([^}]+)\} from "\./(\w+)\.js";$', flags=re.M)
DEFAULT = re.compile(r"^export default ", flags=re.M)
EXPORT = re.compile(
    r"^export ((?:async )?(?:function\*?|const|class) (\w+))", flags=re.M
)


class explore(nodes.General, nodes.Element):
    """The place of an interactive figure, around its picture."""


class Explore(Figure):
    """A figure whose picture gives way to a module of ``book/explore``."""

    option_spec: ClassVar[dict[str, Any]] = {
        **Figure.option_spec,
        "image": directives.unchanged_required,
        "figure": directives.unchanged_required,
        "state": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Make the figure, and put it into the module's place."""
        name = self.arguments[0].strip()
        if name not in modules():
            raise self.error(f"no module {name!r}: expected one of {modules()}")
        state = self.options.pop("state", "")
        if figure := self.options.pop("figure", None):
            return [explore(module=name, state=state, figure=figure)]
        for option in ("image", "name", "alt"):
            if not self.options.get(option):
                raise self.error(f"an interactive figure needs the option {option!r}")
        self.arguments[0] = self.options.pop("image")
        place = explore(module=name, state=state)
        place += super().run()
        return [place]


def modules() -> list[str]:
    """The interactive figures that there are."""
    return sorted({p.stem for p in SOURCE.glob("*.js")} - {*FIRST, LAST})


def classic(name: str, source: str) -> str:
    """Make a classic script of an ES module: what it exports goes into ``explore``.

    Raises:
        ExtensionError: an import or export is not of the few forms that are known.
    """
    exported = [match[2] for match in EXPORT.finditer(source)]
    source = EXPORT.sub(r"\1", source)
    source = IMPORT.sub(r"const {\1} = explore.\2;", source)
    source, defaults = DEFAULT.subn("const exported = ", source)
    if wrong := re.search(r"^(?:import|export)\b.*", source, flags=re.M):
        raise ExtensionError(f"{name}.js: cannot be made classic: {wrong[0]}")
    names = exported + ["default: exported"] * defaults
    return (
        "var explore = globalThis.explore ?? { data: {} };\n"
        f"explore.{name} = (() => {{\n{source}\nreturn {{ {', '.join(names)} }};\n"
        "})();\n"
    )


def write_scripts(app: Sphinx) -> None:
    """Write one script of what all figures share, with the style, and one for each."""
    if app.builder.format != "html":
        return
    out = Path(app.outdir) / "_static" / "explore"
    out.mkdir(parents=True, exist_ok=True)
    scripts = {}
    for name in (*FIRST, *modules(), LAST):
        path = SOURCE / f"{name}.js"
        scripts[name] = classic(name, path.read_text(encoding="utf-8"))
        data = path.with_suffix(".json")
        if data.exists():
            value = json.loads(data.read_text(encoding="utf-8"))
            packed = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            scripts[name] += f"explore.data.{name} = {packed};\n"
    # A browser that has kept an older script of a figure has to fetch the new one.
    version = hashlib.sha256("".join(scripts.values()).encode()).hexdigest()[:8]
    shared = "".join(scripts.pop(name) for name in (*FIRST, LAST))
    # The style comes with the script: one request less, and nobody else needs it.
    style = json.dumps((SOURCE / "explore.css").read_text(encoding="utf-8"))
    scripts["explore"] = (
        "document.querySelector('link[href*=\"course.css\"]').before(Object.assign("
        f"document.createElement('style'), {{ textContent: {style} }}));\n"
        f"{shared}explore.mount.mountAll(explore.mount.fetching("
        f'explore, document.currentScript.src, "{version}"), explore.data);\n'
    )
    for name, script in scripts.items():
        (out / f"{name}.js").write_text(script, encoding="utf-8", newline="\n")


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Name the scripts in the pages that have such figures, and in no other."""
    if doctree is None:
        return
    if next(doctree.findall(explore), None) is None:
        return
    app.add_js_file("explore/explore.js", loading_method="defer", priority=900)


def open_place(self: Any, node: explore) -> None:
    """Begin the place."""
    data = {
        f"data-{key}": node[name]
        for key, name in (
            ("explore", "module"),
            ("state", "state"),
            ("figure", "figure"),
        )
        if node.get(name)
    }
    self.body.append(self.starttag(node, "div", CLASS="explore", **data))


def close_place(self: Any, node: explore) -> None:
    """End the place."""
    self.body.append("</div>\n")


def nothing(self: Any, node: explore) -> None:
    """Leave the picture alone: no script runs there."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    still = (nothing, nothing)
    app.add_node(
        explore,
        html=(open_place, close_place),
        latex=still,
        text=still,
        man=still,
        texinfo=still,
        epub=still,
    )
    app.add_directive("explore", Explore)
    app.connect("builder-inited", write_scripts)
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
