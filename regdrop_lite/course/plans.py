"""Plans of ablation studies: what is trained, measured and compared, fixed beforehand.

A plan is a small TOML file in a folder ``plans``. Its groups span the grid: the values
of a group are combined in every way, and each combination, a *configuration*, is
trained once with each seed. Whatever a group does not name comes from the sections
``[data]``, ``[training]`` and ``[model]``, or from the defaults of
:class:`~regdrop_lite.course.training.TrainConfig` and
:class:`~regdrop_lite.course.models.ResNetSmall`::

    title = "Is SpatialDropout more than early stopping?"
    evaluate = "validation"             # or "test": where the measures look
    measures = ["classification"]       # names in regdrop_lite.course.measures.MEASURES
    seeds = { start = 0, count = 10 }   # or a list
    checkpoints = [0]                   # the seeds whose trained nets are stored
    tolerance = 0.05                    # for a float32 row that is repeated

    [tolerances]                        # for metrics that need another one
    hessian_top_eigenvalue = 0.8

    [tolerances."deep: *"]              # and for groups of such names, or some of their
    where = { p = 0.9 }                 # settings
    accuracy = 0.2

    [[hypotheses]]
    id = "H1"
    claim = "SpatialDropout beats the net that is stopped early."

    [data]                              # DATA_KEYS
    images = 1000
    label_noise = 0.2

    [training]                          # TRAINING_KEYS
    epochs = 30
    dtype = "float32"

    [model]                             # MODEL_KEYS
    depths = [4, 4, 4]

    [[groups]]
    name = "spatial"
    regulariser = ["spatial"]
    p = [0.1, 0.2]                      # two configurations

    [[groups]]
    name = "stopped"
    epochs = [10]

    [[families]]                        # of comparisons
    name = "gain"
    holm = true                         # Holm's correction runs over this family

    [[families.contrasts]]
    treatment = { group = "spatial", p = 0.2 }
    control = { group = "stopped" }
    metric = "accuracy"                 # or an entry of a list: "mc_accuracy[4]"
    alternative = "greater"             # or "less" or "two-sided"

A contrast may also set one metric against another, with ``control_metric``: averaged
predictions of a net against its plain ones, for example.
"""

import inspect
import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from regdrop_lite.course.data import DATASETS
from regdrop_lite.course.measures import MEASURES
from regdrop_lite.course.models import ResNetSmall
from regdrop_lite.course.training import TrainConfig

__all__ = [
    "DATA_KEYS",
    "MODEL_KEYS",
    "TRAINING_KEYS",
    "Contrast",
    "Family",
    "Plan",
    "PlanError",
    "Run",
    "Tolerances",
    "difference",
    "matches",
    "read_plan",
]

Config = dict[str, Any]

DATA_KEYS: Config = {
    "name": DATASETS[0],
    "images": None,
    "validation": None,
    "label_noise": 0.0,
    "noise_seed": None,
    "data_seed": None,
    "augmentation": "none",
}
"""The keys of ``[data]`` with their defaults.

``images`` is the number of training images, drawn anew for each seed, and
``validation`` the number of validation images, the same for all seeds. Without them all
images of the split are taken. ``data_seed`` draws the images, and ``noise_seed`` the
label noise, in the place of the run's seed: the members of an ensemble share them.
"""

TRAINING_KEYS: Config = {
    field.name: field.default
    for field in fields(TrainConfig)
    if field.name not in {"seed", "device", "progress", *DATA_KEYS}
} | {"ramp": 0.0}
"""The keys of ``[training]``: fields of ``TrainConfig``, and ``ramp``, the share of the
steps in which the drop rates rise from 0 (see :class:`~regdrop_lite.LinearRamp`)."""

MODEL_KEYS: Config = {
    name: list(p.default) if isinstance(p.default, tuple) else p.default
    for name, p in inspect.signature(ResNetSmall).parameters.items()
    if name not in {"num_classes", "in_channels", "seed", "dtype"}
}
"""The keys of ``[model]``: arguments of ``ResNetSmall``."""

