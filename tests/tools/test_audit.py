"""audit: each warning on a net that is broken in one way, and none on a sound one.

The share is also compared with a count of one's own. Every net has at most three layers
and inputs of a few hundred values; 200 masks of each layer, the default.
"""

import copy
import json
import random
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional as F

from regdrop_lite import (
    DropBlock2d,
    DropPath,
    SpatialDropout1d,
    SpatialDropout2d,
    drop_block,
    drop_path,
    drop_residual,
    set_generator,
    spatial_dropout,
)
from regdrop_lite.tools import audit


class Residual(nn.Module):
    """``around(x) + drop(branch(x))``."""

    def __init__(
        self, drop: nn.Module, around: nn.Module | None = None, channels: int = 6
    ) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, channels)
        self.drop, self.around = drop, around or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.around(x) + self.drop(self.linear(self.norm(x)))


class OnSkip(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) + self.linear(self.norm(x))


TOKENS = torch.ones(4, 5, 6)  # (N, T, C)
MAPS = torch.ones(4, 6, 8, 8)


def conv(drop: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(6, 6, 1), drop, nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)]
    return nn.Sequential(*layers)


# ------------------------------------------------------------------- what is in a row


@pytest.mark.parametrize(
    ("layer", "x", "falls", "together"),
    [
        (nn.Dropout(0.3), MAPS, "element", []),
        (nn.AlphaDropout(0.3), MAPS, "element", []),
        (nn.Dropout2d(0.3), MAPS, "channel", [2, 3]),
        (nn.FeatureAlphaDropout(0.3), MAPS, "channel", [2, 3]),
        (SpatialDropout2d(0.3), MAPS, "channel", [2, 3]),
        (SpatialDropout2d(0.3, channel_dim=-1), MAPS, "slice of dimension 3", [1, 2]),
        (DropPath(0.3), MAPS, "sample", [1, 2, 3]),
        (DropBlock2d(0.3, 3), MAPS, "block of a channel", []),
        (DropBlock2d(0.3, 3, shared=True), MAPS, "block", [1]),
        (DropBlock2d(0.3, 1, shared=True), MAPS, "place", [1]),
        (DropPath(0.3, batch_dim=1), MAPS, "sample", [0, 2, 3]),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_rate_and_unit_are_seen(layer, x, falls, together) -> None:
    if isinstance(layer, DropPath) and layer.batch_dim == 1:
        model: nn.Module = nn.Sequential(Turn(), layer, Turn())
    else:
        model = nn.Sequential(layer)
    (row,) = audit(model, x).rows
    assert (row.falls, row.together, row.asked) == (falls, together, 0.3)
    assert row.low <= 0.3 <= row.high
    assert 0.25 < row.low < row.share < row.high < 0.35 or falls == "sample"
    assert row.calls == 1 and not row.active_in_eval


class Turn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


@pytest.mark.parametrize(
    ("model", "x", "place", "norm"),
    [
        (Residual(DropPath(0.2)), TOKENS, "branch", "-"),
        (
            nn.Sequential(Residual(DropPath(0.2)), nn.LayerNorm(6)),
            TOKENS,
            "branch",
            "LayerNorm",
        ),
        (
            Residual(nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 6))),
            TOKENS,
            "branch",
            "-",
        ),
        (OnSkip(DropPath(0.2)), TOKENS, "skip", "-"),
        (
            Residual(DropPath(0.2), nn.Linear(6, 6)),
            TOKENS,
            "branch, weights around",
            "-",
        ),
        (conv(nn.Dropout2d(0.2)), MAPS, "main path", "BatchNorm"),
        (
            nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.2), Residual(nn.Identity())),
            TOKENS,
            "main path",
            "LayerNorm",
        ),
        (
            nn.Sequential(nn.Dropout2d(0.2), nn.GroupNorm(2, 6)),
            MAPS,
            "main path",
            "GroupNorm",
        ),
    ],
)
def test_the_place_is_that_of_the_drawing(model, x, place, norm) -> None:
    (row,) = audit(model, x, draws=20).rows
    assert (row.place, row.norm) == (place, norm)


