"""Faults that chapter 3 has to catch."""

from faults import Fault

MAIN = "03_drop_path"
DETAILS = "03c_drop_path_computing_less"
GRADIENTS = "03d_drop_path_gradients"
NET = "03b_drop_path_in_a_net"
NOISE = "03e_drop_path_noise"
KEEP = "keep = sample_keep(shape, p, input.device, generator)\n"
SHAPE = "shape = [1] * input.dim()"
SCALE = "inverse_keep(p, input.dtype) if scale_by_keep else 1.0"
INDEX = "index = draws[1:].argsort()[: max(count, 1)].sort().values.to(input.device)"

FAULTS = [
    Fault(
        "path: scale forgotten",
        "drop_path.py",
        SCALE,
        "1.0",
        MAIN,
        "scaled, the mean is F; unscaled, it is q F",
    ),
    Fault(
        "path: scaled in any case",
        "drop_path.py",
        SCALE,
        "inverse_keep(p, input.dtype)",
        MAIN,
        "scaled, the mean is F; unscaled, it is q F",
    ),
    Fault(
        "path: p for 1 - p",
        "_random.py",
        "uniform(shape, device, generator) >= p",
        "uniform(shape, device, generator) < p",
        MAIN,
        "a sample is dropped with probability p",
    ),
    Fault(
        "path: mask per value",
        "drop_path.py",
        KEEP,
        KEEP
        + "    keep = keep.expand(input.shape).clone()\n"
        + "    keep.view(-1)[1::2] = keep.view(-1).roll(1)[1::2]\n",
        MAIN,
        "a sample falls as a whole, at any rank",
    ),
    Fault(
        "path: a mask of four dimensions",
        "drop_path.py",
        SHAPE,
        "shape = [1, 1, 1, 1]",
        MAIN,
        "function(torch.ones(shape), 0.5",
        cell="a sample falls as a whole, at any rank",
    ),
    Fault(
        "path: 0 times infinity for p = 1",
        "_product.py",
        "return (input if inplace else input.clone()).zero_()",
        "return input * 0.0 * float('inf')",
        MAIN,
        "p = 1 gives zeros, no NaN",
    ),
    Fault(
        "path: active in evaluation",
        "drop_path.py",
        "    if not training or p == 0.0:\n        return input\n    check_floating",
        "    if p == 0.0:\n        return input\n    check_floating",
        MAIN,
        "evaluation returns its input",
    ),
    Fault(
        "path: a copy for p = 0",
        "drop_path.py",
        "    if not training or p == 0.0:\n        return input\n    check_floating",
        "    if not training:\n        return input\n    check_floating",
        MAIN,
        "p = 0 returns its input",
    ),
    Fault(
        "path: row mode drops the batch",
        "drop_path.py",
        KEEP,
        KEEP + "    keep = keep[:1]\n",
        MAIN,
        "some fall, not all",
    ),
    Fault(
        "path: batch mode drops samples",
        "drop_path.py",
        'if mode == "row":',
        "if True:",
        NOISE,
        "the formula's variance",
    ),
    Fault(
        "path: samples fall in pairs",
        "drop_path.py",
        KEEP,
        KEEP
        + "    if input.shape[0] % 2 == 0 and mode == 'row':\n"
        + "        keep[1::2] = keep[::2]\n",
        NOISE,
        "the formula's variance",
    ),
    Fault(
        "path: the generator is ignored",
        "drop_path.py",
        KEEP,
        KEEP.replace("generator)", "None)"),
        MAIN,
        "not equal at p = 0.1",
        cell="not equal at p",
    ),
    Fault(
        "rates: 1-based",
        "schedules.py",
        "p_max * (i / max(total - 1, 1))",
        "p_max * ((i + 1) / total)",
        MAIN,
        "the rates of 1 blocks, linear",
        cell="the rates of {L} blocks",
    ),
    Fault(
        "rates: linear1 is 0-based",
        "schedules.py",
        "p_max * ((i + 1) / total)",
        "p_max * (i / total)",
        MAIN,
        "the rates of 1 blocks, linear1",
        cell="the rates of {L} blocks",
    ),
    Fault(
        "rates: anew in each stage",
        "schedules.py",
        "    remaining = iter(rates)\n",
        "    return [drop_path_rates(p_max, blocks, schedule) for blocks in stages]\n"
        "    remaining = iter(rates)\n",
        MAIN,
        "the depth counts through the stages",
    ),
    Fault(
        "block: the skip is dropped, too",
        "course/models/blocks.py",
        '        if self.placement == "branch":\n'
        "            out = self.drop(out)\n"
        "        out = out + self.skip(x)\n"
        '        if self.placement == "after_sum":\n',
        "        out = out + self.skip(x)\n        if True:\n",
        MAIN,
        "our block is the package's",
    ),
    Fault(
        "block: dropped in front of the norm and behind it",
        "course/models/blocks.py",
        'if self.placement == "branch":',
        'if self.placement in ("branch", "before_norm"):',
        MAIN,
        "in front of the norm, nothing is skipped",
    ),
    Fault(
        "measure: norms are added up",
        "course/measures/features.py",
        "math.hypot(*(next(gradients).norm().item() for _ in block)) for",
        "sum(next(gradients).norm().item() for _ in block) for",
        GRADIENTS,
        "our measure is the package's",
    ),
    Fault(
        "net: the rates from the last block to the first",
        "course/models/nets.py",
        "    return iter(layers)\n",
        "    return iter(layers[::-1])\n",
        NET,
        "the schedule reaches the blocks in order",
    ),
    Fault(
        "net: the rate decides about the weights",
        "course/models/nets.py",
        "            self.head = nn.Linear(channels, num_classes)\n"
        '        initialise(self.to(dtype), make_generator(seed, "weights"))\n',
        "            self.head = nn.Linear(channels, num_classes)\n"
        "        seed += int(10 * p)\n"
        '        initialise(self.to(dtype), make_generator(seed, "weights"))\n',
        NET,
        "the same initial weights at every rate",
    ),
    Fault(
        "subset: always the floor",
        "drop_residual.py",
        "    count += int(draws[0] < kept - count)\n",
        "",
        DETAILS,
        "each with q",
    ),
    Fault(
        "subset: the first samples",
        "drop_residual.py",
        INDEX,
        "index = torch.arange(max(count, 1), device=input.device)",
        DETAILS,
        "each with q",
    ),
    Fault(
        "subset: a row in disguise",
        "drop_residual.py",
        INDEX,
        "index = (draws[1:] >= p).nonzero().flatten().to(input.device)",
        DETAILS,
        "pairs follow the law of their mode",
    ),
    Fault(
        "subset: computes all",
        "drop_residual.py",
        "output = _call(branch, chosen.movedim(0, dim)).movedim(dim, 0)",
        "output = _same_shape(branch(input), input).movedim(dim, 0)[index]",
        DETAILS,
        "a mask hides nothing from the norm, the subset does",
    ),
    Fault(
        "subset: an empty call",
        "drop_residual.py",
        "return input.clone()",
        "return input + 0.0 * branch(input)",
        DETAILS,
        "an uncalled branch has no gradient at all",
    ),
    Fault(
        "ramp: one step behind",
        "schedules.py",
        "share = min(self._step / self.num_steps, 1.0)",
        "share = min(max(self._step - 1, 0) / self.num_steps, 1.0)",
        NET,
        "in a line, and no further than the end",
    ),
    Fault(
        "ramp: runs on",
        "schedules.py",
        "share = min(self._step / self.num_steps, 1.0)",
        "share = self._step / self.num_steps",
        NET,
        "in a line, and no further than the end",
    ),
    Fault(
        "ramp: forgets its step",
        "schedules.py",
        'self._step = state.pop("step")',
        'state.pop("step")',
        NET,
        "a resumed run goes on where it was",
    ),
    Fault(
        "path: the mask in bfloat16",
        "_random.py",
        "return uniform(shape, device, generator) >= p",
        "u = torch.rand(shape, dtype=torch.bfloat16, generator=generator)\n"
        "    return u >= p",
        NET,
        "the rate is p in every dtype",
    ),
]
