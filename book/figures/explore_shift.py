"""Draw the picture of the interactive figure "shift": what a norm sees after dropout.

Run ``python book/figures/explore_shift.py`` from the root of the repository after a
change; a test compares the stored file with what this script makes.
"""

import math
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "explore"
CHANNELS, P, MEAN = 8, 0.5, 0.0


def variance(p: float) -> float:
    """Of the norm's input, for activations of mean MEAN and variance 1."""
    return 1 + p / (1 - p) * (1 + MEAN**2)


def density(z: float, p: float) -> float:
    """Of the norm's input: a normal law for each number of channels kept."""
    total = 0.0
    for k in range(1, CHANNELS + 1):
        chance = math.comb(CHANNELS, k) * (1 - p) ** k * p ** (CHANNELS - k)
        m = k * MEAN / (1 - p) / math.sqrt(CHANNELS)
        v = k / (1 - p) ** 2 / CHANNELS
        total += chance * math.exp(-((z - m) ** 2) / 2 / v) / math.sqrt(2 * math.pi * v)
    return total


def draw() -> str:
    """The SVG; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept, dropped = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
    mean, sd = math.sqrt(CHANNELS) * MEAN, math.sqrt(variance(P))
    panels = [
        ("The norm’s input", -6.0, 6.0, 1.0, 0.0, (variance(P), 1.0)),
        ("The norm’s output", -4.0, 4.0, sd, mean, (1.0, 1 / variance(P))),
    ]
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 420" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
    ]
    for row, (title, low, high, width, middle, variances) in enumerate(panels):
        top = 30 + 200 * row
        base = top + 140
        curves = []
        for p in (P, 0.0):
            points = [low + (high - low) * i / 160 for i in range(161)]
            # The output is z shifted and divided: its density is wider by as much.
            values = [width * density(z * width + middle, p) for z in points]
            curves.append(values)
        most = max(map(max, curves))
        for values, style in zip(
            curves,
            (
                f"fill: {kept}; fill-opacity: 0.4; stroke: {kept}; stroke-width: 2",
                f"fill: none; stroke: {dropped}; stroke-width: 2.5; "
                "stroke-dasharray: 7 4",
            ),
            strict=True,
        ):
            path = "L".join(
                f"{10 + 3 * i:.0f} {base - 110 * v / most:.1f}"
                for i, v in enumerate(values)
            )
            lines.append(f'<path d="M10 {base}L{path}L490 {base}" style="{style}"/>')
        lines += [
            f'<text x="10" y="{top - 8}" font-size="18" font-weight="700" '
            f'style="fill: {text}">{title}</text>',
            f'<text x="490" y="{top - 8}" font-size="16" text-anchor="end" '
            f'style="fill: {muted}">variance {variances[0]:.2f} '
            f"(in evaluation {variances[1]:.2f})</text>",
            f'<path d="M10 {base}H490" style="stroke: {text}"/>',
            *(
                f'<text x="{10 + 480 * (z - low) / (high - low):.0f}" y="{base + 20}" '
                f'font-size="16" text-anchor="middle" style="fill: {muted}">'
                f"{str(z).replace('-', '−')}</text>"
                for z in range(int(low) + 1, int(high))
                if z % 2 == 0
            ),
        ]
    lines += [
        f'<path d="M10 412h34" style="stroke: {kept}; stroke-width: 8; opacity: 0.6"/>',
        f'<text x="52" y="418" font-size="16" style="fill: {text}">in training</text>',
        f'<path d="M180 412h34" style="stroke: {dropped}; stroke-width: 2.5; '
        'stroke-dasharray: 7 4"/>',
        f'<text x="222" y="418" font-size="16" style="fill: {text}">in evaluation'
        "</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {"shift.svg": draw()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
