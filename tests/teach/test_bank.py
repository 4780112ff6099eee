"""The question banks: complete, right, and without answers where learners look."""

import itertools
import json
import math
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from pydantic import ValidationError
from torch import nn

from regdrop_lite import DropPath, LinearRamp, drop_block_gamma, drop_path_rates
from regdrop_lite.course.teach import archive, exam
from regdrop_lite.course.teach.bank import (
    Bank,
    Numeric,
    accepted_range,
    read_bank,
    write_number,
)
from regdrop_lite.course.teach.exam import make_exam
from regdrop_lite.course.teach.paper import paper
from regdrop_lite.course.teach.quiz import quiz_markdown

ROOT = Path(__file__).parents[2]
BANKS = {
    int(path.stem.removeprefix("chapter_")): read_bank(
        ROOT, int(path.stem.removeprefix("chapter_"))
    )
    for path in sorted((ROOT / "book" / "teach" / "bank").glob("*.yml"))
}
NUMERICS = {q.id: q for bank in BANKS.values() for q in bank.numerics}
every_bank = pytest.mark.parametrize("bank", BANKS.values(), ids=BANKS.keys())


@every_bank
def test_a_bank_has_enough_of_every_kind(bank):
    """On the site and for exams."""
    assert len(bank.choices) >= 8 and len(bank.numerics) >= 3 and len(bank.opens) >= 2
    for public in (True, False):
        assert sum(q.public is public for q in bank.choices) >= 5
        assert sum(q.public is public for q in bank.numerics) >= 2


@every_bank
def test_nothing_gives_the_right_option_away(bank):
    """It is neither always the longest nor always in one place."""
    longest = [
        max(q.options, key=lambda option: len(option.text)).right is not None
        for q in bank.choices
    ]
    assert sum(longest) <= 0.6 * len(longest)
    places = set()
    for number, text in enumerate(quiz_markdown(bank).split("\n\n**")):
        verdicts = re.findall(r"^\*\*(Right|Not so)", text, re.M)
        if verdicts:
            assert verdicts.count("Right") == 1, number
            places.add(verdicts.index("Right"))
    assert len(places) > 1


# --- the numbers, by other ways ---------------------------------------------------


def masks(rates):
    """Every mask of independent coins with its probability."""
    for mask in itertools.product((0, 1), repeat=len(rates)):
        yield (
            mask,
            math.prod(1 - p if m else p for m, p in zip(mask, rates, strict=True)),
        )


def spread(rates, value):
    """The variance of a function of the masks, by listing them."""
    mean = sum(w * value(m) for m, w in masks(rates))
    return sum(w * (value(m) - mean) ** 2 for m, w in masks(rates))


def dropped_of_line(h, g):
    total = 0.0
    for seeds, weight in masks([1 - g] * (h - 1)):
        fallen = {i + j for i, seed in enumerate(seeds) if seed for j in (0, 1)}
        total += weight * len(fallen) / h
    return total


def seed_places(k, h, i, j):
    starts = range(h - k + 1)
    return sum(
        a <= i < a + k and b <= j < b + k for a, b in itertools.product(starts, starts)
    )


def restored_variance(r):
    """From the inverse of the covariance of a window of 3 x 3 (a Markov field)."""
    line = torch.tensor(
        [[r ** abs(a - b) for a in range(3)] for b in range(3)], dtype=torch.float64
    )
    return 1 - 1 / torch.kron(line, line).inverse()[4, 4].item()


def expected_errors(p, w, xs, ys=(0.7, -1.3)):
    total = 0.0
    for mask, weight in masks([p] * len(xs)):
        fits = [x * m / (1 - p) * w for x, m in zip(xs, mask, strict=True)]
        total += weight * sum((y - f) ** 2 for y, f in zip(ys, fits, strict=True))
    return total - sum((y - x * w) ** 2 for x, y in zip(xs, ys, strict=True))


def sum_of_three(g, u):
    """By listing the two places of a block, each with its coin."""
    kept = [1 - g, (1 - g) ** 2, 1 - g]  # the ends, and the middle between them

    def total(empty):
        left, right = empty
        values = (left, left * right, right)
        return sum(u * m / q for m, q in zip(values, kept, strict=True))

    return spread([g, g], total)


