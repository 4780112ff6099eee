"""Draw the diagrams of chapters 1 to 4.

Run ``python book/figures/draw_chapters.py`` from the root of the repository after a
change; a test compares the stored files, beside this script, with what it makes. Their
colours are those of the page.
"""

import itertools
import math
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TEXT, MUTED = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
KEPT, DROPPED = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
PAPER = "var(--pst-color-background, #fff)"


def text(
    x: float,
    y: float,
    content: str,
    size: int = 15,
    *,
    fill: str = TEXT,
    anchor: str = "start",
    bold: bool = False,
) -> str:
    weight = ' font-weight="700"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"'
        f'{weight} style="fill: {fill}">{content}</text>'
    )


def shape(
    data: str, *, fill: str = "none", stroke: str = "none", more: str = ""
) -> str:
    """A path; ``more`` holds further declarations of style."""
    return f'<path d="{data}" style="fill: {fill}; stroke: {stroke}; {more}"/>'


def box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z"


def line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f"M{x:g} {y:g}L{to_x:g} {to_y:g}"


def hatching(name: str) -> str:
    return (
        f'<defs><pattern id="{name}" width="6" height="6" '
        'patternUnits="userSpaceOnUse">'
        f'<path d="M-1 1L1 -1M0 6L6 0M5 7L7 5" style="stroke: {DROPPED}"/>'
        "</pattern></defs>"
    )


def svg(height: float, *lines: str) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 {height:g}" '
            "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">",
            *lines,
            "</svg>\n",
        ]
    )


# --- two channels, four nets ----------------------------------------------------------

CONTRIBUTIONS, P = (2, -1), 0.5  # of two channels to the logit


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def four_nets() -> list[tuple[tuple[float, float], float, float]]:
    """For each mask what the channels add, the logit, the probability."""
    found = []
    for keep in itertools.product((0, 1), repeat=2):
        first, second = (
            u * m / (1 - P) for u, m in zip(CONTRIBUTIONS, keep, strict=True)
        )
        found.append(((first, second), first + second, sigmoid(first + second)))
    return found


def four_masks(*, averages: bool = True) -> str:
    """Four masks and their nets, and perhaps what one makes of the four."""
    fell = "four-masks-fell" if averages else "four-nets-fell"  # both on one page
    left, width = 230, 198  # of the axis

    def signed(value: float) -> str:
        return f"{value:+.0f}".replace("-", "−").replace("+0", "0")

    def row(y: float, added: tuple[float, float], likely: str) -> list[str]:
        lines = []
        for k, value in enumerate(added):
            square = box(10 + 46 * k, y, 40, 32)
            if not value:
                lines.append(shape(square, fill=f"url(#{fell})", stroke=DROPPED))
                continue
            where = 30 + 46 * k, y + 21
            lines.append(shape(square, fill=KEPT))
            lines.append(text(*where, signed(value), fill=PAPER, anchor="middle"))
        z = signed(sum(added)).removeprefix("+")
        lines += [text(112, y + 21, likely), text(160, y + 21, f"z = {z}")]
        return lines

    def point(y: float, value: float, kind: str = "net") -> list[str]:
        x = left + width * value
        arm = shape(
            line(left, y, x, y),
            stroke=MUTED,
            more="stroke-width: 2" if kind == "net" else "stroke-dasharray: 2 3",
        )
        ring = f"M{x - 7:g} {y:g}a7 7 0 1 0 14 0a7 7 0 1 0 -14 0"
        data, color = {  # the marks and colours of the chapter
            "net": (ring, KEPT),
            "arithmetic": (ring, DROPPED),
            "geometric": (box(x - 7, y - 7, 14, 14), KEPT),
            "pass": (f"M{x - 9:g} {y:g}l9 -9l9 9l-9 9z", TEXT),
        }[kind]
        mark = (
            shape(data, fill=color)
            if kind == "net"
            else shape(data, fill=PAPER, stroke=color, more="stroke-width: 2.5")
        )
        paper = shape(box(x + 12, y - 8, 32, 16), fill=PAPER)  # no tick through it
        return [arm, mark, paper, text(x + 13, y + 5, f"{value:.2f}")]

    nets = four_nets()
    one_pass = sigmoid(sum(CONTRIBUTIONS))
    lines = [
        hatching(fell),
        text(10, 20, "channels", bold=True),
        text(112, 20, "how", bold=True),
        text(112, 38, "likely", bold=True),
        text(left, 20, "probability of “boot”", bold=True),
    ]
    for tick in (0, 0.5, 1):
        x = left + width * tick
        lines += [
            shape(
                # That of 1 is short: it would run through a number.
                line(x, 46, x, 52 if tick == 1 else 358 if averages else 222),
                stroke=MUTED,
                more="stroke-width: 0.5",
            ),
            text(x, 40, f"{tick:g}", 14, fill=MUTED, anchor="middle"),
        ]
    for k, (added, _, probability) in enumerate(nets):
        y = 54 + 44 * k
        lines += row(y, added, "¼") + point(y + 16, probability)
    if not averages:
        return svg(230, *lines)
    average = sum(probability for _, _, probability in nets) / 4
    y = 240
    lines += [
        shape(line(10, y, 470, y), stroke=TEXT),
        text(10, y + 31, "arithmetic mean of the four"),
        *point(y + 26, average, "arithmetic"),
        text(10, y + 67, "their geometric mean"),
        *point(y + 62, one_pass, "geometric"),
        *row(y + 84, CONTRIBUTIONS, ""),
        *point(y + 100, one_pass, "pass"),
        text(
            10, y + 134, "One pass without a mask: what a channel adds counts once.", 14
        ),
    ]
    return svg(y + 146, *lines)


