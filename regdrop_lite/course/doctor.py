"""Look at a machine before the class: can it run the notebooks?

Usage::

    python -m regdrop_lite.course.doctor
    python -m regdrop_lite.course.doctor --json

prints one line for each check, and below a fault what to do about it. The exit status
is 0 if there is no fault and 1 if there is one. Where the package itself cannot be
imported, run this file by its path: it needs nothing but Python's standard library.
"""

import argparse
import hashlib
import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["CHECKS", "Finding", "examine", "main"]

PYTHONS = ((3, 11), (3, 12), (3, 13))
MASK = "f5bfdc2cf78e"
"""How the SHA-256 of a mask begins that is the same on every machine."""

TIME_LIMIT = 20.0
START_LIMIT = 60.0

# The heaviest kind of cell in the chapters: some training steps of a small net.
CELL = """
import time
import torch
import torch.nn.functional as F
from regdrop_lite.course.models import TinyCNN
start = time.perf_counter()
model = TinyCNN(regulariser="spatial", p=0.2, seed=0).double()
x = torch.ones(64, 1, 28, 28, dtype=torch.float64)
for _ in range(10):
    F.cross_entropy(model(x), torch.arange(64) % 10).backward()
print(f"seconds {time.perf_counter() - start:.3f}")
"""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: what was looked at.
        ok: whether it is as it has to be.
        found: what is there.
        remedy: what to do; empty if nothing has to be done.
        command: what to type, if that is a part of the remedy.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""
    command: str = ""


class Fault(Exception):
    """Something is wrong: what was found, and its remedy."""

    def __init__(self, found: str, remedy: str, command: str = "") -> None:
        super().__init__(found)
        self.remedy, self.command = remedy, command


def _python(command: str) -> str:
    """Write a command for this very Python."""
    return f'"{sys.executable}" -m {command}'


def _install(*what: str) -> tuple[str, str]:
    return "install it with", _python(f"pip install {' '.join(what)}")


def check_python() -> str:
    """One of the versions that the course is tested with, for 64 bits."""
    found = f"{platform.python_version()} ({sys.executable})"
    supported = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    if tuple(sys.version_info[:2]) not in PYTHONS:
        raise Fault(
            found,
            f"the course needs Python {supported}: install one of them, make a new "
            "environment with it, and install the course there",
        )
    if sys.maxsize < 2**32:
        raise Fault(
            f"{found}, 32 bit",
            "PyTorch needs a Python of 64 bits: install that, and make a new "
            "environment with it",
        )
    return found


def check_packages() -> str:
    """The course's package, and all that its part "course" asks for."""
    try:
        version = metadata.version("regdrop-lite")
    except metadata.PackageNotFoundError:
        raise Fault(
            "regdrop-lite is not installed in this Python",
            "if you have installed it before, activate that environment; else run in "
            "the folder of the course",
            _python('pip install ".[course]"'),
        ) from None
    try:
        from packaging.requirements import Requirement
    except ImportError:
        raise Fault("packaging is missing", *_install("packaging")) from None
    faults, wanted = [], []
    for line in metadata.requires("regdrop-lite") or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": "course"}):
            continue
        try:
            has = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            has = "missing"
        if has == "missing" or not need.specifier.contains(has, prereleases=True):
            faults.append(f"{need.name} {has}, needed {need.specifier}")
            wanted.append(f'"{need.name}{need.specifier}"')
    if faults:
        raise Fault("; ".join(faults), *_install(*wanted))
    return f"regdrop-lite {version}, and all it needs"


def check_torch() -> str:
    """PyTorch can be imported, and computes."""
    remedy, command = _install("--force-reinstall", "torch")
    if sys.platform == "win32":
        remedy = (
            "if the message names a DLL, install the Microsoft Visual C++ "
            f"Redistributable (x64) and restart; {remedy}"
        )
    try:
        import torch

        total = torch.ones(3).sum().item()
    except (ImportError, OSError) as error:  # Windows: OSError for a missing DLL
        raise Fault(_line(error), remedy, command) from None
    if total != 3:
        raise Fault(f"1 + 1 + 1 gives {total:g}", remedy, command)
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def check_mask() -> str:
    """A known mask: everybody in the room will see what the book shows."""
    import torch

    from regdrop_lite import spatial_dropout

    ones = torch.ones(16, 16, 1, 1, dtype=torch.float64)
    g = torch.Generator().manual_seed(20261129)
    kept = (spatial_dropout(ones, 0.3, generator=g) != 0).flatten().tolist()
    found = hashlib.sha256(bytes(kept)).hexdigest()[: len(MASK)]
    if found != MASK:
        raise Fault(
            f"the mask of a known seed has the hash {found}, expected {MASK}",
            "this PyTorch draws other numbers than the book shows; install the "
            "version that the book was made with",
            _install("--force-reinstall", "torch==2.13.0")[1],
        )
    return f"as on every machine ({found})"


def check_data() -> str:
    """The embedded images are whole."""
    from regdrop_lite.course.data import load_data

    try:
        data = load_data()
    except (OSError, ValueError) as error:
        raise Fault(
            _line(error),
            "get the course anew, and run in its folder",
            _python("pip install --force-reinstall --no-deps ."),
        ) from None
    images = sum(len(part) for part in (data.train, data.validation, data.test))
    return f"{images:,} images"


