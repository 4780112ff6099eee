"""Drop probabilities that differ by depth, or change while a network trains."""

import copy
import math
from collections.abc import Sequence
from typing import Any, overload

from torch import nn

from regdrop_lite._checks import (
    as_list,
    check_choice,
    check_probability,
    check_whole,
)
from regdrop_lite.drop_layer import DropLayer

_SCHEDULES = ("linear", "linear0", "linear1", "constant", "falling")
_PRESENT = "present"


@overload
def drop_path_rates(
    p_max: float, num_blocks: int, schedule: str = "linear"
) -> list[float]: ...


@overload
def drop_path_rates(
    p_max: float, num_blocks: Sequence[int], schedule: str = "linear"
) -> list[list[float]]: ...


def drop_path_rates(
    p_max: float, num_blocks: int | Sequence[int], schedule: str = "linear"
) -> list[float] | list[list[float]]:
    """Drop probabilities for the residual blocks of a network, by depth.

    Args:
        p_max: the largest drop probability, in [0, 1].
        num_blocks: the number of blocks L, or those of each stage as a list or array.
        schedule: "linear" gives block l = 0 ... L - 1 the rate p_max * l / (L - 1),
            and a single block 0; it is timm's rule for most networks. "linear1" gives
            p_max * (l + 1) / L, the rule of the stochastic depth paper. "linear0" gives
            p_max * l / L, so that p_max itself is never reached; it is the rule of
            EfficientNet in timm and torchvision, where L counts the blocks without a
            skip as well. "constant" gives p_max to all. "falling" gives
            p_max * (1 - l / (L - 1)), "linear" back to front: a control that tells
            whether the direction matters.

    Returns:
        A list of L rates; for a list of stages a list of lists. The depth counts
        through all stages.

    Raises:
        TypeError: ``p_max`` or a number of blocks is no number.
        ValueError: ``p_max`` is outside [0, 1], a number of blocks is negative, or
            ``schedule`` is unknown.

    Example:
        >>> from regdrop_lite import drop_path_rates
        >>> drop_path_rates(0.5, 3)
        [0.0, 0.25, 0.5]
        >>> drop_path_rates(0.5, [2, 2], "linear1")
        [[0.125, 0.25], [0.375, 0.5]]
        >>> drop_path_rates(0.2, 16, "linear0")[-1]  # the last block of EfficientNet-B0
        0.1875

    References: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic
    Depth", ECCV 2016 (survival falls linearly with depth); Tan, Le, "EfficientNet",
    ICML 2019 (its code divides the index of a block, from 0, by their number).
    """
    p_max = check_probability(p_max, "p_max")
    check_choice(schedule, "schedule", _SCHEDULES)
    listed = as_list(num_blocks)
    staged = isinstance(listed, list)
    stages = [check_whole(n, "num_blocks", 0) for n in (listed if staged else [listed])]
    total = sum(stages)
    if schedule == "linear":
        rates = [p_max * (i / max(total - 1, 1)) for i in range(total)]
    elif schedule == "falling":
        rates = [p_max * (1.0 - i / max(total - 1, 1)) for i in range(total)]
    elif schedule == "linear0":
        rates = [p_max * (i / total) for i in range(total)]
    elif schedule == "linear1":
        rates = [p_max * ((i + 1) / total) for i in range(total)]
    else:
        rates = [p_max] * total
    if not staged:
        return rates
    remaining = iter(rates)
    return [[next(remaining) for _ in range(blocks)] for blocks in stages]


