"""One figure style for the course, and the pictures that its chapters draw again.

Figures are transparent. Their text is a grey that can be read on white and on black,
their colours are those of Okabe and Ito that do so too, and every colour comes with a
marker or a line style of its own, so that a figure survives greyscale.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from regdrop_lite.course.extras import needs

with needs("course", "Matplotlib"):
    import matplotlib.pyplot as plt
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.markers import MarkerStyle
    from matplotlib.patches import Rectangle
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D, ScaledTranslation

    from regdrop_lite.course.svg import to_svg

if TYPE_CHECKING:  # SciPy is slow to import, and few pictures need it
    from regdrop_lite.course.study.statistics import Comparison

INK = "#737373"
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"

_CYCLE = cycler(color=[BLUE, VERMILION, GREEN, PURPLE]) + cycler(
    linestyle=["-", "--", "-.", ":"], marker=["o", "s", "^", "D"]
)
_STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.dpi": 144,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.formatter.min_exponent": 5,  # 0.001: an exponent is small on a phone
    "axes.prop_cycle": _CYCLE,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "image.cmap": "cividis",
    "image.interpolation": "none",  # in SVG a picture has as many pixels as its array
}


def use_style() -> None:
    """Give all figures that follow the style of the course.

    A notebook shows and stores them as SVG, by
    :func:`~regdrop_lite.course.svg.to_svg`.

    Example:
        >>> from regdrop_lite.course import plots
        >>> plots.use_style()
        >>> plots.plt.rcParams["image.cmap"]
        'cividis'
    """
    plt.style.use(_STYLE)
    if "IPython" in sys.modules:
        _show_as_svg()


def _show_as_svg() -> None:
    """Where a notebook runs, let it show figures as SVG, and not as PNG."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")  # type: ignore[no-untyped-call]
        shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, to_svg)


def show_maps(
    rows: Sequence[Tensor],
    row_labels: Sequence[str],
    *,
    column_labels: Sequence[str] | None = None,
    size: float = 0.85,
) -> Figure:
    """Draw feature maps, one row for each tensor, all on one colour scale.

    A map that is zero everywhere is framed and crossed out, so that a dropped channel
    is seen without colour.

    Args:
        rows: tensors (C, H, W), all with the same C.
        row_labels: one label for each row.
        column_labels: one label for each channel; by default their numbers.
        size: the side of a map, in inches.

    Returns:
        The figure; ``plt.show()`` shows it.

    Raises:
        ValueError: a row is no (C, H, W) tensor, or the labels do not fit.

    Example:
        >>> import torch
        >>> from regdrop_lite.course import plots
        >>> figure = plots.show_maps([torch.rand(4, 7, 7)], ["input"])
        >>> len(figure.axes)
        4
    """
    shapes = [tuple(row.shape) for row in rows]
    if any(len(shape) != 3 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"expected rows of shape (C, H, W), but got {shapes}")
    channels = shapes[0][0]
    names = (
        [f"{c}" for c in range(channels)] if column_labels is None else column_labels
    )
    for labels, count in ((row_labels, len(rows)), (names, channels)):
        if len(labels) != count:
            raise ValueError(f"expected {count} labels, but got {len(labels)}")
    maps = [row.detach().cpu().double() for row in rows]
    low = min(row.min().item() for row in maps)
    high = max(row.max().item() for row in maps)
    figure, axes = plt.subplots(
        len(rows),
        channels,
        squeeze=False,
        figsize=(size * channels + 0.9, size * len(rows) + 0.3),
    )
    for i, row in enumerate(maps):
        for c in range(channels):
            axis = axes[i, c]
            axis.imshow(row[c].numpy(), vmin=low, vmax=high)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(names[c])
            if bool((row[c] == 0).all()):
                _cross_out(axis)
        axes[i, 0].set_ylabel(row_labels[i], rotation=0, ha="right", va="center")
    return figure


