"""Draw the picture of the interactive figure "depth": sixteen samples, twelve blocks.

Run ``python book/figures/explore_depth.py`` from the root of the repository after a
change; a test compares the stored file with what this script makes.
"""

from pathlib import Path

import torch
from torch import Tensor

from regdrop_lite import drop_path, drop_path_rates

FOLDER = Path(__file__).resolve().parents[1] / "explore"
N, L, P, SEED = 16, 12, 0.5, 3
STEP, ROW, LEFT, TOP = 32, 22, 10, 76


def taken() -> Tensor:
    """Which of the samples take which branches, (N, L)."""
    g = torch.Generator().manual_seed(SEED)
    columns = [
        drop_path(torch.ones(N, dtype=torch.float64), p, generator=g) != 0
        for p in drop_path_rates(P, L)
    ]
    return torch.stack(columns, dim=1)


def draw() -> str:
    """The SVG; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept, dropped = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
    right, bars, skips, boxes = LEFT + L * STEP + 8, "", "", ""
    for block, rate in enumerate(drop_path_rates(P, L)):
        x = LEFT + block * STEP + 4
        bars += f"M{x} 68v-{70 * rate:.1f}h{STEP - 8}V68z"
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 470 {TOP + N * ROW + 36}" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">",
        f'<text x="{LEFT}" y="20" font-size="16" style="fill: {muted}">'
        f"rate of each block, 0 to {P}</text>",
        f'<text x="460" y="62" font-size="16" text-anchor="end" '
        f'style="fill: {muted}">depth</text>',
    ]
    for n, row in enumerate(taken().tolist()):
        y = TOP + n * ROW + ROW // 2
        skips += f"M0 {y}H{right}"
        for block, open_ in enumerate(row):
            if open_:
                x = LEFT + block * STEP + 4
                boxes += f"M{x} {y - 7}h{STEP - 8}v14h-{STEP - 8}z"
        lines.append(
            f'<text x="452" y="{y + 6}" font-size="16" text-anchor="end" '
            f'style="fill: {text}">{sum(row)}</text>'
        )
    bottom = TOP + N * ROW + 24
    lines += [
        f'<path d="{bars}" style="fill: {dropped}"/>',
        f'<path d="{skips}" style="fill: none; stroke: {muted}"/>',
        f'<path d="{boxes}" style="fill: {kept}"/>',
        f'<text x="{LEFT}" y="{bottom}" font-size="16" style="fill: {muted}">'
        "Rows: samples. Box: a branch. Bare line: the skip.</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {"depth.svg": draw()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
