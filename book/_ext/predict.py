"""Predict, commit, reveal: a question, the reader's own answer, and then the page's.

A paragraph that begins with ``**Predict.**`` is a question. What answers it, outputs
and sentences, is folded (``regdrop_lite.course.author.predict`` says what that is).
Code stays in view, so that a reader knows what is about to run.

The directive ``predict`` is a question as well, and can offer answers::

    :::{predict}
    How many of 64 channels fall at $p = 0.25$, on average?

    - [x] 16

      $64\\,p$.
    - [ ] 48

      That many are *kept*: $p$ is the probability to drop.
    :::

With the option ``number`` the reader types a number; an argument is a title in the
place of "Predict". With ``mark`` the number is a mark that the reader sets on an axis::

    :mark: share kept, 0 to 1
    :points: 0.12, 0.88

and afterwards it stands there beside the result. Where no script runs, the folded parts
are ``<details>``, and so is each answer. ``predict.js`` adds the field for one's own
answer, and remembers it.
"""

import json
from dataclasses import asdict
from hashlib import sha1
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from regdrop_lite.course.author.predict import (
    END,
    PROMPT,
    Choice,
    Kind,
    parse_axis,
    parse_question,
    reach,
)

logger = logging.getLogger(__name__)


class question(nodes.General, nodes.Element):
    """A question, with the answers that it offers."""


class choice(nodes.General, nodes.Element):
    """A possible answer: its text, and what to say to whoever gives it."""


class given(nodes.General, nodes.TextElement):
    """The text of a possible answer."""


class reveal(nodes.General, nodes.Element):
    """What answers a question."""


class Predict(SphinxDirective):
    """A question, perhaps with answers to choose from."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {
        "number": directives.flag,
        "mark": directives.unchanged_required,
        "points": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Parse the question and its answers."""
        kind = next((name for name in ("mark", "number") if name in self.options), "")
        axis = None
        try:
            asked = parse_question("\n".join(self.content), bool(kind))
            if kind == "mark":
                points = self.options.get("points", "")
                axis = parse_axis(self.options["mark"], asked, points)
        except ValueError as error:
            raise self.error(str(error)) from None
        title = self.arguments[0] if self.arguments else PROMPT.rstrip(".")
        node = question(title=title, kind=kind, unit=asked.unit, axis=axis)
        node += self.parse_text_to_nodes(asked.text)
        if asked.choices:
            answers = nodes.bullet_list(classes=["predict-choices"])
            answers += [nodes.list_item("", self.answer(one)) for one in asked.choices]
            node += answers
        return [node]

    def answer(self, one: Choice) -> choice:
        """Make one of the answers."""
        node = choice(right=one.right, value=one.value, tolerance=one.tolerance)
        (text,) = self.parse_text_to_nodes(one.text)
        node += given("", "", *text.children)
        verdict = "**Right.**" if one.right else "**Not so.**"
        node += self.parse_text_to_nodes(f"{verdict} {one.feedback}")
        return node


def is_prompt(node: nodes.Node) -> bool:
    """Tell a paragraph that begins with "Predict."."""
    if not isinstance(node, nodes.paragraph):
        return False
    # MyST puts an empty text in front.
    first = next((child for child in node.children if child.astext()), None)
    return isinstance(first, nodes.strong) and first.astext() == PROMPT


