"""Plans: the grid, the defaults, what is refused, and what counts as an extension."""

import copy
from dataclasses import fields
from inspect import signature

import pytest
import torch

from regdrop_lite.course.models import ResNetSmall, ViTSmall
from regdrop_lite.course.study.plan import (
    MODEL_KEYS,
    VIT_KEYS,
    Contrast,
    Data,
    PlanError,
    Training,
    difference,
    make_net,
    matches,
    read_plan,
)
from regdrop_lite.course.training import TrainConfig

TOP = """
title = "t"
evaluate = "validation"
measures = ["classification"]
seeds = [3, 5]
"""
GROUPS = """
[[groups]]
name = "none"

[[groups]]
name = "spatial"
regulariser = ["spatial"]
p = [0.1, 0.2]
epochs = [2, 3]
"""


def read(folder, text):
    path = folder / "plans" / "study.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return read_plan(path)


def test_groups_are_combined_in_every_way_and_with_every_seed(tmp_path):
    plan = read(tmp_path, TOP + "[data]\nimages = 20\n[training]\nlr = 1\n" + GROUPS)
    found = [
        (run.group, run.config["p"], run.config["epochs"], run.seed)
        for run in plan.runs
    ]
    expected = [("none", 0.0, 30, seed) for seed in (3, 5)]
    expected += [
        ("spatial", p, epochs, seed)
        for p in (0.1, 0.2)
        for epochs in (2, 3)
        for seed in (3, 5)
    ]
    assert found == expected
    assert plan.name == "study"
    for run in plan.runs:
        config = run.config
        assert (config["images"], config["lr"]) == (20, 1.0)
        assert type(config["lr"]) is float, "1 and 1.0 are one configuration"
        assert config["validation"] is None
        assert config["evaluate"] == "validation"


def test_defaults_are_those_of_the_code(tmp_path):
    config = read(tmp_path, TOP + '[[groups]]\nname = "none"\n').runs[0].config
    settings = TrainConfig()
    chosen = {f.name for f in fields(TrainConfig)} - {"seed", "device", "progress"}
    chosen.remove("optimizer")  # "sgd" has no say in the name of a run
    for name in chosen:
        assert config[name] == getattr(settings, name), name
    for name, value in ResNetSmall.__init__.__kwdefaults__.items():
        if name not in {"seed", "dtype"}:
            wanted = list(value) if isinstance(value, tuple) else value
            assert config[name] == wanted, name
    assert (config["regulariser"], config["p"]) == ("none", 0.0)
    assert set(MODEL_KEYS) == set(ResNetSmall.__init__.__kwdefaults__) - {
        "seed",
        "dtype",
    } | {"regulariser", "p"}
    assert config["data"] == "fashion-mnist-mini"
    keys = {*Data.model_fields, *Training.model_fields, *MODEL_KEYS}
    keys -= {"name", "optimizer"}
    assert set(config) == keys | {"data", "evaluate", "measures"}


@pytest.mark.slow
def test_every_axis_of_the_study_is_accepted(tmp_path):
    group = """
[[groups]]
name = "all"
regulariser = ["drop_block"]
p = [0.1]
block_size = [3, [5, 3, 2]]
shared = [true, false]
border = ["valid", "clip"]
placement = ["branch"]
stages = [[3], [1, 2, 3]]
path_p = [0, 0.2]
schedule = ["linear", "constant"]
ramp = [0.0, 0.5]
weight_decay = [5e-4, 5e-3]
augmentation = ["none", "shift-flip"]
label_noise = [0.0, 0.2]
depths = [[1, 1, 1]]
"""
    plan = read(tmp_path, TOP + group)
    assert len(plan.runs) == 2 * 2**10
    assert {str(run.config["block_size"]) for run in plan.runs} == {"3", "[5, 3, 2]"}


