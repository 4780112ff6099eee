"""The questions of a chapter, as ``book/teach/bank/chapter_N.yml`` holds them.

There are three kinds. A *choice* has one right option; every wrong one names the slip
that leads to it and says what is not so. A *numeric* question has values that take
turns, ``<<name>>`` in its text, and a formula: the answer is computed, never typed. An
*open* question has a rubric of three levels, each with a sample answer. What is public
is shown as a quiz on the site. All the rest is for exams.

Texts are plain Markdown with formulas between dollars, so that every reader can show
them: the site, a notebook, and a learning platform.
"""

import itertools
import math
import random
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Literal

from regdrop_lite.course.extras import needs

with needs("course,author", "PyYAML or pydantic"):
    import yaml
    from pydantic import (
        BaseModel,
        ConfigDict,
        Discriminator,
        Field,
        StringConstraints,
        Tag,
        field_validator,
        model_validator,
    )

__all__ = [
    "Bank",
    "Choice",
    "Level",
    "Numeric",
    "Open",
    "Option",
    "Question",
    "accepted_range",
    "bank_file",
    "read_bank",
    "write_number",
]

LEVELS = ("sufficient", "good", "very good")

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Number = int | float


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Option(_Model):
    """An option of a choice: a right one, or a wrong one with the slip behind it.

    Attributes:
        right: its text, if it is right.
        wrong: its text, if it is wrong.
        slip: what somebody believes who takes a wrong one.
        why: the feedback.
    """

    right: Text | None = None
    wrong: Text | None = None
    slip: Text | None = None
    why: Text

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> "Option":
        if (self.right is None) == (self.wrong is None):
            raise ValueError('an option is either "right" or "wrong"')
        if (self.wrong is None) != (self.slip is None):
            raise ValueError('a wrong option names its "slip", a right one has none')
        return self

    @property
    def text(self) -> str:
        """What the learner reads."""
        return self.right or self.wrong or ""


class Level(_Model):
    """One level of a rubric.

    Attributes:
        level: its name.
        asks: what an answer has to hold.
        sample: an answer of this level.
    """

    level: Literal["sufficient", "good", "very good"]
    asks: Text
    sample: Text


class _Question(_Model):
    id: Annotated[str, StringConstraints(pattern=r"^[a-z]+(-[a-z]+)*$")]
    objective: Annotated[str, StringConstraints(pattern=r"^\d\.\d+$")]
    public: bool
    text: Text


class Choice(_Question):
    """A question with one right option."""

    kind: Literal["choice"]
    options: Annotated[tuple[Option, ...], Field(min_length=3)]

    @model_validator(mode="after")
    def _has_one_right_option(self) -> "Choice":
        if sum(option.right is not None for option in self.options) != 1:
            raise ValueError(f"{self.id}: expected one right option")
        for name in ("text", "slip"):
            values = [getattr(option, name) for option in self.options]
            if len({*values}) < len(values):
                raise ValueError(f"{self.id}: two options have the same {name}")
        return self


class Numeric(_Question):
    """A question whose answer is computed.

    Attributes:
        values: for each name in text and formula the numbers that take turns.
        formula: an expression of Python, with the functions of :mod:`math`.
        digits: how many significant digits an answer needs; without it the answer is
            a whole number.
        why: how one gets there.
    """

    kind: Literal["numeric"]
    values: Annotated[Mapping[str, tuple[Number, ...]], Field(min_length=1)]
    formula: Text
    digits: Annotated[int, Field(ge=2, le=4)] | None = None
    why: Text

    @field_validator("values")
    @classmethod
    def _no_empty_list(
        cls, values: Mapping[str, tuple[Number, ...]]
    ) -> Mapping[str, tuple[Number, ...]]:
        if not all(values.values()):
            raise ValueError("every name needs at least one value")
        return values

    @model_validator(mode="after")
    def _every_name_is_used(self) -> "Numeric":
        asked = set(re.findall(r"<<(\w+)>>", self.text))
        if asked != set(self.values):
            raise ValueError(
                f"{self.id}: the text asks about {sorted(asked)}, "
                f"but values has {sorted(self.values)}"
            )
        for values in itertools.product(*self.values.values()):
            answer = self.answer(dict(zip(self.values, values, strict=True)))
            if self.digits is None and answer != round(answer):
                raise ValueError(
                    f'{self.id}: "digits" is missing, and {answer} is no whole number'
                )
        return self

    def first(self) -> dict[str, Number]:
        """The values that the public page shows."""
        return {name: values[0] for name, values in self.values.items()}

    def draw(self, rng: random.Random) -> dict[str, Number]:
        """Values for one exam."""
        return {name: rng.choice(values) for name, values in self.values.items()}

    def answer(self, values: Mapping[str, Number]) -> float:
        """Compute the answer for these values.

        Raises:
            ValueError: if the formula cannot be evaluated, or gives no finite number.
        """
        # The formula comes from the repository, as the code around it does.
        names = {
            name: getattr(math, name) for name in dir(math) if not name.startswith("_")
        }
        names |= {"min": min, "max": max, "__builtins__": {}}
        try:
            result = float(eval(self.formula, names, dict(values)))
        except Exception as error:
            raise ValueError(f"{self.id}: {self.formula}: {error}") from None
        if not math.isfinite(result):
            raise ValueError(f"{self.id}: expected a finite number, but got {result}")
        return result

    def ask(self, values: Mapping[str, Number]) -> str:
        """Write the question with these values, and how exact an answer has to be."""
        how = (
            "a whole number"
            if self.digits is None
            else f"to {self.digits} significant digits"
        )
        return f"{self.fill(self.text, values)} ({how})"

    def solve(self, values: Mapping[str, Number]) -> str:
        """Write the answer for these values, what else is accepted, and why."""
        answer = self.answer(values)
        written = f"**{write_number(answer, self.digits)}**"
        if self.digits is not None:
            written += " (accepted: {} to {})".format(
                *accepted_range(answer, self.digits)
            )
        return f"{written}. {self.fill(self.why, values)}"

    def fill(self, text: str, values: Mapping[str, Number]) -> str:
        """Put the values into a text."""
        return re.sub(r"<<(\w+)>>", lambda match: f"{values[match[1]]:g}", text)


