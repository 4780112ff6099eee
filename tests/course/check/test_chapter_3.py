"""The checkers of chapter 3, tested against right answers and against wrong ones.

The right answers are the solutions of the exercise notebook and others written
differently. Most wrong ones are these solutions with one slip. Each has to be caught by
the checks that are named here and by no other, with a diagnosis of these words.
"""

import copy
import math

import pytest
import torch
from answers import assert_found, cells_of, run, with_slips

from regdrop_lite import DropPath, drop_path_rates, drop_residual, set_generator
from regdrop_lite.course.check import chapter_3 as check
from regdrop_lite.course.measures import gradient_norms, residual_blocks

CELLS = cells_of("03")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


def report(exercise, *slips, answer=None):
    """The report on a solution with every slip (old, new), or on another answer."""
    source = CELLS[f"{exercise}-answer"]["source"] if answer is None else answer
    source = with_slips(source, slips)
    names, before = {}, torch.get_default_dtype()
    try:
        run(CELLS["imports"]["source"], names, "<imports>")
        names["DropPath"], names["drop_residual"] = DropPath, drop_residual
        if exercise == "cut":  # without the nets, which take longer than the check
            source = source.split("\n\n\npulls = ")[0]
        run(source, names, "<answer>")
        return run(CELLS[f"{exercise}-check"]["source"], names, "<check>")
    finally:
        torch.set_default_dtype(before)


def in_one_line(report):
    return str(report).replace("\n  ", " ")


# --- the notebook ---------------------------------------------------------------------


def test_the_texts_have_the_numbers_and_names_of_their_checks():
    shown = " | ".join(f"{u:.2f}" for u in check._TRACE_U)
    assert f"| $u$ | {shown} |" in CELLS["trace-text"]["source"]
    assert f"= {check._TRACE_P}$" in CELLS["trace-text"]["source"]
    for answer in check._PREDICTIONS:
        assert f'- `"{answer}"`: ' in CELLS["cut-text"]["source"]
    for place in check._PLACES:
        assert f'`"{place}"`' in CELLS["place-text"]["source"]
    assert "2,500" in CELLS["design-text"]["source"] and check._CALLS == 2500


# --- what no answer of any exercise may be --------------------------------------------

FUNCTIONS = {
    "cut": lambda f: check.pull(f, *check._PREDICTIONS),
    "stages": check.stage_rates,
    "layer": check.layer,
    "bug": check.diagnose,
    "place": check.well_placed,
    "fold": check.fold,
    "plan": check.p_for_depth,
    "design": check.independent,
    "risk": check.risk,
}


@pytest.mark.parametrize("exercise", FUNCTIONS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "got None"),
        (3, "got a int"),
        (lambda *args, **named: None, "got None"),
        (lambda *args, **named: 1 / 0, "ZeroDivisionError"),
        (lambda *args, **named: torch.ones(2**20, 2**20), "is about to make one"),
    ],
)
def test_what_is_no_answer_gets_a_diagnosis(exercise, answer, words):
    if words == "got None" and answer is not None:
        never = dict.fromkeys(("bug", "place", "design"), "never called")
        words = {**never, "fold": "got it as it was"}.get(exercise, "None")
    found = FUNCTIONS[exercise](answer)
    assert words in " ".join(found.diagnoses.values()), found
    assert found.passed == 0


# --- exercise 1 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [(2.0, 28.0, 64.0), (torch.tensor(2), 28, torch.tensor([64.0]))]
)
def test_numbers_may_be_of_any_kind(answer):
    assert_found(check.trace(*answer), 3, {})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((3, 28, 64), {"depth": "a dropped block does not count"}),
        ((1, 5, 64), {"depth": "u >= p", "training": "is kept where u < p"}),
        ((2.25, 28, 64), {"depth": "the mean over all masks"}),
        ((0, 28, 64), {"depth": "the rate of its own block"}),
        ((2, 16, 64), {"training": "got 16, the output without it"}),
        ((2, 64, 64), {"training": "got 64, the output of three open"}),
        ((2, 140, 140), {"training": "is kept and scaled", "evaluation": "with 1/q"}),
        ((2, 20, 64), {"training": "the other way round"}),
        ((2, 7, 64), {"training": "linear begins with the rate 0"}),
        ((2, 10, 64), {"training": "multiplied by q"}),
        ((2, 0, 64), {"training": "drops its branch alone"}),
        ((2, 32, 64), {"training": "scales its skip too"}),
        ((2, 29, 65), {"training": "block by block", "evaluation": "got 65"}),
        ((2, 28, 28), {"evaluation": "nothing is dropped"}),
        ((2, 28, 16), {"evaluation": "block 1 counts again"}),
        ((2, 28, 32.5), {"evaluation": "training has scaled already"}),
        ((2, 28, 27), {"evaluation": "without the skips"}),
        ((2, "28", 64), {"training": "got a str"}),
        ((True, 28, 64), {"depth": "got a bool"}),
        ((2, [4, 4, 28], 64), {"training": "got a list"}),
        ((2, 28, math.nan), {"evaluation": "got NaN"}),
        ((2, None, 64), dict.fromkeys(("depth", "training", "evaluation"), "every No")),
    ],
)
def test_wrong_traces(answer, expected):
    assert_found(check.trace(*answer), 3, expected)


# --- exercise 2 -----------------------------------------------------------------------

NORM = "torch.cat([w.grad.flatten() for w in ws]).norm().item()"
LOSS = "F.cross_entropy(net(images), labels)"
RIGHT = ("the same factor", "the more, the earlier", "as before")


def by_autograd(net, images, labels):
    net.train()
    loss = torch.nn.functional.cross_entropy(net(images), labels)
    for block in residual_blocks(net):
        gradients = torch.autograd.grad(
            loss, list(block.parameters()), retain_graph=True
        )
        yield sum(g.square().sum() for g in gradients).sqrt()


