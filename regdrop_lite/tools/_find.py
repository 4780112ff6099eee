"""Which layers of a model drop, whoever wrote them."""

import re
import warnings
from collections.abc import Container, Iterable, Iterator
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

from torch import nn

from regdrop_lite.drop_layer import DropLayer

# The package and the name of a class, and where its layers keep their rate.
KNOWN = {
    **{
        ("torch", name): "p"
        for name in (
            "Dropout",
            "Dropout1d",
            "Dropout2d",
            "Dropout3d",
            "AlphaDropout",
            "FeatureAlphaDropout",
        )
    },
    ("torchvision", "StochasticDepth"): "p",
    ("torchvision", "DropBlock2d"): "p",
    ("torchvision", "DropBlock3d"): "p",
    ("timm", "DropPath"): "drop_prob",
    ("timm", "DropBlock2d"): "drop_prob",
    ("timm", "PatchDropout"): "prob",
    ("timm", "PatchDropoutWithIndices"): "prob",
}

# Blocks to which timm hands no rate: their places for DropPath are always empty.
_NEVER_DROPPED = {
    ("timm", "LayerScaleBlockClassAttn"),  # CaiT
    ("timm", "ClassAttentionBlock"),  # XCiT
}

_DROP_PATH = re.compile(r"drop_path\d*")
# What people call their own copies: ConvNextDropPath, StochasticDepth, DropBlock2D ...
_NAMES = re.compile(
    r"(Dropout|DropPath|DropBlock|DropConnect|StochasticDepth)\d?[dD]?$"
)

Kinds = type[nn.Module] | tuple[type[nn.Module], ...]


def drop_layers(model: nn.Module, *, also: Kinds = ()) -> list[tuple[str, nn.Module]]:
    """The names and layers of everything in ``model`` that drops.

    Args:
        model: any module. It may be a dropping layer itself; its name is then "".
        also: a class, or a tuple of classes, whose layers drop as well: your own, or
            those of a library that is not known here.

    Returns:
        Pairs (name, layer) as ``model.named_modules()`` gives them, in its order: a
        layer that stands in several places is listed once, under its first name. Found
        are the layers of this package; ``nn.Dropout``, ``nn.Dropout1d``, ``2d``,
        ``3d``, ``nn.AlphaDropout``, ``nn.FeatureAlphaDropout``; torchvision's
        ``StochasticDepth``, ``DropBlock2d``, ``DropBlock3d``; timm's ``DropPath``,
        ``DropBlock2d``, ``PatchDropout``; subclasses of them; and ``also``. So are
        copies of them in other packages, by the end of the name of their class
        (``Dropout``, ``DropPath``, ``DropBlock``, ``DropConnect``,
        ``StochasticDepth``), if they hold neither parameters nor other modules. A
        layer counts whatever its rate is.

    Raises:
        TypeError: ``also`` is neither a class nor a tuple of classes.

    Not every dropout is a layer. ``nn.MultiheadAttention``, ``nn.LSTM``, ``nn.GRU`` and
    ``nn.RNN`` keep a number, ``dropout``, and code may call
    ``torch.nn.functional.dropout``: neither can be listed here.
    :func:`~regdrop_lite.tools.audit` sees such calls when they are made. Layers in a
    plain Python list are no part of ``model`` for PyTorch, and not found here either.

    Example:
        >>> from torch import nn
        >>> from regdrop_lite import DropPath
        >>> from regdrop_lite.tools import drop_layers
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), DropPath(0.2))
        >>> drop_layers(model)
        [('1', Dropout(p=0.1, inplace=False)), ('2', DropPath(p=0.2, mode='row'))]
    """
    check_kinds(also)
    return [(n, m) for n, m in model.named_modules() if is_drop(m, also)]


def is_drop(module: nn.Module, also: Kinds = ()) -> bool:
    """Whether ``module`` is a dropping layer."""
    return (
        isinstance(module, (DropLayer, also))
        or known_class(module) is not None
        or is_copy(module)
    )


def is_copy(module: nn.Module) -> bool:
    """Whether ``module`` is somebody's own copy of such a layer, by its name."""
    return (
        not isinstance(module, DropLayer)
        and known_class(module) is None
        and _NAMES.search(type(module).__name__) is not None
        and not any(True for _ in module.children())
        and not any(True for _ in module.parameters())
    )


def in_plain_lists(model: nn.Module, also: Kinds = ()) -> dict[str, nn.Module]:
    """Dropping layers in Python lists, tuples and dicts, by name.

    PyTorch does not see them: ``eval()``, ``to()`` and these tools pass them by.
    """
    registered = set(model.modules())
    found: dict[str, nn.Module] = {}
    for name, holder in model.named_modules():
        for short, value in vars(holder).items():
            if short in vars(nn.Module()):  # _modules, hooks
                continue
            for key, part in _entries(value):
                if isinstance(part, nn.Module) and part not in registered:
                    path = f"{name}.{short}[{key!r}]".strip(".")
                    for inner, layer in part.named_modules(prefix=path):
                        if is_drop(layer, also):
                            found[inner] = layer
    return found


