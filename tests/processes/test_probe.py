"""The probe against real processes: whatever answers, only ours and only healthy is ready."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.probe import activity
from pool_service.adapters.probe import probe as probe_module
from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.sockets.free_ports import FreePorts
from pool_service.core.server import StopSignal
from pool_service.core.types import (
    EndpointState,
    Identity,
    LaunchPlan,
    ListensElsewhere,
    Unready,
)
from tests.processes.bench import FAKE_SERVER, Bench, fake_plan, plan
from tests.second_address import SECOND_LOOPBACK, needs_ipv4_addresses

TIMEOUT = 30.0
SHORT = 0.1

# Closes its listener before it answers the health check that it accepted.
LETS_GO = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection = listener.accept()[0]
listener.close()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
connection.recv(1)
"""
# Listens on IPv6 only.
V6 = """
import http.server, socket
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
Server(("::1", 0), Handler).serve_forever()
"""


# Listens at two addresses: first at the one that is not meant.
TWO = """
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
servers = [http.server.HTTPServer((host, 0), Handler) for host in ("127.0.0.1", "127.0.0.2")]
threading.Thread(target=servers[1].serve_forever).start()
servers[0].serve_forever()
"""


def counting(flags: str = "") -> LaunchPlan:
    """A fake server that tells how many requests it works on."""
    base = fake_plan(flags)
    return replace(base, argv=(*base.argv, "--auto-unload-idle-seconds", "1000000000"))


def told(port: int, flags: str = "") -> LaunchPlan:
    """A fake server that must take this port."""
    options = ("serve", f"x?{flags}", "--port", str(port))
    return replace(plan(sys.executable, "-S", "-E", str(FAKE_SERVER), *options), port=port)


async def ready(
    bench: Bench, launch_plan: LaunchPlan, probe_timeout: float = TIMEOUT
) -> str | None:
    identity = await bench.spawn(launch_plan)
    return await proven(identity, launch_plan, probe_timeout)


async def proven(
    identity: Identity, launch_plan: LaunchPlan, probe_timeout: float = TIMEOUT
) -> str | None:
    """The endpoint at which it is ready; None: it has ended."""
    found = await HttpProbe().ready(identity, launch_plan, probe_timeout)
    assert found is not Unready.LOST, "it has not been READY before"
    return found if isinstance(found, str) else None


@asynccontextmanager
async def stranger() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Another program on a port that answers everything with 200; what it was asked."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def test_a_server_that_chose_its_port_is_ready_at_its_own_listener(bench: Bench) -> None:
    up = await bench.up()
    endpoint = await proven(up.identity, fake_plan())
    assert endpoint == f"http://127.0.0.1:{up.port}"


async def test_a_runtime_that_answers_plain_ok_is_ready(bench: Bench) -> None:
    assert await ready(bench, fake_plan("plain=1&load=0.1"))


async def test_a_server_is_ready_on_the_port_that_it_was_given(bench: Bench) -> None:
    port = FreePorts().reserve()
    assert await ready(bench, told(port)) == f"http://127.0.0.1:{port}"


async def test_a_listener_on_another_port_than_the_given_one_is_not_the_servers(
    bench: Bench,
) -> None:
    other = replace(fake_plan("exit_after=0.3"), port=FreePorts().reserve())
    assert await ready(bench, other) is None


async def test_a_server_on_ipv6_only_is_ready_there(bench: Bench) -> None:
    endpoint = await ready(bench, plan(sys.executable, "-c", V6))
    assert endpoint is not None
    assert endpoint.startswith("http://[::1]:")


def at(host: str, *more: str, must: str = "") -> LaunchPlan:
    """A fake server that listens at an address; must: the address of its plan, if another one."""
    base = fake_plan()
    return replace(base, argv=(*base.argv, "--host", host, *more), host=must or host)


