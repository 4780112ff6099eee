"""The site: what its sources promise, what the build makes, what a browser shows.

The fast tests read the sources. The slow ones build the site once, with the README's
flags, into a folder of their own (about half a minute) and look at the pages and at how
a real browser shows them. To test a site that is already built, name its folder in the
environment variable ``REGDROP_SITE``.
"""

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup
from chromium import Browser, find

import regdrop_lite

ROOT = Path(__file__).parents[1]
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


def names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- sources --------------------------------------------------------------------------


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
    pages = [path for path in SOURCES.values() if path.suffix == ".md"]
    named = [names(p) for p in pages if ADDRESS in p.read_text(encoding="utf-8")]
    assert named == [], "write REPOSITORY_URL instead"


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == regdrop_lite.__version__


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


def test_the_drawing_is_what_its_script_draws():
    path = BOOK / "figures" / "one_idea.py"
    spec = importlib.util.spec_from_file_location("one_idea", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for file, theme in module.FILES.items():
        stored = (BOOK / "_static" / file).read_text(encoding="utf-8")
        assert stored == module.draw(theme), f"run {names(path)}"
    for name, (_, mask) in module.masks().items():  # what caption and alt text say
        kept = mask.double()
        constant = {"Channel": kept.flatten(2), "Path": kept.flatten(1)}.get(name)
        assert constant is None or (constant == constant[..., :1]).all()
        assert 0.1 < 1 - kept.mean() < 0.4
    assert (~module.masks()["Channel"][1]).sum() == 3 * 36
    assert (~module.masks()["Path"][1]).sum() == 4 * 36


def test_every_work_in_the_bibliography_is_cited():
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", bibliography, flags=re.M)
    pages = "".join(path.read_text(encoding="utf-8") for path in SOURCES.values())
    assert len(keys) == len(set(keys))
    assert [key for key in keys if key not in pages] == []


def test_mathjax_comes_with_its_licence():
    folder = BOOK / "_static" / "mathjax"
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert '"3.2.2"' in (folder / "es5" / "tex-chtml.js").read_text(encoding="utf-8")


def test_actions_are_pinned_and_may_do_little():
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) >= 2
    for path in workflows:
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"uses: (.+)", text)
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} +# v\S+", u) for u in uses), (
            uses
        )
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
        assert text.count("persist-credentials: false") == text.count("checkout@")