def test_a_position_embedding_is_no_way_around() -> None:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.table = nn.Dropout(0.2), nn.Embedding(9, 6)
            self.position = nn.Parameter(torch.ones(5, 6))

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(self.table(x)) + self.position

    report = audit(Embed(), torch.ones(4, 5, dtype=torch.int64))
    assert report.rows[0].place == "main path" and report.warnings == []


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Sequential(Residual(DropPath(0.0)), Residual(DropPath(0.2))), TOKENS),
        (conv(DropBlock2d(0.2, 3)), MAPS),
        (Residual(nn.Sequential(nn.GELU(), nn.Dropout(0.2))), TOKENS),
        (nn.Sequential(nn.Dropout2d(0.2, inplace=True), nn.Conv2d(6, 6, 1)), MAPS),
        (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), TOKENS.transpose(0, 1)),
    ],
)
def test_a_sound_net_gets_no_warning(model, x) -> None:
    if isinstance(model, nn.TransformerEncoderLayer):
        model.dropout1.p = 0.2
        assert audit(model, x, batch_dim=1).warnings == []
    else:
        assert audit(model, x).warnings == []


def test_nothing_of_the_model_is_changed() -> None:
    model = conv(SpatialDropout2d(0.3)).train()
    model[0].weight.requires_grad_(False)
    model[3].eval()
    generator = torch.Generator().manual_seed(3)
    set_generator(model, generator)
    x = torch.randn(4, 6, 8, 8)
    before = copy.deepcopy((model, generator.get_state(), torch.get_rng_state()))
    audit(model, x, draws=3)
    assert [m.training for m in model.modules()] == [
        m.training for m in before[0].modules()
    ]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[0].state_dict()[key])
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert all(p.grad is None for p in model.parameters())
    assert model[1].generator is generator
    assert torch.equal(generator.get_state(), before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_that_fails_is_put_back_too() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Linear(7, 7)).eval()
    with pytest.raises(RuntimeError):
        audit(model, TOKENS)
    assert not model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_text_html_and_json_say_the_same() -> None:
    """Each with all of it: in lines of 60 characters, in cells, in keys."""
    long = "a_name_that_is_longer_than_all_of_a_line_" * 2
    net = nn.Sequential(Residual(DropPath(0.2)), OnSkip(nn.Dropout(0.1)))
    net.add_module(long, OnSkip(nn.Dropout(0.3)))
    report = audit(net, TOKENS)
    report.warnings.append("<b>a & b</b>")  # as from a layer with an odd name
    text, html = repr(report), report._repr_html_()
    assert str(report) == text
    assert max(map(len, text.splitlines())) <= 60
    first = report.rows[0]
    assert text.splitlines()[:3] == [
        "0.drop: DropPath",
        f"  p 0.2, share {first.share:.3f} ({first.low:.3f}-{first.high:.3f}), calls 1",
        f"  falls: sample; place: branch; norm: {first.norm}",
    ]
    assert len(report.warnings) == 3
    said, told = "".join(text.split()), "".join(re.sub("<[^>]*>", "", html).split())
    told = unescape(told)
    for row in report.rows:
        values = (row.name, f"{row.share:.3f}", f"({row.low:.3f}-{row.high:.3f})")
        for value in (*values, f"{row.asked:g}", row.falls, row.place, row.norm):
            assert value.replace(" ", "") in said and value.replace(" ", "") in told
    assert "3warnings:1.1.drop:standsontheskip" in said
    for warning in report.warnings:
        assert "".join(warning.split()) in said and "".join(warning.split()) in told
    assert "<b>" not in html and html.count("<li>") == 3
    assert "<li>&lt;b&gt;a &amp; b&lt;/b&gt;</li>" in html
    assert html.count("<tr>") == 4 and '<th scope="row">0.<wbr>drop<br>' in html
    stored = json.loads(report.to_json())
    assert [row["name"] for row in stored["rows"]] == [row.name for row in report.rows]
    assert stored["rows"][0]["share"] == first.share
    assert stored["warnings"] == report.warnings


