"""The layers under comparison, each built from one drop probability.

Two kinds of tests use them. Where both sides have to agree, one test runs on every
side. Where they differ, a peer's fault is asserted as the peer's behaviour, with the
message ``CHANGED``: if it fails, the peer has mended something, and the table in
``book/reference/peers.md`` has to follow.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from regdrop_lite import DropBlock2d, DropPath, SpatialDropout2d

CHANGED = "peer changed, update the table in book/reference/peers.md"


@functools.cache
def _load(name: str) -> ModuleType | str:
    """A module, or why it cannot be had here."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("torchvision", "timm"):
            raise
        return f"{error.name} is not installed"
    except RuntimeError as error:
        # The operators of torchvision are compiled for one build of PyTorch.
        if "operator torchvision::" not in str(error):
            raise
        return f"torchvision is built for another PyTorch than {torch.__version__}"


def peer(name: str) -> ModuleType:
    """The module ``name`` of a peer; skip the test, and say why, if it is missing.

    Where all peers have to be there, ``REGDROP_PEERS=required`` makes that a failure.
    """
    module = _load(name)
    if isinstance(module, str):
        if os.environ.get("REGDROP_PEERS") == "required":
            pytest.fail(module)
        pytest.skip(module)
    return module


def torchvision_ops() -> ModuleType:
    return peer("torchvision.ops")


def timm_layers() -> ModuleType:
    return peer("timm.layers")


@contextmanager
def peer_raises(kind: type[Exception], words: str) -> Iterator[None]:
    """The peer raises just this; anything else means that the peer has changed."""
    try:
        yield
    except Exception as error:
        assert type(error) is kind and words in str(error), f"{CHANGED}: {error!r}"
    else:
        pytest.fail(f"{CHANGED}: no {kind.__name__}")


Factory = Callable[[float], nn.Module]

OURS: dict[str, Factory] = {
    "our channel": SpatialDropout2d,
    "our path": DropPath,
    "our block": lambda p: DropBlock2d(p, 3),
}
PEERS: dict[str, Factory] = {
    "torch channel": nn.Dropout2d,
    "torchvision path": lambda p: torchvision_ops().StochasticDepth(p, "row"),
    "timm path": lambda p: timm_layers().DropPath(p),
    "torchvision block": lambda p: torchvision_ops().DropBlock2d(p, 3),
    "timm block": lambda p: timm_layers().DropBlock2d(p, 3),
}
SIDES = OURS | PEERS

every_side = pytest.mark.parametrize("side", SIDES)
our_side = pytest.mark.parametrize("side", OURS)
peer_side = pytest.mark.parametrize("side", PEERS)


def set_p(layer: nn.Module, p: float) -> None:
    """Change the drop probability of a layer that was built already."""
    name = "drop_prob" if hasattr(layer, "drop_prob") else "p"
    assert hasattr(layer, name)
    setattr(layer, name, p)


def groups(side: str, y: Tensor) -> Tensor:
    """``y`` (N, C, H, W) as rows that have to fall or stay together."""
    if "channel" in side:
        return y.flatten(0, 1).flatten(1)
    assert "path" in side
    return y.flatten(1)
