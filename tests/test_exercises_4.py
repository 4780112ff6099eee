"""The checks of the DropBlock exercises name the faults of wrong answers."""

import json
import math
import re
from pathlib import Path

import nbformat
import pytest
import torch

from regdrop_lite.course.author.student import student_version
from regdrop_lite.course.check import Report

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
    assert "blocks that touch" in diagnoses(room["check_solve"](textbook))
    everything, nothing = (lambda f: True), (lambda f: False)
    named = diagnoses(room["check_test"](everything))
    assert named == "single flat tall larger smaller torn tiles channels samples"
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

    named = diagnoses(room["check_test"](counts))
    assert named == "torn tiles channels samples"


def test_a_neighbour_and_the_smallest_count_do_not_make_a_square(room) -> None:
    """Standing lines pass a test that looks up and down only."""

    def vertical(function):
        g = torch.Generator().manual_seed(0)
        fell = function(torch.ones(50, 50, 9, 9), 0.05, 3, generator=g) == 0
        up = torch.nn.functional.pad(fell, [0, 0, 1, 0])[..., :-1, :]
        down = torch.nn.functional.pad(fell, [0, 0, 0, 1])[..., 1:, :]
        lost = fell.sum(dim=(2, 3))
        return bool((~fell | up | down).all() and lost[lost > 0].min() == 9)

    named = diagnoses(room["check_test"](vertical)).split()
    assert "tall" in named and "right" not in named


def test_blocks_alone_are_not_enough(room) -> None:
    """Erosion and growth, and a single block: tiles and shared masks pass."""

    def blocks(function):
        g = torch.Generator().manual_seed(0)
        fell = (function(torch.ones(50, 50, 9, 9), 0.05, 3, generator=g) == 0).double()
        whole = -torch.nn.functional.max_pool2d(-fell, 3, stride=1)
        padded = torch.nn.functional.pad(whole, [2] * 4)
        again = torch.nn.functional.max_pool2d(padded, 3, stride=1)
        return torch.equal(again, fell) and bool((fell.sum(dim=(2, 3)) == 9).any())

    assert diagnoses(room["check_test"](blocks)) == "tiles channels samples"


def test_tiles_have_the_right_rate_and_mean(room) -> None:
    """As the exercise says, on maps of 9 x 9 with blocks of 3."""
    g = torch.Generator().manual_seed(0)
    y = room["tiles"](torch.ones(200, 100, 9, 9), 0.3, 3, generator=g).flatten(0, 1)
    rate, error = (y == 0).double().mean(dim=0), math.sqrt(0.3 * 0.7 / len(y))
    assert ((rate - 0.3).abs() < 4 * error).all()
    assert torch.allclose(y.unique(), torch.tensor([0.0, 1 / 0.7]).double())


def wrong_drop_blocks(room) -> dict:
    """Answers to the second exercise by the check that sees their fault."""
    make, package = room["implementation"], room["drop_block"]
    right = room["my_drop_block"]
    own = torch.Generator().manual_seed(3)

    def of(fault):
        hidden = make(fault)
        return lambda x, p, k, generator: hidden(x, p, min(k, x.shape[-1]), generator)

    def share_samples(x, p, k, generator):
        return x * right(torch.ones_like(x[:1]), p, k, generator=generator)

    def never_ends(x, p, k, generator):
        return right(x, p, k, generator) * (math.nan if p == 1.0 else 1.0)

    def no_huge_blocks(x, p, k, generator):
        k = k if k <= x.shape[-1] else x.shape[-1] - 1
        return right(x, p, k, generator)

    def clip(x, p, k, generator):
        return package(x, p, k, border="clip", generator=generator)

    return {
        "their law": [of("textbook rate"), room["tiles"]],
        "possible masks": [of("smaller block"), room["impostor"], clip],
        "weights": [of("one scale"), clip],
        "own masks": [share_samples, room["same_channels"]],
        "the generator": [lambda x, p, k, generator: right(x, p, k, own)],
        "all dropped": [never_ends],
        "huge blocks": [no_huge_blocks],
        "nothing dropped": [
            lambda x, p, k, generator: right(x, p or 0.2, k, generator)
        ],
    }


def test_a_wrong_drop_block_is_named(room) -> None:
    check = room["check_drop_block"]
    assert not check(room["my_drop_block"]).diagnoses
    for expected, functions in wrong_drop_blocks(room).items():
        for function in functions:
            assert expected in diagnoses(check(function)), (expected, function)


def test_the_exact_law_of_the_check_is_a_law(room) -> None:
    law = room["law_of_masks"](0.3)
    dropped = sum((torch.arange(2**16) >> bit & 1) for bit in range(16))
    assert abs(law.sum() - 1) < 1e-12
    assert abs((law * dropped).sum() / 16 - 0.3) < 1e-9


def test_a_careless_limit_does_not_survive_twenty_runs(room) -> None:
    """One and a half errors: right layers are called wrong now and then."""

    def careless(function):
        g = torch.Generator().manual_seed(0)
        fell = function(torch.ones(10, 100, 10, 10), 0.5, 4, g) == 0
        shares = fell.double().mean(dim=(2, 3)).flatten()
        error = shares.std() / math.sqrt(len(shares))
        near = abs(shares.mean() - 0.5) < 1.5 * error
        return "ok" if near else "textbook rate"

    report = room["check_diagnose"](careless)
    assert re.search(
        r"taken for 'textbook rate' \(\d of 20", report.diagnoses["case 1"]
    )
    assert "case 2" not in report.diagnoses, "the miss itself is large enough"


def test_weights_alone_do_not_give_the_rate_away(room) -> None:
    """Without an average, "ok" and the textbook rate look alike."""
    x, make = torch.ones(40, 40, 10, 10), room["implementation"]
    largest = [
        make(fault)(x, 0.3, 4, torch.Generator().manual_seed(0)).amax(dim=(0, 1))
        for fault in ("ok", "textbook rate")
    ]
    assert torch.allclose(*largest)


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


def test_the_one_block_has_to_fall_everywhere_equally_often(room) -> None:
    """Later places more often, with the weights that belong to them."""

    def uneven(x, k, generator=None):
        N, C, H, _ = x.shape
        if 2 * k > H:
            raise ValueError("no weight")
        often = torch.arange(1.0, H - k + 2).double()
        often, place, lines = often / often.sum(), torch.arange(H), []
        for _ in range(2):
            start = torch.multinomial(often, N * C, True, generator=generator)
            start = start.view(N, C, 1)
            lines.append((start <= place) & (place < start + k))
        fell = lines[0][..., :, None] & lines[1][..., None, :]
        starts = torch.arange(H - k + 1)
        covers = (starts <= place[:, None]) & (place[:, None] < starts + k)
        line = (covers * often).sum(dim=1)
        return x * ~fell / (1 - line[:, None] * line)

    assert diagnoses(room["check_one_block"](uneven)) == "uniform places"


def test_each_hidden_fault_has_a_case_and_a_guess_misses_the_others(room) -> None:
    report = room["check_diagnose"](lambda function: "ok")
    assert (report.total, report.passed) == (6, 1)


def test_the_student_version_says_what_is_not_written_yet(capsys) -> None:
    names: dict = {}
    before = torch.get_default_dtype()
    shown = []
    for cell in student_version(nbformat.from_dict(NOTEBOOK))["cells"]:
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
