"""The doctor finds what is wrong with a machine, and says what to do about it."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jupyter_client.manager
import pytest
import torch

import regdrop_lite
from regdrop_lite.course import doctor, fashion_mnist_mini

FILE = Path(doctor.__file__)


@pytest.mark.slow
def test_a_machine_that_is_ready(capsys):
    """With a real kernel; every check has something to say."""
    assert doctor.main(["--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] and [f["name"] for f in said["findings"]] == list(doctor.CHECKS)
    assert all(f["ok"] and f["found"] and not f["remedy"] for f in said["findings"])


def old_python(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))


def narrow_python(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)


def no_matplotlib(monkeypatch, tmp_path):
    version = metadata.version

    def lost(name):
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", lost)


def old_torch(monkeypatch, tmp_path):
    version = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "1.13" if name == "torch" else version(name)
    )


def torch_without_its_libraries(monkeypatch, tmp_path):
    class Finder:
        def find_spec(self, name, path, target=None):
            if name == "torch":
                raise OSError("[WinError 126] Error loading 'c10.dll'\nmore")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.setattr(sys, "platform", "win32")


def other_numbers(monkeypatch, tmp_path):
    def other(x, p, generator):
        return x * (torch.rand(16, 16, 1, 1, generator=generator) >= p)

    monkeypatch.setattr(regdrop_lite, "spatial_dropout", other)


def half_a_download(monkeypatch, tmp_path):
    half = tmp_path / "half.npz"
    half.write_bytes(fashion_mnist_mini.FILE.read_bytes()[:100_000])
    monkeypatch.setattr(fashion_mnist_mini, "FILE", half)


def folder_for_reading(monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)


def kernel_of_another_python(monkeypatch, tmp_path):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    other = {"argv": ["/somewhere/else/python", "-m", "ipykernel_launcher"]}
    (folder / "kernel.json").write_text(json.dumps(other | {"display_name": "Other"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))


class Kernel:
    """A kernel manager and its client, in one, that starts nothing."""

    def __init__(self, kernel_name):
        assert kernel_name == "python3"

    def client(self):
        return self

    def ignore(self, *args, **named):
        """Everything else that is asked of the two."""

    start_kernel = shutdown_kernel = wait_for_ready = ignore
    start_channels = stop_channels = ignore


def kernel_that_never_answers(monkeypatch, tmp_path):
    def wait(self, timeout):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(jupyter_client.manager, "KernelManager", Kernel)
    monkeypatch.setattr(Kernel, "wait_for_ready", wait)


def slow_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(jupyter_client.manager, "KernelManager", Kernel)
    monkeypatch.setattr(doctor, "_run_cell", lambda client: 99.0)


@pytest.mark.parametrize(
    ("breaks", "name", "found", "remedy"),
    [
        (old_python, "Python", "3.1", "3.11, 3.12, 3.13"),
        (narrow_python, "Python", "32 bit", "64 bits"),
        (no_matplotlib, "packages", "matplotlib missing", 'install "matplotlib>='),
        (old_torch, "packages", "torch 1.13", 'pip install "torch>=2.4"'),
        (torch_without_its_libraries, "PyTorch", "c10.dll'", "Visual C++"),
        (other_numbers, "mask", "hash", "torch==2.13.0"),
        (half_a_download, "images", "cannot be read", "--force-reinstall --no-deps ."),
        (folder_for_reading, "folder", "Permission denied", "a place of your own"),
        (kernel_of_another_python, "kernel", "/somewhere/else", "ipykernel install"),
        (kernel_that_never_answers, "kernel", "didn't respond", "firewall"),
        (slow_machine, "kernel", "99 seconds", "charger"),
    ],
)
def test_a_broken_environment(breaks, name, found, remedy, monkeypatch, tmp_path):
    (before,) = doctor.examine([name]) if name != "kernel" else [None]
    assert before is None or before.ok, "the fault has to be the one that is made here"
    breaks(monkeypatch, tmp_path)
    (finding,) = doctor.examine([name])
    monkeypatch.undo()
    assert not finding.ok and found in finding.found
    assert remedy in f"{finding.remedy} {finding.command}"
    assert "\n" not in finding.found
    text = doctor.report([finding])
    assert text.startswith("FAULT") and text.endswith("1 of 1 checks found a fault.")
    if finding.command:
        assert any(line.strip() == finding.command for line in text.splitlines())


def test_where_nothing_is_installed():
    """Run by its path it needs the standard library alone, and exits with 1."""
    command = [sys.executable, "-I", "-S", str(FILE), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    findings = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    wrong = {name for name, finding in findings.items() if not finding["ok"]}
    assert wrong == {"packages", "PyTorch", "mask", "images", "kernel"}
    assert all(findings[name]["remedy"] for name in wrong)
    assert findings["mask"]["remedy"] == "mend this first: packages, PyTorch"
