"""How a reader finds the way: sidebar, the way on, the search, the header, the grid."""

import re
from urllib.parse import urldefrag

import pytest
import yaml
from pages import BOOK, PAGES, built, every_page, soup
from playwright.sync_api import expect
from window import DESK, PHONE

pytestmark = pytest.mark.slow
ANSWERS = yaml.safe_load((BOOK / "search_answers.yml").read_text(encoding="utf-8"))
CHAPTERS = [page for page in PAGES if re.match(r"book/\d\d_", page)]
DEEPER = [page for page in PAGES if re.match(r"book/\d\d[b-z]_", page)]
TASKS = [page for page in PAGES if page.startswith("book/exercises/")]


def number(page: str) -> str:
    return re.search(r"/(\d\d)", page)[1]


# --- the sidebar ----------------------------------------------------------------------


def test_chapters_are_numbered_and_nothing_below_them(site):
    """Exercises and quiz stand below a chapter, then "Optional" and deeper pages."""
    html = soup(built(site, PAGES[0]))
    (course,) = [
        part.find_next_sibling("ul")
        for part in html.select(".bd-links p.caption")
        if part.get_text(strip=True) == "Course"
    ]
    rows = course.find_all("li", recursive=False)
    assert len(rows) == len(CHAPTERS)
    for k, (row, page) in enumerate(zip(rows, CHAPTERS, strict=True), 1):
        first, *others = row.select("a")
        assert first.get_text().startswith(f"{k}. ")
        title = soup(built(site, page)).h1.get_text().removesuffix("#")
        assert title.startswith(f"{k}. ")
        own = [p for p in [*DEEPER, *TASKS] if number(p) == number(page)]
        found = {(built(site, PAGES[0]).parent / a["href"]).resolve() for a in others}
        assert found == {built(site, p).resolve() for p in own}
        for link in others:
            assert not re.match(r"\d", link.get_text()), link
            marked = link.parent.find_previous_sibling("li", class_="optional")
            assert bool(marked) == bool(re.search(r"/?\d\d[b-z]_", link["href"]))
        assert len(row.select("li.optional")) == 1
        assert [a.get_text(strip=True) for a in others[:2]] == ["Exercises", "Quiz"]


@pytest.mark.parametrize("page", [PAGES[0], "book/teach/guide", "book/reference/api"])
def test_teach_and_reference_are_folded_unless_one_is_there(site, page):
    parts = soup(built(site, page)).select(".bd-links details.part")
    state = {p.summary.get_text(strip=True): p.has_attr("open") for p in parts}
    here = page.split("/")[1].capitalize()
    assert state == {name: name == here for name in ("Teach", "Reference")}


@every_page
def test_the_sidebar_says_where_one_is(site, page):
    html = soup(built(site, page))
    (here,) = html.select('.bd-links a[aria-current="page"]')
    for fold in here.find_parents("details"):
        assert fold.has_attr("open")


# --- the way on -----------------------------------------------------------------------


def way_on(site, page: str) -> dict[str, list[str]]:
    """The links of the bar, by what stands above them."""
    path = built(site, page)
    bar = soup(path).select_one(".way-on")
    places = {
        link.span.get_text(): [link["href"]] for link in bar.select(".way-on-main a")
    }
    for part in bar.select("h3"):
        links = part.find_next_sibling("ul").select("a")
        places[part.get_text()] = [link["href"] for link in links]
    root = site.resolve()
    return {
        what: [
            (path.parent / link).resolve().relative_to(root).with_suffix("").as_posix()
            for link in links
        ]
        for what, links in places.items()
    }


def test_next_is_the_main_path(site):
    """From the first page to the last exercises, and the same way back."""
    page, passed = PAGES[0], [PAGES[0]]
    while page != "book/reference/api":
        way = way_on(site, page)
        (following,) = way["Next"]
        if "Previous" in way:
            assert way["Previous"] == [passed[-2]]
        passed.append(following)
        page = following
    exercises = [p for p in TASKS if p.endswith("_exercises")]
    pairs = [p for pair in zip(CHAPTERS, exercises, strict=True) for p in pair]
    assert passed == [PAGES[0], *pairs, "book/reference/api"]


