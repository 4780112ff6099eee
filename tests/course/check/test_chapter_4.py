"""The checkers of chapter 4, tested against right answers and against wrong ones.

The right answers are the solutions of the exercise notebook, and others that are
written differently. Most wrong answers are these solutions with one slip. Each has to
be caught by the checks that are named here and by no other, with a diagnosis that
contains the words.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from answers import assert_found, cells_of, run, with_slips
from scipy.optimize import brentq

from regdrop_lite import DropBlock2d, drop_block, drop_block_gamma, drop_block_keep_prob
from regdrop_lite.course.check import chapter_4 as check
from regdrop_lite.course.check import core

CELLS = cells_of("04")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


@pytest.fixture
def few(monkeypatch):
    """Two of each implementation, where twenty of the right one are not the point."""
    monkeypatch.setattr(check, "_REPETITIONS", {})


def solution(cell, *slips):
    """The names of the solution in ``cell`` with every slip (old, new)."""
    source = with_slips(CELLS[cell]["source"], slips)
    names = {"drop_block": drop_block}
    run(CELLS["imports"]["source"], names, "<imports>")
    run(CELLS["train-given"]["source"], names, "<given>")
    run(source, names, "<wrong>")
    return names


# --- exercise 1: trace ----------------------------------------------------------------

KEPT, COVER, WEIGHT, SHARE = check._TRACE.values()


def test_the_numbers_of_the_trace_are_those_of_all_patterns_of_seeds():
    patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    fell = torch.zeros(16, 6)
    for seed in range(4):
        fell[:, seed : seed + 3] += patterns[:, seed, None]
    keep = (fell == 0).double().mean(dim=0)
    assert torch.equal(1 / keep, torch.tensor(WEIGHT))
    assert 1 - keep.mean() == pytest.approx(SHARE[0])
    assert fell.amax(dim=0).tolist() == COVER
    (row,) = fell[(patterns == torch.tensor([1.0, 0, 1, 0])).all(dim=1)]
    assert (row == 0).double().tolist() == KEPT


@pytest.mark.parametrize("name", ["kept", "cover", "weight", "share"])
def test_every_slip_of_the_trace_has_a_sentence_of_its_own(name):
    for words, slip in check._TRACE_SLIPS[name].items():
        answers = {k: list(v) for k, v in check._TRACE.items()} | {name: slip}
        answers["share"] = answers["share"][0]
        assert_found(check.trace(**answers), 4, {name: words})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"kept": [0, 0, 0, 1, 0, 1]}, {"kept": "expected 0 for element 3, got 1"}),
        ({"kept": [0.0] * 6}, {"kept": "expected 1 for element 5, got 0"}),
        ({"kept": [0] * 5}, {"kept": "expected a list of 6 numbers, got 5"}),
        ({"kept": 5}, {"kept": "expected a list of 6 numbers, got a int"}),
        ({"kept": ["no"] * 6}, {"kept": "expected a number, got a str"}),
        ({"kept": [None] * 6}, {"kept": "expected a number, got None"}),
        ({"cover": [1, 2, 3, 3, 2, 2]}, {"cover": "1 for element 5, got 2"}),
        ({"cover": torch.zeros(6)}, {"cover": "1 for element 0, got 0"}),
        ({"weight": [2, 4, 8, 8, 4, 4]}, {"weight": "2 for element 5, got 4: it is"}),
        ({"weight": [math.nan] * 6}, {"weight": "expected a number, got NaN: is 0"}),
        ({"share": 0.6}, {"share": "expected 0.7083, got 0.6: it is the mean"}),
        ({"share": None}, {"share": "expected a number, got None"}),
        ({"share": "17/24"}, {"share": "expected a number, got a str"}),
        (
            {"cover": [1, 2, 3, 4, 4, 4], "weight": [2, 4, 8, 16, 16, 16]},
            {"cover": "got every seed up to an element", "weight": "wrong c of your"},
        ),
    ],
)
def test_wrong_traces(answer, expected):
    answers = {"kept": KEPT, "cover": COVER, "weight": WEIGHT, "share": SHARE[0]}
    assert_found(check.trace(**answers | answer), 4, expected)


@pytest.mark.parametrize(
    "answers",
    [
        (tuple(KEPT), tuple(COVER), tuple(WEIGHT), 0.71),
        (torch.tensor(KEPT), torch.tensor(COVER), torch.tensor(WEIGHT), 0.708),
        (
            [False] * 5 + [True],
            COVER,
            [1 / 0.5**c for c in COVER],
            torch.tensor(17 / 24),
        ),
    ],
)
def test_traces_may_be_tuples_tensors_or_rounded(answers):
    assert_found(check.trace(*answers), 4, {})


# --- exercise 2: DropBlock ------------------------------------------------------------


def with_loops(x, p, k, generator=None):
    """Block after block; the weights from how often a place is in one."""
    N, C, H, _ = x.shape
    k = min(k, H)
    if p == 1:
        return x * 0
    n = H - k + 1
    gamma = drop_block_gamma((H, H), k, p)
    seeds = torch.rand(N, C, n, n, generator=generator) < gamma
    keep, weight = torch.ones_like(x), torch.ones_like(x[0, 0])
    for i, j in itertools.product(range(n), range(n)):
        keep[..., i : i + k, j : j + k] *= ~seeds[..., i, j, None, None]
        weight[i : i + k, j : j + k] /= 1 - gamma
    return x * keep * weight


def with_convolutions(x, p, k, generator=None):
    N, C, H, _ = x.shape
    k = min(k, H)
    gamma = drop_block_gamma([H, H], k, p)
    n = H - k + 1
    seeds = (torch.rand(N * C, 1, n, n, generator=generator) < gamma).to(x)
    kernel = torch.ones(1, 1, k, k).to(x)
    hits = F.conv_transpose2d(seeds, kernel).view_as(x)
    counts = F.conv_transpose2d(torch.ones(1, 1, n, n).to(x), kernel)
    kept = hits < 0.5
    log = counts * math.log1p(-gamma) if gamma < 1 else counts
    return torch.where(kept, x * torch.exp(-log), 0.0)


def sample_after_sample(x, p, k, generator=None):
    """Distances to the seeds in place of growing."""
    H = x.shape[-1]
    k = min(k, H)
    n = H - k + 1
    gamma, place = drop_block_gamma((H, H), k, p), torch.arange(H)
    behind = place[:, None] - torch.arange(n)  # (H, n)
    near = ((behind >= 0) & (behind < k)).to(x)
    masks = []
    for sample in x:
        seeds = torch.rand(len(sample), n, n, generator=generator) < gamma
        masks.append((near @ seeds.to(x) @ near.T) == 0)
    line = torch.tensor([min(i, n - 1) - max(i - k + 1, 0) + 1 for i in range(H)])
    q = ((1 - gamma) ** torch.outer(line, line)).to(x)
    return (x * torch.stack(masks)) * (1 / q).nan_to_num(posinf=0)


@pytest.mark.parametrize(
    "function", [with_loops, with_convolutions, sample_after_sample]
)
def test_right_ways_to_write_drop_block(function):
    assert_found(check.drop_block(function), 12, {})


GAMMA = "drop_block_gamma((H, H), k, p)"
GENERATOR = "generator=generator"
THROW = "torch.rand(N, C, places, places, generator=generator) < gamma"
FELL = "F.max_pool2d(F.pad(seeds.to(x), [k - 1] * 4), k, stride=1)"
POWER = "(1 - gamma) ** -(c[:, None] * c).to(x)"
ALL = "    if p == 1.0:\n        return torch.zeros_like(x)\n"
RETURN = "return x * (1 - fell) * weights"
NAMES = list(check.drop_block(lambda x, p, k, generator: x).diagnoses)
SHARED = "expected a mask of its own for every map, got one that all"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [(GAMMA, "p * H**2 / k**2 / (H - k + 1) ** 2")],
            {
                "rate": "H = 10, k = 4, p = 0.5: expected that a share of 0.5 is "
                "dropped, got 0.372: that is the rate of the textbook",
                "weights": "these weights belong to gamma = 0.04356",
            },
        ),
        (
            [(THROW, THROW.replace("gamma", "p * H**2 / k**2 / (H - k + 1) ** 2"))],
            {"rate": "that is the rate of the textbook's gamma"},
        ),
        (
            [(GAMMA, "p")],
            {
                "rate": "that is what gamma = p gives",
                "weights": "these weights belong to gamma = 0.2",
            },
        ),
        (
            [(THROW, THROW.replace("gamma", "p / k**2"))],
            {"rate": "that is what gamma = p / k^2 gives"},
        ),
        (
            [(THROW, THROW.replace("gamma", "gamma * 0.7"))],
            {"rate": "has to be drop_block_gamma((H, H), k, p)"},
        ),
        (
            [(THROW, THROW.replace("rand(N,", "rand(1,"))],
            {"own masks": f"{SHARED} samples share"},
        ),
        (
            [(THROW, THROW.replace("N, C,", "N, 1,"))],
            {"own masks": f"{SHARED} channels share"},
        ),
        (  # only two kinds of samples
            [(RETURN, "fell = fell[torch.arange(N) % 2]\n    " + RETURN)],
            {"own masks": "expected 40 samples with a mask of their own, got 2"},
        ),
        ([("* weights", "")], {"weights": "what is kept is not scaled"}),
        ([("* weights", "/ (1 - p + (p == 1))")], {"weights": "one scale 1/(1 - p)"}),
        ([("* weights", "/ weights")], {"weights": "multiplied by P(keep)"}),
        (
            [("-(c[:, None] * c)", "-(c[:, None] + c)")],
            {"weights": "the exponent is c_i + c_j"},
        ),
        (
            [("-(c[:, None] * c)", "-(c.expand(H, H))")],
            {"weights": "the exponent is the c_i of a line"},
        ),
        (
            [("-(c[:, None] * c)", "-(c[:, None].expand(H, H))")],
            {"weights": "the exponent is the c_j of a line"},
        ),
        (
            [("-(c[:, None] * c)", "-(c * 0 + k * k)")],
            {"weights": "as if k^2 seeds could drop it"},
        ),
        (
            [("-(c[:, None] * c)", "-(c * 0 + 1)")],
            {"weights": "as if one seed could drop it"},
        ),
        (
            [("* weights", "* fell.numel() / (1 - fell).sum()")],
            {"weights": "one scale cannot serve all places"},
        ),
        (
            [("k = min(k, H)", "k = min(k, H)\n    k = max(k - 1, 1)")],
            {
                "blocks": "got blocks of 3 x 3: count how far a seed grows",
                "law": "expected the masks that 512 patterns of seeds can make",
                "weights": "is each weight one over",
                "large blocks": "got maps of which a part falls",
            },
        ),
    ],
)
def test_wrong_drop_blocks(slips, expected):
    names = solution("fill-answer", *slips)
    report = check.drop_block(names["my_drop_block"])
    assert_found(report, 12, expected)


def right(x, p, k, generator):
    """The solution, for answers that spoil its results."""
    return solution("fill-answer")["my_drop_block"](x, p, k, generator)


PART = "got maps of which a part falls"
OWN = torch.Generator().manual_seed(3)
TOGETHER = "for another input, got the same: the output ignores the values"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            lambda x, p, k, generator: right(x, p, k, OWN),
            {"generator": "two different"},
        ),
        (
            lambda x, p, k, generator: right(x, p, k, torch.Generator().manual_seed(0)),
            {"generator": "another state of the generator gives the same mask"},
        ),
        (
            lambda x, p, k, generator: right(x.detach(), p, k, generator),
            {"gradient": "cut off from its input"},
        ),
        (
            lambda x, p, k, generator: right(x, p, k, generator).double(),
            {"dtype": "expected torch.float32 out for torch.float32 in, got"},
        ),
        (
            lambda x, p, k, generator: right(x, p or 0.2, k, generator),
            {"p = 0": "expected the input, but some elements still fall"},
        ),
        (
            lambda x, p, k, generator: right(x, p, k, generator) * (1 if p else 2),
            {"p = 0": "got values multiplied by 2"},
        ),
        (
            lambda x, p, k, generator: (
                right(x, p, k, generator) * (math.nan if p == 1 else 1)
            ),
            {"p = 1": "expected zeros, got NaN"},
        ),
        (
            lambda x, p, k, generator: right(x, min(p, 0.9), k, generator),
            {"p = 1": "of the values kept: everything is dropped there"},
        ),
        (
            lambda x, p, k, generator: right(x, p, min(k, len(x[0, 0]) - 1), generator),
            {"large blocks": "got maps of which a part falls"},
        ),
        (
            lambda x, p, k, generator: right(
                x, p / 2 if k > len(x[0, 0]) else p, k, generator
            ),
            {"large blocks": "of which a share of 0.247 is dropped, got 0.119"},
        ),
        (
            lambda x, p, k, generator: (
                right(x, p, k, generator) * (2 if k > len(x[0, 0]) else 1)
            ),
            {"large blocks": "with the weight 1.333, got 2.667"},
        ),
        (
            lambda x, p, k, generator: right(x.abs(), p, k, generator),
            {
                "weights": "at one place the weights go from -1.575 to 1.575",
                "large blocks": "at one place the weights go from -1.333 to 1.333",
                "p = 0": "multiplied by -1",
            },
        ),
        (  # the first samples have masks of their own, the others share one
            lambda x, p, k, generator: torch.cat(
                [
                    right(x[:2], p, k, generator),
                    x[2:] * right(torch.ones_like(x[:1]), p, k, generator),
                ]
            ),
            {"own masks": "expected 40 samples with a mask of their own, got 3"},
        ),
        (lambda x, p, k, generator: x, dict.fromkeys(NAMES, "got none: all pass")),
        (lambda x, p, k, generator: x * 0, dict.fromkeys(NAMES, "got only zeros")),
        (
            lambda x, p, k, generator: right(torch.ones_like(x), p, k, generator),
            dict.fromkeys(NAMES, TOGETHER),
        ),
        (
            lambda x, p, k, generator: drop_block(x, p, k, generator=generator),
            dict.fromkeys(NAMES, "it calls drop_block of regdrop_lite"),
        ),
        (
            lambda x, p, k, generator: x / drop_block_keep_prob(x.shape[2:], k, p),
            dict.fromkeys(NAMES, "it calls drop_block_keep_prob of regdrop_lite"),
        ),
        (None, dict.fromkeys(NAMES, "expected a function, got None")),
        (
            lambda x, p, k, generator: None,
            dict.fromkeys(NAMES, "got None: does your code end with"),
        ),
        (
            lambda x, p, k, generator: x[:, :1],
            dict.fromkeys(NAMES, "of this shape, got shape ("),
        ),
        (torch.nn.Identity, dict.fromkeys(NAMES, "this shape, got a Identity")),
        (
            lambda x, p, k, generator: torch.rand(2**18, *x.shape) * x,
            dict.fromkeys(NAMES, "GiB: which dimension is too many?"),
        ),
        (lambda x, p, k, generator: 1 / 0, dict.fromkeys(NAMES, "ZeroDivisionError")),
    ],
)
def test_answers_that_take_a_short_cut_or_miss_an_edge(function, expected):
    assert_found(check.drop_block(function), 12, expected)


def test_the_values_have_no_say_in_what_falls():
    def by_size(x, p, k, generator):
        noise = torch.rand(x.shape, generator=generator)
        return x * (x.abs() + noise > 0.8)

    report = check.drop_block(by_size)
    assert "the values have a say" in report.diagnoses["values"]


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (
            check._implementation("seeds everywhere", 0),
            {
                "blocks": "got blocks that are cut at the border",
                "rate": "expected that a share of 0.5 is dropped, got 0.561",
                "law": "seeds can make, got 51% others",
                "large blocks": PART,
            },
        ),
        (check._implementation("one scale", 0), {"weights": "one scale 1/(1 - p)"}),
        (
            check._impostor("single elements"),
            {
                "blocks": "got maps that lose 2: single elements fall",
                "law": "seeds can make, got 99% others",
                "p = 1": "expected zeros, got NaN",
                "large blocks": PART,
            },
        ),
        (
            check._impostor("flat lines"),
            {
                "blocks": "got maps that lose 10: what falls is no square",
                "law": "seeds can make, got 58% others",
                "weights": "one scale 1/(1 - p)",
                "large blocks": PART,
            },
        ),
        (
            check._impostor("larger blocks"),
            {
                "blocks": "got maps that lose 25 or more: the blocks are too large",
                "law": "expected 22.6% maps that lose nothing, got 51.9%",
                "weights": "is each weight one over the probability to be kept?",
            },
        ),
        (
            check._impostor("tiles"),
            {
                "law": "expected blocks at 9 places, got them at 4",
                "weights": "one scale 1/(1 - p)",
                "p = 1": "expected zeros, got NaN",
            },
        ),
        (check._impostor("shared channels"), {"own masks": f"{SHARED} channels share"}),
        (check._impostor("shared samples"), {"own masks": f"{SHARED} samples share"}),
    ],
)
def test_the_hidden_impostors_are_wrong_drop_blocks(hidden, expected, monkeypatch):
    monkeypatch.setattr(core, "_PACKAGE", "nowhere")  # they are the package's

    def function(x, p, k, generator):
        return hidden(x, p, k, generator=generator)

    assert_found(check.drop_block(function), 12, expected)


def test_blocks_that_fall_together_do_not_follow_the_law():
    """Whole blocks at the right rate, but some samples lose more than others."""

    def uneven(x, p, k, generator):
        far, n = 0.6 * min(p, 1 - p), len(x) // 2
        parts = (x[:n], p - far), (x[n:], p + far)
        return torch.cat([right(part, rate, k, generator) for part, rate in parts])

    report = check.drop_block(uneven)
    assert "do not follow the law of the 512" in report.diagnoses["law"]
    assert not {"rate", "blocks", "own masks"} & set(report.diagnoses)


def test_the_law_of_the_check_is_a_law_and_has_the_share_of_the_counts():
    gamma = drop_block_gamma((4, 4), 2, 0.3)
    law = check._law(gamma)
    dropped = sum((torch.arange(2**16) >> bit & 1) for bit in range(16))
    assert abs(law.sum() - 1) < 1e-12
    assert abs((law * dropped).sum() / 16 - 0.3) < 1e-9
    assert check._rate(check._inside(4, 2), 0.3) == pytest.approx(gamma, rel=1e-12)
    assert torch.allclose(
        (1 - gamma) ** check._inside(4, 2), drop_block_keep_prob((4, 4), 2, gamma)
    )


@pytest.mark.parametrize(("p", "k", "size"), [(0.5, 4, 10), (0.2, 3, 7), (0.7, 2, 4)])
def test_a_share_that_is_a_quarter_off_is_seen(p, k, size):
    def off(factor):
        def function(x, p, k, generator):
            return right(x, p * factor, k, generator)

        return check.drop_block(function).diagnoses.get("rate", "")

    bound = core.rate_bound(p, 100 * 50)
    assert bound < p / 4 - bound / 3  # the true error is smaller: shares are no coins
    assert "got 0.375" in off(0.75) or "got 0.37" in off(0.75)
    assert off(1.0) == ""


# --- exercise 3: solve ----------------------------------------------------------------


def by_root(size, k, p, starts):
    c = [len([s for s in starts if i - k < s <= i]) for i in range(size)]

    def excess(gamma):
        kept = [(1 - gamma) ** (a * b) for a in c for b in c]
        return 1 - p - sum(kept) / size**2

    return brentq(excess, 0, 1, xtol=1e-16)


def by_newton(size, k, p, starts):
    hits = torch.zeros(size)
    for s in starts:
        hits[max(s, 0) : max(s + k, 0)] += 1
    c, gamma = torch.outer(hits, hits), torch.zeros(())
    for _ in range(200):
        share = 1 - ((1 - gamma) ** c).mean()
        slope = (c * (1 - gamma) ** (c - 1).clamp(min=0)).mean()
        gamma = gamma + (p - share) / slope
    return gamma


def by_digits(size, k, p, starts):
    line = torch.tensor([sum(1 for s in starts if 0 <= i - s < k) for i in range(size)])
    keep, step = 1.0, 0.5
    for _ in range(55):
        share = ((keep - step) ** torch.outer(line, line).double()).mean().item()
        keep -= step if share >= 1 - p else 0
        step /= 2
    return torch.tensor([1 - keep])


@pytest.mark.parametrize("function", [by_root, by_newton, by_digits])
def test_right_ways_to_solve(function):
    assert_found(check.solve(function), 4, {})


BORDERS = list(check._BORDERS)
COUNT = "s <= i < s + k"
POWERS = "(line[:, None] * line)"


def textbook(size, k, p, starts):
    return p * size**2 / k**2 / len(starts) ** 2


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([("range(60)", "range(20)")], "got 0.006764411926: after 20 halvings the"),
        (
            [("range(60)", "range(12)")],
            "after 12 halvings the interval is still 0.0002",
        ),
        ([(COUNT, "s <= i <= s + k")], "the rate of blocks of k + 1, so the counts"),
        ([(COUNT, "s < i < s + k")], "the rate of blocks of k - 1, so the counts"),
        ([(COUNT, "s < i <= s + k")], "with starts one place later"),
        ([(POWERS, "line")], "that is the rate on a line: on a map c_i c_j"),
        ([(POWERS, "(line[:, None] + line)")], "the rate for c_i + c_j seeds"),
        ([("share < p", "1 - share < p")], "the search ends at 1: which half is kept"),
        ([("return middle", "return 1 - middle")], "that is 1 - gamma"),
        ([("return middle", "return p")], "that is p itself"),
        ([("return middle", "return middle + 1e-8")], "not in nine digits"),
        ([("return middle", "return -middle")], "a rate lies between 0 and 1"),
        ([("return middle", "return float('nan')")], "got NaN: is 0 divided by 0?"),
        ([("line.double()", "line.float()")], "an early stop, or float32?"),
        ([("return middle", "return drop_block_gamma((size,) * 2, k, p)")], "it calls"),
    ],
)
def test_wrong_rates(slips, expected):
    report = check.solve(solution("solve-answer", *slips)["solve"])
    assert expected in report.diagnoses["inside"], report
    assert report.passed <= 1


@pytest.mark.parametrize(
    ("function", "expected", "borders"),
    [
        (textbook, "that is the textbook's formula", BORDERS),
        (
            lambda size, k, p, starts: by_root(size, k, p, range(size - k + 1)),
            "for starts from 0 to size - k: use the starts that are given",
            BORDERS[1:],
        ),
        (
            lambda size, k, p, starts: 1 - (1 - p) ** (1 / k**2),
            "for starts from 1 - k to size - 1: use",
            [BORDERS[0], *BORDERS[2:]],
        ),
        (
            lambda size, k, p, starts: by_root(size, k, 1 - p, starts),
            "at that rate the share p is kept, not dropped",
            BORDERS,
        ),
        (
            lambda size, k, p, starts: (by_root if starts[0] != -3 else textbook)(
                size, k, p, starts
            ),
            "textbook",
            ["centred"],
        ),
        (
            lambda size, k, p, starts: by_root(
                size, k, p, range(min(starts), starts.stop)
            ),
            "raises AttributeError for size 10, k = 4, p = 0.25 and starts (5, 0",
            ["any starts"],
        ),
        (lambda size, k, p, starts: None, "expected one number, got None", BORDERS),
        (lambda *_: torch.ones(14), "expected one number, got shape (14,)", BORDERS),
        (lambda *_: "small", "expected one number, got a str", BORDERS),
        (3, "expected a function, got a int", BORDERS),
    ],
)
def test_answers_that_hold_for_some_borders_only(function, expected, borders):
    report = check.solve(function)
    assert set(report.diagnoses) == set(borders), report
    assert expected in report.diagnoses[borders[0]], report


@pytest.mark.parametrize("name", BORDERS)
def test_the_slips_of_a_rate_can_be_told_apart(name):
    size, k, p, starts = check._BORDERS[name][0]
    rates = [rate for rate in check._slips(size, k, p, starts).values() if rate == rate]
    rates.append(by_root(size, k, p, starts))
    pairs = itertools.combinations(rates, 2)
    same = [pair for pair in pairs if math.isclose(*pair, rel_tol=1e-5)]
    # Inside, the textbook divides by the mean count; both know a formula of their own.
    assert len(same) == {"inside": 2, "touching": 1}.get(name, 0)


# --- exercise 4: diagnose -------------------------------------------------------------


def by_law(function):
    """Larger maps, other numbers, other order."""
    g = torch.Generator().manual_seed(5)
    x = torch.full((60, 40, 8, 8), 2.0)
    y = function(x, 0.5, 4, g)
    if (y == y[0]).all():
        return "shared by the batch"
    if len(y.unique()) == 2:
        return "one scale"
    lost = (function(x, 0.05, 4, g) == 0).sum(dim=(2, 3))
    least = lost[lost > 0].min().item()
    if least < 16:
        return "smaller block" if least == 9 else "seeds everywhere"
    share = (y == 0).double().mean(dim=(2, 3))
    z = (share.mean() - 0.5) / share.std() * share.numel() ** 0.5
    return "textbook rate" if z < -5 else "ok"


def by_share(function):
    g = torch.Generator().manual_seed(1)
    fell = function(torch.ones(3_000, 1, 9, 9), 0.1, 4, g) == 0
    if (fell == fell[0]).all():
        return "shared by the batch"
    y = function(-torch.ones(3_000, 1, 10, 10), 0.5, 5, g)
    numbers = set(
        (function(torch.ones(2_000, 1, 10, 10), 0.05, 4, g) == 0)
        .sum((1, 2, 3))
        .tolist()
    )
    if numbers & {4, 6, 8}:
        return "seeds everywhere"
    if 9 in numbers:
        return "smaller block"
    if torch.isclose(y[y != 0], torch.tensor(-2.0)).all():
        return "one scale"
    return "ok" if (y == 0).double().mean() > 0.45 else "textbook rate"


@pytest.mark.parametrize("function", [by_law, by_share])
def test_right_ways_to_diagnose(function):
    assert_found(check.diagnose(function), 6, {})


FAULTS = check._FAULTS
LIMIT = "< 4 * error"


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [('"ok" if abs', '"OK" if abs')],
            {"ok": "expected one of the answers, got 'OK': spell it 'ok'"},
        ),
        (
            [('"smaller block"', '"small block"')],
            {"smaller block": "'small block' is not one of the 6 answers"},
        ),
        ([('"one scale"', "None")], {"one scale": "None is not one of the 6 answers"}),
        (
            [(LIMIT, "< 1")],
            {"textbook rate": "expected 'textbook rate', got 'ok' (2 of 2 times)"},
        ),
        ([(LIMIT, "< 0")], {"ok": "got 'textbook rate' (2 of 2 times)"}),
        (
            [("fell == fell[:1]", "fell != fell")],
            {"shared by the batch": "expected 'shared by the batch', got"},
        ),
        ([("(k - 1) ** 2", "-1")], {"smaller block": "got 'seeds everywhere'"}),
        ([("smallest < k**2", "False")], {"seeds everywhere": "got 'textbook rate'"}),
        ([("y.max() ==", "None ==")], {"one scale": "expected 'one scale', got 'ok'"}),
        (
            [("y.max() ==", "y.max() !=")],
            {
                "ok": "got 'one scale'",
                "textbook rate": "got 'one scale'",
                "one scale": "got 'ok'",
            },
        ),
        (
            [('"seeds everywhere"', "function.__closure__[0].cell_contents")],
            {"seeds everywhere": "AttributeError"},
        ),
        (
            [("    maps, k, g =", '    return "ok"\n    maps, k, g =')],
            dict.fromkeys(FAULTS, "not written yet: the function that it is given is"),
        ),
        (
            [("    fell = (y", '    return "one scale"\n    fell = (y')],
            dict.fromkeys(FAULTS, "handed over, got 'one scale' every time: which"),
        ),
        (
            [("    fell = (y", "    return function.__name__\n    fell = (y")],
            dict.fromkeys(FAULTS, "AttributeError: 'Given' object has no attribute"),
        ),
    ],
)
def test_wrong_diagnoses(slips, expected, few):
    names = solution("diagnose-answer", *slips)
    assert_found(check.diagnose(names["diagnose"]), 6, expected)


def test_a_careless_limit_does_not_survive_twenty_runs():
    """One and a half errors: right layers are called wrong now and then."""
    names = solution("diagnose-answer", (LIMIT, "< 1.5 * error"))
    report = check.diagnose(names["diagnose"])
    assert "of 20 times): its share is p up to chance" in report.diagnoses["ok"]
    assert set(report.diagnoses) == {"ok"}, "the miss itself is large enough"


def test_weights_alone_do_not_give_the_rate_away():
    x = torch.ones(40, 40, 10, 10)
    largest = [
        check._implementation(fault, 0)(x, 0.3, 4, torch.Generator().manual_seed(0))
        for fault in ("ok", "textbook rate", "seeds everywhere")
    ]
    for y in largest:
        assert torch.allclose(y.amax(dim=(0, 1)), largest[0].amax(dim=(0, 1)))


# --- exercise 5: a test ---------------------------------------------------------------

IMPOSTORS = list(check._IMPOSTORS)
ALL = ["right", *IMPOSTORS]


def by_neighbours(function):
    """Single blocks are squares, some maps lose two that overlap, all maps differ."""
    g = torch.Generator().manual_seed(1)
    fell = function(torch.ones(60, 60, 8, 8), 0.04, 2, generator=g) == 0
    square = fell[..., 1:, 1:] & fell[..., :-1, 1:] & fell[..., 1:, :-1]
    square &= fell[..., :-1, :-1]
    lost = fell.sum(dim=(2, 3))
    covered = torch.zeros_like(fell)
    for i, j in itertools.product(range(2), range(2)):
        covered[..., i : i + 7, j : j + 7] |= square
    numbers = set(lost.unique().tolist())
    different = len(lost.unique(dim=0)) > 55 and len(lost.unique(dim=1)[0]) > 55
    return bool((covered == fell).all()) and {4, 6, 7} <= numbers and different


def by_the_law(function):
    """The chi-square of all masks of a map of 4 x 4, and masks of their own."""
    g = torch.Generator().manual_seed(2)
    fell = function(torch.ones(50, 100, 4, 4), 0.3, 2, generator=g) == 0
    if len(fell.unique(dim=0)) < 50 or fell.unique(dim=1).shape[1] < 100:
        return torch.tensor(False)
    law = check._law(drop_block_gamma((4, 4), 2, 0.3))
    got = torch.bincount(check._numbers_of(fell.flatten(0, 1)), minlength=2**16)
    common = law > 2e-3
    z = (got - law * 5_000)[common] / (law * 5_000)[common].sqrt()
    return bool(z.abs().max() < 6 and (got[law == 0] == 0).all())


@pytest.mark.parametrize("function", [by_neighbours, by_the_law])
def test_right_ways_to_test(function):
    assert_found(check.looks_right(function), 10, {})


def rate_and_mean(function):
    """Single elements only: many impostors pass, as the exercise says."""
    g = torch.Generator().manual_seed(0)
    y = function(torch.ones(100, 100, 9, 9), 0.2, 3, generator=g)
    rate = (y == 0).double().mean().item()
    return abs(rate - 0.2) < 0.005 and abs(y.mean().item() - 1) < 0.01


def smallest_number(function):
    g = torch.Generator().manual_seed(0)
    fell = (function(torch.ones(100, 50, 9, 9), 0.05, 3, generator=g) == 0).sum((2, 3))
    return fell[fell > 0].min() == 9  # a tensor: it counts as what it says


def vertical(function):
    """Standing lines pass a test that looks up and down only."""
    g = torch.Generator().manual_seed(0)
    fell = function(torch.ones(50, 50, 9, 9), 0.05, 3, generator=g) == 0
    up = F.pad(fell, [0, 0, 1, 0])[..., :-1, :]
    down = F.pad(fell, [0, 0, 0, 1])[..., 1:, :]
    lost = fell.sum(dim=(2, 3))
    return bool((~fell | up | down).all() and lost[lost > 0].min() == 9)


def blocks(function):
    """Erosion and growth, and a single block: tiles and shared masks pass."""
    g = torch.Generator().manual_seed(0)
    fell = (function(torch.ones(50, 50, 9, 9), 0.05, 3, generator=g) == 0).double()
    again = F.max_pool2d(F.pad(-F.max_pool2d(-fell, 3, stride=1), [2] * 4), 3, stride=1)
    return torch.equal(again, fell) and bool((fell.sum(dim=(2, 3)) == 9).any())


def calls(answer):
    def function(implementation):
        implementation(torch.ones(2, 2, 6, 6), 0.2, 3)
        return answer(implementation) if callable(answer) else answer

    return function


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (rate_and_mean, {"single elements": "look at two at a time"}),
        (
            smallest_number,
            {
                "flat lines": "it drops lines: is every dropped element in a square",
                "tall lines": "it drops standing lines",
                "torn squares": "their numbers do not tell",
                "tiles": "may overlap",
                "shared channels": "compare channels",
                "shared samples": "compare them",
            },
        ),
        (vertical, {"tall lines": "look at rows and at columns"}),
        (
            blocks,
            {
                "tiles": "blocks at multiples of k only",
                "shared channels": "2 of 2",
                "shared samples": "one mask for all samples",
            },
        ),
        (calls(True), dict.fromkeys(ALL, "got True every time")),
        (calls(False), dict.fromkeys(ALL, "got False every time")),
        (calls(None), dict.fromkeys(ALL, "expected True or False, got None")),
        (calls("yes"), dict.fromkeys(ALL, "expected True or False, got a str")),
        (calls(torch.ones(2)), dict.fromkeys(ALL, "or False, got shape (2,)")),
        (lambda function: True, dict.fromkeys(ALL, "not written yet: the function")),
        (calls(lambda f: f.__name__), dict.fromkeys(ALL, "AttributeError")),
        (calls(lambda f: "x" in f.__closure__), dict.fromkeys(ALL, "AttributeError")),
        (
            lambda function: not blocks(function),
            dict.fromkeys(IMPOSTORS, "no credit for the rejection of an impostor")
            | {"right": "got False every time: what does it do that you forbid?"},
        ),
    ],
)
def test_wrong_tests(function, expected, few):
    report = check.looks_right(function)
    if function in (rate_and_mean, vertical):
        (name,) = expected
        assert expected[name] in report.diagnoses[name]
        assert "right" not in report.diagnoses
    else:
        assert_found(report, 10, expected)


def test_a_test_that_chance_can_fail_gets_no_credit():
    def careless(function):
        g = torch.Generator().manual_seed(0)
        y = function(torch.ones(20, 20, 9, 9), 0.3, 3, generator=g)
        return abs((y == 0).double().mean().item() - 0.3) < 0.005

    report = check.looks_right(careless)
    assert "of 20 times: does your test ask for what" in report.diagnoses["right"]
    assert report.passed == 0


def test_tiles_have_the_right_rate_and_mean():
    """As the exercise says, on maps of 9 x 9 with blocks of 3."""
    g = torch.Generator().manual_seed(0)
    y = check._impostor("tiles")(torch.ones(200, 100, 9, 9), 0.3, 3, generator=g)
    rate, error = (y == 0).double().mean(dim=(0, 1)), math.sqrt(0.3 * 0.7 / 20_000)
    assert ((rate - 0.3).abs() < 4 * error).all()
    assert torch.allclose(y.unique(), torch.tensor([0.0, 1 / 0.7]))


# --- exercise 6: one block ------------------------------------------------------------


def by_number(x, k, generator=None):
    """One number for each place; the weights by counting."""
    N, C, H, _ = x.shape
    n = H - k + 1
    place = torch.randint(n * n, (N, C), generator=generator)
    masks = torch.ones(n * n, H, H)
    for number in range(n * n):
        i, j = divmod(number, n)
        masks[number, i : i + k, j : j + k] = 0
    keep = masks.mean(dim=0)
    if (keep == 0).any():
        raise ValueError("no weight")
    return x * (masks[place] / keep).to(x)


def by_largest(x, k, generator=None):
    """The seed is where a random number is largest."""
    N, C, H, _ = x.shape
    if 2 * k > H:
        raise ValueError(f"{k} of {H}")
    n = H - k + 1
    u = torch.rand(N, C, n, n, generator=generator).flatten(2)
    seeds = F.one_hot(u.argmax(dim=2), n * n).view(N, C, n, n).to(x)
    fell = F.max_pool2d(F.pad(seeds, [k - 1] * 4), k, stride=1)
    counts = F.conv_transpose2d(torch.ones(1, 1, n, n), torch.ones(1, 1, k, k))
    return torch.where(fell > 0, 0, x / (1 - counts / n**2).to(x))


def by_sample(x, k, generator=None):
    H = x.shape[-1]
    if k > H / 2:
        raise ValueError("too large")
    n, y = H - k + 1, x.clone()
    for sample, channel in itertools.product(range(len(x)), range(len(x[0]))):
        i, j = torch.randint(n, (2,), generator=generator).tolist()
        y[sample, channel, i : i + k, j : j + k] = 0
    c = torch.tensor([min(i, n - 1) - max(i - k + 1, 0) + 1 for i in range(H)]).to(x)
    return y / (1 - torch.outer(c, c) / n**2)


@pytest.mark.parametrize("function", [by_number, by_largest, by_sample])
def test_right_ways_to_drop_one_block(function):
    assert_found(check.drop_one_block(function), 9, {})


START = "torch.randint(H - k + 1, (N, C, 1), generator=generator)"
ONE = list(check.drop_one_block(lambda x, k, generator: x).diagnoses)


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([("* ~fell / keep", "* ~fell")], {"mean": "what is kept is not scaled"}),
        ([("/ keep", "* keep")], {"mean": "it is multiplied by P(keep), not divided"}),
        ([("/ keep", "/ (1 - k**2 / H**2)")], {"mean": "one scale H^2/(H^2 - k^2)"}),
        ([("/ keep", "/ (1 - keep)")], {"mean": "one over the probability to fall"}),
        (
            [("line[:, None] * line / (H - k + 1) ** 2", "line / (H - k + 1)")],
            {"mean": "P(keep) needs c_i c_j"},
        ),
        ([(START, START.replace("(N,", "(1,"))], {"own places": "all samples share"}),
        (
            [(START, START.replace("C, 1", "1, 1"))],
            {"own places": "expected a row of its own for every map, got one that all"},
        ),
        (
            [(START, START.replace("k + 1", "k"))],
            {"equal chances": "got none at 9 of them, [(0, 4), (1, 4), (2, 4)"},
        ),
        ([("generator=generator", "generator=None")], {"generator": "two different"}),
        ([("2 * k > H", "2 * k > H + 1")], {"no weight": "k = 3 on a map of 5, whose"}),
        ([("2 * k > H", "2 * k >= H")], {"no weight": "raises a ValueError (block 3"}),
        ([("ValueError", "KeyError")], {"no weight": "raises KeyError, expected a V"}),
        ([(").to(x)", ")")], {"dtype": "expected torch.float32 out for torch.float32"}),
        ([("return x *", "return x.detach() *")], {"gradient": "cut off from its"}),
        ([("x * ~fell", "~fell")], dict.fromkeys(ONE, TOGETHER)),
        (
            [("place < start + k", "place < start + k - 1")],
            dict.fromkeys(("one block", "equal chances"), "got 4"),
        ),
        (
            [("line = ", "fell[..., ::2, :] = fell[..., ::2, :].flip(3)\n    line = ")],
            dict.fromkeys(
                ("one block", "equal chances"), "9 elements that form a square"
            ),
        ),
    ],
)
def test_wrong_single_blocks(slips, expected):
    report = check.drop_one_block(solution("design-answer", *slips)["drop_one_block"])
    assert_found(report, 9, expected)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, k, generator: x, "got none: all pass"),
        (
            lambda x, k, generator: None,
            "expected an output, got None: does your code end",
        ),
        (lambda x, k: x, "raises TypeError for k = 3 and x of shape"),
        (torch.nn.Identity(), "TypeError"),
        ("text", "expected a function, got a str"),
    ],
)
def test_answers_that_are_no_single_block(function, words):
    report = check.drop_one_block(function)
    assert report.passed == 0 and words in report.diagnoses["values"]


def test_the_one_block_has_to_fall_everywhere_equally_often():
    """Later places more often, with the weights that belong to them."""

    def uneven(x, k, generator=None):
        N, C, H, _ = x.shape
        if 2 * k > H:
            raise ValueError("no weight")
        often = torch.arange(1.0, H - k + 2, dtype=torch.float64)
        often, place, lines = often / often.sum(), torch.arange(H), []
        for _ in range(2):
            start = torch.multinomial(often, N * C, True, generator=generator)
            start = start.view(N, C, 1)
            lines.append((start <= place) & (place < start + k))
        fell = lines[0][..., :, None] & lines[1][..., None, :]
        starts = torch.arange(H - k + 1)
        covers = (starts <= place[:, None]) & (place[:, None] < starts + k)
        line = (covers * often).sum(dim=1)
        return x * ~fell / (1 - line[:, None] * line).to(x)

    expected = {"equal chances": "expected blocks at 25 places equally often, 1/25"}
    assert_found(check.drop_one_block(uneven), 9, expected)


def test_rows_and_columns_are_drawn_apart():
    def diagonal(x, k, generator=None):
        N, C, H, _ = x.shape
        place = torch.arange(H)
        start = torch.randint(H - k + 1, (N, C, 1), generator=generator)
        line = (start <= place) & (place < start + k)
        return x * ~(line[..., :, None] & line[..., None, :])

    report = check.drop_one_block(diagonal)
    assert "got none at 20 of them" in report.diagnoses["equal chances"]


# --- exercise 7: place and train ------------------------------------------------------

AFTER1 = "x = self.drop1(F.relu(self.conv1(x)))"
AFTER2 = "x = self.drop2(F.relu(self.conv2(x)))"
RAMP, STEP = (
    'ramp = LinearRamp(net, 0.0, "present", steps // 2)',
    "        ramp.step()\n",
)
READ = "        rates.append(net.drop1.p)\n"


def judged(*slips):
    names = solution("train-answer", *slips)
    return check.place_and_train(names["MyNet"], names["train"])


@pytest.mark.parametrize(
    "slips",
    [
        [],
        [("DropBlock2d(p, k // 2)", "DropBlock2d(p, (k + 1) // 2)")],
        [('"present", steps // 2', "net.drop2.p, steps // 2")],
    ],
)
def test_right_ways_to_place_and_train(slips):
    assert_found(judged(*slips), 6, {})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        (
            [(AFTER1, "x = F.relu(self.conv1(x))"), (READ, READ.replace("1", "2"))],
            {"first stage": "14 wide", "block sizes": "each of the two stages"},
        ),
        (
            [(AFTER2, "x = F.relu(self.drop2(self.conv2(x)))")],
            {"second stage": "what the ReLU after conv2 gives"},
        ),
        (
            [(AFTER2, "x = F.relu(self.conv2(x))\n        self.drop2(x)")],
            {"second stage": "the masked maps of conv2 are used"},
        ),
        ([("(p, k // 2)", "(p, k)")], {"block sizes": "twice as much"}),
        ([("(p, k // 2)", "(p, k // 3)")], {"block sizes": "expected sides"}),
        (
            [("self.head(x.mean", "self.head(2 * x.mean")],
            {"second stage": "are used", "evaluation": "nothing changes"},
        ),
        ([(STEP, "")], {"ramp": "does not move"}),
        ([(RAMP, ""), (STEP, "")], {"ramp": "is there a ramp"}),
        ([("steps // 2", "steps")], {"ramp": "takes all steps"}),
        (
            [(STEP, ""), (READ, READ + STEP)],
            {"ramp": "one step early", "log": "the rates with which"},
        ),
        ([(READ, ""), (STEP, STEP + READ)], {"log": "before the ramp moves"}),
        ([(READ, "")], {"log": "expected 12 rates in the log, got 0"}),
    ],
)
def test_wrong_ways_to_place_and_train(slips, expected):
    assert_found(judged(*slips), 6, expected)


def test_a_net_without_its_parts_or_a_training_without_its_steps_is_told():
    renamed = solution("train-answer")
    other = type("MyNet", (renamed["MyNet"],), {})
    broken = lambda p, k: torch.nn.Sequential(DropBlock2d(p, k))  # noqa: E731
    report = check.place_and_train(broken, renamed["train"])
    assert report.passed == 0
    short = lambda net, x, y, steps: renamed["train"](net, x, y, steps - 2)  # noqa: E731
    report = check.place_and_train(other, short)
    assert_found(report, 6, {"ramp": "12 passes", "log": "12 passes"})
