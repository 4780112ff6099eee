"""The runner: runs, rows, resuming, verifying, and all that may go wrong."""

import contextlib
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from regdrop_lite.course.data import load_data, subset
from regdrop_lite.course.evaluation import evaluate
from regdrop_lite.course.models import ResNetSmall, ViTSmall
from regdrop_lite.course.study import run as runs
from regdrop_lite.course.study import store as rows_module
from regdrop_lite.course.study import sweep
from regdrop_lite.course.study.plan import METRICS, read_plan
from regdrop_lite.course.study.report import load_study
from regdrop_lite.course.study.run import (
    RESULTS_VERSION,
    data_hash,
    perform,
    prepare_data,
    run_id,
    source_hash,
)
from regdrop_lite.course.study.store import (
    RowsError,
    load_histories,
    load_net,
    load_repeats,
    load_rows,
    open_store,
    select,
)
from regdrop_lite.course.study.sweep import apart, main
from regdrop_lite.course.training import TrainConfig, given_labels, train

ROOT = Path(__file__).parents[2]
TEXT = """
title = "t"
evaluate = "test"
measures = ["classification", "memorisation"]
seeds = [0, 1]
checkpoints = [1]
tolerance = 0.01

[data]
images = 40
validation = 20
label_noise = 0.2

[training]
epochs = 2
batch_size = 20
dtype = "float64"

[model]
depths = [1, 1, 1]

[[groups]]
name = "none"

[[groups]]
name = "spatial"
regulariser = ["spatial"]
p = [0.2]
"""


@pytest.fixture
def write(tmp_path):
    """Write a plan with replacements and give its path."""

    def function(*changes, name="study"):
        text = TEXT
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "plans" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return function


@pytest.fixture
def quick(monkeypatch):
    """Replace the training by nothing, in this process, and count the runs."""
    calls = []

    def stand_in(config, seed, **others):
        calls.append((config["regulariser"], seed))
        row = {"status": "ok", "metrics": {"accuracy": seed + config["p"]}}
        row |= {"seconds": 0.1, "device": "cpu"}
        if (config["regulariser"], seed) in stand_in.broken:
            row = {"status": "failed", "error": "RuntimeError: out of luck"}
        return {"row": row, "history": {"epoch": [1]}, "checkpoint": None}

    stand_in.broken, stand_in.calls = set(), calls
    monkeypatch.setattr(sweep, "perform", stand_in)
    return stand_in


def run(path, *options):
    return main([str(path), "--jobs", "1", *options])


def stored(path, folder="rows"):
    return path.parents[1] / folder / f"{path.stem}.jsonl"


