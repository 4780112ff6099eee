"""Figures as SVG: small, the same on every run, and their text is text."""

import base64
import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from regdrop_lite.course import plots
from regdrop_lite.course.author.execute import execute
from regdrop_lite.course.svg import to_svg


def draw() -> str:
    """A figure with most of what figures have."""
    with plt.style.context(plots._STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(5, 3))
        left.plot([0, 1, 2], [1, 3, 2], label="no mask")
        left.bar([0, 1], [1, 2], hatch="///")
        left.set(title="one longer\nline", xlabel="share, $R^2$")
        left.set_yticks([1, 2], ["one\nlong line", "two\nx"])
        left.text(1, 1, "turned", rotation=30, color=plots.BLUE)
        right.imshow(np.arange(12.0).reshape(3, 4))
        svg = to_svg(figure)
        plt.close(figure)
    return svg


@pytest.fixture(scope="module")
def svg() -> str:
    return draw()


def texts(svg: str) -> dict[str, str]:
    """The attributes of each text, by its words."""
    found = re.findall(r"<text([^>]*)>(.*?)</text>", svg, re.S)
    return {re.sub("<[^>]+>", "", words): attributes for attributes, words in found}


def test_the_same_figure_has_the_same_bytes(svg):
    assert draw() == svg
    assert not re.search(r"20\d\d-\d\d|Matplotlib|matplotlib", svg)


def test_no_number_has_more_than_two_decimals(svg):
    shapes = re.sub(r'href="[^"]*"', "", svg)
    assert not re.search(r"\.\d{3}", shapes)


def test_every_name_is_used_and_every_use_has_a_name(svg):
    names = re.findall(r' id="([^"]+)"', svg)
    uses = re.findall(r'(?:href="|url\()#([^)"]+)', svg)
    assert len(names) == len(set(names)) > 3
    assert set(names) == set(uses)


def test_nothing_reaches_beyond_the_figure(svg):
    """Neither a style sheet for all elements, nor an image that is fetched."""
    assert "<style" not in svg and ' style="' not in svg
    assert all(h.startswith(("#", "data:")) for h in re.findall(r'href="(.*?)"', svg))
    assert re.search(
        r'^<svg xmlns="\S+" width="[\d.]+pt" height="[\d.]+pt" viewBox', svg
    )
    assert svg.count("font-family") == 1, "of the whole"


def test_text_keeps_its_place_in_another_font(svg):
    """Lines are held where their paragraph is: in the middle, at the right end."""
    said = texts(svg)
    for line in ("one longer", "line", "turned", "share, R2"):
        assert 'text-anchor="middle"' in said[line], line
    for line in ("one", "long line", "two", "x"):
        assert 'text-anchor="end"' in said[line], line
    (a, b), (c, d) = (
        [re.search(r'\bx="(\S+)"', said[line])[1] for line in lines]
        for lines in (("one longer", "line"), ("one", "long line"))
    )
    assert float(a) == pytest.approx(float(b), abs=0.02)
    assert float(c) == pytest.approx(float(d), abs=0.02)
    assert "rotate(-30 " in said["turned"]


def test_the_runs_of_a_formula_stand_on_one_line(svg):
    found = re.search(r"<text[^>]*>(<tspan.*share.*?)</text>", svg)
    runs = re.findall(r"<tspan([^>]*)>([^<]*)", found[1])
    assert [words for _, words in runs] == ["share,", " R", "2"]
    assert "font-style" in runs[-2][0]
    assert "\n" not in found[1], "it would be a blank"
    raised = sum(float(m) for a, _ in runs for m in re.findall(r'dy="(\S+)"', a))
    assert raised < -2


def test_an_image_has_the_pixels_of_its_array(svg):
    (code,) = re.findall(r'<image[^>]* href="data:image/png;base64,([^"]+)"', svg)
    image = Image.open(io.BytesIO(base64.b64decode(code)))
    assert image.size == (4, 3)
    seen = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colours = plt.get_cmap("cividis")(np.linspace(0, 1, 12), bytes=True)[:, :3]
    # The first row may be the last: the image is turned when it is drawn.
    turned = colours.reshape(3, 4, 3)[::-1].reshape(-1, 3)
    assert any(np.array_equal(seen, expected) for expected in (colours, turned))
    assert "pixelated" in svg


def test_very_many_points_become_a_picture():
    sizes = {}
    for count in (100, 20_000):
        figure = Figure(figsize=(5, 3))
        axis = figure.subplots()
        places = np.random.default_rng(0).random((2, count))
        axis.scatter(*places)
        axis.plot(*places, "o")
        svg = to_svg(figure)
        sizes[count] = len(svg)
        assert ("<image" in svg) == (count > 1500)
        assert svg.count("<use") < 300
        assert not any(artist.get_rasterized() for artist in axis.collections)
    assert sizes[20_000] < 200_000


@pytest.mark.slow
def test_a_notebook_stores_its_figures_as_svg(tmp_path: Path):
    """After `use_style`, and the same ones when it runs once more."""
    code = (
        "from regdrop_lite.course import plots\n"
        "plots.use_style()\n"
        "fig, ax = plots.plt.subplots(figsize=(5, 3))\n"
        "ax.plot([1, 2], label='kept')\n"
        "ax.legend()\n"
        "plots.plt.show()"
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = new_notebook(cells=[new_code_cell(code)], metadata={"kernelspec": kernel})
    path, stored = tmp_path / "book.ipynb", []
    nbformat.write(book, path)
    for _ in range(2):
        execute(path)
        (output,) = nbformat.read(path, as_version=4).cells[0].outputs
        assert set(output.data) == {"image/svg+xml", "text/plain"}
        stored.append(output.data["image/svg+xml"])
    assert stored[0] == stored[1] and ">kept</text>" in stored[0]
