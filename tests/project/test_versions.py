"""One source for each version that more than one file names."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import regdrop_lite

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## \[(\S+)\] - (\S+)$", CHANGES, flags=re.M)


def test_the_change_log_goes_back_in_time():
    """Only the newest section may be without a date."""
    assert len(SECTIONS) == len(re.findall(r"^## ", CHANGES, flags=re.M)) >= 2
    versions = [Version(version) for version, _ in SECTIONS]
    assert versions == sorted(set(versions), reverse=True)
    (_, newest), *others = SECTIONS
    assert newest == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", newest)
    dates = [date for _, date in others]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for date in dates)
    assert dates == sorted(dates, reverse=True)


def test_the_citation_names_the_newest_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    released = [pair for pair in SECTIONS if pair[1] != "unreleased"]
    assert (str(citation["version"]), str(citation["date-released"])) == released[0]


def test_the_package_has_the_version_of_the_change_log():
    """Before a release and between two: the next one, with .dev."""
    fallback = Version(PROJECT["tool"]["setuptools_scm"]["fallback_version"])
    newest = Version(SECTIONS[0][0])
    if SECTIONS[0][1] == "unreleased":
        assert fallback.release == newest.release and fallback.is_devrelease
    if regdrop_lite.__version__ == "unknown":
        pytest.skip("the package is not installed")
    released = [version for version, date in SECTIONS if date != "unreleased"]
    assert Version(regdrop_lite.__version__) >= Version(released[0])


def test_the_version_of_pytorch_is_the_same_everywhere():
    """That of the stored outputs; pages that used another one say so of one thing."""
    (pinned,) = [
        entry.removeprefix("torch==")
        for entry in PROJECT["dependency-groups"]["dev"]
        if isinstance(entry, str) and entry.startswith("torch==")
    ]
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(rf"^torch=={re.escape(pinned)}\b", text, flags=re.M)
    binder = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8")
    assert f"torch=={pinned}+cpu" in binder
    pages = [*ROOT.glob("*.md"), *(ROOT / "book").rglob("*.md")]
    pages += (ROOT / ".github" / "workflows").glob("*.yml")
    doctor = ROOT / "regdrop_lite" / "course" / "doctor.py"
    assert "torch==" in doctor.read_text(encoding="utf-8")
    for page in [*pages, doctor]:
        for found in re.findall(r"torch==([\d.]+)", page.read_text(encoding="utf-8")):
            assert found == pinned, page.relative_to(ROOT)


def test_the_versions_of_python_are_the_same_everywhere():
    classifiers = PROJECT["project"]["classifiers"]
    known = [c.split(" :: ")[-1] for c in classifiers if ":: Python :: 3." in c]
    assert PROJECT["project"]["requires-python"] == f">={known[0]}"
    assert PROJECT["tool"]["uv"]["pip"]["python-version"] == known[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + known[0].replace(".", "")
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]["test"]["strategy"]["matrix"]["python"] == known
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python {', '.join(known[:-1])} or {known[-1]}" in readme


def test_files_whose_time_is_known_exist():
    """Otherwise conftest.py would order what is not there."""
    text = (ROOT / "conftest.py").read_text(encoding="utf-8")
    files = re.findall(r'^    "([^"]+)": \d+,$', text, flags=re.M)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / file).is_file()] == []
