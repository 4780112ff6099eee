"""Checkers of chapter 1, SpatialDropout.

The checks look at properties, never at code, and each looks at one thing only, so that
one fault does not hide behind another. Inputs are random and have both signs. A check
of a rate sees 65,536 draws: it finds a rate that is 25 % off, and a right answer fails
with a probability of about one in a million.

Example:
    >>> from regdrop_lite.course.check import chapter_1 as check
    >>> check.trace([None, None, None, None])
    public checks 0/2
    - which fall, scale: not written yet: put a number for every None
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
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
    rate_bound,
    require,
    show,
    signed,
    the_class,
)
from regdrop_lite.course.check.core import generator as _generator
from regdrop_lite.course.check.properties import (
    Case,
    answer_to,
    ask_all,
    require_dtype,
    require_generator,
    require_gradient,
    require_value_error,
)

__all__ = ["diagnose", "drop_exactly", "layer", "mask_and_scale", "trace"]


def _call(
    function: Callable[..., object], x: Tensor, *args: Any, **options: Any
) -> Tensor:
    """What the learner's function makes of a copy of ``x``, a tensor like ``x``."""
    shape = tuple(x.shape)
    # The package has no layer that drops exactly k, so that its use is no short cut.
    own = () if isinstance(function, nn.Module) else None
    try:
        output = ask(function, x.clone(), *args, own=own, **options)
    except (Wrong, NotImplementedError):
        raise
    except Exception as error:
        error.add_note(f"for an input of shape {shape}")
        raise
    if type(output) in (Tensor, nn.Parameter) and output.shape == shape:
        return cast(Tensor, output)
    if output is None:
        raise Wrong("expected an output, got None: does your code end with return?")
    raise Wrong(f"an input of shape {shape} gives {show(output)}, expected its shape")


# --- properties of an output, for an input of ones (N, C, ...) ------------------------


def _falls_whole(y: Tensor) -> bool:
    """Is every channel either dropped or kept as a whole?"""
    zero = (y == 0).flatten(2)
    return bool((zero == zero[..., :1]).all())


def _require_whole(y: Tensor) -> None:
    require(
        _falls_whole(y),
        f"in an input of shape {tuple(y.shape)} some channels fall only in part: a "
        "mask must have one number for each sample and channel, and a 1 for every "
        "spatial dimension",
    )


def _require_independent(y: Tensor, least: float = 1.0) -> None:
    """Does each sample and channel draw its own? ``least`` is the share of those."""
    zero = (y == 0).flatten(2)[..., 0].double()
    n, c = zero.shape
    require(
        (zero != zero[:1]).any(),
        "all samples of a batch lose the same channels: the mask is shared by the "
        "batch, but each sample has to draw its own",
    )
    require(
        (zero != zero[:, :1]).any(),
        "all channels of a sample share one fate: whole samples fall, but each channel "
        "has to be drawn on its own",
    )
    samples, channels = len(torch.unique(zero, dim=0)), len(torch.unique(zero.T, dim=0))
    require(
        samples >= least * n,
        f"expected {n} samples with masks of their own, got {samples} different masks: "
        "some samples share one",
    )
    require(
        channels >= least * c,
        f"expected {c} channels that fall on their own, got {channels} different ones: "
        "some channels fall together",
    )


def _require_values(function: Callable[[Tensor], Tensor], p: float) -> None:
    """What is kept is x/q, and the values of x do not decide what is kept."""
    x = signed(64, 32, 2, 2)
    y = function(x)
    if not (y == 0).any():
        raise Hopeless(f"at p = {p} expected some channels to fall, got none: all pass")
    if (y == 0).all():
        raise Hopeless(f"at p = {p} expected most channels to stay, got only zeros")
    if len(torch.unique(y[y != 0])) == 1:
        raise Hopeless(
            f"expected outputs x/q, got {y.max():.4g} wherever a channel is kept: the "
            "output ignores the values of the input"
        )
    if not torch.equal(y, function(x)):
        return  # that it draws anew is told by the check of the generator
    again = function(x.flip(0, 1).exp())
    require(
        torch.equal(y == 0, again == 0),
        "expected that the generator alone decides which channels fall, but from the "
        "same state other inputs lose others: the values have a say in it",
    )


