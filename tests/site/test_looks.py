"""Weight, print, focus and type of the built site, as a browser has them."""

import gzip
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from pages import CONFIG, PAGES, built, soup
from playwright.sync_api import Page
from window import DESK, PHONE, serving

pytestmark = pytest.mark.slow

CHAPTER = "book/01_spatial_dropout"
OTHERS = ["book/02_implicit_ensembles", "book/03_drop_path", "book/04_drop_block"]


class Compressed(SimpleHTTPRequestHandler):
    """Serves text compressed, lets the browser keep it, and knows the page "404"."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        root = re.sub("^https?://[^/]+", "", CONFIG["html"]["baseurl"])
        self.path = "/" + self.path.removeprefix(root).lstrip("/")
        path = Path(self.translate_path(self.path))
        found = path.is_file()
        if not found:
            path = Path(self.directory) / "404.html"
        data = path.read_bytes()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", self.guess_type(str(path)))
        if path.suffix in {".html", ".css", ".js", ".svg"}:
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(scope="module")
def compressed(site: Path) -> Iterator[str]:
    """The address of a server as the site's own is."""
    with serving(site, Compressed) as address:
        yield address


@dataclass
class Scale:
    """Bytes that a page makes the network carry."""

    page: Page
    sizes: dict[str, float] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    pictures: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")
        session.on(
            "Network.requestServedFromCache", lambda e: self.kept.add(e["requestId"])
        )
        session.on(
            "Network.responseReceived",
            lambda e: (
                self.kept.add(e["requestId"]) if e["response"]["fromDiskCache"] else 0
            ),
        )
        session.on(
            "Network.requestWillBeSent",
            lambda e: (
                self.pictures.add(e["requestId"])
                if "/_images/" in e["request"]["url"]
                else None
            ),
        )
        session.on(
            "Network.loadingFinished",
            lambda e: self.sizes.update({e["requestId"]: e["encodedDataLength"]}),
        )

    def weigh(self, url: str, *, pictures: bool = True) -> tuple[int, float]:
        """Requests and bytes of a visit."""
        self.page.goto(url, wait_until="load")
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(300)
        sent = {k: v for k, v in self.sizes.items() if k not in self.kept}
        if not pictures:
            sent = {k: v for k, v in sent.items() if k not in self.pictures}
        return len(sent), sum(sent.values())


def test_a_chapter_keeps_its_budget(compressed, visit):
    """First visit, and the text of the next chapters with what the browser has kept."""
    context = visit.page.context
    requests, sent = Scale(visit.page).weigh(f"{compressed}/{CHAPTER}.html")
    assert requests <= 25 and 100_000 < sent <= 500_000, (requests, sent)
    for page in OTHERS:
        scale = Scale(context.new_page())
        requests, sent = scale.weigh(f"{compressed}/{page}.html", pictures=False)
        assert requests <= 25 and 5_000 < sent <= 60_000, (page, requests, sent)


class SlowFonts(Compressed):
    """Fonts come late, as over a slow network."""

    def do_GET(self) -> None:
        if self.path.endswith(".woff2"):
            time.sleep(0.9)
        super().do_GET()


def test_nothing_moves_when_the_fonts_come(site, browser):
    """The shifts of a page with many formulas, of which 0.1 is called good."""
    context = browser.new_context(viewport={"width": DESK[0], "height": DESK[1]})
    context.add_init_script("""
      window.shifts = [];
      new PerformanceObserver(list => {
        for (const entry of list.getEntries()) shifts.push(entry.value);
      }).observe({type: "layout-shift", buffered: true});
    """)
    page = context.new_page()
    with serving(site, SlowFonts) as address:
        page.goto(f"{address}/book/04_drop_block.html", wait_until="load")
        page.wait_for_function("document.fonts.status === 'loaded'")
        page.wait_for_timeout(500)
    assert page.evaluate("document.fonts.check('18px \\'Source Serif 4\\'')")
    assert sum(page.evaluate("shifts")) < 0.03
    context.close()


@pytest.mark.parametrize("address", ["not-there", "book/a/b/not-there.html"])
def test_a_wrong_address_leads_back(compressed, visit, address):
    """At any depth: the page "404" has its looks, and its links lead somewhere."""
    page = visit.page
    page.goto(f"{compressed}/{address}", wait_until="load")
    visit.complaints.clear()  # the answer 404 itself
    assert "not here" in page.locator("h1").inner_text()
    family = page.evaluate(
        "getComputedStyle(document.querySelector('article')).fontFamily"
    )
    assert "Source Serif" in family
    page.locator("article a").first.click()
    page.wait_for_load_state("load")
    assert page.locator("h1").first.inner_text() == CONFIG["title"]
    assert [said for said in visit.complaints if "not-there" not in said] == []


