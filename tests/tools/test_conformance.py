"""The suite for all layers: it finds what is broken, and the page is its run."""

import json
from pathlib import Path

import pytest

from benchmarks.conformance import CHECKS, Layer, brief, main, matrix, run

BOOK = Path(__file__).parents[2] / "book"
HEAD = "from torch import nn; import torch; "
# What is broken, and the property that has to notice.
BROKEN = {
    "rate": ("rate", "layer = nn.Dropout2d(0.5 * {p})"),
    "no scale": (
        "expectation",
        "layer = lambda x: x * (torch.rand(len(x), 1, 1, 1) >= {p})",
    ),
    "float32": ("bfloat16 stays bfloat16", "layer = lambda x: x.float()"),
    "low precision": ("bfloat16 without bias", "layer = nn.Dropout2d({p})"),
    "always on": (
        "evaluation returns the input",
        "layer = type('L', (nn.Module,), "
        "dict(forward=lambda self, x: torch.dropout(x, {p}, True)))()",
    ),
    "by the batch": (
        "samples do not scale each other",
        "layer = lambda x: x * (m := torch.rand(len(x), 1, 1, 1) >= {p}) / "
        "m.float().mean().clamp(min=.1)",
    ),
    "detached": ("gradient is mask times scale", "layer = lambda x: x + x.detach()"),
    "seeded apart": (
        "torch.manual_seed repeats",
        "g = torch.Generator(); "
        "layer = lambda x: x * (torch.rand(x.shape, generator=g) > .5)",
    ),
    "no generator": ("takes a torch.Generator", "layer = nn.Dropout2d({p})"),
    "one mask": (
        "vmap, other masks for each",
        "layer = lambda x, kept=torch.rand(64, 1, 1, 1) >= {p}: x * kept",
    ),
    "raises": ("empty batch", "layer = lambda x: x / (1 // len(x) + 1)"),
}
SOUND = "from regdrop_lite import DropPath; layer = DropPath({p})"


def check(name: str):
    return next(c for c in CHECKS if c.name == name)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_found_and_a_sound_layer_passes(fault) -> None:
    name, code = BROKEN[fault]
    cell = run(Layer("x", "torch", "path", HEAD + code), check(name))
    assert cell["result"] == ("error" if fault == "raises" else "fails"), cell
    first, *others = cell["reproduction"].splitlines()
    assert first.startswith(HEAD) and len(others) == 2
    cell = run(Layer("x", "torch", "path", SOUND), check(name))
    assert cell["result"] == "holds" and "reproduction" not in cell


def test_the_page_is_that_of_the_stored_run() -> None:
    stored = json.loads((BOOK / "results/conformance.json").read_text("utf-8"))
    page = (BOOK / "reference/conformance.md").read_text("utf-8")
    assert page == matrix(stored)
    assert len([v for v in stored["versions"].values() if v]) >= 5
    ours = [c for c in stored["cells"] if c["layer"].startswith("regdrop_lite")]
    assert {c["result"] for c in ours} == {"holds"}
    for cell in stored["cells"]:
        lines = cell.get("reproduction", "").splitlines()
        assert len(lines) == (0 if cell["result"] == "holds" else 3), cell
    names = {c["property"] for c in stored["cells"]}
    assert names == {c.name for c in CHECKS}, "run the suite again"


def test_a_long_message_ends_where_a_reader_sees_it() -> None:
    assert brief("Short. Whole") == "Short. Whole"
    assert brief("One. " + "two " * 30) == "One."
    assert brief("word " * 30, 20) == "word word word …"


def test_a_layer_of_ones_own_is_tried_by_the_command(capsys, monkeypatch) -> None:
    kept = [check("p = 0 changes nothing"), check("empty batch")]
    monkeypatch.setattr("benchmarks.conformance.CHECKS", kept)
    main(["--kind", "path", "--code", HEAD + BROKEN["raises"][1]])
    holds, fails, *lines = capsys.readouterr().out.splitlines()
    assert holds.startswith("holds  torch layer: p = 0 changes nothing: True")
    assert fails.startswith("error  torch layer: empty batch: ZeroDivisionError")
    assert lines[2].strip() == "tuple(layer(x).shape)"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("layer = dict(a={})", "braces doubled; came IndexError"),
        ("from nowhere import Layer", "raises ModuleNotFoundError: No module named"),
        ("drop = torch.nn.Dropout2d({p})", "has to make a layer: `layer = ...`"),
    ],
)
def test_code_that_makes_no_layer_is_told_at_once(capsys, code, told) -> None:
    with pytest.raises(SystemExit):
        main(["--code", code])
    assert told in capsys.readouterr().err


def test_the_class_of_the_page_fails_where_the_page_says(capsys, monkeypatch) -> None:
    slow = ("compiled", "rate", "expectation", "bfloat16 without")
    kept = [c for c in CHECKS if "path" in c.kinds and not c.name.startswith(slow)]
    monkeypatch.setattr("benchmarks.conformance.CHECKS", kept)
    code = "from book.recipes.mine import DropPath; layer = DropPath({p})"
    main(["--kind", "path", "--code", code])
    lines = capsys.readouterr().out.splitlines()
    failed = [line.split(": ")[1] for line in lines if line.startswith("fails")]
    assert not [line for line in lines if line.startswith("error")]
    assert failed == [
        "bfloat16 stays bfloat16",
        "p = 1 drops all",
        "p = 1, infinite input",
        "takes a torch.Generator",
    ]


def test_a_turned_cell_is_told_with_its_versions(tmp_path, monkeypatch) -> None:
    names = ["p = 0 changes nothing", "p = 1 drops all"]
    monkeypatch.setattr("benchmarks.conformance.CHECKS", [check(n) for n in names])
    monkeypatch.setattr(
        "benchmarks.conformance.LAYERS",
        [Layer("Dropout2d", "torch", "channel", HEAD + "layer = nn.Dropout2d({p})")],
    )
    stored, report = tmp_path / "stored.json", tmp_path / "turned.md"
    main(["--output", str(stored)])
    main(["--stored", str(stored), "--turned", str(report)])
    assert not report.exists(), "nothing has turned"
    run = json.loads(stored.read_text("utf-8"))
    run["cells"][1] |= {"result": "fails"}
    run["cells"] += [run["cells"][0] | {"layer": "keras Gone"}]
    run["versions"]["torch"] = "1.0"
    stored.write_text(json.dumps(run), "utf-8")
    main(["--stored", str(stored), "--turned", str(report)])
    text = report.read_text("utf-8")
    assert "**torch Dropout2d, p = 1 drops all**: fails before, now holds" in text
    assert "**keras Gone** was not tried" in text and "p = 0" not in text
    assert "- torch: 1.0 before, now 2." in text
