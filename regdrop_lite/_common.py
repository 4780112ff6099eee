"""What the layers share: the checks and the random numbers.

Every mask of this package is made of float64 uniform numbers and nothing else.
``Tensor.bernoulli_`` would be shorter, but PyTorch may hand it to a vendor's library,
so that one seed gives other masks on another processor. Uniform numbers come from the
generator itself, and 53 random bits make every drop rate exact.
"""

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def check_probability(p: float, name: str = "p") -> float:
    """``p`` as a Python float; raise unless it is a number in [0, 1]."""
    if isinstance(p, bool) or not isinstance(p, numbers.Real):
        kind = type(p).__name__
        raise TypeError(f"{name} has to be a number between 0 and 1, but got a {kind}")
    if not 0.0 <= p <= 1.0:  # also catches NaN
        raise ValueError(f"{name} has to be between 0 and 1, but got {p}")
    return float(p)  # NumPy's float16 would round 1 / (1 - p) as well


def check_choice(value: str, name: str, known: Sequence[str]) -> None:
    """Raise unless ``value`` is one of the ``known`` names."""
    if value not in known:
        names = ", ".join(repr(k) for k in known)
        raise ValueError(f"{name} has to be one of {names}, but got {value!r}")


def check_training(training: bool) -> None:
    """Raise where another setting was passed in the place of ``training``."""
    if not isinstance(training, bool):
        raise TypeError(
            f"training has to be True or False, but got {training!r}: "
            "pass the other settings by name"
        )


def check_input(input: Tensor, min_dims: int, max_dims: int, layout: str) -> None:
    """Raise unless ``input`` is a floating-point tensor with the right rank."""
    if not isinstance(input, Tensor):
        raise TypeError(f"expected a tensor, but got a {type(input).__name__}")
    if not input.is_floating_point():
        raise TypeError(f"expected a floating-point tensor, but got {input.dtype}")
    if not min_dims <= input.dim() <= max_dims:
        raise ValueError(
            f"expected an input of shape {layout}, "
            f"but got {input.dim()} dimensions: {tuple(input.shape)}"
        )


def check_generator(generator: torch.Generator | None) -> None:
    """Raise where PyTorch cannot take an explicit generator."""
    if generator is None:
        return
    remedy = (
        "; pass generator=None (for a model: set_generator(model, None)) "
        "and seed with torch.manual_seed"
    )
    check_eager("an explicit generator", remedy)
    # A forward pass inside a backward pass: the second one of a checkpoint, which sets
    # back the global generator only. Another mask would make the gradients wrong.
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            f"activation checkpointing cannot repeat an explicit generator{remedy}"
        )


def check_eager(what: str, remedy: str = "") -> None:
    """Raise under torch.compile, torch.export and torch.func.vmap."""
    if torch.compiler.is_compiling():
        place = "torch.compile or torch.export"
    elif inside_vmap():
        place = "torch.func.vmap"
    else:
        return
    raise RuntimeError(f"{what} works in eager mode only, not under {place}{remedy}")


def inside_transform() -> bool:
    """Whether a transform of torch.func is at work. Not for code being compiled."""
    # PyTorch has no public question for this; the private one is there since 2.0.
    return bool(torch._C._functorch.get_interpreter_stack())


def inside_vmap() -> bool:
    """Whether torch.func.vmap is at work. Not for code being compiled."""
    stack = torch._C._functorch.get_interpreter_stack()
    vmap = torch._C._functorch.TransformType.Vmap
    return any(level.key() == vmap for level in stack or ())


def uniform(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Independent uniform numbers in [0, 1), float64 where the device has it.

    They are drawn where the generator lives and moved to ``device``, so that one CPU
    generator gives the same numbers to a CPU and to a GPU.
    """
    source = device if generator is None else generator.device
    # Apple's GPUs know no float64: there a probability is exact to 2^-24.
    dtype = torch.float32 if source.type == "mps" else torch.float64
    if generator is None:  # torch.export refuses even generator=None
        return torch.rand(shape, dtype=dtype, device=source)
    return torch.rand(shape, dtype=dtype, device=source, generator=generator).to(device)


def sample_keep(
    shape: Sequence[int],
    p: float,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """Bool mask of ``shape``: True (kept) with probability 1 - p, independently."""
    return uniform(shape, device, generator) >= p


def drop_all(input: Tensor, inplace: bool = False) -> Tensor:
    """Zeros with zero gradients: the case p = 1, where no scale exists.

    ``input * 0`` would turn an infinity into NaN.
    """
    return (input if inplace else input.clone()).zero_()


class DropLayer(nn.Module):
    """Base of every layer: a drop probability and a place for a generator.

    ``p`` is a plain attribute: it may be changed between steps and is checked at every
    call.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = check_probability(p)
        self.generator: torch.Generator | None = None


def set_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every layer of this package in ``model`` draw from one generator.

    Args:
        model: a layer of this package, or any module that contains some. Layers of
            other packages are left alone.
        generator: the source of all masks from now on. A CPU generator serves a model
            on any device. ``None`` gives the layers back to PyTorch's global generator.

    The layers share the generator, they do not copy it: the order of their calls
    decides who gets which numbers. A deep copy of the model gets a generator of its
    own, in the same state.

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
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            "generator has to be a torch.Generator or None, "
            f"but got a {type(generator).__name__}"
        )
    for module in model.modules():
        if isinstance(module, DropLayer):
            module.generator = generator
