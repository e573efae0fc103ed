"""What the first person with a Mac runs, run on Linux: the facts, and the agent of launchd.

launchd is played by a small one, so that the script itself and what it asks of the service are
tried: that the servers are kept over each kind of restart.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(sys.platform != "linux", reason="there the real ones are run"),
]


@pytest.fixture
def launchd(tmp_path: Path) -> dict[str, str]:
    """An environment with a launchctl and a plutil."""
    programs = tmp_path / "bin"
    programs.mkdir()
    launchctl = programs / "launchctl"
    launchctl.write_text(
        f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_launchctl.py")} "$@"\n'
    )
    (programs / "plutil").write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "FAKE_LAUNCHD": str(tmp_path), "DOMAIN": "gui/0"}


def tried(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = ("sh", str(ROOT / "tools/mac_launchd.sh"))
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_trial_of_the_agent_finds_its_server_after_each_restart(
    launchd: dict[str, str],
) -> None:
    done = tried(launchd)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line.removeprefix("OK  ") for line in done.stdout.splitlines()]
    for told in (
        "launchd started the service, and that a server: ",
        "after kickstart -k: ",
        "after a crash: ",
        "after SIGTERM and kickstart: ",
        "after bootout neither the service nor its server is left",
    ):
        assert found.pop(0).startswith(told)
    assert not found


def test_the_trial_reports_a_server_that_was_not_kept(launchd: dict[str, str]) -> None:
    done = tried(launchd | {"FAKE_LAUNCHD_KILLS": "all"})
    assert done.returncode == 1
    assert "NOT after kickstart -k: " in done.stderr
    assert " became " in done.stderr


def facts(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, str(ROOT / "tools/mac_facts.py"), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_facts_of_this_machine_are_as_they_should_be() -> None:
    done = facts()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "READY by a standby" in done.stdout
    assert "READY by the plain command" in done.stdout
    assert "\nNOT" not in done.stdout


def test_a_fact_that_is_not_as_it_should_be_is_reported_and_fails(tmp_path: Path) -> None:
    done = facts("--model", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "\nNOT this could be found out: " in done.stdout
    assert done.stdout.endswith("Not as it should be: 1.\n")
