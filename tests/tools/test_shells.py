"""Claims about what a person pastes and make runs: it works with macOS's zsh, awk and make 3.81.

make 3.81 itself is not at hand; what it has not got is looked for.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {"node_modules", ".venv", ".cache", "target", ".git", "site-packages"}
SHELLS = ("", "sh", "bash", "zsh", "shell")
BLOCK = re.compile(r"^( *)```(\S*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
COMMENT = re.compile(r"(?:^|\s)#")

SINCE_3_82 = {
    r"^\.ONESHELL\b": "3.82",
    r"^\.SHELLFLAGS\b": "3.82",
    r"^\s*undefine\s": "3.82",
    r"^\s*private\s": "3.82",
    r"^[\w.-]+\s*!=": "4.0",
    r"^[\w.-]+\s*::=": "4.0",
    r"\$\(file\s": "4.0",
    r"\$\(guile\s": "4.0",
    r"\$\(let\s": "4.4",
    r"\$\(intcmp\s": "4.4",
    r"^[^#\t]*[^&\s]\s*&:": "4.3",
    r"^define\s+\w+\s*[:?+]?=": "3.82",
}
"""What make 3.81 has not got, and since when it is there."""

pytestmark = pytest.mark.process


def files(pattern: str) -> list[Path]:
    found = (path for path in ROOT.rglob(pattern) if not SKIPPED & set(path.parts))
    return sorted(path for path in found if path.is_file())


def blocks() -> Iterator[tuple[str, str]]:
    """The blocks of commands of all documents, each with where it is."""
    for path in files("*.md"):
        text = path.read_text()
        for match in BLOCK.finditer(text):
            if match[2] in SHELLS:
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path.relative_to(ROOT)}:{line}", match[3]


def id_of(value: object) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def test_no_block_of_commands_has_a_comment() -> None:
    """In zsh, as a person pastes into it, a `#` and what follows are arguments."""
    found = [
        f"{place}: {line.strip()}"
        for place, block in blocks()
        for line in block.splitlines()
        if COMMENT.search(QUOTED.sub("''", line))
    ]
    assert found == []


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_reads_every_block_of_commands() -> None:
    for place, block in blocks():
        read = subprocess.run(
            ["zsh", "-f", "-n", "-c", block], capture_output=True, text=True, check=False
        )
        assert (read.returncode, read.stderr) == (0, ""), place


@pytest.mark.parametrize("script", files("*.sh"), ids=id_of)
def test_a_script_is_one_for_any_sh(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["/bin/sh", "-n", str(script)], check=False).returncode == 0


@pytest.mark.parametrize("makefile", files("Makefile"), ids=id_of)
def test_a_makefile_has_nothing_that_make_of_macos_has_not(makefile: Path) -> None:
    lines = makefile.read_text().splitlines()
    found = [
        f"{line}: since {version}"
        for line in lines
        for pattern, version in SINCE_3_82.items()
        if re.search(pattern, line)
    ]
    assert found == []


def awks() -> list[str]:
    return [name for name in ("awk", "mawk", "gawk", "original-awk") if shutil.which(name)]


def test_every_awk_shows_the_same_help(tmp_path: Path) -> None:
    """original-awk is BSD's, and so macOS's."""
    shown = set()
    for name in awks():
        found = tmp_path / name / "awk"
        found.parent.mkdir()
        found.symlink_to(shutil.which(name) or "")
        done = subprocess.run(
            ["make", "-s", "-C", str(ROOT), "help"],
            env={"PATH": f"{found.parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), name
        shown.add(done.stdout)
    assert len(shown) == 1
    assert "test" in shown.pop()
