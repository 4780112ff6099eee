"""The checkers of chapter 2, tested against right answers and against wrong ones.

As for chapter 1: the solutions come from the notebook, most wrong answers are these
with one slip, and each has to be caught by the named checks and by no other.
"""

import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from answers import assert_found, cells_of, run, with_slips

from regdrop_lite import spatial_dropout
from regdrop_lite.course import ensembles
from regdrop_lite.course.check import chapter_2 as check
from regdrop_lite.course.check import core
from regdrop_lite.course.study.report import load_study

CELLS = cells_of("02")
PLANS = Path(__file__).parents[3] / "book/results/plans"
UNWRITTEN = "not written yet"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


@pytest.fixture
def few_seeds(monkeypatch):
    """Enough for functions that err far beyond chance."""
    monkeypatch.setattr(check, "_SEEDS", 1)
    few = {name: (3, hint) for name, (_, hint) in check._RIGHT.items()}
    monkeypatch.setattr(check, "_RIGHT", few)


def names_of(cell, *slips):
    """What the solution in ``cell`` defines, with every slip (old, new)."""
    source, names = with_slips(CELLS[cell]["source"], slips), {}
    run(CELLS["imports"]["source"], names, "<imports>")
    run(source, names, "<answer>")
    return names


def assert_sentences_differ(reports):
    """Two faults never share a sentence."""
    told = [set(report.diagnoses.values()) for report in reports]
    for one, other in itertools.combinations(told, 2):
        assert not one & other


# --- exercise 1: list four masks ------------------------------------------------------

CHANCES, SUMS = [0.04, 0.16, 0.16, 0.64], [0.0, 2.5, 5.0, 7.5]
MASKS = (CHANCES, SUMS, 6.0, 5.0)


@pytest.mark.parametrize(
    "answer",
    [
        (tuple(CHANCES), tuple(SUMS), 6, 5),
        (torch.tensor(CHANCES), torch.tensor(SUMS), torch.tensor(6.0), 5.004),
        ([0.2**2, 0.2 * 0.8, 0.8 * 0.2, 0.8**2], [0, 2 / 0.8, 4 / 0.8, 6 / 0.8], 6, 5),
    ],
)
def test_right_masks(answer):
    assert_found(check.list_masks(*answer), 4, {})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ({0: CHANCES[::-1]}, {"probabilities": "keep and drop are exchanged"}),
        ({0: [4, 16, 16, 64]}, {"probabilities": "got per cent"}),
        ({0: [0.25] * 4}, {"probabilities": "not equally likely"}),
        ({0: [0.4, 1.0, 1.0, 1.6]}, {"probabilities": "expected products"}),
        ({0: [0.04, 0.2, 0.16, 0.64]}, {"probabilities": "got the sum 1.04"}),
        (
            {0: [0.04, 0.2, 0.12, 0.64]},
            {"probabilities": "second kept: expected p * q, got 0.2"},
        ),
        ({0: [math.nan] * 4}, {"probabilities": "expected a number, got NaN"}),
        ({0: CHANCES[:3]}, {"probabilities": "a list of 4 numbers, got 3"}),
        ({1: [0.0, 2.0, 4.0, 6.0]}, {"sums": "without the scale"}),
        ({1: [0.0, 1.6, 3.2, 4.8]}, {"sums": "got them multiplied by it"}),
        ({1: [0.0, 10.0, 20.0, 30.0]}, {"sums": "got them divided by p = 0.2"}),
        ({1: [0.0, 5.0, 2.5, 7.5]}, {"sums": "the two masks in the middle"}),
        ({1: SUMS[::-1]}, {"sums": "runs from the other end"}),
        ({1: [0.0, 2.5, 5.0, 6.0]}, {"sums": "both kept: expected 7.5"}),
        ({1: "0257"}, {"sums": "a list of 4 numbers, got a str"}),
        ({1: [None] * 4}, {"sums": "expected a number, got None"}),
        ({2: 3.75}, {"mean": "all sums count the same"}),
        ({2: 4.8}, {"mean": "as if kept values were not scaled"}),
        ({2: 7.5}, {"mean": "the likeliest mask alone"}),
        ({2: 5.5}, {"mean": "got 5.5: add up probability times sum"}),
        ({2: True}, {"mean": "expected a number, got a bool"}),
        ({3: 9.0}, {"variance": "as if both fell together"}),
        ({3: 5**0.5}, {"variance": "the standard deviation"}),
        ({3: 41}, {"variance": "subtract the squared mean"}),
        ({3: 3.2}, {"variance": "not divided by q"}),
        ({3: 4}, {"variance": "got 4, p times it"}),
        ({3: 80}, {"variance": "q/p times it"}),
        ({3: 7.8125}, {"variance": "all four masks count the same"}),
        ({3: 25.0}, {"variance": "got 25: the mean is the mean over the masks"}),
        (
            {1: [0, 2, 4, 6], 2: 4.8, 3: 3.2},
            {
                "sums": "without the scale",
                "mean": "the mean of your sums",
                "variance": "the variance of your sums",
            },
        ),
        (
            {0: None, 1: None, 2: None, 3: None},
            dict.fromkeys(("probabilities", "sums", "mean", "variance"), UNWRITTEN),
        ),
    ],
)
def test_wrong_masks(slips, expected):
    answer = [slips.get(i, right) for i, right in enumerate(MASKS)]
    assert_found(check.list_masks(*answer), 4, expected)


# --- exercise 2: group variance -------------------------------------------------------

