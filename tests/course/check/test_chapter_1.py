"""The checkers, tested against right answers and against wrong ones.

The right answers are the solutions of the exercise notebook, taken from the notebook.
Most wrong answers are these solutions with one slip. Each has to be caught by the
checks that are named here and by no other, with a diagnosis that contains the words.
"""

import pytest
import torch
from answers import assert_found, cells_of, run, with_slips

from regdrop_lite import spatial_dropout
from regdrop_lite.course.check import chapter_1 as check
from regdrop_lite.course.check import core

CELLS = cells_of("01")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


def wrong(cell, *slips):
    """The solution in ``cell`` with every slip (old, new), run after the imports."""
    source = with_slips(CELLS[cell]["source"], slips)
    names = {}
    run(CELLS["imports"]["source"], names, "<imports>")
    run(source, names, "<wrong>")
    return names


def test_the_text_of_the_tracing_exercise_has_the_numbers_of_its_check():
    text = CELLS["trace-text"]["source"]
    for name, numbers in (("x", check._TRACE_X), ("u", check._TRACE_U)):
        shown = " | ".join(f"{number:g}" for number in numbers)
        assert f"| ${name}$ | {shown} |" in text
    assert f"$p = {check._TRACE_P}$" in text


# --- exercise 1: trace ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([0.0, 4 / 0.6, 0.0, 2.5 / 0.6], {"which fall": "keep and drop are swapped"}),
        ([0.0, 0.0, -2.0, 0.0], {"which fall": "compared with q = 0.6"}),
        ([5.0, 0.0, 0.0, 0.0], {"which fall": "channel 2 is kept: its u = 0.92"}),
        ([5.0, 4 / 0.6, -2.0, 0], {"which fall": "channel 1 is dropped: its u = 0.13"}),
        ([3.0, 0.0, -1.2, 0.0], {"scale": "not scaled"}),
        ([7.5, 0.0, -3.0, 0.0], {"scale": "multiplied by 1/p = 2.5"}),
        ([1.8, 0.0, -0.72, 0.0], {"scale": "multiplied by q = 0.6"}),
        ([5.0, 0.0, 2.0, 0.0], {"scale": "by -1.667 for channel 2"}),
        (
            [0.0, 10.0, 0.0, 6.25],
            {"which fall": "keep and drop are swapped", "scale": "by 1/p = 2.5"},
        ),
        ([0.0] * 4, {"which fall": "channel 0 is kept", "scale": "nothing is kept"}),
        ([5.0, 0.0], {"which fall": "4 numbers, got 2", "scale": "4 numbers, got 2"}),
        ([1.0, 0.0, 1.0, 0.0], {"scale": "these are the numbers of a mask"}),
        (5.0, dict.fromkeys(("which fall", "scale"), "4 numbers, got a float")),
        ([None] * 4, {"which fall": "not written yet", "scale": "not written yet"}),
        ([float("nan")] * 4, dict.fromkeys(("which fall", "scale"), "got NaN")),
    ],
)
def test_wrong_traces(answer, expected):
    assert_found(check.trace(answer), 2, expected)


@pytest.mark.parametrize(
    "answer", [(5, 0, -2, 0), torch.tensor([5.0, 0, -2, 0]), [5.01, 0, -2.004, -0.0]]
)
def test_traces_may_be_tuples_tensors_or_rounded(answer):
    assert_found(check.trace(answer), 2, {})


# --- exercise 2: fill in --------------------------------------------------------------

SHAPE = "x.shape[:2] + (1,) * (x.dim() - 2)"
SCALE = "1.0 / (1.0 - p)"
ELEMENT = "one number for every value is element dropout"
SHARED = "one mask is shared by the whole batch"
SAMPLES = "one number for every sample drops whole samples"


