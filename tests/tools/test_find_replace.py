"""drop_layers, replace_layers, set_rates: with torch alone.

Layers of other libraries are imitated by classes that name their package; the real ones
are in ``tests/peers/test_peers_tools.py``.
"""

import copy
import functools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regdrop_lite import (
    DropBlock2d,
    DropLayer,
    DropPath,
    LinearRamp,
    SpatialDropout1d,
    SpatialDropout2d,
    SpatialDropout3d,
    drop_path_rates,
)
from regdrop_lite.tools import drop_layers, replace_layers, set_rates


class Path(nn.Module):
    def __init__(self, drop_prob: float | None = 0.0) -> None:
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, True


TimmPath = type("DropPath", (Path,), {"__module__": "timm.layers.drop"})
Stranger = type("Hider", (Path,), {"__module__": "timmy.layers"})
Copy = type("ConvNextDropPath", (Path,), {"__module__": "transformers.models"})


class Block(nn.Module):
    """Two branches, as in a Transformer."""

    def __init__(self, first: nn.Module | None, second: nn.Module | None) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.drop_path1, self.drop_path2 = first, second

    def forward(self, x: Tensor) -> Tensor:
        for layer, path in ((self.one, self.drop_path1), (self.two, self.drop_path2)):
            y = layer(x)
            x = x + (y if path is None else path(y))
        return x


def transformer(blocks: int = 3) -> nn.Sequential:
    return nn.Sequential(*(Block(DropPath(), DropPath()) for _ in range(blocks)))


# ------------------------------------------------------------------------------ find


def test_layers_are_found_in_the_order_of_the_model_and_nothing_else() -> None:
    kinds = [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d]
    kinds += [nn.AlphaDropout, nn.FeatureAlphaDropout, DropPath, SpatialDropout2d]
    layers = [kind(0.1) for kind in kinds] + [TimmPath(0.1), DropBlock2d(0.1, 3)]
    model = nn.Sequential()
    for i, layer in enumerate(layers):  # not in the order of holders
        model.append(nn.Sequential(nn.ReLU(), layer) if i % 2 else layer)
        model.append(Stranger(0.1))
    found = drop_layers(model)
    assert [layer for _, layer in found] == layers
    assert [model.get_submodule(name) for name, _ in found] == layers


def test_subclasses_shared_layers_and_classes_of_ones_own_are_found() -> None:
    class Mine(nn.Dropout2d):
        pass

    mine, stranger = Mine(0.1), Stranger(0.2)
    model = nn.Sequential(mine, nn.Sequential(mine, stranger))
    assert drop_layers(model) == [("0", mine)]
    assert drop_layers(model, also=Stranger) == [("0", mine), ("1.1", stranger)]
    assert drop_layers(mine) == [("", mine)]
    with pytest.raises(TypeError, match=r"also has to be a subclass.*got 'DropPath'"):
        drop_layers(model, also="DropPath")


def test_copies_are_found_by_name_unless_they_hold_something() -> None:
    class FeatureDropout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Dropout(0.1)

    class LearnedDropout(nn.Linear):
        pass

    copies = [Copy(0.1), type("DropBlock2D", (Path,), {})(0.2)]
    net = nn.Sequential(*copies, FeatureDropout(), LearnedDropout(2, 2))
    assert [name for name, _ in drop_layers(net)] == ["0", "1", "2.inner"]
    with pytest.raises(
        ValueError, match="0 and others of 2 layers are of a class that"
    ):
        replace_layers(net)


@pytest.mark.parametrize(
    "tool", [replace_layers, lambda net: set_rates(net, 0.3)], ids=["replace", "set"]
)
def test_layers_in_plain_lists_are_told(tool) -> None:
    net = nn.Sequential(nn.Dropout2d(0.1), DropPath(0.1))
    net.add_module("block", nn.Identity())
    net.block.drops = (nn.Sequential(DropPath(0.1)),)
    net.block.by_name = {"last": nn.Dropout2d(0.1), "rate": 0.1}
    names = r"2 dropping layers \(block.drops\[0\].0, block.by_name\['last'\]\) are in"
    with pytest.warns(UserWarning, match=names) as told:
        tool(net)
    assert told[0].filename == __file__
    assert len(told) == 1


# --------------------------------------------------------------------------- replace