# --- one run --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_is_what_training_by_hand_gives_and_repeats_itself(write):
    config = read_plan(write()).runs[2].config
    assert (config["regulariser"], config["p"]) == ("spatial", 0.2)
    outcome = perform(config, 7)
    row = outcome["row"]
    assert row["status"] == "ok", row
    data = load_data()
    data = replace(
        data,
        train=subset(data.train, 40, seed=7),
        validation=subset(data.validation, 20, seed=0),
    )
    model = ResNetSmall(regulariser="spatial", p=0.2, depths=(1, 1, 1), seed=7)
    settings = TrainConfig(epochs=2, batch_size=20, label_noise=0.2, seed=7)
    history = train(model, data, settings)
    record, test = history.epochs[-1], evaluate(model, data.test)
    expected = {
        "train_loss": record.train_loss,
        "train_accuracy": record.train_accuracy,
        "validation_loss": record.validation_loss,
        "validation_accuracy": record.validation_accuracy,
        "memorised": record.memorised,
        "recovered": record.recovered,
        "accuracy": test.accuracy,
        "nll": test.loss,
    }
    assert {key: row["metrics"][key] for key in expected} == expected
    assert set(row["metrics"]) == {*expected, "ece"}
    found = outcome["history"]
    assert found["epoch"] == [1, 2]
    assert found["train_loss"][1] == pytest.approx(record.train_loss, rel=1e-3)
    losses = history.step_loss
    by_hand = [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    assert found["noisy_loss"] == pytest.approx(by_hand, rel=1e-3)
    again = perform(config, 7)
    assert again["row"]["metrics"] == row["metrics"]
    assert perform(config, 8)["row"]["metrics"] != row["metrics"]
    assert outcome["checkpoint"] is None


@pytest.mark.slow
def test_a_vit_is_trained_stored_and_loaded_like_the_other_net(write):
    vit = "[vit]\ndepth = 2\ndim = 8"
    optimizer = ("batch_size = 20", 'batch_size = 20\noptimizer = "adamw"')
    path = write(
        ("[model]\ndepths = [1, 1, 1]", vit),
        ('regulariser = ["spatial"]\n', ""),
        optimizer,
    )
    assert run(path, "--limit", "4") == 0
    row = load_rows(path)[-1]
    assert (row["config"]["net"], row["config"]["p"], row["seed"]) == ("vit", 0.2, 1)
    data = prepare_data(row["config"], 1)
    model = ViTSmall(p=0.2, depth=2, dim=8, seed=1)
    settings = TrainConfig(
        epochs=2, batch_size=20, label_noise=0.2, optimizer="adamw", seed=1
    )
    train(model, data, settings)
    assert row["metrics"]["accuracy"] == evaluate(model, data.test).accuracy
    net = load_net(path, row)
    assert [block.drop2.p for block in net.blocks] == [0.0, 0.2]
    for key, values in net.state_dict().items():
        half = model.state_dict()[key].half().float()
        assert torch.equal(values, half), key
    assert main([str(path), "--verify", "2", "--jobs", "1"]) == 0


def test_a_row_says_where_it_came_from(write):
    config = read_plan(write()).runs[0].config
    row = perform(config | {"dtype": "float32"}, 0)["row"]
    assert row["status"] == "ok"
    assert row["device"] == "cpu"
    assert row["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    assert row["versions"]["torch"] == torch.__version__
    assert set(row["versions"]) == {"regdrop_lite", "torch", "python"}
    assert row["seconds"] > 0


def test_a_run_takes_one_thread_and_gives_the_others_back(write, monkeypatch):
    config, before = read_plan(write()).runs[0].config, torch.get_num_threads()
    seen = []

    def watch(*_):
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_train_and_measure", watch)
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            perform(config, 0)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_a_run_that_fails_is_a_row_too(write):
    config = read_plan(write()).runs[0].config
    outcome = perform(config | {"lr": 1e300, "warmup": 0.0}, 0)
    assert outcome["row"]["status"] == "failed"
    assert outcome["row"]["error"].startswith("NonFiniteLossError: the training loss")
    assert "metrics" not in outcome["row"]
    for expected in ({"version": 123}, {"data": "123"}):
        error = perform(config, 0, **expected)["row"]["error"]
        assert error.startswith("RuntimeError: the ")
        assert error.endswith(", but 123 was expected")


@pytest.mark.slow
def test_a_ramp_starts_without_masks_and_ends_at_the_full_rate(write, monkeypatch):
    """Spies on the rates before each of four steps."""
    seen = []
    original = runs.train

    def spy(model, *arguments, after_step, history):
        layer = model.stages[0][0].drop
        seen.append(layer.p)

        def step():
            if after_step is not None:
                after_step()
            seen.append(layer.p)

        return original(model, *arguments, after_step=step, history=history)

    monkeypatch.setattr(runs, "train", spy)
    config = read_plan(write()).runs[2].config
    for ramp, expected in (
        (0.0, [0.2] * 5),
        (0.5, [0, 0.1, 0.2, 0.2, 0.2]),
        (1.0, [0, 0.05, 0.1, 0.15, 0.2]),
    ):
        seen.clear()
        assert perform(config | {"ramp": ramp}, 0)["row"]["status"] == "ok"
        assert seen == pytest.approx(expected)


def test_seeds_choose_the_training_images_and_leave_the_validation_images(write):
    config = read_plan(write()).runs[0].config
    first, second = prepare_data(config, 0), prepare_data(config, 1)
    assert len(first.train) == 40 and len(first.validation) == 20
    assert not torch.equal(first.train.indices, second.train.indices)
    assert torch.equal(first.validation.indices, second.validation.indices)
    assert len(prepare_data(config | {"images": None}, 0).train) == 3000
    shared = prepare_data(config | {"data_seed": 0}, 1)
    assert torch.equal(first.train.indices, shared.train.indices)


@pytest.mark.slow
def test_members_of_an_ensemble_share_images_and_wrong_labels(write, monkeypatch):
    """They differ in all else: the first losses of their nets are not equal."""
    config = read_plan(write()).runs[1].config | {"label_noise": 0.5}
    given, losses = [], []

    def spy(data, settings):
        given.append((data.train.indices.tolist(), given_labels(data, settings)))
        return given[-1][1]

    monkeypatch.setattr("regdrop_lite.course.training.given_labels", spy)
    shared = {"data_seed": 3, "noise_seed": 3}
    for seed, own in ((0, shared), (1, shared), (1, {}), (1, {"data_seed": 3})):
        outcome = perform(config | own, seed)
        assert outcome["row"]["status"] == "ok"
        losses.append(outcome["history"]["noisy_loss"][0])
    same_images = [images == given[0][0] for images, _ in given]
    same_labels = [torch.equal(labels, given[0][1]) for _, labels in given]
    assert same_images == [True, True, False, True]
    assert same_labels == [True, True, False, False]
    assert len(set(losses)) == 4


def test_a_run_is_named_by_settings_seed_and_results_version(write, monkeypatch):
    config = read_plan(write()).runs[0].config
    names = {
        run_id(config, 0),
        run_id(config | {"p": 0.1}, 0),
        run_id(config | {"data": "other"}, 0),
        run_id(config, 1),
    }
    assert len(names) == 4
    shuffled = dict(reversed(config.items()))
    assert run_id(shuffled, 0) in names
    monkeypatch.setattr(runs, "RESULTS_VERSION", RESULTS_VERSION + 1)
    assert run_id(config, 0) not in names


def test_names_of_runs_never_change(monkeypatch):
    """A literal: no Python and no refactoring may open the stored runs."""
    monkeypatch.setattr(runs, "RESULTS_VERSION", 1)
    config = {"data": "é", "p": 0.1, "lr": 1e-05, "stages": [1, 2], "images": None}
    assert run_id(config, 3) == "cc058c8d41fe62f4"


@pytest.mark.parametrize(
    "path", sorted((ROOT / sweep.PLANS).glob("*.toml")), ids=lambda p: p.stem
)
def test_every_stored_study_is_done_and_all_its_files_know_its_runs(path):
    plan = read_plan(path)
    names = [run_id(run.config, run.seed) for run in plan.runs]
    rows = load_rows(plan)
    assert [row["run"] for row in rows] == names
    assert {row["results_version"] for row in rows} == {RESULTS_VERSION}
    assert set(load_histories(plan)) == set(names)
    repeats = stored(path, "repeats")
    count = len(repeats.read_text().splitlines()) if repeats.exists() else 0
    assert len(load_repeats(plan)) == count
    for row in rows:
        if row["seed"] in plan.checkpoints:
            load_net(plan, row)
    nets = stored(path, "checkpoints").with_suffix("").glob("*")
    assert {file.stem for file in nets} <= set(names)


# --- rows -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_runner_writes_a_row_for_each_run_and_all_files(write, capsys):
    path = write()
    assert run(path) == 0
    out, err = capsys.readouterr()
    assert out == "study: 4 runs made, 0 failed, 0 remain\n"
    assert "4/4" in err
    rows = load_rows(path)
    assert [(row["group"], row["seed"]) for row in rows] == [
        *(("none", 0), ("none", 1), ("spatial", 0), ("spatial", 1))
    ]
    for row in rows:
        again = perform(row["config"], row["seed"])["row"]
        assert row["metrics"] == again["metrics"], "floats are stored in full"
        assert row["plan"] == "study"
        assert row["code"] == source_hash()
        assert row["results_version"] == RESULTS_VERSION
        assert len(row["data_hash"]) == 16
        assert {"commit", "dirty", "seconds", "versions", "device"} <= set(row)
    histories = load_histories(path)
    assert set(histories) == {row["run"] for row in rows}
    assert histories[rows[0]["run"]]["epoch"] == [1, 2]
    assert [row["seed"] for row in select(rows, regulariser="spatial", p=0.2)] == [0, 1]
    with pytest.raises(RowsError, match="the net of seed 0 is not stored"):
        load_net(path, rows[0])
    net = load_net(path, rows[3])
    assert not net.training
    files = list(stored(path, "checkpoints").with_suffix("").glob("*.pt"))
    assert len(files) == 2
    with zipfile.ZipFile(files[0]) as archive:
        parts = archive.infolist()
    assert {part.compress_type for part in parts} == {zipfile.ZIP_DEFLATED}
    assert len({part.date_time for part in parts}) == 1
    # Weights of half precision: three digits.
    expected = rows[3]["metrics"]["nll"]
    assert evaluate(net, load_data().test).loss == pytest.approx(expected, rel=1e-2)
    with pytest.raises(RowsError, match="has no rows yet"):
        load_rows(write(name="other"))


def test_a_second_start_does_nothing_and_parts_share_the_work(write, quick, capsys):
    path = write()
    assert run(path, "--part", "2/2") == 0
    assert sorted(quick.calls) == [("none", 1), ("spatial", 1)]
    assert run(path, "--limit", "1") == 0
    assert quick.calls[2:] == [("none", 0)]
    assert "1 runs made, 2 before, 0 failed, 1 remain" in capsys.readouterr().out
    assert run(path, "--seconds", "0") == 0
    assert "0 runs made, 3 before, 0 failed, 1 remain" in capsys.readouterr().out
    assert run(path) == 0
    assert quick.calls[3:] == [("spatial", 0)]
    before = stored(path).read_bytes()
    assert run(path) == 0
    assert len(quick.calls) == 4
    assert stored(path).read_bytes() == before


def test_a_failed_run_stops_no_other_and_is_tried_again(write, quick, capsys):
    path = write()
    quick.broken.add(("none", 1))
    assert run(path) == 1
    out, err = capsys.readouterr()
    assert "3 runs made, 1 failed, 1 remain" in out
    assert "none, seed 1 failed: RuntimeError: out of luck" in err
    assert len(load_rows(path)) == 3
    assert '"status": "failed", "error": "RuntimeError: out' in stored(path).read_text()
    quick.broken.clear()
    assert run(path) == 0
    assert quick.calls[4:] == [("none", 1)]
    assert len(load_rows(path)) == 4


def test_a_raised_results_version_opens_all_runs_and_keeps_their_rows(
    write, quick, monkeypatch, capsys
):
    path = write()
    run(path)
    for module in (runs, sweep):
        monkeypatch.setattr(module, "RESULTS_VERSION", RESULTS_VERSION + 1)
    capsys.readouterr()
    assert run(path, "--list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "none: 0 done, 2 open (2 rows of another results version)",
        "spatial: 0 done, 2 open (2 rows of another results version)",
    ]
    assert run(path, "--limit", "1") == 0
    versions = [row["results_version"] for row in load_rows(path)]
    assert versions == [RESULTS_VERSION + 1] + [RESULTS_VERSION] * 3
    with pytest.raises(RowsError, match=r"mix results versions \[1, 2\]: python -m"):
        load_study(path)
    assert len(stored(path).read_text().splitlines()) == 1 + 5
    run(path, "--list")
    assert "none: 1 done, 1 open (1 rows of another" in capsys.readouterr().out


def test_other_data_of_the_same_name_are_refused(write, quick, monkeypatch, capsys):
    path = write()
    run(path, "--limit", "1")
    before = stored(path).read_bytes()
    monkeypatch.setattr(sweep, "data_hash", lambda *_: "another")
    assert run(path) == 2
    assert "were made from other data: hash" in capsys.readouterr().err
    assert stored(path).read_bytes() == before


def test_code_that_moves_opens_nothing(write, quick, monkeypatch):
    path = write()
    run(path)
    monkeypatch.setattr(sweep, "source_hash", lambda: "another")
    assert run(path) == 0
    assert len(quick.calls) == 4


def test_runs_can_be_listed_without_being_made(write, quick, capsys):
    path = write()
    assert run(path, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("open  ") and lines[0].endswith("  none  seed 0  {}")
    assert lines[2].endswith("spatial  seed 0  {'regulariser': 'spatial', 'p': 0.2}")
    assert not stored(path).exists() and not quick.calls
    run(path, "--limit", "1")
    capsys.readouterr()
    run(path, "--list")
    assert capsys.readouterr().out == "none: 1 done, 1 open\nspatial: 0 done, 2 open\n"


def test_a_torn_last_line_is_passed_over_and_cut_off(write, quick):
    """The file is cut at many places inside its last line."""
    path = write()
    run(path)
    file = stored(path)
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    calls = len(quick.calls)
    for cut in (last, last + 1, (last + len(whole)) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        stored(path, "histories").write_bytes(b'{"run": "x"}\n{"ru')
        assert len(load_rows(path)) == 3
        assert run(path) == 0
        assert len(quick.calls) == (calls := calls + 1), "the lost run is made again"
        assert file.read_bytes()[:last] == whole[:last]
        assert len(load_rows(path)) == 4
        assert len(load_histories(path)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rows of the plan study"),
        (b"accuracy,loss\n0.7,0.9\n", "line 1 is damaged"),
        (b"\x80\x81\xff\n", "line 1 is damaged"),
        (b"[1, 2]\n", "line 1 is no row"),
        (b'{"a": 1}\n', "holds no rows of the plan study: move it away"),
        (b'{"plan": "other", "content": {}}\n', "holds no rows of the plan study"),
        (b'{"plan": "study"', "holds no rows of the plan study"),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(
    write, quick, capsys, content, message
):
    path = write()
    stored(path).parent.mkdir()
    stored(path).write_bytes(content)
    assert run(path) == 2
    assert message in capsys.readouterr().err
    assert stored(path).read_bytes() == content
    assert not quick.calls
    with pytest.raises(RowsError, match=message):
        load_rows(path)


def test_a_damaged_line_is_refused_with_its_number(write, quick, capsys):
    path = write()
    run(path)
    lines = stored(path).read_bytes().splitlines(keepends=True)
    for bad, message in (
        (b'{"run": "x"\n', "line 3 is damaged: restore the file"),
        (b'{"run": "x"}\n', "a row lacks config, seed, status"),
    ):
        damaged = b"".join([*lines[:2], bad, *lines[3:], b"torn"])
        stored(path).write_bytes(damaged)
        assert run(path) == 2
        assert message in capsys.readouterr().err
        assert stored(path).read_bytes() == damaged


def test_a_changed_plan_is_refused_and_an_extended_one_welcome(write, quick, capsys):
    path = write()
    run(path)
    before = stored(path).read_bytes()
    for change, key in (
        (("epochs = 2", "epochs = 3"), "training.epochs was 2 and is 3"),
        (("seeds = [0, 1]", "seeds = [1]"), "seeds had 0 and has it no more"),
        (("p = [0.2]", "p = [0.2, 0.3]"), "groups.spatial.p was [0.2]"),
        (('"none"', '"plain"'), "groups.none is gone"),
        (('title = "t"', 'title = "u"'), "title was 't' and is 'u'"),
    ):
        write(change)
        assert run(path) == 2
        assert f"study has changed since its rows were made: {key}" in (
            capsys.readouterr().err
        )
        assert stored(path).read_bytes() == before
        with pytest.raises(RowsError, match="has changed"):
            load_rows(path)
    more = '"none"\n[[groups]]\nname = "early"\nepochs = [1]'
    write(("seeds = [0, 1]", "seeds = {count = 3}"), ('"none"', more))
    assert run(path, "--limit", "1") == 0
    assert stored(path).read_bytes().startswith(before)
    assert len(load_rows(path)) == 5
    write()
    assert run(path) == 2
    assert "seeds had 2 and has it no more" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    write, quick, capsys
):
    path = write()
    assert run(path, "--device", "cuda") == 2
    assert "--device cuda: PyTorch finds no GPU" in capsys.readouterr().err
    assert not quick.calls and not stored(path).exists()
    run(path)
    assert run(path, "--device", "cuda", "--verify", "1") == 2
    assert "--device cuda: PyTorch finds no GPU" in capsys.readouterr().err


# --- faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("good_calls", [0, 1])  # the history's comes first
def test_a_full_disk_costs_nothing_but_the_run_under_way(
    write, quick, monkeypatch, capsys, good_calls
):
    path = write()
    run(path, "--limit", "2")
    before = stored(path).read_bytes()
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > good_calls:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rows_module.os, "fsync", full)
        assert run(path) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert stored(path).read_bytes() == before
    histories = stored(path, "histories").read_bytes()
    assert histories.count(b"\n") == 2 + good_calls
    assert run(path) == 0
    assert stored(path).read_bytes().startswith(before)
    assert len(load_rows(path)) == 4


def test_a_line_that_is_written_in_part_is_taken_back(write, quick):
    """The system lets the file grow by ten bytes only."""
    resource = pytest.importorskip("resource")
    path = write()
    run(path, "--limit", "2")
    before = stored(path).read_bytes()
    with open_store(read_plan(path)) as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                store.add(store.rows[0] | {"run": "new"}, {}, None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
    assert stored(path).read_bytes() == before


def test_a_second_runner_is_refused_and_the_lock_falls_with_its_owner(
    write, quick, capsys
):
    path = write()
    with open_store(read_plan(path)):
        assert run(path) == 2
        assert "another runner is at work on" in capsys.readouterr().err
    assert run(path) == 0


def test_an_interrupt_keeps_the_rows(write, quick, monkeypatch, capsys):
    path = write()

    def interrupted(config, seed, **others):
        if len(quick.calls) == 2:
            raise KeyboardInterrupt
        return quick(config, seed, **others)

    monkeypatch.setattr(sweep, "perform", interrupted)
    assert run(path) == 130
    assert "interrupted: all rows are kept" in capsys.readouterr().out
    assert len(load_rows(path)) == 2
    monkeypatch.setattr(sweep, "perform", quick)
    assert run(path) == 0
    assert len(quick.calls) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([('["spatial"]', '["cutout"]')], "regulariser has to be one of 'none', 'el"),
        ([("p = [0.2]", "p = [1.5]")], "expected less than or equal to 1, but got 1.5"),
        ([("p = [0.2]", "p = []")], "p: List should have at least 1 item"),
        (
            [("seeds = [0, 1]", "seeds = []"), ("[1]", "[]")],
            "seeds: Value should have at least 1 item",
        ),
        (
            [("images = 40", "images = 41")],
            "none (images = 41, validation = 20): ",
        ),
        ([("images = 40", "images = 40000")], "class"),
    ],
)
def test_bad_plans_are_refused_before_anything_is_written(
    write, quick, capsys, changes, message
):
    path = write(*changes)
    assert run(path) == 2
    assert message in capsys.readouterr().err
    assert not quick.calls and not stored(path).exists()


def test_bad_options_are_named(write, capsys):
    path = write()
    for options, message in (
        (["--part", "3/2"], "expected K/M with K from 1 to M, but got 3/2"),
        (["--limit", "0"], "expected a whole number from 1, but got 0"),
        (["--verify", "x"], "expected a whole number from 1, but got x"),
    ):
        with pytest.raises(SystemExit) as caught:
            run(path, *options)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])
    assert "expected a PLAN, or --verify N" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(path, "--keep")
    assert "--keep stores what --verify N makes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(path, "--verify", "1", "--limit", "3")
    assert "--limit does not go with --verify" in capsys.readouterr().err
    assert run(path.with_name("none.toml")) == 2
    assert "none.toml" in capsys.readouterr().err


