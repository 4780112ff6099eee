"""Slides: every figure is there, every row of the script is in the notes, few words."""

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag

from regdrop_lite.course.teach.plans import Course
from regdrop_lite.course.teach.slides import (
    SlideError,
    _Guide,
    main,
    read_deck,
    words,
    write_slides,
)

ROOT = Path(__file__).parents[2]
TEACH = ROOT / "book" / "teach"
COURSE = Course.read(ROOT)
every_chapter = pytest.mark.parametrize("chapter", COURSE.titles)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All slides, as the build of the site writes them."""
    folder = tmp_path_factory.mktemp("slides")
    write_slides(ROOT, folder, COURSE, site="../../")
    return folder


def slides_of(out: Path, chapter: int) -> list[Tag]:
    text = (out / f"chapter_{chapter}.html").read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser").select(".slides > section")


@every_chapter
def test_slides_show_their_figures_and_say_what_these_show(out, chapter):
    first, *slides = slides_of(out, chapter)
    assert 12 <= 1 + len(slides) <= 16
    assert first.find("h1") is not None
    drawn = 0
    for slide in slides:
        assert len(slide.select(".picture")) <= 1, "one idea, one picture"
        for drawing in slide.select("svg:is(.drawing, .plot)"):
            drawn += 1
            assert len(drawing["aria-label"]) > 40
        ids = [tag["id"] for tag in slide.select("[id]")]
        assert len(ids) == len(set(ids))
    assert drawn >= 2


@every_chapter
def test_slides_ask_before_they_answer(out, chapter):
    for slide in slides_of(out, chapter)[1:]:
        heading = slide.find("h2").get_text()
        shown = [b.get_text() for b in slide.select("h2, .words:not(.fragment)")]
        assert "?" in "".join(shown), heading
        assert slide.select(".fragment"), heading


@every_chapter
def test_notes_are_on_every_slide_and_hold_the_whole_script(out, chapter):
    notes = [s.select_one("aside.notes") for s in slides_of(out, chapter)]
    assert all(len(note.get_text()) > 40 for note in notes)
    deck = read_deck(ROOT, chapter, COURSE)
    used = [row for slide in deck.slides for row in slide.script]
    script = _Guide.read(TEACH / f"chapter_{chapter}.md").rows
    assert sorted(used) == sorted(script), "each row once"
    told = [q for slide in deck.slides for q in slide.questions]
    assert told and all("Misconception" in question for question in told)
    assert all(int(slide["data-timing"]) >= 60 for slide in slides_of(out, chapter)[1:])


@every_chapter
def test_every_objective_appears(chapter):
    deck = read_deck(ROOT, chapter, COURSE)
    found = {n for slide in deck.slides for s in slide.sections for n in s.objectives}
    assert found == {n for n in COURSE.objectives if n.startswith(f"{chapter}.")}


@every_chapter
def test_a_slide_has_at_most_thirty_words(chapter):
    for slide in read_deck(ROOT, chapter, COURSE).slides:
        assert len(words("\n\n".join([slide.title, *slide.parts]))) <= 30, slide.title


def printed(notebook: str, cell: str) -> str:
    """What a cell of a chapter prints, or its table as text."""
    cells = json.loads((ROOT / "book" / f"{notebook}.ipynb").read_text("utf-8"))
    (found,) = [c for c in cells["cells"] if c["id"] == cell]
    data = [o.get("data", {}).get("text/plain", "") for o in found["outputs"]]
    text = [o.get("text", "") for o in found["outputs"]]
    return "".join("".join(part) for part in text + data)


def test_slides_say_what_the_outputs_say():
    """The epoch from which the net without dropout overfits; complaints and faults."""
    plain = printed("01_spatial_dropout", "train").split("p = 0.2")[0]
    rows = re.findall(r"^ +(\d+) +([\d.]+) +[\d.]+ +([\d.]+)", plain, re.M)
    epochs, training, validation = zip(*(map(float, row) for row in rows), strict=True)
    assert list(training) == sorted(training, reverse=True)
    lowest = epochs[validation.index(min(validation))]
    text = (TEACH / "slides" / "chapter_1.md").read_text(encoding="utf-8")
    assert f"left, from about epoch {lowest:.0f}." in text
    complaints = printed("06_in_practice", "broken-audit").strip().splitlines()
    assert len(complaints) == 5
    assert [("dropout with p=0.4" in line) for line in complaints] == [1, 1, 0, 0, 0]
    text = (TEACH / "slides" / "chapter_6.md").read_text(encoding="utf-8")
    assert "Five complaints, four faults." in text, "the first two have one cause"


def test_rates_of_families_are_those_of_their_recipes():
    recipes = (ROOT / "book" / "recipes" / "recipes.toml").read_text(encoding="utf-8")
    stored = {r["net"]: r.get("rate") for r in tomllib.loads(recipes)["recipe"]}
    text = (TEACH / "slides" / "chapter_5.md").read_text(encoding="utf-8")
    head, *rows = re.findall(r"^\| *(\w[\w ]*)?\|([^-\n]+)\|$", text, re.M)
    assert len(rows) == 2
    sizes = [size.strip() for size in head[1].split("|")]
    for family, cells in rows:
        shown = dict(zip(sizes, (c.strip() for c in cells.split("|")), strict=True))
        shown = {size: rate for size, rate in shown.items() if rate}
        net = f"{family.strip()} {', '.join(shown)}"
        assert stored[net] == "; ".join(shown.values()), net


def test_a_picture_is_cut_where_the_source_says(out):
    """A drawing by its view, a picture by pixels, what is printed by lines."""
    swin, frozen = (slides_of(out, n) for n in (5, 6))
    assert swin[4].svg.svg["viewbox"] == "0 504.7 520 525.3"
    assert swin[4].svg["viewbox"] == "0 0 520 525.3"
    left, top, width, height = map(float, frozen[9].svg.svg["viewbox"].split())
    assert (top, left + width) == (0, 520) and width < height
    whole = printed("06_in_practice", "audit").splitlines()
    shown = frozen[4].select_one("pre.printed").text.splitlines()
    assert shown == whole[:6], "two layers, with three lines each"
    image = slides_of(out, 1)[1].select_one("svg.plot")
    shape = int(image["width"]) / int(image["height"])
    assert 1.6 < shape < 1.8, "two rows of three"


def test_nothing_is_loaded_from_elsewhere(out):
    for path in [*out.glob("*.html"), *out.glob("*.css")]:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r'(?:src="|<link[^>]*href="|url\()([^")]+)', text):
            if not target.startswith(("data:", "#")):
                assert (path.parent / target.strip("'\"")).is_file(), (path, target)


def write(tmp_path: Path, slide: str) -> Path:
    """A repository whose only slides have one slide that is wrong."""
    root = tmp_path / "root"
    (root / "book" / "teach").mkdir(parents=True)
    shutil.copytree(TEACH / "slides", root / "book" / "teach" / "slides")
    for path in (root / "book" / "teach" / "slides").glob("chapter_*.md"):
        path.unlink()
    shutil.copy(TEACH / "chapter_1.md", root / "book" / "teach")
    shutil.copytree(ROOT / "book" / "_static" / "fonts", root / "book/_static/fonts")
    shutil.copy(ROOT / "book" / "01_spatial_dropout.ipynb", root / "book")
    shutil.copy(ROOT / "_config.yml", root)
    (root / "book" / "teach" / "slides" / "chapter_1.md").write_text(
        f"# Title\n\nText\n\n+++\n{slide}\n", encoding="utf-8"
    )
    return root


@pytest.mark.parametrize(
    ("slide", "message"),
    [
        ("No heading", "slide 2: it should begin with '## '"),
        ("## A\n% sections: B", "slide 2: 'sections' is none of section, script"),
        ("## A\n% section: Nowhere", "slide 2: there is no section '1 Nowhere'"),
        ("## A\n% script: Whose", "0 rows of the script ask 'Whose', not one"),
        ("## A\n% question: Is it?", "0 questions begin with 'Is it?', not one"),
        (
            "## A\n\n![](01_spatial_dropout#no)",
            "slide 2: 01_spatial_dropout has no cell 'no'",
        ),
        ("## A\n\n$\\frac$", "slide 2: "),
        ("## A\n\n![](09_none#cell)", "slide 2: there is no notebook 09_none"),
        ("## A\n\n![](01_spatial_dropout#title)", "#title draws and prints nothing"),
        (
            '## A\n\n![](01_spatial_dropout#train "left 50%")',
            "top or bottom lines can be shown, but not left",
        ),
        (
            "## A\n\n![](figures/none.svg)",
            "no chapter shows the drawing figures/none.svg",
        ),
        ("## A\n\n![](picture.png)", "slide 2: a picture has another form"),
    ],
)
def test_what_is_wrong_is_said_with_its_slide(tmp_path, slide, message):
    root = write(tmp_path, slide)
    with pytest.raises(SlideError, match=r"chapter_1.md, slide 2") as error:
        write_slides(root, tmp_path / "out", replace(COURSE, titles={1: "Title"}))
    assert message in str(error.value)


def test_the_command_says_where_it_belongs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["out"])
    assert "run this in the folder of the course's" in capsys.readouterr().err
