"""The checkers of chapter 5, tested against right answers and against wrong ones.

The right answers are the solutions of the exercise notebook, and others that are
written differently. Most wrong answers are these solutions with one slip. Each has to
be caught by the checks that are named here and by no other, with a diagnosis that
contains the words.
"""

import itertools
import math
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from answers import assert_found, assert_stopped, run, with_slips
from scipy import stats

from regdrop_lite import (
    drop_block,
    drop_path,
    drop_path_rates,
)
from regdrop_lite.course.check import chapter_5 as check
from regdrop_lite.course.study.report import load_study

ROOT = Path(__file__).parents[3]
PATH = ROOT / "book/exercises/05_which_one_exercises.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CELLS = {cell["id"]: cell for cell in NOTEBOOK["cells"]}
pytestmark = pytest.mark.slow
TOTALS = {"recipe": 7, "place": 8, "unet": 8, "rows": 6, "decide": 4}


def solution(exercise, *slips):
    """The names of the solution with every slip (old, new)."""
    source = with_slips(CELLS[f"{exercise}-answer"]["source"], slips)
    names = {"drop_block": drop_block, "drop_path": drop_path}
    names |= {"drop_path_rates": drop_path_rates}
    run(CELLS["imports"]["source"], names, "<imports>")
    names |= {"np": np}
    if exercise == "rows":
        run(CELLS["rows-data"]["source"], names, "<rows>")
    run(source, names, "<wrong>")
    return names


# --- the solutions --------------------------------------------------------------------


def test_every_exercise_has_its_checks_and_three_hints():
    """The rest of the general tests is in test_exercises.py."""
    for exercise, total in TOTALS.items():
        (output,) = CELLS[f"{exercise}-check"]["outputs"]
        assert output["data"]["text/plain"] == f"public checks {total}/{total}"
        text = CELLS[f"{exercise}-text"]["source"]
        assert text.count(":::{dropdown} Hint") == 3


def test_the_rows_are_those_of_the_study():
    rows = solution("rows")["rows"]
    study = load_study(ROOT / "book/results/plans/compare.toml")
    for group, values in rows.items():
        stored = study.values(f"clean: {group}", "accuracy")
        assert [*values.values()] == pytest.approx(stored, abs=0.00051)
        seeds = [r["seed"] for r in study.rows if r["group"] == f"clean: {group}"]
        assert [*values] == seeds


# --- exercise 1: a recipe -------------------------------------------------------------


def one_pass(recipe):
    """Block after block, in one loop."""
    rates, fallen, i, n = [], 0, 0, sum(recipe["blocks"])
    for count in recipe["blocks"]:
        rates.append([])
        for _ in range(count):
            shares = {"linear": i / (n - 1) if n > 1 else 0, "l/L": i / n}
            shares |= {"(l + 1)/L": (i + 1) / n, "constant": 1}
            rate = recipe["rate"] * shares[recipe["rule"]]
            rates[-1].append(None if i in recipe["no_skip"] else rate)
            fallen += 0 if i in recipe["no_skip"] else rate * recipe["branches"]
            i += 1
    return rates, fallen


def by_arrays(recipe):
    n, rule = sum(recipe["blocks"]), recipe["rule"]
    if rule == "constant":
        flat = np.full(n, recipe["rate"])
    else:
        ends = {"linear": (0, 1), "l/L": (0, 1 - 1 / n), "(l + 1)/L": (1 / n, 1)}
        flat = recipe["rate"] * np.linspace(*ends[rule], n)
    there = np.ones(n, dtype=bool)
    there[list(recipe["no_skip"])] = False
    listed = [r if t else None for r, t in zip(flat.tolist(), there, strict=True)]
    cuts = [0, *np.cumsum(recipe["blocks"])]
    rates = [listed[a:b] for a, b in itertools.pairwise(cuts)]
    return [rates, torch.tensor(flat[there].sum() * recipe["branches"])]