def as_tensor(net, images, labels):
    return torch.stack(list(by_autograd(net, images, labels)))


@pytest.mark.parametrize("answer", [by_autograd, as_tensor])
def test_other_right_ways_to_pull(answer):
    assert_found(check.pull(answer, *RIGHT), 8, {})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(".zero_grad()", "")], {"second call": "backward adds"}),
        ([("net.train().", "net.")], {"norms": "gradient in eval mode"}),
        ([("labels).back", "labels, reduction='sum').back")], {"norms": "8 times"}),
        ([("block.para", "block.conv1.para")], {"norms": "too little; does every"}),
        ([(NORM, "sum(w.grad.norm() for w in ws)")], {"norms": "sums of the norms"}),
        ([(NORM, NORM + " ** 2")], {"norms": "the root is missing"}),
        ([("norm()", "abs().sum()")], {"norms": "sums of absolute values"}),
        ([("norm()", "abs().max()")], {"norms": "the largest values"}),
        ([(".norm()", ".mean()")], {"norms": "these are means of the gradients"}),
        (
            [("w.grad.fl", "w.detach().fl")],
            {"norms": "norm of the weights", "arguments": "other images, got the same"},
        ),
        ([("for ws in weights", "for ws in [*weights][::-1]")], {"norms": "reverse"}),
        (
            [
                ("block.parameters() for", "[block] for"),
                ("residual_blocks(net)", "W"),
                ("    weights", "    W = net.parameters()\n    weights"),
            ],
            dict.fromkeys(
                ("norms", "second call", "arguments", "float32", "weights left alone"),
                "one number for each of the 4 blocks, got",
            ),
        ),
        (
            [(LOSS, LOSS.replace("labels", "labels * 0"))],
            {"norms": "every label is 0", "arguments": "for other labels, got"},
        ),
        (
            [("    weights", "    net.head.weight.data *= 0.5\n    weights")],
            {
                "second call": "leave behind",
                "weights left alone": "no step of training",
            },
        ),
        (
            [("net(images)", "net(images.double())")],
            {"float32": "for a net and images in float32"},
        ),
    ],
)
def test_wrong_pulls(slips, expected):
    assert_found(report("cut", *slips), 8, expected)


def test_the_measure_of_the_package_is_no_answer():
    def answer(net, images, labels):
        return gradient_norms(net, images, labels, torch.Generator())

    text = check.pull(answer, *RIGHT).diagnoses["norms"]
    assert "expected code of your own, but it calls gradient_norms" in text


@pytest.mark.parametrize("stage", range(3))
def test_wrong_predictions(stage):
    told = set()
    for wrong in set(check._PREDICTIONS) - {RIGHT[stage]}:
        answers = [*RIGHT[:stage], wrong, *RIGHT[stage + 1 :]]
        found = check.pull(None, *answers).diagnoses
        assert [name for name in found if "stage" in name] == [f"stage {stage + 1}"]
        told.add(found[f"stage {stage + 1}"])
    assert len(told) == 2
    answers = [*RIGHT[:stage], "As Before", *RIGHT[stage + 1 :]]
    assert "spell it 'as before'" in in_one_line(check.pull(None, *answers))


# --- exercise 3 -----------------------------------------------------------------------

RATE = "p_max * i / last"
LOOP = "for i in range(block, block + depth)]"


def by_tensors(p_max, depths):
    rates = torch.linspace(0, p_max, sum(depths), dtype=torch.float64)
    return rates.split(depths)


def by_zip(p_max, depths):
    step = p_max / max(sum(depths) - 1, 1)
    first = [sum(depths[:s]) for s in range(len(depths))]
    return tuple(
        tuple(step * (a + i) for i in range(n))
        for a, n in zip(first, depths, strict=True)
    )


def by_generator(p_max, depths):
    number = iter(range(sum(depths)))
    for depth in depths:
        yield [p_max * next(number) / max(sum(depths) - 1, 1) for _ in range(depth)]


@pytest.mark.parametrize("answer", [by_tensors, by_zip, by_generator])
def test_other_right_ways_to_list_rates(answer):
    assert_found(check.stage_rates(answer), 6, {})


