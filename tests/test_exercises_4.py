"""The checks of the DropBlock exercises name the faults of wrong answers."""

import json
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


def diagnoses(report: Report) -> str:
    return " ".join(report.diagnoses)


def test_wrong_answers_get_a_diagnosis(room) -> None:
    assert "one block" in diagnoses(room["check_grow"](wrong_rectangle))
    assert "blocks that touch" in diagnoses(room["check_solve"](textbook))
    everything, nothing = (lambda f: True), (lambda f: False)
    named = diagnoses(room["check_test"](everything))
    assert named == "single elements flat blocks larger blocks smaller blocks"
    assert diagnoses(room["check_test"](nothing)) == "right"
    right, check = room["drop_one_block"], room["check_one_block"]
    assert diagnoses(check(unscaled(right))) == "the mean"
    assert "own places" in diagnoses(check(same_place(right)))
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
    assert "single elements" in named and "right" not in named


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
