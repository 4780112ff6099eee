"""What every layer promises: form, identity, expectation, random numbers, errors.

The properties here hold for all layers alike; what is special to one of them stands in
its own file.
"""

import copy
import math
import pickle
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from regdrop_lite import (
    DropBlock1d,
    DropBlock2d,
    DropBlock3d,
    DropPath,
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
from regdrop_lite._checks import check_choice
from regdrop_lite._random import sample_keep, uniform

SEED = 20261122  # fixed before the first run


class Case(NamedTuple):
    """One way to call a layer: as a function, as a module, and a shape for it."""

    function: Callable[..., Tensor]
    module: Callable[[float], nn.Module]
    shape: tuple[int, ...]


def case(
    function: Callable[..., Tensor],
    module: type[nn.Module],
    shape: tuple[int, ...],
    **settings: object,
) -> Case:
    return Case(partial(function, **settings), partial(module, **settings), shape)


CASES = {
    "spatial 1d": case(spatial_dropout, SpatialDropout1d, (6, 5, 7)),
    "spatial 2d": case(spatial_dropout, SpatialDropout2d, (6, 5, 4, 7)),
    "spatial 3d": case(spatial_dropout, SpatialDropout3d, (6, 5, 2, 3, 4)),
    "spatial channel last": case(
        spatial_dropout, SpatialDropout2d, (6, 4, 7, 5), channel_dim=-1
    ),
    "path row": case(drop_path, DropPath, (12, 5, 4, 3)),
    "path tokens": case(drop_path, DropPath, (12, 7, 6)),
    "path batch": case(drop_path, DropPath, (6, 5), mode="batch"),
    "block 1d": case(drop_block, DropBlock1d, (6, 5, 9), block_size=3),
    "block 2d": case(drop_block, DropBlock2d, (6, 5, 5, 8), block_size=(2, 3)),
    "block 3d": case(drop_block, DropBlock3d, (4, 3, 3, 5, 4), block_size=2),
    "block 1d clip shared": case(
        drop_block, DropBlock1d, (9, 5, 9), block_size=3, border="clip", shared=True
    ),
    "block 3d clip": case(
        drop_block, DropBlock3d, (4, 3, 3, 5, 4), block_size=(2, 3, 2), border="clip"
    ),
    "block 3d shared": case(
        drop_block, DropBlock3d, (6, 3, 3, 5, 4), block_size=2, shared=True
    ),
    "block clip": case(
        drop_block, DropBlock2d, (6, 5, 5, 8), block_size=4, border="clip"
    ),
    "block shared": case(
        drop_block, DropBlock2d, (9, 4, 5, 8), block_size=3, shared=True
    ),
    "block batch": case(
        drop_block, DropBlock2d, (6, 5, 5, 8), block_size=3, normalize="batch"
    ),
}
EXPECTED = [name for name in CASES if name != "block batch"]  # those with E[y] = x
INPLACE = [name for name in CASES if not name.startswith("path")]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FORMATS = {3: [], 4: [torch.channels_last], 5: [torch.channels_last_3d]}

pytestmark = pytest.mark.filterwarnings("ignore:the weights")
every_layer = pytest.mark.parametrize("name", CASES)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def laid_out(input: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "channels_last" and FORMATS.get(input.dim()):
        return input.to(memory_format=FORMATS[input.dim()][0])
    if layout == "transposed":
        return input.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "strided":
        return input.repeat_interleave(2, dim=-1)[..., ::2]
    return input


LAYOUTS = ["contiguous", "channels_last", "transposed", "strided"]


@st.composite
def calls(draw: st.DrawFn, names: list[str]) -> tuple[Case, Tensor, float]:
    """A layer, an input (H != W, empty batches, any dtype and layout) and a rate."""
    found = CASES[draw(st.sampled_from(names))]
    shape = [draw(st.integers(0, 4)), draw(st.integers(1, 4))]
    shape += [draw(st.integers(1, 7)) for _ in found.shape[2:]]
    input = torch.rand(shape, generator=seeded()) + 0.5
    input = input.to(draw(st.sampled_from(DTYPES)))
    p = draw(st.sampled_from([0.01, 0.1, 0.3]) | st.floats(0.0, 0.5))
    return found, laid_out(input, draw(st.sampled_from(LAYOUTS))), p


# -------------------------------------------------------------------------------- form


@given(calls(list(CASES)))
def test_output_has_the_form_of_the_input_and_the_input_is_unchanged(call) -> None:
    (function, module, _), x, p = call
    before = x.clone()
    for y in (function(x, p=p), module(p)(x)):
        assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
        for memory_format in [torch.contiguous_format, *FORMATS.get(x.dim(), [])]:
            if x.numel() and x.is_contiguous(memory_format=memory_format):
                assert y.is_contiguous(memory_format=memory_format)
        assert torch.equal(x, before)
        assert ((y == 0) | (y >= x)).all()  # dropped, or scaled by at least 1


@pytest.mark.parametrize("name", INPLACE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_inplace_writes_the_same_result_into_the_input(name, dtype, p) -> None:
    function, module, shape = CASES[name]
    x = torch.rand(shape, generator=seeded()).add(0.5).to(dtype)
    expected = function(x, p=p, generator=seeded())
    layer = module(p)
    layer.inplace = True
    set_generator(layer, seeded())
    for run in (partial(function, p=p, inplace=True, generator=seeded()), layer):
        for layout in LAYOUTS:
            y = laid_out(x.clone(), layout)
            assert run(y) is y
            set_generator(layer, seeded())
            if run is layer or layout == LAYOUTS[0]:
                assert torch.equal(y, expected)
                assert (y == 0).any()


# ---------------------------------------------------------------------------- identity


@every_layer
def test_eval_mode_and_p_zero_return_the_same_tensor(name) -> None:
    function, module, shape = CASES[name]
    x = torch.full(shape, math.nan)
    state = torch.get_rng_state()
    for p in (0, 0.0, 0.5, 1.0):
        assert function(x, p=p, training=False) is x
        assert module(p).eval()(x) is x
    assert function(x, p=0.0) is x
    assert module(0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


@every_layer
@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.qint8]
)
def test_where_nothing_is_dropped_any_dtype_comes_back_as_it_is(name, dtype) -> None:
    """The number of dimensions is looked at all the same."""
    function, module, shape = CASES[name]
    x, short = torch.ones(shape), torch.ones(())
    if dtype == torch.qint8:
        x, short = (torch.quantize_per_tensor(t, 0.5, 0, dtype) for t in (x, short))
    else:
        x, short = x.to(dtype), short.to(dtype)
    for run in (
        partial(function, p=0.5, training=False),
        partial(function, p=0.0),
        module(0.5).eval(),
        module(0.0),
    ):
        assert run(x) is x
        with pytest.raises(ValueError, match="but got 0 dimensions"):
            run(short)


# ------------------------------------------------------------------------------- p = 1


@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_p_one_gives_zeros_and_zero_gradients_even_for_inf_and_nan(name, dtype) -> None:
    function, module, shape = CASES[name]
    x = torch.ones(shape, dtype=dtype)
    x.view(-1)[:3] = torch.tensor([math.inf, -math.inf, math.nan])
    for run in (partial(function, p=1.0), partial(function, p=1), module(1)):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        y.sum().backward()
        assert y.dtype == dtype
        assert not y.any()
        assert not leaf.grad.any()
    if name in INPLACE:
        leaf = x.clone().requires_grad_()
        function(leaf.clone(), p=1.0, inplace=True).sum().backward()
        assert not leaf.grad.any()


# ------------------------------------------------------------------------- expectation


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_every_element_has_the_expectation_of_its_input(
    name, dtype, p, generator, assert_mean
) -> None:
    """20,000 draws of one sample; 4,000 of a batch where the batch shares its mask."""
    function, _, shape = CASES[name]
    one = torch.randn((1, *shape[1:]), generator=generator, dtype=dtype)
    if name == "path batch":
        runs = [function(one, p=p, generator=generator) for _ in range(4_000)]
        y = torch.cat(runs)
    else:
        y = function(one.expand(20_000, *shape[1:]), p=p, generator=generator)
    weight = (y / one).amax(0).double()  # the variance of weight * Bernoulli(1/weight)
    assert_mean(y, one[0].double(), one[0].double() ** 2 * (weight - 1.0))


@every_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rounds_the_exact_product_once(name, dtype, generator) -> None:
    """Each kept element is the half-precision number nearest to x * weight.

    A weight rounded first, as x * (mask / q) does in bfloat16, fails here.
    """
    function, _, shape = CASES[name]
    x = torch.rand((50, *shape[1:]), generator=generator).add(0.5).to(dtype)
    for p in (0.1, 0.15):
        y = function(x, p=p, generator=seeded())
        exact = function(x.double(), p=p, generator=seeded())
        unit = torch.finfo(dtype).eps * 2.0 ** exact.abs().log2().floor()
        assert ((y.double() - exact).abs() <= unit * (0.5 + 1e-4)).all()
        assert (y != 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.15])
@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (spatial_dropout, (2_000, 1_000, 1)),
        (drop_path, (2_000_000, 1)),
        (partial(drop_block, block_size=1), (2_000, 1, 1_000)),
    ],
    ids=["spatial", "path", "block"],
)
def test_low_precision_has_no_systematic_bias(
    function, shape, dtype, p, generator
) -> None:
    """The sums of 2,000,000 elements with random mantissas, each with its own mask.

    The weight 1 / 0.9 rounded to bfloat16 is off by 6.8 sigma here.
    """
    x = torch.rand(shape, generator=generator).add(0.5).to(dtype)
    y = function(x, p=p, generator=generator)
    difference = (y.double() - x.double()).flatten()
    sigma = difference.square().sum().sqrt()
    assert difference.sum().abs() <= 4.0 * sigma