@pytest.mark.parametrize(
    ("slip", "expected"),
    [
        (
            (SHAPE, "x.shape"),
            {"sequences": ELEMENT, "images": ELEMENT, "volumes": ELEMENT},
        ),
        (
            (SHAPE, "x.shape[:2] + (1, 1)"),
            {
                "sequences": "the mask of an input with 3 dimensions ends in (1,)",
                "volumes": "expected a mask of shape (4, 6, 1, 1, 1), got (4, 6, 1, 1)",
            },
        ),
        (
            (SHAPE, "(1,) + x.shape[1:2] + (1,) * (x.dim() - 2)"),
            {
                "sequences": SHARED,
                "images": SHARED,
                "volumes": SHARED,
                "independence": "the mask is shared by the batch",
            },
        ),
        (
            (SHAPE, "x.shape[:1] + (1,) * (x.dim() - 1)"),
            {
                "sequences": SAMPLES,
                "images": SAMPLES,
                "volumes": SAMPLES,
                "independence": "whole samples fall",
            },
        ),
        (
            (SHAPE, "x.shape[:3] + (1,) * (x.dim() - 3)"),
            {
                "sequences": ELEMENT,
                "images": "got (4, 6, 5, 1)",
                "volumes": "got (4, 6, 2, 1, 1)",
            },
        ),
        (
            (SHAPE, "x.shape[:2]"),
            dict.fromkeys(("sequences", "images", "volumes"), "ends in (1")
            | dict.fromkeys(("rate", "independence", "generator"), "does not fit to"),
        ),
        ((SCALE, "1.0 / p"), {"scale": "for what is kept, got 5: it is divided by p"}),
        (
            (SCALE, "1.0"),
            {"scale": "at p = 0.2 expected the factor 1.25 for what is kept, got 1:"},
        ),
        ((SCALE, "1.0 - p"), {"scale": "multiplied by q, not divided"}),
        ((SCALE, "2.0"), {"scale": "q = 1 - p is the only number that it needs"}),
        ((">= p", "< p"), {"rate": "keep and drop are swapped"}),
        ((">= p", ">= p / 4"), {"rate": "a share 0.2 of channels to fall, got 0.05"}),
        (
            ("generator=generator", "generator=None"),
            {"generator": "gives two different masks"},
        ),
        (
            ("generator=generator", "generator=torch.Generator().manual_seed(0)"),
            {"generator": "another state of the generator gives the same mask"},
        ),
    ],
)
def test_wrong_masks_and_scales(slip, expected):
    names = wrong("fill-answer", slip)
    assert_found(check.mask_and_scale(names["mask_and_scale"]), 7, expected)


def test_a_product_instead_of_a_pair():
    report = check.mask_and_scale(lambda x, p, generator: x)
    assert report.passed == 0
    assert "expected a mask and a scale, got shape" in report.diagnoses["images"]
    report = check.mask_and_scale(lambda x, p, generator: (p, 1 / (1 - p)))
    assert "the mask is a float, not a tensor" in report.diagnoses["images"]


# --- exercise 3: from scratch ---------------------------------------------------------

