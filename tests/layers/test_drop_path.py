"""DropPath: its law, the residual block that skips dropped samples, rates by depth."""

import itertools
import math
import re
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regdrop_lite import DropPath, drop_path, drop_path_rates, drop_residual

SEED = 20261122  # fixed before the first run


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


# --------------------------------------------------------------------------- drop_path


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.sampled_from(["row", "batch"]),
    st.booleans(),
    st.floats(0.01, 0.99),
)
def test_result_is_the_input_times_one_uniform_comparison_per_path(
    shape, mode, scale_by_keep, p
) -> None:
    """For any number of dimensions; the reference walks over the samples."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()
    draws = shape[0] if mode == "row" else 1
    u = torch.rand(draws, dtype=torch.float64, generator=seeded())
    expected = torch.zeros_like(x)
    for n in range(shape[0]):
        if u[n % draws] >= p:
            expected[n] = x[n] / (1.0 - p) if scale_by_keep else x[n]
    layer = DropPath(p, mode=mode, scale_by_keep=scale_by_keep)
    layer.generator = seeded()
    torch.testing.assert_close(layer(x), expected, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_samples_fall_independently_in_row_mode(p, generator, assert_law) -> None:
    """All 16 patterns of four samples, 20,000 times."""
    y = drop_path(torch.ones(80_000, 2), p, generator=generator)
    dropped = (y == 0).all(1).view(20_000, 4).long()
    patterns = (dropped * torch.tensor([8, 4, 2, 1])).sum(1).bincount(minlength=16)
    ones = [i.bit_count() for i in range(16)]
    assert_law(patterns.tolist(), [p**k * (1 - p) ** (4 - k) for k in ones])


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_whole_batch_falls_with_probability_p_in_batch_mode(p, generator) -> None:
    """4,000 batches of eight, within four sigma."""
    x, falls = torch.ones(8, 2), 0
    for _ in range(4_000):
        y = drop_path(x, p, mode="batch", generator=generator)
        assert (y == 0).all() or torch.allclose(y, x / (1 - p))
        falls += int(not y.any())
    assert abs(falls - 4_000 * p) <= 4.0 * math.sqrt(4_000 * p * (1.0 - p))


@pytest.mark.parametrize("p", [1e-4, 0.05, 0.3, 0.99])
def test_rate_is_p(p, generator) -> None:
    """1,000,000 samples, within four sigma."""
    dropped = (drop_path(torch.ones(1_000_000), p, generator=generator) == 0).sum()
    assert abs(dropped - 1e6 * p) <= 4.0 * math.sqrt(1e6 * p * (1.0 - p))


def test_without_scaling_the_expectation_is_the_input_times_one_minus_p(
    generator, assert_mean
) -> None:
    """40,000 samples."""
    x = torch.randn(3, generator=generator).expand(40_000, 3)
    y = drop_path(x, 0.3, scale_by_keep=False, generator=generator)
    assert_mean(y, x[0] * 0.7, x[0] ** 2 * 0.3 * 0.7)


def test_a_path_may_have_as_many_dimensions_as_pytorch_computes_with() -> None:
    for layer in (drop_path, lambda x, p: drop_residual(x, torch.zeros_like, p)):
        x = torch.ones([8] + [1] * 63)
        assert layer(x, 0.5).shape == x.shape
        with pytest.raises(ValueError, match="but got 65 dimensions"):
            layer(x.unsqueeze(0), 0.5)


@pytest.mark.parametrize(
    ("attempt", "known"),
    [
        (lambda: DropPath(0.1, mode="sample"), "'row', 'batch'"),
        (lambda: drop_path(torch.ones(2), 0.1, mode="sample"), "'row', 'batch'"),
        (
            lambda: drop_residual(torch.ones(2), torch.sin, 0.1, mode="sample"),
            "'subset', 'row', 'batch'",
        ),
    ],
)
def test_an_unknown_mode_is_told_with_the_known_ones(attempt, known) -> None:
    with pytest.raises(ValueError, match=f"^mode .*{known}, but got 'sample'"):
        attempt()


def test_nothing_is_dropped_by_default() -> None:
    x = torch.ones(9)
    assert drop_path(x) is x
    assert DropPath()(x) is x
    assert repr(DropPath()) == "DropPath(p=0.0, mode='row')"


def test_repr_shows_rate_mode_and_what_differs_from_the_defaults() -> None:
    assert repr(DropPath(0.2)) == "DropPath(p=0.2, mode='row')"
    full = "DropPath(p=0.2, mode='batch', scale_by_keep=False)"
    assert repr(DropPath(0.2, mode="batch", scale_by_keep=False)) == full


# ----------------------------------------------------------------------- drop_residual


class Recorder(nn.Module):
    """A branch that adds up what it was called with; its output is ones."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        self.seen.append(input)
        return torch.ones_like(input)


