"""A figure as SVG: small, the same on every run, its text as text.

What Matplotlib writes names its fonts and numbers its parts at length, down to
millionths of a point, and lays out every text in a font that a reader may not have.
Here a figure is saved so that its text keeps its place in any font, its parts have
short names in their order, and nothing in it tells when and where it was drawn.
"""

import base64
import io
import re
from collections.abc import Iterator
from math import cos, radians, sin
from typing import Any
from xml.etree import ElementTree as ET

from regdrop_lite.course.extras import needs

with needs("course", "Matplotlib"):
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.artist import Artist
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.lines import Line2D
    from matplotlib.textpath import text_to_path
    from PIL import Image

FONTS = "DejaVu Sans, Verdana, sans-serif"
SMALLEST = 9.3  # letters of a formula, in points
MANY = 1500  # marks, from which on they are drawn as one picture

_SETTINGS: Any = {  # the stubs name every key of Matplotlib
    "svg.fonttype": "none",
    "svg.hashsalt": "course",
    "image.composite_image": False,  # each of its own, as small as its array
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_SPACE = "{http://www.w3.org/2000/svg}"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
_NAMED = re.compile(r"#([\w-]+)")
_BREAK = re.compile(r">(?=<(?!tspan|/text))")
_MOVED = re.compile(r"translate\((\S+) (\S+)\)(?: rotate\((\S+)\))?")
_COMMAND = re.compile(r"\s*([A-Za-z])\s*")
_TURNED = re.compile(r"rotate\((\S+) \S+ \S+\)")


def to_svg(figure: Figure) -> str:
    """Give a figure as SVG.

    Args:
        figure: it is cut to what is drawn on it. Where a series has very many marks,
            they become a picture inside.

    Returns:
        An element ``svg`` with a ``viewBox``, its size in points, and no names of fonts
        apart from those of the whole.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from regdrop_lite.course.svg import to_svg
        >>> figure = Figure(figsize=(2, 1))
        >>> _ = figure.text(0.5, 0.5, "kept")
        >>> "kept</text>" in to_svg(figure)
        True
    """
    crowded = [artist for artist in figure.findobj(_is_crowded)]
    before = [artist.get_rasterized() for artist in crowded]
    for artist in crowded:
        artist.set_rasterized(True)
    written = io.StringIO()
    with rc_context(_SETTINGS):
        figure.savefig(
            written,
            format="svg",
            bbox_inches="tight",
            dpi=figure.dpi,
            metadata=_NO_METADATA,
        )
    for artist, raster in zip(crowded, before, strict=True):
        artist.set_rasterized(raster)
    root = ET.fromstring(written.getvalue())
    _clean(root)
    # One line for each part; between the runs of a formula it would be a blank.
    return _BREAK.sub(">\n", ET.tostring(root, encoding="unicode")) + "\n"


def _is_crowded(artist: Artist) -> bool:
    if isinstance(artist, PathCollection):
        return len(np.asarray(artist.get_offsets())) > MANY
    if isinstance(artist, Line2D):
        marked = artist.get_marker() not in ("", " ", "None", "none", None)
        return marked and np.size(artist.get_xdata()) > MANY
    return False


def _clean(root: ET.Element) -> None:
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SPACE)
        for key in list(element.attrib):
            if key.startswith("{"):  # xlink:href
                value = "".join(element.attrib.pop(key).split())
                element.set(key.partition("}")[2], _small(value))
        element.text = (element.text or "").strip() or None
        element.tail = None
    size = {key: _shorter(root.get(key, "")) for key in ("width", "height", "viewBox")}
    root.attrib.clear()
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", **size}
    # What a style sheet says of all elements, which would reach others of a page.
    root.attrib |= {"font-family": FONTS, "stroke-linejoin": "round"}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style") or _unseen(parent, child):
                parent.remove(child)
    for group in root.iter("g"):
        _anchor([text for text in group if text.tag == "text"])
        _set_formula(group)
    for element in root.iter():
        _plain(element)
    _unwrap(root)
    _name(root)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "d":
                element.set(key, _COMMAND.sub(r"\1", _shorter(value)).strip())
            elif key not in ("href", "id", "font-family"):
                element.set(key, _shorter(value))