def test_a_plan_may_train_a_vit(tmp_path):
    text = (
        TOP
        + """
[training]
optimizer = "adamw"
[vit]
depth = 2
[[groups]]
name = "path"
p = [0.1, 0.2]
schedule = ["linear", "constant"]
[[groups]]
name = "sgd"
optimizer = ["sgd"]
dim = [16]
"""
    )
    *paths, last = read(tmp_path, text).runs[::2]
    assert [run.config["p"] for run in paths] == [0.1, 0.1, 0.2, 0.2]
    for run in paths:
        assert (run.config["net"], run.config["optimizer"]) == ("vit", "adamw")
        assert "depths" not in run.config
    assert "optimizer" not in last.config, "the names of old runs do not have it"
    model = make_net(last.config, 7, 3, seed=5)
    expected = ViTSmall(7, 3, depth=2, dim=16, seed=5)
    assert type(model) is ViTSmall
    assert list(map(repr, model.modules())) == list(map(repr, expected.modules()))
    assert all(map(torch.equal, model.parameters(), expected.parameters()))


def test_defaults_of_a_vit_are_those_of_the_code(tmp_path):
    text = TOP + '[vit]\n[[groups]]\nname = "none"\n'
    config = read(tmp_path, text).runs[0].config
    defaults = {k: p.default for k, p in signature(ViTSmall).parameters.items()}
    for name in ("num_classes", "in_channels", "seed", "dtype"):
        del defaults[name]
    assert {key: config[key] for key in VIT_KEYS} == defaults
    rest = {*Data.model_fields, *Training.model_fields} - {"name", "optimizer"}
    assert set(config) == rest | {*VIT_KEYS, "net", "data", "evaluate", "measures"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[vit]\n[model]\n",
            r"vit: expected either \[model\] or \[vit\], but got both",
        ),
        ("[vit]\ndepths = [1]\n", r"vit\.depths: unknown key; known are p, schedule"),
        ("[vit]\nheads = 3\n", "heads has to divide dim, but got 3 and 32"),
        ("[vit]\n[training]\noptimizer = 'lion'\n", "optimizer: expected sgd or adamw"),
        ("[vit]\n[training]\nramp = 0.5\n", "no regulariser whose rate could rise"),
    ],
)
def test_what_a_vit_cannot_be_is_named(tmp_path, text, message):
    with pytest.raises(PlanError, match=message):
        read(tmp_path, TOP + text + '[[groups]]\nname = "none"\n')


@pytest.mark.parametrize(
    ("section", "key", "net"),
    [("[vit]", "depths = [[1, 1, 1]]", "ViTSmall"), ("", "dim = [8]", "ResNetSmall")],
)
def test_a_group_names_arguments_of_its_net_alone(tmp_path, section, key, net):
    text = f'{TOP}{section}\n[[groups]]\nname = "all"\n{key}\n'
    where = key.split()[0]
    with pytest.raises(PlanError, match=rf"groups\.all\.{where}: .* argument of {net}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [("[4, 2]", (4, 2)), ("{start = 5, count = 3}", (5, 6, 7)), ("{count = 1}", (0,))],
)
def test_seeds_are_a_list_or_a_range(tmp_path, seeds, expected):
    plan = read(tmp_path, (TOP + GROUPS).replace("[3, 5]", seeds))
    assert plan.seeds == expected


FAMILY = """
[[families]]
name = "gain"
holm = true
[[families.contrasts]]
treatment = { group = "spatial", p = 0.1, epochs = 2 }
control = { group = "none" }
metric = "accuracy"
alternative = "greater"
"""


def test_families_are_read(tmp_path):
    (family,) = read(tmp_path, TOP + GROUPS + FAMILY).families
    assert (family.name, family.holm) == ("gain", True)
    assert family.contrasts == (
        Contrast(
            {"group": "spatial", "p": 0.1, "epochs": 2},
            {"group": "none"},
            "accuracy",
            "greater",
        ),
    )


