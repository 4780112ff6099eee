"""Questions that a reader answers first: what is folded, and how it opens."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import BOOK, PAGES, SOURCES, built, soup
from playwright.sync_api import Browser
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils
from window import PHONE, Visit

from regdrop_lite.course.author.predict import parse_axis, parse_question, reach

CHOICES = """\
:::{{predict}} 1
{number}How many of *64*?

- [x] {right}

  A quarter.
- [ ] {wrong}

  Those are kept.
:::
"""


# --- what answers a question ----------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("", 0),
        ("stop output", 0),
        ("output stop text", 1),
        ("code output text text", 3),
        ("text code output text", 4),  # what stands below the question in its own cell
        ("output block text text", 3),
        ("output intro block text", 3),
        ("output intro label block text", 4),
        ("output label text text", 3),
        ("output intro code output", 2),
        ("output intro output", 2),
        ("output text output", 2),
        ("output text text mark text", 3),
        ("output mark text", 1),
        ("output text stop mark", 2),
        ("code output code output text", 5),
    ],
)
def test_the_reach_of_an_answer(kinds, expected):
    assert reach(kinds.split()) == expected


@pytest.mark.parametrize(
    ("body", "number", "message"),
    [
        ("- [x] a\n\n  b", False, "a question"),
        ("A?\n\n- [x] a\n- [ ] b\n\n  c", False, "'a' says nothing"),
        ("A?\n\n- [ ] a\n\n  b", False, "exactly one right"),
        ("A?\n\n- [x] a\n\n  b\n- [x] c\n\n  d", False, "exactly one right"),
        ("A?", True, "exactly one right"),
        ("A?\n\n- [x] many\n\n  b", True, "'many'"),
        ("A?\n\n- [x] 4\n\n  b", True, "tolerance"),
        ("A?\n\n- [x] 4 ± 1 %\n\n  b\n- [ ] 3 m\n\n  c", True, "same unit"),
    ],
)
def test_a_question_that_cannot_be_understood(body, number, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_question(body, number)


@pytest.mark.parametrize(
    ("text", "points", "message"),
    [
        ("share", "", "an axis such as"),
        ("share, 0 to 1..0", "", "expected numbers"),
        ("share, 1 to 0", "", "grows in steps"),
        ("share, 0 to 1 by 2", "", "grows in steps"),
        ("share, 0 to 0.3", "", "0.5 does not lie on the axis"),
        ("share, 0 to 1", "0.2, 7", "7 does not lie on the axis"),
        ("share, 0 to 1", "0.2, x", "could not convert"),
    ],
)
def test_an_axis_that_cannot_be_understood(text, points, message):
    asked = parse_question("A?\n\n- [x] 0.5 ± 0.1\n\n  b", number=True)
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_axis(text, asked, points)


# --- a small document -----------------------------------------------------------------


def code(source: str, printed: str = "", tag: str = "") -> nbformat.NotebookNode:
    outputs = [new_output("stream", text=printed)] if printed else []
    metadata = {"tags": [tag]} if tag else {}
    return new_code_cell(source, outputs=outputs, execution_count=1, metadata=metadata)


def build(folder: Path, builder: str, *cells: nbformat.NotebookNode) -> tuple[str, str]:
    """Build a page of these cells; give it, and what Sphinx warned of."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    notebook = new_notebook(cells=[new_markdown_cell("# T"), *cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, source / "index.ipynb")
    warnings = StringIO()
    options = {
        "extensions": ["myst_nb", "predict"],
        "nb_execution_mode": "off",
        "myst_enable_extensions": ["colon_fence"],
        "html_theme": "basic",
    }
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            *(source, None, folder / builder, folder / "trees", builder, options),
            status=None,
            warning=warnings,
            freshenv=True,
        )
        app.build()
    (page,) = (folder / builder).glob("index.*")
    return page.read_text(encoding="utf-8"), warnings.getvalue()


