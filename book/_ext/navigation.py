"""How a reader finds the way: the sidebar, the way on, the search's best answers.

All of it follows the table of contents. A chapter is ``book/NN_name``; deeper pages,
``book/NNx_name``, are optional; exercises and quiz stand below their chapter.

* The template "course-sidebar.html" gets the pages by parts; those of teachers and of
  reference are folded.
* The template "way-on.html" gets the main path (chapter, exercises, next chapter), what
  goes deeper and what to practise.
* The template "page-name.html" gets the page's name, for the header of a phone.
* The search gets ``search_answers.yml``: questions of readers, and where they are
  answered.
* A long glossary gets a row of letters.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

FOLDED = ("Teach", "Reference")  # parts of the sidebar
CHAPTER = re.compile(r"book/(\d\d)_\w+")
DEEPER = re.compile(r"book/(\d\d)[b-z]_\w+")
TASKS = re.compile(r"book/exercises/(\d\d)_\w+_(exercises|quiz)")
ANSWERS = Path(__file__).parents[1] / "search_answers.yml"
MANY = 30  # words of a glossary that need letters


def trees(env: BuildEnvironment, page: str) -> Iterator[addnodes.toctree]:
    """The tables of contents of a page."""
    yield from env.tocs[page].findall(addnodes.toctree)


def below(env: BuildEnvironment, page: str) -> Iterator[tuple[str | None, str]]:
    """The pages directly below a page, as (title, page); a title only if one is set."""
    for tree in trees(env, page):
        yield from tree["entries"]


def in_order(env: BuildEnvironment, page: str) -> Iterator[str]:
    """All pages below a page, in the order of the table of contents."""
    for _, name in below(env, page):
        yield name
        yield from in_order(env, name)


def name_of(env: BuildEnvironment, page: str) -> str:
    """The title of a page, with the number of a chapter."""
    number = env.toc_secnumbers.get(page, {}).get("")
    text = env.titles[page].astext()
    return f"{number[0]}. {text}" if number and len(number) == 1 else text


def short(name: str) -> str:
    """What the header of a phone has room for: "6. In practice", "The rate"."""
    if re.match(r"\d", name):
        return re.sub(r"( from|,|:) .*", "", name)
    last = re.sub(r"^[^:]*: ", "", name)
    return last[:1].upper() + last[1:]


def find_way_on(root: str, pages: list[str], page: str) -> dict[str, Any]:
    """Where to go from a page: "previous", "next", "deeper", "practise"; or nothing."""
    tasks = {(m[1], m[2]): m[0] for m in map(TASKS.fullmatch, pages) if m}
    numbers = {m[1]: m[0] for m in map(CHAPTER.fullmatch, pages) if m}
    main = [root]
    for number, name in numbers.items():
        main += [name, *filter(None, [tasks.get((number, "exercises"))])]
    main.append("book/reference/api")
    number = next(iter(re.findall(r"/(\d\d)", page)), "")
    if page == root:
        before = root
    elif number not in numbers:
        return {}
    elif page in main:
        before = page
    elif DEEPER.fullmatch(page):
        before = numbers[number]
    else:
        before = tasks[number, "exercises"]
    here = main.index(before)
    previous = main[here - 1] if page == before else before
    deeper = [n for n in pages if (m := DEEPER.fullmatch(n)) and m[1] == number]
    practise = [name for (other, _), name in tasks.items() if other == number]
    following = main[here + 1]
    return {
        "previous": previous if page != root else None,
        "next": following,
        "deeper": [name for name in deeper if name != page],
        "practise": [name for name in practise if name not in (page, following)],
    }


def add_way_on(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Tell the template "way-on.html" where to go from here."""
    env, pathto = app.env, context["pathto"]
    root = app.config.root_doc
    way = find_way_on(root, list(in_order(env, root)), page)

    def link(name: str) -> dict[str, str]:
        return {"url": pathto(name), "name": name_of(env, name)}

    context["way_on"] = {
        what: [*map(link, found)] if isinstance(found, list) else found and link(found)
        for what, found in way.items()
    }
    if way:  # which says it better than "previous" and "next"
        context["theme_show_prev_next"] = False


def add_sidebar(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Tell the templates of the sidebar and of the header where everything is."""
    env, pathto = app.env, context["pathto"]

    def entry(title: str | None, name: str) -> dict[str, Any]:
        pages = [entry(*each) for each in below(env, name)]
        pages.sort(key=lambda one: one["optional"])  # the order of each kind stays
        return {
            "name": title or name_of(env, name),
            "url": "#" if name == page else pathto(name),
            "here": name == page,
            "open": name == page or any(one["open"] for one in pages),
            "optional": bool(DEEPER.fullmatch(name)),
            "pages": pages,
        }

    parts = []
    for tree in trees(env, app.config.root_doc):
        pages = [entry(*each) for each in tree["entries"]]
        caption = tree.get("caption")
        parts.append(
            {
                "name": caption,
                "folded": caption in FOLDED,
                "open": any(one["open"] for one in pages),
                "pages": pages,
            }
        )
    context["sidebar_parts"] = parts
    names = {"search": "Search", "404": "Not found"}
    known = page in env.titles
    context["page_name"] = short(name_of(env, page)) if known else names.get(page, "")


def add_answers(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Write the answers to frequent questions, as a script: files may load it, too."""
    if page != "search":
        return
    answers = []
    for one in yaml.safe_load(ANSWERS.read_text(encoding="utf-8")):
        name, _, anchor = one["to"].partition("#")
        if f"book/{name}" not in app.env.titles:
            raise ExtensionError(f"{ANSWERS.name}: there is no page {name}")
        url = context["pathto"](f"book/{name}") + (anchor and f"#{anchor}")
        title = one.get("title") or name_of(app.env, f"book/{name}")
        answers.append(
            {"ask": one["ask"], "url": url, "title": title, "say": one["say"]}
        )
    out = Path(app.outdir) / "_static" / "search-answers.js"
    out.parent.mkdir(exist_ok=True)
    script = f"globalThis.searchAnswers = {json.dumps(answers, ensure_ascii=False)};\n"
    out.write_text(script, encoding="utf-8", newline="\n")


class Letters(SphinxPostTransform):
    """Put a row of letters above a long glossary, and each above its words."""

    default_priority = 200
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Part the list where a letter begins, and link the row to these places."""
        for glossary in list(self.document.findall(addnodes.glossary)):
            terms = list(glossary.findall(nodes.term))
            if len(terms) < MANY:
                continue
            row = nodes.paragraph(classes=["letters"])
            (words,) = glossary.children
            parts: list[nodes.Node] = []
            begun = set()
            for item in list(words):
                letter = item.next_node(nodes.term).astext()[0].upper()
                known = letter in begun or not (letter.isascii() and letter.isalpha())
                if not known:
                    begun.add(letter)
                    name = f"letter-{letter.lower()}"
                    row += [nodes.reference("", letter, refid=name), nodes.Text(" ")]
                    html = f'<h2 class="letter" id="{name}">{letter}</h2>'
                    parts.append(nodes.raw("", html, format="html"))
                if not known or not parts:
                    parts.append(words.deepcopy())
                    parts[-1].clear()
                parts[-1] += item
            glossary.children = []
            glossary += parts
            glossary.parent.insert(glossary.parent.index(glossary), row)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_post_transform(Letters)
    # Before the theme leaves out templates that are empty.
    app.connect("html-page-context", add_way_on, priority=100)
    app.connect("html-page-context", add_sidebar, priority=100)
    app.connect("html-page-context", add_answers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
