"""Reading a finished study."""

from pathlib import Path

import pytest

from regdrop_lite.course.study.plan import Contrast
from regdrop_lite.course.study.report import label, load_study, show
from regdrop_lite.course.study.statistics import Comparison
from regdrop_lite.course.study.store import RowsError, load_rows

PLANS = Path(__file__).parents[2] / "book/results/plans"


def comparison(treatment, control, p_value=0.5, p_holm=None, **more):
    contrast = Contrast(treatment, control, "accuracy", **more)
    return Comparison(contrast, 10, 0.03, 0.01, 0.05, 0.0, 0.1, p_value, p_holm)


@pytest.fixture
def study():
    return load_study(PLANS / "slice.toml")


def test_values_of_a_group_are_those_of_its_rows_in_their_order(study):
    rows = [
        r
        for r in load_rows(PLANS / "slice.toml")
        if r["group"] == study.rows[-1]["group"]
    ]
    found = study.values(rows[0]["group"], "accuracy")
    assert found.shape == (2,)
    assert found.tolist() == [row["metrics"]["accuracy"] for row in rows]
    assert study.values(rows[0]["group"], "accuracy", seed=rows[1]["seed"]) == found[1:]


def test_unknown_groups_metrics_and_families_are_named_with_the_known_ones(study):
    group = study.rows[0]["group"]
    with pytest.raises(ValueError, match=f"no run is of the group 'x'.*{group}"):
        study.values("x", "accuracy")
    with pytest.raises(ValueError, match="no run is of the group 'x'"):
        study.nets("x")
    with pytest.raises(KeyError, match=r"speed is not among the metrics .*accuracy"):
        study.values(group, "speed")
    with pytest.raises(KeyError, match="x is none of the families"):
        study.compare("x")


def test_a_study_with_an_open_run_is_refused_with_the_command_that_makes_it(tmp_path):
    for folder, suffix in (("plans", ".toml"), ("rows", ".jsonl")):
        (tmp_path / folder).mkdir()
        source = PLANS.parent / folder / f"slice{suffix}"
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = lines[:-1] if folder == "rows" else lines
        (tmp_path / folder / source.name).write_text("".join(kept), encoding="utf-8")
    with pytest.raises(
        RowsError, match="1 of the 4 runs of slice have no row yet: pyt"
    ):
        load_study(tmp_path / "plans/slice.toml")


@pytest.mark.parametrize(
    ("treatment", "control", "expected"),
    [
        ("path", "none", "path against none"),
        ("noisy: path, constant", "noisy: none", "noisy: path, constant against none"),
        ("noisy: path", "clean: path", "noisy: path against clean: path"),
    ],
)
def test_a_condition_that_both_sides_share_is_named_once(treatment, control, expected):
    assert label(comparison({"group": treatment}, {"group": control})) == expected


def test_each_metric_is_named_once_and_the_corrected_p_value_is_shown(capsys):
    a, b = {"group": "a"}, {"group": "b"}
    show([comparison(a, b, 0.02, 0.04), comparison(b, a, 0.02)])
    show([comparison(a, a, 0.5, 0.0002, control_metric="off")], digits=1)
    show([comparison(a, b)], ["short"])
    assert capsys.readouterr().out.splitlines() == [
        "accuracy",
        "  a against b  +0.030  (+0.010 to +0.050)  p = .040",
        "  b against a  +0.030  (+0.010 to +0.050)  p = .020",
        "accuracy - off",
        "  a  +0.0  (+0.0 to +0.1)  p < .001",
        "accuracy",
        "  short  +0.030  (+0.010 to +0.050)  p = .500",
    ]


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="argument"):
        show([comparison({"group": "a"}, {"group": "b"})], ["one", "two"])