def words(part: Any) -> str:
    """The text of a part of a page, read from the file or in a browser."""
    read = part.get_text if hasattr(part, "get_text") else part.inner_text
    return " ".join(read().split())


@pytest.fixture(autouse=True)
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(BOOK / "_ext")


def test_outputs_and_the_sentence_that_reads_them_are_folded(tmp_path):
    html, warnings = build(
        tmp_path,
        "html",
        new_markdown_cell("Before.\n\n**Predict.** How *many*?"),
        code("in_view = 1"),
        code("also_in_view = 2", "three\n"),
        code("assert True", tag="hide-input"),
        new_markdown_cell("Four.\n\nBehind.\n\n**Predict.** And now?"),
        code("folded = 3", "five\n", tag="hide-input"),
        new_markdown_cell("Six.\n\n- seven\n\n% answered\n\n## Heading"),
    )
    assert warnings == ""
    page = BeautifulSoup(html, "html.parser")
    first, second = page.select(".predict")
    assert words(first) == "Predict How many?" and words(second) == "Predict And now?"
    (one,) = page.select(f"details[id='{first['id']}-result']")
    assert one.summary.get_text() == "Result" and not one.has_attr("open")
    text = words(one)
    assert "three" in text and "assert True" in text and text.endswith("Four.")
    assert "in_view" not in text
    (two,) = page.select(f"details[id='{second['id']}-result']")
    assert "folded = 3" in words(two) and words(two).endswith("five Six. seven")
    for part in page.select("details, .predict"):
        part.decompose()
    left = words(page.select_one(".body") or page)
    assert "in_view = 1 also_in_view = 2 Behind. Heading" in left


def test_answers_to_choose_from(tmp_path):
    text = CHOICES.format(number="", right="a *quarter*", wrong="48")
    number = CHOICES.format(number=":number:\n", right="16 ± 1 %", wrong="48 %")
    box = f"::::{{admonition}} Check yourself\n{number}\n::::"
    html, warnings = build(tmp_path, "html", new_markdown_cell(f"{text}\n{box}"))
    assert warnings == ""
    choose, typed = BeautifulSoup(html, "html.parser").select(".predict")
    right, wrong = choose.select("details.predict-choice")
    assert words(right) == "a quarter Right. A quarter." and right.summary.em
    assert words(wrong) == "48 Not so. Those are kept."
    assert right.has_attr("data-right") and not wrong.has_attr("data-right")
    assert typed["data-kind"] == "number" and typed["data-unit"] == "%"
    right, wrong = typed.select("details.predict-choice")
    assert right["data-value"] == "16.0" and right["data-tolerance"] == "1.0"
    assert words(wrong.summary) == "48 %"
    text, warnings = build(tmp_path, "text", new_markdown_cell(text))
    assert warnings == "" and "*Right.* A quarter." in text.replace("**", "*")


def test_an_axis_for_a_mark(tmp_path):
    option = ":mark: share kept, 0 to 1\n:points: 0.2, 0.3\n"
    text = CHOICES.format(number=option, right="0.25 ± 0.05", wrong="0.75")
    html, warnings = build(tmp_path, "html", new_markdown_cell(text))
    assert warnings == ""
    (asked,) = BeautifulSoup(html, "html.parser").select(".predict")
    axis = {"name": "share kept", "low": 0.0, "high": 1.0, "step": 0.01}
    assert json.loads(asked["data-axis"]) == {**axis, "points": [0.2, 0.3]}
    assert words(asked.select("summary")[0]) == "0.25", "where no script runs"
    wrong = CHOICES.format(number=":mark: kept, 0 to 0.5\n", right="0.2 ± 0", wrong="1")
    _, warnings = build(tmp_path, "html", new_markdown_cell(wrong))
    assert "1 does not lie on the axis" in warnings


