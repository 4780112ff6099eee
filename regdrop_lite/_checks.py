"""Checks of arguments. Each says what was expected and what came."""

import functools
import inspect
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from regdrop_lite._compat import is_inside_backward, is_traced, is_vmapped

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Tensor])


def check_probability(p: float, name: str = "p") -> float:
    """``p`` as a Python float; raise unless it is a number in [0, 1]."""
    if isinstance(p, bool) or not isinstance(p, (float, numbers.Real)):  # float: quick
        kind = type(p).__name__
        raise TypeError(f"{name} has to be a number between 0 and 1, but got a {kind}")
    if not 0.0 <= p <= 1.0:  # also catches NaN
        raise ValueError(f"{name} has to be between 0 and 1, but got {p}")
    return float(p)  # NumPy's float16 would round 1 / (1 - p) as well


def check_whole(value: int, name: str, least: int | None = 1) -> int:
    """``value`` as a Python int; raise unless it is a whole number >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral)):
        kind = type(value).__name__
        raise TypeError(f"{name} has to be a whole number, but got a {kind}")
    if least is not None and value < least:
        raise ValueError(f"{name} has to be at least {least}, but got {value}")
    return int(value)


def check_choice(value: str, name: str, known: Sequence[str]) -> str:
    """``value``; raise unless it is one of the ``known`` names."""
    if not isinstance(value, str) or value not in known:
        names = ", ".join(repr(k) for k in known)
        raise ValueError(f"{name} has to be one of {names}, but got {value!r}")
    return value


def check_flag(value: bool, name: str) -> bool:
    """``value``; raise where another setting was passed in the place of a flag."""
    if not isinstance(value, bool):
        raise TypeError(
            f"{name} has to be True or False, but got {value!r}: "
            "pass the other settings by name"
        )
    return value


def check_dim(dim: int, name: str, input: Tensor, besides: int | None = None) -> int:
    """``dim``, counted from the front; raise unless ``input`` has it."""
    dim = check_whole(dim, name, least=None)
    if dim not in range(-input.dim(), input.dim()) or dim % input.dim() == besides:
        other = (
            "" if besides is None else f" other than the batch (dimension {besides})"
        )
        raise ValueError(
            f"{name} has to be a dimension of the input {tuple(input.shape)}{other}, "
            f"but got {dim}"
        )
    return dim % input.dim()


def check_rank(input: Tensor, least: int, most: int, layout: str) -> None:
    """Raise unless ``input`` is a tensor with the right number of dimensions."""
    if not isinstance(input, Tensor):
        raise TypeError(f"expected a tensor, but got a {type(input).__name__}")
    if not least <= input.dim() <= most:
        raise ValueError(
            f"expected an input of shape {layout}, "
            f"but got {input.dim()} dimensions: {tuple(input.shape)}"
        )


def check_floating(input: Tensor) -> None:
    """Raise unless ``input`` can be scaled."""
    if not input.is_floating_point():
        raise TypeError(f"expected a floating-point tensor, but got {input.dtype}")


def check_generator_type(
    generator: torch.Generator | None,
) -> torch.Generator | None:
    """``generator``; raise unless it is one, or ``None``."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            "generator has to be a torch.Generator or None, "
            f"but got a {type(generator).__name__}"
        )
    return generator


def check_generator(generator: torch.Generator | None) -> None:
    """Raise where an explicit generator would not do what was asked."""
    if check_generator_type(generator) is None:
        return
    remedy = (
        "; pass generator=None (for a model: set_generator(model, None)) "
        "and seed with torch.manual_seed"
    )
    check_eager("an explicit generator", remedy)
    # The second pass of a checkpoint sets back the global generator only. Another mask
    # would make the gradients wrong.
    if is_inside_backward():
        raise RuntimeError(
            f"activation checkpointing cannot repeat an explicit generator{remedy}"
        )


def check_eager(what: str, remedy: str = "") -> None:
    """Raise under torch.compile, torch.export, tracers and torch.func.vmap."""
    if torch.compiler.is_compiling():
        place = "torch.compile or torch.export"
    elif is_vmapped():
        place = "torch.func.vmap"
    elif is_traced():
        place = "torch.jit.trace or make_fx"
    else:
        return
    raise RuntimeError(f"{what} works in eager mode only, not under {place}{remedy}")


def as_list(values: Any) -> Any:
    """A sequence, array or tensor as a list; anything else as it is."""
    if hasattr(values, "tolist"):  # NumPy and PyTorch
        return values.tolist()
    if isinstance(values, Sequence) and not isinstance(values, str):
        return list(values)
    return values


def overridable(function: F) -> F:
    """Decorate a function of a tensor, so that others may take it over.

    torch.fx and the tensor classes of other people do so by ``__torch_function__``.
    """

    @functools.wraps(function)
    def public(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if has_torch_function_unary(input):
            return handle_torch_function(public, (input,), input, *args, **kwargs)
        return function(input, *args, **kwargs)

    return cast(F, public)


def by_name_after(count: int) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorate an ``__init__`` that takes ``count`` positional arguments.

    Other libraries have other settings in the next place, so a ported call would mean
    something else without a word. Python's own message would not say that.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        signature = inspect.signature(init)

        @functools.wraps(init)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            if len(args) > 1 + count:
                raise TypeError(
                    f"{type(args[0]).__name__} takes {count} argument"
                    f"{'s' if count > 1 else ''} by position and the others by name, "
                    f"but got {args[1 + count]!r} as well. Its place means inplace in "
                    "torch.nn, gamma_scale or scale_by_keep in timm, and data_format "
                    "in Keras"
                )
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:  # Python's own message names a private class
                raise TypeError(f"{type(args[0]).__name__}: {error}") from None
            init(*args, **kwargs)

        return checked

    return decorate