def by_iterators(recipe):
    n = sum(recipe["blocks"])
    first = {"linear": 0.0, "l/L": 0.0, "(l + 1)/L": 1 / n, "constant": 1.0}
    step = {"linear": 1 / max(n - 1, 1), "constant": 0.0}
    share, gain = first[recipe["rule"]], step.get(recipe["rule"], 1 / n)
    flat = (
        recipe["rate"] * (share + gain * i) if i not in recipe["no_skip"] else None
        for i in range(n)
    )
    rates = tuple(tuple(next(flat) for _ in range(b)) for b in recipe["blocks"])
    return rates, math.fsum(r or 0 for s in rates for r in s) * recipe["branches"]


@pytest.mark.parametrize("function", [one_pass, by_arrays, by_iterators])
def test_right_ways_to_read_a_recipe(function):
    assert_found(check.recipe(function), 7, {})


LINEAR, LAST = "lambda i: i / max(L - 1, 1)", "return rates, fallen"
FLAT = 'None if i in recipe["no_skip"] else p * share(i)'


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [(LINEAR, "lambda i: i / L")],
            {"linear": "rates of the rule l/L", "fallen": "it is the sum"},
        ),
        (
            [(LINEAR, "lambda i: (i + 1) / L")],
            {
                "linear": "of the rule (l + 1)/L",
                "one block": "of the rule (l + 1)/L",
                "fallen": "it is the sum of the rates",
            },
        ),
        (
            [("max(L - 1, 1)", "(L - 1)")],
            {"one block": "ZeroDivisionError: division by zero"},
        ),
        (
            [('"l/L": lambda i: i / L', '"l/L": lambda i: i / (L - 1)')],
            {
                "l/L": "rates of the rule linear",
                "no skip": "rates of the rule linear",
                "fallen": "it is the sum",
            },
        ),
        (
            [("lambda i: (i + 1) / L", "lambda i: i / L")],
            {"(l + 1)/L": "of the rule l/L"},
        ),
        (
            [('"constant": lambda i: 1.0', f'"constant": {LINEAR}')],
            {
                "constant": "rates of the rule linear",
                "fallen": "expected 9.6 fallen, got 4.8",
            },
        ),
        (
            [(FLAT, FLAT.replace("p * share(i)", "1 - p * share(i)"))],
            dict.fromkeys(list(check._RECIPES), "the probabilities to keep")
            | {"fallen": "that many are kept"},
        ),
        (
            [(FLAT, FLAT.replace("share(i)", "share(L - 1 - i)"))],
            dict.fromkeys(("linear", "l/L", "(l + 1)/L", "no skip"), "first block has")
            | {"fallen": "it is the sum of"},
        ),
        (
            [("rates.append(flat[start : start + blocks])", "rates += flat")],
            dict.fromkeys(check._RECIPES, "list of rates for each stage, got one list"),
        ),
        (
            [(FLAT, "p * share(i)")],
            {"no skip": "a block without a skip has None", "fallen": "loses nothing"},
        ),
        ([(' * recipe["branches"]', "")], {"fallen": "each block has two branches"}),
        ([(LAST, "return rates, fallen / L")], {"fallen": "that is the mean rate"}),
        (
            [(LAST, 'return rates, L * recipe["branches"] - fallen')],
            {"fallen": "that many are kept"},
        ),
        (
            [(LAST, 'return rates, p * L * recipe["branches"]')],
            {"fallen": "as if all had the full rate"},
        ),
        ([(LAST, "return rates, None")], {"fallen": "expected a number, got None"}),
        (
            [(LAST, 'recipe["rate"] = 0; ' + LAST)],
            dict.fromkeys([*check._RECIPES, "fallen"], "but it was changed"),
        ),
        (
            [("for blocks in recipe", "for blocks in (L,) or recipe")],
            dict.fromkeys(
                ("linear", "l/L", "(l + 1)/L", "no skip"), "in the stages, got ["
            ),
        ),
        (
            [
                (
                    'sum(recipe["blocks"])',
                    "len(drop_path_rates(0, sum(recipe['blocks'])))",
                )
            ],
            dict.fromkeys([*check._RECIPES, "fallen"], "it calls drop_path_rates"),
        ),
    ],
)
def test_wrong_recipes(slips, expected):
    function = solution("recipe", *slips)["read_recipe"]
    assert_found(check.recipe(function), 7, expected)


