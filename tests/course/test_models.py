"""The blocks and nets: shapes, counts, initial weights, places of the regularisers."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regdrop_lite import DropBlock2d, DropPath, SpatialDropout2d, set_generator
from regdrop_lite.course.data import make_generator
from regdrop_lite.course.models import (
    PLACEMENTS,
    REGULARISERS,
    ConvNormAct,
    ResidualBlock,
    ResNetSmall,
    TinyCNN,
    TransformerBlock,
    ViTSmall,
    count_parameters,
    initialise,
    make_regulariser,
)

NETS = (TinyCNN, ResNetSmall)


def rate(name):
    return 0.0 if name == "none" else 0.3


def images(n=4, channels=1, size=28, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, channels, size, size, dtype=dtype, generator=generator)


class Spy(nn.Module):
    """A stand-in for a layer that drops: maps its input and remembers it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        self.seen = x.detach().clone()
        return self.function(x)


# --- regularisers by name -------------------------------------------------------------


def test_regularisers_are_the_layers_of_the_package():
    assert isinstance(make_regulariser("none", 0.0), nn.Identity)
    assert isinstance(make_regulariser("spatial", 0.2), SpatialDropout2d)
    assert isinstance(make_regulariser("drop_path", 0.2), DropPath)
    block = make_regulariser("drop_block", 0.2, block_size=5, shared=True)
    assert isinstance(block, DropBlock2d)
    assert "block_size=5" in repr(block)
    assert "shared=True" in repr(block)


@pytest.mark.parametrize(
    ("name", "shared", "constant_along"),
    [  # the dimensions of (N, C, H, W) along which a mask does not vary
        ("element", False, ()),
        ("spatial", False, (2, 3)),
        ("drop_path", False, (1, 2, 3)),
        ("drop_block", False, ()),
        ("drop_block", True, (1,)),
    ],
)
def test_only_the_shape_of_the_mask_differs(name, shared, constant_along):
    layer = make_regulariser(name, 0.4, shared=shared)
    masks = []
    for _ in range(2):
        set_generator(layer, torch.Generator().manual_seed(0))
        masks.append(layer(torch.ones(16, 6, 8, 8)) != 0)
    keep = masks[0]
    assert torch.equal(keep, masks[1]), "the mask comes from the given generator"
    for dim in range(4):
        first = keep.narrow(dim, 0, 1)
        assert torch.equal(keep, first.expand_as(keep)) == (dim in constant_along), dim


