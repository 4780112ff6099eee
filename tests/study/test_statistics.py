"""Statistics of paired runs, against formulas by hand and simulations."""

import math

import numpy as np
import pytest

from regdrop_lite.course.study.plan import Contrast, Family
from regdrop_lite.course.study.statistics import (
    bootstrap_interval,
    compare,
    holm,
    metric_of,
    paired_differences,
    t_interval,
)

CONTRAST = Contrast({"group": "a"}, {"group": "b"}, "accuracy")


def rows_of(**groups):
    """Make rows from a dictionary of seeds and values for each group."""
    return [
        {"group": group, "seed": seed, "config": {}, "metrics": {"accuracy": value}}
        for group, values in groups.items()
        for seed, value in values.items()
    ]


def test_differences_are_paired_by_seed_whatever_the_order_of_the_rows():
    rows = rows_of(a={2: 0.9, 0: 0.5}, b={0: 0.4, 2: 0.5})
    found = paired_differences(rows, CONTRAST)
    assert found == pytest.approx([0.1, 0.4])
    assert paired_differences(rows[::-1], CONTRAST) == pytest.approx(found)


def test_one_metric_may_be_set_against_another():
    metrics = ({"one": 0.5, "many": [0.1, 0.7]}, {"one": 0.6, "many": [0.1, 0.9]})
    rows = [
        {"group": "a", "seed": seed, "config": {}, "metrics": values}
        for seed, values in enumerate(metrics)
    ]
    a = {"group": "a"}
    contrast = Contrast(a, a, "many[1]", control_metric="one")
    assert paired_differences(rows, contrast) == pytest.approx([0.2, 0.3])


def test_t_interval_is_the_textbooks():
    d = np.array([0.01, 0.04, 0.03, 0.02, 0.05, 0.00])
    quantile = 2.570581835636314  # of t with 5 degrees of freedom, at 0.975
    half = quantile * d.std(ddof=1) / math.sqrt(6)
    assert t_interval(d) == pytest.approx((d.mean() - half, d.mean() + half))


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_bootstrap_interval_is_fixed_and_near_the_other_one(scale):
    d = scale * np.random.default_rng(7).normal(3, 1, size=200)
    found = bootstrap_interval(d)
    assert found == bootstrap_interval(d)
    # The two ends vary by about 0.01 * scale from one seed of the bootstrap to another.
    assert found == pytest.approx(t_interval(d), abs=0.04 * scale)


def test_the_t_interval_covers_the_mean_in_95_of_100_cases():
    n, rng = 1500, np.random.default_rng(20261122)
    intervals = [t_interval(rng.normal(size=10)) for _ in range(n)]
    covered = np.mean([low < 0 < high for low, high in intervals])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / n)


def test_comparison_has_the_sign_and_the_p_value_of_the_paired_test():
    a, b = [0.75, 0.70, 0.78, 0.74], [0.70, 0.69, 0.71, 0.72]
    rows = rows_of(a=dict(enumerate(a)), b=dict(enumerate(b)))
    d = np.subtract(a, b)
    t = d.mean() / (d.std(ddof=1) / 2)
    # The t distribution with 3 degrees of freedom, in closed form.
    x = t / math.sqrt(3)
    cdf = 0.5 + (x / (1 + x * x) + math.atan(x)) / math.pi
    expected = {"greater": 1 - cdf, "less": cdf, "two-sided": 2 * (1 - cdf)}
    for alternative, p_value in expected.items():
        contrast = Contrast({"group": "a"}, {"group": "b"}, "accuracy", alternative)
        (result,) = compare(rows, Family("f", (contrast,)))
        assert result.p_value == pytest.approx(p_value)
        assert result.p_holm is None
        assert (result.n, result.contrast) == (4, contrast)
        assert result.mean == pytest.approx(d.mean())
        assert (result.low, result.high) == pytest.approx(t_interval(d))
        found = (result.bootstrap_low, result.bootstrap_high)
        assert found == bootstrap_interval(d)


def test_holm_runs_over_the_family_and_keeps_its_order():
    rng = np.random.default_rng(3)
    groups = {"b": dict(enumerate(rng.normal(0, 1, 12)))}
    for name, shift in (("x", 0.4), ("y", 2.0), ("z", 1.0)):
        groups[name] = dict(enumerate(rng.normal(shift, 1, 12)))
    contrasts = tuple(Contrast({"group": g}, {"group": "b"}, "accuracy") for g in "xyz")
    results = compare(rows_of(**groups), Family("f", contrasts, holm=True))
    assert [r.contrast for r in results] == list(contrasts)
    plain = [r.p_value for r in results]
    # By hand: the k-th smallest of m is multiplied by m - k + 1, and never falls.
    expected, largest = {}, 0.0
    for k, p in enumerate(sorted(plain)):
        largest = max(largest, min(1.0, (3 - k) * p))
        expected[p] = largest
    assert [r.p_holm for r in results] == pytest.approx([expected[p] for p in plain])
    assert plain[1] < plain[2] < plain[0], "the case is not trivial"


def test_holm_rejects_as_the_step_down_test_does():
    """At every level: go up from the smallest, and stop at the first too large."""
    rng = np.random.default_rng(5)
    for m in (1, 2, 5, 14):
        for p_values in (rng.random(m) ** 3, np.full(m, 0.02), rng.choice([0, 1.0], m)):
            corrected = holm(p_values)
            for level in np.linspace(0.003, 0.997, 72):
                rejected = np.zeros(m, dtype=bool)
                for k, test in enumerate(np.argsort(p_values)):
                    if p_values[test] > level / (m - k):
                        break
                    rejected[test] = True
                assert ((corrected <= level) == rejected).all()
            assert (corrected <= 1).all() and (corrected >= p_values).all()


def test_metrics_may_be_entries_of_a_list():
    row = {"metrics": {"loss": 0.5, "curve": [1.0, 2.0], "nothing": None}}
    assert metric_of(row, "loss") == 0.5
    assert metric_of(row, "curve[1]") == 2.0
    for metric in ("curve", "curve[2]", "loss[0]", "nothing", "los"):
        with pytest.raises(KeyError, match=r"is no number .* known are loss, curve, n"):
            metric_of(row, metric)


def test_what_cannot_be_compared_is_named():
    whole = {0: 0.1, 1: 0.2}
    shifted, larger = {1: 0.1, 2: 0.3}, {0: 0.1, 1: 0.2, 2: 0.4}
    for a, b in (
        *((shifted, whole), (larger, whole), (whole, larger)),
        *(({0: 0.1}, {0: 0.2}), ({}, whole)),
    ):
        with pytest.raises(ValueError, match="expected the same seeds, at least two"):
            paired_differences(rows_of(a=a, b=b), CONTRAST)
    twice = rows_of(a=whole, b=whole) + rows_of(a=whole)
    with pytest.raises(ValueError, match="'a'} selects several rows for one seed"):
        paired_differences(twice, CONTRAST)
    with pytest.raises(ValueError, match=r"all 2 differences are 0: without scatter"):
        compare(rows_of(a=whole, b=whole), Family("f", (CONTRAST,)))
