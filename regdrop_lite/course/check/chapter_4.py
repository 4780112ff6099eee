"""Checkers of chapter 4, DropBlock.

The checks look at properties, never at code, and each looks at one thing only, so that
one fault does not hide behind another. Inputs are random and have both signs. A check
that depends on chance sees 5,000 maps or more: it finds a share that is 25 % off, and
a right answer fails with a probability of about one in a million.

Example:
    >>> from regdrop_lite.course.check import chapter_4 as check
    >>> check.trace([None] * 6, [None] * 6, [None] * 6, None)
    public checks 0/4
    - kept, cover, weight, share: not written yet: put an answer in the place of
      every None
"""

import itertools
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite import drop_block as _drop_block
from regdrop_lite import drop_block_gamma, drop_block_keep_prob
from regdrop_lite.course.check.core import (
    ALARM,
    Report,
    Wrong,
    ask,
    ask_about,
    choice,
    judge,
    rate_bound,
    require,
    signed,
)
from regdrop_lite.course.check.core import generator as _generator
from regdrop_lite.course.check.places import place_and_train
from regdrop_lite.course.check.properties import (
    Hidden,
    as_number,
    as_numbers,
    as_verdict,
    call,
    distinct,
    is_close,
    require_blocks,
    require_dtype,
    require_generator,
    require_gradient,
    require_same,
    require_value_error,
    require_values,
    require_written,
    require_zeros,
    tell_slip,
)
from regdrop_lite.course.extras import needs

with needs("course", "SciPy"):
    from scipy.optimize import brentq
    from scipy.stats import chisquare

__all__ = [
    "diagnose",
    "drop_block",
    "drop_one_block",
    "looks_right",
    "place_and_train",
    "solve",
    "trace",
]

_Layer = Callable[[Tensor, float, int, torch.Generator | None], Tensor]


# --- what is known of the law ---------------------------------------------------------


def _counts(size: int, k: int, starts: Collection[int]) -> Tensor:
    """For each element of a line, how many blocks of k at these starts cover it."""
    counts = [sum(s <= i < s + k for s in starts) for i in range(size)]
    return torch.tensor(counts, dtype=torch.float64)


def _inside(size: int, k: int) -> Tensor:
    """For each element of a map, how many blocks of k x k inside the map cover it."""
    line = _counts(size, k, range(size - k + 1))
    return line[:, None] * line


def _share(gamma: float, counts: Tensor) -> float:
    """The expected share of dropped elements."""
    return 1 - ((1 - gamma) ** counts).mean().item()


def _rate(counts: Tensor, p: float) -> float:
    """The rate of the seeds at which the share is p; NaN where there is none."""
    if p > _share(1.0, counts):
        return math.nan
    return float(brentq(lambda gamma: _share(gamma, counts) - p, 0, 1, xtol=1e-15))


def _textbook(size: int, k: int, p: float, places: int) -> float:
    return p * size**2 / k**2 / places**2


def _numbers_of(fell: Tensor) -> Tensor:
    """Masks (n, 4, 4) as whole numbers, one bit for each dropped element."""
    return (fell.flatten(1).long() << torch.arange(16)).sum(dim=1)


def _law(gamma: float) -> Tensor:
    """The probability of each of the 2^16 masks of a map of 4 x 4 with blocks of 2.

    It adds up all 2^9 patterns of seeds: no random number is needed.
    """
    patterns = list(itertools.product([0.0, 1.0], repeat=9))
    seeds = torch.tensor(patterns, dtype=torch.float64)
    chance = (gamma**seeds * (1 - gamma) ** (1 - seeds)).prod(dim=1)
    fell = torch.zeros(512, 4, 4, dtype=torch.bool)
    for seed, (i, j) in enumerate(itertools.product(range(3), range(3))):
        fell[seeds[:, seed] == 1, i : i + 2, j : j + 2] = True
    law = torch.zeros(2**16, dtype=torch.float64)
    return law.index_add(0, _numbers_of(fell), chance)


# --- the learner's layers -------------------------------------------------------------


def _weights(y: Tensor, x: Tensor) -> Tensor:
    """The one factor between kept values of ``y`` and of ``x``, for each place."""
    require(y.isfinite().all(), "the output has values that are NaN or infinite")
    kept, ratio = (y != 0).flatten(0, 1), (y / x).flatten(0, 1)
    low = ratio.where(kept, torch.inf).amin(dim=0)
    high = ratio.where(kept, -torch.inf).amax(dim=0)
    never = (low > high).nonzero().tolist()
    require(
        not never,
        f"the element at {tuple(never[0]) if never else ()} falls in every map, so "
        "that its weight cannot be seen",
    )
    spread = (high - low).argmax()
    require(
        torch.allclose(low, high, rtol=1e-6),
        "expected x times one weight for each place, but at one place the weights go "
        f"from {low.flatten()[spread]:.4g} to {high.flatten()[spread]:.4g}: is it x "
        "that is multiplied, and does the weight depend on the place alone?",
    )
    return high