def is_cell(node: nodes.Node) -> bool:
    """Tell the code cell of a notebook."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def kind_of(node: nodes.Node) -> Kind:
    """Say what a block below a question is; see :func:`reach`."""
    if isinstance(node, nodes.section | question) or is_prompt(node):
        return "stop"
    if isinstance(node, nodes.comment | nodes.target):
        return "mark" if node.astext() == END else "label"
    if is_cell(node):
        last = node[-1] if node.children else node
        return "output" if last.get("nb_element") == "cell_code_output" else "code"
    if isinstance(node, nodes.paragraph):
        return "intro" if node.astext().rstrip().endswith(":") else "text"
    return "block"


class FoldAnswers(SphinxPostTransform):
    """Fold what answers a question."""

    default_priority = 150  # before myst_nb folds the source of cells
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Go over the page's questions, in order."""
        if self.app.builder.name == "epub":  # as on paper, nothing can be opened there
            return
        for paragraph in list(self.document.findall(is_prompt)):
            node = question(title=PROMPT.rstrip("."), kind="", unit="", axis=None)
            paragraph.replace_self(node)
            del paragraph[: paragraph.first_child_matching_class(nodes.strong) + 1]
            if paragraph.children and isinstance(paragraph[0], nodes.Text):
                paragraph[0] = nodes.Text(paragraph[0].lstrip())
            node += paragraph
        names: set[str] = set()
        for node in list(self.document.findall(question)):
            name = "predict-" + sha1(node.astext().encode()).hexdigest()[:6]
            while name in names:  # the same question twice
                name += "x"
            names.add(name)
            node["ids"] = [name]
            if isinstance(node.parent, nodes.section):
                self.fold(node, name)
            elif not next(node.findall(choice), None):
                logger.warning("nothing answers: %s", node.astext(), location=node)

    def fold(self, node: question, name: str) -> None:
        """Fold what answers one question of a section."""
        siblings = node.parent.children
        below = siblings[siblings.index(node) + 1 :]
        answer = below[: reach([kind_of(other) for other in below])]
        while answer and kind_of(answer[0]) == "code" and "hide_mode" not in answer[0]:
            del answer[0]  # in view
        if not answer:
            if not next(node.findall(choice), None):
                logger.warning("nothing answers: %s", node.astext(), location=node)
            return
        folded = reveal(ids=[f"{name}-result"])
        answer[0].parent.insert(answer[0].parent.index(answer[0]), folded)
        if is_cell(answer[0]) and "hide_mode" not in answer[0]:
            cell = answer[0]
            shown = cell.copy()
            shown += cell[0]
            del cell[0]
            folded.parent.insert(folded.parent.index(folded), shown)
        for part in answer:
            part.parent.remove(part)
            folded += part


def open_question(self: HTML5Translator, node: question) -> None:
    """Begin the box of a question."""
    data = {"data-unit": node["unit"], "data-kind": node["kind"]}
    if axis := node["axis"]:
        data["data-axis"] = json.dumps(asdict(axis))
    data = {key: value for key, value in data.items() if value}
    self.body.append(self.starttag(node, "div", CLASS="admonition predict", **data))
    title = self.encode(node["title"])
    self.body.append(f'<p class="admonition-title">{title}</p>\n')


def close_question(self: HTML5Translator, node: question) -> None:
    """End the box."""
    self.body.append("</div>\n")


def open_choice(self: HTML5Translator, node: choice) -> None:
    """Begin an answer, which is folded below its text."""
    data = {"data-right": "yes"} if node["right"] else {}
    if node["value"] is not None:
        data["data-value"] = repr(node["value"])
        data["data-tolerance"] = repr(node["tolerance"])
    self.body.append(self.starttag(node, "details", CLASS="predict-choice", **data))


def open_given(self: HTML5Translator, node: given) -> None:
    """Begin the text of an answer."""
    self.body.append("<summary>")


def close_given(self: HTML5Translator, node: given) -> None:
    """End it."""
    self.body.append("</summary>\n")


def close_details(self: HTML5Translator, node: nodes.Element) -> None:
    """End what is folded."""
    self.body.append("</details>\n")


def open_reveal(self: HTML5Translator, node: reveal) -> None:
    """Begin what answers a question."""
    self.body.append(self.starttag(node, "details", CLASS="predict-result"))
    self.body.append("<summary>Result</summary>\n")


def nothing(self: Any, node: nodes.Element) -> None:
    """Write the text as it is."""


def open_plain_given(self: Any, node: given) -> None:
    """Begin the text of an answer as a paragraph."""
    self.visit_paragraph(node)


def close_plain_given(self: Any, node: given) -> None:
    """End it."""
    self.depart_paragraph(node)


def open_plain_question(self: Any, node: question) -> None:
    """Write a question as a paragraph, where there is nothing to open."""
    node[0].insert(0, nodes.strong("", f"{node['title']}. "))


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Name the script in the pages that have questions, and in no other."""
    if doctree is not None and next(doctree.findall(question), None):
        app.add_js_file("predict.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    plain = dict.fromkeys(
        ("epub", "latex", "text", "man", "texinfo"), (nothing, nothing)
    )
    asked = dict.fromkeys(plain, (open_plain_question, nothing))
    texts = dict.fromkeys(plain, (open_plain_given, close_plain_given))
    app.add_node(question, html=(open_question, close_question), **asked)
    app.add_node(choice, html=(open_choice, close_details), **plain)
    app.add_node(given, html=(open_given, close_given), **texts)
    app.add_node(reveal, html=(open_reveal, close_details), **plain)
    app.add_directive("predict", Predict)
    app.add_post_transform(FoldAnswers)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