MANY = ("three stages", "one stage", "an empty stage", "another rate")
NOT_ONE = ("three stages", "an empty stage", "another rate")


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([("sum(depths) - 1", "sum(depths)")], dict.fromkeys(MANY, "not L")),
        (
            [("* i / last", "* (i + 1) / sum(depths)")],
            {**dict.fromkeys(MANY, "begins with 0"), "a single block": "got 0.5"},
        ),
        ([("block += depth", "pass")], dict.fromkeys(NOT_ONE, "0 again")),
        (
            [("i / last " + LOOP, "i / max(depth - 1, 1) for i in range(depth)]")],
            dict.fromkeys(NOT_ONE, "on its own"),
        ),
        (
            [(RATE, "p_max")],
            {**dict.fromkeys(MANY, "the same rate"), "a single block": "got 0.5"},
        ),
        (
            [
                (RATE, "p_max * s / max(len(depths) - 1, 1)"),
                ("for depth in depths", "for s, depth in enumerate(depths)"),
            ],
            {
                **dict.fromkeys(NOT_ONE, "share a rate"),
                "one stage": "expected 0.1667 for block 1, got 0",
            },
        ),
        (
            [(RATE, "p_max * (last - i) / last")],
            {**dict.fromkeys(MANY, "fall with depth"), "a single block": "got 0.5"},
        ),
        (
            [(RATE, "1 - p_max * i / last")],
            {**dict.fromkeys(MANY, "probabilities to keep"), "a single block": "got 1"},
        ),
        ([("p_max * i", "0.5 * i")], {"another rate": "is p_max used?"}),
        ([("i / last", "(i / last) ** 2")], dict.fromkeys(MANY, "all the same")),
        (
            [("max(sum(depths) - 1, 1)", "sum(depths) - 1")],
            {"a single block": "ZeroDivisionError for depths = [1]"},
        ),
        (
            [("rates.append([", "rates.extend([")],
            dict.fromkeys(
                ("a list for each stage", *MANY, "a single block"), "is flat"
            ),
        ),
        (
            [("block + depth)", "block + 2)")],
            {
                "a list for each stage": "[2, 3, 1] rates in the stages, got [2, 2, 2]",
                **dict.fromkeys(MANY, "which blocks does a stage hold"),
                "a single block": "[1] rates in the stages, got [2]",
            },
        ),
        (
            [
                (
                    "    last = ",
                    "    return drop_path_rates(p_max, depths)\n    last = ",
                ),
                ("def stage", "from regdrop_lite import drop_path_rates\ndef stage"),
            ],
            dict.fromkeys(
                ("a list for each stage", *MANY, "a single block"),
                "it calls drop_path_rates of regdrop_lite",
            ),
        ),
        (
            [("return rates", "return None")],
            dict.fromkeys(
                ("a list for each stage", *MANY, "a single block"), "got None"
            ),
        ),
        (
            [(RATE, "None")],
            dict.fromkeys(
                (*MANY, "a list for each stage", "a single block"),
                "a number for each block, got None",
            ),
        ),
        (
            [("[p_max * i / last " + LOOP, "...")],
            dict.fromkeys(
                ("a list for each stage", *MANY, "a single block"), "not written yet"
            ),
        ),
    ],
)
def test_wrong_rates(slips, expected):
    assert_found(report("stages", *slips), 6, expected)


# --- exercise 4 -----------------------------------------------------------------------

DRAW = "mask = torch.rand(shape, generator=generator) >= self.p"
SHAPE = "(rows,) + (1,) * (f.dim() - 1)"
SCALE = "((1.0 - self.p) if self.scale_by_keep else 1.0)"
PRODUCT = "return f * mask / " + SCALE
EXACT = """count = rows * self.p
        count = int(count) + int(torch.rand(1, generator=generator) < count % 1)
        mask = torch.randperm(rows, generator=generator).view(shape) >= count"""
NEIGHBOURS = """mask = torch.rand((rows + 1) // 2, generator=generator) >= self.p
        mask = mask.repeat_interleave(2)[:rows].view(shape)"""
FRESH = "generator or torch.Generator().manual_seed(torch.Generator().seed())"