def _small(address: str) -> str:
    """Write a picture inside with as few bytes as hold the same colours."""
    kind, _, code = address.partition(",")
    if kind != "data:image/png;base64":
        return address
    image = Image.open(io.BytesIO(base64.b64decode(code))).convert("RGBA")
    pixels = np.asarray(image)
    forms: list[tuple[Image.Image, dict[str, bytes]]] = [(image, {})]
    if (pixels[..., 3] == 255).all():
        forms = [(image.convert("RGB"), {})]
        if (pixels[..., :3] == pixels[..., :1]).all():
            forms.append((image.convert("L"), {}))
    colours, order = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) <= 256:
        numbers = order.reshape(pixels.shape[:2]).astype(np.uint8)
        indexed = Image.fromarray(numbers, "P")
        indexed.putpalette(colours[:, :3].ravel().tolist())
        seen = (colours[:, 3] == 255).all()
        forms.append((indexed, {} if seen else {"transparency": bytes(colours[:, 3])}))
    packed = []
    for form, more in forms:
        written = io.BytesIO()
        form.save(written, "png", optimize=True, **more)
        packed.append(written.getvalue())
    return f"{kind},{base64.b64encode(min(packed, key=len)).decode()}"


def _shorter(value: str) -> str:
    """Round to hundredths of a point: no eye and no other machine tells more."""
    return _NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)


def _style(element: ET.Element) -> dict[str, str]:
    parts = (part.partition(":") for part in element.get("style", "").split(";"))
    return {key.strip(): value.strip() for key, _, value in parts if value}


def _unseen(parent: ET.Element, child: ET.Element) -> bool:
    """A path without line or filling, where its shape is no clip or mark."""
    style = _style(child)
    return (
        child.tag == "path"
        and parent.tag == "g"
        and "id" not in child.attrib
        and style.get("fill") == "none"
        and style.get("stroke", "none") == "none"
    )


def _place(text: ET.Element) -> tuple[float, float, float]:
    """Where a text begins, and by how many degrees it is turned."""
    if found := _MOVED.search(text.get("transform", "")):
        return float(found[1]), float(found[2]), float(found[3] or 0)
    turned = _TURNED.search(text.get("transform", ""))
    x, y = float(text.get("x", 0)), float(text.get("y", 0))
    return x, y, float(turned[1]) if turned else 0.0


def _width(text: ET.Element) -> float:
    style = _style(text)
    font = FontProperties(
        size=float(style["font-size"].removesuffix("px")),
        weight=int(style.get("font-weight", 400)),
    )
    words = text.text or ""
    return float(text_to_path.get_text_width_height_descent(words, font, False)[0])


def _anchor(texts: list[ET.Element]) -> None:
    """Say of lines of a text, or of a turned one, at which end they are held.

    Matplotlib writes where each begins in its own font; in a narrower one, lines below
    each other would not be centred any more, and a turned text would stand too low.
    """
    free = [text for text in texts if "translate" in text.get("transform", "")]
    if not free or len(free) != len(texts):
        return
    placed = [_place(text) for text in free]
    widths = [_width(text) for text in free]
    turn = radians(placed[0][2])
    starts = [x * cos(turn) + y * sin(turn) for x, y, _ in placed]
    sides = {"start": 0.0, "middle": 0.5, "end": 1.0}
    held = "middle"
    if len(free) > 1:

        def spread(side: str) -> float:
            at = [s + sides[side] * w for s, w in zip(starts, widths, strict=True)]
            return max(at) - min(at)

        held = min(sides, key=spread)
    for text, (x, y, degrees), width in zip(free, placed, widths, strict=True):
        along = sides[held] * width
        x, y = x + along * cos(turn), y + along * sin(turn)
        text.set("x", str(x))
        text.set("y", str(y))
        text.set("transform", f"rotate({degrees} {x} {y})")
        text.set("style", f"{text.get('style', '')}; text-anchor: {held}")


