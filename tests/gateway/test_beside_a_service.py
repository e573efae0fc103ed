"""Claims about `serve --with-gateway`, with real processes."""

import contextlib
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pool_service.gateway_process import own_address
from tests.gateway.conftest import MODELS
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import RunningService, running

LIMIT_S = 60.0


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def gateways(service: RunningService) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(service.process.pid).children()
        return [one for one in children if "gateway" in _arguments(one)]
    return []


def _arguments(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


def answers(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/health"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=LIMIT_S) as response:
        return bool(response.status == 200)
    return False


def port_of(gateway: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        listening = [one for one in gateway.net_connections("inet") if one.status == "LISTEN"]
        return int(listening[0].laddr.port) if listening else None
    return None


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended, be it that nobody has reaped it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningService]:
    # Not the usual port, which another test or program may have.
    monkeypatch.setenv("POOL_SERVICE_GATEWAY_LISTEN", "127.0.0.1:0")
    config = tmp_path / "config.toml"
    config.write_text(FAKE_RUNTIME + MODELS)
    arguments = ["--config", str(config), "--with-gateway"]
    with running(tmp_path / "state", arguments=arguments) as service:
        until(lambda: [port_of(one) for one in gateways(service)] not in ([], [None]), "no gateway")
        yield service


@pytest.mark.process
def test_a_service_starts_its_gateway_watches_it_and_ends_it(service: RunningService) -> None:
    (first,) = gateways(service)
    port = port_of(first)
    assert port is not None
    assert answers(port)
    first.kill()
    until(
        lambda: any(one.pid != first.pid and port_of(one) for one in gateways(service)),
        "no other",
    )
    (second,) = gateways(service)
    assert service.stop() == 0
    until(lambda: has_ended(second), "it outlives the service")


@pytest.mark.process
def test_a_gateway_ends_when_its_service_is_killed(service: RunningService) -> None:
    (gateway,) = gateways(service)
    os.kill(service.process.pid, signal.SIGKILL)
    until(lambda: has_ended(gateway), "it outlives the service")


def test_it_calls_by_a_socket_or_by_loopback_and_never_over_the_network() -> None:
    everywhere, loopback, socket = "0.0.0.0:1", "127.0.0.1:1", "unix:/s"
    assert own_address([everywhere, loopback, socket]) == socket
    assert own_address([everywhere, loopback]) == loopback
    assert own_address([everywhere]) is None
