"""The built site, once for all tests that look at it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from pages import ROOT
from playwright.sync_api import Browser, sync_playwright
from window import DESK, NAMES, Quiet, Visit, serving


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


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """A server that hands out the files as they are."""
    with serving(site, Quiet) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all pages."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        # Containers run tests as root, where Chromium's sandbox does not start.
        running = playwright.chromium.launch(
            executable_path=executable, chromium_sandbox=False
        )
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A new window, as wide as at a desk."""
    width, height = DESK
    context = browser.new_context(viewport={"width": width, "height": height})
    yield Visit(context.new_page())
    context.close()