LAYER_SHAPE = (
    "shape[0], shape[self.channel_dim] = x.shape[0], x.shape[self.channel_dim]"
)
P_CHECK = "not 0.0 <= p <= 1.0"
ALL = "        if self.p == 1.0:\n            return x * 0.0\n"
PRODUCT = "x * mask.to(x.device) / (1.0 - self.p)"
PART = "fall only in part"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [("[1] * x.dim()", "list(x.shape)")],  # a mask per element
            {"whole channels": PART, "other ranks": PART, "channel last": PART},
        ),
        (
            [("[1] * x.dim()", "[1] * 4")],  # images only
            {
                "other ranks": "for an input of shape (64, 32, 6)",
                "channel last": "an input of shape (16, 5, 32)",
            },
        ),
        (
            [(LAYER_SHAPE, "shape[:2] = x.shape[:2]")],
            {"channel last": "channel_dim=-1 is ignored"},
        ),
        (
            [(LAYER_SHAPE, "shape[self.channel_dim] = x.shape[self.channel_dim]")],
            {"independence": "the mask is shared by the batch"},
        ),
        (
            [(LAYER_SHAPE, "shape[0] = x.shape[0]")],  # DropPath
            {"independence": "whole samples fall"},
        ),
        ([(">= self.p", "< self.p")], {"rate": "keep and drop are swapped"}),
        (
            [(">= self.p", "< self.p"), ("(1.0 - self.p)", "self.p")],
            {"rate": "keep and drop are swapped", "scale": "divided by p"},
        ),
        ([(" / (1.0 - self.p)", "")], {"scale": "not scaled"}),
        ([("/ (1.0 - self.p)", "/ self.p")], {"scale": "divided by p"}),
        ([("/ (1.0 - self.p)", "* (1.0 - self.p)")], {"scale": "multiplied by q"}),
        ([("not self.training or ", "")], {"eval": "some channels still fall"}),
        (
            [  # the scale of the first paper on dropout
                ("not self.training or self.p == 0.0", "self.p == 0.0"),
                (" / (1.0 - self.p)", ""),
                (
                    "        if self.p == 1.0",
                    "        if not self.training:\n"
                    "            return x * (1 - self.p)\n        if self.p == 1.0",
                ),
            ],
            {"scale": "not scaled", "eval": "values multiplied by 0.8"},
        ),
        (
            [(ALL, "")],
            {"p = 1": "NaN: with nothing kept there is nothing to scale"},
        ),
        (
            [(ALL, ""), (PRODUCT, "x * (mask * (1.0 / (1.0 - self.p)))")],
            {
                "p = 1": "ZeroDivisionError",
                "input untouched": "ZeroDivisionError",
                "dtype": "expected torch.float32 out for torch.float32 in",
            },
        ),
        ([("x * 0.0", "x")], {"p = 1": "got 100% of the values kept"}),
        (
            [
                ("not self.training or self.p == 0.0", "not self.training"),
                (">= self.p", "> max(self.p, 0.1)"),
            ],
            {"p = 0": "some channels still fall"},
        ),
        (
            [(PRODUCT, "x.mul_(mask).div_(1.0 - self.p)")],
            {"input untouched": "at p = 0.2 the layer writes into its input"},
        ),
        (
            [("x * 0.0", "x.zero_()")],
            {"input untouched": "at p = 1 the layer writes into its input"},
        ),
        ([(P_CHECK, "p < 0 or p > 1")], {"wrong p": "p = nan is accepted"}),
        ([(P_CHECK, "p > 1")], {"wrong p": "p = -0.1 is accepted"}),
        ([("and 1, but got {p}", "and 1")], {"wrong p": "does not say what it got"}),
        ([('ValueError(f"p', 'KeyError(f"p')], {"wrong p": "raises KeyError"}),
        ([("x.dim() < 3", "x.dim() < 2")], {"wrong input": "is accepted"}),
        (
            [(", but got {tuple(x.shape)}", "")],
            {"wrong input": "does not say what it got"},
        ),
        ([("generator=generator", "generator=None")], {"generator": "two different"}),
    ],
)
def test_wrong_layers(slips, expected):
    names = wrong("layer-answer", *slips)
    assert_found(check.layer(names["MySpatialDropout"]), 15, expected)


def test_errors_quote_the_line_of_the_learner():
    names = wrong("layer-answer", ("super().__init__()", "pass"))
    report = check.layer(names["MySpatialDropout"])
    assert "your code raises AttributeError" in report.diagnoses["eval"]
    assert "first line of a layer's __init__ is super()" in report.diagnoses["eval"]
    names = wrong("layer-answer", ("[1] * x.dim()", "[1] * 4"))
    text = check.layer(names["MySpatialDropout"]).diagnoses["other ranks"]
    assert "raises RuntimeError for an input of shape (64, 32, 6): " in text
    assert "(in: return x * mask.to(x.device) / (1.0 - self.p))" in text


