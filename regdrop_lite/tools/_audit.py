"""Look at a model at work: which layers drop, what, how much, and where."""

import inspect
import json
import random
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from regdrop_lite._checks import check_dim, check_whole
from regdrop_lite.drop_layer import DropLayer
from regdrop_lite.tools._find import (
    Kinds,
    drop_layers,
    in_plain_lists,
    places,
    rate_of,
    told_of_plain_lists,
)
from regdrop_lite.tools._masks import (
    Call,
    Masks,
    as_call,
    first_of,
    numpy_state,
    probe,
    rng_state,
    set_rng_state,
)
from regdrop_lite.tools._structure import Graph

Inputs = Tensor | tuple[Any, ...] | dict[str, Any]


@dataclass
class Row:
    """What :func:`~regdrop_lite.tools.audit` found out about one layer."""

    name: str
    kind: str
    asked: float | None  # the rate that the layer was given
    share: float | None = None  # what fell, with the bounds of its interval
    low: float | None = None
    high: float | None = None
    falls: str = "?"  # what falls as a whole
    together: list[int] = field(default_factory=list)  # dimensions that fall as one
    shape: list[int] = field(default_factory=list)
    calls: int = 0  # in one forward pass in training
    place: str = "unknown"
    norm: str = "unknown"
    active_in_eval: bool = False

    @property
    def is_off(self) -> bool:
        """Whether the rate is 0, and nothing falls; the printed table counts these."""
        return self.asked == 0.0 and not self.share and not self.active_in_eval


@dataclass
class Audit:
    """The result of :func:`~regdrop_lite.tools.audit`.

    Printed, it is a table with the warnings below it. Layers at rate 0 share a line.

    Attributes:
        rows: one :class:`~regdrop_lite.tools.Row` for each layer, in the model's order.
        warnings: what looks wrong, in words; empty if nothing does.
    """

    rows: list[Row]
    warnings: list[str]

    def to_json(self) -> str:
        """All of it as JSON: ``{"rows": [...], "warnings": [...]}``."""
        return json.dumps(asdict(self), indent=1)

    def __repr__(self) -> str:
        head = ["layer", "kind", "p", "share (4 SE)", "falls", "calls", "place", "norm"]
        table = [head]
        off = [row for row in self.rows if row.is_off]
        for row in self.rows:
            if row.is_off:
                continue
            share = "-"
            if row.share is not None:
                share = f"{row.share:.3f} ({row.low:.3f}-{row.high:.3f})"
            asked = "?" if row.asked is None else f"{row.asked:g}"
            table.append(
                [
                    row.name or "(the model)",
                    *(row.kind.removeprefix("regdrop_lite."), asked, share, row.falls),
                    *(str(row.calls), row.place, row.norm),
                ]
            )
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
        if off:
            some = ", ".join(row.name for row in off[:3]) + ", ..." * (len(off) > 3)
            lines.append(f"{len(off)} at p = 0: {some}")
        lines += [f"warning: {text}" for text in self.warnings] or ["no warnings"]
        return "\n".join(lines)


