"""An exam from the question banks, and its answers in a file of their own.

Usage::

    python -m regdrop_lite.course.teach.exam --seed 7 --chapter 1
    python -m regdrop_lite.course.teach.exam --seed 8 --chapter 1 --chapter 2
    python -m regdrop_lite.course.teach.exam --seed 9 --chapter 1 --exclude exactly-k
    python -m regdrop_lite.course.teach.exam --seed 10 --chapter 1 --main
    python -m regdrop_lite.course.teach.exam --seed 11 --chapter 1 --variants 2

writes ``exam_1_seed_7.md`` and ``exam_1_seed_7_answers.md``, and both as HTML for the
printer, with space to write. The seed chooses the questions, the order of the options
and the numbers; one seed always gives one exam. Variants, for neighbours, have the same
questions in another order with other numbers, and so the same points and minutes.
Questions that are public on the site are left out. Run it in the repository's folder.
"""

import argparse
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from regdrop_lite.course.extras import needs

with needs("course,author", "pydantic"):
    from pydantic import ValidationError

from regdrop_lite.course.teach.bank import (
    Bank,
    Choice,
    Numeric,
    Question,
    read_bank,
)
from regdrop_lite.course.teach.paper import paper
from regdrop_lite.course.teach.plans import Course
from regdrop_lite.course.teach.quiz import shuffled

__all__ = ["Exam", "main", "make_exam"]

POINTS = {"choice": 1, "numeric": 2, "open": 6}
MINUTES = {"choice": 2, "numeric": 4}


@dataclass(frozen=True)
class Exam:
    """An exam, in Markdown.

    Attributes:
        paper: what the students get.
        answers: the same with answers, points and rubrics.
        points: of all questions.
        minutes: of all questions.
    """

    paper: str
    answers: str
    points: int
    minutes: int


def make_exam(
    banks: Sequence[Bank],
    seed: int,
    choice: int = 5,
    numeric: int = 2,
    essay: int = 1,
    objectives: Collection[str] = (),
    exclude: Collection[str] = (),
    variant: str = "",
) -> Exam:
    """Draw an exam.

    Args:
        banks: the chapters that it covers.
        seed: chooses questions, orders and numbers.
        choice: how many questions with options, of each chapter.
        numeric: how many with a number.
        essay: how many that are answered in words.
        objectives: only questions on these; by default on any.
        exclude: the ids of questions to leave out, such as last year's.
        variant: a letter; the seed alone chooses the questions, and both together the
            orders and numbers.

    Raises:
        ValueError: if a bank has fewer questions than are asked for, or there is no
            question with an objective or an id that is named.
    """
    every = [question for bank in banks for question in bank.questions]
    for what, named, known in (
        ("on the objective", objectives, {question.objective for question in every}),
        ("with the id", exclude, {question.id for question in every}),
    ):
        if unknown := sorted({*named} - known):
            raise ValueError(f"there is no question {what} {', '.join(unknown)}")
    rng = random.Random(seed)
    chosen: list[tuple[Bank, Question]] = []
    for bank in banks:
        groups: list[tuple[str, int, Sequence[Question]]] = [
            ("choice", choice, bank.choices),
            ("numeric", numeric, bank.numerics),
            ("open", essay, bank.opens),
        ]
        for name, wanted, questions in groups:
            private = [
                question
                for question in questions
                if not question.public
                and question.id not in exclude
                and (not objectives or question.objective in objectives)
            ]
            if not 0 <= wanted <= len(private):
                raise ValueError(
                    f"chapter {bank.chapter} has {len(private)} {name} questions to "
                    f"draw from, but {wanted} were asked for"
                )
            chosen += [(bank, question) for question in rng.sample(private, wanted)]
    if variant:
        rng = random.Random(f"{seed} {variant}")
        rng.shuffle(chosen)
        kinds = list(POINTS)
        chosen.sort(key=lambda pair: (banks.index(pair[0]), kinds.index(pair[1].kind)))
    points = sum(POINTS[question.kind] for _, question in chosen)
    minutes = sum(_minutes(question) for _, question in chosen)
    names = " and ".join(bank.title for bank in banks)
    name = f"exam {seed}{variant}"
    head = (
        f"# {names}: {name}\n\n{points} points, {minutes} minutes. The "
        "probability to *drop* is $p$, and $q = 1 - p$.\n\nName:"
    )
    paper, answers = [head], [f"# {names}: answers to {name}\n\n{points} points."]
    for number, (bank, question) in enumerate(chosen, 1):
        asked, answered = _write(question, f"{seed}{variant}", rng)
        worth = POINTS[question.kind]
        unit = "point" if worth == 1 else "points"
        paper.append(f"## Question {number} ({worth} {unit})\n\n{asked}")
        answers.append(
            f"## Question {number} ({worth} {unit})\n\n"
            f"*Chapter {bank.chapter}, objective {question.objective}, "
            f"{question.id}*\n\n{answered}"
        )
    asked, answered = ("\n\n".join(text) + "\n" for text in (paper, answers))
    return Exam(asked, answered, points, minutes)


