"""The interactive figures without a page: mathematics, data, sources, weights."""

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scipy import stats

from regdrop_lite import drop_block_gamma, drop_block_keep_prob, drop_path_rates
from regdrop_lite.drop_block_gamma import cover_counts

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPLORE = ROOT / "book" / "explore"
KILOBYTE = 1000
SCHEDULES = ("linear", "linear1", "constant")
SHARED = {"laws", "shared", "mount"}


def block_cases() -> list[dict[str, object]]:
    """What the package says of 240 settings of DropBlock."""
    sizes = [(5, 5), (6, 9), (7, 7), (14, 14), (13, 8)]
    rates = [0.0, 1e-4, 0.05, 0.3, 0.9, 0.999]
    cases = []
    for (h, w), k, p, border in itertools.product(
        sizes, (1, 3, 7, 14), rates, ("valid", "clip")
    ):
        gamma = drop_block_gamma((h, w), k, p, border)
        keep = drop_block_keep_prob((h, w), k, gamma, border)
        cases.append(
            {
                "height": h,
                "width": w,
                "block": k,
                "p": p,
                "border": border,
                "gamma": gamma,
                "keep": keep.flatten().tolist(),
                "counts": cover_counts(h, min(k, h), border),
            }
        )
    return cases


def variance_cases() -> list[dict[str, object]]:
    """The variance of the dropped share of small maps, over all patterns of seeds."""
    cases = []
    for size, k, border in ((3, 2, "valid"), (4, 2, "valid"), (2, 2, "clip")):
        first = 1 - k if border == "clip" else 0
        last = size - 1 if border == "clip" else size - k
        places = list(itertools.product(range(first, last + 1), repeat=2))
        grids = torch.zeros(len(places), size, size, dtype=torch.bool)
        for grid, (i, j) in zip(grids, places, strict=True):
            grid[max(i, 0) : i + k, max(j, 0) : j + k] = True
        patterns = torch.tensor(
            list(itertools.product((False, True), repeat=len(grids)))
        )
        fell = (patterns[:, :, None, None] & grids).any(dim=1).double()
        shares = fell.mean(dim=(1, 2))
        for gamma in (0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 1.0):
            fallen = patterns.double()
            odds = (gamma * fallen + (1 - gamma) * (1 - fallen)).prod(dim=1)
            mean = (odds * shares).sum()
            variance = (odds * (shares - mean) ** 2).sum().item()
            case = {"size": size, "block": k, "border": border}
            cases.append({**case, "gamma": gamma, "variance": variance})
    return cases


def binomial_cases() -> list[dict[str, object]]:
    return [
        {"n": n, "p": p, "law": stats.binom.pmf(range(n + 1), n, p).tolist()}
        for n in (1, 4, 16, 32, 500, 3136)
        for p in (0.0, 1e-3, 0.05, 0.25, 0.5, 0.9, 1.0)
    ]


def rate_cases() -> list[dict[str, object]]:
    """Five rules on 210 settings, each place counted by itself."""
    rules = load(ROOT / "book" / "figures" / "explore_rate.py").rules
    return [
        {
            "size": size,
            "block": block,
            "p": p,
            "rules": [
                {"gamma": gamma, "share": share}
                for _, gamma, share in rules(size, min(block, size), p).values()
            ],
        }
        for size in (4, 7, 9, 14, 28, 56)
        for block in (1, 2, 3, 4, 7, 12, 28)
        for p in (0.05, 0.1, 0.3, 0.5, 0.9)
    ]


def place_cases() -> list[dict[str, object]]:
    """Cover counts and P(keep) of 240 places of a map of 14 by 14."""
    cases = []
    for k, p, border in itertools.product(
        (1, 2, 5, 7, 14), (0.05, 0.3, 0.9), ("valid", "clip")
    ):
        gamma = drop_block_gamma((14, 14), k, p, border)
        keep = drop_block_keep_prob((14, 14), k, gamma, border)
        line = cover_counts(14, k, border)
        for row, column in itertools.product((0, 3, 6, 13), (2, 7)):
            cases.append(
                {
                    "row": row,
                    "column": column,
                    "k": k,
                    "p": p,
                    "border": border,
                    "covers": line[row] * line[column],
                    "keep": keep[row, column].item(),
                }
            )
    return cases


