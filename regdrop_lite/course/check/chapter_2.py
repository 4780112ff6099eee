"""Checkers of chapter 2, implicit ensembles.

Expectations are exact here, sums over all masks, so that no check needs luck. Only the
last exercise draws: its functions are judged for fixed seeds, and how often a right one
is rejected by chance is for the learner to decide.

Factor, groups and samples are checked apart: each check divides by what the answer
itself makes of a single value, so that a wrong factor is not told as a wrong grouping.

Example:
    >>> from regdrop_lite.course.check import chapter_2 as check
    >>> check.list_masks([None] * 4, [None] * 4, None, None)
    public checks 0/4
    - probabilities, sums, mean, variance: not written yet: put an answer in the
      place of every None
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dis import get_instructions
from functools import partial
from itertools import islice
from types import CodeType
from typing import Any, cast

import torch
from torch import Tensor, nn

from regdrop_lite import spatial_dropout
from regdrop_lite.course.check.core import (
    Hopeless,
    Report,
    Wrong,
    ask,
    ask_about,
    choice,
    judge,
    require,
    show,
    signed,
)
from regdrop_lite.course.check.core import generator as _generator
from regdrop_lite.course.check.properties import (
    Hidden,
    as_number,
    as_numbers,
    as_verdict,
    is_close,
    require_right,
    require_written,
    tell_slip,
)
from regdrop_lite.course.ensembles import all_masks

__all__ = [
    "average_two",
    "averaging_rows",
    "channel_penalty",
    "ensemble_mean",
    "exact_pass",
    "group_variance",
    "keeps_the_mean",
    "list_masks",
    "reverse_order",
]


# --- answers by hand ------------------------------------------------------------------


def _near(got: Iterable[float], right: Iterable[float]) -> bool:
    """Two digits after the point are enough by hand."""
    pairs = zip(got, right, strict=True)
    return all([math.isclose(a, b, rel_tol=0, abs_tol=0.005) for a, b in pairs])


def list_masks(
    probability: Sequence[float],
    total: Sequence[float],
    z_mean: float,
    z_variance: float,
) -> Report:
    """Check the exercise "List four masks by hand".

    Args:
        probability: of each of the four masks.
        total: the sum z under each of them.
        z_mean: the mean of z.
        z_variance: the variance of z.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> check.list_masks([0.25] * 4, [0, 2, 4, 6], 3, 5)
        public checks 1/4
        - probabilities: the four masks are not equally likely: expected a product
          of p = 0.2 for every channel that falls and q = 0.8 for every one that
          stays, got 0.25 for each
        - sums: expected kept values that are divided by q = 0.8, got them without
          the scale
        - mean: expected the sum without masks, since dropout keeps the mean, got 3,
          the mean of your sums with your probabilities: mend those first
    """
    first, second, p, q = 4.0, 2.0, 0.2, 0.8
    names = ("both dropped", "second kept", "first kept", "both kept")
    chances = (p * p, p * q, q * p, q * q)
    sums = (0.0, second / q, first / q, (first + second) / q)
    squares = first**2 + second**2

    def check_probabilities() -> None:
        require_written(probability, total, z_mean, z_variance)
        got = as_numbers(probability, 4)
        slips = [
            (
                chances[::-1],
                f"keep and drop are exchanged: expected {p} as the probability to drop "
                f"and the mask with both dropped first, got {got[0]:g} for it",
            ),
            (
                [0.25] * 4,
                f"the four masks are not equally likely: expected a product of p = {p} "
                f"for every channel that falls and q = {q} for every one that stays, "
                "got 0.25 for each",
            ),
            (
                [100 * c for c in chances],
                "expected probabilities that sum to 1, got per cent",
            ),
            (
                (p + p, p + q, q + p, q + q),
                "expected products, since the channels fall on their own, got the sums "
                "of the two channels' probabilities",
            ),
        ]
        if _near(got, chances):
            return
        tell_slip(got, slips, _near)
        require(
            _near([sum(got)], [1.0]),
            "expected probabilities that sum to 1, since one of the masks always "
            f"comes, got the sum {sum(got):.4g}",
        )
        rules = ("p * p", "p * q", "q * p", "q * q")
        for name, rule, a, b in zip(names, rules, got, chances, strict=True):
            require(_near([a], [b]), f"{name}: expected {rule}, got {a:.4g}")

    def check_sums() -> None:
        got = as_numbers(total, 4)
        slips = [
            (
                [q * s for s in sums],
                f"expected kept values that are divided by q = {q}, got them without "
                "the scale",
            ),
            (
                [q * q * s for s in sums],
                f"expected kept values divided by q = {q}, got them multiplied by it",
            ),
            (
                [q / p * s for s in sums],
                f"expected kept values divided by q = {q}, got them divided by p = {p}",
            ),
            (
                (sums[0], sums[2], sums[1], sums[3]),
                "the two masks in the middle are exchanged: expected the one that "
                f"keeps the second channel first, got {got[1]:g} for it, which is what "
                "the first channel adds",
            ),
            (
                sums[::-1],
                "what is dropped is added up, or the list runs from the other end: "
                f"expected 0 where both are dropped, got {got[0]:g}",
            ),
        ]
        if _near(got, sums):
            return
        tell_slip(got, slips, _near)
        for name, a, b in zip(names, got, sums, strict=True):
            require(
                _near([a], [b]),
                f"{name}: expected {b:g}, what is kept divided by q, got {a:.4g}",
            )

    def own() -> tuple[list[float], list[float]]:
        try:
            return as_numbers(probability, 4), as_numbers(total, 4)
        except Wrong:
            return list(chances), list(sums)

    def check_mean() -> None:
        got, right = as_number(z_mean), first + second
        weights, values = own()
        text = "expected the sum without masks, since dropout keeps the mean, got "
        text += f"{got:.4g}"
        mine = sum(w * v for w, v in zip(weights, values, strict=True))
        slips = [
            ([mine], ", the mean of your sums with your probabilities: mend those "
             "first"),
            ([sum(sums) / 4], ", where all sums count the same: weight each by its "
             "probability"),
            ([q * right], ", as if kept values were not scaled"),
            ([sums[3]], ", the sum under the likeliest mask alone"),
        ]  # fmt: skip
        otherwise = ": add up probability times sum"
        require_right([got], [right], slips, _near, text, otherwise)

    def check_variance() -> None:
        got, right = as_number(z_variance), p / q * squares
        weights, values = own()
        mean = sum(w * v for w, v in zip(weights, values, strict=True))
        mine = sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True))
        spread = [(s - sum(sums) / 4) ** 2 for s in sums]
        around = sum((s - first - second) ** 2 for s in sums) / 4
        text = "expected squared distances to the mean, weighted by probability, got"
        alike = f"{text} {got:.4g}, where all four masks count the same"
        slips = [
            ([mine], f"{text} {got:.4g}, the variance of your sums with your "
             "probabilities: mend those first"),
            ([p / q * (first + second) ** 2], f"expected the channels to fall one by "
             f"one, got {got:.4g}, as if both fell together: square each before you "
             "add"),
            ([math.sqrt(right)], f"expected a variance, got {got:.4g}, its root: that "
             "is the standard deviation"),
            ([right + (first + second) ** 2], f"expected distances to the mean, got "
             f"{got:.4g}, the mean of the squares: subtract the squared mean"),
            ([p * q * squares], f"expected the variance of scaled sums, got {got:.4g}, "
             "as if kept values were not divided by q"),
            ([p * squares], f"expected p/q times the sum of squares, got {got:.4g}, p "
             "times it"),
            ([q / p * squares], f"expected p/q times the sum of squares, got {got:.4g},"
             " q/p times it"),
            ([sum(spread) / 4], alike),
            ([sum(spread) / 3], alike),
            ([around], alike),
        ]  # fmt: skip
        otherwise = f"{text} {got:.4g}: the mean is the mean over the masks"
        require_right([got], [right], slips, _near, "", otherwise)

    return judge(
        {
            "probabilities": check_probabilities,
            "sums": check_sums,
            "mean": check_mean,
            "variance": check_variance,
        }
    )


def average_two(
    arithmetic: float, geometric: float, losses: Sequence[float], follows: str
) -> Report:
    """Check the exercise "Average two nets by hand".

    Args:
        arithmetic: probability of the true class in the arithmetic mean.
        geometric: the same in the normalised geometric mean.
        losses: cross-entropy of the two means, the average and the best member.
        follows: what each mean is never worse than.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> check.average_two(0.55, 0.424, [None] * 4, None)
        public checks 1/4
        - geometric mean: expected a share of both classes' roots, got 0.424, the
          root of the product alone: divide by what the two classes' roots sum to
        - four losses: expected a number, got None
        - what follows: None is not one of the 3 answers
    """
    a, b = 0.9, 0.2
    root, other = math.sqrt(a * b), math.sqrt((1 - a) * (1 - b))
    means = ((a + b) / 2, root / (root + other))
    members = (-math.log(a), -math.log(b))
    right = (*[-math.log(m) for m in means], sum(members) / 2, min(members))

    def probability(answer: object) -> float:
        got = as_number(answer)
        require(0 <= got <= 1, f"expected a probability from 0 to 1, got {got:.4g}")
        return got

    def check_arithmetic() -> None:
        require_written(arithmetic, geometric, losses, follows)
        got = as_number(arithmetic)
        text = f"expected half the sum of {a} and {b}, got {got:.4g}"
        slips = [
            ([a + b], ", the whole sum"),
            ([1 - means[0]], ", the probability of the other class"),
            ([means[1]], ", the geometric mean: the two are exchanged"),
            ([root], ", the root of the product"),
        ]
        tell_slip([got], slips, _near, text)
        probability(got)
        otherwise = ": add the true class's two probabilities and halve"
        require(_near([got], [means[0]]), text + otherwise)

    def check_geometric() -> None:
        got = as_number(geometric)
        text = f"expected a share of both classes' roots, got {got:.4g}"
        product = a * b / (a * b + (1 - a) * (1 - b))
        slips = [
            ([root], ", the root of the product alone: divide by what the two "
             "classes' roots sum to"),
            ([1 - means[1]], ", the share of the other class"),
            ([means[0]], ", the arithmetic mean: have the two changed places?"),
            ([a * b], ", the product without a root"),
            ([product], ", the share of the products: take roots of both first"),
        ]  # fmt: skip
        tell_slip([got], slips, _near, text)
        probability(got)
        require(
            _near([got], [means[1]]),
            f"{text}: take the root of the product for both classes, then divide by "
            "the sum",
        )

    def check_losses() -> None:
        got = as_numbers(losses, 4)
        slips = [
            ([loss / math.log(10) for loss in right],
             "expected natural logarithms, got those to the base 10"),
            ([loss / math.log(2) for loss in right],
             "expected natural logarithms, got those to the base 2"),
            ([-loss for loss in right],
             "expected -log of a probability, got log: the sign is missing"),
            ([right[1], right[0], *right[2:]],
             "the first two are exchanged: expected the arithmetic mean first, got "
             f"{got[0]:.4g} for it"),
        ]  # fmt: skip
        if _near(got, right):
            return
        tell_slip(got, slips, _near)
        for name, value, loss, answer in zip(
            ("arithmetic", "geometric"), got, right, (arithmetic, geometric),
            strict=False,
        ):  # fmt: skip
            if _near([value], [loss]):
                continue
            text = f"{name} mean: expected -log of its probability, got {value:.4g}"
            try:
                mine = -math.log(probability(answer))
            except (Wrong, ValueError):
                mine = math.nan
            if _near([value], [mine]):
                raise Wrong(f"{text}, which fits your {name} mean: mend that first")
            raise Wrong(text)
        text = f"average member: expected the mean of two losses, got {got[2]:.4g}"
        slips = [
            ([right[0]], ", the loss of the mean"),
            ([right[1]], ", the loss of the normalised geometric mean"),
            ([sum(members)], ", their sum: halve it"),
            ([(right[0] + right[1]) / 2], ", the mean of the two means' losses"),
        ]
        otherwise = f": take -log of {a} and of {b}, and average"
        require_right(got[2:3], right[2:3], slips, _near, text, otherwise)
        text = f"best member: expected -log {a}, got {got[3]:.4g}"
        slips = [([max(members)], ", the loss of the worst member")]
        require_right(got[3:], right[3:], slips, _near, text)

    def check_follows() -> None:
        answers = ("the best member", "the average member", "one pass without masks")
        hints = {
            answers[0]: "compare your four losses: here it is better than both means",
            answers[2]: "two members do not settle what one pass predicts; the chapter "
            "has a net where it is better",
        }
        got = choice(follows, answers)
        require(
            got == answers[1],
            f"expected what Jensen's inequality compares a mean with, got {got!r}: "
            f"{hints.get(got)}",
        )

    return judge(
        {
            "arithmetic mean": check_arithmetic,
            "geometric mean": check_geometric,
            "four losses": check_losses,
            "what follows": check_follows,
        }
    )


_EXACT = {  # is one pass exact; what to think of, if the answer was another one
    "a": (
        True,
        "expected a look at the product of two masks, got False: the masks are "
        "independent, so what is the mean of a product?",
    ),
    "b": (
        True,
        "expected a look at what comes after the mask, got False: is anything there "
        "not linear?",
    ),
    "c": (
        True,
        "c is not what it seems, got False: what does a ReLU make of one unit times "
        "m/q >= 0?",
    ),
    "d": (
        False,
        "expected a look at m times m, got True: what is the mean of (m/q)^2?",
    ),
    "e": (
        False,
        "expected a counterexample, got True: is the mean of a softmax the softmax of "
        "the mean?",
    ),
    "f": (
        True,
        "expected a theorem of the chapter, got False: which average of predictions is "
        "the softmax of the mean logits?",
    ),
}


def exact_pass(answer: Mapping[str, bool]) -> Report:
    """Check the exercise "Decide where one pass is exact".

    Args:
        answer: for each net, a to f, whether one pass without masks is exact.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> check.exact_pass(dict.fromkeys("abcdef", True))
        public checks 0/6
        - a, b, c, d, e, f: expected a yes for some nets and a no for others, got
          True for all six
    """

    def check_net(net: str) -> None:
        if not isinstance(answer, dict):
            raise Hopeless(f"expected a dictionary, got {show(answer)}")
        if set(answer) != set(_EXACT):
            keys = ", ".join(map(str, answer))
            raise Hopeless(f"expected the keys a, b, c, d, e, f, got {keys}")
        values = [answer[key] for key in _EXACT]
        require_written(values)
        got, (right, hint) = answer[net], _EXACT[net]
        what = repr(got) if isinstance(got, str | int | float) else show(got)
        require(type(got) is bool, f"{net}: expected True or False, got {what}")
        if all(value is got for value in values):
            raise Hopeless(
                "expected a yes for some nets and a no for others, got "
                f"{got} for all six"
            )
        require(got == right, hint)

    return judge({net: partial(check_net, net) for net in _EXACT})


def reverse_order(u: Tensor) -> Report:
    """Check the exercise "Turn the order round".

    Args:
        u: contributions of two channels of 3 x 3 values.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> check.reverse_order(torch.ones(2, 3, 3))
        public checks 1/3
        - DropPath adds nothing: expected 18 values that sum to 0, got 18: both
          channels sum to 9, let the second undo the first
        - element dropout adds most: expected more from element dropout than from
          SpatialDropout, got 4.5 against 40.5 (p = 0.2, the largest value scaled to
          1): let values cancel within a map
    """
    ratio = 0.2 / 0.8

    def values() -> Tensor:
        if not isinstance(u, Tensor) or tuple(u.shape) != (2, 3, 3):
            raise Hopeless(f"expected a tensor of shape (2, 3, 3), got {show(u)}")
        x = u.detach().to("cpu", torch.float64)
        if not x.isfinite().all():
            raise Hopeless("expected finite numbers, got NaN or infinity")
        if not x.any():
            raise Hopeless("not written yet: u is all zeros")
        return x

    def noises() -> tuple[float, float, float]:
        """Of element dropout, SpatialDropout and DropPath, for values up to 1."""
        x = values() / values().abs().max()
        sums = x.sum(dim=(1, 2))
        parts = torch.stack([(x**2).sum(), (sums**2).sum(), sums.sum() ** 2])
        parts[parts < 1e-12] = 0  # what rounding leaves of a sum that should be 0
        element, channel, path = (ratio * parts).tolist()
        return element, channel, path

    def check_path() -> None:
        one, two = values().sum(dim=(1, 2)).tolist()
        text = f"expected 18 values that sum to 0, got {one + two:.4g}"
        if math.isclose(one, two):
            text += f": both channels sum to {one:.4g}, let the second undo the first"
        else:
            text += ": DropPath adds p/q times its square"
        require(noises()[2] == 0, text)

    def check_channel() -> None:
        require(
            noises()[1] > 0,
            "expected channels with a sum other than 0, got 0 for both, so that "
            "SpatialDropout adds nothing: leave something over in each",
        )

    def check_element() -> None:
        element, channel, _ = noises()
        require(
            element > channel * (1 + 1e-9),
            "expected more from element dropout than from SpatialDropout, got "
            f"{element:.4g} against {channel:.4g} (p = 0.2, the largest value scaled "
            "to 1): let values cancel within a map",
        )

    return judge(
        {
            "DropPath adds nothing": check_path,
            "SpatialDropout adds something": check_channel,
            "element dropout adds most": check_element,
        }
    )


# --- functions ------------------------------------------------------------------------


def _call(
    function: Callable[..., object],
    shape: tuple[int, ...],
    *args: object,
    own: tuple[str, ...] = (),
) -> Tensor:
    """What the learner's function makes of ``args``, a tensor of the given shape."""
    copies = [a.clone() if isinstance(a, Tensor) else a for a in args]
    result = ask(function, *copies, own=own)
    if result is ...:
        raise NotImplementedError
    if isinstance(result, float | int):
        raise Wrong(
            f"expected a tensor of shape {shape}, got {show(result)}: float() and "
            "item() cut the gradient"
        )
    if type(result) not in (Tensor, nn.Parameter) or tuple(result.shape) != shape:
        raise Wrong(f"expected a tensor of shape {shape}, got {show(result)}")
    require(
        result.is_floating_point(),
        f"expected a tensor of the input's dtype, got {result.dtype}",
    )
    return cast(Tensor, result)