def test_rates_that_count_anew_or_skip_blocks_are_told():
    def anew(recipe):
        parts = [one_pass(recipe | {"blocks": (n,)})[0][0] for n in recipe["blocks"]]
        return parts, one_pass(recipe)[1]

    report = check.recipe(anew)
    assert "starts again in every stage" in report.diagnoses["linear"]
    assert report.diagnoses.keys() == {"linear", "l/L", "(l + 1)/L", "no skip"}

    def with_a_skip(recipe):
        rates, fallen = one_pass(recipe)
        here = [i for i in range(sum(recipe["blocks"])) if i not in recipe["no_skip"]]
        short = iter(one_pass(recipe | {"blocks": (len(here),), "no_skip": ()})[0][0])
        return [[r if r is None else next(short) for r in s] for s in rates], fallen

    assert_found(check.recipe(with_a_skip), 7, {"no skip": "but L counts all"})
    assert_stopped(check.recipe(lambda recipe: 0.2), 7, "(rates, fallen), got a float")


# --- exercise 2: DropPath in a block --------------------------------------------------


def with_functions(p, skip):
    """A block without layers: two coins by hand."""
    block = solution("place")["MyBlock"](6, 0.0, skip)

    class MyBlock(type(block)):
        def forward(self, x):
            y = self.norm(x)
            a = self.scale1 * self.mix(y.transpose(1, 2)).transpose(1, 2)
            b = self.scale2 * self.mlp(y)
            rate = p if self.skip else 0.0
            a, b = (drop_path(z, rate, self.training) for z in (a, b))
            return a + b + x * self.skip

    block.__class__ = MyBlock
    return block


DROPS = "self.drop_path1, self.drop_path2 = DropPath(p), DropPath(p)"
CALLS = "a, b = self.drop_path1(a), self.drop_path2(b)"
RETURN = "return x + a + b if self.skip else a + b"
NO_SKIP = "p = p if skip else 0.0"
MIXED = "self.scale1 * self.mix(y.transpose(1, 2)).transpose(1, 2)"


@pytest.mark.parametrize(
    "slips",
    [
        [
            (DROPS, "self.drop = DropPath(p)"),
            (CALLS, "a, b = self.drop(a), self.drop(b)"),
        ],
        [  # in front of the LayerScale
            (MIXED, "self.scale1 * self.drop_path1(self.mix(y.mT).mT)"),
            ("self.scale2 * self.mlp(y)", "self.scale2 * self.drop_path2(self.mlp(y))"),
            (CALLS, "pass"),
        ],
        [  # all branches in one tensor, one coin for each of its entries
            (
                CALLS,
                "z = self.drop_path1(torch.cat([a, b]))\n        a, b = z.chunk(2)",
            ),
        ],
    ],
)
def test_right_ways_to_place_path(slips):
    assert_found(check.place_path(solution("place", *slips)["MyBlock"]), 8, {})


def test_a_block_that_draws_by_functions_is_right():
    report = check.place_path(lambda dim, p, skip=True: with_functions(p, skip))
    assert_found(report, 8, {})


