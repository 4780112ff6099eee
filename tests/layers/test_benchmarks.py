"""The benchmark: the numbers are right for known times. Nothing asserts real times."""

import importlib
import json
import math

import pytest
import torch

from benchmarks import layers as bench

TINY = bench.Setting("layer", (2, 8, 7, 7))
NAN = math.nan


@pytest.mark.parametrize(
    ("function", "size"),
    [
        (lambda x: x * 2, 0),
        (lambda x: x * x, 0),  # the input is alive anyway
        (lambda x: x.exp(), 4 * 96),  # the output
        (lambda x: (y := x.exp()) * y, 4 * 96),  # saved three times, there once
        (lambda x: x.exp().exp(), 2 * 4 * 96),
        (torch.nn.Dropout(0.5).eval(), 0),
        (torch.nn.Dropout2d(0.5), 4 * 6),
    ],
)
def test_saved_bytes_of_known_functions(function, size):
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert bench.saved_bytes(function, x) == size


def test_parameters_are_not_counted():
    linear = torch.nn.Linear(4, 4)
    x = torch.rand(2, 4, requires_grad=True)
    assert bench.saved_bytes(linear, x) == 4 * 16
    assert bench.saved_bytes(linear, x, list(linear.parameters())) == 0


def test_ratios_are_taken_within_a_round_and_a_round_of_one_side_is_left_out():
    # The ratios are 4, 3 and 32; that of the medians would be 8.
    a = torch.tensor([16.0, 6.0, NAN, 32.0], dtype=torch.float64)
    b = torch.tensor([4.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    assert bench.summary(a, b) == {
        "rounds": 3,
        "ratio_min": 6.0,  # the fastest calls of both
        "ratio_low": 3.5,
        "ratio": 4.0,
        "ratio_high": 18.0,
    }


def test_every_call_is_timed_in_every_round_and_slow_ones_in_every_sixth(monkeypatch):
    counts = [0, 0]

    def call(i):
        counts[i] += 1

    monkeypatch.setattr(bench, "_SECONDS", 0.0)
    monkeypatch.setattr(bench.math, "ceil", lambda _: 1)
    calls = [lambda: call(0), lambda: call(1)]
    assert not bench.measure(calls, 7).isnan().any()
    before = list(counts)
    monkeypatch.setattr(bench, "_SLOW", 0.0)  # everything is slow
    slow = [[False, True, True, True, True, True, False]] * 2
    assert bench.measure(calls, 7).isnan().tolist() == slow
    assert [b - a for a, b in zip(before, counts, strict=True)] == [before[0] - 5] * 2


@pytest.mark.parametrize(
    ("ours", "sign", "met"),
    [(1.15, "<=", True), (1.16, "<=", False), (8.0, ">=", True), (7.9, ">=", False)],
)
def test_the_median_decides_about_a_target(monkeypatch, ours, sign, met):
    a, b = ("SpatialDropout", bench._OURS, 0.2), bench._LIMIT
    target = (TINY, a, b, sign, 1.15 if sign == "<=" else 8.0)
    monkeypatch.setattr(bench, "_TARGETS", [target])

    def measure(calls, rounds):
        return torch.tensor([[1.0, 1.0, 1.0]] + [[0.1, ours, 99.0]] * (len(calls) - 1))

    monkeypatch.setattr(bench, "measure", measure)
    rows, (judged,) = bench.run(TINY._replace(threads=2), {}, 3)
    assert judged["met"] is met
    assert (judged["ratio_min"], judged["ratio"]) == (0.1, ours)
    assert len(rows) == 7 and rows[0]["ratio"] == 1.0


def test_every_target_names_candidates_that_are_measured():
    class Peer:
        def __getattr__(self, name):
            return lambda *args, **options: torch.nn.Identity()

    peers = {"torchvision": Peer(), "timm": Peer()}
    for setting, a, b, _, _ in bench._TARGETS:
        assert setting in bench._SETTINGS
        if setting.task == "layer":
            names = {c[:3] for c in bench._layers(setting, peers)}
            assert {a, b} <= names
        else:
            assert (a[0], b) == ("subset", ("row", bench._OURS, 0.0))


@pytest.mark.parametrize("stack", [bench._IMAGES, bench._TOKENS])
def test_half_of_the_samples_leave_out_what_the_branch_would_save(stack):
    shape = (4, 8, 6, 6) if stack is bench._IMAGES else (4, 6, 8)
    rows, _ = bench.run(stack._replace(shape=shape), {}, 1)
    names = [(row["layer"], row["p"]) for row in rows]
    rates = (0.1, 0.2, 0.5)
    subset = [("subset", p) for p in rates]
    assert names == [("row", 0.0), *(("row", p) for p in rates), *subset]
    assert rows[-1]["saved"] < 0.7 * rows[0]["saved"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("no", name="timm"), "not installed"),
        (ModuleNotFoundError("no", name="yaml"), "imported (ModuleNotFoundError)"),
        (RuntimeError("/a/path: nms does not exist"), "imported (RuntimeError)"),
        (OSError("/a/path: undefined symbol"), "imported (OSError)"),
    ],
)
def test_a_missing_peer_is_named_with_its_reason_and_no_path(monkeypatch, error, words):
    def import_module(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", import_module)
    peers, found = bench.load_peers()
    assert peers == {} and set(found) == {"torchvision", "timm"}
    assert found["timm"].endswith(words)


def test_the_provenance_names_no_path_and_no_host():
    found = bench.provenance()
    assert found["torch"] == torch.__version__
    assert "/" not in found["commit"] and "host" not in found


def test_what_is_stored_is_what_was_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "_SETTINGS", [TINY])
    monkeypatch.setattr(bench, "_SLOW", math.inf)  # on a busy machine any call may be
    path = tmp_path / "bench.json"
    bench.main(["--quick", "--output", str(path)])
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert {row["threads"] for row in stored["rows"]} == {1, 2}
    assert all(row["rounds"] == 3 for row in stored["rows"])
    assert path.read_text().count('\n{"task"') == len(stored["rows"])
    assert "DropBlock, regdrop_lite, p=0.3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "float8"], "no setting matches"),
        (["--output", "/no/such/folder/x"], "not exist"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(arguments, words, capsys):
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert words in capsys.readouterr().err
