"""Questions that a reader answers before the page does.

A paragraph that begins with **Predict.** is such a question; so is the directive
``predict``, which can offer answers. What answers it stands below: outputs of cells and
the sentences that read them. The site and the plain edition fold that, and this module
says what they fold, so that it is the same in both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "END",
    "PROMPT",
    "Axis",
    "Choice",
    "Kind",
    "Question",
    "parse_axis",
    "parse_question",
    "reach",
]

PROMPT = "Predict."
END = "answered"

Kind = Literal["code", "output", "text", "intro", "block", "label", "mark", "stop"]

_CHOICE = re.compile(r"^- \[([ x])\] ", flags=re.M)
_NUMBER = re.compile(
    r"(?P<value>[-+]?\d+(?:\.\d+)?)(?:\s*±\s*(?P<tolerance>\d+(?:\.\d+)?))?"
    r"(?:\s*(?P<unit>\S.*))?"
)
_AXIS = re.compile(
    r"(?P<name>\S.*?),\s*(?P<low>[-+]?[\d.]+) to (?P<high>[-+]?[\d.]+)"
    r"(?: by (?P<step>[\d.]+))?"
)


def reach(kinds: Sequence[Kind]) -> int:
    """Say how many of the blocks below a question answer it.

    They are all outputs up to the next text, and the first paragraph of that text, with
    the list, table or formula that it announces by a colon. Where that is too much or
    too little, the comment ``% answered`` marks the end.

    Args:
        kinds: what stands below the question. ``code`` is a cell without output and
            ``output`` one that has some; ``text`` a paragraph and ``intro`` one that
            ends with a colon; ``block`` anything else in the text; ``label`` what
            nobody sees; ``mark`` the comment; ``stop`` a heading or the next question.

    Returns:
        How many belong to the answer, from the first one on.

    Example:
        >>> reach(["code", "output", "output", "text", "text", "stop"])
        4
        >>> reach(["output", "intro", "block", "text"])
        3
        >>> reach(["output", "text", "text", "mark", "text"])
        3
    """
    end = next((i for i, kind in enumerate(kinds) if kind == "stop"), len(kinds))
    if "mark" in kinds[:end]:
        return kinds.index("mark")
    shown = announced = False
    for i, kind in enumerate(kinds[:end]):
        if kind == "output":
            if announced:
                return i
            shown = True
        elif shown and kind == "code" and announced:
            return i
        elif shown and (kind == "text" or (kind == "block" and announced)):
            return i + 1
        elif shown and kind == "intro":
            announced = True
    return end


@dataclass(frozen=True)
class Choice:
    """One possible answer.

    Attributes:
        right: whether it is the right one.
        text: the answer itself, in Markdown; a number without its tolerance.
        feedback: what to say to whoever gives it.
        value: the number, if the question asks for one.
        tolerance: how far off a reader may be.
    """

    right: bool
    text: str
    feedback: str
    value: float | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class Question:
    """A question with possible answers; without any, the reader writes freely."""

    text: str
    choices: list[Choice] = field(default_factory=list)
    unit: str = ""


def parse_question(body: str, number: bool = False) -> Question:
    """Read the body of a directive ``predict``.

    Args:
        body: the question, and after it a list of answers. Each begins with ``[x]`` if
            it is the right one, and with ``[ ]`` if it is not; an indented paragraph
            says why.
        number: whether the reader types a number. Then each answer is one, such as
            ``25 ± 3 %``, and the wrong ones are those that a known mistake leads to.

    Raises:
        ValueError: for answers that cannot be understood; it says what was expected.

    Example:
        >>> question = parse_question('''How many?
        ...
        ... - [x] 4 ± 0.5
        ...
        ...   Two by two.
        ... - [ ] 2
        ...
        ...   That is one side.''', number=True)
        >>> [(choice.value, choice.right) for choice in question.choices]
        [(4.0, True), (2.0, False)]
    """
    text, *parts = _CHOICE.split(body)
    if not text.strip():
        raise ValueError("expected a question in front of the answers")
    choices, units = [], set()
    for mark, answer in zip(parts[::2], parts[1::2], strict=True):
        head, _, rest = answer.partition("\n\n")
        head = " ".join(head.split())
        feedback = re.sub(r"^  ", "", rest, flags=re.M).strip()
        if not feedback:
            raise ValueError(
                f"the answer {head!r} says nothing to whoever gives it: expected an "
                "empty line and an indented paragraph below it"
            )
        if number:
            match = _NUMBER.fullmatch(head)
            if match is None:
                raise ValueError(
                    f"expected a number such as '25 ± 3 %', but the answer is {head!r}"
                )
            value, tolerance, unit = match.groups()
            if mark == "x" and tolerance is None:
                raise ValueError(f"the right number needs a tolerance: '{head} ± ...'")
            units.add(unit or "")
            head = f"{value} {unit or ''}".strip()
            choice = Choice(
                mark == "x", head, feedback, float(value), float(tolerance or 0)
            )
        else:
            choice = Choice(mark == "x", head, feedback)
        choices.append(choice)
    if (choices or number) and sum(choice.right for choice in choices) != 1:
        raise ValueError(
            "expected exactly one right answer, marked '- [x]', among "
            f"{[choice.text for choice in choices]}"
        )
    if len(units) > 1:
        raise ValueError(f"expected the same unit in all answers, got {sorted(units)}")
    return Question(text.strip(), choices, *units)


@dataclass(frozen=True)
class Axis:
    """An axis on which a reader sets a mark.

    Attributes:
        name: what it measures.
        low: its left end.
        high: its right end.
        step: how far apart two marks are at least.
        points: what stands on it before the reader's mark.
    """

    name: str
    low: float
    high: float
    step: float
    points: tuple[float, ...] = ()


def parse_axis(text: str, question: Question, points: str = "") -> Axis:
    """Read the option ``mark`` of a directive ``predict``.

    Args:
        text: a name and two ends, such as ``share kept, 0 to 1``. By default a mark can
            stand at 101 places; ``block, 0 to 11 by 1`` says how far they are apart.
        question: whose answers, numbers, have to lie on the axis.
        points: what stands there before, such as ``0.12, 0.5``.

    Raises:
        ValueError: for an axis that cannot be understood, and for an answer or a point
            that does not lie on it.

    Example:
        >>> asked = parse_question("?\\n\\n- [x] 4 ± 1\\n\\n  Two twice.", True)
        >>> parse_axis("eggs, 0 to 10", asked).step
        0.1
    """
    match = _AXIS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected an axis such as 'share kept, 0 to 1', got {text!r}")
    name, *numbers = match.groups()
    try:
        low, high = float(numbers[0]), float(numbers[1])
        step = float(numbers[2]) if numbers[2] else (high - low) / 100
        given = tuple(float(part) for part in points.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"expected numbers on the axis {text!r}: {error}") from None
    if not 0 < step <= high - low:
        raise ValueError(f"expected an axis that grows in steps, got {text!r}")
    answers = [c.value for c in question.choices if c.value is not None]
    for value in (*answers, *given):
        if not low <= value <= high:
            raise ValueError(f"{value:g} does not lie on the axis {text!r}")
    return Axis(name, low, high, step, given)