ZEROS = "u.new_zeros(int(groups.max()) + 1).index_add_(0, groups, u)"
SQUARES = "(sums**2).sum()"
FACTOR = "p / (1 - p)"
VARIANCE_CHECKS = (
    "factor",
    "single values",
    "groups",
    "scattered groups",
    "many values",
    "gradient",
    "dtype",
)
COMPARED = VARIANCE_CHECKS[1:5]


def loop_over_groups(u, groups, p):
    sums = [u[groups == k].sum() for k in range(int(groups.max()) + 1)]
    return p / (1 - p) * sum(s**2 for s in sums)


def one_hot(u, groups, p):
    return p / (1 - p) * (F.one_hot(groups).T.to(u.dtype) @ u).square().sum()


def scatter(u, groups, p):
    sums = torch.zeros(len(u), dtype=u.dtype).scatter_add(0, groups, u)
    return sums @ sums * p / (1 - p)


def gather(u, groups, p):
    """Every value times the sum of its group."""
    sums = torch.zeros_like(u).index_add(0, groups, u)
    return (u * sums[groups]).sum() * (1 / (1 - p) - 1)


@pytest.mark.parametrize("function", [loop_over_groups, one_hot, scatter, gather])
def test_right_variances(function):
    assert_found(check.group_variance(function), 7, {})


def consecutive(u, groups, p):
    begins = torch.cat([groups[:1] * 0, (groups[1:] != groups[:-1]).long()])
    return scatter(u, begins.cumsum(0), p)


def matrix(u, groups, p):
    return p / (1 - p) * u @ (groups[:, None] == groups).to(u.dtype) @ u


def written(u, groups, p):
    sums = u.new_zeros(int(groups.max()) + 1)
    sums[groups] += u
    return p / (1 - p) * (sums**2).sum()


def of_the_package(u, groups, p):
    return ensembles.added_variance(u, ensembles.group_covariance(groups, p))


def no_room(u, groups, p):
    if len(u) > 1000:
        raise MemoryError("no room")
    return scatter(u, groups, p)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([(FACTOR, "p * (1 - p)")], {"factor": "pq, the variance of a mask"}),
        ([(FACTOR, "(1 - p) / p")], {"factor": "q/p: p is the probability"}),
        ([(FACTOR, "1 / (1 - p)")], {"factor": "1/q, the mean of the square"}),
        ([(FACTOR, "p")], {"factor": "p without the division"}),
        ([(FACTOR, "1")], {"factor": "no factor at all"}),
        ([(FACTOR, "(p / (1 - p)) ** 0.5")], {"factor": "its root"}),
        ([(FACTOR, "0.3 / 0.7")], {"factor": "at p = 0.8, got 0.4286"}),
        (
            [(SQUARES, "(u**2).sum()")],
            dict.fromkeys(COMPARED[1:], "squared before they are added up"),
        ),
        (
            [(SQUARES, "sums.sum() ** 2")],
            dict.fromkeys(COMPARED, "as if they were one group"),
        ),
        ([(SQUARES, "sums.sum()")], dict.fromkeys(COMPARED, "nothing is squared")),
        ([(SQUARES, "sums.abs().sum()")], dict.fromkeys(COMPARED, "the size of")),
        (
            [(SQUARES, "(sums**2).mean()")],
            dict.fromkeys(COMPARED, "the mean over the groups"),
        ),
        (
            [(SQUARES, "(sums**2).sum() / len(u)")],
            dict.fromkeys(COMPARED, "the mean over the"),
        ),
        (
            [(SQUARES, "((sums / groups.bincount()) ** 2).sum()")],
            dict.fromkeys(COMPARED[1:], "the groups' means are squared"),
        ),
        (
            [(SQUARES, "(sums**4).sum()")],
            dict.fromkeys(COMPARED, "times the factor"),
        ),
        (
            consecutive,
            {"scattered groups": "only neighbours in the list"},
        ),
        (
            written,
            {
                **dict.fromkeys(COMPARED[1:], "writes, it does not add up"),
                "gradient": "a gradient that fits the values",
            },
        ),
        (matrix, {"many values": "make one of shape (12000, 12000)"}),
        (no_room, {"many values": "MemoryError: no room"}),
        ([(SQUARES, "(sums**2).sum().detach()")], {"gradient": "cut off"}),
        ([(SQUARES, "(sums * sums.detach()).sum()")], {"gradient": "fits the values"}),
        ([(SQUARES, "(sums**2).sum().double()")], {"dtype": "expected torch.float32"}),
        ([("u.new_zeros(", "torch.zeros(")], {"dtype": "for inputs of torch.float32"}),
        (
            [(SQUARES, "(sums**2).sum().item()")],
            dict.fromkeys(VARIANCE_CHECKS, "float() and item() cut the gradient"),
        ),
        (
            [(SQUARES, "(sums**2).sum(0, keepdim=True)")],
            dict.fromkeys(VARIANCE_CHECKS, "expected a tensor of shape (), got shape"),
        ),
        (
            lambda u, groups, p: torch.tensor(3.0),
            {
                "factor": "got 3",
                **dict.fromkeys(COMPARED, "got 1 times"),
                "gradient": "cut off from its input",
                "dtype": "got torch.float64",
            },
        ),
        (lambda u, groups, p: None, dict.fromkeys(VARIANCE_CHECKS, "got None")),
        (lambda u, groups, p: ..., dict.fromkeys(VARIANCE_CHECKS, UNWRITTEN)),
        (of_the_package, dict.fromkeys(VARIANCE_CHECKS, "it calls group_covariance")),
        (torch.ones(3), dict.fromkeys(VARIANCE_CHECKS, "expected a function")),
    ],
)
def test_wrong_variances(answer, expected):
    if isinstance(answer, list):
        answer = names_of("groups-answer", *answer)["group_variance"]
    assert_found(check.group_variance(answer), 7, expected)


