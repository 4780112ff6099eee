"""What all checkers share: the report, and a safe way to run a learner's code.

A learner's code runs in a thread of its own. No frame of a checker stands on its stack,
a loop without an end is given up after ``TIME_LIMIT`` seconds of work on every system
(a call that only waits gets ``PATIENCE`` times as long), and a tensor of more than
``SIZE_LIMIT`` bytes is refused before it is made.

This guards against slips and short cuts, not against a determined attacker: whoever
wants to can reach every object of the process. For points the checks are loaded anew
and draw other numbers (:mod:`regdrop_lite.course.teach.grade`); what keeps a learner's
code from the files of the machine is a container, and neither this nor nbgrader.
"""

import ctypes
import math
import sys
import textwrap
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import NormalDist
from types import FrameType, FunctionType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

TIME_LIMIT = 10.0
PATIENCE = 6
CALL_LIMIT = 20_000
SIZE_LIMIT = 2**30
ALARM = 1e-6
SEED = 0  # added to the seeds of all checks

_WIDTH = 76
_CHECK = str(Path(__file__).parent)
_PACKAGE = str(Path(__file__).parents[2])
_OURS = (_PACKAGE, str(Path(torch.__file__).parent), threading.__file__)


@final
@dataclass(frozen=True, repr=False)
class Report:
    """What the public checks of one exercise found.

    Args:
        total: the number of checks.
        diagnoses: for each check that failed, its name and what is wrong.

    Example:
        >>> Report(5, {"scale": "expected 1.25, got 1"})
        public checks 4/5
        - scale: expected 1.25, got 1
    """

    total: int
    diagnoses: Mapping[str, str]

    def __init_subclass__(cls) -> None:
        raise TypeError("a report cannot be subclassed")

    @property
    def passed(self) -> int:
        """The number of checks that hold."""
        return self.total - len(self.diagnoses)

    def explain(self) -> str:
        """The diagnoses alone, without a score: for a demonstration."""
        names = defaultdict(list)  # a slip that fails several checks is told once
        for name, diagnosis in self.diagnoses.items():
            names[diagnosis].append(name)
        lines = []
        for diagnosis, group in names.items():
            text = f"- {', '.join(group)}: {diagnosis}"
            lines += textwrap.wrap(text, _WIDTH, subsequent_indent="  ")
        return "\n".join(lines)

    def __repr__(self) -> str:
        score = f"public checks {self.passed}/{self.total}"
        return "\n".join(filter(None, [score, self.explain()]))


class Wrong(Exception):
    """A check does not hold; the message is the diagnosis."""


class Hopeless(Wrong):
    """As :class:`Wrong`, and no other check of the exercise can say more."""


class _Stop(BaseException):
    """Ends the learner's code: ``except Exception`` does not catch it."""


def require(condition: bool | Tensor, diagnosis: str) -> None:
    """Raise :class:`Wrong` with the diagnosis, unless the condition holds."""
    if not condition:
        raise Wrong(diagnosis)


def judge(checks: Mapping[str, Callable[[], object]]) -> Report:
    """Run every check on its own; whatever it raises becomes its diagnosis.

    What is not written yet in the first check is not written for any of them.
    """
    diagnoses: dict[str, str] = {}
    hopeless = ""
    default = torch.get_default_dtype()
    for number, (name, run_check) in enumerate(checks.items()):
        if hopeless:
            diagnoses[name] = hopeless
            continue
        # An answer that uses the global generator is judged the same every time, and
        # does not disturb the notebook's random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            try:
                run_check()
            except Wrong as wrong:
                diagnoses[name] = str(wrong)
                hopeless = str(wrong) if isinstance(wrong, Hopeless) else ""
            except Exception as error:
                diagnoses[name] = _describe(error)
            finally:
                torch.set_default_dtype(default)
        if number == 0 and diagnoses.get(name, "").startswith("not written yet"):
            hopeless = diagnoses[name]
    return Report(len(checks), diagnoses)


