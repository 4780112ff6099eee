"""Pictures whose marks carry a meaning."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from regdrop_lite.course import plots
from regdrop_lite.course.study.plan import Contrast
from regdrop_lite.course.study.statistics import Comparison, mean_interval, t_interval

CONTRAST = Contrast({"group": "a"}, {"group": "b"}, "accuracy")


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def test_an_open_point_has_zero_in_its_interval(axis):
    ends = [(0.1, 0.3), (-0.1, 0.3), (-0.3, -0.1)]
    found = [Comparison(CONTRAST, 9, sum(e) / 2, *e, *e, 0.5) for e in ends]
    plots.plot_differences(axis, found, ["up", "unclear", "down"])
    points = [container.lines[0] for container in axis.containers]
    assert [p.get_markerfacecolor() == "none" for p in points] == [False, True, False]
    assert [p.get_xdata()[0] for p in points] == pytest.approx([0.2, 0.1, -0.2])
    assert [p.get_ydata()[0] for p in points] == [0, 1, 2]
    bars = [
        container.lines[2][0].get_segments()[0][:, 0] for container in axis.containers
    ]
    assert np.allclose(bars, ends)
    bottom, top = axis.get_ylim()
    assert bottom > top, "the first one is on top"
    with pytest.raises(ValueError, match="expected 3 labels, but got 1"):
        plots.plot_differences(axis, found, ["one"])


@pytest.mark.parametrize("marker", "os^D")
def test_no_bar_crosses_an_open_mark(marker):
    """The figure is transparent: what lies behind the mark would be seen."""
    with plt.style.context(plots._STYLE):
        figure, axis = plt.subplots()
        wide, clear = (
            Comparison(CONTRAST, 9, m, m - 0.3, m + 0.3, -1, 1, 0.5) for m in (0.2, 0.6)
        )
        plots.plot_differences(axis, [wide, clear], ["open", "full"], marker=marker)
        figure.canvas.draw()
        alpha = np.asarray(figure.canvas.buffer_rgba())[::-1, :, 3]
        for x, y, *drawn in [(0.2, 0, 0, 255), (0.6, 1, 255, 255)]:
            right, up = axis.transData.transform((x, y))
            middle, beside = (alpha[int(up), int(right + d)] for d in (0, 20))
            assert [middle, beside] == drawn
    plt.close(figure)


def test_no_tick_of_three_decades_has_an_exponent():
    """An exponent is less than 7 pixels high on a phone."""
    with plt.style.context(plots._STYLE):
        figure, axis = plt.subplots()
        axis.plot([1e-3, 1e3], [1, 2])
        axis.set_xscale("log")
        figure.canvas.draw()
        labels = [tick.get_text() for tick in axis.get_xticklabels()]
        assert any("0.01" in text for text in labels)
        assert not any("^" in text for text in labels)
    plt.close(figure)


def test_a_verdict_is_filled_on_the_hoped_side_only(axis):
    greater, less = (
        Contrast({"group": "a"}, {"group": "b"}, "nll", alternative=side)
        for side in ("greater", "less")
    )
    cases = [  # contrast, ends of the interval, p by Holm
        (greater, (0.1, 0.3), 0.01),
        (greater, (0.1, 0.3), 0.06),
        (greater, (-0.1, 0.3), 0.2),
        (less, (0.1, 0.3), 1.0),
        (less, (-0.3, -0.1), 0.01),
        (CONTRAST, (0.1, 0.3), 0.01),
    ]
    found = [Comparison(c, 9, sum(e) / 2, *e, *e, p, p) for c, e, p in cases]
    rows = {str(row): [one] for row, one in enumerate(found)}
    assert plots.plot_verdicts(axis, rows) == (3, 1)
    points = [container.lines[0] for container in axis.containers]
    assert [p.get_markerfacecolor() != "none" for p in points] == [
        *(True, False, False, False, True, True)
    ]
    assert [p.get_xdata()[0] for p in points] == pytest.approx([2, 2, 0.5, -2, 2, 2])
    assert [p.get_marker() for p in points] == [*"ooosoo"]
    assert [text.get_text() for text in axis.get_yticklabels()] == list(rows)
    assert plots.plot_verdicts(axis, {"all": found}) == (3, 1)
    heights = [c.lines[0].get_ydata()[0] for c in axis.containers[6:]]
    assert heights == pytest.approx([-0.25, -0.15, -0.05, 0.05, 0.15, 0.25])
    with pytest.raises(ValueError, match="by Holm"):
        plots.plot_verdicts(axis, {"a": [Comparison(CONTRAST, 9, 1, 0, 2, 0, 2, 0.5)]})


def test_a_curve_has_a_band_in_its_colour(axis):
    values = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    curve = mean_interval(values)
    assert curve[:, 0] == pytest.approx([7 / 3, *t_interval(values[:, 0])])
    assert curve[:, 1].tolist() == [5, 5, 5]
    plots.plot_curve(axis, [0, 1], curve, "name")
    (line,), (band,) = axis.lines, axis.collections
    assert line.get_ydata().tolist() == curve[0].tolist()
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (curve[1].min(), curve[2].max())
    assert plt.matplotlib.colors.same_color(
        line.get_color(), band.get_facecolor()[0][:3]
    )