BLOCKS = {
    f"block {border}{' shared' * shared}{' batch' * batch}": partial(
        drop_block,
        block_size=3,
        border=border,
        shared=shared,
        normalize="batch" if batch else "expected",
    )
    for border in ("valid", "clip")
    for shared in (False, True)
    for batch in (False, True)
}
FUNCTIONS = {
    "spatial": spatial_dropout,
    "path": drop_path,
    "path batch": partial(drop_path, mode="batch"),
    **BLOCKS,
}


def independent_units(name: str, values: Tensor) -> Tensor:
    """The mean of ``values`` over each part of a batch that has a mask of its own."""
    if name == "path batch":
        return values.mean().view(1)
    whole_samples = name == "path" or "shared" in name
    return values.flatten(1 if whole_samples else 2).mean(-1).flatten()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.15])
def test_low_precision_has_no_systematic_bias_at_any_place_of_a_map(
    name, layout, dtype, p
) -> None:
    """2,000,000 elements with random mantissas, and each of 100 places on its own.

    The exact result of the same mask takes the noise of the mask away. What is left is
    the mean of the rounding errors of the 1 / eps mantissas of a dtype, each uniform
    within half a unit in the last place, and the same at all places of one weight.
    """
    function = FUNCTIONS[name]
    x = torch.rand((5_000, 4, 10, 10), generator=seeded()).add(0.5).to(dtype)
    x = laid_out(x, layout)
    y = function(x, p=p, generator=seeded()).double()
    exact = function(x.double(), p=p, generator=seeded())
    assert ((y == 0) == (exact == 0)).all()
    eps = torch.finfo(dtype).eps
    sigma = eps / 2 / math.sqrt(3) * math.sqrt(eps)
    bias = y.sum((0, 1)) / exact.sum((0, 1)) - 1.0
    assert bias.abs().max() <= 5.0 * sigma  # four sigma for a family of 100
    if "batch" not in name:  # has no expectation, or just one mask
        error = independent_units(name, y - x.double())
        assert error.sum().abs() <= 4.0 * error.square().sum().sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("reference", [False, True])
