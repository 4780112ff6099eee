"""Times on the device that ``REGDROP_DEVICE`` names: layers, and skipped computation.

    REGDROP_DEVICE=cuda python tests/gpu/bench.py book/results/gpu/bench.json

Beside each layer stand those of torch, torchvision and timm, where they are installed.
A row is the median of a forward and backward pass, by ``torch.utils.benchmark``.
"""

import importlib
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

import regdrop_lite as ours

DEVICE = torch.device(os.environ.get("REGDROP_DEVICE", "cpu"))
SMALL = DEVICE.type == "cpu"  # a dry run


def provenance() -> dict[str, Any]:
    """What the times depend on."""
    found = {"torch": torch.__version__, "python": platform.python_version()}
    for name in ("torchvision", "timm"):
        try:
            found[name] = importlib.import_module(name).__version__
        except Exception:  # not there, or made for another torch
            found[name] = None
    is_cuda = DEVICE.type == "cuda"
    found["device"] = torch.cuda.get_device_name() if is_cuda else "cpu (dry run)"
    return found


def layers() -> dict[str, Callable[[Tensor], Tensor]]:
    """All that can be had, by name."""
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "SpatialDropout, regdrop_lite": ours.SpatialDropout2d(0.1),
        "SpatialDropout, torch": nn.Dropout2d(0.1),
        "DropPath, regdrop_lite": ours.DropPath(0.1),
        "DropBlock, regdrop_lite": ours.DropBlock2d(0.1, 7),
    }
    versions = provenance()
    if versions["torchvision"]:
        ops = importlib.import_module("torchvision.ops")
        found["DropPath, torchvision"] = ops.StochasticDepth(0.1, "row")
        found["DropBlock, torchvision"] = ops.DropBlock2d(0.1, 7)
    if versions["timm"]:
        timm = importlib.import_module("timm.layers")
        found["DropPath, timm"] = timm.DropPath(0.1)
        found["DropBlock, timm"] = timm.DropBlock2d(0.1, 7)
    return found


def seconds(step: Callable[[], Any]) -> float:
    """The median time of a step; the timer waits for the device."""
    timer = Timer("step()", globals={"step": step})
    return timer.blocked_autorange(min_run_time=0.02 if SMALL else 1.0).median


def main() -> None:
    """Measure and store."""
    shape = (4, 8, 14, 14) if SMALL else (128, 256, 14, 14)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(shape, device=DEVICE, dtype=dtype, requires_grad=True)
        for name, layer in layers().items():
            time = seconds(
                lambda layer=layer, x=x: layer(x).backward(torch.ones_like(x))
            )
            rows.append({"what": name, "dtype": str(dtype)[6:], "seconds": time})
    dim, depth = (16, 2) if SMALL else (768, 12)
    block = [
        nn.LayerNorm(dim),
        nn.Linear(dim, 4 * dim),
        nn.GELU(),
        nn.Linear(4 * dim, dim),
    ]
    branch = nn.Sequential(*block).to(DEVICE)
    tokens = torch.ones((8, 16, dim) if SMALL else (128, 197, dim), device=DEVICE)
    for mode in ("row", "subset"):
        for p in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):

            def step(mode: str = mode, p: float = p) -> None:
                x = tokens
                for _ in range(depth):
                    x = ours.drop_residual(x, branch, p, mode=mode)
                x.sum().backward()

            rows.append(
                {"what": f"{depth} MLPs, {mode}", "p": p, "seconds": seconds(step)}
            )
    stored = {"provenance": provenance(), "rows": rows}
    Path(sys.argv[1]).write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