WAYS = {
    "where": [(PRODUCT, "return torch.where(mask, f / " + SCALE + ", 0 * f)")],
    "bernoulli": [
        (DRAW, "m = torch.full(shape, 1 - self.p, dtype=f.dtype)"),
        (PRODUCT, "m = torch.bernoulli(m, generator=generator)\n"
         "        return m * f / " + SCALE),
    ],
    "float mask": [
        (PRODUCT, "return f * (mask.float() / " + SCALE + ").to(f.dtype)"),
    ],
    "by hand": [
        (DRAW, "mask = f.new_empty(shape).uniform_(generator=generator) >= self.p"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_other_right_ways_to_drop(way):
    assert_found(report("layer", *WAYS[way]), 16, {})


LAYERS = [
    ([(SHAPE, "f.shape")],
     {"whole samples": "got single values", "mini-batch": "in part"}),
    ([(SHAPE, "(rows, *f.shape[1:2]) + (1,) * (f.dim() - 2)")],
     {"whole samples": "that is SpatialDropout's mask", "mini-batch": "in part"}),
    ([(SHAPE, "(rows, 1, 1, 1)")],
     dict.fromkeys(("whole samples", "mini-batch", "independence", "scale", "no scale",
                    "generator", "global generator"), "the mask as many dimensions")
     | {"rate": "about to make one of shape (65536, 1, 65536, 1)"}),
    ([('len(f) if self.mode == "row" else 1', "len(f)")], {"mini-batch": "in part"}),
    ([("len(f) if self.mode", "1 if self.mode")], {"whole samples": "share one fate"}),
    ([(">= self.p", "< self.p")],
     {"rate": "keep and drop", "mini-batch": "share 0.4 of mini-batches to fall"}),
    ([(">= self.p", ">= 1.25 * self.p")],
     {"rate": "got 0.25: is each", "mini-batch": "compared with p itself"}),
    ([(">= self.p", '>= self.p * (1 if self.mode == "row" else 1.25)')],
     {"mini-batch": "got 0.5"}),
    ([(DRAW, EXACT)], {"independence": "as if the number kept were fixed"}),
    ([(DRAW, NEIGHBOURS)], {"independence": "they share a random number"}),
    ([("(1.0 - self.p) if", "1.0 if")], {"scale": "is not scaled"}),
    ([("(1.0 - self.p) if", "self.p if")], {"scale": "divided by p"}),
    ([(SCALE, "((1.0 - self.p) ** 2 if self.scale_by_keep else 1.0)")],
     {"scale": "by q twice"}),
    ([(" if self.scale_by_keep else 1.0", "")], {"no scale": "although it must not"}),
    ([(" if self.scale_by_keep", ' if self.mode == "row" and self.scale_by_keep')],
     {"scale": "with mode='batch', scale_by_keep=True and p = 0.2 expected"}),
    ([("if self.p == 1.0", "if False")],
     {"p = 1": "got NaN", "gradient at p = 1": "got another one"}),
    ([("return f * 0.0", "return f")],
     {"p = 1": "got 100% of the values", "gradient at p = 1": "got another one"}),
    ([("not self.training or ", "")], {"eval": "some samples still fall"}),
    ([("            return f\n", "            return f * (1 - self.p)\n")],
     {"eval": "multiplied by 0.8"}),
    ([("or self.p == 0.0:", "or False:"), (">= self.p", "> max(self.p, 0.1)")],
     {"p = 0": "some samples still fall"}),
    ([(' not in ("row", "batch")', " == 3")], {"unknown mode": "is accepted"}),
    ([("            raise ValueError(", "            assert not (")],
     {"unknown mode": "raises AssertionError, expected a ValueError"}),
    ([("generator=generator", "generator=None")], {"generator": "two different masks"}),
    ([("generator=generator", "generator=generator or torch.Generator()")],
     {"global generator": "nothing may be seeded"}),
    ([("generator=generator", f"generator={FRESH}")],
     {"global generator": "of torch.manual_seed"}),
    ([("return f * mask", "return f.mul_(mask)")],
     {"input untouched": "at p = 0.2"}),
    ([("return f * 0.0", "return f.zero_()")], {"input untouched": "at p = 1"}),
    ([("return f * mask", "return f.detach() * mask")], {"gradient": "cut off"}),
    ([("return f * 0.0", "return torch.zeros_like(f)")],
     {"gradient at p = 1": "new zeros have no gradient"}),
    ([("return f * mask", "return f * mask.double()")],
     {"dtype": "expected torch.float32 out"}),
    ([("return f * mask", "return f.float() * mask")],
     {"dtype": "expected torch.float64 out"}),
]  # fmt: skip


@pytest.mark.parametrize(("slips", "expected"), LAYERS)
def test_wrong_layers(slips, expected):
    assert_found(report("layer", *slips), 16, expected)


SHORT_CUTS = {
    "f * mask": ("ones_like(f) * mask", "ignores the values of the input"),
    "if self.p == 1.0": ("if True", "got only zeros"),
    "not self.training": ("True", "got none: all pass"),
}


@pytest.mark.parametrize("old", SHORT_CUTS)
def test_a_layer_that_does_nothing_for_its_input_scores_nothing(old):
    new, words = SHORT_CUTS[old]
    new = new.replace("ones_like", "torch.ones_like")
    found = report("layer", (old, new))
    assert found.passed == 0 and words in in_one_line(found)


def test_values_that_decide_and_masks_that_stay_are_told():
    by_value = "mask = f.reshape(len(f), -1).sum(1).view(shape) > -1"
    assert (
        "the values have a say"
        in report("layer", (DRAW, by_value)).diagnoses["whole samples"]
    )
    once = """if not hasattr(self, "m") or self.m.shape != shape:
            self.m = torch.rand(shape, generator=generator)
        mask = self.m >= self.p"""
    text = report("layer", (DRAW, once)).diagnoses["independence"]
    assert "draw in forward, not in __init__" in text


def test_the_layer_of_the_package_and_what_is_no_class():
    for answer in (DropPath, type("Mine", (DropPath,), {})):
        found = check.layer(answer)
        assert found.passed == 0 and "of regdrop_lite" in str(found)
    found = check.layer(DropPath(0.5))
    assert found.passed == 0 and "a layer that is already made" in in_one_line(found)
    found = check.layer(lambda *args, **named: torch.relu)
    assert found.passed == 0 and "has to be an nn.Module" in str(found)


# --- exercise 5 -----------------------------------------------------------------------


def by_keywords(block):
    x, g = torch.rand(600, 2, 2) + 1, torch.Generator().manual_seed(1)
    call = {"x": x, "branch": torch.exp, "p": 0.3, "generator": g}
    gain = (block(training=True, **call) - x) / x.exp()
    if (gain + x / x.exp()).abs().min() < 1e-9:
        return "drops the skip too"
    kept = gain.abs().flatten(1) > 1e-9
    if (kept != kept[:, :1]).any():
        return "mask per value"
    if (kept == kept[0]).all():
        return "mask per mini-batch"
    if kept.double().mean() < 0.5:
        return "p is the keep probability"
    if gain.max() < 1.01:
        return "no scale"
    same = torch.allclose(block(training=False, **call), x + x.exp())
    return "ok" if same else "scaled twice"


def with_gradients(block):
    """The gradient for the branch shows the mask, that for the skip shows its fate."""
    x = torch.randn(500, 3, requires_grad=True)
    f = torch.randn(500, 3, requires_grad=True)
    skip, mask = torch.autograd.grad(
        block(x, lambda x: f, 0.25, True, torch.Generator().manual_seed(2)).sum(),
        (x, f),
    )
    answers = {
        "drops the skip too": bool((skip != 1).any()),
        "mask per value": bool((mask != mask[:, :1]).any()),
        "mask per mini-batch": bool((mask == mask[0]).all()),
        "p is the keep probability": mask.max().item() > 2,
        "no scale": mask.max().item() == 1,
    }
    for answer, found in answers.items():
        if found:
            return answer
    y = block(x, lambda x: f, 0.25, False, None)
    return "ok" if torch.allclose(y, x + f) else "scaled twice"


@pytest.mark.parametrize("answer", [by_keywords, with_gradients])
def test_other_right_ways_to_diagnose(answer):
    assert_found(check.diagnose(answer), 7, {})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([("(y == 0).any()", "False")], {"drops the skip too": "has zeros in its out"}),
        ([("(y != y[:, :1]).any()", "False")], {"mask per value": "inside one sample"}),
        (
            [("(y == y[0]).all()", "False")],
            {"mask per mini-batch": "in any call all samples have the branch"},
        ),
        ([("> 0.5", "> 2")], {"p is the keep probability": "at another p than 0.5"}),
        ([("y.max() == 2", "False")], {"no scale": "comes out as it is"}),
        ([('"scaled twice"', '"ok"')], {"scaled twice": "with training=False as well"}),
        ([("p, False, g", "p, True, g")], {"ok": "in evaluation its output is x + F",
          "scaled twice": "a correct block got the same name"}),
        ([("ones(400, 6), 0.2", "ones(400, 1), 0.2")], {"mask per value": "several"}),
        (
            [("> 0.5", "< 0.5"), ('"p is the keep probability"', '"no scale"')],
            {
                "ok": "its kept branches count 1/q-fold",
                "p is the keep probability": "the share of samples without the branch",
                "no scale": "a correct block got the same name",
                "scaled twice": "it is not 'no scale'",
            },
        ),
        ([('"no scale"', '"No scale"')], {"no scale": "spell it 'no scale'"}),
        ([('"no scale"', '"unscaled"')], {"no scale": "not one of the 7 answers"}),
        ([('"no scale"', "None")], {"no scale": "None is not one of the 7"}),
        ([("def diagnose(block):", "def diagnose(block):\n    return 'ok'")],
         dict.fromkeys(check._FAULTS, "never called")),
        ([("x, p, g =", "block(torch.ones(1), torch.exp, 0.1)\n    return 'ok'\n    x ="
          " x, p, g =")], dict.fromkeys(check._FAULTS, "got 'ok' every time")),
        ([("block(x, torch.ones_like, p, True, g)", "block.fault")],
         dict.fromkeys(check._FAULTS, "AttributeError")),
    ],
)  # fmt: skip
def test_wrong_diagnoses(slips, expected):
    if slips[0][0] == "x, p, g =":
        slips = [("    x, p, g =", "    block(torch.ones(1), torch.exp, 0.1)\n"
                  "    return 'ok'\n    x, p, g =")]  # fmt: skip
    assert_found(report("bug", *slips), 7, expected)


def test_two_samples_are_too_few():
    found = report("bug", ("torch.ones(400, 6)", "torch.ones(2, 6)"))
    assert "few of them can be alike by chance" in found.diagnoses["ok"]


def test_a_block_cannot_be_read():
    seen = []

    def reader(block):
        seen.append(block.__closure__[0].cell_contents)
        return block.__name__ + str(block.__code__.co_consts)

    assert check.diagnose(reader).passed == 0
    for given in seen:
        assert not hasattr(given, "__closure__") and given._before is None
        with pytest.raises(RuntimeError, match="during its check only"):
            given(1)


@pytest.mark.parametrize("fault", check._FAULTS)
@pytest.mark.parametrize("style", range(3))
@pytest.mark.parametrize("shape", [(2000,), (2000, 4), (2000, 4, 3, 2)])
def test_the_hidden_blocks_have_their_fault_and_no_other(fault, style, shape):
    block, p = check._faulty_block(fault, style), 0.2
    x, f = torch.rand(shape) + 1, torch.rand(shape) + 1
    y = block(x, f, p, True, torch.Generator().manual_seed(3))
    gain = ((y - x) / f).reshape(len(x), -1)
    assert y.dtype == x.dtype
    dropped = (gain.abs() < 1e-9) | (y == 0).reshape(gain.shape)
    assert (y == 0).any() == (fault == "drops the skip too")
    if len(shape) > 1:
        part = bool((dropped != dropped[:, :1]).any())
        assert part == (fault == "mask per value")
    if fault == "mask per mini-batch":
        assert (dropped == dropped[0, 0]).all()
    else:
        q = 0.2 if fault == "p is the keep probability" else 0.8
        assert abs(dropped.double().mean() - (1 - q)) < 4 * (0.16 / 2000) ** 0.5
        if fault != "drops the skip too":
            scale = torch.tensor(1.0 if fault == "no scale" else 1 / q)
            assert torch.allclose(gain[~dropped], scale)
    y = block(x, f, p, False, None)
    assert torch.allclose(y, x + f * (0.8 if fault == "scaled twice" else 1))
    for p in (0.0, 1.0):
        assert block(x, f, p, True, None).isfinite().all()


# --- exercise 6 -----------------------------------------------------------------------


def by_share(block, x):
    same = torch.isclose(block(x), block.skip(x).relu()).flatten(1).all(dim=1)
    return bool(0.2 < same.double().mean() < 0.8)


def by_dropping_all(block, x):
    block.drop.p = 1.0
    return torch.equal(block(x), block.skip(x).relu())


def by_hand(block, x):
    """Rebuild the block from its parts, with the mask at the end of the branch."""
    set_generator(block, torch.Generator().manual_seed(5))
    y = block(x)
    set_generator(block, torch.Generator().manual_seed(5))
    f = block.norm2(block.conv2(block.norm1(block.conv1(x)).relu()))
    return torch.allclose(y, (block.skip(x) + block.drop(f)).relu())


def with_a_copy(block, x):
    other = copy.deepcopy(block)
    other.drop = torch.nn.Identity()
    same = (block(x) == block.skip(x).relu()).flatten(1).all(dim=1)
    return bool(same.any()) and not torch.equal(other(x), other.skip(x).relu())


@pytest.mark.parametrize("answer", [by_share, by_dropping_all, by_hand, with_a_copy])
def test_other_right_ways_to_place(answer):
    assert_found(check.well_placed(answer), 3, {})


SAME = "torch.equal((y == skip).flatten(1).all(dim=1), gone)"
BODY = "    set_generator"
REFUSED = "False every time: about half of the samples of a right block are relu"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(".relu()", "")], REFUSED),
        ([("y == skip", "y == x")], "RuntimeError"),
        ([("block.skip(x).relu()", "x.relu()")], "RuntimeError"),
        ([("< 0.5", "< 0.4")], REFUSED),
        ([("< 0.5", ">= 0.5")], REFUSED),
        ([(SAME, "torch.equal(y, skip)")], REFUSED),
        ([(SAME, "bool((y[:2] == skip[:2]).flatten(1).all(1).any())")], REFUSED),
    ],
)
def test_well_placed_layers_that_are_refused(slips, expected):
    found = report("place", *slips)
    assert found.passed == 0 and expected in in_one_line(found), found


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(SAME, "not (y == 0).flatten(1).all(dim=1).any().item()")],
         {"before_norm": "the norm after it makes something else of the zeros"}),
        ([(SAME, "torch.equal(((y == skip) | (y == 0)).flatten(1).all(dim=1), gone)")],
         {"after_sum": "are zero, without the skip"}),
        ([(SAME, "bool(gone.any())")], dict.fromkeys(check._PLACES, "True every time")),
        ([(SAME, "bool(gone.all())")], dict.fromkeys(check._PLACES, "False every")),
        ([(SAME, "torch.tensor(" + SAME + ")")],
         dict.fromkeys(check._PLACES, "bool(...) makes one of a tensor")),
        ([(SAME, "block.placement == 'branch'")],
         dict.fromkeys(check._PLACES, "has no attribute 'placement'")),
        ([(BODY, "    return True\n" + BODY)],
         dict.fromkeys(check._PLACES, "never called")),
    ],
)  # fmt: skip
def test_wrong_places(slips, expected):
    assert_found(report("place", *slips), 3, expected)


