"""The checkers of chapter 6, tested against right answers and against wrong ones.

The right answers are the solutions of the exercise notebook, and others that are
written differently. Most wrong answers are these solutions with one slip. Each has to
be caught by the checks that are named here and by no other, with a diagnosis that
contains the words.
"""

import functools
import io
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from answers import assert_found, assert_stopped, run, with_slips
from torch import nn

from regdrop_lite import DropPath, LinearRamp
from regdrop_lite.course.check import chapter_6 as check
from regdrop_lite.course.check import doubt, faults
from regdrop_lite.tools import audit, drop_layers, set_rates

PATH = Path(__file__).parents[3] / "book/exercises/06_in_practice_exercises.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)
CELLS = {cell["id"]: cell for cell in NOTEBOOK["cells"]}
TOTALS = {"swap": 6, "resume": 8, "logs": 4, "find": 7, "doubt": 10, "costs": 4}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


@functools.cache
def _audited(fault, style):
    model = faults._Model(fault, style)
    return audit(model, torch.rand(4, 5, (6, 10)[style]), draws=20)


def quick_audit(model, x, draws=40):
    """An audit takes a quarter of a second: each kind of model is audited once."""
    return _audited(model.fault, model.style)


def solution(exercise, *slips):
    """The names of the solution with every slip (old, new)."""
    names = {"set_rates": set_rates, "nn": nn, "LinearRamp": LinearRamp}
    run(CELLS["imports"]["source"].split("\ndata = ")[0], names, "<imports>")
    names["audit"] = quick_audit
    source = CELLS[f"{exercise}-answer"]["source"].split("\n\n\ntorch.manual_seed")[0]
    run(with_slips(source, slips), names, "<wrong>")
    return names


# --- the solutions --------------------------------------------------------------------


def test_every_exercise_has_its_checks_and_three_hints():
    """The rest of the general tests is in test_exercises.py."""
    for exercise, total in TOTALS.items():
        (output,) = CELLS[f"{exercise}-check"]["outputs"]
        assert output["data"]["text/plain"] == f"public checks {total}/{total}"
        text = CELLS[f"{exercise}-text"]["source"]
        assert text.count(":::{dropdown} Hint") == 3


# --- exercise 1: swap and ramp --------------------------------------------------------


def by_hand(net, p, steps):
    """Without the tools."""
    last = len(net.blocks) - 1
    for depth, block in enumerate(net.blocks):
        for name in ("drop_path1", "drop_path2"):
            layer = DropPath(p * depth / last).train(block.training)
            setattr(block, name, layer)
    return LinearRamp(net, 0.0, "present", steps)