def audit(
    model: nn.Module,
    inputs: Inputs,
    *,
    also: Kinds = (),
    draws: int = 200,
    batch_dim: int = 0,
) -> Audit:
    """Watch the dropping layers of ``model`` in training and in evaluation.

    Args:
        model: any module on any device. Afterwards it is as before: buffers, modes,
            gradients, and the states of all random generators.
        inputs: what ``model`` is called with: a tensor, a tuple of arguments, or a dict
            of named arguments. Two samples or more, small ones.
        also: further classes that drop, as in :func:`~regdrop_lite.tools.drop_layers`.
        draws: how many masks of each layer are drawn for its share.
        batch_dim: the dimension of the samples in the tensors of ``inputs``.

    Returns:
        An :class:`~regdrop_lite.tools.Audit`: rows, warnings, a table when it is
        printed, ``to_json()``.

    Raises:
        TypeError: ``draws`` or ``batch_dim`` is no whole number.
        ValueError: ``model`` has no layer that drops, ``draws`` is below 1, or
            ``inputs`` holds no tensor with a dimension ``batch_dim``.

    What is looked at, and how:

    - *share*: each layer is called again by itself, ``draws`` times, with inputs of the
      shape that it got in the model. A value counts as dropped where the output does
      not depend on the input, whatever stands there instead. The interval is
      Wilson's, at four standard errors. Values that are only made smaller or noisier
      are not seen.
    - *falls*: what falls as a whole in all these masks: element, block of neighbours,
      channel, place, sample, the batch.
    - *place*: from autograd's graph. "branch": the layer's output is added to something
      that does not pass the layer, and only the layer's side has weights. "skip": only
      the other side has. "branch, weights around": both have, or they are concatenated;
      which one is the skip is then not said. "main path": nothing goes around the
      layer. Products, such as gates, are not looked at; checkpointed and detached parts
      are "unknown".
    - *norm*: the nearest normalisation behind the layer, as autograd names it.
    - samples: the model is run with twice the batch. The dimension of a layer's input
      that doubles is that of the samples; if the model does not take it, dimension 0.

    Warnings are given for a layer that is never called; that stays in evaluation mode
    in training; that works in evaluation (the random numbers of the model as a whole
    are looked at too); that drops time steps or windows instead of samples; that stands
    on the skip, or drops whole samples where nothing goes around; that has one mask for
    the batch; whose share is off; for functions that drop (torch's, ours) and for
    uniform random numbers of the model's own code outside such layers, and for numbers
    of Python's ``random`` and of NumPy's global generator; for rates that are all 0,
    places that were left empty because the rate was 0, and layers in plain lists; for
    inputs of one sample, with which less is seen. If ``torch.distributed`` is
    initialised, all ranks have to call this function, and equal masks on two ranks are
    told.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from regdrop_lite import SpatialDropout2d
        >>> from regdrop_lite.tools import audit
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), SpatialDropout2d(0.2), nn.Conv2d(8, 8, 3)
        ... )
        >>> report = audit(model, torch.randn(4, 3, 8, 8))
        >>> report.warnings
        []
        >>> row = report.rows[0]
        >>> row.name, row.asked, row.low < 0.2 < row.high, row.falls, row.place
        ('1', 0.2, True, 'channel', 'main path')
    """
    check_whole(draws, "draws")
    layers = dict(drop_layers(model, also=also))
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no layer that drops: name its class by also="
        )
    args, kwargs = _as_arguments(inputs)
    tensors = [x for x in _tensors((args, kwargs)) if x.dim()]
    if not tensors:
        raise ValueError(
            "expected inputs with a tensor of samples: a tensor, a tuple of arguments "
            f"or a dict of named ones, but got a {type(inputs).__name__} without one"
        )
    batch_dim = check_dim(batch_dim, "batch_dim", tensors[0])
    samples = tensors[0].shape[batch_dim]
    with _restored(model, (args, kwargs)) as before:
        work = _Audit(model, layers, args, kwargs, draws, batch_dim, samples, before)
        return work.result()


