"""`pool-service doctor` as a person and as a script runs it."""

import json
from pathlib import Path

import pytest

from pool_service.doctor import Verdict
from tests.cli.conftest import Run, run, service
from tools.demo.service import running

pytestmark = pytest.mark.process

__all__ = ["run", "service"]


def test_it_finds_a_running_service_and_exits_with_0(tmp_path: Path, run: Run) -> None:
    config = tmp_path / "pool.toml"
    with running(tmp_path / "state") as live:
        config.write_text(
            f"service.listen = ['{live.address}']\nservice.state_dir = '{tmp_path}/state'\n"
        )
        result = run("doctor", "--config", str(config), "--json")
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert {finding["verdict"] for finding in found} <= {"OK", "INFO", "WARNING"}, found
        assert result.exit_code == 0
        (of_service,) = (finding for finding in found if finding["subject"] == "service")
        assert of_service["found"] == f"it runs at {live.address}, servers: 0"


def test_what_is_broken_is_reported_with_what_to_do_and_exits_with_1(
    tmp_path: Path, run: Run
) -> None:
    config = tmp_path / "pool.toml"
    (tmp_path / "state").write_text("")
    config.write_text(f"service.state_dir = '{tmp_path}/state'\n")
    result = run("doctor", "--config", str(config))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith(Verdict.BROKEN.name))
    assert lines[at + 1].strip().startswith("-> choose another one with --state-dir")
    assert lines[-1] == "The service cannot work on this machine: repair what is BROKEN (1)."
