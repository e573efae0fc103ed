"""Claims about what a server leaves behind, whose leader has ended: it drains like the server."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity
from tests.processes.bench import FAKE_SERVER, Bench, first_line, plan

LONG = 1000.0
TIME_TO_END = 60.0
WRAPPERS = {
    "a shell without exec": '"$@"; :',
    "a shell that waits": '"$@" & wait',
    "in a session of its own": 'setsid "$@" & wait',
    "two shells deep": 'sh -c \'"$@"; :\' sh "$@"; :',
}


@pytest.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Give what was left behind all the time that it needs to end, or as many seconds as told."""
    the_bench = Bench(tmp_path, term_timeout=getattr(request, "param", TIME_TO_END))
    yield the_bench
    await the_bench.close()


@dataclass
class Wrapped:
    """A fake server that a script has started, and a stream on it."""

    leader: Identity
    server: Identity
    endpoint: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """What comes until the end of the stream."""
        return await self.reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def wrapped(bench: Bench, script: str, flags: str = "", tokens: int = 40) -> Wrapped:
    fifo = bench.root / "up"
    os.mkfifo(fifo)
    name = f"x?delay=0.05&tell={fifo}&{flags}"
    fake = (sys.executable, "-S", "-E", str(FAKE_SERVER), "serve", name, "--port", "0")
    leader = await bench.spawn(plan("/bin/sh", "-c", script, "sh", *fake))
    port = (await first_line(fifo)).split()[0]
    (pid,) = [pid for pid in holders(fake[5]) if pid != leader.pid]
    server = identity_of(pid)
    assert server
    body = json.dumps({"model": name, "messages": [], "stream": True, "max_tokens": tokens})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    await reader.readuntil(b"t0 ")
    return Wrapped(leader, server, f"http://127.0.0.1:{port}", reader, writer)


def holders(name: str) -> list[int]:
    """The Pythons that were told to serve this."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(name) in command and b"python" in command[0]:
                found.append(int(entry.name))
    return found


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.mark.parametrize("flags", ["", "cuts=1"])
@pytest.mark.parametrize("script", WRAPPERS.values(), ids=WRAPPERS)
async def test_what_works_on_a_request_finishes_it_though_its_leader_is_gone(
    bench: Bench, script: str, flags: str
) -> None:
    at = await wrapped(bench, script, flags)
    os.kill(at.leader.pid, signal.SIGKILL)
    await bench.processes.exited(at.leader)
    sweeping = asyncio.create_task(bench.processes.clean_up(at.leader, at.endpoint, LONG))
    assert b"t39 " in await at.rest()
    at.writer.close()
    assert await sweeping is False
    assert not is_alive(at.server)


async def test_a_server_that_is_signalled_with_its_wrapper_drains(bench: Bench) -> None:
    at = await wrapped(bench, '"$@"; :')
    await bench.processes.signal(at.leader, StopSignal.TERMINATE)
    assert (await bench.processes.exited(at.leader)).signal == signal.SIGTERM
    sweeping = asyncio.create_task(bench.processes.clean_up(at.leader, at.endpoint, LONG))
    assert b"t39 " in await at.rest()
    at.writer.close()
    assert await sweeping is False


@pytest.mark.parametrize(
    ("bench", "flags", "killed"),
    [(TIME_TO_END, "cuts=1", False), (0.5, "ignore=term", True)],
    indirect=["bench"],
)
async def test_the_time_for_it_has_a_limit_and_a_kill_is_reported(
    bench: Bench, flags: str, killed: bool
) -> None:
    at = await wrapped(bench, '"$@"; :', flags, 1_000_000)
    os.kill(at.leader.pid, signal.SIGKILL)
    await bench.processes.exited(at.leader)
    assert await bench.processes.clean_up(at.leader, at.endpoint, 0.5) is killed
    assert not is_alive(at.server)
    at.writer.transport.abort()


async def test_an_escalation_ends_the_wait(bench: Bench) -> None:
    at = await wrapped(bench, '"$@"; :', "cuts=1", 1_000_000)
    os.kill(at.leader.pid, signal.SIGKILL)
    await bench.processes.exited(at.leader)
    sweeping = asyncio.create_task(bench.processes.clean_up(at.leader, at.endpoint, LONG))
    done, _ = await asyncio.wait({sweeping}, timeout=0.3)
    assert not done
    bench.processes.escalate(at.leader)
    assert await sweeping is False
    at.writer.transport.abort()


async def test_what_nobody_is_connected_to_is_not_waited_for(bench: Bench) -> None:
    at = await wrapped(bench, '"$@"; :', "cuts=1")
    await at.rest()
    at.writer.close()
    os.kill(at.leader.pid, signal.SIGKILL)
    await bench.processes.exited(at.leader)
    async with asyncio.timeout(LONG / 20):
        await bench.processes.clean_up(at.leader, at.endpoint, LONG)
    assert not is_alive(at.server)
