"""The structure of the notebooks: what a reader, a grader and a machine rely on."""

import doctest
import json
import re
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from regdrop_lite.course.author.pictures import LETTERS, size_of
from regdrop_lite.course.svg import to_svg

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(
    path
    for path in BOOK.rglob("*.ipynb")
    if not {"_build", ".ipynb_checkpoints"} & set(path.parts)
)
MOST_SHOWN = 18  # code cells of a page whose source a reader has before him
MEDIAN, LONGEST = 8, 15  # of their lines
WIDEST = 65  # characters, which the width of the text holds
MOST_EXECUTED = 45  # with the folded and the removed ones: what a learner runs
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}

# What must not stand in an output: it changes from machine to machine, or day to day.
UNSTABLE = {
    "a local path": re.compile(
        r"(?<![\w.])/(?:home|root|tmp|Users|work|usr|opt)/|[A-Z]:\\"
    ),
    "a memory address": re.compile(r"0x[0-9a-f]{6,}"),
    "a progress bar": re.compile(r"\d+%\||it/s\b"),
    "a timing": re.compile(r"\b\d+(?:\.\d+)?\s?(?:ms|µs|seconds)\b|Wall time"),
    "a date or time": re.compile(r"\b20\d\d-\d\d-\d\d\b|\b\d\d:\d\d:\d\d\b"),
    "a NumPy number": re.compile(r"np\.(?:float|int)\d"),  # printed so since NumPy 2
    "a device": re.compile(r"device\(type=|device='|cuda:\d"),
}


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def length(cell: dict) -> int:
    """The lines of a cell that are not empty."""
    return sum(bool(line.strip()) for line in source(cell).splitlines())


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(path: Path) -> list[dict]:
    return [c for c in load(path)["cells"] if c["cell_type"] == "code"]


def prose(path: Path) -> str:
    cells = load(path)["cells"]
    return "\n\n".join(source(c) for c in cells if c["cell_type"] == "markdown")


def outside_code(markdown: str) -> str:
    """Markdown without code fences, so that a comment does not look like a heading."""
    return re.sub(
        r"^(`{3,}|:{3,})\{?code.*?^\1\s*$|^```python.*?^```\s*$",
        "",
        markdown,
        flags=re.M | re.S,
    )


def toc_files() -> set[str]:
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    return set(re.findall(r"^\s*(?:-\s*)?(?:file|root):\s*(\S+)", toc, flags=re.M))


def pictures(cell: dict) -> list[dict]:
    """What a cell draws: outputs with a figure, which is stored as a drawing."""
    data = [output.get("data", {}) for output in cell["outputs"]]
    assert not any("image/png" in d for d in data), source(cell)
    return [d for d in data if "image/svg+xml" in d]


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@every_notebook
def test_is_executed_in_order_and_stored_with_outputs(path):
    cells = [c for c in code_cells(path) if "nbval-skip" not in tags(c)]
    counts = [c["execution_count"] for c in cells]
    assert counts == sorted(counts) and None not in counts
    assert counts[-1] - counts[0] == len(counts) - 1, "run from a clean kernel"
    assert any(c["outputs"] for c in cells)


@every_notebook
def test_errors_are_announced_by_a_tag(path):
    for cell in code_cells(path):
        failed = any(o["output_type"] == "error" for o in cell["outputs"])
        assert failed == ("raises-exception" in tags(cell)), source(cell)


@every_notebook
def test_every_figure_has_a_name_a_caption_and_an_alternative_text(path):
    for cell in code_cells(path):
        if pictures(cell):
            meta = cell["metadata"].get("mystnb", {})
            assert len(meta.get("image", {}).get("alt", "")) > 60, source(cell)
            assert len(meta.get("figure", {}).get("caption", "")) > 40, source(cell)
            assert meta["figure"]["name"].startswith("fig-")


def letters_on_a_phone(svg: str) -> float:
    """The smallest letters of a figure in a fold, in pixels."""
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', svg)]
    return min(sizes, default=10) * LETTERS * 332 / max(size_of(svg)[0], 249)


