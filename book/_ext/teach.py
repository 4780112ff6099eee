"""Pages for instructors and learners that are made of data files.

``{quiz} 1`` shows the public questions of chapter 1, ``{sections} 1`` its minutes,
``{matrix} 1`` its objectives, and ``{timetable} lab`` a plan. The slides are written
into ``teach/slides`` of the site. What does not fit is a warning, which a build with -W
does not survive.
"""

import functools
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from regdrop_lite.course.teach.bank import bank_file, read_bank
from regdrop_lite.course.teach.plans import (
    Course,
    matrix_markdown,
    plan_faults,
    plan_markdown,
    read_plans,
    sections_markdown,
)
from regdrop_lite.course.teach.quiz import quiz_markdown
from regdrop_lite.course.teach.slides import SlideError, write_slides

logger = logging.getLogger(__name__)


class Made(SphinxDirective):
    """A directive whose content is Markdown that is made of data files."""

    required_arguments = 1

    @property
    def root(self) -> Path:
        """The repository's folder."""
        return Path(self.env.srcdir)

    def run(self) -> list[nodes.Node]:
        node = nodes.container(classes=[self.name])
        lines = StringList(self.make().splitlines(), source=self.env.docname)
        self.state.nested_parse(lines, self.content_offset, node)
        return [node]

    def make(self) -> str:
        raise NotImplementedError


class Quiz(Made):
    """The public questions of a chapter."""

    def make(self) -> str:
        chapter = int(self.arguments[0])
        self.env.note_dependency(str(bank_file(self.root, chapter)))
        return quiz_markdown(read_bank(self.root, chapter))


class FromCourse(Made):
    """What is made of all chapters and their data files."""

    @property
    def course(self) -> Course:
        """The chapters, read once for each build."""
        for path in data_files(self.root):
            self.env.note_dependency(str(path))
        return read_course(self.root)


class Sections(FromCourse):
    """The minutes of a chapter's sections."""

    def make(self) -> str:
        return sections_markdown(self.course, int(self.arguments[0]))


class Matrix(FromCourse):
    """Where each objective of a chapter is taught, practised and asked for."""

    def make(self) -> str:
        return matrix_markdown(self.course, int(self.arguments[0]))


class Timetable(FromCourse):
    """A plan, session by session."""

    def make(self) -> str:
        return plan_markdown(read_plans(self.root)[self.arguments[0]], self.course)


def data_files(root: Path) -> list[Path]:
    """What the tables are made of."""
    book = root / "book"
    data = [*(book / "teach").rglob("*.yml")]
    return [*data, *book.glob("0*.ipynb"), *(book / "exercises").glob("*.ipynb")]


@functools.cache
def _read(root: Path, state: tuple[float, ...]) -> Course:
    return Course.read(root)


def read_course(root: Path) -> Course:
    """Read the chapters, again if a file has changed."""
    return _read(root, tuple(path.stat().st_mtime for path in data_files(root)))


def look_for_faults(app: Sphinx) -> None:
    """Warn of each fault, so that a build with -W fails."""
    root = Path(app.srcdir)
    course = read_course(root)
    faults = list(course.faults)
    for name, plan in read_plans(root).items():
        faults += plan_faults(name, plan, course)
    for fault in faults:
        logger.warning(fault, type="teach")


def add_slides(app: Sphinx, exception: Exception | None) -> None:
    """Write the slides into the site."""
    if exception is None and app.builder.format == "html":
        root, out = Path(app.srcdir), Path(app.outdir, "teach", "slides")
        try:
            write_slides(root, out, read_course(root), site="../../")
        except (SlideError, OSError) as error:
            logger.warning(error, type="teach")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("quiz", Quiz)
    app.add_directive("sections", Sections)
    app.add_directive("matrix", Matrix)
    app.add_directive("timetable", Timetable)
    app.connect("builder-inited", look_for_faults)
    app.connect("build-finished", add_slides)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
