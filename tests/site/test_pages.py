"""What the build makes of the sources.

The site is built once, with the README's flags, into a folder of its own (about half a
minute). To test a site that is already built, name its folder in the environment
variable ``REGDROP_SITE``.
"""

import copy
import functools
import re
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from fontTools.ttLib import TTFont
from pages import ADDRESS, CONFIG, PAGES, ROOT, SOURCES, built, every_page, soup
from PIL import Image

import regdrop_lite
from regdrop_lite.course.author.book import NAME

pytestmark = pytest.mark.slow


@every_page
def test_page_is_there(site, page):
    assert soup(built(site, page)).select_one("article h1")


def test_the_front_door_leads_to_the_first_page(site):
    assert f"{PAGES[0]}.html" in (site / "index.html").read_text(encoding="utf-8")


def test_nothing_else_is_built(site):
    """Neither leftovers nor pages that no table of contents leads to."""
    found = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    other = ("_static/", "teach/slides/")  # the slides: test_slides.py
    found = {path for path in found if not path.startswith(other)}
    expected = {f"{page}.html" for page in PAGES}
    assert found == expected | {"index.html", "search.html", "404.html"}


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


@pytest.mark.parametrize("page", [p for p in PAGES if "course_api/" in p])
def test_a_page_of_the_reference_has_sections_and_short_headings(site, page):
    html = soup(built(site, page))
    assert len(html.select("article h2")) >= 2
    values = html.select("dt.sig > em.property")
    assert [v.get_text() for v in values if len(v.get_text()) > 100] == []


@every_page
def test_no_table_has_an_empty_head(site, page):
    for head in soup(built(site, page)).select("article thead tr"):
        assert head.get_text(strip=True), head.find_parent("table").get_text()[:80]


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
    (menu,) = html.select(".bd-header-article .page-menu")
    (download,) = menu.select("a[download]")
    assert download["download"] == Path(name).name
    target = (Path(site) / page).parent / download["href"]
    assert target.resolve() == (Path(site) / "notebooks" / name).resolve()
    assert ":::" not in target.read_text(encoding="utf-8")
    assert not [link for link in links if "_sources" in link and ".ipynb" in link]
    base = CONFIG["html"]["baseurl"]
    whole = [f"{base}{NAME}.{kind}" for kind in ("pdf", "epub")]
    assert [a["href"] for a in menu.select(f"a[href^='{base}']")] == whole


@every_page
def test_a_page_says_what_it_is_about(site, page):
    html = soup(built(site, page))
    (description,) = html.select('meta[name="description"]')
    assert 60 < len(description["content"]) <= 200
    card = {tag["property"]: tag["content"] for tag in html.select("meta[property]")}
    assert card["og:description"] == description["content"]
    assert card["og:url"] == f"{CONFIG['html']['baseurl']}{page}.html"
    assert card["og:title"] in html.h1.get_text()
    before, base, picture = card["og:image"].partition(CONFIG["html"]["baseurl"])
    assert not before and base, "the whole address"
    size = (int(card["og:image:width"]), int(card["og:image:height"]))
    assert Image.open(site / picture).size == size == (1200, 630)
    title = html.title.get_text().strip()
    assert title.startswith(card["og:title"]) and title.count(CONFIG["title"]) == 1


def test_descriptions_differ(site):
    texts = [
        soup(built(site, page)).select_one('meta[name="description"]')["content"]
        for page in PAGES
    ]
    assert len(set(texts)) == len(texts)


def test_the_sitemap_names_every_page(site):
    text = (site / "sitemap.xml").read_text(encoding="utf-8")
    found = re.findall(r"<loc>(.*?)</loc>", text)
    base = CONFIG["html"]["baseurl"]
    assert sorted(found) == sorted(f"{base}{page}.html" for page in PAGES)


def test_no_font_awesome_and_no_search_index_on_a_page(site):
    for page in PAGES:
        for tag in soup(built(site, page)).select("script[src], link[href]"):
            target = tag.get("src") or tag["href"]
            assert not re.search(r"fontawesome|searchindex|thebe|mathjax", target)


def test_every_icon_is_drawn(site):
    """An icon that the theme asks for and course.css does not know is a square."""
    css = (site / "_static" / "course.css").read_text(encoding="utf-8")
    asked = set()
    for page in [*PAGES, "search"]:
        for icon in soup(built(site, page)).select(":is(i, span)[class*='fa-']"):
            asked.update(name for name in icon["class"] if name.startswith("fa-"))
    asked -= {"fa-solid", "fa-lg"}
    assert len(asked) > 8
    assert {name for name in asked if f".{name} {{" not in css} == set()


def test_the_font_of_formulas_has_their_signs(site):
    font = TTFont(ROOT / "book" / "_static" / "fonts" / "stix-two-math.woff2")
    known = {*font.getBestCmap(), 0xFE00}  # the last one chooses a form, and is no sign
    for page in PAGES:
        for sign in soup(built(site, page)).select("math :is(mi, mo, mn)"):
            # A letter alone is set in italics, by a sign of its own.
            missing = {c for c in sign.get_text() if ord(c) not in known}
            assert not missing, (page, sign)


def test_goals_on_a_page_have_no_numbers(site):
    """They stand in the guide of a chapter, and not where readers see them."""
    box = soup(built(site, "book/02_implicit_ensembles")).select_one("article details")
    goals = [item.get_text().strip() for item in box.select("li")]
    assert len(goals) >= 3 and "to do" in box.get_text()
    assert not any(re.match(r"\d", goal) for goal in goals)


def test_exercises_and_solutions_are_titled_by_their_task(site):
    for page in [p for p in PAGES if p.endswith("_exercises")]:
        html = soup(built(site, page))
        exercises = html.select(".exercise > .admonition-title")
        tasks = [e.get_text().removeprefix("Exercise ") for e in exercises]
        assert len(set(tasks)) == len(tasks) > 4
        solutions = [
            fold.summary.get_text(strip=True).removeprefix("Solution ")
            for fold in html.select("details.solution:not(.check-result)")
        ]
        assert [s for s in solutions if s not in tasks] == []
        assert set(solutions) == set(tasks)


@pytest.mark.parametrize(
    ("k", "page"), [(1, "01_spatial_dropout"), (3, "03_drop_path")]
)
def test_figures_and_equations_are_numbered(site, k, page):
    html = soup(built(site, f"book/{page}"))
    captions = [c.get_text().strip() for c in html.select("article .caption-number")]
    assert captions == [f"Figure {k}.{i + 1}" for i in range(len(captions))]
    assert len(captions) >= 3
    numbers = [e.get_text().removesuffix("#") for e in html.select("article .eqno")]
    assert numbers == [f"({k}.{i + 1})" for i in range(len(numbers))]
    assert len(numbers) >= k  # the third chapter has three


@every_page
def test_a_number_keeps_its_sign(site, page):
    """On one line with "%", and with "×" and the next number; written in one way."""
    article = copy.copy(soup(built(site, page)).article)  # others read it, too
    for part in article.select(
        "pre, code, math, svg, script, style, .cell_output, table.numbers"
    ):
        part.extract()
    text = article.get_text()
    assert re.findall(r".{,20}\d ?%(?!\w)", text) == []
    assert re.findall(r".{,20}\d × ?\d|\d ?× \d", text) == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.endswith("_exercises")])
def test_exercises_open_with_no_command(site, page):
    article = soup(built(site, page)).article
    blocks = article.select(".highlight-bash")
    assert blocks
    for block in blocks:
        title = block.find_parent("details").summary.get_text(strip=True)
        assert title == "On a computer"
