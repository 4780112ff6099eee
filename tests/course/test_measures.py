"""Measures of trained nets: against closed forms, brute force and hand-made nets."""

import json
import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regdrop_lite import DropLayer, DropPath, SpatialDropout2d, set_generator
from regdrop_lite.course.augmentation import flip_labels
from regdrop_lite.course.data import as_tensors, make_generator
from regdrop_lite.course.evaluation import evaluate, predict, score
from regdrop_lite.course.measures import (
    MEASURES,
    Measure,
    Subject,
    ablate_channels,
    classification,
    delete_branch,
    effective_rank,
    ensemble,
    features,
    filter_normalised_direction,
    gradient_norms,
    measure_norms_again,
    memorisation,
    monte_carlo,
    occlude,
    perturbed_loss,
    residual_blocks,
    top_eigenvalue,
    top_hessian_eigenvalue,
)
from regdrop_lite.course.models import ResNetSmall, TinyCNN
from regdrop_lite.course.training import TrainConfig, train


def small_net(
    regulariser="spatial", p=0.3, dtype=torch.float64, seed=0, depths=(1,) * 3
):
    """A residual net whose running statistics are not those of the start."""
    model = ResNetSmall(
        regulariser=regulariser, p=p, depths=depths, seed=seed, dtype=dtype
    )
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.copy_(0.2 * torch.randn(len(values), generator=generator))
            for values in (module.running_var, module.weight.data):
                values.copy_(0.5 + torch.rand(len(values), generator=generator))
    return model.eval()


def state(model):
    """Everything a measure must leave as it was, beside the eval mode."""
    values = {name: x.clone() for name, x in model.state_dict().items()}
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
    ]
    generators = [m.generator for m in model.modules() if isinstance(m, DropLayer)]
    gradients = [p.grad for p in model.parameters()]
    return values, hooks, generators, gradients


def assert_untouched(model, before):
    values, *others = state(model)
    assert others == list(before[1:])
    assert not any(module.training for module in model.modules())
    for name, x in before[0].items():
        assert torch.equal(values[name], x), name


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 1, 28, 28, dtype=torch.float64, generator=generator)


@pytest.fixture
def labels():
    return torch.randint(10, (30,), generator=torch.Generator().manual_seed(2))


