"""The activity of a server, by its answers and by who is connected to it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from pool_service.adapters.probe import activity as module
from pool_service.adapters.probe.activity import (
    Report,
    _has_clients,
    _has_unread_requests,
    _sum_up,
    activity_of,
)
from pool_service.adapters.probe.http_get import Answer
from pool_service.adapters.process.identity import identity_of
from pool_service.core.activity import Activity, UseSignals
from pool_service.core.types import Identity, LaunchPlan

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
TIMEOUT = 30.0
PLAN = LaunchPlan((), (), None, "/health", "m", "")
METRICS = UseSignals("/metrics", ("gauge",), ("counter_total",), counts_all=True)


def me() -> Identity:
    identity = identity_of(os.getpid())
    assert identity is not None
    return identity


@pytest.mark.parametrize(
    ("report", "activity"),
    [
        (Report(), Activity(None, None, None)),
        (Report((0.0,)), Activity(0, None, None)),
        (Report((1.0, 2.25)), Activity(3, None, None)),
        (Report((1e300,)), Activity(1_000_000_000, None, None)),
        (Report(last=4.0, at=10.0), Activity(None, 6.0, (4.0, None))),
        (Report(uses=5.0), Activity(None, None, (None, 5.0), served=True)),
        (Report(uses=0.0), Activity(None, None, (None, 0.0))),
    ],
)
def test_the_largest_number_of_all_signals_counts(report: Report, activity: Activity) -> None:
    assert report.activity == activity


@pytest.mark.parametrize(
    ("answer", "sums"),
    [
        (None, (None, None)),
        (Answer(500, "", b"gauge 1\ncounter_total 2\n"), (None, None)),
        (Answer(200, "", b"gauge 1\ncounter_total 2\n"), (1.0, 2.0)),
        (Answer(200, "", b"gauge 1\ncounter_total +Inf\n"), (1.0, None)),
        (Answer(200, "", b"counter_total 2\n"), (None, 2.0)),
        (Answer(200, "", b"gauge 1\n"), (1.0, None)),
    ],
)
def test_gauges_and_counters_are_added_up(
    answer: Answer | None, sums: tuple[float | None, float | None]
) -> None:
    assert _sum_up(answer, METRICS) == sums


def test_without_names_nothing_is_added_up() -> None:
    answer = Answer(200, "", b"gauge 1\n")
    assert _sum_up(answer, replace(METRICS, gauges=(), counters=())) == (None, None)


# --- over real connections ----------------------------------------------------------------

CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
    client.sendall(sys.argv[2].encode())
    print("there", flush=True)
    sys.stdin.read()
"""


@contextmanager
def client(port: int, sends: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that is connected."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", CLIENT, str(port), sends],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        yield process
        process.kill()


class Server:
    """A server of this very process; `answers`: by paths, else 404."""

    def __init__(self, **answers: str) -> None:
        self.answers = {f"/{name}": text for name, text in answers.items()}
        self.asked: list[str] = []
        self.shown: dict[str, str] = {}
        self.port = 0
        self.ends: list[asyncio.Event] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.append(asyncio.Event())
        end = self.ends[-1]
        path = (await reader.readline()).split()[1:2]
        if path:
            self.asked.append(path[0].decode())
            while line := (await reader.readline()).decode().strip():
                name, _, value = line.partition(": ")
                if name.lower() == "authorization":
                    self.shown[self.asked[-1]] = value
            text = self.answers.get(self.asked[-1])
            status = "404 Not Found" if text is None else "200 OK"
            body = (text or "").encode()
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            writer.write(body)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        end.set()


@asynccontextmanager
async def serving(**answers: str) -> AsyncIterator[Server]:
    one = Server(**answers)
    async with await asyncio.start_server(one.serve, "127.0.0.1", 0) as server:
        one.port = server.sockets[0].getsockname()[1]
        yield one
        await asyncio.gather(*(end.wait() for end in one.ends))


async def activity(one: Server, use: UseSignals = METRICS, **more: Any) -> Activity:  # noqa: ANN401
    plan = replace(PLAN, use=use)
    return await activity_of(me(), plan, one.endpoint, TIMEOUT, **more)


async def test_both_paths_are_asked_and_the_largest_number_counts() -> None:
    async with serving(
        health='{"active_requests": 1}', metrics="gauge 4\ncounter_total 9\n"
    ) as one:
        found = await activity(one)
        assert found == Activity(4, None, (None, 9.0), served=True)
        assert sorted(one.asked) == ["/health", "/metrics"]


