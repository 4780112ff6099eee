"""Leave a model as it was: its modes, buffers, gradients and random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regdrop_lite.drop_layer import DropLayer
from regdrop_lite.tools._masks import rng_state, set_rng_state, tensors_in


class Before:
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
        self.generators: dict[Any, tuple[torch.Generator, Tensor]] = {
            m: (m.generator, m.generator.get_state()) for m in drops if m.generator
        }

    @contextmanager
    def random_numbers(self, layer: Any, device: torch.device) -> Iterator[None]:
        """Training of one layer, from the random numbers that there were."""
        set_rng_state(self.random.get(device, self.random[torch.device("cpu")]), device)
        own = self.generators.get(layer)
        if own:
            layer.generator = own[0].set_state(own[1])
        with torch.no_grad():
            yield
        if own:
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
def restored(model: nn.Module, inputs: Any) -> Iterator[Before]:
    """Everything that the passes change is put back. Inside, all weights ask for
    gradients and our layers draw from the global generators."""
    tensors = [*model.parameters(), *model.buffers(), *tensors_in(inputs)]
    before = Before(model, {t.device for t in tensors})
    try:
        for layer in before.generators:
            layer.generator = None
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        yield before
    finally:
        before.bring_back()