class _StepSchedule:
    """Rates that are a function of the number of steps done."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [m for m in module.modules() if isinstance(m, DropLayer)]
        if not self._layers:
            kind = type(module).__name__
            raise ValueError(
                f"expected layers of regdrop_lite, but {kind} has none: "
                "regdrop_lite.tools.replace_layers swaps those of other libraries"
            )
        self._step = 0

    def _present(self) -> list[float]:
        return [layer.p for layer in self._layers]

    def _rates(self) -> list[float]:
        """One for each layer, after ``self._step`` steps."""
        raise NotImplementedError

    def _set(self) -> None:
        for layer, p in zip(self._layers, self._rates(), strict=True):
            layer.p = p

    def step(self) -> None:
        """Go on by one step and set the new rates."""
        self._step += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that a resumed run goes on where it was."""
        public = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return copy.deepcopy({"step": self._step, **public})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`, and set its rates at once."""
        expected = sorted(self.state_dict())
        if sorted(state) != expected:
            raise ValueError(f"expected the keys {expected}, but got {sorted(state)}")
        for name, value in state.items():
            if isinstance(value, list):
                if len(value) != len(self._layers):
                    raise ValueError(
                        f"the state is for {len(value)} layers, "
                        f"but the module has {len(self._layers)}"
                    )
                for p in value:
                    check_probability(p, name)
        check_whole(state["step"], "step", 0)
        check_whole(state.get("num_steps", 1), "num_steps")
        state = copy.deepcopy(state)
        self._step = state.pop("step")
        vars(self).update(state)
        self._set()


class LinearRamp(_StepSchedule):
    """Move the drop probability from ``p_start`` to ``p_end`` over ``num_steps`` steps.

    Args:
        module: a layer of this package, or a module that contains some.
        p_start: the drop probability before the first step, in [0, 1]: one for all
            layers; a list or array with one for each layer in the order of
            ``module.modules()``; or "present" for the rates that the layers have now.
        p_end: the drop probability after ``num_steps`` steps and from then on, in the
            same forms.
        num_steps: the number of calls of :meth:`step` that the ramp takes, at least 1.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``module`` has no layer of this package, a probability is outside
            [0, 1], a list has the wrong length, one number is given for start and end
            of layers that now have different rates (a schedule by depth would be
            lost), or with "present" nothing would move.

    Call :meth:`step` once after each optimiser step. The rate after t calls is
    ``p_start + (p_end - p_start) * min(t / num_steps, 1)``.

    ``LinearRamp(model, 0.0, "present", num_steps)`` warms up a network whose rates
    differ by depth; ``LinearRamp(model, "present", 0.0, num_steps)`` fades them out,
    which is early dropout with a linear schedule. "Present" is read once, now: build
    the ramp before the first step, and resume with :meth:`load_state_dict`, which
    brings the rates that were present then.

    References: Ghiasi, Lin, Le, "DropBlock", NeurIPS 2018 (lower keep_prob linearly
    while training); Liu, Xu, Jin, Shen, Darrell, "Dropout Reduces Underfitting",
    ICML 2023 (early dropout).

    Example:
        >>> from torch import nn
        >>> from regdrop_lite import DropPath, LinearRamp
        >>> model = nn.Sequential(DropPath(0.0), DropPath(0.1), DropPath(0.2))
        >>> ramp = LinearRamp(model, p_start=0.0, p_end="present", num_steps=2)
        >>> for _ in range(3):
        ...     print([layer.p for layer in model])
        ...     ramp.step()
        [0.0, 0.0, 0.0]
        [0.0, 0.05, 0.1]
        [0.0, 0.1, 0.2]
    """

    def __init__(
        self,
        module: nn.Module,
        p_start: float | Sequence[float] | str,
        p_end: float | Sequence[float] | str,
        num_steps: int,
    ) -> None:
        super().__init__(module)
        forms = [as_list(p_start), as_list(p_end)]  # == compares arrays by element
        uniform = not any(isinstance(p, list) or p == _PRESENT for p in forms)
        now = sorted(set(self._present()))
        if uniform and len(now) > 1:
            raise ValueError(
                f"the layers have different rates {now}; one number for p_start and "
                "one for p_end would lose them: let one of them be 'present' or a "
                f"list of {len(self._layers)}, or ramp a part"
            )
        self.p_start = self._per_layer(p_start, "p_start")
        self.p_end = self._per_layer(p_end, "p_end")
        self.num_steps = check_whole(num_steps, "num_steps")
        if _PRESENT in forms and self.p_start == self.p_end:
            raise ValueError(
                f"nothing to ramp: the present rates {now} are start and end"
            )
        self._set()

    def _per_layer(self, p: float | Sequence[float] | str, name: str) -> list[float]:
        if isinstance(p, str) and p == _PRESENT:
            return self._present()
        rates: Any = as_list(p)
        if not isinstance(rates, list):
            rates = [p] * len(self._layers)
        elif len(rates) != len(self._layers):
            raise ValueError(
                f"{name} has to be one number, 'present', or a list of "
                f"{len(self._layers)}, one for each layer, but got {len(rates)}"
            )
        return [check_probability(rate, name) for rate in rates]

    def _rates(self) -> list[float]:
        share = min(self._step / self.num_steps, 1.0)
        pairs = zip(self.p_start, self.p_end, strict=True)
        return [b if share == 1.0 else a + (b - a) * share for a, b in pairs]


class DropWindow(_StepSchedule):
    """Drop from step ``start`` to step ``stop`` only: early, late, or in between.

    Args:
        module: a layer of this package, or a module that contains some. Inside the
            window its layers have the rates that they have now, outside it 0.
        start: the first step of the window, from 0.
        stop: the first step after it, above ``start``; ``None`` for no end.

    Raises:
        TypeError: ``start`` or ``stop`` is no whole number.
        ValueError: ``start`` is negative, ``stop`` not above it, ``module`` has no
            layer of this package, or all its rates are 0.

    Call :meth:`step` once after each optimiser step: steps are counted from 0, so that
    ``DropWindow(model, 0, n)`` drops in the first n of them. For early dropout that
    fades out see :class:`LinearRamp`. Build it before the first step, and resume with
    :meth:`load_state_dict`.

    Reference: Liu, Xu, Jin, Shen, Darrell, "Dropout Reduces Underfitting", ICML 2023:
    early dropout for networks that underfit, late dropout for those that overfit.

    Example:
        >>> from regdrop_lite import DropPath, DropWindow
        >>> layer = DropPath(0.4)
        >>> late = DropWindow(layer, start=2)
        >>> for _ in range(4):
        ...     print(layer.p)
        ...     late.step()
        0.0
        0.0
        0.4
        0.4
    """

    def __init__(self, module: nn.Module, start: int, stop: int | None = None) -> None:
        super().__init__(module)
        self.start = check_whole(start, "start", 0)
        self.stop = None if stop is None else check_whole(stop, "stop", start + 1)
        self.p = self._present()
        if not any(self.p):
            raise ValueError(
                "expected layers with the rates of the window, but all rates are 0"
            )
        self._set()

    def _rates(self) -> list[float]:
        stop = math.inf if self.stop is None else self.stop
        return self.p if self.start <= self._step < stop else [0.0] * len(self.p)
