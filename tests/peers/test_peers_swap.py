"""Put our layers into other people's models, and their rates into ours."""

import inspect
from collections.abc import Callable

import pytest
import torch
from same_case import CHANGED, peer, timm_layers
from torch import nn

from regdrop_lite import (
    DropBlock2d,
    DropPath,
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    drop_block,
    drop_path,
    drop_path_rates,
    set_generator,
    spatial_dropout,
)


def swap(
    model: nn.Module, kind: type[nn.Module], build: Callable[[nn.Module], nn.Module]
) -> int:
    """Replace every layer of ``kind`` by ``build(layer)``; return how many."""
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is kind
    ]
    for parent, name, child in places:
        setattr(parent, name, build(child))
    return len(places)


def assert_same_in_eval(model: nn.Module, before: torch.Tensor, x: torch.Tensor):
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(x), before)


@pytest.mark.parametrize(
    ("theirs", "ours", "size"),
    [
        (nn.Dropout1d, SpatialDropout1d, (9,)),
        (nn.Dropout2d, SpatialDropout2d, (9, 9)),
        (nn.Dropout3d, SpatialDropout3d, (9, 9, 9)),
    ],
)
def test_a_swapped_dropout_layer_changes_neither_the_weights_nor_the_output(
    theirs, ours, size
) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1]
    model = nn.Sequential(conv(3, 8, 3), nn.ReLU(), theirs(0.3), conv(8, 4, 3))
    x = torch.randn(2, 3, *size)
    before, state = model.eval()(x).detach(), list(model.state_dict())
    assert swap(model, theirs, lambda old: ours(old.p, inplace=old.inplace)) == 1
    assert list(model.state_dict()) == state
    assert_same_in_eval(model, before, x)
    model.train()
    assert not torch.equal(model(x), model(x))


def test_a_model_of_torchvision_takes_our_drop_path() -> None:
    """EfficientNet-B0: 9 residual blocks, rates rising with depth."""
    models = peer("torchvision.models")
    kind = peer("torchvision.ops").StochasticDepth
    model = models.efficientnet_b0(weights=None).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
    rates = [m.p for m in model.modules() if isinstance(m, kind)]
    count = swap(model, kind, lambda old: DropPath(old.p, mode=old.mode))
    assert count == len(rates) > 8
    assert [m.p for m in model.modules() if isinstance(m, DropPath)] == rates
    assert_same_in_eval(model, before, x)
    state = torch.Generator().manual_seed(1).get_state()
    runs = []
    model.train()
    for module in model.modules():  # leave only our layers random
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for _ in range(2):
        set_generator(model, torch.Generator().set_state(state))
        runs.append(model(x))
    assert torch.equal(*runs)


@pytest.mark.parametrize(
    ("name", "rate", "layer", "ours", "least"),
    [
        (
            "convnext_atto",
            "drop_path_rate",
            "DropPath",
            lambda old: DropPath(old.drop_prob, scale_by_keep=old.scale_by_keep),
            6,
        ),
        (
            "resnet18",
            "drop_block_rate",
            "DropBlock2d",
            lambda old: DropBlock2d(
                old.drop_prob, old.block_size, shared=old.couple_channels
            ),
            3,
        ),
    ],
)
def test_a_model_of_timm_takes_our_layers(name, rate, layer, ours, least) -> None:
    model = peer("timm").create_model(name, **{rate: 0.1}).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
    kind = getattr(timm_layers(), layer)
    rates = [m.drop_prob for m in model.modules() if isinstance(m, kind)]
    assert swap(model, kind, ours) == len(rates) >= least
    layers = [m for m in model.modules() if isinstance(m, DropPath | DropBlock2d)]
    assert [m.p for m in layers] == rates
    assert_same_in_eval(model, before, x)
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("depths", [[3, 3, 9, 3], [1], [2, 0, 1]])
def test_our_rates_by_depth_are_those_of_timm(depths) -> None:
    """timm computes in float32, ours in float64."""
    theirs = timm_layers().calculate_drop_path_rates
    flat = [rate for stage in drop_path_rates(0.3, depths) for rate in stage]
    assert flat == pytest.approx(theirs(0.3, depths), abs=1e-7)
    for mine, other in zip(
        drop_path_rates(0.3, depths), theirs(0.3, depths, stagewise=True), strict=True
    ):
        assert mine == pytest.approx(other, abs=1e-7), CHANGED
    total = sum(depths)
    assert drop_path_rates(0.3, total) == pytest.approx(theirs(0.3, total), abs=1e-7)


def test_timm_does_not_check_its_rates() -> None:
    assert timm_layers().calculate_drop_path_rates(1.5, 2) == [0.0, 1.5], CHANGED
    with pytest.raises(ValueError, match="p_max has to be between 0 and 1"):
        drop_path_rates(1.5, 2)


def test_the_functions_do_not_have_the_same_order_of_arguments() -> None:
    """Ours follows ``torch.nn.functional``; the peers' fourth argument differs."""
    ops, layers = peer("torchvision.ops"), timm_layers()
    ours = ["input", "p", "training", "inplace"]
    orders = [
        (spatial_dropout, ours),
        (nn.functional.dropout2d, ours),
        (drop_path, ["input", "p", "training", "mode"]),
        (ops.stochastic_depth, ["input", "p", "mode", "training"]),
        (layers.drop_path, ["x", "drop_prob", "training", "scale_by_keep"]),
        (drop_block, ["input", "p", "block_size", "training"]),
        (ops.drop_block2d, ["input", "p", "block_size", "inplace"]),
        (layers.drop_block_2d, ["x", "drop_prob", "block_size", "gamma_scale"]),
    ]
    for function, expected in orders:
        assert list(inspect.signature(function).parameters)[:4] == expected, CHANGED
    x = torch.ones(50, 3)
    assert layers.drop_path(x, 0.5) is x, CHANGED  # training=False by default
    assert (drop_path(x, 0.5) == 0).any()


def test_the_second_argument_of_timms_layer_is_not_taken_by_position() -> None:
    timm_layers().DropPath(0.1, False)
    with pytest.raises(
        TypeError, match=r"by name, but got False.*scale_by_keep in timm"
    ):
        DropPath(0.1, False)


def test_a_new_layer_is_in_training_mode_until_the_model_is_told() -> None:
    model = nn.Sequential(nn.Dropout2d(0.5)).eval()
    swap(model, nn.Dropout2d, lambda old: SpatialDropout2d(old.p))
    x = torch.ones(20, 8, 2, 2)
    assert not model.training and (model(x) == 0).any()
    assert model.eval()(x) is x