def test_a_contrast_may_name_the_metric_of_its_control(tmp_path):
    line = 'metric = "accuracy"'
    family = FAMILY.replace(line, f'{line}\ncontrol_metric = "mc_accuracy[4]"')
    top = TOP.replace('["classification"]', '["classification", "monte_carlo"]')
    (found,) = read(tmp_path, top + GROUPS + family).families[0].contrasts
    assert found.control_metric == "mc_accuracy[4]"
    with pytest.raises(PlanError, match=r"control_metric: expected one of .* 'mc_acc"):
        read(tmp_path, TOP + GROUPS + family)
    family = FAMILY.replace(line, f"{line}\ncontrol_metric = 1")
    with pytest.raises(
        PlanError, match=r"control_metric: expected a valid string, but got 1$"
    ):
        read(tmp_path, TOP + GROUPS + family)


def test_two_families_need_two_names(tmp_path):
    with pytest.raises(PlanError, match=r"families: expected names that differ, but"):
        read(tmp_path, TOP + GROUPS + FAMILY + FAMILY)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", "titel: unknown key; known are title, evaluate"),
        ('title = "t"', "title = 1", "title: expected a valid string, but got 1"),
        ('"validation"', '"train"', "evaluate: expected 'validation' or 'test', but"),
        (
            '"classification"',
            '"beauty"',
            "measures.* expected one of .*classification, .*got 'beauty'",
        ),
        ("[3, 5]", "[]", r"seeds: .*at least 1 item .*, but got \[\]"),
        ("[3, 5]", "{count = 0}", "seeds: .*at least 1 item"),
        ("[3, 5]", "[3, 3]", r"seeds: expected each once, but got \[3, 3\]"),
        ("[3, 5]", '["a"]', "seeds.number 1: expected a valid integer, but got 'a'"),
        ("[3, 5]", "{from = 1}", "seeds: known are start and count, but got from"),
        ('["classification"]', "[]", "measures: List should have at least 1 item"),
        (
            '["classification"]',
            '["classification", "classification"]',
            "measures: expected each once, but got",
        ),
        (
            "p = [0.1, 0.2]",
            "p = [1.2]",
            r"spatial\.p\..*: expected less than or equal to 1, but got 1.2",
        ),
        (
            "epochs = [2, 3]",
            "path_p = [-1]",
            r"spatial\.path_p\..* expected greater than or equal to 0",
        ),
        (
            "p = [0.1, 0.2]",
            "p = [nan]",
            r"groups\.spatial\.p\..*: expected a finite number",
        ),
        (
            "p = [0.1, 0.2]",
            "p = 0.1",
            r"spatial\.p: expected a valid list, but got 0.1",
        ),
        (
            "p = [0.1, 0.2]",
            "p = []",
            r"groups\.spatial\.p: List should have at least 1",
        ),
        (
            "p = [0.1, 0.2]",
            "p = [true]",
            r"p\..*: expected a valid number, but got True",
        ),
        ("p = [0.1, 0.2]", "p = [0.1, 0.1]", "spatial: .*'p': 0.1.* in groups.spatia"),
        ('["spatial"]', '["cutout"]', r"groups\.spatial: regulariser has to be one of"),
        ("epochs = [2, 3]", "epochs = [0]", "spatial: epochs: expected a whole number"),
        (
            "epochs = [2, 3]",
            "epochs = [1.5]",
            r"spatial\.epochs\..*: expected a valid integer",
        ),
        (
            "epochs = [2, 3]",
            "ramp = [2.0]",
            r"ramp\..*: expected less than or equal to 1, but",
        ),
        (
            "epochs = [2, 3]",
            "images = [0]",
            r"images\..*: expected greater than 0, but got 0",
        ),
        (
            "epochs = [2, 3]",
            "stages = [3]",
            r"stages\..*: expected a valid list, but got 3",
        ),
        (
            "epochs = [2, 3]",
            "stages = [[4]]",
            "groups.spatial: stages has to name some",
        ),
        (
            "epochs = [2, 3]",
            'shared = ["no"]',
            r"shared\..*: expected a valid boolean, but got 'no'",
        ),
        (
            "epochs = [2, 3]",
            "q = [1]",
            r"groups\.spatial\.q: unknown key; known are name, images",
        ),
        (
            "epochs = [2, 3]",
            "seed = [1]",
            r"groups\.spatial\.seed: unknown key; known are",
        ),
        ('name = "none"', 'name = "none"\nramp = [0.5]', "none.ramp: there is no regu"),
        (
            'name = "spatial"',
            'name = "none"',
            r"groups\.none: there are two groups of th",
        ),
        ('name = "spatial"', "", r"groups\.number 2\.name: it is missing"),
        (
            "[[groups]]",
            "[data]\nname = 'mnist'\n[[groups]]",
            "data.name: expected one of fashion-mnist-mini, ",
        ),
        (
            "[[groups]]",
            "[training]\nseed = 1\n[[groups]]",
            "training.seed: unknown key; known are epochs",
        ),
        (
            "[[groups]]",
            "[model]\nwidth = 1\n[[groups]]",
            "model.width: unknown key; known are regular",
        ),
        (
            "seeds =",
            "tolerance = -1\nseeds =",
            "tolerance: expected greater than or equal to 0",
        ),
        (
            "[[groups]]",
            "[tolerances]\nnll = -1\n[[groups]]",
            "tolerances.nll: expected a n",
        ),
        (
            "[[groups]]",
            "[tolerances]\nnil = 1\n[[groups]]",
            "tolerances: expected one of .*accuracy, nll, ece, but got 'nil'",
        ),
        (
            "seeds =",
            "tolerances = 1\nseeds =",
            "tolerances: expected a valid dictionary, but got 1",
        ),
        (
            "[[groups]]",
            "[tolerances.'deep*']\nnll = 1\n[[groups]]",
            r"tolerances\.deep\*: expected a pattern of .*spatial, .* got {}",
        ),
        (
            "[[groups]]",
            "[tolerances.spatial]\nwhere = {p = 0.3}\n[[groups]]",
            r"tolerances\.spatial: .* settings that they have, but got {'p': 0.3}",
        ),
        (
            "[[groups]]",
            "[tolerances.spatial]\nwhere = {q = 0.3}\n[[groups]]",
            r"tolerances\.spatial\.where: unknown: 'q'; known are data, images",
        ),
        (
            "[[groups]]",
            "[tolerances.'spa*']\nnll = 'a'\n[[groups]]",
            r"tolerances\.spa\*\.nll: expected a number from 0, but got 'a'",
        ),
        (
            "seeds =",
            "checkpoints = [4]\nseeds =",
            r"only seeds of the plan, but got \[4",
        ),
        (
            "[[groups]]",
            "[[hypotheses]]\nid = 'H'\n[[groups]]",
            r"hypotheses\.number 1\.claim: it is missing",
        ),
        (
            "[[groups]]",
            "[[hypotheses]]\nid = 'H'\nclaim = 'c'\nwhy = 'w'\n[[groups]]",
            r"number 1\.why: unknown key; known are id, claim",
        ),
        (
            'metric = "accuracy"',
            'metric = "acuracy"',
            r"families\.gain\.metric: expected one of .*accuracy, .* got 'acuracy'",
        ),
        (
            "p = 0.1, ",
            "",
            r"gain\.treatment: expected to select one .* selects 2$",
        ),
        (
            "{ group = ",
            "{ grup = ",
            r"families\.gain\.treatment: unknown: 'grup'; known",
        ),
        ('"none" }', '"x" }', r"families\.gain\.control: .*'x'} selects 0$"),
        (
            '"greater"',
            '"more"',
            "alternative: expected 'two-sided', 'greater' or 'less', but got 'more'$",
        ),
        (
            "holm = true",
            "holm = 1",
            r"families\.gain\.holm: expected a valid boolean, but got 1",
        ),
        ("seeds =", "seeds : ", "is no TOML file"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, old, new, message):
    text = TOP + GROUPS + FAMILY
    assert old in text
    with pytest.raises(PlanError, match=message) as caught:
        read(tmp_path, text.replace(old, new, 1))
    assert str(caught.value).startswith("study.toml")


