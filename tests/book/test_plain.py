"""The plain edition: Markdown that shows as meant without MyST, for every notebook.

That its cells give the stored outputs is tested by .ci/run, which runs them.
"""

import ast
import builtins
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from regdrop_lite.course.author.markdown import (
    PlainError,
    Resolver,
    parser,
    to_plain,
)
from regdrop_lite.course.author.plain import GLUE, Book, main, plain_edition

ROOT = Path(__file__).parents[2]
BOOK = Book.read(ROOT)
EXTENSIONS = ("amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath")
every_notebook = pytest.mark.parametrize("page", BOOK.notebooks)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """All plain editions, in a path with a space."""
    folder = tmp_path_factory.mktemp("plain") / "a folder"
    arguments = [str(folder), *(str(ROOT / page) for page in BOOK.notebooks)]
    main(arguments)
    return folder


def read(out, page):
    return nbformat.read(out / page.removeprefix("book/"), as_version=4)


def prose(notebook):
    cells = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    return re.sub(r"^(`{3,}).*?^\1$", "", "\n\n".join(cells), flags=re.M | re.S)


class Known(Resolver):
    def role(self, name, text):
        return "REF" if name == "ref" else super().role(name, text)

    def equation(self, label):
        return "1.2"

    def link(self, address):
        return f"https://site/{address}"


def plain(text):
    return to_plain(text, parser(EXTENSIONS), Known())


# --- constructs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        (":::{note}\nA.\n:::", "> **Note**\n>\n> A."),
        (
            ":::{admonition} T $x$\n:class: tip\nA.\n\nB.\n:::",
            "> **T $x$**\n>\n> A.\n>\n> B.",
        ),
        (
            "::::{tip}\n:::{dropdown} H\nA.\n:::\n::::",
            "> **Tip**\n>\n> <details>\n> <summary>H</summary>\n>\n> A.\n>\n"
            "> </details>",
        ),
        (
            ":::{admonition} T\n:class: note dropdown\nA.\n:::",
            "<details>\n<summary>T</summary>\n\nA.\n\n</details>",
        ),
        (":::{exercise}\n:label: ex\n:nonumber:\n\nDo.\n:::", "Do."),
        ("```{math}\n:label: eq-a\na\n= b\n```", r"$$ a = b \tag{1.2} $$"),
        ("$$\na\n$$ (eq-a)", r"$$ a \tag{1.2} $$"),
        ("$$\na\n$$", "$$ a $$"),
        ("> so $a\n> = b$", "> so $a = b$"),
        ("{math}`a_b` costs \\$5", r"$a_b$ costs \$5"),
        ("see {ref}`S5\n<sources>`", "see REF"),
        ("[a](b.md)", "[a](https://site/b.md)"),
        ("(label)=\n# T", "# T"),
        ("% gone\n\nA.", "A."),
        ("A.\n\n+++\n\nB.", "A.\n\nB."),
        ("Word\n: meaning", "**Word**\n\n> meaning"),
        ("```{code-block} python\n:caption: c\nx = 1\n```", "```python\nx = 1\n```"),
        ("```python\n{ref}`x`\n```", "```python\n{ref}`x`\n```"),
        ("| a |\n|--:|\n| $x$ |", "|   a |\n| --: |\n| $x$ |"),
        ("3. a\n4. b", "3. a\n4. b"),
        (
            ":::{predict}\nHow *many*?\n\n- [x] $n$\n\n  All.\n- [ ] 2\n\n  No.\n:::",
            "**Predict.** How *many*?\n\n<details>\n<summary>$n$</summary>\n\n"
            "**Right.** All.\n\n</details>\n\n<details>\n<summary>2</summary>\n\n"
            "**Not so.** No.\n\n</details>",
        ),
        (
            ":::{predict} 3\n:number:\nA?\n\n- [x] 4 ± 1 %\n\n  B.\n:::",
            "**3.** A?\n\n<details>\n<summary>4 %</summary>\n\n**Right.** B.\n\n"
            "</details>",
        ),
    ],
)
def test_a_construct_of_myst_becomes_markdown(myst, expected):
    assert plain(myst) == expected


