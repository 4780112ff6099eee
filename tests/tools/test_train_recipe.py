"""The training script of chapter 6, alone and with two processes, as readers run it."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

SCRIPT = Path(__file__).parents[2] / "book" / "recipes" / "train.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
# One job of torchrun calls the script several times: stopped, resumed, and broken. The
# processes meet once, since the keys of a store cannot be used again.
SEVERAL = """
import runpy, sys
import torch.distributed as dist

dist.init_process_group("gloo")
dist.init_process_group = dist.destroy_process_group = lambda *_: None
for script, *arguments in {calls!r}:
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason="PyTorch without distributed"),
]


def command(*words: object) -> str:
    """What the command prints; its errors are shown if it fails."""
    run = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def assert_same(one: Path, two: Path) -> dict:
    """Both checkpoints are equal to the last bit; returns the second."""
    states = [torch.load(path, weights_only=True) for path in (one, two)]
    found = [list(_leaves(state)) for state in states]
    assert len(found[0]) > 200
    for (name, a), (other, b) in zip(*found, strict=True):
        assert name == other
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name
    return states[1]


def _leaves(tree, name=""):
    if isinstance(tree, (dict, list)):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(part, f"{name}.{key}")
    else:
        yield name, tree


def test_it_is_short() -> None:
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def test_alone_a_resumed_run_is_the_uninterrupted_one(
    tmp_path, monkeypatch, capsys
) -> None:
    whole, half = tmp_path / "whole.pt", tmp_path / "half.pt"
    said = command(sys.executable, SCRIPT, "--steps", 8, "--file", whole)
    assert "warning" not in said and "steps 0 to 8, accuracy 0." in said
    for until in (["--until", "4"], []):
        arguments = ["train.py", "--steps", "8", "--file", str(half), *until]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(SCRIPT), run_name="__main__")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("steps 0 to 4") and second.startswith("steps 4 to 8")
    state = assert_same(whole, half)
    assert state["ramp"]["step"] == 8 and max(state["ramp"]["p_end"]) == 0.2
    assert torch.load(half, weights_only=True)["average"]["n_averaged"] == 8


def test_two_ranks_draw_their_own_masks_and_resume(tmp_path) -> None:
    whole, half = tmp_path / "whole.pt", tmp_path / "half.pt"
    said = command(*TORCHRUN, SCRIPT, "--steps", 8, "--file", whole)
    assert "warning" not in said and "steps 0 to 8, accuracy 0." in said

    text = SCRIPT.read_text(encoding="utf-8")
    assert text.count("manual_seed(1 + RANK)") == 1
    broken = tmp_path / "broken.py"
    broken.write_text(text.replace("manual_seed(1 + RANK)", "manual_seed(1)"), "utf-8")
    options = ["--steps", "8", "--file", str(half)]
    calls = [
        [str(SCRIPT), *options, "--until", "4"],
        [str(SCRIPT), *options],
        [str(broken), "--steps", "1", "--file", str(tmp_path / "same.pt")],
    ]
    several = tmp_path / "several.py"
    several.write_text(SEVERAL.format(calls=calls), encoding="utf-8")
    lines = command(*TORCHRUN, several).splitlines()
    state = assert_same(whole, half)
    assert not torch.equal(*(own[0] for own in state["random"])), "one for each rank"
    # Two processes write at once, so that two warnings may stand in one line.
    same = "\n".join(lines).count("has the same masks on ranks 0 and 1")
    assert same == 2 * 6, "both ranks tell of six layers with a rate"
    assert [line for line in lines if line.startswith("steps")][1].startswith(
        "steps 4 to 8"
    )
    same = torch.load(tmp_path / "same.pt", weights_only=True)
    assert torch.equal(*(own[0] for own in same["random"]))
