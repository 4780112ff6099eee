"""requirements.txt pins what pyproject.toml asks for: all of it, and nothing else.

Without a network: the metadata of what is installed says what each package needs.
Whether the resolver gives the same file is a command in CONTRIBUTING.md, which the slow
tests run.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LEFT_OUT = {canonicalize_name(n) for n in PROJECT["tool"]["uv"]["exclude-dependencies"]}
PINS = {
    canonicalize_name(pin.name): pin
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if re.match(r"\w", line)
    and (pin := Requirement(re.sub(r"\s+#.*", "", line)))
    and (pin.marker is None or pin.marker.evaluate())
}


def group(name: str) -> list[str]:
    """The requirements of a dependency group, with the groups that it includes."""
    entries = PROJECT["dependency-groups"][name]
    return [
        requirement
        for entry in entries
        for requirement in (
            [entry] if isinstance(entry, str) else group(entry["include-group"])
        )
    ]


def needed() -> dict[str, set[str]]:
    """Each package that is needed here, and who asks for which versions of it."""
    project = PROJECT["project"]
    asked = list(project["dependencies"])
    for extra in ("course", "author"):  # as requirements.in asks
        asked += project["optional-dependencies"][extra]
    queue = [(Requirement(text), "pyproject.toml") for text in asked + group("dev")]
    found: dict[str, set[str]] = {}
    seen = set()
    while queue:
        requirement, by = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT:
            continue
        found.setdefault(name, set()).add(f"{requirement.specifier} ({by})")
        for extra in ["", *sorted(requirement.extras)]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in distribution(name).requires or []:
                child = Requirement(text)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    queue.append((child, name))
    return found


def test_the_pins_are_what_is_needed():
    """None missing, none too many, and each allowed by all that ask for it."""
    try:
        asked = needed()
    except PackageNotFoundError as error:
        pytest.fail(
            f"{error.name} is not installed: requirements.txt is older, or here"
        )
    advice = "see CONTRIBUTING.md, Change what is installed"
    assert set(asked) - set(PINS) == set(), f"not pinned, {advice}"
    assert set(PINS) - set(asked) == set(), f"needed by nobody, {advice}"
    for name, pin in PINS.items():
        (version,) = [s.version for s in pin.specifier if s.operator == "=="]
        for text in asked[name]:
            ranges = Requirement(f"x{text.split(' (')[0]}").specifier
            assert ranges.contains(version, prereleases=True), f"{pin}, {text}"


def test_what_must_stay():
    """Version 2 of Jupyter Book is another program; no library of a graphics card."""
    assert str(PINS["jupyter-book"].specifier).startswith("==1.")
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"^-e \.", text, flags=re.M)
    assert not re.search(r"^(nvidia|cuda|triton)", text, flags=re.M)