def test_a_rejection_counts_only_where_the_right_block_is_accepted():
    def at_random(block, x):
        block(x)
        return bool(block.skip(x).shape[1] == 16 and block.placed)

    def never(block, x):  # but for one kind of skip
        y = block(x)
        return x.shape == y.shape and by_share(block, x)

    found = check.well_placed(never)
    assert found.passed == 0
    assert "counts only where they are accepted" in found.diagnoses["after_sum"]
    assert check.well_placed(at_random).passed == 0


# --- exercise 7 -----------------------------------------------------------------------

WEIGHT, BIAS = "block.norm2.weight *= 1", "block.norm2.bias *= 1"

FOLDS = {
    "data": """def fold(net):
    for block in residual_blocks(net):
        for w in block.norm2.parameters():
            w.data.mul_(1 - block.drop.p)
        block.drop.scale_by_keep = True
""",
    "new parameters": """def fold(net):
    for block in residual_blocks(net):
        q, norm = 1 - block.drop.p, block.norm2
        norm.weight = nn.Parameter(q * norm.weight.detach())
        norm.bias = nn.Parameter(q * norm.bias.detach())
        block.drop = DropPath(1 - q)
""",
    "state": """def fold(net):
    state = net.state_dict()
    for name, block in net.named_modules():
        if hasattr(block, "norm2"):
            for part in ("weight", "bias"):
                state[f"{name}.norm2.{part}"] = (
                    state[f"{name}.norm2.{part}"] * (1 - block.drop.p)
                )
            block.drop.scale_by_keep = True
    net.load_state_dict(state)
""",
}