METRICS = {
    "": (
        *("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
        *("memorised", "recovered"),
    ),
    "classification": ("accuracy", "nll", "ece"),
    "memorisation": ("memorised", "recovered"),
    "ablated_channels": (
        *("ablated_share", "ablated_branch_accuracy", "ablated_stem_accuracy"),
        "ablated_branch_rescaled_accuracy",
    ),
    "deleted_blocks": ("deleted_none_accuracy", "deleted_block_accuracy"),
    "occlusion": ("occlusion_size", "occlusion_accuracy"),
    "monte_carlo": (
        *("mc_passes", "mc_accuracy", "mc_nll", "mc_ece"),
        *("mc_off_accuracy", "mc_off_nll", "mc_off_ece"),
    ),
    "perturbation": ("perturbation_radius", "perturbation_loss"),
    "hessian": ("hessian_top_eigenvalue",),
    "effective_rank": ("effective_rank",),
    "gradient_norm": ("gradient_norm",),
}
"""The metrics of a row, by the measure that brings them; the first ones are in all."""

SECTIONS = {"data": DATA_KEYS, "training": TRAINING_KEYS, "model": MODEL_KEYS}
AXES = {
    key: default
    for section in SECTIONS.values()
    for key, default in section.items()
    if key != "name"
}
TOP_KEYS = (
    *("title", "hypotheses", "evaluate", "measures", "tolerance", "checkpoints"),
    *("tolerances", "seeds", "groups", "families", *SECTIONS),
)
ALTERNATIVES = ("two-sided", "greater", "less")


class PlanError(ValueError):
    """A plan says something that cannot be done; the message says what and where."""


@dataclass(frozen=True)
class Run:
    """One training: a configuration with a seed, and the group it belongs to."""

    group: str
    config: Config
    seed: int


@dataclass(frozen=True)
class Contrast:
    """Two configurations to be compared, seed by seed.

    Attributes:
        treatment: what selects the rows of the one, such as ``{"group": "spatial"}``.
        control: likewise for the other.
        metric: a metric of the rows, or an entry of a list: ``"mc_accuracy[4]"``.
        control_metric: the metric of the control; None for the same one.
        alternative: ``"two-sided"``, or what the treatment is expected to be:
            ``"greater"`` or ``"less"``.
    """

    treatment: Mapping[str, object]
    control: Mapping[str, object]
    metric: str
    alternative: str = "two-sided"
    control_metric: str | None = None


@dataclass(frozen=True)
class Family:
    """Contrasts that belong together.

    Attributes:
        name: what they are about.
        contrasts: at least one.
        holm: whether the p values are corrected for their number.
    """

    name: str
    contrasts: tuple[Contrast, ...]
    holm: bool = False


@dataclass(frozen=True)
class Tolerances:
    """How far repetitions of some rows may be apart.

    Attributes:
        groups: a pattern of the names of groups; ``"*"`` stands for any characters.
        where: settings that the rows have.
        bounds: by metric.
    """

    groups: str
    where: Mapping[str, object]
    bounds: Mapping[str, float]

    def fit(self, row: Mapping[str, Any]) -> bool:
        """Whether they are for this row."""
        return fnmatchcase(row["group"], self.groups) and matches(row, self.where)


@dataclass(frozen=True)
class Plan:
    """A checked plan.

    Attributes:
        path: the file it came from.
        content: all that the file says, as read.
        runs: every configuration of the grid with every seed, group by group.
        seeds: the seeds.
        checkpoints: the seeds whose nets are stored.
        tolerance: by how much a metric x of a repeated float32 row may differ, as a
            multiple of max(1, abs(x)).
        tolerances: the same for single metrics; the last that fit a row decide.
        families: the comparisons.
    """

    path: Path
    content: Config
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    checkpoints: tuple[int, ...]
    tolerance: float
    tolerances: tuple[Tolerances, ...]
    families: tuple[Family, ...]

    @property
    def name(self) -> str:
        """The name of the file, without its ending."""
        return self.path.stem

    def allowed(self, row: Mapping[str, Any], metric: str) -> float:
        """Tell by how much a metric of a repeated float32 row may differ."""
        bound = self.tolerance
        for tolerances in self.tolerances:
            if tolerances.fit(row):
                bound = tolerances.bounds.get(metric, bound)
        return bound

    def file(self, folder: str, ending: str) -> Path:
        """Give a file of this plan in a folder beside the folder of the plans."""
        return self.path.parents[1] / folder / f"{self.name}{ending}"


def read_plan(path: str | Path) -> Plan:
    """Read a plan and check all of it.

    Args:
        path: a TOML file in a folder called ``plans``; see the top of this page.

    Raises:
        FileNotFoundError: if there is no such file.
        PlanError: if the file is no TOML, a key or a value is unknown or does not fit,
            there is no group or no seed, or two groups share a configuration.
    """
    path = Path(path).absolute()
    if path.parent.name != "plans":
        raise PlanError(f"{path}: expected a file in a folder called 'plans'")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path.name} is no TOML file: {error}") from error
    try:
        return _parse(path, content)
    except PlanError as error:
        raise PlanError(f"{path.name}: {error}") from None


