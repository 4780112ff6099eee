"""The interactive figures in their pages, as a reader uses them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import pytest
from pages import SOURCES, built
from playwright.sync_api import Browser, Locator
from test_browser import contrast
from window import Visit

pytestmark = pytest.mark.slow

FENCE = re.compile(r"\{explore\} (\w+)\b.*?(?:name|figure): (fig-[\w-]+)", flags=re.S)
PLACES = [
    (page, name, figure)
    for page, path in SOURCES.items()
    for name, figure in FENCE.findall(path.read_text(encoding="utf-8"))
]
every_place = pytest.mark.parametrize(
    ("page", "name", "figure"), PLACES, ids=[figure for _, _, figure in PLACES]
)
PAGES = {page: [f for p, _, f in PLACES if p == page] for page, *_ in PLACES}
every_page = pytest.mark.parametrize(("page", "figures"), PAGES.items(), ids=PAGES)
PICTURE = "> img, > svg, > .inline-svg"


@contextmanager
def window(browser: Browser, width: int = 1440, **more: Any) -> Iterator[Visit]:
    """A window of its own."""
    viewport = {"width": width, "height": 900}
    context = browser.new_context(viewport=viewport, **more)
    yield Visit(context.new_page())
    context.close()


def go(visit: Visit, url: str) -> None:
    """Load a page, open what is folded, and wait until its figures have come near."""
    visit.page.goto(url, wait_until="load")
    visit.page.evaluate(
        "document.querySelectorAll('.predict-result').forEach(d => { d.open = true })"
    )
    for place in visit.page.locator("[data-explore]").all():
        name = place.get_attribute("data-figure")
        figure = visit.page.locator(f"#{name}") if name else place.locator("> figure")
        figure.scroll_into_view_if_needed()
        figure.locator(".explore-live").wait_for()


@pytest.fixture
def visit(browser) -> Iterator[Visit]:
    """A window as wide as at a desk, of a reader who does not want motion."""
    with window(browser, reduced_motion="reduce") as visit:
        yield visit


def figure_of(visit: Visit, name: str) -> Locator:
    figure = visit.page.locator(f"figure#{name}")
    figure.scroll_into_view_if_needed()
    return figure


def shown(figure: Locator) -> str:
    """All that a figure shows: its words, and its drawings; not what it announces."""
    return figure.locator(".explore-body").evaluate(
        "e => [...e.children].filter(c => c.role != 'status' &&"
        " !/explore-(tries|task)/.test(c.className)).map(c => c.innerText)"
        ".join() + [...e.querySelectorAll('svg *')].map(s =>"
        " ['d', 'fill-opacity', 'transform', 'class', 'x', 'y', 'width', 'height']"
        ".map(a => s.getAttribute(a)).join()).join()"
    )


def changes(visit: Visit, figure: Locator, before: str) -> bool:
    """Whether the figure shows something else, at the latest after three seconds."""
    for _ in range(30):
        if shown(figure) != before:
            return True
        visit.page.wait_for_timeout(100)
    return False


def test_there_are_interactive_figures():
    assert ("book/intro", "mask", "fig-one-idea") in PLACES
    assert len({page for page, *_ in PLACES}) >= 3


@every_page
def test_it_takes_the_place_of_its_picture(browser, server, page, figures):
    """On a phone, and when the window grows."""
    with window(browser, 360, reduced_motion="reduce") as visit:
        go(visit, f"{server}/{page}.html")
        for width in (360, 768, 1440):
            visit.page.set_viewport_size({"width": width, "height": 900})
            visit.page.wait_for_timeout(100)  # what follows the width draws itself anew
            wide = "document.documentElement.scrollWidth - innerWidth"
            assert visit.page.evaluate(wide) <= 0
            for figure in figures:
                fits(visit, figure)
        assert visit.complaints == []
        assert all(url.startswith((server, "data:")) for url in visit.requests)


def fits(visit: Visit, figure: str) -> None:
    """The figure is there; nothing sticks out of it or is too small."""
    place = figure_of(visit, figure)
    assert place.locator(".explore-live").is_visible()
    assert not place.locator(PICTURE).first.is_visible()
    sticking_out = place.evaluate(
        "f => { const live = f.querySelector('.explore-live');"
        "const r = live.getBoundingClientRect().right + 1;"
        "return [...f.querySelectorAll('*')].filter(e => e.checkVisibility()"
        " && !e.closest('.explore-unseen')"
        " && e.getBoundingClientRect().right > r).map(e => e.outerHTML) }"
    )
    assert sticking_out == []
    left, right = place.locator(".explore-live").evaluate(
        "e => { const [b, a] = [e, e.closest('.bd-article')].map("
        "x => x.getBoundingClientRect()); return [b.left - a.left, a.right - b.right] }"
    )
    assert left >= 0 and right >= 0, "it stays on the page"
    small = place.evaluate(
        "f => [...f.querySelectorAll('button, input, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).map(e => [e.outerHTML,"
        " e.getBoundingClientRect()]).filter(([, b]) => b.height < 24"
        " || b.width < 24).map(([h]) => h)"
    )
    assert small == []
    letters = place.evaluate(
        "f => [...f.querySelectorAll('.explore-live svg text')].filter(t =>"
        " t.checkVisibility()).map(t => t.getScreenCTM().a *"
        " parseFloat(getComputedStyle(t).fontSize)).concat(99)"
    )
    # Words that stand upright in the picture are scaled in the other direction.
    assert min(x for x in letters if x > 0.5) >= 8.5


@every_page
def test_where_no_script_runs_the_picture_stands(browser, server, page, figures):
    with window(browser, java_script_enabled=False) as visit:
        visit.page.goto(f"{server}/{page}.html")
        for figure in figures:
            place = visit.page.locator(f"figure#{figure}")
            for summary in place.locator("xpath=ancestor::details/summary").all():
                summary.click()
            assert place.locator(PICTURE).first.is_visible()
            assert not place.locator(".explore-live").count()


@every_page
def test_on_paper_the_picture_stands(visit, server, page, figures):
    go(visit, f"{server}/{page}.html")
    visit.page.emulate_media(media="print")
    for figure in figures:
        place = visit.page.locator(f"figure#{figure}")
        assert place.locator(PICTURE).first.is_visible()
        assert not place.locator(".explore-live").is_visible()


@every_page
def test_it_works_without_a_server(visit, site, page, figures):
    go(visit, built(site, page).as_uri())
    for figure in figures:
        assert figure_of(visit, figure).locator(".explore-live").is_visible()
        assert visit.complaints == []
        assert [url for url in visit.requests if url.startswith("http")] == []


@every_place
def test_the_keyboard_does_everything(visit, server, page, name, figure):
    """Every input can be reached by Tab, and each changes what is shown."""
    go(visit, f"{server}/{page}.html")
    place = figure_of(visit, figure)
    inputs = place.locator(
        ".explore-body :is(button, input[type=range], input:checked, [tabindex='0'])"
    )
    for text in [*place.locator(".explore-tries button").all_inner_texts()]:
        before = shown(place)
        place.get_by_role("button", name=text, exact=True).focus()
        visit.page.keyboard.press("Enter")
        assert changes(visit, place, before), text
    tried = 0
    for i in range(inputs.count()):
        one = inputs.nth(i)
        place.get_by_role("button", name="Reset").focus()
        visit.page.keyboard.press("Enter")
        if (
            not one.is_visible()
            or one.locator("xpath=ancestor::*[@class='explore-tries']").count()
        ):
            continue
        one.focus()
        assert one.evaluate("e => e === document.activeElement")
        focused = one.evaluate(
            "e => [e, e.nextElementSibling].filter(Boolean).some(x =>"
            " getComputedStyle(x).outlineStyle != 'none')"
        )
        assert focused, "the focus has to be seen"
        kind = one.get_attribute("type") or ""
        before = shown(place)
        keys = ("ArrowRight", "ArrowLeft") if kind in ("range", "radio") else ("Enter",)
        changed = False
        for key in keys:
            visit.page.keyboard.press(key)
            changed = changed or shown(place) != before
        assert changed or changes(visit, place, before), one.evaluate(
            "e => e.outerHTML"
        )
        tried += 1
    assert tried >= 2
    assert visit.complaints == []


@every_place
def test_the_address_brings_the_state_back(visit, server, page, name, figure):
    go(visit, f"{server}/{page}.html")
    place = figure_of(visit, figure)
    place.locator(".explore-tries button").last.click()
    visit.page.wait_for_timeout(400)
    address, state = visit.page.url, shown(place)
    assert f"#{figure}?" in address
    visit.page.reload()
    assert shown(place) == state
    visit.page.goto("about:blank")
    visit.page.goto(address)
    assert shown(place) == state
    assert place.evaluate("f => f.getBoundingClientRect().top < innerHeight")
    visit.page.locator("article a.headerlink").last.evaluate("a => a.click()")
    visit.page.wait_for_timeout(400)
    assert f";{figure}?" in visit.page.url  # anchor and state, side by side
    assert shown(place) == state
    visit.page.go_back()
    assert shown(place) == state
    place.get_by_role("button", name="Reset").click()
    visit.page.wait_for_timeout(400)
    assert shown(place) != state and "?" not in visit.page.url
    assert visit.complaints == []


@every_place
def test_a_wrong_address_changes_nothing(visit, server, page, name, figure):
    go(visit, f"{server}/{page}.html")
    state = shown(figure_of(visit, figure))
    go(visit, "about:blank")
    go(visit, f"{server}/{page}.html#{figure}?p=7&k=-1&method=x&draws=1e9&open=<b>")
    assert shown(figure_of(visit, figure)) == state
    assert visit.complaints == []


@every_page
def test_a_finger_does_it_too(browser, server, page, figures):
    with window(browser, 390, has_touch=True, is_mobile=True) as visit:
        go(visit, f"{server}/{page}.html")
        for figure in figures:
            place = figure_of(visit, figure)
            heights = place.evaluate(
                "f => [...f.querySelectorAll('button, input[type=range],"
                " .explore-choice span')].filter(e => e.checkVisibility())"
                ".map(e => e.getBoundingClientRect().height)"
            )
            assert heights and min(heights) >= 43.9
            before = shown(place)
            place.locator(".explore-tries > summary").tap()  # a phone folds them
            place.locator(".explore-tries button").first.tap()
            assert changes(visit, place, before)
            # Then it is out of the way: the question stands at what changes.
            assert not place.locator(".explore-tries button").first.is_visible()
            assert place.locator(".explore-task").is_visible()
            focused = visit.page.evaluate("document.activeElement.textContent")
            assert focused == "Try"
            assert visit.complaints == []


def test_a_thumb_that_scrolls_moves_no_slider(browser, server):
    """The browser takes a swipe over; what it did to the slider is undone."""
    with window(browser, 390, has_touch=True, is_mobile=True) as visit:
        go(visit, f"{server}/book/intro.html")
        field = figure_of(visit, "fig-one-idea").locator("input[type=range]").first
        visit.page.wait_for_timeout(300)
        before, box = field.input_value(), field.bounding_box()
        start = visit.page.evaluate("scrollY")
        hand = visit.page.context.new_cdp_session(visit.page)
        x, y = box["x"] + 0.85 * box["width"], box["y"] + box["height"] / 2

        def touch(kind: str, *points: dict[str, float]) -> None:
            hand.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [*points]}
            )

        touch("touchStart", {"x": x, "y": y})
        for step in range(1, 16):
            touch("touchMove", {"x": x + step / 4, "y": y - 16 * step})
            visit.page.wait_for_timeout(16)
        touch("touchEnd")
        visit.page.wait_for_timeout(400)
        assert visit.page.evaluate("scrollY") > start + 50
        assert field.input_value() == before
        field.scroll_into_view_if_needed()
        box = field.bounding_box()
        visit.page.touchscreen.tap(
            box["x"] + 0.85 * box["width"], box["y"] + box["height"] / 2
        )
        assert field.input_value() != before, "a tap does"


@pytest.mark.parametrize("width", [390, 1440])
def test_blocks_that_hang_over_end_at_the_map(browser, server, width):
    with window(browser, width, reduced_motion="reduce") as visit:
        go(visit, f"{server}/book/04_drop_block.html")
        name = next(figure for _, module, figure in PLACES if module == "seeds")
        board = figure_of(visit, name).locator(".explore-board")
        assert board.evaluate("e => getComputedStyle(e).overflow") == "hidden"


def test_what_is_moved_stands_near_what_it_changes(browser, server):
    """On a phone the rates and the rows fit on one screen."""
    with window(browser, 390, reduced_motion="reduce") as visit:
        go(visit, f"{server}/book/03_drop_path.html")
        name = next(figure for _, module, figure in PLACES if module == "depth")
        place = figure_of(visit, name)
        field = place.locator("input[type=range]").bounding_box()
        rows = place.locator(".explore-columns svg").first.bounding_box()
        assert field["y"] < rows["y"] and rows["y"] - field["y"] < 500


def test_a_pair_that_cancels_is_marked(visit, server):
    """Two contrasts in two maps: half of the pairs within a map are negative."""
    go(visit, f"{server}/book/02e_implicit_ensembles_noise_details.html")
    place = figure_of(visit, "fig-three-sums")
    marks = place.locator(".explore-places .explore-asked")
    assert not marks.get_attribute("d")
    place.locator(".explore-tries button").first.click()
    place.locator("label", has_text="a map").click()
    assert marks.get_attribute("d").count("M") == 16
    assert "noise, over all pairs: 0.000" in place.inner_text()


@every_place
def test_results_are_announced(visit, server, page, name, figure):
    go(visit, f"{server}/{page}.html")
    place = figure_of(visit, figure)
    status = place.locator(".explore-body [role=status]")
    place.locator(".explore-tries button").first.click()
    visit.page.wait_for_timeout(900)
    first = status.inner_text()
    assert re.search(r"\d", first)
    place.locator(".explore-tries button").last.click()
    visit.page.wait_for_timeout(900)
    assert status.inner_text() != first


@every_page
def test_words_can_be_read(browser, server, page, figures):
    with window(browser, color_scheme="light") as visit:
        go(visit, f"{server}/{page}.html")
        for scheme in ("light", "dark"):
            theme = f"document.documentElement.dataset.theme = '{scheme}'"
            visit.page.evaluate(theme)
            visit.page.wait_for_timeout(400)  # colours that fade
            for figure in figures:
                colours = figure_of(visit, figure).evaluate(
                    "f => [...f.querySelectorAll('.explore-live *')].filter(e =>"
                    " e.checkVisibility() && [...e.childNodes].some(n =>"
                    " n.nodeType == 3 && n.data.trim())).map(e => {"
                    " const style = getComputedStyle; let g = e;"
                    " while (/rgba\\(0, 0, 0, 0\\)/.test(style(g).backgroundColor))"
                    " g = g.parentElement; const c = style(e);"
                    " return [e.namespaceURI.endsWith('svg') ? c.fill : c.color,"
                    " style(g).backgroundColor, e.textContent] })"
                )
                assert len(colours) > 10
                for text, ground, words in colours:
                    good = contrast(text, ground) >= 4.5
                    assert good, (scheme, words, text, ground)


@pytest.mark.parametrize("width", [390, 1440])
def test_a_try_keeps_its_question_in_sight(browser, server, width):
    """Above the figure, below the page's header, also when one scrolls on."""
    with window(browser, width, reduced_motion="reduce") as visit:
        go(visit, f"{server}/book/intro.html")
        place = figure_of(visit, "fig-one-idea")
        task = place.locator(".explore-task")
        assert not task.is_visible()
        if width == 390:  # what to try is folded there
            place.locator(".explore-tries summary, .tries > summary").first.click()
        row = place.locator(".explore-tries li").last
        question = row.locator("span").inner_text()
        row.locator("button").click()
        assert question in task.inner_text() and re.search(r"\d", task.inner_text())
        for down in (0, 300):
            visit.page.mouse.wheel(0, down)
            visit.page.wait_for_timeout(300)
            box = task.bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= 900
            point = [box["x"] + 20, box["y"] + 12]
            assert visit.page.evaluate(
                "p => !!document.elementFromPoint(...p).closest('.explore-task')",
                point,
            ), "nothing covers it"