def test_a_question_without_an_answer_is_a_warning(tmp_path):
    cells = [new_markdown_cell("**Predict.** What?\n\n## Something else")]
    _, warnings = build(tmp_path, "html", *cells)
    assert "nothing answers" in warnings and "What?" in warnings


def test_a_wrong_directive_is_an_error(tmp_path):
    wrong = ":::{predict}\nWhat?\n\n- [ ] this\n\n  No.\n:::"
    _, warnings = build(tmp_path, "html", new_markdown_cell(wrong))
    assert "exactly one right answer" in warnings


# --- the book -------------------------------------------------------------------------


def questions(page: str) -> int:
    """How many questions the source of a page asks."""
    path = SOURCES[page]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return len(re.findall(r"^(?:\*\*Predict\.\*\*|:::+\{predict\})", text, flags=re.M))


@pytest.mark.slow
def test_every_question_of_the_book_has_something_to_reveal(site):
    assert sum(map(questions, PAGES)) > 100
    for page in PAGES:
        html = soup(built(site, page))
        boxes = html.select(".predict")
        assert len(boxes) == questions(page), page
        assert len({box["id"] for box in boxes}) == len(boxes)
        for box in boxes:
            result = html.find(id=f"{box['id']}-result")
            assert result or box.select(".predict-choice"), (page, words(box))
            if result:
                shown = result.select_one(".cell_output, img, svg, p, table, li")
                assert shown and len(words(result)) > 20, (page, words(box))
        script = html.select("script[src*='predict.js']")
        assert len(script) == bool(boxes), page


# --- a reader -------------------------------------------------------------------------

PAGE = "book/03_drop_path"


@contextmanager
def phone(browser: Browser, **more: Any) -> Iterator[Visit]:
    width, height = PHONE
    viewport = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, has_touch=True, **more)
    yield Visit(context.new_page())
    context.close()


@pytest.mark.slow
def test_a_reader_predicts_reveals_and_comes_back(site, server, visit):
    page = visit.page
    visit.go(f"{server}/{PAGE}.html")
    results = page.locator("details.predict-result")
    whole = soup(built(site, PAGE))
    assert results.count() == len(whole.select("details.predict-result")) >= 3
    assert page.locator(".predict-result[open]").count() == 0

    # A choice, by keyboard: the answer and its feedback stand beside the result.
    box = page.locator(".predict:has(input[type=radio]):has-text('Which check')")
    result = page.locator(f"#{box.get_attribute('id')}-result")
    box.get_by_label("the mean of the output", exact=True).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    assert result.get_attribute("open") is not None
    own = result.locator(".predict-own")
    assert words(own) == "You said: the mean of the output. Not so."
    for kind, count in (("right", 1), ("wrong", 1)):
        assert box.locator(f"label.predict-{kind}").count() == count
    wrong = box.locator("label.predict-wrong")
    assert words(wrong) == "the mean of the output"
    why = box.locator("label.predict-wrong + .predict-said")
    assert words(why).startswith("Not so. At every rate")
    assert result.locator(".predict-choice").count() > 1
    assert not any(one.is_visible() for one in result.locator(".predict-choice").all())
    assert own.evaluate("e => e == document.activeElement")
    assert result.locator(".cell_output").first.is_visible()

    # A number, below which nothing runs: it is said politely, and the focus stays.
    box = page.locator(".predict[data-kind=number]").first
    field = box.get_by_label("Your number")
    own = box.get_by_role("status")
    for answer, said in (
        ("9", "You said: 9. Not so. That is linear"),
        ("20", "You said: 20. That is too much."),
        ("8,75", "You said: 8,75. Right. 12"),
    ):
        field.fill(answer)
        page.keyboard.press("Enter")
        assert words(own).startswith(said)
        assert field.evaluate("e => e == document.activeElement")

    # All of it is there after a reload, and nothing more is open.
    visit.go(f"{server}/{PAGE}.html")
    assert page.locator(".predict-result[open]").count() == 1
    assert "Not so." in words(result.locator(".predict-own"))
    assert field.input_value() == "8,75"
    switch = page.get_by_role("switch", name="Show all results")
    switch.check()
    assert results.count() == page.locator(".predict-result[open]").count()
    visit.go(f"{server}/{PAGE}.html")
    assert results.count() == page.locator(".predict-result[open]").count()
    switch.uncheck()
    page.wait_for_timeout(100)
    assert page.locator(".predict-result[open]").count() == 1

    # On paper all is open, and afterwards as before.
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    parts = "article :is(.predict-result, .predict-choice) > p"
    hidden = page.locator(parts)
    assert hidden.count() == len(whole.select(parts)) > 25
    assert all(part.is_visible() for part in hidden.all())
    assert not page.locator(".predict-form").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_timeout(100)
    page.emulate_media(media="screen")
    visit.go(f"{server}/{PAGE}.html")
    assert page.locator(".predict-result[open]").count() == 1

    # A link into something folded opens it.
    visit.go(f"{server}/book/02_implicit_ensembles.html")
    inside = page.locator(".predict-result:not([open]) figure[id]").first
    name = inside.get_attribute("id")
    page.evaluate("id => location.hash = id", name)
    page.locator(f"#{name}").wait_for(state="visible")
    assert visit.complaints == []
    assert all(url.startswith((server, "data:")) for url in visit.requests)