@pytest.mark.parametrize(
    ("theirs", "ours", "size"),
    [
        (nn.Dropout1d, SpatialDropout1d, (9,)),
        (nn.Dropout2d, SpatialDropout2d, (9, 9)),
        (nn.Dropout3d, SpatialDropout3d, (9, 9, 9)),
    ],
)
def test_layers_of_torch_become_ours_and_keep_all_settings(theirs, ours, size) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1]
    model = nn.Sequential(conv(3, 8, 3), theirs(0.3, inplace=True), theirs(0.4).eval())
    model.append(nn.Dropout(0.5))
    x = torch.randn(2, 3, *size)
    old, keys = list(model), list(model.state_dict())
    before = copy.deepcopy(model).eval()(x)
    records = replace_layers(model)
    assert [(r.name, r.old, r.p_old, r.p_new) for r in records] == [
        ("1", old[1], 0.3, 0.3),
        ("2", old[2], 0.4, 0.4),
    ]
    assert [r.new for r in records] == [model[1], model[2]]
    assert [type(model[i]) for i in (1, 2, 3)] == [ours, ours, nn.Dropout]
    assert (model[1].inplace, model[2].inplace) == (True, False)
    assert (model[1].training, model[2].training) == (True, False)
    assert list(model.state_dict()) == keys
    assert torch.equal(model.eval()(x), before)


def test_hooks_go_on_to_the_new_layer_and_can_be_removed() -> None:
    net, seen = nn.Sequential(nn.Linear(4, 4), TimmPath(0.0), nn.Identity()), []
    handles = [
        net[1].register_forward_hook(lambda *_: seen.append("after")),
        net[1].register_forward_pre_hook(
            lambda *_, **__: seen.append("before"), with_kwargs=True
        ),
        net[1].register_full_backward_hook(lambda *_: seen.append("back")),
    ]
    replace_layers(net)
    net(torch.ones(2, 4)).sum().backward()
    assert isinstance(net[1], DropPath) and seen == ["before", "after", "back"]
    for handle in handles:
        handle.remove()
    net(torch.ones(2, 4)).sum().backward()
    assert len(seen) == 3


def test_one_sample_without_a_batch_is_refused_and_not_read_in_another_way() -> None:
    net = nn.Sequential(nn.Dropout1d(0.5), nn.Dropout2d(0.5))
    replace_layers(net)
    for layer, shape in ((net[0], (8, 9)), (net[1], (3, 9, 9))):
        with pytest.raises(ValueError, match=rf"shape \(N, C, .*got {len(shape)} dim"):
            layer(torch.ones(shape))


def test_a_shared_layer_stays_shared_and_counts_once() -> None:
    shared = nn.Dropout2d(0.1)
    model = nn.Sequential(shared, nn.Sequential(nn.Dropout2d(0.2), shared))
    calls = []

    def rate(name: str, depth: int, number: int) -> float:
        calls.append((name, depth, number))
        return 0.5

    records = replace_layers(model, rate)
    assert [r.name for r in records] == ["0", "1.0", "1.1"]
    assert model[0] is model[1][1] and model[0] is not model[1][0]
    assert calls == [("0", 0, 2), ("1.0", 1, 2)]


@pytest.mark.parametrize("empty", [nn.Identity, lambda: None])
def test_places_that_were_left_empty_are_filled_on_demand(empty) -> None:
    def model() -> nn.Sequential:
        head = nn.Sequential(Block(empty(), empty()), Block(TimmPath(0.1), TimmPath()))
        return head.append(Block(TimmPath(None), nn.Identity()))

    rates = [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"3 places \(0.drop_path1.*would not line up"):
        replace_layers(model(), rates)
    net = model()
    replaced = replace_layers(net, rates, fill=True)
    assert [r.p_new for r in replaced] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert [r.p_old for r in replaced] == [0.0, 0.0, 0.1, 0.0, 0.0, 0.0]
    assert all(isinstance(r.new, DropPath) for r in replaced)
    torch.manual_seed(0)
    assert not torch.equal(net(torch.ones(50, 4)), net.eval()(torch.ones(50, 4)))
    net = model()
    assert [r.name for r in replace_layers(net, rates[:2], fill=False)] == [
        "1.drop_path1",
        "1.drop_path2",
        "2.drop_path1",
    ]
    assert type(net[0].drop_path1) is type(empty())
    assert len(replace_layers(model())) == len(replace_layers(model(), 0.5)) == 3