RATES = "a coin for each sample"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [
                (
                    CALLS,
                    "z = torch.stack([a, b], 1)\n"
                    "        a, b = self.drop_path1(z).unbind(1)",
                )
            ],
            {"own coins": "both falling together"},
        ),
        (
            [(CALLS, "a = self.drop_path1(a)")],
            {
                "own coins": "the branch of mlp stays",
                "ends": "at p = 1 expected x alone",
            },
        ),
        (
            [(CALLS, "b = self.drop_path2(b)")],
            {
                "own coins": "the branch of mix stays",
                "ends": "at p = 1 expected x alone",
            },
        ),
        (
            [(DROPS, DROPS.replace("(p)", "(1 - p)"))],
            {
                "rate": "not to keep",
                "scale": "it was divided by p",
                "ends": "at p = 0",
                "no skip": "samples that are lost",
            },
        ),
        (
            [(DROPS, DROPS.replace("(p)", "(p / 2)"))],
            {
                "rate": "the rate was halved",
                "scale": "times 1.3333, got 1.1429",
                "ends": "at p = 1 expected x alone",
            },
        ),
        (
            [
                (
                    "a, b = self.drop_path1(a), self.drop_path2(b)",
                    "one, two = self.drop_path1, self.drop_path2\n"
                    "        a, b = one(one(a)), two(two(b))",
                )
            ],
            {"rate": "two masks in a row", "scale": "it was scaled twice"},
        ),
        (
            [
                (DROPS, "self.q = 1 - p\n        " + DROPS),
                (CALLS, CALLS + "\n        a, b = a * self.q, b * self.q"),
            ],
            {
                "scale": "no scale, so",
                "evaluation": "x plus both branches in evaluation",
            },
        ),
        (
            [(DROPS, DROPS.replace("(p)", '(p, mode="batch")'))],
            {"samples": RATES},
        ),
        (
            [
                (
                    CALLS,
                    "a, b = (drop_path(z, self.drop_path1.p) for z in (a, b))",
                )
            ],
            {"evaluation": "does eval() reach it?"},
        ),
        (
            [(NO_SKIP, "")],
            {"no skip": "samples that are lost"},
        ),
        (
            [
                (
                    "y = self.norm(x)",
                    "y = self.norm(x)\n        s = 1.0 if self.training else 2.0",
                ),
                (RETURN, "return x + s * a + s * b if self.skip else a + b"),
            ],
            {"evaluation": "expected x plus both branches in evaluation"},
        ),
        (
            [(NO_SKIP, "p = p if skip else 0.5 * p")],
            {"no skip": "samples that are lost"},
        ),
    ],
)
def test_wrong_places_of_a_path(slips, expected):
    report = check.place_path(solution("place", *slips)["MyBlock"])
    assert_found(report, 8, expected)


@pytest.mark.parametrize(
    ("slips", "words"),
    [
        ([(CALLS, "pass")], "not written yet: in training nothing falls"),
        (
            [(CALLS, "pass"), (RETURN, "return self.drop_path1(x + a + b)")],
            "all zeros: the mask takes the skip, too",
        ),
        (
            [(CALLS, "pass"), ("x + a + b if", "self.drop_path1(x) + a + b if")],
            "the mask is on the skip",
        ),
        (
            [(CALLS, "pass"), ("self.norm(x)", "self.norm(self.drop_path1(x))")],
            "a mask in front of a norm",
        ),
        (
            [(CALLS, "pass"), ("self.mlp(y)", "self.mlp(self.drop_path1(y))")],
            "a branch adds something after it fell",
        ),
        (
            [(DROPS, DROPS.replace("DropPath", "nn.Dropout"))],
            "single values or tokens fall",
        ),
        (
            [
                (
                    CALLS,
                    "a, b = (self.drop_path1(z.flatten(0, 1)) for z in (a, b))\n"
                    "        a, b = a.view_as(x), b.view_as(x)",
                )
            ],
            "single values or tokens fall",
        ),
        (
            [("return x + a + b", "return x, a + b")],
            "expected the shape of x, got a tuple",
        ),
    ],
)
def test_wrong_places_that_leave_nothing_to_say(slips, words):
    report = check.place_path(solution("place", *slips)["MyBlock"])
    assert_stopped(report, 8, words)


def test_an_instance_or_a_block_with_other_names_is_told():
    made = solution("place")["MyBlock"]
    assert_stopped(check.place_path(made(6, 0.1)), 8, "a layer that is already made")
    assert_stopped(check.place_path(None), 8, "expected the class MyBlock, got None")
    renamed = solution(
        "place",
        ("self.skip, self.norm = skip", "self.skip, self.n = skip"),
        ("y = self.norm(x)", "y = self.n(x)"),
    )["MyBlock"]
    assert_stopped(check.place_path(renamed), 8, "under their names, but")


# --- exercise 3: DropBlock in a U-Net -------------------------------------------------

TWO = "self.drop_bottom, self.drop_up = DropBlock2d(p, k), DropBlock2d(p, 2 * k)"
BOTTOM, UP = "F.interpolate(self.drop_bottom(z)", "F.interpolate(self.drop_up(z)"
DEEP = "z = F.relu(self.bottom(F.max_pool2d(skip2, 2)))"
UP2 = "z = F.relu(self.up2(torch.cat([z, skip2], dim=1)))"