def test_element_dropout_is_independent_and_rescaled():
    p, n = 0.3, 400_000
    layer = make_regulariser("element", p)
    set_generator(layer, torch.Generator().manual_seed(0))
    y = layer(torch.ones(n // 400, 1, 20, 20, dtype=torch.float64))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7], rel=1e-12)
    dropped = (y == 0).double()
    assert abs(dropped.mean().item() - p) < 4 * math.sqrt(p * (1 - p) / n)
    # Neighbours: the product of two independent deviations has the mean 0 and the
    # standard deviation p (1 - p).
    d = dropped - p
    for product in (d[..., 1:] * d[..., :-1], d[..., 1:, :] * d[..., :-1, :]):
        assert abs(product.mean().item()) < 4 * p * (1 - p) / product.numel() ** 0.5


def test_unfitting_regularisers_are_refused():
    with pytest.raises(ValueError, match=r"'none', 'element', .* but got 'dropout'"):
        make_regulariser("dropout", 0.1)
    with pytest.raises(ValueError, match=r"'none' has no rate, but got p=0\.1"):
        make_regulariser("none", 0.1)
    for name in REGULARISERS[1:]:
        with pytest.raises(ValueError, match=r"but got 1\.5"):
            make_regulariser(name, 1.5)


# --- blocks ---------------------------------------------------------------------------


def norm(x, layer):
    """Normalise over the batch, by hand."""
    mean = x.mean((0, 2, 3), keepdim=True)
    var = x.var((0, 2, 3), correction=0, keepdim=True)
    weight, bias = layer.weight.view(1, -1, 1, 1), layer.bias.view(1, -1, 1, 1)
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def randomise_norms(module):
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.bias):
                nn.init.normal_(values, 0.5, 0.3, generator=generator)


@pytest.mark.parametrize(("act", "function"), [("relu", F.relu), ("silu", F.silu)])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_conv_norm_act_is_what_it_says(act, function, kernel_size, stride):
    spy = Spy(lambda x: -2 * x)
    block = ConvNormAct(3, 5, kernel_size, stride, act, drop=spy).double()
    randomise_norms(block)
    x = images(4, 3, 9)
    y = F.conv2d(x, block.conv.weight, None, stride, padding=(kernel_size - 1) // 2)
    y = function(norm(y, block.norm))
    torch.testing.assert_close(block(x), -2 * y)
    torch.testing.assert_close(spy.seen, y)
    assert y.shape[2:] == ((9, 9) if stride == 1 else (5, 5))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "stride"), [(4, 4, 1), (4, 6, 1), (4, 4, 2)]
)
def test_residual_block_is_what_it_says(in_channels, out_channels, stride, placement):
    """With a 'drop' that turns x into 3x + 1, each place gives another result."""
    block = ResidualBlock(
        in_channels,
        out_channels,
        stride,
        drop=Spy(lambda x: 3 * x + 1),
        placement=placement,
    ).double()
    randomise_norms(block)
    x = images(4, in_channels, 7)
    branch = F.conv2d(x, block.conv1.weight, None, stride, padding=1)
    branch = F.relu(norm(branch, block.norm1))
    branch = F.conv2d(branch, block.conv2.weight, None, padding=1)
    if placement == "before_norm":
        branch = 3 * branch + 1
    branch = norm(branch, block.norm2)
    if placement == "branch":
        branch = 3 * branch + 1
    skip = x
    if (in_channels, stride) != (out_channels, 1):
        skip = norm(F.conv2d(x, block.skip[0].weight, None, stride), block.skip[1])
    total = branch + skip
    if placement == "after_sum":
        total = 3 * total + 1
    torch.testing.assert_close(block(x), F.relu(total))


def test_a_dropped_branch_leaves_the_skip_whole():
    block = ResidualBlock(4, 4, drop=DropPath(1.0)).double()
    x = images(3, 4, 5)
    torch.testing.assert_close(block(x), F.relu(x))


def test_blocks_refuse_unknown_names():
    with pytest.raises(ValueError, match="'relu', 'silu', but got 'gelu'"):
        ConvNormAct(1, 1, act="gelu")
    with pytest.raises(ValueError, match="odd, but got 4"):
        ConvNormAct(1, 1, kernel_size=4)
    with pytest.raises(
        ValueError, match="'branch', 'after_sum', 'before_norm', but got 'skip'"
    ):
        ResidualBlock(1, 1, placement="skip")


# --- nets -----------------------------------------------------------------------------


def conv_norm(a, b, k=3):
    """Count the parameters of a convolution without bias and of its norm."""
    return a * b * k * k + 2 * b


@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 100)])
def test_tiny_cnn_has_the_parameters_counted_by_hand(channels, classes):
    expected = conv_norm(channels, 8) + conv_norm(8, 16) + 4 * conv_norm(16, 16)
    expected += 16 * classes + classes
    assert count_parameters(TinyCNN(classes, channels)) == expected
    if (channels, classes) == (1, 10):
        assert expected == 10_786


@pytest.mark.parametrize(
    ("channels", "classes", "depths"), [(1, 10, (4, 4, 4)), (3, 100, (1, 2, 3))]
)
def test_resnet_small_has_the_parameters_counted_by_hand(channels, classes, depths):
    expected = conv_norm(channels, 8) + 2 * depths[0] * conv_norm(8, 8)
    for a, b, depth in ((8, 16, depths[1]), (16, 32, depths[2])):
        expected += conv_norm(a, b) + (2 * depth - 1) * conv_norm(b, b)
        expected += conv_norm(a, b, k=1)  # the projection on the skip
    expected += 32 * classes + classes
    model = ResNetSmall(classes, channels, depths=depths)
    assert count_parameters(model) == expected
    if (channels, classes) == (1, 10):
        assert expected == 93_058


