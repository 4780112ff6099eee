"""Drop probabilities that differ by depth, or change while a network trains."""

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

_SCHEDULES = ("linear", "linear1", "constant")


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
            and a single block 0; "linear1" gives p_max * (l + 1) / L, the rule of the
            stochastic depth paper; "constant" gives p_max to all.

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
    """
    p_max = check_probability(p_max, "p_max")
    check_choice(schedule, "schedule", _SCHEDULES)
    listed = as_list(num_blocks)
    staged = isinstance(listed, list)
    stages = [check_whole(n, "num_blocks", 0) for n in (listed if staged else [listed])]
    total = sum(stages)
    if schedule == "linear":
        rates = [p_max * (i / max(total - 1, 1)) for i in range(total)]
    elif schedule == "linear1":
        rates = [p_max * ((i + 1) / total) for i in range(total)]
    else:
        rates = [p_max] * total
    if not staged:
        return rates
    remaining = iter(rates)
    return [[next(remaining) for _ in range(blocks)] for blocks in stages]


class LinearRamp:
    """Move the drop probability from ``p_start`` to ``p_end`` over ``num_steps`` steps.

    Args:
        module: a layer of this package, or a module that contains some.
        p_start: the drop probability before the first step, in [0, 1]: one for all
            layers, or a list or array with one for each layer in the order of
            ``module.modules()``.
        p_end: the drop probability after ``num_steps`` steps and from then on.
        num_steps: the number of calls of :meth:`step` that the ramp takes, at least 1.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``module`` has no layer of this package, a probability is outside
            [0, 1], a list has the wrong length, or one number is given for layers that
            now have different rates (a schedule by depth would be lost).

    Call :meth:`step` once after each optimiser step. The rate after t calls is
    ``p_start + (p_end - p_start) * min(t / num_steps, 1)``.

    Reference: Ghiasi, Lin, Le, "DropBlock", NeurIPS 2018 (lower keep_prob linearly
    while training).

    Example:
        >>> from regdrop_lite import DropBlock2d, LinearRamp
        >>> layer = DropBlock2d(p=0.0, block_size=7)
        >>> ramp = LinearRamp(layer, p_start=0.0, p_end=0.1, num_steps=4)
        >>> for _ in range(5):
        ...     ramp.step()
        ...     print(layer.p)
        0.025
        0.05
        0.07500000000000001
        0.1
        0.1
    """

    def __init__(
        self,
        module: nn.Module,
        p_start: float | Sequence[float],
        p_end: float | Sequence[float],
        num_steps: int,
    ) -> None:
        self._layers = [m for m in module.modules() if isinstance(m, DropLayer)]
        if not self._layers:
            kind = type(module).__name__
            raise ValueError(f"expected layers of regdrop_lite, but {kind} has none")
        self.p_start = self._per_layer(p_start, "p_start")
        self.p_end = self._per_layer(p_end, "p_end")
        self.num_steps = check_whole(num_steps, "num_steps")
        self._step = 0
        self._set()

    def _per_layer(self, p: float | Sequence[float], name: str) -> list[float]:
        rates: Any = as_list(p)
        if isinstance(rates, list):
            if len(rates) != len(self._layers):
                raise ValueError(
                    f"{name} has to be one number or a list of {len(self._layers)}, "
                    f"one for each layer, but got {len(rates)}"
                )
        else:
            now = sorted({layer.p for layer in self._layers})
            if len(now) > 1:
                raise ValueError(
                    f"the layers have different rates {now}; one {name} for all would "
                    f"lose them: pass a list of {len(self._layers)}, or ramp a part"
                )
            rates = [p] * len(self._layers)
        return [check_probability(rate, name) for rate in rates]

    def _set(self) -> None:
        share = min(self._step / self.num_steps, 1.0)
        for layer, a, b in zip(self._layers, self.p_start, self.p_end, strict=True):
            layer.p = b if share == 1.0 else a + (b - a) * share

    def step(self) -> None:
        """Go on by one step and set the new rates."""
        self._step += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, so that a resumed run goes on where it was."""
        return {
            "step": self._step,
            "num_steps": self.num_steps,
            "p_start": list(self.p_start),
            "p_end": list(self.p_end),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`, and set its rates at once."""
        expected = sorted(self.state_dict())
        if sorted(state) != expected:
            raise ValueError(f"expected the keys {expected}, but got {sorted(state)}")
        if len(state["p_end"]) != len(self._layers):
            raise ValueError(
                f"the state is for {len(state['p_end'])} layers, "
                f"but the module has {len(self._layers)}"
            )
        self._step = state["step"]
        self.num_steps = state["num_steps"]
        self.p_start = list(state["p_start"])
        self.p_end = list(state["p_end"])
        self._set()
