"""A server lives and serves what it has begun, but no longer has what it was handed out with."""

import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pool_service.core.server import Phase
from pool_service.endpoints import CHECK_VALID_S
from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import Server, ServerRole
from tests.faults.asking import Stream, complete
from tests.faults.conftest import Service, Start
from tests.faults.table import Recovery

LOOKS_SELDOM = "[service]\nprobe_interval = 1000\n"
LOOKS_OFTEN = "[service]\nprobe_interval = 0.4\nprobe_limit = 3\n[defaults]\nprobe_timeout = 1\n"


class Stranger(BaseHTTPRequestHandler):
    """Answers everything as if it were well."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stranger(port: int) -> Iterator[list[str]]:
    """Another program on this port; what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (Stranger,), {"asked": asked})
    with HTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def until_recorded_as_ready(state_dir: Path) -> None:
    """Return when the record of the only server says so: it is written after the answer."""
    (record,) = (state_dir / "servers").glob("[!.]*.json")
    while Phase.READY.name not in record.read_text():
        pass


def refuses(server: Server) -> bool:
    url = urlsplit(server.endpoint)
    with socket.socket() as peer:
        return peer.connect_ex((url.hostname, url.port)) != 0


def is_healthy(server: Server) -> bool:
    with urllib.request.urlopen(f"{server.endpoint}/health") as response:
        return bool(response.status == 200)


def until_it_refuses(server: Server) -> None:
    """Return when a server has lost its listener, and no earlier check of it counts any more."""
    while not refuses(server):
        time.sleep(0.01)
    time.sleep(CHECK_VALID_S)


def the_next_comes_and_the_stream_is_whole(
    service: Service,
    recovered: Recovery,
    runtime_model: str,
    tokens: int,
    holds_the_stream: Callable[[Server], AbstractContextManager[object]],
) -> None:
    """While a stream runs somebody else sends SIGTERM, as earlyoom or a person does.

    holds_the_stream: keeps a server's stream from its end, until the next one has been seen.
    """
    first = service.pool.ensure("m", runtime_model=runtime_model).server
    stream = Stream(first, tokens)
    os.kill(first.pid, signal.SIGTERM)
    until_it_refuses(first)
    with holds_the_stream(first):
        the_next_is_beside_it(service, recovered, first)
        assert stream.is_running
    assert stream.is_whole()
    service.invariants.wait_removed("m", generation=1)
    (server,) = service.pool.list()
    assert server.generation == first.generation + 1


def the_next_is_beside_it(service: Service, recovered: Recovery, first: Server) -> None:
    with recovered.measured():
        again = service.pool.ensure("m").server
        assert is_healthy(again)
    assert again.generation == first.generation + 1
    aside, current = service.pool.list()
    assert (aside.generation, aside.role) == (first.generation, ServerRole.SUPERSEDED)
    assert (aside.pid, aside.endpoint) == (first.pid, "")
    assert (current.pid, current.role) == (again.pid, ServerRole.CURRENT)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Keep a process from going on."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.fault("SIGTERM from outside while a stream runs")