# --- what inputs carry ----------------------------------------------------------------


def inputs() -> str:
    unit = 74  # the standard deviation of y
    rows = [
        ("shortcut", (("y", 1), ("", 0.1))),
        ("a", (("y", 1), ("hidden", 3), ("", 0.1))),
        ("b", (("hidden", 3),)),
        ("a − b", (("y", 1), ("", 0.1))),
        ("each witness", (("y", 1), ("error", 1))),
    ]
    lines = []
    for k, (name, parts) in enumerate(rows):
        y, x = 8.0 + 50 * k + 14 * (k >= 1) + 14 * (k >= 4), 126.0
        lines.append(text(112, y + 25, name, anchor="end", bold=k == 3))
        for word, size in parts:
            area = box(x, y, unit * size, 36)
            if word == "y":
                lines.append(shape(area, fill=KEPT))
                lines.append(text(x + 37, y + 24, "y", fill=PAPER, anchor="middle"))
            else:
                pale = "fill-opacity: 0.25"
                lines.append(shape(area, fill=MUTED, stroke=MUTED, more=pale))
                middle = x + unit * size / 2
                lines.append(text(middle, y + 24, word, anchor="middle"))
            x += unit * size
    return svg(286, *lines)


# --- a witness and tags ---------------------------------------------------------------


def tags() -> str:
    """Three photographs in a linear model, one of them with a wrong label."""
    columns = (284, 352, 398, 444)  # the witness, then a tag for each photograph
    lines = [
        text(10, 46, "photograph", bold=True),
        text(176, 46, "label", anchor="middle", bold=True),
        text(columns[0], 46, "witness", anchor="middle", bold=True),
        text(columns[2], 20, "tags", anchor="middle", bold=True),
        *(text(x, 46, f"{k}", anchor="middle") for k, x in enumerate(columns[1:], 1)),
    ]

    def cell(x: float, y: float, value: int) -> list[str]:
        words = f"{value:+d}".replace("-", "−").removeprefix("+" if x > 340 else " ")
        area = box(x - 20, y, 40, 32)
        if value > 0:
            ink, look = PAPER, shape(area, fill=KEPT, stroke=KEPT)
        elif value < 0:
            ink, look = TEXT, shape(area, stroke=KEPT, more="stroke-width: 2")
        else:
            ink, look = MUTED, shape(area, stroke=MUTED)
            words = "0"
        return [look, text(x, y + 21, words, fill=ink, anchor="middle")]

    photographs = (("1  boot", 1, 1), ("2  sandal", -1, -1), ("3  boot", -1, 1))
    for k, (name, label, witness) in enumerate(photographs):
        y = 58.0 + 42 * k
        lines += [text(10, y + 21, name), *cell(176, y, label)]
        if label != witness:
            lines.append(text(202, y + 21, "wrong", fill=DROPPED))
        values = [witness, *(int(k == j) for j in range(3))]
        for x, value in zip(columns, values, strict=True):
            lines += cell(x, y, value)
    y = 196
    lines.append(shape(line(10, y, 470, y), stroke=TEXT))
    lines.append(text(10, y + 31, "weights that fit all labels", bold=True))
    for x, value in zip(columns, (1, 0, 0, -2), strict=True):
        lines += cell(x, y + 10, value)
    return svg(y + 52, *lines)


# --- what falls together --------------------------------------------------------------


def levels() -> str:
    """Two maps; each value names the coins that can drop it. Filled: by coin A."""
    side, gap = 33, 12
    size = 3 * side
    lines = []

    def coins(title: str, c: int, i: int, j: int) -> str:
        if title == "Element":
            return chr(ord("A") + 9 * c + 3 * i + j)
        if title != "Block":
            return "AB"[c] if title == "Channel" else "A"
        places = [
            2 * y + x
            for y, x in itertools.product(range(2), repeat=2)
            if y <= i <= y + 1 and x <= j <= x + 1
        ]
        return "".join("ABCDEFGH"[4 * c + place] for place in places)

    panels = [
        ("Element", "each value by its own coin"),
        ("Block", "2 × 2: a coin for each place"),
        ("Channel", "each map by its own coin"),
        ("Path", "one coin for all maps"),
    ]
    for k, (title, words) in enumerate(panels):
        x0, y0 = 8 + k % 2 * 246, 56 + k // 2 * 172
        lines += [
            text(x0, y0 - 30, title, 17, bold=True),
            text(x0, y0 - 10, words, 15, fill=MUTED),
        ]
        for c in range(2):
            x = x0 + c * (size + gap)
            cells = [
                (i, j)
                for i, j in itertools.product(range(3), repeat=2)
                if "A" in coins(title, c, i, j)
            ]
            area = "".join(
                box(x + side * j, y0 + side * i, side, side) for i, j in cells
            )
            if area:
                lines.append(shape(area, fill=KEPT, more="fill-opacity: 0.3"))
            data = "".join(
                line(x + side * n, y0, x + side * n, y0 + size)
                + line(x, y0 + side * n, x + size, y0 + side * n)
                for n in range(4)
            )
            lines.append(shape(data, stroke=MUTED, more="stroke-width: 0.7"))
            for i, j in itertools.product(range(3), repeat=2):
                names = coins(title, c, i, j)
                rows = [names] if len(names) < 3 else [names[:2], names[2:]]
                for n, row in enumerate(rows):
                    y = y0 + side * (i + 0.5) + 5 + (n - (len(rows) - 1) / 2) * 14
                    where = x + side * (j + 0.5), y
                    lines.append(text(*where, row, 14, anchor="middle"))
    return svg(56 + 172 + size + 8, *lines)


# --- valleys --------------------------------------------------------------------------


