"""What the checkers of more than one chapter ask: properties and kinds of answers."""

import random
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite.course.check.core import (
    Hopeless,
    Wrong,
    generator,
    require,
    show,
    signed,
)

Case = tuple[str, int]  # which implementation, and which style or seed of it


def require_value_error(
    call: Callable[[], object], what: str, shown: Sequence[str]
) -> None:
    """``call`` has to raise a ValueError whose message shows what it got."""
    try:
        call()
    except ValueError as error:
        require(
            any(text in str(error) for text in shown),
            f"the error for {what} does not say what it got",
        )
    except NotImplementedError:
        raise
    except Exception as error:
        name = type(error).__name__
        raise Wrong(f"{what} raises {name}, expected a ValueError") from error
    else:
        raise Wrong(f"{what} is accepted without an error")


def require_gradient(function: Callable[[Tensor], Tensor]) -> None:
    """The gradient has to be what the input was multiplied by."""
    x = signed(16, 32, 2, 2).requires_grad_()
    y = function(x)
    require(
        y.requires_grad,
        "expected an output with a gradient, got one that is cut off from its input: "
        "detach, .data and no_grad do that",
    )
    (gradient,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
    require(
        gradient is not None and torch.allclose(gradient * x, y),
        "expected the mask times the scale as the gradient, got another one: does "
        "every step from input to output hand it on?",
    )


def require_dtype(function: Callable[[Tensor], Tensor]) -> None:
    """What goes in as float32 or float64 has to come out as such."""
    for dtype in (torch.float32, torch.float64):
        got = function(signed(16, 32, 2, 2, dtype=dtype)).dtype
        require(
            got == dtype,
            f"expected {dtype} out for {dtype} in, got {got}: a mask or a scale of "
            "another dtype changes it",
        )


def require_generator(draw: Callable[[torch.Generator], Tensor]) -> None:
    first, again, other = draw(generator(1)), draw(generator(1)), draw(generator(2))
    require(
        torch.equal(first, again),
        "the same state of the generator gives two different masks: is the generator "
        "handed on to torch.rand?",
    )
    require(
        not torch.equal(first, other),
        "another state of the generator gives the same mask: the random numbers do not "
        "come from it",
    )


def require_blocks(fell: Tensor, k: int) -> None:
    """Do whole blocks of k x k fall? ``fell`` has the shape (n, H, H)."""

    def made_of_blocks(mask: Tensor, k: int) -> bool:
        whole = -F.max_pool2d(-mask, k, stride=1)  # 1 where a full block starts
        again = F.max_pool2d(F.pad(whole, [k - 1] * 4), k, stride=1)
        return torch.equal(again, mask)

    mask = fell[:, None].double()
    lost = fell.sum(dim=(1, 2))
    least = int(lost[lost > 0].min())
    expected = f"k = {k}: expected that only whole blocks of {k} x {k} fall"
    if made_of_blocks(mask, k):
        require(
            least == k * k,
            f"{expected}, got maps that lose {least} or more: the blocks are too large",
        )
        return
    if made_of_blocks(F.pad(mask, [k] * 4, value=1.0), k):
        raise Wrong(
            f"{expected}, got blocks that are cut at the border: a seed needs room for "
            "its whole block"
        )
    if least == (k - 1) ** 2 and made_of_blocks(mask, k - 1):
        raise Wrong(
            f"{expected}, got blocks of {k - 1} x {k - 1}: count how far a seed grows"
        )
    cause = "single elements fall" if least < k else "what falls is no square"
    raise Wrong(f"{expected}, got maps that lose {least}: {cause}")


def require_written(*answers: object) -> None:
    """Raise :class:`Hopeless` if every answer is None, or a list of None."""
    for answer in answers:
        parts = answer if isinstance(answer, list | tuple) else [answer]
        if any(part is not None for part in parts):
            return
    raise Hopeless("not written yet: put an answer in the place of every None")


def as_number(answer: object) -> float:
    """``answer``, if it is one number."""
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if isinstance(answer, Real) and not isinstance(answer, bool):
        return float(answer)
    raise Wrong(f"expected a number, got {show(answer)}")


def as_numbers(answer: Any, count: int) -> list[float]:
    """``answer``, if it holds ``count`` numbers."""
    if isinstance(answer, str) or not hasattr(answer, "__getitem__"):
        raise Wrong(f"expected a list of {count} numbers, got {show(answer)}")
    require(
        len(answer) == count, f"expected a list of {count} numbers, got {len(answer)}"
    )
    return [as_number(answer[i]) for i in range(count)]


def ask_all(
    cases: Mapping[Case, Callable[[], object]], refused: str = ""
) -> dict[Case, object]:
    """Answer every case, in an order that tells nothing; an error is an answer.

    ``refused`` says what a right case looks like that is refused with all others.
    """
    order = list(enumerate(cases))
    random.SystemRandom().shuffle(order)
    answers: dict[Case, object] = {}
    for seed, case in order:
        torch.default_generator.manual_seed(seed)  # the order changes no answer
        try:
            answers[case] = cases[case]()
        except Hopeless:
            raise
        except Exception as error:
            answers[case] = error
    first, *others = answers.values()
    if type(first) in (bool, str) and all(
        type(answer) is type(first) and answer == first for answer in others
    ):
        cause = (first is False and refused) or "which output decides?"
        raise Hopeless(
            f"expected an answer that depends on what is handed over, got {first!r} "
            f"every time: {cause}"
        )
    return answers


def answer_to(answers: Mapping[Case, object], case: Case) -> object:
    """What was answered to ``case``; raise if that was an error."""
    answer = answers[case]
    if isinstance(answer, Exception):
        raise answer
    return answer
