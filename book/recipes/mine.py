"""A DropPath as one writes it in five minutes, for the suite of `benchmarks`."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drops whole samples. The suite finds what is wrong with it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1)) >= self.p
        return x * (kept / (1 - self.p))