def _require_weights(got: Tensor, expected: Tensor, known: Mapping[str, Any]) -> None:
    """``got`` has to be ``expected``; ``known`` has causes of what else comes."""
    if torch.allclose(got, expected, rtol=1e-6):
        return
    worst = int((got - expected).abs().argmax())
    place = divmod(worst, len(got))
    text = f"expected the weight {expected.flatten()[worst]:.4g} at {place}, got "
    text += f"{got.flatten()[worst]:.4g}"
    tables = ((torch.as_tensor(t).to(got).expand_as(got), c) for c, t in known.items())
    tell_slip(got, tables, torch.allclose, f"{text}: ")
    if torch.allclose(got, got[0, 0].expand_as(got)):
        raise Wrong(f"{text}: one scale cannot serve all places")
    raise Wrong(f"{text}: is each weight one over the probability to be kept?")


def _require_own(fell: Tensor, what: str) -> None:
    """Does each sample and each channel draw its own? ``fell`` is (N, C, ...)."""
    for name, first in (("samples", fell[:1]), ("channels", fell[:, :1])):
        require(
            (fell != first).any(),
            f"expected {what} of its own for every map, got one that all {name} share",
        )
    for dim, name in enumerate(("samples", "channels")):
        n, got = fell.shape[dim], torch.unique(fell, dim=dim).shape[dim]
        require(
            got == n,
            f"expected {n} {name} with {what} of their own, got {got} different: some "
            "share it",
        )


# --- the exercises --------------------------------------------------------------------

_TRACE: dict[str, list[float]] = {
    "kept": [0, 0, 0, 0, 0, 1],
    "cover": [1, 2, 3, 3, 2, 1],
    "weight": [2, 4, 8, 8, 4, 2],
    "share": [17 / 24],
}
_TRACE_RULES = {  # what holds for every element
    "kept": "a block drops three elements, from its seed on",
    "cover": "seeds at i - 2 to i drop element i, as far as they are among 0 to 3",
    "weight": "it is one over the probability that none of its c seeds fell",
    "share": "it is the mean of 1 - P(keep) over the six elements",
}
_TRACE_SLIPS: dict[str, dict[str, list[float]]] = {
    "kept": {
        "expected 1 for kept elements, got 1 for dropped ones": [1, 1, 1, 1, 1, 0],
        "expected blocks of 3, got only the seeds dropped": [0, 1, 0, 1, 1, 1],
        "expected that a seed is the first element of its block, got it as the middle "
        "one": [0, 0, 0, 0, 1, 1],
        "expected two blocks, got the one of the seed at 0": [0, 0, 0, 1, 1, 1],
        "expected two blocks, got the one of the seed at 2": [1, 1, 0, 0, 0, 1],
    },
    "cover": {
        "expected fewer than 3 at both ends, got 3: a block inside the sequence starts "
        "at 0 to 3": [3] * 6,
        "expected 2 and 1 at the right end, got 3: the last block starts at 3": [
            1, 2, 3, 3, 3, 3,
        ],
        "expected all four places, got the two where a seed fell": [1, 1, 2, 1, 1, 0],
        "expected blocks that end after three elements, got every seed up to an element"
        " counted": [1, 2, 3, 4, 4, 4],
        "expected blocks that start at their seed, got seeds in the middle": [
            2, 3, 3, 3, 2, 1,
        ],
    },
    "weight": {
        "expected 1 / P(keep), got P(keep)": [1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 4, 1 / 2],
        "expected 1 / P(keep), got 2c: that c seeds all miss has the probability "
        "(1/2)^c, not 1 / 2c": [2, 4, 6, 6, 4, 2],
        "expected 1 / P(keep), got 1 / P(drop)": [
            2, 4 / 3, 8 / 7, 8 / 7, 4 / 3, 2,
        ],
        "expected a weight for each element, got one scale for all": [24 / 7] * 6,
        "expected 1 / P(keep), got 2, one over the rate of a single seed": [2] * 6,
    },
    "share": {
        "expected the share that is dropped, got the share that is kept": [7 / 24],
        "expected the mean over all seeds, got the share in question 1": [5 / 6],
        "expected the share of elements, got the rate of seeds": [1 / 2],
        "expected a share, got a number of elements: divide by 6": [17 / 4],
        "expected less than 1: where blocks overlap, an element falls only once": [1],
        "expected a number from 0 to 1, got per cent": [1700 / 24],
    },
}  # fmt: skip


