"""The decisions and recipes of chapter 5: complete, sourced, and what the plans say."""

import functools
import html
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from regdrop_lite import DropPath, tools
from regdrop_lite.course.study.report import load_study
from regdrop_lite.tools import audit

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
STORED = tomllib.loads((BOOK / "recipes" / "recipes.toml").read_text("utf-8"))
TREE = json.loads((BOOK / "figures" / "decide.json").read_text("utf-8"))
CHOSEN_BY = ("net", "data", "see")
STATUS = re.compile(
    r"\[measured\]\((?P<page>[^)]+)\)|\[reported\]\(https://\S+?\)|\*heuristic\*"
)


def test_nothing_is_stored_but_decisions_and_recipes():
    assert set(STORED) == {"decision", "recipe"}
    assert {tuple(d) for d in STORED["decision"]} == {
        (*CHOSEN_BY, "do", "beside", "unknown")
    }
    assert {tuple(r) for r in STORED["recipe"]} == {
        (
            "kind",
            "net",
            "method",
            "rate",
            "schedule",
            "length",
            "augmentation",
            "source",
        )
    }
    for record in STORED["decision"] + STORED["recipe"]:
        assert all(value.strip() and "|" not in value for value in record.values())


@pytest.mark.parametrize("decision", STORED["decision"], ids=lambda d: d["net"])
def test_every_cell_of_a_decision_says_what_it_rests_on(decision):
    for cell in (decision["do"], decision["beside"]):
        found = list(STATUS.finditer(cell))
        assert found, cell
        # What follows the last status has none: at most a few words.
        assert len(cell[found[-1].end() :]) < 60, cell
        for status in found:
            assert status["page"] is None or (BOOK / status["page"]).exists()


def test_no_two_decisions_are_for_one_case():
    cases = [tuple(d[key] for key in CHOSEN_BY) for d in STORED["decision"]]
    assert len(set(cases)) == len(cases)


def test_every_recipe_names_its_source():
    for recipe in STORED["recipe"]:
        assert re.match(r"\[[^]]+\]\(https://\S+\)", recipe["source"]), recipe["net"]
        for rate in re.findall(r"\d\.\d+", recipe["rate"]):
            assert 0 < float(rate) < 1


def test_measured_rates_are_those_of_the_plans():
    """The rows of small and deep ResNets name the settings that were chosen there."""
    plans = {}
    for name in ("compare", "deep", "augmented"):
        plan = (BOOK / "results" / "plans" / f"{name}.toml").read_text("utf-8")
        groups = tomllib.loads(plan)["groups"]
        plans[name] = {g["name"]: g["p"][0] for g in groups if "p" in g}
    said: dict[tuple[str, str], str] = {}
    for d in STORED["decision"]:
        case = d["net"], d["data"]
        said[case] = said.get(case, "") + " ".join(d["do"].split())
    wrong = said["small ResNet", "few images, wrong labels"]
    assert f"p = {plans['compare']['noisy: spatial']}," in wrong
    deep = said["deep ResNet", "few images, wrong labels"]
    assert f"linear up to {plans['deep']['path']}" in deep
    assert f"SpatialDropout {plans['deep']['spatial']}." in deep
    clean = {k: p for k, p in plans["compare"].items() if k.startswith("clean: ")}
    linear = clean.pop("clean: path")
    text = f"{min(clean.values())} to {max(clean.values())} (DropPath linear, {linear})"
    assert text in said["small ResNet", "few images, right labels"]
    augmented = plans["augmented"].values()
    assert max(augmented) <= 0.1, "the best rates lie at or near 0"


@pytest.mark.parametrize("name", ["decide", "places", "practice"])
def test_the_drawings_are_what_their_script_draws(name, monkeypatch):
    monkeypatch.syspath_prepend(BOOK / "figures")
    module = importlib.import_module(name)
    for file, content in module.draw().items():
        stored = (BOOK / "_static" / file).read_text("utf-8")
        assert stored == content, f"run book/figures/{name}.py"


