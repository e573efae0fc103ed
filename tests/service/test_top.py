"""`pool-service top` on a real terminal, over a real service with real processes."""

import signal
import sys
import termios
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pool_service_client import PoolClient, Server, ServerState
from tests.cli.program import MAIN, Terminal
from tests.cli.top.viewing import READS_AT_ONCE
from tests.service.conftest import FAKE_RUNTIME, Start
from tests.service.live import a_terminal, top
from tests.service.metrics import until
from tools.demo.chat import stream
from tools.demo.service import RunningService, running

CATALOGUE = f"""{FAKE_RUNTIME}
[defaults]
grace_period = 0
[models.a]
runtime_model = "fake/a"
[models.b]
runtime_model = "fake/b?say=these+are+no+weights&die=3"
[models.c]
runtime_model = "fake/c?tokens=100000&delay=0.01"
"""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with a_terminal() as one:
        yield one


def servers(service: RunningService) -> dict[str, Server]:
    with PoolClient.connect(service.address) as pool:
        return {server.model: server for server in pool.list()}


def is_ready(service: RunningService, model: str) -> bool:
    found = servers(service).get(model)
    return found is not None and found.state is ServerState.READY


def test_each_key_does_to_a_real_server_what_it_says(start: Start, terminal: Terminal) -> None:
    service = start(CATALOGUE)
    before = termios.tcgetattr(terminal.writer)
    with top(service.address, terminal) as process:
        terminal.wait_for("> a ")
        terminal.type("E")
        terminal.wait_for("a: started (generation 1, pid ")
        terminal.wait_for("1 server: 1 ready")
        assert is_ready(service, "a")
        terminal.type("p")
        terminal.wait_for("a: is now pinned")
        assert servers(service)["a"].pinned
        terminal.wait_for("  pinned ")
        terminal.type("p")
        terminal.wait_for("a: is no longer pinned")
        terminal.type("d")
        terminal.wait_for("description of a")
        terminal.wait_for("Generations, the newest")
        terminal.type("q")
        terminal.wait_for("q quit")
        terminal.type("l")
        terminal.wait_for("Uvicorn running on")
        terminal.forget()
        terminal.type("q")
        terminal.wait_for("> a ")
        terminal.type("e")
        terminal.wait_for("evicted a (generation 1)")
        assert "a" not in servers(service)
        terminal.type("q")
        assert process.wait(60) == 0
    assert termios.tcgetattr(terminal.writer) == before


def test_a_start_that_fails_is_shown_with_the_reason_and_its_log(
    start: Start, terminal: Terminal
) -> None:
    service = start(CATALOGUE)
    with top(service.address, terminal):
        terminal.wait_for_screen("> a ", "b  ")
        terminal.type("jE")
        terminal.wait_for("ensure b: the server of 'b' died before it was ready")
        terminal.wait_for("FAILED")
        terminal.type("l")
        terminal.wait_for("these are no weights")
        terminal.wait_for("generation 1 has ended")


def test_what_is_held_is_stopped_only_after_a_yes(start: Start, terminal: Terminal) -> None:
    service = start(CATALOGUE)
    with (
        PoolClient.connect(service.address) as pool,
        top(service.address, terminal, [sys.executable, "-c", READS_AT_ONCE + MAIN]),
        pool.hold("a", holder="nightly") as hold,
    ):
        hold.ready()
        terminal.wait_for("held by nightly")
        terminal.type("e")
        terminal.wait_for("Stop a all the same? (y/n) a is held once.")
        terminal.type("n")
        terminal.wait_for("nothing was stopped")
        assert is_ready(service, "a")
        terminal.forget()
        terminal.type("e")
        terminal.wait_for("(y/n)")
        terminal.type("y")
        terminal.wait_for("evicted a (generation 1)")


def test_what_answers_a_request_is_stopped_only_after_a_yes(
    start: Start, terminal: Terminal
) -> None:
    service = start(CATALOGUE)
    with PoolClient.connect(service.address) as pool, top(service.address, terminal):
        server = pool.ensure("c").server
        words = stream(server, "Tell me all.", 100_000)
        assert isinstance(words, Generator)
        with closing(words):
            next(words)
            terminal.wait_for_screen("c  ", "READY")
            terminal.type("g")
            terminal.wait_for("> c ")
            terminal.type("e")
            terminal.wait_for_screen(
                "Stop c all the same? (y/n) 'c' has 1 request(s) in flight, so it was not evicted"
            )
            terminal.type("n")
            terminal.wait_for("nothing was stopped")
            assert next(words)


def test_the_view_goes_on_with_the_next_service(
    tmp_path: Path, socket_dir: Path, terminal: Terminal
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CATALOGUE)
    listen = [f"unix:{socket_dir / 'pool'}"]
    arguments = ["--config", str(config)]
    state = tmp_path / "state"
    with running(state, listen, arguments) as service:
        with PoolClient.connect(service.address) as pool:
            pid = pool.ensure("a").server.pid
        with top(service.address, terminal):
            terminal.wait_for(f"pid {pid}")
            service.process.send_signal(signal.SIGKILL)
            # The last picture stays. Not the first frame of the outage: before it is one without.
            wanted = ("NO ANSWER for ", "s, trying again: cannot reach", "> a ", "READY")
            terminal.wait_for_screen(*wanted, without="NO ANSWER for 0s")
            with running(state, listen, arguments, log=tmp_path / "next.log") as successor:
                until(lambda: is_ready(successor, "a"))
                assert servers(successor)["a"].pid == pid
                terminal.wait_for_screen("> a ", "q quit", without="NO ANSWER")
                terminal.type("e")
                terminal.wait_for("evicted a (generation 1)")


def test_a_view_that_is_left_open_neither_starts_nor_keeps_a_model(
    start: Start, terminal: Terminal
) -> None:
    service = start(f'{CATALOGUE}[models.d]\nruntime_model = "fake/d"\nkeep_alive = "3s"\n')
    with PoolClient.connect(service.address) as pool, top(service.address, terminal):
        pool.ensure("d")
        terminal.wait_for_screen("d  ", "READY")
        # A view that came before the start has chosen another one.
        terminal.type("g")
        terminal.wait_for_screen("> d ")
        terminal.type("d")
        terminal.wait_for("description of d")
        until(lambda: not servers(service))
        terminal.type("q")
        terminal.wait_for_screen("0 servers", "q quit")
