"""Objectives, sections, exercises and questions of the book, and plans made of them.

``book/teach/sections.yml`` says what each section teaches and how many minutes it
takes in class; ``book/teach/plans.yml`` puts sections and exercises into sessions. All
else is read from the chapters themselves: objectives from their boxes, exercises with
their minutes from the exercise notebooks. Whatever is named and does not exist, is
taught by nothing, or does not fit into its session, is a fault; the site is not built
with one.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from regdrop_lite.course.extras import needs
from regdrop_lite.course.teach.bank import Bank, Question, read_bank

with needs("course,author", "PyYAML or pydantic"):
    import yaml
    from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "Course",
    "Exercise",
    "Item",
    "Objective",
    "Plan",
    "Section",
    "Session",
    "matrix_markdown",
    "plan_faults",
    "plan_markdown",
    "read_plans",
    "sections_markdown",
]

MINUTES_AN_ITEM = 2
"""What a question of a quiz takes in class, with the talk about it."""

CLOSING = re.compile(r"Take away|What this (chapter|page) does not show")
OBJECTIVE = re.compile(r"^- \*\*(\d\.\d+)\*\* (.*?)(?=^- \*\*|^\s*$)", re.M | re.S)
EXERCISE = re.compile(
    r"^## (?P<heading>[^\n]+)\n+:+\{exercise\}[^\n]*\n:label: (?P<label>\S+)"
    r".*?\*Objectives? (?P<objectives>[\d., and]+) ·[^*]*?(?P<minutes>\d+) minutes\*",
    re.M | re.S,
)


@dataclass(frozen=True)
class Objective:
    """What a learner will be able to do, in the words of the chapter's box."""

    id: str
    text: str


@dataclass(frozen=True)
class Section:
    """A section of a chapter, with its minutes in class and what it teaches."""

    chapter: int
    page: str
    title: str
    minutes: int
    point: str
    objectives: tuple[str, ...]

    @property
    def link(self) -> str:
        """A link to it, from a page in ``book/teach``."""
        return f"[{self.title}](../{self.page}.ipynb#{_slug(self.title)})"


@dataclass(frozen=True)
class Exercise:
    """An exercise, as its notebook describes it."""

    chapter: int
    page: str
    label: str
    heading: str
    minutes: int
    objectives: tuple[str, ...]
    sections: tuple[str, ...] = ()
    """Sections that its text names, as *Find your row*. It cannot be done before."""

    @property
    def link(self) -> str:
        """A link to it, from a page in ``book/teach``."""
        return f"[{self.heading}](../exercises/{self.page}.ipynb#{_slug(self.heading)})"


def _slug(heading: str) -> str:
    """Make the site's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Course:
    """What the book teaches, where, and with what it is practised.

    Attributes:
        titles: of the chapters.
        needs: for each chapter the objectives of others that it builds on.
        objectives: by their ids.
        sections: in the order of the book.
        exercises: by their labels.
        banks: the questions of the chapters that have some.
        faults: what does not fit together.
    """

    titles: Mapping[int, str]
    needs: Mapping[int, tuple[str, ...]]
    objectives: Mapping[str, Objective]
    sections: tuple[Section, ...]
    exercises: Mapping[str, Exercise]
    banks: Mapping[int, Bank]
    faults: tuple[str, ...] = field(default=())

    @classmethod
    def read(cls, root: Path) -> "Course":
        """Read the chapters and the data files below the repository's folder."""
        book = root / "book"
        data = yaml.safe_load((book / "teach" / "sections.yml").read_text("utf-8"))
        titles, needs, banks = {}, {}, {}
        objectives: dict[str, Objective] = {}
        exercises: dict[str, Exercise] = {}
        sections: list[Section] = []
        faults: list[str] = []
        for chapter, entry in data.items():
            titles[chapter] = entry["title"]
            needs[chapter] = tuple(entry["needs"])
            banks[chapter] = read_bank(root, chapter)
            for page, rows in entry["pages"].items():
                text = _markdown(book / f"{page}.ipynb")
                for number, words in OBJECTIVE.findall(text):
                    words = " ".join(words.split()).rstrip(";. ")
                    objectives[number] = Objective(number, words)
                listed = [_section(chapter, page, row) for row in rows]
                faults += _compare(page, text, listed)
                sections += listed
            for path in sorted((book / "exercises").glob(f"{chapter:02}_*.ipynb")):
                text = _markdown(path)
                named = [s.title for s in sections if s.chapter == chapter]
                for match in EXERCISE.finditer(text):
                    task = text[match.start() :].split("\n## ")[0]
                    exercises[match["label"]] = Exercise(
                        chapter,
                        path.stem,
                        match["label"],
                        match["heading"],
                        int(match["minutes"]),
                        tuple(re.findall(r"\d\.\d+", match["objectives"])),
                        tuple(name for name in named if f"*{name}*" in task),
                    )
        course = cls(titles, needs, objectives, tuple(sections), exercises, banks)
        faults += _orphans(course)
        return cls(
            titles, needs, objectives, tuple(sections), exercises, banks, tuple(faults)
        )

    def of(self, chapter: int) -> list[Section]:
        """The sections of a chapter."""
        return [section for section in self.sections if section.chapter == chapter]

    def main(self, chapter: int) -> set[str]:
        """The objectives that the main page of a chapter teaches."""
        sections = self.of(chapter)
        page = sections[0].page
        return {n for s in sections if s.page == page for n in s.objectives}

    def find(self, name: str) -> Section:
        """A section by its chapter and its title, as ``"1 Make it a layer"``.

        Raises:
            KeyError: if there is none.
        """
        for section in self.sections:
            if name == f"{section.chapter} {section.title}":
                return section
        raise KeyError(name)


