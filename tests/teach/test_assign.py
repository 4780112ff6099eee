"""Assignments without an answer in what is handed out, and points for right answers."""

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch

from regdrop_lite.course.author.plain import Book
from regdrop_lite.course.check import chapter_1 as check
from regdrop_lite.course.check import core
from regdrop_lite.course.teach import assign
from regdrop_lite.course.teach.assign import (
    WORDS,
    choose_tasks,
    main,
    read_set,
    read_sets,
)
from regdrop_lite.course.teach.grade import main as grade
from regdrop_lite.course.teach.grade import score

ROOT = Path(__file__).parents[2]
BOOK = Book.read(ROOT)
PAGES = [page for page in BOOK.notebooks if page.startswith("book/exercises/")]


@pytest.fixture(scope="module")
def sets():
    return read_sets(ROOT)


@pytest.fixture(scope="module")
def written(sets, tmp_path_factory):
    """All three forms of all sets."""
    out = tmp_path_factory.mktemp("assign") / "assign"
    assign.write_nbgrader(sets, out / "nbgrader", 7)
    assign.write_otter(sets, out / "otter", 7)
    assign.write_repository(sets, out / "repository", 7)
    return out


def lines(text):
    """The lines that say something, without the space around them."""
    return {line.strip() for line in text.splitlines() if re.search(r"\w", line)}


def answers(exercises, page):
    """Every line of a solution, in code or words, that students do not get anyway."""
    notebook = nbformat.read(ROOT / page, as_version=4)
    solutions = set()
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):
            solutions |= lines(cell.source)
    known = set()
    for cell in exercises.edition.cells:
        known |= lines(cell.source)
    return solutions - known


def released(text, form):
    """What nbgrader and otter leave of a notebook, for certain."""
    notebook = nbformat.reads(text, as_version=4)
    kept = []
    inside = False
    for cell in notebook.cells:
        if form == "otter" and cell.cell_type == "raw":
            inside = re.search(r"# BEGIN (SOLUTION|TESTS)", cell.source) is not None
        source = re.sub(
            r"^#+ BEGIN (SOLUTION|HIDDEN TESTS).*?^#+ END \1$",
            "",
            cell.source,
            flags=re.M | re.S,
        )
        if form == "nbgrader" or not (inside and cell.cell_type == "markdown"):
            kept.append(source)
    return "\n".join(kept)


def test_every_set_of_the_book_is_there(sets):
    assert len(sets) == len(PAGES) >= 4
    assert len({one.name for one in sets}) == len(sets)
    for one in sets:
        assert len({task.name for task in one.tasks}) == len(one.tasks) >= 5
        assert all(1 <= task.points <= 8 for task in one.tasks)
        assert any(task.words for task in one.tasks)
        names = [name for task in one.tasks for name in task.answers]
        assert len(names) == len(set(names)), "an adapter would be there twice"


def test_the_page_says_what_each_set_is_worth(sets):
    """Minutes, points by machine, parts in words, points by hand, and all of them."""
    text = (ROOT / "book" / "teach" / "grade.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (set_\d) \|((?: \d+ \|){5})$", text, re.M)
    shown = {name: [int(n) for n in re.findall(r"\d+", row)] for name, row in rows}
    wanted = {}
    for one in sets:
        points = sum(task.points for task in one.tasks)
        words = [task for task in one.tasks if task.words]
        hand = assign.WORDS * len(words)
        minutes = sum(task.minutes for task in one.tasks)
        wanted[one.name] = [minutes, points, len(words), hand, points + hand]
    assert shown == wanted and wanted["set_1"][1:] == [18, 1, 3, 21]
    assert "18 points by machine and 3 by hand: 21" in text


def test_some_tasks_of_a_set(sets, written):
    """They keep their numbers and their points; of the others nothing is left."""
    chosen = choose_tasks(sets[0], [2, 4])
    assert [task.number for task in chosen.tasks] == [2, 4]
    assert [task.points for task in chosen.tasks] == [2, 4]
    ids = {cell.id for cell in assign.nbgrader_notebook(chosen, 7).cells}
    whole = {cell.id for cell in assign.nbgrader_notebook(sets[0], 7).cells}
    assert {"fill-text", "fill-points", "diagnose-text", "closing", "imports"} <= ids
    assert ids < whole and not any(i.startswith(("trace", "layer")) for i in ids)
    for numbers in ([], [2, 9]):
        with pytest.raises(ValueError, match=r"set_1 has the tasks \[1, 2, 3, 4, 5\]"):
            choose_tasks(sets[0], numbers)
    first, second, *rest = sets[0].tasks
    part = replace(second.code[0], solution=f"print({first.answers[0]})")
    tied = replace(sets[0], tasks=(first, replace(second, code=(part,)), *rest))
    with pytest.raises(ValueError, match=r"task 2 of set_1 uses \w+ of task 1: choose"):
        choose_tasks(tied, [2])
    for one in sets:
        for task in one.tasks:
            choose_tasks(one, [task.number])