def test_no_two_wrong_factors_share_a_sentence():
    factors = ("p * (1 - p)", "(1 - p) / p", "1 / (1 - p)", "p", "1", "3 * p")
    answers = [names_of("groups-answer", (FACTOR, factor)) for factor in factors]
    assert_sentences_differ(check.group_variance(a["group_variance"]) for a in answers)


def test_a_variance_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr(core, "TIME_LIMIT", 0.5)

    def endless(u, groups, p):
        while True:
            pass

    report = check.group_variance(endless)
    assert report.passed == 0 and "does a loop never end" in report.diagnoses["dtype"]


# --- exercise 3: turn the order round -------------------------------------------------

FIELDS = torch.tensor([1.0, -1.0] * 4 + [1.0], dtype=torch.float64).view(3, 3)
PATHS, CHANNEL, ELEMENT = (
    "DropPath adds nothing",
    "SpatialDropout adds something",
    "element dropout adds most",
)


def one_place(first, second):
    u = torch.zeros(2, 9)
    u[0, : len(first)], u[1, : len(second)] = torch.tensor(first), torch.tensor(second)
    return u.view(2, 3, 3)


@pytest.mark.parametrize(
    "u",
    [
        torch.stack([FIELDS, -FIELDS]),
        1e-3 * torch.stack([FIELDS, -FIELDS]).float(),
        one_place([3.0, -2.0], [-1.0]),
        torch.stack([FIELDS, -FIELDS]).int(),
        torch.stack([FIELDS, -FIELDS]).requires_grad_(),
    ],
)
def test_right_orders(u):
    assert_found(check.reverse_order(u), 3, {})


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        (torch.stack([FIELDS, FIELDS]), {PATHS: "both channels sum to 1"}),
        (
            torch.ones(2, 3, 3),
            {PATHS: "got 18: both channels sum to 9", ELEMENT: "4.5 against 40.5"},
        ),
        (torch.stack([FIELDS, -2 * FIELDS]), {PATHS: "got -1: DropPath adds p/q"}),
        (
            torch.stack([torch.ones(3, 3), -torch.ones(3, 3)]),
            {ELEMENT: "got 4.5 against 40.5"},
        ),
        (one_place([1.0], [-1.0]), {ELEMENT: "0.5 against 0.5"}),
        (one_place([1.0, -1.0], [1.0, -1.0]), {CHANNEL: "got 0 for both"}),
        (one_place([1.0, -1.0], [0.0]), {CHANNEL: "leave something over"}),
        (one_place([0.1, 0.2, -0.3], [0.1, -0.1]), {CHANNEL: "got 0 for both"}),
        (torch.zeros(2, 3, 3), dict.fromkeys((PATHS, CHANNEL, ELEMENT), UNWRITTEN)),
        (
            torch.full((2, 3, 3), math.nan),
            dict.fromkeys((PATHS, CHANNEL, ELEMENT), "finite numbers, got NaN"),
        ),
        (
            torch.ones(18),
            dict.fromkeys((PATHS, CHANNEL, ELEMENT), "(2, 3, 3), got shape (18,)"),
        ),
        (
            [[1.0] * 3] * 3,
            dict.fromkeys((PATHS, CHANNEL, ELEMENT), "(2, 3, 3), got a list"),
        ),
        (None, dict.fromkeys((PATHS, CHANNEL, ELEMENT), "(2, 3, 3), got None")),
    ],
)
def test_wrong_orders(u, expected):
    assert_found(check.reverse_order(u), 3, expected)


# --- exercise 4: average two nets -----------------------------------------------------

LOSSES = [0.598, 0.511, 0.857, 0.105]
BY_HAND = (0.55, 0.6, LOSSES, "the average member")
AVERAGES = ("arithmetic mean", "geometric mean", "four losses", "what follows")


def test_the_averages_are_those_of_the_chapter():
    members = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]]).log()  # (masks, N, K)
    means = ensembles.average_predictions(members, torch.tensor([0.5, 0.5]))
    losses = [-mean[0, 0].item() for mean in means]
    member = -members[:, 0, 0]
    losses += [member.mean().item(), member.min().item()]
    two = [mean[0, 0].exp().item() for mean in means]
    assert_found(check.average_two(*two, losses, BY_HAND[3]), 4, {})


