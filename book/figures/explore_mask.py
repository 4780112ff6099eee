"""Write what the interactive figure "mask" shows: four photographs as edge maps.

Run ``python book/figures/explore_mask.py`` from the root of the repository after a change;
a test compares the stored files with what this script makes.

``book/explore/mask.json`` has for each of four photographs four maps of 14 by 14 values,
each value one hexadecimal digit. ``book/explore/mask.svg`` is the picture for a page on
which no script runs: one draw of each of the four layers.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from regdrop_lite import drop_block, drop_path, spatial_dropout
from regdrop_lite.course.data import load_data

FOLDER = Path(__file__).resolve().parents[1] / "explore"
SAMPLES = {"ankle boot": 0, "shirt": 12, "trouser": 4, "bag": 16}
SIZE, P, BLOCK, SEED = 14, 0.25, 5, 6


def maps() -> Tensor:
    """Four edge maps of four photographs, (4, 4, 14, 14), digits 0 to 15."""
    angle = torch.arange(4).view(4, 1, 1) * math.pi / 2
    y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing="ij")
    bell = torch.exp(-(x**2 + y**2) / 2)
    bank = ((angle.cos() * x + angle.sin() * y) * bell).double()
    images = load_data().train.images[list(SAMPLES.values())].double() / 255
    edges = F.avg_pool2d(F.relu(F.conv2d(images, bank[:, None], padding=2)), 2)
    largest = edges.amax(dim=(1, 2, 3), keepdim=True)
    return (15 * (edges / largest) ** 0.7).round().to(torch.int64)


def contents() -> dict[str, object]:
    """What the module reads."""
    rows = maps().flatten(2).tolist()
    hexadecimal = [["".join(f"{v:x}" for v in row) for row in maps] for maps in rows]
    return {"samples": list(SAMPLES), "maps": hexadecimal}


if __name__ == "__main__":
    text = json.dumps(contents(), indent=1) + "\n"
    (FOLDER / "mask.json").write_text(text, encoding="utf-8", newline="\n")
