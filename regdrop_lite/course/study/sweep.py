"""The runner of ablation studies: ``python -m regdrop_lite.course.study PLAN``.

It trains every run of a plan, see :mod:`~regdrop_lite.course.study.plan`, that has no
row yet, on all cores, and writes a row as soon as a run is over. Ctrl-C, a crash or a
power cut lose no more than the runs under way: the same command goes on where it
stopped::

    python -m regdrop_lite.course.study book/results/plans/slice.toml
    ... PLAN --list              what is done
    ... PLAN --dry-run           which runs would be made
    ... PLAN --seconds 3600      start no more runs after an hour
    ... PLAN --part 1/3          the first third of the runs
    ... PLAN --scheduler ADDRESS on a Dask cluster
    ... --verify 3               make three stored rows again and compare
    ... PLAN --verify 3 --keep   and store what came out in the folder "repeats"

A run is done if a good row carries its name, a hash of its configuration, its seed and
``RESULTS_VERSION``. When that number is raised, all runs are open again; their old rows
stay in the file. A failed run has a row with its error, and is tried again.
"""

import argparse
import math
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from regdrop_lite.course.extras import needs

with needs("course", "joblib or tqdm"):
    import joblib
    import numpy as np
    from joblib.externals.loky.process_executor import TerminatedWorkerError
    from tqdm import tqdm

from regdrop_lite.course.study.plan import Config, Plan, PlanError, Run, read_plan
from regdrop_lite.course.study.run import (
    RESULTS_VERSION,
    data_hash,
    perform,
    prepare_data,
    run_id,
    source_hash,
)
from regdrop_lite.course.study.store import (
    Row,
    RowsError,
    Store,
    add_repeat,
    load_rows,
    open_store,
)

__all__ = ["apart", "main", "run_plan", "verify"]

PLANS = Path("book/results/plans")
FLOAT64_TOLERANCE = 1e-9
"""How far apart the metrics of two equal float64 runs may be, see :func:`apart`.

On one machine they are equal bit for bit. Other instruction sets add up in another
order, which moves the last digits, and leaves all counts and thus all shares equal."""


def run_plan(
    plan: Plan,
    *,
    jobs: int = -1,
    scheduler: str | None = None,
    device: str = "cpu",
    folder: str | None = None,
    part: tuple[int, int] = (1, 1),
    limit: int | None = None,
    seconds: float | None = None,
) -> Counter[str]:
    """Make the open runs of a plan and store their rows.

    Args:
        plan: what to do.
        jobs: how many processes, of one thread each; -1 for one on each core.
        scheduler: the address of a Dask scheduler, whose workers then do the work. Give
            them one thread each, and install the same package on all of them.
        device: ``"cpu"`` or ``"cuda"``.
        folder: where the data are, unless they are embedded.
        part: (K, M) takes every M-th run of the plan, from the K-th.
        limit: start at most so many runs.
        seconds: start none after this time.

    Returns:
        How many runs of this part are ``ok`` and ``failed`` now, were ``done`` before
        and ``remain``.

    Raises:
        RowsError: if the rows file cannot be used, see
            :func:`~regdrop_lite.course.study.store.open_store`, or its rows were made
            from other data of the same name.
        OSError: if a row cannot be written; those before it are kept.
        ValueError: if the data have too few images.
    """
    common = _common(plan, device, folder)
    names = _names(plan)
    _check_device(device, scheduler)
    for group, config in {r.group: r.config for r in plan.runs}.items():
        try:  # says at once what cannot be had
            prepare_data(config, plan.seeds[0], folder)
        except ValueError as error:
            data = f"images = {config['images']}, validation = {config['validation']}"
            where = f"{plan.path.name}: groups.{group} ({data})"
            raise ValueError(f"{where}: {error}") from error
    with open_store(plan) as store:
        done = store.done()
        known = {row["data_hash"] for row in store.rows if row["run"] in names}
        if other := known - {common["data"]}:
            raise RowsError(
                f"the rows of {plan.name} were made from other data: hash "
                f"{other.pop()}, not {common['data']}. Give the new data a new name"
            )
        mine = list(zip(names, plan.runs, strict=True))[part[0] - 1 :: part[1]]
        todo = [(name, run) for name, run in mine if name not in done][:limit]
        counts = Counter(done=sum(name in done for name, _ in mine))
        tasks = [
            {"config": run.config, "seed": run.seed, **common}
            | {"checkpoint": run.seed in plan.checkpoints}
            for _, run in todo
        ]
        outcomes = _perform_all(tasks, jobs, scheduler, seconds)
        progress = tqdm(outcomes, total=len(todo), desc=plan.name, unit="run")
        with closing(outcomes), progress:
            for index, outcome in progress:
                name, run = todo[index]
                row = _add(store, name, run, outcome, common)
                counts[row["status"]] += 1
                if row["status"] == "failed":
                    where = f"{run.group}, seed {run.seed}"
                    progress.write(f"{where} failed: {row['error']}", file=sys.stderr)
        counts["remain"] = len(mine) - counts["done"] - counts["ok"]
    return counts


