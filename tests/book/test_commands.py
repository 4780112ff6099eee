"""Every command that the pages print works as printed.

A command stands in .ci/run or in a workflow, so that CI runs it, or the tests here run
it, from the root of a clean copy of the tree. A comment above a block, ``<!-- not run:
REASON -->``, leaves it to nobody.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(BOOK.rglob("*.md"))]
CI = [ROOT / ".ci" / "run", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
RUN_BY_CI = {
    line.strip().removeprefix("run: ")
    for path in CI
    for line in path.read_text(encoding="utf-8").splitlines()
}
BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^\n`]*)\n"
    r"(?P<text>.*?)^ *(?P=fence) *$",
    re.M | re.S,
)
MARK = re.compile(r"<!-- (not run: (?:(?!-->).)*?) -->\s*\Z", re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the mark above it."""

    page: Path
    language: str
    text: str
    mark: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}: {self.commands()[0]}"

    def commands(self) -> list[str]:
        """One by one, without comments and without the ends of broken lines."""
        text = re.sub(r"\\\n\s*", "", self.text)
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
        return [part for line in lines for part in line.split(" && ") if part]

    def open_commands(self) -> list[str]:
        """What CI does not run by itself."""
        return [command for command in self.commands() if command not in RUN_BY_CI]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        mark = MARK.search(text[: match.start()])
        found.append(
            Block(
                page,
                match["language"].strip(),
                re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M),
                " ".join(mark[1].split()) if mark else "",
            )
        )
    return found


ALL = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in ALL if block.language == "bash"]
RUN = [block for block in SHELL if block.open_commands() and not block.mark]


def test_no_block_escapes():
    """A language that nothing here knows would be run by no test."""
    assert len(SHELL) > 8
    for block in ALL:
        if block.page.parent.name == "answers":  # run by tests/teach/test_answers.py
            assert block.language in ("python", "text"), block
            continue
        known = block.language == "bash" or block.language.startswith("{")
        example = block.language == "python" and block.text.startswith(">>>")
        assert known or example, f"{block.page.name}: {block.language}\n{block.text}"


def test_marks_say_something_true():
    """A mark has a reason, and is gone when its block no longer needs it."""
    for page in PAGES:
        marks = len(re.findall(r"<!-- *not run", page.read_text("utf-8")))
        marked = [block for block in blocks(page) if block.mark]
        assert len(marked) == marks, f"{page.name}: a mark without a block"
        for block in marked:
            assert block.language == "bash", block
            assert block.open_commands(), f"{block.name}: CI runs it without a mark"
            assert len(block.mark.removeprefix("not run: ").split()) > 3, block


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the changes of the working tree, committed."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    tree = tmp_path_factory.mktemp("commands") / "tree"
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "clone", "-q", str(ROOT), str(tree)], check=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    wanted = set(filter(None, output(listed, ROOT).split("\0")))
    for name in filter(None, output(["git", "ls-files", "-z"], tree).split("\0")):
        if name not in wanted or not (ROOT / name).exists():
            (tree / name).unlink()
    for name in wanted:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    subprocess.run([*git, "add", "-A"], cwd=tree, check=True)
    subprocess.run(
        [*git, "commit", "-q", "--allow-empty", "-m", "as it is"], cwd=tree, check=True
    )
    return tree


def output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def left_behind(tree: Path) -> list[str]:
    """What is changed or new in the tree and not ignored."""
    status = output(["git", "status", "--porcelain", "-uall"], tree)
    return [line[3:] for line in status.splitlines()]


def run(command: str, tree: Path, path: Path, **changes: str) -> None:
    """Run a command in the tree with the programs of a folder first."""
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    for name in list(environment):
        if name.startswith(("PYTEST_", "COV_")):
            del environment[name]
    if "PIP_CERT" in environment:  # uv and node look elsewhere
        environment.setdefault("SSL_CERT_FILE", environment["PIP_CERT"])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tree,
        env=environment | changes,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    said = (done.stdout + done.stderr)[-3000:]
    assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{said}"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_the_commands_run(block: Block, tree: Path) -> None:
    """And leave no file behind that they do not name."""
    here = Path(sys.executable).parent
    for command in (["git", "checkout", "-q", "."], ["git", "clean", "-fdq"]):
        output(command, tree)  # what a failed test left
    for command in block.open_commands():
        program = re.sub(r"^(\w+=\S* +)*", "", command).split()[0]
        if not (here / program).exists() and not os.environ.get("CI"):
            pytest.skip(f"{program} is not here: python -m pip install --group check")
        run(command, tree, here, PYTHONPATH=str(tree))
        for name in left_behind(tree):
            named = name in command or name.split("/")[0] in command.split()
            assert named, f"{command} leaves {name} behind"
            assert "?? " + name in output(
                ["git", "status", "--porcelain", "-uall"], tree
            ), f"{command} changes {name}"
            (tree / name).unlink()