def _markdown(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return "\n\n".join(texts)


def _section(chapter: int, page: str, row: Mapping[str, Any]) -> Section:
    return Section(
        chapter,
        page,
        row["section"],
        row["minutes"],
        row["point"],
        tuple(row["objectives"]),
    )


def _compare(page: str, text: str, listed: list[Section]) -> Iterator[str]:
    """Compare the sections of a page with those that are listed for it."""
    there = [t for t in re.findall(r"^## (.+)$", text, re.M) if not CLOSING.match(t)]
    titles = [section.title for section in listed]
    for title in titles:
        if title not in there:
            yield f"sections.yml: {page} has no section {title!r}"
    for title in there:
        if title not in titles:
            yield f"sections.yml: the section {title!r} of {page} is missing"
    if sorted(titles) == sorted(there) and titles != there:
        yield f"sections.yml: {page} has its sections in another order"


def _orphans(course: Course) -> Iterator[str]:
    """Name what no section teaches, nothing practises, or nobody promised."""
    taught = {number for section in course.sections for number in section.objectives}
    asked = {q.objective for bank in course.banks.values() for q in bank.questions}
    trained = {n for exercise in course.exercises.values() for n in exercise.objectives}
    for number in course.objectives:
        if number not in taught:
            yield f"objective {number}: no section teaches it"
        if number not in asked:
            yield f"objective {number}: no question asks for it"
    for what, numbers in (
        ("a section", taught),
        ("a question", asked),
        ("an exercise", trained),
    ):
        for number in sorted(numbers - set(course.objectives)):
            yield f"objective {number}: {what} names it, but no chapter has it"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(_Model):
    """A line of a session: a section, an exercise, or something else with minutes.

    A quiz is named by its chapter. "items" names those of its questions that are asked;
    without it all are whose objectives are taught by then.
    """

    section: str | None = None
    exercise: str | None = None
    quiz: int | None = None
    items: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    talk: str | None = None
    pause: Annotated[str | None, Field(alias="break")] = None
    minutes: Annotated[int | None, Field(ge=5)] = None
    how: str = ""
    late: str = ""

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Item":
        names = (self.section, self.exercise, self.quiz, self.talk, self.pause)
        if sum(name is not None for name in names) != 1:
            raise ValueError("expected one of section, exercise, quiz, talk and break")
        if self.section is None and self.exercise is None and self.minutes is None:
            raise ValueError(f"{names}: how many minutes?")
        if self.items is not None and self.quiz is None:
            raise ValueError(f"{names}: only a quiz has items")
        if self.pause is None and not (self.how and self.late):
            raise ValueError(f'{names}: expected "how" and "late"')
        return self


class Session(_Model):
    """What is done without going home, and what is done at home afterwards.

    Attributes:
        title: of the session.
        minutes: if they differ from those of the plan.
        items: in their order.
        home: exercises.
    """

    title: str
    minutes: Annotated[int | None, Field(ge=45)] = None
    items: Annotated[tuple[Item, ...], Field(min_length=1)]
    home: tuple[str, ...]


class Plan(_Model):
    """A module.

    Attributes:
        title: of the module.
        about: for whom it is, and how.
        assumes: the objectives that the students have reached before.
        minutes: of each session that does not say its own.
        sessions: in their order.
    """

    title: str
    about: str
    assumes: tuple[str, ...] = ()
    minutes: Annotated[int, Field(ge=45)]
    sessions: Annotated[tuple[Session, ...], Field(min_length=1)]


def read_plans(root: Path) -> dict[str, Plan]:
    """Read ``book/teach/plans.yml``.

    Raises:
        pydantic.ValidationError: a ``ValueError`` that says what is wrong where.
    """
    path = root / "book" / "teach" / "plans.yml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Plan.model_validate(plan) for name, plan in data.items()}


def _minutes(item: Item, course: Course) -> int:
    if item.minutes is not None:
        return item.minutes
    if item.section is not None:
        return course.find(item.section).minutes
    return course.exercises[str(item.exercise)].minutes


def plan_faults(name: str, plan: Plan, course: Course) -> list[str]:
    """Say what does not fit: names, sums, order, and what is asked before it is taught.

    Args:
        name: of the plan, for the messages.
        plan: the plan.
        course: what it is made of.
    """
    faults: list[str] = []
    taught = set(plan.assumes)
    done: list[Section] = []

    def practise(label: str, where: str) -> None:
        if label not in course.exercises:
            faults.append(f"{where}: there is no exercise {label!r}")
            return
        exercise = course.exercises[label]
        if early := set(exercise.objectives) - taught:
            numbers = ", ".join(sorted(early))
            faults.append(f"{where}: {label} comes before {numbers} is taught")
        for title in exercise.sections:
            if title not in {s.title for s in done if s.chapter == exercise.chapter}:
                faults.append(f"{where}: {label} comes before the section {title!r}")

    for number, session in enumerate(plan.sessions, 1):
        where = f"plan {name}, session {number}"
        total = 0
        for item in session.items:
            if item.exercise is not None:
                practise(item.exercise, where)
                if item.exercise not in course.exercises:
                    continue
            if item.section is not None:
                try:
                    section = course.find(item.section)
                except KeyError:
                    faults.append(f"{where}: there is no section {item.section!r}")
                    continue
                faults += _order(section, done, taught, course, where)
                done.append(section)
                taught.update(section.objectives)
                if (item.minutes or 0) > section.minutes:
                    faults.append(
                        f"{where}: {item.minutes} minutes for {section.title!r}, but "
                        f"it takes {section.minutes}"
                    )
            if item.quiz is not None:
                faults += _quiz_faults(item, taught, course, where)
            total += _minutes(item, course)
        there = session.minutes or plan.minutes
        if total != there:
            faults.append(f"{where}: {total} minutes, but there are {there}")
        for label in session.home:
            practise(label, f"{where}, at home")
    return faults


def _asked(item: Item, taught: Collection[str], course: Course) -> tuple[int, ...]:
    """The numbers of the questions that a quiz asks, as the page counts them."""
    if item.items is not None:
        return item.items
    public = _public(item, course)
    return tuple(n for n, q in enumerate(public, 1) if q.objective in taught)


def _public(item: Item, course: Course) -> list[Question]:
    bank = course.banks.get(item.quiz or 0)
    return [question for question in bank.questions if question.public] if bank else []


def _quiz_faults(
    item: Item, taught: set[str], course: Course, where: str
) -> Iterator[str]:
    public, asked = _public(item, course), _asked(item, taught, course)
    quiz = f"{where}: the quiz on chapter {item.quiz}"
    if not asked:
        yield f"{quiz} comes before anything that it asks for is taught"
    for number in asked:
        if not 1 <= number <= len(public):
            yield f"{quiz} has {len(public)} items, no item {number}"
        elif (objective := public[number - 1].objective) not in taught:
            yield f"{quiz}: item {number} comes before {objective} is taught"
    if (item.minutes or 0) < MINUTES_AN_ITEM * len(asked):
        yield (
            f"{quiz}: {item.minutes} minutes for {len(asked)} items, but each takes "
            f"{MINUTES_AN_ITEM}"
        )


def _order(
    section: Section, done: list[Section], taught: set[str], course: Course, where: str
) -> Iterator[str]:
    if section in done:
        yield f"{where}: {section.title!r} comes twice"
    same = [other for other in done if other.chapter == section.chapter]
    main = course.of(section.chapter)[0].page
    if section.page != main and not same:
        yield f"{where}: {section.title!r} stands before its chapter"
    places = [course.sections.index(other) for other in same if other.page == main]
    place = course.sections.index(section)
    if section.page == main and max(places, default=-1) > place:
        yield f"{where}: {section.title!r} stands after what builds on it"
    if missing := set(course.needs[section.chapter]) - taught:
        numbers = ", ".join(sorted(missing))
        yield f"{where}: {section.title!r} comes before {numbers} is taught"


def plan_markdown(plan: Plan, course: Course) -> str:
    """Write a plan as tables, one for each session, for a page in ``book/teach``."""
    parts = [" ".join([plan.about, *_left_out(plan, course)])]
    taught = set(plan.assumes)
    for number, session in enumerate(plan.sessions, 1):
        if len(plan.sessions) > 1:
            parts.append(f"**Session {number}: {session.title}**")
        rows = ["| from | to | what | how | when late |", "|--:|--:|---|---|---|"]
        now = 0
        for item in session.items:
            end = now + _minutes(item, course)
            rows.append(
                f"| {_clock(now)} | {_clock(end)} | {_what(item, taught, course)} "
                f"| {item.how} | {item.late} |"
            )
            if item.section is not None:
                taught.update(course.find(item.section).objectives)
            now = end
        parts.append("\n".join(rows))
        if session.home:
            home = [course.exercises[label] for label in session.home]
            minutes = sum(exercise.minutes for exercise in home)
            names = ", ".join(f"{e.link} (chapter {e.chapter})" for e in home)
            parts.append(f"*At home, {minutes} minutes:* {names}.")
    return "\n\n".join(parts)


def _clock(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02}"


def _left_out(plan: Plan, course: Course) -> Iterator[str]:
    """Name the chapters of which a plan has no section, unless it builds on others."""
    if plan.assumes:
        return
    named = [item.section for session in plan.sessions for item in session.items]
    there = {course.find(name).chapter for name in named if name is not None}
    if missing := [str(n) for n in course.titles if n not in there]:
        *others, last = missing
        names = (
            f"chapters {', '.join(others)} and {last}" if others else f"chapter {last}"
        )
        yield f"It leaves out {names}."


def _numbers(numbers: Sequence[int]) -> str:
    """Write numbers with their runs drawn together, as in ``1–5, 8, 9``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run))
        for run in runs
    )


def _what(item: Item, taught: Collection[str], course: Course) -> str:
    if item.section is not None:
        return course.find(item.section).link
    if item.exercise is not None:
        return f"exercise: {course.exercises[item.exercise].link}"
    if item.quiz is not None:
        page = course.of(item.quiz)[0].page
        asked = _numbers(_asked(item, taught, course))
        return (
            f"[Quiz on chapter {item.quiz}](../exercises/{page}_quiz.md), items {asked}"
        )
    return str(item.talk or item.pause)


def sections_markdown(course: Course, chapter: int) -> str:
    """Write the minutes of a chapter's sections and exercises as a table."""
    rows = ["| section | minutes | the point not to miss |", "|---|--:|---|"]
    sections = course.of(chapter)
    nth = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    names = iter(("main path", *(f"{word} page" for word in nth)))
    for page in dict.fromkeys(section.page for section in sections):
        here = [section for section in sections if section.page == page]
        rows += [f"| {s.link} | {s.minutes} | {s.point} |" for s in here]
        name = next(names)
        rows.append(f"| **{name}** | **{sum(s.minutes for s in here)}** | |")
    exercises = [e for e in course.exercises.values() if e.chapter == chapter]
    total = sum(exercise.minutes for exercise in exercises)
    each = ", ".join(str(exercise.minutes) for exercise in exercises)
    rows.append(f"| exercises 1 to {len(exercises)} | {total} | {each} |")
    return "\n".join(rows)


def matrix_markdown(course: Course, chapter: int) -> str:
    """Write for each objective where it is taught, practised and asked for."""
    rows = [
        "| objective | taught in | exercises | quiz | exam |",
        "|---|---|---|--:|--:|",
    ]
    for number, objective in course.objectives.items():
        if not number.startswith(f"{chapter}."):
            continue
        sections = [s.link for s in course.of(chapter) if number in s.objectives]
        exercises = [
            e.link for e in course.exercises.values() if number in e.objectives
        ]
        asked = [q for q in course.banks[chapter].questions if q.objective == number]
        public = sum(question.public for question in asked)
        rows.append(
            f"| **{number}** {objective.text} | {', '.join(sections)} "
            f"| {', '.join(exercises) or 'none'} | {public} | {len(asked) - public} |"
        )
    return "\n".join(rows)
