"""Faults that chapter 1 has to catch."""

from faults import Fault

MAIN = "01_spatial_dropout"
PITFALLS = "01b_spatial_dropout_pitfalls"
KEEP = "keep = sample_keep(shape, p, input.device, generator)\n"
TEAR = """\
    keep = keep.expand(input.shape).flatten(2).clone()
    keep[..., 1::2] = keep.roll(1, 1)[..., 1::2]
    keep = keep.view(input.shape)
"""

FAULTS = [
    Fault(
        "scale forgotten",
        "_product.py",
        "weights = keep.to(input.dtype) * scale",
        "weights = keep.to(input.dtype)",
        MAIN,
        "kept means scaled by 1/q",
    ),
    Fault(
        "p for 1 - p",
        "_random.py",
        "uniform(shape, device, generator) >= p",
        "uniform(shape, device, generator) >= 1 - p",
        PITFALLS,
        "a channel is dropped with probability p",
    ),
    Fault(
        "mask per element",
        "spatial_dropout.py",
        KEEP,
        KEEP + TEAR,
        MAIN,
        "a channel has to fall as a whole",
    ),
    Fault(
        "mask shared by the batch",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep = keep[:1]\n",
        MAIN,
        "each sample draws its own mask",
    ),
    Fault(
        "mask shared by the channels",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep = keep[:, :1]\n",
        MAIN,
        "the channels do not all fall together",
    ),
    Fault(
        "channels fall in pairs",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep[:, 1::2] = keep[:, ::2]\n",
        PITFALLS,
        "channels fall independently",
    ),
    Fault(
        "active in eval",
        "spatial_dropout.py",
        "if not training or p == 0.0:",
        "if p == 0.0:",
        MAIN,
        "in eval mode the layer returns its input",
    ),
    Fault(
        "a copy for p = 0",
        "spatial_dropout.py",
        "    if not training or p == 0.0:\n        return input\n",
        "    if not training:\n        return input\n",
        MAIN,
        "p = 0 returns its input",
    ),
    Fault(
        "0 times infinity for p = 1",
        "_product.py",
        "return (input if inplace else input.clone()).zero_()",
        "return input * 0.0 * float('inf')",
        MAIN,
        "p = 1 gives zeros, no NaN",
    ),
    Fault(
        "the generator is ignored",
        "spatial_dropout.py",
        KEEP,
        KEEP.replace("generator)", "None)"),
        MAIN,
        "not equal at p = 0.1",
        cell="not equal at p",
    ),
    Fault(
        "scale rounded to bfloat16",
        "_product.py",
        "if input.dtype == wide(input.dtype):\n        weights",
        "if True:\n        weights",
        PITFALLS,
        "low precision must not bias the sum",
    ),
    Fault(
        "bfloat16 becomes float32",
        "_product.py",
        "output = scaled(input * keep.to(input.dtype), scale)",
        "output = scaled(input.float() * keep, scale)",
        PITFALLS,
        "the dtype is kept",
    ),
    Fault(
        "wrong axis for channel last",
        "spatial_dropout.py",
        'channel = check_dim(channel_dim, "channel_dim", input, besides=0)',
        "channel = 1",
        PITFALLS,
        "with channel_dim=-1 a channel falls for all tokens",
    ),
    Fault(
        "inplace is ignored",
        "_product.py",
        "return input.mul_(weights) if inplace else input * weights",
        "return input * weights",
        PITFALLS,
        "in place returns its input",
    ),
    Fault(
        "an image without a batch is accepted",
        "_checks.py",
        "if not least <= input.dim() <= most:",
        "if False:",
        PITFALLS,
        'SpatialDropout2d(0.5)(inputs["image',  # the cell that no longer stops
    ),
]
