"""Draw the picture of the interactive figure "noise": four methods and three sums.

Run ``python book/figures/explore_noise.py`` from the root of the repository after a
change; a test compares the stored file with what this script makes.
"""

from pathlib import Path

import torch

from regdrop_lite.course.ensembles import (
    added_variance,
    block_covariance,
    group_covariance,
)

FOLDER = Path(__file__).resolve().parents[1] / "explore"
P = 0.2
SUMS = {
    "all eight added up": [1, 1, 1, 1, 1, 1, 1, 1],
    "a contrast in each map": [1, 1, -1, -1, 1, 1, -1, -1],
    "one map against the other": [1, 1, 1, 1, -1, -1, -1, -1],
}


def noise() -> dict[str, dict[str, float]]:
    """The added variance of each sum of two maps of four values, by method."""
    values = torch.arange(8)
    methods = {
        "one value": group_covariance(values, P),
        "two neighbours": block_covariance((1, 4), 2, P, 2),
        "a map": group_covariance(values // 4, P),
        "everything": group_covariance(values * 0, P),
    }
    return {
        words: {
            name: added_variance(torch.tensor(u, dtype=torch.float64), K).item()
            for name, K in methods.items()
        }
        for words, u in SUMS.items()
    }


def draw() -> str:
    """The SVG; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept = "var(--fig-kept, #0072b2)"
    found = noise()
    scale = 280 / max(max(row.values()) for row in found.values())
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 456" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
    ]
    y = 24
    for words, row in found.items():
        signs = "".join("+" if u > 0 else "−" for u in SUMS[words])
        lines += [
            f'<text x="10" y="{y}" font-size="18" font-weight="700" '
            f'style="fill: {text}">{words}</text>',
            f'<text x="490" y="{y}" font-size="18" text-anchor="end" '
            f'style="fill: {muted}">{signs[:4]} {signs[4:]}</text>',
        ]
        for name, value in row.items():
            y += 28
            lines += [
                f'<text x="10" y="{y}" font-size="16" style="fill: {muted}">{name}'
                "</text>",
                f'<path d="M142 {y - 14}h{max(value * scale, 1.5):.1f}v17h'
                f'-{max(value * scale, 1.5):.1f}z" style="fill: {kept}"/>',
                f'<text x="{150 + value * scale:.1f}" y="{y}" font-size="16" '
                f'style="fill: {text}">{value:.2f}</text>',
            ]
        y += 44
    return "\n".join([*lines, "</svg>"]) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {"noise.svg": draw()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