def test_what_does_not_depend_on_the_input_is_told_once():
    names = wrong("layer-answer", ("1.0 - self.p)", "1.0 - p)"))
    texts = check.layer(names["MySpatialDropout"]).diagnoses
    (text,) = {text for text in texts.values() if "raises NameError" in text}
    assert "name 'p' is not defined (in: return x * mask" in text
    names = wrong("layer-answer", ("return x * mask", "x * mask"))
    texts = check.layer(names["MySpatialDropout"]).diagnoses
    assert set(texts.values()) == {
        "expected an output, got None: does your code end with return?"
    }


def test_a_layer_that_is_none():
    report = check.layer(lambda p, channel_dim=1: None)
    assert "the class has to be an nn.Module" in report.diagnoses["scale"]
    report = check.layer(lambda p, channel_dim=1: torch.nn.Flatten())
    assert "unexpected keyword argument 'generator'" in report.diagnoses["scale"]


# --- exercise 4: debug ----------------------------------------------------------------

INPUT = "torch.ones(64, 32, 3, 3), 0.2"
RATE = "zero.double().mean() > 0.5"
OK = "was called 'ok'"
COPY = "compare values, since a copy is not a fault"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [
                (INPUT, "torch.ones(64, 32, 3, 3), 0.5"),
                (RATE, "abs(zero.double().mean() - p) > 0.3"),
            ],
            {"p is the keep probability": "at another p than 0.5"},
        ),
        (
            [(INPUT, "torch.ones(64, 32, 1, 1), 0.2")],
            {"mask per element": "maps with more than one place"},
        ),
        (
            [("zero == zero[:1]", "zero != zero")],
            {"mask shared by the batch": "compare the samples"},
        ),
        (
            [("function(x, p, False, g)", "x")],
            {"active in eval": "call the function with training=False"},
        ),
        (
            [("y.max() == 1", "False")],
            {"no scale": "look at the values of what is kept"},
        ),
        (
            [
                (
                    "not torch.equal(function(x, p, False, g), x)",
                    "function(x, p, False, g) is not x",
                )
            ],
            dict.fromkeys(check._FAULTS[:5], COPY),
        ),
        (
            [(RATE, "y.max() != 1 / (1 - p)")],
            {
                "no scale": "count its zeros: their share is p",
            },
        ),
        (
            [
                (RATE, "False"),
                ("y.max() == 1", "y.max() != 1 / (1 - p)"),
            ],
            {"p is the keep probability": "count the zeros before you judge the scale"},
        ),
        (
            [
                ("(zero != zero[:, :, :1, :1]).any()", "False"),
                ("zero == zero[:1]", "zero.all(3).all(2) == zero[:1].all(3).all(2)"),
            ],
            {"mask per element": "look inside the channels first"},
        ),
        ([('"no scale"', '"wrong scale"')], {"no scale": "not one of the 6 answers"}),
        (
            [("    x, p, g", '    return "ok"\n    x, p, g')],
            dict.fromkeys(check._FAULTS, "not written yet"),
        ),
        (
            [  # the expectation tells one fault only
                (INPUT, "torch.ones(64, 2048, 3, 3), 0.2"),
                (
                    "    zero = y == 0\n",
                    "    zero = y == 0\n"
                    '    return "ok" if abs(y.mean() - 1) < 0.1 else "no scale"\n',
                ),
            ],
            dict.fromkeys(set(check._FAULTS) - {"ok", "no scale"}, OK),
        ),
    ],
)
def test_wrong_diagnoses(slips, expected):
    names = wrong("diagnose-answer", *slips)
    assert_found(check.diagnose(names["diagnose"]), 6, expected)


