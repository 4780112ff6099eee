"""What a layer drops, seen from outside: which values no longer depend on the input."""

import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

Z = 4.0  # standard errors of every interval


class Call(NamedTuple):
    """How a layer was called, with an empty tensor in the place of the input."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    stride: tuple[int, ...]

    def input(self, value: float) -> Tensor:
        """A tensor of the form of the input."""
        made = torch.empty_strided(
            self.shape, self.stride, dtype=self.dtype, device=self.device
        )
        return made.fill_(value)


def first_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a layer was called with: its first argument, also if that was named."""
    return args[0] if args else next(iter(kwargs.values()), None)


def as_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | str:
    """A call whose first argument is a floating-point tensor; else, what it is."""
    x = first_of(args, kwargs)
    if not isinstance(x, Tensor):
        return f"called with a {type(x).__name__}"
    if not x.is_floating_point():
        return f"called with {x.dtype}"
    strides = x.stride() if 0 not in x.stride() else x.contiguous().stride()
    rest = kwargs if args else dict(list(kwargs.items())[1:])
    return Call(args[1:], rest, x.shape, x.dtype, x.device, strides)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from tensors_in(part)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))


@dataclass
class Masks:
    """Sums over many masks of one shape."""

    shape: tuple[int, ...]
    batch: int  # the dimension of the samples
    draws: int = 0
    mixed: int = 0  # draws in which something fell and something stayed
    shares: list[Tensor] = field(default_factory=list)
    together: set[int] = field(default_factory=set)  # dimensions that fall as one
    both: dict[int, float] = field(default_factory=dict)  # neighbours that both fell
    pairs: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.together = {d for d, n in enumerate(self.shape) if n > 1}

    def add(self, dropped: Tensor) -> None:
        """One more mask."""
        self.draws += 1
        self.mixed += bool(dropped.any() and not dropped.all())
        rows = dropped.movedim(self.batch, 0).flatten(1) if dropped.dim() > 1 else None
        each = dropped if rows is None else rows.float().mean(1)
        self.shares.append(each.double().cpu())
        for d in list(self.together):
            if not torch.equal(dropped, dropped.narrow(d, 0, 1).expand_as(dropped)):
                self.together.discard(d)
        for d in range(dropped.dim()):
            n = dropped.shape[d]
            if d != self.batch and n > 1:
                two = dropped.narrow(d, 1, n - 1) & dropped.narrow(d, 0, n - 1)
                self.both[d] = self.both.get(d, 0.0) + two.sum().item()
                self.pairs[d] = self.pairs.get(d, 0) + two.numel()

    def interval(self) -> tuple[float, float, float]:
        """The share that fell, with the bounds of its Wilson interval.

        Samples are independent, or draws where one mask serves the batch. Their shares
        need not be 0 or 1, so the interval is that of as many coins as have the
        variance that was seen.
        """
        table = torch.stack(self.shares)  # (draws, samples)
        units = table.mean(1) if self.batch in self.together else table.flatten()
        n, m = units.numel(), units.mean().item()
        variance = units.var(unbiased=True).item() if n > 1 else 0.0
        coins = n * m * (1.0 - m) / variance if variance > 0.0 else float(n)
        centre = (m + Z * Z / (2 * coins)) / (1 + Z * Z / coins)
        half = math.sqrt(m * (1 - m) / coins + (Z / (2 * coins)) ** 2)
        half *= Z / (1 + Z * Z / coins)
        return m, max(0.0, centre - half), min(1.0, centre + half)

    def blocks(self) -> set[int]:
        """Dimensions along which neighbours fall together, but not all."""
        m = torch.stack(self.shares).mean().item()
        found = set()
        for d, pairs in self.pairs.items():
            if d not in self.together and 0.0 < m < 1.0:
                correlation = (self.both[d] / pairs - m * m) / (m * (1.0 - m))
                if correlation > max(0.1, Z / math.sqrt(pairs)):
                    found.add(d)
        return found

    def unit(self) -> str:
        """In words, what falls as a whole."""
        if not self.mixed and all(s.min() == s.max() for s in self.shares):
            rows = {float(s[0]) for s in self.shares}
            return "whole batch" if len(rows) > 1 else "-"
        others = {d for d, n in enumerate(self.shape) if n > 1} - {self.batch}
        shared = ", one mask for the batch" if self.one_for_all() else ""
        if others and others <= self.together:
            return "sample" + shared
        if self.blocks():
            every = "" if 1 in self.together or len(self.shape) < 3 else " of a channel"
            return f"block{every}" + shared
        kept = sorted(others - self.together)
        if self.together - {self.batch} and len(kept) == 1:
            channel = kept[0] == 1 and self.batch == 0
            return ("channel" if channel else f"slice of dimension {kept[0]}") + shared
        if self.together - {self.batch}:
            return "place" + shared
        return "element" + shared

    def one_for_all(self) -> bool:
        """Whether one mask served several samples."""
        return self.batch in self.together and self.shape[self.batch] > 1


def probe(layer: Callable[..., Any], call: Call, batch: int, draws: int) -> Masks | str:
    """The masks of ``layer`` on inputs of the form of ``call``, or why there are none.

    The layer is called twice from one state of the global generators, with ones and
    with twos. What comes out alike does not depend on the input: it was dropped, be it
    replaced by 0, by a constant or by noise.
    """
    masks = Masks(tuple(call.shape), batch)
    for _ in range(draws):
        state = rng_state(call.device)
        one = layer(call.input(1.0), *call.args, **call.kwargs)
        after = rng_state(call.device)
        set_rng_state(state, call.device)
        two = layer(call.input(2.0), *call.args, **call.kwargs)
        set_rng_state(after, call.device)
        if not isinstance(one, Tensor):
            return f"returns a {type(one).__name__}"
        if one.shape != call.shape:
            return "the shape changes"
        masks.add((one == two) | (one.isnan() & two.isnan()))
    return masks


class RandomState(NamedTuple):
    """The states of all global generators that a layer may draw from."""

    tensors: list[Tensor]  # PyTorch's, of the CPU and of a device
    python: Any
    numpy: Any  # None as long as nobody has imported NumPy


def rng_state(device: torch.device) -> RandomState:
    """Those of PyTorch, for the CPU and for ``device``, of Python and of NumPy."""
    states = [torch.get_rng_state()]
    if device.type not in ("cpu", "meta"):
        states.append(torch.get_device_module(device).get_rng_state(device))
    return RandomState(states, random.getstate(), numpy_state())


def set_rng_state(state: RandomState, device: torch.device) -> None:
    """Go back to what :func:`rng_state` gave."""
    torch.set_rng_state(state.tensors[0])
    if len(state.tensors) > 1:
        torch.get_device_module(device).set_rng_state(state.tensors[1], device)
    random.setstate(state.python)
    if state.numpy is not None:
        numpy: Any = sys.modules["numpy"]
        kind, keys, *rest = state.numpy
        numpy.random.set_state((kind, numpy.frombuffer(keys, numpy.uint32), *rest))


def numpy_state() -> Any:
    """The state of NumPy's global generator, or ``None`` if NumPy was not imported."""
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "random"):
        return None
    kind, keys, *rest = numpy.random.get_state()
    return kind, keys.tobytes(), *rest  # comparable