# --- predictions against labels -------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 2, 15, 100])
def test_calibration_is_the_sum_over_the_bins(bins):
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(400, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(5, (400,), generator=generator)
    q = np.exp(logits.numpy())
    q /= q.sum(axis=1, keepdims=True)
    confidence, right = q.max(axis=1), q.argmax(axis=1) == labels.numpy()
    expected = 0.0
    for b in range(bins):
        inside = (b / bins < confidence) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.sum() / 400 * gap
    found = classification(logits, labels, bins)
    assert expected > 0.01
    assert found["ece"] == pytest.approx(expected, rel=1e-12)
    assert found["accuracy"] == right.mean()
    nll = -np.log(q[np.arange(400), labels]).mean()
    assert found["nll"] == pytest.approx(nll, rel=1e-12)


def test_honest_and_overconfident_predictions():
    log_q = torch.tensor([[0.75, 0.25]] * 4, dtype=torch.float64).log()
    honest = classification(log_q, torch.tensor([0, 0, 0, 1]))
    assert honest["accuracy"] == 0.75
    assert honest["ece"] == pytest.approx(0, abs=1e-15)
    wrong = classification(log_q, torch.tensor([1, 1, 1, 1]))
    assert wrong["ece"] == pytest.approx(0.75)


def test_too_high_and_too_low_confidence_do_not_cancel_across_bins():
    log_q = torch.tensor([[0.6, 0.4], [0.9, 0.1]], dtype=torch.float64).log()
    found = classification(log_q, torch.tensor([0, 1]))
    assert found["ece"] == pytest.approx((0.4 + 0.9) / 2)
    together = classification(log_q, torch.tensor([0, 1]), bins=1)
    assert together["ece"] == pytest.approx(0.75 - 0.5)


def test_a_bin_ends_with_its_upper_edge():
    """Of two bins, a confidence of exactly 1/2 belongs to the lower one."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    found = classification(logits, torch.tensor([0, 1]), bins=2)
    assert found["ece"] == pytest.approx((0.5 + 0.75) / 2)


def test_classification_takes_impossible_classes_and_float32():
    log_q = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    found = classification(log_q, torch.tensor([0, 1]))
    assert found == {"accuracy": 1.0, "nll": 0.0, "ece": 0.0}


def test_classification_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="bins: expected at least 1, but got 0"):
        classification(torch.zeros(2, 3), torch.tensor([0, 1]), bins=0)
    with pytest.raises(ValueError, match=r"logits: expected the shape \(3, number"):
        classification(torch.zeros(2, 3), torch.tensor([0, 1, 2]))


def test_memorisation_counts_replaced_labels_only():
    true = torch.tensor([0, 0, 0, 0, 0, 1])
    given = torch.tensor([1, 1, 1, 1, 0, 1])
    predicted = torch.tensor([1, 0, 0, 2, 0, 0])
    assert memorisation(predicted, given, true) == {"memorised": 0.25, "recovered": 0.5}
    nothing = {"memorised": None, "recovered": None}
    assert memorisation(predicted, true, true) == nothing


def test_memorisation_refuses_other_shapes():
    message = r"predicted \(3,\), given_labels \(3,\) and true_labels \(2,\)"
    with pytest.raises(ValueError, match=message):
        memorisation(torch.zeros(3), torch.zeros(3), torch.zeros(2))


# --- damage ---------------------------------------------------------------------------


def test_residual_blocks_are_listed_in_order():
    model = ResNetSmall(depths=(1, 2, 1))
    expected = [block for stage in model.stages for block in stage]
    assert residual_blocks(model) == expected
    with pytest.raises(ValueError, match="class ResidualBlock, but Linear has none"):
        residual_blocks(nn.Linear(1, 1))


class Counting(nn.Module):
    """Its first logit is the sum of the channels that pass through ``place``."""

    def __init__(self):
        super().__init__()
        self.place = nn.Identity()

    def forward(self, x):
        x = self.place(x)
        assert torch.equal(x.amax((2, 3)), x.amin((2, 3))), "a channel goes as a whole"
        total = x[:, :, 0, 0].sum(dim=1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


@pytest.mark.parametrize("rescale", [False, True])
def test_each_channel_of_each_image_falls_with_the_share(
    rescale, generator, assert_law
):
    """20,000 images of 8 channels: the number left is binomial."""
    images = torch.ones(20_000, 8, 2, 2, dtype=torch.float64)
    model, share = Counting(), 0.3
    left = ablate_channels(
        model, images, [model.place], share, generator, rescale=rescale
    )[:, 0]
    if rescale:
        left = left * (1 - share)
    counts = left.round().long()
    assert torch.allclose(left, counts.double(), atol=1e-12)
    law = [math.comb(8, k) * 0.7**k * 0.3 ** (8 - k) for k in range(9)]
    assert_law(counts.bincount(minlength=9).tolist(), law)


def test_all_places_are_ablated_independently(generator, assert_law):
    """20,000 images of one channel through two places: 1 passes with 0.5 * 0.5."""
    inner = Counting()
    model = nn.Sequential(nn.Identity(), inner)
    images = torch.ones(20_000, 1, 1, 1, dtype=torch.float64)
    places = [model[0], inner.place]
    passed = ablate_channels(model, images, places, 0.5, generator)[:, 0]
    assert_law(passed.long().bincount(minlength=2).tolist(), [0.75, 0.25])


@pytest.mark.parametrize("rescale", [False, True])
def test_the_ends_of_the_ablation_are_the_whole_net_and_no_branch(
    rescale, images, generator
):
    model = small_net()
    before = state(model)
    places = [block.norm2 for block in residual_blocks(model)]
    whole = ablate_channels(model, images, places, 0.0, generator, rescale=rescale)
    assert torch.equal(whole, predict(model, images))
    none = ablate_channels(model, images, places, 1.0, generator, rescale=rescale)
    silent = deepcopy(model)
    for block in residual_blocks(silent):
        nn.init.zeros_(block.norm2.weight)
        nn.init.zeros_(block.norm2.bias)
    assert torch.equal(none, predict(silent, images))
    assert not torch.allclose(none, whole)
    assert_untouched(model, before)


def test_a_deleted_branch_leaves_the_skip(images):
    model = small_net(depths=(2, 1, 1))
    before = state(model)
    found = []
    for index, block in enumerate(residual_blocks(model)):
        silent = deepcopy(model)
        gone = residual_blocks(silent)[index]
        gone.forward = lambda x, gone=gone: F.relu(gone.skip(x))
        found.append(delete_branch(model, images, block))
        assert torch.equal(found[-1], predict(silent, images))
        assert not torch.allclose(found[-1], predict(model, images))
    assert not torch.allclose(found[0], found[1])
    assert_untouched(model, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x, g: ablate_channels(m, x, [residual_blocks(m)[0].norm2], 0.5, g),
        lambda m, x, g: delete_branch(m, x, residual_blocks(m)[0]),
        lambda m, x, g: features(m, x),
        lambda m, x, g: monte_carlo(m, x, g),
        lambda m, x, g: gradient_norms(m, x, torch.zeros(30, dtype=torch.int64), g),
    ],
    ids=["ablate_channels", "delete_branch", "features", "monte_carlo", "gradient"],
)
def test_an_error_leaves_the_model_as_it_was(call, images, generator):
    model = small_net()
    before = state(model)

    def fail(module, inputs):
        raise ArithmeticError("on purpose")

    handle = model.pool.register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        call(model, images, generator)
    handle.remove()
    assert_untouched(model, before)


def test_ablation_refuses_what_does_not_fit(images, generator):
    model = small_net()
    with pytest.raises(ValueError, match=r"share has to be between 0 and 1.*1\.5"):
        ablate_channels(model, images, [model.stem], 1.5, generator)
    with pytest.raises(ValueError, match="places: expected at least one module"):
        ablate_channels(model, images, [], 0.5, generator)


def test_every_position_of_the_square_has_the_same_chance(generator, assert_law):
    """6,000 images of 5 x 4 pixels: a square of 3 has 3 x 2 positions."""
    images = torch.randn(6000, 2, 5, 4, dtype=torch.float64, generator=generator)
    original = images.clone()
    covered = occlude(images, 3, generator, value=9.0)
    assert torch.equal(images, original)
    hidden = covered == 9.0
    assert torch.equal(covered[~hidden], images[~hidden])
    assert torch.equal(hidden[:, 0], hidden[:, 1]), "all channels alike"
    counts = []
    for top in range(3):
        for left in range(2):
            square = torch.zeros(5, 4, dtype=torch.bool)
            square[top : top + 3, left : left + 3] = True
            counts.append((hidden[:, 0] == square).all((1, 2)).sum().item())
    assert sum(counts) == 6000, "always a whole square"
    assert_law(counts, [1 / 6] * 6)


def test_the_ends_of_the_occlusion_are_nothing_and_everything(generator):
    images = torch.ones(3, 1, 4, 4)
    assert torch.equal(occlude(images, 0, generator), images)
    assert torch.equal(occlude(images, 4, generator), torch.zeros(3, 1, 4, 4))
    for size in (-1, 5):
        with pytest.raises(ValueError, match=f"expected 0 to 4 pixels, but got {size}"):
            occlude(images, size, generator)


# --- averages of predictions ----------------------------------------------------------


def test_monte_carlo_tends_to_the_mean_of_the_subnets(generator, assert_mean):
    """2,000 passes of a net with two subnets, kept (doubled) and dropped."""
    model = nn.Sequential(nn.Flatten(), DropPath(0.5)).double()
    logits = torch.tensor([[1.0, -0.5, 0.2]], dtype=torch.float64)
    averages = monte_carlo(model, logits, generator, passes=2000)
    kept, dropped = (2 * logits).softmax(1), torch.full((1, 3), 1 / 3).double()
    last = averages[-1].exp()[None]  # one draw of the mean of 2,000
    assert_mean(last, (kept + dropped) / 2, ((kept - dropped) / 2) ** 2 / 2000)
    first = averages[0].exp()
    assert torch.allclose(first, kept) or torch.allclose(first, dropped)


def test_monte_carlo_averages_the_probabilities_of_its_passes(images):
    """Brute force, with batch norm's running statistics and one stream of masks."""
    model = small_net("drop_block")
    before = state(model)
    global_state = torch.get_rng_state()
    found = monte_carlo(model, images, make_generator(0, "masks"), passes=5)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert_untouched(model, before)
    by_hand = deepcopy(model)
    set_generator(by_hand, make_generator(0, "masks"))
    for block in residual_blocks(by_hand):
        block.drop.train()
    with torch.no_grad():
        passes = [by_hand(images).softmax(dim=1) for _ in range(5)]
    for t in range(5):
        assert torch.allclose(found[t].exp(), sum(passes[: t + 1]) / (t + 1))
    assert not torch.allclose(passes[0], passes[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_monte_carlo_of_a_net_without_masks_is_one_pass(dtype, images, generator):
    model = small_net("none", 0.0, dtype)
    images = images.to(dtype)
    found = monte_carlo(model, images, generator, passes=3)
    expected = predict(model, images).double().log_softmax(dim=1)
    assert found.dtype == torch.float64 and found.shape == (3, 30, 10)
    for average in found:
        assert torch.allclose(
            average, expected, atol=1e-6 if dtype.itemsize == 4 else 0
        )
    with pytest.raises(ValueError, match="passes: expected at least 1, but got 0"):
        monte_carlo(model, images, generator, passes=0)


def test_an_ensemble_averages_probabilities(images):
    models = [small_net(seed=seed) for seed in range(3)]
    found = ensemble(iter(models), images)
    q = [predict(model, images).softmax(dim=1) for model in models]
    for m in range(3):
        assert torch.allclose(found[m].exp(), sum(q[: m + 1]) / (m + 1), rtol=1e-12)
    with pytest.raises(ValueError, match="models: expected at least one"):
        ensemble([], images)


def test_the_logarithm_of_an_average_survives_tiny_probabilities():
    """float64 has no number near e^-2000; the average's logarithm it has."""
    model = nn.Flatten()
    sure = torch.tensor([[0.0, -2000.0]], dtype=torch.float64)
    found = ensemble([model, model], sure)
    assert torch.equal(found, sure.expand(2, 1, 2))


# --- flatness -------------------------------------------------------------------------


def test_each_filter_of_the_direction_is_as_long_as_the_models(generator):
    model = small_net()
    with torch.no_grad():
        model.stem.conv.weight[2] = 0.0
    direction = filter_normalised_direction(model, generator)
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1}
    assert direction.keys() == weights.keys()
    for name, weight in weights.items():
        for filter_, d in zip(weight, direction[name], strict=True):
            assert d.norm().item() == pytest.approx(filter_.norm().item(), rel=1e-12)
    other = filter_normalised_direction(model, generator)["head.weight"]
    cosine = F.cosine_similarity(direction["head.weight"], other)
    assert (cosine.abs() < 0.9).all(), "another draw, another direction"


def test_a_direction_has_no_preference(assert_mean):
    """4,000 directions of a filter of length 1 in three dimensions."""
    model = nn.Linear(3, 1, bias=False).double()
    model.weight.data = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    generator = make_generator(0, "directions")
    draws = torch.cat(
        [filter_normalised_direction(model, generator)["weight"] for _ in range(4000)]
    )
    assert_mean(draws, 0.0, 1 / 3)
    assert_mean(draws**2, 1 / 3, 1 / 5 - 1 / 9)  # moments of a uniform point


def test_perturbed_loss_is_the_loss_of_the_moved_net(images, labels, generator):
    model = small_net()
    before = state(model)
    direction = filter_normalised_direction(model, generator)
    for radius in (0.0, 0.3, -0.3):
        moved = deepcopy(model)
        with torch.no_grad():
            for name, d in direction.items():
                moved.get_parameter(name).add_(radius * d)
            expected = F.cross_entropy(moved(images), labels).item()
        found = perturbed_loss(model, images, labels, direction, radius)
        assert found == pytest.approx(expected, rel=1e-12)
    assert_untouched(model, before)
    with pytest.raises(KeyError, match="unknown"):
        perturbed_loss(model, images, labels, {"unknown": torch.ones(1)}, 0.1)


@pytest.mark.parametrize(
    "spectrum",
    [
        [5.0, 1.0, 0.5, -1.0],
        [-9.0, -3.0, 2.0, 1.0],  # a larger negative one
        [-5.0, -4.0, -3.0, -1.0],  # all negative
        [2.0, 2.0, 2.0, -2.0],  # equal ones, of both signs
        [1e-9, 1e-10, 0.0, -1e-9],
        [3.0],
        [0.0, 0.0],
    ],
)
def test_the_top_eigenvalue_is_the_largest_by_sign(spectrum, generator):
    values = torch.tensor(spectrum, dtype=torch.float64)
    n = len(values)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator).double()).Q
    matrix = basis @ values.diag() @ basis.T
    found = top_eigenvalue(matrix.mv, n, generator, tol=1e-10)
    assert found == pytest.approx(values.max().item(), rel=1e-9, abs=1e-18)