def _cross_out(axis: Axes) -> None:
    axis.spines[:].set(visible=True, color=VERMILION, linewidth=1.5)
    for x in ((0, 1), (1, 0)):
        axis.plot(
            x,
            (0, 1),
            transform=axis.transAxes,
            color=VERMILION,
            linestyle="-",
            linewidth=1,
            marker="",
        )


def hatch(axis: Axes, dropped: Tensor) -> None:
    """Hatch what was dropped of a map that ``imshow`` has drawn, place by place.

    Args:
        axis: where the map is.
        dropped: True where a value is missing, (H, W).

    Example:
        >>> import torch
        >>> from regdrop_lite.course import plots
        >>> figure, axis = plots.plt.subplots()
        >>> plots.hatch(axis, torch.eye(3) == 1)
        >>> len(axis.patches)
        3
    """
    for row, column in dropped.nonzero().tolist():
        axis.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                1,
                1,
                fill=False,
                hatch="//////",
                edgecolor=VERMILION,
                linewidth=0,
            )
        )


def plot_interval(
    axis: Axes, low: float, high: float, label: str, *, color: str = INK
) -> None:
    """Shade an interval on the horizontal axis and name it above.

    Args:
        axis: where to draw.
        low: the lower end, in the units of the axis.
        high: the upper end.
        label: what the interval is.
        color: of the band and the label.

    Example:
        >>> from regdrop_lite.course import plots
        >>> figure, axis = plots.plt.subplots()
        >>> plots.plot_interval(axis, 0.2, 0.4, "95 %")
        >>> axis.texts[0].get_text()
        '95 %'
    """
    axis.axvspan(low, high, color=color, alpha=0.15, linewidth=0)
    axis.annotate(
        label,
        ((low + high) / 2, 1.0),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        color=color,
    )


def _mark(
    axis: Axes,
    interval: tuple[float, float, float],
    y: float,
    color: str,
    marker: str,
    *,
    filled: bool,
) -> None:
    """Draw the mean of an interval; of its bar nothing is seen inside an open mark."""
    low, mean, high = interval
    drawn = axis.errorbar(
        mean,
        y,
        xerr=[[mean - low], [high - mean]],
        color=color,
        marker=marker,
        markerfacecolor=color if filled else "none",
        linestyle="-",
    )
    if filled:
        return
    # The figure is transparent, so the mark cannot cover the bar. The bar is cut to a
    # large square with a hole, whose line goes round the other way.
    corners = [(-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1)]
    square = Path(corners, closed=True).transformed(Affine2D().scale(1e4))
    style, size = MarkerStyle(marker), axis.lines[-1].get_markersize()
    hole = style.get_path().transformed(style.get_transform() + Affine2D().scale(size))
    points = Affine2D().scale(1 / 72) + axis.figure.dpi_scale_trans
    middle = ScaledTranslation(mean, y, axis.transData)  # type: ignore[arg-type]
    for bar in drawn.lines[2]:
        bar.set_clip_path(Path.make_compound_path(square, hole), points + middle)
        bar.set_clip_box(axis.bbox)