def test_all_that_does_not_fit_is_named_at_once(tmp_path):
    text = (TOP + GROUPS).replace('"t"', "1").replace("[2, 3]", "[2, 3.5]")
    with pytest.raises(
        PlanError, match=r"title: .*; groups\.spatial\.epochs\.number 2"
    ):
        read(tmp_path, text)


def test_the_last_fitting_tolerance_decides(tmp_path):
    text = """tolerance = 0.1
    [tolerances]
    nll = 0.2
    ece = 0.3
    [tolerances."s*"]
    nll = 0.4
    [tolerances.spatial]
    where = { p = 0.2 }
    nll = 0
    """
    first, rest = (TOP + GROUPS).split("[[groups]]", 1)
    head, tables = text.split("\n", 1)
    plan = read(tmp_path, f"{head}\n{first}{tables}[[groups]]{rest}")
    metrics = ("nll", "ece", "accuracy")
    for group, p, bounds in (
        ("none", 0.0, [0.2, 0.3, 0.1]),
        ("spatial", 0.1, [0.4, 0.3, 0.1]),
        ("spatial", 0.2, [0.0, 0.3, 0.1]),
        ("stopped", 0.2, [0.4, 0.3, 0.1]),
    ):
        row = {"group": group, "config": {"p": p}}
        assert [plan.allowed(row, metric) for metric in metrics] == bounds