@pytest.mark.parametrize(
    "slips",
    [
        [
            (DEEP, DEEP + "\n        z = self.drop_bottom(z)"),
            (BOTTOM, "F.interpolate(z"),
        ],
        [  # in one layer each
            (
                TWO,
                "self.bottom_relu = nn.Sequential(nn.ReLU(), DropBlock2d(p, k))\n"
                "        self.drop_up = DropBlock2d(p, 2 * k)",
            ),
            (DEEP, DEEP.replace("F.relu", "self.bottom_relu")),
            (BOTTOM, "F.interpolate(z"),
        ],
        [
            (TWO, "self.p, self.k = p, k"),
            (BOTTOM, "F.interpolate(drop_block(z, self.p, self.k, self.training)"),
            (UP, "F.interpolate(drop_block(z, self.p, 2 * self.k, self.training)"),
        ],
    ],
)
def test_right_ways_to_place_blocks(slips):
    assert_found(check.place_block(solution("unet", *slips)["MyUNet"]), 8, {})


CAT1, CAT2 = "torch.cat([z, skip1], dim=1)", "torch.cat([z, skip2], dim=1)"
NO_BLOCKS = "there are no blocks to look at"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [(BOTTOM, "F.interpolate(z")],
            {
                "bottom": "the deepest maps fall before",
                "blocks at the bottom": NO_BLOCKS,
            },
        ),
        (
            [(UP, "F.interpolate(z")],
            {"decoder": "its maps arrive whole", "blocks in the decoder": NO_BLOCKS},
        ),
        (
            [(CAT2, CAT2.replace("skip2", "self.drop_up(skip2)"))],
            {"skips": "from down2 to up2"},
        ),
        (
            [(CAT1, CAT1.replace("skip1", "self.drop_up(skip1)"))],
            {"skips": "from down1 to up1"},
        ),
        (
            [("self.down1(x)", "self.down1(self.drop_up(x))")],
            {"rest": "expected the image whole"},
        ),
        (
            [("F.max_pool2d(skip2, 2)", "F.max_pool2d(self.drop_up(skip2), 2)")],
            {"rest": "the mask stands in the encoder"},
        ),
        ([("self.head(z)", "self.head(self.drop_up(z))")], {"rest": "in front of it"}),
        (
            [("return self.head(z)", "return self.drop_up(self.head(z))")],
            {"rest": "pixels of"},
        ),
        (
            [("DropBlock2d(p, 2 * k)", "DropBlock2d(p, k)")],
            {"blocks in the decoder": "twice as large, and so is the block"},
        ),
        (
            [("DropBlock2d(p, k),", "DropBlock2d(p, 2 * k),")],
            {"blocks at the bottom": "the blocks are too large"},
        ),
        (
            [("DropBlock2d(p, k),", "nn.Dropout2d(p),")],
            {"blocks at the bottom": "the blocks are too large"},
        ),
        (
            [("DropBlock2d(p, k),", "nn.Dropout(p),")],
            {"blocks at the bottom": "single elements fall"},
        ),
        (
            [("DropBlock2d(p, 2 * k)", "DropBlock2d(1 - p, 2 * k)")],
            {"rate": "p is the probability"},
        ),
        (
            [("DropBlock2d(p, k),", "DropBlock2d(p / 2, k),")],
            {"rate": "the rate was halved"},
        ),
        (
            [("DropBlock2d(p, k),", "DropBlock2d(0.4, k),")],
            {"rate": "maps of bottom fall, got"},
        ),
        (
            [(BOTTOM, "F.interpolate(drop_block(z, self.drop_bottom.p, 3)")],
            {"evaluation": "expected whole maps in evaluation"},
        ),
    ],
)
def test_wrong_places_of_blocks(slips, expected):
    report = check.place_block(solution("unet", *slips)["MyUNet"])
    assert_found(report, 8, expected)


