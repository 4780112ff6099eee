"""Draw the picture of the interactive figure "flat": one function and two valleys.

Run ``python book/figures/explore_flat.py`` from the root of the repository after a
change; a test compares the stored file with what this script makes.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parents[1] / "explore"
INPUTS = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
NARROW = 4.0  # the first weight times 4, the second divided by 4


def loss(weights: torch.Tensor) -> torch.Tensor:
    """The mean squared error of ``second * relu(first * x)``, whose target is relu."""
    first, second = weights
    output: torch.Tensor = second * (first * INPUTS).relu()
    return (output - INPUTS.relu()).square().mean()


def direction(c: float, along: str) -> torch.Tensor:
    """What a step of 1 changes in the weights c and 1/c, (2,)."""
    weights = torch.tensor([c, 1 / c], dtype=torch.float64)
    if along == "first":
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    if along == "second":
        return torch.tensor([0.0, 1.0], dtype=torch.float64)
    if along == "share":
        return weights
    # The loss is a function of the weights' product: it rises most along its gradient.
    return weights.flip(0) / weights.square().sum().sqrt()


def path(
    f: Callable[[float], float], left: float, right: float, x: float, width: float
) -> str:
    """The data of a curve over a panel from x on, cut where f exceeds 4."""
    points = []
    for i in range(81):
        at = left + (right - left) * i / 80
        if f(at) <= 4:
            points.append(f"{x + width * i / 80:.1f} {200 - 42 * f(at):.1f}")
    return "M" + "L".join(points)


def after(c: float, step: float) -> float:
    """The loss after a step in steepest direction."""
    weights = torch.tensor([c, 1 / c], dtype=torch.float64)
    return loss(weights + step * direction(c, "steepest")).item()


def draw() -> str:
    """The SVG; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept, fell = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 284" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\" "
        'font-size="16">'
    ]
    for x, title, below in (
        (20, "output", "input x: both nets"),
        (270, "loss", "step in steepest direction"),
    ):
        lines += [
            f'<text x="{x}" y="20" font-weight="700" style="fill: {text}">{title}'
            "</text>",
            f'<path d="M{x} 32V200H{x + 210}" fill="none" style="stroke: {text}"/>',
            f'<text x="{x + 105}" y="226" text-anchor="middle" style="fill: {muted}">'
            f"{below}</text>",
        ]
    function = path(lambda x: max(x, 0.0), -2, 2, 20, 210)
    lines.append(
        f'<path d="{function}" fill="none" stroke-width="3" style="stroke: {kept}"/>'
    )
    lines += [
        f'<circle cx="{125 + 52.5 * x:.1f}" cy="{200 - 42 * max(x, 0):.1f}" r="5" '
        f'style="fill: {text}"/>'
        for x in INPUTS.tolist()
    ]
    for c, color, dashes in ((1.0, kept, ""), (NARROW, fell, "7 4")):
        curve = path(partial(after, c), -1, 1, 270, 210)
        lines.append(
            f'<path d="{curve}" fill="none" stroke-width="3" '
            f'stroke-dasharray="{dashes}" style="stroke: {color}"/>'
        )
    lines += [
        f'<text x="270" y="250" style="fill: {kept}">solid: weights 1 and 1</text>',
        f'<text x="270" y="274" style="fill: {fell}">dashed: weights 4 and ¼</text>',
    ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {"flat.svg": draw()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