# --- the built pages ------------------------------------------------------------------


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    if given := os.environ.get("REGDROP_SITE"):
        return Path(given).resolve()
    # A path with spaces on purpose. The source tree stays as it is.
    out = tmp_path_factory.mktemp("the built site")
    command = Path(sys.executable).with_name("jupyter-book")
    if not command.exists():
        command = shutil.which("jupyter-book")
    arguments = ["build", ".", "-W", "-n", "--keep-going", "--path-output", str(out)]
    result = subprocess.run(
        [str(command), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
    return out / "_build" / "html"


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def built(site: Path, page: str) -> Path:
    return (site / page).with_suffix(".html")


every_page = pytest.mark.parametrize("page", PAGES)


@pytest.mark.slow
@every_page
def test_page_is_there(site, page):
    assert soup(built(site, page)).select_one("article h1")


@pytest.mark.slow
def test_the_front_door_leads_to_the_first_page(site):
    assert f"{PAGES[0]}.html" in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_nothing_else_is_built(site):
    """Neither leftovers nor pages that no table of contents leads to."""
    found = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    found = {path for path in found if not path.startswith("_static/")}
    expected = {f"{page}.html" for page in PAGES}
    assert found == expected | {"index.html", "search.html"}


@pytest.mark.slow
@every_page
def test_page_asks_no_other_host_for_anything(site, page):
    """Links may lead elsewhere; scripts, styles, fonts, images and frames may not."""
    html = soup(built(site, page))
    tags = html.select("script, link, img, source, iframe, video, audio, object, embed")
    targets = [tag.get(a) for tag in tags for a in ("src", "href", "srcset", "data")]
    targets += [use.get("href") or use.get("xlink:href") for use in html.select("use")]
    for target in filter(None, targets):
        url = urlparse(target)
        assert not url.netloc and url.scheme in ("", "data"), target
        if not url.scheme:
            local = built(site, page).parent / unquote(url.path)
            assert local.exists(), target
    for script in html.select("script:not([src])"):
        assert "unpkg" not in script.text and "cdn" not in script.text.lower()
    for style in html.select("style"):
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", style.text)


@pytest.mark.slow
def test_styles_ask_no_other_host_for_anything(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", text), path.name
        assert not re.search(r"@import\s+(url\()?['\"]?(https?:)?//", text), path.name


@pytest.mark.slow
@every_page
def test_every_picture_is_described(site, page):
    pictures = soup(built(site, page)).select('article img, article svg[role="img"]')
    for picture in pictures:
        text = picture.get("alt") or picture.get("aria-label") or ""
        assert len(text) > 60, picture.attrs
        assert not re.search(r"\.(png|svg)$|[0-9a-f]{20}", text), text
        figure = picture.find_parent("figure")
        assert figure and len(figure.figcaption.get_text()) > 40


@pytest.mark.slow
@every_page
def test_headings_start_with_one_h1_and_skip_no_level(site, page):
    html = soup(built(site, page))
    assert len(html.select("h1")) == 1
    headings = html.select("article :is(h1, h2, h3, h4, h5, h6)")
    levels = [int(heading.name[1]) for heading in headings]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels


@pytest.mark.slow
def test_no_path_of_a_machine_is_left(site):
    """Neither of the machine that built the site nor of the one that ran a notebook."""
    here = {str(ROOT), str(Path.home()), str(Path(sys.prefix))}
    pattern = re.compile(
        r"(?<![\w./-])/(?:home|root|tmp|Users|work|opt)/\w|[A-Z]:\\\\?Us"
    )
    for path in [*site.rglob("*.html"), *(site / "_sources").rglob("*.*")]:
        text = re.sub(r"\\u001b\[[\d;]*m", "", path.read_text(encoding="utf-8"))
        found = pattern.search(text)
        assert not found, f"{path.name}: {text[max(0, found.start() - 40) :][:120]}"
        assert not [name for name in here if len(name) > 5 and name in text], path.name


@pytest.mark.slow
@every_page
def test_links_inside_the_site_lead_somewhere(site, page):
    path = built(site, page)
    for link in soup(path).select("a[href]"):
        target, fragment = urldefrag(link["href"])
        if urlparse(target).scheme:
            continue
        other = (path.parent / unquote(target)) if target else path
        assert other.exists(), link["href"]
        if fragment and other.suffix == ".html":
            ids = {tag["id"] for tag in soup(other.resolve()).select("[id]")}
            assert unquote(fragment) in ids, link["href"]


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    html = soup(built(site, "book/reference/api"))
    for name in regdrop_lite.__all__:
        entry = html.find(id=f"regdrop_lite.{name}")
        assert entry, name
        body = entry.find_parent("dl").find("dd", recursive=False)
        if name != "LinearRamp":
            assert ">>>" in body.get_text(), f"{name} has no example"
        assert "Args:" not in body.get_text(), f"{name}: a section was not understood"


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if SOURCES[p].suffix == ".ipynb"])
def test_notebook_can_be_launched(site, page):
    """Every button leads to the plain edition, which holds no solution."""
    html = soup(built(site, page))
    links = [a["href"] for a in html.select("a[href]")]
    path = ADDRESS.removeprefix("https://github.com/")
    branch = CONFIG["repository"]["branch"]
    name = page.removeprefix("book/") + ".ipynb"
    colab = "https://colab.research.google.com/github"
    assert f"{colab}/{path}/blob/notebooks/{name}" in links
    binder = f"https://mybinder.org/v2/gh/{path}/{branch}?urlpath=lab/tree/notebooks"
    assert f"{binder}/{name}" in links
    (download,) = html.select("a[download]")
    assert download["download"] == Path(name).name
    target = (Path(site) / page).parent / download["href"]
    assert target.resolve() == (Path(site) / "notebooks" / name).resolve()
    assert ":::" not in target.read_text(encoding="utf-8")
    assert not [link for link in links if "_sources" in link and ".ipynb" in link]


@pytest.mark.slow
def test_figures_and_equations_are_numbered(site):
    html = soup(built(site, "book/01_spatial_dropout"))
    captions = [c.get_text() for c in html.select("article .caption-number")]
    assert [c.strip() for c in captions] == [
        f"Figure 1.{k + 1}" for k in range(len(captions))
    ]
    assert len(captions) >= 3
    assert len(html.select("article .eqno")) >= 3


# --- in a browser ---------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """The address of a server for the site, on this machine only."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages."""
    executable = find()
    if executable is None:
        pytest.skip("no Chromium or Chrome found")
    running = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


OVERFLOWING = """
[...document.querySelectorAll("article *")].filter(element => {
  const box = element.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1) return false;
  for (let e = element.parentElement; e.tagName != "ARTICLE"; e = e.parentElement)
    if (getComputedStyle(e).overflowX != "visible") return false;
  return true;
}).map(element => element.tagName + " " + element.textContent.slice(0, 60))
"""

MATHS = """
[...document.querySelectorAll("article .math")].map(element => {
  const box = element.querySelector("mjx-container");
  // MathJax shows a macro that it does not know in red.
  const error = element.querySelector("mjx-merror, [data-mjx-error], [style*='red']");
  const shown = box && !error && box.getBoundingClientRect().width > 0;
  return shown ? "" : element.textContent;
}).filter(Boolean)
"""


@pytest.mark.slow
@every_page
def test_page_works_in_a_browser(server, browser, page):
    """At a desk and on a phone: no error, no foreign request, formulas, no overflow."""
    for width, height in ((1440, 900), (390, 844)):
        browser.size(width, height)
        browser.visit(f"{server}/{page}.html")
        assert browser.complaints() == []
        foreign = [
            url
            for url in browser.requests()
            if not url.startswith((server, "data:", "blob:"))
        ]
        assert foreign == []
        assert browser.run(MATHS) == []
        wide = browser.run("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0 and browser.run(OVERFLOWING) == []


@pytest.mark.slow
def test_formulas_work_without_a_server(site, browser):
    """Opened as a file, as the README says."""
    browser.size(1440, 900)
    browser.visit(built(site, "book/01_spatial_dropout").as_uri())
    assert browser.run(MATHS) == []
    assert browser.run("document.querySelectorAll('mjx-container').length") > 20
    assert [url for url in browser.requests() if url.startswith("http")] == []


@pytest.mark.slow
def test_the_switch_changes_light_to_dark(server, browser):
    browser.size(1440, 900)
    browser.visit(f"{server}/{PAGES[0]}.html")
    seen = {}
    for _ in range(3):
        browser.run("document.querySelector('.theme-switch-button').click()")
        browser.run("new Promise(done => setTimeout(done, 400))")
        theme = browser.run("document.documentElement.dataset.theme")
        seen[theme] = browser.run(
            "['body', 'svg.inline-svg text'].map(s => document.querySelector(s))"
            ".map(e => getComputedStyle(e))"
            ".map((c, i) => i ? c.fill : c.backgroundColor)"
        )
    assert set(seen) == {"light", "dark"}
    for theme in seen:
        background, text = (
            sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen[theme]
        )
        assert (background > text) == (theme == "light"), seen


def contrast(a: str, b: str) -> float:
    """WCAG's contrast of two colours, rgb(...)."""

    def luminance(colour: str) -> float:
        values = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
def test_the_drawing_can_be_read_in_light_and_dark(server, browser):
    """Text 4.5 to 1, shapes 3 to 1 against the page."""
    for theme in ("light", "dark"):
        browser.visit(f"{server}/{PAGES[0]}.html")
        browser.run(f"document.documentElement.dataset.theme = '{theme}'")
        page = browser.run("getComputedStyle(document.body).backgroundColor")
        for selector, least in (("text, svg.inline-svg tspan", 4.5), ("path", 3.0)):
            colours = browser.run(
                f"[...document.querySelectorAll('svg.inline-svg {selector}')]"
                ".map(e => getComputedStyle(e))"
                ".map(c => c.fill == 'none' ? c.stroke : c.fill)"
            )
            assert colours
            for colour in set(colours):
                assert contrast(colour, page) >= least, (theme, selector, colour)


@pytest.mark.slow
def test_the_search_finds_a_word(server, browser):
    browser.visit(f"{server}/search.html?q=BatchNorm")
    script = """
    new Promise(done => setTimeout(
      () => done([...document.querySelectorAll('#search-results a')].map(a => a.href)),
      3000))
    """
    found = json.dumps(browser.run(script))
    assert "01_spatial_dropout.html" in found