def test_a_net_that_cannot_be_looked_at_is_told():
    flat = solution("unet", ("return self.head(z)", "return self.head(z).mean()"))
    assert_stopped(check.place_block(flat["MyUNet"]), 8, "a map like x, got shape ()")
    names = [("self.bottom = ", "self.deep = "), ("self.bottom(F", "self.deep(F")]
    other = solution("unet", *names)["MyUNet"]
    assert_stopped(check.place_block(other), 8, "the part bottom of the net")
    assert_stopped(check.place_block(other(0.1, 3)), 8, "a layer that is already made")


# --- exercise 4: rows of a study ------------------------------------------------------


def by_scipy(treatment, control):
    if set(treatment) != set(control):
        raise ValueError(f"{set(treatment) ^ set(control)} on one side")
    seeds = sorted(treatment)
    test = stats.ttest_rel([treatment[s] for s in seeds], [control[s] for s in seeds])
    interval = test.confidence_interval(0.95)
    return (interval.low + interval.high) / 2, interval.low, interval.high


def by_statistics(treatment, control):
    for seed in [*treatment, *control]:
        if seed not in treatment or seed not in control:
            raise ValueError(f"the seed {seed} has no partner")
    d = [value - control[seed] for seed, value in treatment.items()]
    mean, error = statistics.mean(d), statistics.stdev(d) / len(d) ** 0.5
    reach = stats.t(len(d) - 1).ppf(0.975) * error
    return [mean, mean - reach, mean + reach]


def by_numpy(treatment, control):
    if len(treatment) != len(control) or any(s not in control for s in treatment):
        raise ValueError(f"seeds {sorted(treatment)} and {sorted(control)} differ")
    d = np.array([treatment[s] - control[s] for s in control])
    low, high = stats.ttest_1samp(d, 0).confidence_interval()
    return torch.tensor([d.mean(), low, high])


READING = check._READING
VERDICT = solution("rows")["verdict"]


@pytest.mark.parametrize("function", [by_scipy, by_statistics, by_numpy])
def test_right_ways_to_read_rows(function):
    def verdict(low, high, margin):
        if -margin < low and high < margin:
            return "equal"
        if low <= 0 <= high:
            return "open"
        return "gain" if low + high > 0 else "loss"

    assert_found(check.gain(function, verdict, READING), 6, {})


