"""Claims about what a service says at its start."""

from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import RunningService, running

pytestmark = pytest.mark.process

NOT_THERE = '[runtime]\ncommand = ["/nowhere/server", "{runtime_model}", "--port", "{port}"]\n'


def introduction(service: RunningService, *told: str) -> list[str]:
    """Return the lines of the log once all of this is told."""
    while not all(one in service.log.read_text() for one in told):
        pass
    return service.log.read_text().splitlines()


def test_four_lines_show_state_memory_adopted_servers_and_runtime(tmp_path: Path) -> None:
    config = tmp_path / "pool.toml"
    config.write_text(f'memory.budget = "5 GB"\n{FAKE_RUNTIME}')
    state = tmp_path / "state"
    arguments = ["--config", str(config)]
    with (
        running(state, arguments=[*arguments, "--keep-servers"]) as service,
        PoolClient.connect(service.address) as pool,
    ):
        pool.ensure("m")
    with running(state, arguments=arguments, log=tmp_path / "second.log") as service:
        told = (
            f"directory={state}",
            "budget='5.0 GB'",
            "adopted=1",
            "found='vllm-mlx, configured",
        )
        lines = introduction(service, *told)
    assert sum("[pool_service] " in line for line in lines) == len(told)


def test_a_runtime_that_is_not_there_is_reported_with_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "pool.toml"
    config.write_text(NOT_THERE)
    with running(tmp_path / "state", arguments=["--config", str(config)]) as service:
        lines = introduction(service, "no runtime")
    (line,) = (line for line in lines if "no runtime" in line)
    assert "warning" in line
    assert "does not exist; correct its command in the configuration." in line
