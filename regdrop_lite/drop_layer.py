"""What all layers share: a drop probability, a generator, and a leaf's manners."""

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from regdrop_lite._checks import check_generator_type, check_probability


class DropLayer(nn.Module):
    """Base class of every layer of this package.

    ``isinstance(module, DropLayer)`` finds the layers that drop. A subclass implements
    :meth:`drop`, which is called in training and in evaluation.

    Args:
        p: the drop probability, in [0, 1].

    Attributes:
        p: the drop probability. It may be changed at any time, and is checked.
        generator: a ``torch.Generator``, or ``None`` for PyTorch's global one.

    Raises:
        TypeError: ``p`` is no number, or ``generator`` no generator.
        ValueError: ``p`` is outside [0, 1].

    Example:
        >>> from torch import nn
        >>> from regdrop_lite import DropLayer, DropPath, SpatialDropout2d
        >>> net = nn.Sequential(SpatialDropout2d(0.1), nn.ReLU(), DropPath(0.2))
        >>> [layer.p for layer in net.modules() if isinstance(layer, DropLayer)]
        [0.1, 0.2]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator = None

    @property
    def p(self) -> float:
        """The drop probability."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        self._p = check_probability(p)

    @property
    def generator(self) -> torch.Generator | None:
        """The source of the masks; ``None`` is PyTorch's global generator."""
        return self._generator

    @generator.setter
    def generator(self, generator: torch.Generator | None) -> None:
        self._generator = check_generator_type(generator)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; return ``input`` itself in evaluation mode."""
        if isinstance(input, torch.fx.Proxy):
            # A leaf of the graph, as the layers of torch.nn are. A tracer that looked
            # inside would keep today's ``training`` for good.
            tracer: Any = input.tracer
            leaf: Tensor = tracer.create_proxy(
                "call_module", tracer.path_of_module(self), (input,), {}
            )
            return leaf
        return self.drop(input)

    def drop(self, input: Tensor) -> Tensor:
        """What the layer does to a tensor."""
        raise NotImplementedError(f"{type(self).__name__} has to implement drop(input)")


def set_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every layer of this package in ``model`` draw from one generator.

    Args:
        model: a layer of this package, or any module that contains some. Layers of
            other packages beside them are left alone: they have no generator.
        generator: the source of all masks from now on. A CPU generator serves a model
            on any device; on another one each mask is then drawn on the CPU and copied,
            which waits for the device (for DropBlock one byte per element). ``None``
            gives the layers back to PyTorch's global generator.

    Raises:
        TypeError: ``generator`` is neither a generator nor ``None``.
        ValueError: a generator is given, and all dropping layers of ``model`` are of
            other packages: none would draw from it.

    The layers share the generator, they do not copy it: the order of their calls
    decides who gets which numbers. A deep copy of the model gets a generator of its
    own, in the same state. So do the workers of a DataLoader: with one generator they
    all draw the same masks, so give each worker its own (PyTorch's global generator is
    seeded anew in each).

    Under ``torch.compile`` a layer with a generator breaks the graph and runs eagerly,
    with the right result; ``fullgraph=True`` and ``torch.export`` raise.

    Example:
        >>> import torch
        >>> from regdrop_lite import SpatialDropout2d, set_generator
        >>> layer = SpatialDropout2d(p=0.5)
        >>> x = torch.ones(1, 4, 2, 2)
        >>> set_generator(layer, torch.Generator().manual_seed(1))
        >>> first = layer(x)
        >>> set_generator(layer, torch.Generator().manual_seed(1))
        >>> torch.equal(first, layer(x))
        True
    """
    check_generator_type(generator)
    layers = [module for module in model.modules() if isinstance(module, DropLayer)]
    if generator is not None and not layers:
        _refuse_layers_of_others(model)
    for layer in layers:
        layer.generator = generator


def _refuse_layers_of_others(model: nn.Module) -> None:
    """Raise if something in ``model`` drops by random numbers of its own."""
    from regdrop_lite.tools import drop_layers  # the tools are built on this module

    if others := [name or "the model" for name, _ in drop_layers(model)]:
        some = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
        raise ValueError(
            f"expected layers of regdrop_lite, but {type(model).__name__} has only "
            f"those of other libraries ({some}), which use PyTorch's generators: "
            "regdrop_lite.tools.replace_layers swaps them"
        )
