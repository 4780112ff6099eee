"""The first use of a glossary's word on a page leads to its entry, and shows it.

A reader who meets "thinned net" for the first time sees the entry where the pointer
rests, where the keyboard's focus is, or at a tap (``course.js``). Authors mark nothing:
the words are those of the glossary, in singular and plural.
"""

import re
from typing import Any

from docutils import nodes
from predict import given
from sphinx.addnodes import glossary, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator
from sphinx_design.dropdown import dropdown_title

ENTRIES = "glossary_entries"  # in Sphinx's environment: word -> (page, anchor, text)


class first_use(nodes.Inline, nodes.TextElement):
    """A word that leads to its entry."""


# Words stay as they are inside of these.
CLOSED = (nodes.title, nodes.reference, nodes.literal, nodes.FixedTextElement)
CLOSED += (nodes.raw, nodes.term, nodes.caption, nodes.container, nodes.strong)
CLOSED += (pending_xref, nodes.rubric, nodes.math, nodes.table, first_use)
CLOSED += (dropdown_title, given)  # a click on these opens what they fold
# A hover is plain text; tests/site/test_glossary.py finds a sign that is not here.
SIGNS = {r"\times": "×", r"\rho": "ρ", r"\gamma": "γ", r"q_\ell": "q", r"^2": "²"}


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Keep the entries of a page that has a glossary."""
    entries: dict[str, tuple[str, str, str]] = getattr(app.env, ENTRIES, {})
    for item in doctree.findall(nodes.definition_list_item):
        if isinstance(item.parent.parent, glossary):
            term = item.next_node(nodes.term)
            text = first_sentence(item.next_node(nodes.definition))
            entries[term.astext()] = (app.env.docname, term["ids"][0], text)
    setattr(app.env, ENTRIES, entries)


def first_sentence(definition: nodes.Node) -> str:
    """What an entry says first, without citations."""
    paragraph = definition.next_node(nodes.paragraph).deepcopy()
    for citation in list(paragraph.findall(pending_xref)):
        if citation.get("refdomain") == "cite":
            citation.parent.remove(citation)
    text = " ".join(paragraph.astext().split())
    for name, sign in SIGNS.items():
        text = text.replace(name, sign)
    text = re.sub(r"\s+([.,;:])", r"\1", text)
    return re.match(r".*?[.](?=\s|$)|.*", text)[0]


def merge(
    app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment
) -> None:
    """Take over what another process has read."""
    mine, theirs = (getattr(one, ENTRIES, {}) for one in (env, other))
    setattr(env, ENTRIES, {**mine, **theirs})


def pattern(word: str) -> re.Pattern[str]:
    """Find a word; one that is written small may begin a sentence."""
    flags = re.IGNORECASE if word.islower() else 0
    plural = "" if word.endswith("s") else "s?"
    spaced = r"\s+".join(re.escape(part) for part in word.split())
    return re.compile(rf"(?<![\w-]){spaced}{plural}(?![\w-])", flags)


def open_link(self: HTML5Translator, node: first_use) -> None:
    """Begin the link; the style sheet shows the entry."""
    entry = {"data-entry": node["entry"]}
    link = self.starttag(node, "a", "", CLASS="term", href=node["refuri"], **entry)
    self.body.append(link)


def close_link(self: HTML5Translator, node: first_use) -> None:
    """End the link."""
    self.body.append("</a>")


class LinkFirstUse(SphinxPostTransform):
    """Make the first use of every entry a link."""

    default_priority = 900  # when citations and references are resolved
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Go through the entries: "residual block" comes before "block"."""
        here, builder = self.env.docname, self.app.builder
        if not here.startswith(tuple(self.config.glossary_hovers_in)):
            return
        entries = getattr(self.env, ENTRIES, {})
        for word in sorted(entries, key=len, reverse=True):
            page, anchor, text = entries[word]
            if page == here:
                continue
            for found in self.document.findall(nodes.Text):
                match = pattern(word).search(found)
                if match is None or self.is_closed(found):
                    continue
                address = builder.get_relative_uri(here, page) + f"#{anchor}"
                link = first_use("", match[0], refuri=address, entry=text)
                before, after = found[: match.start()], found[match.end() :]
                found.parent.replace(
                    found, [nodes.Text(before), link, nodes.Text(after)]
                )
                break

    @staticmethod
    def is_closed(node: nodes.Node) -> bool:
        """Tell whether a word has to stay as it is."""
        while node.parent is not None:
            node = node.parent
            page = "on-one-page" in node.get("classes", ())  # the card is all one
            if isinstance(node, CLOSED) and not page:
                return True
        return False


def outdated(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Name the pages that show entries, when one of these has changed."""
    pages = {page for page, _, _ in getattr(env, ENTRIES, {}).values()}
    if not pages & changed:
        return []
    where = tuple(app.config.glossary_hovers_in)
    return [page for page in env.found_docs if page.startswith(where)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_config_value("glossary_hovers_in", [], "html", [list])
    app.add_node(first_use, html=(open_link, close_link))
    app.connect("doctree-read", collect)
    app.connect("env-merge-info", merge)
    app.connect("env-get-outdated", outdated)
    app.add_post_transform(LinkFirstUse)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
