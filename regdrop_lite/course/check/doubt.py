"""Masked passes and calibration: the checker of chapter 6's fifth exercise."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regdrop_lite.course.check.core import (
    Hopeless,
    Report,
    Wrong,
    ask,
    generator,
    judge,
    require,
    show,
)
from regdrop_lite.course.check.properties import as_number

__all__ = ["uncertainty"]


class _Doubtful(nn.Module):
    """A classifier with BatchNorm and a mask whose outputs differ much."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mask = nn.BatchNorm1d(5), nn.Dropout(0.4)
        self.hidden, self.out = nn.Linear(5, 8), nn.Linear(8, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, 5) to logits (N, 3)."""
        self.calls += 1
        hidden = self.hidden(3 * self.mask(self.norm(x))).relu()
        logits: Tensor = 4 * self.out(hidden)  # one pass is not the mean of many
        return logits


_Bins = list[tuple[float, int, bool]]  # confidence, how many, right or not
_CALIBRATION: dict[str, tuple[_Bins, float]] = {
    "perfect": ([(0.75, 3, True), (0.75, 1, False)], 0.0),
    "one bin": ([(0.95, 6, True), (0.95, 4, False)], 0.35),
    "two bins": ([(0.95, 6, True), (0.95, 2, False), (0.55, 2, True)], 0.25),
    "too unsure": ([(0.65, 8, True), (0.45, 2, False)], 0.37),
    "both sides": ([(0.85, 5, False), (0.55, 5, True)], 0.65),
}


def _predictions(bins: _Bins) -> tuple[Tensor, Tensor]:
    """Probabilities (N, 4) and labels (N,)."""
    rows: list[Tensor] = []
    labels: list[int] = []
    for confidence, count, right in bins:
        for _ in range(count):
            said = len(rows) % 4
            row = torch.full((4,), (1 - confidence) / 3, dtype=torch.float64)
            row[said] = confidence
            rows.append(row)
            labels.append(said if right else (said + 1) % 4)
    return torch.stack(rows), torch.tensor(labels)


def uncertainty(passes: Callable[..., Any], calibration: Callable[..., Any]) -> Report:
    """Check the exercise "Doubt, and whether it can be trusted".

    Args:
        passes: takes (net, x, count) and returns the mean of the class probabilities
            over so many masked passes, (N, K).
        calibration: takes probabilities (N, K) and labels (N,) and returns the expected
            calibration error with ten bins of equal width.
    """
    x = 3 * torch.rand(7, 5, dtype=torch.float64, generator=generator(4))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = _Doubtful().double().eval()
    net.norm.running_mean = torch.full((5,), 0.5, dtype=torch.float64)
    net.norm.running_var = torch.full((5,), 2.0, dtype=torch.float64)
    before = copy.deepcopy(net.state_dict())

    def mean(count: int = 300, images: Tensor = x) -> Tensor:
        net.eval()
        net.calls = 0
        got = ask(passes, net, images.clone(), count)
        if not isinstance(got, Tensor) or got.shape != (len(images), 3):
            raise Hopeless(
                f"expected probabilities of shape ({len(images)}, 3), got {show(got)}"
            )
        return got

    def check_probabilities() -> None:
        got = mean()
        require(
            torch.allclose(got.sum(dim=1), torch.ones(7, dtype=got.dtype)),
            "expected probabilities that add up to 1 for each image, got other sums: "
            "softmax over the classes, dimension 1 of the logits",
        )
        with torch.no_grad():
            draws = torch.stack([_masked(net, x) for _ in range(1500)])
        plain = net.eval()(x).detach().softmax(1)
        known = {
            "": draws.softmax(2).mean(0),
            "the softmax of the mean logits: average the probabilities": draws.mean(
                0
            ).softmax(1),
            "those of one pass without masks": plain,
        }
        off = {cause: (got - p).abs().max().item() for cause, p in known.items()}
        nearest = min(off, key=lambda cause: off[cause])
        require(
            not nearest and off[""] < 0.14,
            f"expected the mean of probabilities, got {nearest or 'something else'}",
        )

    def check_random() -> None:
        require(
            not torch.equal(mean(2), mean(2)),
            "expected that two calls differ, but no mask is at work: in eval() all "
            "passes are alike",
        )

    def check_count() -> None:
        for count in (1, 6):
            mean(count)
            require(
                net.calls == count,
                f"expected {count} passes, got {net.calls}: each one draws its masks",
            )

    def check_norm() -> None:
        mean(3)
        for name, old in before.items():
            require(
                torch.equal(net.state_dict()[name], old),
                f"expected that nothing is trained, but {name} has changed: BatchNorm "
                "has to stay in evaluation",
            )
        require(
            not net.training and not net.mask.training, "the modes were not restored"
        )

    def check_gradient() -> None:
        require(
            not mean(2).requires_grad,
            "expected numbers without a graph: torch.no_grad() saves its memory",
        )

    def check_calibration(name: str) -> None:
        bins, right = _CALIBRATION[name]
        got = as_number(ask(calibration, *_predictions(bins)))
        if math.isclose(got, right, abs_tol=1e-6):
            return
        size = sum(n for _, n, _ in bins)
        by: dict[float, list[tuple[int, bool]]] = {}
        for confidence, n, is_right in bins:
            by.setdefault(confidence, []).append((n, is_right))
        gaps = []
        for confidence, parts in by.items():
            n = sum(count for count, _ in parts)
            share = sum(count for count, is_right in parts if is_right) / n
            gaps.append((n / size, confidence - share))
        known = {
            "each bin counts alike, whatever it holds: weigh it by its share": sum(
                abs(gap) for _, gap in gaps
            )
            / len(gaps),
            "gaps of both signs cancel: take their absolute values": sum(
                w * gap for w, gap in gaps
            ),
            "gaps of both signs cancel, before the absolute value": abs(
                sum(w * gap for w, gap in gaps)
            ),
            "accuracy minus confidence, with its sign": -sum(
                w * gap for w, gap in gaps
            ),
            "the largest gap, not the mean one": max(abs(gap) for _, gap in gaps),
            "gaps were added up without a weight": sum(abs(gap) for _, gap in gaps),
            "gaps were squared": sum(w * gap**2 for w, gap in gaps),
            "the error rate, without the confidence": sum(
                n for _, n, is_right in bins if not is_right
            )
            / size,
            "per cent": 100 * right,
        }
        text = f"{name}: expected {right:.4g}, got {got:.4g}"
        for cause, number in known.items():
            require(not math.isclose(got, number, abs_tol=1e-6), f"{text}: {cause}")
        raise Wrong(
            f"{text}: confidence is the largest probability; in each bin compare its "
            "mean with the share of right answers"
        )

    return judge(
        {
            "probabilities": check_probabilities,
            "random": check_random,
            "passes": check_count,
            "BatchNorm": check_norm,
            "no graph": check_gradient,
            **{name: partial(check_calibration, name) for name in _CALIBRATION},
        }
    )


def _masked(net: _Doubtful, x: Tensor) -> Tensor:
    net.eval()
    net.mask.train()
    logits: Tensor = net(x)
    net.eval()
    return logits