def contrast() -> str:
    """A map that is read with a plus on the left and a minus on the right."""
    side, x0, y0 = 24, 144, 30
    lines = [
        text(x0 + 2 * side, 20, "added", anchor="middle", bold=True),
        text(x0 + 6 * side, 20, "subtracted", anchor="middle", bold=True),
    ]
    half = box(x0 + 4 * side, y0, 4 * side, 8 * side)
    lines.append(shape(half, fill=DROPPED, more="fill-opacity: 0.18"))
    for i, j in itertools.product(range(8), repeat=2):
        where = x0 + side * (j + 0.5), y0 + side * (i + 0.5) + 6
        lines.append(text(*where, "+" if j < 4 else "−", 17, anchor="middle"))
    for i, j in ((1, 0), (4, 5), (3, 2)):  # left of the edge, right of it, across it
        area = box(x0 + side * j + 2, y0 + side * i + 2, 3 * side - 4, 3 * side - 4)
        lines.append(shape(area, stroke=KEPT, more="stroke-width: 3"))
    edge = line(x0 + 4 * side, y0 - 4, x0 + 4 * side, y0 + 8 * side + 4)
    lines.append(shape(edge, stroke=TEXT, more="stroke-width: 2"))
    return svg(y0 + 8 * side + 10, *lines)


def valleys() -> str:
    lines = []
    for k, (title, stretch) in enumerate((("flat", 1.0), ("sharp", 3.0))):
        middle, bottom = 116 + 246 * k, 160
        curve = []
        for tenth in range(-1000, 1001, 20):  # both curves end at the same height
            across = tenth / 10 / stretch
            curve.append(
                f"{middle + across:.1f} {bottom - 118 * (tenth / 1000) ** 2:.1f}"
            )
        x = middle + 28
        top = bottom - 118 * (stretch * 0.28) ** 2
        lines += [
            text(middle, 26, title, 17, bold=True, anchor="middle"),
            shape("M" + "L".join(curve), stroke=KEPT, more="stroke-width: 3"),
            shape(line(middle - 104, 176, middle + 104, 176), stroke=MUTED),
            text(middle + 104, 196, "weight w", 14, fill=MUTED, anchor="end"),
            shape(line(x, bottom, x, top), stroke=DROPPED, more="stroke-width: 3"),
            shape(
                line(middle, bottom, x, bottom),
                stroke=TEXT,
                more="stroke-dasharray: 3 3",
            ),
            f'<circle cx="{middle}" cy="{bottom}" r="6" style="fill: {TEXT}"/>',
            f'<circle cx="{x}" cy="{top:.1f}" r="6" style="fill: {DROPPED}"/>',
        ]
    lines.append(
        text(10, 224, "The same step to the right, and the loss that it costs")
    )
    return svg(234, *lines)


# --- a branch that is closed ----------------------------------------------------------


def closed_branch() -> str:
    """A residual block with the coin of DropPath, kept and dropped."""
    lines = [hatching("closed-branch-fell")]

    def wire(data: str, *, gone: bool = False) -> str:
        more = "stroke-width: 2" + ("; stroke-dasharray: 3 4" if gone else "")
        return shape(data, stroke=MUTED if gone else TEXT, more=more)

    cases = (
        ("kept", "probability q", "× 1/q", False),
        ("dropped", "probability p", "× 0", True),
    )
    for k, (title, chance, factor, gone) in enumerate(cases):
        left = 6 + 246.0 * k
        skip, branch = left + 24, left + 146
        lines += [
            text(left, 20, title, 17, bold=True),
            text(left, 40, f"with {chance}", fill=MUTED),
            text(skip - 5, 66, "x"),
            wire(line(skip, 74, skip, 332)),
            wire(f"M{skip:g} 90H{branch:g}V108", gone=gone),
            text(skip + 8, 205, "skip", 14, fill=MUTED),
        ]
        for row, words in enumerate(("3 × 3, norm", "ReLU", "3 × 3, norm", factor)):
            y = 108.0 + 48 * row
            area = box(branch - 62, y, 124, 32)
            paint = "url(#closed-branch-fell)" if gone else KEPT
            lines.append(shape(area, fill=paint, stroke=DROPPED if gone else KEPT))
            if gone:
                wide = 8 * len(words) + 8
                lines.append(shape(box(branch - wide / 2, y + 6, wide, 20), fill=PAPER))
            ink = TEXT if gone else PAPER
            lines.append(text(branch, y + 21, words, fill=ink, anchor="middle"))
            lines.append(wire(line(branch, y + 32, branch, y + 48), gone=gone))
        lines += [
            wire(f"M{branch:g} 300V332H{skip + 11:g}", gone=gone),
            f'<circle cx="{skip:g}" cy="332" r="11" '
            f'style="fill: {PAPER}; stroke: {TEXT}; stroke-width: 2"/>',
            text(skip, 337, "+", anchor="middle"),
            wire(line(skip, 343, skip, 362)),
            text(left, 382, "y = x" if gone else "y = x + F(x) / q", bold=True),
        ]
    return svg(392, *lines)


# --- where SpatialDropout stands ------------------------------------------------------