def test_arguments_may_be_a_tuple_or_named() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.2)

        def forward(self, x: Tensor, *, scale: float) -> dict[str, Any]:
            return {"out": [self.drop(x) * scale]}

    for inputs in ({"x": TOKENS, "scale": 2.0}, {"scale": 2.0, "x": TOKENS}):
        (row,) = audit(Two(), inputs).rows
        assert row.calls == 1 and row.falls == "element"
    with pytest.raises(ValueError, match="draws has to be at least 1"):
        audit(Two(), TOKENS, draws=0)
    with pytest.raises(ValueError, match="got a dict without one"):
        audit(Two(), {"scale": 2.0})
    with pytest.raises(ValueError, match=r"batch_dim .* input \(4, 5, 6\).*got 3"):
        audit(Two(), {"x": TOKENS, "scale": 2.0}, batch_dim=3)
    with pytest.raises(TypeError, match=r"batch_dim has to be a whole number.*tuple"):
        audit(Two(), {"x": TOKENS, "scale": 2.0}, batch_dim=(0, 1))


def test_a_layer_may_be_called_by_name_or_with_something_else() -> None:
    class Named(nn.Module):
        """The second layer takes a pair."""

        def __init__(self) -> None:
            super().__init__()
            self.drop, self.pair = DropPath(0.2, batch_dim=1), Pair(0.2)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            x = x + self.drop(input=x.transpose(0, 1)).transpose(0, 1)
            return self.pair((x, mask))[0]

    class Pair(nn.Dropout):
        def forward(self, input: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return super().forward(input[0]), input[1]

    # The second argument has no samples, and must not be doubled.
    report = audit(Named(), (TOKENS, torch.ones(5, 5)))
    assert report.rows[0].falls == "sample" and report.warnings == []
    assert report.rows[1].falls == "? (called with a tuple)"


# ------------------------------------------------------------------------- warnings


class Unused(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x)


class Fused(Residual):
    """The rate of a layer is handed to a function, as in fused attention."""

    share = 1.0

    def forward(self, x: Tensor) -> Tensor:
        p = self.share * self.drop.p if self.training else 0.0
        return x + F.scaled_dot_product_attention(x, x, x, dropout_p=p)


class Halved(Fused):
    """It is not the rate of the layer that the function gets."""

    share = 0.5


class Always(nn.Dropout):
    """Ignores its mode."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, training=True)


class Forgotten(Residual):
    """``training`` was not passed on."""

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x) + F.dropout(self.linear(x), 0.4)


class Calls(Residual):
    """A function that drops, beside a layer that is all right."""

    def __init__(self, function: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__(DropPath(0.2))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(super().forward(x), self.training)


def by_hand(x: Tensor, training: bool) -> Tensor:
    """What many repositories hold in place of a layer."""
    return x * x.new_empty(len(x), 1, 1).bernoulli_(0.9) if training else x


def builtin(name: str, x: Tensor, training: bool) -> Tensor:
    """A function of torch that has no signature."""
    return getattr(torch, name)(x * 1, 0.3, training)


def residual_by_hand(x: Tensor, training: bool) -> Tensor:
    return drop_residual(x, torch.sin, 0.3, training)


FUNCTIONS: dict[str, tuple[Callable[[Tensor, bool], Tensor], str]] = {
    "spatial_dropout": (
        lambda x, on: spatial_dropout(x, 0.3, on),
        "spatial_dropout with p=0.3",
    ),
    "drop_path": (lambda x, on: drop_path(x, 0.3, on), "drop_path with p=0.3"),
    "drop_block": (lambda x, on: drop_block(x, 0.3, 2, on), "drop_block with p=0.3"),
    "drop_residual": (residual_by_hand, r"drop_residual \(draws by rand\)"),
    "by hand": (by_hand, r"by_hand \(draws by bernoulli_\)"),
    **{
        name: (partial(builtin, name), f"{name} with p=0.3")
        for name in ("dropout", "dropout_", "alpha_dropout", "feature_alpha_dropout_")
    },
    "native": (
        lambda x, on: torch.native_dropout(x, 0.3, on)[0],
        "native_dropout with p=0.3",
    ),
    "functional": (lambda x, on: F.alpha_dropout(x, 0.3, on), "alpha_dropout with"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_drops_is_told(name) -> None:
    function, text = FUNCTIONS[name]
    (warning,) = audit(Calls(function), TOKENS, draws=20).warnings
    assert re.search(f"^calls {text}.*: this is no layer and not in the", warning)


def test_a_branch_that_pythons_or_numpys_random_skips_is_told() -> None:
    """As in LayerDrop of many repositories: no tensor is drawn, no function called."""

    class Skipped(nn.Module):
        def __init__(self, draw: Callable[[], float]) -> None:
            super().__init__()
            self.inner, self.draw = Residual(DropPath(0.2)), draw

        def forward(self, x: Tensor) -> Tensor:
            return x if self.training and self.draw() < 0.5 else self.inner(x)

    numpy = pytest.importorskip("numpy")
    sound = Skipped(lambda: 1.0)
    assert audit(sound, TOKENS, draws=20).warnings == []
    for draw, whose in ((random.random, "Python"), (numpy.random.rand, "NumPy")):
        states = random.getstate(), numpy.random.get_state()[1].tolist()
        net = nn.Sequential(sound, Skipped(lambda draw=draw: draw() + 0.5))
        (told,) = audit(net, TOKENS, draws=20).warnings
        assert told.startswith(f"1: calls a function that draws by {whose}'s random: ")
        assert states == (random.getstate(), numpy.random.get_state()[1].tolist())
    skips = Skipped(lambda: random.random() + 0.5)
    skips.training = True
    skips.train = lambda mode=True: skips
    told = audit(nn.Sequential(sound, skips), TOKENS, draws=20).warnings
    assert "1: a function that draws by Python's random works in evaluation" in told


def test_a_layer_that_draws_by_pythons_random_is_measured() -> None:
    class RandomDropPath(nn.Module):
        p = 0.3

        def forward(self, x: Tensor) -> Tensor:
            kept = [random.random() >= self.p or not self.training for _ in x]
            return x * torch.tensor(kept).view(-1, 1, 1)

    report = audit(Residual(RandomDropPath()), TOKENS)
    (row,) = report.rows
    assert row.falls == "sample" and row.low < 0.3 < row.high
    assert report.warnings == []


def test_layers_at_rate_0_share_a_line() -> None:
    net = nn.Sequential(*(Residual(DropPath(p)) for p in (0.0, 0.2, 0.0, 0.0, 0.0)))
    report = audit(net, TOKENS, draws=20)
    lines = repr(report).splitlines()
    assert lines[0] == "1.drop: DropPath" and len(lines) == 5
    assert lines[3:] == ["4 at p = 0: 0.drop, 2.drop, 3.drop, ...", "no warnings"]
    html = report._repr_html_()
    assert f"<p>{lines[3]}</p>" in html and html.endswith("<p>no warnings</p>")
    assert html.count("<tr>") == 2, "the head and one layer"
    assert len(report.rows) == len(json.loads(report.to_json())["rows"]) == 5
    broken = audit(nn.Sequential(Always(0.0), TooMuch(0.0)), TOKENS, draws=20)
    shown = [row.name for row in broken.rows if not row.is_off]
    assert shown == [row.name for row in broken.rows if row.share]


def test_a_copy_of_a_layer_in_another_package_is_a_row() -> None:
    class TinyDropPath(nn.Module):
        def __init__(self, drop_prob: float) -> None:
            super().__init__()
            self.drop_prob = drop_prob

        def forward(self, x: Tensor) -> Tensor:
            keep = torch.rand(len(x), 1, 1) >= self.drop_prob
            return x * keep / (1 - self.drop_prob) if self.training else x

    report = audit(Residual(TinyDropPath(0.3)), TOKENS)
    (row,) = report.rows
    assert (row.asked, row.falls, row.place) == (0.3, "sample", "branch")
    assert report.warnings == []


def test_one_sample_and_layers_in_a_plain_list_are_told() -> None:
    class Listed(Residual):
        def __init__(self) -> None:
            super().__init__(DropPath(0.2))
            self.drops = [nn.Dropout(0.1), {"not": "a layer"}]

        def forward(self, x: Tensor) -> Tensor:
            return self.drops[0](super().forward(x))

    report = audit(Listed(), TOKENS[:1])
    assert report.rows[0].place == "branch"
    told = ["one sample: a mask", "1 dropping layer (drops[0]) is in a plain list"]
    told.insert(0, "the output in evaluation is random")
    assert [w[: len(t)] for w, t in zip(report.warnings, told, strict=True)] == told


def test_a_function_that_takes_the_rate_of_a_layer_is_no_fault() -> None:
    """So does fused attention: its layer is not called, and drops all the same."""
    report = audit(nn.Sequential(Fused(nn.Dropout(0.2))), TOKENS)
    assert report.warnings == []
    (row,) = report.rows
    assert (row.asked, row.calls, row.share) == (0.2, 0, None)
    assert row.falls == "? (by scaled_dot_product_attention with p=0.2)"
    (row,) = audit(Fused(nn.Dropout(0.0)), TOKENS).rows
    assert row.is_off


class Noisy(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn_like(x)


class Frozen(Residual):
    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.drop.eval()
        return self


class Windows(Residual):
    """Two windows of each sample become samples of their own."""

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        return super().forward(x.reshape(2 * n, t // 2, c)).reshape(n, t, c)


class OneMask(nn.Dropout):
    """A mask without the batch dimension."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        keep = (torch.rand(input.shape[1:]) >= self.p).to(input.dtype)
        return input * keep / (1 - self.p)


class TooMuch(nn.Dropout):
    """Keeps with probability p."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, 1 - self.p, self.training)


def heads() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)
    layer.dropout1 = DropPath(0.2)
    return layer


SIX = torch.ones(3, 4, 6)
BROKEN: list[tuple[str, nn.Module, Tensor, list[str]]] = [
    (
        "never called",
        Unused(DropPath(0.2)),
        TOKENS,
        [r"^drop: never called: it drops n"],
    ),
    (
        "halved",
        Halved(nn.Dropout(0.2)),
        TOKENS,
        ["calls scaled_dot_product_attention with p=0.1", "function may use its rate"],
    ),
    ("always", Residual(Always(0.2)), TOKENS, ["^drop: works in evaluation"]),
    (
        "functional",
        Forgotten(nn.Dropout(0.0)),
        TOKENS,
        [
            "^dropout with p=0.4 works in eval",
            "^calls dropout with p=0.4",
            "rates are 0",
        ],
    ),
    (
        "noise",
        Noisy(DropPath(0.2)),
        TOKENS,
        ["evaluation is random, but no layer here"],
    ),
    ("frozen", Frozen(DropPath(0.2)), TOKENS, ["^drop: stays in evaluation mode"]),
    (
        "time steps",
        heads(),
        SIX,
        [r"^dropout1: .*of 3\) for all.*dimension 1 are the sam"],
    ),
    (
        "windows",
        Windows(DropPath(0.2)),
        SIX,
        ["^drop: drops each of 2 parts of a samp"],
    ),
    ("skip", OnSkip(DropPath(0.2)), TOKENS, ["^drop: stands on the skip"]),
    (
        "no way around",
        nn.Sequential(nn.Linear(6, 6), DropPath(0.2)),
        TOKENS,
        ["^1: drops whole samples where nothing goes around"],
    ),
    ("one mask", Residual(OneMask(0.2)), TOKENS, ["^drop: has one mask for the whole"]),
    (
        "batch",
        Residual(DropPath(0.5, mode="batch")),
        TOKENS,
        ["has one mask for the whol"],
    ),
    (
        "rate",
        Residual(TooMuch(0.2)),
        TOKENS,
        [r"^drop: drops 0\.[78]\d+ .*asked for 0.2"],
    ),
    ("all 0", Residual(DropPath(0.0)), TOKENS, ["no layer drops: all rates are 0"]),
]


@pytest.mark.parametrize(
    ("model", "x", "expected"),
    [case[1:] for case in BROKEN],
    ids=[case[0] for case in BROKEN],
)
def test_a_fault_is_told_and_no_other(model, x, expected) -> None:
    options = {"batch_dim": 1} if isinstance(model, nn.TransformerEncoderLayer) else {}
    found = audit(model, x, **options).warnings
    assert len(found) == len(expected), found
    for text in expected:
        assert any(re.search(text, line) for line in found), (text, found)


def test_places_that_were_left_empty_are_listed_and_no_fault() -> None:
    """Rates that rise from 0 leave the first block without a layer."""
    first, second = Residual(nn.Identity()), Residual(DropPath(0.2))
    first.drop_path = nn.Identity()
    report = audit(nn.Sequential(first, second), TOKENS)
    assert report.warnings == [] and report.empty == ["0.drop_path"]
    assert "1 without DropPath: 0.drop_path\nno warnings" in repr(report)
    assert "<p>1 without DropPath: 0.drop_path</p>" in report._repr_html_()
    assert json.loads(report.to_json())["empty"] == ["0.drop_path"]


def test_functions_alone_are_reported() -> None:
    """timm's ``drop_rate`` is one: a dropout that no layer holds."""

    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.25, self.training)

    report = audit(nn.Sequential(nn.Linear(6, 6), Head()), TOKENS)
    (warning,) = report.warnings
    assert report.rows == [] and "dropout with p=0.25" in warning
    attention = nn.MultiheadAttention(6, 2, dropout=0.1)
    (warning,) = audit(attention, (TOKENS, TOKENS, TOKENS)).warnings
    assert "with p=0.1" in warning


