"""The instructor's archive: all questions with their answers, and QTI.

Usage::

    python -m regdrop_lite.course.teach.archive OUT

writes for each chapter that has questions ``chapter_N_answers.md``, with rubrics and
sample answers, and ``chapter_N_qti.txt`` in the form that text2qti turns into a package
for Canvas, Moodle or ILIAS (``pip install text2qti``, ``text2qti chapter_N_qti.txt``).
Beside them it puts the model answers to the tasks of the guide. Nothing of that stands
on the site. Run it in the repository's folder.
"""

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from regdrop_lite.course.extras import needs

with needs("course,author", "pydantic"):
    from pydantic import ValidationError

from regdrop_lite.course.teach.bank import (
    Bank,
    Choice,
    Numeric,
    Open,
    Question,
    accepted_range,
    read_bank,
)
from regdrop_lite.course.teach.exam import POINTS
from regdrop_lite.course.teach.quiz import shuffled

__all__ = ["answers_markdown", "main", "qti_text", "write_archive"]


def answers_markdown(bank: Bank) -> str:
    """Write all questions of a bank, with every answer."""
    parts = [f"# Chapter {bank.chapter}, {bank.title}: all questions with answers"]
    for question in bank.questions:
        place = "on the site" if question.public else "for exams"
        parts.append(
            f"## {question.id}\n\n*objective {question.objective}, {place}*\n\n"
            f"{_asked(question)}"
        )
        if isinstance(question, Choice):
            parts += [
                f"- **right: {option.text}** {option.why}"
                if option.right is not None
                else f"- {option.text} *({option.slip})* {option.why}"
                for option in question.options
            ]
        elif isinstance(question, Numeric):
            parts.append(question.solve(question.first()))
        else:
            parts += [
                f"### {level.level}\n\n{level.asks}\n\n> {level.sample}"
                for level in question.rubric
            ]
    return "\n\n".join(parts) + "\n"


def _asked(question: Question) -> str:
    if isinstance(question, Numeric):
        return question.ask(question.first())
    return question.text


def qti_text(bank: Bank) -> str:
    """Write all questions of a bank as text2qti reads them.

    A number is accepted within half a unit of the last digit that is asked for.
    """
    parts = [
        f"Quiz title: {bank.title}\n"
        f"Quiz description: Questions on chapter {bank.chapter}."
    ]
    for number, question in enumerate(bank.questions, 1):
        lines = [
            f"Title: {question.id}",
            f"Points: {POINTS[question.kind]}",
            f"{number}. {_one_line(_asked(question))}",
        ]
        if isinstance(question, Choice):
            for letter, option in zip("abcdef", shuffled(question), strict=False):
                mark = "*" if option.right is not None else ""
                lines.append(f"{mark}{letter}) {_one_line(option.text)}")
                lines.append(f"... {_one_line(option.why)}")
        elif isinstance(question, Numeric):
            answer = question.answer(question.first())
            low, high = accepted_range(answer, question.digits)
            why = question.fill(question.why, question.first())
            lines.append(f"... {_one_line(why)}")
            lines.append(f"= {low}" if low == high else f"= [{low}, {high}]")
        elif isinstance(question, Open):
            asks = " ".join(f"{level.level}: {level.asks}" for level in question.rubric)
            lines += [f"... {_one_line(asks)}", "____"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def write_archive(root: Path, out: Path) -> list[Path]:
    """Write the archive of all chapters.

    Args:
        root: the repository's folder.
        out: where to write.
    """
    written = []
    out.mkdir(parents=True, exist_ok=True)
    names = sorted((root / "book" / "teach" / "bank").glob("chapter_*.yml"))
    if not names:
        raise FileNotFoundError(
            f"{root} holds no questions: run this in the folder of the course's "
            "repository"
        )
    for name in names:
        bank = read_bank(root, int(name.stem.removeprefix("chapter_")))
        for end, text in (
            ("answers.md", answers_markdown(bank)),
            ("qti.txt", qti_text(bank)),
        ):
            path = out / f"chapter_{bank.chapter}_{end}"
            path.write_text(text, encoding="utf-8", newline="\n")
            written.append(path)
    for path in sorted((root / "book" / "teach" / "answers").glob("*.md")):
        written.append(Path(shutil.copy(path, out)))
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.teach.archive",
        description="Write all questions with their answers, and QTI.",
    )
    command.add_argument("out", type=Path, metavar="OUT")
    chosen = command.parse_args(arguments)
    try:
        for path in write_archive(Path.cwd(), chosen.out):
            print(f"wrote {path}")
    except (OSError, ValidationError) as error:
        command.error(str(error))


if __name__ == "__main__":
    main()