def _plain(element: ET.Element) -> None:
    """Write looks as attributes: a style sheet of a page can change those."""
    style = _style(element)
    element.attrib.pop("style", None)
    style.pop("font-family", None)
    if element.tag == "tspan":
        style.pop("fill", None)  # its text has that
    if style.get("text-anchor") == "start":
        del style["text-anchor"]
    if element.tag == "text" and not _place(element)[2]:
        element.attrib.pop("transform", None)
    for key, value in style.items():
        element.set(key, value.removesuffix("px") if key == "font-size" else value)


def _set_formula(group: ET.Element) -> None:
    """Join the letters of a formula: what stands on one line in one type is one run.

    Matplotlib places each letter as its own font has it.
    """
    text = next((child for child in group if child.tag == "text"), None)
    if text is None or not len(text) or "transform" not in group.attrib:
        return
    letters = sorted(text, key=lambda part: float(part.get("x", 0)))
    for letter in letters:  # an exponent is to be read on a phone
        style = {"font-size": "10px", **_style(letter)}
        size = max(float(style["font-size"].removesuffix("px")), SMALLEST)
        style["font-size"] = f"{size}px"
        letter.set("style", "; ".join(f"{k}: {v}" for k, v in style.items()))
    widths = [_width(part) for part in letters]
    end = 0.0
    runs: list[ET.Element] = []
    for letter, width in zip(letters, widths, strict=True):
        start = float(letter.get("x", 0))
        gap = start - end if runs else 0.0
        blank = " " if gap > 2.4 else "\N{THIN SPACE}" if gap > 0.8 else ""
        end = start + width
        words = blank + (letter.text or "").replace("\xa0", " ")
        looks = {"y": letter.get("y", "0"), "style": letter.get("style", "")}
        if runs and runs[-1].attrib == looks:
            runs[-1].text = (runs[-1].text or "") + words
        else:
            runs.append(ET.Element("tspan", looks))
            runs[-1].text = words
    above = 0.0  # where the run before stands
    for run in runs:
        line = float(run.attrib.pop("y"))
        if abs(line - above) > 0.005:
            run.set("dy", str(line - above))
        above = line
    text[:] = runs
    x, y, degrees = _place(group)
    turn = radians(degrees)
    moved, ink = group.attrib.pop("transform"), group.attrib.pop("style", "")
    for part in group:  # the bar of a fraction
        part.attrib |= {"transform": moved, "style": ink}
    x, y = x + end / 2 * cos(turn), y + end / 2 * sin(turn)
    text.attrib |= {"x": str(x), "y": str(y), "transform": f"rotate({degrees} {x} {y})"}
    text.set("style", f"{ink}; text-anchor: middle")


def _children(element: ET.Element) -> Iterator[ET.Element]:
    for child in element:
        if child.tag in ("g", "defs") and not len(child):
            continue
        if child.tag == "g" and set(child.attrib) <= {"id"}:
            yield from _children(child)
        else:
            yield child


def _unwrap(root: ET.Element) -> None:
    """Leave out groups that only have a name, and empty ones."""
    for element in root:
        _unwrap(element)
    root[:] = list(_children(root))


def _name(root: ET.Element) -> None:
    """Number the parts that others refer to; other names go."""
    parts = list(root.iter())
    used: dict[str, str] = {}
    for element in parts:
        for key, value in element.attrib.items():
            if value.startswith("#") if key == "href" else "url(#" in value:
                found = _NAMED.search(value)
                assert found is not None
                used.setdefault(found[1], f"p{len(used)}")
    for element in parts:
        name = element.attrib.pop("id", "")
        if name in used:
            element.set("id", used[name])
        for key, value in element.attrib.items():
            if value.startswith("#") if key == "href" else "url(#" in value:
                element.set(key, _NAMED.sub(lambda m: f"#{used[m[1]]}", value))