def verify(
    plans: Sequence[Plan],
    number: int,
    seed: int,
    *,
    jobs: int = -1,
    scheduler: str | None = None,
    device: str = "cpu",
    folder: str | None = None,
    keep: bool = False,
) -> bool:
    """Make stored rows again and print how far they are apart, row by row and in all.

    Args:
        plans: the rows are drawn from all of them.
        number: how many.
        seed: of the draw.
        jobs, scheduler, device, folder: as in :func:`run_plan`.
        keep: whether to store the repetitions, see
            :func:`~regdrop_lite.course.study.store.load_repeats`.

    Returns:
        Whether all of them agree. Float64 rows have to do so to nine digits
        (``FLOAT64_TOLERANCE``), float32 rows within the tolerance of their plan.

    Raises:
        RowsError: if there is no row, or a file is damaged.
        OSError: if a repetition cannot be written; those before it are kept.
    """
    stored = [plan for plan in plans if plan.file("rows", ".jsonl").exists()]
    pool = [(plan, row) for plan in stored for row in load_rows(plan)]
    if not pool:
        raise RowsError(
            f"there are no rows to verify: looked for plans and rows in "
            f"{plans[0].path.parents[1] if plans else PLANS.absolute().parent}"
        )
    _check_device(device, scheduler)
    chosen = random.Random(seed).sample(pool, min(number, len(pool)))
    print(f"{len(chosen)} of {len(pool)} rows, drawn with --seed {seed}")
    tasks = [
        {"config": row["config"], "seed": row["seed"], "data": row["data_hash"]}
        | {"device": device, "folder": folder}
        for _, row in chosen
    ]
    agree, pairs = True, []
    with closing(_perform_all(tasks, jobs, scheduler)) as outcomes:
        for index, outcome in outcomes:
            plan, row = chosen[index]
            agree &= _judge(plan, row, outcome["row"])
            if keep:
                add_repeat(plan, row, _with_origin(outcome["row"]))
            if outcome["row"]["status"] == "ok":
                pairs.append((row["metrics"], outcome["row"]["metrics"]))
    _summarise(pairs)
    return agree


def apart(old: Any, new: Any) -> float:
    """Measure how far apart two metrics are: 0 if they are equal.

    Args:
        old: a stored number x, a list of numbers or None.
        new: another one, y.

    Returns:
        ``abs(x - y) / max(1, abs(x))``, of lists the largest one, and infinity for what
        cannot be compared.

    Example:
        >>> apart([0.5, 20.0], [0.5, 19.0]), apart(None, None), apart(0.5, None)
        (0.05, 0.0, inf)
    """
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max(map(apart, old, new), default=0.0)
    if old == new or (old != old and new != new):  # NaN is not equal to itself
        return 0.0
    if not isinstance(old, float) or not isinstance(new, float):
        return float("inf")
    distance = abs(old - new) / max(1.0, abs(old))
    return distance if distance == distance else float("inf")


