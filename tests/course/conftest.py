"""What the tests of training and of the measures share."""

from dataclasses import replace

import pytest

from regdrop_lite.course.data import Dataset, load_data, subset


@pytest.fixture(scope="session")
def data() -> Dataset:
    """The embedded data set, cut down to 60, 40 and 50 images."""
    full = load_data()
    return replace(
        full,
        train=subset(full.train, 60, seed=0),
        validation=subset(full.validation, 40, seed=0),
        test=subset(full.test, 50, seed=0),
    )