def matches(run: Mapping[str, Any], conditions: Mapping[str, object]) -> bool:
    """Whether a row, or a run as a dictionary, meets all conditions.

    Args:
        run: has ``group``, ``seed`` and other entries, and a ``config``.
        conditions: wanted values of entries of the run or of its configuration.

    Raises:
        KeyError: for a name that the run does not know.

    Example:
        >>> row = {"group": "spatial", "seed": 0, "config": {"p": 0.1, "epochs": 30}}
        >>> matches(row, {"group": "spatial", "p": 0.1}), matches(row, {"p": 0.2})
        (True, False)
    """
    known = {**run["config"], **run}
    for name, wanted in conditions.items():
        if name not in known:
            raise KeyError(f"unknown: {name!r}; known are {', '.join(known)}")
        if known[name] != (list(wanted) if isinstance(wanted, tuple) else wanted):
            return False
    return True


def difference(old: Config, new: Config) -> str | None:
    """Name the first key in which a plan is no mere extension of an older one.

    More seeds and more groups are an extension. All else is fixed once rows exist, but
    for the tolerances, which judge repetitions and not results.

    Args:
        old: the content of a plan that rows were made for.
        new: the content of the plan as it is now.

    Returns:
        A text, or None if the new plan keeps or extends the old one.

    Example:
        >>> difference({"title": "a", "seeds": [1]}, {"title": "a", "seeds": [1, 2]})
        >>> difference({"data": {"images": 10}}, {"data": {"images": 20}})
        'data.images was 10 and is 20'
    """
    free = {"tolerance", "tolerances"}
    old, new = ({k: c[k] for k in c if k not in free} for c in (old, new))
    missing = set(_seeds(old.pop("seeds", []))) - set(_seeds(new.pop("seeds", [])))
    if missing:
        return f"seeds had {min(missing)} and has it no more"
    old_groups = {f"groups.{g['name']}": g for g in old.pop("groups", [])}
    new_groups = {f"groups.{g['name']}": g for g in new.pop("groups", [])}
    for name, group in old_groups.items():
        if name not in new_groups:
            return f"{name} is gone"
        old[name], new[name] = group, new_groups[name]
    return _first_change(old, new)


# --- parsing --------------------------------------------------------------------------


def _parse(path: Path, content: Config) -> Plan:
    _check_keys(content, TOP_KEYS, "")
    for key in ("title", "evaluate", "measures", "seeds", "groups"):
        if key not in content:
            raise PlanError(f"{key} is missing")
    _check_text(content["title"], "title")
    for number, entry in enumerate(_tables(content, "hypotheses"), start=1):
        where = f"hypotheses, number {number}"
        _check_keys(entry, ("id", "claim"), f"{where}: ")
        for key in ("id", "claim"):
            _check_text(entry.get(key), f"{where}, {key}")
    evaluate, measures = content["evaluate"], content["measures"]
    _choice(evaluate, ("validation", "test"), "evaluate")
    fits = isinstance(measures, list) and bool(measures)
    _require(fits, "measures", "a list with at least one name", measures)
    for name in measures:
        _choice(name, MEASURES, "measures")
    _require(len(set(measures)) == len(measures), "measures", "each once", measures)
    metrics = [m for name in ("", *measures) for m in METRICS[name]]

    base = {}
    for section, known in SECTIONS.items():
        given = content.get(section, {})
        _require(isinstance(given, dict), section, "a table", given)
        _check_keys(given, known, f"{section}: ")
        for key, default in known.items():
            # "name" says nothing in a row, where all keys stand side by side.
            flat = "data" if key == "name" else key
            base[flat] = _value(given.get(key, default), default, f"{section}.{key}")
    _choice(base["data"], DATASETS, "data.name")
    base |= {"evaluate": evaluate, "measures": measures}

    seeds = _seeds(content["seeds"])
    _require(bool(seeds), "seeds", "at least one", list(seeds))
    checkpoints = _seeds(content.get("checkpoints", []), "checkpoints")
    stray = set(checkpoints) - set(seeds)
    _require(not stray, "checkpoints", "only seeds of the plan", sorted(stray))
    tolerance = _value(content.get("tolerance", 0.0), 0.0, "tolerance")
    _require(tolerance >= 0, "tolerance", "a number from 0", tolerance)
    grid = _grid(_tables(content, "groups"), base)
    tolerances = _tolerances(content.get("tolerances", {}), grid, metrics)
    families = tuple(
        _family(table, grid, metrics, number)
        for number, table in enumerate(_tables(content, "families"), start=1)
    )
    names = [family.name for family in families]
    _require(len(set(names)) == len(names), "families", "names that differ", names)
    runs = tuple(Run(group, config, s) for group, config in grid for s in seeds)
    return Plan(
        path, content, runs, seeds, checkpoints, tolerance, tolerances, families
    )