def test_ten_million_elements_in_float16_neither_overflow_nor_vanish(
    name, reference, generator, monkeypatch
) -> None:
    """The largest float16 is 65504: no sum or count of elements may be one."""
    if reference:
        for module in ("regdrop_lite._painted", "regdrop_lite.drop_block"):
            monkeypatch.setattr(sys.modules[module], "is_plain", lambda input: False)
    shape = (32, 64, 70, 70)
    if name == "path" or "shared" in name:  # enough samples for statistics
        shape = (2_048, 1, 70, 70)
    x = torch.rand(shape, generator=generator).add(0.5).half()
    assert x.numel() > 10**7
    y = FUNCTIONS[name](x, p=0.1, generator=generator)
    assert y.dtype == torch.float16
    assert y.isfinite().all()
    dropped = y == 0
    if name != "path batch":
        rates = independent_units(name, dropped.double())
        sigma = rates.std().item() / math.sqrt(len(rates))
        assert 0.0 < sigma < 0.01
        assert abs(rates.mean().item() - 0.1) <= 4.0 * sigma
    weights = (y / x).double()[~dropped]
    largest = smallest = 1 / 0.9
    if name.startswith("block valid"):
        gamma = drop_block_gamma((70, 70), 3, 0.1)
        largest, smallest = (1 - gamma) ** -9.0, 1 / (1 - gamma)
    if name.endswith("batch") and name != "path batch":
        largest = smallest = x.numel() / int((~dropped).sum())
    assert weights.max().item() == pytest.approx(largest, rel=2**-10)
    assert weights.min().item() == pytest.approx(smallest, rel=2**-10)