def test_of_a_server_that_drains_by_itself_nobody_is_given_the_endpoint(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    service, seen = fake(LOOKS_SELDOM), tmp_path / "seen"
    flags = f"x?delay=0.1&answers_until={seen}"

    @contextmanager
    def held(_: Server) -> Iterator[None]:
        yield
        seen.touch()

    the_next_comes_and_the_stream_is_whole(service, recovered, flags, 50, held)


@pytest.mark.fault("SIGTERM from outside while a stream runs")
def test_a_vllm_mlx_that_drains_by_itself_is_replaced_at_once_and_its_stream_ends_whole(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real(LOOKS_SELDOM)
    the_next_comes_and_the_stream_is_whole(service, recovered, tiny, LONG_ANSWER, stopped)


LONG_ANSWER = 8000
"""Tokens: so many that the answer has not ended when the server has lost its listener."""


@pytest.mark.fault("another program takes the port of a server that drains")
def test_a_stranger_on_a_lost_port_is_neither_handed_out_nor_asked(
    fake: Start, tmp_path: Path
) -> None:
    service, served = fake(LOOKS_OFTEN), tmp_path / "served"
    first = service.pool.ensure("m", runtime_model=f"x?delay=0.1&answers_until={served}").server
    stream = Stream(first, 50)
    os.kill(first.pid, signal.SIGTERM)
    until_it_refuses(first)
    with stranger(urlsplit(first.endpoint).port or 0) as asked:
        again = service.pool.ensure("m").server
        assert again.endpoint != first.endpoint
        # The next would answer for as long, and complete reads to the end.
        served.touch()
        assert complete(again, tokens=3) == 3
        assert stream.is_whole()
        service.invariants.wait_removed("m", generation=1)
    assert asked == []


@pytest.mark.fault("closes its listener and lives on; nobody asks for it")
def test_the_holder_of_a_server_that_closes_its_listener_gets_the_next(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    service, closes = fake(LOOKS_SELDOM), tmp_path / "closes"
    with service.pool.hold("m", runtime_model=f"x?closes_when={closes}") as held:
        first = held.ready()
        revision = service.invariants.revision
        closes.touch()
        until_it_refuses(first)
        with recovered.measured():
            service.invariants.wait_for("m", pb.SERVER_STATE_STARTING, revision)
    gone = service.invariants.wait_removed("m", generation=1).server
    assert gone.last_exit.cause == pb.EXIT_CAUSE_WEDGED


@pytest.mark.parametrize("kind", ["500", "503", "unhealthy", "unloaded", "redirect", "junk"])
@pytest.mark.fault(
    "READY, then unhealthy for good: 500, 503, unhealthy, unloaded, a redirect, junk"
)
def test_a_server_that_stays_unhealthy_is_replaced(
    fake: Start, recovered: Recovery, kind: str, tmp_path: Path
) -> None:
    service, sick = fake(LOOKS_OFTEN), tmp_path / "sick"
    first = service.pool.ensure("m", runtime_model=f"x?health={kind}&sick_when={sick}").server
    sick.touch()
    with recovered.measured():
        failed = service.invariants.wait_for("m", pb.SERVER_STATE_FAILED).server
        assert "unhealthy" in failed.detail
        again = service.pool.ensure("m", runtime_model="x").server
    assert again.pid != first.pid
    service.invariants.wait_removed("m", generation=1)


@pytest.mark.skipif(
    sys.platform != "linux" or "FAKE_LIBPROC" in os.environ,
    reason="macOS does not tell that the client of a connection is gone",
)
@pytest.mark.fault("READY, then answers nothing more, but logs a line now and then")
def test_a_server_that_is_mute_and_idle_is_replaced_whatever_it_logs(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    service, sick = fake(LOOKS_OFTEN), tmp_path / "sick"
    first = service.pool.ensure("m", runtime_model=f"x?health=mute&sick_when={sick}").server
    sick.touch()
    with recovered.measured():
        failed = service.invariants.wait_for("m", pb.SERVER_STATE_FAILED).server
        again = service.pool.ensure("m", runtime_model="x").server
    assert failed.last_exit.cause == pb.EXIT_CAUSE_WEDGED
    assert again.pid != first.pid


@pytest.mark.fault("mute while it streams")
def test_a_server_that_is_mute_in_the_middle_of_a_stream_is_not_cut(
    fake: Start, tmp_path: Path
) -> None:
    assert stream_of_what_falls_sick(fake, "mute", tmp_path / "sick").is_whole()


@pytest.mark.fault("unhealthy while it streams")
def test_a_server_that_is_unhealthy_in_the_middle_of_a_stream_is_not_cut(
    fake: Start, tmp_path: Path
) -> None:
    assert stream_of_what_falls_sick(fake, "500", tmp_path / "sick").is_whole()


def stream_of_what_falls_sick(fake: Start, kind: str, sick: Path) -> Stream:
    """Return a stream of six seconds, in the middle of which its server falls sick."""
    service = fake(LOOKS_OFTEN)
    flags = f"x?health={kind}&sick_when={sick}&delay=0.1"
    stream = Stream(service.pool.ensure("m", runtime_model=flags).server, 60)
    sick.touch()
    return stream


@pytest.mark.fault("READY, then an endless run of interim answers, or of a body")
def test_a_health_answer_without_end_holds_up_nobody(fake: Start, tmp_path: Path) -> None:
    service, sick = fake(LOOKS_OFTEN), tmp_path / "sick"
    for kind in ("interim", "endless"):
        service.pool.ensure(kind, runtime_model=f"x?health={kind}&sick_when={sick}")
    sick.touch()
    # Who is held up without end meets the limit of the test.
    for number in range(5):
        time.sleep(0.3)
        service.pool.list()
        service.pool.ensure(f"other{number}", runtime_model="x")


@pytest.mark.fault("the service is killed while one goes on aside")
def test_a_service_that_is_killed_while_one_goes_on_aside_drains_it_and_keeps_the_other(
    fake: Start, tmp_path: Path
) -> None:
    service, adopted = fake(LOOKS_SELDOM), tmp_path / "adopted"
    first = service.pool.ensure("m", runtime_model=f"x?delay=0.1&answers_until={adopted}").server
    stream = Stream(first, 50)
    os.kill(first.pid, signal.SIGTERM)
    until_it_refuses(first)
    again = service.pool.ensure("m").server
    service.running.process.kill()
    service.running.process.wait()
    successor = fake(LOOKS_SELDOM)
    aside, _ = successor.pool.list()
    assert (aside.pid, aside.role) == (first.pid, ServerRole.SUPERSEDED)
    assert successor.pool.ensure("m").server.pid == again.pid
    adopted.touch()
    assert stream.is_whole()
    successor.invariants.wait_removed("m", generation=1)


@pytest.mark.fault("its listener is lost while no service is there")
def test_what_lost_its_listener_while_no_service_was_there_is_not_waited_for(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    service, replaced = fake(LOOKS_SELDOM), tmp_path / "replaced"
    first = service.pool.ensure("m", runtime_model=f"x?delay=0.1&answers_until={replaced}").server
    stream = Stream(first, 50)
    until_recorded_as_ready(service.state_dir)
    service.running.process.kill()
    service.running.process.wait()
    os.kill(first.pid, signal.SIGTERM)
    until_it_refuses(first)
    successor = fake(LOOKS_SELDOM)
    with recovered.measured():
        # By the same name, since it may not yet have been found that it is lost.
        again = successor.pool.ensure("m", runtime_model=first.runtime_model).server
    assert again.pid != first.pid
    replaced.touch()
    assert stream.is_whole()
    successor.invariants.wait_removed("m", generation=1)
