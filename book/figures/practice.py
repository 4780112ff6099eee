"""Draw chapter 6: the steps, a swap, four faults, a resume, ranks, what is skipped.

Run ``python book/figures/practice.py`` from the root of the repository after a change;
a test compares the stored files with what this script makes.
"""

from places import (
    BOX,
    LINE,
    MASK,
    MUTED,
    STATIC,
    TEXT,
    arrow,
    box,
    stroke,
    svg,
    text,
)

BOLD, MIDDLE = ' font-weight="700"', ' text-anchor="middle"'

# The steps of a training, whether it begins or goes on.
STEPS = {
    "build": "the net (timm: with drop_path_rate)",
    "swap": "replace_layers(…, fill=True)",
    "audit": "until you can explain each warning",
    "optimizer": "and, if you want one, LinearRamp",
    "load": "first run: nothing\nresumed run: net, optimizer, ramp",
    "generators": "first run: new seeds\nresumed run: their stored states",
    "train": "ramp.step(), each step; then save",
}

# Ten steps in two halves: the steps of the ramp, and which masks are drawn.
FIRST, SECOND = range(5), range(5, 10)
RUNS = {
    "in one go": (SECOND, SECOND),
    "all states": (SECOND, SECOND),
    "ramp lost": (FIRST, SECOND),
    "masks lost": (SECOND, FIRST),
}

# Four samples on each of two ranks: the dropped ones, as the page prints them.
RANKS = {
    "seed + rank": ((1, 2, 3), (3,)),
    "one seed for all": ((1, 2, 3), (1, 2, 3)),
}


def order(x: float, y: float) -> list[str]:
    """The steps from top to bottom."""
    parts = []
    for step, words in STEPS.items():
        parts += box(x, y, 150, step)
        said = words.split("\n")
        for k, line in enumerate(said):
            parts.append(text(x + 170, y + 33 - 11 * len(said) + 21 * k, line))
        if step != "train":
            parts.append(arrow(x + 75, y + BOX, y + LINE + 14 * (len(said) - 1)))
        y += LINE + 14 * (len(said) - 1)
    return parts


def past_swap(x: float, y: float) -> list[str]:
    """A way from "build" to "audit": for a net that was built with its rate."""
    way = f"M{x:g} {y + 16:g}h-24v{2 * LINE:g}h24m-8 -5l8 5l-8 5"
    return [stroke(way, TEXT, 2.5)]


def place(x: float, y: float, words: str) -> list[str]:
    """A place for a layer: empty (dashed), a layer at rate 0, or one that drops."""
    if words != "Identity":
        return box(x, y, 100, words)
    line = stroke(f"M{x:g} {y:g}h100v{BOX}h-100z")
    dashed = line.replace("fill: none;", "fill: none; stroke-dasharray: 6 5;")
    return [dashed, text(x + 50, y + 22, words, MUTED, MIDDLE)]


def swap(x: float, y: float) -> list[str]:
    """Three blocks with two places each: built at rate 0, and after the swap."""
    parts = []
    columns = {"built at rate 0": 74, "DropPath, with p": 304}
    for title, left in columns.items():
        parts.append(text(x + left + 100, y, title, more=MIDDLE + BOLD))
    y += 14
    for k, rate in enumerate(("0", "*0.125", "*0.25")):
        parts.append(text(x, y + 55, f"block {k}", more=BOLD))
        high = 2 * LINE + 6
        for left, layer in zip(columns.values(), ("Identity", rate), strict=True):
            parts.append(stroke(f"M{x + left:g} {y:g}h200v{high}h-200z"))
            for j, branch in enumerate(("attention", "MLP")):
                top = y + 10 + j * LINE
                parts.append(text(x + left + 8, top + 22, branch))
                parts += place(x + left + 92, top, layer)
        way = f"M{x + 278:g} {y + high / 2:g}h22m-8 -5l8 5l-8 5"
        parts.append(stroke(way, TEXT, 2.5))
        y += high + 16
    return parts


# A careless module from top to bottom: what it calls, and what the audit says of it.
FAULTS = {
    "attention": (),
    "*1  DropPath": ("time steps instead of", "samples"),
    "sum": (),
    "*3  Dropout": ("in a plain list, which", "eval() does not reach"),
    "*4  F.dropout": ("no layer; and it works", "in evaluation"),
}


def faults(x: float, y: float) -> list[str]:
    """Four faults where they stand; the layer that nobody calls hangs beside."""
    parts = [arrow(x + 85, y, y + 14)]
    to_sum = 14 + (BOX + 26) * list(FAULTS).index("sum") + BOX / 2
    skip = f"M{x + 85:g} {y + 4:g}H{x - 14:g}V{y + to_sum:g}H{x:g}m-8 -5l8 5l-8 5"
    parts.append(stroke(skip))
    y += 14
    for name, says in FAULTS.items():
        parts += box(x, y, 170, name)
        for k, line in enumerate(says):
            parts.append(text(x + 250, y + 12 + 21 * k, line))
        if says:
            parts.append(stroke(f"M{x + 244:g} {y + 16:g}H{x + 176:g}m8 -5l-8 5l8 5"))
        parts.append(arrow(x + 85, y + BOX, y + BOX + 26))
        y += BOX + 26
    y += 20
    parts += box(x, y, 170, "*2  DropPath")
    parts.append(text(x + 250, y + 22, "never called: no arrow"))
    parts.append(text(x + 250, y + 43, "leads to it"))
    return parts