def plot_differences(
    axis: Axes,
    comparisons: Sequence["Comparison"],
    labels: Sequence[str],
    *,
    color: str = BLUE,
    marker: str = "o",
    offset: float = 0.0,
) -> None:
    """Draw paired differences as points with their 95 % intervals, one below the other.

    A filled point has an interval without 0, an open one has 0 inside it.

    Args:
        axis: where to draw.
        comparisons: from :func:`~regdrop_lite.course.study.statistics.compare`.
        labels: one for each, from top to bottom.
        color: of the points.
        marker: their shape.
        offset: how far they are moved down, in rows; for a second series.

    Raises:
        ValueError: if the labels do not fit.

    Example:
        >>> from regdrop_lite.course import plots
        >>> from regdrop_lite.course.study.plan import Contrast
        >>> from regdrop_lite.course.study.statistics import Comparison
        >>> contrast = Contrast({"group": "a"}, {"group": "b"}, "accuracy")
        >>> found = Comparison(contrast, 10, 0.03, 0.01, 0.05, 0.01, 0.05, 0.004)
        >>> figure, axis = plots.plt.subplots()
        >>> plots.plot_differences(axis, [found], ["a against b"])
        >>> axis.get_yticklabels()[0].get_text()
        'a against b'
    """
    if len(labels) != len(comparisons):
        raise ValueError(f"expected {len(comparisons)} labels, but got {len(labels)}")
    for row, found in enumerate(comparisons):
        clear = found.low > 0 or found.high < 0
        ends = (found.low, found.mean, found.high)
        _mark(axis, ends, row + offset, color, marker, filled=clear)
    axis.axvline(0, color=INK, linewidth=1, linestyle="-", marker="")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def plot_verdicts(
    axis: Axes, questions: Mapping[str, Sequence["Comparison"]]
) -> tuple[int, int]:
    """Draw planned comparisons of any metric on one axis, a row for each question.

    Each difference is measured in half widths of its 95 % interval, so that every
    interval is 1 long to either side and one that holds 0 touches the grey band; to
    the right is the direction that the plan hoped for. A point is filled where the
    claim holds: its interval is off 0 on the hoped side, and its p value, corrected by
    Holm, is below .05. Without a direction in the plan, larger is to the right.

    Args:
        axis: where to draw.
        questions: the comparisons of each question, by what is written beside them.

    Returns:
        How many claims hold, and how many intervals are off 0 on the other side.

    Raises:
        ValueError: a comparison has no p value that was corrected by Holm.

    Example:
        >>> from regdrop_lite.course import plots
        >>> from regdrop_lite.course.study.plan import Contrast
        >>> from regdrop_lite.course.study.statistics import Comparison
        >>> sides = {"group": "a"}, {"group": "b"}
        >>> hoped = Contrast(*sides, "nll", alternative="less")
        >>> found = Comparison(hoped, 9, -0.3, -0.4, -0.2, -0.4, -0.2, 0.001, 0.002)
        >>> figure, axis = plots.plt.subplots()
        >>> plots.plot_verdicts(axis, {"is a surer than b?": [found]})
        (1, 0)
    """
    held = against = 0
    axis.axvspan(-1, 1, color=INK, alpha=0.15, linewidth=0)
    for row, comparisons in enumerate(questions.values()):
        points = []
        for found in comparisons:
            if found.p_holm is None:
                raise ValueError(f"expected p values by Holm, but got none of {found}")
            side = -1 if found.contrast.alternative == "less" else 1
            off = side * found.mean / ((found.high - found.low) / 2)
            points.append((off, found.p_holm < 0.05))
        for k, (off, small) in enumerate(sorted(points)):
            held += off > 1 and small
            against += off < -1
            color = BLUE if off > 1 else VERMILION if off < -1 else INK
            height = row + 0.5 * (k / max(len(points) - 1, 1) - 0.5)
            marker, filled = "s" if off < -1 else "o", off > 1 and small
            ends = (off - 1, off, off + 1)
            _mark(axis, ends, height, color, marker, filled=filled)
    axis.set_xscale("symlog")
    axis.set_yticks(range(len(questions)), list(questions))
    axis.set_ylim(len(questions) - 0.4, -0.6)
    return held, against


def plot_curve(
    axis: Axes, x: Sequence[float], curve: Sequence[Sequence[float]], label: str
) -> None:
    """Draw a curve of means with a band for their 95 % intervals.

    Args:
        axis: where to draw, in the next colour and line style of the axis.
        x: where the means are.
        curve: mean, lower and upper end for each x, from
            :func:`~regdrop_lite.course.study.statistics.mean_interval`.
        label: for the legend.

    Example:
        >>> from regdrop_lite.course import plots
        >>> figure, axis = plots.plt.subplots()
        >>> plots.plot_curve(axis, [0, 1], ([2, 3], [1, 2], [3, 4]), "none")
        >>> axis.lines[0].get_label()
        'none'
    """
    mean, low, high = curve
    (line,) = axis.plot(x, mean, label=label)
    axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