DIFFER = "[treatment[seed] - control[seed] for seed in treatment]"
READ = CELLS["rows-answer"]["source"].splitlines()[-1]
ENDS = "return mean, mean - half, mean + half"
RAISE = 'raise ValueError(f"seeds on one side only: {sorted(one_sided)}")'
TWO_SIDES = "math.hypot(*(np.std([*s.values()], ddof=1) for s in (treatment, control)))"
INTERVALS = ("interval", "few seeds")


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [("treatment[seed] - control[seed]", "control[seed] - treatment[seed]")],
            {"mean": "not the other way round"},
        ),
        (
            [(ENDS, "return 100 * mean, mean - half, mean + half")],
            {
                "mean": "not in per cent",
                "interval": "not the mean in its middle",
                "few seeds": "not the mean in its middle",
            },
        ),
        (
            [("d.mean().item()", "d.sum().item()")],
            {"mean": "divide by the number of seeds"},
        ),
        (
            [("d.mean().item()", "d.median().item()")],
            {"mean": "expected the mean difference"},
        ),
        (
            [(DIFFER, "[a - b for a, b in zip(treatment.values(), control.values())]")],
            dict.fromkeys(INTERVALS, "by their place in the dict"),
        ),
        (
            [("float(stats.t.ppf(0.975, n - 1))", "1.96")],
            dict.fromkeys(INTERVALS, "1.96 is for many seeds"),
        ),
        (
            [("float(stats.t.ppf(0.975, n - 1))", "2")],
            dict.fromkeys(INTERVALS, "2 errors are a rule of thumb"),
        ),
        (
            [("float(stats.t.ppf(0.975, n - 1))", "1")],
            dict.fromkeys(INTERVALS, "that is one standard error"),
        ),
        ([("0.975", "0.95")], dict.fromkeys(INTERVALS, "the 90 % interval")),
        ([("ppf(0.975, n - 1)", "ppf(0.975, n)")], dict.fromkeys(INTERVALS, "not n")),
        ([(" / math.sqrt(n)", "")], dict.fromkeys(INTERVALS, "by the root of n")),
        (
            [("d.std()", "d.std(correction=0)")],
            dict.fromkeys(INTERVALS, "not by n - 1"),
        ),
        (
            [("d.std().item()", TWO_SIDES)],
            dict.fromkeys(INTERVALS, "taken as independent"),
        ),
        (
            [(ENDS, "return mean, mean + half, mean - half")],
            dict.fromkeys(INTERVALS, "low and high are exchanged"),
        ),
        (
            [(ENDS, "return mean - half, mean + half")],
            dict.fromkeys(("mean", *INTERVALS), "a list of 3 numbers, got 2"),
        ),
        ([(RAISE, "pass")], {"other seeds": "raises KeyError, expected a ValueError"}),
        (
            [
                (
                    DIFFER,
                    DIFFER.replace("in treatment]", "in treatment if seed in control]"),
                ),
                (RAISE, "pass"),
            ],
            {"other seeds": "is accepted without an error"},
        ),
        (
            [(RAISE, 'raise ValueError("seeds")')],
            {"other seeds": "does not say what it got"},
        ),
        (
            [("max(abs(low), abs(high)) < margin", "low < 0 < high")],
            {"verdict": "no difference shown is not no difference"},
        ),
        (
            [('"gain" if low > 0 else "loss" if', '"loss" if low > 0 else "gain" if')],
            {"verdict": "the interval lies above 0"},
        ),
        (
            [("max(abs(low), abs(high)) < margin", "False")],
            {"verdict": "within the margin, which comes first"},
        ),
        ([('else "open"', 'else "Open"')], {"verdict": "spell it 'open'"}),
    ],
)
def test_wrong_ways_to_read_rows(slips, expected):
    names = solution("rows", *slips, (READ, ""))
    assert_found(check.gain(names["gain"], names["verdict"], READING), 6, expected)


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (
            READING | {"stopped": "equal"},
            "stopped: expected another verdict than 'equal'",
        ),
        (READING | {"spatial": "open"}, "spatial: expected another"),
        ({"stopped": "open"}, "None is not one of the 4 answers"),
        ("open", "expected a dict, got a str"),
    ],
)
def test_wrong_readings(reading, words):
    assert_found(check.gain(by_scipy, VERDICT, reading), 6, {"reading": words})


# --- exercise 5: decide ---------------------------------------------------------------

RIGHT = {name: right for name, (right, _) in check._CASES.items()}


@pytest.mark.parametrize("form", [tuple, list, lambda answer: (*answer,)])
def test_right_decisions(form):
    assert_found(check.decide(*map(form, RIGHT.values())), 4, {})


def test_every_wrong_decision_has_a_sentence_of_its_own():
    told = []
    for name, right in RIGHT.items():
        for place, choices in enumerate(check._KINDS.values()):
            for wrong in set(choices) - {right[place]}:
                answer = [*right[:place], wrong, *right[place + 1 :]]
                report = check.decide(**RIGHT | {name: answer})
                assert_found(report, 4, {name: f"not '{wrong}'"})
                told.append(report.diagnoses[name])
    assert len(told) == len(set(told)) == 32


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "expected three answers, got None"),
        ("no mask", "expected three answers, got a str"),
        (("no mask", "reported"), "expected three answers, got a tuple"),
        (("No mask", "reported", "nearly all"), "spell it 'no mask'"),
        (("stop", "reported", "nearly all"), "'stop' is not one of the 4 answers"),
        (("no mask", 3, "nearly all"), "a int is not one of the 3 answers"),
    ],
)
def test_decisions_of_another_form(answer, words):
    assert_found(check.decide(**RIGHT | {"d": answer}), 4, {"d": words})


def test_the_text_lists_the_answers_of_the_check():
    text = CELLS["decide-text"]["source"]
    for answer in (*check._FIRST, *check._STATUS, *check._UNKNOWN):
        assert f'`"{answer}"`' in text