def resume(x: float, y: float) -> list[str]:
    """Bars as high as the rate of a step; the letter below names its mask."""
    parts = []
    for run, (rates, masks) in RUNS.items():
        parts.append(text(x, y + 54, run, more=BOLD))
        for step in range(10):
            half = step - 5
            rate = step if half < 0 else rates[half]
            mask = step if half < 0 else masks[half]
            left = x + 128 + 35 * step + (26 if half >= 0 and run != "in one go" else 0)
            high = 6 + 5 * rate
            bar = f"M{left:g} {y + 58:g}v{-high}h26v{high}z"
            parts.append(stroke(bar, MASK if rate != step else MUTED, 2.5))
            if rate != step:
                parts.append(stroke(f"M{left:g} {y + 58:g}l{high} {-high}", MASK))
            wrong = mask != step
            letter = "abcdefghij"[mask]
            more = MIDDLE + BOLD * wrong
            colour = MASK if wrong else TEXT
            parts.append(text(left + 13, y + 78, letter, colour, more))
            if wrong:
                parts.append(stroke(f"M{left + 4:g} {y + 83:g}h18", MASK, 2.5))
        if run != "in one go":
            parts.append(stroke(f"M{x + 312:g} {y + 8:g}v74", TEXT, 3))
        y += 96
    parts.append(text(x + 312, y + 14, "stopped, stored, built anew", MUTED, MIDDLE))
    return parts


def sample(x: float, y: float, dropped: bool) -> list[str]:
    """A sample: a square, crossed out if it is dropped."""
    colour = MASK if dropped else MUTED
    parts = [stroke(f"M{x:g} {y:g}h26v26h-26z", colour, 2.5 if dropped else 1.5)]
    if dropped:
        parts.append(stroke(f"M{x:g} {y:g}l26 26m0 -26l-26 26", colour, 2.5))
    return parts


def ranks(x: float, y: float) -> list[str]:
    """The same weights on both ranks; two ways to seed their masks."""
    parts = []
    for rank in range(2):
        middle = x + 240 + 170 * rank
        parts.append(text(middle, y + 14, f"rank {rank}", more=MIDDLE + BOLD))
    y += 28
    parts.append(text(x, y + 22, "weights", more=BOLD))
    for rank in range(2):
        parts += box(x + 170 + 170 * rank, y, 140, "the same")
    y += LINE + 10
    for name, drops in RANKS.items():
        parts.append(text(x, y + 20, "masks:", more=BOLD))
        parts.append(text(x, y + 42, name, more=BOLD))
        for rank, dropped in enumerate(drops):
            for k in range(4):
                left = x + 174 + 170 * rank + 35 * k
                parts += sample(left, y + 10, k in dropped)
        verdict = "eight coins for eight samples"
        if drops[0] == drops[1]:
            verdict = "four coins: both ranks drop alike"
        parts.append(text(x + 325, y + 62, verdict, MUTED, MIDDLE))
        y += 84
    return parts


def skipped(x: float, y: float) -> list[str]:
    """Five samples at a branch: all are computed, or the kept ones only."""
    dropped = (1, 3)
    parts = []
    for name, left in (("DropPath", x), ("drop_residual", x + 262)):
        parts.append(text(left, y, name, more=BOLD))
        for k in range(5):
            at, top = left + 45 * k, y + 16
            middle = at + 13
            parts += sample(at, top, False)
            if name == "drop_residual" and k in dropped:  # past the branch
                past = f"M{middle:g} {top + 26:g}V{top + 150:g}m-4 -6l4 6l4 -6"
                parts.append(stroke(past, MASK, 2.5))
                continue
            parts.append(arrow(middle, top + 26, top + 50))
            parts.append(stroke(f"M{at - 6:g} {top + 50:g}h38v34h-38z", TEXT))
            parts.append(text(middle, top + 73, "f", TEXT, MIDDLE))
            if name == "DropPath":
                parts.append(arrow(middle, top + 84, top + 104))
                parts += sample(at, top + 104, k in dropped)
            if not (name == "DropPath" and k in dropped):
                begin = top + (130 if name == "DropPath" else 84)
                parts.append(arrow(middle, begin, top + 150))
        parts.append(text(left + 103, y + 188, "sum with the skip", MUTED, MIDDLE))
        number = "five branches computed" if name == "DropPath" else "three computed"
        parts.append(text(left + 103, y + 214, number, TEXT, MIDDLE + BOLD))
    return parts


def draw() -> dict[str, str]:
    """The pictures, by the names of their files."""
    return {
        "order.svg": svg(364, order(40, 10), past_swap(40, 10)),
        "swap.svg": svg(386, swap(6, 24)),
        "faults.svg": svg(400, faults(20, 6)),
        "resume.svg": svg(420, resume(10, 0)),
        "ranks.svg": svg(270, ranks(10, 6)),
        "skipped.svg": svg(250, skipped(16, 24)),
    }


if __name__ == "__main__":
    for name, content in draw().items():
        (STATIC / name).write_text(content, encoding="utf-8", newline="\n")
