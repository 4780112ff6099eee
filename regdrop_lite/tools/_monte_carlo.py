"""Evaluation with dropping layers at work, for Monte Carlo estimates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from regdrop_lite.tools._find import (
    Kinds,
    drop_layers,
    rate_of,
    warn_of_plain_lists,
)


@contextmanager
def monte_carlo_mode(model: nn.Module, *, also: Kinds = ()) -> Iterator[None]:
    """In this context only the dropping layers of ``model`` are in training.

    Args:
        model: any module.
        also: further classes that drop, as in :func:`~regdrop_lite.tools.drop_layers`;
            or a class that calls ``torch.nn.functional.dropout`` by its own flag. Only
            the flag of the layer itself is set, not those of the layers inside it.

    Raises:
        ValueError: nothing in ``model`` would be random, so that all samples would be
            alike: it has no layer that drops, or all rates are 0 or 1.

    Warns:
        UserWarning: dropping layers stand in a plain list, which no mode reaches.

    Everything else is in evaluation: BatchNorm uses its running statistics and leaves
    them alone. ``nn.MultiheadAttention``, ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` with
    ``dropout`` above 0 are in training too (the last three if they have two layers:
    they drop between layers only), and so is timm's fused attention; their flag has no
    other use. Afterwards every module has the mode that it had, also after an
    exception.

    PyTorch's fast path for ``nn.TransformerEncoderLayer`` in evaluation without
    gradients leaves out the dropout layers inside, whatever their mode. It is off in
    this context, for all models.

    Reference: Gal, Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from regdrop_lite.tools import monte_carlo_mode
        >>> model = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        >>> x = torch.ones(2, 8)
        >>> with torch.no_grad(), monte_carlo_mode(model):
        ...     samples = torch.stack([model(x) for _ in range(50)])  # (50, N, 3)
        >>> samples.std(dim=0).shape
        torch.Size([2, 3])
        >>> model.training
        True
    """
    drops = [layer for _, layer in drop_layers(model, also=also)]
    drops += [m for m in model.modules() if _has_dropout(m)]
    if not drops:
        raise ValueError(
            f"expected a model with layers that drop, but {type(model).__name__} has "
            "none: all samples would be alike"
        )
    rates = [_dropout(m) if _has_dropout(m) else rate_of(m) for m in drops]
    if all(p in (0.0, 1.0) for p in rates):
        raise ValueError(
            f"expected a layer with a rate between 0 and 1, but the {len(drops)} of "
            f"{type(model).__name__} have {sorted(set(rates), key=str)}: all samples "
            "would be alike"
        )
    warn_of_plain_lists(model, also)
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        for module in drops:
            module.training = True
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


def _has_dropout(module: nn.Module) -> bool:
    """Whether dropout is a number of this module, not a layer inside it."""
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if _is_fused(module):
        return _dropout(module) > 0
    return isinstance(module, nn.MultiheadAttention) and module.dropout > 0


def _is_fused(module: nn.Module) -> bool:
    """Whether this is timm's attention, which hands a rate to PyTorch's kernel.

    The layer ``attn_drop`` holds the rate and is not called; the flag that decides is
    that of the attention itself, which has no other use.
    """
    fused = getattr(module, "fused_attn", False) is True
    return fused and isinstance(getattr(module, "attn_drop", None), nn.Dropout)


def _dropout(module: Any) -> float:
    return float(module.attn_drop.p if _is_fused(module) else module.dropout)
