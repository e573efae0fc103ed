"""A real service over the fake server, and a real gateway before it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import RunningService, command, running

MODELS = """
[models."org/chat"]
runtime_model = "fake/chat"
aliases = ["chat"]
[models."org/other"]
runtime_model = "fake/other"
"""


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that answers. url: its base URL, without /v1."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path


@contextmanager
def gateway(address: str, log: Path, *arguments: str) -> Iterator[RunningGateway]:
    """Run a gateway before the service at an address."""
    options = ("--address", address, "--listen", "127.0.0.1:0", *arguments)
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command("gateway", *options), stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), log.read_text()
            yield RunningGateway(process, line.removeprefix("listening on ").strip(), log)
        finally:
            process.terminate()
            process.wait(60)


@dataclass(frozen=True, slots=True)
class Setting:
    """A service, a client of it, and a gateway before it."""

    service: RunningService
    pool: PoolClient
    gateway: RunningGateway

    @property
    def url(self) -> str:
        return self.gateway.url


Begin = Callable[..., Setting]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a service with further configuration, and a gateway with further arguments."""
    with ExitStack() as stack:

        def begin_one(config: str = MODELS, *arguments: str) -> Setting:
            path = tmp_path / "config.toml"
            path.write_text(FAKE_RUNTIME + config)
            service = stack.enter_context(
                running(tmp_path / "state", arguments=["--config", str(path)])
            )
            pool = stack.enter_context(PoolClient.connect(service.address))
            log = tmp_path / "gateway.log"
            return Setting(
                service, pool, stack.enter_context(gateway(service.address, log, *arguments))
            )

        yield begin_one
