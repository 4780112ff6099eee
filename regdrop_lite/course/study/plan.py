"""Plans of ablation studies: what is trained, measured and compared, fixed beforehand.

A plan is a small TOML file in a folder ``plans``. Its groups span the grid: the values
of a group are combined in every way, and each combination, a *configuration*, is
trained once with each seed. Whatever a group does not name comes from the sections
``[data]``, ``[training]`` and ``[model]``, or from the defaults of
:class:`~regdrop_lite.course.training.TrainConfig` and
:class:`~regdrop_lite.course.models.nets.ResNetSmall`. A plan with a section ``[vit]``
in the place of ``[model]`` trains
:class:`~regdrop_lite.course.models.nets.ViTSmall`::

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

    [data]                              # Data
    images = 1000
    label_noise = 0.2

    [training]                          # TrainConfig, and ramp
    epochs = 30
    dtype = "float32"

    [model]                             # ResNetSmall
    depths = [4, 4, 4]                  # or, after [vit]: depth = 6

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

import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch

from regdrop_lite.course.data import DATASETS
from regdrop_lite.course.extras import needs

with needs("course", "pydantic"):
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        NonNegativeFloat,
        PositiveInt,
        StrictBool,
        ValidationError,
        create_model,
    )
    from pydantic.dataclasses import dataclass as checked

from regdrop_lite.course.history import EpochRecord
from regdrop_lite.course.measures import MEASURES
from regdrop_lite.course.models import ResNetSmall, ViTSmall
from regdrop_lite.course.training import TrainConfig

__all__ = [
    "METRICS",
    "MODEL_KEYS",
    "VIT_KEYS",
    "Contrast",
    "Data",
    "Family",
    "Model",
    "Plan",
    "PlanError",
    "Run",
    "Tolerances",
    "Training",
    "ViT",
    "difference",
    "make_net",
    "matches",
    "read_plan",
]

Config = dict[str, Any]

METRICS: dict[str, tuple[str, ...]] = {
    "": tuple(f.name for f in fields(EpochRecord) if f.name != "epoch"),
    **{name: measure.metrics for name, measure in MEASURES.items()},
}
"""The metrics of a row, by the measure that brings them; the first ones are in all."""


class PlanError(ValueError):
    """A plan says something that cannot be done; the message says what and where."""


# --- what a plan may say --------------------------------------------------------------


def _seeds(given: Any) -> Any:
    """Give the seeds of a list, or of a table with a start and a count."""
    if isinstance(given, dict):
        if not set(given) <= {"start", "count"}:
            raise ValueError(f"known are start and count, but got {', '.join(given)}")
        start, count = given.get("start", 0), given.get("count", 0)
        if type(start) is not int or type(count) is not int:
            raise ValueError(f"expected whole numbers, but got {given}")
        given = list(range(start, start + count))
    return given


def _each_once(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        raise ValueError("expected each once")
    return values


def _one_of(known: Iterable[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return value

    return AfterValidator(check)


Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Measures = list[Annotated[str, _one_of(MEASURES)]]
Seeds = Annotated[list[int], BeforeValidator(_seeds), AfterValidator(_each_once)]


class _Part(BaseModel):
    """Nothing is guessed: no other keys, no text for a number, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Data(_Part):
    """The section ``[data]``.

    ``images`` is the number of training images, drawn anew for each seed, and
    ``validation`` the number of validation images, the same for all seeds. Without them
    all images of the split are taken. ``data_seed`` draws the images, and
    ``noise_seed`` the label noise, in the place of the run's seed: the members of an
    ensemble share them.
    """

    name: Annotated[str, _one_of(DATASETS)] = DATASETS[0]
    images: PositiveInt | None = None
    validation: PositiveInt | None = None
    label_noise: float = 0.0
    noise_seed: int | None = None
    data_seed: int | None = None
    augmentation: str = "none"