def _require_rate(dropped: Tensor, p: float) -> None:
    """Is the share of what fell p? ``dropped`` has the shape (N, C, ...)."""
    share = dropped.double().mean().item()
    fate = dropped.flatten(2)[..., 0]
    # What is shared by samples or channels was drawn once.
    samples, channels = len(torch.unique(fate, dim=0)), len(torch.unique(fate.T, dim=0))
    if samples == 1 or channels == 1:
        samples, channels = 1, fate.shape[1 if samples == 1 else 0]
    draws = samples * channels
    if abs(share - (1 - p)) < rate_bound(p, draws):
        raise Wrong(
            f"at p = {p} the share of dropped channels is {share:.2f}: keep and drop "
            "are swapped, p is the probability to drop"
        )
    require(
        abs(share - p) < rate_bound(p, draws),
        f"at p = {p} the share of dropped channels is {share:.2f}, expected {p}: is "
        "each random number compared with p itself?",
    )


def _scale_diagnosis(scale: float, p: float) -> str | None:
    """What is wrong with a scale that has to be 1/(1 - p)."""
    q = 1 - p
    expected = f"expected 1/q = {1 / q:.4g} at p = {p}"
    if math.isclose(scale, 1 / q, rel_tol=1e-5):
        return None
    if math.isclose(scale, 1.0, rel_tol=1e-5):
        return f"kept channels are not scaled: {expected}, got 1"
    if math.isclose(scale, 1 / p, rel_tol=1e-5):
        return f"kept channels are scaled by 1/p: {expected}, got {scale:.4g}"
    if math.isclose(scale, q, rel_tol=1e-5):
        return f"kept channels are multiplied by q, not divided: {expected}, got {q:g}"
    return f"kept channels have the wrong scale: {expected}, got {scale:.4g}"


def _kept_scale(y: Tensor, x: Tensor) -> float:
    """The one factor between the kept values of ``y`` and those of ``x``."""
    kept = (y / x)[y != 0]
    require(kept.numel() > 0, "nothing is kept, so that no scale can be seen")
    low, high = kept.min().item(), kept.max().item()
    require(
        math.isclose(low, high, rel_tol=1e-5),
        f"kept channels have different scales, from {low:.4g} to {high:.4g}",
    )
    return low


def _require_identity(y: Tensor, x: Tensor, when: str) -> None:
    require(not (y == 0).any(), f"{when}, some channels still fall")
    ratio = (y / x).mean().item()
    require(
        torch.allclose(y, x, rtol=1e-6),
        f"{when}, the output is not the input: it is multiplied by {ratio:.3g}",
    )


def _require_zeros(y: Tensor, when: str) -> None:
    require(
        not y.isnan().any(),
        f"{when}, the output is NaN: with nothing kept there is nothing to scale, and "
        "0 * (1/0) is NaN",
    )
    require(
        (y == 0).all(),
        f"{when}, every channel is dropped, but the output is not all zeros",
    )


# --- chapter 1, SpatialDropout --------------------------------------------------------

_TRACE_U = (0.55, 0.13, 0.92, 0.38)
_TRACE_P = 0.4
_TRACE_X = (3.0, 4.0, -1.2, 2.5)