@pytest.mark.slow
def test_what_a_reader_writes_is_kept_as_text(server, visit):
    for visits in (1, 2):  # it is there after a reload
        visit.go(f"{server}/book/01_spatial_dropout.html")
        box = visit.page.locator(".predict:has-text('In which of the two rows')")
        if visits == 1:
            field = box.get_by_label("Your prediction")
            field.fill("<b>maps</b>")
            line = "parseFloat(getComputedStyle(e).lineHeight)"
            assert field.evaluate(f"e => e.clientHeight >= 2 * {line}"), "two lines"
            field.press("Enter")
        own = visit.page.locator(f"#{box.get_attribute('id')}-result .predict-own")
        assert words(own) == "You said: <b>maps</b>."


@pytest.mark.slow
@pytest.mark.parametrize("script", [True, False], ids=["private", "no script"])
def test_nothing_is_lost_without_memory_or_script(site, browser, script):
    """As a file, where the browser keeps nothing; and where no script runs."""
    with phone(browser, java_script_enabled=script) as visit:
        page = visit.page
        page.add_init_script("""
          for (const name of ["getItem", "setItem"]) {
            const old = Storage.prototype[name];
            Storage.prototype[name] = function (key, ...rest) {
              if (key.startsWith("predict:")) throw new DOMException("denied");
              return old.call(this, key, ...rest);
            };
          }
        """)
        page.goto(built(site, PAGE).as_uri(), wait_until="load")
        result = page.locator("details.predict-result").nth(1)  # one with choices
        output = result.locator(".cell_output").first
        assert not output.is_visible()
        if script:
            name = result.get_attribute("id").removesuffix("-result")
            form = page.locator(f"#{name} form")
            small = form.locator("label, button, input:not([type=radio])").evaluate_all(
                "all => all.map(e => e.getBoundingClientRect().height)"
            )
            assert len(small) > 1 and min(small) >= 44
            form.get_by_role("radio").first.tap()
            form.get_by_role("button").tap()
            assert result.locator(".predict-own").is_visible()
        else:
            assert page.locator(".predict-form").count() == 0
            assert page.locator(".predict .predict-choice").count() > 10
            result.locator("> summary").tap()
        assert output.is_visible()
        wide = page.locator("html").evaluate("e => e.scrollWidth") if script else 0
        assert wide <= PHONE[0]
        assert visit.complaints == []
        if not script:
            page.emulate_media(media="print")
            words = "details.predict-result p:not(.admonition-title)"
            assert page.locator(words).first.is_visible()