def _describe(error: Exception) -> str:
    """Name the error and quote the learner's line that raised it."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # the learner's own exception, with a __str__ that fails
        message = ""
    if isinstance(error, NotImplementedError):
        return "not written yet"
    if "ellipsis" in message:
        return "not written yet: put something in the place of every ..."
    if "_modules" in message or "before Module.__init__()" in message:
        message += " (the first line of a layer's __init__ is super().__init__())"
    notes = getattr(error, "__notes__", ())
    if isinstance(error, NameError):
        notes = ()  # it does not depend on the input, and is told once
    note = "".join(f" {note}" for note in notes)
    text = f"your code raises {type(error).__name__}{note}"
    if message:
        text += f": {textwrap.shorten(message, 150)}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.line for f in frames if f.line and not f.filename.startswith(_OURS)]
    return f"{text} (in: {lines[-1]})" if lines else text


def show(value: object) -> str:
    """What came instead of a tensor of the right shape."""
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


# --- the learner's code -----------------------------------------------------------


class _SizeGuard(TorchDispatchMode):
    """Refuses a result that is too large before it is made."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        bound = math.prod(_sizes((args, *kwargs.values())))  # of the result, at most
        makes = not any(r.alias_info for r in func._schema.returns)  # no view
        if makes and bound * 16 > SIZE_LIMIT:
            shape, size = _shape_of_result(func, args, kwargs)
            if size > SIZE_LIMIT:
                name = func._schema.name.removeprefix("aten::")
                raise _Stop(
                    f"expected tensors of at most {SIZE_LIMIT / 2**30:.3g} GiB, but "
                    f"{name} is about to make one of shape {shape}, "
                    f"{size / 2**30:.3g} GiB: which dimension is too many?"
                )
        return func(*args, **kwargs)


def _sizes(tree: Any) -> Iterator[int]:
    for leaf in tree:
        if isinstance(leaf, Tensor):
            yield max(leaf.numel(), 1)
        elif type(leaf) is int:
            yield abs(leaf) + 1
        elif isinstance(leaf, list | tuple):
            yield from _sizes(leaf)


def _shape_of_result(func: Any, args: Any, kwargs: Any) -> tuple[tuple[int, ...], int]:
    if "generator" in kwargs:  # a factory: its last list or number is its size
        size = next((a for a in args if isinstance(a, list | tuple)), args[-1:])
        kind = kwargs.get("dtype") or torch.get_default_dtype()
        return tuple(size), math.prod(size) * kind.itemsize
    try:
        named = {name: _without_values(value) for name, value in kwargs.items()}
        if any(argument.name == "device" for argument in func._schema.arguments):
            named["device"] = "meta"
        result = func(*_without_values(args), **named)
    except Exception:  # a shape that depends on values, at most as large as the input
        return (), 0
    tensors = result if isinstance(result, list | tuple) else [result]
    sizes = [(t.numel() * t.itemsize, t) for t in tensors if isinstance(t, Tensor)]
    size, largest = max(sizes, key=lambda pair: pair[0], default=(0, torch.empty(0)))
    return tuple(largest.shape), size


def _without_values(tree: Any) -> Any:
    """Tensors of the same shape that take no memory, in the place of tensors."""
    if isinstance(tree, Tensor):
        return tree.to("meta")
    if isinstance(tree, list | tuple):
        return type(tree)(_without_values(leaf) for leaf in tree)
    return tree


def _name(frame: FrameType) -> str:
    """The function or class that is called; of a decorated one not the decorator."""
    code = frame.f_code
    inner = [frame.f_locals[name] for name in code.co_freevars]
    decorated = next((f for f in inner if isinstance(f, FunctionType)), None)
    name = decorated.__qualname__ if decorated else code.co_qualname
    return name.split(".")[0].lstrip("_")


def _forbid(allowed: tuple[str, ...]) -> Callable[[FrameType, str, object], None]:
    """A profiler that stops the learner's code where it calls the package."""

    def inside(frame: FrameType | None) -> bool:
        name = frame.f_code.co_filename if frame else ""
        return name.startswith(_PACKAGE) and not name.startswith(_CHECK)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and inside(frame) and not inside(frame.f_back):
            name = _name(frame)
            if name not in allowed:
                raise _Stop(
                    f"expected code of your own, but it calls {name} of regdrop_lite: "
                    "that is what you are to build here"
                )

    return profile


