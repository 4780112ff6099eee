"""Formulas as MathML, made when the site is built.

Every browser sets MathML by itself: a page needs no script for its formulas, shows them
without a server and in print, and a screen reader can read them. A formula that cannot
be converted is a warning, so ``-W`` stops the build.
"""

import re
from typing import Any, ClassVar

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
CONVERTER = LatexToMathML(fancy_error=False)
LONG = 60  # characters of TeX: on a phone, such a formula may be wider than a line
PUNCTUATION = re.compile(r"[.,;:!?)\]”’]+")
# A tall bracket with an exponent: browsers stretch it only in a row of its own.
SCRIPTED = re.compile(r"(<m(?:sub|sup|subsup)>)(<mo [^>]*minsize[^>]*>[^<]*</mo>)")


def convert(node: nodes.Element, displaystyle: bool) -> str:
    """The MathML of a formula, or a warning that names its place."""
    try:
        made = CONVERTER.convert_with_local_state(
            node.astext(), displaystyle=displaystyle
        )
        return SCRIPTED.sub(r"\1<mrow>\2</mrow>", made)
    except LatexError as error:
        LOGGER.warning("%s in the formula %r", error, node.astext(), location=node)
        return ""


def glue(formula: nodes.math) -> None:
    """Keep a formula and the punctuation after it on one line.

    A browser may break a line on either side of a formula, also before a comma.
    """
    behind = formula.next_node(descend=False, siblings=True)
    mark = PUNCTUATION.match(behind) if isinstance(behind, nodes.Text) else None
    if not mark or len(formula.astext()) > LONG:  # a long one scrolls on a phone
        return
    parent, place = formula.parent, formula.parent.index(formula)
    glued = nodes.inline("", "", formula, nodes.Text(mark[0]), classes=["glued"])
    parent[place : place + 2] = [glued, nodes.Text(behind[mark.end() :])]


def glue_end(sign: nodes.math) -> None:
    """Keep the square that ends a proof on the line of the last word or formula."""
    parent, place = sign.parent, sign.parent.index(sign)
    before = parent[place - 1] if place else None
    if not isinstance(before, nodes.Text):
        return
    head, _, last = before.rstrip().rpartition(" ")
    if last:
        kept = [nodes.Text(f"{head} ")] if head else []
        parts, start = [nodes.Text(last)], place - 1
    elif place > 1 and len(parent[place - 2].astext()) <= LONG:
        kept, parts, start = [], [parent[place - 2]], place - 2
    else:
        return
    glued = nodes.inline("", "", *parts, nodes.Text("\u00a0"), sign, classes=["glued"])
    parent[start : place + 1] = [*kept, glued]


class GluePunctuation(SphinxPostTransform):
    """Glue punctuation to the formulas of a page."""

    default_priority = 900
    formats: ClassVar = ("html",)

    def run(self, **_kwargs: Any) -> None:
        """Look at every formula within a sentence."""
        formulas = list(self.document.findall(nodes.math))
        for formula in formulas:
            glue(formula)
        for formula in formulas:
            if formula.astext() == r"\square":
                glue_end(formula)


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Set a formula within a sentence."""
    kind = "math long" if len(node.astext()) > LONG else "math"
    self.body.append(self.starttag(node, "span", "", CLASS=f"{kind} notranslate"))
    self.body.append(convert(node, displaystyle=False) + "</span>")
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Set a formula on a line of its own, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    self.body.append(convert(node, displaystyle=True))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer, and what is done to the formulas before."""
    app.add_post_transform(GluePunctuation)
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(visit_math, None),
        block_renderers=(visit_math_block, None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
