"""The checks of chapter 2's exercises count the faults of wrong answers."""

import json
from pathlib import Path

import nbformat
import pytest

from regdrop_lite.course.author.student import student_version

PATH = (
    Path(__file__).parents[1] / "book/exercises/02_implicit_ensembles_exercises.ipynb"
)
NOTEBOOK = json.loads(PATH.read_text(encoding="utf-8"))
SOURCES = {c["id"]: "".join(c["source"]) for c in NOTEBOOK["cells"]}
EXERCISES = {  # how many checks
    "trace": 4,
    "groups": 3,
    "order": 4,
    "average": 4,
    "exact": 4,
    "penalty": 4,
    "bug": 4,
    "test": 11,
}

pytestmark = pytest.mark.usefixtures("float64")


def run(exercise, answer):
    """The report on an answer; the last line of the check is an expression."""
    names = {}
    for cell in ("imports", "report"):
        exec(SOURCES[cell], names)
    exec(answer, names)
    for cell in ("right", "faults", "hidden"):
        exec(SOURCES.get(f"{exercise}-{cell}", ""), names)
    *code, last = SOURCES[f"{exercise}-check"].splitlines()
    exec("\n".join(code), names)
    return eval(last, names)


# The checks of the last exercise call a layer 60,000 times.
SLOWLY = [
    pytest.param(name, marks=pytest.mark.slow) if name == "test" else name
    for name in EXERCISES
]


@pytest.mark.parametrize("exercise", SLOWLY)
def test_the_solution_passes_every_check(exercise):
    report = run(exercise, SOURCES[f"{exercise}-answer"])
    assert report.total == report.passed == EXERCISES[exercise]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_student_version_runs_and_no_check_is_complete(exercise):
    version = student_version(nbformat.from_dict(NOTEBOOK))
    cells = {cell["id"]: cell for cell in version.cells}
    answer = cells[f"{exercise}-answer"]["source"]
    assert answer != SOURCES[f"{exercise}-answer"]
    report = run(exercise, answer)
    assert report.passed < report.total == EXERCISES[exercise]