def trace(answer: Sequence[float]) -> Report:
    """Check the four numbers of the exercise "Trace a mask by hand".

    Args:
        answer: the output y, one number for each channel.

    Example:
        >>> from regdrop_lite.course.check import chapter_1 as check
        >>> check.trace([1.0, 2.0])
        public checks 0/2
        - which fall, scale: expected a list of 4 numbers, got 2
    """

    def numbers() -> list[float]:
        if not isinstance(answer, Sequence | Tensor):
            raise Wrong(f"expected a list of 4 numbers, got {show(answer)}")
        values = list(answer)
        require(None not in values, "not written yet: put a number for every None")
        require(len(values) == 4, f"expected a list of 4 numbers, got {len(values)}")
        return [float(value) for value in values]

    def check_mask() -> None:
        got = [value != 0 for value in numbers()]
        expected = [u >= _TRACE_P for u in _TRACE_U]
        require(
            got != [not keep for keep in expected],
            "keep and drop are swapped: p is the probability to drop, and a channel is "
            "kept where u >= p",
        )
        require(
            got != [u >= 1 - _TRACE_P for u in _TRACE_U],
            f"u is compared with q = {1 - _TRACE_P:g}, but a channel is kept where "
            f"u >= p = {_TRACE_P}",
        )
        for c, (kept, keep, u) in enumerate(zip(got, expected, _TRACE_U, strict=True)):
            fate, side = ("kept", "not below") if keep else ("dropped", "below")
            require(
                kept == keep,
                f"channel {c} is {fate}: its u = {u} is {side} p = {_TRACE_P}",
            )

    def check_scale() -> None:
        values = numbers()
        require(any(values), "nothing is kept, so that no scale can be seen")
        require(
            set(values) != {0.0, 1.0},
            "these are the numbers of a mask: the output is x where a channel is kept, "
            "times the scale",
        )
        q = 1 - _TRACE_P
        known = {
            1.0: "kept values are not scaled: multiply them by",
            1 / _TRACE_P: f"kept values are multiplied by 1/p = {1 / _TRACE_P}, not by",
            q: f"kept values are multiplied by q = {q}, not by",
        }
        for c, (value, x) in enumerate(zip(values, _TRACE_X, strict=True)):
            scale = value / x
            if value == 0 or math.isclose(scale, 1 / q, abs_tol=0.01):  # by hand
                continue
            for wrong, text in known.items():
                if math.isclose(scale, wrong, abs_tol=0.01):
                    raise Wrong(f"{text} 1/q = {1 / q:.3f}")
            raise Wrong(
                f"kept values are not multiplied by 1/q = {1 / q:.3f}, but by "
                f"{scale:.3f} for channel {c}"
            )

    return judge({"which fall": check_mask, "scale": check_scale})


