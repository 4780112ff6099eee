"""See the functions that drop outside of layers, and who draws by other generators."""

import inspect
import random
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from regdrop_lite.tools._masks import numpy_state


class Functions(TorchFunctionMode):
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
    NAMES = re.compile(
        r"((feature_)?alpha_)?dropout|dropout[123]d|multi_head_attention_forward|"
        "spatial_dropout|drop_path|drop_block"
    )
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
        if not self.NAMES.fullmatch(getattr(func, "__name__", "")):
            return None
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        p = given.get("p", given.get("dropout_p", 0.0))
        return float(p) if given.get("training", True) else None


def _author() -> str:
    """The function that draws: the nearest one that is neither torch's nor private."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module, _, private = frame.f_globals.get("__name__", "").partition("._")
        if module.split(".")[0] != "torch" and not private:
            break
        frame = frame.f_back
    return frame.f_code.co_name
