"""Claims about a running service whose configuration has problems."""

import asyncio
from pathlib import Path
from typing import Any

import structlog

from pool_service.access.authentication import Rules
from pool_service.adapters.process.control_groups import ControlGroups
from pool_service.adapters.runtime.registry import Runtimes
from pool_service.client_registry import ClientRegistry
from pool_service.config import ConfigSource
from pool_service.core.results import Reloaded
from pool_service.reloader import Reloader
from tests.preflight.test_inspection import Machine
from tests.second_address import NOWHERE


class Pool:
    async def reload(self, *_: object) -> Reloaded:
        return Reloaded(updated=("m",))


def reloader(tmp_path: Path) -> Reloader:
    file = tmp_path / "pool.toml"
    file.write_text(
        '[runtime]\ncommand = ["/bin/true", "{port}"]\n[runtimes.other]\n'
        f'command = ["/nowhere/x", "{{port}}"]\n[models.a]\nruntime_model = "{tmp_path}/b"\n'
        'runtime = "other"'
    )
    environment = {"POOL_SERVICE_TRUSTED_DIRECTORIES": "/nowhere"}
    source = ConfigSource(file, {}, environment)
    config = source.load()
    pool: Any = Pool()
    runtimes = Runtimes(config.all_runtime_options, tmp_path / "state")
    return Reloader(
        source, config, Machine(), runtimes, pool, ClientRegistry(Rules(), config), ControlGroups()
    )


def test_a_reload_answers_with_the_problems_and_logs_each_in_a_line(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        result = asyncio.run(reloader(tmp_path).reload())
    assert result.updated == ("m",)
    assert [problem.partition(":")[0] for problem in result.problems] == [
        "POOL_SERVICE_TRUSTED_DIRECTORIES",
        "runtimes.other.command",
        'models."a".runtime_model',
    ]
    told = [log for log in logs if log["event"] == "problem in the configuration"]
    assert [log["log_level"] for log in told] == ["warning", "warning", "error"]
    assert told[0]["why"] == "there is no directory '/nowhere'"


def test_servers_stay_at_the_address_of_the_start_until_a_restart(tmp_path: Path) -> None:
    reloading = reloader(tmp_path)
    file = tmp_path / "pool.toml"
    file.write_text(f"{file.read_text()}\n[fleet]\nname = 'one'\nadvertise = '{NOWHERE}'")
    result = asyncio.run(reloading.reload())
    assert result.restart_needed == ("fleet.name", "fleet.advertise")
    assert not any("fleet" in problem for problem in result.problems)


def test_what_has_been_said_is_not_said_again(tmp_path: Path) -> None:
    looked = reloader(tmp_path).look_for_problems(("runtimes", "other", "command"))
    assert len(asyncio.run(looked)) == 2