def test_the_tolerance_of_the_top_eigenvalue_holds_and_spares_products(generator):
    """A spread spectrum of 300 eigenvalues, against the exact ones."""
    half = torch.randn(300, 300, dtype=torch.float64, generator=generator)
    matrix = half + half.T
    exact = torch.linalg.eigvalsh(matrix)
    used = []
    for tol in (0.3, 1e-2, 1e-6):
        calls = []

        def product(v, calls=calls):
            calls.append(1)
            return matrix @ v

        found = top_eigenvalue(product, 300, generator, tol=tol, max_steps=300)
        assert abs(found - exact.max()) <= tol * exact.abs().max()
        used.append(len(calls))
    assert used[0] < used[1] < used[2] < 150


def test_too_few_products_are_an_error(generator):
    matrix = torch.linspace(-1, 1, 50, dtype=torch.float64).diag()
    with pytest.raises(RuntimeError, match=r"tolerance of 1e-08 after 3 products"):
        top_eigenvalue(matrix.mv, 50, generator, tol=1e-8, max_steps=3)


class Curved(nn.Module):
    """A net with convolution, batch norm and relu, small enough for its Hessian."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.drop = SpatialDropout2d(0.5)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).relu()).mean((2, 3)))


def exact_hessian(model, images, labels):
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [model.get_parameter(name).detach() for name in names]
    sizes = [p.numel() for p in parameters]

    def loss(flat):
        parts = [
            part.view_as(p)
            for part, p in zip(flat.split(sizes), parameters, strict=True)
        ]
        replaced = dict(zip(names, parts, strict=True))
        logits = torch.func.functional_call(model, replaced, (images,))
        return F.cross_entropy(logits, labels)

    flat = torch.cat([p.flatten() for p in parameters])
    return torch.autograd.functional.hessian(loss, flat)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_top_curvature_is_that_of_the_exact_hessian(frozen, generator):
    model = Curved().double().eval()
    model.conv.weight.requires_grad_(not frozen)
    images = torch.randn(20, 1, 6, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (20,), generator=generator)
    before = state(model)
    exact = torch.linalg.eigvalsh(exact_hessian(model, images, labels))
    found = top_hessian_eigenvalue(model, images, labels, generator, tol=1e-9)
    assert exact.min() < -1e-4, "not convex, so the sign matters"
    assert found == pytest.approx(exact.max().item(), rel=1e-8)
    assert_untouched(model, before)
    single = top_hessian_eigenvalue(
        model.float(), images.float(), labels, generator, tol=1e-5
    )
    assert single == pytest.approx(exact.max().item(), rel=1e-4)


def test_the_curvature_of_logistic_regression_has_a_closed_form(generator):
    """The Hessian is the mean of (diag(q) - q q^T) ⊗ x x^T."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double()
    images = torch.randn(50, 1, 2, 2, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (50,), generator=generator)
    hessian = torch.zeros(12, 12, dtype=torch.float64)
    for x, q in zip(images.flatten(1), model(images).softmax(1).detach(), strict=True):
        hessian += torch.kron(q.diag() - q.outer(q), x.outer(x)) / 50
    found = top_hessian_eigenvalue(model, images, labels, generator, tol=1e-9)
    assert found == pytest.approx(torch.linalg.eigvalsh(hessian).max().item(), rel=1e-8)


