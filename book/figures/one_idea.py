"""Draw the picture of the landing page: one multiplication, four masks.

The masks are not drawn by hand: each panel shows one draw of a real layer on a batch
of ones. Run ``python book/figures/one_idea.py`` from the root of the repository after
a change; a test compares the stored files with what this script makes.

It writes three files to ``book/_static``. ``one-idea.svg`` takes its colours from the
page around it (the site puts it inline), the other two have fixed colours for a light
and for a dark background (GitHub shows them in the README).
"""

from pathlib import Path

import torch
from torch import Tensor

from regdrop_lite import drop_block, drop_path, spatial_dropout

STATIC = Path(__file__).resolve().parents[1] / "_static"

N, C, H, W = 4, 4, 6, 6  # samples, channels, height, width
P = 0.25
BLOCK = 3
SEED = 147

# name of the CSS variable: colour on a light page, colour on a dark page
COLOURS = {
    "--fig-text": ("#222832", "#ced6dd"),
    "--fig-muted": ("#48566b", "#9ca4af"),
    "--fig-kept": ("#0072b2", "#56b4e9"),
    "--fig-dropped": ("#b34e00", "#e69f00"),
}

CELL = 8
MAP = CELL * W
GAP = 6
PANEL_HEIGHT = N * (MAP + GAP) - GAP
LEFT, TOP, STEP_X, STEP_Y = 25, 142, 260, 290
WIDTH, HEIGHT = 520, 726


def masks() -> dict[str, tuple[str, Tensor]]:
    """For each panel: what it is called, what falls together, and what was kept."""
    x = torch.ones(N, C, H, W)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(SEED)

    draws = {
        "Element": (
            "each value on its own",
            drop_block(x, P, 1, generator=generator()),
        ),
        "Channel": (
            "a whole feature map",
            spatial_dropout(x, P, generator=generator()),
        ),
        "Block": (
            f"a {BLOCK} × {BLOCK} square of a map",
            drop_block(x, P, BLOCK, generator=generator()),
        ),
        "Path": ("all channels of a sample", drop_path(x, P, generator=generator())),
    }
    return {name: (text, y > 0) for name, (text, y) in draws.items()}


def cells(mask: Tensor, x0: float, y0: float) -> tuple[str, str, str]:
    """Path data of a panel: kept squares, dropped squares, strokes of the dropped."""
    kept, dropped, strokes = [], [], []
    side = CELL - 1
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, mask.shape)).tolist():
        x = x0 + c * (MAP + GAP) + j * CELL
        y = y0 + n * (MAP + GAP) + i * CELL
        if mask[n, c, i, j]:
            kept.append(f"M{x} {y}h{side}v{side}h-{side}z")
        else:
            dropped.append(f"M{x} {y}h{side}v{side}h-{side}z")
            strokes.append(f"M{x} {y + side}l{side} -{side}")
    return "".join(kept), "".join(dropped), "".join(strokes)


def draw(theme: int | None = None) -> str:
    """The SVG: colours of theme 0 (light) or 1 (dark), or those of the page (None)."""
    colours = {
        name: pair[theme] if theme is not None else f"var({name}, {pair[0]})"
        for name, pair in COLOURS.items()
    }
    text, muted = colours["--fig-text"], colours["--fig-muted"]
    kept, dropped = colours["--fig-kept"], colours["--fig-dropped"]

    def label(
        x: float, y: float, content: str, size: int, fill: str, more: str = ""
    ) -> str:
        return (
            f'<text x="{x}" y="{y}" font-size="{size}" style="fill: {fill}"'
            f"{more}>{content}</text>"
        )

    middle = ' text-anchor="middle"'
    mark = f'<tspan style="fill: {dropped}" font-weight="700">mask</tspan>'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">",
        label(WIDTH / 2, 38, f"y = x · {mark} · scale", 30, text, middle),
        label(
            WIDTH / 2,
            70,
            "The mask is 0 or 1. The scale keeps the mean.",
            17,
            muted,
            middle,
        ),
    ]
    for k, (name, (what, mask)) in enumerate(masks().items()):
        x = LEFT + (k % 2) * STEP_X
        y = TOP + (k // 2) * STEP_Y
        solid, outline, strokes = cells(mask, x, y)
        lines += [
            label(x, y - 32, name, 19, text, ' font-weight="700"'),
            label(x, y - 11, what, 17, muted),
            f'<path d="{solid}" style="fill: {kept}"/>',
            f'<path d="{outline}{strokes}" '
            f'style="fill: none; stroke: {dropped}; stroke-width: 1"/>',
        ]
    y = TOP + STEP_Y + PANEL_HEIGHT + 24
    lines += [
        f'<path d="M{LEFT} {y}h15v15h-15z" style="fill: {kept}"/>',
        label(LEFT + 24, y + 13, "kept, times the scale", 17, text),
        f'<path d="M{LEFT + STEP_X} {y}h15v15h-15zm0 15l15 -15" '
        f'style="fill: none; stroke: {dropped}; stroke-width: 1.5"/>',
        label(LEFT + STEP_X + 24, y + 13, "dropped: 0", 17, text),
        label(
            LEFT,
            y + 45,
            f"Rows: {N} samples. Columns: {C} channels. p = {P:g}.",
            17,
            muted,
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


FILES = {"one-idea.svg": None, "one-idea-light.svg": 0, "one-idea-dark.svg": 1}

if __name__ == "__main__":
    for file, theme in FILES.items():
        (STATIC / file).write_text(draw(theme), encoding="utf-8", newline="\n")
    for name, (_, mask) in masks().items():
        print(f"{name}: {(~mask).sum().item()} of {mask.numel()} values dropped")