def test_an_error_at_one_implementation_costs_that_one_only():
    right = wrong("diagnose-answer")["diagnose"]

    def fails(implementation):
        answer = right(implementation)
        return {"no scale": 1}[answer] if answer == "no scale" else answer

    def raises(implementation):
        answer = right(implementation)
        return answer if answer != "no scale" else torch.ones(2) @ torch.ones(3)

    assert set(check.diagnose(fails).diagnoses) == {"no scale"}
    diagnoses = check.diagnose(raises).diagnoses
    assert set(diagnoses) == {"no scale"}
    assert "your code raises RuntimeError" in diagnoses["no scale"]


def test_too_few_samples_and_channels_show_up_by_chance():
    names = wrong("diagnose-answer", (INPUT, "torch.ones(2, 2, 3, 3), 0.2"))
    report = check.diagnose(names["diagnose"])
    assert "by chance: send in more" in report.diagnoses["ok"]


@pytest.mark.parametrize("fault", check._FAULTS)
@pytest.mark.parametrize("style", range(3))
@pytest.mark.parametrize(
    "shape", [(4, 64), (4, 64, 6), (4, 64, 5, 3), (4, 64, 2, 3, 4)]
)
def test_the_hidden_implementations_have_their_fault_and_no_other(fault, style, shape):
    function = check._implementation(fault, style)
    if fault == "ok" and style == 2 and len(shape) == 2:
        pytest.skip("the package's own layer refuses inputs without maps")
    p, x = 0.2, torch.rand(shape) + 1
    for training in (True, False):
        y = function(x, p, training, torch.Generator().manual_seed(3))
        assert y.shape == x.shape and y.dtype == x.dtype
        drops = training or fault == "active in eval"
        assert torch.equal(y, x) == (not drops)
    for p in (0.0, 1.0):
        assert function(x, p, True, None).isfinite().all()
    big = torch.ones(300, 200, 2, 2)
    y = function(big, 0.2, True, torch.Generator().manual_seed(3))
    dropped = 0.8 if fault == "p is the keep probability" else 0.2
    scale = 1.0 if fault == "no scale" else 1 / (1 - dropped)
    assert abs((y == 0).double().mean() - dropped) < 4 * (0.16 / 200) ** 0.5
    assert torch.allclose(y[y != 0], torch.tensor(scale))
    assert check._falls_whole(y) == (fault != "mask per element")
    assert torch.equal(y[0], y[1]) == (fault == "mask shared by the batch")


# --- exercise 5: design ---------------------------------------------------------------