def test_gradient_measures_refuse_what_does_not_fit(images, labels, generator):
    model = small_net()
    for measure in (top_hessian_eigenvalue, gradient_norms):
        with pytest.raises(TypeError, match=r"expected the model's torch\.float64"):
            measure(model, images.float(), labels, generator)
        with pytest.raises(ValueError, match=r"but got \(30, 1, 28, 28\) and \(29,\)"):
            measure(model, images, labels[1:], generator)


# --- features and gradients -----------------------------------------------------------


def test_features_are_what_the_head_sees(images):
    model = small_net()
    before = state(model)
    many = images.repeat(5, 1, 1, 1)  # more than one batch
    found = features(model, many)
    with torch.no_grad():
        expected = model.stages(model.stem(many)).mean((2, 3))
    assert torch.allclose(found, expected, rtol=1e-10)
    assert_untouched(model, before)
    with pytest.raises(ValueError, match="named head, but Flatten has none"):
        features(nn.Flatten(), images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_effective_rank_of_known_singular_values(dtype, generator):
    """Roy and Vetterli's definition, for features with a spectrum made by hand."""
    values = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    left = torch.randn(40, 4, dtype=torch.float64, generator=generator)
    left = torch.linalg.qr(left - left.mean(0)).Q  # columns stay centred
    right = torch.linalg.qr(torch.randn(6, 6, generator=generator).double()).Q[:4]
    spread = left @ values.diag() @ right
    shifted = (3 * spread + 10.0).to(dtype)
    # Entropy of 1/2, 1/4, 1/8, 1/8: 1.75 bits.
    assert effective_rank(shifted) == pytest.approx(2**1.75, rel=1e-5)


def test_effective_rank_counts_equal_directions():
    line = torch.arange(10.0)[:, None] * torch.tensor([1.0, -2.0, 0.5])
    assert effective_rank(line + 7) == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.eye(8) + 3) == pytest.approx(7, rel=1e-9)


