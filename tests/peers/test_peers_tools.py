"""Swap the layers of real models, built without weights, and find them all."""

from collections.abc import Callable

import pytest
import torch
from same_case import peer, timm_layers, torchvision_ops
from torch import nn

from regdrop_lite import (
    DropBlock2d,
    DropBlock3d,
    DropLayer,
    DropPath,
    LinearRamp,
    drop_path_rates,
)
from regdrop_lite.tools import (
    audit,
    drop_layers,
    monte_carlo_mode,
    replace_layers,
    set_rates,
)

# A model of timm, the arguments that make it small, and the side of its input.
TIMM = {
    "vit_tiny_patch16_224": ({"img_size": 32, "depth": 4}, 32),
    "deit_tiny_distilled_patch16_224": ({"img_size": 32, "depth": 3}, 32),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 56, "depths": (2, 2), "num_heads": (2, 4), "embed_dim": 32},
        56,
    ),
    "cait_xxs24_224": ({"img_size": 32, "depth": 3}, 32),
    "xcit_nano_12_p16_224": ({"depth": 2}, 32),
    "vit_small_patch16_18x2_224": ({"img_size": 32, "depth": 2}, 32),
    "mixer_s32_224": ({"img_size": 64}, 64),
    "convnext_atto": ({"depths": (1, 1, 2, 1)}, 32),
    "resnet18": ({}, 32),
    "efficientnet_b0": ({}, 32),
    "mobilenetv3_small_050": ({}, 32),
    "regnetx_002": ({}, 32),
    "poolformer_s12": ({}, 32),
    "edgenext_xx_small": ({}, 64),
    "pvt_v2_b0": ({}, 32),
}
SWIN = {"patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2]}
# The same for torchvision, whose ready-made Swins do not take another rate.
TORCHVISION = {
    "efficientnet_b0": ({"weights": None}, 32),
    "convnext_tiny": ({"weights": None}, 32),
    "SwinTransformer": (SWIN | {"window_size": [4, 4]}, 64),
}
MODELS = [("timm", name) for name in TIMM] + [("tv", name) for name in TORCHVISION]


def build(source: str, name: str, rate: float) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if source == "timm":
        options, size = TIMM[name]
        model = peer("timm").create_model(name, drop_path_rate=rate, **options)
    else:
        options, size = TORCHVISION[name]
        kind = getattr(peer("torchvision.models"), name)
        model = kind(stochastic_depth_prob=rate, **options)
    return model.eval(), torch.randn(2, 3, size, size)


every_model = pytest.mark.parametrize(
    ("source", "name"), MODELS, ids=[f"{s}-{n}" for s, n in MODELS]
)


@torch.no_grad()
@every_model
@pytest.mark.parametrize("built", [0.0, 0.2])
def test_a_swapped_model_is_the_same_in_evaluation_and_drops_as_asked(
    source, name, built
) -> None:
    """Built with rates, or at 0, where timm leaves no layers but places for them."""
    model, x = build(source, name, built)
    before = model(x)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    theirs = [m for m in model.modules() if type(m).__name__ in PATHS]
    rates = [getattr(m, "drop_prob", getattr(m, "p", None)) for m in theirs]

    done = replace_layers(model, fill=True)

    left = [m for m in model.modules() if type(m).__name__ in PATHS]
    assert all(isinstance(m, DropPath) for m in left)
    swapped = [r for r in done if type(r.old).__name__ in PATHS]
    assert [r.p_new for r in swapped] == rates
    assert all(r.p_new == r.p_old == 0.0 for r in done if r not in swapped)
    assert [r.new for r in done] == [model.get_submodule(r.name) for r in done]
    assert len(theirs) > 2 if built else len(done) > 2
    assert all(not layer.training for layer in left)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())

    asked = set_rates(model, lambda name, depth, number: 0.6 * (depth + 1) / number)
    assert max(asked.values()) == 0.6
    for layer_name, p in asked.items():  # 10,000 samples, within four sigma
        layer = model.get_submodule(layer_name).train()
        dropped = (layer(torch.ones(10_000, 1)) == 0).sum().item()
        assert abs(dropped - 1e4 * p) <= 4 * (1e4 * p * (1 - p)) ** 0.5
    assert torch.equal(model.eval()(x), before)


PATHS = ("DropPath", "StochasticDepth")


