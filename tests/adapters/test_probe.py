"""Claims about the proof of readiness: whose socket it was counts after the answer as well."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.probe import probe as probe_module
from pool_service.adapters.probe.probe import HttpProbe, _pause, _Search, is_loaded
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.sockets import ownership
from pool_service.core.types import EndpointState, Identity, LaunchPlan, ProbeResult
from tests.under_way import under_way

TIMEOUT = 30.0


class Listeners:
    """Listeners of this very process at one port, the one after the other; each answers "ok".

    asked: which of them was asked for its health, in order; gives_way: the first is closed when it
    was asked, before it answers; comes_again: another one takes its place.
    """

    def __init__(self, *, gives_way: bool = False, comes_again: bool = False) -> None:
        self.asked: list[int] = []
        self.port = 0
        self._gives_way = gives_way
        self._comes_again = comes_again
        self._servers: list[asyncio.Server] = []
        self._spare: list[socket.socket] = []

    async def listen(self) -> None:
        number = len(self._servers)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(number)
            await reader.readuntil(b"\r\n\r\n")
            if number == 0 and self._gives_way:
                await self._give_way()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()
            await writer.wait_closed()

        self._servers.append(await asyncio.start_server(answer, "127.0.0.1", self.port))
        self.port = self._servers[-1].sockets[0].getsockname()[1]

    async def _give_way(self) -> None:
        descriptor = self._servers[0].sockets[0].fileno()
        self._servers[0].close()
        # What comes next gets the lowest descriptor that is free: not that of the closed one.
        while not self._spare or self._spare[-1].fileno() < descriptor:
            self._spare.append(socket.socket())
        if self._comes_again:
            await self.listen()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for spare in self._spare:
            spare.close()


@asynccontextmanager
async def listening(**more: bool) -> AsyncIterator[Listeners]:
    the_listeners = Listeners(**more)
    await the_listeners.listen()
    try:
        yield the_listeners
    finally:
        the_listeners.close()


def me() -> Identity:
    identity = identity_of(os.getpid())
    assert identity is not None
    return identity


def plan(port: int) -> LaunchPlan:
    return LaunchPlan((), (), port, "/health", "served", "nonce")


async def test_a_listener_that_answers_healthy_and_stays_is_ready_at_its_first_answer() -> None:
    async with listening() as there:
        found = await HttpProbe().ready(me(), plan(there.port), TIMEOUT)
        assert found == f"http://127.0.0.1:{there.port}"
        assert there.asked == [0]


async def test_an_answer_does_not_count_whose_socket_was_replaced_before_it_was_read() -> None:
    async with listening(gives_way=True, comes_again=True) as there:
        found = await HttpProbe().ready(me(), plan(there.port), TIMEOUT)
        assert found == f"http://127.0.0.1:{there.port}"
        assert there.asked == [0, 1], "what came in its place is asked itself"


class Doubted:
    """Says that a stranger gets what is sent to the endpoint, as often as it is told."""

    def __init__(self, times: int) -> None:
        self._left = times

    def prove(self, identity: Identity, endpoint: str) -> EndpointState:
        self._left -= 1
        return EndpointState.LOST if self._left >= 0 else EndpointState.KEPT


async def test_an_answer_does_not_count_while_a_stranger_may_get_what_is_sent_there() -> None:
    async with listening() as there:
        probe: Any = HttpProbe()
        probe._ownership = Doubted(times=2)
        assert await probe.ready(me(), plan(there.port), TIMEOUT)
        assert there.asked == [0, 0, 0]


async def test_a_pulse_does_not_count_whose_listener_was_closed_before_it_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where the system can be asked nothing quickly a proof holds for a while.
    monkeypatch.setattr(ownership, "PROOF_VALID_S", 0.0)
    async with listening(gives_way=True) as there:
        endpoint = f"http://127.0.0.1:{there.port}"
        result = await HttpProbe().check_liveness(me(), plan(there.port), endpoint, "", TIMEOUT)
        assert there.asked == [0]
        assert not result.listens


# --- liveness -----------------------------------------------------------------------------


def http(status: int, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


class Answering:
    """A server of this very process that gives one answer to everything; b"" is none.

    asked: the first lines of the requests; heads: all of their heads.
    """

    def __init__(self, answer: bytes) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.answer = answer
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        self.asked.append(self.heads[-1].splitlines()[0].rpartition(" ")[0])
        writer.write(self.answer)
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[Answering]:
    one = Answering(answer)
    async with await asyncio.start_server(one.serve, "127.0.0.1", 0) as server:
        one.port = server.sockets[0].getsockname()[1]
        yield one


async def liveness(one: Answering, log: Path | None = None) -> ProbeResult:
    log_path = str(log) if log else "/nonexistent"
    return await HttpProbe().check_liveness(me(), plan(one.port), one.endpoint, log_path, TIMEOUT)


async def test_of_a_healthy_server_no_progress_is_read() -> None:
    async with answering(http(200, {"status": "healthy"})) as one:
        assert await liveness(one) == ProbeResult(answered=True, progress=())
        assert one.asked == ["GET /health"]


@pytest.mark.parametrize(("requests", "in_flight"), [(3, True), (0, False)])
async def test_a_server_that_says_it_is_unhealthy_is_asked_what_it_works_on(
    tmp_path: Path, requests: int, in_flight: bool
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"line\n")
    async with answering(http(200, {"status": "sick", "active_requests": requests})) as one:
        result = await liveness(one, log)
    assert (result.answered, result.healthy, result.listens) == (True, False, True)
    assert result.in_flight is in_flight
    used, written = result.progress
    assert used > 0
    assert written == 5


async def test_a_server_that_does_not_answer_is_not_asked_again() -> None:
    async with answering(b"") as one:
        result = await liveness(one)
        assert one.asked == ["GET /health"]
    assert (result.answered, result.healthy, result.listens) == (False, True, True)
    assert not result.in_flight
    assert len(result.progress) == 1, "there is no log"


async def test_what_nobody_listens_to_is_not_asked(unused_tcp_port: int) -> None:
    endpoint = f"http://127.0.0.1:{unused_tcp_port}"
    result = await HttpProbe().check_liveness(me(), plan(1), endpoint, "", TIMEOUT)
    assert result == ProbeResult(answered=False, progress=(), listens=False)


@pytest.mark.parametrize(("is_own", "asked"), [(True, ["GET /health"]), (False, [])])
async def test_a_server_that_has_lost_its_endpoint_is_not_asked_what_it_works_on(
    is_own: bool, asked: list[str]
) -> None:
    with under_way({}) as stranger:
        identity = me() if is_own else identity_of(stranger.pid)
        assert identity is not None
        async with answering(http(200, {"active_requests": 3})) as one:
            found = await HttpProbe().check_activity(
                identity, plan(one.port), one.endpoint, TIMEOUT
            )
            assert one.asked == asked
        assert found.requests == (3 if is_own else 0)
        stranger.kill()


async def test_without_an_endpoint_nobody_is_asked() -> None:
    assert (await HttpProbe().check_activity(me(), plan(1), "", TIMEOUT)).requests == 0


# --- the request that a server must answer ------------------------------------------------

MUST = replace(plan(1), ready_path="/v1/embed", ready_body='{"input": "x"}')


@pytest.mark.parametrize(("answer", "loaded"), [(http(200, {}), True), (http(503, {}), False)])
async def test_a_server_is_loaded_when_it_has_answered_200(answer: bytes, loaded: bool) -> None:
    async with answering(answer) as one:
        assert await is_loaded(one.endpoint, MUST) is loaded
        assert one.asked == ["POST /v1/embed"]


@pytest.mark.parametrize(("key", "shown"), [("psk_x", ["Bearer psk_x"]), ("", [])])
async def test_that_request_shows_the_key_and_a_check_of_health_does_not(
    key: str, shown: list[str]
) -> None:
    async with answering(http(200, {})) as one:
        must = replace(MUST, port=one.port, api_key=key)
        assert await HttpProbe().ready(me(), must, TIMEOUT) == one.endpoint
        heads = dict(zip(one.asked, one.heads, strict=True))
        assert re.findall("(?i)authorization: (.*)\r", heads["POST /v1/embed"]) == shown
        assert "psk_" not in heads["GET /health"]


async def test_a_server_that_answers_nothing_is_not_loaded() -> None:
    async with answering(b"") as one:
        assert not await is_loaded(one.endpoint, MUST)


async def test_without_such_a_request_it_is_loaded_at_once() -> None:
    async with answering(b"") as one:
        assert await is_loaded(one.endpoint, plan(1))
        assert one.asked == []


@pytest.mark.parametrize(
    ("again", "asked"),
    [(False, ["GET /health", "POST /v1/embed", "GET /health"]), (True, ["GET /health"])],
)
async def test_a_server_that_was_ready_before_need_not_answer_it_again(
    again: bool, asked: list[str]
) -> None:
    async with answering(http(200, {})) as one:
        must = replace(MUST, port=one.port)
        assert await HttpProbe().ready(me(), must, TIMEOUT, again=again) == one.endpoint
        assert one.asked == asked


# --- the search for listeners -------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited", "cost", "pause"),
    [
        (0.0, 0.0, 0.01),
        (2.0, 0.0, 0.02),
        (1000.0, 0.0, 0.5),
        (0.0, 0.2, 2.0),
        (1000.0, 0.001, 0.5),
    ],
)
def test_the_longer_it_waits_and_the_more_it_costs_the_less_often_it_searches(
    waited: float, cost: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = _Search(me(), None)
    search._cost = cost
    now = search._started + waited
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert search.pause() == pytest.approx(pause)


def test_a_process_that_has_ended_is_not_searched() -> None:
    ended = replace(me(), start_time=1)
    assert _Search(ended, None).find() is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (listener,) = _Search(me(), port).find() or ()
        assert listener.port == port
        assert _Search(me(), port).still_owns(listener)
        assert not _Search(ended, port).still_owns(listener)
    assert not _Search(me(), port).still_owns(listener)


# Leads a session, a member of which listens.
LEADER = """
import os, socket, sys
if os.fork():
    os.wait()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_members_of_its_session_are_searched_when_they_are_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = _Search(me(), None)
    assert fresh._members_due > fresh._started, "not at once"
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", LEADER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout
        port = int(leader.stdout.readline())
        identity = identity_of(leader.pid)
        assert identity is not None
        search = _Search(identity, None)
        search._members_due = time.monotonic() + 1000
        assert search.find() == ()
        assert not search.found_none
        search._members_due = 0.0
        assert [one.port for one in search.find() or ()] == [port]
        assert not search.found_none
        assert search._members_due > time.monotonic(), "the next time is later"
        os.killpg(leader.pid, 9)


@pytest.mark.parametrize(
    ("own", "members", "found_none"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_that_nobody_listens_is_known_if_all_processes_could_be_read(
    own: bool, members: bool, found_none: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = iter([own, members])
    monkeypatch.setattr(probe_module, "scan_listeners", lambda *_: ((), next(readable)))
    search = _Search(me(), None)
    search._members_due = 0.0
    assert search.find() == ()
    assert search.found_none is found_none


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("pause", "notified_after", "passed"),
    [(0.1, None, 1.0), (3.0, None, 3.0), (0.1, 0.5, 0.5), (0.1, 0.0, 0.1), (0.1, -1.0, 0.1)],
    ids=["not yet", "a costly search", "meanwhile", "before", "sends none"],
)
async def test_a_process_that_notifies_is_searched_rarely_until_it_has(
    pause: float, notified_after: float | None, passed: float
) -> None:
    loop = asyncio.get_running_loop()
    event = None if notified_after == -1.0 else asyncio.Event()
    if event and notified_after == 0.0:
        event.set()
    elif event and notified_after:
        loop.call_later(notified_after, event.set)
    began = loop.time()
    await _pause(pause, event)
    assert loop.time() - began == pytest.approx(passed)
