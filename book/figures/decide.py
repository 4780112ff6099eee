"""Draw the decisions of chapter 5 as a tree: none, which one, where, how much.

Run ``python book/figures/decide.py`` from the root of the repository after a change; a
test compares the stored file with what this script makes. Each leaf leads to the
section of the page that holds its evidence.
"""

from places import MASK, MUTED, STATIC, TEXT, arrow, stroke, svg, text

BOLD, MIDDLE = ' font-weight="700"', ' text-anchor="middle"'
# A section: its anchor, how a link to it is written, and its title.
ROW = ("find-your-row", "rows", "Find your row")
PLACE = ("where-does-it-stand", "place", "Where does it stand?")
RATE = ("how-strong-and-when", "rate", "How strong, and when?")
ADDS = ("what-does-a-mask-add", "gains", "What does a mask add?")

# A question, what to do after "yes" (two lines; "*": a mask takes part), what that
# rests on, and where that stands.
QUESTIONS = [
    (
        ("Pre-trained", "weights?"),
        ("*ViT: the published rate", "ResNet: none at first"),
        ("reported; heuristic", ROW),
    ),
    (
        ("Not trained yet, but a", "recipe is published?"),
        ("*The whole recipe;", "beside it half the rate, 0"),
        ("reported", RATE),
    ),
    (
        (
            "Training accuracy",
            "(eval, unaugmented)",
            "as low as validation,",
            "and both too low?",
        ),
        ("No mask: it underfits", "(a ViT: early DropPath)"),
        ("reported", ROW),
    ),
    (
        ("Not augmented yet,", "and it can be?"),
        ("Augment, no mask:", "+9 with wrong labels"),
        ("measured", ADDS),
    ),
    (
        ("Augmented, and", "still it overfits?"),
        ("*A mask, half the rate", "(a small ResNet: none)"),
        ("heuristic", ROW),
    ),
    (
        ("Are some labels", "wrong?"),
        ("*A short training;", "then any mask at 0.2"),
        ("measured", ADDS),
    ),
    (
        ("Is it right, but far", "too sure?"),
        ("*A temperature,", "or any mask, 0.1 to 0.2"),
        ("reported; measured", ROW),
    ),
]
ELSE = ("Weight decay, tuned:", "no mask did better"), ("measured", ADDS)
IF_A_MASK = [
    (
        "Which?",
        (
            "New ResNet: any. U-Net: SpatialDropout.",
            "Detector: DropBlock. Others: DropPath",
        ),
        ROW,
    ),
    ("Where?", ("Last in the branch,", "before the sum with the skip"), PLACE),
    (
        "How much?",
        ("Small net: 0.2. Others: as published.", "Run 0, half and twice, too"),
        RATE,
    ),
    (
        "Schedule?",
        ("That of the recipe. If there is none:", "one rate for all blocks"),
        RATE,
    ),
]

LEFT, LEAF, HIGH, ROWS = 200, 254, 82, 102


def lines(x: float, y: float, words: tuple[str, ...], bold: int) -> list[str]:
    """Lines of words in the middle around x; the first ones are bold."""
    return [
        text(x, y + 21 * k, line, more=MIDDLE + BOLD * (k < bold))
        for k, line in enumerate(words)
    ]


def link(x: float, y: float, words: str, section: tuple[str, str, str]) -> str:
    """Where the evidence stands: a link that looks like one."""
    target, short, title = section
    said = f"{words} → {short}" if words else f"→ {title}"
    line = ' text-anchor="middle" text-decoration="underline"'
    name = f"<title>To the section: {title}</title>"
    return f'<a href="#{target}">{name}{text(x, y, said, MUTED, line)}</a>'


def leaf(
    x: float,
    y: float,
    words: tuple[str, ...],
    rests: str,
    section: tuple[str, str, str],
) -> list[str]:
    """What to do. One with a mask is hatched at its ends."""
    mask = words[0].startswith("*")
    colour = MASK if mask else TEXT
    parts = [stroke(f"M{x:g} {y:g}h{LEAF}v{HIGH}h{-LEAF}z", colour, 2.5)]
    if mask:
        for left, top in ((x, y + 14), (x + LEAF - 14, y + HIGH)):
            parts.append(stroke(f"M{left:g} {top:g}l14 -14", colour))
    first, second = words
    middle = x + LEAF / 2
    parts += lines(middle, y + 24, (first.removeprefix("*"), second), 1)
    return [*parts, link(middle, y + 70, rests, section)]


def taller(question: tuple[str, ...]) -> int:
    """By how much a question is taller than one of two lines."""
    return 21 * (len(question) - 2)


def tree(x: float, y: float) -> list[str]:
    """Questions below one another; "yes" leads to the right, "no" down."""
    parts = []
    middle, right = x + LEFT / 2, x + LEFT + 46
    for question, words, (rests, section) in QUESTIONS:
        more = taller(question)  # than a box of two lines
        half = y + 41 + more / 2
        box = f"M{x:g} {y + 10:g}h{LEFT}v{62 + more}h{-LEFT}z"
        parts.append(stroke(box))
        parts += lines(middle, y + 36, question, 0)
        parts.append(text(x + LEFT + 22, half - 7, "yes", MUTED, MIDDLE))
        parts.append(stroke(f"M{x + LEFT:g} {half:g}H{right:g}m-6 -4l6 4l-6 4"))
        parts += leaf(right, half - 41, words, rests, section)
        y += more
        last = question is QUESTIONS[-1][0]
        parts.append(arrow(middle, y + 72, y + ROWS + (4 if last else 10)))
        parts.append(text(middle + 10, y + 92, "no", MUTED))
        y += ROWS
    words, (rests, section) = ELSE
    return [*parts, *leaf(x - 5, y + 4, words, rests, section)]


def if_a_mask(x: float, y: float) -> list[str]:
    """Four decisions more, for whoever has come to a mask."""
    parts = [text(x, y, "And if it is a mask", more=BOLD)]
    y += 12
    for question, words, section in IF_A_MASK:
        parts.append(stroke(f"M{x:g} {y:g}h500v{HIGH}h-500z", MASK, 1.5))
        parts.append(text(x + 14, y + 47, question, MASK, BOLD))
        parts += lines(x + 310, y + 24, words, 0)
        parts.append(link(x + 310, y + 70, "", section))
        y += HIGH + 8
    return parts


def draw() -> dict[str, str]:
    """The picture, by the name of its file."""
    rows = sum(ROWS + taller(question) for question, *_ in QUESTIONS)
    end = 10 + rows + 4 + HIGH
    parts = tree(10, 10), if_a_mask(10, end + 34)
    return {"decide.svg": svg(end + 34 + 14 + len(IF_A_MASK) * (HIGH + 8), *parts)}


if __name__ == "__main__":
    for name, content in draw().items():
        (STATIC / name).write_text(content, encoding="utf-8", newline="\n")
