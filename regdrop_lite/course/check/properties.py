"""What the checkers of more than one chapter ask: properties and kinds of answers.

Where a diagnosis needs the chapter's word for what falls, it is handed over as
``things``: "channels", "samples", "elements".
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite.course.check.core import (
    Hopeless,
    Wrong,
    ask,
    generator,
    rate_bound,
    require,
    show,
    signed,
    the_class,
)

P = 0.2  # at which most properties are looked at
T = TypeVar("T")

# --- the learner's functions and layers -----------------------------------------------


def call(
    function: Callable[..., object],
    x: Tensor,
    *args: Any,
    what: str = "an input",
    own: tuple[str, ...] | None = None,
    **options: Any,
) -> Tensor:
    """What the learner's function makes of a copy of ``x``, a tensor like ``x``.

    Args:
        what: what a diagnosis calls x.
        own: as in :func:`~regdrop_lite.course.check.core.ask`.
    """
    what = f"{what} of shape {tuple(x.shape)}"
    try:
        y = ask(function, x.clone(), *args, own=own, **options)
    except Exception as error:
        error.add_note(f"for {what}")
        raise
    if type(y) in (Tensor, nn.Parameter) and y.shape == x.shape:
        return cast(Tensor, y)
    if y is None:
        raise Wrong("expected an output, got None: does your code end with return?")
    raise Wrong(
        f"for {what} expected a tensor of this shape, got {show(y)}: has the mask as "
        "many dimensions, and is the product returned?"
    )


@dataclass(frozen=True)
class Layers:
    """The layers that a learner's class makes.

    Attributes:
        made_by: the class, called with p and options.
        name: what the exercise calls it.
        what: what a diagnosis calls an input.
    """

    made_by: object
    name: str
    what: str = "an input"

    def make(self, p: float = P, **options: Any) -> nn.Module:
        """A layer of the class."""
        made = ask(the_class(self.made_by, self.name), p, own=(), **options)
        if not isinstance(made, nn.Module):
            raise Hopeless(
                f"expected a class of layers, but it makes {show(made)}: the class has "
                "to be an nn.Module"
            )
        return made

    def call(self, layer: nn.Module, x: Tensor, **options: Any) -> Tensor:
        """What one of the layers makes of ``x``."""
        return call(layer, x, what=self.what, own=(), **options)

    def apply(self, x: Tensor, p: float = P, seed: int = 0, **options: Any) -> Tensor:
        """What a new layer makes of ``x`` in training."""
        layer = self.make(p, **options).train()
        return self.call(layer, x, generator=generator(seed))


# --- properties of what they do -------------------------------------------------------


def require_values(
    function: Callable[[Tensor], Tensor], things: str, x: Tensor, when: str
) -> None:
    """The output depends on the values of ``x``, what falls does not."""
    y, other = function(x), function(x.flip(0, 1).exp())
    if not (y == 0).any():
        raise Hopeless(f"{when} expected some {things} to fall, got none: all pass")
    if (y == 0).all():
        raise Hopeless(f"{when} expected most {things} to stay, got only zeros")
    if len(torch.unique(y[y != 0])) == 1 or torch.equal(y, other):
        raise Hopeless(
            "expected other outputs for another input, got the same: the output "
            "ignores the values of the input"
        )
    if not torch.equal(y, function(x)):
        return  # that it draws anew is told by the check of the generator
    require(
        torch.equal(y == 0, other == 0),
        f"expected that the generator alone decides which {things} fall, but from the "
        "same state other inputs lose others: the values have a say in it",
    )


def require_same(y: Tensor, x: Tensor, when: str, things: str) -> None:
    """Nothing falls, and there is nothing to make up for."""
    require(
        not (y == 0).any(), f"{when} expected the input, but some {things} still fall"
    )
    worst = int((y / x - 1).abs().argmax())
    require(
        torch.allclose(y, x, rtol=1e-6),
        f"{when} expected the input, got values multiplied by "
        f"{(y / x).flatten()[worst]:.3g}: there is nothing to make up for",
    )


def require_zeros(y: Tensor, when: str) -> None:
    """Everything falls."""
    require(
        not y.isnan().any(),
        f"{when} expected zeros, got NaN: with nothing kept there is nothing to scale, "
        "and 0 * (1/0) is NaN",
    )
    require(
        (y == 0).all(),
        f"{when} expected zeros, got {(y != 0).double().mean():.0%} of the values "
        "kept: everything is dropped there",
    )


def require_untouched(layers: Layers) -> None:
    """A layer must not write into its input."""
    for p in (0.0, P, 1.0):
        x = signed(64, 32, 2, 2)
        ask(layers.make(p).train(), x, own=(), generator=generator())
        require(
            torch.equal(x, signed(64, 32, 2, 2)),
            f"at p = {p:g} the layer writes into its input, which the caller may still "
            "need",
        )


def distinct(y: Tensor) -> Tensor:
    """Where the maps (N, C, ...) are zero, (n, ...), without shared draws."""
    zero = y == 0
    if (zero == zero[:1]).all():
        return zero[0]
    if (zero == zero[:, :1]).all():
        return zero[:, 0]
    different: Tensor = torch.unique(torch.unique(zero, dim=0), dim=1)
    return different.flatten(0, 1)


def require_rate(dropped: Tensor, p: float, things: str) -> None:
    """Is the share of what fell p? Every value of ``dropped`` is a draw of its own."""
    share, bound = dropped.double().mean().item(), rate_bound(p, dropped.numel())
    text = f"at p = {p} expected a share {p} of {things} to fall, got {share:.2f}: "
    require(
        abs(share - (1 - p)) >= bound,
        f"{text}keep and drop are swapped, p is the probability to drop",
    )
    require(
        abs(share - p) < bound, f"{text}is each random number compared with p itself?"
    )


def kept_scale(y: Tensor, x: Tensor) -> float:
    """The one factor between the kept values of ``y`` and those of ``x``."""
    kept = (y / x)[y != 0]
    require(kept.numel() > 0, "nothing is kept, so that no scale can be seen")
    low, high = kept.min().item(), kept.max().item()
    require(
        math.isclose(low, high, rel_tol=1e-5),
        f"expected one factor for all that is kept, got {low:.4g} to {high:.4g}",
    )
    return low


def require_scale(got: float, p: float, when: str, scaled: bool = True) -> None:
    """Is what is kept multiplied by 1/(1 - p), or by 1 if it is not to be scaled?"""
    q = 1 - p
    right = 1 / q if scaled else 1.0
    slips = {
        1.0: "it is not scaled",
        1 / q: "it is scaled, although it must not be",
        1 / p: "it is divided by p, not by q",
        q: "it is multiplied by q, not divided",
        1 / q**2: "it is divided by q twice",
    }
    text = f"{when} expected the factor {right:.6g} for what is kept, got {got:.6g}: "
    otherwise = "q = 1 - p is the only number that it needs"
    require_right(got, right, slips.items(), is_close, text, otherwise)


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


# --- answers and slips ----------------------------------------------------------------


def require_written(*answers: object) -> None:
    """Raise :class:`Hopeless` if every answer is None, or a list of None."""
    for answer in answers:
        parts = answer if isinstance(answer, list | tuple) else [answer]
        if any(part is not None for part in parts):
            return
    raise Hopeless("not written yet: put an answer in the place of every None")


def _plain(answer: Any) -> Any:
    """The one value of a tensor or an array; all else as it is."""
    shape = getattr(answer, "shape", None)
    one = isinstance(shape, tuple) and math.prod(shape) == 1
    return answer.item() if one and hasattr(answer, "item") else answer


def as_number(answer: object, what: str = "a number", cause: str = "") -> float:
    """``answer``, if it is one number. ``cause`` ends the diagnosis of another kind."""
    answer = _plain(answer)
    if not isinstance(answer, Real) or isinstance(answer, bool):
        raise Wrong(f"expected {what}, got {show(answer)}{cause}")
    require(not math.isnan(answer), f"expected {what}, got NaN: is 0 divided by 0?")
    return float(answer)


def as_list(answer: Any, what: str) -> list[Any]:
    """``answer`` as a list, whatever kind of sequence it is."""
    if isinstance(answer, Iterator):  # a generator: still the learner's code
        answer = ask(list, islice(answer, 1000))
    is_text = isinstance(answer, str)
    if (isinstance(answer, Sequence) and not is_text) or getattr(answer, "ndim", 0) > 0:
        return list(answer)
    raise Wrong(f"expected {what}, got {show(answer)}")


def as_numbers(answer: Any, count: int, what: str = "", cause: str = "") -> list[float]:
    """``answer``, if it holds ``count`` numbers. ``cause`` ends what tells another."""
    whole = what or f"a list of {count} numbers"
    parts = as_list(answer, whole)
    require(len(parts) == count, f"expected {whole}, got {len(parts)}{cause}")
    return [as_number(part, what or "a number") for part in parts]


def as_verdict(answer: object, exact: bool = False) -> bool:
    """``answer``, if it is True or False; ``exact``: of Python's own type."""
    verdict = answer if exact else _plain(answer)
    if type(verdict) is bool:
        return verdict
    text = f"expected True or False, got {show(verdict)}"
    is_tensor = isinstance(verdict, Tensor)
    raise Wrong(f"{text}: bool(...) makes one of a tensor" if is_tensor else text)