@pytest.mark.parametrize("page", PAGES)
def test_no_answer_is_in_a_released_file(page, sets, written):
    """Every line of every solution is searched for in all that students get."""
    number = PAGES.index(page)
    exercises = sets[number]
    wanted = answers(exercises, page)
    assert len(wanted) > 40
    name = exercises.name
    repository = written / "repository" / name
    texts = {path.name: path.read_text("utf-8") for path in repository.iterdir()}
    assert len(texts) == 4
    for form, path in (
        ("nbgrader", written / "nbgrader" / "source" / name / f"{name}.ipynb"),
        ("otter", written / "otter" / f"{name}.ipynb"),
    ):
        text = path.read_text("utf-8")
        whole = lines("\n".join(c.source for c in nbformat.reads(text, 4).cells))
        assert len(wanted & whole) > 20, "the search finds what is there"
        texts[form] = released(text, form)
    for file, text in texts.items():
        assert not wanted & lines(text), file


def test_locked_hidden_and_by_hand(sets, written):
    """Students change what they fill, and nothing else."""
    for one in sets:
        path = written / "nbgrader" / "source" / one.name / f"{one.name}.ipynb"
        cells = nbformat.read(path, as_version=4).cells
        marks = {c.id: c.metadata.nbgrader for c in cells if "nbgrader" in c.metadata}
        for cell in cells:
            if cell.cell_type == "code":
                assert marks[cell.id].locked != marks[cell.id].solution, cell.id
        for task in one.tasks:
            (points,) = [c for c in cells if c.id == f"{task.name}-points"]
            assert marks[points.id].points == task.points and marks[points.id].locked
            assert "### BEGIN HIDDEN TESTS" in points.source
            assert points.source.startswith(f"# {task.points} points:")
            assert f"seed={one.seed(7, task)}" in points.source
            assert all(marks[part.cell].solution for part in task.code)
            if task.words:
                by_hand = marks[task.words.cell]
                assert by_hand.grade and by_hand.solution and by_hand.points == WORDS
                assert len(task.words.solution) > 100 and ":::" not in (
                    task.words.solution
                )
        assert len({one.seed(s, t) for s in (7, 8) for t in one.tasks}) == 2 * len(
            one.tasks
        )


def test_a_cell_that_does_not_fit_is_named(tmp_path, monkeypatch):
    """Rather than an assignment without points."""
    page = PAGES[0]
    notebook = nbformat.read(ROOT / page, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}

    def read(cell, old, new):
        kept, cells[cell].source = (
            cells[cell].source,
            cells[cell].source.replace(old, new),
        )
        assert kept != cells[cell].source
        try:
            return read_set(BOOK, page)
        finally:
            cells[cell].source = kept

    monkeypatch.setattr(assign, "plain_edition", lambda book, page: notebook)
    monkeypatch.setattr(assign.nbformat, "read", lambda path, as_version: notebook)
    with pytest.raises(ValueError, match=r"cell fill-text: .*ends with the minutes"):
        read("fill-text", " minutes*", " min*")
    with pytest.raises(ValueError, match=r"cell fill-text: .*one check, found 0"):
        read("fill-check", "check.", "other.")
    with pytest.raises(ValueError, match=r"cell fill-text: .*names only"):
        read("fill-check", "(mask_and_scale)", "(lambda x: x)")
    with pytest.raises(ValueError, match=r"name no module of checks"):
        read("imports", "as check", "as c")


# --- points -----------------------------------------------------------------------