@pytest.mark.parametrize(
    "answer",
    [
        BY_HAND,
        (torch.tensor(0.55), 3 / 5, tuple(LOSSES), "the average member"),
        (0.55, 0.6, torch.tensor([0.6, 0.51, 0.86, 0.105]), "the average member"),
    ],
)
def test_right_averages(answer):
    assert_found(check.average_two(*answer), 4, {})


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ({0: 1.1}, {"arithmetic mean": "got 1.1, the whole sum"}),
        ({0: 0.45}, {"arithmetic mean": "the probability of the other class"}),
        ({0: 0.6}, {"arithmetic mean": "the geometric mean: the two are exchanged"}),
        ({0: 0.424}, {"arithmetic mean": "the root of the product"}),
        ({0: 0.5}, {"arithmetic mean": "got 0.5: add the true class's two"}),
        ({0: 55}, {"arithmetic mean": "a probability from 0 to 1, got 55"}),
        ({1: 0.424}, {"geometric mean": "divide by what the two classes' roots sum"}),
        ({1: 0.4}, {"geometric mean": "the share of the other class"}),
        ({1: 0.55}, {"geometric mean": "the arithmetic mean"}),
        ({1: 0.18}, {"geometric mean": "the product without a root"}),
        ({1: 0.6923}, {"geometric mean": "the share of the products"}),
        ({1: 0.3}, {"geometric mean": "take the root of the product for both"}),
        ({2: [0.26, 0.222, 0.372, 0.046]}, {"four losses": "to the base 10"}),
        ({2: [0.863, 0.737, 1.237, 0.152]}, {"four losses": "to the base 2"}),
        ({2: [-x for x in LOSSES]}, {"four losses": "the sign is missing"}),
        ({2: [0.511, 0.598, 0.857, 0.105]}, {"four losses": "first two are exchanged"}),
        ({2: [0.598, 0.511, 0.598, 0.105]}, {"four losses": "the loss of the mean"}),
        ({2: [0.598, 0.511, 1.714, 0.105]}, {"four losses": "their sum: halve it"}),
        ({2: [0.598, 0.511, 0.857, 1.609]}, {"four losses": "the worst member"}),
        ({2: [0.598, 0.511, 0.857, 0.2]}, {"four losses": "best member: expected"}),
        ({2: [0.598, 0.511, 0.7, 0.105]}, {"four losses": "take -log of 0.9 and"}),
        (
            {2: [0.598, 0.857, 0.857, 0.105]},
            {"four losses": "geometric mean: exp"},
        ),
        (
            {0: 0.5, 2: [0.693, *LOSSES[1:]]},
            {"arithmetic mean": "got 0.5", "four losses": "fits your arithmetic mean"},
        ),
        ({2: LOSSES[:2]}, {"four losses": "a list of 4 numbers, got 2"}),
        ({2: None}, {"four losses": "a list of 4 numbers, got None"}),
        ({3: "the best member"}, {"what follows": "compare your four losses"}),
        ({3: "one pass without masks"}, {"what follows": "do not settle"}),
        ({3: "The average member"}, {"what follows": "spell it 'the average member'"}),
        ({3: None}, {"what follows": "None is not one of the 3 answers"}),
        (
            {0: None, 1: None, 2: [None] * 4, 3: None},
            dict.fromkeys(AVERAGES, UNWRITTEN),
        ),
    ],
)
def test_wrong_averages(slips, expected):
    answer = [slips.get(i, right) for i, right in enumerate(BY_HAND)]
    assert_found(check.average_two(*answer), 4, expected)


# --- exercise 5: where one pass is exact ----------------------------------------------

EXACT = dict(zip("abcdef", (True, True, True, False, False, True), strict=True))


def test_which_passes_are_exact_is_what_all_masks_say():
    names = names_of("exact-proof")
    run(CELLS["exact-proof-list"]["source"], names, "<list>")
    truth = {net: names["truth_of"](net) for net in "abcdef"}
    assert truth == EXACT
    assert_found(check.exact_pass(truth), 6, {})


def test_the_order_of_the_nets_does_not_matter():
    assert_found(check.exact_pass(dict(sorted(EXACT.items(), reverse=True))), 6, {})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"a": False}, {"a": "the masks are independent"}),
        ({"b": False}, {"b": "what comes after the mask"}),
        ({"c": False}, {"c": "c is not what it seems"}),
        ({"d": True}, {"d": "the mean of (m/q)^2"}),
        ({"e": True}, {"e": "expected a counterexample"}),
        ({"f": False}, {"f": "the softmax of the mean logits"}),
        ({"c": None}, {"c": "c: expected True or False, got None"}),
        ({"d": 0}, {"d": "d: expected True or False, got 0"}),
        ({"e": "no"}, {"e": "e: expected True or False, got 'no'"}),
        (
            dict.fromkeys("abcdef", True),
            dict.fromkeys("abcdef", "got True for all six"),
        ),
        (
            dict.fromkeys("abcdef", False),
            dict.fromkeys("abcdef", "got False for all six"),
        ),
        ({"g": True}, dict.fromkeys("abcdef", "expected the keys a, b, c, d, e, f")),
        (list(EXACT.values()), dict.fromkeys("abcdef", "a dictionary, got a list")),
        (dict.fromkeys("abcdef"), dict.fromkeys("abcdef", UNWRITTEN)),
    ],
)
def test_wrong_passes(answer, expected):
    if isinstance(answer, dict):
        answer = EXACT | answer
    assert_found(check.exact_pass(answer), 6, expected)


def test_no_two_nets_share_a_sentence():
    answers = [EXACT | {net: not EXACT[net]} for net in EXACT]
    answers += [EXACT | {net: None} for net in EXACT]
    assert_sentences_differ(map(check.exact_pass, answers))


# --- exercise 6: the penalty ----------------------------------------------------------

FREE = torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(3, 1)
SUM, PENALTY = "(x * w).sum(dim=2)", "(contribution**2).sum()"
PENALTY_CHECKS = (
    "free weights",
    "factor",
    "places",
    "channels",
    "samples",
    "all together",
    "gradient",
    "dtype",
)


def einsum(x, w, p):
    return p / (1 - p) * torch.einsum("ncs,cs->nc", x, w).square().sum()


def by_loops(x, w, p):
    total = 0
    for sample in x:
        for values, weights in zip(sample, w, strict=True):
            total = total + (values @ weights) ** 2
    return total * p / (1 - p)


def by_norm(x, w, p):
    return (x * w).sum(-1).norm() ** 2 * (1 / (1 - p) - 1)


@pytest.mark.parametrize(
    ("function", "free"),
    [
        (einsum, FREE),
        (by_loops, torch.tensor([3.0, -1.0, -1.0, -1.0]).expand(3, 4)),
        (by_norm, 1e-3 * FREE.float()),
    ],
)
def test_right_penalties(function, free):
    assert_found(check.channel_penalty(function, free), 8, {})