async def test_a_server_whose_runtime_has_no_metrics_is_asked_its_health_alone() -> None:
    async with serving(health='{"active_requests": 2, "last_used_at": 7}') as one:
        found = await activity(one, UseSignals())
        assert found.requests == 2
        assert one.asked == ["/health"]
        assert found.idle_for == pytest.approx(time.time() - 7, abs=60)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("plain", {"/metrics": "Bearer psk_x"}), ("vllm-mlx", {})],
    ids=["plain", "vllm-mlx"],
)
async def test_the_key_is_shown_only_where_a_server_may_ask_for_it(
    kind: str, shown: dict[str, str]
) -> None:
    """The health path is open, and so is the metrics path of a vllm-mlx."""
    async with serving(health="{}", metrics="gauge 1\n") as one:
        plan = replace(PLAN, use=METRICS, kind=kind, api_key="psk_x")
        assert (await activity_of(me(), plan, one.endpoint, TIMEOUT)).requests == 1
        assert one.shown == shown


@pytest.mark.parametrize("given", ["no plan", "no endpoint", "not its own"])
async def test_what_may_be_anothers_is_not_asked(given: str) -> None:
    async with serving(health='{"active_requests": 2}') as one:
        found = await activity_of(
            me(),
            None if given == "no plan" else PLAN,
            "" if given == "no endpoint" else one.endpoint,
            TIMEOUT,
            ask=given != "not its own",
        )
        assert one.asked == []
        assert found.requests == 0


@on_linux
@pytest.mark.parametrize(
    ("counts_all", "requests"), [(True, 0), (False, None)], ids=["counts all", "counts some"]
)
async def test_a_client_that_is_connected_may_be_busy_if_not_every_request_is_counted(
    counts_all: bool, requests: int | None
) -> None:
    use = replace(METRICS, counts_all=counts_all)
    async with serving(health="{}", metrics="gauge 0\n") as one:
        assert (await activity(one, use)).requests == 0
        with client(one.port):
            # It was accepted, and has sent nothing.
            before = len(one.ends)
            while len(one.ends) == before:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            assert (await activity(one, use)).requests == requests


@on_linux
async def test_zero_of_a_server_that_does_not_say_all_counts_by_its_metrics_alone() -> None:
    """Where the metrics are not answered, nothing counts every request."""
    async with serving(health='{"active_requests": 0}') as one:
        with client(one.port):
            while not one.ends:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            assert (await activity(one)).requests is None


@pytest.mark.parametrize(("health", "requests"), [('{"active_requests": 0}', 0), ("{}", None)])
async def test_where_connections_cannot_be_seen_a_server_is_idle_only_if_it_says_so(
    health: str, requests: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_clients", lambda *_: None)
    async with serving(health=health) as one:
        assert (await activity(one, UseSignals())).requests == requests


@on_linux
def test_a_request_is_arriving_until_it_was_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert not _has_unread_requests(me(), "", endpoint)
        with client(listener.getsockname()[1], "GET"):
            assert _has_unread_requests(me(), "", endpoint), "it was not accepted"
            accepted, _ = listener.accept()
            with accepted:
                assert _has_unread_requests(me(), "", endpoint), "it was not read"
                assert accepted.recv(3) == b"GET"
                assert not _has_unread_requests(me(), "", endpoint)
                assert _has_clients(me(), "", endpoint)
        assert not _has_clients(me(), "", endpoint)


@on_linux
def test_what_cannot_be_seen_is_not_arriving(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise OSError("Protocol not supported")

    monkeypatch.setattr(module, "client_connections", forbidden)
    assert not _has_unread_requests(me(), "", "http://127.0.0.1:1")


@on_linux
def test_to_a_process_that_has_ended_nobody_is_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with client(listener.getsockname()[1]):
            ended = Identity(os.getpid(), 1, "another boot")
            assert _has_clients(ended, "", endpoint) is False


@on_linux
def test_what_its_own_descendants_opened_is_no_use_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are searched by the nonce, if they have left its session."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with client(port) as process:
            searched = list[str]()

            def carriers(nonce: str) -> list[int]:
                searched.append(nonce)
                return [process.pid]

            monkeypatch.setattr(module, "_carrier_pids", carriers)
            endpoint = f"http://127.0.0.1:{port}"
            assert _has_clients(me(), "nonce", endpoint) is False
            assert searched == ["nonce"]
        searched.clear()
        assert _has_clients(me(), "nonce", endpoint) is False
        assert searched == [], "that takes long, and nobody is connected"


def test_without_a_nonce_nobody_carries_it() -> None:
    assert module._carrier_pids("") == []