def test_a_phone_shows_three_numbers_and_the_rest_on_request(browser, server):
    with window(browser, 390, reduced_motion="reduce") as visit:
        go(visit, f"{server}/book/intro.html")
        numbers = figure_of(visit, "fig-one-idea").locator(".explore-numbers")
        rows = numbers.locator("dl > div")
        seen = numbers.locator("dl > div:visible")
        assert seen.count() == 3 < rows.count()
        numbers.get_by_role("button", name="All numbers").click()
        assert seen.count() == rows.count()
        visit.page.set_viewport_size({"width": 1440, "height": 900})
        assert seen.count() == rows.count()
        assert not numbers.get_by_role("button").is_visible()


def test_the_frame_of_a_slider_leaves_its_label_alone(visit, server):
    go(visit, f"{server}/book/intro.html")
    place = figure_of(visit, "fig-one-idea")
    field = place.locator(".explore-slider input").first
    field.focus()
    visit.page.keyboard.press("ArrowRight")
    gap = field.evaluate(
        "e => { const s = getComputedStyle(e); const r = document.createRange();"
        " r.selectNodeContents(e.previousElementSibling);"
        " return e.getBoundingClientRect().top - parseFloat(s.outlineWidth)"
        " - parseFloat(s.outlineOffset) - r.getBoundingClientRect().bottom }"
    )
    assert gap >= -1.5, gap