def test_every_block_of_a_vit_has_a_place_where_the_rate_was_0() -> None:
    model, _ = build("timm", "vit_tiny_patch16_224", 0.0)
    with pytest.raises(ValueError, match=r"no layer.*8 places \(blocks.0.drop_path1"):
        replace_layers(model)
    records = replace_layers(model, drop_path_rates(0.3, 4), fill=True)
    assert [r.p_new for r in records] == pytest.approx(
        [0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    )
    assert [r.name for r in records[:3]] == [
        "blocks.0.drop_path1",
        "blocks.0.drop_path2",
        "blocks.1.drop_path1",
    ]


def test_rates_by_depth_do_not_slip_past_a_first_block_without_layer() -> None:
    model, _ = build("timm", "vit_tiny_patch16_224", 0.3)

    def rate(name: str, depth: int, number: int) -> float:
        return drop_path_rates(0.6, number)[depth]

    with pytest.raises(ValueError, match=r"2 places.*would not line up.*fill=True"):
        replace_layers(model, rate)
    assert not any(isinstance(m, DropLayer) for m in model.modules())
    records = replace_layers(model, rate, fill=True)
    assert [r.p_new for r in records][::2] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert [r.p_old for r in records][::2] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_class_attention_stays_as_timm_builds_it_at_every_rate() -> None:
    """Filled, a model built at 0 has its layers where one built at 0.2 has them."""
    for name in ("cait_xxs24_224", "xcit_nano_12_p16_224"):
        built, empty = (build("timm", name, rate) for rate in (0.2, 0.0))
        names = [record.name for record in replace_layers(built[0])]
        assert [r.name for r in replace_layers(empty[0], 0.2, fill=True)] == names
        assert audit(*empty, draws=5).empty == []


def test_parallel_branches_of_a_block_have_one_depth() -> None:
    model, _ = build("timm", "vit_small_patch16_18x2_224", 0.0)
    seen = set_by_depth(model)
    assert len(seen) == 2 * 4
    assert {name[:8]: depth for name, depth in seen} == {"blocks.0": 0, "blocks.1": 1}


def set_by_depth(model: nn.Module) -> list[tuple[str, int]]:
    """Fill a model; the names of its layers and their depths."""
    seen = []

    def rate(name: str, depth: int, number: int) -> float:
        seen.append((name, depth))
        return 0.5

    replace_layers(model, rate, fill=True)
    return seen


def test_a_resnet_of_timm_has_none_for_the_first_block() -> None:
    """Places that hold ``None`` are filled too, and the forward pass calls them."""
    model, x = build("timm", "resnet18", 0.2)
    filled = [r for r in replace_layers(model, fill=True) if r.old is None]
    assert [r.name for r in filled] == ["layer1.0.drop_path"]
    calls = []
    filled[0].new.register_forward_hook(lambda *_: calls.append(1))
    model(x)
    assert calls == [1]


def test_blocks_of_timm_and_torchvision() -> None:
    """In the third stage of a ResNet of timm a factor makes the rate another."""
    model = peer("timm").create_model("resnet18", drop_block_rate=0.2)
    with pytest.raises(ValueError, match=r"layer3.0.* gamma_scale=0.25.*about 0.05"):
        replace_layers(model)
    rate = {"layer3": 0.05, "layer4": 0.2}
    records = replace_layers(model, lambda name, *_: rate[name[:6]], kind=DropBlock2d)
    assert [type(r.new) for r in records] == [DropBlock2d] * len(records)
    assert [r.p_new for r in records] == [0.05] * 2 + [0.2] * 2
    assert {m.shared for m in model.modules() if isinstance(m, DropBlock2d)} == {True}
    ops = torchvision_ops()
    pair = nn.Sequential(ops.DropBlock2d(0.1, 7, inplace=True), ops.DropBlock3d(0.2, 3))
    two, three = (r.new for r in replace_layers(pair))
    assert (two.p, two.block_size, two.inplace) == (0.1, 7, True)
    assert isinstance(three, DropBlock3d) and (three.p, three.block_size) == (0.2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma_scale": 0.5}, "1 has gamma_scale=0.5.*pass rates"),
        ({"with_noise": True}, "1 cannot be swapped: with_noise .*got True"),
        ({"scale_by_keep": False}, "scale_by_keep .*got False"),
        ({"drop_prob": 1.5}, "between 0 and 1, but got 1.5"),
        ({"block_size": 0}, "block_size"),
    ],
)
def test_what_has_no_counterpart_is_told_and_nothing_is_changed(
    settings, message
) -> None:
    layers = timm_layers()
    model = nn.Sequential(layers.DropPath(0.1), layers.DropBlock2d(**settings))
    before = list(model)
    with pytest.raises(ValueError, match=message):
        replace_layers(model)
    assert list(model) == before


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_modes_of_stochastic_depth_are_kept(mode) -> None:
    model = nn.Sequential(torchvision_ops().StochasticDepth(0.3, mode))
    (record,) = replace_layers(model)
    assert (record.new.p, record.new.mode) == (0.3, mode)


