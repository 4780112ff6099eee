"""Checkers of chapter 3, DropPath.

The checks look at properties, never at code, and each looks at one thing only. Inputs
are random and have both signs. A check of a rate sees so many draws that it finds a
rate that is 25 % off; a right answer fails it with a probability of about one in a
million.

Example:
    >>> from regdrop_lite.course.check import chapter_3 as check
    >>> check.trace(2, 16, 64)
    public checks 2/3
    - training: expected 1/q on the kept branch of block 2, got 16, the output
      without it: what is kept is scaled in training
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from numbers import Real
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite import DropPath, drop_path, set_generator
from regdrop_lite.course.check.core import (
    Given,
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
    Layers,
    P,
    as_list,
    as_number,
    as_numbers,
    as_verdict,
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
    require_zeros,
    tell_slip,
)
from regdrop_lite.course.measures import residual_blocks
from regdrop_lite.course.models import ResidualBlock, ResNetSmall

__all__ = [
    "diagnose",
    "fold",
    "independent",
    "layer",
    "p_for_depth",
    "pull",
    "risk",
    "stage_rates",
    "trace",
    "well_placed",
]

_RETURN = ": does every way through end in return?"


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


# --- exercise 1 -----------------------------------------------------------------------

_TRACE_U = (0.1, 0.2, 0.6)
_TRACE_P = 0.5


def trace(depth: float, training: float, evaluation: float) -> Report:
    """Check the three numbers of the exercise "Trace a sample".

    Args:
        depth: how many branches of the sample are kept.
        training: its output in training.
        evaluation: its output in evaluation.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.trace(None, None, None)
        public checks 0/3
        - depth, training, evaluation: not written yet: put a number for every None
    """

    def check_number(
        answer: object, right: int, known: dict[float, str], what: str, cause: str
    ) -> None:
        if any(value is None for value in (depth, training, evaluation)):
            raise Wrong("not written yet: put a number for every None")
        got = as_number(answer, f"{what} as one number")
        otherwise = f"expected {what}, got {got:g}: {cause}"
        require_right(got, right, known.items(), _same, "", otherwise)

    depths: dict[float, str] = {
        3: "expected the number of kept branches, got 3: a dropped block does not "
        "count, although its skip hands the sample on",
        1: "expected the number of kept branches, got 1: a branch is kept where "
        "u >= p, and linear begins with the rate 0",
        2.25: "expected the depth of this sample, got 2.25, the mean over all masks: "
        "a branch is kept or dropped, nothing in between",
    }
    outputs: dict[float, str] = {
        16: "expected 1/q on the kept branch of block 2, got 16, the output without "
        "it: what is kept is scaled in training",
        64: "expected x alone after block 1, got 64, the output of three open "
        "blocks: its u = 0.2 lies below its rate",
        140: "expected x alone after block 1, got 140, the output if block 1 is kept "
        "and scaled: its u = 0.2 lies below its rate",
        5: "expected a branch to be kept where u >= p, got 5, the output if one is "
        "kept where u < p: p is the probability to drop",
        20: "expected block 1 dropped and block 2 kept, got 20, the output if it is "
        "the other way round: a branch is kept where u >= p",
        7: "expected block 0 to be kept, got 7, the output if it is dropped: linear "
        "begins with the rate 0",
        10: "expected the kept branch of block 2 divided by q, got 10, the output if "
        "it is multiplied by q",
        0: "expected the skip to hand the sample on, got 0: a dropped block drops its "
        "branch alone",
        32: "expected 1/q on the branch alone, got 32, the output if block 2 scales "
        "its skip too",
    }
    means: dict[float, str] = {
        28: "expected all three blocks open, got 28, the output in training: in "
        "evaluation nothing is dropped",
        16: "expected all three blocks open, got 16, the output of two: block 1 counts "
        "again in evaluation",
        140: "expected branches as they are, got 140, the output with 1/q: in "
        "evaluation nothing is scaled",
        32.5: "expected branches as they are, got 32.5, the output if each is "
        "multiplied by its q: training has scaled already",
        27: "expected x + 3x from each block, got 27, the output without the skips",
    }
    return judge(
        {
            "depth": lambda: check_number(
                depth,
                2,
                depths,
                "the number of kept branches",
                "compare each u with the rate of its own block",
            ),
            "training": lambda: check_number(
                training,
                28,
                outputs,
                "x + 3x/q from every kept block and x from a dropped one",
                "follow the sample block by block",
            ),
            "evaluation": lambda: check_number(
                evaluation,
                64,
                means,
                "the output of three open blocks",
                "what does one block make of x in evaluation?",
            ),
        }
    )


# --- exercise 2 -----------------------------------------------------------------------

_PREDICTIONS = ("as before", "the same factor", "the more, the earlier")
_STAGES = (  # the right answer, and what is wrong with the two others
    (
        "the same factor",
        {
            "as before": "its gradient has come through stage 2",
            "the more, the earlier": "its own skips are whole, and all its blocks get "
            "what stage 2 hands on",
        },
    ),
    (
        "the more, the earlier",
        {
            "as before": "its own skips are cut, and each gradient has come through "
            "the blocks after it",
            "the same factor": "the gradient of its first block has come through seven "
            "cut blocks, that of its last one through none",
        },
    ),
    (
        "as before",
        {
            "the same factor": "the gradient runs backwards and comes here before it "
            "gets to stage 2",
            "the more, the earlier": "none of its skips is cut, and no cut block lies "
            "between the loss and it",
        },
    ),
)
_NETS = ("residual_blocks", "ResNetSmall", "ResidualBlock", "ConvNormAct")


def _gradients(
    net: nn.Module, images: Tensor, labels: Tensor, training: bool = True
) -> list[list[Tensor]]:
    """For each block the gradients of the mean loss."""
    net = copy.deepcopy(net).train(training)
    blocks = [list(block.parameters()) for block in residual_blocks(net)]
    loss = F.cross_entropy(net(images), labels)
    gradients = iter(torch.autograd.grad(loss, [w for ws in blocks for w in ws]))
    return [[next(gradients) for _ in ws] for ws in blocks]


def _norms(blocks: Sequence[Sequence[Tensor]]) -> list[float]:
    return [math.hypot(*(w.norm().item() for w in ws)) for ws in blocks]


def _wrong_norms(
    net: nn.Module, images: Tensor, labels: Tensor
) -> Iterator[tuple[list[float], str]]:
    """What a slip makes of the norms of the gradients, and its name."""
    blocks = _gradients(net, images, labels)
    right = _norms(blocks)
    yield right, ""
    yield (
        [sum(w.norm().item() for w in ws) for ws in blocks],
        "these are sums of the norms of the single weights, but the norm of all of "
        "them is the root of the sum of squares",
    )
    yield [norm**2 for norm in right], "the root is missing"
    yield (
        [sum(w.abs().sum().item() for w in ws) for ws in blocks],
        "these are sums of absolute values, not of squares",
    )
    yield (
        [max(w.abs().max().item() for w in ws) for ws in blocks],
        "these are the largest values, not the norms",
    )
    yield (
        [torch.cat([w.flatten() for w in ws]).mean().item() for ws in blocks],
        "these are means of the gradients, not the norms",
    )
    yield (
        [len(images) * norm for norm in right],
        f"this is {len(images)} times as much, from the sum of the losses instead of "
        "their mean",
    )
    yield (
        _norms(_gradients(net, images, labels, training=False)),
        "this is the gradient in eval mode, but training mode is asked for",
    )
    yield (
        _norms(_gradients(net, images, torch.zeros_like(labels))),
        "this is the gradient when every label is 0: are the labels used?",
    )
    yield (
        _norms([list(block.parameters()) for block in residual_blocks(net)]),
        "this is the norm of the weights, not of their gradients",
    )
    yield right[::-1], "the blocks come in reverse"


def pull(
    function: Callable[[nn.Module, Tensor, Tensor], Sequence[float]],
    stage_1: str,
    stage_2: str,
    stage_3: str,
) -> Report:
    """Check the exercise "Cut the skips of one stage".

    Args:
        function: takes (net, images, labels) and returns the norm of the gradient for
            each residual block.
        stage_1, stage_2, stage_3: what is predicted for the gradients of each stage.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.pull(lambda net, images, labels: [0, 0, 0, 0], "?", None, None)
        public checks 0/8
        - stage 1, stage 2, stage 3, norms, second call, arguments, float32, weights
          left alone: not written yet: predict first, with an answer for every None
    """
    predictions = (stage_1, stage_2, stage_3)

    def make(seed: int = 1, dtype: torch.dtype = torch.float64) -> ResNetSmall:
        return ResNetSmall(depths=(1, 2, 1), seed=seed, dtype=dtype).eval()

    def batch(start: int = 0) -> tuple[Tensor, Tensor]:
        labels = torch.randint(10, (16,), generator=_generator())
        return signed(start + 8, 1, 28, 28)[start:], labels[start : start + 8]

    def norms(net: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
        result = ask(function, net, images, labels, own=_NETS)
        what = "one number for each of the 4 blocks"
        return as_numbers(result, 4, what, ": what does your loop run over?")

    @cache
    def two_calls() -> tuple[nn.Module, list[float], list[float]]:
        net, data = make(), batch()
        return net, norms(net, *data), norms(net, *data)

    def close(a: list[float], b: list[float], rel_tol: float = 1e-6) -> bool:
        pairs = zip(a, b, strict=True)
        return all(math.isclose(x, y, rel_tol=rel_tol) for x, y in pairs)

    def check_stage(stage: int) -> None:
        if None in predictions:
            text = "not written yet: predict first, with an answer for every None"
            raise Wrong(text)
        right, causes = _STAGES[stage]
        got = choice(predictions[stage], _PREDICTIONS)
        if got != right:
            text = "expected what the factors of this stage show, got "
            raise Wrong(f"{text}{got!r}: {causes[got]}")

    def check_norms() -> None:
        _, got, _ = two_calls()
        (right, _), *slips = _wrong_norms(make(), *batch())
        if close(got, right):
            return
        text = f"expected {right[0]:.6g} for block 0, got {got[0]:.6g}: "
        tell_slip(got, slips, close, text)
        if all(a < b or math.isclose(a, b) for a, b in zip(got, right, strict=True)):
            raise Wrong(
                f"{text}too little; does every weight of block.parameters() count, "
                "those of the norms and of the projection too?"
            )
        raise Wrong(
            f"{text}is it the norm of the gradient of F.cross_entropy, over all "
            "weights of the block together?"
        )

    def check_second() -> None:
        _, first, second = two_calls()
        require(
            not close(second, [2 * norm for norm in first]),
            f"expected {first[0]:.6g} from a second call as well, got {second[0]:.6g}, "
            "twice as much: backward adds to the gradients that are there",
        )
        require(
            close(second, first),
            f"expected {first[0]:.6g} from a second call as well, got {second[0]:.6g}: "
            "what does the first call leave behind?",
        )

    def check_arguments() -> None:
        images, labels = batch()
        _, first, _ = two_calls()
        for name, call in {
            "net": (make(seed=2), images, labels),
            "images": (make(), batch(8)[0], labels),
            "labels": (make(), images, labels.flip(0)),
        }.items():
            require(
                not close(norms(*call), first),
                f"expected other norms for other {name}, got the same: is the "
                f"argument {name} used?",
            )

    def agreeing() -> tuple[Tensor, Tensor]:
        """A batch whose activations have the same signs in float32 as in float64."""
        for start in range(9):
            images, labels = batch(start)
            double = _norms(_gradients(make(), images, labels))
            net = make(dtype=torch.float32)
            if close(_norms(_gradients(net, images.float(), labels)), double, 1e-5):
                return images, labels
        raise RuntimeError("expected a batch without activations near 0, found none")

    def check_single() -> None:
        images, labels = agreeing()
        double = norms(make(), images, labels)
        try:
            net = make(dtype=torch.float32)
            single = norms(net, images.float(), labels)
        except Exception as error:
            error.add_note("for a net and images in float32")
            raise
        require(
            close(single, double, rel_tol=1e-3),
            f"expected {double[0]:.4g} in float32 as well, got {single[0]:.4g}: does a "
            "step depend on the dtype?",
        )

    def check_weights() -> None:
        net, *_ = two_calls()
        same = zip(net.parameters(), make().parameters(), strict=True)
        require(
            all(torch.equal(a, b) for a, b in same),
            "expected a net with the weights that it had, got others: measuring is no "
            "step of training",
        )

    stages = {f"stage {i + 1}": partial(check_stage, i) for i in range(3)}
    return judge(
        {
            **stages,
            "norms": check_norms,
            "second call": check_second,
            "arguments": check_arguments,
            "float32": check_single,
            "weights left alone": check_weights,
        }
    )


# --- exercise 3 -----------------------------------------------------------------------


def _wrong_rates(
    p_max: float, depths: Sequence[int]
) -> Iterator[tuple[list[float], str]]:
    """What a slip makes of the rates, block by block, and its name."""
    total, stages = sum(depths), len(depths)
    last = max(total - 1, 1)
    inside = [(s, i, n) for s, n in enumerate(depths) for i in range(n)]
    right = [p_max * i / last for i in range(total)]
    yield right, ""
    yield (
        [p_max * i / total for i in range(total)],
        "L blocks have L - 1 steps between them, not L",
    )
    yield (
        [p_max * (i + 1) / total for i in range(total)],
        "this is i/L for i = 1 to L, but linear begins with 0",
    )
    yield (
        [p_max * i / last for _, i, _ in inside],
        "every stage begins with the rate 0 again, but the depth counts through them",
    )
    yield (
        [p_max * i / max(n - 1, 1) for _, i, n in inside],
        "every stage climbs to p_max on its own, but the depth counts through them",
    )
    yield [p_max] * total, "all blocks have the same rate, but it grows with depth"
    yield (
        [p_max * s / max(stages - 1, 1) for s, _, _ in inside],
        "the blocks of a stage share a rate, but it grows from block to block",
    )
    yield right[::-1], "the rates fall with depth, but they have to grow"
    yield (
        [1 - p for p in right],
        "these are the probabilities to keep, but a rate is one to drop",
    )


def stage_rates(function: Callable[[float, list[int]], list[list[float]]]) -> Report:
    """Check the exercise "Fill in a schedule over stages".

    Args:
        function: takes (p_max, depths) and returns a list of rates for each stage.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.stage_rates(lambda p_max, depths: [[p_max] * n for n in depths])
        public checks 1/6
        - three stages, one stage, an empty stage: expected 0 for block 0, got 0.5:
          all blocks have the same rate, but it grows with depth
        - another rate: expected 0 for block 0, got 0.2: all blocks have the same
          rate, but it grows with depth
        - a single block: expected the rate 0 for a net of one block, got 0.5: its
          first block is its last one
    """

    def rates(p_max: float, depths: list[int]) -> list[list[float]]:
        try:
            result = ask(function, p_max, list(depths), own=())
        except Exception as error:
            error.add_note(f"for depths = {depths}")
            raise
        stages = as_list(result, "a list with a list for each stage")
        if any(s is ... or (isinstance(s, list) and ... in s) for s in stages):
            raise Wrong("not written yet: put something in the place of every ...")
        for s, stage in enumerate(stages):
            require(
                not isinstance(stage, Real),
                f"expected a list for each stage, got the number {stage!r} in place of "
                f"one: the list is flat, which hides where stage {s} ends",
            )
        listed = [
            [
                as_number(p, "a number for each block")
                for p in as_list(stage, f"a list of rates for stage {s}")
            ]
            for s, stage in enumerate(stages)
        ]
        got = [len(stage) for stage in listed]
        require(
            got == depths,
            f"expected {depths} rates in the stages, got {got}: which blocks does a "
            "stage hold?",
        )
        return listed

    def flat(p_max: float, depths: list[int]) -> list[float]:
        return [p for stage in rates(p_max, depths) for p in stage]

    def check_lengths() -> None:
        for depths in ([2, 3, 1], [2, 0, 2], [3, 3, 9, 3]):
            rates(0.5, depths)

    def check_rates(p_max: float, depths: list[int]) -> None:
        got = flat(p_max, depths)
        (right, _), *slips = _wrong_rates(p_max, depths)

        def same(a: list[float], b: list[float]) -> bool:
            return all(map(_same, a, b))

        if same(got, right):
            return
        i = [_same(a, b) for a, b in zip(got, right, strict=True)].index(False)
        text = f"expected {right[i]:.4g} for block {i}, got {got[i]:.4g}: "
        half = next(_wrong_rates(0.5, depths))[0]
        slips.append((half, "these are the rates for 0.5; is p_max used?"))
        tell_slip(got, slips, same, text)
        if i == 0:
            raise Wrong(f"{text}linear begins with 0 at the first block")
        if i == len(got) - 1:
            raise Wrong(f"{text}the last block has the rate p_max")
        raise Wrong(f"{text}the steps from block to block are all the same")

    def check_single() -> None:
        (got,) = flat(0.5, [1])
        require(
            got == 0,
            f"expected the rate 0 for a net of one block, got {got:.4g}: its first "
            "block is its last one",
        )

    return judge(
        {
            "a list for each stage": check_lengths,
            "three stages": lambda: check_rates(0.5, [2, 3, 1]),
            "one stage": lambda: check_rates(0.5, [4]),
            "an empty stage": lambda: check_rates(0.5, [2, 0, 2]),
            "another rate": lambda: check_rates(0.2, [3, 3, 9, 3]),
            "a single block": check_single,
        }
    )


# --- exercise 4 -----------------------------------------------------------------------


def _require_samples(y: Tensor) -> None:
    """Is every sample of ``y`` either dropped or kept as a whole, on its own?"""
    shape, zero = tuple(y.shape), y == 0
    flat = zero.reshape(len(zero), -1)
    if (flat != flat[:, :1]).any():
        text = f"in a branch of shape {shape} expected samples that fall as a whole, "
        inner = zero.flatten(2) if y.dim() > 2 else flat[..., None]
        if y.dim() > 2 and (inner == inner[..., :1]).all():
            raise Wrong(f"{text}got single channels: that is SpatialDropout's mask")
        raise Wrong(
            f"{text}got single values: a mask must have one number for each sample, "
            "and a 1 for every other dimension"
        )
    require(
        (flat != flat[:1]).any(),
        f"in a branch of shape {shape} expected a draw for each sample, but all share "
        "one fate: does mode='row' draw len(f) numbers?",
    )


def _require_pairs(calls: Tensor, p: float) -> None:
    """Do any two samples fall independently? ``calls`` has a row for each call."""
    n, samples = calls.shape
    dropped = calls.double()
    a, b = torch.triu_indices(samples, samples, offset=1)
    together = (dropped.T @ dropped)[a, b] / n
    # A right answer fails with a probability of less than 1e-6 for all pairs together.
    bound = 6 * p * (1 - p) / math.sqrt(n)
    # The covariance with the shares themselves: it does not depend on the rate.
    share = dropped.mean(dim=0)
    far = together - share[a] * share[b]
    worst = int(far.abs().argmax())
    i, j = int(a[worst]), int(b[worst])
    text = (
        f"at p = {p} samples {i} and {j} fall together in {together[worst].item():.1%} "
        f"of {n} calls, expected {(share[i] * share[j]).item():.1%}: "
    )
    require(far[worst] < bound, f"{text}they share a random number")
    require(
        far[worst] > -bound,
        f"{text}one falls in the place of the other, as if the number kept were fixed",
    )


_EVERY: list[dict[str, Any]] = [
    {"mode": mode, "scale_by_keep": scaled}
    for mode in ("row", "batch")
    for scaled in (True, False)
]


def _calls(
    layers: Layers,
    times: int,
    f: Tensor,
    p: float = P,
    g: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """Many calls of one layer, each with an input of its own."""
    layer, inputs = layers.make(p, **options).train(), [f.clone() for _ in range(times)]
    layers.call(layer, f, generator=_generator())  # tells errors
    one = partial(layer, generator=g or _generator())
    return torch.stack(ask(list, map(one, inputs), own=()))


def _check_samples(layers: Layers) -> None:
    # So many mini-batches that one fate for all of them falls, too.
    when = f"at p = {P}, in 64 mini-batches of 64 samples,"
    require_values(partial(_calls, layers, 64), "samples", signed(64, 4), when)
    for shape in ((64, 3, 4, 4), (64, 5, 3), (64, 3), (64,), (64, 2, 2, 3, 3)):
        _require_samples(layers.apply(signed(*shape)))


def _check_batch(layers: Layers) -> None:
    zero = _calls(layers, 2048, signed(4, 3), 0.4, mode="batch").flatten(1) == 0
    require(
        (zero == zero[:, :1]).all(),
        "with mode='batch' a mini-batch falls only in part, expected the whole: it "
        "takes a single random number",
    )
    require_rate(zero[:, 0], 0.4, "mini-batches")


def _check_rate(layers: Layers) -> None:
    for p in (P, 0.7):
        zero = layers.apply(signed(2**16, 1), p) == 0
        if zero.any() and not zero.all():  # else they share one fate, as told above
            require_rate(zero, p, "samples")


def _check_independence(layers: Layers) -> None:
    zero = _calls(layers, 2048, signed(6, 1))[..., 0] == 0
    require(
        (zero != zero[:1]).any(),
        "expected new masks from call to call, got the same samples every time: draw "
        "in forward, not in __init__",
    )
    if not (zero == zero[:, :1]).all():  # else they share one fate, as told above
        _require_pairs(zero, P)


def _check_scale(layers: Layers, scaled: bool) -> None:
    f = signed(64, 3)
    for mode in ("row", "batch"):
        options = {"mode": mode, "scale_by_keep": scaled}
        for p in (P, 0.4):
            tries = (layers.apply(f, p, seed, **options) for seed in range(16))
            y = next((y for y in tries if y.any()), torch.zeros_like(f))
            when = f"with mode={mode!r}, scale_by_keep={scaled} and p = {p}"
            require_scale(kept_scale(y, f), p, when, scaled)


def _check_generator(layers: Layers) -> None:
    f, pair = signed(64, 3), signed(2, 1)
    require_generator(lambda g: layers.call(layers.make().train(), f, generator=g))
    require_generator(lambda g: _calls(layers, 64, pair, 0.5, g, mode="batch"))


def _check_global_generator(layers: Layers) -> None:
    layer, f, outputs = layers.make().train(), signed(64, 3), []
    for _ in range(2):
        torch.default_generator.manual_seed(1)
        outputs.append(layers.call(layer, f))
    require(
        not torch.equal(outputs[1], layers.call(layer, f)),
        "without a generator expected a new mask in each call, got the same one: "
        "nothing may be seeded in the layer",
    )
    require(
        torch.equal(*outputs),
        "without a generator expected the numbers of torch.manual_seed, got others "
        "from the same seed: leave them to torch's global generator",
    )


def _check_eval(layers: Layers) -> None:
    f = signed(64, 3)
    for options in _EVERY:
        for p in (P, 1.0):
            layer = layers.make(p, **options).eval()
            y = layers.call(layer, f, generator=_generator())
            require_same(y, f, "in eval mode", "samples")


def _check_zero(layers: Layers) -> None:
    f = signed(64, 3)
    for options in _EVERY:
        require_same(layers.apply(f, 0.0, **options), f, "at p = 0", "samples")


def _check_one(layers: Layers) -> None:
    for options in _EVERY:
        require_zeros(layers.apply(signed(64, 3), 1.0, **options), "at p = 1")


def _check_gradient(layers: Layers) -> None:
    # What another dtype changes is told by its own check.
    require_gradient(lambda f: layers.apply(f).to(f.dtype))


def _check_gradient_of_zeros(layers: Layers) -> None:
    f = signed(64, 3).requires_grad_()
    y = layers.apply(f, 1.0)
    require(
        y.requires_grad,
        "at p = 1 expected a gradient of zeros, got an output that is cut off from the "
        "branch: new zeros have no gradient",
    )
    (gradient,) = torch.autograd.grad(y.sum(), f, allow_unused=True)
    require(
        gradient is not None and (gradient == 0).all(),
        "at p = 1 expected a gradient of zeros, got another one: is the output the "
        "branch times 0?",
    )


def _check_dtype(layers: Layers) -> None:
    for p in (P, 0.0, 1.0):
        require_dtype(partial(layers.apply, p=p))
    require_dtype(partial(layers.apply, scale_by_keep=False))


def _check_mode(layers: Layers) -> None:
    for mode in ("row", "batch"):
        layers.make(mode=mode)
    for mode in ("sample", "rows"):
        what = f"mode={mode!r}, when the layer is made,"
        require_value_error(partial(layers.make, mode=mode), what, [""])


_LAYER_CHECKS: dict[str, Callable[[Layers], None]] = {
    "whole samples": _check_samples,
    "mini-batch": _check_batch,
    "rate": _check_rate,
    "independence": _check_independence,
    "scale": partial(_check_scale, scaled=True),
    "no scale": partial(_check_scale, scaled=False),
    "generator": _check_generator,
    "global generator": _check_global_generator,
    "eval": _check_eval,
    "p = 0": _check_zero,
    "p = 1": _check_one,
    "input untouched": require_untouched,
    "gradient": _check_gradient,
    "gradient at p = 1": _check_gradient_of_zeros,
    "dtype": _check_dtype,
    "unknown mode": _check_mode,
}


def layer(module: Callable[..., nn.Module]) -> Report:
    """Check the exercise "Write the layer".

    Args:
        module: a class of layers, called as ``module(p, mode="row",
            scale_by_keep=True)``; a layer is called as ``layer(f, generator=g)``.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> class Silent(nn.Module):
        ...     def __init__(self, p=0.0, mode="row", scale_by_keep=True):
        ...         super().__init__()
        ...
        ...     def forward(self, f, generator=None):
        ...         raise NotImplementedError
        >>> check.layer(Silent)
        public checks 0/16
        - whole samples, mini-batch, rate, independence, scale, no scale, generator,
          global generator, eval, p = 0, p = 1, input untouched, gradient, gradient
          at p = 1, dtype, unknown mode: not written yet
    """
    layers = Layers(module, "MyDropPath", "a branch")
    return judge(
        {name: partial(check, layers) for name, check in _LAYER_CHECKS.items()}
    )


# --- exercise 5 -----------------------------------------------------------------------

_FAULTS = (
    "ok",
    "drops the skip too",
    "mask per value",
    "mask per mini-batch",
    "p is the keep probability",
    "no scale",
    "scaled twice",
)
_SIGNS = {  # what gives each fault away
    "drops the skip too": "with x of ones and a branch of ones it has zeros in its "
    "output",
    "mask per value": "inside one sample some values have the branch and some have "
    "not, if a sample has several",
    "mask per mini-batch": "in any call all samples have the branch, or none has",
    "p is the keep probability": "the share of samples without the branch is 1 - p; "
    "send in many, at another p than 0.5",
    "no scale": "in training a kept branch comes out as it is; look at the values",
    "scaled twice": "in evaluation its branch is multiplied by q; call it with "
    "training=False as well",
}
_CLAIMS = {  # what a block is like that is wrongly called so
    "drops the skip too": "its dropped samples are x, not zero; choose an x and a "
    "branch whose sum is never zero",
    "mask per value": "each of its samples has the branch as a whole or not at all",
    "mask per mini-batch": "its samples differ, but few of them can be alike by "
    "chance; send in more",
    "p is the keep probability": "its share of samples without the branch is p, up to "
    "chance; with few samples chance is large",
    "no scale": "in training its kept branches count 1/q-fold",
    "scaled twice": "in evaluation its output is x + F(x); compare up to rounding",
}


def _faulty_block(fault: str, style: int) -> Callable[..., Tensor]:
    """A residual block with one fault. The styles differ in their code only."""
    stretch = 7 * style + _FAULTS.index(fault)  # another stretch of random numbers

    def block(
        x: Tensor,
        f: Tensor,
        p: float,
        training: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        q = 1 - p
        if not training:
            return x + f * (q if fault == "scaled twice" else 1.0)
        torch.rand(stretch, generator=generator)
        if fault == "ok" and style == 2:
            return x + drop_path(f, p, training, generator=generator)
        shape = [len(x)] + [1] * (x.dim() - 1)
        if fault == "mask per value":
            shape = list(x.shape)
        elif fault == "mask per mini-batch":
            shape = [1] * x.dim()
        q = p if fault == "p is the keep probability" else q
        u = torch.rand(shape, dtype=torch.float64, generator=generator)
        keep = (u < q if style else u >= 1 - q).to(x.device)
        scale = 0.0 if q == 0 else 1.0 if fault == "no scale" else 1 / q
        if fault == "drops the skip too":
            return (x + f) * keep * scale
        return torch.where(keep, x + f * scale, x) if style else x + f * keep * scale

    return block


def _open_block(given: Given) -> Callable[..., Tensor]:
    """What the learner is handed: it calls the branch, and hides all else."""

    def block(
        x: Tensor,
        branch: Callable[[Tensor], Tensor],
        p: float,
        training: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return cast(Tensor, given(x, branch(x), p, training, generator))

    return block


def diagnose(function: Callable[[Callable[..., Tensor]], str]) -> Report:
    """Check the exercise "Find the bug".

    Args:
        function: takes a residual block, itself called as ``block(x, branch, p,
            training, generator)``, and returns the name of its fault. It is handed
            three hidden blocks for each fault.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.diagnose(lambda block: "ok")
        public checks 0/7
        - ok, drops the skip too, mask per value, mask per mini-batch, p is the keep
          probability, no scale, scaled twice: not written yet: the function that it
          is given is never called
    """

    def ask_case(fault: str, style: int) -> str:
        block = _faulty_block(fault, style)
        return choice(ask_about(function, block, wrap=_open_block), _FAULTS)

    hidden = Hidden(ask_case, dict.fromkeys(_FAULTS, 3))

    def check_fault(fault: str) -> None:
        for got in hidden(fault):
            if got == fault:
                continue
            if fault == "ok":
                raise Wrong(
                    f"expected 'ok' for a correct block, got {got!r}: {_CLAIMS[got]}"
                )
            also = "" if got == "ok" else f"; it is not {got!r}: {_CLAIMS[got]}"
            raise Wrong(f"expected {fault!r}, got {got!r}: {_SIGNS[fault]}{also}")
        require(
            fault == "ok" or fault not in hidden.raw("ok"),
            f"{fault!r} is right here, but a correct block got the same name: it "
            "counts only where the correct one is told from it",
        )

    return judge({fault: partial(check_fault, fault) for fault in _FAULTS})


# --- exercise 6 -----------------------------------------------------------------------


class _HiddenBlock(ResidualBlock):
    """A residual block that does not show where its DropPath stands."""

    def __init__(self, channels: int, seed: int, given: Given) -> None:
        super().__init__(8, channels, channels // 8, drop=DropPath(0.5))
        _randomise(self.to(torch.float64).train(), seed)
        del self.placement
        self.given = given

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.given(self, x))


def _randomise(net: nn.Module, seed: int) -> None:
    """Weights and statistics as after a training, none of them 0 or 1."""
    g = _generator(seed)
    for name, weight in net.state_dict().items():
        if weight.is_floating_point():
            if weight.dim() > 1:
                nn.init.kaiming_normal_(weight, generator=g)
            elif name.endswith(("weight", "running_var")):
                nn.init.uniform_(weight, 0.5, 1.5, generator=g)
            else:
                nn.init.normal_(weight, generator=g)


def _placed(placement: str) -> Callable[[Any, Tensor], Tensor]:
    """What a :class:`_HiddenBlock` computes, with its modules as they are."""

    def forward(block: Any, x: Tensor) -> Tensor:
        block = copy.copy(block)
        block.placement = placement
        return ResidualBlock.forward(block, x)

    return forward


_PLACES = {  # and what a block is like whose DropPath stands there
    "branch": "about half of the samples of a right block are relu(skip(x)), to the "
    "last place; does your test ask for more, or for less?",
    "before_norm": "the norm after it makes something else of the zeros, so that no "
    "sample is relu(skip(x))",
    "after_sum": "its dropped samples are zero, without the skip",
}


def well_placed(function: Callable[[nn.Module, Tensor], bool]) -> Report:
    """Check the exercise "Find the misplaced layer".

    Args:
        function: takes (block, x) and says whether dropped samples leave the block by
            the skip alone. It is handed 16 hidden blocks for each placement.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.well_placed(lambda block, x: True)
        public checks 0/3
        - branch, before_norm, after_sum: not written yet: the function that it is
          given is never called
    """

    def ask_case(placement: str, number: int) -> bool:
        wrap = partial(_HiddenBlock, 8 if number % 2 else 16, number)
        x = signed(64, 8, 7, 7)
        answer = ask_about(function, _placed(placement), x, wrap=wrap)
        return as_verdict(answer, exact=True)

    hidden = Hidden(ask_case, dict.fromkeys(_PLACES, 16), _PLACES["branch"])

    def check_place(placement: str) -> None:
        right = placement == "branch"
        for number, got in enumerate(hidden(placement)):
            skip = "an identity skip" if number % 2 else "a projection"
            require(
                got == right,
                f"for {placement!r} and {skip} expected {right}, got {got}: "
                f"{_PLACES[placement]}",
            )
        require(
            right or all(hidden("branch")),
            f"False is right for {placement!r}, but blocks with the DropPath at the "
            "end of the branch get it too: it counts only where they are accepted",
        )

    return judge({place: partial(check_place, place) for place in _PLACES})


# --- exercise 7 -----------------------------------------------------------------------


def _why_other(old: ResidualBlock, new: Any, q: float) -> str:
    """Why a block does not compute relu(skip(x) + q F(x)), by its weights."""

    def factor(name: str) -> float:
        """The one factor between the old and the new values; NaN if there is none."""
        try:
            a, b = old.get_parameter(name), new.get_parameter(name)
            ratio = (b / a).flatten()
            same = torch.allclose(ratio, ratio[0], rtol=1e-4)
        except (AttributeError, RuntimeError):
            return math.nan
        return ratio[0].item() if same else math.nan

    before, after = old.skip.state_dict(), new.skip.state_dict()
    if list(before) != list(after) or not all(
        map(torch.equal, *map(_values, (before, after)))
    ):
        return "its skip is changed, but the factor belongs to the branch alone"
    if factor("conv2.weight") != 1 or factor("conv1.weight") != 1:
        return (
            "its convolutions are changed, but norm2 takes a factor of conv2 out "
            "again; the branch ends with norm2"
        )
    weight, bias = factor("norm2.weight"), factor("norm2.bias")
    known = {1.0: "not at all", 1 / q: "by 1/q", 1 - q: "by p", q**2: "by q twice"}
    if math.isclose(weight, q, rel_tol=1e-4):
        if bias == 1:
            return "norm2.weight is multiplied by q, but norm2.bias is forgotten"
        return f"norm2.weight is multiplied by q, but norm2.bias by {bias:.4g}"
    if math.isclose(bias, q, rel_tol=1e-4):
        return f"norm2.bias is multiplied by q, but norm2.weight by {weight:.4g}"
    for number, how in known.items():
        if math.isclose(weight, number, rel_tol=1e-4):
            return f"norm2 is multiplied {how}, but q = {q:g} is this block's factor"
    return f"is the output of norm2 multiplied by this block's own q = {q:g}?"


def _values(state: Mapping[str, Tensor]) -> list[Tensor]:
    return list(state.values())


def fold(function: Callable[[ResNetSmall], object]) -> Report:
    """Check the exercise "Mend a net that was trained without the scale".

    Args:
        function: changes a ``ResNetSmall`` in place.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.fold(lambda net: None)
        public checks 0/4
        - evaluation, training, dtype, weights that learn: expected a net that is
          changed in place, got it as it was: which of its weights have a new value?
    """

    def trained(dtype: torch.dtype = torch.float64) -> ResNetSmall:
        net = ResNetSmall(regulariser="drop_path", p=0.5, depths=(2, 2, 2), dtype=dtype)
        _randomise(net, 1)
        for block in residual_blocks(net):
            cast(DropPath, block.drop).scale_by_keep = False
        return net

    def folded(dtype: torch.dtype = torch.float64) -> ResNetSmall:
        net, old = trained(dtype), trained(dtype)
        ask(function, net)
        states = [n.state_dict() for n in (net, old)]
        scales = [
            [getattr(b.drop, "scale_by_keep", None) for b in residual_blocks(n)]
            for n in (net, old)
        ]
        same = states[0].keys() == states[1].keys() and all(
            map(torch.equal, *map(_values, states))
        )
        if same and scales[0] == scales[1]:
            raise Hopeless(
                "expected a net that is changed in place, got it as it was: which of "
                "its weights have a new value?"
            )
        return net

    def pairs(
        training: bool,
    ) -> Iterator[tuple[int, ResidualBlock, ResidualBlock, Tensor]]:
        olds, news = trained().train(training), folded().train(training)
        sizes = [(8, 14), (8, 14), (8, 14), (16, 7), (16, 7), (32, 4)]
        for number, (old, new) in enumerate(
            zip(residual_blocks(olds), residual_blocks(news), strict=True)
        ):
            channels, side = sizes[number]
            yield number, old, new, signed(16, channels, side, side)

    def check_evaluation() -> None:
        for number, old, new, h in pairs(training=False):
            q = 1 - cast(DropPath, old.drop).p
            branch = old.norm2(old.conv2(old.norm1(old.conv1(h)).relu()))
            right, got = (old.skip(h) + q * branch).relu(), ask(new, h)
            if isinstance(got, Tensor) and torch.allclose(got, right):
                continue
            raise Wrong(
                f"in evaluation expected relu(skip(x) + q F(x)) from block {number}, "
                f"got another output: {_why_other(old, new, q)}"
            )

    def check_training() -> None:
        for number, old, new, h in pairs(training=True):
            outputs = []
            for block in (old, new):
                set_generator(block, _generator(3))
                outputs.append(ask(block, h))
            if torch.allclose(*outputs):
                continue
            drop, text = new.drop, f"in training expected m F(x) from block {number}"
            q = 1 - cast(DropPath, old.drop).p
            if getattr(drop, "p", None) != cast(DropPath, old.drop).p:
                raise Wrong(f"{text}, got another mask: its rate has to stay")
            if not getattr(drop, "scale_by_keep", False):
                raise Wrong(
                    f"{text}, got another factor: with q in its weights the branch "
                    "needs 1/q in front, and the layer does not scale"
                )
            raise Wrong(
                f"{text}, got another factor, although the layer scales by 1/q = "
                f"{1 / q:.4g}: the weights have to take just that back"
            )

    def check_dtype() -> None:
        net = folded(torch.float32)
        for name, value in net.state_dict().items():
            require(
                not value.is_floating_point() or value.dtype == torch.float32,
                f"expected {name} of a float32 net in float32, got {value.dtype}",
            )

    def check_learns() -> None:
        right, got = (
            sum(w.numel() for w in net.parameters() if w.requires_grad)
            for net in (trained(), folded())
        )
        require(
            got == right,
            f"expected {right:,} weights that learn, got {got:,}: is a new weight a "
            "parameter with a gradient?",
        )

    return judge(
        {
            "evaluation": check_evaluation,
            "training": check_training,
            "dtype": check_dtype,
            "weights that learn": check_learns,
        }
    )


# --- exercise 8 -----------------------------------------------------------------------


def p_for_depth(function: Callable[[float, int, str], float]) -> Report:
    """Check the exercise "Plan a depth".

    Args:
        function: takes (D, L, schedule) and returns the largest rate.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.p_for_depth(lambda D, L, schedule: 1 - D / L)
        public checks 1/5
        - linear: for D = 9, L = 12, 'linear' expected 0.5, got 0.25: that is the
          rate of 'constant', whose rates have the mean p_max
        - ends: for D = 3, L = 6, 'linear' expected 1, got 0.5: that is the rate of
          'constant', whose rates have the mean p_max
        - impossible depth: depth 5 of 12 blocks, 'linear', expected a ValueError,
          got 0.583: no linear schedule goes below L/2
        - unknown schedule: for the schedule 'linear1' expected a ValueError, got
          0.25: only two names are known
    """

    def call(D: float, L: int, schedule: str) -> object:
        return ask(function, D, L, schedule)

    def check_rate(*case: tuple[float, int, str]) -> None:
        for D, L, schedule in case:
            mean, right = (
                (0.5, 2 * (1 - D / L)) if schedule == "linear" else (1, 1 - D / L)
            )
            text = f"for D = {D:g}, L = {L}, {schedule!r} expected {right:.3g}, got "
            try:
                what = f"{right:.3g} as a number for D = {D:g}, L = {L}, {schedule!r}"
                got = as_number(call(D, L, schedule), what, _RETURN)
            except ValueError as error:
                raise Wrong(
                    f"{text}a ValueError: some p_max between 0 and 1 makes this depth"
                ) from error
            other = "constant" if schedule == "linear" else "linear"
            wrongs = (
                (
                    (1 - D / L) / (1.5 - mean),
                    f"that is the rate of {other!r}, whose rates have the mean "
                    f"{'p_max' if mean < 1 else 'p_max/2'}",
                ),
                (D / L, "that is D/L, the share that is kept"),
                (
                    2 * (L - D) / (L + 1),
                    "that is the rate of 'linear1', whose first block can fall",
                ),
                (L - D, "that is how many blocks fall, no probability"),
            )
            text = f"{text}{got:.3g}: "
            otherwise = f"it makes the depth {L - L * mean * got:.4g}; what do the "
            otherwise += "rates add up to?"
            require_right(got, right, wrongs, _same, text, otherwise)

    def check_error(what: str, cause: str, *case: Any) -> None:
        try:
            got = call(*case)
        except ValueError:
            pass
        except NotImplementedError:
            raise
        except Exception as error:
            name = type(error).__name__
            raise Wrong(
                f"{what} expected a ValueError, got a {name}: {cause}"
            ) from error
        else:
            shown = f"{got:.3g}" if isinstance(got, Real) else show(got)
            raise Wrong(f"{what} expected a ValueError, got {shown}: {cause}")
        try:
            call(9, 12, "linear")
        except Exception as error:
            raise Wrong(
                f"{what} a ValueError is right, but D = 9 and L = 12 raise an error "
                "too: it counts only where a possible depth is accepted"
            ) from error

    def check_impossible() -> None:
        for D, L, schedule, cause in (
            (5, 12, "linear", "no linear schedule goes below L/2"),
            (13, 12, "linear", "no net is deeper than its blocks are many"),
            (13, 12, "constant", "no net is deeper than its blocks are many"),
            (-1, 4, "constant", "no depth is negative"),
        ):
            what = f"depth {D} of {L} blocks, {schedule!r},"
            check_error(what, cause, D, L, schedule)

    def check_unknown() -> None:
        for name in ("linear1", "cosine"):
            what = f"for the schedule {name!r}"
            check_error(what, "only two names are known", 9, 12, name)

    return judge(
        {
            "linear": lambda: check_rate((9, 12, "linear"), (7.5, 10, "linear")),
            "constant": lambda: check_rate((9, 12, "constant"), (2, 6, "constant")),
            "ends": lambda: check_rate((6, 6, "linear"), (3, 6, "linear")),
            "impossible depth": check_impossible,
            "unknown schedule": check_unknown,
        }
    )


# --- exercise 9 -----------------------------------------------------------------------

_CALLS = 2500


# Plain draws: the package's layers would take most of the learner's time.


def _rows(N: int, p: float, generator: torch.Generator) -> Tensor:
    return torch.rand(N, generator=generator) >= p


def _subset(N: int, p: float, generator: torch.Generator) -> Tensor:
    number = torch.rand(N, generator=generator).argsort()
    return number < N * (1 - p) - torch.rand(1, generator=generator)


def _batch(N: int, p: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(1, generator=generator) >= p).expand(N)


def _pairs(N: int, p: float, generator: torch.Generator) -> Tensor:
    # Samples 0 and 2, 1 and 3, 4 and 6, ...: the first two are independent.
    coins = torch.rand(2 * math.ceil(N / 4), generator=generator) >= p
    return coins.view(-1, 1, 2).expand(-1, 2, 2).flatten()[:N]


def _evenly(N: int, p: float, generator: torch.Generator) -> Tensor:
    # Evenly spread numbers: where one is low, others are high.
    start = torch.rand(1, generator=generator)
    return (start + torch.arange(N) / N) % 1 >= p


def _copied(N: int, p: float, generator: torch.Generator) -> Tensor:
    # Every mask is possible: half of the samples, chosen anew, share one coin.
    coins = torch.rand(N + 1, generator=generator) >= p
    shared = torch.rand(N, generator=generator) < 0.5
    return torch.where(shared, coins[0], coins[1:])


_SAMPLERS = {
    "DropPath": (
        _rows,
        "with independent samples the variance of the number kept is Npq; four "
        "relative errors sqrt(2/n) of it are to be allowed, with n calls",
    ),
    "the subset": (
        _subset,
        "its number kept hardly varies: samples fall in the place of others",
    ),
    "one mask": (
        _batch,
        "all samples fall together, and the variance of the number kept is N times Npq",
    ),
    "pairs": (
        _pairs,
        "samples fall two by two, but not those side by side; a count of all sees it",
    ),
    "evenly": (
        _evenly,
        "its random numbers are evenly spread, which makes the variance of the number "
        "kept too small",
    ),
    "copied": (
        _copied,
        "every mask can occur, but some samples share a coin, others each time; the "
        "variance of the number kept is too large",
    ),
}


def independent(function: Callable[..., bool]) -> Report:
    """Check the exercise "Design a test".

    Args:
        function: takes ``kept``, itself called as ``kept(N, p, generator)``, and a
            seed, and says whether the samples fall independently. It is handed each
            of six hidden functions with three seeds.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.independent(lambda kept, seed=0: True)
        public checks 0/6
        - DropPath, the subset, one mask, pairs, evenly, copied: not written yet:
          the function that it is given is never called
    """

    def ask_case(name: str, seed: int) -> bool:
        sampler, calls = _SAMPLERS[name][0], []

        def counted(N: int, p: float, generator: torch.Generator) -> Tensor:
            calls.append(1)
            if N > 2**16:
                raise ValueError("N of at most 65,536 samples is enough here")
            return sampler(N, p, generator)

        answer = ask_about(function, counted, seed=seed)
        require(
            len(calls) <= _CALLS,
            f"expected at most {_CALLS:,} calls, got {len(calls):,}: a larger N costs "
            "no call",
        )
        return as_verdict(answer, exact=True)

    hidden = Hidden(ask_case, dict.fromkeys(_SAMPLERS, 3), _SAMPLERS["DropPath"][1])

    def check_sampler(name: str) -> None:
        right = name == "DropPath"
        for seed, got in enumerate(hidden(name)):
            text = f"with seed {seed} expected {right}, got {got}: "
            require(got == right, text + _SAMPLERS[name][1])
        require(
            right or all(hidden("DropPath")),
            f"False is right for {name!r}, but independent samples get it too: it "
            "counts only where they are accepted",
        )

    return judge({name: partial(check_sampler, name) for name in _SAMPLERS})


# --- exercise 10 ----------------------------------------------------------------------

_MISSED: dict[str, Callable[[float, int], float]] = {  # by one process, for one block
    "row": lambda p, N: 0.0,
    "batch": lambda p, N: p,
    "subset": lambda p, N: max(0.0, 1 - N * (1 - p)),
}


def _some(missed: Iterable[float], processes: int) -> float:
    return 1 - math.prod((1 - m) ** processes for m in missed)


def _wrong_risks(
    rates: Sequence[float], N: int, processes: int, mode: str
) -> Iterator[tuple[float, str]]:
    """What a slip makes of the risk, and its name."""
    missed = [_MISSED[mode](p, N) for p in rates]
    if mode == "row":
        cause = "with a mask for each sample every branch is computed"
        yield _some(rates, processes), cause
        yield _some([p**N for p in rates], processes), cause
    else:
        yield (
            _some([p**N for p in rates], processes),
            "p**N is the chance that N masks of their own all drop, but here "
            + ("one coin counts" if mode == "batch" else "the number kept is fixed"),
        )
    if mode == "subset":
        yield _some(rates, processes), "p is the risk of one coin, not of the subset"
        yield (
            _some([1 - N * (1 - p) for p in rates], processes),
            "1 - Nq is no probability where Nq is more than 1",
        )
    yield 1 - _some(missed, processes), "this is the probability that all goes well"
    if processes > 1:
        yield _some(missed, 1), "this is the risk of one process"
        yield processes * _some(missed, 1), "probabilities are added for the processes"
    if len(rates) > 1:
        yield sum(missed), "probabilities are added for the blocks"
        yield math.prod(missed), "this is the risk that every block is missed"
        yield _some(missed[-1:], processes), "the last block alone counts"
        yield _some(missed[:1], processes), "the first block alone counts"


def risk(function: Callable[[Sequence[float], int, int, str], float]) -> Report:
    """Check the exercise "Compute a risk".

    Args:
        function: takes (rates, N, processes, mode) and returns a probability.

    Example:
        >>> from regdrop_lite.course.check import chapter_3 as check
        >>> check.risk(lambda rates, N, processes, mode: None)
        public checks 0/7
        - one mask, masks, a fraction of a sample, one sample, enough samples,
          blocks, processes: expected a probability, got None: does every way
          through end in return?
    """

    def value(*case: Any) -> float:
        rates, *others = case
        answer = ask(function, list(rates), *others)
        return as_number(answer, "a probability", _RETURN)

    def check_risk(*case: Any) -> None:
        rates, N, processes, mode = case
        right = _some([_MISSED[mode](p, N) for p in rates], processes)
        got = value(*case)
        text = f"risk{case}: expected {right:.4g}, got {got:.4g}: "
        otherwise = "what is the probability that one process calls every branch?"
        require_right(got, right, _wrong_risks(*case), _same, text, otherwise)

    def check_zero(*case: Any) -> None:
        check_risk(*case)
        require(
            value([0.8], 1, 1, "batch") != 0,
            f"risk{case} = 0 is right, but so is the answer for one coin: a zero "
            "counts only where a risk is seen",
        )

    return judge(
        {
            "one mask": lambda: check_risk([0.3], 32, 1, "batch"),
            "masks": lambda: check_zero([0.2, 0.9], 1, 4, "row"),
            "a fraction of a sample": lambda: check_risk([0.8], 2, 1, "subset"),
            "one sample": lambda: check_risk([0.3], 1, 1, "subset"),
            "enough samples": lambda: check_zero([0.1, 0.5, 0.75], 4, 2, "subset"),
            "blocks": lambda: check_risk([0.8, 0.9], 3, 1, "subset"),
            "processes": lambda: check_risk([0.8, 0.9], 3, 2, "subset"),
        }
    )