def test_count_parameters_skips_frozen_ones():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


@pytest.mark.parametrize(
    ("net", "sizes"), [(TinyCNN, [7, 7]), (ResNetSmall, [14] * 4 + [7] * 4 + [4] * 4)]
)
def test_maps_have_the_sizes_of_the_description(net, sizes):
    seen = []
    model = net()
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            module.register_forward_hook(
                lambda module, args, output: seen.append(tuple(output.shape[2:]))
            )
    assert model(images(2)).shape == (2, 10)
    assert seen == [(size, size) for size in sizes]


@pytest.mark.parametrize("net", NETS)
def test_other_images_and_classes(net):
    x = images(2, 3, 32, torch.float32)
    assert net(7, 3, dtype=torch.float32)(x).shape == (2, 7)
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\), but got \(2, 3, 32, 32\)"):
        net()(x)
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\), but got \(3, 32, 32\)"):
        net(7, 3)(x[0])


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", REGULARISERS)
@pytest.mark.parametrize("net", NETS)
def test_everything_else_stays_equal(net, name, placement):
    plain = net(seed=4)
    other = net(regulariser=name, p=rate(name), placement=placement, seed=4)
    expected, found = plain.state_dict(), other.state_dict()
    assert list(found) == list(expected)
    for key, values in expected.items():
        assert torch.equal(found[key], values), key
    x = images()
    plain.eval(), other.eval()
    assert torch.equal(other(x), plain(x)), "masks are off in eval mode"
    plain.train(), other.train()
    set_generator(other, torch.Generator().manual_seed(0))
    assert torch.equal(other(x), plain(x)) == (name == "none")