def _minutes(question: Question) -> int:
    if question.kind == "open":
        return question.minutes
    return MINUTES[question.kind]


def _write(question: Question, seed: str, rng: random.Random) -> tuple[str, str]:
    """Give a question as asked, and the same with its answer."""
    if isinstance(question, Choice):
        options = shuffled(question, seed)
        lines = [f"{c}) {o.text}" for c, o in zip("abcdef", options, strict=False)]
        ticks = ["x" if o.right is not None else " " for o in options]
        empty = [f"- [ ] {line}" for line in lines]
        ticked = [f"- [{t}] {line}" for t, line in zip(ticks, lines, strict=True)]
        verdicts = [
            f"- **{letter}) right:** {option.why}"
            if option.right is not None
            else f"- {letter}) {option.slip}: {option.why}"
            for letter, option in zip("abcdef", options, strict=False)
        ]
        return "\n".join([question.text, "", *empty]), "\n".join(
            [question.text, "", *ticked, "", *verdicts]
        )
    if isinstance(question, Numeric):
        values = question.draw(rng)
        asked = question.ask(values)
        return asked, f"{asked}\n\n{question.solve(values)}"
    levels = [
        f"- **{level.level}** ({worth} points). {level.asks}\n\n  > {level.sample}"
        for worth, level in zip((2, 4, 6), question.rubric, strict=True)
    ]
    return question.text, "\n\n".join([question.text, *levels])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.teach.exam",
        description="Make an exam, with its answers in a second file.",
    )
    command.add_argument("--seed", type=int, required=True)
    command.add_argument(
        "--chapter", type=int, action="append", required=True, help="may be repeated"
    )
    command.add_argument("--choice", type=int, default=5, help="of each chapter")
    command.add_argument("--numeric", type=int, default=2, help="of each chapter")
    command.add_argument("--open", type=int, default=1, help="of each chapter")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--objective", action="append", default=[], help="only on it; may be repeated"
    )
    which.add_argument(
        "--main", action="store_true", help="only on what the main pages teach"
    )
    command.add_argument(
        "--exclude", action="append", default=[], metavar="ID", help="may be repeated"
    )
    command.add_argument(
        "--variants", type=int, choices=range(1, 9), default=1, help="for neighbours"
    )
    command.add_argument("--out", type=Path, default=Path("build/exams"))
    chosen = command.parse_args(arguments)
    try:
        banks = [read_bank(Path.cwd(), chapter) for chapter in chosen.chapter]
        numbers = chosen.choice, chosen.numeric, chosen.open
        objectives = chosen.objective
        if chosen.main:
            course = Course.read(Path.cwd())
            objectives = sorted({n for c in chosen.chapter for n in course.main(c)})
        filters = objectives, chosen.exclude
        letters = "ABCDEFGH"[: chosen.variants] if chosen.variants > 1 else [""]
        exams = {
            letter: make_exam(banks, chosen.seed, *numbers, *filters, variant=letter)
            for letter in letters
        }
        chosen.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValidationError, ValueError) as error:
        command.error(str(error))
    chapters = "_".join(map(str, chosen.chapter))
    for letter, exam in exams.items():
        for end, text in (("", exam.paper), ("_answers", exam.answers)):
            name = f"exam_{chapters}_seed_{chosen.seed}{letter}{end}.md"
            path = chosen.out / name
            for form, written in (
                (path, text),
                (path.with_suffix(".html"), paper(text)),
            ):
                form.write_text(written, encoding="utf-8", newline="\n")
                print(f"wrote {form}")
    first = exams[letters[0]]
    print(f"{first.points} points, {first.minutes} minutes")


if __name__ == "__main__":
    main()
