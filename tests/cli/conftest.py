import os
import pty
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from pool_service.cli.commands import pool_service
from tests.cli.program import Terminal
from tests.client.scripted import Script, running

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let it be about noon here, so that what was some minutes ago was today."""
    monkeypatch.setenv("TZ", f"NOON{datetime.now(UTC).hour - 12:+d}")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def service() -> Iterator[Script]:
    yield from running()


@pytest.fixture
def run(service: Script) -> Run:
    """Runs a command against the scripted service, as in a pipe."""

    def runs(*arguments: str, address: str | None = None, text: str | None = None) -> Result:
        environment = {"POOL_SERVICE_ADDRESS": address or service.address}
        return CliRunner().invoke(pool_service, arguments, text, env=environment)

    return runs


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    reader, writer = pty.openpty()
    yield Terminal(reader, writer)
    os.close(reader)
    os.close(writer)