def kept_samples(batch: int, p: float, generator: torch.Generator) -> tuple[int, ...]:
    """Which samples ``drop_residual`` keeps; the branch sees these and no others."""
    x, branch = torch.arange(float(batch)), Recorder()
    added = (drop_residual(x, branch, p, generator=generator) - x).tolist()
    kept = [i for i in range(batch) if added[i] > 0]
    assert all(abs(added[i] * (1 - p) - 1) < 1e-5 for i in kept)
    assert [seen.tolist() for seen in branch.seen] == [kept] * (len(kept) > 0)
    return tuple(kept)


@pytest.mark.parametrize(
    ("batch", "p"), [(1, 0.1), (3, 0.99), (4, 0.5), (5, 0.5), (8, 0.1), (10, 0.9)]
)
def test_subset_keeps_floor_or_ceil_and_every_subset_equally_often(
    batch, p, generator, assert_law, assert_mean
) -> None:
    """5,000 calls: the law of the count, of the subsets, and of each single sample."""
    draws = [kept_samples(batch, p, generator) for _ in range(5_000)]
    low, part = divmod(round(batch * (1 - p), 9), 1.0)
    law = {int(low): 1.0 - part, int(low) + 1: part}
    counts = Counter(len(subset) for subset in draws)
    assert set(counts) == {k for k, probability in law.items() if probability > 0}
    if part > 0:
        assert_law([counts[k] for k in law], list(law.values()))
    times = Counter(draws)
    for k in counts:
        subsets = list(itertools.combinations(range(batch), k))
        if 1 < len(subsets) <= counts[k] / 10:
            assert_law([times[s] for s in subsets], [1 / len(subsets)] * len(subsets))
    kept = torch.tensor(
        [[float(i in subset) for i in range(batch)] for subset in draws]
    )
    assert_mean(kept, 1 - p, p * (1 - p))


def test_a_whole_number_of_kept_samples_is_kept_even_at_the_number_zero(
    monkeypatch,
) -> None:
    module = sys.modules["regdrop_lite.drop_residual"]
    monkeypatch.setattr(module, "uniform", lambda shape, *_: torch.zeros(shape))
    branch = Recorder()
    drop_residual(torch.ones(4), branch, 0.5)
    assert len(branch.seen[0]) == 2


@pytest.mark.parametrize("mode", ["subset", "row", "batch"])
def test_expectation_is_input_plus_branch(mode, generator, assert_mean) -> None:
    """5,000 calls with a batch of five, every element."""
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)

    def branch(input: Tensor) -> Tensor:
        return torch.sin(3 * input) + 1

    runs = [
        drop_residual(x, branch, 0.3, mode=mode, generator=generator)
        for _ in range(5_000)
    ]
    assert_mean(torch.stack(runs), x + branch(x), branch(x) ** 2 * 0.3 / 0.7)