def leaves() -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each box of the drawn tree, with the answers that the questions lead to there."""
    parts = [*TREE["questions"], TREE["else"]]
    return [
        (
            part["leaf"],
            part["which"]["options"] if "which" in part else [part["answer"]],
        )
        for part in parts
    ]


def test_a_drawn_answer_is_what_its_questions_lead_to():
    """A mask or none, and what it rests on: what is drawn sums up what is said."""
    assert len(leaves()) == 8
    for drawn, answers in leaves():
        assert drawn["mask"] == any(answer["mask"] for answer in answers)
        rests = {word for answer in answers for word in answer["rests"]}
        assert set(drawn["rests"]) == rests <= set(TREE["rests"]), drawn["drawn"]
        assert drawn["section"] in TREE["sections"]
    text = (BOOK / "_static" / "decide.svg").read_text("utf-8")
    (data,) = re.findall(r"<metadata>(.*)</metadata>", text)
    assert json.loads(html.unescape(data)) == TREE
    shown = re.sub(r"<metadata>.*</metadata>", "", text)
    for part in [*TREE["questions"], TREE["else"]]:
        for line in part.get("drawn", []) + part["leaf"]["drawn"]:
            assert f">{line}</text>" in shown


@pytest.mark.parametrize(
    "answer",
    [answer for _, answers in leaves() for answer in answers],
    ids=lambda answer: answer["do"],
)
def test_an_answer_of_the_tree_has_its_rows(answer):
    """They are in the table, and hold its rates and what it rests on."""
    fitting = [
        decision
        for decision in STORED["decision"]
        if all(
            not wanted or decision[key] in (wanted, "any")
            for key, wanted in zip(CHOSEN_BY, answer["rows"], strict=True)
        )
    ]
    exact = {
        key: {d[key] for d in STORED["decision"]} - {"any"} | {""} for key in CHOSEN_BY
    }
    assert all(w in exact[k] for k, w in zip(CHOSEN_BY, answer["rows"], strict=True))
    assert fitting, "the menus of the table lead to no row"
    cells = " ".join(" ".join(d["do"].split() + d["beside"].split()) for d in fitting)
    for word in answer["rests"]:
        assert f"[{word}]" in cells or f"*{word}*" in cells, word
    rates = set(re.findall(r"\b0\.\d+", answer["do"]))
    assert rates <= set(re.findall(r"0\.\d+", cells)), "a rate that no row has"


def test_a_mask_is_the_last_of_its_branch(monkeypatch):
    monkeypatch.syspath_prepend(BOOK / "figures")
    module = importlib.import_module("places")
    for branch in itertools.chain(*module.BLOCKS.values()):
        masks = [part for part in branch if part.startswith("*")]
        assert masks == branch[-1:], "one mask, the last of its branch"


def test_the_card_agrees_with_the_decisions():
    card = (BOOK / "05b_card.md").read_text("utf-8").splitlines()
    for net in ("ViT", "Swin", "ConvNeXt", "EfficientNet", "deep ResNet", "detector"):
        name = net.removeprefix("deep ").replace("detector", "Detector")
        (line,) = (line for line in card if line.startswith(f"| {name} |"))
        said = " ".join(d["do"] for d in STORED["decision"] if d["net"] == net)
        rates = re.findall(r"0\.\d+", line.split(" | ")[2])
        assert rates and [rate for rate in rates if rate not in said] == []


def test_figures_typed_into_card_and_tree_are_those_of_the_study():
    variants, augmented = (
        load_study(BOOK / "results" / "plans" / f"{name}.toml")
        for name in ("variants", "augmented")
    )
    groups = ("none", "both high", "path", "spatial")
    none, both, path, spatial = (
        variants.values(group, "accuracy").mean() for group in groups
    )
    card = (BOOK / "05b_card.md").read_text("utf-8")
    assert f"{path:.0%}" == f"{spatial:.0%}"
    alone = f"one mask at its tuned rate (0.5; 0.2) reached {100 * path:.0f} %"
    assert f"{100 * both:.0f} %, where {alone}" in card
    gain = f"+{100 * (augmented.values('none', 'accuracy').mean() - none):.0f}"
    assert f"{gain} points with wrong labels" in card
    tree = json.dumps(TREE)
    assert f"{gain} with wrong labels" in tree
    assert f"lifted our plain net by {gain[1:]} points" in tree


DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("forgotten", [None, 0, 1, 2, 3, 4])
def test_the_whole_recipe_of_chapter_6_resumes(
    device, forgotten, tmp_path, monkeypatch
):
    """It is run as printed: what it stores is needed, and it is enough."""
    notebook = json.loads((BOOK / "06_in_practice.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"]]
    (text,) = (c for c in cells if "## The whole recipe" in c)
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert max(map(len, code.splitlines())) <= 60
    choice = '"cuda" if cuda else "cpu"'
    loop = "range(first, epochs)"
    assert code.count(choice) == code.count(loop) == 1
    code = code.replace(choice, repr(device))
    monkeypatch.setattr(tools, "audit", functools.partial(audit, draws=2))

    def run(folder, until="epochs"):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        names: dict[str, Any] = {}
        exec(code.replace(loop, f"range(first, {until})"), names)
        return names

    whole, half = run("whole"), run("half", until="2")
    assert any(isinstance(m, DropPath) for m in half["net"].modules())
    if forgotten is not None:  # as if it had not been stored
        stored = torch.load("checkpoint.pt", weights_only=True)
        names = run("fresh", until="0")
        fresh = [names[k] for k in ("net", "optimizer", "ramp", "masks", "order")]
        part = fresh[forgotten]
        get = getattr(part, "state_dict", None) or part.get_state
        assert list(stored) == ["net", "optimizer", "ramp", "masks", "order", "epoch"]
        stored[list(stored)[forgotten]] = get()
        torch.save(stored, tmp_path / "half" / "checkpoint.pt")
    resumed = run("half")
    assert resumed["first"] == 2
    pairs = zip(whole["net"].parameters(), resumed["net"].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) == (forgotten is None)


def test_the_whole_recipe_of_chapter_6_runs_as_a_file(tmp_path):
    """Copied into an empty script, it ends, and says that there is no warning."""
    notebook = json.loads((BOOK / "06_in_practice.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"]]
    (text,) = (c for c in cells if "## The whole recipe" in c)
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "recipe.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "recipe.py"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.rstrip().endswith("no warnings")
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("chosen", [0, 1])
def test_the_reliability_and_the_temperature_of_chapter_6_run_as_printed(
    capsys, tmp_path, chosen
):
    """Logits that are twice too large: the function says so, and T is about 2.

    The run that validation chose is loaded, be it the control; the last block asks it
    with masks.
    """
    notebook = json.loads((BOOK / "06b_export_time_doubt.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"]]
    (text,) = (c for c in cells if "def reliability" in c)
    codes = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(codes) == 3 and max(map(len, "".join(codes).splitlines())) <= 60
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(8000, 5, generator=g, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=g).flatten()
    pairs = list(zip((2 * logits).split(500), labels.split(500), strict=True))
    torch.save({}, tmp_path / "chosen.pt")
    built = []

    def build(p):
        built.append(p)
        return torch.nn.Sequential(torch.nn.Dropout(p))

    names: dict[str, Any] = {
        "torch": torch,
        "F": torch.nn.functional,
        "runs": [(0, 0.05), (0.5, 0.05)],
        "build": build,
        "best": 1,
        "chosen_by": [torch.tensor(0.7 + (chosen == k) / 10) for k in (0, 1)],
        "files": [tmp_path / "chosen.pt" if chosen == k else None for k in (0, 1)],
        "device": "cpu",
        "valid": pairs[::2],
        "test": pairs[1::2],
    }
    *first, masked = codes
    for code in first:
        exec(code, names)
    if chosen:
        exec(masked, names)
    else:
        with pytest.raises(ValueError, match="all samples would be alike"):
            exec(masked, names)
    assert built == [[0, 0.5][chosen]]
    assert 1.8 < names["T"].item() < 2.2
    lines = capsys.readouterr().out.splitlines()
    before, after = (
        [float(x.split()[-1]) for x in part] for part in (lines[5:9], lines[9:13])
    )
    assert len(lines) == 13 + 4 * chosen, "on valid, T, on test, with T, masked passes"
    assert min(before[1:]) > 0.05 and max(map(abs, after)) < 0.05
