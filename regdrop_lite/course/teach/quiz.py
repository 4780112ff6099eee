"""The public questions of a chapter as Markdown for the site.

Each option folds open and says whether it is right, and if not, what slip leads to it.
"""

import random
from collections.abc import Iterator

from regdrop_lite.course.teach.bank import Bank, Choice, Numeric, Option, write_number

__all__ = ["quiz_markdown", "shuffled"]


def shuffled(question: Choice, seed: int | str = "") -> list[Option]:
    """The options in an order that depends on the question and on a seed alone.

    Example:
        >>> why, slip = "because", "a slip"
        >>> options = [Option(right="1", why=why)]
        >>> options += [Option(wrong=x, slip=slip + x, why=why) for x in "23"]
        >>> question = Choice(kind="choice", id="a", objective="1.1", public=True,
        ...                   text="?", options=options)
        >>> sorted(option.text for option in shuffled(question, 7))
        ['1', '2', '3']
    """
    rng = random.Random(f"{question.id} {seed}")
    return rng.sample(question.options, len(question.options))


def quiz_markdown(bank: Bank) -> str:
    """Write the public questions of a bank in MyST.

    Args:
        bank: the questions of a chapter; open ones and those for exams are left out.
    """
    parts = []
    public = [question for question in bank.questions if question.public]
    for number, question in enumerate(public, 1):
        if isinstance(question, Choice):
            parts += [f"**{number}.** {question.text}", *_options(question)]
        elif isinstance(question, Numeric):
            values = question.first()
            answer = write_number(question.answer(values), question.digits)
            why = question.fill(question.why, values)
            parts += [
                f"**{number}.** {question.ask(values)}",
                _fold("Answer", f"**{answer}.** {why}"),
            ]
    return "\n\n".join(parts)


def _options(question: Choice) -> Iterator[str]:
    for letter, option in zip("abcdef", shuffled(question), strict=False):
        if option.right is not None:
            verdict = f"**Right.** {option.why}"
        else:
            verdict = f"**Not so.** {option.why} *(The slip: {option.slip}.)*"
        yield _fold(f"{letter}) {option.text}", verdict)


def _fold(title: str, text: str) -> str:
    return f":::{{dropdown}} {title}\n{text}\n:::"