@pytest.mark.parametrize("name", REGULARISERS)
@pytest.mark.parametrize("net", NETS)
def test_every_parameter_learns(net, name):
    model = net(regulariser=name, p=rate(name))
    set_generator(model, torch.Generator().manual_seed(0))
    model(images(16)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


def rates(model):
    return [
        module.drop.p for module in model.modules() if isinstance(module, ResidualBlock)
    ]


def test_rates_follow_the_schedule_for_drop_path_alone():
    def of(name, schedule):
        return rates(
            ResNetSmall(regulariser=name, p=0.5, schedule=schedule, depths=(1, 2, 2))
        )

    assert of("drop_path", "linear") == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    assert of("drop_path", "linear1") == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert of("drop_path", "constant") == [0.5] * 5
    for name in ("element", "spatial", "drop_block"):
        for schedule in ("linear", "linear1", "constant"):
            assert of(name, schedule) == [0.5] * 5
    assert rates(TinyCNN(regulariser="drop_path", p=0.2)) == [0.0, 0.2]


@pytest.mark.parametrize("net", NETS)
def test_block_size_and_sharing_reach_the_layers(net):
    model = net(regulariser="drop_block", p=0.1, block_size=2, shared=True)
    layers = [m for m in model.modules() if isinstance(m, DropBlock2d)]
    assert len(layers) == (2 if net is TinyCNN else 12)
    for layer in layers:
        assert "block_size=2" in repr(layer)
        assert "shared=True" in repr(layer)


def test_the_stem_drops_on_request():
    assert isinstance(TinyCNN(regulariser="spatial", p=0.1).stem.drop, nn.Identity)
    plain = TinyCNN(seed=4)
    model = TinyCNN(regulariser="spatial", p=0.1, drop_in_stem=True, seed=4)
    assert model.stem.drop.p == 0.1
    assert list(model.state_dict()) == list(plain.state_dict())
    with pytest.raises(ValueError, match="drop_in_stem has to be False"):
        TinyCNN(regulariser="drop_path", p=0.1, drop_in_stem=True)


def drops(model):
    return [m.drop for m in model.modules() if isinstance(m, ResidualBlock)]


def test_resnet_small_has_block_sizes_borders_and_stages_of_its_own():
    model = ResNetSmall(
        regulariser="drop_block",
        p=0.1,
        depths=(1, 2, 1),
        block_size=(5, 3, 2),
        border="clip",
        stages=(2, 3),
    )
    first, *others = drops(model)
    assert isinstance(first, nn.Identity)
    assert [layer.block_size for layer in others] == [3, 3, 2]
    assert {layer.border for layer in others} == {"clip"}
    with pytest.raises(ValueError, match=r"one number or 3, .* but got \(3, 3\)"):
        ResNetSmall(block_size=(3, 3))
    for stages in ((), (0, 1), (4,)):
        with pytest.raises(ValueError, match="stages has to name some of 1, 2 and 3"):
            ResNetSmall(stages=stages)


def test_stages_leave_the_rates_of_the_others_alone():
    arguments = {"regulariser": "drop_path", "p": 0.5, "depths": (1, 2, 2)}
    everywhere = [layer.p for layer in drops(ResNetSmall(**arguments))]
    found = drops(ResNetSmall(**arguments, stages=(1, 3)))
    assert [layer.p for layer in (found[0], *found[3:])] == [
        everywhere[0],
        *everywhere[3:],
    ]
    assert all(isinstance(layer, nn.Identity) for layer in found[1:3])


def test_a_drop_path_may_stand_beside_another_regulariser():
    plain = ResNetSmall(seed=4, depths=(1, 1, 1))
    model = ResNetSmall(
        regulariser="spatial", p=0.2, path_p=0.4, depths=(1, 1, 1), seed=4
    )
    assert list(model.state_dict()) == list(plain.state_dict())
    assert all(map(torch.equal, plain.parameters(), model.parameters()))
    kinds = [[type(layer) for layer in pair] for pair in drops(model)]
    assert kinds == [[SpatialDropout2d, DropPath]] * 3
    assert [[layer.p for layer in pair] for pair in drops(model)] == [
        [0.2, 0.0],
        [0.2, 0.2],
        [0.2, 0.4],
    ]
    alone = ResNetSmall(path_p=0.4, depths=(1, 1, 1))
    assert [layer.p for _, layer in drops(alone)] == [0.0, 0.2, 0.4]
    for changes in (
        {"regulariser": "drop_path", "p": 0.1},
        {"placement": "after_sum"},
    ):
        with pytest.raises(ValueError, match=r"path_p has to be 0 .* but got 0\.1"):
            ResNetSmall(path_p=0.1, **changes)


@pytest.mark.parametrize("net", NETS)
def test_nets_refuse_unfitting_arguments(net):
    with pytest.raises(ValueError, match="'drop_block', but got 'cutout'"):
        net(regulariser="cutout")
    with pytest.raises(ValueError, match="but got 'cosine'"):
        net(schedule="cosine")
    with pytest.raises(ValueError, match="but got 'middle'"):
        net(placement="middle")
    with pytest.raises(ValueError, match="has no rate"):
        net(p=0.1)
    with pytest.raises(ValueError, match=r"between 0 and 1, but got -0\.1"):
        net(regulariser="spatial", p=-0.1)


@pytest.mark.parametrize("depths", [(4, 4), (1, 1, 1, 1), (0, 1, 1)])
def test_resnet_small_refuses_other_depths(depths):
    with pytest.raises(ValueError, match="three numbers from 1, but got"):
        ResNetSmall(depths=depths)


# --- the Vision Transformer -----------------------------------------------------------


def small_vit(**changes):
    return ViTSmall(**{"depth": 3, "dim": 8, "seed": 4, **changes})


def vit_drops(model):
    return [layer for block in model.blocks for layer in (block.drop1, block.drop2)]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_transformer_block_is_what_it_says(heads):
    """Attention by hand, head by head; each 'drop' has a factor of its own."""
    block = TransformerBlock(8, heads, Spy(lambda x: 2 * x), Spy(lambda x: -3 * x))
    block.double()
    x = images(3, 1, 8)[:, 0]  # three sequences of eight tokens
    y = F.layer_norm(x, (8,))
    parts = (y @ block.query_key_value.weight.T + block.query_key_value.bias).split(
        8, dim=2
    )
    found = []
    for q, k, v in zip(*(part.split(8 // heads, dim=2) for part in parts), strict=True):
        scores = q @ k.transpose(1, 2) / (8 / heads) ** 0.5
        found.append(scores.softmax(dim=2) @ v)
    y = torch.cat(found, dim=2) @ block.mix.weight.T + block.mix.bias
    x = x + 2 * y
    wide, _, narrow = block.mlp
    y = F.gelu(F.layer_norm(x, (8,)) @ wide.weight.T + wide.bias)
    y = y @ narrow.weight.T + narrow.bias
    torch.testing.assert_close(block(images(3, 1, 8)[:, 0]), x - 3 * y)


def test_a_transformer_block_without_its_branches_is_the_identity():
    block = TransformerBlock(8, 2, DropPath(1.0), DropPath(1.0)).double()
    x = images(3, 1, 8)[:, 0]
    assert torch.equal(block(x), x)
    with pytest.raises(ValueError, match="heads has to divide dim, but got 3 and 8"):
        TransformerBlock(8, 3)


@pytest.mark.parametrize(
    ("channels", "classes", "size", "changes"),
    [
        (1, 10, 28, {}),
        (3, 7, 32, {"depth": 2, "dim": 8, "patch_size": 4, "image_size": 32}),
    ],
)
def test_vit_small_has_the_parameters_counted_by_hand(channels, classes, size, changes):
    model = ViTSmall(classes, channels, **changes)
    depth, d = changes.get("depth", 6), changes.get("dim", 32)
    patch = changes.get("patch_size", 7)
    attention, mlp = 4 * (d * d + d), d * 2 * d + 2 * d + 2 * d * d + d
    expected = channels * patch**2 * d + d  # of the patches
    expected += (size // patch) ** 2 * d  # of the positions
    expected += depth * (attention + mlp + 2 * 2 * d)  # with two norms
    expected += 2 * d + d * classes + classes
    assert count_parameters(model) == expected
    if not changes:
        assert expected == 53_770
    x = images(2, channels, size)
    assert model(x).shape == (2, classes)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(x)
    # The token of the second patch is made of the patch on the right of the first.
    weight = model.patches.weight.flatten(1)
    token = weight @ x[0, :, :patch, patch : 2 * patch].flatten() + model.patches.bias
    torch.testing.assert_close(seen[0][0, 1], token + model.position[0, 1])


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("linear", [0, 0.1, 0.2]), ("constant", [0.2] * 3), ("falling", [0.2, 0.1, 0])],
)
def test_a_drop_path_ends_each_branch_of_a_vit(schedule, rates):
    model = small_vit(p=0.2, schedule=schedule)
    layers = vit_drops(model)
    assert all(type(layer) is DropPath for layer in layers)
    assert len(set(map(id, layers))) == 6, "each branch draws its own masks"
    found = [layer.p for layer in layers]
    assert found == pytest.approx([rate for rate in rates for _ in range(2)])


def test_only_the_masks_of_a_vit_differ():
    plain, other = small_vit(), small_vit(p=0.5, schedule="constant")
    assert list(plain.state_dict()) == list(other.state_dict())
    assert all(map(torch.equal, plain.parameters(), other.parameters()))
    x = images(16)
    plain.eval(), other.eval()
    assert torch.equal(other(x), plain(x)), "masks are off in eval mode"
    assert torch.equal(other(x), other(x))
    plain.train(), other.train()
    set_generator(other, torch.Generator().manual_seed(0))
    first, second = other(x), other(x)
    set_generator(other, torch.Generator().manual_seed(0))
    assert torch.equal(other(x), first)
    assert not torch.equal(second, first)
    assert not torch.equal(plain(x), first)


def test_gradients_of_a_vit_are_those_of_differences():
    """With the same masks each time, in the images and in every parameter."""
    model = small_vit(depth=2, dim=4, patch_size=14, p=0.5, schedule="constant")
    names = [name for name, _ in model.named_parameters()]

    def run(x, *parameters):
        set_generator(model, torch.Generator().manual_seed(1))
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, named, (x,))

    x = images(8).requires_grad_()
    inputs = (x, *(p.detach().requires_grad_() for p in model.parameters()))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    run(*inputs).square().sum().backward()
    for key, parameter in zip(names, inputs[1:], strict=True):
        assert parameter.grad.abs().max() > 0, key


def test_weights_of_a_vit_follow_the_documented_rule():
    model = ViTSmall(3, 2, depth=2, dim=8, seed=9)
    generator = make_generator(9, "weights")
    parameters = dict(model.named_parameters())
    parameters["position"] = parameters.pop("position")  # drawn last
    for key, values in parameters.items():
        if key == "position":
            std = 0.02
        elif values.ndim == 4:
            std = (2 / (8 * 7 * 7)) ** 0.5
        elif values.ndim == 2:
            std = (1 / values.shape[1]) ** 0.5
        else:
            expected = torch.zeros if key.endswith("bias") else torch.ones
            assert torch.equal(values, expected(len(values), dtype=torch.float64)), key
            continue
        drawn = torch.randn(values.shape, dtype=torch.float64, generator=generator)
        assert torch.allclose(values, std * drawn, rtol=1e-12, atol=0), key
    before = torch.get_rng_state()
    narrow = ViTSmall(3, 2, depth=2, dim=8, seed=9, dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), before), "the global generator moved"
    for a, b in zip(narrow.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b.float())


def test_a_vit_refuses_what_does_not_fit():
    for changes, message in (
        ({"depth": 0}, "depth has to be a number from 1, but got 0"),
        ({"patch_size": 5}, "patch_size has to divide image_size, but got 5 and 28"),
        ({"heads": 3}, "heads has to divide dim, but got 3 and 8"),
        ({"schedule": "cosine"}, "but got 'cosine'"),
        ({"p": 1.5}, r"but got 1\.5"),
    ):
        with pytest.raises(ValueError, match=message):
            small_vit(**changes)
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\), but got \(2, 3, 28, 28\)"):
        small_vit()(images(2, 3))
    with pytest.raises(ValueError, match=r"28 x 28 pixels, but got shape \(2, 1, 32, "):
        small_vit()(images(2, 1, 32))