def test_the_penalty_is_what_all_masks_add():
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(5, 3, 4, generator=g), torch.randn(5, generator=g)
    w = torch.randn(3, 4, generator=g)

    def error(factor):  # (masks, C): what the channels are multiplied by
        return ((y[:, None] - (x * w).sum(dim=2) @ factor.T) ** 2).sum(dim=0)

    function = names_of("penalty-answer")["channel_penalty"]
    for p in (0.3, 0.8):
        keep, weights = ensembles.all_masks(3, p)
        added = ensembles.mean(error(keep / (1 - p)), weights) - error(torch.ones(1, 3))
        assert torch.allclose(function(x, w, p), added)


@pytest.mark.parametrize(
    ("slips", "expected"),
    [
        ([(FACTOR, "p * (1 - p)")], {"factor": "pq, the variance"}),
        ([(FACTOR, "(1 - p) / p")], {"factor": "q/p: p is the probability"}),
        (
            [(SUM, "x * w")],
            dict.fromkeys(("places", "all together"), "the penalty of element dropout"),
        ),
        (
            [(SUM, "(x * w).sum(dim=(1, 2))")],
            dict.fromkeys(("channels", "all together"), "as if they all fell together"),
        ),
        (
            [(SUM, "(x * w).sum(dim=(0, 2))")],
            dict.fromkeys(("samples", "all together"), "each has masks of its own"),
        ),
        (
            [(PENALTY, "(contribution**2).sum() / len(x)")],
            dict.fromkeys(("samples", "all together"), "the mean over the samples"),
        ),
        (
            [(PENALTY, "(contribution**2).sum(0).mean()")],
            dict.fromkeys(("channels", "all together"), "the mean over the channels"),
        ),
        (
            [(SUM, "(x * w).mean(dim=2)")],
            dict.fromkeys(("places", "all together"), "the mean over the places"),
        ),
        (
            [(SUM, "x.sum(dim=2) * w.sum(dim=1)")],
            dict.fromkeys(("places", "all together"), "multiply place by place"),
        ),
        (
            [(SUM, "w.sum(dim=1).expand(len(x), -1)")],
            dict.fromkeys(PENALTY_CHECKS[2:6], "the inputs are ignored"),
        ),
        (
            [(PENALTY, "contribution.sum()")],
            dict.fromkeys(PENALTY_CHECKS[2:6], "nothing is squared"),
        ),
        (
            [(PENALTY, "(contribution[:2] ** 2).sum()")],  # two samples only
            dict.fromkeys(("samples", "all together"), "times the factor"),
        ),
        ([(PENALTY, "(contribution**2).sum().detach()")], {"gradient": "cut off"}),
        (
            [(SUM, "(x * w.detach()).sum(dim=2) * w.sum() / w.sum()")],
            {"gradient": "fits the values"},
        ),
        ([(PENALTY, "(contribution.double() ** 2).sum()")], {"dtype": "float32 out"}),
        (
            [(PENALTY, "(contribution**2)")],
            dict.fromkeys(PENALTY_CHECKS[1:], "shape (), got shape (1, 1)"),
        ),
        ([("1.0, -1.0, 1.0, -1.0", "1.0, -1.0, 0.0, 0.0")], {"free weights": "got 6"}),
        (
            [("1.0, -1.0, 1.0, -1.0", "1.0, 1.0, 1.0, -1.0")],
            {"free weights": "got the sums 2, 2, 2"},
        ),
        ([(".repeat(3, 1)", "")], {"free weights": "(3, 4), got shape (4,)"}),
        ([("1.0, -1.0, 1.0, -1.0", "0.0, 0.0")], {"free weights": "got shape (3, 2)"}),
        (
            [("1.0, -1.0, 1.0, -1.0", "1.0, -1.0, 1.0, float('nan')")],
            {"free weights": "finite weights"},
        ),
        (
            [("1.0, -1.0, 1.0, -1.0", "0.0, 0.0, 0.0, 0.0")],
            {"free weights": "still all zeros"},
        ),
    ],
)
def test_wrong_penalties(slips, expected):
    names = names_of("penalty-answer", *slips)
    report = check.channel_penalty(names["channel_penalty"], names["free"])
    if any(old == PENALTY and new.endswith("**2)") for old, new in slips):
        assert "expected a tensor of shape ()" in report.diagnoses["dtype"]
        assert set(report.diagnoses) == set(expected)
    else:
        assert_found(report, 8, expected)


def test_a_penalty_that_is_not_written_does_not_hide_the_free_weights():
    def unwritten(x, w, p):
        raise NotImplementedError

    expected = dict.fromkeys(PENALTY_CHECKS[1:], UNWRITTEN)
    assert_found(check.channel_penalty(unwritten, FREE), 8, expected)


# --- exercise 7: the hidden bug -------------------------------------------------------

WEIGHTS = "(1 - p) ** kept * p ** (keep.shape[1] - kept)"
MEAN = "mean(logits.softmax(dim=2), weights)"
MEAN_CHECKS = (
    "p = 0.5",
    "other rates",
    "other numbers of groups",
    "other order of masks",
    "gradient",
    "dtype",
)
VALUES = MEAN_CHECKS[:3]


def by_where(logits, keep, p):
    weights = torch.where(keep == 1, 1 - p, p).prod(dim=1).to(logits)
    return torch.einsum("m,mnk->nk", weights, logits.softmax(-1))


def normalised(logits, keep, p):
    kept = keep.sum(dim=1)
    weights = ((1 - p) / p) ** kept
    weights = (weights / weights.sum()).view(-1, 1, 1)
    return (weights * logits.softmax(dim=2)).sum(dim=0)


