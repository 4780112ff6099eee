"""Training: one step by hand, whole runs, their randomness, and what goes wrong."""

import json
import math
import os
import random
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from regdrop_lite import LinearRamp
from regdrop_lite.course.augmentation import flip_labels
from regdrop_lite.course.data import (
    Dataset,
    Split,
    as_tensors,
    make_generator,
)
from regdrop_lite.course.evaluation import Metrics, evaluate, predict, score
from regdrop_lite.course.history import History, NonFiniteLossError
from regdrop_lite.course.models import REGULARISERS, TinyCNN
from regdrop_lite.course.training import (
    TrainConfig,
    given_labels,
    learning_rate,
    train,
    train_step,
)


def linear(classes=10, size=28):
    """Make the smallest model that learns, with fixed weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(size * size, classes)).double()
    nn.init.normal_(
        model[1].weight, 0, 0.01, generator=torch.Generator().manual_seed(0)
    )
    nn.init.zeros_(model[1].bias)
    return model


def nll(logits, labels):
    """Compute the mean negative log-likelihood with NumPy."""
    logits = np.asarray(logits, dtype=np.float64)
    log_sum = np.log(np.exp(logits).sum(axis=1))
    return (log_sum - logits[np.arange(len(labels)), labels]).mean()


CONFIG = TrainConfig(epochs=2, batch_size=25, seed=3, device="cpu")


# --- steps ----------------------------------------------------------------------------


def test_train_step_is_nesterov_with_weight_decay():
    """Three steps against the textbook's update, with gradients by hand."""
    lr, mu, decay = 0.05, 0.9, 0.01
    model = linear(3, size=4)
    optimizer = torch.optim.SGD(
        model.parameters(), lr, momentum=mu, nesterov=True, weight_decay=decay
    )
    generator = torch.Generator().manual_seed(1)
    w, b = model[1].weight.detach().numpy().copy(), np.zeros(3)
    v_w, v_b = np.zeros_like(w), np.zeros_like(b)
    for _ in range(3):
        images = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=generator)
        labels = torch.randint(3, (5,), generator=generator)
        x = images.numpy().reshape(5, 16)
        logits = x @ w.T + b
        assert train_step(model, optimizer, images, labels) == pytest.approx(
            nll(logits, labels.numpy()), rel=1e-12
        )
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        error = (p - np.eye(3)[labels]) / 5
        g_w, g_b = error.T @ x + decay * w, error.sum(axis=0) + decay * b
        v_w, v_b = mu * v_w + g_w, mu * v_b + g_b
        w, b = w - lr * (g_w + mu * v_w), b - lr * (g_b + mu * v_b)
        np.testing.assert_allclose(model[1].weight.detach().numpy(), w, rtol=1e-10)
        np.testing.assert_allclose(model[1].bias.detach().numpy(), b, rtol=1e-10)


def test_steps_and_predictions_choose_the_mode_of_the_model(data):
    model = TinyCNN(regulariser="spatial", p=0.5)
    images, labels = as_tensors(data.train)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model.eval()
    train_step(model, optimizer, images, labels)
    assert all(module.training for module in model.modules())
    state = {key: values.clone() for key, values in model.state_dict().items()}
    first = predict(model, images)
    assert not any(module.training for module in model.modules())
    assert torch.equal(predict(model, images), first), "no masks, so no chance"
    for key, values in model.state_dict().items():
        assert torch.equal(values, state[key]), f"evaluation changed {key}"


def test_score_against_numpy():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 7, generator=generator)
    labels = torch.randint(7, (50,), generator=generator)
    found = score(logits, labels)
    assert found.loss == pytest.approx(nll(logits, labels.numpy()), rel=1e-12)
    hits = (logits.numpy().argmax(axis=1) == labels.numpy()).sum()
    assert found.accuracy == hits / 50