@pytest.mark.slow
def test_other_seeds_do_not_change_who_is_right(sets, float64):
    """The solutions of the first set get all points, whatever the seed."""
    one = sets[0]
    names = {}
    imports = next(c for c in one.edition.cells if c.id == "imports").source
    exec(imports, names)
    for task in one.tasks:
        for part in task.code:
            exec(part.solution, names)
        given = [names[name] for name in task.answers]
        for seed in (one.seed(n, task) for n in range(5)):
            points, report = score(
                one.chapter, task.check, *given, points=task.points, seed=seed
            )
            assert points == task.points, (task.name, seed, report)


def test_the_seed_reaches_the_checks(float64):
    """And leaves them as they were."""
    seen = set()

    def mask_and_scale(x, p, generator=None):
        seen.add(generator.initial_seed())
        shape = (*x.shape[:2], *[1] * (x.dim() - 2))
        return torch.rand(shape, generator=generator) >= p, 1 / (1 - p)

    def seeds(seed):
        seen.clear()
        points, _ = score(
            "chapter_1", "mask_and_scale", mask_and_scale, points=2, seed=seed
        )
        assert points == 2
        return set(seen)

    public = seeds(0)
    assert seeds(5000) == {seed + 5000 for seed in public} and public
    seen.clear()
    assert core.SEED == 0 and str(check.mask_and_scale(mask_and_scale)).endswith("7/7")
    assert seen == public


@pytest.fixture
def hand_in(sets, written, tmp_path):
    """A folder with adapters that return what a file of the student's defines."""
    one = sets[0]

    def write(name, change=lambda text: text):
        folder = tmp_path / name
        folder.mkdir()
        imports = next(c for c in one.edition.cells if c.id == "imports").source
        parts = [part.solution for task in one.tasks for part in task.code]
        (folder / "mine.py").write_text(change("\n".join([imports, *parts])))
        adapters = (written / "repository" / "set_1" / "adapters.py").read_text()
        adapters = re.sub(
            r'def get_(\w+)(.*?)    raise NotImplementedError\("task \d"\)',
            r"def get_\1\2    return mine.\1",
            adapters,
            flags=re.S,
        )
        (folder / "adapters.py").write_text(f"import mine\n{adapters}")
        return folder

    return write


@pytest.mark.slow
def test_folders_and_notebooks_are_graded(hand_in, sets, written, tmp_path, capsys):
    """Each in a process of its own, so that none disturbs another."""
    good = hand_in("good", lambda text: text + "\nprint('99')")
    broken = hand_in("broken", lambda text: text + "\nraise SystemExit(1)")
    solutions = {p.cell: p.solution for task in sets[0].tasks for p in task.code}
    solutions["fill-answer"] = "%time\nno_python"
    solutions["design-answer"] = "drop_exactly = spatial_dropout"
    notebook = nbformat.from_dict(sets[0].edition)
    for cell in notebook.cells:
        cell.source = solutions.get(cell.id, cell.source)
        if cell.id == "design-solution":
            cell.source = "Because it is so."
    page = tmp_path / "mary.ipynb"
    nbformat.write(notebook, page)
    tasks = written / "repository" / "set_1.json"
    out = tmp_path / "feedback"
    grade([str(tasks), str(good), str(broken), str(page), "--feedback", str(out)])
    assert capsys.readouterr().out.splitlines() == [
        "hand-in,trace,fill,layer,diagnose,design,sum",
        "good,1.0,2.0,5.0,4.0,6.0,18.0",
        "broken,0.0,0.0,0.0,0.0,0.0,0.0",
        "mary,1.0,0.0,5.0,4.0,0.0,10.0",
    ]
    told = (out / "mary.md").read_text(encoding="utf-8")
    for text in (
        "# 10 of 18",
        "## fill: 0 of 2",
        "no attribute 'mask_and",
        "calls spatial_dropout of regdrop_lite",
    ):
        assert text in told
    assert told.endswith("## In words\n\nBecause it is so.\n")


@pytest.mark.slow
def test_what_is_missing_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for arguments, words in (
        ([str(tmp_path)], "exists; name a folder that does not"),
        ([str(tmp_path / "new"), "--set", "99"], "no exercise set 99, but [1, 2"),
        ([str(tmp_path / "new"), "--only", "2"], "name it with --set"),
        ([str(tmp_path / "new"), "--set", "1", "--only", "2,9"], "but got [2, 9]"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        grade([str(ROOT / "README.md"), str(tmp_path)])
    assert "is not a set that assign wrote" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        grade([str(ROOT / "README.md"), str(tmp_path / "nobody")])
    assert "nobody is no folder and no notebook" in capsys.readouterr().err
