"""What a browser shows of the built site: Chromium or Chrome of the system."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pages import PAGES, ROOT, built, every_page
from playwright.sync_api import Locator
from window import DESK, PHONE

pytestmark = pytest.mark.slow

OVERFLOWING = """
[...document.querySelectorAll("article *")].filter(element => {
  const box = element.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1) return false;
  for (let e = element.parentElement; e.tagName != "ARTICLE"; e = e.parentElement)
    if (getComputedStyle(e).overflowX != "visible") return false;
  return true;
}).map(element => element.tagName + " " + element.textContent.slice(0, 60))
"""

# The answers to each choice that wait for a press stand at the choices by then.
MATHS = """
[...document.querySelectorAll("article .math")].map(element => {
  if (element.closest(":is(.predict-choices, .predict-said)[hidden]")) return "";
  const formula = element.querySelector("math");
  const shown = formula && formula.getBoundingClientRect().width > 0;
  return shown && !formula.querySelector("merror") ? "" : element.outerHTML;
}).filter(Boolean)
"""


@every_page
def test_page_works_in_a_browser(server, visit, page):
    """At a desk and on a phone: no error, no foreign request, formulas, no overflow."""
    visit.go(f"{server}/{page}.html")
    assert visit.requests, "nothing was watched"
    for width, height in (DESK, PHONE):
        visit.page.set_viewport_size({"width": width, "height": height})
        visit.page.wait_for_timeout(100)  # what follows the width draws itself anew
        wide = visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, width
        assert visit.page.evaluate(OVERFLOWING) == [], width
        assert visit.page.evaluate(MATHS) == [], width
    assert visit.complaints == []
    own = (server, "data:", "blob:")
    assert [url for url in visit.requests if not url.startswith(own)] == []


WIDE_TABLES = """
[...document.querySelectorAll("article table")].map(table => {
  const place = table.parentElement;
  const kind = ["stack", "marks", "chosen"].find(c => table.classList.contains(c));
  return [table.textContent.trim().slice(0, 40), table.scrollWidth - place.clientWidth,
          kind ?? "", place.tabIndex];
}).filter(([, out]) => out > 1)
"""


@pytest.mark.parametrize(
    "page", ["reference/conformance", "reference/api", "teach/guide", "teach/chapter_2"]
)
def test_tables_of_words_fit_a_phone(server, visit, page):
    """As cards, with upright heads, or because a long name breaks."""
    width, height = PHONE
    visit.page.set_viewport_size({"width": width, "height": height})
    visit.go(f"{server}/book/{page}.html")
    assert visit.page.locator("article table").count()
    assert visit.page.evaluate(WIDE_TABLES) == []


def test_a_wide_table_of_numbers_takes_the_focus(server, visit):
    """It scrolls; a shadow says so, and the keyboard reaches it."""
    width, height = PHONE
    visit.page.set_viewport_size({"width": width, "height": height})
    visit.go(f"{server}/book/05_which_one.html")
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = 1)")
    wide = visit.page.evaluate(WIDE_TABLES)
    assert wide and all(kind == "" and focus == 0 for _, _, kind, focus in wide), wide


def test_a_wrapped_line_of_code_goes_on_further_right(server, visit):
    """On a phone; and what is copied is the code."""
    width, height = PHONE
    visit.page.set_viewport_size({"width": width, "height": height})
    visit.go(f"{server}/book/reference/conformance.html")
    wrapped = visit.page.evaluate("""
      [...document.querySelectorAll("article .code-line")].map(line => {
        const range = document.createRange();
        range.selectNodeContents(line);
        const boxes = [...range.getClientRects()].filter(box => box.width);
        const top = Math.min(...boxes.map(box => box.top));
        const left = first => Math.min(...boxes
          .filter(box => (box.top < top + 3) === first).map(box => box.left));
        const blanks = line.textContent.search(/\\S|$/) * 7;
        return [left(true) + blanks, left(false)];
      }).filter(([, rest]) => Number.isFinite(rest))
    """)
    assert len(wrapped) > 20
    assert [pair for pair in wrapped if pair[1] < pair[0] + 5] == []
    block = visit.page.locator("article pre", has_text="class DropPath").first
    copied, code = block.inner_text(), block.text_content()
    assert re.sub("\n+", "\n", copied) == re.sub("\n+", "\n", code.strip())
    assert "\n        super().__init__()\n        self.p = p\n" in code


@pytest.mark.parametrize(
    ("page", "roots", "ends"),
    [
        ("01d_spatial_dropout_next_norm", 2, 1),
        ("03_drop_path", 1, 1),
        ("02b_implicit_ensembles_noise", 0, 2),
    ],
)
def test_no_root_leaves_a_gap_and_no_square_stands_alone(
    server, visit, page, roots, ends
):
    """Chromium keeps room for a wider root; a proof's end could go to a new line."""
    visit.go(f"{server}/book/{page}.html")
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = 1)")
    visit.page.wait_for_timeout(200)
    gaps = visit.page.evaluate("""
      [...document.querySelectorAll("msqrt")].map(root => {
        const end = part => part.getBoundingClientRect().right;
        const room = parseFloat(getComputedStyle(root).marginRight);
        return end(root) + room - end(root.lastElementChild);
      })
    """)
    assert len(gaps) >= roots and max(map(abs, gaps), default=0) < 1, gaps
    squares = visit.page.locator("article math", has_text=re.compile("^[□◻]$"))
    assert squares.count() >= ends
    for square in squares.all():
        kept = square.locator("xpath=ancestor::*[contains(@class, 'glued')]").first
        assert len(kept.text_content()) > 2


