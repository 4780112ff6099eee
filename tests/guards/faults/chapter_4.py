"""Faults that chapter 4 has to catch."""

from faults import Fault

MAIN = "04_drop_block"
DETAILS = "04b_drop_block_details"
WEIGHTS = """\
    weights = torch.exp(
        _cover_table(size, block, border) * -_log_miss(size, block, p, border)
    )
"""
PAINTED = (
    "    output = multiply_and_paint(input, scale, seeds, block, border)\n"
    "    return input.copy_(output) if inplace else output\n"
)
BACKWARD = "        grad = multiply_and_paint(grad, *ctx.saved_tensors, *ctx.blocks)\n"

FAULTS = [
    Fault(
        "gamma as if blocks never overlapped",
        "drop_block.py",
        "    while True:\n        excess",
        "    return math.log1p(-p * total / sum(c * n for c, n in tally.items()))\n"
        "    while True:\n        excess",
        MAIN,
        "the package's gamma solves for p",
    ),
    Fault(
        "gamma of the first step of Newton",
        "drop_block.py",
        "        if not x - step < x:",
        "        if True:",
        MAIN,
        "the package's gamma solves for p",
    ),
    Fault(
        "keep table as if there were no border",
        "drop_block.py",
        "return (1.0 - gamma) ** _cover_table(size, block, border)",
        'return (1.0 - gamma) ** _cover_table(size, block, "clip")',
        MAIN,
        "P(keep) of every element",
    ),
    Fault(
        "one scale for all elements",
        "drop_block.py",
        WEIGHTS,
        WEIGHTS + "    weights = torch.full_like(weights, 1.0 / (1.0 - p))\n",
        MAIN,
        "E[y] = x for every element",
    ),
    Fault(
        "large weights in silence",
        "drop_block.py",
        "if largest > _LARGE_WEIGHT:",
        "if largest > 1e3 * _LARGE_WEIGHT:",
        DETAILS,
        "large weights are told once",
    ),
    Fault(
        "clip without its scale",
        "drop_block.py",
        "return torch.tensor(1.0 / (1.0 - p), dtype",
        "return torch.tensor(1.0, dtype",
        MAIN,
        "clip: one scale, 1/q",
    ),
    Fault(
        "clip with the gamma of valid",
        "drop_block.py",
        "log_miss = _log_miss(tuple(size), block, p, border)",
        'log_miss = _log_miss(tuple(size), block, p, "valid")',
        MAIN,
        "clip: E[y] = x for every element",
    ),
    Fault(
        "scale of the batch forgotten",
        "drop_block.py",
        "        keep.numel() / kept if kept else 0.0, dtype",
        "        1.0 if kept else 0.0, dtype",
        MAIN,
        "batch: the mean over the whole batch is kept",
    ),
    Fault(
        "weights where the batch should scale",
        "drop_block.py",
        '    if normalize == "batch":\n        scale = _batch_scale(keep, input.dtype)',
        '    if normalize == "none":\n        scale = _batch_scale(keep, input.dtype)',
        MAIN,
        "batch: the mean over the whole batch is kept",
    ),
    Fault(
        "blocks one element too small",
        "_apply.py",
        "(first + k).clamp(max=n)",
        "(first + k - int(k > 1)).clamp(max=n)",
        MAIN,
        "one mask comes as often as the law says",
    ),
    Fault(
        "blocks one element too large",
        "_apply.py",
        "(first + k).clamp(max=n)",
        "(first + k + (k > 1)).clamp(max=n)",
        DETAILS,
        "every mask comes as often as the law says",
        cell="no mask comes that the law forbids",
    ),
    Fault(
        "seeds twice as often as the rate says",
        "drop_block.py",
        "sample_seeds(math.prod(grid), log_miss,",
        "sample_seeds(math.prod(grid), 2.0 * log_miss,",
        DETAILS,
        "every mask comes as often as the law says",
    ),
    Fault(
        "one mask for the whole batch",
        "drop_block.py",
        PAINTED,
        PAINTED.replace(
            "    return input",
            "    output = output[:1].expand_as(output).detach() * input\n"
            "    return input",
        ),
        MAIN,
        "each sample draws its own mask",
    ),
    Fault(
        "one mask for all channels",
        "drop_block.py",
        PAINTED,
        PAINTED.replace(
            "    return input",
            "    output = output[:, :1].expand_as(output).detach() * input\n"
            "    return input",
        ),
        MAIN,
        "each channel draws its own mask",
    ),
    Fault(
        "shared is ignored",
        "drop_block.py",
        "grid = [input.shape[0], 1 if shared else input.shape[1]]",
        "grid = [input.shape[0], input.shape[1]]",
        MAIN,
        "shared: all maps lose one region",
    ),
    Fault(
        "dropped elements pass a gradient",
        "_apply.py",
        BACKWARD,
        BACKWARD.replace("multiply_and_paint", "multiply").replace(
            "*ctx.saved_tensors, *ctx.blocks", "ctx.saved_tensors[0]"
        ),
        MAIN,
        "the gradient is the mask times the weights",
    ),
    Fault(
        "blocks fall in eval mode",
        "drop_block.py",
        "if not training or p == 0.0:",
        "if p == 0.0:",
        MAIN,
        "in eval mode the layer returns its input",
    ),
    Fault(
        "a ramp that is one step late",
        "schedules.py",
        "share = min(self._step / self.num_steps, 1.0)",
        "share = min(max(self._step - 1, 0) / self.num_steps, 1.0)",
        MAIN,
        "p rises in equal steps",
    ),
    Fault(
        "a block as large as the map is made smaller",
        "drop_block.py",
        "tuple(min(k, n) for k, n in zip(block_size",
        "tuple(min(k, max(n - 1, 1)) for k, n in zip(block_size",
        DETAILS,
        "k >= H drops whole maps",
    ),
    Fault(
        "a ramp that forgets where it was",
        "schedules.py",
        '        self._step = state["step"]\n',
        "",
        DETAILS,
        "a resumed ramp goes on where it was",
    ),
    Fault(
        "a ramp that goes on beyond its end",
        "schedules.py",
        "layer.p = b if share == 1.0 else a + (b - a) * share",
        "layer.p = a + (b - a) * self._step / self.num_steps",
        DETAILS,
        "the ramp ends at p_end and stays there",
    ),
]
