"""The blocks and the nets of the chapters, with one place for any regulariser.

A regulariser is chosen by name and rate; everything else stays equal. Nets that differ
in nothing but their regulariser have the same parameters, under the same names, and,
for the same seed, the same initial weights.

Example:
    >>> import torch
    >>> plain = TinyCNN(seed=0)
    >>> noisy = TinyCNN(regulariser="drop_block", p=0.1, seed=0)
    >>> all(map(torch.equal, plain.parameters(), noisy.parameters()))
    True
"""

from regdrop_lite.course.models.blocks import (
    PLACEMENTS,
    REGULARISERS,
    ConvNormAct,
    ResidualBlock,
    TransformerBlock,
    make_regulariser,
)
from regdrop_lite.course.models.nets import (
    ResNetSmall,
    TinyCNN,
    ViTSmall,
    count_parameters,
    initialise,
)

__all__ = [
    "PLACEMENTS",
    "REGULARISERS",
    "ConvNormAct",
    "ResNetSmall",
    "ResidualBlock",
    "TinyCNN",
    "TransformerBlock",
    "ViTSmall",
    "count_parameters",
    "initialise",
    "make_regulariser",
]
