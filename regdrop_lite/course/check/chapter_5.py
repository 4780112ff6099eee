"""Checkers of chapter 5, which one, where, how strong, or none.

The layers are judged by what comes out of them. What depends on chance sees thousands
of samples; a right answer fails with a probability of about one in a million.

Example:
    >>> from regdrop_lite.course.check import chapter_5 as check
    >>> check.decide(None, None, None, None)
    public checks 0/4
    - a, b, c, d: not written yet: put an answer in the place of every None
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from regdrop_lite.course.check.core import (
    Hopeless,
    Report,
    Wrong,
    ask,
    choice,
    judge,
    require,
    show,
)
from regdrop_lite.course.check.places import place_block, place_path
from regdrop_lite.course.check.properties import (
    as_number,
    as_numbers,
    require_value_error,
    require_written,
)
from regdrop_lite.course.extras import needs

with needs("course", "SciPy"):
    from scipy import stats

__all__ = ["decide", "gain", "place_block", "place_path", "recipe"]

# --- exercise 1: a recipe -------------------------------------------------------------

_Rates = list[list[float | None]]

_RULES: dict[str, Callable[[float, int, int], float]] = {  # of rate, index, number
    "linear": lambda p, i, n: p * i / max(n - 1, 1),
    "l/L": lambda p, i, n: p * i / n,
    "(l + 1)/L": lambda p, i, n: p * (i + 1) / n,
    "constant": lambda p, i, n: p,
}
_RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"rate": 0.4, "rule": "linear", "blocks": (3, 3, 5)},
    "l/L": {"rate": 0.3, "rule": "l/L", "blocks": (2, 4, 3)},
    "(l + 1)/L": {"rate": 0.2, "rule": "(l + 1)/L", "blocks": (1, 2, 5)},
    "constant": {"rate": 0.4, "rule": "constant", "blocks": (12,), "branches": 2},
    "one block": {"rate": 0.1, "rule": "linear", "blocks": (1,)},
    "no skip": {
        **{"rate": 0.2, "rule": "l/L", "blocks": (1, 2, 2, 3)},
        "no_skip": (0, 1, 3, 5),
    },
}


def _read(recipe: Mapping[str, Any], slip: str = "") -> tuple[_Rates, float]:
    """The rates and the expected number of branches that fall, with a slip."""
    p, rule, blocks = recipe["rate"], _RULES[recipe["rule"]], recipe["blocks"]
    no_skip, total = recipe["no_skip"], sum(blocks)
    if slip in _RULES:
        rule = _RULES[slip]
    rates: _Rates = []
    index = 0
    for count in blocks:
        stage: list[float | None] = []
        for place in range(count):
            i, n = (place, count) if slip == "stage" else (index, total)
            if slip == "with a skip":
                i = sum(j not in no_skip for j in range(index))
                n = total - len(no_skip)
            rate = rule(p, i, n)
            if slip == "keep":
                rate = 1 - rate
            if slip == "backwards":
                rate = rule(p, total - 1 - index, total)
            stage.append(None if index in no_skip and slip != "all" else rate)
            index += 1
        rates.append(stage)
    flat = [rate for stage in rates for rate in stage if rate is not None]
    return rates, sum(flat) * recipe["branches"]


_RATE_SLIPS = {
    "stage": "the depth starts again in every stage: count through all of them",
    "keep": "these are the probabilities to keep",
    "backwards": "the first block has the rate of the last one",
    "with a skip": "only blocks with a skip were counted, but L counts all",
    "all": "a block without a skip has None: nothing goes around it",
    "linear": "these are the rates of the rule linear: 0 first, the full rate last",
    "l/L": "these are the rates of the rule l/L: the index from 0 over the number",
    "(l + 1)/L": "these are the rates of the rule (l + 1)/L: the index from 1",
    "constant": "these are constant rates, but this rule depends on the depth",
}


def recipe(read_recipe: Callable[..., Any]) -> Report:
    """Check the exercise "Read a recipe".

    Args:
        read_recipe: takes a recipe, a dict with "rate", "rule", "blocks", "no_skip" and
            "branches", and returns (rates, fallen): a list of rates for each stage,
            with None where a block has no skip, and the expected number of branches
            that one sample loses.

    Example:
        >>> from regdrop_lite.course.check import chapter_5 as check
        >>> def constant(recipe):
        ...     rates = [[recipe["rate"]] * n for n in recipe["blocks"]]
        ...     return rates, sum(map(sum, rates)) * recipe["branches"]
        >>> check.recipe(constant).passed
        1
    """

    def asked(name: str) -> tuple[Mapping[str, Any], Any, Any]:
        case = {"no_skip": (), "branches": 1} | _RECIPES[name]
        handed = dict(case)
        answer = ask(read_recipe, handed, own=())
        require(handed == case, "expected the recipe as it was, but it was changed")
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise Hopeless(f"expected (rates, fallen), got {show(answer)}")
        return case, *answer

    def check_rates(name: str) -> None:
        case, got, _ = asked(name)
        counts = case["blocks"]
        require(
            isinstance(got, list | tuple)
            and all(isinstance(stage, list | tuple) for stage in got),
            "expected a list of rates for each stage, got one list for all",
        )
        require(
            [len(stage) for stage in got] == [*counts],
            f"expected {counts} rates in the stages, got {[len(s) for s in got]}",
        )
        if not _same(got, _read(case)[0]):
            text = f"{case['rule']} up to {case['rate']}, blocks {counts}: "
            for slip, cause in _RATE_SLIPS.items():
                theirs = _read(case, slip)[0]
                if not _same(theirs, _read(case)[0]) and _same(got, theirs):
                    raise Wrong(text + cause)
            raise Wrong(text + _first_difference(got, _read(case)[0]))

    def check_fallen() -> None:
        for name in ("linear", "constant", "no skip"):
            case, _, answer = asked(name)
            got, (rates, right) = as_number(answer), _read(case)
            flat = [rate for stage in rates for rate in stage if rate is not None]
            branches, number = case["branches"], sum(case["blocks"])
            known = {
                sum(flat): "each block has two branches, and each of them can fall",
                sum(flat) / len(flat): "that is the mean over blocks with a rate",
                right / number: "that is the mean rate: add up over all blocks",
                number * branches - right: "that many are kept",
                case["rate"] * number * branches: "that is as if all had the full rate",
                _read(case, "all")[1]: "a block without a skip loses nothing",
                right**2: "expectations add up, whatever the branches do together",
            }
            if math.isclose(got, right, rel_tol=1e-6):
                continue
            for number_of_slip, cause in known.items():
                if math.isclose(got, number_of_slip, rel_tol=1e-6):
                    raise Wrong(f"expected {right:.4g} fallen, got {got:.4g}: {cause}")
            raise Wrong(
                f"expected {right:.4g} fallen, got {got:.4g}: it is the sum of the "
                "rates, once for each branch"
            )

    checks: dict[str, Callable[[], object]]
    checks = {name: partial(check_rates, name) for name in _RECIPES}
    return judge(checks | {"fallen": check_fallen})


def _same(got: Any, expected: _Rates) -> bool:
    return all(
        (a is None) == (b is None) and (b is None or abs(as_number(a) - b) < 1e-9)
        for ours, theirs in zip(expected, got, strict=True)
        for b, a in zip(ours, theirs, strict=True)
    )


def _first_difference(got: Any, expected: _Rates) -> str:
    for stage, (ours, theirs) in enumerate(zip(expected, got, strict=True)):
        for block, (b, a) in enumerate(zip(ours, theirs, strict=True)):
            if not _same([[a]], [[b]]):
                what = "None" if a is None else f"{as_number(a):.4g}"
                right = "None" if b is None else f"{b:.4g}"
                return f"expected {right} in block {block} of stage {stage}, got {what}"
    return ""


# --- exercise 4: rows of a study ------------------------------------------------------

_VERDICTS = ("gain", "loss", "equal", "open")
_INTERVALS = {  # (low, high, margin): the verdict, and why not another
    (0.011, 0.031, 0.01): "gain",
    (-0.04, -0.012, 0.01): "loss",
    (-0.004, 0.006, 0.01): "equal",
    (-0.012, 0.006, 0.01): "open",
    (0.002, 0.009, 0.01): "equal",
    (0.002, 0.009, 0.005): "gain",
    (-0.009, -0.002, 0.01): "equal",
    (-0.03, 0.05, 0.01): "open",
}
_WHY = {
    "gain": "the interval lies above 0, and not within the margin",
    "loss": "the interval lies below 0, and not within the margin",
    "equal": "the whole interval lies within the margin, which comes first",
    "open": "the interval holds 0 and more than the margin: no difference shown is not "
    "no difference",
}
_READING = {"stopped": "open", "decay": "gain", "spatial": "gain"}

_Accuracies = dict[int, float]


def _sides(count: int) -> tuple[_Accuracies, _Accuracies]:
    """Two sides with the same seeds in different orders; seeds matter much."""
    seeds = [(7 * i + 3) % 101 for i in range(count)]
    level = {s: 0.7 + 0.03 * math.sin(5 * s) for s in seeds}
    more = {s: level[s] + 0.02 + 0.01 * math.cos(3 * s) for s in seeds}
    return {s: more[s] for s in sorted(seeds)}, {s: level[s] for s in reversed(seeds)}


def _half(values: Sequence[float], ddof: int = 1) -> float:
    """The standard error of a mean."""
    mean = sum(values) / len(values)
    squares = sum((v - mean) ** 2 for v in values)
    return math.sqrt(squares / (len(values) - ddof) / len(values))


def gain(
    function: Callable[..., Any],
    verdict: Callable[..., Any],
    reading: Mapping[str, str],
) -> Report:
    """Check the exercise "Read the rows of a study".

    Args:
        function: takes the accuracies of a treatment and of its control, dicts by seed,
            and returns (mean, low, high) of the differences, seed by seed, with the
            95 % interval by the t distribution.
        verdict: takes (low, high, margin) and returns "gain", "loss", "equal", "open".
        reading: the verdicts on "stopped", "decay" and "spatial".
    """

    def asked(count: int) -> tuple[list[float], list[float], _Accuracies, _Accuracies]:
        treatment, control = _sides(count)
        got = as_numbers(ask(function, dict(treatment), dict(control)), 3)
        differences = [treatment[seed] - control[seed] for seed in treatment]
        return got, differences, treatment, control

    def check_mean() -> None:
        (got, *_), differences, treatment, control = asked(12)
        right = sum(differences) / 12
        if math.isclose(got, right, rel_tol=1e-6):
            return
        known = {
            -right: "treatment minus control, not the other way round",
            100 * right: "in points of accuracy between 0 and 1, not in per cent",
            sorted(differences)[6]: "that is a middle value, not the mean",
            sum(differences): "a sum: divide by the number of seeds",
            sum(treatment.values()) / 12: "that is the treatment alone",
            right / (sum(control.values()) / 12): "that is the relative gain",
        }
        text = f"expected the mean difference {right:.4f}, got {got:.4f}"
        for number, cause in known.items():
            require(not math.isclose(got, number, rel_tol=1e-6), f"{text}: {cause}")
        raise Wrong(f"{text}: is it the mean over the seeds of both sides?")

    def check_interval(count: int) -> None:
        (mean, low, high), differences, treatment, control = asked(count)
        error, n = _half(differences), count
        t = float(stats.t.ppf(0.975, n - 1))
        one, two = [*treatment.values()], [*control.values()]
        if math.isclose(high - low, 2 * t * error, rel_tol=1e-4):
            require(
                math.isclose(high - mean, t * error, rel_tol=1e-3),
                "the interval has the right width, but not the mean in its middle",
            )
            return
        by_place = _half([a - b for a, b in zip(one, two, strict=True)])
        both = math.hypot(_half(one), _half(two))
        known = {
            t * by_place: "values were paired by their place in the dict, not by seed",
            1.96 * error: f"1.96 is for many seeds; for {n} it is t = {t:.3f}",
            2 * error: f"2 errors are a rule of thumb; for {n} seeds t = {t:.3f}",
            t * error * math.sqrt(n): "that is t times the standard deviation of one "
            "difference: the mean's is smaller by the root of n",
            t * _half(differences, 0): "the variance was divided by n, not by n - 1",
            t * both: "the two sides were taken as independent: use the differences",
            float(stats.t.ppf(0.975, 2 * n - 2)) * both: "that is the interval of two "
            "independent groups: use the differences",
            float(stats.t.ppf(0.95, n - 1)) * error: "that is the 90 % interval",
            float(stats.t.ppf(0.975, n)) * error: "n - 1 degrees of freedom, not n",
            error: "that is one standard error",
        }
        text = f"{n} seeds: expected a half width of {t * error:.5f}, got "
        text += f"{(high - low) / 2:.5f}"
        for half, cause in known.items():
            require(
                not math.isclose(high - low, 2 * half, rel_tol=1e-3), f"{text}: {cause}"
            )
        if math.isclose(low - high, 2 * t * error, rel_tol=1e-4):
            raise Wrong(f"{text}: low and high are exchanged")
        raise Wrong(f"{text}: t times the standard error of the differences")

    def check_seeds() -> None:
        treatment, control = _sides(5)
        control[999] = control.pop(next(iter(control)))
        require_value_error(
            lambda: ask(function, treatment, control),
            "a seed that one side lacks",
            [str(s) for s in (set(treatment) ^ set(control))],
        )

    def check_verdict() -> None:
        for (low, high, margin), right in _INTERVALS.items():
            got = choice(ask(verdict, low, high, margin), _VERDICTS)
            require(
                got == right,
                f"from {low} to {high} with the margin {margin}: expected {right!r}, "
                f"got {got!r}: {_WHY[right]}",
            )

    def check_reading() -> None:
        require(isinstance(reading, Mapping), f"expected a dict, got {show(reading)}")
        for name, right in _READING.items():
            got = choice(reading.get(name), _VERDICTS)
            require(
                got == right,
                f"{name}: expected another verdict than {got!r}: what do your two "
                "functions say of these rows?",
            )

    return judge(
        {
            "mean": check_mean,
            "interval": partial(check_interval, 12),
            "few seeds": partial(check_interval, 3),
            "other seeds": check_seeds,
            "verdict": check_verdict,
            "reading": check_reading,
        }
    )


# --- exercise 5: decide ---------------------------------------------------------------

_FIRST = ("no mask", "a short training", "the published recipe", "a mask at the bottom")
_STATUS = ("measured", "reported", "heuristic")
_UNKNOWN = ("which mask", "what the mask adds", "nearly all", "whether early helps")
_CASES = {  # what is right, and what the case is about
    "a": (("a short training", "measured", "which mask"), "labels learnt by heart"),
    "b": (
        ("the published recipe", "reported", "what the mask adds"),
        "a large net on much data, and nothing seen yet",
    ),
    "c": (
        ("a mask at the bottom", "heuristic", "nearly all"),
        "a U-Net that overfits, with the augmentation already raised",
    ),
    "d": (
        ("no mask", "reported", "whether early helps"),
        "a net whose training accuracy is as low as the other",
    ),
}
_MEANS = {
    "no mask": "to take the mask away is for a net that underfits",
    "a short training": "to stop early is for a net that goes on to learn its noise",
    "the published recipe": "a recipe is for the net, the data and the length it names",
    "a mask at the bottom": "the bottom is a place in a U-Net",
    "measured": "measured is what a study of this book has run on such a case",
    "reported": "reported is what a source has run on such a case",
    "heuristic": "a heuristic is a rule without figures on such a case",
    "which mask": "which mask is open where several gain alike",
    "what the mask adds": "what a mask adds is open where no source prints the control",
    "nearly all": "nearly all is open where neither a study nor a source has figures",
    "whether early helps": "early masks were reported for one ViT that underfits",
}
_KINDS = {"first step": _FIRST, "status": _STATUS, "unknown": _UNKNOWN}


def decide(
    a: Sequence[str] | None,
    b: Sequence[str] | None,
    c: Sequence[str] | None,
    d: Sequence[str] | None,
) -> Report:
    """Check the exercise "Decide, and say what is not known".

    Args:
        a: for this case the first step, its status, and what is not known.
        b: as ``a``.
        c: as ``a``.
        d: as ``a``.

    Example:
        >>> from regdrop_lite.course.check import chapter_5 as check
        >>> wrong = ("no mask", "measured", "which mask")
        >>> check.decide(wrong, None, None, None).diagnoses["a"][:28]
        "first step: not 'no mask': t"
    """
    answers = {"a": a, "b": b, "c": c, "d": d}

    def check(name: str) -> None:
        require_written(*answers.values())
        answer: Any = answers[name]
        if not isinstance(answer, tuple | list) or len(answer) != 3:
            raise Wrong(f"expected three answers, got {show(answer)}")
        right, about = _CASES[name]
        for (kind, choices), got, wanted in zip(
            _KINDS.items(), answer, right, strict=True
        ):
            got = choice(got, choices)
            require(
                got == wanted, f"{kind}: not {got!r}: {_MEANS[got]}; here it is {about}"
            )

    return judge({name: partial(check, name) for name in answers})