@pytest.mark.parametrize("samples", [1, 4])
def test_a_model_in_which_nothing_drops_is_refused(samples: int) -> None:
    x = torch.zeros(samples, 6)
    with pytest.raises(ValueError, match="Linear has no layer that drops, and no func"):
        audit(nn.Linear(6, 6), x)
    block = nn.Linear(6, 6)
    block.drop_path = nn.Identity()
    with pytest.raises(ValueError, match="its places for DropPath are empty"):
        audit(block, x)


def test_the_samples_are_found_where_they_are() -> None:
    """(T, N, C) with the right setting: no warning."""
    layer = heads()
    layer.dropout1 = DropPath(0.2, batch_dim=1)
    report = audit(layer, SIX, batch_dim=1)
    assert report.warnings == []
    assert [row.falls for row in report.rows if row.name == "dropout1"] == ["sample"]


def test_a_layer_of_ones_own_is_measured_by_what_it_does() -> None:
    class Mine(nn.Module):
        """Puts 7 into every second place."""

        def forward(self, x: Tensor) -> Tensor:
            fell = torch.rand(x.shape) < 0.5
            return torch.where(fell, 7.0, 2 * x) if self.training else x

    (row,) = audit(nn.Sequential(Mine()), TOKENS, also=Mine).rows
    assert row.asked is None and row.falls == "element"
    assert row.low < 0.5 < row.high