@pytest.mark.parametrize("way", FOLDS)
def test_other_right_ways_to_fold(way):
    assert_found(report("fold", answer=FOLDS[way]), 4, {})


BOTH = ("evaluation", "training")
BACK = "the weights have to take just that back"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(BIAS, "_ = 1")], dict(zip(BOTH, ("bias is forgotten", BACK), strict=True))),
        ([(WEIGHT, "_ = 1")], dict(zip(BOTH, ("weight by 1", BACK), strict=True))),
        (
            [("norm2.weight", "conv2.weight")],
            dict(zip(BOTH, ("norm2 takes a factor of conv2 out", BACK), strict=True)),
        ),
        ([("scale_by_keep = True", "scale_by_keep = False")],
         {"training": "and the layer does not scale"}),
        ([(WEIGHT, WEIGHT.replace("*", "/")), (BIAS, BIAS.replace("*", "/"))],
         dict(zip(BOTH, ("norm2 is multiplied by 1/q", BACK), strict=True))),
        ([(WEIGHT + " -", WEIGHT[:-1]), (BIAS + " -", BIAS[:-1])],
         dict(zip(BOTH, ("norm2 is multiplied by p", BACK), strict=True))),
        ([(WEIGHT, "_ = 1"), (BIAS, "_ = 1")],
         dict(zip(BOTH, ("not at all", "to take just that back"), strict=True))),
        ([(WEIGHT + " - block.drop.p", WEIGHT[:-1] + "(1 - block.drop.p) ** 2"),
          (BIAS + " - block.drop.p", BIAS[:-1] + "(1 - block.drop.p) ** 2")],
         dict(zip(BOTH, ("by q twice", BACK), strict=True))),
        ([("        block.drop.s", "        block.drop.p = 0.3\n        block.drop.s")],
         {"training": "its rate has to stay"}),
        ([("(net):\n        with", "(copy.deepcopy(net)):\n        with")],
         dict.fromkeys((*BOTH, "dtype", "weights that learn"), "got it as it was")),
        ([("        block.drop.s", "        block.norm2.weight.requires_grad = False\n"
           "        block.drop.s")], {"weights that learn": "weights that learn, got"}),
        ([("        block.drop.s", "        block.norm2.bias.data = block.norm2.bias."
           "data.double()\n        block.drop.s")], {"dtype": "in float32, got"}),
        ([("with torch.no_grad()", "if True")],
         dict.fromkeys((*BOTH, "dtype", "weights that learn"), "RuntimeError")),
        ([("            block.norm2.w",
           "            for w in block.skip.parameters():\n"
           "                w *= 1 - block.drop.p\n            block.norm2.w")],
         dict(zip(BOTH, ("its skip is changed", BACK), strict=True))),
    ],
)  # fmt: skip
def test_wrong_folds(slips, expected):
    assert_found(report("fold", *slips), 4, expected)


# --- exercise 8 -----------------------------------------------------------------------


