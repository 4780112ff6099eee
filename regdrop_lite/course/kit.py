"""A folder for a class that has no network: all that a student's machine needs.

Usage::

    python -m regdrop_lite.course.kit OUT
    python -m regdrop_lite.course.kit OUT --system windows --python 3.13

writes OUT and OUT.zip. In it are ``start.html``, which leads to the set-up sheet; the
built site and slides; the student notebooks of chapters and exercises; wheels of all
that has to be installed, with a ``requirements.txt`` that pins them; the doctor; and
``SHA256SUMS``. Collecting needs a network, ``uv`` (python -m pip install uv) and a site
that is built. Run it in the repository's folder.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["SYSTEMS", "KitError", "main", "make_kit"]

MOST_BYTES = 500_000_000
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
JUPYTER = ("jupyterlab", "jupyterlab-myst")
OLDEST_MACOS = "14.0"  # that of PyTorch's wheels; uv takes an older one for granted

SYSTEMS = {
    "linux": [
        *(f"manylinux_2_{n}_x86_64" for n in range(28, 4, -1)),
        *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
    ],
    "macos": ["macosx_14_0_arm64", "macosx_14_0_universal2"],
    "windows": ["win_amd64"],
}
"""The systems that a kit can be made for, and the tags of their wheels."""

_HERE = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}

SHEET = "book/teach/setup_sheet.html"
START = f"""<!doctype html>
<html lang="en-GB"><meta charset="utf-8"><title>Start here</title>
<meta http-equiv="refresh" content="0; url=site/{SHEET}">
<a href="site/{SHEET}">Set-up sheet</a></html>
"""


class KitError(RuntimeError):
    """What is missing for a kit, and how to get it."""


def make_kit(
    root: Path,
    out: Path,
    system: str = _HERE.get(platform.system(), "linux"),
    python: str = ".".join(platform.python_version_tuple()[:2]),
    site: Path | None = None,
    wheels: bool = True,
    torch_index: str = CPU_INDEX,
) -> Path:
    """Write the folder and the zip file beside it.

    Args:
        root: the repository's folder.
        out: the folder to write; it must not exist yet.
        system: one of :data:`SYSTEMS`, by default the one that this runs on.
        python: the students' version of Python, such as "3.13".
        site: the built site, by default ``_build/html`` below ``root``.
        wheels: whether to collect what has to be installed.
        torch_index: where the small build of PyTorch for Linux is; if empty, where all
            other packages are.

    Returns:
        the zip file.

    Raises:
        KitError: if something is missing, or the kit gets too large to hand out.
    """
    site = site or root / "_build" / "html"
    if not (root / "_toc.yml").is_file():
        raise KitError(f"{root} is not the folder of the course's repository")
    if not (site / "index.html").is_file():
        raise KitError(
            f"there is no site in {site}; build it first: "
            "jupyter-book build . -W -n --keep-going"
        )
    if out.exists():
        raise KitError(f"{out} exists; name a folder that does not")
    from regdrop_lite.course.author.plain import Book, write_plain

    book = Book.read(root)
    out.mkdir(parents=True)
    write_plain(book, out / "notebooks")
    shutil.copytree(site, out / "site", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(Path(__file__).with_name("doctor.py"), out)
    (out / "start.html").write_text(START, encoding="utf-8", newline="\n")
    if wheels:
        _name_python(out / "site" / SHEET, python)
        _collect(root, out, system, python, torch_index)
    else:
        course = f"{book.repository}/archive/refs/heads/{book.branch}.zip"
        lines = [f"regdrop-lite[course] @ {course}", *JUPYTER, *_pins(root)]
        _write(out / "requirements.txt", lines)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    sums = [f"{_sha256(path)}  {path.relative_to(out).as_posix()}" for path in files]
    _write(out / "SHA256SUMS", sums)
    archive = shutil.make_archive(str(out), "zip", out.parent, out.name)
    if (size := Path(archive).stat().st_size) > MOST_BYTES:
        raise KitError(
            f"{archive} has {size / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f} MB: "
            "is it the build of PyTorch for graphics cards?"
        )
    return Path(archive)


def _name_python(sheet: Path, python: str) -> None:
    """Say in the set-up sheet which Python the wheels are for."""
    text = sheet.read_text(encoding="utf-8")
    text, count = re.subn(
        r"one\s+version\s+of\s+Python\s+alone,\s+which\s+your\s+instructor\s+names",
        f"<strong>Python {python}</strong> alone",
        text,
    )
    if count != 1:
        raise KitError(f"{sheet} is not the sheet of this version: build the site anew")
    sheet.write_text(text, encoding="utf-8", newline="\n")


def _collect(root: Path, out: Path, system: str, python: str, torch_index: str) -> None:
    """Resolve for the students' system, and fetch just that."""
    if shutil.which("uv") is None:
        raise KitError("uv is missing: python -m pip install uv")
    wheels = out / "wheels"
    _pip("wheel", "--no-deps", "-w", str(wheels), str(root))
    target = [
        *("--dest", str(wheels), "--no-deps", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", python),
        *(part for tag in SYSTEMS[system] for part in ("--platform", tag)),
    ]
    pins = _pins(root)
    if system == "linux" and torch_index:
        (torch,) = (pin for pin in pins if pin.startswith("torch=="))
        _pip("download", *target, "--index-url", torch_index, torch)
    wanted = out / "requirements.in"
    _write(wanted, ["regdrop-lite[course]", *JUPYTER, *pins])
    lock = out / "requirements.txt"
    _run(
        *("uv", "pip", "compile", "-q", "--no-universal", "--no-header"),
        *(str(wanted), "-o", str(lock)),
        *("--no-annotate", "--python-version", python, "--python-platform", system),
        *("--find-links", str(wheels), "--only-binary", ":all:"),
        # The libraries for graphics cards; see pyproject.toml.
        *("--directory", str(root)),
    )
    wanted.unlink()
    _pip("download", *target, "--find-links", str(wheels), "-r", str(lock))


def _pins(root: Path) -> list[str]:
    """The versions that the stored outputs were made with."""
    text = (root / "requirements.txt").read_text(encoding="utf-8")
    course = r"torch|numpy|matplotlib|scipy|pydantic|joblib|tqdm"
    return re.findall(rf"^(?:{course})==[\w.+]+", text, re.M)


def _pip(*arguments: str) -> None:
    _run(sys.executable, "-m", "pip", *arguments, "-q")


def _run(*command: str) -> None:
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise KitError(f"{' '.join(command)}\n{said}")


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contents(out: Path) -> Iterator[str]:
    """Say what a kit holds, part by part."""
    for part in sorted(out.iterdir()):
        files = (
            [part] if part.is_file() else [f for f in part.rglob("*") if f.is_file()]
        )
        size = sum(file.stat().st_size for file in files) / 1e6
        yield f"{part.name:<20} {len(files):>5} files {size:>8.1f} MB"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command = argparse.ArgumentParser(
        prog="python -m regdrop_lite.course.kit",
        description="Write a folder and a zip file for a class without a network.",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="a folder to write")
    command.add_argument("--system", choices=SYSTEMS, help="default: this one")
    command.add_argument("--python", help="the students' version; default: this one")
    command.add_argument("--site", type=Path, help="the built site")
    command.add_argument(
        "--no-wheels",
        dest="wheels",
        action="store_false",
        help="the students install from the network",
    )
    command.add_argument(
        "--torch-index",
        default=CPU_INDEX,
        help="where the CPU build of PyTorch for Linux is; empty: where all else is",
    )
    chosen = vars(command.parse_args(arguments))
    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        archive = make_kit(Path.cwd(), **given)
    except (KitError, OSError) as error:
        command.error(str(error))
    print("\n".join(contents(given["out"])))
    print(f"wrote {archive}, {archive.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
