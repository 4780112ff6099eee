"""Figures that notebooks store as SVG stand in the page, in its type and colours."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from pages import BOOK, PAGES, ROOT, built, every_page, soup
from test_browser import contrast
from window import DESK, PHONE, Quiet, serving

from regdrop_lite.course import plots
from regdrop_lite.course.svg import to_svg

pytestmark = pytest.mark.slow

# For each figure that is seen: its width and the size of its letters, in pixels, and
# what reaches out of it.
LOOK = """() => [...document.querySelectorAll("svg.plot")].filter(s =>
  s.checkVisibility()).map(s => {
    const whole = s.getBoundingClientRect(), scale = s.getScreenCTM().a;
    const words = [...s.querySelectorAll("text")];
    const runs = [...s.querySelectorAll("text:not(:has(tspan)), tspan")];
    const letters = runs.map(t => parseFloat(getComputedStyle(t).fontSize) * scale);
    const out = words.filter(t => {
      const box = t.getBoundingClientRect();
      return box.left < whole.left - 4 || box.right > whole.right + 4;
    });
    return {
      name: s.getAttribute("aria-label").slice(0, 60), width: whole.width,
      left: whole.left, right: whole.right,
      room: s.parentElement.clientWidth, least: Math.min(...letters, 99),
      most: Math.max(...letters, 0), out: out.map(t => t.textContent),
    };
  })"""


def draw(bars: int = 3) -> str:
    """A figure with words in all inks, and with a picture."""
    with plt.style.context(plots._STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(5, 3))
        left.plot([0, 1], [1, 3])
        left.bar(np.linspace(0, 1, bars), 1, 0.1, color=plots.BLUE)
        left.set(ylim=(0, 4), xlabel="share of the variance, $R^2$", title="two\nlines")
        inks = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.PURPLE)
        for height, ink in enumerate(inks):
            left.text(0.1, height, "words", color=ink)
        right.imshow(np.arange(12.0).reshape(3, 4))
        svg = to_svg(figure)
        plt.close(figure)
    return svg


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """A page with two figures and a heavy one, built by the site's extensions."""
    source = tmp_path_factory.mktemp("example")
    cells = [new_markdown_cell("# Figures")]
    for name, svg in (("a", draw()), ("b", draw()), ("heavy", draw(2_000))):
        about = {"figure": {"caption": name}, "image": {"alt": f"A {name} <figure>"}}
        data = {"image/svg+xml": svg, "text/plain": "<Figure>"}
        cell = new_code_cell("0", outputs=[new_output("display_data", data)])
        cell.metadata["mystnb"] = about
        cells.append(cell)
    about = {"language_info": {"name": "python", "pygments_lexer": "python"}}
    book = new_notebook(cells=cells, metadata=about)
    nbformat.write(book, source / "index.ipynb")
    (source / "conf.py").write_text(
        'extensions = ["myst_nb", "figures", "course_weight"]\n'
        f'nb_execution_mode = "off"\nhtml_static_path = [{str(BOOK / "_static")!r}]\n'
        'html_css_files = ["course.css"]\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", str(source)]
    command.append(str(source / "out"))
    path = os.pathsep.join([str(ROOT), str(BOOK / "_ext")])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    return source / "out"


def names_and_uses(html: BeautifulSoup) -> tuple[list[str], set[str]]:
    """Names of the parts of figures, and what refers to them."""
    inside = html.select("svg.plot *")
    text = " ".join(
        f"{key}={value}" for tag in inside for key, value in tag.attrs.items()
    )
    uses = re.findall(r"(?:href=|url\()#([\w-]+)", text)
    return [tag["id"] for tag in inside if tag.get("id")], set(uses)


def test_a_figure_stands_in_the_page_and_a_heavy_one_beside_it(example):
    html = soup(example / "index.html")
    first, second = html.select("figure > svg.plot")
    assert [f["aria-label"] for f in (first, second)] == [
        "A a <figure>",
        "A b <figure>",
    ]
    assert first["role"] == "img" and "<font" not in str(first)
    wide, high = map(float, first["viewbox"].split()[2:])
    size = float(first["width"]), float(first["height"])
    assert size == pytest.approx((wide * 4 / 3, high * 4 / 3), abs=1)
    names, uses = names_and_uses(html)
    assert len(names) == len(set(names)) > 8
    assert set(names) == uses
    (image,) = html.select("figure > img")
    assert image["loading"] == "lazy" and image["alt"] == "A heavy <figure>"
    assert (example / image["src"]).is_file()
    assert float(image["width"]) == pytest.approx(float(first["width"]), rel=0.05)
    assert float(image["width"]) / float(image["height"]) == pytest.approx(
        wide / high, rel=0.05
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_its_words_can_be_read(example, visit, theme):
    """4.5 to 1, and 3 to 1 for lines, in the colours of the course's page."""
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[theme]
    visit.go((example / "index.html").as_uri())
    page = visit.page
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    for selector, key, least in (("text", "fill", 4.5), ("path, use", "stroke", 3)):
        colours = page.evaluate(
            f"""() => [...document.querySelector("svg.plot").querySelectorAll(
              "{selector}")].filter(e => !e.closest("defs")).map(e =>
              getComputedStyle(e).{key})"""
        )
        colours = {c for c in colours if c != "none"}
        assert len(colours) >= 2
        for colour in colours:
            assert contrast(in_bytes(colour), ground) >= least, (selector, colour)


def in_bytes(colour: str) -> str:
    """``color-mix`` gives shares: color(srgb 0.1 0.2 0.3)."""
    if not colour.startswith("color"):
        return colour
    shares = map(float, re.findall(r"[\d.]+", colour.removeprefix("color(srgb "))[:3])
    return f"rgb({', '.join(str(round(255 * share)) for share in shares)})"


def look(page, size: tuple[int, int]) -> list[dict]:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate("document.fonts.ready")
    return page.evaluate(LOOK)


def good(figure: dict, size: tuple[int, int], phone: int = 10) -> bool:
    """Large enough letters; on a desk none like a heading's."""
    least, most = (phone, 17) if size == PHONE else (12, 24)
    over = 25 if size == PHONE else 1  # there it has nearly the whole screen
    fits = figure["width"] <= figure["room"] + over and not figure["out"]
    if size == PHONE:
        fits = fits and figure["left"] >= 0 and figure["right"] <= size[0]
    return fits and figure["least"] >= least - 0.05 and figure["most"] <= most


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_its_letters_are_as_large_as_the_page_needs(example, visit, size):
    with serving(example, Quiet) as address:
        visit.go(f"{address}/index.html")
        visit.page.add_style_tag(
            content="figure {width: calc(100vw - 58px); margin: 0}"
        )
        visit.page.add_style_tag(content="* {float: none !important; padding: 0}")
        found = look(visit.page, size)
    assert len(found) == 2
    assert [figure for figure in found if not good(figure, size, 9)] == []


@every_page
def test_parts_of_figures_have_names_of_their_own(site, page):
    names, uses = names_and_uses(soup(built(site, page)))
    assert len(names) == len(set(names)) and set(names) == uses


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_figures_of_the_pages_can_be_read(site, server, visit, size):
    """Those in folds, too."""
    bad = []
    for page in PAGES:
        if soup(built(site, page)).select_one("svg.plot"):
            visit.go(f"{server}/{page}.html")
            found = look(visit.page, size)
            bad += [(page, figure) for figure in found if not good(figure, size)]
    assert bad == []
