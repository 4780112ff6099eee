"""Random numbers. All masks are made of uniform numbers and nothing else.

``Tensor.bernoulli_`` would be shorter, but PyTorch may hand it to a vendor's library,
so that one seed gives other masks on another processor. Uniform numbers come from the
generator itself, and 53 random bits make every drop rate exact.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def uniform(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Independent uniform numbers in [0, 1), float64 where the device has it.

    They are drawn where the generator lives and moved to ``device``, so that one CPU
    generator gives the same numbers to a CPU and to a GPU.
    """
    if generator is None:  # torch.export refuses even generator=None
        return torch.rand(shape, dtype=widest(device), device=device)
    source = generator.device
    numbers = torch.rand(
        shape, dtype=widest(source), device=source, generator=generator
    )
    return numbers.to(device)


def sample_keep(
    shape: Sequence[int],
    p: float,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """Bool mask of ``shape``: True (kept) with probability 1 - p, independently."""
    return uniform(shape, device, generator) >= p


def sample_seeds(
    count: int, log_miss: float, generator: torch.Generator | None
) -> Tensor:
    """Which of ``count`` independent trials succeed: their indices, ascending.

    A trial fails with probability e^log_miss. Seeds are rare, so it is cheaper to draw
    the distance to the next one than to ask every position: the number of failures
    before a success is floor(log(u) / log_miss) for a uniform u in (0, 1]. The loop
    looks at values, so this is for the CPU.
    """
    cpu = torch.device("cpu")
    expected = count * -math.expm1(log_miss)
    draws = math.ceil(expected + 6.0 * math.sqrt(expected)) + 8
    last = -1.0
    found = [torch.empty(0, dtype=torch.int64, device=cpu)]
    while last < count - 1:  # nearly always once
        u = uniform((draws,), cpu, generator)
        failures = u.neg_().add_(1.0).log_().div_(log_miss).floor_()
        positions = failures.add_(1.0).cumsum_(0).add_(last)
        last = positions[-1].item()
        inside = int(torch.searchsorted(positions, float(count)))
        found.append(positions[:inside].to(torch.int64))
    return torch.cat(found)