def trace(
    kept: Sequence[float],
    cover: Sequence[float],
    weight: Sequence[float],
    share: float,
) -> Report:
    """Check the answers of the exercise "Trace the seeds by hand".

    Args:
        kept: for each of six elements 1 where it is kept, 0 where it is dropped.
        cover: for each element, how many seed places could drop it.
        weight: for each element, its weight.
        share: the expected share of dropped elements.

    Example:
        >>> from regdrop_lite.course.check import chapter_4 as check
        >>> kept, cover = [0, 0, 0, 0, 0, 1], [1, 2, 3, 3, 2, 1]
        >>> check.trace(kept, cover, [2, 4, 6, 6, 4, 2], 0.71)
        public checks 3/4
        - weight: expected 1 / P(keep), got 2c: that c seeds all miss has the
          probability (1/2)^c, not 1 / 2c
    """
    given = (kept, cover, weight, share)
    answers: dict[str, Any] = dict(zip(_TRACE, given, strict=True))

    def numbers(name: str) -> list[float]:
        require_written(*given)
        answer = answers[name]
        if name == "share":
            return [as_number(answer)]
        if isinstance(answer, list | tuple):  # True counts as 1
            answer = [int(part) if type(part) is bool else part for part in answer]
        return as_numbers(answer, 6)

    def check(name: str) -> None:
        got, expected = numbers(name), _TRACE[name]
        tolerance = 0.006 if name == "share" else 0.01  # by hand, 0.71 and 1.33

        def same(one: Sequence[float], other: Sequence[float]) -> bool:
            return all(abs(a - b) < tolerance for a, b in zip(one, other, strict=True))

        if same(got, expected):
            return
        tell_slip(got, ((v, c) for c, v in _TRACE_SLIPS[name].items()), same)
        if name == "weight":
            theirs = [2**c for c in numbers("cover")]
            require(got != theirs, "expected 2^c, got it for the wrong c of your cover")
        i = max(
            range(len(got)), key=lambda i: not abs(got[i] - expected[i]) < tolerance
        )
        where = f" for element {i}" if len(got) > 1 else ""
        raise Wrong(
            f"expected {expected[i]:.4g}{where}, got {got[i]:.4g}: {_TRACE_RULES[name]}"
        )

    return judge({name: partial(check, name) for name in answers})