def mask_and_scale(function: Callable[..., tuple[Tensor, float]]) -> Report:
    """Check the exercise "Fill in the shape and the scale".

    Args:
        function: takes (x, p, generator) and returns a mask and a scale for maps x of
            shape (N, C, ...).

    Example:
        >>> from regdrop_lite.course.check import chapter_1 as check
        >>> def per_element(x, p, generator=None):
        ...     return torch.rand(x.shape, generator=generator) >= p, 1 / (1 - p)
        >>> check.mask_and_scale(per_element)
        public checks 4/7
        - sequences: expected a mask of shape (4, 6, 1), got (4, 6, 7): one number
          for every value is element dropout
        - images: expected a mask of shape (4, 6, 1, 1), got (4, 6, 5, 3): one
          number for every value is element dropout
        - volumes: expected a mask of shape (4, 6, 1, 1, 1), got (4, 6, 2, 3, 5):
          one number for every value is element dropout
    """

    def call(x: Tensor, p: float, g: torch.Generator) -> tuple[Tensor, float]:
        result = ask(function, x, p, generator=g, own=())
        if not (isinstance(result, tuple) and len(result) == 2):
            raise Wrong(f"expected a mask and a scale, got {show(result)}")
        mask, scale = result
        require(isinstance(mask, Tensor), f"the mask is {show(mask)}, not a tensor")
        return mask, scale

    def check_shape(*shape: int) -> None:
        x = signed(*shape)
        got = tuple(call(x, 0.4, _generator())[0].shape)
        expected = (*shape[:2], *[1] * (len(shape) - 2))
        if got == expected:
            return
        text = f"expected a mask of shape {expected}, got {got}"
        if got == shape:
            text += ": one number for every value is element dropout"
        elif got == (1, *expected[1:]):
            text += ": one mask is shared by the whole batch"
        elif got == (shape[0], *[1] * (len(shape) - 1)):
            text += ": one number for every sample drops whole samples"
        elif got == (shape[0], 1, *shape[2:]):
            text += ": one number for every position, shared by the channels"
        elif len(got) != len(shape):
            text += (
                f": the mask of an input with {len(shape)} dimensions ends in "
                f"{expected[2:]}"
            )
        raise Wrong(text)

    def check_scale() -> None:
        for p in (0.2, 0.5):
            diagnosis = _scale_diagnosis(
                float(call(signed(4, 6, 5, 3), p, _generator())[1]), p
            )
            require(diagnosis is None, str(diagnosis))

    def mask(g: torch.Generator, p: float = 0.2) -> Tensor:
        x = signed(256, 256, 1, 1)
        drawn = call(x, p, g)[0]
        try:
            return drawn.expand(x.shape)
        except RuntimeError:
            raise Wrong(
                "the shape of the mask does not fit to images: see that check first"
            ) from None

    def check_rate() -> None:
        for p in (0.2, 0.7):
            _require_rate(mask(_generator(), p) == 0, p)

    return judge(
        {
            "sequences": lambda: check_shape(4, 6, 7),
            "images": lambda: check_shape(4, 6, 5, 3),
            "volumes": lambda: check_shape(4, 6, 2, 3, 5),
            "scale": check_scale,
            "rate": check_rate,
            "independence": lambda: _require_independent(mask(_generator())),
            "generator": lambda: require_generator(mask),
        }
    )