def with_a_list(net, p, steps):
    names = solution("swap")
    names["replace_layers"](net, 0.0, kind=DropPath, fill=True)
    rates = [p * (i // 2) / (len(net.blocks) - 1) for i in range(2 * len(net.blocks))]
    return LinearRamp(net, 0.0, rates, steps)


def with_a_function(net, p, steps):
    def rate(name, depth, number):
        return p * depth / (number - 1)

    solution("swap")["replace_layers"](net, rate, kind=DropPath, fill=True)
    return LinearRamp(net, [0.0] * len(drop_layers(net.blocks)), "present", steps)


@pytest.mark.parametrize("function", [by_hand, with_a_list, with_a_function])
def test_right_ways_to_prepare(function):
    assert_found(check.prepare(function), 6, {})


REPLACE = "replace_layers(net, rates, kind=DropPath, fill=True)"
RAMP = 'return LinearRamp(net, 0.0, "present", steps)'
NUMBER = "drop_path_rates(p, len(net.blocks))"
BOTH = ("half-way", "end")


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [(REPLACE, "replace_layers(net, p, kind=DropPath, fill=True)")],
            dict.fromkeys(BOTH, "all blocks have one rate"),
        ),
        (
            [(NUMBER, "drop_path_rates(p, 2 * len(net.blocks))")],
            dict.fromkeys(BOTH, "rise from layer to layer"),
        ),
        (
            [(NUMBER, 'drop_path_rates(p, len(net.blocks), "linear1")')],
            dict.fromkeys(BOTH, "(l + 1)/L: the first block"),
        ),
        (
            [(NUMBER, 'drop_path_rates(p, len(net.blocks), "linear0")')],
            dict.fromkeys(BOTH, "l/L: the last block"),
        ),
        (
            [(NUMBER, 'drop_path_rates(p, len(net.blocks), "falling")')],
            dict.fromkeys(BOTH, "the rates fall with depth"),
        ),
        (
            [
                ("LinearRamp(net, 0.0,", "LinearRamp(net, 'present', 0.0,"),
                (', "present", steps', ", steps"),
            ],
            {
                "start": "expected rates of 0, got up to 0.3",
                "end": "nothing rises",
            },
        ),
        (
            [("steps)\n" if False else '"present", steps)', '"present", 2 * steps)')],
            {"half-way": "of 10 steps", "end": "set the rates first"},
        ),
        (
            [
                (
                    RAMP,
                    'ramp = LinearRamp(net, 0.0, "present", steps)\n'
                    "    ramp.step()\n    return ramp",
                )
            ],
            {"start": "before the first step", "half-way": "after 5 of 10 steps"},
        ),
        (
            [(RAMP, "net.train()\n    " + RAMP)],
            {"weights": "modes as they were"},
        ),
        (
            [(RAMP, "nn.init.zeros_(net.head[1].bias)\n    " + RAMP)],
            {"weights": "weights have changed"},
        ),
        (
            [(RAMP, "net.more = nn.Linear(2, 2).eval()\n    " + RAMP)],
            {"weights": "checkpoints no longer fit"},
        ),
        (
            [(RAMP, "net.head[0].p = 0.0\n    " + RAMP)],
            {"other layers": "expected that head.0 stays Dropout(p=0.3)"},
        ),
        (
            [(RAMP, 'LinearRamp(net, 0.0, "present", steps)')],
            {
                "start": "expected the ramp, got None",
                **dict.fromkeys(BOTH, "the ramp that was built, got None"),
            },
        ),
        (
            [
                (
                    RAMP,
                    "ramp = "
                    + RAMP[7:]
                    + "\n    set_rates(net, rates)\n    return ramp",
                )
            ],
            {"start": "is the ramp built last"},
        ),
        (
            [(REPLACE, "replace_layers(net, [0.0, *rates], fill=True)")],
            {"other layers": "that stem.1 stays Dropout2d(p=0.1)"},
        ),
    ],
)
def test_wrong_preparations(slips, expected):
    report = check.prepare(solution("swap", *slips)["prepare"])
    assert_found(report, 6, expected)


def test_preparations_that_leave_places_empty_are_told():
    def half(net, p, steps):
        ramp = by_hand(net, p, steps)
        net.blocks[0].drop_path1 = nn.Identity()
        return ramp

    assert "in each of 8 places, got 7" in check.prepare(half).diagnoses["places"]
    report = check.prepare(lambda net, p, steps: None)
    assert_stopped(report, 6, "got none: the author left nn.Identity")


# --- exercise 2: resume ---------------------------------------------------------------


def in_a_list():
    def save(run, file):
        parts = [run.net, run.optimizer, run.schedule, run.ramp]
        states = [part.state_dict() for part in parts]
        torch.save((*states, run.masks.get_state(), run.order.get_state()), file)

    def load(run, file):
        net, optimizer, schedule, ramp, masks, order = torch.load(file)
        run.net.load_state_dict(net)
        run.optimizer.load_state_dict(optimizer)
        run.schedule.load_state_dict(schedule)
        run.ramp.load_state_dict(ramp)
        run.masks.set_state(masks)
        run.order.set_state(order)

    return save, load