@pytest.mark.slow
def test_a_check_without_a_choice_asks_for_one(server, visit):
    """There is nothing to reveal, and nothing is stored."""
    visit.go(f"{server}/{PAGE}.html")
    form = visit.page.locator(".predict form", has_text="Check").first
    button, hint = form.get_by_role("button"), form.get_by_role("status")
    assert button.inner_text() == "Check" and not hint.is_visible()
    button.click()
    assert hint.inner_text() in ("Choose first.", "Give a number first.")
    visit.page.reload()
    assert not form.locator("xpath=..").locator(".predict-own").is_visible()


@pytest.mark.slow
def test_the_button_says_what_it_does(server, visit):
    """Without a choice it asks first; then it reveals, compares and hides."""
    visit.go(f"{server}/{PAGE}.html")
    form = visit.page.locator(".predict form:has(input[type=radio])").first
    name = form.locator("xpath=..").get_attribute("id")
    result = visit.page.locator(f"#{name}-result")
    button, hint = form.get_by_role("button"), form.get_by_role("status")
    assert button.inner_text() == "Reveal"
    button.click()
    assert hint.inner_text() == "Choose first, or see it anyway."
    assert button.inner_text() == "See it anyway"
    assert result.get_attribute("open") is None
    form.get_by_role("radio").first.check()
    assert button.inner_text() == "Reveal" and not hint.is_visible()
    button.click()
    assert button.inner_text() == "Revealed: hide it"
    form.get_by_role("radio").nth(1).check()
    assert button.inner_text() == "Compare"
    button.click()
    assert result.get_attribute("open") is not None
    button.click()
    assert result.get_attribute("open") is None and button.inner_text() == "Reveal"
    result.locator("> summary").click()  # the fold itself does it, too
    visit.page.wait_for_timeout(100)
    assert button.inner_text() == "Revealed: hide it"


@pytest.mark.slow
def test_a_mark_is_set_on_an_axis(server, browser):
    """By keyboard and by finger; it stands beside the result, also after a reload."""
    with phone(browser) as visit:
        page = visit.page
        visit.go(f"{server}/book/01b_spatial_dropout_pitfalls.html")
        box = page.locator(".predict[data-axis]:has-text('smallest number')")
        field = box.get_by_role("slider", name="Your mark, active channels")
        result = page.locator(f"#{box.get_attribute('id')}-result")
        own = result.locator(".predict-own")
        reveal = box.get_by_role("button")
        assert field.get_attribute("aria-valuetext") == "no mark yet"
        assert field.input_value() == "16"
        reveal.tap()
        reveal.tap()  # without a mark only on request
        assert result.get_attribute("open") is not None and not own.is_visible()
        field.focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        assert field.get_attribute("aria-valuetext").strip() == "31"
        page.keyboard.press("Enter")
        assert words(own).startswith("You said: 31.") and "too much" in words(own)

        # By finger. The thumb stands above its place on the axis.
        area = field.bounding_box()
        assert area["height"] >= 44
        place = {"x": area["width"] * 0.345, "y": area["height"] / 2}
        field.tap(position=place)
        reveal.tap()
        value = float(field.input_value())
        assert abs(value - 11) <= 2 and "Right." in words(own)
        mark = own.locator(".placed").first
        assert words(mark).startswith("you")
        there = mark.bounding_box()
        centre = there["x"] + there["width"] / 2
        axis = own.locator(".predict-axis").bounding_box()
        assert abs((centre - axis["x"]) / axis["width"] - value / 32) < 0.01
        assert words(own.locator(".result")).startswith("result")

        page.reload(wait_until="load")
        assert field.get_attribute("aria-valuetext").strip() == f"{value:.0f}"
        assert own.locator(".placed").count() == 2
        assert page.locator("html").evaluate("e => e.scrollWidth") <= PHONE[0]
        assert visit.complaints == []
