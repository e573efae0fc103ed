"""Claims about bytes from outside: those that once broke a reader, and new ones for a while."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.structures import deep
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
SECONDS = 45
"""Of all targets together: with imports and a slow machine they are to take 90 at most."""
INPUTS = [(file.parent.name, file) for file in sorted(CORPUS.glob("*/*"))]


@pytest.mark.parametrize(
    ("target", "file"), INPUTS, ids=[f"{target}-{file.name}" for target, file in INPUTS]
)
def test_what_is_in_the_corpus_breaks_no_reader(target: str, file: Path) -> None:
    TARGETS[target](file.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_the_worst_that_a_person_thinks_of_breaks_no_reader(target: str) -> None:
    for content in (b"", b"\0" * 100, b"\xff" * 100, deep(10_000), b"1" * 5000, b"\xed\xa0\x80"):
        for first in range(3):
            TARGETS[target](bytes([first]) + content)


@pytest.mark.long
@pytest.mark.process
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine"
)
def test_nothing_that_a_fuzzer_finds_in_seconds_breaks_a_reader(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "everything", str(SECONDS), str(new)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
