"""Draw the card that a link to the site shows elsewhere: title and four masks.

The masks are those of ``one_idea.py``, the letters those of the site. Run
``python book/figures/card.py`` from the root of the repository after a change of
either; a test compares the stored picture with what this script makes.
"""

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
STATIC = HERE.parent / "_static"
OUT = STATIC / "card.png"
WIDTH, HEIGHT = 1200, 630  # what the sites ask for that show such cards
PAPER, INK, MUTED = "#ffffff", "#222832", "#48566b"
KEPT, DROPPED = "#0072b2", "#b34e00"
CELL, GAP, STEP, LEFT, TOP = 10, 7, 292, 32, 262


def one_idea() -> ModuleType:
    """The script that draws the masks of the first page."""
    spec = importlib.util.spec_from_file_location("one_idea", HERE / "one_idea.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def letters(size: int) -> ImageFont.FreeTypeFont:
    """The site's font for text, unpacked."""
    font = TTFont(STATIC / "fonts" / "source-serif-4.woff2")
    font.flavor = None
    data = io.BytesIO()
    font.save(data)
    data.seek(0)
    return ImageFont.truetype(data, size)


def draw() -> Image.Image:
    """The card."""
    card = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(card)
    pen.text((LEFT, 48), "Structured Dropout from Scratch", INK, letters(68))
    words = "Dropped together: a value, a map, a block, a branch"
    pen.text((LEFT, 142), words, MUTED, letters(38))
    for k, (name, (_, mask)) in enumerate(one_idea().masks().items()):
        left = LEFT + k * STEP
        pen.text((left, TOP - 56), name, INK, letters(34))
        side = mask.shape[-1] * CELL + GAP
        for n, c, i, j in torch.cartesian_prod(*map(torch.arange, mask.shape)).tolist():
            x, y = left + c * side + j * CELL, TOP + n * side + i * CELL
            box = (x, y, x + CELL - 2, y + CELL - 2)
            if mask[n, c, i, j]:
                pen.rectangle(box, KEPT)
            else:
                pen.rectangle(box, outline=DROPPED)
                pen.line((box[0], box[3], box[2], box[1]), DROPPED)
    words = "A course with a tested companion package for PyTorch"
    pen.text((LEFT, 556), words, MUTED, letters(38))
    return card.quantize(64)


if __name__ == "__main__":
    draw().save(OUT, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")
