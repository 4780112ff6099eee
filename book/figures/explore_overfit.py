"""Write what the interactive figure "overfit" shows: trainings of the stored study.

Run ``python book/figures/explore_overfit.py`` from the root of the repository after a
change; a test compares the stored files with what this script makes.

The curves are those of ``choose``: four masks at five rates and no mask, three seeds
each, with a fifth of wrong labels and with right ones, judged on validation images.
The answers to twelve photographs are those of the stored nets of ``compare``, seed 100,
whose rates ``choose`` has chosen. The twelve are the first whose label is wrong there;
a figure of chapter 1 shows the same ones.
"""

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import torch

from regdrop_lite.course.data import as_tensors
from regdrop_lite.course.study.report import load_study
from regdrop_lite.course.study.run import prepare_data
from regdrop_lite.course.study.store import load_net, select
from regdrop_lite.course.training import TrainConfig, given_labels

FOLDER = Path(__file__).resolve().parents[1] / "explore"
RESULTS = FOLDER.parent / "results"
LABELS = {"noisy": 0.2, "clean": 0.0}
GROUPS = {  # as the module names them, and as the study does
    "element": "element",
    "channel": "spatial",
    "block": "block",
    "path": "path, constant",
}
RATES = [0.1, 0.2, 0.3, 0.4, 0.5]
COLUMNS = ("fitted", "validation_accuracy", "memorised")
SEED, PHOTOS, SIZE = 100, 12, 28


def add_fitted(history: dict[str, Any], wrong: float) -> None:
    """Add the share of the right labels that is learnt.

    Of all labels a net gives back, ``wrong * memorised`` are wrong ones.
    """
    history["fitted"] = [
        (given - wrong * (memorised or 0)) / (1 - wrong)  # None: no label is wrong
        for given, memorised in zip(
            history["train_accuracy"], history["memorised"], strict=True
        )
    ]


def curves() -> dict[str, dict[str, list[list[list[int]]]]]:
    """For labels and mask, by rate (from 0) and seed: columns in thousandths."""
    study = load_study(RESULTS / "plans" / "choose.toml")
    lines = (RESULTS / "histories" / "choose.jsonl").read_text(encoding="utf-8")
    histories = {h["run"]: h for h in map(json.loads, lines.splitlines())}

    def of(group: str, noise: float, p: float) -> list[list[list[int]]]:
        rows = [
            row
            for row in select(study.rows, group=group)
            if row["config"]["label_noise"] == noise and row["config"]["p"] == p
        ]
        rows.sort(key=lambda row: row["seed"])
        assert [row["seed"] for row in rows] == [0, 1, 2]
        for row in rows:
            add_fitted(histories[row["run"]], row["config"]["label_noise"])
        columns = COLUMNS if noise else COLUMNS[:2]
        return [
            [[round(1000 * v) for v in histories[row["run"]][key]] for key in columns]
            for row in rows
        ]

    return {
        labels: {
            name: [of("none", noise, 0.0), *(of(group, noise, p) for p in RATES)]
            for name, group in GROUPS.items()
        }
        for labels, noise in LABELS.items()
    }


def answers() -> dict[str, Any]:
    """Twelve photographs, their labels, and what stored nets say is in them."""
    study = load_study(RESULTS / "plans" / "compare.toml")
    said: dict[str, dict[str, Any]] = {}
    for labels in LABELS:
        said[labels] = {}
        for name, group in {"none": "none", **GROUPS}.items():
            (row,) = select(study.rows, group=f"{labels}: {group}", seed=SEED)
            photos = prepare_data(row["config"], seed=SEED)
            config = TrainConfig(label_noise=0.2, seed=SEED)
            wrong = given_labels(photos, config) != photos.train.labels
            chosen = wrong.nonzero().flatten()[:PHOTOS]
            net = load_net(study.plan, row).double()
            inputs, true = as_tensors(photos.train, torch.float64)
            given = given_labels(photos, config)
            with torch.no_grad():
                answer = net(inputs[wrong]).argmax(dim=1)
            entry = {"p": row["config"]["p"], "answers": answer[:PHOTOS].tolist()}
            if labels == "noisy":  # how many of all wrong labels are learnt by heart
                entry["heart"] = int((answer == given[wrong]).sum())
            said[labels][name] = entry
    # Sixteen levels of grey, one hexadecimal digit each.
    digits = (photos.train.images[chosen, 0].double() / 17).round().to(torch.int64)
    return {
        "classes": [name.split("/")[0] for name in photos.classes],
        "true": true[chosen].tolist(),
        "given": given[chosen].tolist(),
        "said": said,
        "photos": [
            "".join(f"{v:x}" for v in image) for image in digits.flatten(1).tolist()
        ],
    }


def contents() -> dict[str, Any]:
    """What the module reads."""
    return {"epochs": [5, 10, 15, 20, 25, 30], "runs": curves(), **answers()}


