"""monte_carlo_mode: the dropping layers at work, everything else in evaluation."""

import pytest
import torch
from torch import Tensor, nn

from regdrop_lite import DropPath, SpatialDropout2d
from regdrop_lite.tools import monte_carlo_mode


def net() -> nn.Sequential:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), SpatialDropout2d(0.5)]
    return nn.Sequential(*layers, nn.Sequential(nn.Dropout(0.5), nn.ReLU()), DropPath())


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_only_drops_train_and_every_mode_comes_back(training, fails) -> None:
    model = net().train(training)
    model[1].training = not training  # a mixed model, as in fine-tuning
    model[4].training = not training
    before, x = modes(model), torch.randn(4, 3, 8, 8)
    statistics = [b.clone() for b in model.buffers()]
    try:
        with monte_carlo_mode(model):
            working = [m for m in model.modules() if m.training]
            assert working == [model[2], model[3][0], model[4]]
            assert not torch.equal(model(x), model(x))
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert modes(model) == before
    assert all(map(torch.equal, model.buffers(), statistics))


def test_the_mean_of_samples_is_the_output_of_a_linear_net() -> None:
    """20,000 samples of 2 * Bernoulli(0.5) times 8 weights, within four sigma."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1, bias=False))
    x = torch.ones(20_000, 8)
    with torch.no_grad(), monte_carlo_mode(model):
        samples = model(x).flatten()
    weights = model[1].weight.detach()
    sigma = (weights.square().sum() / 20_000).sqrt()
    assert (samples.mean() - weights.sum()).abs() <= 4 * sigma
    assert samples.std().item() == pytest.approx(weights.norm().item(), rel=0.05)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=True),
        lambda: nn.MultiheadAttention(8, 2, dropout=0.5),
        lambda: nn.LSTM(8, 8, 2, dropout=0.5),
    ],
    ids=["fast path", "attention", "lstm"],
)
def test_dropout_that_is_no_layer_or_is_skipped_by_a_fast_path_works(build) -> None:
    model = build().eval()
    x = torch.randn(3, 4, 8)

    def call() -> Tensor:
        if isinstance(model, nn.MultiheadAttention):
            return model(x, x, x)[0]
        return (
            model(x) if isinstance(model, nn.TransformerEncoderLayer) else model(x)[0]
        )

    before = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        assert torch.equal(call(), call())
        with monte_carlo_mode(model):
            assert not torch.equal(call(), call())
    assert torch.backends.mha.get_fastpath_enabled() is before
    assert not any(modes(model))


class Listed(nn.Module):
    """Its layers are hidden from PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.drops = [nn.Dropout(0.5)]
        self.seen = nn.Dropout(0.5)


def one_layer() -> nn.Module:
    """PyTorch warns of it when it is built, and builds it."""
    model = nn.LSTM(8, 8)
    model.dropout = 0.5
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Dropout(0.0), DropPath()), r"2 of Sequential have \[0.0\]"),
        (nn.Sequential(nn.Dropout(1.0), DropPath()), r"have \[0.0, 1.0\]: all samples"),
        (one_layer(), "LSTM has none: all samples would be alike"),
        (nn.MultiheadAttention(8, 2), "MultiheadAttention has none"),
    ],
)
def test_a_model_in_which_nothing_is_random_is_refused(model, message) -> None:
    with pytest.raises(ValueError, match=message):
        monte_carlo_mode(model.eval()).__enter__()
    assert not any(modes(model))


def test_layers_out_of_reach_are_told() -> None:
    with pytest.warns(UserWarning, match=r"1 dropping layer \(drops\[0\]\) is in a"):
        monte_carlo_mode(Listed()).__enter__()


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


def test_a_class_of_ones_own_may_be_named() -> None:
    model = nn.Sequential(Functional(), nn.BatchNorm1d(50)).eval()
    with pytest.raises(ValueError, match="Sequential has none: all samples would be"):
        monte_carlo_mode(model).__enter__()
    assert not any(modes(model))
    x = torch.ones(2, 50)
    with monte_carlo_mode(model, also=Functional):
        assert not torch.equal(model(x), model(x))
        assert not model[1].training


class FusedAttention(nn.Module):
    """Attention as timm writes it: the rate of a layer, the flag of its own."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.fused_attn = True
        self.attn_drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        p = self.attn_drop.p if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=p)


def test_fused_attention_drops_as_well():
    model = nn.Sequential(nn.BatchNorm1d(8), FusedAttention(0.3))
    x = torch.randn(2, 8, 4)
    with torch.no_grad(), monte_carlo_mode(model):
        first, second = model(x), model(x)
        assert not model[0].training
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(x), model(x))
    with (
        pytest.raises(ValueError, match="all samples"),
        monte_carlo_mode(FusedAttention(0.0)),
    ):
        pass
