"""A stored figure as part of a page: it takes the page's type and colours."""

import re
from html import escape
from xml.etree import ElementTree as ET

__all__ = ["LETTERS", "inside", "size_of"]

# A serif as wide as the sans for which Matplotlib laid out the text is larger by this.
LETTERS = 1.08
_PIXELS = 4 / 3  # in a point
_SPACE = "{http://www.w3.org/2000/svg}"
_NAMED = re.compile(r"#(p\d+)")


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of a stored figure, in points.

    Example:
        >>> from regdrop_lite.course.author.pictures import size_of
        >>> size_of('<svg viewBox="0 0 36 18.5"/>')
        (36.0, 18.5)
    """
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if found is None:
        raise ValueError(f"no viewBox from 0 0 in {svg[:80]!r}")
    return float(found[1]), float(found[2])


def inside(
    svg: str,
    alt: str,
    prefix: str,
    part: tuple[float, float, float, float] | None = None,
) -> str:
    """Make HTML of a stored figure.

    Args:
        svg: from :func:`~regdrop_lite.course.svg.to_svg`.
        alt: what it shows, in words.
        prefix: makes the names of its parts unique on a page.
        part: left, top, right and bottom of what is shown; by default all of it.

    Returns:
        An element ``svg`` of the class ``plot``. Its letters are the page's.

    Example:
        >>> from regdrop_lite.course.author.pictures import inside
        >>> inside('<svg viewBox="0 0 30 60"><g id="p0"/></svg>', "a mask", "a")
        '<svg class="plot" role="img" aria-label="a mask" viewBox="0 0 30 60" \
width="40" height="80"><g id="a-p0" /></svg>'
    """
    width, height = size_of(svg)
    root = ET.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SPACE)
        if "font-size" in element.attrib:
            letters = LETTERS * float(element.attrib["font-size"])
            element.set("font-size", f"{letters:.4g}")
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif "url(#" in value or (key == "href" and value.startswith("#")):
                element.set(key, _NAMED.sub(rf"#{prefix}-\1", value))
    inner = "".join(ET.tostring(child, encoding="unicode") for child in root)
    if part is not None:  # an inner drawing shows nothing beyond its edges
        left, top, right, bottom = part
        width, height = right - left, bottom - top
        view = f"{left:g} {top:g} {width:.6g} {height:.6g}"
        size = f'width="{width:.6g}" height="{height:.6g}"'
        inner = f'<svg {size} viewBox="{view}">{inner}</svg>'
    more = "".join(
        f' {key}="{escape(value)}"'
        for key, value in root.attrib.items()
        if key not in ("viewBox", "width", "height", "font-family")
    )
    opening = (
        f'<svg class="plot" role="img" aria-label="{escape(alt)}" '
        f'viewBox="0 0 {width:.6g} {height:.6g}" width="{_PIXELS * width:.0f}" '
        f'height="{_PIXELS * height:.0f}"{more}>'
    )
    return f"{opening}{inner}</svg>"