def drop_block(function: Callable[..., Tensor]) -> Report:
    """Check the exercise "Write your own DropBlock".

    Args:
        function: takes (x, p, k, generator) and drops blocks of k x k inside the square
            maps x, shape (N, C, H, H).

    Example:
        >>> import regdrop_lite
        >>> from regdrop_lite.course.check import chapter_4 as check
        >>> def short_cut(x, p, k, generator=None):
        ...     return regdrop_lite.drop_block(x, p, k, generator=generator)
        >>> check.drop_block(short_cut)
        public checks 0/12
        - values, blocks, rate, law, weights, own masks, generator, gradient, dtype,
          p = 0, p = 1, large blocks: expected code of your own, but it calls
          drop_block of regdrop_lite: that is what you are to build here
    """
    own = ("drop_block_gamma",)

    def apply(
        x: Tensor, p: float = 0.3, k: int = 3, g: torch.Generator | None = None
    ) -> Tensor:
        what, g = f"p = {p:g}, k = {k} and x", g or _generator()
        return call(function, x, p, k, generator=g, what=what, own=own)

    def check_blocks() -> None:
        require_blocks(distinct(apply(signed(50, 40, 10, 10), 0.1, 4)), 4)

    def check_rate() -> None:
        for p, k, size in ((0.5, 4, 10), (0.2, 3, 7), (0.7, 2, 4)):
            fell = distinct(apply(signed(100, 50, size, size), p, k))
            got, counts = fell.double().mean().item(), _inside(size, k)
            textbook = _textbook(size, k, p, size - k + 1)
            # The share of a map varies at most as much as one that falls as a whole.
            bound = rate_bound(p, len(fell))
            text = f"H = {size}, k = {k}, p = {p}: expected that a share of {p} is "
            text += f"dropped, got {got:.3f}"
            known = {
                "that is the rate of the textbook's gamma, p H^2 / (k^2 (H - k + 1)^2),"
                " which forgets that blocks overlap": _share(textbook, counts),
                "that is what gamma = p gives, but p is the share of elements, not of "
                "seeds": _share(p, counts),
                "that is what gamma = p / k^2 gives: seeds have no place near two "
                "borders, and blocks overlap": _share(p / k**2, counts),
                "keep and drop are swapped": 1 - p,
            }
            if abs(got - p) < bound:
                continue
            slips = ((share, cause) for cause, share in known.items())
            near = partial(math.isclose, rel_tol=0, abs_tol=bound / 3)
            tell_slip(got, slips, near, f"{text}: ")
            raise Wrong(
                f"{text}: the rate of the seeds has to be drop_block_gamma((H, H), k, "
                "p), with one seed for each of (H - k + 1)^2 places"
            )

    def check_law() -> None:
        p = 0.3
        fell = distinct(apply(signed(100, 50, 4, 4), p, 2))
        n, share, counts = len(fell), fell.double().mean().item(), _inside(4, 2)
        # Another rate is told by its own check: here only what falls together counts.
        near = abs(share - p) < rate_bound(p, n)
        law = _law(_rate(counts, p if near else share))
        numbers = _numbers_of(fell)
        impossible = (law[numbers] == 0).double().mean().item()
        require(
            impossible == 0,
            f"on maps of 4 x 4 with k = 2, expected the masks that 512 patterns of "
            f"seeds can make, got {impossible:.0%} others",
        )
        single = fell[fell.sum(dim=(1, 2)) == 4].flatten(1).double().argmax(dim=1)
        places = [divmod(int(place), 4) for place in torch.unique(single)]
        require(
            len(places) == 9 or len(single) < 100,  # those are shared
            f"on maps of 4 x 4 with k = 2, expected blocks at 9 places, got them at "
            f"{len(places)}: {places}",
        )
        often = law * n > 10  # rarer masks are counted together
        counted = torch.bincount(numbers, minlength=2**16).double()
        got = torch.cat([counted[often], counted[~often].sum()[None]])
        wanted = torch.cat([law[often], law[~often].sum()[None]]) * n
        if chisquare(got.numpy(), wanted.numpy()).pvalue < ALARM:
            empty = (counted[0] / n).item()
            raise Wrong(
                f"on maps of 4 x 4 with k = 2 the masks do not follow the law of the "
                f"512 patterns (chi-square): expected {law[0].item():.1%} maps that "
                f"lose nothing, got {empty:.1%}: does every seed fall by itself?"
            )

    def check_weights() -> None:
        x, p, k, size = signed(50, 40, 7, 7), 0.2, 3, 7
        got = _weights(apply(x, p, k), x)
        counts = _inside(size, k)
        line = counts.diagonal().sqrt()
        gamma = drop_block_gamma((size, size), k, p)
        miss = 1 - gamma
        keep = miss**counts
        theirs = 1 - 1 / got[0, 0].item()  # what the weight of a corner says
        known = {
            "what is kept is not scaled": 1.0,
            "one scale 1/(1 - p) for all is right on average only": 1 / (1 - p),
            "it is multiplied by P(keep), not divided": keep,
            "the exponent is the c_i of a line, an element of a map has c_i c_j": (
                miss**-line
            ),
            "the exponent is the c_j of a line, an element of a map has c_i c_j": (
                miss ** -line[:, None]
            ),
            "the exponent is c_i + c_j, but a seed needs both a row and a column: "
            "c_i c_j": miss ** -(line + line[:, None]),
            "every element is weighted as if k^2 seeds could drop it": miss ** -(k**2),
            "every element is weighted as if one seed could drop it": 1 / miss,
            f"these weights belong to gamma = {theirs:.4g}, but the rate for p = {p} "
            f"is {gamma:.4g}": (1 - theirs) ** -counts if theirs < 1 else math.nan,
        }
        _require_weights(got, 1 / keep, known)

    def check_large() -> None:
        x, p, k, size = signed(100, 50, 5, 5), 0.25, 9, 5
        whole, y = apply(x, p, size), apply(x, p, k)
        text = f"H = {size}, k = {k}: expected that a larger block counts as the whole "
        fell, as_whole = distinct(y), distinct(whole)
        require(
            (fell == fell[:, :1, :1]).all(),
            f"{text}map, got maps of which a part falls",
        )
        got, expected = fell.double().mean().item(), as_whole.double().mean().item()
        require(
            abs(got - expected) < 2 * rate_bound(p, min(len(fell), len(as_whole))),
            f"{text}map, of which a share of {expected:.3f} is dropped, got {got:.3f}",
        )
        weight, other = _weights(whole, x)[0, 0].item(), _weights(y, x)
        worst = other.flatten()[(other - weight).abs().argmax()].item()
        require(
            math.isclose(worst, weight, rel_tol=1e-6),
            f"{text}map, with the weight {weight:.4g}, got {worst:.4g}",
        )

    def check_ends(p: float) -> None:
        for k in (3, 1):
            x = signed(20, 30, 5, 5)
            y = apply(x, p, k)
            if p:
                require_zeros(y, "at p = 1")
            else:
                require_same(y, x, "at p = 0", "elements")

    def check_own() -> None:
        _require_own(apply(signed(40, 40, 7, 7)) == 0, "a mask")

    def check_values() -> None:
        x = signed(50, 40, 7, 7)
        require_values(apply, "elements", x, "at p = 0.3 and k = 3")

    x = signed(9, 9, 8, 8)
    return judge(
        {
            "values": check_values,
            "blocks": check_blocks,
            "rate": check_rate,
            "law": check_law,
            "weights": check_weights,
            "own masks": check_own,
            "generator": lambda: require_generator(lambda g: apply(x, g=g)),
            "gradient": lambda: require_gradient(partial(apply, k=1)),
            "dtype": lambda: require_dtype(apply),
            "p = 0": partial(check_ends, 0.0),
            "p = 1": partial(check_ends, 1.0),
            "large blocks": check_large,
        }
    )


_Border = tuple[int, int, float, Collection[int]]  # size, k, p, starts
_BORDERS: dict[str, list[_Border]] = {
    "inside": [(14, 7, 0.1, range(8)), (14, 6, 0.5, range(9)), (7, 7, 0.3, range(1))],
    "touching": [(14, 7, 0.1, range(-6, 14)), (14, 6, 0.5, range(-5, 14))],
    "centred": [(14, 7, 0.1, range(-3, 11)), (14, 6, 0.3, range(-3, 11))],
    "any starts": [
        (10, 4, 0.25, (5, 0, 2, -1, 4)),
        (9, 3, 0.4, (0, 3, 6)),
        (4, 2, 0.2, range(1)),
        (9, 1, 0.9, range(9)),
    ],
}


