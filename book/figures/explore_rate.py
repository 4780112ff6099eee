"""Draw the picture of the interactive figure "rate": what five rules really drop.

Run ``python book/figures/explore_rate.py`` from the root of the repository after a
change; a test compares the stored file with what this script makes.
"""

from pathlib import Path

import torch

from regdrop_lite import drop_block_gamma

FOLDER = Path(__file__).resolve().parents[1] / "explore"
SIZE, BLOCK, P = 14, 7, 0.1


def share(size: int, block: int, gamma: float, starts: range) -> float:
    """What falls on average, if a block may start at these places of a line."""
    covers = torch.tensor(
        [sum(s <= i < s + block for s in starts) for i in range(size)]
    )
    counts = (covers[:, None] * covers).double()
    return (1 - (1 - gamma) ** counts).mean().item()


def rules(size: int, block: int, p: float) -> dict[str, tuple[str, float, float]]:
    """For each rule: words, the rate of the seeds, and the share that falls."""
    inside = range(size - block + 1)
    centred = range(-(block // 2), size - block // 2)
    every = range(1 - block, size)
    textbook = p * size**2 / block**2 / (size - block + 1) ** 2
    valid = drop_block_gamma((size, size), block, p)
    clip = drop_block_gamma((size, size), block, p, "clip")
    listed = {
        "Paper, torchvision": ("textbook rate, blocks inside", textbook, inside),
        "timm": ("the same rate, seeds everywhere", textbook, centred),
        "miguelvr/dropblock": ("rate p/k², seeds everywhere", p / block**2, centred),
        "Solved, “valid”": ("γ solved for, blocks inside", valid, inside),
        "Solved, “clip”": ("γ solved for, blocks cut", clip, every),
    }
    return {
        name: (words, gamma, share(size, block, gamma, starts))
        for name, (words, gamma, starts) in listed.items()
    }


def draw() -> str:
    """The SVG; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept, asked = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
    scale = 480 / 0.25
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 330" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
    ]
    for k, (name, (words, _, dropped)) in enumerate(rules(SIZE, BLOCK, P).items()):
        y = 20 + 62 * k
        lines += [
            f'<text x="10" y="{y}" font-size="17" font-weight="700" '
            f'style="fill: {text}">{name}</text>',
            f'<text x="490" y="{y}" font-size="16" text-anchor="end" '
            f'style="fill: {muted}">{words}</text>',
            f'<path d="M10 {y + 8}h{dropped * scale:.1f}v20h-{dropped * scale:.1f}z" '
            f'style="fill: {kept}"/>',
            f'<text x="{18 + dropped * scale:.1f}" y="{y + 24}" font-size="17" '
            f'style="fill: {text}">{dropped:.3f}</text>',
        ]
    lines += [
        f'<path d="M{10 + P * scale:.1f} 24V305" style="fill: none; stroke: {asked}; '
        'stroke-width: 2; stroke-dasharray: 6 4"/>',
        f'<text x="{10 + P * scale:.1f}" y="324" font-size="16" text-anchor="middle" '
        f'style="fill: {asked}">asked for: p = {P}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    return {"rate.svg": draw()}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