@pytest.mark.parametrize("mode", ["subset", "row"])
def test_gradients_come_from_the_kept_samples_only(mode, generator) -> None:
    x = torch.randn(6, 3, generator=generator).double().requires_grad_()
    weight = torch.randn(3, generator=generator).double().requires_grad_()
    y = drop_residual(x, lambda z: weight * z**2, 0.4, mode=mode, generator=generator)
    y.sum().backward()
    kept = ((y - x).abs().sum(1, keepdim=True) > 0).double() / 0.6
    assert 0 < kept.count_nonzero() < 6
    torch.testing.assert_close(x.grad, 1 + kept * 2 * weight.detach() * x.detach())
    torch.testing.assert_close(weight.grad, (kept * x.detach() ** 2).sum(0))


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_masking_modes_are_input_plus_drop_path_of_the_branch(mode, generator) -> None:
    x = torch.randn(9, 4, generator=generator)
    for _ in range(8):
        state = generator.get_state()
        y = drop_residual(x, torch.sin, 0.5, mode=mode, generator=generator)
        generator.set_state(state)
        branch = drop_path(torch.sin(x), 0.5, mode=mode, generator=generator)
        assert torch.equal(y, x + branch)


@pytest.mark.parametrize("mode", ["subset", "row", "batch"])
@pytest.mark.parametrize(("p", "training"), [(0.5, False), (1.0, False), (0.0, True)])
def test_in_eval_and_at_p_zero_the_branch_is_whole(mode, p, training) -> None:
    x = torch.randn(3, 2)
    y = drop_residual(x, torch.sin, p, training, mode=mode)
    assert torch.equal(y, x + torch.sin(x))


def test_at_p_zero_the_branch_gets_the_input_itself_and_no_number_is_drawn() -> None:
    x, branch, g = torch.ones(3, 2), Recorder(), seeded()
    drop_residual(x, branch, 0.0, generator=g)
    assert branch.seen[0] is x
    assert torch.equal(g.get_state(), seeded().get_state())


@pytest.mark.parametrize(("shape", "p"), [((4, 3), 1.0), ((0, 3), 0.5), ((1,), 0.999)])
def test_with_no_sample_kept_the_branch_is_not_called(shape, p, generator) -> None:
    x = torch.randn(shape, generator=generator, requires_grad=True)
    branch = Recorder()
    y = drop_residual(x, branch, p, generator=generator)
    assert branch.seen == []
    assert torch.equal(y, x)
    nn.functional.relu_(y).sum().backward()  # in place: the input must not change
    assert torch.equal(x.grad, (x > 0).float())