def test_effective_rank_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="rows that differ, but all are equal"):
        effective_rank(torch.full((5, 3), 0.1))
    with pytest.raises(ValueError, match=r"but got \(2, 3, 4\)"):
        effective_rank(torch.zeros(2, 3, 4))


def test_gradient_norms_are_those_of_a_training_step(images, labels):
    model = small_net("drop_path", 0.5, depths=(1, 2, 1))
    before = state(model)
    found = gradient_norms(model, images, labels, make_generator(0, "masks"))
    assert_untouched(model, before)
    by_hand = deepcopy(model).train()
    set_generator(by_hand, make_generator(0, "masks"))
    F.cross_entropy(by_hand(images), labels).backward()
    expected = [
        torch.cat([p.grad.flatten() for p in block.parameters()]).norm().item()
        for block in residual_blocks(by_hand)
    ]
    assert found == pytest.approx(expected, rel=1e-12)
    assert len(set(found)) == 4


def test_norms_measured_again_are_those_of_batches_without_masks(images):
    model = small_net("spatial", 0.5)
    before = state(model)
    again = measure_norms_again(model, images, batch_size=5)
    assert_untouched(model, before)
    assert not any(module.training for module in again.modules())
    first = again.stem.norm
    with torch.no_grad():
        seen = [again.stem.conv(part) for part in images.chunk(-(-len(images) // 5))]
    means = torch.stack([part.mean((0, 2, 3)) for part in seen]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in seen]).mean(0)
    assert torch.allclose(first.running_mean, means, rtol=1e-10)
    assert torch.allclose(first.running_var, variances, rtol=1e-10)
    assert [m.momentum for m in again.modules() if isinstance(m, nn.BatchNorm2d)] == [
        m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)
    ]
    twice = measure_norms_again(again, images, batch_size=5)
    assert all(
        torch.equal(a, b) for a, b in zip(again.buffers(), twice.buffers(), strict=True)
    )


def test_the_shift_of_a_known_net_is_found_and_cured():
    """Mean 2, variance 1, half dropped: evaluation has a sixth of the variance."""
    x = 2 + torch.randn(
        400, 8, 3, 3, dtype=torch.float64, generator=make_generator(0, "x")
    )
    torch.manual_seed(0)
    drop = SpatialDropout2d(0.5)
    net = nn.Sequential(drop, nn.BatchNorm2d(8, momentum=None, affine=False)).double()
    for part in x.split(40):
        net.train()(part)
    spread = net.eval()(x).var((0, 2, 3))
    assert (spread < 0.25).all(), "about 1 / 6"
    cured = measure_norms_again(net, x, batch_size=400)(x).var((0, 2, 3))
    assert torch.allclose(cured, torch.ones(8).double(), atol=1e-4)


def test_norms_that_cannot_be_measured_are_told(images):
    with pytest.raises(ValueError, match="but Flatten has none"):
        measure_norms_again(nn.Flatten(), images)
    with pytest.raises(ValueError, match="at least two, but got 1"):
        measure_norms_again(small_net(), images[:1])


# --- the measures of the study --------------------------------------------------------


def subject_of(data, model, **changes):
    noise = make_generator(0, "label noise")
    given = flip_labels(data.train.labels, 10, 0.3, noise)
    return replace(Subject(model, data, "test", given, 0), **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_gives_finite_numbers_and_repeats_itself(name, dtype, data):
    model = small_net(dtype=dtype)
    before = state(model)
    global_state = torch.get_rng_state()
    subject = subject_of(data, model)
    found = MEASURES[name](subject)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert_untouched(model, before)
    assert json.loads(json.dumps(found)) == found
    for values in found.values():
        for value in values if isinstance(values, list) else [values]:
            assert isinstance(value, float) and math.isfinite(value)
    assert MEASURES[name](subject) == found, "a second time gives the same"


def test_curves_have_one_value_for_each_place_on_the_axis(data):
    model = small_net(depths=(1, 2, 1))
    found = {}
    for measure in MEASURES.values():
        result = measure(subject_of(data, model))
        assert not found.keys() & result.keys(), "one dictionary can hold them all"
        found |= result
    lengths = {key: len(x) for key, x in found.items() if isinstance(x, list)}
    assert lengths == {
        "ablated_share": 4,
        "ablated_branch_accuracy": 4,
        "ablated_branch_rescaled_accuracy": 4,
        "ablated_stem_accuracy": 4,
        "deleted_block_accuracy": 4,
        "occlusion_size": 5,
        "occlusion_accuracy": 5,
        "mc_passes": 5,
        "mc_accuracy": 5,
        "mc_nll": 5,
        "mc_ece": 5,
        "perturbation_radius": 5,
        "perturbation_loss": 5,
        "gradient_norm": 4,
    }
    # With fewer images than a measure would draw, it takes all of them.
    accuracy = evaluate(model, data.test).accuracy
    for key in (
        "ablated_branch_accuracy",
        "ablated_stem_accuracy",
        "occlusion_accuracy",
    ):
        assert found[key][0] == accuracy
    assert found["accuracy"] == found["mc_off_accuracy"] == accuracy
    assert found["deleted_none_accuracy"] == accuracy


def test_the_curves_are_those_of_the_functions(data):
    model = small_net()
    images, labels = as_tensors(data.test)
    found = MEASURES["monte_carlo"](subject_of(data, model))
    masks = make_generator(0, "measure monte_carlo")
    averages = monte_carlo(model, images, masks, passes=16)
    assert found["mc_passes"] == [1, 2, 4, 8, 16]
    expected = [score(averages[t - 1], labels).loss for t in (1, 2, 4, 8, 16)]
    assert found["mc_nll"] == pytest.approx(expected, rel=1e-12)
    found = MEASURES["ablated_channels"](subject_of(data, model))
    branches = [block.norm2 for block in residual_blocks(model)]
    for name, places, rescale in (
        ("branch", branches, False),
        ("branch_rescaled", branches, True),
        ("stem", [model.stem], False),
    ):
        chance = make_generator(0, "measure ablated_channels")
        logits = [
            ablate_channels(model, images, places, share, chance, rescale=rescale)
            for share in found["ablated_share"]
        ]
        expected = [score(x, labels).accuracy for x in logits]
        assert found.pop(f"ablated_{name}_accuracy") == expected
        assert expected not in found.values(), "three different curves"


def test_the_other_curves_are_those_of_the_functions(data):
    model = small_net()  # trained a little: else it names one class for all images
    config = TrainConfig(epochs=4, batch_size=20, lr=0.05, seed=0, device="cpu")
    train(model, data, config)
    model.eval()
    subject = subject_of(data, model)
    images, labels = as_tensors(data.test)

    found = MEASURES["deleted_blocks"](subject)["deleted_block_accuracy"]
    nets = [delete_branch(model, images, block) for block in residual_blocks(model)]
    assert found == [score(logits, labels).accuracy for logits in nets]
    assert len(set(found)) > 1, "the order of the blocks could be told"

    found = MEASURES["occlusion"](subject)
    chance = make_generator(0, "measure occlusion")
    assert found["occlusion_size"] == [0, 5, 10, 15, 20]
    covered = [occlude(images, side, chance) for side in (0, 5, 10, 15, 20)]
    accuracies = [score(predict(model, x), labels).accuracy for x in covered]
    assert found["occlusion_accuracy"] == accuracies

    found = MEASURES["perturbation"](subject)
    batch = subject.trained(250)
    chance = make_generator(0, "measure perturbation")
    ways = [filter_normalised_direction(model, chance) for _ in range(3)]
    for radius, loss in zip(
        found["perturbation_radius"], found["perturbation_loss"], strict=True
    ):
        losses = torch.tensor([perturbed_loss(model, *batch, d, radius) for d in ways])
        assert loss == pytest.approx(losses.double().mean().item(), rel=1e-6)
    assert found["perturbation_radius"] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert len(set(found["perturbation_loss"])) == 5

    rank = MEASURES["effective_rank"](subject)["effective_rank"]
    assert rank == effective_rank(features(model, images))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_predictions_are_judged_on_the_split_asked_for(split, data):
    model = small_net()
    expected = evaluate(model, getattr(data, split))
    found = MEASURES["classification"](subject_of(data, model, split=split))
    assert found["accuracy"] == expected.accuracy
    assert found["nll"] == pytest.approx(expected.loss, rel=1e-12)


def test_measures_on_training_images_use_the_labels_given(data):
    """After a run with label noise, they agree with what the run recorded."""
    model = TinyCNN(seed=0)
    config = TrainConfig(epochs=2, batch_size=20, label_noise=0.3, seed=0, device="cpu")
    (*_, last) = train(model, data, config).epochs
    subject = subject_of(data, model)
    memory = MEASURES["memorisation"](subject)
    assert memory == {"memorised": last.memorised, "recovered": last.recovered}
    start = MEASURES["perturbation"](subject)["perturbation_loss"][0]
    assert start == pytest.approx(last.train_loss, rel=1e-12)
    images, labels = as_tensors(data.train)
    batch = (images, subject.given_labels)
    generator = make_generator(0, "another")
    sharpness = MEASURES["hessian"](subject)["hessian_top_eigenvalue"]
    exact = top_hessian_eigenvalue(model, *batch, generator, tol=1e-3)
    assert sharpness == pytest.approx(exact, rel=0.01)
    pull = MEASURES["gradient_norm"](subject)["gradient_norm"]
    assert pull == pytest.approx(gradient_norms(model, *batch, generator), rel=1e-12)
    clean = replace(subject, given_labels=data.train.labels)
    assert MEASURES["memorisation"](clean) == {"memorised": None, "recovered": None}
    assert gradient_norms(model, images, labels, generator) != pytest.approx(pull)


def test_the_seed_draws_the_images_and_the_noise(data):
    model = small_net()
    few, same, other = (
        subject_of(data, model, seed=seed).judged(20)[0] for seed in (0, 0, 1)
    )
    assert len(few) == 20
    assert torch.equal(few, same)
    assert not torch.equal(few, other)
    first, second = (
        MEASURES["perturbation"](subject_of(data, model, seed=seed)) for seed in (0, 1)
    )
    assert first["perturbation_loss"][1:] != second["perturbation_loss"][1:]


def test_drawn_images_keep_their_labels(data):
    subject = subject_of(data, small_net())
    whole, labels = as_tensors(data.train)
    assert not torch.equal(labels, subject.given_labels)
    for x, label in zip(*subject.trained(20), strict=True):
        (position,) = (whole == x).all(dim=(1, 2, 3)).nonzero().flatten().tolist()
        assert subject.given_labels[position] == label


def test_a_subject_refuses_what_does_not_fit(data):
    model, labels = small_net(), data.train.labels
    with pytest.raises(ValueError, match="split has to be one of 'validation', 'test'"):
        Subject(model, data, "train", labels, 0)
    message = r"given_labels: expected torch\.int64 of shape \(60,\), but got "
    with pytest.raises(ValueError, match=message + r"torch\.int64 of shape \(59,\)"):
        Subject(model, data, "test", labels[1:], 0)
    with pytest.raises(ValueError, match=message + r"torch\.float32"):
        Subject(model, data, "test", labels.float(), 0)


@pytest.mark.parametrize("measure", [monte_carlo, gradient_norms])
def test_layers_get_back_the_generators_they_had(measure, images):
    model = small_net()
    layers = [m for m in model.modules() if isinstance(m, DropLayer)]
    own = [torch.Generator(), None, torch.Generator()]
    for layer, generator in zip(layers, own, strict=True):
        layer.generator = generator
    labels = () if measure is monte_carlo else (torch.zeros(30, dtype=torch.int64),)
    measure(model, images, *labels, make_generator(0, "masks"))
    assert all(x.generator is g for x, g in zip(layers, own, strict=True))

    def fail(*_):
        raise KeyboardInterrupt

    model.head.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        measure(model, images, *labels, make_generator(0, "masks"))
    assert all(x.generator is g for x, g in zip(layers, own, strict=True))
    assert not model.training


def test_a_measure_that_gives_other_metrics_than_it_declares_is_refused(data):
    wrong = Measure(lambda subject: {"b": 1.0}, ("a",))
    with pytest.raises(RuntimeError, match="expected the metrics a, but got b"):
        wrong(subject_of(data, small_net()))