def _tolerances(
    given: object, grid: list[tuple[str, Config]], metrics: list[str]
) -> tuple[Tolerances, ...]:
    """Read the tolerances: those that stand outside a table are for all runs."""
    _require(isinstance(given, dict), "tolerances", "a table", given)
    tables = {name: table for name, table in given.items() if isinstance(table, dict)}
    for_all = {name: given[name] for name in given if name not in tables}
    found = [Tolerances("*", {}, _bounds(for_all, metrics, "tolerances"))]
    for pattern, table in tables.items():
        where = f"tolerances.{pattern}"
        conditions = table.get("where", {})
        _require(isinstance(conditions, dict), f"{where}.where", "a table", conditions)
        rest = {metric: table[metric] for metric in table if metric != "where"}
        one = Tolerances(pattern, conditions, _bounds(rest, metrics, where))
        try:
            fits = any(one.fit({"group": g, "config": c}) for g, c in grid)
        except KeyError as error:
            raise PlanError(f"{where}.where: {error.args[0]}") from error
        names = ", ".join(dict.fromkeys(group for group, _ in grid))
        expected = f"a pattern of the names {names}, and settings that they have"
        _require(fits, "tolerances", expected, f"{pattern}, {conditions}")
        found.append(one)
    return tuple(found)


def _bounds(given: Config, metrics: list[str], where: str) -> dict[str, float]:
    found = {}
    for metric, bound in given.items():
        _choice(metric, metrics, where)
        found[metric] = _value(bound, 0.0, f"{where}.{metric}")
        fits = found[metric] >= 0
        _require(fits, f"{where}.{metric}", "a number from 0", bound)
    return found


def _grid(groups: list[Config], base: Config) -> list[tuple[str, Config]]:
    """Combine the values of each group in every way."""
    _require(bool(groups), "groups", "at least one", groups)
    grid: list[tuple[str, Config]] = []
    seen: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        axes = dict(group)
        name = axes.pop("name", None)
        _check_text(name, f"groups, number {number}, name")
        where = f"groups.{name}"
        if name in {other for other, _ in grid}:
            raise PlanError(f"{where}: there are two groups of this name")
        _check_keys(axes, AXES, f"{where}: ")
        for key, values in axes.items():
            _require(
                isinstance(values, list) and bool(values),
                f"{where}.{key}",
                "a list with at least one value",
                values,
            )
            axes[key] = [_value(v, AXES[key], f"{where}.{key}") for v in values]
        for values in itertools.product(*axes.values()):
            config = base | dict(zip(axes, values, strict=True))
            _check_config(config, where)
            same = json.dumps(config, sort_keys=True)
            if same in seen:
                chosen = dict(zip(axes, values, strict=True))
                raise PlanError(f"{where}: {chosen} is in groups.{seen[same]} already")
            seen[same] = name
            grid.append((name, config))
    return grid


def _check_config(config: Config, where: str) -> None:
    """Let the training and the model say what does not fit."""
    for key in ("images", "validation"):
        n = config[key]
        _require(n is None or n > 0, f"{where}.{key}", "a number from 1", n)
    for key in ("p", "path_p"):  # the model speaks of p_max
        p = config[key]
        _require(0 <= p <= 1, f"{where}.{key}", "a probability from 0 to 1", p)
    ramp = config["ramp"]
    _require(0 <= ramp <= 1, f"{where}.ramp", "a share from 0 to 1", ramp)
    if ramp and config["regulariser"] == "none" and not config["path_p"]:
        raise PlanError(f"{where}.ramp: there is no regulariser whose rate could rise")
    try:
        TrainConfig(
            **{f.name: config[f.name] for f in fields(TrainConfig) if f.name in config}
        )
        ResNetSmall(**{key: config[key] for key in MODEL_KEYS})
    except (TypeError, ValueError) as error:
        raise PlanError(f"{where}: {error}") from error


