"""The wheel and the source distribution, built and used in an empty environment."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
LAYERS = """
import sys, torch, regdrop_lite as r
x = torch.ones(8, 4, 6, 6)
for layer in (r.SpatialDropout2d(0.5), r.DropPath(0.5), r.DropBlock2d(0.2, 3)):
    assert layer(x).shape == x.shape and layer.eval()(x) is x
assert r.drop_path_rates(0.2, 3) == [0.0, 0.1, 0.2]
assert not {"numpy", "matplotlib", "scipy"} & set(sys.modules)
print(r.__file__, r.__version__)
"""
COURSE = """
import pkgutil, regdrop_lite.course as course
from importlib import import_module
for module in pkgutil.iter_modules(course.__path__, "regdrop_lite.course."):
    import_module(module.name)
from regdrop_lite.course.data import load_data
assert len(load_data().train.images) > 0
"""


def run(*command: str | Path, folder: Path, **changes: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment | changes, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both: those that are to be published, or built from a clone."""
    if given := os.environ.get("REGDROP_DIST"):
        return Path(given).resolve()
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("distributions")
    run("git", "clone", "-q", ROOT, folder / "tree", folder=folder)
    out = folder / "dist"
    run(sys.executable, "-m", "build", "-o", out, folder=folder / "tree")
    status = run("git", "status", "--porcelain", folder=folder / "tree")
    assert status == "", "the build leaves files behind"
    return out


def test_the_wheel_holds_the_package_alone(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith("METADATA"))
        metadata = Parser().parsestr(archive.read(info).decode())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if ".dist-info" not in top} == {"regdrop_lite"}
    listed = run("git", "ls-files", "regdrop_lite", folder=ROOT).split()
    assert set(listed) <= set(names), "every module and the data"
    assert any(name.endswith(".npz") for name in names)
    needed = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert [re.match(r"\w+", r)[0] for r in needed] == ["torch"]
    assert metadata["Version"] == wheel.name.split("-")[1] != "0.0.0"


def test_the_source_holds_neither_tests_nor_book(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"regdrop_lite", "pyproject.toml", "README.md", "LICENSE"} <= tops
    assert not {"tests", "book", "conftest.py", ".github", "_config.yml"} & tops


@pytest.fixture(scope="module")
def alone(built, tmp_path_factory) -> tuple[Path, Path]:
    """The Python of an environment with the wheel and PyTorch, and a folder."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    (wheel,) = built.glob("*.whl")
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    torch = re.search(r"^torch==\S+", text, flags=re.M)[0]
    run(python, "-m", "pip", "install", "-q", torch, wheel, folder=folder)
    return python, folder


def test_the_layers_need_pytorch_alone(alone):
    python, folder = alone
    where, version = run(python, "-W", "ignore", "-c", LAYERS, folder=folder).split()
    assert str(folder) in where and version not in ("unknown", "0.0.0")


def test_the_course_needs_its_extra(alone, built):
    python, folder = alone
    (wheel,) = built.glob("*.whl")
    run(python, "-m", "pip", "install", "-q", f"{wheel}[course]", folder=folder)
    run(python, "-m", "pip", "check", folder=folder)
    run(python, "-c", COURSE, folder=folder)