def test_copied_links_lead_to_what_is_seen(browser, server):
    with window(browser, permissions=["clipboard-read", "clipboard-write"]) as visit:
        go(visit, f"{server}/book/intro.html")
        place = figure_of(visit, "fig-one-idea")
        place.locator(".explore-tries button").last.click()
        place.get_by_role("button", name="Copy link").click()
        place.get_by_role("button", name="Copied").wait_for()
        link = visit.page.evaluate("navigator.clipboard.readText()")
        state = shown(place)
        visit.page.goto("about:blank")
        visit.page.goto(link)
        assert shown(figure_of(visit, "fig-one-idea")) == state


def test_a_hundred_draws_come_at_once_or_one_after_another(browser, server):
    for motion in ("reduce", "no-preference"):
        with window(browser, reduced_motion=motion) as visit:
            go(visit, f"{server}/book/intro.html")
            place = figure_of(visit, "fig-one-idea")
            place.get_by_role("button", name="100 more draws").click()
            if motion == "reduce":
                assert "mean of 200 draws" in place.inner_text()
            place.get_by_text("mean of 200 draws").wait_for()


def test_another_setting_begins_with_a_hundred_draws(visit, server):
    """Draws of two laws have no common mean; and DropPath shows its skip."""
    go(visit, f"{server}/book/intro.html")
    place = figure_of(visit, "fig-one-idea")
    skips = place.locator(".explore-maps > .explore-frame")
    place.get_by_role("button", name="100 more draws").click()
    assert "of 200" in place.inner_text()  # the highest bar says how many
    assert not skips.is_visible()
    place.locator("input[value=path]").focus()
    visit.page.keyboard.press("Space")
    assert "mean of 100 draws" in place.inner_text()
    skips.wait_for()  # the maps are painted with the next frame
    assert "skip" in place.locator(".explore-key").inner_text()
    place.locator("input[type=range]").first.focus()
    visit.page.keyboard.press("ArrowRight")
    assert "mean of 100 draws" in place.inner_text()


def test_a_module_is_fetched_when_its_figure_comes_near(browser, server):
    page = max({p for p, *_ in PLACES}, key=[p for p, *_ in PLACES].count)
    names = [name for other, name, _ in PLACES if other == page]
    assert len(set(names)) > 1

    def fetched(visit: Visit) -> set[str]:
        paths = [urlparse(url).path for url in visit.requests if "/explore/" in url]
        return {path.rsplit("/", 1)[1].removesuffix(".js") for path in paths}

    with window(browser) as visit:
        visit.go(f"{server}/{page}.html")
        assert names[-1] not in fetched(visit) and "explore" in fetched(visit)
        go(visit, f"{server}/{page}.html")
        assert set(names) <= fetched(visit)
        assert visit.complaints == []


def test_pages_without_interactive_figures_load_nothing_for_them(visit, server):
    without = next(page for page in SOURCES if page not in {p for p, *_ in PLACES})
    go(visit, f"{server}/{without}.html")
    assert visit.requests
    assert [url for url in visit.requests if "explore" in url] == []