def by_average_predictions(logits, keep, p):
    weights = ((1 - p) * keep + p * (1 - keep)).prod(dim=1)
    return ensembles.average_predictions(logits, weights)[0].exp()


def by_mask_loop(logits, keep, p):
    total = 0
    for scores, mask in zip(logits, keep, strict=True):
        weight = 1.0
        for kept in mask.tolist():
            weight *= 1 - p if kept else p
        total = total + weight * scores.softmax(dim=1)
    return total


@pytest.mark.parametrize(
    ("function", "telling"),
    [
        (by_where, 0.9),
        (normalised, 0.1),
        (by_average_predictions, torch.tensor(0.3)),
        (by_mask_loop, 0.75),
    ],
)
def test_right_means(function, telling):
    assert_found(check.ensemble_mean(function, telling), 7, {})


def from_the_list(logits, keep, p):
    weights = ensembles.all_masks(keep.shape[1], p)[1]
    return ensembles.mean(logits.softmax(dim=2), weights)


def by_place(logits, keep, p):
    n = keep.shape[1]
    kept = torch.tensor([bin(i).count("1") for i in range(2**n)]).to(logits)
    weights = (1 - p) ** kept * p ** (n - kept)
    return ensembles.mean(logits.softmax(dim=2), weights)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            [(WEIGHTS, "p ** kept * (1 - p) ** (keep.shape[1] - kept)")],
            dict.fromkeys(VALUES[1:], "keep and drop are exchanged"),
        ),
        (
            [("keep.shape[1] - kept", "4 - kept")],
            {"other numbers of groups": "probabilities that sum to"},
        ),
        (
            [(MEAN, MEAN + " / len(keep)")],
            dict.fromkeys(VALUES, "the weights sum to 1 already"),
        ),
        (
            [(MEAN, "mean(logits, weights).softmax(dim=1)")],
            dict.fromkeys(VALUES, "the arithmetic one is asked for"),
        ),
        (
            [(MEAN, "logits.mean(dim=0).softmax(dim=1)")],
            dict.fromkeys(VALUES, "geometric"),
        ),
        (
            [(MEAN, "mean(logits, weights)")],
            dict.fromkeys(VALUES, "the softmax is missing"),
        ),
        (
            [("softmax(dim=2)", "softmax(dim=1)")],
            dict.fromkeys(VALUES, "the softmax goes over the samples"),
        ),
        (
            [(MEAN, MEAN + ".log()")],
            dict.fromkeys(VALUES, "the logarithm of the mean"),
        ),
        (
            [(WEIGHTS, "(1 - p) ** kept")],
            dict.fromkeys(VALUES, "what falls has a probability, too"),
        ),
        (
            [(WEIGHTS, "p ** (keep.shape[1] - kept)")],
            dict.fromkeys(VALUES, "what stays has a probability, too"),
        ),
        (
            [(WEIGHTS, "kept / kept.sum()")],
            dict.fromkeys(VALUES, "counts by how many it keeps"),
        ),
        (
            [
                (
                    WEIGHTS,
                    WEIGHTS + " * torch.tensor([math.comb(keep.shape[1], int(k)) "
                    "for k in kept])",
                )
            ],
            dict.fromkeys(VALUES, "no binomial coefficient"),
        ),
        (
            [(MEAN, "logits.softmax(dim=2)[-1]")],
            {
                **dict.fromkeys(VALUES, "only the mask that keeps all"),
                "other order of masks": "not the place in the list",
            },
        ),
        (by_place, {"other order of masks": "not the place in the list"}),
        ([(MEAN, MEAN + ".detach()")], {"gradient": "cut off"}),
        ([("logits.softmax", "logits.double().softmax")], {"dtype": "float32 out"}),
        (
            lambda logits, keep, p: torch.full((5, 3), 1 / 3),
            {
                **dict.fromkeys(VALUES, "off"),
                "gradient": "cut off",
                "dtype": "got torch.float64",
            },
        ),
        (
            [(MEAN, "mean(logits.softmax(dim=2), weights).sum(dim=1)")],
            dict.fromkeys(MEAN_CHECKS, "shape (5, 3), got shape (5,)"),
        ),
        (lambda logits, keep, p: None, dict.fromkeys(MEAN_CHECKS, "got None")),
        (from_the_list, dict.fromkeys(MEAN_CHECKS, "it calls all_masks")),
        (
            lambda logits, keep, p: torch.stack([x.softmax(1) for x in logits]).mean(0),
            dict.fromkeys(MEAN_CHECKS, "still gives the colleague's mean"),
        ),
        ([("telling = 0.2", "telling = 0.5")], {"telling rate": "got 0.5, the one"}),
        ([("telling = 0.2", "telling = 1.0")], {"telling rate": "0 and 1, got 1"}),
        ([("telling = 0.2", "telling = 20")], {"telling rate": "0 and 1, got 20"}),
        ([("telling = 0.2", "telling = 0.501")], {"telling rate": "further from 0.5"}),
        ([("telling = 0.2", "telling = '0.2'")], {"telling rate": "got a str"}),
    ],
)
def test_wrong_means(answer, expected):
    names = {"telling": 0.2, "ensemble_mean": answer}
    if isinstance(answer, list):
        names = names_of("bug-answer", *answer)
    report = check.ensemble_mean(names["ensemble_mean"], names["telling"])
    assert_found(report, 7, expected)


def test_the_untouched_function_and_rate_are_told_without_a_hint():
    names = {}
    run(CELLS["bug-answer"]["metadata"]["scaffold"], names, "<scaffold>")
    report = check.ensemble_mean(names["ensemble_mean"], names["telling"])
    assert report.passed == 0 and set(report.diagnoses.values()) == {UNWRITTEN}