def depth_cases() -> list[dict[str, object]]:
    """Rates of the package, and the law of the depth over all masks."""
    cases = []
    for L, p, schedule in itertools.product(
        (1, 2, 5, 8, 10), (0.0, 0.05, 0.25, 0.5, 0.7, 0.9, 1.0), SCHEDULES
    ):
        rates = drop_path_rates(p, L, schedule)
        masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=L))).double()
        q = 1 - torch.tensor(rates, dtype=torch.float64)
        chances = (q * masks + (1 - q) * (1 - masks)).prod(dim=1)
        law = torch.zeros(L + 1, dtype=torch.float64)
        law.index_add_(0, masks.sum(dim=1).long(), chances)
        case = {"L": L, "p": p, "schedule": schedule, "rates": rates}
        cases.append({**case, "law": law.tolist()})
    return cases


def test_the_modules_compute_what_the_package_computes(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    reference = {
        "blocks": block_cases(),
        "binomial": binomial_cases(),
        "variance": variance_cases(),
        "rates": rate_cases(),
        "places": place_cases(),
        "depths": depth_cases(),
    }
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(reference), encoding="utf-8")
    result = subprocess.run(
        [node, "--test", *sorted(map(str, HERE.glob("*.test.mjs")))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "REFERENCE": str(path)},
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr
    assert re.search(r"^# fail 0$", result.stdout, flags=re.M)
    assert int(re.search(r"^# pass (\d+)$", result.stdout, flags=re.M)[1]) >= 15


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = sorted((ROOT / "book" / "figures").glob("explore_*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_pictures_and_data_are_what_their_script_makes(script):
    files = load(script).files()
    assert files
    for name, content in files.items():
        stored = (EXPLORE / name).read_text(encoding="utf-8")
        assert stored == content, f"run {script.relative_to(ROOT)}"


def test_every_picture_and_all_data_have_a_script():
    made = {name for script in SCRIPTS for name in load(script).files()}
    stored = {p.name for p in EXPLORE.iterdir() if p.suffix in (".svg", ".json")}
    assert stored - {"package.json"} == made


def test_the_modules_weigh_little():
    weights = {p.stem: p.stat().st_size for p in EXPLORE.glob("*.js")}
    assert weights.keys() > SHARED
    assert max(weights.values()) <= 20 * KILOBYTE
    assert sum(weights.values()) <= 100 * KILOBYTE
    for path in EXPLORE.glob("*.json"):
        assert path.stat().st_size <= 40 * KILOBYTE, path.name


def test_the_modules_ask_no_other_host_and_depend_on_nothing():
    for path in [*EXPLORE.glob("*.js"), EXPLORE / "explore.css"]:
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"']+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name
        for imported in re.findall(r"^import .* from \"([^\"]+)\"", text, flags=re.M):
            assert (EXPLORE / imported).exists() and imported.startswith("./")


def test_a_module_becomes_a_classic_script():
    extension = load(ROOT / "book" / "_ext" / "explore.py")
    source = (
        'import { a, b } from "./shared.js";\n'
        "export const c = 1;\nexport function d() {}\nexport class E {}\n"
        "export default { c };\n"
    )
    script = extension.classic("one", source)
    assert "const { a, b } = explore.shared;" in script
    assert "return { c, d, E, default: exported };" in script
    assert not re.search(r"^(import|export) ", script, flags=re.M)
    for wrong in ('import x from "./y.js";', "export { c };", 'import "./y.js";'):
        with pytest.raises(extension.ExtensionError, match="cannot be made classic"):
            extension.classic("one", wrong + "\n")
    for path in EXPLORE.glob("*.js"):
        extension.classic(path.stem, path.read_text(encoding="utf-8"))
