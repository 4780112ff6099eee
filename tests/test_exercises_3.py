"""The exercises of chapter 3: their checks, against right answers and wrong ones.

The right answers are the solutions in the notebook. The wrong ones are these with one
slip; each has to be told by the check that is named here, in these words.
"""

import ast
from pathlib import Path

import nbformat
import pytest

from regdrop_lite.course.author.student import student_version

BOOK = Path(__file__).parents[1] / "book"
NOTEBOOK = nbformat.read(BOOK / "exercises/03_drop_path_exercises.ipynb", as_version=4)
CELLS = {cell["id"]: cell for cell in NOTEBOOK["cells"]}
TOTALS = {  # the checks of each exercise
    "trace": 3,
    "cut": 4,
    "stages": 5,
    "layer": 13,
    "bug": 7,
    "place": 3,
    "fold": 2,
    "plan": 6,
    "design": 6,
    "risk": 8,
}

pytestmark = pytest.mark.usefixtures("float64")


def run(source, names):
    """Run a cell in ``names``; return the value of its last line, if it has one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return None


def reports(notebook, *exercises):
    """Run the cells of some exercises, or of all; give the report of each."""
    names, found = {}, {}
    for cell in notebook["cells"]:
        part = cell["id"].split("-")[0]
        wanted = part in ("imports", "judge", *(exercises or TOTALS))
        if cell["cell_type"] == "code" and wanted:
            value = run(cell["source"], names)
            if cell["id"].endswith("-check"):
                found[part] = value
    return found


def with_slip(exercise, old, new):
    """The notebook with a slip in the solution of one exercise."""
    notebook = nbformat.from_dict(NOTEBOOK)
    notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
    for cell in notebook["cells"]:
        if cell["id"] == f"{exercise}-answer":
            assert old in cell["source"], "the slip no longer fits the solution"
            cell["source"] = cell["source"].replace(old, new)
    return notebook


@pytest.mark.slow
def test_the_solutions_pass_every_check():
    found = reports(NOTEBOOK)
    assert {name: report.total for name, report in found.items()} == TOTALS
    assert {name: dict(report.diagnoses) for name, report in found.items()} == {
        name: {} for name in TOTALS
    }


PROOF = "assert (x, mean) == (training, evaluation)"
DRAW = "mask = torch.rand(shape, generator=generator) >= self.p"
EXACT_SHARE = """count = rows * self.p
        count = int(count) + int(torch.rand(1, generator=generator) < count % 1)
        mask = torch.randperm(rows, generator=generator).view(shape) >= count"""
NEIGHBOURS = """mask = torch.rand((rows + 1) // 2, generator=generator) >= self.p
        mask = mask.repeat_interleave(2)[:rows].view(shape)"""
FRESH = (
    "generator=generator or torch.Generator().manual_seed(torch.Generator().seed()))"
)
DISTINCT = "    return len({tuple(kept(N, p, g).tolist()) for _ in range(300)}) > 150\n"

SLIPS = [
    ("trace", PROOF, "depth, training = 1, 5", {"depth": "u >=", "training": "u >="}),
    ("trace", PROOF, "depth, training = 1, 7", {"training": "the rates of linear1"}),
    ("cut", ".zero_grad()", "", {"pull": "gradients add up"}),
    ("cut", "net.train().", "net.", {"pull": "in training mode?"}),
    ("cut", "images), labels)", "images), labels, reduction='sum')", {"pull": "first"}),
    ("cut", "block.parameters()", "block.conv1.parameters()", {"pull": "first call"}),
    ("cut", '"the same factor"', '"as before"', {"stage 1": "measure it"}),
    ("cut", ', "as before"', ', "the same factor"', {"stage 3": "measure it"}),
    (
        "stages",
        "    last = max(",
        "    return drop_path_rates(p_max, depths)\n    last = max(",
        {"three stages": "NameError", "another rate": "NameError"},
    ),
    ("layer", DRAW, EXACT_SHARE, {"independence": "has 0.00 times the variance"}),
    ("layer", DRAW, NEIGHBOURS, {"independence": "do not fall independently"}),
    ("layer", "f * mask", "f.detach() * mask", {"gradient": "0.25 the branch gets no"}),
    ("layer", "f * 0.0", "torch.zeros_like(f)", {"gradient": "1.0 the branch gets no"}),
    ("layer", "f * mask", "f * mask.double()", {"dtype": "becomes torch.float64"}),
    ("layer", "generator=generator)", FRESH, {"global": "torch.manual_seed"}),
    ("place", "y == skip", "y == x", {"branch": "your code raises RuntimeError"}),
    (
        "place",
        ".relu()",
        "",
        {"branch": "with a projection, 'branch' was called False"},
    ),
    (
        "place",
        "torch.equal((y == skip).flatten(1).all(dim=1), gone)",
        "not bool((y == 0).flatten(1).all(dim=1).any())",
        {"before_norm": "'before_norm' was called True"},
    ),
    ("design", "    counts = ", DISTINCT + "    counts = ", {"copied": "do not fall"}),
    ("stages", "sum(depths) - 1", "sum(depths)", {"three stages": "not 0.42"}),
    ("stages", "max(sum(depths) - 1, 1)", "sum(depths) - 1", {"single": "Zero"}),
    ("stages", "block += depth", "pass", {"three stages": "the last block has"}),
    ("stages", "p_max * i", "0.5 * i", {"another rate": "has 0.2, not 0.50"}),
    ("layer", "(rows,) + (1,) * (f.dim() - 1)", "f.shape", {"whole": "in part"}),
    ("layer", 'if self.mode == "row" else 1', "", {"mini-batch": "only in part"}),
    ("layer", "len(f) if self.mode", "1 if self.mode", {"whole": "one fate"}),
    ("layer", ">= self.p", "< self.p", {"rate": "is 0.75"}),
    ("layer", "(1.0 - self.p) if", "1.0 if", {"scale": "expected 1.333"}),
    ("layer", "if self.scale_by_keep else 1.0", "", {"no scale": "expected 1.000"}),
    ("layer", "if self.p == 1.0", "if False", {"ends": "NaN"}),
    ("layer", "not self.training or", "", {"ends": "eval mode"}),
    ("layer", 'if mode not in ("row", "batch")', "if False", {"unknown": "accep"}),
    (
        "layer",
        "(1.0 - self.p) if self",
        '(1.0 - self.p) if self.mode == "row" and self',
        {"scale": "'batch', 'scale_by_keep': True}: kept ones become 1.000"},
    ),
    ("layer", "generator=generator)", "generator=None)", {"generator": "same state"}),
    (
        "layer",
        "generator=generator)",
        "generator=generator or torch.Generator().manual_seed(0))",
        {"generator": "without a generator"},
    ),
    ("layer", "return f * mask", "return f.mul_(mask)", {"input": "at p = 0.25"}),
    ("layer", "return f * 0.0", "return f.zero_()", {"input": "at p = 1.0"}),
    ("bug", "(y == 0).any()", "False", {"drops the skip": "was called"}),
    ("bug", "(y == y[0]).all()", "False", {"mask per mini-batch": "was called"}),
    ("bug", "y.max() == 2", "False", {"no scale": "was called"}),
    ("bug", '"scaled twice"', '"ok"', {"scaled twice": "called 'ok'"}),
    ("fold", "block.norm2.bias *= ", "_ = ", {"evaluation": "block 1 is not"}),
    ("fold", "scale_by_keep = True", "scale_by_keep = False", {"training": "else"}),
    ("plan", '(2 if schedule == "linear" else 1)', "1", {"linear 9": "not 9"}),
    ("plan", "if not 0 <= p <= 1", "if False", {"impossible": "no error"}),
    ("plan", "if not 0 <= p <= 1", "if p > 1", {"impossible": "depth 13"}),
    ("plan", "not 0 <= p <= 1", "not L / 2 <= D <= L", {"constant 2": "no constant"}),
    ("plan", 'schedule not in ("linear", "constant")', "0", {"impossible": "linear1"}),
    ("design", "calls = 10, 0.3, 2_000", "calls = 10, 0.3, 2_501", {"pairs": "2501"}),
    (
        "design",
        "abs(ratio - 1) < 4 * math.sqrt(2 / calls)",
        "torch.tensor(abs(ratio - 1) < 4 * math.sqrt(2 / calls))",
        {"DropPath": "Python value True or False, got tensor(True)"},
    ),
    ("design", "abs(ratio - 1) <", "ratio - 1 <", {"the subset": "do not fall"}),
    ("design", "abs(ratio - 1) <", "1 - ratio <", {"pairs": "do not fall"}),
    ("design", "N * p * (1 - p)", "N * p", {"DropPath": "fall independently"}),
    ("risk", "max(0.0, 1 - N * (1 - p))", "p**N", {"fraction": "expected 0.6"}),
    (
        "risk",
        "max(0.0, 1 - N * (1 - p))",
        "1 - N * (1 - p)",
        {"enough": "expected 0.0"},
    ),
    ("risk", '"row": 0.0', '"row": p**N', {"masks": "expected 0.0"}),
    ("risk", '"batch": p,', '"batch": p**N,', {"one mask": "expected 0.3"}),
    (
        "risk",
        "** processes",
        "",
        {"processes": "0.9676", "measured": "your risk is 0.82"},
    ),
    ("risk", "fine *= ", "fine = ", {"blocks": "expected 0.82"}),
]


@pytest.mark.parametrize(
    ("exercise", "old", "new", "expected"),
    [
        pytest.param(*slip, marks=[pytest.mark.slow] * (slip[0] == "design"))
        for slip in SLIPS
    ],
)
def test_a_slip_is_told(exercise, old, new, expected):
    report = reports(with_slip(exercise, old, new), exercise)[exercise]
    for name, words in expected.items():
        told = [text for key, text in report.diagnoses.items() if name in key]
        assert any(words in text for text in told), report


@pytest.mark.slow
def test_the_student_version_runs_and_no_check_is_complete():
    for name, report in reports(student_version(nbformat.from_dict(NOTEBOOK))).items():
        assert report.total == TOTALS[name] and report.passed < report.total, name
        expected = "not written yet" if name not in ("bug", "design") else "the samples"
        told = "".join(report.diagnoses.values())
        assert expected in told or "was called 'ok'" in told, name


@pytest.mark.parametrize("exercise", TOTALS)
def test_every_exercise_shows_its_scaffold_and_two_hints(exercise):
    text = CELLS[f"{exercise}-text"]["source"]
    scaffold = CELLS[f"{exercise}-answer"]["metadata"]["scaffold"]
    assert f"```python\n{scaffold}\n```" in text
    for part in ("*Objective 3.", "difficulty", "importance", "minutes*"):
        assert part in text
    assert text.count(":::{dropdown} Hint") == 2