def test_the_switch_keeps_the_focus(server, visit):
    visit.go(f"{server}/{CHAPTER}.html")
    visit.page.locator(".theme-switch-button:visible").first.focus()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_timeout(200)
    assert visit.page.evaluate(
        "document.activeElement.classList.contains('theme-switch-button')"
    )


@pytest.mark.parametrize(("width", "height"), [DESK, PHONE], ids=["desk", "phone"])
def test_every_stop_of_the_tab_key_is_seen(server, visit, width, height):
    """A ring at each, and no formula that fits is a stop."""
    page = visit.page
    page.set_viewport_size({"width": width, "height": height})
    visit.go(f"{server}/{CHAPTER}.html")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("""() => {
              const e = document.activeElement, s = getComputedStyle(e);
              const wide = e.scrollWidth > e.clientWidth;
              const fits = e.matches(".math, .math *") && !wide;
              const ring = s.outlineStyle == "solid" && parseFloat(s.outlineWidth) >= 2;
              return [e.outerHTML.slice(0, 300), ring && !fits];
            }""")
        )
    assert len({html for html, _ in seen}) > 30
    assert [html for html, good in seen if not good] == []


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_headings_are_graded_and_lines_are_short(server, visit, width):
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    visit.go(f"{server}/{CHAPTER}.html")
    sizes = page.evaluate("""
      ["h1", "h2", "h3", "p"].map(name => document.querySelector("article " + name))
        .map(e => e ? parseFloat(getComputedStyle(e).fontSize) : null)
    """)
    sizes = [size for size in sizes if size is not None]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes), sizes
    lines = page.evaluate("""
      [...document.querySelectorAll("article section > p")].flatMap(paragraph => {
        const range = document.createRange(), lines = [];
        const walker = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT);
        let bottom = -1e9;
        for (let node; (node = walker.nextNode()); ) {
          if (node.parentElement.closest("math")) continue;
          for (let i = 0; i < node.length; i++) {
            range.setStart(node, i); range.setEnd(node, i + 1);
            const box = range.getBoundingClientRect();
            if (box.top > bottom - 3) { lines.push(0); bottom = box.bottom; }
            lines[lines.length - 1]++;
          }
        }
        return lines.slice(0, -1);
      })
    """)
    assert len(lines) > 50
    assert sum(n > 70 for n in lines) <= len(lines) / 20, sorted(lines)[-20:]


def test_motion_is_reduced_for_who_wants_that(server, browser):
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{server}/{CHAPTER}.html", wait_until="load")
    longest = page.evaluate("""
      Math.max(...[...document.querySelectorAll("*")].map(getComputedStyle).flatMap(
        s => [s.transitionDuration, s.animationDuration].join().split(",")
          .map(parseFloat)))
    """)
    context.close()
    assert longest < 0.001


def test_a_dark_page_is_printed_in_light_colours(server, browser):
    """And is dark again afterwards."""
    page = browser.new_page(color_scheme="dark")
    page.goto(f"{server}/book/04_drop_block.html", wait_until="load")
    theme = "document.documentElement.dataset.theme"
    ink = "getComputedStyle(document.querySelector('article p')).color"
    assert page.evaluate(theme) == "dark"
    dark = page.evaluate(ink)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(theme) == "light" and page.evaluate(ink) != dark
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(theme) == "dark" and page.evaluate(ink) == dark
    page.close()


def test_a_chapter_prints_whole(server, visit):
    """Its title, no cut line, hints open; not the code of figures and checks."""
    page = visit.page
    visit.go(f"{server}/book/exercises/01_spatial_dropout_exercises.html")
    page.set_viewport_size({"width": 700, "height": 990})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_timeout(200)
    assert page.locator("article h1").is_visible()
    assert page.locator("h1:visible").count() == 1
    hints = page.locator("article details:not(.solution) .sd-summary-content")
    assert hints.count() > 5
    assert all(hint.is_visible() for hint in hints.all())
    solutions = page.locator("details.solution")
    assert solutions.count() > 4
    assert not any(solution.is_visible() for solution in solutions.all())
    cut = page.evaluate("""
      [...document.querySelectorAll("article pre, article table")]
        .filter(e => e.getBoundingClientRect().width)
        .filter(e => e.scrollWidth > e.clientWidth + 1)
        .map(e => e.textContent.slice(0, 80))
    """)
    assert cut == []
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("article details[open]").count() == 0


