"""Put the layers of this package into a model, and set their rates."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import nn

from regdrop_lite._checks import as_list, check_probability
from regdrop_lite.drop_block import DropBlock2d, DropBlock3d
from regdrop_lite.drop_layer import DropLayer
from regdrop_lite.drop_path import DropPath
from regdrop_lite.spatial_dropout import (
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
)
from regdrop_lite.tools._find import (
    Place,
    held_elsewhere,
    is_copy,
    known_class,
    original,
    places,
    rate_of,
    warn_of_plain_lists,
)

Rates = (
    float
    | Sequence[float]
    | Sequence[Sequence[float]]
    | Callable[[str, int, int], float]
)
DropKinds = type[DropLayer] | tuple[type[DropLayer], ...]


class Replaced(NamedTuple):
    """What :func:`~regdrop_lite.tools.replace_layers` did in one place of a model.

    Attributes:
        name: the name of the place.
        old: what stood there.
        new: the layer that stands there now. Places that shared one layer still do.
        p_old: its rate; 0 for ``nn.Identity`` and ``None``.
        p_new: the new rate.
    """

    name: str
    old: nn.Module | None
    new: DropLayer
    p_old: float
    p_new: float


def replace_layers(
    model: nn.Module,
    rates: Rates | None = None,
    *,
    kind: DropKinds = DropLayer,
    fill: bool | None = None,
) -> list[Replaced]:
    """Swap the layers of torch, torchvision and timm in ``model`` for ours, in place.

    ======================================================  ========================
    theirs                                                  ours
    ======================================================  ========================
    torch ``Dropout1d``, ``Dropout2d``, ``Dropout3d``       ``SpatialDropout1d`` ...
    torchvision ``StochasticDepth``, timm ``DropPath``      ``DropPath``
    torchvision and timm ``DropBlock2d``, ``DropBlock3d``   ``DropBlock2d`` ...
    ======================================================  ========================

    Args:
        model: any module. Parameters, buffers, the ``state_dict`` and the output in
            evaluation stay as they are, and each new layer has the training mode and
            the settings of the one before it.
        rates: the new rates, as in :func:`~regdrop_lite.tools.set_rates`, counted over
            what is replaced. By default each layer keeps the rate that it had.
        kind: swap only what becomes a layer of this class, or one of these classes.
        fill: where a library left out DropPath because the rate was 0, as timm does,
            ``True`` puts one in: ``nn.Identity`` or ``None`` under the name
            ``drop_path``, ``drop_path1``, ``drop_path2`` ... Then the rates line up
            with the blocks. ``False`` leaves these places alone. The class attention
            blocks of timm's CaiT and XCiT, which have no rate there, stay empty.

    Returns:
        One record (name, old, new, p_old, p_new) for each place, in the order of the
        model.

    Raises:
        TypeError: a rate is no number.
        ValueError: nothing is there to replace; ``model`` is itself such a layer; a
            rate is outside [0, 1], or a list has the wrong length; with rates by depth
            some places are empty and ``fill`` does not say what is to be done; a layer
            has a setting without counterpart (timm's DropBlock2d with ``with_noise`` or
            ``scale_by_keep=False``; without ``rates`` also a ``gamma_scale`` other than
            1, as in the third stage of timm's ResNets), or is of a subclass with a
            ``forward`` of its own. The model is then as it was.

    Other layers stay: ``nn.Dropout``, ``nn.AlphaDropout``, ``PatchDropout``. Rates of
    DropBlock mean the share that really falls, so that less falls on small maps than
    with timm. A DropPath that ``fill`` put where no skip goes by would drop the signal
    itself: :func:`~regdrop_lite.tools.audit` tells. Hooks go on to the new layer. Ours
    take batches only: where torch's ``Dropout1d`` and ``Dropout3d`` take one sample,
    (C, L) or (C, D, H, W), and ``Dropout2d`` reads (C, H, W) as (N, C, L), a ValueError
    names the shape that was expected.

    Warns:
        UserWarning: dropping layers stand in a plain list, where they are not found; or
            a layer that was swapped is also kept in a tuple, a cached method or the
            like, and is called from there as before.

    Example:
        >>> from torch import nn
        >>> from regdrop_lite.tools import replace_layers
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout2d(0.2)).eval()
        >>> for done in replace_layers(model):
        ...     print(done.name, done.old, "->", done.new, done.new.training)
        1 Dropout2d(p=0.2, inplace=False) -> SpatialDropout2d(p=0.2) False
    """
    _kinds(kind)
    if known_class(model) in _COUNTERPARTS:
        raise ValueError(
            f"expected a model that contains layers, but got a {_name(model)} itself: "
            "nothing holds it, so it cannot be swapped"
        )
    warn_of_plain_lists(model)
    theirs, empty = _candidates(model, kind)
    copies = [name for name, m in model.named_modules() if is_copy(m)]
    chosen = _choose(theirs, empty, copies, rates, fill, type(model).__name__)
    layers: dict[int, DropLayer] = {}
    firsts: dict[int, Place] = {}
    for place in chosen:
        firsts.setdefault(_identity(place), place)
    names = [place.name for place in firsts.values()]
    before = [_rate(place) for place in firsts.values()]
    after = before if rates is None else _per_layer(rates, names, model)
    for (key, place), p in zip(firsts.items(), after, strict=True):
        layers[key] = _build(place, p, rates is not None)
    done = []
    for place in chosen:  # nothing was changed until now
        new = layers[_identity(place)]
        _hand_on_hooks(place.module, new)
        vars(place.holder).pop(place.short, None)  # self.drop_path = None
        setattr(place.holder, place.short, new)
        done.append(Replaced(place.name, place.module, new, _rate(place), new.p))
    kept = held_elsewhere(model, {record.old for record in done if record.old})
    if kept:
        warnings.warn(
            f"{', '.join(kept)}: still lead to layers that were swapped "
            f"({', '.join(sorted(set(kept.values())))}); what is called there drops as "
            "before: swap before these attributes are made, or make them anew",
            stacklevel=2,
        )
    return done


def set_rates(
    model: nn.Module, rates: Rates, *, kind: DropKinds = DropLayer
) -> dict[str, float]:
    """Set the rates of the layers of this package in ``model``.

    Args:
        model: a layer of this package, or any module that contains some. Layers of
            other packages are left alone.
        rates: one number for all; a list or array with one for each layer, in the
            order of the model, or with one for each block, nested or not; or a
            function ``rate(name, depth, number)`` of the name
            of a layer, the index of its block, from 0, and the number of blocks.
        kind: only the layers of this class, or of these classes, are set and counted.

    Returns:
        The new rates by the names of the layers.

    Raises:
        TypeError: a rate is no number.
        ValueError: ``model`` has no such layer, a rate is outside [0, 1], or a list has
            the wrong length. No rate was changed then.

    A block is the module that holds the layers: the two of a Transformer block, after
    attention and after the MLP, have one depth. Layers in an ``nn.Sequential`` or an
    ``nn.ModuleList`` come one after the other, each at a depth of its own, unless a
    module that is itself an entry of such a list keeps them in several attributes, one
    for each branch: then that module is the block. All layers of a model where one
    module holds them all have depths of their own. A layer that stands in several
    places counts once, where it stands first.

    Warns:
        UserWarning: dropping layers stand in a plain list, where they are not found.

    Example:
        >>> from torch import nn
        >>> from regdrop_lite import DropPath, drop_path_rates
        >>> from regdrop_lite.tools import set_rates
        >>> def block():
        ...     return nn.ModuleDict({"path1": DropPath(), "path2": DropPath()})
        >>> model = nn.Sequential(block(), block(), block())
        >>> set_rates(model, drop_path_rates(0.5, 3))  # doctest: +NORMALIZE_WHITESPACE
        {'0.path1': 0.0, '0.path2': 0.0, '1.path1': 0.25, '1.path2': 0.25,
         '2.path1': 0.5, '2.path2': 0.5}
        >>> _ = set_rates(model, lambda name, depth, number: 0.5 - 0.25 * depth)
        >>> model[0].path2
        DropPath(p=0.5, mode='row')
    """
    warn_of_plain_lists(model)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, _kinds(kind))}
    if not layers:
        raise ValueError(
            f"expected layers ({_kind_names(kind)}), but {type(model).__name__} has "
            "none: replace_layers swaps those of other libraries"
        )
    values = _per_layer(rates, list(layers), model)
    for layer, p in zip(layers.values(), values, strict=True):
        layer.p = p
    return dict(zip(layers, values, strict=True))


def _per_layer(rates: Rates, names: list[str], model: nn.Module) -> list[float]:
    """One checked rate for each of ``names``."""
    of = _blocks(names, model)
    if len(set(of)) == 1:  # a flat model
        of = names
    blocks = list(dict.fromkeys(of))
    depths = [blocks.index(block) for block in of]
    listed: Any = as_list(rates)
    if isinstance(listed, list) and any(map(_is_list, listed)):  # one list per stage
        stages = [as_list(stage) for stage in listed]
        if not all(isinstance(stage, list) for stage in stages):
            raise TypeError(
                "rates has to be a list of numbers or a list of lists, one for each "
                f"stage, but got {rates!r}"
            )
        listed = [p for stage in stages for p in stage]
    if callable(rates):
        listed = [rates(n, d, len(blocks)) for n, d in zip(names, depths, strict=True)]
    elif not isinstance(listed, list):
        listed = [listed] * len(names)
    elif len(listed) == len(blocks):
        listed = [listed[depth] for depth in depths]
    elif len(listed) != len(names):
        blocks_too = "" if len(blocks) == len(names) else f" or {len(blocks)} blocks"
        raise ValueError(
            f"rates has to be one number, a function, or a list for {len(names)} "
            f"layers{blocks_too}, but got {len(listed)}"
        )
    return [
        check_probability(p, f"the rate of {n or 'the layer'}")
        for n, p in zip(names, listed, strict=True)
    ]


def _blocks(names: list[str], model: nn.Module) -> list[str]:
    """The name of the block of each layer.

    It is the layer's holder. In a row of layers it is the layer itself, or the module
    around the row if that is an entry of a row, too, and has layers in other attributes
    as well: those are its branches.
    """
    around: list[str] = []
    attributes: dict[str, set[str]] = {}
    for name in names:
        holder, _, attribute = name.rpartition(".")
        while holder and _is_row(model.get_submodule(holder)):
            holder, _, attribute = holder.rpartition(".")
        around.append(holder)
        attributes.setdefault(holder, set()).add(attribute)

    def block(name: str, outer: str) -> str:
        holder = name.rpartition(".")[0]
        if not _is_row(model.get_submodule(holder)):
            return holder
        is_entry = outer and _is_row(model.get_submodule(outer.rpartition(".")[0]))
        return outer if is_entry and len(attributes[outer]) > 1 else name

    return [block(*pair) for pair in zip(names, around, strict=True)]


def _is_row(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _is_list(value: Any) -> bool:
    return isinstance(as_list(value), list)


def _candidates(
    model: nn.Module, kind: DropKinds
) -> tuple[list[Place], dict[str, Place]]:
    """All places that could be swapped, in order; those that are empty also by name."""
    found, empty = [], {}
    for place in places(model):
        key = place.module is not None and known_class(place.module)
        if key in _COUNTERPARTS and issubclass(_COUNTERPARTS[key][0], _kinds(kind)):
            found.append(place)
        elif place.is_empty and issubclass(DropPath, _kinds(kind)):
            found.append(place)
            empty[place.name] = place
    return found, empty


def _choose(
    found: list[Place],
    empty: dict[str, Place],
    copies: list[str],
    rates: Rates | None,
    fill: bool | None,
    model: str,
) -> list[Place]:
    theirs = [place for place in found if place.name not in empty]
    some = ", ".join(list(empty)[:3]) + (", ..." if len(empty) > 3 else "")
    if not theirs and not (fill and empty):
        hint = (
            f": at {len(empty)} places ({some}) DropPath was left out because the rate "
            "was 0; fill=True puts one in"
            if empty
            else ""
        )
        if copies:
            hint += (
                f"; {copies[0]} and others of {len(copies)} layers are of a class that "
                "is not known here, which may do something else"
            )
        raise ValueError(f"{model} has no layer to replace{hint}")
    by_depth = callable(rates) or isinstance(as_list(rates), list)
    if empty and fill is None and by_depth:
        raise ValueError(
            f"at {len(empty)} places ({some}) DropPath was left out because the rate "
            "was 0, so that rates by depth would not line up with the blocks: "
            "fill=True puts one in, fill=False leaves these places alone"
        )
    return found if fill else theirs


def _build(place: Place, p: float, asked: bool) -> DropLayer:
    """The counterpart of what stands in ``place``, or a DropPath for an empty place."""
    old: Any = place.module
    if place.is_empty:
        new: DropLayer = DropPath(p)
        return new.train(place.holder.training)
    if type(old).forward is not original(old).forward:
        raise ValueError(
            f"{place.name} is a {_name(old)} with a forward of its own, which may do "
            f"something else than {_name(old, original(old))}"
        )
    key = known_class(old)
    assert key is not None
    factor = getattr(old, "gamma_scale", 1.0)
    if factor != 1.0 and not asked:
        raise ValueError(
            f"{place.name} has gamma_scale={factor}, which has no counterpart, so that "
            f"its rate {p} is not what it drops: pass rates (here about {p * factor:g})"
        )
    kind: Any
    kind, settings = _COUNTERPARTS[key]
    try:
        new = kind(p, **settings(old))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{place.name} cannot be swapped: {error}") from error
    return new.train(old.training)


def _hand_on_hooks(old: nn.Module | None, new: nn.Module) -> None:
    """Give ``new`` the hooks of ``old``; their handles go on to remove them."""
    for name, value in vars(nn.Module()).items():
        if "_hook" in name and old is not None:
            vars(new)[name] = vars(old).get(name, value)


def _identity(place: Place) -> int:
    """Equal for the places of one shared layer."""
    return id(place) if place.is_empty else id(place.module)


def _rate(place: Place) -> float:
    return 0.0 if place.module is None else rate_of(place.module) or 0.0


def _timm_block(old: Any) -> dict[str, Any]:
    fixed = {"with_noise": False, "scale_by_keep": True}
    for name, only in fixed.items():
        value = getattr(old, name, only)
        if value != only:
            raise ValueError(
                f"{name} has no counterpart; expected {only}, but got {value}"
            )
    # Before timm 1.0.23 there was `batchwise`, and one mask for all channels always.
    if getattr(old, "batchwise", False):
        raise ValueError("batchwise has no counterpart; expected False, but got True")
    return {
        "block_size": old.block_size,
        "shared": getattr(old, "couple_channels", True),
        "inplace": old.inplace,
    }


def _settings(*names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda old: {name: getattr(old, name) for name in names}


_Settings = Callable[[Any], dict[str, Any]]
_COUNTERPARTS: dict[Any, tuple[type[DropLayer], _Settings]] = {
    ("torch", "Dropout1d"): (SpatialDropout1d, _settings("inplace")),
    ("torch", "Dropout2d"): (SpatialDropout2d, _settings("inplace")),
    ("torch", "Dropout3d"): (SpatialDropout3d, _settings("inplace")),
    ("torchvision", "StochasticDepth"): (DropPath, _settings("mode")),
    ("torchvision", "DropBlock2d"): (DropBlock2d, _settings("block_size", "inplace")),
    ("torchvision", "DropBlock3d"): (DropBlock3d, _settings("block_size", "inplace")),
    ("timm", "DropPath"): (DropPath, _settings("scale_by_keep")),
    ("timm", "DropBlock2d"): (DropBlock2d, _timm_block),
}


def _kinds(kind: DropKinds) -> DropKinds:
    for one in kind if isinstance(kind, tuple) else (kind,):
        if not (isinstance(one, type) and issubclass(one, DropLayer)):
            raise TypeError(
                "kind has to be a class of layers of this package or a tuple of such, "
                f"but got {one!r}"
            )
    return kind


def _kind_names(kind: DropKinds) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return ", ".join(_name(None, one) for one in kinds)


def _name(module: nn.Module | None, kind: type | None = None) -> str:
    kind = kind or type(module)
    return f"{kind.__module__.split('.')[0]}.{kind.__name__}"