# --- verifying ------------------------------------------------------------------------


def test_distances_of_metrics():
    assert apart(0.5, 0.5) == 0
    assert apart(0.5, 0.4) == pytest.approx(0.1)
    assert apart(-20.0, -19.0) == pytest.approx(0.05)
    assert apart([0.5, 0.5], [0.5, 0.25]) == 0.25
    assert apart(math.nan, math.nan) == 0
    assert apart(None, None) == 0
    for old, new in (
        (0.5, math.nan),
        (math.inf, 1.0),
        (0.5, None),
        ([0.5], [0.5, 0.5]),
        ([0.5], 0.5),
    ):
        assert apart(old, new) == apart(new, old) == math.inf


def tamper(path, change):
    """Change the first row."""
    lines = stored(path).read_text().splitlines()
    row = json.loads(lines[1])
    change(row)
    lines[1] = json.dumps(row)
    stored(path).write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_a_metric_may_have_a_tolerance_of_its_own(write, capsys):
    own = "[tolerances]\nnll = 0.5\n\n[data]"
    path = write(("float64", "float32"), ("[data]", own), ("[0, 1]", "[1]"))
    run(path)

    def judge(metric, by):
        tamper(path, lambda row: row["metrics"].update({metric: value + by}))
        capsys.readouterr()
        return run(path, "--verify", "2"), capsys.readouterr().out

    for metric, by, code in (("nll", 0.4, 0), ("nll", 3.0, 1), ("ece", 0.4, 1)):
        value = load_rows(path)[0]["metrics"][metric]
        found, out = judge(metric, by)
        assert found == code, out
        allowed = 0.5 if metric == "nll" else 0.01
        assert code == 0 or (f"{metric} is" in out and f"(allowed: {allowed:g})" in out)
        judge(metric, 0.0)  # as it was

    # Tolerances may change when rows exist: they judge no result.
    path.write_text(path.read_text().replace("nll = 0.5", "nll = 0.6"))
    assert run(path, "--verify", "1") == 0


