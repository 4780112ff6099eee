"""The interactive figures without a page: mathematics, data, sources, weights."""

import functools
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

from regdrop_lite import (
    drop_block_gamma,
    drop_block_keep_prob,
    drop_path_rates,
    spatial_dropout,
)
from regdrop_lite.course.ensembles import (
    added_variance,
    all_masks,
    average_predictions,
    block_covariance,
    group_covariance,
    mean,
    variance,
)
from regdrop_lite.course.study.report import load_study
from regdrop_lite.course.study.store import select
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


def training_cases() -> list[dict[str, object]]:
    """The ends of the trainings that the rows of the study have, setting by setting."""
    groups = {"element": "element", "channel": "spatial", "block": "block"}
    groups["path"] = "path, constant"
    study = load_study(ROOT / "book" / "results" / "plans" / "choose.toml")
    cases = []
    for (method, group), (labels, noise), tenths in itertools.product(
        groups.items(), (("noisy", 0.2), ("clean", 0.0)), range(6)
    ):
        chosen = [
            row
            for row in select(study.rows, group=group if tenths else "none")
            if row["config"]["label_noise"] == noise
            and row["config"]["p"] == tenths / 10
        ]
        found = [row["metrics"] for row in chosen]
        wrong = [m["memorised"] if noise else 0.0 for m in found]
        fitted = [
            (m["train_accuracy"] - noise * share) / (1 - noise)
            for m, share in zip(found, wrong, strict=True)
        ]
        values = [fitted, [m["validation_accuracy"] for m in found], wrong]
        ends = [[sum(v) / 3, min(v), max(v)] for v in values[: 3 if noise else 2]]
        setting = {"method": method, "labels": labels, "p": tenths / 10}
        cases.append({**setting, "ends": ends, "runs": len(chosen)})
    return cases


def ensemble_cases() -> dict[str, list[dict[str, object]]]:
    """Averages over all thinned nets, and 216 of the nets; and a net of two units."""
    script = load(ROOT / "book" / "figures" / "explore_ensemble.py")
    data = json.loads((EXPLORE / "ensemble.json").read_text(encoding="utf-8"))
    nets: list[dict[str, object]] = []
    for photo, p in itertools.product(
        range(4), (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 0.9)
    ):
        logits, plain = script.all_logits(data, photo, p)
        chances = all_masks(12, p)[1]
        label = data["photos"][photo]["label"]
        averages = average_predictions(logits[:, None], chances)
        given = logits.log_softmax(dim=1)[:, label]
        case = {"photo": photo, "p": p, "loss": -mean(given, chances).item()}
        case |= {
            name: found.exp()[0].tolist()
            for name, found in zip(("arithmetic", "geometric"), averages, strict=True)
        }
        case["plain"] = plain.softmax(dim=0).tolist()
        case["members"] = [
            {"mask": m, "chance": chances[m].item(), "given": given[m].exp().item()}
            for m in (0, 1, 64, 1234, 3210, 4095)
        ]
        nets.append(case)
    units: list[dict[str, object]] = []
    for tenths, relu in itertools.product(range(10), (True, False)):
        p = tenths / 10
        v = torch.tensor([0.0, 1 / (1 - p), 1.0], dtype=torch.float64)
        above = (v.relu() - 2 * (v - 1).relu()) if relu else v - 2 * (v - 1)
        logits = torch.stack([-5 * above, torch.zeros_like(v)], dim=1)
        chances = torch.tensor([p, 1 - p], dtype=torch.float64)
        averages = average_predictions(logits[:2, None], chances)
        found = [*logits.softmax(dim=1)[:, 0], *(a.exp()[0, 0] for a in averages)]
        names = ("dropped", "kept", "plain", "arithmetic", "geometric")
        case = {name: value.item() for name, value in zip(names, found, strict=True)}
        units.append({"p": p, "relu": relu, "given": case})
    return {"nets": nets, "units": units}


def restore_cases() -> list[dict[str, object]]:
    """Conditional means and variances of 240 maps with gaps, from their covariance."""
    generator = torch.Generator().manual_seed(10)
    places = torch.arange(10, dtype=torch.float64)
    cases: list[dict[str, object]] = []
    for twentieths, p, _ in itertools.product(
        (0, 4, 8, 10, 12, 14, 16, 17, 18, 19), (0.1, 0.3, 0.6, 0.8, 0.95, 1.0), range(4)
    ):
        rho = twentieths / 20
        line = rho ** (places[:, None] - places).abs()
        covariance = torch.kron(line, line)
        x = torch.randn(100, generator=generator, dtype=torch.float64)
        gone = torch.rand(100, generator=generator, dtype=torch.float64) < p
        within, between = covariance[gone][:, ~gone], covariance[~gone][:, ~gone]
        weights = torch.linalg.solve(between, within.T).T
        left = covariance[gone][:, gone] - weights @ within.T
        case = {"rho": rho, "map": x.tolist(), "gone": gone.int().tolist()}
        case |= {"guess": (weights @ x[~gone]).tolist(), "left": left.diag().tolist()}
        cases.append(case)
    return cases


