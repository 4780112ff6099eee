"""Write what the interactive figure "ensemble" shows: the net of chapter 2.

Run ``python book/figures/explore_ensemble.py`` from the root of the repository after a
change; a test compares the stored files with what this script makes.

The net is trained by the chapter's own cell. Of four photographs the file has what each
channel of the first layer brings to each value of the second, so that a module can
thin the net in all 4,096 ways. Weights and values are rounded to thousandths.
"""

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite.course.ensembles import all_masks, average_predictions, mean, variance

FOLDER = Path(__file__).resolve().parents[1] / "explore"
CHAPTER = FOLDER.parent / "02_implicit_ensembles.ipynb"
P = 0.3


def chapter() -> dict[str, Any]:
    """The names that the chapter's cells of imports and of its small net define."""
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    (net,) = (source for source in code if "net = nn.Sequential(" in source)
    imports = [
        node
        for source in code[: code.index(net)]
        if "google.colab" not in source
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names: dict[str, Any] = {"device": torch.device("cpu")}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Module(imports, []), str(CHAPTER), "exec"), names)
            exec(compile(net, str(CHAPTER), "exec"), names)
    finally:
        torch.set_default_dtype(before)
    return names


def whole(values: Tensor) -> list[Any]:
    """Thousandths."""
    return (1000 * values).round().to(torch.int64).tolist()


def all_logits(data: dict[str, Any], image: int, p: float) -> tuple[Tensor, Tensor]:
    """Logits of all thinned nets, (4096, 10), and of one pass without masks, (10,)."""
    bias, head, head_bias = (
        torch.tensor(data[key], dtype=torch.float64) / 1000
        for key in ("bias", "head", "head_bias")
    )
    parts = torch.tensor(data["photos"][image]["parts"], dtype=torch.float64) / 1000
    parts = parts.view(6, 6, 25)
    keep = all_masks(6, p)[0] / (1 - p)
    first = torch.cat([keep, torch.ones(1, 6, dtype=torch.float64)])
    hidden = F.relu(torch.einsum("mi,ios->mos", first, parts) + bias[:, None])
    given = torch.einsum("mos,kos->mok", hidden, head.view(10, 6, 25))
    logits = torch.einsum("mok,jo->mjk", given[:-1], keep).flatten(0, 1) + head_bias
    return logits, given[-1].sum(dim=0) + head_bias


def contents() -> dict[str, Any]:
    """What the module reads."""
    names = chapter()
    net, data = names["net"], names["data"]
    conv1, conv2, head = net[0], net[3], net[7]
    images, labels = names["images"], names["labels"]
    with torch.no_grad():
        maps = F.relu(conv1(images))  # (N, 6, 12, 12)
        parts = torch.stack(
            [
                F.conv2d(maps[:, [i]], conv2.weight[:, [i]], stride=2).flatten(2)
                for i in range(6)
            ],
            dim=1,
        )  # (N, 6 channels in, 6 out, 25)
    stored: dict[str, Any] = {
        "classes": [name.split("/")[0] for name in data.classes],
        "bias": whole(conv2.bias),
        "head": whole(head.weight),
        "head_bias": whole(head.bias),
        "photos": [{"parts": whole(one.flatten())} for one in parts],
    }
    found = []
    chances = all_masks(12, P)[1]
    for i, label in enumerate(labels.tolist()):
        logits, plain = all_logits(stored, i, P)
        arithmetic, _ = average_predictions(logits[:, None], chances)
        given = logits.softmax(dim=1)[:, label]
        single = plain.softmax(dim=0)[label]
        found.append(
            [variance(given, chances).item(), (arithmetic.exp()[0, label] - single)]
        )
    spread, better = torch.tensor(found, dtype=torch.float64).T
    chosen = {
        "the nets disagree most": spread.argmax().item(),
        "the average is better": better.argmax().item(),
        "one pass is better": better.argmin().item(),
        "the nets agree": spread.argmin().item(),
    }
    pixels = data.validation.images[:200, 0].double().div(17).round().to(torch.int64)
    stored["photos"] = [
        {
            "words": words,
            "label": labels[i].item(),
            "pixels": "".join(f"{v:x}" for v in pixels[i].flatten().tolist()),
            "parts": stored["photos"][i]["parts"],
        }
        for words, i in chosen.items()
    ]
    return stored


def packed(data: dict[str, Any]) -> str:
    """JSON with a line for each entry: small, and its changes can be read."""
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in data.items()
    )
    return f"{{\n{lines}\n}}\n"


def draw(data: dict[str, Any]) -> str:
    """The SVG of the first photograph; its colours are those of the page."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept, dropped = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
    label = data["photos"][0]["label"]
    logits, plain = all_logits(data, 0, P)
    chances = all_masks(12, P)[1]
    given = logits.softmax(dim=1)[:, label]
    averages = average_predictions(logits[:, None], chances)
    arithmetic, geometric = (found.exp()[0, label].item() for found in averages)
    single = plain.softmax(dim=0)[label].item()
    assert abs(mean(given, chances) - arithmetic) < 1e-12
    bins = (given * 25).long().clamp(max=24)
    heights = torch.zeros(25, dtype=torch.float64).index_add(0, bins, chances)
    scale = 170 / heights.max().item()
    bars = "".join(
        f"M{10 + 19.2 * i:.1f} 210v{-scale * v:.1f}h18.2V210z"
        for i, v in enumerate(heights.tolist())
    )
    marks = {  # name: value, glyph around its middle, colour, filled or not
        "arithmetic mean": (
            arithmetic,
            "m-7 0a7 7 0 1 0 14 0a7 7 0 1 0 -14 0",
            dropped,
        ),
        "geometric mean": (geometric, "m-6 -6h12v12h-12z", kept),
        "one pass, no masks": (single, "m0 -8l8 8l-8 8l-8 -8z", text),
    }
    style = "fill: none; stroke-width: 2.5; stroke:"
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 370" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">",
        f'<text x="10" y="24" font-size="17" style="fill: {text}">4,096 thinned nets, '
        "by what each gives the true class</text>",
        f'<path d="{bars}" style="fill: {kept}; opacity: 0.55"/>',
        f'<path d="M10 210H490" style="stroke: {text}"/>',
        *(
            f'<path d="M{10 + 480 * value:.1f} 226{glyph}" style="{style} {colour}"/>'
            for value, glyph, colour in marks.values()
        ),
        f'<text x="10" y="258" font-size="16" style="fill: {muted}">0</text>',
        f'<text x="250" y="258" font-size="16" text-anchor="middle" '
        f'style="fill: {muted}">probability of the true class</text>',
        f'<text x="490" y="258" font-size="16" text-anchor="end" '
        f'style="fill: {muted}">1</text>',
    ]
    for i, (name, (value, glyph, colour)) in enumerate(marks.items()):
        y = 294 + 28 * i
        lines += [
            f'<path d="M20 {y - 6}{glyph}" style="{style} {colour}"/>',
            f'<text x="40" y="{y}" font-size="17" style="fill: {text}">{name} '
            f"{value:.2f}</text>",
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    data = contents()
    return {"ensemble.json": packed(data), "ensemble.svg": draw(data)}


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