@pytest.mark.slow
def test_a_group_may_have_a_tolerance_of_its_own(write, capsys):
    own = '[tolerances."spa*"]\nece = 0.5\n\n[data]'
    path = write(("float64", "float32"), ("[data]", own), ("[0, 1]", "[1]"))
    run(path)
    lines = stored(path).read_text().splitlines()
    rows = [json.loads(line) for line in lines[1:]]
    assert [row["group"] for row in rows] == ["none", "spatial"]
    for row in rows:
        row["metrics"]["ece"] += 0.1
    lines[1:] = map(json.dumps, rows)
    stored(path).write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    assert run(path, "--verify", "2") == 1
    out = capsys.readouterr().out
    assert "DIFFERS  study, none" in out and "(allowed: 0.01)" in out
    assert "agrees   study, spatial" in out and "(allowed: 0.5)" in out


@pytest.mark.slow
def test_verification_sums_up_distances_and_directions(write, capsys):
    path = write()
    run(path)
    lines = stored(path).read_text().splitlines()
    rows = [json.loads(line) for line in lines[1:]]
    for row, change in zip(rows, (0.1, 0.2, 0.3, 0.4), strict=True):
        row["metrics"]["ece"] += change
        row["metrics"]["nll"] = [row["metrics"]["nll"], 1.0]
    lines[1:] = map(json.dumps, rows)
    stored(path).write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    assert run(path, "--verify", "4") == 1
    head, *summary = capsys.readouterr().out.split("\nmetric ")[1].splitlines()
    assert " ".join(head.split()) == "rows largest mean change +- standard error"
    ece, nll = sorted(line.split() for line in summary)
    # Mean and standard error of -0.1, -0.2, -0.3 and -0.4.
    assert ece == ["ece", "4", "0.4000", "-0.2500", "+-", "0.0645"]
    assert nll[:3] == ["nll", "4", "inf"]  # a list against a number


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_verification_finds_what_differs(write, capsys, dtype):
    path = write(("float64", dtype), ("seeds = [0, 1]", "seeds = [1]"))
    run(path)
    capsys.readouterr()
    assert run(path, "--verify", "9", "--seed", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 of 2 rows, drawn with --seed 4"
    assert len(lines) == 3
    assert all(line.startswith("agrees ") for line in lines[1:])
    assert all(line.endswith("equal") for line in lines[1:])

    def after(change):
        tamper(path, change)
        code = run(path, "--verify", "2")
        out = capsys.readouterr().out
        assert "DIFFERS" in out if code else "DIFFERS" not in out
        return code, out

    # Allowed are 1e-9 and, as the plan has it, 0.01.
    small, large = (1e-11, 1e-7) if dtype == "float64" else (0.001, 0.03)

    def move(by):
        return lambda row: row["metrics"].update(ece=row["metrics"]["ece"] + by)

    code, out = after(move(small))
    assert code == 0 and "ece is" in out
    code, out = after(move(large))
    assert code == 1 and "ece is" in out and "stored: " in out
    code, out = after(move(-large))
    assert code == 0
    code, out = after(lambda row: row.update(code="older"))
    assert code == 0 and "older" not in out, "where a row comes from is not compared"
    code, out = after(lambda row: row.update(data_hash="0123"))
    assert code == 1 and "the data hash of this machine is" in out
    code, out = after(
        lambda row: row.update(data_hash=data_hash(row["config"]["data"]))
    )
    assert code == 0
    code, out = after(lambda row: row["metrics"].pop("nll"))
    assert code == 1 and "nll is inf apart" in out


def test_verification_goes_over_all_plans(write, quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "PLANS", tmp_path / "plans")
    assert main(["--verify", "1"]) == 2
    assert f"no rows to verify: looked for plans and rows in {tmp_path}" in (
        capsys.readouterr().err
    )
    for name in ("study", "another", "empty"):
        path = write(name=name)
        if name != "empty":
            run(path)
    capsys.readouterr()
    assert main(["--verify", "8", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "8 of 8 rows" in out
    assert (out.count("agrees   study"), out.count("agrees   another")) == (4, 4)
    quick.broken.add(("none", 0))
    assert main(["--verify", "8", "--jobs", "1"]) == 1
    assert capsys.readouterr().out.count("now it fails: RuntimeError: out of luck") == 2


def test_repetitions_are_kept_on_request(write, quick, monkeypatch, capsys):
    path = write()
    run(path)
    assert load_repeats(path) == []
    run(path, "--verify", "4")
    assert not stored(path, "repeats").exists()
    run(path, "--verify", "3", "--keep")
    with stored(path, "repeats").open("ab") as file:
        file.write(b'{"run": "torn')
    quick.broken.add(("spatial", 1))
    run(path, "--verify", "4", "--keep")
    pairs = load_repeats(path)
    assert len(pairs) == 7
    assert sorted(row["run"] for row, _ in pairs[3:]) == sorted(
        row["run"] for row in load_rows(path)
    )
    for row, again in pairs:
        assert (again["group"], again["seed"]) == (row["group"], row["seed"])
        assert again["code"] == row["code"] and "config" not in again
        if again["status"] == "ok":
            assert again["metrics"] == row["metrics"]
    assert [again["status"] for _, again in pairs[3:]].count("failed") == 1
    # They are no rows: the study does not see them.
    assert len(load_rows(path)) == 4

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows_module.os, "fsync", full)
    assert run(path, "--verify", "1", "--keep") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(load_repeats(path)) == 7


# --- the stored plans -----------------------------------------------------------------


def test_stored_plans_fit_their_rows():
    plans = [
        read_plan(path)
        for path in sorted((ROOT / "book" / "results" / "plans").glob("*.toml"))
    ]
    # A plan is there before its rows are, and a long one is run in parts.
    made = {plan.name: plan for plan in plans if plan.file("rows", ".jsonl").exists()}
    for plan in made.values():
        rows = load_rows(plan)
        known = {m for name in ("", *plan.content["measures"]) for m in METRICS[name]}
        assert all(set(row["metrics"]) == known for row in rows)
        planned = [(run.group, run.config, run.seed) for run in plan.runs]
        assert all((r["group"], r["config"], r["seed"]) in planned for r in rows)
        assert set(load_histories(plan)) >= {row["run"] for row in rows}
    assert len(load_rows(made["slice"])) == len(made["slice"].runs)


def stored_plan(name):
    return read_plan(ROOT / "book" / "results" / "plans" / f"{name}.toml")


def best_setting(rows, group):
    """The setting with the best mean accuracy; between equal ones the lower NLL."""
    key = {"stopped": "epochs", "decay": "weight_decay"}.get(group.split(": ")[-1], "p")
    names = [group, f"{group}, more", f"{group}, sooner"]
    found = {}
    for row in rows:
        if row["group"] in names:
            scores = row["metrics"]["accuracy"], -row["metrics"]["nll"]
            found.setdefault(row["config"][key], []).append(scores)
    means = {k: tuple(np.mean(scores, axis=0)) for k, scores in found.items()}
    return key, max(means, key=means.get)


@pytest.mark.slow
def test_the_settings_of_compare_are_the_best_of_choose():
    rows = load_rows(stored_plan("choose"))
    checked = 0
    for run in stored_plan("compare").runs:
        condition, group = run.group.split(": ")
        if group != "none":
            noise = {"noisy": 0.2, "clean": 0.0}[condition]
            key, best = best_setting(select(rows, label_noise=noise), group)
            assert run.config[key] == best, run.group
            checked += 1
    assert checked == 16 * 15


@pytest.mark.slow
@pytest.mark.parametrize(("name", "many"), [("deep", 5), ("augmented", 6)])
def test_the_settings_under_other_conditions_are_the_best_of_six(name, many):
    rows = load_rows(stored_plan("choose_other"))
    found = {run.group: run.config for run in stored_plan(name).runs}
    groups = [g for g in found if g != "none" and not g.endswith(", more")]
    assert len(groups) == many
    for group in groups:
        key, best = best_setting(rows, f"{name}: {group}")
        # "more" has the choice from six settings where that from four was another.
        assert found.get(f"{group}, more", found[group])[key] == best, group
        assert sum(f"{name}: {group}" in row["group"] for row in rows) >= 12


def test_the_settings_of_the_vit_are_the_best_of_six():
    rows = load_rows(stored_plan("vit_choose"))
    found = {run.group: run.config for run in stored_plan("vit").runs}
    for group, key in (("none", "weight_decay"), ("path", "p")):
        tried = {}
        for row in select(rows, group=group):
            scores = row["metrics"]["accuracy"], -row["metrics"]["nll"]
            setting = row["config"]["lr"], row["config"][key]
            tried.setdefault(setting, []).append(scores)
        means = {k: tuple(np.mean(scores, axis=0)) for k, scores in tried.items()}
        assert len(means) == 6
        assert (found[group]["lr"], found[group][key]) == max(means, key=means.get)


@pytest.mark.slow
def test_kept_repetitions_agree_row_by_row_and_in_the_mean():
    """125 rows without vector instructions: no change of a mean beyond 4 sigma."""
    changes = {}
    for path in sorted((ROOT / "book" / "results" / "plans").glob("*.toml")):
        plan = read_plan(path)
        for row, again in load_repeats(plan):
            assert again["instruction_set"] != row["instruction_set"]
            for key, old in row["metrics"].items():
                bound = plan.allowed(row, key)
                assert apart(old, again["metrics"][key]) <= bound, (row["run"], key)
                if key in ("accuracy", "nll", "ece", "train_loss"):
                    depths = row["config"].get("depths")  # a ViT has none
                    kind = "vit" if depths is None else sum(depths) == 24
                    change = again["metrics"][key] - old
                    changes.setdefault((kind, key), []).append(change)
    assert len(changes) == 12
    assert len(changes[False, "accuracy"]) + len(changes[True, "accuracy"]) == 120
    assert len(changes["vit", "accuracy"]) == 5
    for (kind, key), values in changes.items():
        error = np.std(values, ddof=1) / len(values) ** 0.5
        assert abs(np.mean(values)) < 4 * error, (kind, key)
        assert error > 0


@pytest.mark.slow
def test_the_slice_repeats_with_other_threads_and_instructions():
    path = ROOT / "book" / "results" / "plans" / "slice.toml"
    for changes in (
        {},
        {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default"},
    ):
        done = command(path, "--verify", "4", "--jobs", "1", env=os.environ | changes)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("agrees") == 4


# --- processes ------------------------------------------------------------------------


def arguments(path, *options):
    program = [sys.executable, "-m", "regdrop_lite.course.study", str(path)]
    return [*program, *map(str, options)]


def command(path, *options, **others):
    return subprocess.run(
        arguments(path, *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **others,
    )


@contextlib.contextmanager
def runner_with_two_rows(path):
    """Start a runner of two processes in the background, wait for its second row."""
    process = subprocess.Popen(
        arguments(path, "--jobs", 2),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not stored(path).exists() or stored(path).read_bytes().count(b"\n") < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def workers_of(process):
    """Give the processes that train."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "LokyProcess" in " ".join(child.cmdline())]


LONGER = (("seeds = [0, 1]", "seeds = {start = 1, count = 4}"), ("= 2\n", "= 20\n"))


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(write):
    rows = []
    for jobs in (1, 2):
        path = write(name=f"jobs{jobs}")
        done = command(path, "--jobs", jobs)
        assert done.returncode == 0, done.stderr
        rows.append({row["run"]: row["metrics"] for row in load_rows(path)})
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL", "a worker's"])
def test_a_stopped_runner_loses_the_runs_under_way_alone(write, name):
    path = write(*LONGER)
    with runner_with_two_rows(path) as process:
        # It stands still meanwhile: on a busy machine all runs would be over.
        os.killpg(process.pid, signal.SIGSTOP)
        if name == "SIGKILL":
            second = command(path)
            assert second.returncode == 2
            assert "another runner is at work" in second.stderr
        before = stored(path).read_bytes()
        workers = workers_of(process)
        assert workers
        os.killpg(process.pid, signal.SIGCONT)
        # Ctrl-C reaches the whole group of processes, a kill only its aim.
        if name == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)
        elif name == "a worker's":
            workers[0].kill()
        else:
            process.send_signal(signal.Signals[name])
        process.wait(60)
        codes = {"SIGINT": 130, "SIGTERM": 130, "SIGKILL": -9, "a worker's": 1}
        assert process.returncode == codes[name]
        if name == "a worker's":
            err = process.stderr.read()
            assert "a worker process was killed" in err and "Traceback" not in err
        if name != "SIGKILL":
            assert not psutil.wait_procs(workers, 20)[1], "no worker goes on alone"
    kept = stored(path).read_bytes()
    assert kept.startswith(before[: before.rfind(b"\n") + 1])
    many = kept.count(b"\n") - 1
    assert 2 <= many < 8
    done = command(path)
    assert done.returncode == 0, done.stderr
    assert f"{8 - many} runs made, {many} before, 0 failed, 0 remain" in done.stdout
    assert len(load_rows(path)) == 8


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_rows(write):
    distributed = pytest.importorskip("distributed")
    path = write()
    environment = dict(os.environ)
    try:
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster:
            done = command(path, "--scheduler", cluster.scheduler_address)
    finally:  # the cluster sets numbers of threads in this process, for good
        os.environ.clear()
        os.environ.update(environment)
    assert done.returncode == 0, done.stderr
    assert "4 runs made, 0 failed, 0 remain" in done.stdout
    for row in load_rows(path):
        assert row["metrics"] == perform(row["config"], row["seed"])["row"]["metrics"]