def over_all_attributes():
    def save(run, file):
        found = {}
        for name, part in vars(run).items():
            found[name] = getattr(
                part, "state_dict", getattr(part, "get_state", None)
            )()
        torch.save(found, file)

    def load(run, file):
        for name, state in torch.load(file, weights_only=True).items():
            part = getattr(run, name)
            getattr(part, "load_state_dict", getattr(part, "set_state", None))(state)

    return save, load


def in_parts_of_a_buffer():
    """Layers hold the generator: it may be reached through them."""
    save, _ = in_a_list()

    def load(run, file):
        states = torch.load(io.BytesIO(file.read()), weights_only=True)
        parts = (run.net, run.optimizer, run.schedule, run.ramp)
        for part, state in zip(parts, states, strict=False):
            part.load_state_dict(state)
        drop_layers(run.net)[0][1].generator.set_state(states[4])
        run.order.set_state(states[5])

    return save, load


@pytest.mark.parametrize("make", [in_a_list, over_all_attributes, in_parts_of_a_buffer])
def test_right_ways_to_resume(make):
    assert_found(check.resume(*make()), 8, {})


SAVE, BITS = "torch.save(states, file)", "to the last bit"
MASKS = 'run.masks.set_state(states["masks"])'
ORDER = 'run.order.set_state(states["order"])'
LOAD = "getattr(run, name).load_state_dict(states[name])"
LOOP = "for name in PARTS:\n        getattr(run, name).load"
READ = "states = torch.load(file, weights_only=True)"


def without(name):
    return [(LOOP, LOOP.replace("PARTS", f"set(PARTS) - {{'{name}'}}"))]


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            without("net"),
            {"net": "the weights are those of the start", BITS: "the weights differ"},
        ),
        (without("optimizer"), {"optimizer": "without its moments", BITS: "differ"}),
        (without("schedule"), {"schedule": "the learning rate is not where"}),
        (without("ramp"), {"ramp": "the rates begin again at 0", BITS: "differ"}),
        ([(MASKS, "")], {"masks": "the masks of the first half", BITS: "differ"}),
        ([(ORDER, "")], {"order": "the images of the first half", BITS: "differ"}),
        (
            [
                (MASKS, MASKS.replace('"masks"', '"order"')),
                (ORDER, ORDER.replace('"order"', '"masks"')),
            ],
            {"masks": "got another", "order": "got another", BITS: "differ"},
        ),
        (
            [(MASKS, "run.masks = torch.Generator(); " + MASKS)],
            {BITS: "set its state, do not replace it"},
        ),
        (
            [(MASKS, "run.masks.manual_seed(1)")],
            {"masks": "come again", BITS: "differ"},
        ),
        (
            [
                (READ, READ + "\n    run.net.eval()"),
                (ORDER, ORDER + "\n    run.order.seed()"),
            ],
            {"order": "in their order", BITS: "differ"},
        ),
        (
            [
                (SAVE, "torch.save(states | {'run': PathLike(run)}, file)"),
                (
                    "PARTS = (",
                    "from regdrop_lite.course.check.core import Report as _R\n"
                    "PathLike = lambda run: _R(1, {})\nPARTS = (",
                ),
                ("weights_only=True", "weights_only=False"),
            ],
            {"file": "with whole objects in it"},
        ),
        (
            [
                (
                    LOAD,
                    LOAD
                    + "\n    run.ramp.step()"[0:0]
                    + "\n    set_rates(run.net, 0.3)",
                )
            ],
            {BITS: "after four more steps the weights differ"},
        ),
    ],
)
def test_wrong_ways_to_resume(slips, expected):
    names = solution("resume", *slips)
    assert_found(check.resume(names["save"], names["load"]), 8, expected)