def is_close(a: float, b: float) -> bool:
    """Whether two computed numbers are the same."""
    return math.isclose(a, b, rel_tol=1e-5)


def tell_slip(
    got: T, slips: Iterable[tuple[T, str]], same: Callable[[T, T], bool], text: str = ""
) -> None:
    """Raise :class:`Wrong` if ``got`` is the same as what one of the slips makes.

    Args:
        slips: what each slip makes, and its name.
        same: whether two answers are the same.
        text: with what the diagnosis begins.
    """
    for value, cause in slips:
        if same(got, value):
            raise Wrong(text + cause)


def require_right(
    got: T,
    right: T,
    slips: Iterable[tuple[T, str]],
    same: Callable[[T, T], bool],
    text: str,
    otherwise: str = "",
) -> None:
    """``got`` has to be right; if it is no known slip either, tell ``otherwise``."""
    if same(got, right):
        return
    tell_slip(got, slips, same, text)
    raise Wrong(text + otherwise)


# --- answers to hidden implementations ------------------------------------------------


class Hidden:
    """What is answered to hidden implementations, each of which is asked about once.

    They come in an order that tells nothing, and an error is an answer.

    Args:
        ask_case: asks about the implementation of a name and a number.
        counts: how many there are of each name.
        refused: what a right one looks like, for an answer that refuses all of them.
    """

    def __init__(
        self,
        ask_case: Callable[[str, int], object],
        counts: Mapping[str, int],
        refused: str = "",
    ) -> None:
        self._ask, self._counts, self._refused = ask_case, counts, refused
        self._answers: dict[tuple[str, int], object] = {}

    def raw(self, name: str) -> list[object]:
        """What was answered to those of a name, errors among it."""
        if not self._answers:
            self._answers = self._ask_all()
        return [self._answers[name, i] for i in range(self._counts[name])]

    def __call__(self, name: str) -> Iterator[Any]:
        """What was answered to those of a name; an error is raised in its turn."""
        for answer in self.raw(name):
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def _ask_all(self) -> dict[tuple[str, int], object]:
        counts = self._counts.items()
        order = list(enumerate((name, i) for name, n in counts for i in range(n)))
        random.SystemRandom().shuffle(order)
        answers: dict[tuple[str, int], object] = {}
        for seed, case in order:
            torch.default_generator.manual_seed(seed)  # the order changes no answer
            try:
                answers[case] = self._ask(*case)
            except Hopeless:
                raise
            except Exception as error:
                answers[case] = error
        first, *others = answers.values()
        if type(first) in (bool, str) and all(
            type(answer) is type(first) and answer == first for answer in others
        ):
            cause = (first is False and self._refused) or "which output decides?"
            raise Hopeless(
                "expected an answer that depends on what is handed over, got "
                f"{first!r} every time: {cause}"
            )
        return answers
