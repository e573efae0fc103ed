"""What a service is started with: signals and limits that are no business of its servers."""

import asyncio
import errno
import os
import platform
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from pool_service.adapters.state_dir.guard_lock import GUARD_LOCK
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import PoolClient
from tests.sandbox import forbidding
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import RunningService, running

PRLIMIT64 = {"x86_64": 302}.get(platform.machine(), 261)

CONNECTIONS = 400
"""More than the 256 descriptors that macOS gives a program."""

BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
IGNORED = """
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try: signal.signal(number, signal.SIG_IGN)
    except OSError: pass
"""


def after(python: str) -> list[str]:
    """A command that runs some Python and becomes the one that follows it."""
    text = f"import os, resource, signal, sys\n{python}\nos.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", text]


def is_guard(child: psutil.Process) -> bool:
    """Whether it is; the service has children for an instant as well."""
    try:
        return "pool_service.guard" in child.cmdline()
    except psutil.Error:
        return False


@contextmanager
def started(tmp_path: Path, wrapper: list[str]) -> Iterator[RunningService]:
    config = tmp_path / "pool.toml"
    config.write_text(FAKE_RUNTIME)
    with running(tmp_path, arguments=["--config", str(config)], wrapper=wrapper) as service:
        yield service


def signals(pid: int, which: str) -> set[int]:
    """Return the signals of one of the masks in /proc, but for those of the C library.

    It keeps two for its threads, sets them up before it needs them, and lets no program touch
    them; some supervisors hand one of them down as ignored.
    """
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(f"{which}:")
    ]
    mask = int(line.split()[1], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "given", [BLOCKED, IGNORED, BLOCKED + IGNORED], ids=["blocked", "ignored", "both"]
)
def test_a_server_has_a_clean_slate_of_signals_whatever_the_service_was_started_with(
    given: str, tmp_path: Path
) -> None:
    with started(tmp_path, after(given)) as service, PoolClient.connect(service.address) as pool:
        server = pool.ensure("m").server
        # Python ignores SIGPIPE and SIGXFSZ itself.
        assert signals(server.pid, "SigIgn") <= {signal.SIGPIPE, signal.SIGXFSZ}
        assert signals(server.pid, "SigBlk") == set()
        (evicted,) = pool.evict("m", force=True)
        assert not evicted.killed
        assert service.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("given", [BLOCKED, IGNORED], ids=["blocked", "ignored"])
def test_the_guard_ends_servers_politely_whatever_the_service_was_started_with(
    given: str, tmp_path: Path
) -> None:
    with started(tmp_path, after(given)) as service:
        # It has the lock when it has set up what it does on a signal.
        while not (tmp_path / GUARD_LOCK).exists() or not (tmp_path / GUARD_LOCK).read_bytes():
            continue
        children = psutil.Process(service.process.pid).children()
        (guard,) = [child for child in children if is_guard(child)]
        assert signals(guard.pid, "SigBlk") == set()
        assert signal.SIGTERM not in signals(guard.pid, "SigIgn")


def test_a_service_under_nohup_outlives_the_hang_up_and_its_servers_can_hear_one(
    tmp_path: Path,
) -> None:
    with started(tmp_path, after("signal.signal(signal.SIGHUP, signal.SIG_IGN)")) as service:
        with PoolClient.connect(service.address) as pool:
            server = pool.ensure("m").server
            service.process.send_signal(signal.SIGHUP)
            assert pool.ensure("m").server.pid == server.pid
            assert "reloaded" not in service.log.read_text()
            process = psutil.Process(server.pid)
            os.kill(server.pid, signal.SIGHUP)
            psutil.wait_procs([process], timeout=60)
        assert service.stop() == 0


async def test_a_low_soft_limit_of_descriptors_is_raised_and_servers_get_the_old_one(
    tmp_path: Path,
) -> None:
    low = "which = resource.RLIMIT_NOFILE"
    low += "; resource.setrlimit(which, (256, resource.getrlimit(which)[1]))"
    with started(tmp_path, after(low)) as service:
        channels = [
            # A connection each.
            grpc.aio.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)])
            for _ in range(CONNECTIONS)
        ]
        stubs = [pb_grpc.PoolServiceStub(channel) for channel in channels]
        answers = await asyncio.gather(*(stub.List(pb.ListRequest()) for stub in stubs))
        assert len(answers) == CONNECTIONS
        answer = await stubs[0].Ensure(pb.EnsureRequest(model="m"))
        if sys.platform == "linux":
            given = resource.prlimit(answer.server.pid, resource.RLIMIT_NOFILE)
            assert given[0] == 256
        assert "cannot be written" not in service.log.read_text()
        await asyncio.gather(*(channel.close() for channel in channels))


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp")
def test_a_service_runs_where_limits_can_neither_be_read_nor_set(tmp_path: Path) -> None:
    sandbox = forbidding([PRLIMIT64], errno.EPERM)
    with started(tmp_path, sandbox) as service, PoolClient.connect(service.address) as pool:
        assert pool.ensure("m").server.pid


async def test_a_limit_that_cannot_be_raised_is_reported_and_the_service_runs(
    tmp_path: Path,
) -> None:
    low = "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))"
    with started(tmp_path, after(low)) as service, PoolClient.connect(service.address) as pool:
        assert pool.ensure("m").server.pid
        assert "few files may be open" in service.log.read_text()