@pytest.mark.parametrize("name", ["LayerScaleBlockClassAttn", "ClassAttentionBlock"])
def test_class_attention_which_never_has_a_rate_stays_empty(name) -> None:
    def block(kind: type[nn.Module]) -> nn.Module:
        return kind(nn.Identity(), nn.Identity())

    timms = type(name, (Block,), {"__module__": "timm.models.cait"})
    others = type(name, (Block,), {"__module__": "mine"})
    net = nn.Sequential(block(Block), block(timms), block(others))
    records = replace_layers(net, [0.1, 0.2], fill=True)
    assert [r.name[0] for r in records] == ["0", "0", "2", "2"]
    assert type(net[1].drop_path1) is nn.Identity


def test_what_still_leads_to_a_swapped_layer_is_told() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.other = nn.Dropout2d(0.1), nn.Dropout2d(0.1)
            self.steps = ((torch.relu, self.drop), self.other)
            self.call = self.drop.forward
            self.later = {"x": functools.partial(F.relu, self.drop)}
            drop = self.drop
            self.inner = lambda x: drop(x)
            self.fine = (len, "drop", nn.Dropout(0.1).forward)

    net = nn.Sequential(Keeps())
    words = r"^0.steps, 0.call, 0.later, 0.inner: still lead to .*\(Dropout2d\)"
    with pytest.warns(UserWarning, match=words) as told:
        replace_layers(net)
    assert [told[0].filename, len(told)] == [__file__, 1]
    assert isinstance(net[0].steps[0][1], nn.Dropout2d), "and it is true"


def test_identities_of_other_names_are_left_alone() -> None:
    block = Block(TimmPath(0.1), TimmPath(0.1))
    block.norm = nn.Identity()
    block.path = None
    replace_layers(block, fill=True)
    assert type(block.norm) is nn.Identity and block.path is None


def test_one_kind_may_be_swapped_alone() -> None:
    model = nn.Sequential(nn.Dropout2d(0.1), TimmPath(0.2))
    assert [r.name for r in replace_layers(model, kind=DropPath)] == ["1"]
    assert type(model[0]) is nn.Dropout2d
    both = replace_layers(model, kind=(SpatialDropout2d, DropPath))
    assert [r.name for r in both] == ["0"]


class Odd(nn.Dropout2d):
    def forward(self, input: Tensor) -> Tensor:
        return input * 2


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (nn.Dropout2d(0.1), {}, ValueError, "a torch.Dropout2d itself"),
        (nn.Sequential(nn.Dropout(0.1)), {}, ValueError, "Sequential has no layer to"),
        (Block(nn.Identity(), None), {}, ValueError, "at 2 places.*fill=True"),
        (nn.Sequential(nn.Dropout2d(), Odd()), {}, ValueError, "1 is a .*forward of"),
        (nn.Sequential(TimmPath(1.5)), {}, ValueError, "0 cannot .*but got 1.5"),
        (nn.Sequential(TimmPath()), {"rates": 2}, ValueError, "rate of 0 .*got 2"),
        (nn.Sequential(TimmPath()), {"rates": "1"}, TypeError, "rate of 0 .*a str"),
        (transformer(), {"kind": nn.Dropout}, TypeError, "kind has to be a class"),
    ],
)
def test_what_cannot_be_swapped_is_told_and_stays(
    model, options, error, message
) -> None:
    before = list(model.modules())
    with pytest.raises(error, match=message):
        replace_layers(model, **options)
    assert list(model.modules()) == before


# ------------------------------------------------------------------------- set_rates


def rates(model: nn.Module) -> list[float]:
    return [m.p for m in model.modules() if isinstance(m, DropLayer)]


def test_rates_by_number_list_block_array_and_function() -> None:
    model = transformer(3)
    assert set(set_rates(model, 0.2).values()) == {0.2} == set(rates(model))
    set_rates(model, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates(model) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    set_rates(model, torch.tensor([0.0, 0.25, 0.5]))
    assert rates(model) == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5]
    seen = []

    def rate(name: str, depth: int, number: int) -> float:
        seen.append((name, depth, number))
        return drop_path_rates(0.4, number, "falling")[depth]

    named = set_rates(model, rate)
    assert rates(model) == list(named.values()) == [0.4, 0.4, 0.2, 0.2, 0.0, 0.0]
    assert seen[1:3] == [("0.drop_path2", 0, 3), ("1.drop_path1", 1, 3)]
    assert list(named) == [name for name, _, _ in seen]


