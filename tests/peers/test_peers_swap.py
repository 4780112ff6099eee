"""Put our layers into other people's models, and their rates into ours."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

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
from regdrop_lite.tools import audit, replace_layers


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
    (record,) = replace_layers(model)
    assert (type(record.new), record.p_new) == (ours, 0.3)
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
    assert len(replace_layers(model)) == len(rates) > 8
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


def test_a_model_of_timm_takes_our_drop_path() -> None:
    timm = peer("timm")
    model = timm.create_model("convnext_atto", drop_path_rate=0.1).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
    kind = timm_layers().DropPath
    rates = [m.drop_prob for m in model.modules() if isinstance(m, kind)]
    replace_layers(model)
    ours = [m for m in model.modules() if isinstance(m, DropPath)]
    assert [layer.p for layer in ours] == rates and len(rates) > 5
    assert_same_in_eval(model, before, x)
    model.train()
    assert not torch.equal(model(x), model(x))


def test_what_chapter_6_says_of_a_vit_of_timm(capsys) -> None:
    """Its code is run, and prints what stands below it."""
    peer("timm")
    book = Path(__file__).parents[2] / "book" / "06_in_practice.ipynb"
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    wanted = "trouble", "finetune-read", "swap-read"  # each goes on where one ended
    texts = ["".join(c["source"]) for c in cells if c["id"] in wanted]
    blocks = re.findall(r"```(?:python|text)\n(.*?)```", "".join(texts), flags=re.S)
    assert len(texts) == 3 and len(blocks) == 5
    own = blocks.pop(0).replace("pretrained=True", "pretrained=False")
    own = re.sub(r'\("vit_base[^)]*\)', '"vit_tiny_patch16_224"', own)
    assert own.count("pretrained=False") == own.count("vit_tiny") == 1
    names: dict[str, Any] = {}
    exec(own, names)
    assert capsys.readouterr().out.rstrip().endswith("no warnings")
    code, printed = "".join(blocks[::2]), "".join(blocks[1::2])
    tools = {"replace_layers": replace_layers, "audit": audit, "torch": torch}
    exec(code, names | tools | {"drop_path_rates": drop_path_rates})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("net", ["ViT", "MAE", "ResNet-50"])
def test_the_fine_tuning_of_chapter_6_runs(net, tmp_path, monkeypatch, capsys) -> None:
    """As printed, but without weights, for two epochs, with a small net of its kind."""
    for name in ("timm", "torchvision"):
        peer(name)
    from PIL import Image

    book = Path(__file__).parents[2] / "book" / "06_in_practice.ipynb"
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    (text,) = ("".join(c["source"]) for c in cells if c["id"] == "finetune-script")
    split, code, resnet = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert max(map(len, (split + code + resnet).splitlines())) <= 60
    stored = book.parent / "recipes" / "fine_tune.py"
    assert stored.read_text(encoding="utf-8").endswith(f"# fmt: off\n\n{code}")
    mae = "# MAE: name", "# extra, layers"
    for line in mae[: 2 * (net == "MAE")]:
        assert code.count(line) == 1
        code = code.replace(line, line.removeprefix("# MAE: ").removeprefix("# "))
        code = code.replace('.mae", and\n', '.mae"\n')
    if net == "ResNet-50":
        assert code.count("answers, chosen_by") == 1
        code = code.replace("answers, chosen_by", f"{resnet}\nanswers, chosen_by")
    changes = {
        "pretrained=True": ("pretrained=False", 1 + (net == "ResNet-50")),
        "epochs, rate, seed = 20,": ("epochs, rate, seed = 2,", 1),
        "draws=30": ("draws=2", 1),
        "workers = 8": ("workers = 0", 1),
        '"cuda" if cuda else "cpu"': ('"cpu"', 1),
    }
    for old, (new, count) in changes.items():
        assert code.count(old) == count
        code = code.replace(old, new)
    code = re.sub(r"vit_base_patch16_224\.\w+", "vit_tiny_patch16_224", code)
    for k in range(24):
        file = tmp_path / "all" / f"class{k % 2}" / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (10 * k, 99, 0)).save(file)
    monkeypatch.chdir(tmp_path)
    for many, few in (("5000", "12"), ("3000", "6")):
        assert split.count(many) == 1
        split = split.replace(many, few)
    exec(split, {})
    for part, count in (("train", 12), ("valid", 6), ("test", 6)):
        assert len(list(Path("photos", part).glob("class?/*.png"))) == count
    names: dict[str, Any] = {}
    exec(code, names)
    said = capsys.readouterr().out
    p = names["p"]
    assert f"p = {p}, weight decay" in said and "p = 0, weight decay" in said
    assert "no warnings" in said and said.count("epoch 2: validation") == 2
    assert "on photos/test only (0, 0.05) is right: " in said
    b, c = names["b"], names["c"]
    two = f"{2 * (b + c) ** 0.5:.1f}"
    assert f"difference: {c - b:+d}; two standard errors: {two}" in said
    assert round(6 * float(names["two"].mean() - names["one"].mean())) == c - b
    (head,) = {"fc.1.bias", "head.bias"} & names["net"].state_dict().keys()
    assert head == ("fc.1.bias" if net == "ResNet-50" else "head.bias")
    control, last = names["files"]
    assert control == f"{names['name']}_p0_decay0.05_seed0.pt"
    assert last == f"{names['name']}_p{p}_decay0.05_seed0.pt"
    kept = torch.load(last, weights_only=True)
    assert torch.equal(kept[head], names["net"].state_dict()[head])
    first = torch.load(control, weights_only=True)
    assert not all(torch.equal(first[key], kept[key]) for key in kept)
    pooled = getattr(names["net"], "global_pool", None)
    assert (pooled == "avg") == (net == "MAE")
    slowest, fastest = min(names["peaks"]), max(names["peaks"])
    assert (slowest < fastest / 100) == (net == "MAE"), "layer-wise learning rates"
    # What the second page appends to it.
    notebook = json.loads((book.parent / "06b_export_time_doubt.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    (text,) = (cell for cell in cells if "### For your net" in cell)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) == 3 and max(map(len, "".join(blocks).splitlines())) <= 60
    names["chosen_by"] = [torch.tensor(0.5), torch.tensor(0.6)]  # the mask is better
    for block, lines in zip(blocks, (3, 6, 3), strict=True):
        exec(block, names)
        assert capsys.readouterr().out.count(" sure, ") == lines
    assert names["top"] == 1, "the run that validation chose"
    assert {part.shape for part in names["each"]} == {(6, 10)}
    assert not torch.equal(*names["each"][:2]), "other masks in each pass"


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_the_u_net_of_chapter_6_gets_its_mask(encoder, capsys) -> None:
    """The printed lines put it behind the last stage of an encoder of timm."""
    timm = peer("timm")

    class UNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = timm.create_model(encoder, features_only=True)
            *skips, last = self.encoder.feature_info.channels()
            self.up = torch.nn.ModuleList()
            for channels in reversed(skips):
                self.up.append(torch.nn.Conv2d(last + channels, channels, 1))
                last = channels
            self.head = torch.nn.Conv2d(last, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            *skips, x = self.encoder(x)
            for up, skip in zip(self.up, reversed(skips), strict=True):
                large = torch.nn.functional.interpolate(x, scale_factor=2)
                x = up(torch.cat([large, skip], 1)).relu()
            return self.head(x)

    torch.manual_seed(0)
    book = Path(__file__).parents[2] / "book" / "06_in_practice.ipynb"
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    (text,) = ("".join(c["source"]) for c in cells if c["id"] == "finetune-unet")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert max(map(len, code.splitlines())) <= 60
    net, images = UNet(), torch.rand(4, 3, 64, 64)
    before = net.eval()(images)
    exec(code, {"net": net, "images": images})
    said = capsys.readouterr().out
    assert said.count("SpatialDropout2d") == said.count("place: branch") == 1
    assert "p 0.1, share " in said and said.rstrip().endswith("no warnings")
    assert torch.equal(net.eval()(images), before), "evaluation stays as it was"


def test_what_chapter_6_says_of_functions_and_of_a_control() -> None:
    """timm's `drop_rate` is named by the audit; at rate 0 there is nothing to audit."""
    timm, x = peer("timm"), torch.rand(4, 3, 64, 64)
    (warning,) = audit(
        timm.create_model("resnet18", drop_rate=0.25), x, draws=3
    ).warnings
    assert warning.startswith("calls dropout with p=0.25")
    with pytest.raises(ValueError, match="has no layer that drops"):
        audit(timm.create_model("resnet18"), x, draws=3)


def test_the_weights_that_chapters_5_and_6_name_are_those_of_timm() -> None:
    """What timm takes without a tag, and under which licence; `.mae` are MAE's."""
    timm = peer("timm")
    name = "vit_base_patch16_224"
    default = timm.get_pretrained_cfg(name)
    assert default.tag == "augreg2_in21k_ft_in1k", CHANGED
    assert default.license == "apache-2.0", CHANGED
    assert timm.get_pretrained_cfg("resnet50").tag == "a1_in1k", CHANGED
    assert timm.get_pretrained_cfg(f"{name}.mae").license == "cc-by-nc-4.0", CHANGED
    assert "mae_pretrain" in timm.get_pretrained_cfg(f"{name}.mae").url, CHANGED


def test_a_model_of_timm_takes_our_drop_block() -> None:
    timm = peer("timm")
    model = timm.create_model("resnet18", drop_block_rate=0.1).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
    assert len(replace_layers(model, 0.1, kind=DropBlock2d)) > 2
    assert_same_in_eval(model, before, x)


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