def test_checkpoints_that_cannot_be_judged_are_told():
    save, load = in_a_list()
    report = check.resume(lambda run, file: None, load)
    assert_stopped(report, 8, "nothing was written")

    def moving(run, file):
        torch.rand(1, generator=run.masks)
        save(run, file)

    report = check.resume(moving, load)
    assert "saving changes nothing, but masks has moved" in report.diagnoses["net"]
    report = check.resume(save, lambda run, file: torch.load(file)["net"])
    assert "your code raises TypeError" in report.diagnoses["net"]


# --- exercise 3: logs -----------------------------------------------------------------

RIGHT = {name: right for name, (right, _) in faults._LOGS.items()}


def test_every_wrong_reading_of_a_log_has_a_sentence_of_its_own():
    told = []
    for name, right in RIGHT.items():
        for wrong in set(faults._LOG_FAULTS) - {right}:
            report = check.logs(**RIGHT | {name: wrong})
            assert_found(report, 4, {name: f"log {name}: not '{wrong}'"})
            told.append(report.diagnoses[name])
    assert len(told) == len(set(told)) == 20
    assert_found(check.logs(**RIGHT), 4, {})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Never called", "spell it 'never called'"),
        ("too slow", "'too slow' is not one of the 6 answers"),
        (None, "None is not one of"),
        (["never called"], "a list is not one of"),
    ],
)
def test_readings_of_another_form(answer, words):
    assert_found(check.logs(**RIGHT | {"d": answer}), 4, {"d": words})


def test_the_texts_list_the_answers_of_their_checks():
    for fault in faults._LOG_FAULTS:
        assert f'`"{fault}"`' in CELLS["logs-text"]["source"]
    for fault in faults._FAULTS:
        assert f'| `"{fault}"` |' in CELLS["find-text"]["source"]


# --- exercise 4: find the fault -------------------------------------------------------


def by_rows(model, x):
    """From the table, where it says it, in place of the warnings."""
    report = quick_audit(model, x)
    if any(row.calls == 0 for row in report.rows):
        return "never called"
    if any(row.place.startswith("skip") for row in report.rows):
        return "on the skip"
    if any("in evaluation" in text for text in report.warnings):
        return "active in evaluation"
    if report.empty:
        return "empty places"
    if any("time steps" in text for text in report.warnings):
        return "time steps instead of samples"
    return "one mask for the batch" if report.warnings else "ok"


def by_outputs(model, x):
    """Two passes tell what works in evaluation; the rest is left to the warnings."""
    with torch.no_grad():
        if not torch.equal(model.eval()(x), model.eval()(x)):
            return "active in evaluation"
    return by_rows(model, x)


def by_text(model, x):
    table = " ".join(str(quick_audit(model, x, draws=30)).split())  # lines are broken
    for fault in ("never called", "on the skip", "time steps instead of samples"):
        if fault in table:
            return fault
    for words, fault in {
        "whole batch": "one mask for the batch",
        "works in": "active in evaluation",
        "without DropPath": "empty places",
    }.items():
        if words in table:
            return fault
    return "ok"


@pytest.mark.parametrize("function", [by_rows, by_outputs, by_text])
def test_right_ways_to_find_a_fault(function):
    assert_found(check.find_fault(function), 7, {})