def layer(module: Callable[..., nn.Module]) -> Report:
    """Check the exercise "Write the layer".

    Args:
        module: a class of layers, called as ``module(p, channel_dim=1)``; a layer is
            called as ``layer(x, generator=g)``.

    Example:
        >>> from regdrop_lite.course.check import chapter_1 as check
        >>> class Silent(nn.Module):
        ...     def __init__(self, p=0.5, channel_dim=1):
        ...         super().__init__()
        ...
        ...     def forward(self, x, generator=None):
        ...         raise NotImplementedError
        >>> check.layer(Silent)
        public checks 0/15
        - whole channels, other ranks, channel last, independence, rate, scale,
          generator, eval, p = 0, p = 1, input untouched, gradient, dtype, wrong p,
          wrong input: not written yet
    """
    p = 0.2

    def make(p: float, **options: int) -> nn.Module:
        made = ask(the_class(module, "MySpatialDropout"), p, own=(), **options)
        if not isinstance(made, nn.Module):
            raise Hopeless(
                f"expected a class of layers, but it makes {show(made)}: the class has "
                "to be an nn.Module"
            )
        return made

    def apply(x: Tensor, p: float = p, seed: int = 0, **options: int) -> Tensor:
        return _call(make(p, **options).train(), x, generator=_generator(seed))

    def check_whole() -> None:
        _require_values(apply, p)
        _require_whole(apply(signed(64, 32, 3, 4)))

    def check_rate() -> None:
        for rate in (p, 0.7):
            _require_rate(apply(signed(256, 256, 1, 1), p=rate) == 0, rate)

    def check_ranks() -> None:
        for shape in ((64, 32, 6), (64, 32, 2, 3, 4)):
            _require_whole(apply(signed(*shape)))

    def check_channel_dim() -> None:
        for shape, dim in (((16, 5, 6, 32), -1), ((16, 5, 32), -1), ((16, 5, 32), 2)):
            y = apply(signed(*shape), channel_dim=dim)
            require(
                _falls_whole(y.movedim(dim, 1)) or not _falls_whole(y),
                f"channel_dim={dim} is ignored: in an input of shape {shape} "
                "dimension 1 falls as a whole, not the channels",
            )
            require(
                _falls_whole(y.movedim(dim, 1)),
                f"with channel_dim={dim} the channels of an input of shape {shape} "
                "fall only in part",
            )

    def check_scale() -> None:
        x = signed(64, 32, 2, 2)
        diagnosis = _scale_diagnosis(_kept_scale(apply(x), x), p)
        require(diagnosis is None, str(diagnosis))

    def check_generator() -> None:
        x = signed(16, 32, 2, 2)
        require_generator(lambda g: _call(make(p).train(), x, generator=g))

    def check_eval() -> None:
        x = signed(16, 32, 2, 2)
        y = _call(make(p).eval(), x, generator=_generator())
        _require_identity(y, x, "in eval mode")

    def check_zero() -> None:
        x = signed(16, 32, 2, 2)
        _require_identity(apply(x, p=0.0), x, "at p = 0")

    def check_untouched() -> None:
        for rate in (p, 1.0):
            x = signed(16, 32, 2, 2)
            ask(make(rate).train(), x, generator=_generator())
            require(
                torch.equal(x, signed(16, 32, 2, 2)),
                f"at p = {rate:g} the layer writes into its input; the caller may "
                "still need it",
            )

    def check_wrong_p() -> None:
        for wrong in (-0.1, 30, math.nan):
            require_value_error(partial(make, wrong), f"p = {wrong}", [str(wrong)])

    def check_wrong_input() -> None:
        made, x = make(p).train(), signed(4, 6)
        require_value_error(
            lambda: ask(made, x, generator=_generator()),
            "an input of shape (4, 6), which has no maps,",
            ["4, 6", "2"],
        )

    return judge(
        {
            "whole channels": check_whole,
            "other ranks": check_ranks,
            "channel last": check_channel_dim,
            "independence": lambda: _require_independent(apply(signed(256, 256, 1, 1))),
            "rate": check_rate,
            "scale": check_scale,
            "generator": check_generator,
            "eval": check_eval,
            "p = 0": check_zero,
            "p = 1": lambda: _require_zeros(
                apply(signed(4, 6, 2, 2), p=1.0), "at p = 1"
            ),
            "input untouched": check_untouched,
            "gradient": lambda: require_gradient(apply),
            "dtype": lambda: require_dtype(apply),
            "wrong p": check_wrong_p,
            "wrong input": check_wrong_input,
        }
    )


_FAULTS = (
    "ok",
    "no scale",
    "mask per element",
    "mask shared by the batch",
    "p is the keep probability",
    "active in eval",
)
_HINTS = {  # (what it is, or None for all others; what it was called): what to look at
    ("no scale", "ok"): "look at the values of what is kept",
    ("mask per element", "ok"): (
        "look inside a channel, and send in maps with more than one place"
    ),
    ("mask per element", "mask shared by the batch"): (
        "no channel falls as a whole here, so look inside the channels first"
    ),
    ("mask shared by the batch", "ok"): (
        "compare the samples, and send in more than one"
    ),
    ("p is the keep probability", "ok"): (
        "count the zeros, at another p than 0.5, where p = q"
    ),
    ("p is the keep probability", "no scale"): (
        "its kept values are scaled, but by 1/p: count the zeros before you judge the "
        "scale"
    ),
    ("active in eval", "ok"): "call the function with training=False as well",
    (None, "mask shared by the batch"): (
        "its samples differ, but with few channels two can be equal by chance: send in "
        "more"
    ),
    (None, "p is the keep probability"): (
        "count its zeros: their share is p, up to chance; with few channels chance is "
        "large"
    ),
    (None, "active in eval"): (
        "in eval mode it returns the values of its input; compare values, since a copy "
        "is not a fault"
    ),
}


