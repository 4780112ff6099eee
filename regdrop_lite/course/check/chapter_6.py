"""Checkers of chapter 6, in practice.

What a learner writes is called with small nets that the checker makes. Where two runs
are compared, they are compared to the last bit.

Example:
    >>> from regdrop_lite.course.check import chapter_6 as check
    >>> check.costs(graphs=3, left=0, pays_from=0.06, step=66)
    public checks 3/4
    - pays_from: expected the rate at which saving and price are equal, got the
      price over the whole step: only the branches are saved
"""

import copy
import io
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regdrop_lite import DropPath, LinearRamp, set_generator
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
from regdrop_lite.course.check.doubt import uncertainty
from regdrop_lite.course.check.faults import find_fault, logs
from regdrop_lite.course.check.properties import as_number, require_written

__all__ = ["costs", "find_fault", "logs", "prepare", "resume", "uncertainty"]


# --- nets -----------------------------------------------------------------------------


class Block(nn.Module):
    """Two branches, with places for DropPath that timm would leave empty."""

    def __init__(self, dim: int, p: float | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mix, self.mlp = nn.Linear(dim, dim), nn.Linear(dim, dim)
        paths = [nn.Identity() if p is None else DropPath(p) for _ in range(2)]
        self.drop_path1, self.drop_path2 = paths

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, T, C) to tokens."""
        x = x + self.drop_path1(self.mix(self.norm1(x)))
        y: Tensor = x + self.drop_path2(self.mlp(self.norm2(x)))
        return y


class Net(nn.Module):
    """A stem with Dropout2d, blocks, and a head with Dropout."""

    def __init__(self, depth: int, p: float | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 4, stride=4), nn.Dropout2d(0.1))
        self.blocks = nn.Sequential(*(Block(8, p) for _ in range(depth)))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) to logits (N, 3)."""
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.blocks(tokens).mean(dim=1))
        return logits


def _seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


_IMAGES = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=generator(5))


# --- exercise 1: swap and ramp --------------------------------------------------------