def test_every_layer_of_a_flat_model_has_a_depth_of_its_own() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i in range(3):
                self.add_module(f"drop{i}", DropPath())

    def linear(name: str, depth: int, number: int) -> float:
        return drop_path_rates(0.4, number)[depth]

    row = nn.Sequential(nn.Linear(2, 2), DropPath(), DropPath(), DropPath())
    stages = nn.ModuleList([nn.ModuleList([DropPath(), DropPath()]), row[1:2]])
    for model in (Flat(), row, stages):
        set_rates(model, linear)
        assert rates(model) == [0.0, 0.2, 0.4]


def test_branches_of_a_block_that_are_rows_have_its_depth() -> None:
    """As in timm's ParallelThingsBlock; a stage with one row of blocks is no block."""

    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("attns", "ffns"):
                rows = [nn.Sequential(nn.Linear(2, 2), DropPath()) for _ in range(2)]
                setattr(self, name, nn.ModuleList(rows))

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rows = [nn.Sequential(nn.Linear(2, 2), DropPath()) for _ in range(2)]
            self.blocks = nn.Sequential(*rows)

    set_rates(model := nn.Sequential(Parallel(), Parallel()), [0.1, 0.2])
    assert rates(model) == [0.1] * 4 + [0.2] * 4
    net = nn.Module()
    net.stages = nn.ModuleList([Stage(), Stage()])
    set_rates(net, [0.1, 0.2, 0.3, 0.4])
    assert rates(net) == [0.1, 0.2, 0.3, 0.4]
    net.blocks = nn.ModuleList([Parallel()])
    assert set(set_rates(net, lambda name, depth, number: number / 10).values()) == {
        0.5
    }


def test_one_list_for_each_stage_may_be_given() -> None:
    """What drop_path_rates and timm's calculate_drop_path_rates return."""
    model = nn.Sequential(transformer(2), transformer(1))
    set_rates(model, drop_path_rates(0.4, [2, 1]))
    assert rates(model) == [0.0, 0.0, 0.2, 0.2, 0.4, 0.4]
    set_rates(model, (torch.tensor([0.5, 0.25]), (0.0,)))
    assert rates(model) == [0.5, 0.5, 0.25, 0.25, 0.0, 0.0]


def test_a_ramp_takes_the_rates_that_were_set() -> None:
    """The two calls that a reader of a Transformer's recipe tries first."""
    model = transformer(3)
    set_rates(model, drop_path_rates(0.2, 3))
    LinearRamp(model, 0.0, "present", 2).step()
    assert rates(model) == [0.0, 0.0, 0.05, 0.05, 0.1, 0.1]


def test_only_the_kind_that_was_named_is_set_and_counted() -> None:
    model = nn.Sequential(
        DropPath(0.1), DropBlock2d(0.2, 3), DropPath(0.3), nn.Dropout()
    )
    set_rates(model, [0.5, 0.6], kind=DropPath)
    assert rates(model) == [0.5, 0.2, 0.6]
    assert model[3].p == 0.5


@pytest.mark.parametrize(
    ("model", "values", "error", "message"),
    [
        (nn.Dropout(), 0.1, ValueError, "Dropout has none: replace_layers"),
        (transformer(), [0.1] * 4, ValueError, "6 layers or 3 blocks, but got 4"),
        (nn.Sequential(DropPath()), [0.1] * 2, ValueError, "for 1 layers, but got 2"),
        (transformer(), [0.1] * 5 + [2], ValueError, "rate of 2.drop_path2 .*got 2"),
        (transformer(), lambda *_: None, TypeError, "rate of 0.drop_path1 .*NoneType"),
        (DropPath(), True, TypeError, "the rate of the layer .*bool"),
        (
            transformer(),
            [[0.1] * 2, 0.1],
            TypeError,
            "or a list of lists, one for each",
        ),
        (transformer(), [[0.1], [0.1]], ValueError, "3 blocks, but got 2"),
    ],
)
def test_wrong_rates_are_told_and_change_nothing(model, values, error, message) -> None:
    before = rates(model)
    with pytest.raises(error, match=message):
        set_rates(model, values)
    assert rates(model) == before
