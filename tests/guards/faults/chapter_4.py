"""Faults that chapter 4 has to catch."""

from faults import Fault

MAIN = "04_drop_block"
NETS = "04b_drop_block_details"
INSIDE = "04c_drop_block_inside"
TOGETHER = "04d_drop_block_together"
PAINTED = "        output = painted(input, scale, seeds, blocks)\n"
PLACE = "torch.arange(line, device=seeds.device)\n"

FAULTS = [
    Fault(
        "gamma as if blocks never overlapped",
        "drop_block_gamma.py",
        "    while True:\n        excess",
        "    return math.log1p(-p * total / sum(c * n for c, n in tally.items()))\n"
        "    while True:\n        excess",
        MAIN,
        "the package's gamma solves for p",
    ),
    Fault(
        "gamma of the first step of Newton",
        "drop_block_gamma.py",
        "        if not x - step < x:",
        "        if True:",
        MAIN,
        "the package's gamma solves for p",
    ),
    Fault(
        "keep table as if there were no border",
        "drop_block_gamma.py",
        "table = cover_table(sizes, block, border,",
        'table = cover_table(sizes, block, "clip",',
        MAIN,
        "P(keep) of every element",
    ),
    Fault(
        "one scale for all elements",
        "_block_mask.py",
        "return torch.exp(table * -miss)",
        "return torch.full_like(table, 1.0 / (1.0 - blocks.p))",
        MAIN,
        "E[y] = x for every element",
    ),
    Fault(
        "large weights in silence",
        "_block_mask.py",
        "if largest > _LARGE_WEIGHT:",
        "if largest > 1e3 * _LARGE_WEIGHT:",
        INSIDE,
        "large weights are told once",
    ),
    Fault(
        "clip without its scale",
        "_block_mask.py",
        "return inverse_keep(blocks.p, dtype)",
        "return 1.0",
        MAIN,
        "clip: one scale, 1/q",
    ),
    Fault(
        "clip with the gamma of valid",
        "_block_mask.py",
        "*places], block, log_miss(size, block, blocks.p, blocks.border)",
        '*places], block, log_miss(size, block, blocks.p, "valid")',
        MAIN,
        "clip: E[y] = x for every element",
    ),
    Fault(
        "scale of the batch forgotten",
        "_block_mask.py",
        "return keep.numel() / int(kept)",
        "return 1.0",
        INSIDE,
        "batch: the mean over the whole batch is kept",
    ),
    Fault(
        "weights where the batch should scale",
        "drop_block.py",
        '        if normalize == "batch":',
        '        if normalize == "none":',
        INSIDE,
        "batch: the mean over the whole batch is kept",
    ),
    Fault(
        "blocks one element too small",
        "_block_mask.py",
        PLACE,
        PLACE.replace("line", "max(line - 1, 1)"),
        MAIN,
        "one mask comes as often as it should",
    ),
    Fault(
        "blocks one element too large",
        "_block_mask.py",
        PLACE,
        PLACE.replace("line", "line + (line > 1)")
        + "        place = place.clamp(max=n - 1 + (k - 1) * clip)\n",
        TOGETHER,
        "every mask comes as often as it should",
        cell="no mask comes that cannot occur",
    ),
    Fault(
        "seeds twice as often as the rate says",
        "_block_mask.py",
        "sample_seeds(math.prod(grid), miss,",
        "sample_seeds(math.prod(grid), 2.0 * miss,",
        TOGETHER,
        "every mask comes as often as it should",
    ),
    Fault(
        "one mask for the whole batch",
        "drop_block.py",
        PAINTED,
        PAINTED + "        output = output[:1].expand_as(output).clone()\n",
        MAIN,
        "each sample draws its own mask",
    ),
    Fault(
        "one mask for all channels",
        "drop_block.py",
        PAINTED,
        PAINTED + "        output = output[:, :1].expand_as(output).clone()\n",
        MAIN,
        "each channel draws its own mask",
    ),
    Fault(
        "shared is ignored",
        "_block_mask.py",
        "like = input[:, :1] if blocks.shared else input",
        "like = input",
        MAIN,
        "shared: all maps lose one region",
    ),
    Fault(
        "dropped elements pass a gradient",
        "_painted.py",
        "return painted(grads[0], scale, seeds, ctx.blocks)",
        "return painted(grads[0], scale, None, ctx.blocks)",
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
        "drop_block_gamma.py",
        "tuple(min(k, n) for k, n in zip(block, size",
        "tuple(min(k, max(n - 1, 1)) for k, n in zip(block, size",
        INSIDE,
        "gamma is p at the ends",
    ),
    Fault(
        "a ramp that forgets where it was",
        "schedules.py",
        'self._step = state.pop("step")',
        'state.pop("step")',
        NETS,
        "a resumed ramp goes on where it was",
    ),
    Fault(
        "a ramp that goes on beyond its end",
        "schedules.py",
        "share = min(self._step / self.num_steps, 1.0)",
        "share = self._step / self.num_steps",
        NETS,
        "the ramp ends at p_end and stays there",
    ),
]