def _slips(size: int, k: int, p: float, starts: Collection[int]) -> dict[str, float]:
    """The rates that usual slips give, by what they are."""

    def square(line: Tensor) -> Tensor:
        return line[:, None] * line

    line = _counts(size, k, starts)
    right = _rate(square(line), p)
    return {
        "that is the rate of blocks of k + 1, so the counts are too large: s covers i "
        "where s <= i < s + k": _rate(square(_counts(size, k + 1, starts)), p),
        "that is the rate of blocks of k - 1, so the counts are too small: s covers i "
        "where s <= i < s + k": _rate(square(_counts(size, k - 1, starts)), p),
        "that is the rate with starts one place later: s covers i = s, too": _rate(
            square(_counts(size, k, [s + 1 for s in starts])), p
        ),
        "that is the rate on a line: on a map c_i c_j seeds cover an element, not "
        "c_i": _rate(line, p),
        "that is the rate for c_i + c_j seeds: a start needs a row and a column, "
        "c_i c_j": _rate(line + line[:, None], p),
        "that is the textbook's formula, which forgets that blocks overlap": _textbook(
            size, k, p, len(starts)
        ),
        "that is p over the mean count: shares add up only where no blocks overlap": p
        / square(line).mean().item(),
        "that is the rate for starts from 0 to size - k: use the starts that are "
        "given": _rate(_inside(size, k), p),
        "that is the rate for starts from 1 - k to size - 1: use the starts that are "
        "given": 1 - (1 - p) ** (1 / k**2),
        "at that rate the share p is kept, not dropped": _rate(square(line), 1 - p),
        "that is 1 - gamma, the probability that a seed does not fall": 1 - right,
        "that is p itself, the share of elements, not the rate of seeds": p,
    }


def solve(function: Callable[..., float]) -> Report:
    """Check the exercise "Solve for the rate of any border".

    Args:
        function: takes (size, k, p, starts) and returns the rate of seeds at which
            blocks of k x k that start at starts x starts drop the share p.

    Example:
        >>> from regdrop_lite.course.check import chapter_4 as check
        >>> def touching(size, k, p, starts):
        ...     return 1 - (1 - p) ** (1 / k**2)
        >>> report = check.solve(touching)
        >>> sorted(report.diagnoses)
        ['any starts', 'centred', 'inside']
    """

    def check_case(size: int, k: int, p: float, starts: Collection[int]) -> None:
        try:
            answer = ask(function, size, k, p, starts, own=())
        except Exception as error:
            error.add_note(f"for size {size}, k = {k}, p = {p} and starts {starts}")
            raise
        got = as_number(answer, "one number")
        line = _counts(size, k, starts)
        expected = _rate(line[:, None] * line, p)
        if math.isclose(got, expected):
            return
        text = f"size {size}, k = {k}, p = {p}, starts {starts}: expected gamma = "
        text += f"{expected:.10g}, got {got:.10g}: "
        raise Wrong(text + cause(got, expected, _slips(size, k, p, starts)))

    def cause(got: float, expected: float, slips: Mapping[str, float]) -> str:
        if not 0 <= got <= 1:
            return "a rate lies between 0 and 1"
        halvings = math.log2(got.as_integer_ratio()[1])
        error = abs(got - expected)
        if 5 <= halvings < 40 and error <= 2**-halvings:
            return (
                f"after {halvings:.0f} halvings the interval is still "
                f"{2**-halvings:.1g} wide: nine digits need more"
            )
        for slip, rate in slips.items():
            if is_close(got, rate) and error > 1e-5 * expected:
                return slip
        if error < 1e-3 * expected:
            return "near, but not in nine digits: an early stop, or float32?"
        if got > 1 - 1e-9:
            return "the search ends at 1: which half is kept, has an element no start?"
        return "does the share rise with gamma, and does it use these starts?"

    def check_border(name: str) -> None:
        for case in _BORDERS[name]:
            check_case(*case)

    return judge({name: partial(check_border, name) for name in _BORDERS})