@pytest.mark.parametrize(
    "myst",
    [
        "{unheard}`of`",
        ":::{unheard} of\n:::",
        "```{unheard} of\n```",
        "::: bare\nA.\n:::",
        "\\begin{align}\na &= b\n\\end{align}",
        '<img src="a.png">',
        "$$\na % b\n$$",
        "::::{note}\n:::{unheard}\n:::\n::::",
        ":::{predict}\nA?\n\n- [ ] this\n\n  No.\n:::",
    ],
)
def test_what_cannot_be_said_is_an_error(myst):
    with pytest.raises(PlainError):
        plain(myst)


# --- every notebook -------------------------------------------------------------------


@every_notebook
def test_no_myst_is_left(out, page):
    text = re.sub(r"`[^`\n]*`", "`code`", prose(read(out, page)))
    for raw in (r"\{[\w:]+\}`", r":::", r"\{math\}", r"^:\w+:", r"^\(.*\)=$", "``{"):
        assert not re.search(raw, text, flags=re.M), raw
    assert text.count("<details>") == text.count("</details>")
    assert "REPOSITORY_URL" not in text and "unfold the solution" not in text


@every_notebook
def test_no_glue_no_author_and_no_solution_is_left(out, page):
    notebook = read(out, page)
    for cell in notebook.cells:
        assert "solution" not in cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            assert not re.search(r"\bglue\(|\bmyst_nb\b", cell.source)
            assert not any(GLUE in o.get("data", {}) for o in cell.outputs)
    written = (out / page.removeprefix("book/")).read_text(encoding="utf-8")
    assert str(ROOT) not in written and str(Path.home()) + "/" not in written
    assert str(out) not in written


@every_notebook
def test_every_glued_number_is_filled_in_as_the_site_does(out, page):
    source = nbformat.read(ROOT / page, as_version=4)
    text = prose(read(out, page))
    for cell in source.cells:
        for output in cell.get("outputs", []):
            if GLUE not in output.get("data", {}):
                continue
            name = output.metadata["scrapbook"]["name"]
            value = ast.literal_eval(output.data[GLUE])
            for form in re.findall(
                rf"\{{glue:text\}}`{name}(?::([^`]*))?`", prose(source)
            ):
                assert (format(float(value), form) if form else str(value)) in text


@every_notebook
def test_links_lead_somewhere(out, page):
    notebook = read(out, page)
    here = (out / page.removeprefix("book/")).parent
    headings = {
        title.replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", prose(notebook), flags=re.M)
    }
    for target in re.findall(r"\]\(<?([^)>\s]+)", prose(notebook)):
        if target.startswith("#"):
            assert unquote(target[1:]) in headings
        elif not re.match(r"https?://", target):
            assert (here / unquote(target.partition("#")[0])).is_file(), target


@every_notebook
def test_no_cell_needs_a_name_of_a_cell_that_is_left_out(out, page):
    """Cells of the site alone, as those with numbers for the text, may not define."""
    known, needed = set(dir(builtins)) | {"get_ipython", "display"}, set()
    for cell in read(out, page).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(
            ast.parse(re.sub(r"^\s*[%!].*", "", cell.source, flags=re.M))
        ):
            match node:
                case ast.Name(id, ast.Load()):
                    needed.add(id)
                case ast.Name(id):
                    known.add(id)
                case (
                    ast.arg(name)
                    | ast.ExceptHandler(name=name)
                    | ast.MatchAs(name=name)
                ):
                    known.add(name)
                case ast.FunctionDef(name) | ast.ClassDef(name):
                    known.add(name)
                case ast.alias(name, asname):
                    known.add(asname or name.partition(".")[0])
    assert needed <= known, needed - known


@every_notebook
def test_folded_cells_are_folded_in_jupyter(out, page):
    for cell in read(out, page).cells:
        if {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])):
            assert cell.metadata.jupyter.source_hidden is True


