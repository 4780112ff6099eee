"""LinearRamp and DropWindow: the rates of a run, also of one that is resumed."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from regdrop_lite import (
    DropBlock2d,
    DropPath,
    DropWindow,
    LinearRamp,
    SpatialDropout2d,
    drop_path_rates,
)


def net(*rates: float) -> nn.Module:
    """Layers with these rates (0 for each if none is given), and one of PyTorch."""
    kinds = (DropPath, SpatialDropout2d, lambda p: DropBlock2d(p, 3))
    layers = [kind(p) for kind, p in zip(kinds, rates or (0, 0, 0), strict=True)]
    return nn.Sequential(nn.Dropout(0.7), layers[0], nn.Sequential(*layers[1:]))


def rates(module: nn.Module) -> list[float]:
    layers = (DropPath, SpatialDropout2d, DropBlock2d)
    return [m.p for m in module.modules() if isinstance(m, layers)]


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, 50))
def test_rate_moves_in_a_line_and_ends_exactly(start, end, steps) -> None:
    layer = DropPath(0.0)
    ramp = LinearRamp(layer, start, end, steps)
    seen = [layer.p]
    for _ in range(steps + 3):
        ramp.step()
        seen.append(layer.p)
    assert seen[0] == start
    assert seen[steps:] == [end] * 4
    line = [start + (end - start) * t / steps for t in range(steps)]
    assert seen[:steps] == pytest.approx(line, abs=1e-15)
    low, high = sorted((start, end))
    assert all(low - 1e-16 <= p <= high + 1e-16 for p in seen)
    assert all((b - a) * (end - start) >= 0 for a, b in itertools.pairwise(seen))
    assert all(type(p) is float and 0.0 <= p <= 1.0 for p in seen)


def test_one_number_moves_every_layer_and_leaves_other_modules_alone() -> None:
    model = net(0.2, 0.2, 0.2)
    ramp = LinearRamp(model, 0, 0.3, 2)
    assert rates(model) == [0.0] * 3
    ramp.step()
    assert rates(model) == [0.15] * 3
    assert model[0].p == 0.7


def test_lists_give_each_layer_its_own_ramp_in_the_order_of_the_model() -> None:
    model = net(0.1, 0.2, 0.3)
    ramp = LinearRamp(model, [0.0, 0.2, 0.4], (0.1, 0.2, 0.0), 2)
    assert rates(model) == [0.0, 0.2, 0.4]
    ramp.step()
    assert rates(model) == [0.05, 0.2, 0.2]
    ramp.step()
    assert rates(model) == [0.1, 0.2, 0.0]


def test_present_rates_are_reached_and_left_without_a_list() -> None:
    model = net(0.1, 0.2, 0.4)
    ramp = LinearRamp(model, 0.0, "present", 2)
    seen = [rates(model)]
    for _ in range(3):
        ramp.step()
        seen.append(rates(model))
    end = [0.1, 0.2, 0.4]
    assert seen == [[0.0] * 3, [0.05, 0.1, 0.2], end, end]
    fade = LinearRamp(model, "present", 0.0, 2)
    assert rates(model) == end
    fade.step()
    assert rates(model) == [0.05, 0.1, 0.2]
    fade.step()
    assert rates(model) == [0.0] * 3


@pytest.mark.parametrize("form", [list, torch.tensor])
def test_a_list_keeps_a_schedule_so_that_the_other_end_may_be_one_number(form) -> None:
    model = net(0.1, 0.2, 0.4)
    ramp = LinearRamp(model, 0.0, form([0.25, 0.5, 0.75]), 2)
    assert rates(model) == [0.0] * 3
    ramp.step()
    assert rates(model) == [0.125, 0.25, 0.375]


@pytest.mark.parametrize("ends", [(0.0, "present"), ("present", 0.0)])
def test_a_ramp_without_way_is_told(ends) -> None:
    """Of a model that was built at rate 0."""
    with pytest.raises(ValueError, match=r"nothing to ramp.*\[0.0\]"):
        LinearRamp(net(), *ends, 10)


@pytest.mark.parametrize(
    ("start", "stop", "inside"),
    [(0, 2, [0, 1]), (2, None, [2, 3, 4, 5]), (1, 4, [1, 2, 3]), (9, 10, [])],
)
def test_a_window_drops_inside_and_not_outside(start, stop, inside) -> None:
    model = net(0.1, 0.0, 0.4)
    window = DropWindow(model, start, stop)
    for step in range(6):
        assert rates(model) == ([0.1, 0.0, 0.4] if step in inside else [0.0] * 3)
        window.step()
    assert model[0].p == 0.7


@pytest.mark.parametrize("done", range(6))
@pytest.mark.parametrize(
    "build",
    [
        lambda model: DropWindow(model, 2, 4),
        lambda model: DropWindow(model, 3),
        lambda model: LinearRamp(model, 0.0, "present", 4),
        lambda model: LinearRamp(model, "present", 0.0, 4),
    ],
)
def test_a_schedule_of_present_rates_is_resumed_where_it_was(build, done) -> None:
    """The rates of the checkpoint count, not those that the new model was built at."""
    whole = build(first := net(0.1, 0.2, 0.3))
    for _ in range(done):
        whole.step()
    torch.save(whole.state_dict(), file := io.BytesIO())
    file.seek(0)
    resumed = build(second := net(*drop_path_rates(0.9, 3)))
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(6):
        assert rates(second) == rates(first)
        whole.step()
        resumed.step()
    assert resumed.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.ReLU(), 0), ValueError, "regdrop_lite, but ReLU has none.*replace_layers"),
        ((net(), 0), ValueError, "all rates are 0"),
        ((DropPath(0.1), -1), ValueError, "start .*at least 0, but got -1"),
        ((DropPath(0.1), 1.0), TypeError, "start .*whole number.*float"),
        ((DropPath(0.1), 5, 5), ValueError, "stop .*at least 6, but got 5"),
        ((DropPath(0.1), 0, True), TypeError, "stop .*whole number.*bool"),
    ],
)
def test_a_window_that_cannot_be_is_told(arguments, error, message) -> None:
    before = [m.p for m in arguments[0].modules() if hasattr(m, "p")]
    with pytest.raises(error, match=message):
        DropWindow(*arguments)
    assert [m.p for m in arguments[0].modules() if hasattr(m, "p")] == before


def test_a_state_of_the_other_schedule_is_told() -> None:
    ramp = LinearRamp(net(0.1, 0.2, 0.3), 0.0, "present", 5)
    with pytest.raises(ValueError, match="expected the keys"):
        DropWindow(net(0.1, 0.2, 0.3), 0).load_state_dict(ramp.state_dict())


def test_a_layer_drops_at_the_rate_of_its_ramp(generator) -> None:
    """100,000 samples at each of four rates, within four sigma."""
    layer = DropPath(0.0)
    layer.generator = generator
    ramp = LinearRamp(layer, 0.2, 0.8, 3)
    for p in (0.2, 0.4, 0.6, 0.8):
        dropped = (layer(torch.ones(100_000)) == 0).sum().item()
        assert abs(dropped - 1e5 * p) <= 4 * (1e5 * p * (1 - p)) ** 0.5
        ramp.step()


@pytest.mark.parametrize("done", [0, 2, 4, 9])
def test_a_resumed_run_goes_on_where_it_was(done) -> None:
    whole = LinearRamp(first := net(), [0.0, 0.1, 0.2], [0.3, 0.1, 0.0], 5)
    for _ in range(done):
        whole.step()
    torch.save(whole.state_dict(), file := io.BytesIO())
    file.seek(0)
    resumed = LinearRamp(second := net(), 0.9, 0.8, 77)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(5):
        assert rates(second) == rates(first)
        whole.step()
        resumed.step()
    assert resumed.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
def test_a_copy_of_a_model_and_its_ramp_goes_on_by_itself(duplicate) -> None:
    model = net()
    ramp = LinearRamp(model, [0.0, 0.1, 0.2], 0.4, 4)
    ramp.step()
    other_model, other = duplicate((model, ramp))
    assert other.state_dict() == ramp.state_dict()
    assert rates(other_model) == rates(model)
    other.step()
    assert rates(other_model) == pytest.approx([0.2, 0.25, 0.3])
    assert rates(model) == pytest.approx([0.1, 0.175, 0.25])


def test_a_state_is_a_copy() -> None:
    ramp = LinearRamp(net(), 0.0, 0.5, 5)
    state = ramp.state_dict()
    before = copy.deepcopy(state)
    ramp.p_end[0] = 0.9
    ramp.step()
    assert state == before
    ramp.load_state_dict(state)
    ramp.p_end[0] = 0.9
    assert state == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.ReLU(), 0.0, 0.1, 5), ValueError, "regdrop_lite, but ReLU has none"),
        ((net(), 0.0, 0.1, 0), ValueError, "num_steps .*at least 1, but got 0"),
        ((net(), 0.0, 0.1, 2.0), TypeError, "num_steps .*whole number.*float"),
        ((net(), 0.0, 0.1, True), TypeError, "num_steps .*whole number.*bool"),
        ((net(), -0.1, 0.1, 5), ValueError, "p_start .*between 0 and 1.*-0.1"),
        ((net(), 0.0, 1.1, 5), ValueError, "p_end .*between 0 and 1.*1.1"),
        ((net(), 0.0, float("nan"), 5), ValueError, "p_end .*nan"),
        ((net(), "0", 0.1, 5), TypeError, "p_start .*number.*str"),
        ((net(), 0.0, None, 5), TypeError, "p_end .*number.*NoneType"),
        ((net(), [0.0, 0.1], 0.1, 5), ValueError, "p_start .*list of 3.*got 2"),
        ((net(), 0.0, [0.1] * 4, 5), ValueError, "p_end .*list of 3.*got 4"),
        ((net(), [0, 0, 0], [0, 0, 2], 5), ValueError, "p_end .*got 2"),
        (
            (net(0.1, 0.2, 0.1), 0.0, 0.3, 5),
            ValueError,
            r"different rates \[0.1, 0.2\].*p_start.*list of 3",
        ),
    ],
)
def test_wrong_arguments_are_told_and_change_nothing(arguments, error, message) -> None:
    before = rates(arguments[0])
    with pytest.raises(error, match=message):
        LinearRamp(*arguments)
    assert rates(arguments[0]) == before


def test_a_state_of_another_model_is_told() -> None:
    state = LinearRamp(DropPath(), 0.0, 0.1, 5).state_dict()
    ramp = LinearRamp(net(), 0.0, 0.1, 5)
    with pytest.raises(ValueError, match="1 layers, but the module has 3"):
        ramp.load_state_dict(state)
    with pytest.raises(ValueError, match="3 layers, but the module has 1"):
        LinearRamp(DropPath(), 0.0, 0.1, 5).load_state_dict(ramp.state_dict())
    with pytest.raises(ValueError, match=r"keys \['num_steps', .*, but got .*'time'\]"):
        ramp.load_state_dict({**ramp.state_dict(), "time": 1})
    del state["step"]
    with pytest.raises(ValueError, match=r"keys \['num_steps', .*'step'\], but got"):
        ramp.load_state_dict(state)


@pytest.mark.parametrize(
    "wrong", [{"p_end": [2.0]}, {"num_steps": 0}, {"step": -1}], ids=str
)
def test_a_wrong_state_is_refused_and_changes_nothing(wrong) -> None:
    layer = DropPath(0.0)
    ramp = LinearRamp(layer, 0.0, 0.4, num_steps=4)
    ramp.step()
    before = ramp.state_dict()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ramp.load_state_dict({**before, "step": 3, **wrong})
    assert ramp.state_dict() == before and layer.p == 0.1