# --- the command ----------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all went well, 1 if a run failed, a verified row differs or a worker was
        killed, 2 if the input is bad or the disk full, 130 after Ctrl-C or SIGTERM.
    """
    with _terminated_like_interrupted():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.plan is None and args.verify is None:
        parser.error("expected a PLAN, or --verify N for the rows of all plans")
    if args.verify is not None:
        for name in ("part", "limit", "seconds", "list", "dry_run"):
            if getattr(args, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')} does not go with --verify")
    if args.keep and args.verify is None:
        parser.error("--keep stores what --verify N makes, but there is no --verify")
    where = {"scheduler": args.scheduler, "device": args.device, "folder": args.folder}
    where["jobs"] = args.jobs or (-1 if args.device == "cpu" else 1)
    try:
        paths = [Path(args.plan)] if args.plan else sorted(PLANS.glob("*.toml"))
        plans = [read_plan(path) for path in paths]
        if args.verify is not None:
            seed = random.randrange(10**6) if args.seed is None else args.seed
            agree = verify(plans, args.verify, seed, keep=args.keep, **where)
            return 0 if agree else 1
        (plan,) = plans
        if args.list or args.dry_run:
            _show(plan, args.part, each=args.dry_run)
            return 0
        counts = run_plan(
            plan, part=args.part, limit=args.limit, seconds=args.seconds, **where
        )
    except KeyboardInterrupt:
        print("interrupted: all rows are kept; the same command goes on")
        return 130
    except TerminatedWorkerError:
        print(
            "error: a worker process was killed, perhaps for lack of memory; all rows "
            "are kept, and the same command goes on (--jobs 1 needs least memory)",
            file=sys.stderr,
        )
        return 1
    except (PlanError, RowsError, OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    before = f", {counts['done']} before" if counts["done"] else ""
    print(
        f"{plan.name}: {counts['ok']} runs made{before}, {counts['failed']} failed, "
        f"{counts['remain']} remain"
    )
    return 1 if counts["failed"] else 0


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: otherwise the workers would go on alone."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.study",
        description="Train and measure what a plan says, and store one row for a run.",
    )
    add = parser.add_argument
    add("plan", nargs="?", metavar="PLAN", help="a TOML file in a folder 'plans'")
    add("--jobs", type=_positive, help="processes (all cores; on a GPU one)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster that does the work")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--folder", help="where the data are, unless they are embedded")
    add("--part", type=_part, default=(1, 1), metavar="K/M", help="every M-th run")
    add("--limit", type=_positive, metavar="N", help="start at most N runs")
    add("--seconds", type=float, metavar="S", help="start no run after S seconds")
    add("--list", action="store_true", help="show what is done in each group")
    add("--dry-run", action="store_true", help="show the runs")
    add("--verify", type=_positive, metavar="N", help="make N rows again and compare")
    add("--seed", type=int, help="of the draw of --verify")
    add("--keep", action="store_true", help="store what --verify makes")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1, but got {text}"
        )
    return int(text)


def _part(text: str) -> tuple[int, int]:
    k, _, m = text.partition("/")
    if not (k.isdecimal() and m.isdecimal() and 1 <= int(k) <= int(m)):
        raise argparse.ArgumentTypeError(
            f"expected K/M with K from 1 to M, but got {text}"
        )
    return int(k), int(m)


def _show(plan: Plan, part: tuple[int, int], each: bool) -> None:
    """Print the runs, or for each group how many are done."""
    names = _names(plan)
    rows: list[Row] = []
    if plan.file("rows", ".jsonl").exists():
        rows = load_rows(plan)
    done = {row["run"] for row in rows}
    mine = list(zip(names, plan.runs, strict=True))[part[0] - 1 :: part[1]]
    if each:
        base = {k: v for k, v in plan.runs[0].config.items()}
        for name, run in mine:
            state = "done" if name in done else "open"
            own = {k: v for k, v in run.config.items() if v != base[k]}
            print(f"{state}  {name}  {run.group}  seed {run.seed}  {own}")
        return
    for group in dict.fromkeys(run.group for run in plan.runs):
        here = [name for name, run in mine if run.group == group]
        ok = sum(name in done for name in here)
        line = f"{group}: {ok} done, {len(here) - ok} open"
        old = sum(row["group"] == group and row["run"] not in names for row in rows)
        print(line + (f" ({old} rows of another results version)" if old else ""))


def _judge(plan: Plan, row: Row, again: Row) -> bool:
    """Compare a row with its repetition, print the result, tell whether they agree."""
    name = f"{plan.name}, {row['group']}, seed {row['seed']} ({row['run']})"
    if again["status"] != "ok":
        print(f"DIFFERS  {name}: now it fails: {again['error']}")
        return False
    old, new = row["metrics"], again["metrics"]
    nothing = object()
    distances = {
        key: apart(old.get(key, nothing), new.get(key, nothing)) for key in old | new
    }
    allowed = dict.fromkeys(distances, FLOAT64_TOLERANCE)
    if row["config"]["dtype"] != "float64":
        allowed = {key: plan.allowed(row, key) for key in distances}
    # A distance of nothing comes last, also where nothing is allowed.
    shares = {
        k: d and (d / allowed[k] if allowed[k] else d * math.inf)
        for k, d in distances.items()
    }
    worst = max(distances, key=lambda key: (shares[key], key))
    agree = distances[worst] <= allowed[worst]
    text = "equal"
    if distances[worst]:
        text = f"{worst} is {distances[worst]:.1e} apart (allowed: {allowed[worst]:g})"
    if not agree:
        text += (
            f"\n         stored: {old.get(worst)}\n         now:    {new.get(worst)}"
        )
    print(f"{'agrees ' if agree else 'DIFFERS'}  {name}: {text}")
    return agree


def _summarise(pairs: Sequence[tuple[Config, Config]]) -> None:
    """Print for each metric how far repetitions are apart, and in which direction.

    A mean change beyond some standard errors says that the rows do not repeat, however
    wide the bounds of single rows. Of a list the change of its mean counts.
    """
    lines = []
    for key in dict.fromkeys(key for old, _ in pairs for key in old):
        both = [(old[key], new[key]) for old, new in pairs if key in old and key in new]
        both = [pair for pair in both if None not in pair]
        largest = max((apart(*pair) for pair in both), default=0.0)
        if not largest or len(both) < 2:
            continue
        changes = [np.mean(new) - np.mean(old) for old, new in both]
        error = np.std(changes, ddof=1) / len(changes) ** 0.5
        change = f"{np.mean(changes):+.4f} +- {error:.4f}"
        lines.append(f"{key:32} {len(both):4} {largest:9.4f}  {change}")
    if lines:
        head = f"{'metric':32} rows   largest  mean change +- standard error"
        print(head, *lines, sep="\n")


# --- helpers --------------------------------------------------------------------------


def _common(plan: Plan, device: str, folder: str | None) -> dict[str, Any]:
    """Give what all runs of a plan are told."""
    data = data_hash(plan.runs[0].config["data"], folder)
    return {
        **{"device": device, "folder": folder},
        **{"version": RESULTS_VERSION, "data": data},
    }


def _names(plan: Plan) -> list[str]:
    return [run_id(run.config, run.seed) for run in plan.runs]


def _check_device(device: str, scheduler: str | None) -> None:
    """Refuse a GPU that is not there; only a cluster's workers know theirs."""
    if device == "cuda" and scheduler is None and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU on this machine")