def test_what_answers_a_question_is_folded(tmp_path):
    """As on the site: outputs, and the text as far as it answers."""
    printed = {"outputs": [new_output("stream", text="7")], "execution_count": 1}
    folded = {"tags": ["hide-input"]}
    cells = [
        new_markdown_cell("**Predict.** How many?", id="ask"),
        new_code_cell("x = 1", id="in-view"),
        new_code_cell("x", id="shown", metadata=folded, **printed),
        new_markdown_cell(
            "Seven:\n\n:::{note}\nA.\n:::\n\nNext.\n\n**Predict.** And now?", id="read"
        ),
        new_code_cell("y", id="again", **printed),
        new_markdown_cell("No.\n\nNever.\n\n% answered\n\nNext.", id="last"),
        new_code_cell("z", id="free", **printed),
    ]
    book = made_up(tmp_path, *cells)
    edition = {cell.id: cell for cell in plain_edition(book, "book/one.ipynb").cells}
    fold = "<details>\n<summary>Result</summary>\n\n{}\n\n</details>"
    assert edition["read"].source == (
        fold.format("Seven:\n\n> **Note**\n>\n> A.")
        + "\n\nNext.\n\n**Predict.** And now?"
    )
    assert edition["last"].source == fold.format("No.\n\nNever.") + "\n\nNext."
    hidden = {name: cell.metadata.get("jupyter", {}) for name, cell in edition.items()}
    assert hidden["shown"] == {"source_hidden": True, "outputs_hidden": True}
    assert hidden["again"] == {"outputs_hidden": True}
    assert hidden["in-view"] == hidden["free"] == {}
    assert edition["shown"].outputs


@every_notebook
def test_every_question_has_something_folded(out, page):
    """Until the next question or heading: an output, or text."""
    cells = read(out, page).cells
    for i, cell in enumerate(cells):
        if cell.cell_type != "markdown":
            continue
        for question in re.split(r"^\*\*Predict\.\*\*", cell.source, flags=re.M)[1:]:
            below = [question]
            for other in cells[i + 1 :]:
                if other.cell_type == "markdown":
                    below.append(
                        re.split(r"^#|^\*\*Predict", other.source, flags=re.M)[0]
                    )
                    if below[-1] != other.source:
                        break
                elif other.outputs and other.metadata.get("collapsed"):
                    below.append("<details>")
            assert "<details>" in "".join(below), question


@every_notebook
def test_the_data_that_a_page_reads_comes_with_it(out, page):
    """Whatever file of the book the code names is in the plain edition's folder."""
    first, *rest = read(out, page).cells
    code = "\n".join(cell.source for cell in rest if cell.cell_type == "code")
    below = "../" * page.removeprefix("book/").count("/")
    tree = ast.parse(re.sub(r"^ *[%!].*", "", code, flags=re.M))
    constants = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
    ]
    paths = [
        re.match(r"[\w./-]+/", text) for text in constants if isinstance(text, str)
    ]
    names = {p[0].removeprefix(below).split("/")[0] for p in paths if p} - {"", "."}
    folders = {below + name for name in names if (ROOT / "book" / name).is_dir()}
    assert ("results/" in code) <= any("results" in folder for folder in folders)
    condition = first.source.split("course):")[0]
    assert set(re.findall(r'isdir\("([^"]+)"\)', condition)) == folders
    for folder in folders:
        assert (out / page.removeprefix("book/")).parent.joinpath(folder).is_dir()


