"""A kit holds what a class without a network needs, and nothing that was changed."""

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from regdrop_lite.course import kit
from regdrop_lite.course.kit import CPU_INDEX, KitError, make_kit

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SHEET = ROOT / "book" / "teach" / "setup_sheet.md"
SENTENCE = "these fit one version\nof Python alone, which your instructor names."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something that looks like a built site."""
    folder = tmp_path_factory.mktemp("site")
    page = folder / "book" / "teach" / "setup_sheet.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<p>{SENTENCE}</p>", encoding="utf-8")
    (folder / "index.html").write_text("the site", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A kit without wheels, and its zip file."""
    out = tmp_path_factory.mktemp("kit") / "course-kit"
    return out, make_kit(ROOT, out, site=site, wheels=False)


def check_sums(out: Path) -> int:
    """Compare every file with its sum."""
    lines = (out / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest, name
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert files - {line.split("  ")[1] for line in lines} == {"SHA256SUMS"}
    return len(lines)


def test_sums_and_zip_hold_every_file(small):
    out, archive = small
    count = check_sums(out)
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
    assert len(names) == count + 1 and all(n.startswith("course-kit/") for n in names)
    assert "course-kit/doctor.py" in names


def test_notebooks_are_those_of_students(small):
    """All of the book's, plain, and no solution among the exercises."""
    folder = small[0] / "notebooks"
    chapters = {path.name for path in (ROOT / "book").glob("*.ipynb")}
    exercises = {path.name for path in (ROOT / "book" / "exercises").glob("*.ipynb")}
    assert chapters <= {path.name for path in folder.glob("*.ipynb")}
    assert exercises == {path.name for path in (folder / "exercises").glob("*.ipynb")}
    for path in (folder / "exercises").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert "solution" not in cell["metadata"].get("tags", [])
    assert not list(small[0].rglob("*answers*"))


def test_the_first_page_leads_to_the_sheet(small):
    out, _ = small
    text = (out / "start.html").read_text(encoding="utf-8")
    for target in re.findall(r'(?:href="|url=)([^"]+)"', text):
        assert (out / target).is_file(), target


def test_without_wheels_the_versions_are_named(small):
    text = (small[0] / "requirements.txt").read_text(encoding="utf-8")
    assert "regdrop-lite[course] @ https://" in text and "\njupyterlab\n" in text
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^\S+==\S+$", text, re.M)
    assert len(pins) == 7 and all(pin in pinned for pin in pins)


def test_the_sheet_names_the_python_of_the_wheels(site, tmp_path, monkeypatch):
    """Where there are wheels; nothing else of the sheet changes."""
    said = " ".join(SHEET.read_text(encoding="utf-8").split())
    assert " ".join(SENTENCE.split()) in said
    monkeypatch.setattr(kit, "_collect", lambda *arguments: None)
    make_kit(ROOT, tmp_path / "kit", site=site, python="3.12")
    text = (tmp_path / "kit" / "site" / kit.SHEET).read_text(encoding="utf-8")
    assert text == "<p>these fit <strong>Python 3.12</strong> alone.</p>"
    with pytest.raises(KitError, match=r"build the site anew"):
        kit._name_python(tmp_path / "kit" / "site" / kit.SHEET, "3.12")


def test_what_is_missing_is_said(site, tmp_path, monkeypatch, capsys):
    with pytest.raises(KitError, match=r"not the folder of the course"):
        make_kit(tmp_path, tmp_path / "kit", site=site)
    with pytest.raises(KitError, match=r"build it first: jupyter-book build"):
        make_kit(ROOT, tmp_path / "kit", site=tmp_path / "nowhere")
    with pytest.raises(KitError, match=r"exists; name a folder that does not"):
        make_kit(ROOT, tmp_path, site=site)
    monkeypatch.setattr(kit.shutil, "which", lambda name: None)
    with pytest.raises(KitError, match=r"uv is missing: python -m pip install uv"):
        kit._collect(ROOT, tmp_path, "linux", "3.13", "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        kit.main([str(tmp_path / "kit")])
    assert "not the folder" in capsys.readouterr().err
    assert not (tmp_path / "kit").exists(), "nothing is begun that cannot be finished"


def test_a_kit_that_is_too_large_is_not_handed_out(site, tmp_path, monkeypatch):
    monkeypatch.setattr(kit, "MOST_BYTES", 1000)
    from regdrop_lite.course.author import plain

    monkeypatch.setattr(plain, "write_plain", lambda book, out: [])
    with pytest.raises(KitError, match=r"graphics cards"):
        make_kit(ROOT, tmp_path / "kit", site=site, wheels=False)


@pytest.mark.parametrize("system", kit.SYSTEMS)
def test_wheels_are_fetched_for_the_students_system(system, tmp_path, monkeypatch):
    """Whatever this machine is; the lock comes first."""
    commands: list[str] = []

    def run(*command):
        commands.append(" ".join(command))
        if command[:3] == ("uv", "pip", "compile"):
            (tmp_path / "requirements.txt").touch()

    monkeypatch.setattr(kit.shutil, "which", lambda name: name)
    monkeypatch.setattr(kit, "_run", run)
    kit._collect(ROOT, tmp_path, system, "3.12", CPU_INDEX)
    *_, lock, fetch = commands
    assert f"--python-platform {system}" in lock and "--python-version 3.12" in lock
    assert f"--platform {kit.SYSTEMS[system][0]}" in fetch and "--no-deps" in fetch
    small_torch = [c for c in commands if f"--index-url {CPU_INDEX}" in c]
    assert len(small_torch) == (system == "linux")


def test_uv_resolves_for_a_macos_that_has_wheels_of_pytorch():
    """It takes an older one for granted, for which there are none."""
    oldest = kit.OLDEST_MACOS.replace(".", "_")
    assert kit.SYSTEMS["macos"][0] == f"macosx_{oldest}_arm64"
    look = "import os; assert os.environ['MACOSX_DEPLOYMENT_TARGET'] == '{}'"
    kit._run(sys.executable, "-c", look.format(kit.OLDEST_MACOS))
    with pytest.raises(KitError, match="AssertionError"):
        kit._run(sys.executable, "-c", look.format("13.0"))


@pytest.mark.skipif(sys.platform != "linux", reason="the sheet's tab for Linux is run")
def test_a_class_without_a_network(site, tmp_path):
    """The sheet's commands, with no index to ask, and chapter 1 from its first cell."""
    try:
        urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=10)
        index = CPU_INDEX
    except OSError:
        index = ""
    out = tmp_path / "course-kit"
    archive = make_kit(ROOT, out, site=site, torch_index=index)
    assert archive.stat().st_size < 500e6
    check_sums(out)

    tab = SHEET.read_text(encoding="utf-8").partition(":::{tab-item} Linux")[2]
    (block,) = re.findall(r"```\{code-block\} bash\n(.*?)```", tab, re.S)
    create, activate, install, doctor, lab = block.strip().splitlines()
    assert create == "python3 -m venv .venv" and activate.startswith("source ")
    assert "--no-index" in install and lab.startswith("jupyter lab ")
    venv.create(out / ".venv", with_pip=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHONPATH", "PYTEST"))
    }
    environment |= {"PIP_CONFIG_FILE": os.devnull, "OMP_NUM_THREADS": "1"}
    notebook = "notebooks/01_spatial_dropout.ipynb"
    run = f"jupyter nbconvert --to notebook --execute --stdout {notebook} >/dev/null"
    for command in (install, doctor, "jupyter lab --version", run):
        done = subprocess.run(
            ["bash", "-euc", f"{activate}\n{command}"],
            cwd=out,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
