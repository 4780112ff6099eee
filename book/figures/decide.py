"""Draw the decisions of chapter 5 as a tree: none, which one, where, how much.

Run ``python book/figures/decide.py`` from the root of the repository after a change; a
test compares the stored file with what this script makes. Each leaf leads to the
section of the page that holds its evidence.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from places import MASK, MUTED, STATIC, TEXT, arrow, stroke, svg, text

BOLD, MIDDLE = ' font-weight="700"', ' text-anchor="middle"'
# What is drawn, and what decide.js asks, one question at a time: it finds these data in
# the drawing, so that they cannot disagree.
DATA = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

WIDTH, LEFT, LEAF, HIGH, ROWS = 572, 222, 284, 82, 102


def lines(x: float, y: float, words: list[str], bold: int) -> list[str]:
    """Lines of words in the middle around x; the first ones are bold."""
    return [
        text(x, y + 21 * k, line, more=MIDDLE + BOLD * (k < bold))
        for k, line in enumerate(words)
    ]


def link(x: float, y: float, words: str, section: str) -> str:
    """Where the evidence stands: a link that looks like one."""
    target, short, title = DATA["sections"][section]
    said = f"{words} → {short}" if words else f"→ {title}"
    line = ' text-anchor="middle" text-decoration="underline"'
    name = f"<title>To the section: {title}</title>"
    return f'<a href="#{target}">{name}{text(x, y, said, MUTED, line)}</a>'


def leaf(x: float, y: float, said: dict[str, Any]) -> list[str]:
    """What to do. One with a mask is hatched at its ends."""
    colour = MASK if said["mask"] else TEXT
    parts = [stroke(f"M{x:g} {y:g}h{LEAF}v{HIGH}h{-LEAF}z", colour, 2.5)]
    if said["mask"]:
        for left, top in ((x, y + 14), (x + LEAF - 14, y + HIGH)):
            parts.append(stroke(f"M{left:g} {top:g}l14 -14", colour))
    middle = x + LEAF / 2
    parts += lines(middle, y + 24, said["drawn"], 1)
    return [*parts, link(middle, y + 70, "; ".join(said["rests"]), said["section"])]


def taller(question: list[str]) -> int:
    """By how much a question is taller than one of two lines."""
    return 21 * (len(question) - 2)


def tree(x: float, y: float) -> list[str]:
    """Questions below one another; "yes" leads to the right, "no" down."""
    parts = []
    middle, right = x + LEFT / 2, x + LEFT + 46
    for asked in DATA["questions"]:
        question = asked["drawn"]
        more = taller(question)  # than a box of two lines
        half = y + 41 + more / 2
        box = f"M{x:g} {y + 10:g}h{LEFT}v{62 + more}h{-LEFT}z"
        parts.append(stroke(box))
        parts += lines(middle, y + 36, question, 0)
        parts.append(text(x + LEFT + 22, half - 7, "yes", MUTED, MIDDLE))
        parts.append(stroke(f"M{x + LEFT:g} {half:g}H{right:g}m-6 -4l6 4l-6 4"))
        parts += leaf(right, half - 41, asked["leaf"])
        y += more
        last = asked is DATA["questions"][-1]
        parts.append(arrow(middle, y + 72, y + ROWS + (4 if last else 10)))
        parts.append(text(middle + 10, y + 92, "no", MUTED))
        y += ROWS
    return [*parts, *leaf(x, y + 4, DATA["else"]["leaf"])]


def if_a_mask(x: float, y: float) -> list[str]:
    """Four decisions more, for whoever has come to a mask."""
    parts = [text(x, y, "And if it is a mask", more=BOLD)]
    y += 12
    wide = WIDTH - 2 * x
    for asked in DATA["if_a_mask"]:
        parts.append(stroke(f"M{x:g} {y:g}h{wide:g}v{HIGH}h{-wide:g}z", MASK, 1.5))
        parts.append(text(x + 14, y + 47, asked["ask"], MASK, BOLD))
        parts += lines(x + 330, y + 24, asked["drawn"], 0)
        parts.append(link(x + 330, y + 70, "", asked["section"]))
        y += HIGH + 8
    return parts


def draw() -> dict[str, str]:
    """The picture, by the name of its file."""
    rows = sum(ROWS + taller(asked["drawn"]) for asked in DATA["questions"])
    end = 10 + rows + 4 + HIGH
    parts = tree(10, 10), if_a_mask(10, end + 34)
    packed = json.dumps(DATA, ensure_ascii=False, separators=(",", ":"))
    data = [f"<metadata>{escape(packed, quote=False)}</metadata>"]
    height = end + 34 + 14 + len(DATA["if_a_mask"]) * (HIGH + 8)
    return {"decide.svg": svg(height, data, *parts, width=WIDTH)}


if __name__ == "__main__":
    for name, content in draw().items():
        (STATIC / name).write_text(content, encoding="utf-8", newline="\n")
