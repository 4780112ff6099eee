"""Read a finished study in a notebook: a plan, its rows, and what they say.

Example:
    >>> from regdrop_lite.course.study.plan import Contrast, Family
    >>> rows = [
    ...     {"group": group, "seed": seed, "config": {}, "metrics": {"accuracy": value}}
    ...     for group, start in (("noisy: none", 0.70), ("noisy: path", 0.74))
    ...     for seed, value in enumerate((start, start + 0.01, start + 0.04))
    ... ]
    >>> rows[-1]["metrics"]["accuracy"] = 0.76
    >>> path, none = {"group": "noisy: path"}, {"group": "noisy: none"}
    >>> contrast = Contrast(path, none, "accuracy")
    >>> study = Study(None, rows, {"gain": Family("gain", (contrast,), holm=True)})
    >>> study.values("noisy: none", "accuracy")
    array([0.7 , 0.71, 0.74])
    >>> show(study.compare("gain"))
    accuracy
      noisy: path against none  +0.033  (+0.005 to +0.062)  p = .038
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regdrop_lite.course.extras import needs

with needs("course", "NumPy"):
    import numpy as np

from regdrop_lite.course.models import ResNetSmall, ViTSmall
from regdrop_lite.course.study.plan import Family, Plan, read_plan
from regdrop_lite.course.study.store import Row, RowsError, load_net, load_rows, select

if TYPE_CHECKING:  # SciPy is slow to import, and most chapters judge nothing
    from regdrop_lite.course.study.statistics import Comparison

__all__ = ["Study", "label", "load_study", "show"]


@dataclass(frozen=True)
class Study:
    """A plan whose runs are done. Made by :func:`load_study`.

    Attributes:
        plan: the plan.
        rows: one row for each of its runs, in its order.
        families: its families of contrasts, by name.
    """

    plan: Plan
    rows: list[Row]
    families: dict[str, Family]
    _judged: dict[str, list["Comparison"]] = field(default_factory=dict, repr=False)

    def values(self, group: str, metric: str, **conditions: object) -> np.ndarray:
        """Give a metric of a group, seed by seed.

        Args:
            group: the name of the group.
            metric: the name of the metric.
            conditions: further wanted values, of the row or of its configuration.

        Returns:
            An array of shape (runs,), or (runs, entries) for a metric that is a list.

        Raises:
            ValueError: if no row meets the conditions.
            KeyError: for an unknown metric.
        """
        chosen = self._select(group, conditions)
        if metric not in chosen[0]["metrics"]:
            known = ", ".join(chosen[0]["metrics"])
            raise KeyError(f"{metric} is not among the metrics {known}")
        return np.array([row["metrics"][metric] for row in chosen])

    def compare(self, family: str) -> list["Comparison"]:
        """Judge a family of contrasts of the plan, by its name.

        Raises:
            KeyError: if the plan has no such family.

        See :func:`regdrop_lite.course.study.statistics.compare`.
        """
        if family not in self.families:
            raise KeyError(
                f"{family} is none of the families {', '.join(self.families)}"
            )
        if family not in self._judged:
            from regdrop_lite.course.study.statistics import compare

            self._judged[family] = compare(self.rows, self.families[family])
        return list(self._judged[family])

    def nets(self, group: str) -> list[ResNetSmall | ViTSmall]:
        """Give the stored nets of a group, in the order of their seeds.

        Raises:
            ValueError: if there is no such group.
            RowsError: if the net of one of its runs is not stored.
        """
        return [load_net(self.plan, row) for row in self._select(group, {})]

    def _select(self, group: str, conditions: dict[str, object]) -> list[Row]:
        chosen = select(self.rows, group=group, **conditions)
        if not chosen:
            known = ", ".join(dict.fromkeys(row["group"] for row in self.rows))
            raise ValueError(
                f"no run is of the group {group!r} with {conditions}; groups: {known}"
            )
        return chosen


def load_study(plan: str | Path) -> Study:
    """Read a plan and the rows of its runs.

    Args:
        plan: the plan's file.

    Raises:
        RowsError: if a run of the plan has no row yet, or the rows cannot be used or
            are of several results versions.
    """
    read = read_plan(plan)
    rows = load_rows(read)
    if len(rows) != len(read.runs):
        raise RowsError(
            f"{len(read.runs) - len(rows)} of the {len(read.runs)} runs of {read.name} "
            f"have no row yet: python -m regdrop_lite.course.study {plan}"
        )
    versions = sorted({row["results_version"] for row in rows})
    if len(versions) > 1:
        raise RowsError(
            f"the rows of {read.name} mix results versions {versions}: "
            f"python -m regdrop_lite.course.study {plan}"
        )
    return Study(read, rows, {family.name: family for family in read.families})


def label(comparison: "Comparison") -> str:
    """Name the groups that were compared: ``"noisy: path against none"``.

    A condition that both name before a colon stands there once. A group that is
    compared with itself, in two metrics, stands there alone.
    """
    contrast = comparison.contrast
    treatment, control = (
        str(side.get("group", dict(side)))
        for side in (contrast.treatment, contrast.control)
    )
    if treatment == control:
        return treatment
    control = control.removeprefix(treatment.split(": ")[0] + ": ")
    return f"{treatment} against {control}"


def show(
    comparisons: Sequence["Comparison"],
    labels: Sequence[str] | None = None,
    digits: int = 3,
) -> None:
    """Print mean differences with their 95 % intervals and p values, metric by metric.

    The p value is the one corrected by Holm for the whole family, if the plan asked for
    it, and it is one-sided where the plan names a direction. A mean that lies in the
    other direction has no p value worth printing (it would be near 1), and
    "other direction" stands in its place. The interval is two-sided and not corrected.

    Args:
        comparisons: from :meth:`Study.compare`.
        labels: one for each; without them, :func:`label`.
        digits: after the point.
    """
    names = [label(c) for c in comparisons] if labels is None else labels
    width = max(map(len, names))
    before = None
    for name, c in zip(names, comparisons, strict=True):
        metric, control_metric = c.contrast.metric, c.contrast.control_metric
        if (metric, control_metric) != before:
            print(metric if control_metric is None else f"{metric} - {control_metric}")
            before = metric, control_metric
        p = c.p_value if c.p_holm is None else c.p_holm
        text = "p < .001" if p < 0.001 else "p = " + f"{p:.3f}".removeprefix("0")
        expected = {"greater": 1, "less": -1}.get(c.contrast.alternative, 0)
        if expected * c.mean < 0:
            text = "other direction"
        print(
            f"  {name:{width}}  {c.mean:+.{digits}f}  "
            f"({c.low:+.{digits}f} to {c.high:+.{digits}f})  {text}"
        )