@pytest.mark.parametrize(
    "query", ["which dropout should I use", "stochastic depth", "gamma"]
)
def test_the_search_answers_a_question(server, visit, query):
    """With the section, and an excerpt of its text."""
    visit.go(f"{server}/search.html?q={query.replace(' ', '+')}")
    excerpt = visit.page.locator("#search-results li p.context a[href*='#']").first
    excerpt.wait_for(timeout=20_000)
    text = visit.page.locator("#search-results li p.context").first.inner_text()
    assert len(text) > 80 and "Binder" not in text and "Colab" not in text
    assert visit.complaints == []


def test_the_search_says_what_a_file_cannot_do(site, visit):
    visit.go(built(site, "search").as_uri() + "?q=BatchNorm")
    visit.page.locator("#search-results li a").first.wait_for(timeout=20_000)
    assert "http.server" in visit.page.locator(".search-note").inner_text()
    assert visit.complaints == []


def test_a_check_hides_what_it_printed_of_the_solution(site):
    """Below an empty answer "public checks 2/2" would mislead."""
    folds = 0
    for page in (page for page in PAGES if page.endswith("_exercises")):
        html = soup(built(site, page))
        for output in html.select(".cell_output"):
            if output.get_text().strip().startswith("public checks"):
                (fold,) = output.find_parents("details", class_="solution", limit=1)
                assert not fold.has_attr("open")
                folds += "for the solution" in fold.summary.get_text()
    assert folds > 30


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_photographs_are_no_negatives(server, visit, theme):
    """What is white on the ground of a photograph is dark in no theme."""
    visit.page.emulate_media(color_scheme=theme)
    visit.go(f"{server}/book/intro.html")
    place = visit.page.locator("#fig-overfit")
    place.scroll_into_view_if_needed()
    place.locator(".explore-live .explore-photos").first.wait_for()
    ground, ink = (
        sum(
            place.locator(f".explore-photos .explore-{part}").first.evaluate(
                "e => getComputedStyle(e).fill.match(/\\d+/g).map(Number)"
            )
        )
        for part in ("ground", "picture")
    )
    assert ground > 500 and ink < 150
    dimmed = visit.page.locator("#fig-wrong-labels image").first.evaluate(
        "e => getComputedStyle(e).filter"
    )
    assert (dimmed == "none") == (theme == "light")


def test_a_board_takes_the_width_of_a_phone(server, visit):
    """With squares for a finger; guess and truth stand below it, side by side."""
    page = visit.page
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    visit.go(f"{server}/book/01_spatial_dropout.html")
    figure = page.locator("#fig-guess")
    figure.scroll_into_view_if_needed()
    pictures = figure.locator(".explore-photos svg")
    pictures.first.wait_for()
    board, guess, truth = (pictures.nth(k).bounding_box() for k in range(3))
    assert board["width"] >= 300 and pictures.nth(3).is_hidden()
    assert guess["y"] == truth["y"] > board["y"] + board["height"]
    assert truth["x"] > guess["x"] and guess["width"] >= 140


@pytest.mark.parametrize("width", [768, 1100, DESK[0]])
def test_four_nets_stand_in_a_row_where_there_is_room(server, visit, width):
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    visit.go(f"{server}/book/05_which_one.html")
    figure = page.locator("#fig-places")
    names = ["ResNet-50", "ConvNeXt", "Transformer, pre-norm", "U-Net"]
    boxes = [
        figure.locator("text", has_text=re.compile(f"^{name}$")).bounding_box()
        for name in names
    ]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert [box["x"] for box in boxes] == sorted(box["x"] for box in boxes)
    lowest = figure.evaluate(
        "f => Math.max(...[...f.querySelectorAll('svg path')]"
        ".map(p => p.getBoundingClientRect().bottom))"
    )
    below = figure.locator("figcaption").evaluate("c => c.getBoundingClientRect().top")
    assert -1 <= below - lowest <= 60
    assert page.evaluate("document.documentElement.scrollWidth") <= width