LINES = CELLS["find-answer"]["source"].splitlines()[1:6]
DEFAULT = '"empty places" if report.empty else "ok"'
FAULTS = [fault for fault in faults._FAULTS if fault != "ok"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_overlooked_is_told(fault):
    slip = (DEFAULT, '"ok"')
    if fault != "empty places":
        slip = (next(line for line in LINES if f'"{fault}",' in line), "")
    report = check.find_fault(solution("find", slip)["find_fault"])
    words = f"a model with {fault!r} was called 'ok': {faults._FAULTS[fault]}"
    assert_found(report, 7, {fault: words})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [('"on the skip": "on the skip"', '"on the skip": "empty places"')],
            {"on the skip": "was called 'empty places'"},
        ),
        ([('else "ok")', 'else "Ok")')], {"ok": "spell it 'ok'"}),
        ([('else "ok")', "else None)")], {"ok": "None is not one of"}),
        (
            [(f", {DEFAULT}", "")],
            dict.fromkeys(("ok", "empty places"), "StopIteration"),
        ),
        (
            [('"time steps":', '"":')],
            dict.fromkeys(("ok", *FAULTS[2:]), "was called 'time steps instead"),
        ),
        ([('"works in evaluation"', '"evaluates"')], {FAULTS[0]: "was called 'ok'"}),
        (
            [("told = ", "told = 'never called ' * model.style + ")],
            dict.fromkeys(
                [f for f in faults._FAULTS if f not in ("never called", *FAULTS[:2])],
                "was called 'never called'",
            ),
        ),
    ],
)
def test_wrong_ways_to_find_a_fault(slips, expected):
    report = check.find_fault(solution("find", *slips)["find_fault"])
    assert_found(report, 7, expected)


def test_one_answer_for_all_is_told():
    report = check.find_fault(lambda model, x: "on the skip")
    assert_stopped(report, 7, "got 'on the skip' every time")


# --- exercise 5: doubt and calibration ------------------------------------------------


def passes_in_a_loop(net, x, count):
    total = 0
    net.mask.train()
    with torch.inference_mode():
        for _ in range(count):
            total = total + torch.softmax(net(x), -1) / count
    net.mask.eval()
    return total.clone()


def passes_by_logs(net, x, count):
    net.eval()
    net.mask.training = True
    draws = [net(x).detach().log_softmax(1).exp() for _ in range(count)]
    net.mask.training = False
    return sum(draws) / count


@torch.no_grad()
def passes_by_mode(net, x, count):
    out = solution("doubt")["passes"](net, x, count)
    return out / out.sum(dim=1, keepdim=True)


def calibration_by_numpy(probabilities, labels):
    confidence, said = probabilities.numpy().max(1), probabilities.numpy().argmax(1)
    right = said == labels.numpy()
    edges = np.digitize(confidence, np.linspace(0, 1, 11)[1:-1])
    gaps = [
        (edges == b).sum()
        * abs(confidence[edges == b].mean() - right[edges == b].mean())
        for b in set(edges)
    ]
    return sum(gaps) / len(labels)


def calibration_by_sums(probabilities, labels):
    """A weight and a mean cancel: only sums are needed."""
    top = probabilities.max(dim=1)
    gap = top.values - (top.indices == labels).double()
    sums = torch.zeros(10).double().index_add(0, (top.values * 10).long(), gap)
    return sums.abs().sum() / len(labels)


def calibration_by_lists(probabilities, labels):
    bins = {}
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        c = max(row)
        bins.setdefault(min(int(10 * c), 9), []).append(c - (row.index(c) == label))
    return sum(abs(sum(gaps)) for gaps in bins.values()) / len(labels)


@pytest.mark.parametrize(
    ("passes", "calibration"),
    [
        (passes_in_a_loop, calibration_by_numpy),
        (passes_by_logs, calibration_by_sums),
        (passes_by_mode, calibration_by_lists),
    ],
)
def test_right_ways_to_doubt(passes, calibration):
    assert_found(check.uncertainty(passes, calibration), 10, {})


