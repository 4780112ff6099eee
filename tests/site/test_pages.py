"""What the build makes of the sources.

The site is built once, with the README's flags, into a folder of its own (about half a
minute). To test a site that is already built, name its folder in the environment
variable ``REGDROP_SITE``.
"""

import functools
import re
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from pages import ADDRESS, CONFIG, PAGES, ROOT, SOURCES, built, every_page, soup

import regdrop_lite

pytestmark = pytest.mark.slow


@every_page
def test_page_is_there(site, page):
    assert soup(built(site, page)).select_one("article h1")


def test_the_front_door_leads_to_the_first_page(site):
    assert f"{PAGES[0]}.html" in (site / "index.html").read_text(encoding="utf-8")


def test_nothing_else_is_built(site):
    """Neither leftovers nor pages that no table of contents leads to."""
    found = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    found = {path for path in found if not path.startswith("_static/")}
    expected = {f"{page}.html" for page in PAGES}
    assert found == expected | {"index.html", "search.html"}


@every_page
def test_page_asks_no_other_host_for_anything(site, page):
    """Links may lead elsewhere; scripts, styles, fonts, images and frames may not."""
    html = soup(built(site, page))
    tags = html.select("script, link, img, source, iframe, video, audio, object, embed")
    # The canonical address is a name of the page that nothing fetches.
    tags = [tag for tag in tags if tag.get("rel") != ["canonical"]]
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


def test_styles_ask_no_other_host_for_anything(site):
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", text), path.name
        assert not re.search(r"@import\s+(url\()?['\"]?(https?:)?//", text), path.name


@every_page
def test_every_picture_is_described(site, page):
    pictures = soup(built(site, page)).select('article img, article svg[role="img"]')
    for picture in pictures:
        text = picture.get("alt") or picture.get("aria-label") or ""
        assert len(text) > 60, picture.attrs
        assert not re.search(r"\.(png|svg)$|[0-9a-f]{20}", text), text
        figure = picture.find_parent("figure")
        assert figure and len(figure.figcaption.get_text()) > 40


@every_page
def test_headings_start_with_one_h1_and_skip_no_level(site, page):
    html = soup(built(site, page))
    assert len(html.select("h1")) == 1
    headings = html.select("article :is(h1, h2, h3, h4, h5, h6)")
    levels = [int(heading.name[1]) for heading in headings]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels


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


@functools.cache
def ids(path: Path) -> set[str]:
    """What a link to this page can name."""
    return {tag["id"] for tag in soup(path).select("[id]")}


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
            assert unquote(fragment) in ids(other.resolve()), link["href"]


def test_the_reference_has_every_public_name(site):
    html = soup(built(site, "book/reference/api"))
    for name in regdrop_lite.__all__:
        entry = html.find(id=f"regdrop_lite.{name}")
        assert entry, name
        body = entry.find_parent("dl").find("dd", recursive=False)
        if name != "LinearRamp":
            assert ">>>" in body.get_text(), f"{name} has no example"
        assert "Args:" not in body.get_text(), f"{name}: a section was not understood"


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


def test_figures_and_equations_are_numbered(site):
    html = soup(built(site, "book/01_spatial_dropout"))
    captions = [c.get_text() for c in html.select("article .caption-number")]
    assert [c.strip() for c in captions] == [
        f"Figure 1.{k + 1}" for k in range(len(captions))
    ]
    assert len(captions) >= 3
    assert len(html.select("article .eqno")) >= 3
