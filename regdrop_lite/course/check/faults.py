"""Logs and models with one fault: checkers of chapter 6's third and fourth exercise."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite import DropPath
from regdrop_lite.course.check.core import (
    Report,
    ask,
    choice,
    generator,
    judge,
    require,
)
from regdrop_lite.course.check.properties import (
    Hidden,
    require_written,
)

__all__ = ["find_fault", "logs"]

# --- exercise 3: logs -----------------------------------------------------------------

_LOG_FAULTS = (
    "active in evaluation",
    "ramp one step early",
    "time steps instead of samples",
    "never called",
    "one mask for the batch",
    "nothing",
)
_LOGS = {
    "a": ("active in evaluation", "the same weights are evaluated three times"),
    "b": ("ramp one step early", "compare the logged rate with 0.4 t / 100, t from 0"),
    "c": ("time steps instead of samples", "which index is the same in all columns?"),
    "d": ("never called", "two losses are equal to the last digit"),
}
_SHOWS_AS = {
    "active in evaluation": "then one image gets several answers in evaluation",
    "ramp one step early": "then a rate stands where the next one belongs",
    "time steps instead of samples": "then tokens fall, in all samples alike",
    "never called": "then the run is the one without a mask",
    "one mask for the batch": "then all samples of a step fall, or none",
    "nothing": "one of the numbers cannot be so in a sound run",
}


def logs(a: str | None, b: str | None, c: str | None, d: str | None) -> Report:
    """Check the exercise "Read four logs".

    Args:
        a: the fault behind the first log.
        b: behind the second one.
        c: behind the third one.
        d: behind the fourth one.
    """
    answers = {"a": a, "b": b, "c": c, "d": d}

    def check(name: str) -> None:
        require_written(*answers.values())
        got = choice(answers[name], _LOG_FAULTS)
        right, look = _LOGS[name]
        require(got == right, f"log {name}: not {got!r}: {_SHOWS_AS[got]}; {look}")

    return judge({name: partial(check, name) for name in answers})


# --- exercise 4: models ---------------------------------------------------------------

_FAULTS = {  # what a model has, and where an audit shows it
    "ok": "its audit has no warnings",
    "active in evaluation": "its audit says that something works in evaluation",
    "time steps instead of samples": "see what falls, and which dimension has samples",
    "never called": "see the calls of each layer",
    "one mask for the batch": "see what falls: sample by sample, or the batch",
    "on the skip": "see the place: a mask belongs on the branch",
    "empty places": "its audit names places without DropPath",
}


class _Model(nn.Module):
    """Two residual blocks on tokens, with one fault or none."""

    def __init__(self, fault: str, style: int) -> None:
        super().__init__()
        self.fault, dim = fault, (6, 10)[style]
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.parts = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2))
        mode = "batch" if fault == "one mask for the batch" else "row"
        rates = (0.2, 0.4) if style else (0.3, 0.3)
        self.paths = nn.ModuleList(DropPath(p, mode=mode) for p in rates)
        self.style = style
        if fault == "empty places":
            self.drop_path = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, T, C) to tokens."""
        for i, (norm, part, path) in enumerate(
            zip(self.norms, self.parts, self.paths, strict=True)
        ):
            here = i == self.style  # which of the two blocks has the fault
            branch = part(norm(x))
            if self.fault == "never called" and here:
                x = x + branch
            elif self.fault == "on the skip" and here:
                x = path(x) + branch
            elif self.fault == "time steps instead of samples" and here:
                x = x + path(branch.transpose(0, 1)).transpose(0, 1)
            else:
                x = x + path(branch)
            if self.fault == "active in evaluation" and here:
                x = F.dropout(x, 0.1)
        return self.drop_path(x) if self.fault == "empty places" else x


def find_fault(function: Callable[..., str]) -> Report:
    """Check the exercise "Find the fault with an audit".

    Args:
        function: takes (model, x), tokens of 4 samples, and names the fault.
    """
    shapes = {0: (4, 5, 6), 1: (4, 7, 10)}

    def ask_case(fault: str, style: int) -> str:
        dtype = torch.get_default_dtype()
        model = _Model(fault, style).to(dtype)
        x = torch.rand(shapes[style], generator=generator(style)).to(dtype)
        return choice(ask(function, model, x), tuple(_FAULTS))

    sound = "what does a sound model look like?"
    hidden = Hidden(ask_case, dict.fromkeys(_FAULTS, 2), sound)

    def check(fault: str) -> None:
        for got in hidden(fault):
            require(
                got == fault,
                f"a model with {fault!r} was called {got!r}: {_FAULTS[fault]}",
            )

    return judge({fault: partial(check, fault) for fault in _FAULTS})