def two_places() -> str:
    """After the activation of a plain block, and in the branch of a residual one."""
    lines = [hatching("two-places-fell")]

    def wire(data: str) -> str:
        return shape(data, stroke=TEXT, more="stroke-width: 2")

    def chain(middle: float, parts: tuple[str, ...]) -> list[str]:
        found = []
        for row, words in enumerate((*parts, "SpatialDropout")):
            y, last = 84.0 + 48 * row, row == len(parts)
            area, paint = box(middle - 62, y, 124, 32), "url(#two-places-fell)"
            fill, edge = (paint, DROPPED) if last else (KEPT, KEPT)
            found.append(shape(area, fill=fill, stroke=edge))
            if last:
                found.append(shape(box(middle - 57, y + 6, 114, 20), fill=PAPER))
            ink = TEXT if last else PAPER
            found.append(text(middle, y + 21, words, fill=ink, anchor="middle"))
            found.append(wire(line(middle, y + 32, middle, y + 48)))
        return found

    lines += [
        text(6, 20, "plain block", 17, bold=True),
        text(68, 44, "x", anchor="middle"),
        wire(line(68, 52, 68, 84)),
        *chain(68, ("convolution", "norm", "activation")),
        wire(line(68, 276, 68, 384)),
        text(226, 20, "residual block", 17, bold=True),
        text(250, 44, "x", anchor="middle"),
        wire(line(250, 52, 250, 297)),
        wire("M250 66H390V84"),
        *chain(390, ("3 × 3, norm", "ReLU", "3 × 3, norm")),
        wire("M390 276V308H261"),
        f'<circle cx="250" cy="308" r="11" '
        f'style="fill: {PAPER}; stroke: {TEXT}; stroke-width: 2"/>',
        text(250, 313, "+", anchor="middle"),
        wire(line(250, 319, 250, 335)),
        shape(box(188, 335, 124, 32), fill=KEPT, stroke=KEPT),
        text(250, 356, "ReLU", fill=PAPER, anchor="middle"),
        wire(line(250, 367, 250, 384)),
        shape("M238 168l24 24m0 -24l-24 24", stroke=DROPPED, more="stroke-width: 4"),
        text(228, 176, "skip:", 14, fill=MUTED, anchor="end"),
        text(228, 194, "not here", 14, fill=MUTED, anchor="end"),
        text(320, 60, "branch", 14, fill=MUTED, anchor="middle"),
    ]
    return svg(390, *lines)


# --- where DropBlock stands -----------------------------------------------------------


def branch_end() -> str:
    """A residual block from left to right: the mask is the last part of the branch."""
    lines = [hatching("branch-end-fell")]

    def wire(data: str) -> str:
        return shape(data, stroke=TEXT, more="stroke-width: 2")

    parts = ("3 × 3", "norm", "ReLU"), ("3 × 3", "norm"), ("DropBlock",), ("ReLU",)
    for (x, wide), words in zip(
        ((46, 70), (138, 70), (230, 94), (390, 62)), parts, strict=True
    ):
        last = words == ("DropBlock",)
        fill, edge = ("url(#branch-end-fell)", DROPPED) if last else (KEPT, KEPT)
        lines.append(shape(box(x, 34, wide, 72), fill=fill, stroke=edge))
        if last:
            lines.append(shape(box(x + 5, 58, wide - 10, 24), fill=PAPER))
        for row, word in enumerate(words):
            y = 75 + 21 * (row - (len(words) - 1) / 2)
            ink = TEXT if last else PAPER
            lines.append(text(x + wide / 2, y, word, fill=ink, anchor="middle"))
    lines += [
        text(8, 75, "x", anchor="middle"),
        text(185, 22, "branch", 14, fill=MUTED, anchor="middle"),
        text(185, 130, "skip", 14, fill=MUTED, anchor="middle"),
        *(wire(line(a, 70, b, 70)) for a, b in ((18, 46), (116, 138), (208, 230))),
        *(wire(line(a, 70, b, 70)) for a, b in ((324, 346), (368, 390), (452, 474))),
        wire("M30 70V138H357V81"),
        f'<circle cx="357" cy="70" r="11" '
        f'style="fill: {PAPER}; stroke: {TEXT}; stroke-width: 2"/>',
        text(357, 75, "+", anchor="middle"),
    ]
    return svg(146, *lines)


# --- a mask before a norm, and after it -----------------------------------------------


def mask_and_norm() -> str:
    """The branch of a residual block, with the mask at either side of its last norm."""
    lines = [hatching("mask-and-norm-fell")]

    def part(y: float, title: str, parts: tuple[str, ...]) -> list[str]:
        found = [text(8, y, title, 16, bold=True)]
        x = 8.0
        for words in ("3 × 3, norm, ReLU", "3 × 3", *parts):
            width = 148 if "," in words else 64
            fell = words == "mask"
            fill, edge = ("url(#mask-and-norm-fell)", DROPPED) if fell else (KEPT, KEPT)
            found.append(shape(box(x, y + 14, width, 34), fill=fill, stroke=edge))
            if fell:
                found.append(shape(box(x + 7, y + 20, width - 14, 22), fill=PAPER))
            ink = TEXT if fell else PAPER
            found.append(text(x + width / 2, y + 36, words, fill=ink, anchor="middle"))
            tip = x + width + 16
            found.append(shape(line(x + width, y + 31, tip, y + 31), stroke=TEXT))
            x = tip
        found += [
            f'<circle cx="{x + 11:g}" cy="{y + 31:g}" r="11" '
            f'style="fill: {PAPER}; stroke: {TEXT}; stroke-width: 2"/>',
            text(x + 11, y + 36, "+", anchor="middle"),
            shape(line(x + 11, y + 2, x + 11, y + 20), stroke=TEXT),
            text(x + 11, y - 3, "skip", 14, fill=MUTED, anchor="middle"),
        ]
        return found

    lines += part(22, "before the norm", ("mask", "norm"))
    lines += part(112, "after the norm", ("norm", "mask"))
    return svg(170, *lines)


# --- where the maps of a trained net are caught ---------------------------------------