@pytest.mark.parametrize("page", [*CHAPTERS, *DEEPER, *TASKS])
def test_what_is_optional_stands_apart(site, page):
    way = way_on(site, page)
    deeper = [p for p in DEEPER if number(p) == number(page) and p != page]
    assert way.get("Go deeper (optional)", []) == deeper
    tasks = [p for p in TASKS if number(p) == number(page) and p != page]
    assert way.get("Practise", []) == [p for p in tasks if p not in way["Next"]]
    assert len(way["Previous"]) == 1
    if page in DEEPER:
        assert number(way["Previous"][0]) == number(page)


# --- the search -----------------------------------------------------------------------


def test_every_answer_leads_somewhere(site):
    """Its page is there, and the place on it; no question is put twice."""
    for one in ANSWERS:
        assert set(one) <= {"ask", "to", "title", "say"}
        page, anchor = urldefrag(one["to"])
        html = soup(built(site, f"book/{page}"))
        assert not anchor or html.find(id=anchor), one["to"]
        assert one["say"].endswith(".") and len(one["say"]) < 140, one["say"]
    asked = [ask for one in ANSWERS for ask in one["ask"]]
    assert len(asked) == len(set(asked)) > 100


def search(visit, server, query: str) -> list[str]:
    """Search, and give the addresses of the results in order."""
    visit.go(f"{server}/search.html?q={query.replace(' ', '+')}")
    finished = "/result|did not/.test(document.querySelector('.search-summary')"
    visit.page.wait_for_function(f"{finished}?.innerText)", timeout=30_000)
    return visit.page.eval_on_selector_all(
        "#search-results ul.search > li > a:first-child",
        "all => all.map(a => a.getAttribute('href'))",
    )


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("which dropout should I use", "05_which_one"),
        ("Which dropout is best?", "05_which_one"),
        ("stochastic depth", "03_drop_path"),
        ("gamma", "04_drop_block"),
        ("drop_path_rate", "03_drop_path"),
        ("nn.Dropout2d", "01_spatial_dropout"),
        ("where do I put it", "01_spatial_dropout"),
        ("where does the mask stand, before or after activation", "05_which_one"),
        ("why is my validation loss lower than training loss", "01_spatial_dropout"),
        ("droppath vs dropout", "03_drop_path"),
        ("block size", "04_drop_block"),
        ("how much dropout", "05b_card"),
        ("dropout before or after batchnorm", "05_which_one"),
        ("how to resume training", "06_in_practice"),
        ("torch.compile", "06b_export_time_doubt"),
        ("pip install", "setup"),
    ],
)
def test_the_search_has_an_answer(server, visit, query, page):
    search(visit, server, query)
    best = visit.page.locator(".search-best h2").first
    assert best.is_visible() and best.inner_text().startswith("Best answer: ")
    link = best.locator("a").get_attribute("href")
    assert urldefrag(link).url == f"book/{page}.html"
    assert visit.page.locator(".search-best p").first.inner_text().endswith(".")
    assert visit.complaints == []


def test_what_holds_the_phrase_comes_first(server, visit):
    """Chapters before the pages for teachers; of the glossary the entry, once."""
    found = search(visit, server, "stochastic depth")
    assert found[0] == "book/reference/glossary.html#term-stochastic-depth"
    assert found[1].startswith("book/03_drop_path.html")
    assert len(found) == len(set(found))
    first = visit.page.locator("#search-results ul.search > li").first
    first.locator(".context").wait_for()
    assert first.locator(".context").inner_text().startswith("Skipping whole")
    excerpt = visit.page.locator("#search-results ul.search > li").nth(1)
    assert "stochastic depth" in excerpt.locator(".context").inner_text().lower()
    for query in ("BatchNorm", "calibration"):
        found = search(visit, server, query)
        assert re.match(r"book/(\d\d|reference/glossary)", found[0]), (query, found[:3])
        teach = [k for k, link in enumerate(found) if "/teach/" in link]
        assert all(k > 2 for k in teach), (query, found[:4])
    assert search(visit, server, "qqqq") == []
    assert not visit.page.locator(".search-best").count()
    assert visit.complaints == []