def test_batch_norm_in_the_branch_sees_the_kept_samples_only(generator) -> None:
    x = torch.randn(8, 3, generator=generator)
    norm = nn.BatchNorm1d(3, momentum=1.0)
    y = drop_residual(x, norm, 0.5, generator=generator)
    kept = x[((y - x) != 0).any(1)]
    assert len(kept) == 4
    torch.testing.assert_close(norm.running_mean, kept.mean(0))
    torch.testing.assert_close(norm.running_var, kept.var(0))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_subset_keeps_shape_dtype_and_memory_format(layout, dtype) -> None:
    x = torch.randn(6, 3, 4, 5).to(dtype).to(memory_format=layout)
    before, branch = x.clone(), Recorder()
    for y in (drop_residual(x, branch, 0.5, generator=seeded()), *branch.seen):
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=layout)
    strided = x.repeat_interleave(2, 3)[..., ::2]
    y = drop_residual(x, branch, 0.5, generator=seeded())
    other = drop_residual(strided, branch, 0.5, generator=seeded())
    assert y.shape == x.shape
    assert torch.equal(other, y)
    assert torch.equal(x, before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["subset", "row", "batch"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float64),
        (torch.float16, torch.bfloat16),
    ],
)
def test_the_sum_has_the_dtype_of_the_input_and_is_rounded_once(
    first, second, mode, training
) -> None:
    """A branch under autocast returns another dtype than it gets."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand(500, generator=g).add(0.5).to(first)
    y = drop_residual(
        x, lambda z: z.to(second) / 3, 0.15, training, mode=mode, generator=seeded()
    )
    assert y.dtype == first
    scale = 1 / 0.85 if training else 1.0
    exact = x.double() + (x.to(second) / 3).double() * scale
    added = y != x
    assert torch.equal(y[~added], x[~added])
    assert added.all() or (training and added.any())
    unit = torch.finfo(first).eps * 2.0 ** exact.log2().floor()
    # Of the products of row and batch alone, which drop_path makes, a second rounding.
    twice = 0.5 if mode == "subset" or not training else 1.0
    slack = 4 * torch.finfo(torch.float32).eps
    error = (y.double() - exact).abs()[added]
    assert (error <= unit[added] * twice + slack).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.15])
def test_subset_scales_low_precision_with_one_rounding(dtype, p, generator) -> None:
    """100,000 random mantissas: the nearest number to branch / q, so no bias."""
    branch = torch.rand(100_000, generator=generator).add(0.5).to(dtype)
    x = torch.zeros(100_000, dtype=dtype)

    def call(kept: Tensor) -> Tensor:
        return branch[: len(kept)]

    y = drop_residual(x, call, p, generator=generator).double()
    exact = branch[: int((y > 0).sum())].double() / (1 - p)
    unit = torch.finfo(dtype).eps * 2.0 ** exact.log2().floor()
    assert ((y[y > 0] - exact).abs() <= unit * (0.5 + 1e-4)).all()


@pytest.mark.parametrize("mode", ["subset", "row", "batch"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "branch",
    [lambda z: z[:, :1], lambda z: z[:1], torch.sum, lambda z: torch.cat([z, z])],
)
def test_a_branch_that_changes_the_shape_is_told(mode, training, branch) -> None:
    x = torch.ones(4, 3)
    rows = 2 if mode == "subset" and training else 4
    came = re.escape(str(tuple(branch(torch.ones(rows, 3)).shape)))
    with pytest.raises(ValueError, match=rf"branch .*\({rows}, 3\).*returned {came}"):
        drop_residual(x, branch, 0.5, training, mode=mode)


def test_subset_repeats_with_the_seed_and_leaves_the_global_generator_alone() -> None:
    x = torch.ones(9)
    torch.manual_seed(SEED)
    first = drop_residual(x, torch.exp, 0.5)
    state = torch.get_rng_state()
    assert torch.equal(drop_residual(x, torch.exp, 0.5, generator=seeded()), first)
    assert torch.equal(torch.get_rng_state(), state)


# --------------------------------------------------------------------- drop_path_rates


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0.3, 4), [0.0, 0.1, 0.2, 0.3]),
        ((0.3, 1), [0.0]),
        ((0.3, 0), []),
        ((0.4, 4, "linear1"), [0.1, 0.2, 0.3, 0.4]),
        ((0.4, 1, "linear1"), [0.4]),
        ((0.4, 0, "linear1"), []),
        ((0.4, 4, "linear0"), [0.0, 0.1, 0.2, 0.3]),
        ((0.4, 1, "linear0"), [0.0]),
        ((0.4, 0, "linear0"), []),
        ((0.2, 3, "falling"), [0.2, 0.1, 0.0]),
        ((0.2, 1, "falling"), [0.2]),
        ((0.2, [1, 2], "falling"), [[0.2], [0.1, 0.0]]),
        ((0.2, 3, "constant"), [0.2, 0.2, 0.2]),
        ((0.5, [2, 3, 1]), [[0.0, 0.1], [0.2, 0.3, 0.4], [0.5]]),
        ((0.5, (1, 0, 1)), [[0.0], [], [0.5]]),
        ((0.5, [5], "linear1"), [[0.1, 0.2, 0.3, 0.4, 0.5]]),
        ((0.5, []), []),
    ],
)
def test_rates_follow_the_rule(arguments, expected) -> None:
    rates = drop_path_rates(*arguments)
    flat = [rates] if not any(isinstance(r, list) for r in rates) else rates
    wanted = [expected] if flat[0] is rates else expected
    assert [len(stage) for stage in flat] == [len(stage) for stage in wanted]
    for stage, values in zip(flat, wanted, strict=True):
        assert stage == pytest.approx(values, abs=1e-15)


def test_linear1_is_the_survival_rule_of_the_paper() -> None:
    """Block l = 1 ... L survives with 1 - l / L * (1 - p_L); L = 54, p_L = 0.5."""
    paper = [1.0 - block / 54 * (1.0 - 0.5) for block in range(1, 55)]
    ours = [1.0 - p for p in drop_path_rates(0.5, 54, "linear1")]
    assert ours == pytest.approx(paper, abs=1e-15)


@given(st.floats(0.0, 1.0), st.integers(2, 60))
def test_falling_is_linear_back_to_front(p, blocks) -> None:
    back = drop_path_rates(p, blocks)[::-1]
    assert drop_path_rates(p, blocks, "falling") == pytest.approx(back, abs=1e-15)


@given(st.floats(0.0, 1.0), st.integers(1, 60))
def test_linear0_is_linear1_one_block_later(p, blocks) -> None:
    after = drop_path_rates(p, blocks, "linear1")
    assert drop_path_rates(p, blocks, "linear0") == [0.0, *after[:-1]]


@given(
    st.floats(0.0, 1.0),
    st.lists(st.integers(0, 9), max_size=6),
    st.sampled_from(["linear", "linear1", "constant"]),
)
def test_rates_count_through_the_stages_and_end_at_p_max(p, stages, schedule) -> None:
    flat = drop_path_rates(p, sum(stages), schedule)
    nested = drop_path_rates(p, stages, schedule)
    assert [len(stage) for stage in nested] == stages
    assert [rate for stage in nested for rate in stage] == flat
    assert all(0.0 <= a <= b <= p for a, b in itertools.pairwise(flat))
    if len(flat) > 1:
        assert flat[-1] == p
        assert flat[0] == (0.0 if schedule == "linear" else flat[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.1, True), TypeError, "num_blocks .*whole number.*bool"),
        ((0.1, 2.0), TypeError, "num_blocks .*whole number.*float"),
        ((0.1, None), TypeError, "num_blocks .*whole number.*NoneType"),
        ((0.1, [2, "3"]), TypeError, "num_blocks .*whole number.*str"),
        ((0.1, -1), ValueError, "num_blocks .*at least 0.*-1"),
        ((0.1, [2, -3]), ValueError, "num_blocks .*at least 0.*-3"),
        ((0.1, 2, "cosine"), ValueError, "'linear', 'linear0'.*'cosine'"),
    ],
)
def test_wrong_depths_and_schedules_are_told(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        drop_path_rates(*arguments)


@pytest.mark.parametrize(
    ("p", "options"),
    [(0.0, {}), (0.5, {"training": False}), (0.5, {"mode": "row"})],
    ids=["p = 0", "evaluation", "row"],
)
def test_a_branch_that_writes_into_its_input_is_a_clear_error(p, options) -> None:
    """The skip would carry what the branch left of its input."""
    x = torch.tensor([[-1.0, 2.0], [-3.0, 4.0]])
    with pytest.raises(RuntimeError, match="branch has written into its input"):
        drop_residual(x, nn.ReLU(inplace=True), p, **options)
    with torch.inference_mode():  # nobody counts there; nothing raises of itself
        assert drop_residual(x.clone(), nn.ReLU(), p, **options).shape == x.shape


def test_a_subset_of_an_input_may_be_written_to() -> None:
    x = torch.tensor([[-1.0, 2.0], [-3.0, 4.0]])
    y = drop_residual(x.clone(), nn.ReLU(inplace=True), 1e-12)
    torch.testing.assert_close(y, x + x.relu())