# ---------------------------------------------------------------------- random numbers


@given(calls(list(CASES)), st.sampled_from(DTYPES), st.booleans())
def test_one_state_of_the_generator_gives_one_mask_on_every_path(
    call, dtype, inplace
) -> None:
    (function, module, _), x, p = call
    expected = function(x.float().contiguous(), p=p, generator=seeded()) == 0
    layer = module(p)
    torch.manual_seed(SEED)
    masks = [function(x, p=p) == 0]
    torch.manual_seed(SEED)
    masks.append(layer(x.to(dtype)) == 0)
    set_generator(layer, seeded())
    layer.inplace = inplace
    masks.append(layer(x.clone()) == 0)
    for mask in masks:
        assert torch.equal(mask, expected)


@every_layer
def test_manual_seed_repeats_a_run_and_each_call_draws_anew(name) -> None:
    function, _, shape = CASES[name]
    runs = []
    for _ in range(2):
        torch.manual_seed(SEED)
        runs.append([function(torch.ones(shape), p=0.4) for _ in range(8)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)
    assert any(not torch.equal(runs[0][0], later) for later in runs[0][1:])


@every_layer
def test_an_explicit_generator_leaves_the_global_one_alone(name, generator) -> None:
    function, _, shape = CASES[name]
    state, own = torch.get_rng_state(), generator.get_state()
    function(torch.ones(shape), p=0.4, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(generator.get_state(), own)


def test_uniform_numbers_have_53_random_bits_and_come_from_the_generators_place(
    generator,
) -> None:
    u = uniform((10_000,), torch.device("cpu"), generator)
    bits = (u * 2.0**53).to(torch.int64)
    assert u.dtype == torch.float64
    assert torch.equal(bits.double() * 2.0**-53, u)
    assert 0.0 <= u.min() <= u.max() < 1.0
    # Each bit is set in half of the 10,000 numbers, within four sigma.
    set_bits = torch.stack([(bits >> i) & 1 for i in range(53)]).double().mean(1)
    assert ((set_bits - 0.5).abs() < 4.6 * 0.5 / 100).all()  # 4 sigma for 53 bits
    meta = torch.device("meta")
    assert uniform((2,), meta, generator).device == meta
    assert torch.equal(uniform((3,), torch.device("cpu"), seeded()), u[:3])


def test_a_number_equal_to_p_is_kept_since_one_minus_p_of_them_are_not_below(
    monkeypatch,
) -> None:
    draws = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    monkeypatch.setattr("regdrop_lite._random.uniform", lambda *_: draws)
    keep = sample_keep([4], 0.5, draws.device, None)
    assert keep.tolist() == [False, False, True, True]


@pytest.mark.parametrize("p", [1e-4, 0.1, 0.5, 0.99])
def test_sample_keep_keeps_with_probability_one_minus_p(p, generator) -> None:
    """2,000,000 trials, within four sigma."""
    dropped = 2_000_000 - int(
        sample_keep([2_000_000], p, generator.device, generator).sum()
    )
    assert abs(dropped - 2e6 * p) <= 4.0 * math.sqrt(2e6 * p * (1.0 - p))


# ----------------------------------------------------------------------- set_generator


class Net(nn.Module):
    """Every kind of layer, nested, beside a layer of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SpatialDropout2d(0.3), nn.Dropout(0.0))
        self.body = nn.ModuleList([DropBlock2d(0.3, 2), DropPath(0.3)])

    def forward(self, input: Tensor) -> Tensor:
        for layer in [*self.stem, *self.body]:
            input = layer(input)
        return input


def test_set_generator_serves_every_layer_and_none_gives_them_back() -> None:
    net, x = Net(), torch.ones(8, 6, 5, 4)
    set_generator(net, seeded())
    state = torch.get_rng_state()
    first = net(x)
    assert torch.equal(torch.get_rng_state(), state)
    set_generator(net, seeded())
    assert torch.equal(net(x), first)
    assert not torch.equal(net(x), first)
    assert not hasattr(net.stem[1], "generator")
    # In one generator the order of the calls decides.
    g = seeded()
    y = spatial_dropout(x, 0.3, generator=g)
    y = drop_path(drop_block(y, 0.3, 2, generator=g), 0.3, generator=g)
    assert torch.equal(first, y)
    set_generator(net, None)
    torch.manual_seed(SEED)
    assert torch.equal(net(x), first)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_gets_one_generator_of_its_own_in_the_same_state(duplicate) -> None:
    net, x, g = Net(), torch.ones(8, 6, 5, 4), seeded()
    set_generator(net, g)
    net(x)
    other = duplicate(net)
    assert other.stem[0].generator is other.body[0].generator is not g
    assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("wrong", [0, "cpu", torch.device("cpu")])
def test_set_generator_wants_a_generator(wrong) -> None:
    with pytest.raises(TypeError, match=f"torch.Generator.*{type(wrong).__name__}"):
        set_generator(Net(), wrong)


def test_a_generator_that_nobody_would_use_is_refused() -> None:
    """Layers of other libraries have no generator: silence would hide that."""
    net = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"other libraries \(1\).*replace_layers"):
        set_generator(net, seeded())
    set_generator(net, None)  # nothing to give back
    set_generator(nn.Linear(6, 6), seeded())  # a control without a mask
    both = nn.Sequential(net, DropPath(0.5))
    set_generator(both, g := seeded())
    assert both[1].generator is g


# ------------------------------------------------------------------------------ errors

WRONG_P = [
    (True, TypeError, "bool"),
    ("0.5", TypeError, "str"),
    (None, TypeError, "NoneType"),
    (0.5j, TypeError, "complex"),
    (torch.tensor(0.5), TypeError, "Tensor"),
    (-1e-9, ValueError, "-1e-09"),
    (1.0 + 1e-9, ValueError, "1.000000001"),
    (2, ValueError, "2"),
    (math.nan, ValueError, "nan"),
    (math.inf, ValueError, "inf"),
]


@every_layer
@pytest.mark.parametrize(("p", "error", "came"), WRONG_P)
def test_a_wrong_p_is_told_at_construction_and_at_a_call(name, p, error, came) -> None:
    function, module, shape = CASES[name]
    x = torch.ones(shape)
    layer = module(0.5)
    for attempt in (
        lambda: module(p),
        lambda: setattr(layer, "p", p),
        lambda: function(x, p=p),
        lambda: function(x, p=p, training=False),
    ):
        with pytest.raises(error, match=r"^p has to be .*\b1, but got .*" + came):
            attempt()
    assert layer.p == 0.5


@pytest.mark.parametrize(("p", "error", "came"), WRONG_P)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda p: drop_residual(torch.ones(2), torch.sin, p), "p"),
        (lambda p: drop_block_gamma(7, 3, p), "p"),
        (lambda p: drop_block_keep_prob(7, 3, p), "gamma"),
        (lambda p: drop_path_rates(p, 3), "p_max"),
    ],
)
def test_a_wrong_probability_is_called_by_its_name(
    function, name, p, error, came
) -> None:
    with pytest.raises(error, match=f"^{name} has to be .*{came}"):
        function(p)


@pytest.mark.parametrize("p", [Fraction(1, 4), 0.25, torch.finfo(torch.half).eps * 256])
@every_layer
def test_any_real_number_is_a_probability(name, p) -> None:
    function, _, shape = CASES[name]
    x = torch.ones(shape, dtype=torch.float64)
    expected = function(x, p=0.25, generator=seeded())
    assert torch.equal(function(x, p=p, generator=seeded()), expected)
    torch.manual_seed(SEED)
    assert torch.equal(function(x, p=p), expected)


@every_layer
@pytest.mark.parametrize(
    ("wrong", "came"),
    [
        (lambda x: x.long(), "torch.int64"),
        (lambda x: x.bool(), "torch.bool"),
        (lambda x: x.to(torch.complex64), "torch.complex64"),
        (lambda x: x.tolist(), "list"),
    ],
)
def test_only_floating_point_tensors_are_taken(name, wrong, came) -> None:
    function, module, shape = CASES[name]
    x = wrong(torch.ones(shape))
    for attempt in (lambda: function(x, p=0.5), lambda: module(0.5)(x)):
        with pytest.raises(TypeError, match=f"expected a .*tensor, but got .*{came}"):
            attempt()


@pytest.mark.parametrize(
    ("layer", "dims", "layout"),
    [
        (SpatialDropout1d(), 3, r"\(N, C, L\)"),
        (SpatialDropout2d(), 4, r"\(N, C, H, W\)"),
        (SpatialDropout3d(), 5, r"\(N, C, D, H, W\)"),
        (DropBlock1d(0.1, 3), 3, r"\(N, C, L\)"),
        (DropBlock2d(0.1, 3), 4, r"\(N, C, H, W\)"),
        (DropBlock3d(0.1, 3), 5, r"\(N, C, D, H, W\)"),
        (lambda x: spatial_dropout(x, 0.1), range(3, 9), r"\(N, C, \.\.\.\)"),
        (lambda x: drop_block(x, 0.1, 3), range(3, 6), r"\(N, C, L\).*H, W\) or"),
        (DropPath(0.1), range(1, 9), r"\(N, \.\.\.\)"),
        (lambda x: drop_residual(x, torch.sin, 0.1), range(1, 9), r"\(N, \.\.\.\)"),
    ],
)
def test_a_wrong_rank_is_told_with_what_was_expected_and_what_came(
    layer, dims, layout
) -> None:
    allowed = [dims] if isinstance(dims, int) else dims
    for rank in range(8):
        x = torch.ones([2] * rank)
        if rank in allowed:
            assert layer(x).shape == x.shape
            continue
        came = rf"got {rank} dimensions: \({', '.join('2' * rank)},?\)"
        with pytest.raises(ValueError, match=f"expected .*{layout}.*{came}"):
            layer(x)


def test_check_choice_lists_the_known_names() -> None:
    assert check_choice("a", "kind", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"^kind .* one of 'a', 'b', but got 'c'$"):
        check_choice("c", "kind", ("a", "b"))


@pytest.mark.parametrize("wrong", ["batch", 1, None])
@pytest.mark.parametrize(
    "call",
    [
        lambda wrong: drop_path(torch.ones(2, 3), 0.1, wrong),
        lambda wrong: spatial_dropout(torch.ones(2, 3, 4), 0.1, wrong),
        lambda wrong: drop_block(torch.ones(2, 3, 4), 0.1, 2, wrong),
        lambda wrong: drop_residual(torch.ones(2, 3), nn.Tanh(), 0.1, wrong),
    ],
)
def test_another_setting_in_the_place_of_training_is_told(call, wrong) -> None:
    with pytest.raises(TypeError, match=f"True or False, but got {wrong!r}: pass the"):
        call(wrong)


@every_layer
def test_the_output_may_be_changed_in_place(name) -> None:
    """As residual blocks do: ``output += input``."""
    for dtype in DTYPES:
        x = torch.ones(CASES[name].shape, dtype=dtype, requires_grad=True)
        y = CASES[name].function(x * 1, 0.3, generator=seeded())
        before = y.detach().clone()
        y += 1
        y.sum().backward()
        assert torch.equal(y.detach(), before + 1)
        assert torch.equal(x.grad, before)  # a linear map of ones


@every_layer
def test_fx_traces_a_layer_as_one_node(name) -> None:
    layer = CASES[name].module(0.3)
    traced = torch.fx.symbolic_trace(nn.Sequential(layer))
    x = torch.ones(CASES[name].shape)
    torch.manual_seed(SEED)
    y = traced(x)
    torch.manual_seed(SEED)
    assert torch.equal(y, layer(x))
    assert (y == 0).any() or name == "path batch"