def by_search(D, L, schedule):
    if schedule not in ("linear", "constant"):
        raise ValueError(schedule)
    low, high = 0.0, 1.0
    depth = lambda p: sum(1 - r for r in drop_path_rates(p, L, schedule))  # noqa: E731
    if not depth(1.0) <= D <= L:
        raise ValueError(D)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if depth(middle) > D else (low, middle)
    return high


def by_sum(D, L, schedule):
    share = {"linear": 0.5, "constant": 1.0}
    if schedule not in share or D > L or L * (1 - share[schedule]) > D:
        raise ValueError("no")
    return torch.tensor((L - D) / (L * share[schedule]))


@pytest.mark.parametrize("answer", [by_search, by_sum])
def test_other_right_ways_to_plan(answer):
    assert_found(check.p_for_depth(answer), 5, {})


FACTOR = '(2 if schedule == "linear" else 1)'
LINEAR = ("linear", "ends")
KNOWN = 'schedule not in ("linear", "constant")'


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(FACTOR, "1")], {"linear": "the rate of 'constant'", "ends": "'constant'",
          "impossible depth": "5 of 12 blocks, 'linear', expected a ValueError, got"}),
        ([(FACTOR, "2")], {"constant": "the rate of 'linear', whose rates have"}),
        ([("(1 - D / L) * " + FACTOR, "D / L")],
         dict.fromkeys(("linear", "constant", "ends"), "D/L, the share that is kept")
         | {"impossible depth": "no linear schedule goes below L/2"}),
        ([("(1 - D / L) * " + FACTOR, "L - D"), ("<= 1:", "<= L:")],
         dict.fromkeys(("linear", "constant", "ends"), "how many blocks fall")
         | {"impossible depth": "no linear schedule goes below L/2"}),
        ([("D / L) * (2", "D / L) * (2 * L / (L + 1)")],
         dict.fromkeys(LINEAR, "rate of 'linear1', whose first block can fall")),
        ([("if not 0 <= p <= 1", "if p > 1")],
         {"impossible depth": "depth 13 of 12 blocks, 'linear', expected"}),
        ([("if not 0 <= p <= 1", "if p < 0")],
         {"impossible depth": "no linear schedule goes below L/2"}),
        ([("if not 0 <= p <= 1", "if not 0 < p < 1")], {"ends": "got a ValueError"}),
        ([("if not 0 <= p <= 1", "if not L / 2 <= D <= L")],
         {"constant": "some p_max between"}),
        ([(KNOWN, "schedule == 3")],
         {"unknown schedule": "for the schedule 'linear1'"}),
        ([("return p", "return min(1, max(p, 0))"), ("if not 0 <= p <= 1", "if False")],
         {"impossible depth": "got 1: no linear"}),
        ([("raise ValueError(f", "raise KeyError(f")],
         {"impossible depth": "a KeyError"}),
        ([("return p", "pass")], dict.fromkeys(("linear", "constant", "ends"), "None")),
        ([("return p", "return float('nan')")],
         dict.fromkeys(("linear", "constant", "ends"), "got NaN")),
        ([("    p = (1", "    raise ValueError(3)\n    p = (1")],
         dict.fromkeys(("linear", "constant", "ends"), "a ValueError: some")
         | dict.fromkeys(
             ("impossible depth", "unknown schedule"), "counts only where")),
    ],
)  # fmt: skip
def test_wrong_plans(slips, expected):
    assert_found(report("plan", *slips), 5, expected)


# --- exercise 9 -----------------------------------------------------------------------

FEWER = ("2_000", "500")  # enough here, and four times as fast
RATIO = "abs(ratio - 1) < 4 * math.sqrt(2 / calls)"
OTHERS = tuple(check._SAMPLERS)[1:]


def by_pairs(kept, seed=0):
    """The covariances of all pairs, not the count."""
    g = torch.Generator().manual_seed(seed)
    masks = torch.stack([kept(N=4, p=0.4, generator=g) for _ in range(1500)]).double()
    covariance = masks.T.cov() - 0.24 * torch.eye(4)
    return covariance.abs().max().item() < 0.03


def by_one_big_batch(kept, seed=0):
    g = torch.Generator().manual_seed(seed)
    counts = [int(kept(400, 0.5, g).sum()) for _ in range(400)]
    mean = sum(counts) / 400
    return 0.6 < sum((c - mean) ** 2 for c in counts) / 400 / 100 < 1.4


@pytest.mark.parametrize("answer", [by_pairs, by_one_big_batch])
def test_other_right_ways_to_test(answer):
    assert_found(check.independent(answer), 6, {})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([("abs(ratio - 1) <", "ratio - 1 <")],
         {"the subset": "hardly varies", "evenly": "evenly spread"}),
        ([("abs(ratio - 1) <", "1 - ratio <")],
         {"pairs": "two by two", "one mask": "N times Npq", "copied": "share a coin"}),
        ([("< 4 * math", "< 1 * math")],
         dict.fromkeys(OTHERS, "counts only where they are accepted")
         | {"DropPath": "four relative errors sqrt(2/n)"}),
        ([("return abs", "return 0 * abs")],
         dict.fromkeys(check._SAMPLERS, "True every time: which output decides")),
        ([(RATIO, "torch.tensor(" + RATIO + ")")],
         dict.fromkeys(check._SAMPLERS, "bool(...) makes one of a tensor")),
        ([("kept(N, p, g).sum()", "kept(N, p, g)[:2].sum()"), ("N * p", "2 * p"),
          ("calls = 10", "calls = 3"), ("500", "2_000")],
         {"pairs": "but not those side by side"}),
        ([("500", "2_501")], dict.fromkeys(check._SAMPLERS, "2,500 calls, got 2,501")),
        ([("calls = 10", "calls = 2**17"), ("500", "2")],
         dict.fromkeys(check._SAMPLERS, "N of at most 65,536 samples")),
        ([(RATIO, "True")], dict.fromkeys(check._SAMPLERS, "True every time")),
        ([(RATIO, "False")],
         dict.fromkeys(check._SAMPLERS, "False every time: with independent samples")),
        ([(RATIO, "None")], dict.fromkeys(check._SAMPLERS, "or False, got None")),
        ([("    g = ", "    return True\n    g = ")],
         dict.fromkeys(check._SAMPLERS, "never called")),
        ([(RATIO, "kept.__name__ == '_rows'")],
         dict.fromkeys(check._SAMPLERS, "no attribute '__name__'")),
        ([("counts = ", "counts = torch.zeros(2)  # ")],
         dict.fromkeys(check._SAMPLERS, "never called")),
    ],
)  # fmt: skip
def test_wrong_tests(slips, expected):
    assert_found(report("design", FEWER, *slips), 6, expected)