def test_small_letters_are_found():
    """As wide as most figures: 10 points are large enough there, 8 are not."""
    figure = Figure(figsize=(4.5, 3))
    figure.add_axes((0, 0, 1, 1))
    assert letters_on_a_phone(to_svg(figure)) >= 9
    figure.text(0.5, 0.5, "small", fontsize=8)
    assert letters_on_a_phone(to_svg(figure)) < 9


@every_notebook
def test_a_stored_drawing_is_small(path):
    """It stands in the page: the text of the page waits for it."""
    for cell in code_cells(path):
        for data in pictures(cell):
            svg = "".join(data["image/svg+xml"])
            assert len(svg) <= 64_000, source(cell)
            assert "<metadata" not in svg and ' style="' not in svg


@every_notebook
def test_the_letters_of_a_figure_can_be_read_on_a_phone(path):
    """A fold leaves it 332 pixels there, and its letters 9 if it is 5 inches wide."""
    for cell in code_cells(path):
        for data in pictures(cell):
            assert letters_on_a_phone("".join(data["image/svg+xml"])) >= 9
        sizes = re.findall(r"(?:fontsize|labelsize|font\.size\W+)=(\d+)", source(cell))
        assert min(map(int, sizes), default=10) >= 10, source(cell)


@every_notebook
def test_a_cell_that_draws_also_prints_or_asserts(path):
    """nbval never compares images: a wrong figure has to show in words."""
    for cell in code_cells(path):
        if pictures(cell):
            words = r"^\s*(print|assert|show\w*)\b"  # show() prints comparisons
            assert re.search(words, source(cell), flags=re.M)


@every_notebook
def test_has_objectives_prerequisites_and_takeaways(path):
    text = prose(path)
    assert len(re.findall(r"^- \*\*\d\.\d+\*\* ", text, flags=re.M)) >= 3
    assert "*Before you start:*" in text and "*Time:*" in text
    takeaways = text.split("## Take away")[1].split("\n**")[0]
    assert 3 <= len(re.findall(r"^\d\. ", takeaways, flags=re.M)) <= 5


@every_notebook
def test_a_box_around_a_box_has_more_colons(path):
    """With three colons each, the headings behind them are lost."""
    text = prose(path)
    for box in re.findall(
        r"^:::+(?=\{admonition\})(?:(?!^:::+\s*$).)*", text, re.M | re.S
    ):
        assert "{dropdown}" not in box or box.startswith("::::"), box[:200]