SHARE = "(C / (C - k))"
NUMBER = "torch.rand(N, C, generator=generator).argsort(dim=1)"
BERNOULLI = "k * (torch.rand(N, C, generator=generator) >= p)"
LOOP = "torch.rand(x.shape, generator=generator).argsort(dim=1)"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(SHARE, "(1 / (1 - p))")], {"scale": "q is not the share that is kept"}),
        ([(f" * {SHARE}", "")], {"scale": "not scaled: expected C/(C - k) = 1.333"}),
        ([(SHARE, "(C / k)")], {"scale": "wrong scale at p = 0.3 of 8 channels"}),
        (
            [(NUMBER, "torch.arange(C).expand(N, C)")],  # always the first k
            {
                "equal chances": "channel 0 falls in 100% of the calls",
                "own choice": "all samples of a batch lose the same channels",
                "generator": "another state of the generator gives the same mask",
            },
        ),
        (
            [(NUMBER, "torch.randperm(C, generator=generator).expand(N, C)")],
            {"own choice": "all samples of a batch lose the same channels"},
        ),
        (
            [(NUMBER, BERNOULLI)],
            {"exactly k": "the samples lose from 0 to"},
        ),
        (
            [(NUMBER, LOOP), (".view(N, C, *[1] * (x.dim() - 2))", "")],
            {
                "exactly k": "the samples lose from 0 to 1",
                "whole channels": PART,
            },
        ),
        (
            [("*[1] * (x.dim() - 2)", "1, 1")],
            {
                "whole channels": "for an input of shape (64, 8, 6)",
                "equal chances": "for an input of shape (2, 10, 1)",
            },
        ),
        (
            [("k = round(p * C)\n", "k = int(p * C)\n")],
            {
                "exactly k": "k = 3 for every sample, but every sample loses 2",
                "k = C": "at p = 0.95 and C = 8 expected zeros, got 12% of the values",
            },
        ),
        (
            [("k = round(p * C)\n", "k = -int(-p * C // 1)\n")],
            {
                "exactly k": "p = 0.3 of 8 channels is k = 2",
                "scale": "expected C/(C - k) = 1.333",
                "k = 0": "some channels still fall",
            },
        ),
        (
            [("number >= k", "number < k")],
            {
                "exactly k": "every sample loses 6: keep and drop are swapped",
            },
        ),
        (
            # a block of k channels side by side, at a place drawn for each sample
            [
                (
                    NUMBER,
                    "(torch.arange(C) - torch.randint(C, (N, 1), generator=generator))"
                    " % C",
                )
            ],
            {"equal chances": "some sets of channels are likelier than others"},
        ),
        ([("not training or k == 0", "k == 0")], {"eval": "some channels still fall"}),
        (
            [("k == C", "p == 1")],
            {"k = C": "raises ZeroDivisionError"},
        ),
        (
            [
                ("    if k == C:\n        return x * 0.0\n", ""),
                ("(C / (C - k))", "C / (C - torch.tensor(k))"),
            ],
            {"k = C": "at p = 1 and C = 8 expected zeros, got NaN"},
        ),
        (
            [("generator=generator", "generator=None")],
            {"generator": "two different masks"},
        ),
        (
            [("mask.to(x.device)", "mask[:1].to(x.device)")],
            {"own choice": "the mask is shared by the batch"},
        ),
    ],
)
def test_wrong_designs(slips, expected):
    names = wrong("design-answer", *slips)
    assert_found(check.drop_exactly(names["drop_exactly"]), 11, expected)


def test_the_packages_function_is_no_design():
    for design in (
        spatial_dropout,
        lambda *args, **more: spatial_dropout(*args, **more),
    ):
        report = check.drop_exactly(design)
        assert report.passed == 0 and len(report.diagnoses) == 11
        for text in report.diagnoses.values():
            assert "code of your own, but it calls spatial_dropout" in text


# --- the report -----------------------------------------------------------------------


def test_a_report_never_says_that_all_is_well():
    report = core.Report(3, {})
    assert repr(report) == str(report) == "public checks 3/3"
    assert "passed" not in str(report) and "all" not in str(report)


def test_a_report_tells_a_common_cause_once():
    report = core.Report(3, {"a": "same", "b": "same", "c": "other"})
    assert str(report) == "public checks 0/3\n- a, b: same\n- c: other"
    assert report.passed == 0


def test_a_report_is_no_wider_than_a_cell():
    for function in (spatial_dropout, lambda *args, **options: None, 3):
        for line in str(check.drop_exactly(function)).splitlines():
            assert len(line) <= 76


def test_reports_are_reproducible_and_leave_the_global_generator_alone():
    names = wrong("layer-answer", ("generator=generator", "generator=None"))
    reports = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        reports.append(str(check.layer(names["MySpatialDropout"])))
        drawn = torch.rand(3)
        torch.manual_seed(seed)
        assert torch.equal(drawn, torch.rand(3))
    assert reports[0] == reports[1]


def test_an_error_without_a_message_is_named():
    def fail(*args, **options):
        raise RuntimeError

    report = check.mask_and_scale(fail)
    assert report.diagnoses["scale"].startswith("your code raises RuntimeError (in: ")


def test_what_a_learner_interrupts_stops():
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check.drop_exactly(interrupt)
