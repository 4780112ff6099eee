"""The built site, once for all tests that look at it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from pages import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; the first worker that needs it builds it."""
    if given := os.environ.get("REGDROP_SITE"):
        return Path(given).resolve()
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    out = shared / "the built site"  # a path with spaces on purpose
    built = out / "built"
    with FileLock(shared / "site.lock"):
        if not built.exists():
            build(out)
            built.touch()
    return out / "_build" / "html"


def build(out: Path) -> None:
    """Build the site as the README does, but into another folder."""
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", "."]
    command += ["-W", "-n", "--keep-going", "--path-output", str(out)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