@pytest.mark.parametrize(
    ("exercise", "old", "new", "found"),
    [
        (
            "trace",
            "0.04, 0.16, 0.16, 0.64]",
            "0.64, 0.16, 0.16, 0.04]",
            "probabilities",
        ),
        ("trace", "[0.0, 2.5, 5.0, 7.5]", "[0.0, 2.0, 4.0, 6.0]", "sums"),
        ("trace", "z_variance = 5.0", "z_variance = 25.0", "variance of the sum"),
        ("groups", "(sums**2).sum()", "(u**2).sum()", "channels"),
        ("groups", "p / (1 - p)", "p * (1 - p)", "single values"),
        ("order", "-fields]", "fields]", "path is silent"),
        ("order", "fields, -fields", "0 * fields, 0 * fields", "path is silent"),
        ("order", "1.0, -1.0] * 4 + [1.0]", "1.0] * 9", "element is the strongest"),
        ("order", "[1.0, -1.0] * 4 + [1.0]", "[1.0, -1.0] * 4 + [0]", "channel is not"),
        ("average", "arithmetic = 0.55", "arithmetic = 0.5", "arithmetic mean"),
        ("average", "geometric = 0.6", "geometric = 0.424", "geometric mean"),
        ("average", "0.857, 0.105", "0.598, 0.105", "four losses"),
        ("average", "0.598, 0.511", "0.26, 0.222", "four losses"),  # decimal logarithms
        ("average", "the average member", "the best member", "what follows"),
        ("average", "the average member", "one pass without masks", "what follows"),
        ("exact", '"c": True', '"c": False', "c"),
        ("exact", '"d": False', '"d": True', "a b and d"),
        ("exact", '"e": False', '"e": True', "e and f"),
        ("penalty", "(x * w).sum(dim=2)", "x * w", "all masks agree"),
        ("penalty", "(x * w).sum(dim=2)", "x * w", "cancelling values"),
        ("penalty", "**2).sum()", "**2).sum() / len(x)", "every sample"),
        ("penalty", "(x * w).sum(dim=2)", "(x * w).sum(dim=(1, 2))", "all masks agree"),
        ("penalty", "1.0, -1.0, 1.0, -1.0", "1.0, -1.0, 0.0, 0.0", "free weights"),
        ("penalty", "1.0, -1.0, 1.0, -1.0", "1.0, 1.0, 1.0, -1.0", "free weights"),
        ("penalty", ".repeat(3, 1)", "", "free weights"),
        ("bug", "(1 - p) ** kept * p **", "p ** kept * (1 - p) **", "at other rates"),
        ("bug", "telling = 0.2", "telling = 0.5", "a telling rate"),
        ("bug", "telling = 0.2", "telling = 1.0", "a telling rate"),
        ("bug", "telling = 0.2", "telling = 20", "a telling rate"),
        ("bug", "keep.shape[1] - kept", "4 - kept", "other numbers of groups"),
        ("test", "n, p, g = 1_000", "n, p, g = 15", "no scale"),
        pytest.param(
            "test",
            "(total / n - x)",
            "(total / n - total / n)",
            "zeros",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "test",
            "[[1.0, -2.0], [3.0, -1.0]]",
            "[[1.0, 2.0], [3.0, 1.0]]",
            "positive",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "test",
            "(total / n - x).abs()",
            "(total / n / x - 1).mean().abs()",
            "single channels",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "test", "< 5 * error", "< 2 * error", "right", marks=pytest.mark.slow
        ),
        pytest.param(
            "test",
            "< 5 * error).all",
            "< 5 * error)[:, 1].all",
            "the first channel",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "test",
            "< 5 * error).all",
            "< 5 * error)[0].all",
            "the second sample",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "test",
            "view(2, 2, 1, 1)",
            "repeat(50, 1)[..., None, None]",
            "divided by the",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_wrong_answer_is_found(exercise, old, new, found):
    answer = SOURCES[f"{exercise}-answer"]
    assert answer.count(old) == 1
    report = run(exercise, answer.split("\n\nkeep, weights")[0].replace(old, new))
    assert any(name.startswith(found) for name in report.diagnoses), report


LOOP = """
def group_variance(u, groups, p):
    sums = [u[groups == k].sum() for k in range(int(groups.max()) + 1)]
    return p / (1 - p) * sum(s**2 for s in sums)
"""


@pytest.mark.slow
def test_a_loop_over_groups_is_right_too():
    assert run("groups", LOOP).passed == EXERCISES["groups"]


@pytest.mark.parametrize("error", ["RuntimeError", "MemoryError"])
def test_a_matrix_for_which_there_is_no_room_is_named(error):
    answer = SOURCES["groups-answer"].replace(
        "    sums =",
        f"    if len(u) > 1000:\n        raise {error}('no room')\n    sums =",
    )
    diagnoses = run("groups", answer).diagnoses
    assert list(diagnoses) == ["large"] and "n x n" in diagnoses["large"]


def test_not_written_is_not_taken_for_no_room():
    answer = "def group_variance(u, groups, p):\n    raise NotImplementedError"
    assert set(run("groups", answer).diagnoses.values()) == {"not written yet"}


SAME_DRAW = """
def keeps_the_mean(dropout, seed):
    x = torch.randn(4, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    draws = [torch.Generator().manual_seed(seed) for _ in range(2)]
    expected = spatial_dropout(x, 0.3, generator=draws[0])
    return torch.allclose(dropout(x, 0.3, generator=draws[1]), expected)
"""


def test_a_comparison_of_draws_is_no_test_of_the_mean():
    diagnoses = run("test", SAME_DRAW).diagnoses
    assert list(diagnoses) == ["right, other masks", "right, later masks"]
    assert all("not the draw" in says for says in diagnoses.values())