def test_a_plan_needs_its_parts(tmp_path):
    with pytest.raises(PlanError, match="groups: it is missing"):
        read(tmp_path, TOP)
    with pytest.raises(PlanError, match="groups: List should have at least 1"):
        read(tmp_path, "groups = []\n" + TOP)
    with pytest.raises(FileNotFoundError):
        read_plan(tmp_path / "plans" / "none.toml")
    with pytest.raises(PlanError, match="in a folder called 'plans'"):
        read_plan(tmp_path / "study.toml")


def test_conditions_select_by_group_seed_and_configuration():
    row = {"group": "a", "seed": 1, "config": {"p": 0.1, "depths": [1, 2, 3]}}
    assert matches(row, {})
    assert matches(row, {"seed": 1, "depths": (1, 2, 3)})
    assert not matches(row, {"seed": 1, "p": 0.2})
    with pytest.raises(KeyError, match="unknown: 'q'; known are p, depths, group"):
        matches(row, {"q": 1})


def test_only_more_seeds_and_groups_extend_a_plan(tmp_path):
    old = read(tmp_path, TOP + "[training]\nlr = 0.1\n" + GROUPS + FAMILY).content
    assert difference(old, copy.deepcopy(old)) is None
    larger = copy.deepcopy(old)
    larger["seeds"] = {"start": 2, "count": 4}
    larger["groups"].insert(0, {"name": "new", "epochs": [1]})
    assert difference(old, larger) is None
    assert difference(larger, old) == "seeds had 2 and has it no more"

    def changed(change):
        new = copy.deepcopy(old)
        change(new)
        return difference(old, new)

    assert changed(lambda c: c["training"].update(lr=0.2)) == (
        "training.lr was 0.1 and is 0.2"
    )
    assert changed(lambda c: c["training"].update(momentum=0)) == (
        "training.momentum is new"
    )
    assert changed(lambda c: c["training"].clear()) == "training.lr is gone"
    assert changed(lambda c: c["groups"].pop(1)) == "groups.spatial is gone"
    assert changed(lambda c: c["groups"][1]["p"].append(0.3)) == (
        "groups.spatial.p was [0.1, 0.2] and is [0.1, 0.2, 0.3]"
    )
    assert changed(lambda c: c.update(hypotheses=[{"id": "H"}])) == "hypotheses is new"
    assert changed(lambda c: c["families"].clear()).startswith("families was [{'name'")