def noise_cases() -> list[dict[str, object]]:
    """The noise that four methods add to 54 sums of two maps of four values."""
    generator = torch.Generator().manual_seed(8)
    values = torch.arange(8)
    cases: list[dict[str, object]] = []
    for p, _ in itertools.product(
        (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9), range(6)
    ):
        u = torch.randn(8, generator=generator, dtype=torch.float64)
        found = {
            "element": group_covariance(values, p),
            "channel": group_covariance(values // 4, p),
            "path": group_covariance(values * 0, p),
            "block": block_covariance((1, 4), 2, p, 2),
        }
        for name, K in found.items():
            case = {"method": name, "p": p, "u": u.tolist(), "K": K.tolist()}
            cases.append({**case, "added": added_variance(u, K).item()})
    return cases


def shift_cases() -> dict[str, list[dict[str, float]]]:
    """The variance of a sum of eight channels: over all masks, and of the layer."""
    exact = []
    for p, quarters in itertools.product([i / 20 for i in range(19)], range(13)):
        keep, chances = all_masks(8, p)
        kept = keep.sum(dim=1) / (1 - p)
        means, mu = quarters / 4 * kept / 8**0.5, quarters / 4
        found = mean(kept / (1 - p) / 8, chances) + variance(means, chances)
        exact.append({"p": p, "mu": mu, "variance": found.item()})
    generator = torch.Generator().manual_seed(11)
    drawn = []
    for p, mu in itertools.product((0.1, 0.3, 0.5, 0.8), (0.0, 1.0, 3.0)):
        x = torch.randn(20_000, 8, 1, generator=generator, dtype=torch.float64) + mu
        z = spatial_dropout(x, p, generator=generator).sum(dim=(1, 2)) / 8**0.5
        square = (z - 8**0.5 * mu) ** 2
        error = square.std().item() / len(z) ** 0.5
        case = {"p": p, "mu": mu, "variance": square.mean().item()}
        drawn.append({**case, "error": error})
    return {"exact": exact, "drawn": drawn}


def flat_cases() -> list[dict[str, object]]:
    """Losses and curvatures of 336 steps from rescaled weights, by differentiation."""
    script = load(ROOT / "book" / "figures" / "explore_flat.py")
    x = torch.tensor([-2.0, -0.5, 0.0, 1.0, 2.0], dtype=torch.float64)
    cases: list[dict[str, object]] = []
    for c, along in itertools.product(
        (0.25, 0.4, 0.5, 0.8, 0.95, 1.0, 1.05, 1.3, 2.0, 2.75, 3.5, 4.0),
        ("steepest", "first", "second", "share"),
    ):
        weights = torch.tensor([c, 1 / c], dtype=torch.float64)
        hessian = torch.autograd.functional.hessian(script.loss, weights)
        way = script.direction(c, along)
        case: dict[str, object] = {"c": c, "along": along}
        case |= {"curved": (way @ hessian @ way).item()}
        case |= {"top": torch.linalg.eigvalsh(hessian)[-1].item()}
        for t in (-1.0, -0.6, -0.25, 0.0, 0.1, 0.4, 1.0):
            there = weights + t * way
            found = {"t": t, "weights": there.tolist()}
            found["outputs"] = (there[1] * (there[0] * x).relu()).tolist()
            cases.append({**case, **found, "loss": script.loss(there).item()})
    return cases


@pytest.mark.slow
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
        "trainings": training_cases(),
        "ensembles": ensemble_cases(),
        "restored": restore_cases(),
        "noises": noise_cases(),
        "shifts": shift_cases(),
        "flats": flat_cases(),
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


@pytest.mark.slow
def test_the_types_of_all_scripts_are_right():
    """As JSDoc names them; CONTRIBUTING.md says how to install the compiler."""
    places = [str(ROOT / "node_modules" / ".bin"), os.environ["PATH"]]
    compiler = shutil.which("tsc", path=os.pathsep.join(places))
    if compiler is None:
        pytest.skip("TypeScript's compiler is not installed")
    result = subprocess.run(
        [compiler, "--project", HERE, "--listFiles"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    scripts = [*EXPLORE.glob("*.js"), *(ROOT / "book" / "_static").glob("*.js")]
    assert {p.as_posix() for p in scripts} <= set(result.stdout.splitlines())


@functools.cache
def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def files(script: Path) -> dict[str, str]:
    """What a script makes."""
    return load(script).files()


SCRIPTS = sorted((ROOT / "book" / "figures").glob("explore_*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_pictures_and_data_are_what_their_script_makes(script):
    assert files(script)
    for name, content in files(script).items():
        stored = (EXPLORE / name).read_text(encoding="utf-8")
        assert stored == content, f"run {script.relative_to(ROOT)}"


def test_the_first_page_says_how_typical_its_pair_is():
    study = load_study(ROOT / "book" / "results" / "plans" / "compare.toml")
    rows = select(study.rows, group="noisy: spatial")
    shares = {row["seed"]: row["metrics"]["memorised"] for row in rows}
    shown = json.loads((EXPLORE / "overfit.json").read_text(encoding="utf-8"))
    heart = shown["said"]["noisy"]["channel"]["heart"]
    page = " ".join((ROOT / "book" / "intro.md").read_text(encoding="utf-8").split())
    assert len(shares) == 15 and heart == round(200 * shares[100])
    learnt = f"learnt {heart} of the 200 wrong labels ({shares[100]:.2f})"
    assert f"{learnt}, more than most of fifteen such nets" in page
    least, most = min(shares.values()), max(shares.values())
    assert f"fifteen such nets, which learnt {least:.2f} to {most:.2f}." in page
    assert sum(share < shares[100] for share in shares.values()) > 15 / 2, "most"


def test_every_picture_and_all_data_have_a_script():
    made = {name for script in SCRIPTS for name in files(script)}
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