def test_what_goes_wrong_in_a_page_is_noticed(server, visit):
    """Whoever watches has to see: an error, a warning, a missing file."""
    visit.go(f"{server}/{PAGES[0]}.html")
    assert visit.complaints == []
    visit.page.evaluate("console.warn('w'); fetch('/not-there').then(() => 0)")
    visit.page.evaluate("setTimeout(() => { throw Error('thrown') })")
    visit.page.wait_for_load_state("networkidle")
    visit.page.wait_for_timeout(200)
    said = "\n".join(visit.complaints)
    assert "warning: w" in said and "404" in said and "thrown" in said


def test_formulas_work_without_a_server(site, visit):
    """Opened as a file, as the README says."""
    visit.go(built(site, "book/01_spatial_dropout").as_uri())
    assert visit.page.evaluate(MATHS) == []
    assert visit.page.locator("article math").count() > 20
    assert [url for url in visit.requests if url.startswith("http")] == []


def test_the_switch_changes_light_to_dark(server, visit):
    visit.go(f"{server}/{PAGES[0]}.html")
    seen = {}
    for _ in range(3):
        visit.page.locator(".theme-switch-button:visible").first.click()
        visit.page.wait_for_timeout(400)
        theme = visit.page.evaluate("document.documentElement.dataset.theme")
        seen[theme] = visit.page.evaluate(
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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_drawing_can_be_read(server, visit, theme):
    """Text 4.5 to 1, shapes 3 to 1 against the page."""
    visit.go(f"{server}/{PAGES[0]}.html")
    visit.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    for selector, least in (("text, svg.inline-svg tspan", 4.5), ("path", 3.0)):
        colours = visit.page.evaluate(
            f"[...document.querySelectorAll('svg.inline-svg {selector}')]"
            ".map(e => getComputedStyle(e))"
            ".map(c => c.fill == 'none' ? c.stroke : c.fill)"
        )
        assert colours
        for colour in set(colours):
            assert contrast(colour, page) >= least, (theme, selector, colour)


def test_the_search_finds_a_word(server, visit):
    visit.go(f"{server}/search.html?q=BatchNorm")
    found = visit.page.locator('#search-results a[href*="01_spatial_dropout.html"]')
    found.first.wait_for(timeout=20_000)


@pytest.mark.slow
def test_the_tables_of_chapter_5_show_what_is_asked_for(server, visit):
    """One row at first, all of them on request, those that fit after a choice."""
    page = visit.page
    visit.go(f"{server}/book/05_which_one.html")
    area = page.locator(".tag_decisions")
    rows, status = area.locator("tbody tr"), area.get_by_role("status")
    shown = area.locator("tbody tr:visible")
    every = rows.count()
    assert shown.count() == 1 < every
    assert f"one of {every} rows" in status.inner_text()
    button = area.get_by_role("button", name=f"Show all {every}")
    button.press("Enter")
    assert shown.count() == every and not button.is_visible()
    look = "e => getComputedStyle(e).display"
    assert rows.first.evaluate(look) == "table-row"
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert rows.first.evaluate(look) == "block", "a card"
    page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    assert page.evaluate("document.activeElement.tagName") == "SELECT"

    menu = area.locator("select").first
    menu.select_option(index=1)
    net = menu.input_value()
    fitting = rows.evaluate_all(
        "(rows, net) => rows.filter((r) =>"
        " [net, 'any'].includes(r.cells[0].textContent.trim())).length",
        net,
    )
    assert shown.count() == fitting < every
    assert status.inner_text() == f"{fitting} of {every} rows fit."

    page.reload(wait_until="load")
    page.emulate_media(media="print")
    assert shown.count() == every, "on paper nothing is hidden"
    assert visit.complaints == []


WALK = json.loads((ROOT / "book" / "figures" / "decide.json").read_text("utf-8"))


def ways() -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Every way through the tree of chapter 5, button by button, and its answer."""
    before: list[str] = []
    for question in WALK["questions"]:
        if "which" in question:
            for option in question["which"]["options"]:
                yield [*before, "Yes", option["say"]], option
        else:
            yield [*before, "Yes"], question["answer"]
        before.append("No")
    yield before, WALK["else"]["answer"]


def press_all(live: Locator, names: list[str]) -> None:
    for name in names:
        live.get_by_role("button", name=name, exact=True).press("Enter")


@pytest.mark.slow
def test_every_way_through_the_tree_of_chapter_5_ends_in_its_answer(server, visit):
    """By the keyboard; the answer is announced, and the table shows its rows."""
    page = visit.page
    visit.go(f"{server}/book/05_which_one.html")
    live = page.locator(".walk-live")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    menus = page.locator(".tag_decisions select")
    all_ways = list(ways())
    assert len(all_ways) == 20
    for names, answer in all_ways:
        press_all(live, names)
        heading = live.locator(".walk-answer .walk-ask")
        assert heading.inner_text() == answer["do"]
        assert heading.evaluate("e => e === document.activeElement")
        assert live.get_by_role("status").text_content().endswith(answer["do"])
        found = live.locator("dl strong").all_inner_texts()
        assert found == answer["rests"]
        assert [menu.input_value() for menu in menus.all()] == answer["rows"]
        shown = page.locator(".tag_decisions tbody tr:visible")
        assert shown.count()
        assert "No row fits" not in page.locator(".tag_decisions form").inner_text()
        assert live.locator(".walk-way button").count() == len(names) + 1
        live.get_by_role("button", name="Start again").press("Enter")
        assert page.evaluate("document.activeElement.textContent") == "Yes"
    assert visit.complaints == []


@pytest.mark.slow
def test_in_the_tree_of_chapter_5_one_can_go_back(server, visit):
    page = visit.page
    visit.go(f"{server}/book/05_which_one.html")
    live = page.locator(".walk-live")
    press_all(live, ["No", "No", "Yes"])
    short = WALK["questions"][1]["short"]
    live.get_by_role("button", name=f"{short} No").press("Enter")
    assert live.locator(".walk-ask").inner_text() == WALK["questions"][1]["ask"]
    assert live.locator(".walk-way button").count() == 2
    press_all(live, ["Yes"])
    live.get_by_role("button", name="See its rows").press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    for link in live.locator("a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


@pytest.mark.slow
def test_the_tree_of_chapter_5_on_a_phone_on_paper_and_without_a_script(
    browser, server
):
    """Buttons for a finger; the drawing where nothing runs, and on paper."""
    address = f"{server}/book/05_which_one.html"
    context = browser.new_context(viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(address, wait_until="load")
    live, drawn = page.locator(".walk-live"), page.locator("figure.walk svg")
    wide = "document.documentElement.scrollWidth - innerWidth"
    for names, _ in ways():
        press_all(live, names)
        boxes = [one.bounding_box() for one in live.locator("button").all()]
        assert min(box["height"] for box in boxes) >= 43.9
        assert max(box["x"] + box["width"] for box in boxes) <= 360
        assert page.evaluate(wide) <= 0
        live.get_by_role("button", name="Start again").click()
    assert not drawn.is_visible()
    page.locator(".walk-tree summary").click()
    assert drawn.is_visible()
    letters = drawn.evaluate(
        "s => [...s.querySelectorAll('text')].map(t => t.getScreenCTM().a"
        " * parseFloat(getComputedStyle(t).fontSize))"
    )
    assert min(letters) >= 9
    out = drawn.evaluate(
        "s => { const boxes = [...s.querySelectorAll('path')].filter(p =>"
        " p.getAttribute('d').endsWith('z')).map(p => p.getBBox());"
        " return [...s.querySelectorAll('text')].map(t => t.getBBox()).filter(t =>"
        " !boxes.some(b => t.y < b.y || t.y > b.y + b.height ? false :"
        " t.x >= b.x + 8 && t.x + t.width <= b.x + b.width - 8)).length }"
    )
    # "yes" and "no" beside the arrows, and a heading, stand in no box.
    assert out == 2 * len(WALK["questions"]) + 1
    page.locator(".walk-tree summary").click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert drawn.is_visible() and not live.is_visible()
    context.close()

    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("figure.walk svg").is_visible()
    assert not page.locator(".walk-live").count()
    context.close()