def _entries(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, (list, tuple)) else ()


def warn_of_plain_lists(model: nn.Module, also: Kinds = ()) -> None:
    """Warn of layers that a tool cannot reach."""
    found = in_plain_lists(model, also)
    if found:
        warnings.warn(told_of_plain_lists(found), stacklevel=3)


def told_of_plain_lists(found: dict[str, nn.Module]) -> str:
    """The words for what :func:`in_plain_lists` found."""
    some = ", ".join(list(found)[:3]) + (", ..." if len(found) > 3 else "")
    one = len(found) == 1
    layers, are, them = ("layer", "is", "it") if one else ("layers", "are", "them")
    return (
        f"{len(found)} dropping {layers} ({some}) {are} in a plain list, tuple or "
        f"dict, where neither eval() nor this tool reaches {them}: use nn.ModuleList"
    )


def held_elsewhere(model: nn.Module, layers: Container[nn.Module]) -> dict[str, str]:
    """Attributes that still lead to ``layers``, which are no modules of the model.

    Lists, tuples and dicts, bound methods, ``functools.partial`` and closures: whoever
    keeps a layer there goes on to call it when another stands in its place.

    Returns:
        The kinds of layers by the names of the attributes.
    """
    found: dict[str, str] = {}

    def look(name: str, value: Any, depth: int) -> None:
        if isinstance(value, nn.Module):
            if value in layers:
                found[name] = type(value).__name__
        elif depth:
            for part in _reached(value):
                look(name, part, depth - 1)

    for name, holder in model.named_modules():
        for short, value in vars(holder).items():
            if short not in vars(nn.Module()):
                look(f"{name}.{short}".strip("."), value, depth=3)
    return found


def _reached(value: Any) -> Iterable[Any]:
    """What a container, a bound method, a partial or a closure holds."""
    if isinstance(value, (dict, list, tuple)):
        return [part for _, part in _entries(value)]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    cells = getattr(value, "__closure__", None) or ()
    return [cell.cell_contents for cell in cells]


def known_class(module: nn.Module) -> tuple[str, str] | None:
    """The package and the name of the known class that ``module`` is, or inherits."""
    for kind in type(module).__mro__:
        key = _key(kind)
        if key in KNOWN:
            return key
    return None


def original(module: nn.Module) -> type[nn.Module]:
    """The class of :func:`known_class` itself."""
    return next(kind for kind in type(module).__mro__ if _key(kind) in KNOWN)


def rate_of(module: nn.Module) -> float | None:
    """The rate that a layer was given; ``None`` where nothing looks like one."""
    key = known_class(module)
    names = [KNOWN[key]] if key else ["p", "drop_prob", "rate", "prob", "drop_rate"]
    for name in names:
        value: Any = getattr(module, name, None)
        if value is None and key:  # timm: DropPath(None) drops nothing
            return 0.0
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


class Place(NamedTuple):
    """Where a module stands, or could stand."""

    name: str
    holder: nn.Module
    short: str  # the last part of the name
    module: nn.Module | None

    @property
    def is_empty(self) -> bool:
        """Whether a library left out DropPath here, because the rate was 0.

        timm writes ``nn.Identity()`` or ``None`` then.
        """
        return (
            type(self.module) in (nn.Identity, type(None))
            and _DROP_PATH.fullmatch(self.short) is not None
            and _key(type(self.holder)) not in _NEVER_DROPPED
        )


def places(model: nn.Module) -> Iterator[Place]:
    """Every place inside ``model``, in the order of ``model.named_modules()``.

    A module that stands in several places is met in each of them; what it holds is met
    once.
    """
    done: set[int] = set()

    def walk(prefix: str, holder: nn.Module) -> Iterator[Place]:
        if id(holder) in done:
            return
        done.add(id(holder))
        for short, module in holder._modules.items():
            yield Place(prefix + short, holder, short, module)
            if module is not None:
                yield from walk(f"{prefix}{short}.", module)
        for short, value in vars(holder).items():  # self.drop_path = None
            if value is None and _DROP_PATH.fullmatch(short):
                yield Place(prefix + short, holder, short, None)

    return walk("", model)


def check_kinds(kinds: Kinds) -> None:
    """Raise unless ``kinds`` is a class of modules or a tuple of such."""
    listed = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise TypeError(
                "also has to be a subclass of nn.Module or a tuple of such, "
                f"but got {kind!r}"
            )


def _key(kind: type) -> tuple[str, str]:
    return kind.__module__.split(".")[0], kind.__name__