def _family(
    table: Config, grid: list[tuple[str, Config]], metrics: list[str], number: int
) -> Family:
    where = f"families, number {number}"
    _check_keys(table, ("name", "holm", "contrasts"), f"{where}: ")
    _check_text(table.get("name"), f"{where}, name")
    where = f"families.{table['name']}"
    holm = table.get("holm", False)
    _require(isinstance(holm, bool), f"{where}.holm", "true or false", holm)
    contrasts = []
    for entry in _tables(table, "contrasts"):
        known = tuple(field.name for field in fields(Contrast))
        _check_keys(entry, known, f"{where}.contrasts: ")
        for side in ("treatment", "control"):
            _check_selection(entry.get(side), grid, f"{where}.{side}")
        for key in ("metric", "control_metric"):
            if key == "metric" or key in entry:
                _check_text(entry.get(key), f"{where}.{key}")
                _choice(re.sub(r"\[\d+\]$", "", entry[key]), metrics, f"{where}.{key}")
        _choice(
            entry.get("alternative", "two-sided"), ALTERNATIVES, f"{where}.alternative"
        )
        contrasts.append(Contrast(**entry))
    _require(bool(contrasts), f"{where}.contrasts", "at least one", contrasts)
    return Family(table["name"], tuple(contrasts), holm)


def _check_selection(
    conditions: object, grid: list[tuple[str, Config]], where: str
) -> None:
    if not isinstance(conditions, dict):
        raise PlanError(
            f"{where}: expected a table such as {{group = ...}}, but got {conditions!r}"
        )
    try:
        count = sum(matches({"group": g, "config": c}, conditions) for g, c in grid)
    except KeyError as error:
        raise PlanError(f"{where}: {error.args[0]}") from error
    if count != 1:
        raise PlanError(
            f"{where}: expected to select one configuration, but {conditions} "
            f"selects {count}"
        )


def _seeds(given: object, where: str = "seeds") -> tuple[int, ...]:
    """Give the seeds of a list, or of a table with a start and a count."""
    if isinstance(given, dict):
        _check_keys(given, ("start", "count"), f"{where}: ")
        start, count = given.get("start", 0), given.get("count", 0)
        for value in (start, count):
            _require(type(value) is int, where, "whole numbers", value)
        return tuple(range(start, start + count))
    _require(isinstance(given, list), where, "a list, or a start and a count", given)
    for value in given:
        _require(type(value) is int, where, "whole numbers", value)
    _require(len(set(given)) == len(given), where, "each number once", given)
    return tuple(given)


# --- small checks ---------------------------------------------------------------------


def _value(value: object, default: object, where: str) -> Any:
    """Give a value in the kind of the default: a whole number may stand for 0.0."""
    if default is None:  # numbers of images
        fits, kind = value is None or type(value) is int, "a whole number"
    elif isinstance(default, bool | str):
        fits = type(value) is type(default)
        kind = "true or false" if isinstance(default, bool) else "a text"
    elif isinstance(default, list) or where.endswith("block_size"):
        numbers = value if isinstance(value, list) else [value]
        fits = all(type(n) is int for n in numbers)
        fits &= isinstance(value, list) or not isinstance(default, list)
        kind = f"whole numbers like {default}"
    elif isinstance(default, int):
        fits, kind = type(value) is int, "a whole number"
    else:
        fits = type(value) in (int, float) and math.isfinite(value)
        kind = "a number"
        value = float(value) if fits else value
    _require(fits, where, kind, value)
    return value


def _tables(content: Config, key: str) -> list[Config]:
    tables = content.get(key, [])
    fits = isinstance(tables, list) and all(isinstance(t, dict) for t in tables)
    _require(fits, key, f"tables, each under [[{key}]]", tables)
    return tables


def _check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise PlanError(f"{where}unknown key {key!r}; known are {', '.join(known)}")


def _choice(value: object, known: Iterable[str], where: str) -> None:
    fits = isinstance(value, str) and value in known
    _require(fits, where, f"one of {', '.join(known)}", value)


def _check_text(value: object, where: str) -> None:
    _require(isinstance(value, str) and bool(value), where, "a text", value)


def _require(fits: bool, where: str, expected: str, value: object) -> None:
    if not fits:
        raise PlanError(f"{where}: expected {expected}, but got {value!r}")


def _first_change(old: object, new: object, where: str = "") -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            path = f"{where}.{key}" if where else key
            if key not in old or key not in new:
                return f"{path} {'is new' if key in new else 'is gone'}"
            if found := _first_change(old[key], new[key], path):
                return found
        return None
    return None if old == new else f"{where} was {old!r} and is {new!r}"