# --- initial weights ------------------------------------------------------------------


@pytest.mark.parametrize("net", NETS)
def test_weights_follow_the_documented_rule(net):
    """Every weight is drawn again here, in the order of the parameters."""
    model = net(3, 2, seed=9)
    generator = make_generator(9, "weights")
    for key, values in model.named_parameters():
        if values.ndim == 4:
            out, _, height, width = values.shape
            std = (2 / (out * height * width)) ** 0.5
        elif values.ndim == 2:
            std = (1 / values.shape[1]) ** 0.5
        else:
            expected = torch.zeros if key.endswith("bias") else torch.ones
            assert torch.equal(values, expected(len(values), dtype=torch.float64)), key
            continue
        drawn = torch.randn(values.shape, dtype=torch.float64, generator=generator)
        assert torch.allclose(values, std * drawn, rtol=1e-12, atol=0), key


@pytest.mark.parametrize("net", NETS)
def test_weights_depend_on_the_seed_alone(net):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = net(seed=0).state_dict()
    assert torch.equal(torch.get_rng_state(), before), "the global generator moved"
    torch.manual_seed(2)
    second, other = net(seed=0).state_dict(), net(seed=1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("net", NETS)
def test_float32_and_float64_start_alike(net):
    narrow, wide = net(dtype=torch.float32), net(dtype=torch.float64)
    for a, b in zip(narrow.parameters(), wide.parameters(), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b.float())


def test_initialise_starts_a_used_model_afresh():
    model = TinyCNN(seed=5)
    fresh = copy.deepcopy(model.state_dict())
    for values in (*model.parameters(), *model.buffers()):
        values.detach().fill_(7)
    initialise(model, make_generator(5, "weights"))
    assert all(torch.equal(model.state_dict()[key], fresh[key]) for key in fresh)


def test_initialise_zeroes_the_bias_of_a_convolution():
    layer = nn.Conv2d(1, 4, 3)
    initialise(layer, torch.Generator().manual_seed(0))
    assert layer.bias.tolist() == [0, 0, 0, 0]
