"""Settings for every test, whatever part of the project is tested."""

import os
import re
from pathlib import Path

import pytest

# One thread is as fast as two on small tensors, and steadier. Kernels of notebooks
# inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# It needs timm and photographs, which the tests have not; the plain edition copies it.
collect_ignore_glob = ["*/recipes/fine_tune.py"]

# What takes longest comes first, so that no worker waits for another in the end. The
# seconds of a whole file on one core, its slow tests with it, as `--durations=0` gives
# them; a file that is not here takes less than any that is.
SECONDS = {
    "tests/site/test_explorables.py": 500,
    "tests/site/test_browser.py": 400,
    "tests/book/test_commands.py": 300,
    "tests/study/test_sweep.py": 300,
    "tests/teach/test_assign_nbgrader.py": 300,
    "tests/teach/test_kit.py": 250,
    "tests/project/test_distributions.py": 200,
    "tests/layers/test_state.py": 150,
    "tests/layers/test_transforms.py": 150,
    "tests/course/check/test_chapter_3.py": 111,
    "tests/site/test_figures.py": 100,
    "tests/site/test_looks.py": 100,
    "tests/site/test_pdf_epub.py": 100,
    "tests/site/test_pages.py": 100,
    "tests/site/test_predict.py": 60,
    "tests/tools/test_train_recipe.py": 50,
    "tests/course/check/test_chapter_4.py": 44,
    "book/reference/study.ipynb": 43,
    "book/reference/study_variants.ipynb": 39,
    "book/01_spatial_dropout.ipynb": 25,
    "book/02d_implicit_ensembles_flatness.ipynb": 20,
    "book/03d_drop_path_gradients.ipynb": 30,
    "book/06b_export_time_doubt.ipynb": 26,
    "book/exercises/02_implicit_ensembles_exercises.ipynb": 22,
    "book/04_drop_block.ipynb": 21,
    "book/exercises/03_drop_path_exercises.ipynb": 17,
    "tests/tools/test_audit.py": 16,
    "book/04d_drop_block_together.ipynb": 14,
    "tests/course/check/test_chapter_2.py": 13,
    "tests/course/check/test_chapter_1.py": 13,
    "book/05_which_one.ipynb": 12,
    "book/06_in_practice.ipynb": 12,
    "book/06c_ranks_and_symptoms.ipynb": 12,
    "book/exercises/04_drop_block_exercises.ipynb": 11,
    "book/02_implicit_ensembles.ipynb": 13,
    "book/02g_implicit_ensembles_passes.ipynb": 13,
    "tests/layers/test_drop_block.py": 11,
    "tests/layers/test_tracers.py": 10,
    "tests/layers/test_drop_path.py": 10,
    "tests/explore/test_explore.py": 9,
    "tests/book/test_plain.py": 9,
    "tests/layers/test_common.py": 9,
    "book/03_drop_path.ipynb": 8,
    "book/03c_drop_path_computing_less.ipynb": 8,
    "book/03e_drop_path_noise.ipynb": 12,
    "book/03b_drop_path_in_a_net.ipynb": 10,
}

# The first page of each chapter is always tested. Further pages, exercises, the study
# take as long again. CI runs them; so does a command that names one of them.
SLOW = re.compile(r"book/(\d\d[b-z]_|exercises/|reference/study)")

# Files whose tests need nothing of each other: any worker may take any of them.
APART = ("tests/guards/",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A file stays on one worker, apart from those whose tests stand alone."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(APART) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def _source(name: str) -> str:
    """Name a plain edition as its source: it takes as long."""
    return name.replace("build/plain/", "book/")


def _seconds(file: str) -> float:
    return SECONDS.get(_source(file), 0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; inside a file the order stays."""
    items.sort(key=lambda item: -_seconds(item.nodeid.split("::")[0]))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the cells of slow notebooks; `-m` is judged later. Compare no pictures."""
    named = {Path(name.split("::")[0]).resolve() for name in item.config.args}
    if (skipped := getattr(item.parent, "skip_compare", None)) is not None:
        # nbval knows PNG as what is not compared. SVG depends on Matplotlib as much.
        item.parent.skip_compare = tuple({*skipped, "image/svg+xml"})
    if SLOW.match(_source(item.nodeid)) and item.path.resolve() not in named:
        item.add_marker("slow")
