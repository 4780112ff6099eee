"""What the sources of the site promise."""

import importlib.util
import re
import tomllib
from urllib.parse import urldefrag

import numpy as np
import pytest
import yaml
from pages import ADDRESS, BOOK, PAGES, ROOT, SOURCES, names
from PIL import Image


def test_there_are_pages_for_every_part():
    assert len(PAGES) == len(set(PAGES)) >= 10
    for folder in ("book/exercises/", "book/teach/", "book/reference/"):
        assert any(page.startswith(folder) for page in PAGES)


def test_the_address_of_the_repository_is_the_same_everywhere():
    """Change ``repository.url`` in _config.yml; this names what is left to change."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    places = {
        "CITATION.cff": citation["repository-code"],
        "pyproject.toml": project["project"]["urls"]["Repository"],
    }
    for path in SOURCES.values():
        text = path.read_text(encoding="utf-8")
        for url in re.findall(r"git\+(https?://[^\s\"\\]+)", text):
            places[names(path)] = url
    assert any(place.endswith(".ipynb") for place in places)
    assert {place: url for place, url in places.items() if url != ADDRESS} == {}
    # A command that readers copy stands with the address itself, so that it works on
    # GitHub and in a download too.
    pages = [path for path in SOURCES.values() if path.suffix == ".md"]
    cloned = {
        names(path): url
        for path in pages
        for url in re.findall(
            r"git clone (https?://\S+)", path.read_text(encoding="utf-8")
        )
    }
    assert cloned
    assert {k: url for k, url in cloned.items() if url != f"{ADDRESS}.git"} == {}
    for path in pages:
        text = path.read_text(encoding="utf-8").replace(f"git clone {ADDRESS}", "")
        assert ADDRESS not in text, f"{path.name}: write REPOSITORY_URL instead"


def test_the_two_commands_are_the_same_everywhere():
    install = "python -m pip install -r requirements.txt"
    for path in (ROOT / "README.md", BOOK / "setup.md"):
        text = path.read_text(encoding="utf-8")
        assert f"{install} && jupyter-book build . -W -n --keep-going\n" in text
        assert f"{install} && pytest\n" in text
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    torch = re.search(r"^torch==\S+", pinned, flags=re.M)[0]
    for path in (ROOT / "README.md", BOOK / "setup.md"):
        assert f"{torch} --index-url" in path.read_text(encoding="utf-8"), names(path)
    assert f"{torch}+cpu" in (ROOT / ".binder/requirements.txt").read_text()


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    local = [a or b for a, b in links if not (a or b).startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / urldefrag(link)[0]).exists()] == []


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "script", sorted((BOOK / "figures").glob("draw_*.py")), ids=lambda p: p.stem
)
def test_drawings_are_what_their_script_draws(script):
    """And each of them stands on a page."""
    pages = "".join(path.read_text(encoding="utf-8") for path in SOURCES.values())
    for name, content in load(script).files().items():
        stored = (script.parent / name).read_text(encoding="utf-8")
        assert stored == content, f"run {names(script)}"
        assert f"figures/{name}" in pages


def test_the_drawing_is_what_its_script_draws():
    path = BOOK / "figures" / "one_idea.py"
    module = load(path)
    for file, theme in module.FILES.items():
        stored = (BOOK / "_static" / file).read_text(encoding="utf-8")
        assert stored == module.draw(theme), f"run {names(path)}"
    for name, (_, mask) in module.masks().items():  # what caption and alt text say
        kept = mask.double()
        constant = {"Channel": kept.flatten(2), "Path": kept.flatten(1)}.get(name)
        assert constant is None or (constant == constant[..., :1]).all()
        assert 0.1 < 1 - kept.mean() < 0.4
    assert (~module.masks()["Channel"][1]).sum() == 4 * 36
    assert (~module.masks()["Path"][1]).sum() == 4 * 36


def test_the_card_of_a_link_is_what_its_script_draws():
    """Up to how a system's libraries smooth letters."""
    module = load(BOOK / "figures" / "card.py")
    stored = np.asarray(Image.open(module.OUT).convert("RGB"), dtype=float)
    drawn = np.asarray(module.draw().convert("RGB"), dtype=float)
    assert stored.shape == (module.HEIGHT, module.WIDTH, 3)
    assert np.abs(stored - drawn).mean() < 1, "run book/figures/card.py"
    assert module.OUT.stat().st_size < 40_000


def test_every_work_in_the_bibliography_is_cited():
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", bibliography, flags=re.M)
    pages = "".join(path.read_text(encoding="utf-8") for path in SOURCES.values())
    assert len(keys) == len(set(keys))
    assert [key for key in keys if key not in pages] == []


def test_the_fonts_come_with_their_licence():
    """All of them together weigh no more than one photograph."""
    folder = BOOK / "_static" / "fonts"
    licence = (folder / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    fonts = sorted(folder.glob("*.woff2"))
    assert {path.name for path in folder.iterdir()} == {
        "OFL.txt",
        *(path.name for path in fonts),
    }
    css = (BOOK / "_static" / "course.css").read_text(encoding="utf-8")
    for path in fonts:
        family = path.stem.removesuffix("-italic").replace("-", " ").title()
        assert family.replace("Stix", "STIX") in licence
        assert f'url("fonts/{path.name}")' in css
    assert sum(path.stat().st_size for path in fonts) <= 150_000


def test_actions_are_pinned_and_may_do_little():
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) >= 2
    for path in workflows:
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"uses: (.+)", text)
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} +# v\S+", u) for u in uses), (
            uses
        )
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():  # what publishes runs nothing of ours
            if "permissions" in job:
                runs = [step["run"] for step in job["steps"] if "run" in step]
                if job["permissions"] == {"contents": "write"}:
                    (push,) = runs
                    commands = [line.split()[0] for line in push.splitlines()]
                    assert set(commands) <= {"git", "cd", "--message", "--force"} | {
                        c for c in commands if c.startswith('"https://')
                    }
                elif job["permissions"] == {"issues": "write"}:
                    (tell,) = runs
                    parts = re.split(r"\|\|?", tell)
                    assert {part.split()[0] for part in parts} == {"gh", "grep"}
                    continue
                else:
                    assert runs == []
                    assert set(job["permissions"]) <= {"id-token", "pages"}
                assert "environment" in job
        assert text.count("persist-credentials: false") == text.count("checkout@")