def test_predict_and_evaluate_do_not_depend_on_the_batch_size(data):
    model = TinyCNN(seed=1)
    images, labels = as_tensors(data.train)
    whole = predict(model, images, batch_size=60)
    for size in (1, 7, 59, 1000):
        torch.testing.assert_close(predict(model, images, size), whole)
    found = evaluate(model, data.train, batch_size=7)
    assert found.loss == pytest.approx(nll(whole, labels.numpy()), rel=1e-10)
    assert found.accuracy == (whole.argmax(1) == labels).double().mean().item()


def test_evaluate_takes_the_dtype_of_the_model(data):
    wide = evaluate(TinyCNN(seed=1), data.train)
    narrow = evaluate(TinyCNN(seed=1, dtype=torch.float32), data.train)
    assert narrow.loss == pytest.approx(wide.loss, rel=1e-5)
    assert narrow.loss != wide.loss


# --- the learning rate ----------------------------------------------------------------


def test_learning_rate_warms_up_and_falls_like_a_cosine():
    config = TrainConfig(lr=0.4, warmup=0.05)
    rates = [learning_rate(t, 100, config) for t in range(100)]
    assert rates[:5] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.40])
    for t in range(5, 100):
        expected = 0.4 * math.cos(math.pi / 2 * (t - 5) / 95) ** 2
        assert rates[t] == pytest.approx(expected, abs=1e-15)
    assert max(rates) == 0.4
    assert min(rates) > 0


