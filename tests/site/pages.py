"""The pages of the site, where their sources are, and what the build makes of them."""

import functools
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
ADDRESS = CONFIG["repository"]["url"]


def files_of(toc: object) -> list[str]:
    """The pages named in a table of contents, in order."""
    if isinstance(toc, list):
        return [file for part in toc for file in files_of(part)]
    if isinstance(toc, dict):
        own = [toc[key] for key in ("root", "file") if key in toc]
        return own + [
            file for part in toc.values() if part not in own for file in files_of(part)
        ]
    return []


PAGES = files_of(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
SOURCES = {
    page: next(
        path
        for ext in (".md", ".ipynb")
        if (path := (ROOT / page).with_suffix(ext)).exists()
    )
    for page in PAGES
}
every_page = pytest.mark.parametrize("page", PAGES)


def names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def built(site: Path, page: str) -> Path:
    return (site / page).with_suffix(".html")