# --- exercise 8: a test that can fail -------------------------------------------------

TEST_CHECKS = (*check._RIGHT, "seed", *check._WRONG)
CALLS, ERROR = "n, p, g = 1_000", "< 5 * error).all"
DILUTED = {
    "the second sample only": "send in two, and look at each",
    "divided by the kept share": "calls that keep nothing",
}


def other_rate(dropout, seed):
    """Two samples of one channel; the error is estimated."""
    x = torch.tensor([2.0, -1.0], dtype=torch.float64).view(2, 1, 1, 1)
    g = torch.Generator().manual_seed(seed)
    y = torch.stack([dropout(x, 0.8, generator=g) for _ in range(1200)])
    error = y.std(dim=0) / len(y) ** 0.5
    return ((y.mean(dim=0) - x).abs() <= 6 * error.clamp(min=1e-9)).all()


def in_a_loop(dropout, seed):
    g = torch.Generator().manual_seed(10 * seed)
    x = torch.tensor([[[[1.0]], [[-1.0]]], [[[-3.0]], [[2.0]]]], dtype=torch.float64)
    total = torch.zeros_like(x)
    for _ in range(1500):
        total += dropout(x, p=0.8, generator=g)
    bound = 5 * (0.8 / 0.2 / 1500) ** 0.5
    for got, right in zip(total.flatten().tolist(), x.flatten().tolist(), strict=True):
        if abs(got / 1500 - right) > bound * abs(right):
            return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("function", [other_rate, in_a_loop])
def test_right_tests_with_all_seeds(function):
    assert_found(check.keeps_the_mean(function), 12, {})


@pytest.mark.parametrize("function", [other_rate, in_a_loop])
def test_right_tests(function, few_seeds):
    assert_found(check.keeps_the_mean(function), 12, {})


def one_call(look, p=0.3, bound=5.0):
    """A test that makes one call with many samples and averages over them."""

    def keeps(dropout, seed):
        g = torch.Generator().manual_seed(seed)
        one = torch.tensor([1.0, -2.0, 3.0, -1.0], dtype=torch.float64)
        x = one.view(1, 4, 1, 1).expand(4000, 4, 1, 1)
        mean = dropout(x, p, generator=g).mean(dim=(0, 2, 3))
        error = bound * one.abs() * (p / (1 - p) / 4000) ** 0.5
        return look(mean, one, error)

    return keeps


def each(mean, x, error):
    return bool(((mean - x).abs() < error).all())


def same_draw(dropout, seed):
    x = torch.randn(4, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    draws = [torch.Generator().manual_seed(seed) for _ in range(2)]
    expected = spatial_dropout(x, 0.3, generator=draws[0])
    return torch.allclose(dropout(x, 0.3, generator=draws[1]), expected)


def calls(dropout, answer, shape=(2, 2, 1, 1), times=1, g=None, **options):
    g = torch.Generator() if g is None else g
    for _ in range(times):
        dropout(torch.ones(shape, **options), 0.5, generator=g)
    return answer


def reseeded(dropout, seed):
    return one_call(each)(dropout, 3)


ALL_WRONG = dict.fromkeys(check._WRONG, "until then a False says nothing")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (one_call(each), DILUTED),
        (
            one_call(lambda mean, x, e: bool(abs((mean - x)[0]) < e[0])),
            DILUTED | {"positive inputs only": "of negative values it makes 0"},
        ),
        (
            one_call(lambda mean, x, e: bool(((mean - x).abs() < e)[1:].all())),
            DILUTED | {"the first channel only": "a slip in one channel of many"},
        ),
        (
            one_call(
                lambda mean, x, e: bool(((mean / x - 1).mean().abs() < e[0]).all())
            ),
            DILUTED | {"single channels": "an average over channels hides"},
        ),
        (
            one_call(each, p=0.5),
            DILUTED | {"scaled by 1/p": "which is x at p = 0.5"},
        ),
        (
            one_call(lambda mean, x, e: each(mean, x, e) or not mean.any()),
            DILUTED | {"zeros": "its mean is 0: compare it with x itself"},
        ),
        (
            one_call(lambda mean, x, e: each(mean, x, e) or each(mean, 0.7 * x, e)),
            DILUTED | {"no scale": "its mean is q x"},
        ),
        (
            one_call(each, bound=1.5),
            {
                **dict.fromkeys(check._RIGHT, "too few standard errors"),
                **ALL_WRONG,
            },
        ),
        (
            same_draw,
            {
                "right, other masks": "test the mean, not the draw",
                "right, later masks": "its masks come later",
                **ALL_WRONG,
            },
        ),
        (reseeded, DILUTED | {"seed": "the same generator's for every seed"}),
        (
            lambda dropout, seed: calls(dropout, True),
            dict.fromkeys(TEST_CHECKS, "got True every time"),
        ),
        (
            lambda dropout, seed: calls(dropout, False),
            dict.fromkeys(TEST_CHECKS, "got False every time"),
        ),
        (
            lambda dropout, seed: calls(dropout, None),
            dict.fromkeys(TEST_CHECKS, "expected True or False, got None"),
        ),
        (
            lambda dropout, seed: calls(dropout, True, shape=(2, 2)),
            dict.fromkeys(TEST_CHECKS, "(N, C, H, W), got shape (2, 2)"),
        ),
        (
            lambda dropout, seed: calls(dropout, True, dtype=torch.float32),
            dict.fromkeys(TEST_CHECKS, "float64, got torch.float32"),
        ),
        (
            lambda dropout, seed: calls(dropout, True, g=seed),
            dict.fromkeys(TEST_CHECKS, "expected a generator, got a int"),
        ),
        (lambda dropout, seed: True, dict.fromkeys(TEST_CHECKS, "is never called")),
        (None, dict.fromkeys(TEST_CHECKS, "expected a function, got None")),
    ],
)
def test_wrong_tests(function, expected, few_seeds):
    assert_found(check.keeps_the_mean(function), 12, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slip", "expected"),
    [
        ((ERROR, "< 5 * error)[:, 1].all"), ["the first channel only"]),
        ((ERROR, "< 5 * error)[0].all"), ["the second sample only"]),
        (("view(2, 2, 1, 1)", "repeat(50, 1)[..., None, None]"), list(DILUTED)[1:]),
    ],
)
def test_wrong_looks_at_many_calls(slip, expected, few_seeds):
    report = check.keeps_the_mean(names_of("test-answer", slip)["keeps_the_mean"])
    assert list(report.diagnoses) == expected


