"""Settings for every test, whatever part of the project is tested."""

import os

import pytest

# One thread is as fast as two on small tensors, and steadier. Kernels of notebooks
# inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What takes longest comes first, so that no worker waits for another in the end. The
# seconds of a whole file on one core, as `pytest --durations=0` gives them; a file that
# is not here takes less than any that is.
SECONDS = {
    "tests/site/test_browser.py": 90,  # the slow tests build the site first
    "book/reference/study.ipynb": 33,
    "tests/layers/test_transforms.py": 33,
    "book/01_spatial_dropout.ipynb": 26,
    "book/04_drop_block.ipynb": 24,
    "book/02_implicit_ensembles.ipynb": 22,
    "book/03b_drop_path_details.ipynb": 17,
    "tests/test_measures.py": 17,
    "book/reference/study_variants.ipynb": 16,
    "book/03_drop_path.ipynb": 16,
    "tests/layers/test_drop_block.py": 15,
    "tests/layers/test_common.py": 12,
    "tests/test_plans.py": 11,
    "tests/layers/test_drop_path.py": 11,
}

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


def _seconds(file: str) -> float:
    """Look up a file's time; a plain edition takes what its source takes."""
    return SECONDS.get(file.replace("build/plain/", "book/"), 0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; inside a file the order stays."""
    items.sort(key=lambda item: -_seconds(item.nodeid.split("::")[0]))