_FAULTS = (
    "ok",
    "textbook rate",
    "seeds everywhere",
    "one scale",
    "smaller block",
    "shared by the batch",
)
_REPETITIONS = {"ok": 20, "textbook rate": 20, "right": 20}  # of all others, two
_HINTS = {  # (what it is, or None for all others; what it was called): what to look at
    ("ok", "textbook rate"): (
        "its share is p up to chance: how many standard errors off is too far, if you "
        "ask twenty times?"
    ),
    ("textbook rate", "ok"): (
        "its weights tell nothing, the mean share does: p = 0.5 and a k near H/2 make "
        "the miss large, many maps make the error small"
    ),
    ("seeds everywhere", "ok"): (
        "its blocks are cut at the border: does a map lose fewer than k^2 elements?"
    ),
    ("seeds everywhere", "textbook rate"): (
        "its rate is the textbook's as well, but first look for blocks that are cut"
    ),
    ("seeds everywhere", "smaller block"): (
        "a block that is cut in a corner can have (k - 1)^2 elements, at k = 3: take "
        "k >= 4"
    ),
    ("one scale", "ok"): "compare the kept values of a corner with those of the middle",
    ("smaller block", "ok"): (
        "count the elements that fall in a map that loses any: (k - 1)^2 at the least"
    ),
    ("smaller block", "textbook rate"): (
        "its rate is right for k - 1: count the elements of a single block first"
    ),
    ("smaller block", "seeds everywhere"): (
        "a map that loses any loses (k - 1)^2 at the least, a cut block fewer"
    ),
    ("shared by the batch", "ok"): "compare the samples, and send in more than one",
    ("shared by the batch", "textbook rate"): (
        "its maps share one draw for all samples, so that their mean has a large error"
    ),
    (None, "seeds everywhere"): (
        "its blocks are whole: no map that loses any loses fewer than one block"
    ),
    (None, "one scale"): (
        "its weights differ from place to place, but not at k = 1 or k = H"
    ),
    (None, "smaller block"): "some of its maps lose more or less than (k - 1)^2",
    (None, "shared by the batch"): (
        "its samples differ, but at a low rate two can both lose nothing: send in more"
    ),
}


def _reseeded(function: Callable[..., Tensor], repetition: int) -> _Layer:
    """The same function, with other random numbers for every repetition."""

    def other(
        x: Tensor, p: float, k: int, generator: torch.Generator | None = None
    ) -> Tensor:
        seed = int(torch.randint(2**40, (1,), generator=generator)) + repetition
        with warnings.catch_warnings(action="ignore"):  # of weights that are large
            return function(x, p, k, generator=_generator(seed))

    return other


def _implementation(fault: str, repetition: int) -> _Layer:
    """A DropBlock for square maps with one fault."""

    def function(x: Tensor, p: float, k: int, generator: torch.Generator) -> Tensor:
        N, C, H, _ = x.shape
        k = min(k, H)
        side = max(k - 1, 1) if fault == "smaller block" else k
        if p == 1:
            return torch.zeros_like(x)
        right = gamma = drop_block_gamma((H, H), side, p)
        if fault in ("textbook rate", "seeds everywhere"):
            gamma = _textbook(H, k, p, H - k + 1)
        places = H if fault == "seeds everywhere" else H - side + 1
        samples = 1 if fault == "shared by the batch" else N
        u = torch.rand(
            samples, C, places, places, dtype=torch.float64, generator=generator
        )
        fell = F.max_pool2d(F.pad((u < gamma).to(x), [side - 1] * 4), side, stride=1)
        begin = (k - 1) // 2 if fault == "seeds everywhere" else 0
        fell = fell[..., begin : begin + H, begin : begin + H]
        keep = drop_block_keep_prob((H, H), side, right).to(x)
        return x * (1 - fell) / (1 - p if fault == "one scale" else keep)

    right = fault == "ok" and repetition % 2
    return _reseeded(_drop_block if right else function, repetition)


def _counts_of(*names: str) -> dict[str, int]:
    return {name: _REPETITIONS.get(name, 2) for name in names}


def diagnose(function: Callable[[Callable[..., Tensor]], str]) -> Report:
    """Check the exercise "Find the bug".

    Args:
        function: takes an implementation of DropBlock, itself called as
            ``implementation(x, p, k, generator)``, and returns the name of its fault.
            It is handed hidden implementations: twenty with the right rate, twenty with
            the textbook's, and two for each other fault.

    Example:
        >>> from regdrop_lite.course.check import chapter_4 as check
        >>> check.diagnose(lambda implementation: "ok")
        public checks 0/6
        - ok, textbook rate, seeds everywhere, one scale, smaller block, shared by
          the batch: not written yet: the function that it is given is never called
    """

    def ask_case(fault: str, repetition: int) -> str:
        return choice(ask_about(function, _implementation(fault, repetition)), _FAULTS)

    hidden = Hidden(ask_case, _counts_of(*_FAULTS))

    def check_fault(fault: str) -> None:
        named = list(hidden(fault))
        wrong = [name for name in named if name != fault]
        if wrong:
            often = max(set(wrong), key=wrong.count)
            hint = _HINTS.get((fault, often), _HINTS.get((None, often), ""))
            count = f"{wrong.count(often)} of {len(named)} times"
            text = f"expected {fault!r}, got {often!r} ({count})"
            raise Wrong(f"{text}: {hint}" if hint else text)

    return judge({fault: partial(check_fault, fault) for fault in _FAULTS})


