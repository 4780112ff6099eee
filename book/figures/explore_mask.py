"""Write what the interactive figure "mask" shows: four photographs as edge maps.

Run ``python book/figures/explore_mask.py`` from the root of the repository after a
change; a test compares the stored files with what this script makes.

``book/explore/mask.json`` has for each of four photographs four maps of 14 by 14
values, each value one hexadecimal digit. The pictures stand where no script runs, each
with one draw of real layers: of methods (``mask.svg``) and blocks.
"""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite import drop_block, drop_path, spatial_dropout
from regdrop_lite.course.data import load_data

FOLDER = Path(__file__).resolve().parents[1] / "explore"
SAMPLES = {"ankle boot": 0, "trousers": 16, "bag": 23, "T-shirt": 1}
SIZE, P, SEED = 14, 0.25, 31
CELL, GAP, STEP_X, STEP_Y = 4, 6, 262, 190


def maps() -> Tensor:
    """Four edge maps of four photographs, (4, 4, 14, 14), digits 0 to 15."""
    angle = torch.arange(4).view(4, 1, 1) * math.pi / 2
    y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing="ij")
    bell = torch.exp(-(x**2 + y**2) / 2)
    bank = ((angle.cos() * x + angle.sin() * y) * bell).double()
    images = load_data().train.images[list(SAMPLES.values())].double() / 255
    edges = F.avg_pool2d(F.relu(F.conv2d(images, bank[:, None], padding=2)), 2)
    largest = edges.amax(dim=(1, 2, 3), keepdim=True)
    return (15 * (edges / largest) ** 0.7).round().to(torch.int64)


def contents() -> dict[str, object]:
    """What the module reads."""
    rows = maps().flatten(2).tolist()
    hexadecimal = [["".join(f"{v:x}" for v in row) for row in maps] for maps in rows]
    return {"samples": list(SAMPLES), "maps": hexadecimal}


def draws() -> dict[str, dict[str, tuple[str, Tensor]]]:
    """For each picture its panels: title, words, and what of (2, 4, 14, 14) is kept."""
    x = torch.ones(2, 4, SIZE, SIZE)

    def block(k: int, border: str = "valid") -> Tensor:
        g = torch.Generator().manual_seed(SEED)
        return drop_block(x, P, k, border=border, generator=g) > 0

    def other(layer: Callable[..., Tensor]) -> Tensor:
        return layer(x, P, generator=torch.Generator().manual_seed(SEED)) > 0

    return {
        "mask.svg": {
            "Element dropout": ("each value on its own", block(1)),
            "SpatialDropout": ("a whole feature map", other(spatial_dropout)),
            "DropBlock": ("a 5 × 5 block of a map", block(5)),
            "DropPath": ("all maps of a sample", other(drop_path)),
        },
        "mask-blocks.svg": {
            "k = 1": ("element dropout", block(1)),
            "k = 5": ("blocks inside the map", block(5)),
            "k = 5, “clip”": ("blocks cut at the border", block(5, "clip")),
            "k = 14, the map’s size": ("channel dropout", block(14)),
        },
    }


def squares(chosen: Tensor) -> str:
    """Squares of a map as the data of one path, neighbours in a row as one."""
    data = []
    for i, row in enumerate(chosen.tolist()):
        j = 0
        for one, run in itertools.groupby(row):
            length = len(list(run))
            if one:
                data.append(f"M{j} {i}h{length}v1h-{length}z")
            j += length
    return "".join(data)


def draw(name: str, panels: dict[str, tuple[str, Tensor]]) -> str:
    """The SVG of four panels; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    dropped, side = "var(--fig-dropped, #b34e00)", SIZE * CELL
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 510 375" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\"><defs>",
        f'<pattern id="{name}-fell" width="1.5" height="1.5" '
        'patternUnits="userSpaceOnUse"><path d="M0 0h1.5v1.5h-1.5z" '
        'style="fill: var(--pst-color-background, #fff)"/>'
        '<path d="M-.3 .3L.3 -.3M0 1.5L1.5 0M1.2 1.8L1.8 1.2" '
        f'style="stroke: {dropped}; stroke-width: 0.3"/></pattern>',
    ]
    digits = maps()[:2]
    for n, c in itertools.product(range(2), range(4)):
        levels = [
            f'<path d="{squares(digits[n, c] == level)}" opacity="{level / 15:.2f}"/>'
            for level in range(1, 16)
            if (digits[n, c] == level).any()
        ]
        lines.append(f'<g id="{name}-{n}{c}">{"".join(levels)}</g>')
    lines.append("</defs>")
    for k, (title, (words, kept)) in enumerate(panels.items()):
        x0, y0 = 2 + k % 2 * STEP_X, 56 + k // 2 * STEP_Y
        lines += [
            f'<text x="{x0}" y="{y0 - 30}" font-size="18" font-weight="700" '
            f'style="fill: {text}">{title}</text>',
            f'<text x="{x0}" y="{y0 - 9}" font-size="16" style="fill: {muted}">'
            f"{words}</text>",
        ]
        for n, c in itertools.product(range(2), range(4)):
            where = f"{x0 + c * (side + GAP)} {y0 + n * (side + GAP)}"
            lines.append(
                f'<g transform="translate({where}) scale({CELL})">'
                f'<use href="#{name}-{n}{c}" style="fill: {text}"/>'
                f'<path d="{squares(~kept[n, c])}" '
                f'style="fill: url(#{name}-fell)"/>'
                f'<path d="M0 0h{SIZE}v{SIZE}h-{SIZE}z" '
                f'style="fill: none; stroke: {muted}; stroke-width: 0.15"/></g>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    drawings = {
        name: draw(name.removesuffix(".svg"), panels)
        for name, panels in draws().items()
    }
    return {"mask.json": json.dumps(contents(), indent=1) + "\n", **drawings}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