class Open(_Question):
    """A question that is answered in words."""

    kind: Literal["open"]
    minutes: Annotated[int, Field(ge=5, le=60)]
    rubric: Annotated[tuple[Level, Level, Level], Field()]

    @model_validator(mode="after")
    def _levels_in_order(self) -> "Open":
        if tuple(level.level for level in self.rubric) != LEVELS:
            raise ValueError(f"{self.id}: expected the levels {', '.join(LEVELS)}")
        if self.public:
            raise ValueError(f"{self.id}: sample answers do not belong on the site")
        return self


def _kind(value: object) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


Question = Annotated[
    Annotated[Choice, Tag("choice")]
    | Annotated[Numeric, Tag("numeric")]
    | Annotated[Open, Tag("open")],
    Discriminator(_kind),
]
"""A question of any of the three kinds."""


class Bank(_Model):
    """All questions of a chapter.

    Attributes:
        chapter: its number.
        title: what it is about.
        questions: in the order of the chapter's objectives, kind by kind.
    """

    chapter: Annotated[int, Field(ge=1)]
    title: Text
    questions: tuple[Question, ...]

    @model_validator(mode="after")
    def _fits(self) -> "Bank":
        names = [question.id for question in self.questions]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two questions have the id {', '.join(sorted(twice))}")
        for question in self.questions:
            if not question.objective.startswith(f"{self.chapter}."):
                raise ValueError(
                    f"{question.id}: objective {question.objective} is none of "
                    f"chapter {self.chapter}"
                )
        return self

    @property
    def choices(self) -> list[Choice]:
        """The questions with options."""
        return [q for q in self.questions if isinstance(q, Choice)]

    @property
    def numerics(self) -> list[Numeric]:
        """The questions with a number."""
        return [q for q in self.questions if isinstance(q, Numeric)]

    @property
    def opens(self) -> list[Open]:
        """The questions in words."""
        return [q for q in self.questions if isinstance(q, Open)]


def bank_file(root: Path, chapter: int) -> Path:
    """Where the questions of a chapter are, below the repository's folder."""
    return root / "book" / "teach" / "bank" / f"chapter_{chapter}.yml"


def read_bank(root: Path, chapter: int) -> Bank:
    """Read and check the questions of a chapter.

    Args:
        root: the repository's folder.
        chapter: a number from 1.

    Raises:
        FileNotFoundError: if the chapter has no questions here.
        pydantic.ValidationError: a ``ValueError`` that says what is wrong where.
    """
    path = bank_file(root, chapter)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: run this in the folder of the course's repository, "
            "and name a chapter that has questions"
        )
    return Bank.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def write_number(value: float, digits: int | None) -> str:
    """Round a number as learners do by hand: half up, zeros at the end kept.

    Args:
        value: the number.
        digits: how many significant digits; if None, it is a whole number.

    Example:
        >>> write_number(0.3125, 3), write_number(0.43, 3), write_number(1234.5, 3)
        ('0.313', '0.430', '1230')
        >>> write_number(15.0, None)
        '15'
    """
    number = _decimal(value)
    unit = _unit(number, digits)
    rounded = number.quantize(unit, ROUND_HALF_UP)
    # 0.9996 to three digits is 1.00, not 1.000.
    more = 0 if digits is None else rounded.adjusted() - number.adjusted()
    return f"{rounded.quantize(unit.scaleb(more)):f}"


def accepted_range(value: float, digits: int | None) -> tuple[str, str]:
    """Which answers are right: half a unit of the last digit on both sides.

    The middle is the number before it is rounded, so that 0.3125 may become 0.312 or
    0.313. Bounds are written to a hundredth of the unit, and rounded outwards.

    Example:
        >>> accepted_range(0.3125, 3), accepted_range(3 / 7, 3)
        (('0.31200', '0.31300'), ('0.42807', '0.42908'))
        >>> accepted_range(15.0, None)
        ('15', '15')
    """
    number = _decimal(value)
    if digits is None:
        return write_number(value, None), write_number(value, None)
    unit = _unit(number, digits)
    low = (number - unit / 2).quantize(unit / 100, ROUND_FLOOR)
    high = (number + unit / 2).quantize(unit / 100, ROUND_CEILING)
    return f"{low:f}", f"{high:f}"


def _decimal(value: float) -> Decimal:
    # Twelve digits hide that 0.1 + 0.2 is not 0.3, and turn 0.61249999999999 into the
    # 0.6125 that one gets by hand.
    return Decimal(f"{value:.12g}")


def _unit(number: Decimal, digits: int | None) -> Decimal:
    if digits is None:
        return Decimal(1)
    return Decimal(1).scaleb(number.adjusted() + 1 - digits)