def test_titles_lead_to_a_place_and_excerpts_are_text(server, visit):
    """To the section that is quoted; no data of a drawing; 2^9 is not 29."""
    search(visit, server, "where do I put it")
    best = visit.page.locator(".search-best h2 a").first
    assert best.get_attribute("href").endswith("#choose-the-place")
    search(visit, server, "what drop rate for a ViT")
    first = visit.page.locator("#search-results ul.search > li").first
    first.locator(".context a").first.wait_for()
    excerpts = visit.page.locator("#search-results .context").all_inner_texts()
    assert len(excerpts) > 5 and not any('{"' in text for text in excerpts)
    links = visit.page.eval_on_selector_all(
        "#search-results li:has(.context > a) > a:first-child",
        "all => all.map(a => a.getAttribute('href'))",
    )
    assert len(links) > 3 and all("#" in link for link in links)
    search(visit, server, "all nets inside a net")
    visit.page.locator("#search-results .context").first.wait_for()
    visit.page.wait_for_timeout(500)
    text = " ".join(visit.page.locator("#search-results .context").all_inner_texts())
    assert "29 = 512" not in text.replace("=", " = ").replace("  ", " ")


def typing(browser, address, size):
    """The first page, with the dialog of the search open."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(f"{address}/book/01_spatial_dropout.html", wait_until="load")
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.locator(".search-button__button:visible").first.click()
    return page, said


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_search_suggests_while_one_types(server, browser, size):
    """An answer first, arrow keys, Enter; Escape shuts; nothing reaches out."""
    page, said = typing(browser, server, size)
    field, options = page.locator("dialog input[name=q]"), page.get_by_role("option")
    page.keyboard.type("stochastic dep")
    options.first.wait_for(timeout=20_000)
    assert "DropPath" in options.first.inner_text()
    assert options.last.inner_text() == "All results for “stochastic dep”"
    for one in options.all():
        box = one.bounding_box()
        assert box["height"] >= 44 and box["x"] + box["width"] <= size[0]
    assert field.get_attribute("aria-expanded") == "true"

    page.keyboard.press("ArrowUp")
    assert options.last.get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowDown")
    assert field.get_attribute("aria-activedescendant") is None
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    assert not page.locator("#pst-search-dialog").is_visible()
    assert options.count() == 0

    page.locator(".search-button__button:visible").first.click()
    page.keyboard.type("stochastic dep")  # Chromium has emptied the field
    options.first.wait_for()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    chosen = page.locator("[role=option][aria-selected=true]")
    assert chosen.get_attribute("id") == field.get_attribute("aria-activedescendant")
    target = chosen.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(target)
    assert said == []
    page.close()


@pytest.mark.parametrize("opened", ["served", "as a file"])
def test_what_answers_a_question_is_suggested_first(site, server, visit, opened):
    """With what the search page says of it."""
    folder = server if opened == "served" else site.as_uri()
    visit.go(f"{folder}/book/01_spatial_dropout.html")
    visit.page.locator(".search-button__button:visible").first.click()
    visit.page.keyboard.type("when should I not use dropout?")
    first = visit.page.get_by_role("option").first
    first.locator("small").wait_for(timeout=20_000)
    visit.page.wait_for_timeout(500)
    said = first.locator("small").inner_text()
    (answer,) = (one for one in ANSWERS if one["say"] == said)
    assert answer["to"].startswith("05_which_one")
    assert visit.complaints == []


def test_the_site_leads_to_its_first_page(server, visit):
    """With an icon, for which a browser would else ask in vain."""
    visit.go(f"{server}/")
    visit.page.wait_for_url("**/book/intro.html")
    assert visit.complaints == []


def test_what_is_not_there_is_not_suggested(server, browser):
    page, said = typing(browser, server, DESK)
    status = page.locator("dialog .search-typed-status")
    page.keyboard.type("x")
    expect(status).to_contain_text("two letters", timeout=20_000)
    page.keyboard.type("ylophone")
    expect(status).to_contain_text("No page", timeout=20_000)
    assert page.get_by_role("option").count() == 0
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=xylophone")
    assert said == []
    page.close()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("spatail dropuot", "spatial dropout"),
        ("dropblok", "dropblock"),
        ("spacial dropout", "spatial dropout"),
    ],
)
def test_a_misspelt_word_is_read_as_the_nearest(server, browser, typed, meant):
    """While one types, and on the page of the search."""
    page, said = typing(browser, server, DESK)
    page.keyboard.type(typed)
    options = page.get_by_role("option")
    options.first.wait_for(timeout=20_000)
    assert meant in options.first.inner_text().lower().replace("spatiald", "spatial d")
    assert f"All results for “{meant}”" in options.last.inner_text()
    assert f"nothing has “{typed}”" in options.last.inner_text()
    shown = options.all_inner_texts()
    assert len(set(shown)) == len(shown)
    assert not {text for text in shown if any(o.startswith(f"{text}\n") for o in shown)}
    page.goto(f"{server}/search.html?q={typed}")
    page.locator("#search-results ul.search > li").first.wait_for(timeout=20_000)
    results = page.locator("#search-results")
    expect(results).to_contain_text(f"These results are for “{meant}”.")
    expect(results).to_contain_text("Best answer: ")
    page.goto(f"{server}/search.html?q={meant}")
    page.locator("#search-results ul.search > li").first.wait_for(timeout=20_000)
    expect(results).not_to_contain_text("These results are for")
    assert said == []
    page.close()


@pytest.mark.parametrize("query", ["BatchNorm", "ONNX"])
def test_results_are_counted_in_words(server, visit, query):
    visit.go(f"{server}/search.html?q={query}")
    visit.page.wait_for_function(
        "/result/.test(document.querySelector('.search-summary')?.innerText)"
    )
    said = visit.page.locator(".search-summary").inner_text()
    found = visit.page.locator("#search-results ul.search > li").count()
    assert said == (f"{found} results" if found > 1 else "One result")


def test_whole_words_are_marked(server, visit):
    """In what is quoted: neither a part of a word, nor a small word."""
    search(visit, server, "where to put the mask in a block")
    visit.page.locator("#search-results .context .highlighted").first.wait_for()
    visit.page.wait_for_timeout(500)
    whole = (
        "[...document.querySelectorAll('span.highlighted')].map(e => [e.textContent,"
        " e.previousSibling?.textContent.slice(-1), e.nextSibling?.textContent[0]])"
    )
    found = visit.page.evaluate(whole)
    assert len(found) > 10
    for word, before, after in found:
        assert word.lower() in ("mask", "block"), word
        assert not (before or " ").isalnum(), (before, word)
        assert not (after or " ").isalnum() or after in "es", (word, after)
    assert visit.complaints == []


# --- the header, the glossary ---------------------------------------------------------


def on_a_phone(browser, address):
    """A page under a finger, whose context the caller closes."""
    width, height = PHONE
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(address, wait_until="load")
    return page


def test_the_header_of_a_phone_says_where_one_is(server, browser):
    """Few buttons, large enough; one menu with the rest; no tooltip that stays."""
    page = on_a_phone(browser, f"{server}/book/03_drop_path.html")
    header = page.locator(".bd-header-article")
    name = header.locator(".page-name")
    assert name.inner_text().startswith("3. DropPath")
    boxes = [b.bounding_box() for b in header.locator("button:visible").all()]
    assert len(boxes) == 4
    assert min(min(b["width"], b["height"]) for b in boxes) >= 44
    rows = [b["y"] + b["height"] / 2 for b in [*boxes, name.bounding_box()]]
    assert max(rows) - min(rows) < 4, "one row"
    header.locator(".page-menu > button").tap()
    items = header.locator(".page-menu .dropdown-item:visible")
    text = " ".join(items.all_inner_texts())
    for word in ("Colab", "Binder", "notebook", "Print", "PDF", "Source", "Colours: "):
        assert word in text, word
    assert min(item.bounding_box()["height"] for item in items.all()) >= 44
    theme = "document.documentElement.dataset.theme"
    before, seen = page.evaluate(theme), set()
    for _ in range(2):
        items.last.tap()
        page.wait_for_timeout(200)
        seen.add(page.evaluate(theme))
        assert items.count() == 0, "it shuts at a press"
        header.locator(".page-menu > button").tap()
        mode = page.evaluate("document.documentElement.dataset.mode")
        assert items.last.text_content() == f"Colours: {mode}"
    assert seen - {before}
    page.keyboard.press("Escape")
    header.locator(".secondary-toggle").tap()
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    assert not page.locator(".tooltip").count()
    page.context.close()


def test_the_contents_of_a_phone_say_where_one_is(server, browser):
    page = on_a_phone(browser, f"{server}/book/03_drop_path.html")
    links = page.locator("#pst-secondary-sidebar-modal .nav-link")
    marked = page.locator("#pst-secondary-sidebar-modal [aria-current]")
    for number in (0, 4):
        heading = page.locator("article section > h2").nth(number)
        heading.evaluate("heading => heading.scrollIntoView()")
        # Playwright's own click would first scroll the page.
        page.locator(".secondary-toggle:visible").evaluate("b => b.click()")
        marked.wait_for()
        assert marked.count() == 1 and links.nth(number).get_attribute("aria-current")
        assert "active" in marked.get_attribute("class")
        assert min(link.bounding_box()["height"] for link in links.all()) >= 43.9
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
    page.context.close()


@pytest.mark.parametrize(
    "page", ["book/01_spatial_dropout", "book/05_which_one", "book/intro"]
)
def test_the_contents_mark_what_one_reads(server, visit, page):
    """Down and up, after a jump, and where a page begins."""
    visit.go(f"{server}/{page}.html")
    links = visit.page.locator("#pst-page-toc-nav a")
    marked = visit.page.locator("#pst-page-toc-nav a.active")

    def now() -> str:
        visit.page.wait_for_timeout(150)
        assert marked.count() == 1
        assert marked.get_attribute("aria-current") == "true"
        return marked.get_attribute("href")

    places = [link.get_attribute("href") for link in links.all()]
    assert now() == places[0]
    for k in (1, 2, 3, 2, 1):
        to = f"document.getElementById('{places[k][1:]}')"
        visit.page.evaluate(f"{to}.scrollIntoView()")
        assert now() == places[k]
        visit.page.evaluate("scrollBy(0, 60)")
        assert now() == places[k]
        visit.page.evaluate("scrollBy(0, -160)")
        assert now() == places[k - 1]
    for k in (len(places) - 1, len(places) - 2):
        links.nth(k).click()
        assert now() == places[k]
    visit.page.evaluate("scrollTo(0, 0)")
    assert now() == places[0]
    assert visit.complaints == []


def test_a_tap_on_a_word_of_the_glossary_shows_its_entry(server, browser):
    """And leads on by a link; the chapter stays."""
    page = on_a_phone(browser, f"{server}/book/01_spatial_dropout.html")
    term, tip = page.locator("a.term").first, page.locator(".term-tip")
    before = page.url
    term.tap()
    tip.wait_for()
    assert page.url == before
    assert tip.locator("p").inner_text() == term.get_attribute("data-entry")
    box = tip.bounding_box()
    assert box["x"] == 0 and abs(box["y"] + box["height"] - PHONE[1]) < 2
    page.touchscreen.tap(200, 200)
    assert not tip.is_visible()
    term.tap()
    tip.get_by_role("link", name="Glossary").tap()
    page.wait_for_url("**/glossary.html#term-*")
    page.context.close()


def test_the_header_of_a_phone_names_the_section(server, browser):
    page = on_a_phone(browser, f"{server}/book/05_which_one.html")
    name, heading = page.locator(".page-name"), page.locator("article h2").nth(1)
    assert name.inner_text() == "5. Which one"
    heading.evaluate("h => h.scrollIntoView()")
    page.wait_for_timeout(300)
    assert name.inner_text() == heading.inner_text().rstrip("#").strip()
    page.goto(f"{server}/search.html")
    assert name.inner_text() == "Search"
    page.context.close()


def test_a_drawer_can_be_shut(server, browser):
    """By its button and by a link to a place of the page; it has no empty lines."""
    page = on_a_phone(browser, f"{server}/book/03_drop_path.html")
    for name in ("primary", "secondary"):
        drawer = page.locator(f"#pst-{name}-sidebar-modal")
        page.locator(f".{name}-toggle").tap()
        box = drawer.get_by_role("button", name="Close").bounding_box()
        assert min(box["width"], box["height"]) >= 44
        if name == "primary":
            for row in drawer.locator("li.toctree-l1.has-children").all():
                folded = not row.locator("> details[open]").count()
                if folded and row.locator("> a").is_visible():
                    link = row.locator("> a").bounding_box()
                    assert row.bounding_box()["height"] <= link["height"] + 4
                    fold = row.locator("> details > summary").bounding_box()
                    assert min(fold["width"], fold["height"]) >= 43.9
                    assert fold["x"] >= link["x"] + link["width"] - 1
        drawer.get_by_role("button", name="Close").tap()
        assert not drawer.is_visible()
    page.locator(".secondary-toggle").tap()
    drawer.locator('a[href^="#"]').nth(3).tap()
    assert not drawer.is_visible()
    page.wait_for_timeout(600)
    place = page.url.split("#")[1]
    assert abs(page.locator(f"#{place}").bounding_box()["y"]) < 200
    page.context.close()


def test_the_buttons_of_the_header_are_whole(server, visit):
    """At a desk, too, also further down."""
    for page in ("book/intro", "book/02_implicit_ensembles"):
        visit.go(f"{server}/{page}.html")
        for down in (0, 1500):
            visit.page.evaluate(f"scrollTo(0, {down})")
            for button in visit.page.locator(".bd-header-article button:visible").all():
                box = button.bounding_box()
                assert box["y"] >= 0 and box["y"] + box["height"] <= 60, box


def test_the_number_of_a_short_formula_stands_beside_it(server, visit):
    visit.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    beside = 0
    for page in ("book/01_spatial_dropout", "book/03_drop_path", "book/04_drop_block"):
        visit.go(f"{server}/{page}.html")
        for row in visit.page.evaluate(
            "[...document.querySelectorAll('div.math:has(.eqno)')].map(d => {"
            " const [m, n] = ['math', '.eqno'].map(s =>"
            " d.querySelector(s).getBoundingClientRect());"
            " return [d.clientWidth, m.width + n.width + 8, m.top + m.bottom"
            " - n.top - n.bottom, n.right - d.getBoundingClientRect().right] })"
        ):
            room, needed, apart, right = row
            if needed <= room:
                beside += 1
                assert abs(apart) < 8, row
            assert abs(right) < 3 or needed > room, row
    assert beside


def test_the_glossary_has_letters(site):
    html = soup(built(site, "book/reference/glossary"))
    (row,) = html.select(".letters")
    terms = html.select("dl.glossary dt")
    letters = [link.get_text() for link in row.select("a")]
    first = {term.get_text()[0].upper() for term in terms}
    assert letters == sorted(first)
    for link in row.select("a"):
        target = html.find(id=link["href"].removeprefix("#"))
        assert target.name == "h2" and target.get_text() == link.get_text()
        words = target.find_next_sibling("dl").select("dt")
        assert {word.get_text()[0].upper() for word in words} == {link.get_text()}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_letters_of_the_glossary_say_where_one_is(server, visit, size):
    """A word that a link leads to is not covered by them; the marked one is seen."""
    page = visit.page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    row, marked = page.locator("p.letters"), page.locator("p.letters a.active")
    for target, letter in (("letter-m", "M"), ("term-SpatialDropout", "S")):
        visit.go(f"{server}/book/reference/glossary.html#{target}")
        page.wait_for_timeout(200)
        assert marked.inner_text() == letter
        box, place = row.bounding_box(), page.locator(f"#{target}").bounding_box()
        assert box["y"] + box["height"] <= place["y"] + 1
        seen = marked.bounding_box()
        assert seen["x"] >= box["x"]
        assert seen["x"] + seen["width"] <= box["x"] + box["width"]


# --- the grid -------------------------------------------------------------------------

EDGES = """
(() => {
  const article = document.querySelector("article");
  const title = article.querySelector("section > p").getBoundingClientRect();
  const parts = ["section > p", "section > div.math", "section > ul", "figcaption",
    ".explore-live", "figure > img", "figure > svg", ".cell_input", ".cell_output pre",
    ".predict > p:not(.admonition-title)", ".predict-form", ".predict-result > p",
    ".pst-scrollable-table-container", ".way-on > *"];
  return parts.flatMap(name => [...document.querySelectorAll(
    `.bd-article-container ${name}`)].filter(e => e.checkVisibility()
      && !e.closest("li, dd, .sd-card, .explore-live figure, .admonition .admonition"))
    .filter(e => e.getBoundingClientRect().width > 5)
    .map(e => [e.getBoundingClientRect(), name, e.textContent.trim().slice(0, 40)]))
    .map(([b, ...rest]) => [b.left - title.left, b.right - title.left, ...rest]);
})()
"""


@pytest.mark.parametrize("width", [DESK[0], 1100, 768, PHONE[0]])
@pytest.mark.parametrize("page", ["book/01_spatial_dropout", "book/04_drop_block"])
def test_two_widths_from_one_left_edge(server, visit, page, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.go(f"{server}/{page}.html")
    for place in visit.page.locator("[data-explore] > figure").all():
        place.scroll_into_view_if_needed()
        place.locator(".explore-live").wait_for()
    visit.page.evaluate(
        "document.querySelectorAll('.predict-result').forEach(d => { d.open = true })"
    )
    edges = visit.page.evaluate(EDGES)
    assert len(edges) > 40
    text = max(edge[1] for edge in edges if edge[2] == "section > p")
    wide = max(edge[1] for edge in edges if edge[2][:6] != "figure")
    middle = width == DESK[0]  # what is wide goes as far to the left as to the right
    hangs = 8 if width == PHONE[0] else 0  # a drawing has nearly the whole phone
    for edge in edges:
        drawn = edge[2] in ("figure > img", "figure > svg")
        if middle and edge[2] in (".explore-live", ".pst-scrollable-table-container"):
            assert abs(edge[0]) < 1.5 or abs(edge[0] + wide - text) < 1.5, edge
            continue
        assert abs(edge[0]) < 1.5 or (drawn and abs(edge[0] + hangs) < 1.5), edge
        assert edge[0] > -16, "the screen ends there"
    for edge in edges:
        if edge[2] in ("section > p", "figcaption", ".predict-form"):
            assert edge[1] <= text + 1.5, edge
        elif edge[2] == ".explore-live":
            assert abs(edge[1] - wide) < 1.5, edge
        elif edge[2] == ".cell_input":
            assert min(abs(edge[1] - text), abs(edge[1] - wide)) < 1.5, edge
    if middle:
        assert wide - text > 75
        assert any(edge[0] < -75 for edge in edges)