def test_different_masks_prove_nothing():
    new = "    return len({tuple(kept(N, p, g).tolist()) for _ in range(300)}) > 150\n"
    found = report("design", FEWER, ("    counts = ", new + "    counts = "))
    assert "every mask can occur" in found.diagnoses["copied"]


@pytest.mark.parametrize("name", check._SAMPLERS)
def test_every_sampler_has_its_rate_and_the_count_gives_the_others_away(name):
    sampler, g = check._SAMPLERS[name][0], torch.Generator().manual_seed(7)
    for N, p in ((3, 0.5), (10, 0.3), (32, 0.7)):
        masks = torch.stack([sampler(N, p, g) for _ in range(4000)])
        assert masks.shape == (4000, N) and masks.dtype == torch.bool
        rate = masks.double().mean(dim=0)
        assert (rate - (1 - p)).abs().max() < 4.5 * math.sqrt(p * (1 - p) / 4000)
        ratio = masks.sum(dim=1).double().var().item() / (N * p * (1 - p))
        far = abs(ratio - 1) > 4 * math.sqrt(2 / 4000)
        assert far == (name != "DropPath"), (N, p, ratio)


# --- exercise 10 ----------------------------------------------------------------------


def by_complement(rates, N, processes, mode):
    q = [1 - p for p in rates]
    if mode == "row":
        return 0
    called = [min(1, N * k) if mode == "subset" else k for k in q]
    return 1 - math.prod(called) ** processes


def by_cases(rates, N, processes, mode):
    p = torch.tensor(rates)
    missed = {"row": 0 * p, "batch": p, "subset": (1 - N * (1 - p)).clamp(min=0)}[mode]
    return -torch.expm1(processes * torch.log1p(-missed).sum())


@pytest.mark.parametrize("answer", [by_complement, by_cases])
def test_other_right_ways_to_compute_a_risk(answer):
    assert_found(check.risk(answer), 7, {})


EMPTY = "max(0.0, 1 - N * (1 - p))"
FRACTION = "a fraction of a sample"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(EMPTY, "p**N")], {FRACTION: "got 0.64: p**N is", "enough samples": "p**N",
          "blocks": "the number kept is fixed", "processes": "p**N"}),
        ([(EMPTY, "1 - N * (1 - p)")], {"enough samples": "is no probability"}),
        ([(EMPTY, "p")], {FRACTION: "of one coin", "enough samples": "of one coin",
          "blocks": "of one coin", "processes": "of one coin"}),
        ([('"row": 0.0', '"row": p**N')], {"masks": "every branch is computed"}),
        ([('"row": 0.0', '"row": 0.01')], {"masks": "calls every branch?"}),
        ([('"batch": p,', '"batch": p**N,')], {"one mask": "but here one coin counts"}),
        ([(" ** processes", "")], {"processes": "the risk of one process"}),
        ([("return 1 - fine", "return fine")],
         dict.fromkeys(("one mask", "masks", FRACTION, "one sample", "enough samples",
                        "blocks", "processes"), "that all goes well")),
        ([("fine *= ", "fine = ")], {"blocks": "the last block alone",
          "processes": "the last block alone"}),
        ([("in rates:", "in rates[:1]:")], {"blocks": "the first block alone",
          "processes": "the first block alone"}),
        ([(" ** processes", ""), ("return 1 - fine", "return processes * (1 - fine)")],
         {"processes": "added for the processes"}),
        ([("fine *= (1 - missed) ** processes", "fine -= missed")],
         {"blocks": "added for the blocks", "processes": "added for the blocks"}),
        ([("return 1 - fine", "return 0.0")],
         {"one mask": "but here one coin counts"}  # p**N of 32 samples is 0, nearly
         | dict.fromkeys((FRACTION, "one sample", "blocks", "processes"),
                         "that one process calls every branch?")
         | dict.fromkeys(("masks", "enough samples"), "a zero counts only")),
        ([("return 1 - fine", "return round(1 - fine, 2)")], {"processes": "got 0.97"}),
    ],
)  # fmt: skip
def test_wrong_risks(slips, expected):
    assert_found(report("risk", *slips), 7, expected)


@pytest.mark.parametrize(
    ("rates", "N", "processes"), [([0.8, 0.9], 3, 2), ([0.8], 2, 1), ([0.3], 1, 1)]
)
def test_the_risk_is_what_drop_residual_shows(rates, N, processes):
    g, x, failed, calls = torch.Generator().manual_seed(0), torch.zeros(N), 0, []
    for _ in range(1000):
        calls.clear()
        for p in rates * processes:
            drop_residual(x, lambda kept: calls.append(1) or kept, p, generator=g)
        failed += len(calls) < len(rates) * processes
    right = check._some([check._MISSED["subset"](p, N) for p in rates], processes)
    assert abs(failed / 1000 - right) < 4 * math.sqrt(right * (1 - right) / 1000)