def check_writing() -> str:
    """Notebooks can be saved in the folder in which this runs."""
    here = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"0" * 2**20)
    except OSError as error:
        raise Fault(
            f"{here}: {_line(error)}",
            "copy the folder of the course to a place of your own, such as your "
            "documents, and work there. Is the disk full?",
        ) from None
    return str(here)


def check_kernel() -> str:
    """Jupyter's kernel is this Python, starts, and runs a cell in good time."""
    try:
        import ipykernel  # noqa: F401
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
        from jupyter_client.manager import KernelManager
    except ImportError as error:
        raise Fault(_line(error), *_install("jupyterlab")) from None
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        program = "no kernel"
    # Links are not followed: an environment's Python links to the system's.
    names = {"python", os.path.basename(sys.executable)}
    if program not in names and _folder(program) != _folder(sys.executable):
        raise Fault(
            f"Jupyter's kernel is {program}, not this Python",
            'the command "jupyter kernelspec list" shows where that one lies: remove '
            "it, and run",
            _python("ipykernel install --sys-prefix --name python3"),
        )
    manager = KernelManager(kernel_name="python3")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    manager.start_kernel(env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=START_LIMIT)
        seconds = _run_cell(client)
    except (RuntimeError, TimeoutError, queue.Empty) as error:
        raise Fault(
            f"the kernel gives no answer: {_line(error)}",
            "close other programs and try again; let the firewall and the virus "
            f"scanner allow {sys.executable} to talk to itself (127.0.0.1)",
        ) from None
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if seconds > TIME_LIMIT:
        raise Fault(
            f"one cell took {seconds:.0f} seconds, expected are 1 to {TIME_LIMIT:.0f}",
            "plug the charger in and close other programs. Is this Python made for "
            f"another processor ({platform.machine()})? Then install one for yours",
        )
    return f"this Python; a cell with ten training steps takes {seconds:.1f} s"


def _run_cell(client: object) -> float:
    """Give the seconds that the cell itself took."""
    printed: list[str] = []

    def listen(message: dict[str, dict[str, str]]) -> None:
        content = message["content"]
        printed.append(content.get("text", "") or content.get("evalue", ""))

    run = client.execute_interactive  # type: ignore[attr-defined]
    run(CELL, output_hook=listen, timeout=10 * TIME_LIMIT)
    text = "".join(printed).strip()
    if not text.startswith("seconds "):
        raise ValueError(f"the cell says: {text}")
    return float(text.split()[1])


def _folder(program: str) -> str:
    return os.path.normcase(os.path.dirname(os.path.abspath(program)))


def _line(error: BaseException) -> str:
    """Give the first line of a message, which says enough."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


CHECKS: dict[str, Callable[[], str]] = {
    "Python": check_python,
    "packages": check_packages,
    "PyTorch": check_torch,
    "mask": check_mask,
    "images": check_data,
    "folder": check_writing,
    "kernel": check_kernel,
}
"""What is looked at, in this order; each says what it found or raises a fault."""


def examine(names: Sequence[str] = tuple(CHECKS)) -> list[Finding]:
    """Run the checks.

    Args:
        names: which of :data:`CHECKS`.

    Returns:
        one finding for each. What cannot be looked at, since something before it is
        broken, is a fault too.

    Example:
        >>> [finding.ok for finding in examine(["Python", "mask"])]
        [True, True]
    """
    findings: list[Finding] = []
    for name in names:
        try:
            findings.append(Finding(name, True, CHECKS[name]()))
        except Fault as fault:
            finding = Finding(name, False, str(fault), fault.remedy, fault.command)
            findings.append(finding)
        except Exception as error:
            broken = [finding.name for finding in findings if not finding.ok]
            first = f"mend this first: {', '.join(broken)}" if broken else ""
            remedy = first or "show this line to your instructor"
            text = f"{type(error).__name__}: {_line(error)}"
            findings.append(Finding(name, False, text, remedy))
    return findings


def report(findings: Sequence[Finding]) -> str:
    """Say what was found, in lines that fit on a screen."""
    lines = []
    for finding in findings:
        mark = "ok   " if finding.ok else "FAULT"
        lines.append(f"{mark}  {finding.name:<9} {finding.found}")
        if finding.remedy:
            remedy = finding.remedy[0].upper() + finding.remedy[1:]
            remedy += ":" if finding.command else "."
            lines += textwrap.wrap(
                remedy, 86, initial_indent=" " * 7, subsequent_indent=" " * 7
            )
        if finding.command:  # in one piece, so that it can be copied
            lines.append(" " * 7 + finding.command)
    faults = sum(not finding.ok for finding in findings)
    lines.append(
        f"\n{faults} of {len(findings)} checks found a fault."
        if faults
        else "\nThis machine is ready."
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.doctor",
        description="Look whether this machine can run the course's notebooks.",
    )
    command.add_argument(
        "--json", action="store_true", help="print the findings as JSON"
    )
    chosen = command.parse_args(arguments)
    start = time.perf_counter()
    findings = examine()
    ok = all(finding.ok for finding in findings)
    if chosen.json:
        seconds = round(time.perf_counter() - start, 1)
        listed = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": ok, "seconds": seconds, "findings": listed}, indent=1))
    else:
        print(report(findings))
    return 0 if ok else 1


if __name__ == "__main__":
    # Run by its path, it would find this folder's modules instead of packages of the
    # same name.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [p for p in sys.path if not p or str(Path(p).resolve()) != here]
    sys.exit(main())