STACK = "torch.stack([net(x).softmax(dim=1) for _ in range(count)]).mean(dim=0)"
CONTEXT = "with torch.no_grad(), monte_carlo_mode(net):"
GAP = "error += here.double().mean() * gap.abs()"
RETURN = "return float(error)"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [
                (
                    STACK,
                    "sum(net(x) / count for _ in range(count)).softmax(dim=1)",
                )
            ],
            {"probabilities": "average the probabilities"},
        ),
        (
            [(CONTEXT, "with torch.no_grad():")],
            {"probabilities": "one pass without masks", "random": "no mask is at work"},
        ),
        (
            [(CONTEXT, "net.train()\n    with torch.no_grad():")],
            {"BatchNorm": "BatchNorm has to stay"},
        ),
        (
            [(CONTEXT, "net.mask.train()\n    with torch.no_grad():")],
            {"BatchNorm": "the modes were not restored"},
        ),
        ([("torch.no_grad(), ", "")], {"no graph": "torch.no_grad() saves its memory"}),
        ([("range(count)", "range(16)")], {"passes": "expected 1 passes, got 16"}),
        (
            [("softmax(dim=1)", "softmax(dim=0)")],
            {"probabilities": "add up to 1 for each"},
        ),
        ([(".mean(dim=0)", ".sum(dim=0)")], {"probabilities": "add up to 1 for each"}),
        (
            [(CONTEXT, "torch.manual_seed(0)\n    " + CONTEXT)],
            {"random": "expected that two calls differ"},
        ),
        (
            [(GAP, "error += gap.abs() / len(bins.unique())")],
            dict.fromkeys(("two bins", "too unsure"), "each bin counts alike"),
        ),
        (
            [(GAP, "error += here.double().mean() * gap")],
            {
                "two bins": "gaps of both signs cancel: take",
                "too unsure": "cancel",
                "both sides": "cancel: take",
            },
        ),
        (
            [(GAP, "error = max(error, gap.abs())")],
            dict.fromkeys(("two bins", "too unsure", "both sides"), "the largest gap"),
        ),
        (
            [(GAP, "error += gap.abs()")],
            dict.fromkeys(("two bins", "too unsure", "both sides"), "without a weight"),
        ),
        (
            [(GAP, "error += here.double().mean() * gap**2")],
            dict.fromkeys(
                ("one bin", "two bins", "too unsure", "both sides"), "squared"
            ),
        ),
        (
            [(RETURN, "return 100 * float(error)")],
            dict.fromkeys(
                ("one bin", "two bins", "too unsure", "both sides"), "per cent"
            ),
        ),
        (
            [(RETURN, "return 1 - right.mean().item()")],
            dict.fromkeys(
                ("perfect", "one bin", "two bins", "too unsure", "both sides"), "got"
            ),
        ),
    ],
)
def test_wrong_ways_to_doubt(slips, expected):
    names = solution("doubt", *slips)
    report = check.uncertainty(names["passes"], names["calibration"])
    assert_found(report, 10, expected)
    assert doubt.uncertainty is check.uncertainty


def test_other_shapes_are_told():
    names = solution("doubt")
    report = check.uncertainty(lambda net, x, n: net(x)[0], names["calibration"])
    assert "shape (7, 3), got shape (3,)" in report.diagnoses["probabilities"]


# --- exercise 6: costs ----------------------------------------------------------------

COSTS = {name: right for name, (right, _) in check._COSTS.items()}


def test_every_slip_of_the_costs_has_a_sentence_of_its_own():
    told = []
    for name, (_, slips) in check._COSTS.items():
        for number, words in slips.items():
            report = check.costs(**COSTS | {name: number})
            assert_found(report, 4, {name: words[:40]})
            told.append(report.diagnoses[name])
    assert len(told) == len(set(told)) >= 12


@pytest.mark.parametrize(
    "answers",
    [
        {**COSTS, "pays_from": 6 / 80, "step": 66.0},
        {name: torch.tensor(float(right)) for name, right in COSTS.items()},
        {name: np.float64(right) for name, right in COSTS.items()},
    ],
)
def test_right_costs(answers):
    assert_found(check.costs(**answers), 4, {})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"step": 77}, {"step": "got 77, which is not it"}),
        ({"graphs": "three"}, {"graphs": "expected a number, got a str"}),
        ({"left": None}, {"left": "expected a number, got None"}),
    ],
)
def test_wrong_costs(answer, expected):
    assert_found(check.costs(**COSTS | answer), 4, expected)