class Training(_Part):
    """The section ``[training]``: fields of ``TrainConfig``, and ``ramp``.

    ``ramp`` is the share of the steps in which the drop rates rise from 0, see
    :class:`~regdrop_lite.LinearRamp`. A configuration names its ``optimizer`` only if
    it is another one: the runs of SGD had their names before there was a choice.
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    dtype: str = "float64"
    eval_every: int = 1
    optimizer: str = "sgd"
    ramp: Share = 0.0


class Model(_Part):
    """The section ``[model]``: arguments of ``ResNetSmall``."""

    regulariser: str = "none"
    p: Share = 0.0
    depths: list[int] = [4, 4, 4]
    schedule: str = "linear"
    block_size: int | list[int] = 3
    shared: bool = False
    border: str = "valid"
    placement: str = "branch"
    stages: list[int] = [1, 2, 3]
    path_p: Share = 0.0


class ViT(_Part):
    """The section ``[vit]``: arguments of ``ViTSmall``, in the place of ``[model]``."""

    p: Share = 0.0
    schedule: str = "linear"
    depth: PositiveInt = 6
    dim: PositiveInt = 32
    heads: PositiveInt = 2
    patch_size: PositiveInt = 7
    image_size: PositiveInt = 28


MODEL_KEYS = tuple(Model.model_fields)
"""The keys of ``[model]``."""

VIT_KEYS = tuple(ViT.model_fields)
"""The keys of ``[vit]``."""

if TYPE_CHECKING:
    Group = _Part
else:  # a name, and a list of values for each key of the sections
    Group = create_model(
        "Group",
        __base__=_Part,
        name=(Text, ...),
        **{
            key: (Annotated[list[field.rebuild_annotation()], Field(min_length=1)], [])
            for section in (Data, Training, Model, ViT)
            for key, field in section.model_fields.items()
            if key != "name"
        },
    )


class Hypothesis(_Part):
    """What is expected of a study."""

    id: Text
    claim: Text


@dataclass(frozen=True)
class Run:
    """One training: a configuration with a seed, and the group it belongs to."""

    group: str
    config: Config
    seed: int


@checked(frozen=True, config=ConfigDict(extra="forbid", strict=False))
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
    metric: Text
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    control_metric: Text | None = None


@checked(frozen=True, config=ConfigDict(extra="forbid", strict=False))
class Family:
    """Contrasts that belong together.

    Attributes:
        name: what they are about.
        contrasts: at least one.
        holm: whether the p values are corrected for their number.
    """

    name: Text
    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1)]
    holm: StrictBool = False


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


class PlanFile(_Part):
    """All that a plan may say, key by key."""

    title: Text
    evaluate: Literal["validation", "test"]
    measures: Annotated[Measures, Field(min_length=1), AfterValidator(_each_once)]
    seeds: Annotated[Seeds, Field(min_length=1)]
    groups: Annotated[list[Group], Field(min_length=1)]
    hypotheses: list[Hypothesis] = []
    checkpoints: Seeds = []
    tolerance: NonNegativeFloat = 0.0
    tolerances: dict[str, Any] = {}
    families: list[Family] = []
    data: Data = Data()
    training: Training = Training()
    model: Model = Model()
    vit: ViT | None = None


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
    except ValidationError as error:
        raise PlanError(f"{path.name}: {_explain(error, content)}") from None
    except (ValueError, KeyError) as error:
        raise PlanError(f"{path.name}: {error.args[0]}") from None


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


def make_net(
    config: Config,
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> ResNetSmall | ViTSmall:
    """Make the untrained net of a configuration.

    Args:
        config: of a plan.
        num_classes, in_channels, seed, dtype: as in ``ResNetSmall``.

    Raises:
        TypeError, ValueError: if the settings do not fit together.

    Example:
        >>> config = {**Model().model_dump(), "depths": [1, 1, 1]}
        >>> type(make_net(config)).__name__
        'ResNetSmall'
        >>> type(make_net({"net": "vit", **ViT().model_dump()})).__name__
        'ViTSmall'
    """
    net, keys = (ViTSmall, VIT_KEYS) if "net" in config else (ResNetSmall, MODEL_KEYS)
    arguments = {key: config[key] for key in keys}
    return net(num_classes, in_channels, **arguments, seed=seed, dtype=dtype)


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
    found = PlanFile.model_validate(content)
    if "model" in content and "vit" in content:
        raise PlanError("vit: expected either [model] or [vit], but got both")
    if stray := set(found.checkpoints) - set(found.seeds):
        raise PlanError(
            f"checkpoints: expected only seeds of the plan, but got {sorted(stray)}"
        )
    names = [family.name for family in found.families]
    if len(set(names)) != len(names):
        raise PlanError(f"families: expected names that differ, but got {names}")
    grid = list(_grid(found, content["groups"]))
    metrics = [m for name in ("", *found.measures) for m in METRICS[name]]
    for family in found.families:
        for contrast in family.contrasts:
            _check_contrast(contrast, grid, metrics, f"families.{family.name}")
    return Plan(
        path,
        content,
        tuple(Run(group, config, s) for group, config in grid for s in found.seeds),
        tuple(found.seeds),
        tuple(found.checkpoints),
        found.tolerance,
        tuple(_tolerances(found.tolerances, grid, metrics)),
        tuple(found.families),
    )


def _grid(plan: PlanFile, tables: Sequence[Config]) -> Iterator[tuple[str, Config]]:
    """Combine the values of each group in every way."""
    # "name" says nothing where all keys are together.
    base: Config = {"data": plan.data.name}
    base |= plan.data.model_dump(exclude={"name"})
    base |= plan.training.model_dump()
    # A residual net has no "net": its runs had their names before there was another.
    if plan.vit is None:
        base |= plan.model.model_dump()
    else:
        base |= {"net": "vit"} | plan.vit.model_dump()
    base |= {"evaluate": plan.evaluate, "measures": plan.measures}
    names: set[str] = set()
    seen: dict[str, str] = {}
    for group, table in zip(plan.groups, tables, strict=True):
        values = group.model_dump(exclude_unset=True)
        name = values.pop("name")
        where = f"groups.{name}"
        if name in names:
            raise PlanError(f"{where}: there are two groups of this name")
        names.add(name)
        axes = {key: values[key] for key in table if key != "name"}  # the file's order
        for key in axes:
            if key not in base:
                net = "ResNetSmall" if plan.vit is None else "ViTSmall"
                raise PlanError(f"{where}.{key}: it is no argument of {net}")
        for chosen in itertools.product(*axes.values()):
            config = base | dict(zip(axes, chosen, strict=True))
            if config["optimizer"] == "sgd":
                del config["optimizer"]
            _check_config(config, where)
            same = json.dumps(config, sort_keys=True)
            if same in seen:
                given = dict(zip(axes, chosen, strict=True))
                raise PlanError(f"{where}: {given} is in groups.{seen[same]} already")
            seen[same] = name
            yield name, config


def _check_config(config: Config, where: str) -> None:
    """Let the training and the model say what does not fit together."""
    masked = config["p"] or config.get("path_p")
    if config["ramp"] and not masked:
        raise PlanError(f"{where}.ramp: there is no regulariser whose rate could rise")
    try:
        TrainConfig(
            **{f.name: config[f.name] for f in fields(TrainConfig) if f.name in config}
        )
        make_net(config)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{where}: {error}") from error


def _check_contrast(
    contrast: Contrast,
    grid: Sequence[tuple[str, Config]],
    metrics: Sequence[str],
    where: str,
) -> None:
    for side in ("treatment", "control"):
        conditions = getattr(contrast, side)
        count = _count(conditions, "*", grid, f"{where}.{side}")
        if count != 1:
            raise PlanError(
                f"{where}.{side}: expected to select one configuration, but "
                f"{conditions} selects {count}"
            )
    for key in ("metric", "control_metric"):
        name = getattr(contrast, key)
        if name is not None:
            _check_metric(re.sub(r"\[\d+\]$", "", name), metrics, f"{where}.{key}")


def _tolerances(
    given: Config, grid: Sequence[tuple[str, Config]], metrics: Sequence[str]
) -> Iterator[Tolerances]:
    """Read the tolerances: those that stand outside a table are for all runs."""
    tables = {name: table for name, table in given.items() if isinstance(table, dict)}
    for_all = {name: given[name] for name in given if name not in tables}
    for pattern, table in {"*": for_all, **tables}.items():
        where = "tolerances" if table is for_all else f"tolerances.{pattern}"
        conditions = table.get("where", {})
        rest = {metric: table[metric] for metric in table if metric != "where"}
        for metric, bound in rest.items():
            _check_metric(metric, metrics, where)
            if type(bound) not in (int, float) or not bound >= 0:
                raise PlanError(
                    f"{where}.{metric}: expected a number from 0, but got {bound!r}"
                )
        if not _count(conditions, pattern, grid, f"{where}.where"):
            names = ", ".join(dict.fromkeys(group for group, _ in grid))
            raise PlanError(
                f"{where}: expected a pattern of the names {names}, and settings that "
                f"they have, but got {conditions}"
            )
        yield Tolerances(pattern, conditions, {k: float(v) for k, v in rest.items()})


def _count(
    conditions: object, pattern: str, grid: Sequence[tuple[str, Config]], where: str
) -> int:
    """Count the configurations that a table selects, from groups of such names."""
    if not isinstance(conditions, dict):
        raise PlanError(
            f"{where}: expected a table such as {{group = ...}}, but got {conditions!r}"
        )
    try:
        return sum(
            fnmatchcase(g, pattern) and matches({"group": g, "config": c}, conditions)
            for g, c in grid
        )
    except KeyError as error:
        raise PlanError(f"{where}: {error.args[0]}") from error


def _check_metric(name: str, metrics: Sequence[str], where: str) -> None:
    if name not in metrics:
        raise PlanError(
            f"{where}: expected one of {', '.join(metrics)}, but got {name!r}"
        )


# --- messages -------------------------------------------------------------------------

_KNOWN: dict[str, Any] = {"": PlanFile, "hypotheses": Hypothesis, "groups": Group}
_KNOWN |= {"data": Data, "training": Training, "model": Model, "vit": ViT}


def _explain(error: ValidationError, content: Config) -> str:
    """Say for each error where it is, what was expected and what came."""
    lines, errors = [], error.errors()
    for found in errors:
        n = len(found["loc"])
        if any(e["loc"][:n] == found["loc"] and len(e["loc"]) > n for e in errors):
            continue  # it only follows from the other
        where = ""
        place: Any = content
        for key in found["loc"]:
            if isinstance(key, int):  # of a list
                place = place[key] if isinstance(place, list) else None
                named = isinstance(place, dict) and place.get("name")
                part = named or f"number {key + 1}"
            else:
                known = isinstance(place, dict) and key in place
                if not known and key not in str(found["loc"][-1]):
                    continue  # a kind that a union names
                place = place[key] if known else None
                part = key
            where += f".{part}" if where else str(part)
        kind, text = found["type"], found["msg"]
        section = str(found["loc"][0]) if len(found["loc"]) > 1 else ""
        if kind == "missing":
            text = "it is missing"
        elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
            model = _KNOWN.get(section)
            text = "unknown key"
            if model is not None:
                text += f"; known are {', '.join(model.model_fields)}"
        else:
            text = text.removeprefix("Value error, ")
            text = text.replace("Input should be", "expected")
            text += "" if "but got" in text else f", but got {found['input']!r}"
        lines.append(f"{where}: {text}")
    return "; ".join(lines)


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