@pytest.mark.slow
def test_a_narrow_bound_rejects_by_chance():
    answer = names_of("test-answer", (ERROR, "< 2 * error).all"))["keeps_the_mean"]
    report = check.keeps_the_mean(answer)
    assert "rejects by chance" in report.diagnoses["right"]


def test_too_many_calls_are_told(few_seeds, monkeypatch):
    monkeypatch.setattr(core, "CALL_LIMIT", 50)
    report = check.keeps_the_mean(lambda dropout, seed: calls(dropout, True, times=51))
    assert "expected at most 50 calls" in report.diagnoses["zeros"]


def test_the_scaffold_is_known_by_its_code_and_nothing_else_is():
    scaffold, names = CELLS["test-answer"]["metadata"]["scaffold"], {"torch": torch}
    run(scaffold, names, "<scaffold>")
    assert check._is_scaffold(names["keeps_the_mean"])
    for old, new in (("0.5", "0.4"), ("< 0.1", "> 0.1"), ("x.mean()", "x.std()")):
        assert scaffold.count(old) == 1
        run(scaffold.replace(old, new), names, "<changed>")
        assert not check._is_scaffold(names["keeps_the_mean"])


@pytest.mark.parametrize("fault", TEST_CHECKS)
def test_the_implementations_have_their_fault_and_no_other(fault):
    """The exact mean of each value, at p = 0.8, from many calls."""
    if fault == "seed":
        return
    function, p, g = check._implementation(fault), 0.8, torch.Generator().manual_seed(5)
    x = torch.tensor([[1.0, -2.0], [3.0, -1.0]]).view(2, 2, 1, 1)
    n = 1000
    mean = sum(function(x, p, generator=g) for _ in range(n)) / n
    ratio = torch.ones(2, 2)
    if fault in ("no scale", "zeros", "scaled by 1/p"):
        ratio *= {"no scale": 1 - p, "zeros": 0, "scaled by 1/p": (1 - p) / p}[fault]
    elif fault == "positive inputs only":
        ratio *= x.view(2, 2) > 0
    elif fault == "single channels":
        ratio *= torch.tensor([1.5, 0.5])
    elif fault == "the first channel only":
        ratio[:, 0] = 1 - p
    elif fault == "the second sample only":
        ratio[1] = 1 - p
    elif fault == "divided by the kept share":
        ratio *= 1 - p**4
    error = ((mean / x).view(2, 2) - ratio).abs()
    assert error.max() < 5 * (p / (1 - p) / n) ** 0.5
    assert function.__name__ == "dropout"


# --- exercise 9: read the rows --------------------------------------------------------

ROWS = {name: right for name, (right, _) in check._ROWS.items()}
ROWS["conclusion"] = check._CONCLUSIONS[1]


def test_the_solution_of_the_rows_is_what_the_rows_say():
    names = {}
    for cell in ("imports", "rows-data", "rows-answer"):
        run(CELLS[cell]["source"], names, f"<{cell}>")
    for name, right in ROWS.items():
        got = names[name]
        assert (
            got == right
            if name in ("better", "conclusion")
            else abs(got - right) < 1e-3
        )
    assert_found(check.averaging_rows(**{name: names[name] for name in ROWS}), 4, {})


def test_the_rows_are_those_of_the_study():
    names = {}
    run(CELLS["rows-data"]["source"], names, "<rows-data>")
    study = load_study(PLANS / "compare.toml")
    masked = study.values("noisy: spatial", "mc_accuracy")
    stored = {"one_masked": masked[:, 0], "sixteen": masked[:, 4]}
    stored["plain"] = study.values("noisy: spatial", "mc_off_accuracy")
    for name, values in stored.items():
        assert values.round(3).tolist() == names[name]


def test_every_slip_of_the_rows_has_a_sentence_of_its_own():
    for name, (_, slips) in check._ROWS.items():
        told = []
        for number, words in slips.items():
            report = check.averaging_rows(**ROWS | {name: number})
            assert_found(report, 4, {name: words[:40]})
            told.append(report.diagnoses[name])
        assert len(told) == len(set(told))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"over_masked": 2.8, "over_plain": 0.6}, {}),
        ({"better": torch.tensor(11)}, {}),
        ({"over_plain": 1.7}, {"over_plain": "got 1.7: subtract net by net"}),
        ({"better": "eleven"}, {"better": "expected a number, got a str"}),
        (
            {"conclusion": check._CONCLUSIONS[0]},
            {"conclusion": "which pass would you use"},
        ),
        ({"conclusion": check._CONCLUSIONS[2]}, {"conclusion": "trained apart"}),
        ({"conclusion": "nothing"}, {"conclusion": "not one of the 3 answers"}),
    ],
)
def test_other_answers_on_the_rows(answer, expected):
    assert_found(check.averaging_rows(**ROWS | answer), 4, expected)