def packed(data: dict[str, Any]) -> str:
    """JSON with a line for each entry: small, and its changes can be read."""
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}"
        for key, value in data.items()
    )
    return f"{{\n{lines}\n}}\n"


def files() -> dict[str, str]:
    """What is stored, by name."""
    data = contents()
    return {
        "overfit.json": packed(data),
        "overfit.svg": draw(data),
        "wrong-labels.svg": draw_photographs(data),
    }


def png(photo: str) -> str:
    """A photograph, dark on light, as the address of a picture that holds it."""
    rows = [bytes.fromhex(photo[i : i + SIZE]) for i in range(0, len(photo), SIZE)]
    light = b"".join(b"\0" + bytes(255 - byte for byte in row) for row in rows)
    head = struct.pack(">IIBBBBB", SIZE, SIZE, 4, 0, 0, 0, 0)  # four bits of grey
    # Not compressed, so that the bytes are the same with every library.
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(light, 0)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def draw_photographs(data: dict[str, Any], count: int = 4) -> str:
    """The SVG: the first photographs, what they show and how they are labelled."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    dropped = "var(--fig-dropped, #b34e00)"
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 200" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
    ]
    assert data["said"]["noisy"]["none"]["answers"][:count] == data["given"][:count]
    names = data["classes"]
    for i, photo in enumerate(data["photos"][:count]):
        x = 6 + 125 * i
        given, true = names[data["given"][i]], names[data["true"][i]]
        lines += [
            f'<image x="{x}" y="2" width="112" height="112" '
            f'style="image-rendering: pixelated" href="{png(photo)}"/>',
            f'<text x="{x + 56}" y="138" text-anchor="middle" font-size="17" '
            f'font-weight="700" style="fill: {dropped}">“{given}”</text>',
            f'<text x="{x + 56}" y="164" text-anchor="middle" font-size="17" '
            f'style="fill: {muted}">shows a <tspan x="{x + 56}" dy="22" '
            f'style="fill: {text}">{true.lower()}</tspan></text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def draw(data: dict[str, Any], rate: int = 2) -> str:
    """The SVG: what SpatialDropout changes, mean of three; colours are the page's."""
    text, muted = "var(--fig-text, #222832)", "var(--fig-muted, #48566b)"
    kept, dropped = "var(--fig-kept, #0072b2)", "var(--fig-dropped, #b34e00)"
    words = (
        "right labels learnt",
        "new photographs named rightly",
        "wrong labels learnt by heart",
    )
    titles = {
        "noisy": "A fifth of the labels is wrong",
        "clean": "All labels are right",
    }
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 456" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\">"
    ]
    y = 24
    for labels, title in titles.items():
        lines.append(
            f'<text x="10" y="{y}" font-size="19" font-weight="700" '
            f'style="fill: {text}">{title}</text>'
        )
        y += 28
        for column in (2, 0, 1):  # what it is for, what it costs, what it brings
            runs = [data["runs"][labels]["channel"][k] for k in (0, rate)]
            if column >= len(runs[0][0]):
                continue
            before, after = (
                sum(seed[column][-1] for seed in run) / len(run) / 1000 for run in runs
            )
            a, b = (10 + 480 * value for value in (before, after))
            lines += [
                f'<text x="10" y="{y}" font-size="16" style="fill: {muted}">'
                f"{words[column]} "
                f'<tspan style="fill: {text}">{before:.2f} → '
                f'<tspan font-weight="700">{after:.2f}</tspan></tspan></text>',
                f'<path d="M10 {y + 18}H490" style="fill: none; stroke: {muted}; '
                'stroke-width: 1; opacity: 0.5"/>',
                f'<path d="M{a:.1f} {y + 18}H{b:.1f}" style="fill: none; '
                f'stroke: {kept}; stroke-width: 5; opacity: 0.5"/>',
                f'<circle cx="{a:.1f}" cy="{y + 18}" r="7" style="stroke: {dropped}; '
                'stroke-width: 2.5; fill: var(--pst-color-background, #fff)"/>',
                f'<circle cx="{b:.1f}" cy="{y + 18}" r="7" style="fill: {kept}"/>',
            ]
            y += 56
        y += 22
    lines += [
        f'<circle cx="17" cy="{y - 6}" r="7" style="stroke: {dropped}; '
        'stroke-width: 2.5; fill: var(--pst-color-background, #fff)"/>',
        f'<text x="32" y="{y}" font-size="16" style="fill: {text}">no dropout</text>',
        f'<circle cx="147" cy="{y - 6}" r="7" style="fill: {kept}"/>',
        f'<text x="162" y="{y}" font-size="16" style="fill: {text}">SpatialDropout, '
        f"p = {[0.0, *RATES][rate]:g}. From 0 to 1.</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
