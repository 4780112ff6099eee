"""The checks of the DropBlock exercises name the faults of wrong answers."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

from regdrop_lite.course.check import Report
from regdrop_lite.course.student import student_version

NOTEBOOK = json.loads(
    (
        Path(__file__).parents[1] / "book/exercises/04_drop_block_exercises.ipynb"
    ).read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def room():
    """The notebook's names after a run of its code, student's style of cell order."""
    names: dict = {}
    before = torch.get_default_dtype()
    for cell in NOTEBOOK["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and "nbval-skip" not in tags:
            exec("".join(cell["source"]), names)
    yield names
    torch.set_default_dtype(before)


def wrong_rectangle(seeds, block):
    """Width and height mixed up."""
    height, width = block
    padded = torch.nn.functional.pad(seeds, [height - 1] * 2 + [width - 1] * 2)
    return torch.nn.functional.max_pool2d(padded, (width, height), stride=1)


def textbook(size, k, p, starts):
    return p * size**2 / k**2 / len(starts) ** 2


def unscaled(drop_one_block):
    def function(x, k, generator=None):
        return (drop_one_block(x, k, generator=generator) != 0) * x

    return function


def same_place(drop_one_block):
    def function(x, k, generator=None):
        return drop_one_block(x[:1], k, generator=generator).expand_as(x)

    return function


def same_columns(drop_one_block):
    """Each map draws its own rows, but takes the columns of the first map."""

    def function(x, k, generator=None):
        y = drop_one_block(torch.ones_like(x), k, generator=generator)
        rows = (y == 0).any(dim=3, keepdim=True)
        return x * ~(rows & (y[:1, :1] == 0).any(dim=2, keepdim=True))

    return function


def diagnoses(report: Report) -> str:
    return " ".join(report.diagnoses)


def test_wrong_answers_get_a_diagnosis(room) -> None:
    assert "one block" in diagnoses(room["check_grow"](wrong_rectangle))
    assert "blocks that touch" in diagnoses(room["check_solve"](textbook))
    everything, nothing = (lambda f: True), (lambda f: False)
    named = diagnoses(room["check_test"](everything))
    assert named == "single flat larger blocks smaller blocks torn blocks"
    assert diagnoses(room["check_test"](nothing)) == "right"
    right, check = room["drop_one_block"], room["check_one_block"]
    assert diagnoses(check(unscaled(right))) == "the mean"
    assert "own places" in diagnoses(check(same_place(right)))
    assert "own places" in diagnoses(check(same_columns(right)))
    no_square = room["impostor"]
    assert "one square" in diagnoses(
        check(lambda x, k, generator: no_square(x, 0.1, k, generator))
    )


def test_a_test_that_looks_at_single_elements_only_is_not_enough(room) -> None:
    """Rate and expectation: the impostor passes, as the exercise says."""

    def rate_and_mean(function):
        g = torch.Generator().manual_seed(0)
        y = function(torch.ones(100, 100, 9, 9), 0.2, 3, generator=g)
        rate = (y == 0).double().mean().item()
        return abs(rate - 0.2) < 0.005 and abs(y.mean().item() - 1) < 0.01

    named = diagnoses(room["check_test"](rate_and_mean))
    assert "single" in named.split() and "right" not in named


def test_counting_what_falls_is_not_enough(room) -> None:
    """Squares that are torn apart have the right numbers of elements."""

    def counts(function):
        g = torch.Generator().manual_seed(0)
        y = function(torch.ones(200, 50, 7, 7), 0.1, 3, generator=g)
        fell = (y == 0).sum(dim=(2, 3))
        return fell[fell > 0].min() == 9  # a tensor: it counts as what it says

    assert diagnoses(room["check_test"](counts)) == "torn blocks"


def test_the_rate_of_centred_blocks_is_checked_on_its_own(room) -> None:
    right = room["solve"]

    def only_two_borders(size, k, p, starts):
        if starts.start == 0 or starts.start == 1 - k:
            return right(size, k, p, starts)
        return textbook(size, k, p, starts)

    assert diagnoses(room["check_solve"](only_two_borders)) == "centred blocks"


def test_one_block_needs_its_input_its_generator_and_a_refusal(room) -> None:
    right, check = room["drop_one_block"], room["check_one_block"]

    def forgets_the_input(x, k, generator=None):
        return right(torch.ones_like(x), k, generator=generator)

    own = torch.Generator().manual_seed(3)

    def forgets_the_generator(x, k, generator=None):
        return right(x, k, generator=own)

    def never_refuses(x, k, generator=None):
        if 2 * k > x.shape[-1]:
            return torch.full_like(x, math.nan)
        return right(x, k, generator=generator)

    assert "the input" in diagnoses(check(forgets_the_input))
    assert diagnoses(check(forgets_the_generator)) == "the generator"
    assert diagnoses(check(never_refuses)) == "no weight"


def test_each_hidden_fault_has_a_case_and_a_guess_misses_the_others(room) -> None:
    report = room["check_diagnose"](lambda function: "ok")
    assert (report.total, report.passed) == (6, 1)


def test_the_student_version_says_what_is_not_written_yet(capsys) -> None:
    names: dict = {}
    before = torch.get_default_dtype()
    shown = []
    for cell in student_version(NOTEBOOK)["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or "nbval-skip" in tags:
            continue
        *body, last = "".join(cell["source"]).rstrip().split("\n")
        if re.match(r"check_\w+\(", last):
            exec("\n".join(body), names)
            shown.append(eval(last, names))
        else:
            exec("\n".join([*body, last]), names)
    torch.set_default_dtype(before)
    assert len(shown) == 6
    for report in shown:
        written = set(report.diagnoses.values())
        assert written == {"not written yet"} or report.passed == 1, report
