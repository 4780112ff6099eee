"""An exam as a page for the printer: formulas set, boxes to tick, space to write."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from regdrop_lite.course.extras import needs

with needs("course,author", "markdown-it or math-core"):
    from markdown_it import MarkdownIt
    from math_core import LatexToMathML
    from mdit_py_plugins.dollarmath import dollarmath_plugin

__all__ = ["formula", "paper"]

_STYLE = """
@page { size: A4; margin: 2cm }
body { font: 11pt/1.45 Georgia, serif; max-width: 17cm; margin: 1cm auto }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 1.6em }
h2, h2 + p { break-after: avoid } li { break-inside: avoid }
ul.options { list-style: none; padding-left: 0.5em }
blockquote { margin: 0.3em 0 0.8em 1em; font-style: italic }
.space { border: 1px solid #999; margin-top: 0.6em; break-inside: avoid }
"""
_CONVERTER = LatexToMathML()
_SPACE = {2: 4, 6: 12}  # points of a question: centimetres to write its answer into
_QUESTION = re.compile(r"^## Question \d+ \((\d+) points?\)$", re.M)


def formula(tex: str, options: Mapping[str, Any]) -> str:
    """A formula as MathML, which a browser sets by itself."""
    display = bool(options.get("display_mode"))
    return _CONVERTER.convert_with_local_state(tex, displaystyle=display)


def paper(markdown: str) -> str:
    """Make a page of HTML for the printer; nothing has to be loaded for it.

    Args:
        markdown: an exam, or its answers.

    Example:
        >>> page = paper("# Exam\\n\\n## Question 1 (2 points)\\n\\nHow large is $q$?")
        >>> "<math>" in page, page.count('class="space"')
        (True, 1)
    """
    parser = MarkdownIt("commonmark").use(dollarmath_plugin, renderer=formula)
    title = re.search(r"^# (.+)$", markdown, re.M)
    is_paper = title is not None and ": answers to" not in title[1]
    parts = [markdown]
    if is_paper:  # each question with space below it
        places = [match.start() for match in _QUESTION.finditer(markdown)]
        bounds = [0, *places, len(markdown)]
        parts = [markdown[a:b] for a, b in itertools.pairwise(bounds)]
    body = "\n".join(parser.render(part) + _space(part, is_paper) for part in parts)
    body = re.sub(r"(<li>\s*(?:<p>)?)\[ \] ", r"\1&#9744; ", body)
    body = re.sub(r"(<li>\s*(?:<p>)?)\[x\] ", r"\1&#9745; ", body)
    body = re.sub(r"<ul>(?=\s*<li>&#974[45];)", '<ul class="options">', body)
    head = (
        '<!doctype html>\n<html lang="en-GB"><head><meta charset="utf-8">'
        f"<title>{title[1] if title else 'Exam'}</title><style>{_STYLE}</style></head>"
    )
    return f"{head}\n<body>\n{body}</body></html>\n"


def _space(part: str, is_paper: bool) -> str:
    question = _QUESTION.match(part)
    height = _SPACE.get(int(question[1])) if question and is_paper else None
    return f'<div class="space" style="height: {height}cm"></div>\n' if height else ""