def test_learning_rate_without_and_with_nothing_but_warm_up():
    assert learning_rate(0, 7, TrainConfig(lr=0.4, warmup=0)) == 0.4
    rising = [learning_rate(t, 4, TrainConfig(lr=0.4, warmup=1)) for t in range(4)]
    assert rising == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_training_uses_the_learning_rate_of_each_step(data, monkeypatch):
    seen = []
    original = torch.optim.SGD.step

    def step(self, *args):
        (group,) = self.param_groups
        seen.append(group["lr"])
        assert (group["momentum"], group["nesterov"]) == (0.8, True)
        assert group["weight_decay"] == 0.02
        return original(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    config = replace(CONFIG, lr=0.2, momentum=0.8, weight_decay=0.02, warmup=0.3)
    train(linear(), data, config)
    assert seen == [learning_rate(t, 6, config) for t in range(6)]


def test_adamw_takes_its_settings_and_the_learning_rate_of_each_step(data, monkeypatch):
    """The first step of Adam is as long as the learning rate, whatever the gradient."""
    seen, original = [], torch.optim.AdamW.step

    def step(self, *args):
        (group,) = self.param_groups
        before = [p.detach().clone() for p in group["params"]]
        assert group["weight_decay"] == 0.1
        result = original(self, *args)
        if not seen:
            for p, old in zip(group["params"], before, strict=True):
                moved = p.detach() - (1 - 0.1 * group["lr"]) * old
                far = p.grad.abs() > 1e-4
                assert far.any()
                expected = torch.full_like(moved[far], group["lr"])
                torch.testing.assert_close(
                    moved[far].abs(), expected, rtol=1e-3, atol=0
                )
        seen.append(group["lr"])
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    config = replace(CONFIG, optimizer="adamw", lr=0.01, weight_decay=0.1)
    train(linear(), data, config)
    steps = len(seen)
    assert seen == [learning_rate(t, steps, config) for t in range(steps)]


# --- label noise ----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.001, 0.2, 0.55, 1])
def test_exactly_the_share_of_the_labels_changes(share):
    labels = torch.arange(1000) % 10
    before = labels.clone()
    noisy = flip_labels(labels, 10, share, torch.Generator().manual_seed(0))
    assert torch.equal(labels, before), "the input must not change"
    assert (noisy != labels).sum() == round(1000 * share)
    assert noisy.dtype == torch.int64
    assert 0 <= noisy.min() <= noisy.max() < 10


def test_new_labels_and_their_places_are_uniform():
    classes, n = 5, 100_000
    labels = torch.arange(n) % classes
    noisy = flip_labels(labels, classes, 0.4, torch.Generator().manual_seed(0))
    table = torch.zeros(classes, classes)
    table.index_put_((labels, noisy), torch.ones(n), accumulate=True)
    for row in range(classes):
        for column in range(classes):
            share = 0.6 if row == column else 0.1
            sigma = math.sqrt(n / classes * share * (1 - share))
            # 25 cells: 4.5 sigma keeps the chance of a false alarm below 2e-4.
            assert abs(table[row, column] - n / classes * share) < 4.5 * sigma
    first_half = (noisy != labels)[: n // 2].sum().item()
    assert abs(first_half - 20_000) < 4.5 * math.sqrt(n * 0.4 * 0.6 / 4)


def test_one_class_cannot_change():
    labels = torch.zeros(4, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(flip_labels(labels, 1, 0.0, generator), labels)
    with pytest.raises(ValueError, match="at least 2"):
        flip_labels(labels, 1, 0.5, generator)


class Table(nn.Module):
    """Predict a fixed class for the image whose first pixel is ``i``."""

    def __init__(self, answers):
        super().__init__()
        self.register_buffer("answers", answers)
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        index = (x[:, 0, 0, 0] * 255).round().long()
        logits = nn.functional.one_hot(self.answers[index], 4)
        return logits.to(x.dtype) * (1 + self.unused)


def numbered(n=40, classes=4):
    """Make a data set in which each image shows its own number."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    labels = torch.arange(n) % classes
    split = Split(images.contiguous(), labels, torch.arange(n), (0.0,), (1.0,))
    return Dataset("numbered", tuple("abcd"), split, split, split)


def test_memorised_and_recovered_labels_are_told_apart():
    data, config = numbered(), replace(CONFIG, epochs=1, label_noise=0.5)
    true = data.train.labels
    given = flip_labels(true, 4, 0.5, make_generator(config.seed, "label noise"))
    flipped = (given != true).nonzero().flatten()
    assert len(flipped) == 20
    half = true.clone()
    half[flipped[:5]] = given[flipped[:5]]  # 5 of 20 memorised, 15 recovered
    neither = torch.tensor(
        [
            min({0, 1, 2} - {t, g})
            for t, g in zip(true.tolist(), given.tolist(), strict=True)
        ]
    )
    for answers, memorised, recovered in (
        (true, 0, 1),
        (given, 1, 0),
        (half, 0.25, 0.75),
        (neither, 0, 0),
    ):
        record = train(Table(answers), data, config).epochs[-1]
        assert (record.memorised, record.recovered) == (memorised, recovered)
        assert record.train_accuracy == (answers == given).double().mean().item()
        assert record.validation_accuracy == (answers == true).double().mean().item()
    record = train(Table(true), data, replace(config, label_noise=0.0)).epochs[-1]
    assert record.memorised is record.recovered is None


def test_the_model_learns_from_the_noisy_labels(data):
    images, true = as_tensors(data.train)
    config = replace(CONFIG, epochs=1, batch_size=60, label_noise=0.5)
    given = flip_labels(true, 10, 0.5, make_generator(config.seed, "label noise"))
    logits = linear()(images).detach()
    (loss,) = train(linear(), data, config).step_loss
    assert loss == pytest.approx(nll(logits, given.numpy()), rel=1e-10)
    assert loss != pytest.approx(nll(logits, true.numpy()), rel=1e-3)


# --- whole runs -----------------------------------------------------------------------


def test_a_run_learns_and_measures_what_evaluate_measures(data):
    model = TinyCNN(regulariser="spatial", p=0.1, seed=0)
    before = evaluate(model, data.train)
    history = train(model, data, replace(CONFIG, epochs=20))
    assert len(history.step_loss) == 20 * 3
    assert [record.epoch for record in history.epochs] == list(range(1, 21))
    last = history.epochs[-1]
    assert Metrics(last.train_loss, last.train_accuracy) == evaluate(model, data.train)
    assert Metrics(last.validation_loss, last.validation_accuracy) == evaluate(
        model, data.validation
    )
    assert last.train_loss < before.loss / 2
    assert last.validation_accuracy > 0.3, "three times the share of any class"


def test_records_come_as_often_as_asked(data):
    history = train(linear(), data, replace(CONFIG, epochs=7, eval_every=3))
    assert [record.epoch for record in history.epochs] == [3, 6, 7]
    assert len(history.step_loss) == 21


def test_measuring_changes_nothing(data):
    config = replace(CONFIG, epochs=3, eval_every=1)
    runs = [
        train(
            TinyCNN(regulariser="element", p=0.2), data, replace(config, eval_every=e)
        )
        for e in (1, 3)
    ]
    assert runs[0].step_loss == runs[1].step_loss
    assert runs[0].epochs[-1] == runs[1].epochs[-1]


class Recorder(nn.Module):
    """Wrap a model and keep the images it was trained on, by their first pixels."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.batches = []

    def forward(self, x):
        if self.training:
            self.batches.append(x.flatten(1).sum(dim=1).tolist())
        return self.model(x)


def test_every_epoch_sees_every_image_once_in_a_new_order(data):
    model = Recorder(linear())
    train(model, data, CONFIG)
    assert [len(batch) for batch in model.batches] == [25, 25, 10] * 2
    seen = [image for batch in model.batches for image in batch]
    epochs = [seen[:60], seen[60:]]
    expected = as_tensors(data.train)[0].flatten(1).sum(dim=1).tolist()
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(expected)
    assert len({tuple(order) for order in (*epochs, expected)}) == 3


def test_the_regulariser_does_not_change_the_order_or_the_noise(data):
    config = replace(CONFIG, epochs=1, label_noise=0.2)
    seen, losses = [], []
    for name in REGULARISERS:
        p = 0.0 if name == "none" else 0.4
        model = Recorder(TinyCNN(regulariser=name, p=p, schedule="constant", seed=2))
        losses.append(train(model, data, config).step_loss)
        seen.append(model.batches)
    assert all(batches == seen[0] for batches in seen)
    assert len({tuple(loss) for loss in losses}) == len(REGULARISERS)


def run(data, **changes):
    model = TinyCNN(regulariser="drop_block", p=0.2, seed=1)
    history = train(model, data, replace(CONFIG, label_noise=0.2, **changes))
    return history, model.state_dict()


def test_a_run_neither_reads_nor_moves_a_global_generator(data):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()

    torch.manual_seed(1)
    before = states()
    first, first_state = run(data)
    for a, b in zip(before, states(), strict=True):
        assert str(a) == str(b), "a global generator moved"
    torch.manual_seed(2), random.seed(2), np.random.seed(2)
    second, second_state = run(data)
    assert first == second
    for key, values in first_state.items():
        assert torch.equal(values, second_state[key]), key


def test_another_seed_gives_another_run(data):
    assert run(data)[0].step_loss != run(data, seed=4)[0].step_loss


def test_masks_come_from_the_run_and_are_given_back(data):
    model = TinyCNN(regulariser="spatial", p=0.3)
    layers = [model.block1.drop, model.block2.drop]
    seen = []
    train(model, data, CONFIG, after_step=lambda: seen.append(layers[0].generator))
    assert len(seen) == 6
    assert all(generator is seen[0] is not None for generator in seen)
    assert seen[0].device.type == "cpu"
    assert [layer.generator for layer in layers] == [None, None]
    assert not model.training
    own = torch.Generator()
    layers[1].generator = own
    train(model, data, CONFIG)
    assert layers[0].generator is None and layers[1].generator is own


def test_after_step_can_ramp_a_rate(data):
    model = TinyCNN(regulariser="drop_block", p=0.3)
    ramp = LinearRamp(model, 0.0, 0.3, num_steps=4)
    rates = []

    def after_step():
        ramp.step()
        rates.append(model.block2.drop.p)

    train(model, data, CONFIG, after_step=after_step)
    assert rates == pytest.approx([0.075, 0.15, 0.225, 0.3, 0.3, 0.3])


def test_augmentation_shows_changed_images_and_repeats_them(data, monkeypatch):
    config = replace(CONFIG, augmentation="shift-flip")
    first, second = (train(linear(), data, config) for _ in range(2))
    assert first == second
    assert first.step_loss != train(linear(), data, CONFIG).step_loss
    seen = []

    def unchanged(images, generator):
        torch.rand(9, generator=generator)
        return images

    with monkeypatch.context() as patch:
        patch.setattr("regdrop_lite.course.training.shift_flip", unchanged)
        same = train(linear(), data, config)
    assert same == train(linear(), data, CONFIG), "the order has its own generator"

    def spy(images, generator):
        seen.append(images)
        return torch.zeros_like(images)

    monkeypatch.setattr("regdrop_lite.course.training.shift_flip", spy)
    model = linear()
    bias = model[1].bias
    history = train(model, data, replace(config, weight_decay=0))
    assert [len(images) for images in seen] == [25, 25, 10] * 2
    # The model saw nothing but zeros, so that only its biases have learnt.
    assert torch.equal(model[1].weight, linear()[1].weight)
    assert bias.abs().max() > 0
    assert history.step_loss[0] == pytest.approx(math.log(10))


def test_the_labels_given_are_those_learnt_from(data):
    config = replace(CONFIG, label_noise=0.2, epochs=1)
    given = given_labels(data, config)
    assert (given != data.train.labels).sum() == 12
    model = linear()
    record = train(model, data, config).epochs[-1]
    logits = predict(model, as_tensors(data.train)[0])
    assert score(logits, given).loss == record.train_loss


def test_a_noise_seed_stands_in_for_the_seed_in_the_label_noise_alone(data):
    config = replace(CONFIG, label_noise=0.2, seed=5)
    own, shared = (given_labels(data, replace(config, noise_seed=n)) for n in (None, 6))
    assert not torch.equal(own, shared)
    assert torch.equal(shared, given_labels(data, replace(config, seed=6)))
    with pytest.raises(ValueError, match="noise_seed: expected a whole number or None"):
        replace(config, noise_seed=0.5)


def test_float32_trains_with_the_channels_last_and_repeats_itself(data):
    runs = []
    for _ in range(2):
        model = TinyCNN(regulariser="spatial", p=0.2, dtype=torch.float32)
        config = replace(CONFIG, dtype="float32")
        runs.append((train(model, data, config), list(model.parameters())))
        weight = model.block1.conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
    assert runs[0][0] == runs[1][0]
    assert all(map(torch.equal, runs[0][1], runs[1][1]))
    assert TinyCNN().block1.conv1.weight.is_contiguous()


def test_float32_runs_start_like_float64_runs(data):
    runs = {}
    for dtype in ("float64", "float32"):
        model = TinyCNN(regulariser="spatial", p=0.2, seed=0)
        runs[dtype] = train(model, data, replace(CONFIG, dtype=dtype)).step_loss
        assert str(next(model.parameters()).dtype) == f"torch.{dtype}"
    assert runs["float32"][0] == pytest.approx(runs["float64"][0], rel=1e-5)
    assert runs["float32"] == pytest.approx(runs["float64"], rel=1e-2)
    assert runs["float32"] != runs["float64"]


PROGRAM = """
import json
from dataclasses import replace
from regdrop_lite.course.data import load_data, subset
from regdrop_lite.course.models import TinyCNN
from regdrop_lite.course.training import TrainConfig, train
import torch
data = load_data()
data = replace(
    data,
    train=subset(data.train, 80, seed=0),
    validation=subset(data.validation, 20, seed=0),
)
model = TinyCNN(regulariser="drop_block", p=0.1, seed=0)
config = TrainConfig(epochs=20, batch_size=8, eval_every=20, label_noise=0.2)
history = train(model, data, config)
threads, isa = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
print(json.dumps([threads, isa, history.step_loss, history.epochs[-1].validation_loss]))
"""


@pytest.mark.slow
def test_float64_results_hold_with_other_threads_and_instructions():
    """200 steps on one thread, and on two without the processor's vector units."""
    results = []
    for changes in (
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default"},
    ):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"REGDROP_DEVICE": "cpu"} | changes,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    (threads, _, losses, validation), (others, isa, other_losses, other_validation) = (
        results
    )
    assert (threads, others, len(losses)) == (1, 2, 200)
    assert isa in ("DEFAULT", "NO AVX")
    assert other_losses == pytest.approx(losses, rel=1e-10)
    assert other_validation == pytest.approx(validation, rel=1e-10)


def test_history_prints_a_table(data):
    noisy = train(linear(), data, replace(CONFIG, label_noise=0.2))
    clean = train(linear(), data, CONFIG)
    over, *lines = str(noisy).splitlines()
    assert over.split() == ["training", "validation", "wrong", "labels"]
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1, "columns must line up"
    record = noisy.epochs[-1]
    assert lines[-1].split() == [
        "2",
        f"{record.train_loss:.3f}",
        f"{record.train_accuracy:.3f}",
        f"{record.validation_loss:.3f}",
        f"{record.validation_accuracy:.3f}",
        f"{record.memorised:.2f}",
        f"{record.recovered:.2f}",
    ]
    assert "memorised" in lines[0] and "memorised" not in str(clean)
    assert max(map(len, str(clean).splitlines())) <= 40, "a phone shows no more"
    assert len(str(clean).splitlines()[-1].split()) == 5


# --- configuration --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: expected a whole number from 1, but got 0"),
        ({"epochs": 1.5}, "epochs: expected a whole number from 1, but got 1.5"),
        ({"epochs": True}, "epochs: .* but got True"),
        ({"batch_size": -4}, "batch_size: .* but got -4"),
        ({"eval_every": 0}, "eval_every: .* but got 0"),
        ({"seed": "7"}, "seed: expected a whole number, but got '7'"),
        ({"lr": 0}, "lr: expected a number above 0, but got 0"),
        ({"lr": math.inf}, "lr: .* but got inf"),
        ({"lr": math.nan}, "lr: .* but got nan"),
        ({"lr": "0.1"}, "lr: .* but got '0.1'"),
        ({"momentum": 1}, "momentum: expected a number from 0 to below 1, but got 1"),
        ({"momentum": -0.1}, "momentum: .* but got -0.1"),
        ({"weight_decay": -1e-9}, "weight_decay: expected a number from 0, but got"),
        ({"warmup": 1.1}, "warmup: expected a number from 0 to 1, but got 1.1"),
        ({"label_noise": -0.1}, "label_noise: .* from 0 to 1, but got -0.1"),
        ({"label_noise": None}, "label_noise: .* but got None"),
        ({"dtype": "bfloat16"}, "dtype: expected float64 or float32, but got 'bflo"),
        ({"dtype": torch.float64}, "dtype: .* but got torch.float64"),
        ({"augmentation": "cutout"}, "augmentation: expected none or shift-flip, but"),
        ({"optimizer": "lion"}, "optimizer: expected sgd or adamw, but got 'lion'"),
        ({"device": "tpu"}, "device: expected cpu or cuda, but got 'tpu'"),
    ],
)
def test_config_checks_itself(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


def test_config_is_frozen_and_plain():
    config = TrainConfig(epochs=3)
    with pytest.raises(FrozenInstanceError):
        config.epochs = 4
    assert TrainConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_device_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("REGDROP_DEVICE", raising=False)
    assert TrainConfig().device == "cpu"
    monkeypatch.setenv("REGDROP_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="REGDROP_DEVICE=cpu"):
        TrainConfig()
    assert TrainConfig(device="cpu").device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert TrainConfig().device == "cuda"


# --- what goes wrong ------------------------------------------------------------------


def test_a_diverging_run_stops_with_the_step_and_the_last_good_value(data):
    model, history = linear(), History()
    config = replace(CONFIG, lr=1e308, warmup=0, momentum=0, weight_decay=0)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, data, config, history=history)
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert error.step == len(history.step_loss) + 1 > 1
    assert error.last_loss == history.step_loss[-1]
    assert f"at step {error.step}; the last finite" in str(error)
    assert f"{error.last_loss:.6g}" in str(error)
    assert not model.training


def test_a_loss_that_never_was_finite(data):
    model = linear()
    nn.init.constant_(model[1].bias, math.nan)
    with pytest.raises(NonFiniteLossError, match="is nan at step 1; none") as caught:
        train(model, data, CONFIG)
    assert (caught.value.step, caught.value.last_loss) == (1, None)


class NanInEval(nn.Module):
    """Break as soon as the masks are off."""

    def __init__(self):
        super().__init__()
        self.model = linear()

    def forward(self, x):
        return self.model(x) if self.training else self.model(x) * math.nan


def test_a_validation_loss_that_is_not_finite_stops_the_run(data):
    history = History()
    with pytest.raises(NonFiniteLossError, match="validation loss is nan at step 3"):
        train(NanInEval(), data, CONFIG, history=history)
    assert len(history.step_loss) == 3
    assert history.epochs == []


def test_an_interrupt_leaves_the_model_usable_and_the_records_at_hand(data):
    model, history = TinyCNN(regulariser="spatial", p=0.2), History()
    own = model.block2.drop.generator = torch.Generator()

    def interrupt():
        if len(history.step_loss) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, data, CONFIG, after_step=interrupt, history=history)
    assert len(history.step_loss) == 4
    assert len(history.epochs) == 1
    assert model.block1.drop.generator is None
    assert model.block2.drop.generator is own
    assert not model.training
    assert math.isfinite(evaluate(model, data.validation).loss)


