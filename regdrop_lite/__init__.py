"""Structured dropout for PyTorch: SpatialDropout, DropPath and DropBlock.

Every layer is one multiplication, ``y = x * mask * scale``; only the mask
differs. ``p`` is always the probability to *drop*.
"""

from importlib.metadata import PackageNotFoundError, version

from regdrop_lite.drop_block import DropBlock1d, DropBlock2d, DropBlock3d, drop_block
from regdrop_lite.drop_block_gamma import drop_block_gamma, drop_block_keep_prob
from regdrop_lite.drop_layer import DropLayer, set_generator
from regdrop_lite.drop_path import DropPath, drop_path
from regdrop_lite.drop_residual import drop_residual
from regdrop_lite.schedules import DropWindow, LinearRamp, drop_path_rates
from regdrop_lite.spatial_dropout import (
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    spatial_dropout,
)

try:
    __version__ = version("regdrop-lite")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "unknown"

__all__ = [
    "DropBlock1d",
    "DropBlock2d",
    "DropBlock3d",
    "DropLayer",
    "DropPath",
    "DropWindow",
    "LinearRamp",
    "SpatialDropout1d",
    "SpatialDropout2d",
    "SpatialDropout3d",
    "drop_block",
    "drop_block_gamma",
    "drop_block_keep_prob",
    "drop_path",
    "drop_path_rates",
    "drop_residual",
    "set_generator",
    "spatial_dropout",
]