def test_unscaled_paths_stay_unscaled() -> None:
    model = nn.Sequential(timm_layers().DropPath(0.3, scale_by_keep=False))
    assert not replace_layers(model)[0].new.scale_by_keep


def test_all_layers_of_the_peers_are_found() -> None:
    ops, layers = torchvision_ops(), timm_layers()
    theirs: list[Callable[[], nn.Module]] = [
        lambda: ops.StochasticDepth(0.1, "row"),
        lambda: ops.DropBlock2d(0.1, 3),
        lambda: ops.DropBlock3d(0.1, 3),
        lambda: layers.DropPath(0.1),
        lambda: layers.DropBlock2d(0.1, 3),
        lambda: layers.PatchDropout(0.1),
    ]
    model = nn.Sequential(*(build() for build in theirs))
    assert [layer for _, layer in drop_layers(model)] == list(model)


def test_a_swin_drops_in_monte_carlo_mode_and_leaves_batchnorm_alone() -> None:
    model, x = build("tv", "efficientnet_b0", 0.3)
    buffers = [b.clone() for b in model.buffers()]
    with monte_carlo_mode(model):
        assert not torch.equal(model(x), model(x))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert torch.equal(model(x), model(x))


def test_three_lines_warm_up_a_vit_that_was_built_at_rate_0() -> None:
    """The recipe of the page on the package, and what its audit says."""
    model, x = build("timm", "vit_tiny_patch16_224", 0.0)
    replace_layers(model, drop_path_rates(0.3, 4), fill=True)
    report = audit(model, x)
    paths = [row for row in report.rows if row.kind == "regdrop_lite.DropPath"]
    assert len(paths) == 8 and report.warnings == []
    assert {row.place for row in paths} == {"branch"}
    assert {row.falls for row in paths[2:]} == {"sample"}
    assert {row.norm for row in paths} == {"LayerNorm"}
    ramp = LinearRamp(model, 0.0, "present", num_steps=10)
    assert {layer.p for layer in model.modules() if isinstance(layer, DropPath)} == {
        0.0
    }
    for _ in range(10):
        ramp.step()
    assert model.blocks[3].drop_path2.p == 0.3


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_atto"])
def test_a_model_of_timm_is_seen_as_it_is(name) -> None:
    """Told are the places without a layer, and layers of blocks that have no skip."""
    model, x = build("timm", name, 0.2)
    report = audit(model, x, draws=10)
    rows = [row for row in report.rows if row.kind == "timm.DropPath"]
    called = [row for row in rows if row.calls]
    assert called and all(row.place.startswith("branch") for row in called)
    never = {f"{row.name}: never called: it drops nothing" for row in rows} - {
        f"{row.name}: never called: it drops nothing" for row in called
    }
    assert set(report.warnings) == never and report.empty
    assert bool(never) == (name == "efficientnet_b0")


def test_a_dropblock_that_drops_twice_too_much_is_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), timm_layers().DropBlock2d(0.1))
    (warning,) = audit(model, torch.randn(8, 3, 14, 14)).warnings
    assert warning.startswith("1: drops 0.2") and "asked for 0.1" in warning


def test_a_mask_behind_frozen_norms_sees_no_norm_and_leaves_them_alone() -> None:
    """A backbone of torchvision for a detector, with DropBlock behind it."""
    peer("torchvision")
    norm = peer("torchvision.ops").FrozenBatchNorm2d
    backbone = peer("torchvision.models").resnet18(weights=None, norm_layer=norm)
    kept = list(backbone.children())[:-3]  # up to the third stage
    model = nn.Sequential(*kept, DropBlock2d(0.1, 3), nn.Conv2d(256, 8, 1))
    buffers = [b.clone() for b in model.buffers()]
    assert len(buffers) == 4 * 15
    report = audit(model, torch.randn(4, 3, 64, 64), draws=50)
    (row,) = report.rows
    assert report.warnings == [] and row.falls == "block of a channel"
    assert (row.place, row.norm, row.shape) == ("main path", "-", [4, 256, 4, 4])
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
