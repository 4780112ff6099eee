"""Look at a model at work: which layers drop, what, how much, and where."""

import json
import re
import textwrap
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from regdrop_lite._checks import check_dim, check_whole
from regdrop_lite.tools._find import (
    Kinds,
    drop_layers,
    in_plain_lists,
    places,
    rate_of,
    told_of_plain_lists,
)
from regdrop_lite.tools._functions import Functions
from regdrop_lite.tools._masks import Call, Masks, as_call, first_of, probe, tensors_in
from regdrop_lite.tools._restored import Before, restored
from regdrop_lite.tools._structure import Graph

Inputs = Tensor | tuple[Any, ...] | dict[str, Any]
_WIDTH = 60  # of the printed report


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
        """Whether the rate is 0, and nothing falls; the report counts these."""
        return self.asked == 0.0 and not self.share and not self.active_in_eval


@dataclass
class Audit:
    """The result of :func:`~regdrop_lite.tools.audit`.

    Printed, it has at most 60 characters in a line: three lines for each layer, and the
    warnings below them, with numbers. In a notebook it is a table of HTML. Layers at
    rate 0 share a line, and so do empty places.

    Attributes:
        rows: one :class:`~regdrop_lite.tools.Row` for each layer, in the model's order.
        warnings: what looks wrong, in words; empty if nothing does.
        empty: the places for DropPath that hold none, as libraries leave them where the
            rate is 0: in the first block, if the rates rise from 0.
            :func:`~regdrop_lite.tools.replace_layers` fills them, with ``fill=True``.
    """

    rows: list[Row]
    warnings: list[str]
    empty: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """All of it: ``{"rows": [...], "warnings": [...], "empty": [...]}``."""
        return json.dumps(asdict(self), indent=1)

    def __repr__(self) -> str:
        lines = []
        for row in self._at_work():
            together = f"falls: {row.falls}; place: {row.place}; norm: {row.norm}"
            lines += [
                _wrapped(f"{_name(row)}: {_kind(row)}"),
                _wrapped(
                    f"p {_rate(row)}, share {' '.join(_share(row))}, calls {row.calls}",
                    indent=2,
                ),
                _wrapped(together, indent=2),
            ]
        lines += [_wrapped(note) for note in self._notes()]
        lines.append(self._verdict())
        for number, text in enumerate(self.warnings, start=1):
            lines.append(_wrapped(f"{number}. {text}"))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same, as a table and a list, for notebooks."""
        names = ["layer", "p", "share (4 SE)", "falls, calls", "place, norm"]
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        body = ""
        for row in self._at_work():
            cells = [
                (_rate(row),),
                _share(row),
                (row.falls, str(row.calls)),
                (row.place, row.norm),
            ]
            body += f'<tr><th scope="row">{_lines(_name(row), _kind(row))}</th>'
            body += "".join(f"<td>{_lines(*cell)}</td>" for cell in cells) + "</tr>\n"
        table = (
            '<table class="table numbers audit">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        )
        notes = "".join(f"<p>{escape(note)}</p>\n" for note in self._notes())
        told = "".join(f"<li>{escape(text)}</li>\n" for text in self.warnings)
        told = f"<ol>\n{told}</ol>\n" if told else ""
        return (
            f"{table if body else ''}{notes}<p>{self._verdict()}</p>\n{told}".rstrip()
        )

    def _at_work(self) -> list[Row]:
        return [row for row in self.rows if not row.is_off]

    def _notes(self) -> list[str]:
        """Where nothing drops, and nothing is wrong with that."""
        off = [_name(row) for row in self.rows if row.is_off]
        return [
            f"{len(names)} {what}: {', '.join(names[:3])}" + ", ..." * (len(names) > 3)
            for names, what in ((off, "at p = 0"), (self.empty, "without DropPath"))
            if names
        ]

    def _verdict(self) -> str:
        count = len(self.warnings)
        return f"{count or 'no'} warning{'s' * (count != 1)}{':' * (count > 0)}"


def _wrapped(text: str, indent: int = 0) -> str:
    """Lines of a terminal; what does not fit goes on further to the right."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 3),
        break_on_hyphens=False,
    )


def _lines(first: str, *more: str) -> str:
    """Lines of a cell of HTML, which may be broken where a part of a name begins."""
    parts = [
        re.sub("(?<=[._])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])", "<wbr>", escape(text))
        for text in (first, *more)
    ]
    return "<br>".join(parts[:1] + [f"<small>{text}</small>" for text in parts[1:]])


def _name(row: Row) -> str:
    return row.name or "(the model)"