def prepare(function: Callable[..., Any]) -> Report:
    """Check the exercise "Swap, set and ramp".

    Args:
        function: takes (net, p, steps). It fills the empty places of ``net`` with
            DropPaths, linear by depth up to ``p``, and returns a ramp from 0 to these
            rates in ``steps`` steps.
    """
    done: dict[int, tuple[Net, Net, Any]] = {}

    def run(depth: int) -> tuple[Net, Net, Any]:
        if depth not in done:
            net = _seeded(lambda: Net(depth)).double().eval()
            before = copy.deepcopy(net)
            done[depth] = before, net, ask(function, net, 0.3, 10)
        return done[depth]

    def rates(net: Net) -> list[float]:
        found = [m.p for m in net.modules() if isinstance(m, DropPath)]
        require(bool(found), "no DropPath is there, so nothing can rise")
        return found

    def moved(ramp: Any, steps: int) -> None:
        if not isinstance(ramp, LinearRamp):
            raise Wrong(f"expected the ramp that was built, got {show(ramp)}")
        for _ in range(steps):
            ramp.step()

    def expected(depth: int, share: float = 1.0) -> list[float]:
        return [0.3 * share * b / (depth - 1) for b in range(depth) for _ in (0, 1)]

    def require_rates(got: list[float], depth: int, share: float) -> None:
        right = expected(depth, share)
        if len(got) == len(right) and all(map(math.isclose, got, right)):
            return
        n = 2 * depth
        known = {
            "the rates rise from layer to layer: both layers of a block have one "
            "depth": [0.3 * share * i / (n - 1) for i in range(n)],
            "all blocks have one rate: the schedule by depth is lost": [0.3 * share]
            * n,
            "(l + 1)/L: the first block begins at 0 here": [
                0.3 * share * (i // 2 + 1) / depth for i in range(n)
            ],
            "l/L: the last block has the full rate here": [
                0.3 * share * (i // 2) / depth for i in range(n)
            ],
            "the last block has 0: the rates fall with depth": right[::-1],
            "nothing rises: where does the ramp end?": [0.0] * n,
            "they are there at once: where does the ramp begin?": expected(depth),
        }
        text = f"after {round(10 * share)} of 10 steps expected "
        text += f"{[round(p, 3) for p in right[::2]]} in the blocks, got "
        text += f"{[round(p, 3) for p in got]}"
        for cause, slip in known.items():
            if len(got) == n and all(map(math.isclose, got, slip)):
                raise Wrong(f"{text}: {cause}")
        raise Wrong(f"{text}: set the rates first, then build the ramp")

    def check_places() -> None:
        _, net, _ = run(4)
        found = [m for m in net.modules() if isinstance(m, DropPath)]
        if not found:
            raise Hopeless(
                "expected a DropPath in each of 8 places, got none: the author left "
                "nn.Identity there, and fill says what to do with it"
            )
        require(
            len(found) == 8,
            f"expected a DropPath in each of 8 places, got {len(found)}: the first "
            "block counts, too, although its rate is 0",
        )

    def check_others() -> None:
        _, net, _ = run(4)
        for name, kind, p in (
            ("stem.1", nn.Dropout2d, 0.1),
            ("head.0", nn.Dropout, 0.3),
        ):
            layer = net.get_submodule(name)
            require(
                type(layer) is kind and layer.p == p,
                f"expected that {name} stays {kind.__name__}(p={p}), got {layer}: "
                "which kind of layer is to be swapped?",
            )

    def check_weights() -> None:
        before, net, _ = run(4)
        require(
            list(before.state_dict()) == list(net.state_dict()),
            "expected the keys of the state as they were: checkpoints no longer fit",
        )
        same = zip(before.parameters(), net.parameters(), strict=True)
        require(all(map(torch.equal, *zip(*same, strict=True))), "weights have changed")
        require(
            not any(m.training for m in net.modules()),
            "expected the modes as they were, evaluation, but parts are in training",
        )

    def check_start() -> None:
        _, net, ramp = run(5)
        require(isinstance(ramp, LinearRamp), f"expected the ramp, got {show(ramp)}")
        got = rates(net)
        require(
            not any(got),
            f"before the first step expected rates of 0, got up to {max(got):.3g}: is "
            "the ramp built last, and does it begin at 0?",
        )

    def check_middle() -> None:
        _, net, ramp = run(4)
        moved(ramp, 5)
        require_rates(rates(net), 4, 0.5)

    def check_end() -> None:
        _, net, ramp = run(3)
        moved(ramp, 10)
        require_rates(rates(net), 3, 1.0)
        moved(ramp, 7)
        require_rates(rates(net), 3, 1.0)

    return judge(
        {
            "places": check_places,
            "other layers": check_others,
            "weights": check_weights,
            "start": check_start,
            "half-way": check_middle,
            "end": check_end,
        }
    )


# --- exercise 2: resume ---------------------------------------------------------------

_PARTS = ("net", "optimizer", "schedule", "ramp", "masks", "order")


def start() -> SimpleNamespace:
    """A training run: what a checkpoint has to hold, as attributes."""
    net = _seeded(lambda: Net(3, 0.3)).double().train()
    net.stem[1], net.head[0] = nn.Identity(), nn.Identity()
    masks, order = generator(1), generator(2)
    set_generator(net, masks)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    ramp = LinearRamp(net, 0.0, "present", 8)
    found = (net, optimizer, schedule, ramp, masks, order)
    return SimpleNamespace(**dict(zip(_PARTS, found, strict=True)))


def train(run: SimpleNamespace, steps: int) -> None:
    """Go on with a run, on images that are made here."""
    x = torch.rand(32, 1, 8, 8, dtype=torch.float64, generator=generator(3))
    labels = x.mean(dim=(1, 2, 3)).mul(97).long() % 3
    for _ in range(steps):
        chosen = torch.randperm(len(x), generator=run.order)[:16]
        loss = F.cross_entropy(run.net(x[chosen]), labels[chosen])
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        run.schedule.step()
        run.ramp.step()


def _state(part: Any) -> Any:
    is_generator = isinstance(part, torch.Generator)
    return part.get_state() if is_generator else part.state_dict()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


_FORGOTTEN = {
    "net": "the weights are those of the start",
    "optimizer": "AdamW starts without its moments",
    "schedule": "the learning rate is not where it was",
    "ramp": "the rates begin again at 0",
    "masks": "the masks of the first half come again",
    "order": "the images of the first half come again, in their order",
}


def resume(save: Callable[..., Any], load: Callable[..., Any]) -> Report:
    """Check the exercise "Stop and go on".

    Args:
        save: takes (run, file) and writes a checkpoint into the open file.
        load: takes (run, file) and brings a run that was built anew to that point.
    """
    found: list[tuple[Any, Any, bytes]] = []

    def resumed() -> tuple[Any, Any, bytes]:
        if not found:
            run, file = start(), io.BytesIO()
            train(run, 4)
            before = copy.deepcopy(
                {name: _state(getattr(run, name)) for name in _PARTS}
            )
            ask(save, run, file)
            if not file.getbuffer().nbytes:
                raise Hopeless("expected a checkpoint, but nothing was written")
            stored = file.getvalue()
            for name in _PARTS:
                require(
                    _equal(_state(getattr(run, name)), before[name]),
                    f"expected that saving changes nothing, but {name} has moved on",
                )
            again = start()
            file.seek(0)
            ask(load, again, file)
            found.append((run, again, stored))
        return found[0]

    def check_part(name: str) -> None:
        run, again, _ = resumed()
        require(
            _equal(_state(getattr(again, name)), _state(getattr(run, name))),
            f"expected the state of {name} at the stop, got another: "
            f"{_FORGOTTEN[name]}",
        )

    def check_file() -> None:
        *_, stored = resumed()
        try:
            torch.load(io.BytesIO(stored), weights_only=True)
        except Exception as error:
            raise Wrong(
                "expected a file of states that torch.load(weights_only=True) reads, "
                "got one with whole objects in it: store state_dict() and get_state()"
            ) from error

    def check_bits() -> None:
        run, again, _ = resumed()
        layers = [m for m in again.net.modules() if isinstance(m, DropPath)]
        require(
            all(m.generator is again.masks for m in layers),
            "expected that the layers of the new run draw from its generator masks, "
            "but they hold another one: set its state, do not replace it",
        )
        train(run, 4)
        train(again, 4)
        pairs = zip(run.net.parameters(), again.net.parameters(), strict=True)
        require(
            all(torch.equal(a, b) for a, b in pairs),
            "after four more steps the weights differ from those of a run in one go",
        )

    checks: dict[str, Callable[[], object]]
    checks = {name: partial(check_part, name) for name in _PARTS}
    return judge(checks | {"file": check_file, "to the last bit": check_bits})


# --- exercise 6: costs ----------------------------------------------------------------

_COSTS: dict[str, tuple[float, dict[float, str]]] = {
    "graphs": (
        3,
        {
            1: "one graph, though rate 0 draws nothing and needs a graph of its own",
            2: "rate 0 draws nothing: it is a graph of its own",
            4: "one for each rate: from the second rate on, the rate is an input",
            6: "one for each call: a graph is made once and used again",
        },
    ),
    "left": (
        0,
        {
            1: "a multiplication by one: in evaluation the input itself is returned",
            24: "one operation for each layer: nothing is recorded of a layer that "
            "returns its input",
        },
    ),
    "pays_from": (
        0.075,
        {
            0.06: "the price over the whole step: only the branches are saved",
            0.3: "the price over what is not saved: divide by the time of the branches",
            13.3333: "the time of the branches over the price: the other way round",
            7.5: "per cent",
        },
    ),
    "step": (
        66,
        {
            60: "the saving without the price of sorting",
            56: "half of the whole step: the rest of the net is not skipped",
            50: "half of the whole step, without the price of sorting",
            106: "the price alone: half of the branches are saved",
            54: "the price with the wrong sign",
            46: "what is saved and the price, not what is left of the step",
            34: "what is saved, not what is left",
        },
    ),
}
_WHAT = {
    "graphs": "the number of graphs after all six calls",
    "left": "the number of operations that are left of the layers",
    "pays_from": "the rate at which saving and price are equal",
    "step": "the time of a step at rate 0.5, in ms",
}


def costs(
    graphs: float | None,
    left: float | None,
    pays_from: float | None,
    step: float | None,
) -> Report:
    """Check the exercise "Say what it costs".

    Args:
        graphs: how many graphs six calls need.
        left: how many operations are left of 24 layers in an export.
        pays_from: the rate from which on skipping pays.
        step: the time of a step at rate 0.5, in ms.
    """
    answers = dict(zip(_COSTS, (graphs, left, pays_from, step), strict=True))

    def check(name: str) -> None:
        require_written(*answers.values())
        got = as_number(answers[name])
        right, slips = _COSTS[name]
        if math.isclose(got, right, abs_tol=1e-4):
            return
        for number, cause in slips.items():
            require(
                not math.isclose(got, number, rel_tol=1e-3),
                f"expected {_WHAT[name]}, got {cause}",
            )
        raise Wrong(f"expected {_WHAT[name]}, got {got:g}, which is not it")

    return judge({name: partial(check, name) for name in answers})