def caught_maps() -> str:
    """The stem and the first blocks of stages 1 and 2, a dot where maps are caught."""

    def wire(data: str) -> str:
        return shape(data, stroke=TEXT, more="stroke-width: 2")

    def catch(x: float, y: float, number: int) -> list[str]:
        dot = f'<circle cx="{x:g}" cy="{y:g}" r="10" style="fill: {DROPPED}"/>'
        digit = text(x, y + 5, f"{number}", 14, bold=True, fill=PAPER, anchor="middle")
        return [dot, digit]

    lines = [
        text(8, 91, "image"),
        wire(line(56, 86, 74, 86)),
        shape(box(74, 70, 52, 32), fill=KEPT),
        text(100, 91, "stem", fill=PAPER, anchor="middle"),
        wire(line(126, 86, 166, 86)),
        *catch(144, 86, 1),
    ]
    for number, left in enumerate((166, 326), start=1):
        plus = left + 98
        lines += [
            text(left + 49, 20, f"stage {number}", 17, bold=True, anchor="middle"),
            wire(line(left, 86, plus - 10, 86)),
            wire(f"M{left + 6} 86V50H{left + 12}"),
            shape(box(left + 12, 34, 58, 32), fill=KEPT),
            text(left + 41, 55, "branch", 14, fill=PAPER, anchor="middle"),
            wire(f"M{left + 70} 50H{plus}V76"),
            *catch(left + 84, 50, 2 * number),
            f'<circle cx="{plus}" cy="86" r="10" '
            f'style="fill: {PAPER}; stroke: {TEXT}; stroke-width: 2"/>',
            text(plus, 91, "+", anchor="middle"),
            wire(line(plus + 10, 86, plus + 26, 86)),
            *catch(plus + 26, 86, 2 * number + 1),
            text(plus + 39, 91, "…"),
        ]
        if number == 1:
            lines.append(wire(line(plus + 54, 86, 326, 86)))
    return svg(108, *lines)


# --- only the kept rows ---------------------------------------------------------------

KEPT_ROWS = (0, 2, 3, 6)  # of eight


def kept_rows() -> str:
    """Eight rows of a mini-batch: all computed and four erased, or four computed."""
    lines = [hatching("kept-rows-fell")]

    def row(x: float, y: float, name: str, *, kept: bool) -> list[str]:
        fill, ink = (KEPT, PAPER) if kept else ("url(#kept-rows-fell)", TEXT)
        found = [shape(box(x, y, 44, 20), fill=fill, stroke=KEPT if kept else DROPPED)]
        if not kept:
            found.append(shape(box(x + 12, y + 2, 20, 16), fill=PAPER))
        found.append(text(x + 22, y + 15, name, 14, fill=ink, anchor="middle"))
        return found

    def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
        return shape(line(x, y, to_x, to_y), stroke=MUTED, more="stroke-width: 1.5")

    def branch(x: float, y: float, height: float, words: str) -> list[str]:
        area = shape(box(x, y, 84, height), stroke=TEXT, more="stroke-width: 2")
        middle = y + height / 2
        return [
            area,
            text(x + 42, middle - 2, "branch", anchor="middle", bold=True),
            text(x + 42, middle + 17, words, 14, anchor="middle"),
        ]

    def rows_of(k: int, top: float) -> float:
        return top + 25.0 * k

    def doubled(k: int) -> str:
        """What the branch says about a row, twice."""
        return f"2F{'₁₂₃₄₅₆₇₈'[k]}"

    top = 54.0
    lines += [
        text(8, 20, "Mask: compute eight, erase four", 16, bold=True),
        text(30, 44, "x", anchor="middle"),
        text(424, 44, "added to x", anchor="middle"),
        *branch(176, top, 195, "8 rows"),
    ]
    for k in range(8):
        y, kept = rows_of(k, top), k in KEPT_ROWS
        lines += row(8, y, f"{k + 1}", kept=True)
        lines.append(arrow(52, y + 10, 176, y + 10))
        lines.append(arrow(260, y + 10, 402, y + 10))
        lines.append(text(331, y + 6, "× 2" if kept else "× 0", 14, anchor="middle"))
        lines += row(402, y, doubled(k) if kept else "0", kept=kept)
    lines.append(shape(line(8, 268, 472, 268), stroke=MUTED))
    top = 328.0
    lines += [
        text(8, 294, "Kept rows: compute four", 16, bold=True),
        text(30, 318, "x", anchor="middle"),
        text(114, 318, "x[chosen]", 14, anchor="middle"),
        text(424, 318, "added to x", anchor="middle"),
        *branch(176, top + 50, 95, "4 rows"),
    ]
    for k in range(8):
        y, kept = rows_of(k, top), k in KEPT_ROWS
        lines += row(8, y, f"{k + 1}", kept=kept)
        if kept:
            inner = rows_of(KEPT_ROWS.index(k), top + 50) + 10
            lines.append(arrow(52, y + 10, 176, inner))
            lines.append(arrow(260, inner, 402, y + 10))
            lines += row(402, y, doubled(k), kept=True)
        else:  # nothing is added: the sample stays x
            dashed = "stroke-width: 1.5; stroke-dasharray: 4 3"
            lines.append(shape(box(402, y, 44, 20), stroke=MUTED, more=dashed))
            lines.append(text(424, y + 15, "0", 14, anchor="middle"))
    return svg(top + 202, *lines)


# --- what a BatchNorm in the branch sees ----------------------------------------------

VALUES = (1, 3, 5, 7)  # of one channel, a row of the mini-batch each
TWO_KEPT = (0, 2)


def normed(values: tuple[int, ...]) -> tuple[float, float, list[float]]:
    """Mean, standard deviation, and what BatchNorm makes of the values."""
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return mean, std, [(v - mean) / std for v in values]