def _kind(row: Row) -> str:
    return row.kind.removeprefix("regdrop_lite.")


def _rate(row: Row) -> str:
    return "?" if row.asked is None else f"{row.asked:g}"


def _share(row: Row) -> tuple[str, ...]:
    if row.share is None:
        return ("-",)
    return f"{row.share:.3f}", f"({row.low:.3f}-{row.high:.3f})"


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
        An :class:`~regdrop_lite.tools.Audit`: rows, warnings, a report when it is
        printed, a table in a notebook, ``to_json()``.

    Raises:
        TypeError: ``draws`` or ``batch_dim`` is no whole number.
        ValueError: nothing in ``model`` drops, neither a layer nor a function;
            ``draws`` is below 1; or ``inputs`` holds no tensor with a dimension
            ``batch_dim``.

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
    - *norm*: the nearest normalisation after the layer, as autograd names it.
    - samples: the model is run with twice the batch. The dimension of a layer's input
      that doubles is that of the samples; if the model does not take it, dimension 0.

    Warnings are given for a layer that is never called, and whose rate no function of
    its module takes; that stays in evaluation mode in training; that works in
    evaluation (the random numbers of the model as a whole are looked at too); that
    drops time steps or windows instead of samples; that stands on the skip, or drops
    whole samples where nothing goes around; that has one mask for the batch; whose
    share is off; for functions that drop (torch's, ours) and for uniform random numbers
    of the model's own code outside such layers, and for numbers of Python's ``random``
    and of NumPy's global generator; for rates that are all 0, and layers in plain
    lists; for inputs of one sample, with which less is seen. If ``torch.distributed``
    is initialised, all ranks have to call this function, and equal masks on two ranks
    are told.

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
    call = _as_arguments(inputs)
    tensors = [x for x in tensors_in(call) if x.dim()]
    if not tensors:
        raise ValueError(
            "expected inputs with a tensor of samples: a tensor, a tuple of arguments "
            f"or a dict of named ones, but got a {type(inputs).__name__} without one"
        )
    batch_dim = check_dim(batch_dim, "batch_dim", tensors[0])
    samples = tensors[0].shape[batch_dim]
    with restored(model, call) as before:
        report = _Audit(model, layers, call, draws, batch_dim, samples, before).result()
    if not report.rows and not report.warnings:
        raise ValueError(_nothing(model, report.empty))
    return report


def _nothing(model: nn.Module, empty: list[str]) -> str:
    """The words for a model in which nothing drops."""
    kind, more = type(model).__name__, "name its class by also="
    if empty:
        more = (
            "its places for DropPath are empty, as at rate 0; "
            "replace_layers(model, rate, fill=True) fills them"
        )
    return f"{kind} has no layer that drops, and no function drops either: {more}"


class _Audit:
    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        inputs: "_Arguments",
        draws: int,
        batch_dim: int,
        samples: int,
        before: Before,
    ) -> None:
        self.model, self.layers = model, layers
        self.inputs, self.before = inputs, before
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
        if self.size == 1 and (self.rows or self.warnings):
            self.warn("", "one sample: a mask that all share is not seen; give two")
        if self.outside:
            self.warn("", told_of_plain_lists(self.outside))
        if self.rows and all(row.asked == 0.0 for row in self.rows.values()):
            self.warn("", "no layer drops: all rates are 0; a ramp may begin there")
        empty = [place.name for place in places(self.model) if place.is_empty]
        return Audit(list(self.rows.values()), self.warnings, empty)

    def warn(self, name: str, text: str) -> None:
        """Keep a warning about the layer ``name``, once."""
        line = f"{name}: {text}" if name else text
        if line not in self.warnings:
            self.warnings.append(line)

    # ------------------------------------------------------------------- evaluation

    def evaluation(self) -> None:
        self.model.eval()
        tags: dict[str, list[Any]] = {name: [] for name in self.layers}
        earlier: dict[str, Tensor] = {}

        def before(name: str, x: Any, _: Call | str) -> None:
            if isinstance(x, Tensor):
                earlier[name] = x.detach().clone()  # layers may work in place

        def after(name: str, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return None
            old = earlier.pop(name, None)
            if old is not None and not _same(old, output.detach()):
                self.rows[name].active_in_eval = True
            output = output.clone()  # a node of its own in the graph
            tags[name].append(output.grad_fn)
            return output

        with _hooks(self.layers, before, after), torch.enable_grad():
            outputs = list(tensors_in(self.call(_map(self.inputs, _leaf))))
        graph = Graph(outputs)
        weights = {id(p) for p in self.model.parameters()}
        for name, row in self.rows.items():
            found = dict.fromkeys(graph.place(tag, weights) for tag in tags[name])
            row.place = ", ".join(found) or "unknown"
            norms = dict.fromkeys(graph.norm(tag) for tag in tags[name])
            row.norm = ", ".join(norms) or "unknown"
            if row.active_in_eval:
                self.warn(name, "works in evaluation: its output is not its input")
        self.random_in_evaluation()
        self.axes = self.batch_axes()

    def random_in_evaluation(self) -> None:
        """Whether two passes with other random numbers differ."""
        runs = []
        with torch.no_grad(), self.watch() as seen:
            for seed in (0, 1):
                torch.manual_seed(seed)
                runs.append(list(tensors_in(self.call(self.inputs))))
        for where, what in seen:
            self.warn(where, f"{what} works in evaluation")
        named = seen or any(row.active_in_eval for row in self.rows.values())
        if not named and not all(map(_same, *runs)):
            self.warn(
                "", "the output in evaluation is random, but no layer here is the cause"
            )

    def batch_axes(self) -> dict[str, int]:
        """For each layer the dimension of its input that doubles with the batch."""

        def shapes(inputs: _Arguments) -> dict[str, torch.Size]:
            found: dict[str, torch.Size] = {}

            def before(name: str, x: Any, _: Call | str) -> None:
                if isinstance(x, Tensor):
                    found.setdefault(name, x.shape)

            with torch.no_grad(), _hooks(self.layers, before):
                self.call(inputs)
            return found

        def twice(x: Tensor) -> Tensor:
            has_samples = x.shape[self.batch_dim : self.batch_dim + 1] == (self.size,)
            return torch.cat([x, x], self.batch_dim) if has_samples else x

        try:
            one, two = shapes(self.inputs), shapes(_map(self.inputs, twice))
        except Exception:  # whatever a model says that takes no other batch
            return {}
        axes = {}
        for name in one.keys() & two.keys():
            pairs = enumerate(zip(one[name], two[name], strict=False))
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

        def before(name: str, x: Any, call: Call | str) -> None:
            self.rows[name].calls += 1
            if calls.setdefault(name, call) is call and isinstance(x, Tensor):
                self.rows[name].shape = list(x.shape)

        watch = self.watch()
        with torch.no_grad(), _hooks(self.layers, before), watch as seen:
            self.call(self.inputs)
        rows = self.rows.values()
        taken = {row.name: use for row in rows for use in seen if _takes(row, *use)}
        for where, what in seen:
            if (where, what) not in taken.values():
                self.warn(where, f"calls {what}: this is no layer and not in the table")
        for name, row in self.rows.items():
            if name in taken:
                row.falls = f"? (by {taken[name][1]})"
            elif row.calls == 0 and row.asked != 0.0:
                hint = ", though a function may use its rate" if seen else ""
                self.warn(name, "never called: it drops nothing" + hint)
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
        return Functions(self.model, self.layers, self.outside).watch()

    def call(self, inputs: "_Arguments") -> Any:
        return self.model(*inputs[0], **inputs[1])

    def measure(self, name: str, call: Call) -> None:
        row, axis = self.rows[name], self.axes.get(name)
        with torch.no_grad():
            masks = probe(self.layers[name], call, axis or 0, self.draws)
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
            self.warn(name, "stands on the skip: it drops what goes around the weights")
        if masks.unit().startswith("sample") and row.place == "main path":
            self.warn(name, "drops whole samples where nothing goes around it")

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


@contextmanager
def _hooks(
    layers: dict[str, nn.Module],
    before: Callable[[str, Any, Call | str], None],
    after: Callable[[str, Any], Any] = lambda *_: None,
) -> Iterator[None]:
    """Hooks on all ``layers``, for a while: ``before`` gets the input and the call."""
    with ExitStack() as stack:
        for name, layer in layers.items():
            handles = [
                layer.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: before(
                        name, first_of(args, kwargs), as_call(args, kwargs)
                    ),
                    with_kwargs=True,
                ),
                layer.register_forward_hook(
                    lambda _, args, output, name=name: after(name, output)
                ),
            ]
            for handle in handles:
                stack.callback(handle.remove)
        yield


_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _as_arguments(inputs: Inputs) -> _Arguments:
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _takes(row: Row, where: str, what: str) -> bool:
    """Whether a function took the rate of a layer beside it that is not called itself.

    So does fused attention: it reads the ``p`` of its dropout.
    """
    holder = row.name.rpartition(".")[0]
    if row.calls or not row.asked or holder != where:
        return False
    return what.endswith(f" with p={row.asked:g}")


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