class Given:
    """A function that a learner's code is handed: only its results say what it is.

    Neither a name nor a closure leads from here to the implementation, which runs in
    the thread of the checker.
    """

    __slots__ = ("_before",)

    def __init__(self, before: Callable[..., tuple[Any, ...]] | None = None) -> None:
        self._before = before

    def __call__(self, *args: Any, **named: Any) -> Any:
        thread = threading.current_thread()
        if not isinstance(thread, _Learner):
            raise RuntimeError("this function can be called during its check only")
        if self._before:  # what calls the learner's code stays in the learner's thread
            args = self._before(*args)
        thread.outbox.put(("call", (args, named)))
        result, error = thread.inbox.get()
        if error:
            raise error
        return result


class _Learner(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.outbox: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def run(self) -> None:
        while True:
            function, args, named, times, allowed = self.inbox.get()
            profile = None if allowed is None else _forbid(allowed)
            try:
                guard = _SizeGuard()  # type: ignore[no-untyped-call]
                with guard, torch.enable_grad():
                    sys.setprofile(profile)
                    try:
                        values = [function(*args, **named) for _ in range(times)]
                    finally:
                        sys.setprofile(None)
                self.outbox.put(("values", values))
            except BaseException as error:
                self.outbox.put(("error", error))
                if type(error) is _Stop and not error.args:
                    return  # it was too slow: this thread is not used again

    def stop(self) -> None:
        """End a loop of Python; a call that never returns is left behind."""
        for _ in range(20):
            if not self.is_alive():
                return
            _interrupt(self.ident)
            self.join(0.05)
        # CPython 3.11 keeps a flag until some thread has got its exception, and while
        # the flag stands, a thread with a profiler never enters a function.
        try:
            _interrupt(threading.get_ident())
            while True:
                pass
        except _Stop:
            pass


def _interrupt(thread: int | None) -> None:
    """Let a thread raise :class:`_Stop` as soon as it runs Python again."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread or 0), ctypes.py_object(_Stop)
    )


_learner = _Learner()


def ask(
    function: Callable[..., Any],
    *args: Any,
    times: int = 1,
    own: tuple[str, ...] | None = None,
    **named: Any,
) -> Any:
    """What the learner's function returns; a list, if it is called several times.

    Args:
        function: the learner's function. Where it is handed a :class:`Given`, use
            :func:`ask_about`.
        times: how often to call it.
        own: if a tuple, the code has to do without the package, but for these names.

    Raises:
        Wrong: it makes a tensor that is too large, or calls what it must not call.
        Hopeless: it does not come to an end.
    """
    values = _ask(function, args, named, times, own, None)
    return values if times > 1 else values[0]


def ask_about(
    function: Callable[..., Any],
    implementation: Callable[..., Any],
    *args: Any,
    before: Callable[..., tuple[Any, ...]] | None = None,
    wrap: Callable[[Given], object] | None = None,
    **named: Any,
) -> Any:
    """What the learner's function says of an implementation that it cannot look into.

    Args:
        function: the learner's function.
        implementation: what the :class:`Given` gets its results from.
        before: makes of the learner's arguments those of the implementation, in the
            learner's thread.
        wrap: makes of the :class:`Given` what the learner is handed: a module, or a
            function that calls a part of the learner's own code itself.

    Raises:
        Hopeless: the implementation is never called.
    """
    calls = []

    def counted(*inputs: Any, **options: Any) -> Any:
        calls.append(1)
        sizes = math.prod(_sizes([x for x in inputs if isinstance(x, Tensor)]))
        if sizes > 2**25:
            raise ValueError("an input of at most 2**25 values is enough here")
        return implementation(*inputs, **options)

    given = Given(before)
    handed = wrap(given) if wrap else given
    values = _ask(function, (handed, *args), named, 1, None, counted)
    if not calls:
        raise Hopeless("not written yet: the function that it is given is never called")
    return values[0]


def _ask(
    function: Any, args: Any, named: Any, times: int, own: Any, given: Any
) -> list[Any]:
    global _learner
    if not callable(function):
        raise Hopeless(f"expected a function, got {show(function)}")
    if not _learner.is_alive():
        _learner = _Learner()
        _learner.start()
    _warm_up()
    learner, start, busy = _learner, time.monotonic(), time.process_time()
    learner.inbox.put((function, args, named, times, own))
    calls = 0
    try:
        while True:
            waited, worked = time.monotonic() - start, time.process_time() - busy
            # A busy machine makes a right answer slow, but a loop works all the time.
            late = worked > TIME_LIMIT or waited > PATIENCE * TIME_LIMIT
            if late and waited > TIME_LIMIT:
                raise Hopeless(
                    f"expected an answer within {TIME_LIMIT:g} seconds, got none: does "
                    "a loop never end?"
                )
            try:  # in short turns, so that Windows lets a kernel be interrupted
                kind, value = learner.outbox.get(timeout=min(0.1, TIME_LIMIT))
            except Empty:
                continue
            if kind != "call":
                break
            calls += 1
            if calls > CALL_LIMIT:
                learner.inbox.put((None, RuntimeError("too many calls")))
                raise Hopeless(
                    f"expected at most {CALL_LIMIT:,} calls of the function that it is "
                    "given, got more: is there a loop that calls it for ever?"
                )
            learner.inbox.put(_serve(given, *value))
            # A thousand calls take long, and are no sign of a loop without an end.
            start, busy = time.monotonic(), time.process_time()
    except (Hopeless, KeyboardInterrupt):
        learner.stop()
        _learner = _Learner()
        _learner.start()
        raise
    if kind == "values":
        return list(value)
    if isinstance(value, _Stop):
        raise Wrong(str(value))
    if isinstance(value, SystemExit):
        raise Wrong("expected a result, but your code calls exit()")
    raise value


@cache
def _warm_up() -> None:
    """Load what the size guard needs, so that no learner's time is spent on it."""
    _shape_of_result(torch.ops.aten.mul.Tensor, (torch.ones(2, 1), torch.ones(2)), {})


def _serve(given: Any, args: Any, named: Any) -> tuple[Any, Exception | None]:
    try:
        return given(*args, **named), None
    except Exception as error:  # without its traceback, which tells too much
        try:
            return None, type(error)(str(error))
        except Exception:
            return None, RuntimeError(str(error))


# --- inputs and answers -----------------------------------------------------------


def generator(seed: int = 0) -> torch.Generator:
    """A fresh CPU generator."""
    return torch.Generator().manual_seed(SEED + seed)


def signed(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random values of both signs, none of them near zero."""
    g = generator(20261129)
    x = 2 * torch.rand(shape, dtype=torch.float64, generator=g) - 1
    return (x + x.sign() / 2).to(dtype)


def the_class(made_by: object, name: str) -> Callable[..., Any]:
    """``made_by``, if it can make modules."""
    if isinstance(made_by, nn.Module):
        raise Hopeless(
            f"expected the class {name}, got a layer that is already made: hand over "
            "the name, without parentheses"
        )
    if not callable(made_by):
        raise Hopeless(f"expected the class {name}, got {show(made_by)}")
    return made_by


def choice(answer: object, choices: tuple[str, ...]) -> str:
    """``answer``, if it is one of the choices."""
    if type(answer) is str and answer in choices:
        return answer
    if isinstance(answer, str):
        for known in choices:
            if known.lower() == answer.strip().lower():
                raise Wrong(
                    f"expected one of the answers, got {answer!r}: spell it {known!r}"
                )
    what = repr(answer) if isinstance(answer, str) else show(answer)
    raise Wrong(f"{what} is not one of the {len(choices)} answers")


def rate_bound(p: float, draws: int) -> float:
    """How far from p the share of ``draws`` independent draws may lie.

    A right answer lies further away with a probability of about :data:`ALARM`.

    Example:
        >>> round(rate_bound(0.2, 256 * 256), 4)  # less than 25 % of 0.2
        0.0076
    """
    return -NormalDist().inv_cdf(ALARM / 2) * math.sqrt(p * (1 - p) / draws)