_IMPOSTORS = {  # what passes, and what to look at
    "single elements": "single elements fall, each on its own: look at two at a time",
    "flat lines": "it drops lines: is every dropped element in a square of k x k?",
    "tall lines": "it drops standing lines: look at rows and at columns",
    "larger blocks": (
        "it drops blocks of k + 1, which consist of blocks of k: look for a single one"
    ),
    "smaller blocks": "it drops blocks of k - 1: what falls has to fill k x k",
    "torn squares": (
        "it drops squares whose odd rows are mirrored: their numbers do not tell"
    ),
    "tiles": "it drops blocks at multiples of k only: right blocks may overlap",
    "shared channels": "it has one mask for all channels of a sample: compare channels",
    "shared samples": "it has one mask for all samples: compare them",
}


def _impostor(name: str) -> Callable[..., Tensor]:
    """A DropBlock whose blocks do not fall as they should."""
    draw = _drop_block

    def lines(x: Tensor, p: float, k: int, generator: torch.Generator) -> Tensor:
        """Blocks of 1 x k^2, or as long as the map."""
        return draw(x, p, (1, min(k * k, x.shape[-1])), generator=generator)

    def function(x: Tensor, p: float, k: int, generator: torch.Generator) -> Tensor:
        H = x.shape[-1]
        if name == "single elements":
            keep = drop_block_keep_prob((H, H), k, drop_block_gamma((H, H), k, p))
            u = torch.rand(x.shape, dtype=torch.float64, generator=generator)
            return x * (u < keep) / keep.to(x)
        if name == "flat lines":
            return lines(x, p, k, generator)
        if name == "tall lines":
            return lines(x.mT, p, k, generator).mT
        if name in ("larger blocks", "smaller blocks"):
            step = 1 if name == "larger blocks" else -1
            return draw(x, p, max(k + step, 1), generator=generator)
        if name == "torn squares":
            m = draw(torch.ones_like(x), p, k, generator=generator).clone()
            m[..., 1::2, :] = m[..., 1::2, :].flip(-1)
            return x * m
        if name == "tiles":
            n = max(H // k, 1)
            fell = torch.rand(*x.shape[:2], n, n, generator=generator) < p
            places = (torch.arange(H) // k).clamp(max=n - 1)
            return x * ~fell[..., places, :][..., places] / (1 - p)
        if name == "shared channels":
            return draw(x, p, k, shared=True, generator=generator)
        return x * draw(torch.ones_like(x[:1]), p, k, generator=generator)

    return function


def looks_right(function: Callable[[Callable[..., Tensor]], bool]) -> Report:
    """Check the exercise "Design a test that sees blocks".

    Args:
        function: takes a DropBlock, itself called as
            ``implementation(x, p, k, generator=g)``, and returns whether what falls
            together is what DropBlock drops together. It is handed the right one twenty
            times, from other random numbers, and every impostor twice. To reject an
            impostor counts only if the right one is accepted every time.

    Example:
        >>> from regdrop_lite.course.check import chapter_4 as check
        >>> def suspicious(implementation):
        ...     implementation(torch.ones(2, 3, 9, 9), 0.1, 3)
        ...     return False
        >>> check.looks_right(suspicious)
        public checks 0/10
        - right, single elements, flat lines, tall lines, larger blocks, smaller
          blocks, torn squares, tiles, shared channels, shared samples: expected an
          answer that depends on what is handed over, got False every time: which
          output decides?
    """

    def ask_case(name: str, repetition: int) -> bool:
        implementation = (
            _implementation("ok", repetition)
            if name == "right"
            else _reseeded(_impostor(name), repetition)
        )
        return as_verdict(ask_about(function, implementation))

    hidden = Hidden(ask_case, _counts_of("right", *_IMPOSTORS))

    def check_right() -> None:
        verdicts = list(hidden("right"))
        rejected, times = verdicts.count(False), len(verdicts)
        require(
            rejected < times,
            "expected that the right DropBlock is accepted, got False every time: what "
            "does it do that you forbid?",
        )
        require(
            not rejected,
            f"expected that the right DropBlock is always accepted, got False "
            f"{rejected} of {times} times: does your test ask for what chance may "
            "deny?",
        )

    def check_impostor(name: str) -> None:
        require(
            all(hidden("right")),
            "no credit for the rejection of an impostor while the right DropBlock is "
            "not accepted every time",
        )
        verdicts = list(hidden(name))
        passes = verdicts.count(True)
        require(
            not passes,
            f"expected False, got True {passes} of {len(verdicts)} times: "
            f"{_IMPOSTORS[name]}",
        )

    impostors = {name: partial(check_impostor, name) for name in _IMPOSTORS}
    return judge({"right": check_right, **impostors})


def drop_one_block(function: Callable[..., Tensor]) -> Report:
    """Check the exercise "Drop exactly one block".

    Args:
        function: takes (x, k, generator) and drops one block of k x k in each of the
            square maps x, shape (N, C, H, H).

    Example:
        >>> import regdrop_lite
        >>> from regdrop_lite.course.check import chapter_4 as check
        >>> def random_number(x, k, generator=None):
        ...     return regdrop_lite.drop_block(x, 0.3, k, generator=generator)
        >>> report = check.drop_one_block(random_number)
        >>> print(report.diagnoses["one block"].split(", ")[0])
        expected that every map loses 9 elements for k = 3
    """

    def apply(x: Tensor, k: int = 3, g: torch.Generator | None = None) -> Tensor:
        return call(function, x, k, generator=g or _generator(), what=f"k = {k} and x")

    def blocks() -> Tensor:
        """What falls in 20,000 maps of 7 x 7, (200, 100, 7, 7)."""
        fell = apply(signed(200, 100, 7, 7)) == 0
        lost = fell.sum(dim=(2, 3))
        low, high = int(lost.min()), int(lost.max())
        require(
            low == high == 9,
            "expected that every map loses 9 elements for k = 3, got "
            + (f"{low}" if low == high else f"from {low} to {high}"),
        )
        whole = F.avg_pool2d(fell.double(), 3, stride=1).amax(dim=(2, 3)) > 0.999
        require(
            whole.all(),
            "expected 9 elements that form a square for k = 3, got "
            f"{int((~whole).sum())} of {whole.numel()} maps in which they do not",
        )
        return fell

    def check_own() -> None:
        fell = apply(signed(200, 100, 7, 7)) == 0
        _require_own(fell.any(dim=3), "a row")
        _require_own(fell.any(dim=2), "a column")

    def check_uniform() -> None:
        fell = blocks()
        starts = distinct(~fell).flatten(1).double().argmax(dim=1)
        allowed = torch.tensor([7 * i + j for i in range(5) for j in range(5)])
        often = torch.bincount(starts, minlength=49)[allowed].double()
        never = [divmod(int(place), 7) for place in allowed[often == 0]]
        text = f"H = 7, k = 3: expected blocks at {len(allowed)} places equally often, "
        require(
            not never,
            f"{text}got none at {len(never)} of them, {never[:4]} ...: do both lines "
            "draw on their own, up to H - k?",
        )
        worst = int((often - often.mean()).abs().argmax())
        require(
            chisquare(often.numpy()).pvalue > ALARM,
            f"{text}1/{len(allowed)} = {1 / len(allowed):.1%}, got "
            f"{(often / often.sum())[worst].item():.1%} at "
            f"{divmod(int(allowed[worst]), 7)}",
        )

    def check_mean() -> None:
        x, k, size = signed(200, 100, 8, 8), 3, 8
        y = apply(x)
        got, zero = _weights(y, x), distinct(y)
        # The weight that makes up for what falls at a place, whatever falls there. 64
        # places are looked at, so that each gets a quarter more room.
        share = 1 - zero.double().mean(dim=0)
        off = (share - 1 / got).abs()
        bound = 1.25 * rate_bound(0.5, len(zero))
        if (off < bound).all():
            return
        keep = 1 - _inside(size, k) / (size - k + 1) ** 2
        known = {
            "what is kept is not scaled": 1.0,
            "one scale H^2/(H^2 - k^2) is right on average only, but places in the "
            "middle fall more often": size**2 / (size**2 - k**2),
            "it is multiplied by P(keep), not divided": keep,
            "that is one over the probability to fall": 1 / (1 - keep),
            "P(keep) needs c_i c_j of (H - k + 1)^2 places, not c_i of H - k + 1": (
                1 / (1 - _counts(size, k, range(size - k + 1)) / (size - k + 1))
            ),
            "that is DropBlock's weight, for seeds that fall on their own": (
                (1 - 1 / (size - k + 1) ** 2) ** -_inside(size, k)
            ),
        }
        _require_weights(got, 1 / keep, known)

    def check_refusal() -> None:
        for size, k in ((5, 3), (3, 2), (4, 3)):
            require_value_error(
                partial(apply, signed(2, 3, size, size), k),
                f"k = {k} on a map of {size}, whose middle every place covers,",
                [""],  # whatever the message says
            )
        for size, k in ((6, 3), (2, 1), (9, 4)):
            try:
                apply(signed(2, 3, size, size), k)
            except ValueError as error:
                raise Wrong(
                    f"k = {k} on a map of {size} raises a ValueError ({error!s:.60}), "
                    "but there every element can be kept: expected none while 2k <= H"
                ) from None

    def check_values() -> None:
        require_values(apply, "elements", signed(50, 40, 7, 7), "at k = 3")

    def corner(x: Tensor) -> Tensor:
        """A part of a larger map, since a map of 2 x 2 is at the limit of 2k <= H."""
        height, width = x.shape[2:]
        return apply(F.pad(x, (0, 2, 0, 2), value=1.0), 1)[..., :height, :width]

    x = signed(9, 9, 8, 8)
    return judge(
        {
            "values": check_values,
            "one block": blocks,
            "own places": check_own,
            "equal chances": check_uniform,
            "mean": check_mean,
            "generator": lambda: require_generator(lambda g: apply(x, g=g)),
            "gradient": lambda: require_gradient(corner),
            "dtype": lambda: require_dtype(corner),
            "no weight": check_refusal,
        }
    )
