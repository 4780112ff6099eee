"""Faults of the tools that chapter 6 has to catch."""

from faults import Fault

MAIN = "06_in_practice"
KEEP = "keep = sample_keep(shape, p, input.device, generator)\n"

FAULTS = [
    Fault(
        "tools: every layer is a block of its own",
        "tools/_replace.py",
        "            return holder\n",
        "            return name\n",
        MAIN,
        "6 layers, but got 3",
        cell="one for each block",
    ),
    Fault(
        "audit: one mask for the batch",
        "drop_path.py",
        KEEP,
        KEEP + "    keep = keep[:1].expand_as(keep) if batch_dim == 0 else keep\n",
        MAIN,
        "assert report.warnings == []",
    ),
    Fault(
        "audit: layers in plain lists are passed by",
        "tools/_audit.py",
        "self.outside = in_plain_lists(model)",
        "self.outside = {}",
        MAIN,
        "any(word in text for text in warnings)",
    ),
    Fault(
        "ramp: begins again after a checkpoint",
        "schedules.py",
        'self._step = state.pop("step")',
        'state.pop("step")',
        MAIN,
        "the same weights, to the last bit",
    ),
]