def _require_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Compare the gradient with a difference of the function's own values."""
    x.requires_grad_()
    y = (function(x) ** 2).sum()
    require(
        y.requires_grad,
        "expected an output with a gradient, got one that is cut off from its input: "
        "detach, .data, no_grad and torch.tensor(...) do that",
    )
    (gradient,) = torch.autograd.grad(y, x, allow_unused=True)
    step = 1e-4 * signed(x.numel()).view_as(x)
    high, low = ((function((x + s).detach()) ** 2).sum() for s in (step, -step))
    change = ((high - low) / 2).item()
    got = 0.0 if gradient is None else (gradient * step).sum().item()
    require(
        math.isclose(got, change, rel_tol=1e-4),
        "expected a gradient that fits the values, got another one: does every step "
        "from input to output hand it on?",
    )


def _require_dtype(function: Callable[[torch.dtype], Tensor]) -> None:
    for dtype in (torch.float32, torch.float64):
        try:
            got = function(dtype).dtype
        except RuntimeError as error:
            error.add_note(f"for inputs of {dtype}")
            raise
        require(
            got == dtype,
            f"expected {dtype} out for {dtype} in, got {got}: a tensor of another "
            "dtype joins in",
        )


def _require_factor(factor: Callable[[float], float]) -> None:
    """Is the variance of one value 1 multiplied by p/q?"""
    for p in (0.3, 0.8):
        q, got = 1 - p, factor(p)
        text = f"expected p/q = {p / q:.4g} for one value 1 at p = {p}, got {got:.4g}"
        known = {
            p * q: "pq, the variance of a mask that is not scaled: divide it by "
            "the square of q",
            q / p: "q/p: p is the probability to drop",
            1 / q: "1/q, the mean of the square: subtract the square of the mean",
            p: "p without the division by q",
            1: "no factor at all",
            (p / q) ** 2: "its square",
            math.sqrt(p / q): "its root: a variance, no standard deviation",
            p / q**2: "p/q^2: q is divided by once too often",
            -p / q: "the wrong sign",
        }
        slips = ((value, f", {cause}") for value, cause in known.items())
        require_right(got, p / q, slips, is_close, text)


