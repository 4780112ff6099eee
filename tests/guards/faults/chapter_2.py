"""Faults that chapter 2 has to catch."""

from faults import Fault

MAIN = "02_implicit_ensembles"
NOISE = "02b_implicit_ensembles_noise"
FORGETTING = "02f_implicit_ensembles_forgetting"
PASSES = "02g_implicit_ensembles_passes"
FLAT = "02d_implicit_ensembles_flatness"
DETAILS = "02e_implicit_ensembles_noise_details"
STACKED = "02h_implicit_ensembles_stacked"
ENSEMBLES = "course/ensembles.py"
PREDICTIONS = "course/measures/predictions.py"
FLATNESS = "course/measures/flatness.py"
KEEP = "    keep = sample_keep(shape, p, input.device, generator)\n"

FAULTS = [
    Fault(
        "scale of the layers forgotten",
        "_product.py",
        "weights = keep.to(input.dtype) * scale",
        "weights = keep.to(input.dtype)",
        STACKED,
        "the mean is kept",
    ),
    Fault(
        "mask noise that does not grow with x",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    return input + (keep / (1.0 - p) - 1.0)\n",
        STACKED,
        "mask noise grows with x",
    ),
    Fault(
        "pairs of channels share a mask",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep[:, 1::2] = keep[:, ::2]\n",
        DETAILS,
        "the noise of channel dropout",
        cell="the noise of",
    ),
    Fault(
        "DropPath decides for each channel",
        "drop_path.py",
        KEEP,
        KEEP + "    keep = torch.cat([keep, keep.roll(1, 0)], dim=1)\n",
        DETAILS,
        "the noise of path dropout",
        cell="the noise of",
    ),
    Fault(
        "one scale for all values of a block map",
        "_block_mask.py",
        "return torch.exp(table * -miss)",
        "return torch.full_like(table, 1.0 / (1.0 - blocks.p))",
        DETAILS,
        "the noise of block dropout",
        cell="the noise of",
    ),
    Fault(
        "p q instead of p / q",
        ENSEMBLES,
        "(p / (1 - p))",
        "(p * (1 - p))",
        DETAILS,
        "the variance is the quadratic form",
    ),
    Fault(
        "the covariance of blocks without its - 1",
        ENSEMBLES,
        "-together - 1",
        "-together",
        DETAILS,
        "the variance is the quadratic form",
    ),
    Fault(
        "blocks that cover one value too few",
        ENSEMBLES,
        "(value < place + block)",
        "(value < place + block - 1)",
        DETAILS,
        "the variance is the quadratic form",
    ),
    Fault(
        "channels that lose their blocks together",
        ENSEMBLES,
        "torch.block_diag(*[one] * channels)",
        "one.repeat(channels, channels)",
        DETAILS,
        "the variance is the quadratic form",
    ),
    Fault(
        "drop and keep probabilities swapped",
        ENSEMBLES,
        "torch.where(keep == 1, 1 - drop, drop)",
        "torch.where(keep == 1, drop, 1 - drop)",
        STACKED,
        "stacking keeps the mean",
    ),
    Fault(
        "all masks equally likely",
        ENSEMBLES,
        "torch.where(keep == 1, 1 - drop, drop).prod(dim=1)",
        "torch.full((2**groups,), 0.5**groups).double()",
        NOISE,
        "expected loss = loss + penalty",
    ),
    Fault(
        "a geometric mean that is not normalised",
        ENSEMBLES,
        "mean(members, probabilities).log_softmax(dim=1)",
        "mean(members, probabilities)",
        MAIN,
        "sums to 1, geometric mean",
        cell="sums to 1",
    ),
    Fault(
        "a geometric mean without weights",
        ENSEMBLES,
        "mean(members, probabilities)",
        "members.mean(dim=0)",
        MAIN,
        "one softmax layer: weight scaling is the geometric mean",
    ),
    Fault(
        "hidden units that are not scaled",
        ENSEMBLES,
        "* mask[:, None] * scale",
        "* mask[:, None]",
        PASSES,
        "one hidden layer: exact",
    ),
    Fault(
        "one mask for all layers",
        ENSEMBLES,
        "keep.split(widths, dim=1)",
        "[keep[:, : widths[0]]] * len(widths)",
        PASSES,
        "linear: exact",
    ),
    Fault(
        "Monte Carlo averages of logits",
        PREDICTIONS,
        "    sums = log_probabilities.logcumsumexp(dim=0)\n",
        "    sums = log_probabilities.cumsum(dim=0) / counts.view(-1, 1, 1)\n"
        "    return sums.log_softmax(dim=2)\n",
        PASSES,
        "Monte Carlo finds the exact mean",
    ),
    Fault(
        "Monte Carlo with one mask for all images",
        "spatial_dropout.py",
        KEEP,
        KEEP + "    keep = keep[:1]\n",
        PASSES,
        "Monte Carlo finds the exact mean",
    ),
    Fault(
        "directions normalised as a whole",
        FLATNESS,
        "numbers * (_filter_norms(weight) / _filter_norms(numbers))",
        "numbers * 0.1",
        FLAT,
        "filter-normalised steps survive a rescaling",
    ),
    Fault(
        "the curvature of the sum, not of the mean",
        FLATNESS,
        "    loss = F.cross_entropy(model(images), labels)\n    gradient =",
        "    loss = len(labels) * F.cross_entropy(model(images), labels)\n"
        "    gradient =",
        FLAT,
        "no loss, no curvature",
    ),
    Fault(
        "memorised and recovered swapped",
        PREDICTIONS,
        '"recovered": (predicted == true_labels)',
        '"recovered": (predicted == given_labels)',
        FORGETTING,
        "the threshold",
    ),
]