@pytest.mark.slow
@every_notebook
def test_the_first_cell_prepares_an_empty_colab(out, page, tmp_path):
    """It clones this repository (git knows its address by another name) and goes in."""
    script = read(out, page).cells[0].source.replace("[course]", "")
    stub = "import sys, types; sys.modules['google.colab'] = types.ModuleType('x')\n"
    stub += "import subprocess as s; run = s.run\n"
    stub += "s.run = lambda c, **k: run(c, **k) if c[0] == 'git' else print('PIP', c)\n"
    show = "\nimport os; print(os.getcwd(), os.path.isdir('../results'))"
    environment = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_COUNT": "1"}
    environment["USERPROFILE"] = str(tmp_path)
    environment["GIT_CONFIG_KEY_0"] = f"url.{ROOT.as_uri()}.insteadOf"
    environment["GIT_CONFIG_VALUE_0"] = BOOK.repository
    done = subprocess.run(
        [sys.executable, "-c", stub + script + show],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PIP" in done.stdout
    folder = tmp_path / BOOK.repository.rsplit("/", 1)[-1] / page
    assert str(folder.parent) in done.stdout
    assert (folder.parent / ("../" * (page.count("/") - 1)) / "results").is_dir()


# --- the command ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_call_loses_no_work(tmp_path, capsys):
    page = str(ROOT / BOOK.notebooks[-5])
    other = str(ROOT / BOOK.notebooks[0])
    main([str(tmp_path), page])
    (file,) = tmp_path.rglob("*.ipynb")
    main([str(tmp_path), page])  # nobody has worked in it
    notebook = nbformat.read(file, as_version=4)
    notebook.cells.append(new_markdown_cell("my work"))
    nbformat.write(notebook, file)
    with pytest.raises(SystemExit):
        main([str(tmp_path), other, page])
    error = " ".join(capsys.readouterr().err.split())
    assert file.name in error and "--force" in error and "another folder" in error
    assert "my work" in file.read_text(encoding="utf-8")
    assert not (tmp_path / Path(other).name).exists(), "nothing was written"
    main([str(tmp_path), page, "--force"])
    assert "my work" not in file.read_text(encoding="utf-8")


def test_what_is_none_of_the_books_notebooks_is_named(tmp_path, monkeypatch, capsys):
    for arguments, words in (
        ([str(tmp_path), str(ROOT / "book/setup.md")], "none of the book's notebooks"),
        ([str(tmp_path / "a.ipynb"), str(ROOT / BOOK.notebooks[0])], "a folder"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert words in " ".join(capsys.readouterr().err.split())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out")])
    assert "folder of the course's repository" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def made_up(tmp_path, *cells):
    (tmp_path / "book" / "reference").mkdir(parents=True)
    (tmp_path / "_config.yml").write_text(
        "repository: {url: 'https://github.com/a/b'}\nhtml: {baseurl: 'https://s/'}\n"
        "parse: {myst_enable_extensions: [colon_fence, dollarmath]}\n"
    )
    (tmp_path / "_toc.yml").write_text(
        "root: book/intro\nparts:\n- numbered: 1\n  chapters: [{file: book/one}]\n"
    )
    (tmp_path / "book" / "intro.md").write_text("(start)=\n# Start here\n")
    notebook = new_notebook(cells=list(cells))
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "book" / "one.ipynb")
    return Book.read(tmp_path)


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        ("[x](intro.md)", "[x](https://s/book/intro.html)"),
        ("[x](intro.md#start-here)", "[x](https://s/book/intro.html#start-here)"),
        ("{ref}`start`", "[Start here](https://s/book/intro.html#start)"),
        ("$$\na\n$$ (e)\n\nsee {eq}`e`", "$$ a \\tag{1.1} $$\n\nsee (1.1)"),
    ],
)
def test_references_of_a_small_book(tmp_path, myst, expected):
    book = made_up(tmp_path, new_markdown_cell(myst))
    assert plain_edition(book, "book/one.ipynb").cells[1].source == expected


@pytest.mark.parametrize(
    "myst",
    [
        "[x](none.md)",
        "[x](#none)",
        "[x](intro.md#none)",
        "{ref}`none`",
        "{eq}`start`",
        "{cite}`none`",
        "{glue:text}`none:.2f`",
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error(tmp_path, myst):
    book = made_up(tmp_path, new_markdown_cell(myst, id="here"))
    with pytest.raises(PlainError, match="cell here"):
        plain_edition(book, "book/one.ipynb")
