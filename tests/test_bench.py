"""The benchmark: the numbers are right for known costs, and no file is half written.

Nothing here asserts real times.
"""

import importlib
import json
import os
import platform
import re

import pytest
import torch

from regdrop_lite.course import bench
from regdrop_lite.course.bench import Setting

SMALL = Setting("layer", (2, 8, 7, 7))
KEYS = {
    *("task", "shape", "dtype", "layout", "threads"),
    *("layer", "source", "p", "block_size"),
    *("seconds", "ratio", "ratio_low", "ratio_high", "saved"),
}


class Clock:
    """Time passes only when a call lets it pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = []

    def __call__(self) -> float:
        return self.now

    def work(self, name, seconds):
        def call():
            self.calls.append(name)
            self.now += seconds

        return call


@pytest.fixture
def result():
    rows = bench.measure_setting(SMALL, {}, rounds=1)
    return {"provenance": {"cores": 2}, "rows": rows}


# ------------------------------------------------------------------------ measurement


def test_every_call_runs_once_in_every_round_and_the_order_changes():
    clock = Clock()
    rounds = []

    def tick():
        rounds.append(clock.calls[-4:])

    calls = [clock.work(name, 1.0 + name) for name in range(4)]
    times = bench.measure(calls, 9, clock=clock, tick=tick)
    assert len(clock.calls) == 4 + 4 * 9  # a warm-up each
    assert all(sorted(order) == [0, 1, 2, 3] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 4
    assert times == [[1.0 + name] * 9 for name in range(4)]


def test_short_calls_are_repeated_until_a_timing_takes_five_milliseconds():
    clock = Clock()
    ((seconds,),) = bench.measure([clock.work("short", 2**-10)], 1, clock=clock)
    assert len(clock.calls) == 1 + 2 + 4 + 8 + 8  # four times to find 8, then a round
    assert seconds == 2**-10


@pytest.mark.parametrize(
    ("limit", "layer", "median", "quartiles"),
    [
        # The machine gets slower from round to round; the layer costs three limits.
        ([2.0, 4.0, 8.0], [6.0, 12.0, 24.0], 12.0, (3.0, 3.0, 3.0)),
        # The ratios are 4, 3, 8. That of the medians would be 3.
        ([1.0, 2.0, 4.0], [4.0, 6.0, 32.0], 6.0, (3.5, 4.0, 6.0)),
        ([1.0] * 5, [9.0, 1.0, 5.0, 2.0, 4.0], 4.0, (2.0, 4.0, 5.0)),
    ],
)
def test_ratios_are_taken_within_a_round_then_their_median_and_quartiles(
    monkeypatch, limit, layer, median, quartiles
):
    def measure(calls, rounds, **options):
        return [limit] + [layer] * (len(calls) - 1)

    monkeypatch.setattr(bench, "measure", measure)
    reference, *rows = bench.measure_setting(SMALL, {}, rounds=len(limit))
    assert reference["ratio"] == reference["ratio_low"] == reference["ratio_high"] == 1
    assert len(rows) == 8
    for row in rows:
        assert row["seconds"] == median
        found = row["ratio_low"], row["ratio"], row["ratio_high"]
        assert found == quartiles


def test_each_candidate_is_run_forward_and_backward_on_a_fresh_gradient(monkeypatch):
    seen = []

    def measure(calls, rounds, **options):
        (x,) = inputs
        for call in calls[:1] * 2:
            call()
            seen.append(x.grad.clone())
        return [[1.0]] * len(calls)

    inputs = set()

    def candidates(setting, peers):
        def double(x):
            inputs.add(x)
            return x * 2.0

        return [bench.Candidate("double", "test", None, None, double)]

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "_layers", candidates)
    bench.measure_setting(SMALL, {}, rounds=1)
    assert torch.equal(*seen) and seen[0].shape == SMALL.shape and seen[0].any()


def test_the_number_of_threads_and_the_layout_are_set_and_put_back(monkeypatch):
    before = torch.get_num_threads()
    setting = SMALL._replace(
        dtype="bfloat16", layout="channels_last", threads=before + 1
    )

    def measure(calls, rounds, **options):
        assert torch.get_num_threads() == before + 1
        (x,) = inputs
        assert x.dtype == torch.bfloat16
        assert x.is_contiguous(memory_format=torch.channels_last)
        raise KeyboardInterrupt

    inputs = set()
    known = bench.saved_bytes
    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(
        bench, "saved_bytes", lambda f, x, k: inputs.add(x) or known(f, x, k)
    )
    with pytest.raises(KeyboardInterrupt):
        bench.measure_setting(setting, {}, rounds=1)
    assert torch.get_num_threads() == before


# ------------------------------------------------------------------- bytes for backward


@pytest.mark.parametrize(
    ("function", "size"),
    [
        (lambda x: x * 1.25, 0),
        (lambda x: x * torch.ones_like(x), 4 * 96),  # the mask
        (lambda x: x * torch.ones(2, 3, 1, 1), 4 * 6),
        (lambda x: x * torch.ones(2, 3, 1, 1).expand(2, 3, 4, 4), 4 * 6),  # a view
        (lambda x: x * x, 0),  # the input is alive anyway
        (lambda x: x.exp(), 4 * 96),  # the output
        (lambda x: (y := x.exp()) * y, 4 * 96),  # saved three times, there once
        (lambda x: x.exp().exp(), 2 * 4 * 96),
        (torch.nn.Dropout(0.5), 4 * 96),  # a mask in the dtype of x
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
    assert bench.saved_bytes(linear, x, linear.parameters()) == 0


# ---------------------------------------------------------------------------- the rows


def test_rows_without_peers_have_one_structure_and_the_limit_comes_first(result):
    rows = result["rows"]
    assert all(set(row) == KEYS for row in rows)
    assert (rows[0]["layer"], rows[0]["ratio"], rows[0]["saved"]) == ("x * 1.25", 1, 0)
    assert {row["source"] for row in rows} == {"torch", "regdrop_lite"}
    names = [(row["layer"], row["source"], row["p"]) for row in rows]
    assert len(set(names)) == len(names) == 9
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in rows)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_rows_with_a_peer_name_it(name):
    pytest.importorskip(name)
    peers, found = bench.load_peers()
    rows = bench.measure_setting(SMALL, {name: peers[name]}, rounds=1)
    layers = {row["layer"] for row in rows if row["source"] == name}
    assert {"DropPath", "DropBlock"} <= layers
    assert re.match(r"\d", found[name])


@pytest.mark.parametrize("task", [bench._IMAGES, bench._TOKENS])
def test_a_residual_stack_is_compared_with_no_drop(task):
    shape = (4, 8, 6, 6) if task == bench._IMAGES else (4, 6, 8)
    rows = bench.measure_setting(Setting(task, shape), {}, rounds=1)
    assert all(set(row) == KEYS for row in rows)
    assert (rows[0]["p"], rows[0]["ratio"]) == (0.0, 1.0)
    rates = [(row["layer"].split()[1], row["p"]) for row in rows[1:]]
    modes = ("row", "subset")
    assert rates == [(mode, p) for mode in modes for p in (0.1, 0.2, 0.5)]
    # Half of the samples leave out the branch, and what it would have saved.
    assert rows[-1]["saved"] < 0.7 * rows[0]["saved"]


def test_a_full_run_has_all_shapes_types_layouts_and_threads():
    settings = bench._settings(False, [1, 2])
    layers = [setting for setting in settings if setting.task == "layer"]
    assert len(set(settings)) == len(settings) == 36
    for index, count in ((1, 4), (2, 2), (3, 2), (4, 2)):
        assert len({setting[index] for setting in layers}) == count
    assert len(bench._settings(True, [1])) < len(settings) / 2


# ---------------------------------------------------------------------- missing peers


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


# --------------------------------------------------------------------- the stored file


def test_a_stored_result_is_read_back_as_it_was(result, tmp_path):
    bench._store(result, tmp_path / "bench.json")
    stored = bench.load(tmp_path / "bench.json")
    assert stored == json.loads(json.dumps(result))
    assert os.listdir(tmp_path) == ["bench.json"]


@pytest.mark.parametrize("function", ["replace", "write"])
def test_a_failure_while_writing_leaves_the_old_file(
    result, tmp_path, monkeypatch, function
):
    path = tmp_path / "bench.json"
    path.write_text("old")

    def fail(file, *arguments, **options):
        if function == "write":
            with open(file, "w") as half:
                half.write("half")
        raise OSError("no space left")

    owner, name = (os, "replace") if function == "replace" else (bench.Path, "write")
    monkeypatch.setattr(owner, name + "_text" * (function == "write"), fail)
    with pytest.raises(OSError, match="no space left"):
        bench._store(result, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["bench.json"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"not json", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[1, 2]", "[1, 2]"),
        (b'{"rows": []}', "None"),
        (b'{"format": "another", "rows": []}', "'another'"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content, found):
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected the format") as error:
        bench.load(path)
    assert str(path) in str(error.value) and found in str(error.value)


def test_the_provenance_names_versions_and_machine_but_no_host_and_no_path():
    origin = bench._provenance()
    assert origin["torch"] == torch.__version__
    assert origin["cpu"] and origin["cores"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", origin["date"])
    assert origin["commit"] is None or re.fullmatch(
        r"[0-9a-f]{40}\+?", origin["commit"]
    )
    text = json.dumps(origin)
    assert (platform.node() or "no name") not in text
    assert os.path.expanduser("~") not in text and os.getcwd() not in text


def test_the_commit_is_unknown_outside_of_a_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(bench.ours, "__file__", str(tmp_path / "__init__.py"))
    assert bench._commit() is None


# ---------------------------------------------------------------------- table, figure


def test_the_table_is_narrow_and_holds_every_number():
    row = {
        **{"task": "layer", "shape": [128, 256, 14, 14], "threads": 2},
        **{"layer": "DropBlock shared", "source": "regdrop_lite", "p": 0.1},
        **{"block_size": 7, "saved": 0.25},
    }
    settings = [(d, c) for d in ("float32", "bfloat16") for c in ("contiguous", "last")]
    rows = []
    for i, (dtype, layout) in enumerate(settings):
        limit = {"layer": "x * 1.25", "source": "torch", "p": None, "block_size": None}
        rows.append({**row, **limit, "dtype": dtype, "layout": layout, "ratio": 1.0})
        if i != 2:  # one is missing: its place stays empty
            ratio = 100.0 + i
            rows.append({**row, "dtype": dtype, "layout": layout, "ratio": ratio})
    text = bench.table(rows)
    assert max(map(len, text.splitlines())) <= 100
    assert "(128, 256, 14, 14), threads: 2" in text
    (line,) = (
        line for line in text.splitlines() if "DropBlock shared p=0.1 k=7" in line
    )
    numbers = line.split("regdrop_lite")[1]
    assert numbers.split() == ["100.00", "0.25", "101.00", "0.25", "103.00", "0.25"]
    assert numbers[29:43].strip() == ""


def test_the_figure_shows_the_ratios_of_the_chosen_rows(result):
    pytest.importorskip("matplotlib")
    rows = result["rows"]
    other = [{**row, "threads": 2, "ratio": 1e6} for row in rows]
    larger = [{**row, "shape": [4, 8, 7, 7]} for row in rows]
    figure = bench.plot([*rows, *other, *larger])
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert len(panels) == 2
    for axis in panels:
        assert axis.get_xscale() == "log"
        lines = {line.get_label(): line for line in axis.lines}
        for source in ("torch", "regdrop_lite"):
            drawn = sorted(lines[source].get_xdata())
            ratios = [row["ratio"] for row in rows[1:] if row["source"] == source]
            assert drawn == sorted(ratios)
        styles = {lines[s].get_marker() for s in ("torch", "regdrop_lite")}
        assert len(styles) == 2  # distinct without colour
    with pytest.raises(ValueError, match="expected rows of the setting"):
        bench.plot(rows, threads=7)


# ------------------------------------------------------------------------ the command


@pytest.mark.slow
def test_the_quick_run_prints_names_the_peers_and_stores(tmp_path, capsys):
    path = tmp_path / "quick.json"
    arguments = ["--quick", "--threads", "1", "--rounds", "1", "--output", str(path)]
    assert bench.main(arguments) == 0
    printed = capsys.readouterr()
    assert "torchvision: " in printed.out and "timm: " in printed.out
    assert "6/6" in printed.err  # the bar: six settings, one round
    stored = bench.load(path)
    assert bench.table(stored["rows"]) in printed.out
    origin = stored["provenance"]
    assert origin["quick"] and origin["rounds"] == 1 and origin["timm"]


def test_an_interrupted_run_stores_nothing_and_says_so(monkeypatch, tmp_path, capsys):
    path = tmp_path / "bench.json"
    path.write_text("old")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure_setting", interrupt)
    assert bench.main(["--quick", "--output", str(path)]) == 130
    assert path.read_text() == "old"
    assert "nothing is stored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "expected a number from 1 on, got '0'"),
        (["--threads", "two"], "expected a number from 1 on, got 'two'"),
        (["--output", "no/such/folder/x.json"], "does not exist"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(
    arguments, words, capsys, monkeypatch
):
    monkeypatch.setattr(bench, "measure_setting", None)
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert words in capsys.readouterr().err