def test_a_model_that_takes_no_other_batch_is_looked_at_all_the_same() -> None:
    class Fixed(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.reshape(4, 5, 6))

    report = audit(Fixed(DropPath(0.2)), TOKENS)
    assert report.warnings == [] and report.rows[0].falls == "sample"


# ---------------------------------------------------------------------------- ranks


def on_rank(rank: int, rendezvous: str, seed_by_rank: bool, own: bool) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    model = nn.Sequential(Residual(DropPath(0.5)), SpatialDropout1d(0.0))
    seed = rank if seed_by_rank else 0
    torch.manual_seed(seed)
    if own:  # the global generators differ all the same
        torch.manual_seed(100 + rank)
        set_generator(model, torch.Generator().manual_seed(seed))
    found = audit(model, TOKENS, draws=2).warnings
    same = ["0.drop: has the same masks on ranks 0 and 1: seed them by rank"]
    assert found == ([] if seed_by_rank else same), found
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="PyTorch without distributed")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("seed_by_rank", [False, True])
def test_the_same_masks_on_two_ranks_are_told(
    tmp_path: Path, seed_by_rank, own
) -> None:
    run: Callable[..., Any] = mp.spawn
    run(on_rank, (str(tmp_path / "meet"), seed_by_rank, own), nprocs=2)


def test_an_empty_container_is_no_output() -> None:
    """It is false where a truth value is asked for."""
    net = nn.Sequential(nn.Sequential(), nn.Dropout(0.5))
    assert [row.name for row in audit(net, MAPS).rows] == ["1"]


def test_a_buffer_that_forward_replaces_is_put_back() -> None:
    class Counting(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Dropout(0.5))
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.seen = self.seen + 1
            return super().forward(x)

    net = Counting()
    before = net.seen
    audit(net, MAPS)
    assert net.seen is before and net.seen == 0
