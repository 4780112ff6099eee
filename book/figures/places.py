"""Draw where a mask stands, in six kinds of nets.

Run ``python book/figures/places.py`` from the root of the repository after a change; a
test compares the stored files with what this script makes. The colours are those of the
page around it.
"""

from pathlib import Path

STATIC = Path(__file__).resolve().parents[1] / "_static"

TEXT, MUTED = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
MASK = "var(--fig-dropped, #b34e00)"
WIDTH = 520
BOX, LINE = 32, 46  # height of a box, distance of two

# What a block does after its last sum.
BEHIND = {"ResNet-50": "ReLU", "Frozen BatchNorm": "ReLU"}

# A block: its branches, each from the input to the sum. A mask is marked by "*".
BLOCKS = {
    "ResNet-50": [
        ["1 × 1, norm, ReLU", "3 × 3, norm, ReLU", "1 × 1, norm", "*any mask"]
    ],
    "ConvNeXt": [
        [
            "7 × 7 by channel",
            "norm",
            "linear, GELU",
            "linear",
            "LayerScale",
            "*DropPath",
        ]
    ],
    "Transformer, pre-norm": [
        ["norm", "attention", "LayerScale", "*DropPath"],
        ["norm", "MLP", "LayerScale", "*DropPath"],
    ],
    "Swin, shifted windows": [
        ["norm", "shift, cut", "attention", "join, shift", "*DropPath"],
        ["norm", "MLP", "*DropPath"],
    ],
    "Frozen BatchNorm": [
        ["1 × 1, norm, ReLU", "3 × 3, norm, ReLU", "1 × 1, norm", "*any mask"]
    ],
}


def text(x: float, y: float, content: str, fill: str = TEXT, more: str = "") -> str:
    """One line of words."""
    place = f'x="{x:g}" y="{y:g}" font-size="17" style="fill: {fill}"{more}'
    return f"<text {place}>{content}</text>"


def stroke(path: str, colour: str = MUTED, width: float = 1.5) -> str:
    """A line."""
    return (
        f'<path d="{path}" style="fill: none; stroke: {colour}; '
        f'stroke-width: {width:g}"/>'
    )


def box(x: float, y: float, width: float, content: str) -> list[str]:
    """A part of a net, or a mask: thick, hatched at its ends, bold."""
    mask = content.startswith("*")
    colour = MASK if mask else MUTED
    parts = [
        stroke(f"M{x:g} {y:g}h{width:g}v{BOX}h{-width:g}z", colour, 1 + 1.5 * mask)
    ]
    if mask:
        for left in (x, x + width - 16):
            parts.append(stroke(f"M{left:g} {y + 16:g}l16 -16m-16 32l16 -16", colour))
    weight = ' text-anchor="middle"' + ' font-weight="700"' * mask
    words = content.removeprefix("*")
    middle = x + width / 2
    return [*parts, text(middle, y + 22, words, MASK if mask else TEXT, weight)]


def arrow(x: float, y: float, end: float) -> str:
    """Downwards, from y to ``end``."""
    return stroke(f"M{x:g} {y:g}V{end:g}m-4 -6l4 6l4 -6")


def block(x: float, y: float, name: str) -> list[str]:
    """A residual block with its skip at the left."""
    parts = [text(x, y, name, more=' font-weight="700"')]
    middle, y = x + 135, y + 14
    for branch in BLOCKS[name]:
        start = y + 8
        parts.append(arrow(middle, y, y + 24))
        y += 24
        for content in branch:
            parts += box(x + 50, y, 170, content)
            parts.append(arrow(middle, y + BOX, y + LINE))
            y += LINE
        skip = f"M{middle:g} {start:g}H{x + 20:g}V{y + 10:g}H{middle - 10:g}"
        parts.append(stroke(skip + "m-6 -4l6 4l-6 4"))
        plus = f"M{middle:g} {y:g}a10 10 0 0 1 0 20a10 10 0 0 1 0 -20m0 5v10m-5 -5h10"
        parts.append(stroke(plus, TEXT))
        y += 20
    if name in BEHIND:
        parts.append(arrow(middle, y, y + 14))
        parts += box(x + 50, y + 14, 170, BEHIND[name])
        y += 14 + BOX
    parts.append(arrow(middle, y, y + 20))
    return parts