def norm_sees() -> str:
    """BatchNorm of four rows, after a mask, and of the two kept rows only."""
    lines = [hatching("norm-sees-fell")]

    def row(x: float, y: float, words: str, *, kept: bool) -> list[str]:
        fill, ink = (KEPT, PAPER) if kept else ("url(#norm-sees-fell)", TEXT)
        found = [shape(box(x, y, 52, 24), fill=fill, stroke=KEPT if kept else DROPPED)]
        if not kept:
            found.append(shape(box(x + 14, y + 3, 24, 18), fill=PAPER))
        words = words.replace("-", "−")
        found.append(text(x + 26, y + 17, words, 15, fill=ink, anchor="middle"))
        return found

    def part(top: float, title: str, seen: tuple[int, ...]) -> list[str]:
        mean, std, out = normed(tuple(VALUES[k] for k in seen))
        found = [
            text(8, top, title, 16, bold=True),
            text(34, top + 26, "x", anchor="middle"),
            text(318, top + 26, "normed", anchor="middle"),
            text(434, top + 26, "added to x", anchor="middle"),
            shape(box(118, top + 36, 138, 120), stroke=TEXT, more="stroke-width: 2"),
            text(187, top + 70, "BatchNorm", anchor="middle", bold=True),
            text(187, top + 94, f"of {len(seen)} rows", anchor="middle"),
            text(187, top + 118, f"mean {mean:g}", anchor="middle"),
            text(187, top + 140, f"std {std:.3g}", anchor="middle"),
        ]
        for k, value in enumerate(VALUES):
            y, kept = top + 38 + 30 * k, k in TWO_KEPT
            found += row(8, y, f"{value}", kept=k in seen)
            if k not in seen:  # nothing is added to it
                dashed = "stroke-width: 1.5; stroke-dasharray: 4 3"
                found.append(shape(box(408, y, 52, 24), stroke=MUTED, more=dashed))
                found.append(text(434, y + 17, "0", 15, anchor="middle"))
                continue
            result = out[seen.index(k)]
            found.append(shape(line(60, y + 12, 118, y + 12), stroke=MUTED))
            found.append(shape(line(256, y + 12, 292, y + 12), stroke=MUTED))
            words = f"{result:+.2f}".replace("-", "−")
            found.append(text(318, y + 17, words, 15, anchor="middle"))
            found.append(shape(line(346, y + 12, 408, y + 12), stroke=MUTED))
            factor = "× 2" if kept else "× 0"
            found.append(text(376, y + 8, factor, 14, anchor="middle"))
            words = f"{2 * result:+.2f}" if kept else "0"
            found += row(408, y, words, kept=kept)
        return found

    lines += part(20, "Mask: the norm sees four rows, two are erased", (0, 1, 2, 3))
    lines.append(shape(line(8, 194, 472, 194), stroke=MUTED))
    lines += part(220, "Kept rows: the norm sees these two only", TWO_KEPT)
    return svg(386, *lines)


# --- places of seeds, counted and used ------------------------------------------------


