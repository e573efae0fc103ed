"""Claims about how the parts of the suite are run: none keeps another from running, all is said."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROMISES
from tests.run import __main__ as runner
from tests.run.outcome import Outcome, summary
from tests.run.parts import PARTS, Command, Form, Part
from tests.run.parts import pytest as pytest_command
from tests.toolchain import trouble_with

pytestmark = pytest.mark.process

TESTS = Path(__file__).parents[1]
MIXED = """
import pytest
def test_green(): pass
def test_red(): assert False
@pytest.mark.skip(reason="no moon")
def test_left_out(): pass
"""


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "REPORTS", tmp_path / "reports")


def part(*commands: Command, needs: tuple[str, ...] = ()) -> Part:
    return Part("moon", Form.SHORT, "what is up there", commands, needs)


def python(program: str) -> Command:
    return Command((sys.executable, "-c", program))


def shim(directory: Path, name: str, script: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_command_after_one_that_failed_runs_and_the_part_is_red(
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome = runner.run(part(python("raise SystemExit(3)"), python("print('second')")), [])
    assert "second" in capfd.readouterr().out
    assert outcome.is_red
    assert "failed: moon" in summary([outcome], PARTS)


def test_the_summary_names_what_failed_and_what_was_left_out_and_why(tmp_path: Path) -> None:
    (tmp_path / "test_mixed.py").write_text(MIXED)
    command = pytest_command("-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path))
    outcome = runner.run(part(command), [])
    assert (outcome.passed, len(outcome.failed), outcome.is_red) == (1, 1, True)
    said = summary([outcome], [outcome.part])
    assert "test_red" in said
    assert "no moon (1 test)" in said
    assert "make test-all" in said


def test_what_a_person_chose_may_be_nothing_of_a_part(tmp_path: Path) -> None:
    (tmp_path / "test_mixed.py").write_text(MIXED)
    command = pytest_command("-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path))
    outcome = runner.run(part(command), ["-k", "nothing_of_that_name"])
    assert (outcome.passed, outcome.is_red) == (0, False)


def test_a_part_that_is_silent_is_said_to_go_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "QUIET_LIMIT_S", 0.01)
    monkeypatch.setattr(runner, "TICK_S", 0.01)
    os.mkfifo(end := tmp_path / "end")
    waits = python(f"print('.', end='', flush=True); open({str(end)!r}).read()")
    with subprocess.Popen(["sh", "-c", f"sleep 0.5; : > {end}"]):
        assert not runner.run(part(waits), []).is_red
    assert ".\n… moon goes on, 0:00 min\n" in capfd.readouterr().out


def test_what_a_command_leaves_behind_does_not_keep_the_run_waiting(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "TICK_S", 0.01)
    leaves = "import subprocess; print('pid', subprocess.Popen(['sleep', '1000']).pid, flush=True)"
    assert not runner.run(part(python(leaves)), []).is_red
    (left,) = re.findall(r"^pid (\d+)$", capfd.readouterr().out, re.MULTILINE)
    os.kill(int(left), signal.SIGKILL)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (None, "moonc is not installed"),
        ("echo 'no toolchain is chosen'; exit 1", "does not run: no toolchain is chosen"),
    ],
)
@pytest.mark.parametrize("is_ci", [False, True])
def test_a_toolchain_that_is_missing_or_does_not_run_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None, told: str, *, is_ci: bool
) -> None:
    if script:
        shim(tmp_path, "moonc", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CI", "true" if is_ci else "")
    outcome = runner.run(part(python("raise SystemExit(1)"), needs=("moonc",)), [])
    assert told in outcome.trouble
    assert told in summary([outcome], PARTS)
    assert outcome.is_red is is_ci


def test_a_program_that_runs_has_no_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shim(tmp_path, "moonc", 'test "$1" = --version')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert trouble_with("moonc") == ""


def test_a_name_that_is_no_part_is_reported_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["cores"]) == 2
    assert "core, edges" in capsys.readouterr().err


def test_what_an_interrupt_kept_from_running_is_said() -> None:
    said = summary([Outcome(PARTS[0])], PARTS[:2])
    assert f"{PARTS[1].name}: interrupted" in said


def test_every_promise_is_proven_with_the_real_runtime_by_what_a_person_runs() -> None:
    files = [*TESTS.glob("whole/*.py"), *TESTS.glob("faults/*.py")]
    marks = re.findall(r"@pytest\.mark\.promise\((\d)\)", "".join(f.read_text() for f in files))
    assert sorted(map(int, marks)) == list(range(1, PROMISES + 1))
