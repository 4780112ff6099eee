"""A wrong argument is an error that names it; it never means something else."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regdrop_lite import (
    DropBlock1d,
    DropBlock2d,
    DropBlock3d,
    DropLayer,
    DropPath,
    LinearRamp,
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    drop_block,
    drop_block_gamma,
    drop_block_keep_prob,
    drop_path,
    drop_path_rates,
    drop_residual,
    set_generator,
    spatial_dropout,
)

CLASSES: dict[type[DropLayer], tuple] = {
    SpatialDropout1d: (0.5,),
    SpatialDropout2d: (0.5,),
    SpatialDropout3d: (0.5,),
    DropPath: (0.5,),
    DropBlock1d: (0.3, 3),
    DropBlock2d: (0.3, 3),
    DropBlock3d: (0.3, 3),
}
X = torch.ones(2, 4, 6, 6)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "wrong", [True, False, "channels_last", -1, 1, 1.0, None, "row"], ids=repr
)
def test_what_follows_is_given_by_name(kind, wrong) -> None:
    """Keras: (rate, data_format); timm: (p, k, gamma_scale); torch.nn: (p, inplace)."""
    with pytest.raises(TypeError, match=r"by name.*torch\.nn.*timm.*Keras") as caught:
        kind(*CLASSES[kind], wrong)
    assert repr(wrong) in str(caught.value)
    assert kind.__name__ in str(caught.value)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_signature_says_so(kind) -> None:
    parameters = list(inspect.signature(kind).parameters.values())
    positional = len(CLASSES[kind])
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[positional:])
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[:positional])
    assert len(parameters) > positional


FLAGS: dict[str, Callable[[object], object]] = {
    "spatial inplace": lambda v: SpatialDropout2d(0.5, inplace=v),
    "block inplace": lambda v: DropBlock2d(0.3, 3, inplace=v),
    "block shared": lambda v: DropBlock2d(0.3, 3, shared=v),
    "path scale_by_keep": lambda v: DropPath(0.3, scale_by_keep=v),
    "spatial() training": lambda v: spatial_dropout(X, 0.5, v),
    "spatial() inplace": lambda v: spatial_dropout(X, 0.5, True, v),
    "path() training": lambda v: drop_path(X, 0.5, v),
    "path() scale_by_keep": lambda v: drop_path(X, 0.5, scale_by_keep=v),
    "block() training": lambda v: drop_block(X, 0.3, 3, v),
    "block() inplace": lambda v: drop_block(X, 0.3, 3, True, v),
    "block() shared": lambda v: drop_block(X, 0.3, 3, shared=v),
    "residual() training": lambda v: drop_residual(X, torch.sin, 0.3, v),
    "residual() always_call": lambda v: drop_residual(X, torch.sin, 0.3, always_call=v),
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(
    "wrong",
    ["no", "", "row", 0, 1, 0.5, None, torch.tensor(True), np.True_, [True]],
    ids=repr,
)
def test_a_flag_is_true_or_false(name, wrong) -> None:
    flag = name.split()[-1]
    with pytest.raises(TypeError, match=rf"{flag} has to be True or False, but got"):
        FLAGS[name](wrong)
    assert torch.equal(X, torch.ones(2, 4, 6, 6))


CHOICES: dict[str, Callable[[object], object]] = {
    "border": lambda v: DropBlock2d(0.3, 3, border=v),
    "border ": lambda v: drop_block(X, 0.3, 3, border=v),
    "border  ": lambda v: drop_block_gamma(6, 3, 0.3, v),
    "border   ": lambda v: drop_block_keep_prob(6, 3, 0.3, v),
    "normalize": lambda v: DropBlock2d(0.3, 3, normalize=v),
    "normalize ": lambda v: drop_block(X, 0.3, 3, normalize=v),
    "mode": lambda v: DropPath(0.3, mode=v),
    "mode ": lambda v: drop_path(X, 0.3, mode=v),
    "mode  ": lambda v: drop_residual(X, torch.sin, 0.3, mode=v),
    "schedule": lambda v: drop_path_rates(0.3, 4, v),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("wrong", ["rows", "", "VALID", 1, True, None, b"row", ["row"]])
def test_a_name_is_one_of_those_listed(name, wrong) -> None:
    with pytest.raises(
        ValueError, match=rf"{name.strip()} has to be one of '.*but got"
    ):
        CHOICES[name](wrong)


WHOLE: dict[str, Callable[[object], object]] = {
    "block_size": lambda v: DropBlock2d(0.3, v),
    "block_size ": lambda v: DropBlock2d(0.3, (3, v)),
    "block_size  ": lambda v: drop_block(X, 0.3, v),
    "block_size   ": lambda v: drop_block_gamma(6, v, 0.3),
    "size": lambda v: drop_block_gamma(v, 3, 0.3),
    "size ": lambda v: drop_block_keep_prob((6, v), 3, 0.3),
    "num_blocks": lambda v: drop_path_rates(0.3, v),
    "num_blocks ": lambda v: drop_path_rates(0.3, [2, v]),
    "num_steps": lambda v: LinearRamp(DropPath(0.1), 0.0, 0.1, v),
    "channel_dim": lambda v: SpatialDropout2d(0.3, channel_dim=v),
    "channel_dim ": lambda v: spatial_dropout(X, 0.3, channel_dim=v),
    "batch_dim": lambda v: DropPath(0.3, batch_dim=v),
    "batch_dim ": lambda v: drop_path(X, 0.3, batch_dim=v),
    "batch_dim  ": lambda v: drop_residual(X, torch.sin, 0.3, batch_dim=v),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("wrong", [2.0, "2", True, None, 1.5, np.float64(2), 2j])
def test_a_whole_number_is_one(name, wrong) -> None:
    with pytest.raises(TypeError, match=rf"{name.strip()} has to be a whole number"):
        WHOLE[name](wrong)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint8])
def test_whole_numbers_of_numpy_are_taken_everywhere(name, kind) -> None:
    WHOLE[name](kind(2))


@pytest.mark.parametrize("dim", [-5, 4, 0])
def test_a_channel_dimension_that_is_not_there_is_refused(dim) -> None:
    with pytest.raises(ValueError, match="channel_dim has to be a dimension"):
        spatial_dropout(X, 0.3, channel_dim=dim)


def as_array(values):
    return np.array(values)


def as_tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("form", [list, tuple, as_array, as_tensor])
def test_rates_may_come_in_any_sequence(form) -> None:
    net = nn.Sequential(DropPath(), DropPath(), DropPath())
    ramp = LinearRamp(net, form([0.0, 0.1, 0.2]), form([0.2, 0.3, 0.4]), 2)
    assert [layer.p for layer in net] == [0.0, 0.1, 0.2]
    ramp.step()
    ramp.step()
    assert [layer.p for layer in net] == [0.2, 0.3, 0.4]
    with pytest.raises(ValueError, match=r"list of 3.*but got 2"):
        LinearRamp(net, form([0.0, 0.1]), form([0.2, 0.3]), 2)


@pytest.mark.parametrize("form", [list, tuple, as_array, torch.tensor, torch.Size])
def test_sizes_and_depths_may_come_in_any_sequence(form) -> None:
    assert drop_path_rates(0.75, form([1, 3])) == [[0.0], [0.25, 0.5, 0.75]]
    assert drop_block_gamma(form([6, 7]), form([2, 3]), 0.2) == drop_block_gamma(
        (6, 7), (2, 3), 0.2
    )
    torch.manual_seed(0)
    first = drop_block(X, 0.3, form([2, 3]))
    torch.manual_seed(0)
    assert torch.equal(first, DropBlock2d(0.3, (2, 3))(X))


@pytest.mark.parametrize("wrong", ["0.1", {0.1}, [[0.1, 0.2]], object(), None])
def test_rates_of_another_form_are_refused(wrong) -> None:
    with pytest.raises((TypeError, ValueError), match="p_start"):
        LinearRamp(nn.Sequential(DropPath(), DropPath()), wrong, 0.1, 2)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_base_class_finds_the_layers_and_checks_what_is_set(kind) -> None:
    layer = kind(*CLASSES[kind])
    assert isinstance(layer, DropLayer)
    layer.p = 0.25
    assert layer.p == 0.25
    assert "p=0.25" in repr(layer)
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"p has to be between 0 and 1"):
            layer.p = wrong
    for wrong in ("0.5", True, None, torch.tensor(0.5)):
        with pytest.raises(TypeError, match=r"p has to be a number between 0 and 1"):
            layer.p = wrong
    assert layer.p == 0.25
    assert layer.generator is None
    generator = torch.Generator()
    layer.generator = generator
    assert layer.generator is generator
    for wrong in (0, "cpu", np.random.default_rng(0)):
        with pytest.raises(TypeError, match=r"generator has to be a torch\.Generator"):
            layer.generator = wrong
        with pytest.raises(TypeError, match=r"generator has to be a torch\.Generator"):
            set_generator(layer, wrong)
    assert layer.generator is generator
    assert list(layer.state_dict()) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda g: spatial_dropout(X, 0.3, generator=g),
        lambda g: drop_path(X, 0.3, generator=g),
        lambda g: drop_block(X, 0.3, 3, generator=g),
        lambda g: drop_residual(X, torch.sin, 0.3, generator=g),
    ],
)
def test_a_generator_is_a_generator(call) -> None:
    with pytest.raises(TypeError, match=r"generator has to be a torch\.Generator"):
        call(7)


def test_a_layer_of_ones_own_needs_only_drop() -> None:
    class Noise(DropLayer):
        def drop(self, input: Tensor) -> Tensor:
            return input + self.p if self.training else input

    layer = Noise(0.5)
    assert torch.equal(layer(X), X + 0.5)
    assert layer.eval()(X) is X
    with pytest.raises(NotImplementedError, match=r"DropLayer has to implement drop"):
        DropLayer(0.5)(X)


@pytest.mark.parametrize("kind", [DropBlock1d, DropBlock2d, DropBlock3d])
def test_what_is_missing_or_unknown_is_named_with_the_class(kind) -> None:
    with pytest.raises(TypeError, match=f"^{kind.__name__}: .*'block_size'"):
        kind(0.1)
    with pytest.raises(TypeError, match=f"^{kind.__name__}: .*'drop_prob'"):
        kind(0.1, 3, drop_prob=0.2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: spatial_dropout(x, 0.99999),
        lambda x: drop_path(x, 0.99999),
        lambda x: drop_path(x, 0.99999, mode="batch"),
        lambda x: drop_block(x, 0.99999, 3, border="clip"),
        lambda x: drop_residual(x, lambda kept: kept, 0.99999, mode="row"),
    ],
)
def test_a_weight_that_the_dtype_cannot_hold_is_refused(call) -> None:
    """100,000 is an infinity in float16: the few that are kept would be lost."""
    call(X)
    call(X.to(torch.bfloat16))
    with pytest.raises(ValueError, match=r"p=0\.99999.*1e\+05.*float16"):
        call(X.to(torch.float16))


# ------------------------------------------------------------------- the batch's place


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_the_batch_may_stand_anywhere(dim) -> None:
    """(T, N, C) is the default order of nn.MultiheadAttention and nn.Transformer."""
    x = torch.rand(5, 6, 7, dtype=torch.float64) + 0.5
    samples = x.movedim(dim, 0)

    def seeded(function):
        torch.manual_seed(3)
        return function()

    expected = seeded(lambda: drop_path(samples, 0.5))
    moved = expected.movedim(0, dim)
    assert torch.equal(seeded(lambda: drop_path(x, 0.5, batch_dim=dim)), moved)
    assert torch.equal(seeded(lambda: DropPath(0.5, batch_dim=dim)(x)), moved)
    assert (moved == 0).any()
    dropped = (expected == 0).flatten(1)
    assert torch.equal(dropped.all(1), dropped.any(1))
    for mode in ("subset", "row", "batch"):
        expected = seeded(
            lambda mode=mode: drop_residual(samples, torch.exp, 0.5, mode=mode)
        )
        result = seeded(
            lambda mode=mode: drop_residual(x, torch.exp, 0.5, mode=mode, batch_dim=dim)
        )
        torch.testing.assert_close(result, expected.movedim(0, dim), rtol=0, atol=0)


@pytest.mark.parametrize("dim", [3, -4])
def test_a_batch_dimension_that_is_not_there_is_refused(dim) -> None:
    x = torch.ones(2, 3, 4)
    for call in (
        lambda: drop_path(x, 0.3, batch_dim=dim),
        lambda: DropPath(0.3, batch_dim=dim)(x),
        lambda: DropPath(0.3, batch_dim=dim).eval()(x),
        lambda: drop_residual(x, torch.sin, 0.3, batch_dim=dim),
    ):
        with pytest.raises(ValueError, match=rf"batch_dim has to be.*but got {dim}"):
            call()


# ------------------------------------------------------------------ residual blocks


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("branch_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mode", ["subset", "row", "batch"])
def test_a_residual_block_keeps_the_dtype_of_its_input(low, branch_dtype, mode) -> None:
    """Whatever is kept, and in evaluation."""
    x = torch.ones(4, 3, dtype=low)

    def branch(kept: Tensor) -> Tensor:
        return kept.to(branch_dtype)

    for p in (0.0, 0.3, 0.9, 1.0):
        for _ in range(5):
            assert drop_residual(x, branch, p, mode=mode).dtype == low
    assert drop_residual(x, branch, 0.5, False, mode=mode).dtype == low


@pytest.mark.parametrize("mode", ["subset", "row"])
@pytest.mark.parametrize("p", [0.1, 0.15, 0.3])
def test_a_branch_in_low_precision_has_no_bias(mode, p) -> None:
    """2 million elements in bfloat16: the sum of what is added is that of the branch.

    A scale rounded to bfloat16 would be off by .27 % at p = .15, ten times the bound.
    """
    g = torch.Generator().manual_seed(20261122)
    shape = (2_000, 1_000)
    x = torch.zeros(shape)  # float32: what is added is seen unrounded
    one = torch.ones(shape).bfloat16()
    y = drop_residual(x, lambda kept: one[: len(kept)], p, mode=mode, generator=g)
    kept = y[:, 0] != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))

    # All in bfloat16, rounded once. Each row of x holds its number, so that the branch
    # knows which rows it was given.
    added = torch.randn(shape, generator=g).abs().bfloat16()
    x = torch.randn(shape, generator=g).abs().bfloat16()
    rows = {tuple(row[:9].tolist()): i for i, row in enumerate(x)}

    def branch(kept: Tensor) -> Tensor:
        return added[[rows[tuple(row[:9].tolist())] for row in kept]]

    y = drop_residual(x, branch, p, mode=mode, generator=g).double()
    kept = (y != x.double()).any(1)
    exact = (x.double() + added.double() / (1 - p))[kept]
    error = y[kept] - exact
    assert (error.abs() <= 2**-8 * exact).all()  # half a unit in the last place
    sigma = error.std() * error.numel() ** 0.5
    # Sums of two bfloat16 numbers lie on a lattice, so that their rounding errors do
    # not quite cancel; a rounded scale would be 100 times as far off as that.
    assert error.sum().abs() <= 4 * sigma + 1e-5 * exact.sum()


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def test_one_sample_in_a_batch_norm_is_an_error_with_a_remedy() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"one kept sample.*BatchNorm.*mode='row'"):
        drop_residual(x, Norm(), 0.5)
    assert drop_residual(x, Norm(), 0.5, mode="row").shape == x.shape

    def broken(_: Tensor) -> Tensor:
        raise ValueError("something else")

    with pytest.raises(ValueError, match=r"^something else$"):
        drop_residual(x, broken, 0.5)


@pytest.mark.parametrize("p", [0.5, 0.9, 1.0])
def test_a_branch_may_always_be_called_and_the_law_stays(p) -> None:
    """The same seeds give the same result; the parameters always have a gradient."""
    branch = nn.Linear(3, 3)
    x = torch.ones(1, 3)
    none_kept = 0
    for seed in range(20):
        results = []
        for always in (False, True):
            branch.zero_grad()
            calls = []
            handle = branch.register_forward_hook(lambda *_: calls.append(1))  # noqa: B023
            g = torch.Generator().manual_seed(seed)
            y = drop_residual(x, branch, p, always_call=always, generator=g)
            handle.remove()
            results.append(y.detach())
            if always:
                assert calls == [1]
                y.sum().backward()
                assert branch.weight.grad is not None
                if not results[0].equal(x):
                    assert branch.weight.grad.any()
            none_kept += not calls
        assert torch.equal(*results)
    assert none_kept > 0
    empty = torch.ones(0, 3)
    assert drop_residual(empty, branch, p, always_call=True).shape == (0, 3)
