"""A client that starts a service if it finds none, by programs that a test scripts."""

import asyncio
import os
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from pool_service_client import AsyncPoolClient, PoolClient, ServiceNotStarted, starting
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Script

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LIMIT_S = 60.0
INTERPRETER = sys.executable


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def addressed(kind: str, **options: object) -> str:
    """Return the address that a client has connected to."""
    if kind == "asyncio":
        async with await AsyncPoolClient.connect_or_start(**options) as pool:  # type: ignore[arg-type]
            await pool.list(timeout=LIMIT_S)
            return pool._peer.address
    with await asyncio.to_thread(PoolClient.connect_or_start, **options) as client:  # type: ignore[arg-type]
        await asyncio.to_thread(client.list, timeout=LIMIT_S)
        return client._peer.address


def program(directory: Path, script: str) -> Path:
    """Make a program in Python that stands for pool-service."""
    path = directory / "pool-service"
    path.write_text(f"#!{INTERPRETER}\nimport os, sys, time\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a service, and without the program beside this interpreter or on PATH."""
    for name in ("XDG_RUNTIME_DIR", "POOL_SERVICE_ADDRESS", starting.PROGRAM_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path


async def test_the_program_is_run_and_the_address_that_it_prints_is_used(
    kind: str, away: Path, service: Script
) -> None:
    service.answer("List", pb.ListResponse())
    noted = away / "noted"
    named = program(
        away,
        f"open({str(noted)!r}, 'w').write(repr((sys.argv[1:], sys.stdin.read())))\n"
        f"print('said on the way', file=sys.stderr)\nprint({service.address!r})",
    )
    assert await addressed(kind, program=named, arguments=("--config", "f")) == service.address
    assert noted.read_text() == "(['start', '--timeout', '30s', '--config', 'f'], '')"


@pytest.mark.parametrize("place", ["variable", "PATH"])
async def test_the_program_is_found(
    kind: str, away: Path, service: Script, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer("List", pb.ListResponse())
    made = program(away, f"print({service.address!r})")
    if place == "variable":
        monkeypatch.setenv("PATH", "/nonexistent")
        monkeypatch.setenv(starting.PROGRAM_VARIABLE, str(made))
    assert await addressed(kind) == service.address


@pytest.mark.parametrize("serves", [True, False], ids=["serves", "ends"])
def test_a_service_that_listens_is_used_only_if_it_serves(
    away: Path, monkeypatch: pytest.MonkeyPatch, serves: bool
) -> None:
    directory = away / "home/pool-service/run"
    directory.mkdir(parents=True)
    directory.chmod(stat.S_IRWXU)
    monkeypatch.chdir(directory)  # its path can be too long for a socket
    program(away, "print('127.0.0.1:1')")
    health = HealthServicer()
    status = health_pb2.HealthCheckResponse.SERVING if serves else NOT_SERVING
    health.set("", status)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port("unix:socket")
    server.start()
    try:
        found = starting.Starter(None, (), LIMIT_S).address()
    finally:
        server.stop(None).wait()
    assert found == (f"unix:{directory}/socket" if serves else "127.0.0.1:1")


async def test_a_named_service_is_meant_and_not_started(
    away: Path, service: Script, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer("List", pb.ListResponse())
    monkeypatch.setenv("POOL_SERVICE_ADDRESS", service.address)
    assert await addressed(kind) == service.address


async def test_without_the_program_the_error_says_what_to_do(kind: str, away: Path) -> None:
    with pytest.raises(ServiceNotStarted, match=r"not found on PATH.*POOL_SERVICE_PROGRAM"):
        await addressed(kind)
    (away / "pool-service").write_text("no program")
    with pytest.raises(ServiceNotStarted, match="cannot be run: Permission denied"):
        await addressed(kind, program=away / "pool-service")


async def test_a_program_that_fails_is_quoted(kind: str, away: Path) -> None:
    program(away, "print('pool-service: the port is taken\\nmore', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(ServiceNotStarted, match=r"\(exit code 1\): the port is taken") as caught:
        await addressed(kind)
    assert caught.value.last_lines == ("pool-service: the port is taken", "more")


async def test_a_program_that_takes_too_long_is_ended(
    kind: str, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "END_TIMEOUT_S", 0.9)
    program(away, f"open({str(away / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(3600)")
    with pytest.raises(ServiceNotStarted, match=r"did not end within 0.1 s.*start_timeout"):
        await addressed(kind, start_timeout=0.1)
    assert not (away / "pid").exists() or not _is_alive(int((away / "pid").read_text()))


async def test_a_task_that_is_cancelled_ends_the_program(away: Path) -> None:
    os.mkfifo(away / "up")
    program(away, f"open({str(away / 'up')!r}, 'w').write(str(os.getpid()))\ntime.sleep(3600)")
    task = asyncio.create_task(AsyncPoolClient.connect_or_start(start_timeout=3600.0))
    pid = int(await asyncio.to_thread((away / "up").read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Reaped by the thread that waits for it.
    await asyncio.to_thread(_wait_until_gone, pid)


def _wait_until_gone(pid: int) -> None:
    while _is_alive(pid):
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