def _unit(factor: Callable[[float], float]) -> float:
    """What the answer makes of one value 1 at p = 0.3; if nothing, the right factor."""
    got = factor(0.3)
    return got if got and math.isfinite(got) else 0.3 / 0.7


def _require_alike(
    got: float, right: float, slips: Iterable[tuple[Tensor, str]], what: str
) -> None:
    """Is ``got`` right? If it is one of the slips instead, say so."""
    text = f"expected {right:.4g} times the factor, {what}, got {got:.4g} times"
    causes = ((value.item(), f": {cause}") for value, cause in slips)
    require_right(got, right, causes, is_close, text)


def group_variance(function: Callable[..., Tensor]) -> Report:
    """Check the exercise "Add up before you square".

    Args:
        function: takes (u, groups, p), both tensors of shape (n,), and returns the
            added variance of the sum of u, a tensor without dimensions.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> check.group_variance(lambda u, groups, p: p * (1 - p) * (u**2).sum())
        public checks 3/7
        - factor: expected p/q = 0.4286 for one value 1 at p = 0.3, got 0.21, pq,
          the variance of a mask that is not scaled: divide it by the square of q
        - groups: expected 9.998 times the factor, the sum of the groups' squared
          sums, got 11.01 times: values of one group are squared before they are
          added up
        - scattered groups: expected 4.184 times the factor, the sum of the groups'
          squared sums, got 11.01 times: values of one group are squared before they
          are added up
        - many values: expected 1.367e+04 times the factor, the sum of the groups'
          squared sums, got 1.298e+04 times: values of one group are squared before
          they are added up
    """
    one, first = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    sizes = torch.tensor([3, 2, 5, 2])
    joined = torch.arange(4).repeat_interleave(sizes)
    mixed = joined[torch.randperm(12, generator=_generator())]

    def call(u: Tensor, groups: Tensor, p: float = 0.3) -> Tensor:
        return _call(function, (), u, groups, p)

    def factor(p: float) -> float:
        return call(one, first, p).item()

    def compare(groups: Tensor) -> None:
        u = signed(len(groups))
        k = int(groups.max()) + 1
        sums = torch.stack([u[groups == g].sum() for g in range(k)])
        last = torch.stack([u[groups == g][-1] for g in range(k)])
        counts = groups.bincount()
        runs = torch.unique_consecutive(groups, return_counts=True)[1].tolist()
        neighbours = torch.stack([run.sum() for run in torch.split(u, runs)])
        slips = [
            ((u**2).sum(), "values of one group are squared before they are added up"),
            (u.sum() ** 2, "all values are added up, as if they were one group"),
            (sums.sum(), "nothing is squared"),
            (sums.abs().sum(), "the size of the sums is taken, not their square"),
            ((sums**2).mean(), "the mean over the groups, not their sum"),
            ((sums**2).sum() / len(u), "the mean over the values, not the sum"),
            (((sums / counts) ** 2).sum(), "the groups' means are squared, not their "
             "sums"),
            ((last**2).sum(), "of each group only the last value counts: "
             "sums[groups] += u writes, it does not add up"),
            ((neighbours**2).sum(), "only neighbours in the list are added up, but the "
             "values of a group may lie anywhere"),
        ]  # fmt: skip
        got = call(u, groups).item() / _unit(factor)
        right = (sums**2).sum().item()
        _require_alike(got, right, slips, "the sum of the groups' squared sums")

    return judge(
        {
            "factor": lambda: _require_factor(factor),
            "single values": lambda: compare(torch.arange(12)),
            "groups": lambda: compare(joined),
            "scattered groups": lambda: compare(mixed),
            # 1.15 GB for a matrix of all pairs
            "many values": lambda: compare(torch.arange(12_000) // 240),
            "gradient": lambda: _require_gradient(lambda u: call(u, mixed), signed(12)),
            "dtype": lambda: _require_dtype(
                lambda dtype: call(signed(12, dtype=dtype), mixed)
            ),
        }
    )


def channel_penalty(function: Callable[..., Tensor], free: Tensor) -> Report:
    """Check the exercise "Derive the penalty of SpatialDropout".

    Args:
        function: takes (x, w, p), shapes (n, C, S) and (C, S), and returns what
            SpatialDropout adds to the squared error, a tensor without dimensions.
        free: weights (3, 4), none of them 0, that pay nothing for maps of equal values.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> def of_elements(x, w, p):
        ...     return p / (1 - p) * ((x * w) ** 2).sum()
        >>> check.channel_penalty(of_elements, torch.ones(3, 4))
        public checks 5/8
        - free weights: expected weights that sum to 0 in every channel, got the
          sums 4, 4, 4: the maps hold equal values, so that only the sum counts
        - places: expected 11.74 times the factor, squared sums over the places, got
          6.664 times: values are squared before they are added up over the places,
          which is the penalty of element dropout
        - all together: expected 106.4 times the factor, squared sums over the
          places, got 57.93 times: values are squared before they are added up over
          the places, which is the penalty of element dropout
    """

    def call(x: Tensor, w: Tensor, p: float = 0.3) -> Tensor:
        return _call(function, (), x, w, p)

    def factor(p: float) -> float:
        one = torch.ones(1, 1, 1, dtype=torch.float64)
        return call(one, one[0], p).item()

    def compare(n: int, channels: int, places: int) -> None:
        x, w = signed(n, channels, places), signed(2, channels, places)[1]
        c = x * w
        right = (c.sum(dim=2) ** 2).sum()
        slips = [
            ((c**2).sum(), "values are squared before they are added up over the "
             "places, which is the penalty of element dropout"),
            ((c.sum(dim=(1, 2)) ** 2).sum(), "channels are added up before the square, "
             "as if they all fell together"),
            ((c.sum(dim=(0, 2)) ** 2).sum(), "samples are added up before the square, "
             "but each has masks of its own"),
            (right / n, "the mean over the samples, but the squared error is a sum"),
            (right / channels, "the mean over the channels, not their sum"),
            (right / places, "divided by the number of places"),
            (right / places**2, "the mean over the places, not their sum"),
            (right / (n * channels), "the mean over samples and channels"),
            ((x.sum(dim=2) ** 2 * w.sum(dim=1) ** 2).sum(), "x and w are added up on "
             "their own: multiply place by place first"),
            (n * (w.sum(dim=1) ** 2).sum(), "the inputs are ignored"),
            ((w.sum(dim=1) ** 2).sum(), "the inputs are ignored, and so is their "
             "number"),
            (c.sum(), "nothing is squared"),
            (c.sum(dim=2).abs().sum(), "sizes are added up, not squares"),
        ]  # fmt: skip
        got = call(x, w).item() / _unit(factor)
        what = "squared sums over the places"
        _require_alike(got, right.item(), slips, what)

    def check_free() -> None:
        if not isinstance(free, Tensor) or tuple(free.shape) != (3, 4):
            raise Wrong(f"expected free of shape (3, 4), got {show(free)}")
        w = free.detach().to("cpu", torch.float64)
        largest = w.abs().max()
        require(w.isfinite().all(), "expected finite weights, got NaN or infinity")
        require(largest > 0, "free is still all zeros: not written yet")
        unused = int((w.abs() < 1e-3 * largest).sum())
        require(
            unused == 0,
            f"expected weights that use all 12 values, got {unused} of (nearly) 0",
        )
        sums = w.sum(dim=1)
        require(
            (sums.abs() < 1e-6 * largest).all(),
            "expected weights that sum to 0 in every channel, got the sums "
            f"{', '.join(f'{s:.3g}' for s in sums)}: the maps hold equal values, so "
            "that only the sum counts",
        )

    x = signed(5, 3, 4)
    return judge(
        {
            "free weights": check_free,
            "factor": lambda: _require_factor(factor),
            "places": lambda: compare(1, 1, 7),
            "channels": lambda: compare(1, 6, 1),
            "samples": lambda: compare(6, 1, 1),
            "all together": lambda: compare(5, 3, 4),
            "gradient": lambda: _require_gradient(lambda w: call(x, w), signed(3, 4)),
            "dtype": lambda: _require_dtype(
                lambda dtype: call(x.to(dtype), signed(3, 4, dtype=dtype))
            ),
        }
    )


def ensemble_mean(function: Callable[..., Tensor], telling: float) -> Report:
    """Check the exercise "Find the bug that the test missed".

    Args:
        function: takes logits (masks, N, K), keep (masks, n) and p, and returns the
            mean probabilities over all masks, shape (N, K).
        telling: a rate at which a test of the faulty function would have failed.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> def faulty(logits, keep, p):
        ...     return logits.softmax(dim=2).mean(dim=0)
        >>> check.ensemble_mean(faulty, 0.9)
        public checks 1/7
        - p = 0.5, other rates, other numbers of groups, other order of masks,
          gradient, dtype: not written yet: the function still gives the colleague's
          mean
    """
    rows = (5, 3)  # N, K

    def example(
        groups: int = 4, p: float = 0.2, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, masks and the masks' probabilities."""
        keep, weights = all_masks(groups, p)
        return 3 * signed(len(keep), *rows, dtype=dtype), keep.to(dtype), weights

    def average(weights: Tensor, values: Tensor) -> Tensor:
        return (weights.view(-1, 1, 1) * values).sum(dim=0)

    def call(logits: Tensor, keep: Tensor, p: float) -> Tensor:
        own = ("mean", "average_predictions")
        return _call(function, rows, logits, keep, p, own=own)

    def is_untouched() -> bool:
        logits, keep, _ = example()
        got = call(logits, keep, 0.2)
        return torch.allclose(got.double(), logits.softmax(dim=2).mean(dim=0))

    def require_mended() -> None:
        if is_untouched():
            raise Wrong(
                "not written yet: the function still gives the colleague's mean"
            )

    def compare(groups: int, p: float) -> None:
        require_mended()
        logits, keep, weights = example(groups, p)
        got = call(logits, keep, p).double()
        shares, kept = logits.softmax(dim=2), keep.sum(dim=1)
        right = average(weights, shares)
        if torch.allclose(got, right):
            return
        n, q = keep.shape[1], 1 - p
        exchanged = p**kept * q ** (n - kept)
        counted = torch.tensor([math.comb(n, int(k)) for k in kept])
        scores = average(weights, logits)
        slips = [
            (average(exchanged, shares), "keep and drop are exchanged in the weights"),
            (right / len(keep), "the weights sum to 1 already: a sum over the masks, "
             "no mean"),
            (average(weights * counted, shares), "the weight is the probability of the "
             "number that is kept, not of the mask: no binomial coefficient"),
            (average(kept / kept.sum(), shares), "a mask counts by how many it keeps, "
             "not by its probability"),
            (average(q**kept, shares), "what falls has a probability, too: a factor p "
             "for each"),
            (average(q**kept / (q**kept).sum(), shares), "what falls is left out of "
             "the weights, and their sum is mended: a factor p for each"),
            (average(p ** (n - kept), shares), "what stays has a probability, too: a "
             "factor q for each"),
            (scores.softmax(dim=1), "the softmax of the mean logits is the geometric "
             "mean, but the arithmetic one is asked for"),
            (logits.mean(dim=0).softmax(dim=1), "the plain mean of the logits, which "
             "is geometric and without weights"),
            (scores, "these are logits: the softmax is missing"),
            (average(weights, logits.softmax(dim=1)), "the softmax goes over the "
             "samples: the classes are in the last dimension"),
            (average(weights, logits.log_softmax(dim=2)), "these are logarithms, "
             "averaged"),
            (right.log(), "this is the logarithm of the mean"),
            (shares[-1], "only the mask that keeps all counts"),
        ]  # fmt: skip
        where = f"at p = {p} and {groups} groups"
        far = (got - right).abs().max()
        text = f"expected the mean {where}, got one that is {far:.2g} off"
        tell_slip(got, slips, torch.allclose, f"{text}: ")
        sums = got.sum(dim=1)
        require(
            torch.allclose(sums, torch.ones_like(sums)),
            f"{text}, with probabilities that sum to {sums.mean():.3g}",
        )
        raise Wrong(text)

    def check_rates() -> None:
        for p in (0.2, 0.9):
            compare(4, p)

    def check_groups() -> None:
        for groups in (3, 5):
            compare(groups, 0.2)

    def check_order() -> None:
        require_mended()
        logits, keep, _ = example()
        order = torch.randperm(len(keep), generator=_generator())
        one, other = call(logits, keep, 0.2), call(logits[order], keep[order], 0.2)
        require(
            torch.allclose(one, other),
            "expected the same mean when masks and logits come in another order, got "
            f"one that is {(one - other).abs().max():.2g} off: keep says which mask it "
            "is, not the place in the list",
        )

    def check_gradient() -> None:
        require_mended()
        logits, keep, _ = example()
        _require_gradient(lambda x: call(x, keep, 0.2), logits)

    def check_dtype() -> None:
        require_mended()
        _require_dtype(lambda dtype: call(*example(dtype=dtype)[:2], 0.2))

    def check_telling() -> None:
        p = as_number(telling)
        if p == 0.5:
            if is_untouched():
                raise Hopeless("not written yet")
            raise Wrong(
                "expected a rate at which the test fails, got 0.5, the one at which it "
                "passes"
            )
        require(0 < p < 1, f"expected a rate between 0 and 1, got {p:g}")
        logits, _, weights = example(p=p)
        shares = logits.softmax(dim=2)
        far = (average(weights, shares) - shares.mean(dim=0)).abs().max()
        require(
            far > 0.01,
            f"expected a rate at which the fault shows, got {p:g}, where it changes a "
            f"probability by {far:.2g} at most: go further from 0.5",
        )

    return judge(
        {
            "telling rate": check_telling,
            "p = 0.5": lambda: compare(4, 0.5),
            "other rates": check_rates,
            "other numbers of groups": check_groups,
            "other order of masks": check_order,
            "gradient": check_gradient,
            "dtype": check_dtype,
        }
    )


# --- a test of the learner's ----------------------------------------------------------

_RIGHT = {  # with how many seeds each has to pass; what to think of, if it never does
    "right": (30, "is there any right function that your test accepts?"),
    "right, other masks": (10, "test the mean, not the draw"),
    "right, later masks": (10, "its masks come later from the same generator"),
}
_WRONG = {
    "no scale": "its mean is q x, so is your bound wider than p |x|, or do your inputs "
    "average to 0?",
    "scaled by 1/p": "its mean is (q/p) x, which is x at p = 0.5",
    "zeros": "its mean is 0: compare it with x itself",
    "positive inputs only": "of negative values it makes 0: send in some, and look at "
    "them on their own",
    "single channels": "some channels come out too high and others too low, which an "
    "average over channels hides",
    "the first channel only": "a slip in one channel of many: look at each",
    "the second sample only": "a slip in one sample of a call: send in two, and look "
    "at each",
    "divided by the kept share": "it errs only in calls that keep nothing, so make "
    "these likely",
}
_SEEDS = 3  # a wrong function has to fail with each


def _implementation(fault: str) -> Callable[..., Tensor]:
    """A SpatialDropout, right or with one fault. All have one name."""

    def draw(x: Tensor, g: torch.Generator) -> Tensor:
        return torch.rand(*x.shape[:2], 1, 1, dtype=torch.float64, generator=g)

    def dropout(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
        if fault == "zeros":
            return torch.zeros_like(x)
        if fault == "right, later masks":
            torch.rand(1, generator=generator)  # a number that nobody uses
        if fault == "right, other masks":
            return x * (draw(x, generator) < 1 - p) / (1 - p)
        if fault == "divided by the kept share":
            keep = draw(x, generator) >= p
            return x * keep / keep.double().mean().clamp(min=1e-9)
        if fault == "single channels":  # 0, 2, ... are kept more often, others less
            rate = torch.full((x.shape[1], 1, 1), p, dtype=torch.float64)
            rate[0::2] -= min(p, 1 - p) / 2
            rate[1::2] += min(p, 1 - p) / 2
            return x * (draw(x, generator) >= rate) / (1 - p)
        y = spatial_dropout(x, p, generator=generator)
        if fault == "no scale":
            return (1 - p) * y
        if fault == "scaled by 1/p":
            return (1 - p) / p * y
        if fault == "positive inputs only":
            return y.relu()
        part = {
            "the first channel only": (slice(None), 0),
            "the second sample only": (slice(1, 2),),
        }.get(fault)
        if part:
            y = y.clone()
            y[part] *= 1 - p
        return y

    return dropout


def _scaffold(dropout: Any, seed: Any) -> Any:
    x = torch.randn(1000, 8, 1, 1, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(seed)
    return abs(dropout(x, 0.5, generator=g).mean() - x.mean()) < 0.1


def _steps(code: CodeType) -> tuple[object, ...]:
    """What the code does, however the compiler looks up names."""
    loads = {"LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD", "PUSH_NULL"}
    steps = [(i.opname, i.argval) for i in get_instructions(code)]
    return code.co_names, [step for step in steps if step[0] not in loads]


def _is_scaffold(function: object) -> bool:
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and _steps(code) == _steps(_scaffold.__code__)


def keeps_the_mean(function: Callable[..., bool]) -> Report:
    """Check the exercise "Design a test that can fail".

    Args:
        function: takes an implementation of SpatialDropout, itself called as
            ``dropout(x, p, generator=g)``, and a seed, and returns whether it keeps the
            mean of every value.

    It is handed three right implementations, with 50 seeds in all, and eight wrong ones
    with three seeds each. That a wrong one is rejected counts only where all right ones
    are accepted.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> check.keeps_the_mean(lambda dropout, seed: True)
        public checks 0/12
        - right, right, other masks, right, later masks, seed, no scale, scaled by
          1/p, zeros, positive inputs only, single channels, the first channel only,
          the second sample only, divided by the kept share: not written yet: the
          function that it is given is never called
    """
    used: dict[int, set[int]] = {}  # of which seeds the generators were

    def ask_case(name: str, seed: int) -> bool:
        if _is_scaffold(function):
            raise Hopeless("not written yet")
        dropout, seeds = _implementation(name), used.setdefault(seed, set())

        def counted(x: Tensor, p: float, *, generator: torch.Generator) -> Tensor:
            if not isinstance(x, Tensor) or x.dim() != 4:
                raise ValueError(f"expected x of shape (N, C, H, W), got {show(x)}")
            if x.dtype != torch.float64:
                raise ValueError(f"expected x of float64, got {x.dtype}")
            if not isinstance(generator, torch.Generator):
                raise ValueError(f"expected a generator, got {show(generator)}")
            seeds.add(generator.initial_seed())
            return dropout(x, p, generator)

        return as_verdict(ask_about(function, counted, seed))

    counts = {name: seeds for name, (seeds, _) in _RIGHT.items()}
    hidden = Hidden(ask_case, counts | dict.fromkeys(_WRONG, _SEEDS))

    def check_right(name: str) -> None:
        seeds, hint = _RIGHT[name]
        lost = list(hidden(name)).count(False)
        if lost < seeds or (name != "right" and not all(hidden("right"))):
            hint = "a bound of too few standard errors rejects by chance"
        require(
            lost == 0,
            f"expected True for each of {seeds} seeds, got False for {lost}: {hint}",
        )

    def check_seed() -> None:
        list(hidden("right"))  # tells errors
        same = len({frozenset(seeds) for seeds in used.values()}) == 1
        require(
            not same,
            "expected masks from a generator with the given seed, got the same "
            "generator's for every seed",
        )

    def check_wrong(name: str) -> None:
        require(
            all(all(islice(hidden(right), _SEEDS)) for right in _RIGHT),
            "expected True for the right functions with the same seeds, got False: "
            "until then a False says nothing here",
        )
        missed = list(hidden(name)).count(True)
        require(
            missed == 0,
            f"expected False, got True for {missed} of {_SEEDS} seeds: {_WRONG[name]}",
        )

    return judge(
        {
            **{name: partial(check_right, name) for name in _RIGHT},
            "seed": check_seed,
            **{name: partial(check_wrong, name) for name in _WRONG},
        }
    )


# --- exercise 9: read the rows --------------------------------------------------------

_CONCLUSIONS = (
    "averaging adds three points",
    "averaging mostly makes up for the masks",
    "it is as good as trained nets",
)
_ROWS: dict[str, tuple[float, dict[float, str]]] = {
    "over_masked": (
        2.787,
        {
            0.02787: "a share: a point is 0.01, so multiply by 100",
            -2.787: "the other way round: sixteen passes minus one",
            0.573: "the gain over the plain pass",
            41.8: "a sum: divide by the 15 nets",
        },
    ),
    "over_plain": (
        0.573,
        {
            0.00573: "a share: a point is 0.01, so multiply by 100",
            -0.573: "the other way round: sixteen passes minus the plain one",
            2.787: "the gain over one masked pass",
            8.6: "a sum: divide by the 15 nets",
            -2.213: "one masked pass minus the plain one",
        },
    ),
    "better": (
        11,
        {
            13: "nets that are equal are counted as better",
            2: "the nets that are equal, or those that are worse",
            4: "the nets that are not better",
            14: "the comparison with one masked pass",
            15: "all nets, though two of them are worse",
        },
    ),
}


def averaging_rows(
    over_masked: float | None,
    over_plain: float | None,
    better: float | None,
    conclusion: str | None,
) -> Report:
    """Check the exercise "Read the rows: what does averaging add?".

    Args:
        over_masked: points that sixteen masked passes gain over one.
        over_plain: points that they gain over one pass without masks.
        better: in how many nets they are better than that.
        conclusion: what follows, one of the three sentences.

    Example:
        >>> from regdrop_lite.course.check import chapter_2 as check
        >>> answer = "averaging mostly makes up for the masks"
        >>> check.averaging_rows(2.8, 2.8, 11, answer)
        public checks 3/4
        - over_plain: expected the mean gain in points, got the gain over one masked
          pass
    """
    numbers = dict(zip(_ROWS, (over_masked, over_plain, better), strict=True))

    def check_number(name: str) -> None:
        require_written(*numbers.values(), conclusion)
        got, (right, slips) = as_number(numbers[name]), _ROWS[name]
        if math.isclose(got, right, abs_tol=0.06):
            return
        what = "the number of nets" if name == "better" else "the mean gain in points"
        for number, cause in slips.items():
            near = 0.06 if abs(number) > 0.1 else 0.001
            require(
                not math.isclose(got, number, abs_tol=near),
                f"expected {what}, got {cause}",
            )
        raise Wrong(f"expected {what}, got {got:.4g}: subtract net by net")

    def check_conclusion() -> None:
        require_written(*numbers.values(), conclusion)
        got = choice(conclusion, _CONCLUSIONS)
        require(
            got != _CONCLUSIONS[0],
            "three points are the gain over one masked pass: which pass would you use "
            "otherwise?",
        )
        require(
            got == _CONCLUSIONS[1], "no net that was trained apart is in these rows"
        )

    checks: dict[str, Callable[[], None]] = {
        name: partial(check_number, name) for name in _ROWS
    }
    return judge(checks | {"conclusion": check_conclusion})