@pytest.mark.parametrize("host", [SECOND_LOOPBACK, "::1"])
async def test_a_server_is_ready_at_the_one_address_that_its_plan_demands(
    bench: Bench, host: str
) -> None:
    launch_plan = at(host)
    identity = await bench.spawn(launch_plan)
    endpoint = await proven(identity, launch_plan)
    assert endpoint is not None
    assert endpoint.startswith(f"http://[{host}]:" if ":" in host else f"http://{host}:")
    probe = HttpProbe()
    assert probe.endpoint_state(identity, endpoint) is EndpointState.KEPT
    other = endpoint.replace(host, "127.0.0.1").replace("[", "").replace("]", "")
    assert probe.endpoint_state(identity, other) is EndpointState.LOST
    result = await probe.check_liveness(identity, launch_plan, endpoint, "", TIMEOUT)
    assert (result.answered, result.listens) == (True, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_server_that_listens_elsewhere_is_told_with_its_address(
    bench: Bench, host: str
) -> None:
    launch_plan = at(host, must=SECOND_LOOPBACK)
    identity = await bench.spawn(launch_plan)
    found = await HttpProbe().ready(identity, launch_plan, TIMEOUT)
    assert isinstance(found, ListensElsewhere)
    assert found.endpoint.startswith(f"http://{host}:")


@needs_ipv4_addresses
async def test_a_listener_beside_the_demanded_one_is_no_fault(bench: Bench) -> None:
    launch_plan = replace(plan(sys.executable, "-c", TWO), host="127.0.0.2")
    endpoint = await ready(bench, launch_plan)
    assert endpoint is not None
    assert endpoint.startswith("http://127.0.0.2:")


@needs_ipv4_addresses
async def test_requests_at_the_demanded_address_count_as_elsewhere(bench: Bench) -> None:
    launch_plan = at("127.0.0.2")
    identity = await bench.spawn(launch_plan)
    endpoint = await proven(identity, launch_plan)
    assert endpoint is not None
    probe, port = HttpProbe(), int(endpoint.rpartition(":")[2])

    async def requests() -> int | None:
        use = await probe.check_activity(identity, None, endpoint, TIMEOUT)
        return use.requests

    assert await requests() == 0
    with socket.create_connection(("127.0.0.2", port)):
        assert await requests() is None
    while await requests() != 0:  # noqa: ASYNC110 - until the server has let go of it
        await asyncio.sleep(0.01)


async def test_a_server_whose_address_is_away_is_not_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the network that has it were down; to take an address away needs an administrator."""
    launch_plan = fake_plan()
    identity = await bench.spawn(launch_plan)
    endpoint = await proven(identity, launch_plan)
    assert endpoint is not None

    async def unreachable(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(probe_module, "get", unreachable)
    for is_there in (True, False):
        monkeypatch.setattr(probe_module, "is_own_address", lambda _, is_there=is_there: is_there)
        result = await HttpProbe().check_liveness(identity, launch_plan, endpoint, "", SHORT)
        assert result.answered is not is_there
        assert result.listens


async def test_a_listener_of_a_member_of_its_session_is_its_own(bench: Bench) -> None:
    argv = fake_plan().argv
    wrapped = plan("/bin/sh", "-c", '"$@" & wait', "sh", *argv)
    assert await ready(bench, wrapped)


async def test_a_stranger_that_answers_on_the_port_while_ours_loads_is_never_ready(
    bench: Bench,
) -> None:
    async with stranger() as (port, asked):
        assert await ready(bench, told(port, "load=0.3")) is None
    assert asked == []


async def test_an_answer_is_not_believed_if_the_listener_is_gone_after_it(bench: Bench) -> None:
    port = FreePorts().reserve()
    assert await ready(bench, plan(sys.executable, "-c", LETS_GO, str(port))) is None


@pytest.mark.parametrize(
    "flags",
    [
        *("health=500", "health=junk", "health=unhealthy", "health=unloaded", "health=redirect"),
        *("health=endless", "bind=silent"),
    ],
)
async def test_a_server_that_does_not_answer_healthy_is_not_ready(bench: Bench, flags: str) -> None:
    assert await ready(bench, fake_plan(f"{flags}&exit_after=0.3"), SHORT) is None


async def test_a_server_that_becomes_healthy_is_ready_then(bench: Bench, tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    launch_plan = fake_plan(f"load_until={loaded}")
    identity = await bench.spawn(launch_plan)
    probing = asyncio.create_task(proven(identity, launch_plan))
    loaded.touch()
    assert await probing


def after_a_request(model: str, flags: str = "") -> LaunchPlan:
    """A plan of one that is ready when it has answered a chat of this model."""
    body = json.dumps({"model": model, "messages": [], "max_tokens": 1})
    return replace(named_x(fake_plan(flags)), ready_path="/v1/chat/completions", ready_body=body)


async def test_a_server_that_must_answer_a_request_is_ready_when_it_did(bench: Bench) -> None:
    assert await ready(bench, after_a_request("x", "delay=0.3"), SHORT)


async def test_a_server_that_refuses_that_request_is_not_ready(bench: Bench) -> None:
    assert await ready(bench, after_a_request("another", "exit_after=0.5")) is None


async def test_a_server_that_never_answers_that_request_is_not_ready(bench: Bench) -> None:
    assert await ready(bench, after_a_request("x", "delay=1000&exit_after=0.5")) is None


@pytest.mark.parametrize("flags", ["die=1", "die=0"])
async def test_the_wait_ends_with_the_process_even_as_a_zombie(bench: Bench, flags: str) -> None:
    assert await ready(bench, fake_plan(flags)) is None


async def test_the_wait_ends_when_a_process_that_never_binds_is_killed(bench: Bench) -> None:
    launch_plan = fake_plan("bind=never")
    identity = await bench.spawn(launch_plan)
    probing = asyncio.create_task(proven(identity, launch_plan))
    await bench.processes.signal(identity, StopSignal.KILL)
    assert await probing is None


async def test_another_process_with_the_same_pid_is_not_the_server(bench: Bench) -> None:
    up = await bench.up()
    earlier = replace(up.identity, start_time=up.identity.start_time - 1)
    assert await proven(earlier, fake_plan()) is None


async def in_flight(identity: Identity, launch_plan: LaunchPlan, endpoint: str) -> int | None:
    return (await HttpProbe().check_activity(identity, launch_plan, endpoint, TIMEOUT)).requests


async def streaming(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A chat completion of which the first line has come, and much is to come."""
    body = json.dumps({"model": "x", "messages": [], "stream": True, "max_tokens": 1_000_000})
    port = int(endpoint.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    await reader.readline()
    return reader, writer


def named_x(launch_plan: LaunchPlan) -> LaunchPlan:
    return replace(launch_plan, argv=(*launch_plan.argv, "--served-model-name", "x"))


async def test_requests_in_flight_are_what_the_server_says(bench: Bench) -> None:
    launch_plan = named_x(counting("delay=0.05"))
    identity = await bench.spawn(launch_plan)
    endpoint = await proven(identity, launch_plan)
    assert endpoint
    assert await in_flight(identity, launch_plan, endpoint) == 0
    _, writer = await streaming(endpoint)
    assert await in_flight(identity, launch_plan, endpoint) == 1
    writer.transport.abort()


async def test_of_a_server_that_does_not_say_a_connection_may_be_busy_or_not(bench: Bench) -> None:
    launch_plan = fake_plan("plain=1")
    identity = await bench.spawn(launch_plan)
    endpoint = await proven(identity, launch_plan)
    assert endpoint
    port = int(endpoint.rpartition(":")[2])
    # Never its own, however often it looks.
    looks = [await in_flight(identity, launch_plan, endpoint) for _ in range(50)]
    assert set(looks) == {0}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readline()  # it is accepted
    assert await in_flight(identity, launch_plan, endpoint) is None
    writer.transport.abort()


@pytest.mark.parametrize(("flags", "requests"), [("plain=1", None), ("", 0)])
async def test_where_connections_cannot_be_seen_a_server_is_idle_only_if_it_says_so(
    flags: str, requests: int | None, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch_plan = counting(flags)
    identity = await bench.spawn(launch_plan)
    endpoint = await proven(identity, launch_plan)
    assert endpoint
    monkeypatch.setattr(activity, "has_clients", lambda *_: None)
    assert await in_flight(identity, launch_plan, endpoint) == requests


async def test_a_server_that_is_gone_works_on_nothing(bench: Bench) -> None:
    up = await bench.up("exit_after=0")
    assert await proven(up.identity, fake_plan("bind=never")) is None
    assert await in_flight(up.identity, fake_plan(), f"http://127.0.0.1:{up.port}") == 0
