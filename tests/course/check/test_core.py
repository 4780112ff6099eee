"""What all checkers share: limits, opaque functions, reports that cannot be forged."""

import math
import sys
import time
from functools import partial

import pytest
import torch

from regdrop_lite import DropBlock2d, SpatialDropout2d, drop_path
from regdrop_lite.course.check import Report, core

LOOPS = """
def plain():
    while True:
        pass
def caught():
    while True:
        try:
            while True:
                pass
        except Exception:
            pass
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(core, "TIME_LIMIT", 0.5)


def told(function, *args, **options):
    """The diagnosis of one check that asks the function."""
    report = core.judge({"one": lambda: core.ask(function, *args, **options)})
    return report.diagnoses.get("one", "")


@pytest.mark.parametrize("name", ["plain", "caught"])
def test_a_loop_without_an_end_is_given_up_and_leaves_no_thread(impatient, name):
    names = {}
    exec(LOOPS, names)
    thread = core._learner
    assert "within 0.5 seconds" in told(names[name])
    assert not thread.is_alive()
    assert core.ask(lambda: 3) == 3, "the next question is answered"


@pytest.mark.slow
def test_a_call_that_sleeps_is_left_behind(impatient):
    begin = time.monotonic()
    assert "seconds, got none" in told(time.sleep, 30)
    assert time.monotonic() - begin < 10
    assert core.ask(lambda: 3, own=()) == 3, "the next question is answered"


def test_a_loop_that_calls_what_it_is_given_is_given_up(monkeypatch):
    monkeypatch.setattr(core, "CALL_LIMIT", 100)
    names, thread = {}, core._learner
    exec("def forever(f):\n    while True:\n        f(1)", names)
    report = core.judge({"one": lambda: core.ask_about(names["forever"], abs)})
    assert "at most 100 calls" in report.diagnoses["one"]
    assert not thread.is_alive()
    assert core.ask(lambda: 3) == 3, "the next question is answered"


def test_many_calls_may_take_longer_than_one_answer(impatient):
    def slow(x):
        time.sleep(0.1)
        return x

    def answer(f):
        return sum(f(1) for _ in range(8))

    assert core.ask_about(answer, slow) == 8


def test_after_a_loop_no_other_check_waits(impatient):
    names = {}
    exec(LOOPS, names)
    report = core.judge({k: lambda: core.ask(names["plain"]) for k in "abc"})
    assert len(set(report.diagnoses.values())) == 1 and report.passed == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2**20, 2**20),
        lambda: torch.rand(2**20, 2**20, generator=torch.Generator()),
        lambda: torch.ones(2**20, 1) * torch.ones(2**20),
        lambda: torch.ones(2**16, 1) @ torch.ones(1, 2**16),
        lambda: torch.ones(2**10).repeat(2**25),
        lambda: torch.randint(3, (2**20, 2**20), generator=torch.Generator()),
    ],
)
def test_a_giant_tensor_is_refused_before_it_is_made(make):
    text = told(make)
    assert "GiB" in text and "expected tensors of at most 1 GiB" in text


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(1).expand(2**20, 2**20).shape,  # a view takes no room
        lambda: (torch.ones(300, 300) @ torch.ones(300, 300)).shape,
        lambda: torch.ones(2**20).nonzero().shape,
        lambda: torch.randperm(2**20, generator=torch.Generator()).shape,
    ],
)
def test_what_fits_is_not_refused(make):
    assert told(make) == ""


def test_the_package_cannot_stand_in_for_an_answer():
    layer = SpatialDropout2d(0.5)
    x = torch.ones(2, 2, 2, 2)
    assert "it calls DropLayer of regdrop_lite" in told(layer, x, own=())
    assert "it calls drop_path of regdrop_lite" in told(drop_path, x, 0.5, own=())
    build = partial(DropBlock2d, 0.5, 3)  # its __init__ is decorated
    assert "it calls DropBlock of regdrop_lite" in told(build, own=())
    assert told(layer, torch.ones(2, 2, 2, 2)) == ""


def test_a_given_function_tells_nothing_but_its_results():
    def secret(x):
        fault = "hidden"
        return len(fault) * x

    def look(function):
        found = [str(function(2)), repr(function), str(dir(function))]
        for name in ("__name__", "__closure__", "__code__", "__wrapped__", "__dict__"):
            found.append(str(getattr(function, name, "")))
        frame = sys._getframe()
        while frame:
            found.append(str({**frame.f_locals, "found": 0}))
            frame = frame.f_back
        try:
            function(None, wrong=1)
        except TypeError as error:
            trace = error.__traceback__
            while trace:
                found.append(str({**trace.tb_frame.f_locals, "found": 0}))
                trace = trace.tb_next
        return "|".join(found)

    text = core.ask_about(look, secret)
    assert text.startswith("12|")
    assert "hidden" not in text and "secret" not in text.replace("secret()", "")


def test_a_given_function_that_is_never_called_is_not_written_yet():
    with pytest.raises(core.Hopeless, match="never called"):
        core.ask_about(lambda function: "ok", abs)


def test_a_given_function_works_during_its_check_only():
    kept = []
    core.ask_about(lambda function: kept.append(function) or function(1), abs)
    with pytest.raises(RuntimeError, match="during its check"):
        kept[0](1)


def test_a_report_can_be_neither_changed_nor_subclassed():
    report = Report(2, {"a": "b"})
    with pytest.raises(AttributeError):
        report.total = 1
    with pytest.raises(TypeError, match="subclassed"):
        type("Mine", (Report,), {})


def test_a_demonstration_shows_no_score():
    assert Report(2, {"a": "wrong"}).explain() == "- a: wrong"
    assert Report(2, {}).explain() == ""


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_the_false_alarm_of_a_rate_is_one_in_a_million_and_a_quarter_off_is_seen(p):
    """The exact binomial tails for 65,536 draws, p and rates 25 % off."""
    n = 256 * 256
    bound = core.rate_bound(p, n)

    def outside(rate):
        k = torch.arange(n + 1, dtype=torch.float64)
        n_ = torch.tensor(float(n), dtype=torch.float64)
        log = torch.lgamma(n_ + 1) - torch.lgamma(k + 1) - torch.lgamma(n_ - k + 1)
        log = log + k * math.log(rate) + (n_ - k) * math.log1p(-rate)
        return log.exp()[(k / n - p).abs() >= bound].sum().item()

    assert 0.5e-6 < outside(p) < 2e-6
    assert all(outside(rate) > 1 - 1e-9 for rate in (0.75 * p, 1.25 * p))


@pytest.mark.parametrize(
    ("answer", "words"),
    [("OK", "spell it 'ok'"), ("fine", "'fine' is not"), (None, "None is not")],
)
def test_a_choice_is_spelt_as_in_the_table(answer, words):
    with pytest.raises(core.Wrong, match=words):
        core.choice(answer, ("ok", "no scale"))


def test_an_exit_is_told_and_an_error_quotes_no_line_of_ours():
    assert "exit()" in told(sys.exit)
    assert told(lambda: math.log(-1)).startswith("your code raises ValueError")
    assert "expected a function, got None" in told(None)


def test_an_opaque_implementation_can_be_handed_over_as_a_module():
    class Shell(torch.nn.Module):
        def __init__(self, given):
            super().__init__()
            self.given = given

        def forward(self, x, *, factor):
            return self.given(x, factor)

    def answer(shell, x):
        assert isinstance(shell, torch.nn.Module)
        assert not hasattr(shell.given, "__closure__")
        return shell(x, factor=3)

    x = torch.ones(2)
    y = core.ask_about(answer, lambda x, factor: x * factor, x, wrap=Shell)
    assert torch.equal(y, 3 * x)
