"""Accuracy, likelihood and calibration beside torchmetrics and scikit-learn.

The package computes them itself: they are three lines, and neither library is needed to
run the course. 2,000 images with random predictions of three kinds.
"""

import pytest
import torch

from regdrop_lite.course.measures import classification

torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
sklearn = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("confidence", [0.3, 1.0, 3.0])
def test_three_numbers_are_those_of_the_libraries(confidence):
    g = torch.Generator().manual_seed(3)
    labels = torch.randint(10, (2000,), generator=g)
    logits = torch.randn(2000, 10, generator=g, dtype=torch.float64)
    logits = confidence * (logits + torch.nn.functional.one_hot(labels, 10))
    found = classification(logits, labels)
    P = logits.softmax(dim=1)
    expected = {
        "accuracy": sklearn.accuracy_score(labels, logits.argmax(dim=1)),
        "nll": sklearn.log_loss(labels, P, labels=range(10)),
        "ece": torchmetrics.multiclass_calibration_error(
            P, labels, num_classes=10, n_bins=15, norm="l1"
        ).item(),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