def test_a_step_refuses_unfitting_batches():
    model = linear(3, size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.zeros(5, 1, 4, 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    train_step(model, optimizer, images, labels)
    for bad_images, bad_labels, kind, message in (
        (images, labels[:4], ValueError, r"\(5, 1, 4, 4\) and \(4,\)"),
        (images, labels[:, None], ValueError, r"\(5, 1, 4, 4\) and \(5, 1\)"),
        (images[:0], labels[:0], ValueError, r"N > 0, but got \(0, 1, 4, 4\)"),
        (images, labels.int(), TypeError, "int64, but got torch.int32"),
        (images.float(), labels, TypeError, "model's torch.float64, but got torch.fl"),
        (images, labels + 1, ValueError, "from 0 to 2, .* but got 1 to 3"),
        (images, labels - 1, ValueError, "from 0 to 2, .* but got -1 to 1"),
    ):
        with pytest.raises(kind, match=message):
            train_step(model, optimizer, bad_images, bad_labels)


def test_logits_of_another_shape_are_refused():
    labels = torch.tensor([0, 1])
    for shape in ((2, 3, 1), (3, 3), (2,)):
        with pytest.raises(ValueError, match=r"expected the shape \(2, number of cl"):
            score(torch.zeros(shape), labels)


def test_a_model_with_too_few_classes_is_refused(data):
    with pytest.raises(ValueError, match=r"from 0 to 2, .* 3 logits, but got"):
        train(linear(3), data, CONFIG)
    with pytest.raises(ValueError, match=r"from 0 to 2, .* 3 logits, but got 0 to 9"):
        evaluate(linear(3), data.validation)


def test_empty_splits_are_refused(data):
    empty = replace(
        data.train,
        images=data.train.images[:0],
        labels=data.train.labels[:0],
        indices=data.train.indices[:0],
    )
    for name in ("train", "validation"):
        with pytest.raises(ValueError, match=f"{name}: expected at least one image"):
            train(linear(), replace(data, **{name: empty}), CONFIG)
    with pytest.raises(ValueError, match="split: expected at least one image"):
        evaluate(linear(), empty)


# --- progress -------------------------------------------------------------------------


def test_progress_goes_to_stderr_and_only_on_request(data, capsys):
    quiet = train(linear(), data, CONFIG)
    out, err = capsys.readouterr()
    assert out == err == ""
    shown = train(linear(), data, replace(CONFIG, progress=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert "6/6" in err
    assert f"loss={shown.step_loss[-1]:.3f}" in err
    assert shown == quiet


def test_progress_without_tqdm_names_the_remedy(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)  # makes the import fail
    with pytest.raises(ImportError, match=r'pip install "regdrop-lite\[course\]"'):
        train(linear(), data, replace(CONFIG, progress=True))