def _implementation(fault: str, style: int) -> Callable[..., Tensor]:
    """A SpatialDropout with one fault. The styles differ in their code only."""

    def function(
        x: Tensor,
        p: float,
        training: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if fault == "ok" and style == 2:
            return spatial_dropout(x, p, training, generator=generator)
        if not training and fault != "active in eval":
            return x.clone() if style else x
        shape = [*x.shape[:2], *[1] * (x.dim() - 2)]
        if fault == "mask per element":
            shape = list(x.shape)
        elif fault == "mask shared by the batch":
            shape[0] = 1
        torch.rand(style, generator=generator)  # another stretch of random numbers
        u = torch.rand(shape, dtype=torch.float64, generator=generator)
        q = p if fault == "p is the keep probability" else 1 - p
        keep = (u < q if style else u >= 1 - q).to(x.device)
        scale = 0.0 if q == 0 else 1.0 if fault == "no scale" else 1 / q
        if style == 1:
            return torch.where(keep, x * scale, 0)
        return x * (keep * scale).to(x.dtype)

    return function


def diagnose(function: Callable[[Callable[..., Tensor]], str]) -> Report:
    """Check the exercise "Find the fault".

    Args:
        function: takes an implementation of SpatialDropout, itself called as
            ``implementation(x, p, training, generator)``, and returns the name of its
            fault. It is handed three hidden implementations for each fault.

    Example:
        >>> from regdrop_lite.course.check import chapter_1 as check
        >>> check.diagnose(lambda implementation: "fine")
        public checks 0/6
        - ok, no scale, mask per element, mask shared by the batch, p is the keep
          probability, active in eval: not written yet: the function that it is
          given is never called
    """

    cases = [(fault, style) for fault in _FAULTS for style in range(3)]

    def ask_case(fault: str, style: int) -> object:
        return ask_about(function, _implementation(fault, style))

    @cache
    def answers() -> dict[Case, object]:
        return ask_all({case: partial(ask_case, *case) for case in cases})

    def check_fault(fault: str) -> None:
        for style in range(3):
            answer = choice(answer_to(answers(), (fault, style)), _FAULTS)
            hint = _HINTS.get((fault, answer), _HINTS.get((None, answer), ""))
            what = "a correct one" if fault == "ok" else "one with this fault"
            require(
                answer == fault,
                f"{what} was called {answer!r}" + (f": {hint}" if hint else ""),
            )

    return judge({fault: partial(check_fault, fault) for fault in _FAULTS})


def drop_exactly(function: Callable[..., Tensor]) -> Report:
    """Check the exercise "Design a variant".

    Args:
        function: takes (x, p, training, generator) and drops round(p * C) channels of
            every sample of x, shape (N, C, ...).

    Example:
        >>> from regdrop_lite import spatial_dropout
        >>> from regdrop_lite.course.check import chapter_1 as check
        >>> check.drop_exactly(spatial_dropout)
        public checks 7/11
        - exactly k: p = 0.3 of 8 channels is k = 2 for every sample, but the
          samples lose from 0 to 5
        - scale: kept channels are scaled by 1/q = 1.429, but at p = 0.3 of 8
          channels q is not the share that is kept: expected C/(C - k) = 1.333
        - k = 0: at p = 0.05 and C = 8, some channels still fall
        - k = C: at p = 0.95 and C = 8, every channel is dropped, but the output is
          not all zeros
    """

    def apply(x: Tensor, p: float, training: bool = True, seed: int = 0) -> Tensor:
        g = _generator(seed)
        return _call(function, x, p, training=training, generator=g)

    def check_count() -> None:
        _require_values(partial(apply, p=0.3), 0.3)
        for p, channels, k in ((0.3, 8, 2), (0.35, 8, 3), (0.5, 6, 3)):
            zero = apply(signed(64, channels, 2, 2), p) == 0
            lost = zero.flatten(2).all(dim=2).sum(dim=1)
            low, high = int(lost.min()), int(lost.max())
            text = f"p = {p} of {channels} channels is k = {k} for every sample, but "
            text += (
                f"every sample loses {low}"
                if low == high
                else f"the samples lose from {low} to {high}"
            )
            if low == high == channels - k:
                text += ": keep and drop are swapped"
            require(low == high == k, text)

    def check_scale() -> None:
        p, channels, k = 0.3, 8, 2
        x = signed(64, channels, 2, 2)
        got = _kept_scale(apply(x, p), x)
        expected = channels / (channels - k)
        where = f"at p = {p} of {channels} channels"
        wanted = f"expected C/(C - k) = {expected:.3f}"
        require(not math.isclose(got, 1.0), f"kept channels are not scaled: {wanted}")
        require(
            not math.isclose(got, 1 / (1 - p), rel_tol=1e-5),
            f"kept channels are scaled by 1/q = {1 / (1 - p):.3f}, but {where} q is "
            f"not the share that is kept: {wanted}",
        )
        require(
            math.isclose(got, expected, rel_tol=1e-5),
            f"kept channels have the wrong scale {where}: {wanted}, got {got:.3f}",
        )

    def check_fair() -> None:
        # Many calls with few samples: also a choice that is shared by the batch is
        # made 1,000 times. Five standard errors, since ten channels are looked at.
        p, channels, calls = 0.3, 10, 1000
        g, x = _generator(), signed(2, channels, 1)
        together = torch.zeros(channels, channels)  # how often two channels fall
        _call(function, x, p, training=True, generator=_generator())  # tells errors
        for y in ask(function, x, p, training=True, generator=g, times=calls):
            fell = (y == 0).flatten(2).all(dim=2).to(together.dtype)
            together += fell.T @ fell / len(x)
        share = together.diagonal() / calls
        far = (share - share.mean()).abs()
        worst = int(far.argmax())
        require(
            far[worst] < 5 * math.sqrt(p * (1 - p) / calls),
            f"the channels are not equally likely to fall: at p = {p} channel {worst} "
            f"falls in {share[worst].item():.0%} of the calls",
        )
        a, b = torch.triu_indices(channels, channels, offset=1)
        pairs = together[a, b] / calls
        mean = pairs.mean().item()
        far = (pairs - mean).abs()
        worst = int(far.argmax())
        require(
            far[worst] <= 5 * math.sqrt(mean * (1 - mean) / calls),
            f"some sets of channels are likelier than others: channels {int(a[worst])} "
            f"and {int(b[worst])} fall together in {pairs[worst].item():.0%} of the "
            f"calls, the average pair in {mean:.0%}",
        )

    def check_eval() -> None:
        x = signed(16, 8, 2, 2)
        _require_identity(apply(x, 0.3, training=False), x, "in eval mode")

    def check_none() -> None:
        x = signed(64, 8, 2, 2)
        _require_identity(apply(x, 0.05), x, "at p = 0.05 and C = 8")

    def check_all() -> None:
        for p in (1.0, 0.95):
            y = apply(signed(64, 8, 2, 2), p)
            _require_zeros(y, f"at p = {p:g} and C = 8")

    def check_ranks() -> None:
        for shape in ((64, 8, 6), (64, 8, 3, 4), (64, 8, 2, 3, 4)):
            _require_whole(apply(signed(*shape), 0.5))

    def check_generator() -> None:
        x = signed(64, 8, 2, 2)
        require_generator(lambda g: _call(function, x, 0.5, training=True, generator=g))

    def check_own_choice() -> None:
        _require_independent(apply(signed(64, 256, 2, 2), 0.5), least=0.3)

    return judge(
        {
            "exactly k": check_count,
            "whole channels": check_ranks,
            "scale": check_scale,
            "equal chances": check_fair,
            "own choice": check_own_choice,
            "gradient": lambda: require_gradient(partial(apply, p=0.3)),
            "dtype": lambda: require_dtype(partial(apply, p=0.3)),
            "generator": check_generator,
            "eval": check_eval,
            "k = 0": check_none,
            "k = C": check_all,
        }
    )
