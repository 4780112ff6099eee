"""Draw the picture of the interactive figure "restore": a map, its gaps, and a guess.

Run ``python book/figures/explore_restore.py`` from the root of the repository after a
change; a test compares the stored file with what this script makes.
"""

from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[1] / "explore"
SIZE, RHO, P, SEED = 10, 0.9, 0.3, 1


def maps() -> tuple[Tensor, Tensor, Tensor]:
    """A map of correlated values, what of it is gone, and the best guess; (100,)."""
    g = torch.Generator().manual_seed(SEED)
    places = torch.arange(SIZE, dtype=torch.float64)
    line = RHO ** (places[:, None] - places).abs()
    covariance = torch.kron(line, line)
    noise = torch.randn(SIZE**2, generator=g, dtype=torch.float64)
    x = torch.linalg.cholesky(covariance) @ noise
    gone = torch.rand(SIZE**2, generator=g, dtype=torch.float64) < P
    known = torch.linalg.solve(covariance[~gone][:, ~gone], x[~gone])
    guess = x.clone()
    guess[gone] = covariance[gone][:, ~gone] @ known
    return x, gone, guess


def draw() -> str:
    """The SVG; its colours are those of the page."""
    text, dropped = "var(--fig-text, #222832)", "var(--fig-dropped, #b34e00)"
    x, gone, guess = maps()
    none = torch.zeros_like(gone)
    panels = {"what is left": (x, gone), "best guess": (guess, none)}
    panels["truth"] = (x, none)
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 190" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
    ]
    for k, (title, (values, hidden)) in enumerate(panels.items()):
        lines += [
            f'<text x="{170 * k}" y="18" font-size="17" font-weight="700" '
            f'style="fill: {text}">{title}</text>',
            f'<g transform="translate({170 * k} 28) scale(16)">',
        ]
        levels = (7.5 + 3 * values).round().clamp(0, 15).long()
        cells = [(*divmod(i, SIZE), level) for i, level in enumerate(levels.tolist())]
        for shade in range(1, 16):
            squares = "".join(
                f"M{column} {row}h1v1h-1z"
                for row, column, level in cells
                if level == shade and not hidden[row * SIZE + column]
            )
            lines.append(
                f'<path d="{squares}" shape-rendering="crispEdges" '
                f'style="fill: {text}; opacity: {shade / 15:.2f}"/>'
            )
        strokes = "".join(
            f"M{column}.1 {row}.9l.8 -.8"
            for row, column, _ in cells
            if hidden[row * SIZE + column]
        )
        lines.append(
            f'<path d="{strokes}" style="stroke: {dropped}; stroke-width: 0.2"/>'
        )
        lines.append(
            f'<path d="M0 0h10v10h-10z" style="fill: none; stroke: {text}; '
            'stroke-width: 0.06"/></g>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {"restore.svg": draw()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
