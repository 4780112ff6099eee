"""Plans add up, and what they name exists; no objective is left alone."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from regdrop_lite.course.study.report import load_study
from regdrop_lite.course.study.statistics import t_interval
from regdrop_lite.course.teach.plans import (
    Course,
    Item,
    Plan,
    _compare,
    _orphans,
    matrix_markdown,
    plan_faults,
    plan_markdown,
    read_plans,
    sections_markdown,
)

ROOT = Path(__file__).parents[2]
TEACH = ROOT / "book" / "teach"
COURSE = Course.read(ROOT)
PLANS = read_plans(ROOT)
every_plan = pytest.mark.parametrize("name", PLANS)


def test_the_chapters_and_their_data_fit_together():
    assert COURSE.faults == ()
    assert len(COURSE.objectives) >= 36 and len(COURSE.exercises) >= 29


def test_the_plans_that_the_guide_promises_are_there():
    sizes = {name: (len(plan.sessions), plan.minutes) for name, plan in PLANS.items()}
    assert sizes["lab"] == (1, 180) and sizes["day"] == (4, 90)
    assert sizes["two-weeks"] == (10, 90) and sizes["six-weeks"] == (6, 90)
    assert sizes["four-sessions"] == sizes["two-labs"] == (4, 90)
    assert sizes["lecture-and-lab"] == (2, 90)
    assert [s.minutes for s in PLANS["lecture-and-lab"].sessions] == [None, 180]
    pages = "".join(path.read_text("utf-8") for path in TEACH.glob("*.md"))
    for name in PLANS:
        assert f"```{{timetable}} {name}\n" in pages, name


@every_plan
def test_a_plan_adds_up(name):
    """Sums, order, prerequisites and names, as in the build of the site."""
    assert plan_faults(name, PLANS[name], COURSE) == []


@every_plan
def test_a_timetable_runs_from_zero_to_the_end(name):
    plan = PLANS[name]
    rows = re.findall(
        r"^\| (\d+):(\d\d) \| (\d+):(\d\d) \| (.+?) \| (.*?) \| (.*?) \|$",
        plan_markdown(plan, COURSE),
        re.M,
    )
    wanted = [session.minutes or plan.minutes for session in plan.sessions]
    now, ends = 0, 0
    for *clock, _what, _how, _late in rows:
        start, end = (60 * int(clock[i]) + int(clock[i + 1]) for i in (0, 2))
        assert start == now and end - start >= 5
        now, ends = (0, ends + 1) if end == wanted[ends] else (end, ends)
    assert ends == len(plan.sessions) and now == 0


@pytest.mark.parametrize(
    "name",
    [
        "lab",
        "lecture-and-lab",
        "two-labs",
        "day",
        "two-weeks",
        "four-sessions",
        "six-weeks",
    ],
)
def test_a_module_leaves_time_for_what_is_left_open(name):
    sessions = PLANS[name].sessions
    buffers = [any(i.talk == "Buffer" for i in s.items) for s in sessions]
    assert any(buffers) and all(buffers[:-1])


@pytest.mark.parametrize(
    ("name", "chapters"),
    [("lecture-and-lab", {1}), ("two-weeks", {1, 2, 3, 4}), ("six-weeks", {1, 2, 3})],
)
def test_a_module_has_its_quizzes(name, chapters):
    plan = PLANS[name]
    assert {i.quiz for s in plan.sessions for i in s.items} - {None} == chapters
    text = plan_markdown(plan, COURSE)
    for page in re.findall(r"\(\.\./exercises/(\w+_quiz\.md)\)", text):
        assert (ROOT / "book" / "exercises" / page).is_file(), page


def test_a_plan_says_which_items_and_which_chapters():
    """Without "items", a quiz has those whose objectives are taught by then."""
    rows = [{"section": f"1 {s.title}"} for s in COURSE.of(1) if s.page < "01b"]
    text = plan_markdown(plan_of(*rows, QUIZ | {"minutes": 20}), COURSE)
    assert "_quiz.md), items 1–5, 8, 9 |" in text
    assert "a It leaves out chapters 2, 3, 4, 5 and 6." in text
    assert "leaves out chapter 6." in plan_markdown(PLANS["two-weeks"], COURSE)
    assert "leaves out" not in plan_markdown(PLANS["chapter-3"], COURSE)
    text = plan_markdown(PLANS["two-weeks"], COURSE)
    assert re.findall(r"_quiz\.md\), items (.+?) \|", text)[:2] == ["1–9", "3–6, 9"]


def test_pages_and_sums_say_the_same_minutes_of_exercises():
    for chapter in COURSE.titles:
        exercises = [e for e in COURSE.exercises.values() if e.chapter == chapter]
        total = sum(exercise.minutes for exercise in exercises)
        (page,) = {exercise.page for exercise in exercises}
        text = (ROOT / "book" / "exercises" / f"{page}.ipynb").read_text("utf-8")
        assert f"*Time:* {total} minutes to do" in text, page
        main = (ROOT / "book" / f"{COURSE.of(chapter)[0].page}.ipynb").read_text(
            "utf-8"
        )
        (time,) = re.findall(r"\*Time:\*.+?(?=:::)", main, re.S)
        if "exercises" in time:
            assert f"{total} minutes" in time, page


def test_quizzes_say_which_items_belong_to_the_second_page():
    for chapter in COURSE.titles:
        main, early = COURSE.of(chapter)[0].page, COURSE.main(chapter)
        public = [q for q in COURSE.banks[chapter].questions if q.public]
        late = [n for n, q in enumerate(public, 1) if q.objective not in early]
        text = (ROOT / "book" / "exercises" / f"{main}_quiz.md").read_text("utf-8")
        said = re.search(r"^Items? ([\d, and]+) asks? about the \[second", text, re.M)
        assert [int(n) for n in re.findall(r"\d+", said[1] if said else "")] == late


def items(*rows):
    return [{"how": "h", "late": "l", **row} for row in rows]


def plan_of(*rows, minutes=45, home=(), **more):
    session = {"title": "t", "items": items(*rows), "home": home}
    plan = {"title": "t", "about": "a", "minutes": minutes, "sessions": [session]}
    return Plan.model_validate(plan | more)


REST = {"talk": "the rest"}
WRITE = {"section": "1 Write the function, and test it", "minutes": 10}
SCALE = {"section": "1 Scale what is kept"}  # 10 minutes, before it
ASK = {"section": "1 Write the function, and test it", "minutes": 15}
FOURTH = {"section": f"4 {COURSE.of(4)[0].title}"}  # builds on chapter 1
QUIZ = {"quiz": 1, "minutes": 10}
DECIDE = {"exercise": "ex-decide"}  # 10 minutes; a hint names a section
LAYER = {"exercise": "ex-write-layer"}  # 25 minutes; 1.6 is on the second page
FAULT = {"exercise": "ex-find-fault"}  # 20 minutes


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (plan_of(SCALE, REST | {"minutes": 40}), "50 minutes, but there are 45"),
        (plan_of({"section": "1 No such"}, REST | {"minutes": 45}), "no section '1 No"),
        (plan_of({"exercise": "ex-no"}, REST | {"minutes": 45}), "no exercise 'ex-no'"),
        (plan_of(WRITE, SCALE, REST | {"minutes": 25}), "after what builds on it"),
        (plan_of(SCALE, SCALE, REST | {"minutes": 25}), "'Scale what is kept' comes t"),
        (plan_of(FAULT, ASK, REST | {"minutes": 10}), "ex-find-fault comes before 1.2"),
        (plan_of(SCALE | {"minutes": 45}), "45 minutes for 'Scale what is kept', but"),
        (
            plan_of(
                {"section": "1 Compare a narrow layer with a wide one"},
                REST | {"minutes": 40},
            ),
            "stands before its chapter",
        ),
        (
            plan_of({"quiz": 1, "minutes": 10}, REST | {"minutes": 35}),
            "quiz on chapter 1 comes before anything",
        ),
        (
            plan_of(ASK, QUIZ | {"items": [2, 6]}, REST | {"minutes": 20}),
            "chapter 1: item 6 comes before 1.6 is taught",
        ),
        (
            plan_of(ASK, QUIZ | {"items": [2, 10]}, REST | {"minutes": 20}),
            "chapter 1 has 9 items, no item 10",
        ),
        (
            plan_of(ASK, QUIZ, REST | {"minutes": 20}, assumes=["1.1", "1.3", "1.4"]),
            "10 minutes for 6 items, but each takes 2",
        ),
        (
            plan_of(LAYER, REST | {"minutes": 20}, assumes=["1.1"]),
            "ex-write-layer comes before 1.6 is taught",
        ),
        (
            plan_of(DECIDE, REST | {"minutes": 35}, assumes=["5.1", "5.2"]),
            "ex-decide comes before the section 'Find your row'",
        ),
        (
            plan_of(FOURTH, REST | {"minutes": 45 - COURSE.of(4)[0].minutes}),
            "comes before 1.1, 1.3 is taught",
        ),
        (
            plan_of(REST | {"minutes": 45}, home=["ex-path-trace"]),
            "at home: ex-path-tra",
        ),
    ],
)
def test_a_wrong_plan_has_its_fault(plan, fault):
    (found,) = plan_faults("x", plan, COURSE)
    assert found.startswith("plan x, session 1") and fault in found


def test_what_is_known_before_is_not_asked_too_early():
    plan = plan_of(FAULT, REST | {"minutes": 25}, assumes=["1.2"])
    assert plan_faults("x", plan, COURSE) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"how": "h", "late": "l"}, "expected one of"),
        ({"section": "a", "talk": "b", "how": "h", "late": "l"}, "expected one of"),
        ({"talk": "b", "how": "h", "late": "l"}, "how many minutes"),
        ({"section": "a", "how": "h"}, '"how" and "late"'),
        ({"section": "a", "how": "h", "late": "l", "items": [1]}, "only a quiz"),
        ({"break": "b", "minutes": 3}, "greater than or equal to 5"),
        ({"break": "b", "minutes": 15, "room": 2}, "room"),
    ],
)
def test_a_wrong_item_is_refused(row, message):
    with pytest.raises(ValidationError, match=message):
        Item.model_validate(row)


def test_a_break_needs_no_words():
    assert Item.model_validate({"break": "Break", "minutes": 15}).pause == "Break"


def test_an_orphan_is_found():
    without_section = replace(
        COURSE,
        sections=tuple(s for s in COURSE.sections if "1.8" not in s.objectives),
    )
    assert list(_orphans(without_section)) == ["objective 1.8: no section teaches it"]
    fewer = {n: o for n, o in COURSE.objectives.items() if n != "3.9"}
    found = list(_orphans(replace(COURSE, objectives=fewer)))
    assert found == [
        "objective 3.9: a section names it, but no chapter has it",
        "objective 3.9: a question names it, but no chapter has it",
    ]
    bank = COURSE.banks[2]
    kept = tuple(q for q in bank.questions if q.objective != "2.6")
    banks = {**COURSE.banks, 2: bank.model_copy(update={"questions": kept})}
    assert list(_orphans(replace(COURSE, banks=banks))) == [
        "objective 2.6: no question asks for it"
    ]


def test_a_section_that_is_not_listed_is_found():
    listed = COURSE.of(1)[:2]
    page, (first, second) = listed[0].page, [section.title for section in listed]
    closing = "## Take away\n## What this page does not show\n"
    text = f"## {first}\n## {second}\n{closing}"
    assert list(_compare(page, text, listed)) == []
    (missing,) = _compare(page, f"## New\n{text}", listed)
    assert "'New'" in missing and "is missing" in missing
    (gone,) = _compare(page, f"## {first}\n{closing}", listed)
    assert second in gone and "has no section" in gone
    (order,) = _compare(page, f"## {second}\n## {first}", listed)
    assert "another order" in order


@pytest.mark.parametrize("chapter", COURSE.titles)
def test_tables_hold_every_objective_and_section(chapter):
    matrix = matrix_markdown(COURSE, chapter)
    for number, objective in COURSE.objectives.items():
        line = f"| **{number}** {objective.text} |"
        assert (line in matrix) is number.startswith(f"{chapter}.")
    table = sections_markdown(COURSE, chapter)
    minutes = [int(n) for n in re.findall(r"\| \*\*(\d+)\*\* \|", table)]
    assert sum(minutes) == sum(section.minutes for section in COURSE.of(chapter))
    assert all(section.link in table for section in COURSE.of(chapter))


# --- the pages --------------------------------------------------------------------


def test_the_prerequisites_have_fourteen_items_with_remedies():
    text = (TEACH / "guide.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", text, re.M)
    assert [int(row[0]) for row in rows] == list(range(1, 15))
    shapes = 0
    for _, question, answer, _ in rows:
        for code in re.findall(r"`(torch\.(?:ones|einsum).+?)`", question):
            found = eval(code, {"torch": torch})
            assert answer == str(tuple(found.shape)), code
            shapes += 1
    assert shapes == 3


def test_the_timetable_of_the_study_says_what_to_do_when_late():
    text = (TEACH / "study.md").read_text(encoding="utf-8")
    (head,) = re.findall(r"^\| from \|.*$", text, re.M)
    assert head.endswith("| when late |")
    assert len(re.findall(r"^\| \d:\d\d (?:\| [^|]+){4} \|$", text, re.M)) == 6


def test_measured_minutes_have_their_columns():
    with (TEACH / "runs.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:6] == [
        *("date", "plan", "session", "item"),
        *("planned_minutes", "measured_minutes"),
    ]
    assert all(row[1] in PLANS and len(row) == len(header) for row in rows)


def test_model_answers_stay_in_the_archive():
    assert "answers" not in (ROOT / "_toc.yml").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in TEACH.glob("*.md")]
    checked = 0
    for path in (TEACH / "answers").glob("*.md"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"- \*|\d\. ", line):
                assert not any(line[:60] in page for page in pages), line
                checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    ("name", "shows"),
    [
        ("version_a", "channels fall together"),
        ("version_b", "no scale"),
        ("version_c", "p keeps"),
    ],
)
def test_the_three_versions_break_what_the_archive_says(name, shows):
    text = (TEACH / "answers" / "chapter_1.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"```python\n(def {name}\(.*?)```", text, re.S)
    names: dict = {"torch": torch}
    exec(code, names)
    g = torch.Generator().manual_seed(20261129)
    x = torch.ones(400, 16, 2, 2, dtype=torch.float64)
    y = names[name](x, 0.3, generator=g)[:, :, 0, 0]
    together = bool((y == y[:, :1]).all())
    unscaled = bool(((y == 0) | (y == 1)).all())
    kept = (y != 0).double().mean().item()
    assert (together, unscaled, kept < 0.5) == {
        "channels fall together": (True, False, False),
        "no scale": (False, True, False),
        "p keeps": (False, False, True),
    }[shows]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("noisy: spatial", "noisy: none"),
        ("noisy: spatial", "noisy: stopped"),
        ("clean: spatial", "clean: none"),
    ],
)
def test_the_sample_reports_have_the_numbers_of_the_rows(first, second):
    study = load_study(ROOT / "book" / "results" / "plans" / "compare.toml")
    d = study.values(first, "accuracy") - study.values(second, "accuracy")
    low, high = t_interval(d)
    text = (TEACH / "answers" / "project.md").read_text(encoding="utf-8")
    numbers = rf"{d.mean():.3f}\D+(95 % interval from )?{low:.3f} to {high:.3f}"
    assert re.search(numbers, text), (d.mean(), low, high)
    if "15 of 15 pairs" in text and second == "noisy: stopped":
        assert (d > 0).all() and len(d) == 15
    if second == "clean: none":
        assert f"{(d > 0).sum()} of {len(d)} pairs" in text


def test_points_of_the_sample_reports_add_up():
    text = (TEACH / "answers" / "project.md").read_text(encoding="utf-8")
    for report in text.split("## Report ")[1:]:
        (total,) = re.findall(r"^\d: (\d+) of 12 points", report)
        marks = re.search(r"^- \*Plan.*", report, re.M | re.S)[0]
        points = re.findall(r"(?:plan|comparison|numbers|conclusion) (\d)", marks, re.I)
        assert len(points) == 4 and sum(map(int, points)) == int(total)