@every_notebook
def test_headings_start_with_one_h1_and_skip_no_level(path):
    headings = re.findall(r"^(#+) (.+)$", outside_code(prose(path)), flags=re.M)
    levels = [len(marks) for marks, _ in headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for _, title in headings:  # sentence case
        words = re.findall(r"\b[A-Z][a-z]+\b", title)[1:]
        names = {"BatchNorm", "DropPath", "Dropout", "SpatialDropout", "Transformer"}
        assert not set(words) - names, title


@every_notebook
def test_cells_are_short(path):
    """At most 20 lines in a cell, folded or not, of at most 88 characters.

    A page of a chapter shows at most 18 code cells, of at most 15 lines
    and 8 in the median, and no line that is wider than the text (65 characters).
    Folded cells (checks) and removed ones (bookkeeping for the site) are no steps of
    the text, and do not count there; but they are run and kept up, so that all
    together are at most 45.
    """
    cells = code_cells(path)
    for cell in cells:
        assert length(cell) <= 20, source(cell)
        if "nbval-skip" not in tags(cell):
            longest = max(source(cell).splitlines(), key=len)
            assert len(longest) <= 88, longest
    if path.parent == BOOK and re.match(r"\d\d[b-z]?_", path.name):
        in_sight = [c for c in cells if FOLDED.isdisjoint(tags(c))]
        lines = [line for c in in_sight for line in source(c).splitlines()]
        assert max(map(len, lines), default=0) <= WIDEST, max(lines, key=len)
        shown = [length(c) for c in in_sight]
        assert len(shown) <= MOST_SHOWN
        if shown:
            assert max(shown) <= LONGEST and statistics.median(shown) <= MEDIAN
        assert len(cells) <= MOST_EXECUTED


@every_notebook
def test_a_fold_of_code_says_what_is_in_it(path):
    """As in "Draw the figure"; the theme's "Code" helps nobody to skip it."""
    for cell in code_cells(path):
        if {"hide-input", "hide-cell"} & set(tags(cell)):
            assert cell["metadata"]["mystnb"]["code_prompt_show"], cell["id"]


@every_notebook
@pytest.mark.parametrize("what", UNSTABLE)
def test_no_output_holds(path, what):
    for cell in code_cells(path):
        for output in cell["outputs"]:
            data = {k: v for k, v in output.get("data", {}).items() if "image" not in k}
            trace = output.get("traceback")
            text = json.dumps([output.get("text"), data, output.get("evalue"), trace])
            assert not UNSTABLE[what].search(text), source(cell)


@every_notebook
def test_draws_only_from_generators_that_it_seeds(path):
    """``torch.rand`` and its kin, without ``generator=``, need a seed in the cell."""
    for cell in code_cells(path):
        code = source(cell)
        calls = re.findall(r"torch\.(?:rand|randn|randint|randperm)\((.*)\)", code)
        seeded = "manual_seed" in code or "set_generator" in code
        for call in calls:
            assert "generator=" in call or seeded, code


@every_notebook
def test_cells_have_ids_that_say_something(path):
    ids = [c["id"] for c in load(path)["cells"]]
    assert len(set(ids)) == len(ids)
    assert not [i for i in ids if re.fullmatch(r"[0-9a-f]{8}", i)], (
        "an id made by chance"
    )


@every_notebook
def test_no_trace_of_a_machine_in_the_metadata(path):
    notebook = load(path)
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert "execution" not in cell["metadata"], "timing of a run"


@every_notebook
def test_is_in_the_table_of_contents(path):
    assert path.relative_to(ROOT).with_suffix("").as_posix() in toc_files()


@every_notebook
def test_every_reference_resolves(path):
    """Links, figures, equations, citations, glossary terms and glued values."""
    text, cells = prose(path), code_cells(path)
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
        assert (path.parent / target).exists(), target
    figures = {
        c["metadata"].get("mystnb", {}).get("figure", {}).get("name") for c in cells
    }
    for target in re.findall(r"\{numref\}`([^`<]+)`", text):
        assert target in figures, target
    for target in re.findall(r"^:figure: (\S+)$", text, flags=re.M):  # of an explorable
        assert target in figures, target
    labels = set(re.findall(r":label: (\S+)", text))
    assert set(re.findall(r"\{eq\}`([^`]+)`", text)) <= labels
    bibliography = (BOOK / "references.bib").read_text(encoding="utf-8")
    for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
        for key in keys.split(","):
            assert f"{{{key.strip()}," in bibliography, key
    glossary = (BOOK / "reference" / "glossary.md").read_text(encoding="utf-8").lower()
    for term in re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", text):
        assert re.search(rf"^{re.escape(term.lower())}\s*$", glossary, flags=re.M), term
    glued = set(re.findall(r'glue\("(\w+)"', "\n".join(map(source, cells))))
    code = "\n".join(map(source, cells))
    assert len(glued) == len(re.findall(r'glue\("\w+", round\(', code)), "round it"
    used = set(re.findall(r"\{glue:(?:text|)\}`(\w+)", text))
    assert used == glued, "a glued value has to be used, and a used one glued"


PAGES = [ROOT / "README.md", *sorted(BOOK.rglob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_the_examples_of_a_page_run(path):
    """Each fenced block with ``>>>`` is run, in order, in one namespace."""
    blocks = re.findall(
        r"^```python\n(>>>.*?)^```", path.read_text("utf-8"), re.M | re.S
    )
    test = doctest.DocTestParser().get_doctest(
        "\n".join(blocks), {}, path.name, str(path), 0
    )
    results = doctest.DocTestRunner().run(test)
    assert results.failed == 0
    expected = {ROOT / "README.md", BOOK / "intro.md", BOOK / "setup.md"}
    assert results.attempted > 0 or path not in expected