def seed_places() -> str:
    """Where a block of 7 may be centred: as the textbook rate counts, and as it is."""
    k, side, lines = 7, 154, [hatching("seed-places-fell")]

    def part(
        x: float, y: float, size: int, seeds: list[int], at: tuple[int, int]
    ) -> list[str]:
        cell = side / size
        row, column = (place - k // 2 for place in at)  # where the block begins
        top, left = max(row, 0), max(column, 0)
        height, width = min(row + k, size) - top, min(column + k, size) - left
        here = box(x + left * cell, y + top * cell, width * cell, height * cell)
        whole = box(x + column * cell, y + row * cell, k * cell, k * cell)
        dots = "".join(
            f'<circle cx="{x + (j + 0.5) * cell:g}" cy="{y + (i + 0.5) * cell:g}" '
            f'r="{3 if size > k else 4}"/>'
            for i, j in itertools.product(seeds, seeds)
        )
        cross = x + (at[1] + 0.5) * cell, y + (at[0] + 0.5) * cell
        n = len(seeds) ** 2
        words = f"{n} place" + "s" * (n > 1)
        arms = "".join(
            f"M{cross[0] - 6:g} {cross[1] - 6 * sign:g}l12 {12 * sign}"
            for sign in (1, -1)
        )
        return [
            shape(whole, stroke=DROPPED, more="stroke-dasharray: 4 3"),
            shape(here, fill="url(#seed-places-fell)", stroke=DROPPED),
            shape(box(x, y, side, side), stroke=TEXT, more="stroke-width: 2"),
            f'<g style="fill: {KEPT}">{dots}</g>',
            shape(arms, stroke=TEXT, more="stroke-width: 3"),
            text(
                x + side / 2,
                y + side + 20,
                words,
                anchor="middle",
            ),
        ]

    for x, title, words in (
        (78, "counted", "where the block fits"),
        (290, "used", "everywhere"),
    ):
        lines.append(text(x + side / 2, 18, title, 16, bold=True, anchor="middle"))
        lines.append(text(x + side / 2, 38, words, anchor="middle"))
    for y, size, at in ((88, 14, (1, 12)), (312, 7, (2, 4))):
        lines.append(text(64, y + 72, "map of", anchor="end"))
        lines.append(text(64, y + 92, f"{size} × {size}", anchor="end"))
        fitting = [i for i in range(size) if k // 2 <= i < size - k // 2]
        inside = (fitting[0], fitting[-1])
        lines += part(78, y, size, fitting, inside)
        lines += part(290, y, size, list(range(size)), at)
    return svg(494, *lines)


def seed_grows() -> str:
    """Two seeds among the 16 places of a map of 6 x 6, and their blocks of 3."""
    cell, seeds, lines = 27, ((0, 1), (2, 3)), [hatching("seed-grows-fell")]
    fell = sorted(
        {(i + a, j + b) for i, j in seeds for a in range(3) for b in range(3)}
    )
    for x, y, title, n in (
        (6, 34, "16 places, ringed by zeros", 8),
        (310, 61, "17 elements dropped", 6),
    ):
        inner, first = (4, 2) if n == 8 else (6, 0)  # the ring is two cells wide
        middle = x + n * cell / 2
        lines.append(text(middle, y - 14, title, 15, bold=True, anchor="middle"))
        for i, j in itertools.product(range(n), repeat=2):
            area = box(x + j * cell, y + i * cell, cell, cell)
            hatch = n == 6 and (i, j) in fell
            fill = "url(#seed-grows-fell)" if hatch else "none"
            place = all(first <= at < first + inner for at in (i, j))
            more = "" if place else "stroke-dasharray: 2 3"
            lines.append(shape(area, fill=fill, stroke=MUTED, more=more))
            if not place:
                at = x + (j + 0.5) * cell, y + (i + 0.5) * cell + 5
                lines.append(text(*at, "0", 14, fill=MUTED, anchor="middle"))
        side = inner * cell
        frame = box(x + first * cell, y + first * cell, side, side)
        lines.append(shape(frame, stroke=TEXT, more="stroke-width: 2"))
        for i, j in seeds:
            left, top = x + (j + first) * cell, y + (i + first) * cell
            if n == 6:
                area = box(left, top, 3 * cell, 3 * cell)
                lines.append(shape(area, stroke=DROPPED, more="stroke-width: 3"))
            left, top = left + 7, top + 7
            arms = f"M{left} {top}l13 13M{left} {top + 13}l13 -13"
            lines.append(shape(arms, stroke=TEXT, more="stroke-width: 3"))
    # The window that decides on element (3, 3) starts at (3, 3) of the ringed places.
    dashed = "stroke-width: 3; stroke-dasharray: 6 4"
    for x, y, n in ((6, 34, 3), (310, 61, 1)):
        frame = box(x + 3 * cell, y + 3 * cell, n * cell, n * cell)
        lines.append(shape(frame, stroke=PAPER, more="stroke-width: 5"))
        lines.append(shape(frame, stroke=TEXT, more=dashed))
    lines.append(
        shape("M232 142h66m-9 -7l9 7l-9 7", stroke=TEXT, more="stroke-width: 2")
    )
    lines.append(text(265, 130, "max-pool", 14, anchor="middle"))
    return svg(258, *lines)


def rim_tiles() -> str:
    """A line of six, its four blocks of 3, and the rates that treat all alike."""
    x, cell, lines = 96, 48, [hatching("rim-tiles-fell")]
    lines.append(text(x + 3 * cell, 20, "blocks of 3", 16, bold=True, anchor="middle"))
    for s in range(4):
        y, gone = 34 + 34 * s, s % 3 == 0
        fill = "url(#rim-tiles-fell)" if gone else "none"
        more = "stroke-width: 2" if gone else "stroke-dasharray: 4 3"
        area = box(x + s * cell, y, 3 * cell, 24)
        lines.append(
            shape(area, fill=fill, stroke=DROPPED if gone else MUTED, more=more)
        )
        lines.append(text(84, y + 17, f"place {s}", anchor="end"))
        words = "γ = p" if gone else "γ = 0"
        lines.append(text(396, y + 17, words, bold=gone))
    y = 182
    lines.append(text(84, y + 23, "elements", anchor="end"))
    for i in range(6):
        lines.append(shape(box(x + i * cell, y, cell, 34), stroke=TEXT))
        lines.append(text(x + (i + 0.5) * cell, y + 23, f"{i}", anchor="middle"))
    edge = line(x + 3 * cell, y - 8, x + 3 * cell, y + 42)
    lines.append(shape(edge, stroke=TEXT, more="stroke-width: 3"))
    return svg(230, *lines)


def block_regimes() -> str:
    """Where blocks may lie, what is then dropped most, and the scales."""
    lines = [hatching("block-regimes-fell")]
    for x, words in (
        (8, "blocks lie"),
        (172, "dropped most"),
        (300, "scale of what stays"),
    ):
        lines.append(text(x, 20, words, bold=True))
    groups = (  # top, block (x, y, side), label, what is dropped, scales
        (36, (20, 10, 26), ("inside", "the map"), ("the middle",), 3),
        (190, (-8, 35, 26), ("centre on", "it (timm)"), ("the middle",), 1),
        (272, (-15, 32, 26), ("cut at the", "border"), ("all alike",), 1),
        (354, (28, 0, 28), ("in fixed", "tiles"), ("all alike",), 1),
    )
    scales = ("weights, 1/P(keep)", "one scale, 1/q", "scale of the batch")
    for top, (left, down, side), label, dropped, count in groups:
        height = 46.0 * count + (6 if count > 1 else 20)
        middle = top + height / 2
        y = middle - 28
        x, width = 16 + max(left, 0), side + min(left, 0)
        area = box(x, y + down, width, min(side, 56 - down))
        lines.append(shape(area, fill="url(#block-regimes-fell)", stroke=DROPPED))
        if left < 0:  # what hangs over
            over = box(16 + left, y + down, side, side)
            lines.append(shape(over, stroke=MUTED, more="stroke-dasharray: 4 3"))
        centred = "centre on" in label
        if centred:
            u, v = 16 + left + side / 2, y + down + side / 2
            mark = line(u - 4, v - 4, u + 4, v + 4) + line(u - 4, v + 4, u + 4, v - 4)
            lines.append(shape(mark, stroke=TEXT, more="stroke-width: 2"))
        if "tiles" in label:
            cross = line(44, y, 44, y + 56) + line(16, y + 28, 72, y + 28)
            lines.append(shape(cross, stroke=MUTED))
        lines.append(shape(box(16, y, 56, 56), stroke=TEXT, more="stroke-width: 2"))
        for at, words in ((84, label), (172, dropped)):
            for i, word in enumerate(words):
                lower = middle + 5 + 20 * (i - (len(words) - 1) / 2)
                lines.append(text(at, lower, word))
        for i in range(count):
            centre = middle + 48 * (i - (count - 1) / 2)
            lines.append(shape(line(264, middle, 300, centre), stroke=MUTED))
            lines.append(shape(box(300, centre - 19, 172, 38), stroke=TEXT))
            word = scales[i if count > 1 else 2 if centred else 1]
            lines.append(text(386, centre + 5, word, anchor="middle"))
        if top > 36:
            lines.append(shape(line(8, top - 4, 472, top - 4), stroke=MUTED))
    return svg(430, *lines)


# --- paths through three blocks -------------------------------------------------------


def eight_paths() -> str:
    """The paths of a gradient through three blocks, the second one closed."""
    lines = [
        hatching("eight-paths-fell"),
        text(8, 20, "block 1", bold=True),
        text(98, 20, "block 2", bold=True),
        text(188, 20, "block 3", bold=True),
        text(286, 20, "all open", bold=True),
        text(370, 20, "block 2", bold=True),
        text(370, 40, "closed", bold=True),
    ]
    for k, taken in enumerate(itertools.product((0, 1), repeat=3)):
        y = 52.0 + 30 * k
        for j, open_ in enumerate(taken):
            x = 8.0 + 90 * j
            if open_:
                fill, edge, ink = KEPT, KEPT, PAPER
            else:
                fill, edge, ink = "none", MUTED, TEXT
            area = box(x, y, 70, 24)
            lines.append(shape(area, fill=fill, stroke=edge))
            words = "branch" if open_ else "skip"
            lines.append(text(x + 35, y + 17, words, 14, fill=ink, anchor="middle"))
            if j < 2:
                lines.append(shape(line(x + 70, y + 12, x + 90, y + 12), stroke=MUTED))
        product = "".join(f"J{'₁₂₃'[j]}" for j in (2, 1, 0) if taken[j]) or "I"
        lines.append(text(286, y + 17, product))
        if taken[1]:
            area = box(370, y, 70, 24)
            lines.append(shape(area, fill="url(#eight-paths-fell)", stroke=DROPPED))
        else:
            lines.append(text(370, y + 17, product))
    lines += [
        shape(line(8, 300, 472, 300), stroke=TEXT),
        text(8, 322, "paths that are left"),
        text(286, 322, "8", bold=True),
        text(370, 322, "4", bold=True),
    ]
    return svg(334, *lines)


# --- two blocks in a row --------------------------------------------------------------


def two_switches() -> str:
    """Two residual blocks, each with a mask at the end of its branch."""
    lines, y = [text(8, 47, "1", 17, bold=True)], 42.0
    arrow = "M{x:g} {y:g}l-8 -5m8 5l-8 5"
    for k, x in enumerate((34.0, 244.0)):
        end = x + 150
        lines.append(shape(line(x - 10, y, end - 11, y), stroke=TEXT))
        lines.append(shape(arrow.format(x=end - 11, y=y), stroke=TEXT))
        lines.append(text(x + 70, y - 10, "skip", 14, anchor="middle"))
        down = f"M{x:g} {y:g}v46h14m58 0h10m50 0h{end - x - 132:g}v-35"
        lines.append(shape(down, stroke=TEXT))
        lines.append(shape(f"M{end:g} {y + 11:g}l-5 8m5 -8l5 8", stroke=TEXT))
        lines.append(shape(box(x + 14, y + 31, 58, 30), stroke=KEPT))
        lines.append(text(x + 43, y + 51, "branch", anchor="middle"))
        lines.append(shape(box(x + 82, y + 31, 50, 30), stroke=DROPPED))
        lines.append(text(x + 107, y + 51, "mask", anchor="middle"))
        ring = f"M{end - 11:g} {y:g}a11 11 0 1 0 22 0a11 11 0 1 0 -22 0"
        plus = f"M{end - 6:g} {y:g}h12m-6 -6v12"
        lines += [shape(ring, stroke=TEXT), shape(plus, stroke=TEXT)]
        out = 416 if k else end + 50
        lines.append(shape(line(end + 11, y, out, y), stroke=TEXT))
        lines.append(text(x, y + 92, "branch kept: × 3", bold=True))
        lines.append(text(x, y + 114, "branch dropped: × 1"))
    lines.append(text(219, y - 10, "1 or 3", 14, anchor="middle"))
    lines.append(text(422, y + 5, "output", 15))
    return svg(166, *lines)


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {
        "caught-maps.svg": caught_maps(),
        "closed-branch.svg": closed_branch(),
        "eight-paths.svg": eight_paths(),
        "four-masks.svg": four_masks(),
        "four-nets.svg": four_masks(averages=False),
        "inputs.svg": inputs(),
        "kept-rows.svg": kept_rows(),
        "levels.svg": levels(),
        "contrast.svg": contrast(),
        "norm-sees.svg": norm_sees(),
        "mask-and-norm.svg": mask_and_norm(),
        "rim-tiles.svg": rim_tiles(),
        "block-regimes.svg": block_regimes(),
        "seed-grows.svg": seed_grows(),
        "seed-places.svg": seed_places(),
        "tags.svg": tags(),
        "two-places.svg": two_places(),
        "two-switches.svg": two_switches(),
        "branch-end.svg": branch_end(),
        "valleys.svg": valleys(),
    }


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