def whole_variance(m, v, p):
    pairs = [
        (weight / 2, (m + sign * math.sqrt(v)) * mask[0] / (1 - p))
        for mask, weight in masks([p])
        for sign in (-1, 1)
    ]
    mean = sum(w * y for w, y in pairs)
    return sum(w * (y - mean) ** 2 for w, y in pairs)


def softmax_of_mean_logits(a, b):
    mean = sum(math.log(x / (1 - x)) for x in (a, b)) / 2
    return 1 / (1 + math.exp(-mean))


def rate_on_the_way(n, p, t):
    net = nn.Sequential(*map(DropPath, drop_path_rates(p, n)))
    ramp = LinearRamp(net, 0.0, "present", 200)
    for _ in range(t):
        ramp.step()
    return net[-2].p


def pays_from(a, b, o):
    """By halving: the rate at which both steps take as long."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if a - p * b + o > a else (low, p)
    return high


def equal_noise(n, p):
    """The rate of one coin for all, by bisection, as noisy as a coin for each."""
    wanted = n * spread([p], lambda m: m[0] / (1 - p) / n)
    low, high = 0.0, 0.9
    for _ in range(80):
        rate = (low + high) / 2
        if spread([rate], lambda m, rate=rate: m[0] / (1 - rate)) < wanted:
            low = rate
        else:
            high = rate
    return low


OTHER_WAYS = {
    "noise-of-a-value": lambda p, x: spread([p], lambda m: x * m[0] / (1 - p)),
    "spread-of-the-share": lambda p, c: math.sqrt(
        sum(
            math.comb(c, k) * (1 - p) ** k * p ** (c - k) * (k / c - (1 - p)) ** 2
            for k in range(c + 1)
        )
    ),
    "exactly-k": lambda c, p, k: sum(w for m, w in masks([p] * c) if sum(m) == k),
    "ceiling": restored_variance,
    "what-arrives": lambda p, n: 1 - sum(p * (1 - p) ** i for i in range(n)),
    "exact-scale": lambda c, p: (
        math.comb(c, round(p * c)) / math.comb(c - 1, round(p * c))
    ),
    "same-channels": lambda c, p: sum(w * w for _, w in masks([p] * c)),
    "added-variance": lambda p, c, t: c * spread([p], lambda m: t * m[0] / (1 - p)),
    "one-after-another": lambda p, r: spread(
        [p, r], lambda m: m[0] * m[1] / ((1 - p) * (1 - r))
    ),
    "groups": lambda a, b, p: spread([p, p], lambda m: (a * m[0] + b * m[1]) / (1 - p)),
    "line-of-three": sum_of_three,
    "equal-noise": equal_noise,
    "whole-variance": whole_variance,
    "penalty": lambda a, b, w, p: expected_errors(p, w, (a, b)),
    "mean-loss": lambda a, b: math.log((a + b) / 2 / math.sqrt(a * b)),
    "geometric": softmax_of_mean_logits,
    "still-weights": lambda n, p: sum(w for m, w in masks([p] * n) if not any(m)),
    "likeliest-net": lambda n, p: max(w for _, w in masks([p] * n)),
    "enough-passes": lambda s, e: next(
        n for n in itertools.count(1) if s <= e * math.sqrt(n)
    ),
    "expected-depth": lambda n, p: sum(1 - r for r in drop_path_rates(p, n, "linear1")),
    "depth-variance": lambda a, b: spread([0, a, b], sum),
    "branch-noise": lambda p, x, f: spread([p], lambda m: x + m[0] / (1 - p) * f),
    "all-dropped": lambda n, p: sum(w for m, w in masks([p] * n) if sum(m) == 0),
    "pairs": lambda n, m: (
        sum({0, 1} <= {*s} for s in itertools.combinations(range(n), m))
        / math.comb(n, m)
    ),
    "whole-net": lambda a, b, c: sum(w for m, w in masks([0, a, b, c]) if all(m)),
    "uncalled-somewhere": lambda b, r, p: sum(
        w for m, w in masks([p] * (b * r)) if not all(m)
    ),
    "places": seed_places,
    "textbook-rate": lambda h, k, p: (
        p
        * h
        * h
        / (seed_places(1, h - k + 1, 0, 0) * len(range(h - k + 1)) ** 2 * k * k)
    ),
    "real-share": dropped_of_line,
    "clip-rate": lambda k, p: drop_block_gamma((28, 28), k, p, border="clip"),
    "corner-weight": lambda c, g: 1 / math.prod([1 - g] * c),
    "seeds-of-a-map": lambda h, k, g: sum(
        g / k**2 * seed_places(k, h, i, j) for i in range(h) for j in range(h)
    ),
    "untouched-map": lambda h, k, g: math.prod(
        1 - g for _ in itertools.product(range(h - k + 1), repeat=2)
    ),
    "rate-of-a-block": lambda p, n, i: drop_path_rates(p, n)[i],
    "branches-of-a-vit": lambda n, p: 2 * sum(drop_path_rates(p, n)),
    "never-reached": lambda n, p: drop_path_rates(p, n, "linear0")[-1],
    "error-of-a-gain": lambda n, s: math.sqrt(sum((s / n) ** 2 for _ in range(n))),
    "layers-found": lambda n: sum(2 for p in drop_path_rates(0.1, n) if p),
    "rate-on-the-way": rate_on_the_way,
    "pays-from": pays_from,
    "error-of-a-share": lambda p, n: math.sqrt(
        spread([p] * 2, lambda m: sum(m) / 2) / (100 * n)
    ),
    "gap-of-a-bin": lambda n, c, k: sum([c - 1] * k + [c] * (n - k)) / n,
}


@pytest.mark.parametrize("name", NUMERICS)
def test_numbers_agree_with_another_way(name):
    """For all values that an exam can draw."""
    question = NUMERICS[name]
    for values in itertools.product(*question.values.values()):
        drawn = dict(zip(question.values, values, strict=True))
        expected = OTHER_WAYS[name](**drawn)
        assert question.answer(drawn) == pytest.approx(expected, rel=1e-9), drawn
        # What is asked for has to be enough to tell a right answer.
        text = write_number(expected, question.digits)
        rel = 0.6 * 10 ** (1 - question.digits) if question.digits else 0
        assert float(text) == pytest.approx(expected, rel=rel)
        low, high = map(float, accepted_range(expected, question.digits))
        assert low <= float(text) <= high and low <= expected <= high
        if question.digits:
            unit = 10.0 ** (math.floor(math.log10(expected)) + 1 - question.digits)
            assert high - low == pytest.approx(unit, rel=0.03), (text, low, high)
            # Half to even, as computers round, is as right as half up.
            even = round(
                expected, question.digits - 1 - math.floor(math.log10(expected))
            )
            assert low <= even <= high
            assert len(text.replace(".", "").lstrip("0")) == question.digits, text


@pytest.mark.parametrize(
    ("value", "digits", "text", "low", "high"),
    [
        (0.3125, 3, "0.313", "0.31200", "0.31300"),
        (0.03125, 3, "0.0313", "0.031200", "0.031300"),
        (0.0625, 2, "0.063", "0.06200", "0.06300"),
        (11.25, 3, "11.3", "11.200", "11.300"),
        (0.43, 3, "0.430", "0.42950", "0.43050"),
        (5.0, 3, "5.00", "4.9950", "5.0050"),
        (45.0, 3, "45.0", "44.950", "45.050"),
        (0.6, 3, "0.600", "0.59950", "0.60050"),
        (0.9996, 3, "1.00", "0.99910", "1.00010"),
        (0.61249999999999993, 3, "0.613", "0.61200", "0.61300"),
        (15.0, None, "15", "15", "15"),
    ],
)
def test_numbers_are_rounded_by_hand(value, digits, text, low, high):
    """Half up, with the zeros that were asked for; a tie accepts both neighbours."""
    assert write_number(value, digits) == text
    assert accepted_range(value, digits) == (low, high)


def test_no_other_way_is_left_over():
    assert set(OTHER_WAYS) == set(NUMERICS)


def dropped_share(h, k, g, counts):
    covered = [counts(i) for i in range(h)]
    return sum(1 - (1 - g) ** (a * b) for a in covered for b in covered) / h**2


def test_numbers_of_choices_and_samples_are_right():
    """What options and sample answers say, computed."""
    banks = {n: json.dumps(bank.model_dump()) for n, bank in BANKS.items()}

    def says(chapter, text, value, places):
        assert text in banks[chapter] and f"{value:.{places}f}" in text, (text, value)

    three = math.comb(12, 3) * 0.25**3 * 0.75**9
    says(1, "Exactly 3 are dropped in 26 %", 100 * three, 0)
    above = sum(math.comb(12, k) * 0.25**k * 0.75 ** (12 - k) for k in range(4, 13))
    says(1, "More than 3 are dropped in 35 %", 100 * above, 0)
    deviation = math.sqrt(48 * 0.25 * 0.75)
    says(1, "standard deviation 3, so 16 lies 1.33", (16 - 12) / deviation, 2)
    says(1, "would be 13 of them", (16 - 12) / (deviation / 10), 0)

    weights, nets = (0.64, 0.16, 0.16, 0.04), (0.9, 0.6, 0.5, 0.2)
    mean = sum(w * p for w, p in zip(weights, nets, strict=True))
    loss = -sum(w * math.log(p) for w, p in zip(weights, nets, strict=True))
    says(2, "0.274 for the mean prediction", -math.log(mean), 3)
    says(2, "0.324 on average", loss, 3)
    says(2, "0.105 for the best", -math.log(max(nets)), 3)
    for signs, expected in (((1, 1), "4.5, 8, 0"), ((1, -1), "4.5, 8, 16")):
        a, b = [3, 1], [-2 * signs[1]] * 2
        groups = [[[x] for x in a + b], [a, b], [a + b]]
        noises = [
            spread(
                [0.2] * len(g), lambda m, g=g: sum(map(sum, itertools.compress(g, m)))
            )
            / 0.64
            for g in groups
        ]
        assert ", ".join(f"{n:.3g}" for n in noises) == expected
        assert expected in banks[2]

    for p in (0.1, 0.3, 0.5):
        alone = sum(weight for mask, weight in masks([p, p]) if sum(mask) == 1)
        assert alone == pytest.approx(2 * p * (1 - p)) and alone <= 0.5
    assert (
        "exactly one of the two is dropped in a share $2pq$"
        in BANKS[2].questions[0].options[1].why
    )

    at_most_six = sum(w for m, w in masks([0.2] * 10) if sum(m) <= 6)
    assert round(1 / at_most_six) == 8 and "one of eight draws" in banks[3]
    says(3, "standard deviation of 0.13", math.sqrt(0.2 * 0.8 / 10), 2)
    law = [0.0] * 4
    for mask, weight in masks([0.1, 0.4, 0.5]):
        law[sum(mask)] += weight
    says(3, "0.02, 0.23, 0.48, 0.27", law[0], 2)
    assert [round(x, 12) for x in law] == [0.02, 0.23, 0.48, 0.27]
    says(3, "variance 0.58", spread([0.1, 0.4, 0.5], sum), 2)
    says(3, "the variance 0.67", 3 * 2 / 9, 2)
    says(3, "0.536 instead of 0.5625", 30 / 56, 3)

    def rate(h, k, p):
        return p * h**2 / (k**2 * (h - k + 1) ** 2)

    def inside(h, k):
        return lambda i: min(i + 1, k, h - k + 1, h - i)

    def around(h, k):
        return lambda i: min(i, k // 2) + min(h - 1 - i, k // 2) + 1

    g = rate(28, 7, 0.3)
    says(4, "drops 0.25 of the", dropped_share(28, 7, g, inside(28, 7)), 2)
    says(4, "That drops 0.35", dropped_share(28, 7, g, around(28, 7)), 2)
    g = rate(10, 5, 0.1)
    says(4, "A drops 0.093", dropped_share(10, 5, g, inside(10, 5)), 3)
    says(4, "B 0.193", dropped_share(10, 5, g, around(10, 5)), 3)


# --- where learners look ----------------------------------------------------------


@every_bank
def test_the_page_shows_public_questions_alone(bank):
    page = quiz_markdown(bank)
    for question in bank.questions:
        text = question.text
        if isinstance(question, Numeric):
            text = question.fill(text, question.first())
        assert (text in page) is question.public, question.id
    for question in bank.opens:
        assert not any(level.sample[:60] in page for level in question.rubric)


def words(text):
    """Words and numbers, in order."""
    return re.findall(r"\d+(?:\.\d+)?|[a-z]+", text.lower().replace(",", ""))


def runs(text, length):
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def telling(text):
    return {word for word in words(text) if len(word) > 3 or word[0].isdigit()}


@pytest.fixture(scope="module")
def public():
    """Every paragraph, point and table row of the site, and its quizzes."""
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    texts = [quiz_markdown(bank) for bank in BANKS.values()]
    for name in re.findall(r"(?:root|file): (\S+)", toc):
        for path in ROOT.glob(f"{name}.*"):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                cells = json.loads(text)["cells"]
                text = "\n\n".join("".join(cell["source"]) for cell in cells)
            texts.append(text)
    assert len(texts) > 30
    blocks = [b for text in texts for b in re.split(r"\n\s*\n|\n(?=\||- )", text)]
    return [(block, runs(block, 8), telling(block)) for block in blocks]


def given_away(question, public):
    """The public texts that ask the same: eight words in a row, or most of all."""
    mine, said = runs(question, 8), telling(question)
    return [
        block
        for block, theirs, told in public
        if mine & theirs or (len(block) < 900 and len(said & told) >= 0.75 * len(said))
    ]


@every_bank
def test_no_exam_question_stands_on_the_site(bank, public):
    for question in bank.questions:
        if not question.public:
            assert given_away(question.text, public) == [], question.id


@pytest.mark.parametrize(
    "question",
    [
        'A report says: "At $p = 0.5$ our layer dropped 55 % of 64 channels, so it is '
        'biased." Answer with a calculation, and say how you would test the layer.',
        "Three thinned nets, equally likely, give the true class the probabilities 0.8,"
        " 0.8 and 0.1. Compute the loss of the arithmetic mean, of the average net and "
        "of the best net. Which order between them is a theorem, and which is not?",
        "A colleague measures a dropped share of 0.21 at $p = 0.1$, on maps of "
        r"$14 \times 14$ with blocks of 7. What does her code do, most likely?",
    ],
)
def test_a_question_that_stands_on_the_site_is_found(question, public):
    assert given_away(question, public)


@every_bank
def test_an_exam_comes_from_its_seed(bank):
    first, again, other = (make_exam([bank], seed) for seed in (7, 7, 8))
    assert first == again and first.paper != other.paper
    assert first.paper.count("## Question") == 8
    for question in bank.questions:
        if question.public:
            assert f", {question.id}*" not in first.answers
    assert first.answers.count("*Chapter ") == 8


@every_bank
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_paper_holds_no_answer(bank, seed):
    made = make_exam([bank], seed, choice=5, numeric=2, essay=2)
    for question in bank.choices:
        for option in question.options:
            assert option.why not in made.paper
            assert option.slip is None or option.slip not in made.paper
    for question in bank.opens:
        for level in question.rubric:
            assert level.sample not in made.paper and level.sample in made.answers
    ends = r"\. | \(accepted: "  # a whole number has no range
    answers = re.findall(rf"^\*\*([\d.]+)\*\*(?:{ends})", made.answers, re.M)
    for answer in answers:
        asked = re.findall(r"(?<![\d.])" + re.escape(answer) + r"(?![\d.])", made.paper)
        assert not asked or len(answer) < 3, answer
    assert len(answers) == 2
    assert made.answers.count("- [x] ") == 5 and "[x]" not in made.paper


def test_an_exam_on_the_main_pages_alone(tmp_path, monkeypatch, capsys):
    """Chapter 1 teaches 1.1 to 1.5 on its main page; six choices there are private."""
    monkeypatch.chdir(ROOT)
    out = ["--out", str(tmp_path), "--seed", "3", "--chapter", "1"]
    exam.main([*out, "--choice", "6", "--main"])
    text = (tmp_path / "exam_1_seed_3_answers.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"objective (\d\.\d+), ", text))
    assert asked <= {"1.1", "1.2", "1.3", "1.4", "1.5"} and len(asked) > 2
    exam.main([*out, "--choice", "8"])
    text = (tmp_path / "exam_1_seed_3_answers.md").read_text(encoding="utf-8")
    assert "objective 1.8, " in text or "objective 1.7, " in text, "the others, too"
    for more in (["--choice", "7", "--main"], ["--main", "--objective", "1.1"]):
        with pytest.raises(SystemExit):
            exam.main([*out, *more])
    said = capsys.readouterr().err
    assert "has 6 choice questions" in said and "not allowed with" in said


@every_bank
def test_variants_have_the_same_questions_in_another_order(bank):
    a, b = (make_exam([bank], 7, essay=2, variant=letter) for letter in "AB")
    names = [re.findall(r"^\*Chapter .*, ([\w-]+)\*$", e.answers, re.M) for e in (a, b)]
    assert names[0] != names[1] and sorted(names[0]) == sorted(names[1])
    assert (a.points, a.minutes) == (b.points, b.minutes)
    kinds = {question.id: question.kind for question in bank.questions}
    assert [kinds[n] for n in names[0]] == [kinds[n] for n in names[1]]
    numbers = [re.findall(r"^\*\*([\d.]+)\*\*", e.answers, re.M) for e in (a, b)]
    assert sorted(numbers[0]) != sorted(numbers[1]), "other values, other answers"


def test_an_exam_needs_enough_questions():
    with pytest.raises(ValueError, match=r"chapter 1 has 2 open .* but 3 were asked"):
        make_exam([BANKS[1]], 1, essay=3)
    with pytest.raises(ValueError, match=r"no question on the objective 9\.9"):
        make_exam([BANKS[1]], 1, objectives=["1.1", "9.9"])
    with pytest.raises(ValueError, match=r"no question with the id nobody"):
        make_exam([BANKS[1]], 1, exclude=["nobody"])


def test_objectives_and_last_years_questions_are_heeded():
    """All that is left is drawn, and nothing else."""
    numbers = [q for q in BANKS[1].numerics if q.objective == "1.2" and not q.public]
    names = {question.id for question in numbers}
    assert len(names) == 2
    for left_out in names:
        rest = {"objectives": ["1.2"], "exclude": [left_out]}
        made = make_exam([BANKS[1]], 1, 0, 1, 0, **rest)
        (left,) = names - {left_out}
        assert f", {left}*" in made.answers
        with pytest.raises(ValueError, match=r"has 1 numeric questions to draw from"):
            make_exam([BANKS[1]], 1, 0, 2, 0, **rest)


@every_bank
def test_a_paper_can_be_printed(bank):
    """Formulas are set, boxes can be ticked, and there is space for each answer."""
    made = make_exam([bank], 7)
    asked, answered = paper(made.paper), paper(made.answers)
    page = BeautifulSoup(asked, "html.parser")
    assert len(page.select("h2")) == 8 and len(page.select("ul.options")) == 5
    assert len(page.select(".space")) == 3
    assert "\u2611" not in page.text and page.text.count("\u2610") >= 15
    solved = BeautifulSoup(answered, "html.parser")
    assert solved.text.count("\u2611") == 5 and not solved.select(".space")
    for one, text in ((page, made.paper), (solved, made.answers)):
        formulas = re.findall(r"(?<!\\)\$[^$]+\$", text)
        assert len(one.select("math")) >= len(formulas)
        assert formulas or bank.chapter > 4
        assert "$" not in one.text and "\\" not in one.text, "a formula is not set"
        assert not one.select("[src], [href], script")


def test_the_commands_write_their_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    arguments = ["--seed", "7", "--chapter", "1", "--chapter", "3"]
    exam.main([*arguments, "--out", str(tmp_path)])
    *_, last = capsys.readouterr().out.splitlines()
    (head,) = re.findall(
        r"^\d+ points, \d+ minutes", (tmp_path / "exam_1_3_seed_7.md").read_text(), re.M
    )
    assert last == head
    archive.main([str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        f"exam_1_3_seed_7{end}.{form}"
        for end in ("", "_answers")
        for form in ("md", "html")
    } <= names
    assert {
        f"chapter_{n}_{e}" for n in BANKS for e in ("answers.md", "qti.txt")
    } <= names
    monkeypatch.chdir(tmp_path)
    for command in (exam.main, archive.main):
        with pytest.raises(SystemExit):
            command(arguments if command is exam.main else [str(tmp_path / "out")])
    assert "folder of the course's repository" in capsys.readouterr().err


@every_bank
def test_every_answer_is_in_the_archive(bank):
    text = archive.answers_markdown(bank)
    for question in bank.opens:
        assert all(level.sample in text for level in question.rubric)
    assert text.count("**right: ") == len(bank.choices)


@every_bank
def test_text2qti_reads_what_we_write(bank, tmp_path):
    """By the program itself where it is installed, and by its rules everywhere."""
    text = archive.qti_text(bank)
    blocks = text.strip().split("\n\n")
    assert len(blocks) == len(bank.questions) + 1
    for number, block in enumerate(blocks[1:], 1):
        title, points, question, *rest = block.splitlines()
        assert title.startswith("Title: ") and points.startswith("Points: ")
        assert question.startswith(f"{number}. ")
        options = [line for line in rest if re.match(r"\*?[a-f]\) \S", line)]
        others = [line for line in rest if line not in options]
        ends = [line for line in others if not line.startswith("... ")]
        if options:
            assert sum(line.startswith("*") for line in options) == 1 and not ends
        else:
            (end,) = ends
            assert end == "____" or re.fullmatch(r"= (\d+|\[[\d.]+, [\d.]+\])", end)
    if program := shutil.which("text2qti"):
        (tmp_path / "quiz.txt").write_text(text, encoding="utf-8")
        command = [program, "quiz.txt"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and (tmp_path / "quiz.zip").exists(), done.stderr


# --- what is refused --------------------------------------------------------------


def choice(**changes):
    options = [{"right": "1", "why": "so"}]
    options += [{"wrong": x, "slip": f"s{x}", "why": "no"} for x in "23"]
    question = {"id": "a", "kind": "choice", "objective": "1.1", "public": True}
    return question | {"text": "?", "options": options} | changes


def numeric(**changes):
    question = {"id": "a", "kind": "numeric", "objective": "1.1", "public": True}
    question |= {"text": "<<p>>?", "values": {"p": [0.5]}, "formula": "p", "digits": 3}
    return question | {"why": "so"} | changes


def open_question(**changes):
    rubric = [
        {"level": level, "asks": "a", "sample": "s"}
        for level in ("sufficient", "good", "very good")
    ]
    question = {"id": "a", "kind": "open", "objective": "1.1", "public": False}
    return question | {"text": "?", "minutes": 10, "rubric": rubric} | changes


def bank_of(*questions):
    return Bank.model_validate({"chapter": 1, "title": "t", "questions": questions})


RIGHT, WRONG = choice()["options"][0], choice()["options"][1]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (choice(options=[RIGHT, RIGHT | {"right": "4"}, WRONG]), "one right option"),
        (choice(options=[RIGHT, WRONG]), "at least 3"),
        (choice(options=[RIGHT, WRONG, WRONG]), "the same text"),
        (choice(options=[RIGHT, WRONG, {"wrong": "3", "why": "no"}]), 'its "slip"'),
        (choice(options=[RIGHT, WRONG, {"wrong": "3", "slip": "s"}]), "why"),
        (choice(options=[RIGHT | {"wrong": "2"}, WRONG]), 'either "right" or "wrong"'),
        (choice(objective="2.1"), "none of chapter 1"),
        (choice(kind="riddle"), "riddle"),
        (choice(id="A b"), "pattern"),
        (choice(points=3), "points"),
        (numeric(answer=0.5), "answer"),
        (numeric(formula="p + z"), "z"),
        (numeric(formula="log(p - 0.5)"), "a: log"),
        (numeric(formula="p * inf"), "finite"),
        (numeric(values={"p": [0.5, 0]}, formula="1 / p"), "division by zero"),
        (numeric(digits=None), "0.5 is no whole number"),
        (numeric(formula="__import__('os')"), "__import__"),
        (numeric(text="?"), "asks about"),
        (numeric(values={"p": []}), "at least one value"),
        (open_question(public=True), "do not belong on the site"),
        (open_question(rubric=open_question()["rubric"][::-1]), "the levels"),
        (open_question(rubric=open_question()["rubric"][:2]), "rubric"),
    ],
)
def test_a_wrong_question_is_refused(question, message):
    with pytest.raises(ValidationError, match=message):
        bank_of(question)


def test_ids_are_unique():
    bank_of(choice(), choice(id="b"), numeric(id="c"), open_question(id="d"))
    with pytest.raises(ValidationError, match="two questions have the id a"):
        bank_of(choice(), numeric())


def test_values_are_drawn_from_the_list():
    question = Numeric.model_validate(numeric(values={"p": [0.1, 0.2]}))
    drawn = {question.draw(random.Random(seed))["p"] for seed in range(20)}
    assert drawn == {0.1, 0.2}
    assert question.fill("<<p>>!", {"p": 0.10}) == "0.1!"