class _Audit:
    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        draws: int,
        batch_dim: int,
        samples: int,
        before: "_Before",
    ) -> None:
        self.before = before
        self.model, self.layers = model, layers
        self.args, self.kwargs = args, kwargs
        self.draws, self.batch_dim, self.size = draws, batch_dim, samples
        self.rows = {
            name: Row(name, f"{type(m).__module__.split('.')[0]}.{type(m).__name__}", p)
            for name, m in layers.items()
            for p in [rate_of(m)]
        }
        self.warnings: list[str] = []
        self.outside = in_plain_lists(model)

    def result(self) -> Audit:
        self.evaluation()
        self.ranks(self.training())
        if self.size == 1:
            self.warn(
                "",
                "one sample: a mask that all samples share is not seen; give two",
            )
        if self.outside:
            self.warn("", told_of_plain_lists(self.outside))
        rates = [row.asked for row in self.rows.values()]
        if all(p == 0.0 for p in rates):
            self.warn("", "no layer drops: all rates are 0")
        empty = [place.name for place in places(self.model) if place.is_empty]
        if empty:
            self.warn(
                "",
                f"{len(empty)} places ({', '.join(empty[:3])} ...) hold no DropPath, "
                "because the rate was 0: replace_layers(fill=True) puts one in",
            )
        return Audit(list(self.rows.values()), self.warnings)

    def warn(self, name: str, text: str) -> None:
        """Keep a warning about the layer ``name``, once."""
        line = f"{name}: {text}" if name else text
        if line not in self.warnings:
            self.warnings.append(line)

    # ------------------------------------------------------------------- evaluation

    def evaluation(self) -> None:
        self.model.eval()
        tags: dict[str, list[Any]] = {name: [] for name in self.layers}
        shapes: dict[str, list[torch.Size]] = {name: [] for name in self.layers}
        earlier: dict[str, Tensor] = {}

        def before(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = first_of(args, kwargs)
            if isinstance(x, Tensor):
                earlier[name] = x.detach().clone()  # layers may work in place
                shapes[name].append(x.shape)

        def after(name: str, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return None
            old = earlier.pop(name, None)
            if old is not None and not _same(old, output.detach()):
                self.rows[name].active_in_eval = True
            output = output.clone()  # a node of its own in the graph
            tags[name].append(output.grad_fn)
            return output

        args, kwargs = _map(self.args, _leaf), _map(self.kwargs, _leaf)
        with _hooks(self.layers, before, after), torch.enable_grad():
            outputs = list(_tensors(self.call(args, kwargs)))
        graph = Graph(outputs)
        weights = {id(p) for p in self.model.parameters()}
        for name, row in self.rows.items():
            found = [graph.place(tag, weights) for tag in tags[name]]
            row.place = ", ".join(dict.fromkeys(found)) or "unknown"
            norms = [graph.norm(tag) for tag in tags[name]]
            row.norm = ", ".join(dict.fromkeys(norms)) or "unknown"
            if row.active_in_eval:
                self.warn(name, "works in evaluation: its output is not its input")
        self.random_in_evaluation()
        self.axes = self.batch_axes(shapes)

    def random_in_evaluation(self) -> None:
        """Whether two passes with other random numbers differ."""
        runs = []
        with torch.no_grad(), self.watch() as seen:
            for seed in (0, 1):
                torch.manual_seed(seed)
                runs.append(list(_tensors(self.call(self.args, self.kwargs))))
        for where, what in seen:
            self.warn(where, f"{what} works in evaluation")
        named = seen or any(row.active_in_eval for row in self.rows.values())
        if not named and not all(map(_same, *runs)):
            self.warn(
                "", "the output in evaluation is random, but no layer here is the cause"
            )

    def batch_axes(self, shapes: dict[str, list[torch.Size]]) -> dict[str, int | None]:
        """For each layer the dimension of its input that doubles with the batch."""
        doubled: dict[str, list[torch.Size]] = {name: [] for name in self.layers}

        def before(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = first_of(args, kwargs)
            if isinstance(x, Tensor):
                doubled[name].append(x.shape)

        def twice(x: Tensor) -> Tensor:
            has_samples = x.shape[self.batch_dim : self.batch_dim + 1] == (self.size,)
            return torch.cat([x, x], self.batch_dim) if has_samples else x

        axes: dict[str, int | None] = dict.fromkeys(self.layers)
        try:
            with torch.no_grad(), _hooks(self.layers, before):
                self.call(_map(self.args, twice), _map(self.kwargs, twice))
        except Exception:  # whatever a model says that takes no other batch
            return axes
        for name in self.layers:
            for one, two in zip(shapes[name][:1], doubled[name][:1], strict=False):
                pairs = enumerate(zip(one, two, strict=False))
                grown = [d for d, (a, b) in pairs if b == 2 * a]
                if len(grown) == 1:
                    axes[name] = grown[0]
        return axes

    # --------------------------------------------------------------------- training

    def training(self) -> dict[str, Call | str]:
        """The table's numbers; returns how each layer was called."""
        self.model.train()
        calls: dict[str, Call | str] = {}
        modes = {name: layer.training for name, layer in self.layers.items()}

        def before(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            row = self.rows[name]
            row.calls += 1
            if name not in calls:
                calls[name] = as_call(args, kwargs)
                x = first_of(args, kwargs)
                if isinstance(x, Tensor):
                    row.shape = list(x.shape)

        watch = self.watch()
        with torch.no_grad(), _hooks(self.layers, before), watch as seen:
            self.call(self.args, self.kwargs)
        for where, what in seen:
            self.warn(where, f"calls {what}: this is no layer and not in the table")
        for name, row in self.rows.items():
            if row.calls == 0 and row.asked != 0.0:
                self.warn(
                    name,
                    "never called: it drops nothing"
                    + (", though a function may use its rate" if seen else ""),
                )
            elif row.calls and not modes[name] and row.asked != 0.0:
                self.warn(name, "stays in evaluation mode when the model trains")
            call = calls.get(name)
            if isinstance(call, str):
                row.falls = f"? ({call})"
            elif call is not None and 0 not in call.shape and len(call.shape):
                self.layers[name].training = modes[name]
                self.measure(name, call)
        return calls

    def watch(self) -> AbstractContextManager[list[tuple[str, str]]]:
        return _Functional(self.model, self.layers, self.outside).watch()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.model(*args, **kwargs)

    def measure(self, name: str, call: Call) -> None:
        row, axis = self.rows[name], self.axes[name]
        batch = 0 if axis is None else axis
        with torch.no_grad():
            masks = probe(self.layers[name], call, batch, self.draws)
        if isinstance(masks, str):
            row.falls = f"? ({masks})"
            return
        row.share, row.low, row.high = masks.interval()
        row.falls = masks.unit()
        if not masks.mixed and row.falls == "-":
            return self.rate(name)
        row.together = sorted(masks.together)
        self.rate(name)
        self.samples(name, masks, axis)
        if row.place.startswith("skip") or ", skip" in row.place:
            self.warn(
                name,
                "stands on the skip: it drops what goes around the weights, not what "
                "comes from them",
            )
        if masks.unit().startswith("sample") and row.place == "main path":
            self.warn(
                name,
                "drops whole samples where nothing goes around: all of them is lost",
            )

    def rate(self, name: str) -> None:
        row = self.rows[name]
        if row.asked is None or row.share is None or not self.layers[name].training:
            return
        assert row.low is not None and row.high is not None
        if not row.low - 1e-9 <= row.asked <= row.high + 1e-9:
            self.warn(
                name,
                f"drops {row.share:.3f} ({row.low:.3f} to {row.high:.3f}) on inputs of "
                f"shape {tuple(row.shape)}, but was asked for {row.asked:g}",
            )

    def samples(self, name: str, masks: Masks, axis: int | None) -> None:
        """Whether the samples of the model are what the masks tell apart."""
        row = self.rows[name]
        if masks.one_for_all():
            apart = {d for d, n in enumerate(row.shape) if n > 1} - masks.together
            if axis is not None and axis > 0 and 0 in apart:
                self.warn(
                    name,
                    f"drops slices of dimension 0 (of {row.shape[0]}) for all samples "
                    f"at once, but dimension {axis} are the samples: time steps "
                    "instead of samples",
                )
            else:
                self.warn(name, "has one mask for the whole batch")
        elif (
            axis is not None
            and masks.unit() == "sample"
            and row.shape[axis] != self.size
            and row.shape[axis] % self.size == 0
        ):
            self.warn(
                name,
                f"drops each of {row.shape[axis] // self.size} parts of a sample by "
                "itself: time steps or windows instead of samples",
            )

    # ------------------------------------------------------------------------ ranks

    def ranks(self, calls: dict[str, Call | str]) -> None:
        """Compare the masks of all ranks, each from the random numbers it came with."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        prints = {}
        for name, call in calls.items():
            if isinstance(call, Call):
                with self.before.random_numbers(self.layers[name], call.device):
                    masks = [self.layers[name](call.input(1.0)) for _ in range(8)]
                fell = torch.stack([mask == 0 for mask in masks]).cpu()
                if fell.any() and not fell.all():
                    prints[name] = zlib.crc32(fell.numpy().tobytes())
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, prints)
        for name in self.layers:
            first: dict[int, int] = {}
            for rank, theirs in enumerate(everyone):
                if name in theirs and first.setdefault(theirs[name], rank) != rank:
                    self.warn(
                        name,
                        f"has the same masks on ranks {first[theirs[name]]} and {rank}"
                        ": seed them by rank",
                    )
                    break


class _Before:
    """A model, its random numbers and its inputs as they were."""

    def __init__(self, model: nn.Module, devices: set[torch.device]) -> None:
        self.modes = {module: module.training for module in model.modules()}
        self.buffers = [
            (module, name, buffer, buffer.detach().clone())
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self.grads = {p: p.requires_grad for p in model.parameters()}
        self.random = {d: rng_state(d) for d in devices | {torch.device("cpu")}}
        drops = [m for m in model.modules() if isinstance(m, DropLayer)]
        self.generators: dict[DropLayer, tuple[torch.Generator, Tensor]] = {
            m: (m.generator, m.generator.get_state()) for m in drops if m.generator
        }

    @contextmanager
    def random_numbers(self, layer: nn.Module, device: torch.device) -> Iterator[None]:
        """Training of one layer, from the random numbers that there were."""
        set_rng_state(self.random.get(device, self.random[torch.device("cpu")]), device)
        own = self.generators.get(layer) if isinstance(layer, DropLayer) else None
        if own is not None and isinstance(layer, DropLayer):
            layer.generator = own[0].set_state(own[1])
        with torch.no_grad():
            yield
        if own is not None and isinstance(layer, DropLayer):
            layer.generator = None

    def bring_back(self) -> None:
        for module, mode in self.modes.items():
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, value in self.buffers:
                buffer.copy_(value)
                setattr(module, name, buffer)  # forward may have put another there
        for parameter, grad in self.grads.items():
            parameter.requires_grad_(grad)
        for layer, (generator, state) in self.generators.items():
            layer.generator = generator.set_state(state)
        for device, states in self.random.items():
            set_rng_state(states, device)


@contextmanager
def _restored(model: nn.Module, inputs: Any) -> Iterator[_Before]:
    """Everything that the passes change is put back. Inside, all weights ask for
    gradients and our layers draw from the global generators."""
    tensors = [*model.parameters(), *model.buffers(), *_tensors(inputs)]
    before = _Before(model, {t.device for t in tensors})
    try:
        for layer in before.generators:
            layer.generator = None
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        yield before
    finally:
        before.bring_back()


@contextmanager
def _hooks(
    layers: dict[str, nn.Module],
    before: Callable[[str, tuple[Any, ...], dict[str, Any]], None],
    after: Callable[[str, Any], Any] = lambda *_: None,
) -> Iterator[None]:
    """Hooks on all ``layers``, for a while."""
    with ExitStack() as stack:
        for name, layer in layers.items():
            handles = [
                layer.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: before(name, args, kwargs),
                    with_kwargs=True,
                ),
                layer.register_forward_hook(
                    lambda _, args, output, name=name: after(name, output)
                ),
            ]
            for handle in handles:
                stack.callback(handle.remove)
        yield


class _Functional(TorchFunctionMode):
    """Sees functions that drop, called outside of the dropping layers."""

    # What is no Python function does not tell its arguments: where p and training are.
    POSITIONS: dict[Any, tuple[int, int | None]] = {  # noqa: RUF012
        F.scaled_dot_product_attention: (4, None),
        torch.native_dropout: (1, 2),
        **{
            getattr(torch, prefix + "dropout" + suffix): (1, 2)
            for prefix in ("", "alpha_", "feature_", "feature_alpha_")
            for suffix in ("", "_")
        },
    }
    DRAWS = frozenset({"bernoulli", "bernoulli_", "rand", "rand_like", "uniform_"})

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        outside: dict[str, nn.Module],
    ) -> None:
        super().__init__()
        self.names = {module: name for name, module in outside.items()}
        self.names |= {module: name for name, module in model.named_modules()}
        self.layers = {*layers.values(), *outside.values()}
        self.calls: list[tuple[str, str]] = []
        self.stack: list[nn.Module] = []
        self.last = self._others()

    @staticmethod
    def _others() -> dict[str, Any]:
        """The states of generators that are not PyTorch's."""
        return {"Python's random": random.getstate(), "NumPy's random": numpy_state()}

    def _compare(self) -> None:
        """Whether the innermost module that runs has drawn from them since then."""
        now = self._others()
        if self.stack and not self.layers.intersection(self.stack):
            where = self.names[self.stack[-1]]
            for name, state in now.items():
                if state != self.last[name] and self.last[name] is not None:
                    self.calls.append((where, f"a function that draws by {name}"))
        self.last = now

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._compare()
        self.stack.append(module)

    def _leave(self, *_: Any) -> None:
        self._compare()
        self.stack.pop()

    @contextmanager
    def watch(self) -> Iterator[list[tuple[str, str]]]:
        """The calls (module, function and rate) that are made in this context."""
        with ExitStack() as stack:
            for module in self.names:
                enter = module.register_forward_pre_hook(self._enter)
                leave = module.register_forward_hook(self._leave, always_call=True)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
            stack.enter_context(self)
            yield self.calls

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.layers.intersection(self.stack):
            name = getattr(func, "__name__", "")
            p = self._rate(func, args, kwargs)
            where = self.names[self.stack[-1]] if self.stack else ""
            if p:
                self.calls.append((where, f"{name} with p={p:g}"))
            elif name in self.DRAWS:
                self.calls.append((where, f"{_author()} (draws by {name})"))
        return func(*args, **kwargs)

    def _rate(self, func: Any, args: Any, kwargs: Any) -> float | None:
        """The rate at which ``func`` drops in this call."""
        if func in self.POSITIONS:
            at, flag = self.POSITIONS[func]
            p = kwargs.get("dropout_p", kwargs.get("p", 0.0))
            p = args[at] if len(args) > at else p
            on = kwargs.get("train", True)
            on = args[flag] if flag is not None and len(args) > flag else on
            return float(p) if on else None
        if getattr(func, "__name__", "") not in _FUNCTIONS:
            return None
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        p = given.get("p", given.get("dropout_p", 0.0))
        return float(p) if given.get("training", True) else None


_FUNCTIONS = {
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "multi_head_attention_forward",
    "spatial_dropout",
    "drop_path",
    "drop_block",
}


def _author() -> str:
    """The function that draws: the nearest one that is neither torch's nor private."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module, _, private = frame.f_globals.get("__name__", "").partition("._")
        if module.split(".")[0] != "torch" and not private:
            break
        frame = frame.f_back
    return frame.f_code.co_name


def _as_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _tensors(part)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def _map(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest with changed tensors."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _map(part, change) for key, part in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_map(part, change) for part in tree)
    return tree


def _leaf(x: Tensor) -> Tensor:
    """A copy that autograd follows."""
    return x.detach().clone().requires_grad_(x.is_floating_point())


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