def _add(
    store: Store, name: str, run: Run, outcome: dict[str, Any], common: dict[str, Any]
) -> Row:
    """Store the outcome of a run."""
    row = {
        "run": name,
        "plan": store.plan.name,
        "group": run.group,
        "seed": run.seed,
        "config": run.config,
        **_with_origin(outcome["row"]),
        "data_hash": common["data"],
    }
    store.add(row, outcome["history"], outcome["checkpoint"])
    return row


def _with_origin(row: Row) -> Row:
    """Add the origin of a row: for the records, and never compared."""
    commit, dirty = _commit()
    origin = {"code": source_hash(), "commit": commit, "dirty": dirty}
    return {**row, "results_version": RESULTS_VERSION, **origin}


def _commit() -> tuple[str | None, bool | None]:
    """Give the commit of the package, and whether its tracked files were changed.

    Both are None where there is no git or no repository.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        folder = str(Path(__file__).parents[1])
        changed = git("status", "--porcelain", "--untracked-files=no", "--", folder)
        return git("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _perform_all(
    tasks: Sequence[dict[str, Any]],
    jobs: int,
    scheduler: str | None,
    seconds: float | None = None,
) -> Generator[tuple[int, dict[str, Any]]]:
    """Perform tasks in parallel; give (number of the task, outcome) as they come."""
    start = time.monotonic()

    def in_time() -> Iterator[Any]:
        for index, task in enumerate(tasks):
            if seconds is not None and time.monotonic() - start > seconds:
                return
            yield joblib.delayed(_numbered)(index, task)

    with _workers(jobs, scheduler):
        # No run waits in a queue, so that none starts after the time is over.
        parallel = joblib.Parallel(
            return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs"
        )
        with warnings.catch_warnings():
            # An early end stops the runs under way, and is meant to.
            warnings.filterwarnings("ignore", message=".*have been cancelled")
            yield from parallel(in_time())


def _numbered(index: int, task: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return index, perform(**task)


@contextmanager
def _workers(jobs: int, scheduler: str | None) -> Iterator[None]:
    if scheduler is None:
        with joblib.parallel_config(backend="loky", n_jobs=jobs):
            yield
        return
    with needs("cluster", "distributed"):
        from distributed import Client
    with (
        Client(scheduler) as client,
        joblib.parallel_config(backend="dask", client=client, n_jobs=-1),
    ):
        yield
