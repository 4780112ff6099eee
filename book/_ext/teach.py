"""Pages for instructors and learners that are made of data files.

``{quiz} 1`` shows the public questions of chapter 1.
"""

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from regdrop_lite.course.teach.bank import bank_file, read_bank
from regdrop_lite.course.teach.quiz import quiz_markdown


class Made(SphinxDirective):
    """A directive whose content is Markdown that is made of data files."""

    required_arguments = 1

    @property
    def root(self) -> Path:
        """The repository's folder."""
        return Path(self.env.srcdir)

    def run(self) -> list[nodes.Node]:
        node = nodes.container()
        lines = StringList(self.make().splitlines(), source=self.env.docname)
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children

    def make(self) -> str:
        raise NotImplementedError


class Quiz(Made):
    """The public questions of a chapter."""

    def make(self) -> str:
        chapter = int(self.arguments[0])
        self.env.note_dependency(str(bank_file(self.root, chapter)))
        return quiz_markdown(read_bank(self.root, chapter))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("quiz", Quiz)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
