"""Checkers of chapter 1, SpatialDropout.

The checks look at properties, never at code, and each looks at one thing only, so that
one fault does not hide behind another. Inputs are random and have both signs. A check
of a rate sees 65,536 draws: it finds a rate that is 25 % off, and a right answer fails
with a probability of about one in a million.

Example:
    >>> from regdrop_lite.course.check import chapter_1 as check
    >>> check.trace([None, None, None, None])
    public checks 0/2
    - which fall, scale: not written yet: put an answer in the place of every
      None
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from regdrop_lite import spatial_dropout
from regdrop_lite.course.check.core import (
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
    Layers,
    P,
    as_numbers,
    call,
    distinct,
    is_close,
    kept_scale,
    require_dtype,
    require_generator,
    require_gradient,
    require_rate,
    require_right,
    require_same,
    require_scale,
    require_untouched,
    require_value_error,
    require_values,
    require_written,
    require_zeros,
)

__all__ = ["diagnose", "drop_exactly", "layer", "mask_and_scale", "trace"]


# --- properties of an output (N, C, ...) ----------------------------------------------


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
        require_written(answer)
        return as_numbers(answer, 4)

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
        same = partial(math.isclose, abs_tol=0.01)  # by hand
        right = f"1/q = {1 / q:.3f}"
        slips = {
            1.0: f"not scaled: multiply them by {right}",
            1 / _TRACE_P: f"multiplied by 1/p = {1 / _TRACE_P}, not by {right}",
            q: f"multiplied by q = {q}, not by {right}",
        }
        for c, (value, x) in enumerate(zip(values, _TRACE_X, strict=True)):
            other = f"not multiplied by {right}, but by {value / x:.3f} for channel {c}"
            if value:
                text = "kept values are "
                require_right(value / x, 1 / q, slips.items(), same, text, other)

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

    def both(x: Tensor, p: float, g: torch.Generator) -> tuple[Tensor, float]:
        result = ask(function, x, p, generator=g, own=())
        if not (isinstance(result, tuple) and len(result) == 2):
            raise Wrong(f"expected a mask and a scale, got {show(result)}")
        mask, scale = result
        require(isinstance(mask, Tensor), f"the mask is {show(mask)}, not a tensor")
        return mask, scale

    def check_shape(*shape: int) -> None:
        x = signed(*shape)
        got = tuple(both(x, 0.4, _generator())[0].shape)
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
        for p in (P, 0.5):
            scale = float(both(signed(4, 6, 5, 3), p, _generator())[1])
            require_scale(scale, p, f"at p = {p}")

    def mask(g: torch.Generator, p: float = P) -> Tensor:
        x = signed(256, 256, 1, 1)
        drawn = both(x, p, g)[0]
        try:
            return drawn.expand(x.shape)
        except RuntimeError:
            raise Wrong(
                "the shape of the mask does not fit to images: see that check first"
            ) from None

    def check_rate() -> None:
        for p in (P, 0.7):
            require_rate(distinct(mask(_generator(), p)), p, "channels")

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
    layers = Layers(module, "MySpatialDropout")
    apply = layers.apply

    def check_whole() -> None:
        x = signed(64, 32, 2, 2)
        require_values(apply, "channels", x, f"at p = {P}")
        _require_whole(apply(signed(64, 32, 3, 4)))

    def check_rate() -> None:
        for p in (P, 0.7):
            require_rate(distinct(apply(signed(256, 256, 1, 1), p)), p, "channels")

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
        require_scale(kept_scale(apply(x), x), P, f"at p = {P}")

    def check_generator() -> None:
        x = signed(16, 32, 2, 2)
        make = layers.make
        require_generator(lambda g: layers.call(make().train(), x, generator=g))

    def check_eval() -> None:
        x = signed(16, 32, 2, 2)
        y = layers.call(layers.make().eval(), x, generator=_generator())
        require_same(y, x, "in eval mode", "channels")

    def check_zero() -> None:
        x = signed(16, 32, 2, 2)
        require_same(apply(x, 0.0), x, "at p = 0", "channels")

    def check_wrong_p() -> None:
        for p in (-0.1, 30, math.nan):
            require_value_error(partial(layers.make, p), f"p = {p}", [str(p)])

    def check_wrong_input() -> None:
        made, x = layers.make().train(), signed(4, 6)
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
            "p = 1": lambda: require_zeros(apply(signed(4, 6, 2, 2), 1.0), "at p = 1"),
            "input untouched": lambda: require_untouched(layers),
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

    def ask_case(fault: str, style: int) -> str:
        return choice(ask_about(function, _implementation(fault, style)), _FAULTS)

    hidden = Hidden(ask_case, dict.fromkeys(_FAULTS, 3))

    def check_fault(fault: str) -> None:
        for answer in hidden(fault):
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

    The package's function is no variant of itself: the code has to be the learner's.

    Example:
        >>> from regdrop_lite.course.check import chapter_1 as check
        >>> def random_number(x, p, training=True, generator=None):
        ...     shape = (*x.shape[:2], *[1] * (x.dim() - 2))
        ...     mask = torch.rand(shape, dtype=x.dtype, generator=generator) >= p
        ...     return x * mask / (1 - p) if training and p < 1 else x * (1 - training)
        >>> check.drop_exactly(random_number)
        public checks 7/11
        - exactly k: p = 0.3 of 8 channels is k = 2 for every sample, but the
          samples lose from 0 to 5
        - scale: kept channels are scaled by 1/q = 1.429, but at p = 0.3 of 8
          channels q is not the share that is kept: expected C/(C - k) = 1.333
        - k = 0: at p = 0.05 and C = 8 expected the input, but some channels still
          fall
        - k = C: at p = 0.95 and C = 8 expected zeros, got 6% of the values kept:
          everything is dropped there
    """

    def apply(x: Tensor, p: float, training: bool = True, seed: int = 0) -> Tensor:
        g = _generator(seed)
        return call(function, x, p, training=training, generator=g, own=())

    def check_count() -> None:
        x = signed(64, 32, 2, 2)
        require_values(partial(apply, p=0.3), "channels", x, "at p = 0.3")
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
        got = kept_scale(apply(x, p), x)
        expected = channels / (channels - k)
        where = f"at p = {p} of {channels} channels"
        wanted = f"expected C/(C - k) = {expected:.3f}"
        slips = {
            1.0: f"are not scaled: {wanted}",
            1 / (1 - p): f"are scaled by 1/q = {1 / (1 - p):.3f}, but {where} q is not "
            f"the share that is kept: {wanted}",
        }
        otherwise = f"have the wrong scale {where}: {wanted}, got {got:.3f}"
        text = "kept channels "
        require_right(got, expected, slips.items(), is_close, text, otherwise)

    def check_fair() -> None:
        # Many calls with few samples: also a choice that is shared by the batch is
        # made 1,000 times. Five standard errors, since ten channels are looked at.
        p, channels, calls = 0.3, 10, 1000
        g, x = _generator(), signed(2, channels, 1)
        together = torch.zeros(channels, channels)  # how often two channels fall
        call(function, x, p, training=True, generator=_generator(), own=())  # errors
        for y in ask(function, x, p, training=True, generator=g, times=calls, own=()):
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
        y = apply(x, 0.3, training=False)
        require_same(y, x, "in eval mode", "channels")

    def check_none() -> None:
        x = signed(64, 8, 2, 2)
        require_same(apply(x, 0.05), x, "at p = 0.05 and C = 8", "channels")

    def check_all() -> None:
        for p in (1.0, 0.95):
            y = apply(signed(64, 8, 2, 2), p)
            require_zeros(y, f"at p = {p:g} and C = 8")

    def check_ranks() -> None:
        for shape in ((64, 8, 6), (64, 8, 3, 4), (64, 8, 2, 3, 4)):
            _require_whole(apply(signed(*shape), 0.5))

    def check_generator() -> None:
        x = signed(64, 8, 2, 2)
        require_generator(
            lambda g: call(function, x, 0.5, training=True, generator=g, own=())
        )

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