def u_net(x: float, y: float) -> list[str]:
    """Three levels down, three up; long skips across."""
    parts = [text(x, y, "U-Net", more=' font-weight="700"')]
    y += 24
    for level in range(2):
        top = y + 74 * level
        left, right = x + 22 * level, x + 236 - 22 * level - 62
        parts += box(left, top, 62, "down") + box(right, top, 62, "up")
        parts.append(stroke(f"M{left + 62} {top + 16}H{right}m-6 -4l6 4l-6 4"))
        below = top + 74
        parts.append(arrow(left + 31 + 11, top + BOX, below))
        parts.append(stroke(f"M{right + 20} {below:g}V{top + BOX}m-4 6l4 -6l4 6"))
    parts.append(text(x + 118, y + 8, "long skips", MUTED, ' text-anchor="middle"'))
    parts.append(text(x + 118, y + 38, "no mask", MUTED, ' text-anchor="middle"'))
    parts += box(x + 18, y + 148, 200, "*SpatialDropout")
    return parts


def windows(x: float, y: float) -> list[str]:
    """What is cut and joined inside the first branch of a Swin block."""
    top, bottom = y + BOX / 2, y + 2 * LINE + BOX / 2
    middle = (top + bottom) / 2
    turned = f' text-anchor="middle" transform="rotate(90 {x + 18:g} {middle:g})"'
    return [
        stroke(f"M{x:g} {top:g}h10v{bottom - top:g}h-10"),
        text(x + 18, middle, "windows", MUTED, turned),
    ]


def frozen(x: float, y: float) -> list[str]:
    """What follows the backbone of a detector."""
    parts = []
    for content in ("neck", "*DropBlock", "head"):
        parts += box(x + 50, y, 170, content)
        if content != "head":
            parts.append(arrow(x + 135, y + BOX, y + LINE))
        y += LINE
    parts.append(text(x + 20, y + 18, "frozen norms: statistics", MUTED))
    parts.append(text(x + 20, y + 39, "cannot follow a mask", MUTED))
    return parts


def classifier(x: float, y: float) -> list[str]:
    """The end of a net that is fine-tuned: its one dropout."""
    parts = [text(x, y, "Its end, if it is fine-tuned", more=' font-weight="700"')]
    y += 12
    for content in ("mean of each map", "*Dropout", "classifier"):
        parts += box(x + 50, y, 170, content)
        if content != "classifier":
            parts.append(arrow(x + 135, y + BOX, y + LINE))
        y += LINE
    return parts


def svg(height: int, *parts: list[str], width: int = WIDTH) -> str:
    """A picture of these parts."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">",
        *(line for part in parts for line in part),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def draw() -> dict[str, str]:
    """The pictures, by the names of their files."""
    return {
        "places.svg": svg(
            1030,
            block(10, 24, "ResNet-50"),
            classifier(10, 366),
            block(270, 24, "ConvNeXt"),
            # Where there is room, these two stand beside the others (course.css).
            ['<g class="second-row">'],
            block(10, 530, "Transformer, pre-norm"),
            u_net(280, 530),
            ["</g>"],
        ),
        "places_windows.svg": svg(
            536,
            block(10, 24, "Swin, shifted windows"),
            windows(236, 24 + 14 + 24 + LINE),
            block(290, 24, "Frozen BatchNorm"),
            frozen(290, 24 + 14 + 24 + 4 * LINE + 86),
        ),
    }


if __name__ == "__main__":
    for name, content in draw().items():
        (STATIC / name).write_text(content, encoding="utf-8", newline="\n")
