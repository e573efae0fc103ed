"""Engines of thirty lines, of each language, while everything around them is killed at random.

Servers and the service are killed by SIGKILL, connections to both are cut. An engine asks one
question after the other, and says of each answer whether it was done or lost. Only an answer that
was in flight on a server that was killed, or on a connection that was cut, may be lost.
"""

import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pool_service_client import ADDRESS_VARIABLE, PoolClient, PoolError
from tests.conformance.languages import LANGUAGES, NOTHING_IS_LEFT_OUT, Language, NoToolchain
from tests.conformance.theatre import Theatre
from tests.conformance.worlds import RUNTIME
from tools.demo.service import RunningService, running

HARM_S = float(os.environ.get("ENGINES_S", "45"))
"""For how long harm is done; five minutes are `ENGINES_S=300`."""

LIMIT_S = 120.0
"""For one answer: a server and the service may be started anew meanwhile."""

TOKENS = 20
ANSWER = "".join(f"t{number} " for number in range(TOKENS)).strip()
TRUCE_S = 2.0
"""The longest time between two harms."""

AWAY_S = 3.0
"""The longest time for which the service is away."""

CONFIG = f"""{RUNTIME}
[service]
standby = 0
backoff_initial = "10ms"
crash_limit = 1000
[memory]
budget = "none"
reserve = "0MB"
"""


@dataclass(slots=True)
class Proxy:
    """Passes connections on to an address, and cuts them all when it is told to."""

    target: int
    _listener: socket.socket = field(init=False)
    _open: list[socket.socket] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        cut, self._open = self._open, []
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@dataclass(slots=True)
class Engine:
    """An engine at work. said: a line for each answer, with the times of its question and end."""

    language: Language
    model: str
    process: "subprocess.Popen[str]"
    said: list[tuple[str, float, float]] = field(default_factory=list)
    _lines: "queue.Queue[str]" = field(init=False, default_factory=queue.Queue)

    _reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Wait until its output, which has ended with it, is read."""
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def ask(self) -> None:
        """Ask one question, and note what became of it."""
        assert self.process.stdin is not None
        asked = time.monotonic()
        self.process.stdin.write("How are you?\n")
        self.process.stdin.flush()
        line = self._lines.get(timeout=LIMIT_S)
        assert line, f"the engine in {self.language.title} has ended: {self.process.poll()}"
        self.said.append((line, asked, time.monotonic()))

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(LIMIT_S)


@dataclass(slots=True)
class Place:
    """A service that is started again whenever it is killed, and the harm that is done to it.

    harms: what was done to the server of a model, or to a connection to it, and when.
    """

    directory: Path
    service: RunningService
    stack: ExitStack
    proxy: Proxy
    models: list[str]
    harms: list[tuple[str, float]] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)

    def harm(self, chance: random.Random) -> None:
        """Do one harm at random."""
        model = chance.choice(self.models)
        kind = chance.choice(["server", "service", "call", "connection"])
        self.done[kind] = self.done.get(kind, 0) + 1
        if kind == "service":
            self.service.process.kill()
            self.service.process.wait()
            time.sleep(chance.uniform(0, AWAY_S))
            self.service = start(self.directory, self.stack, self.service.address)
        elif kind == "call":
            self.proxy.cut()
        else:
            self.harms.append((model, time.monotonic()))
            self._harm_server(model, kind)

    def _harm_server(self, model: str, kind: str) -> None:
        if kind == "connection":
            cut_file(self.directory, model).touch()
            return
        with suppress(PoolError), PoolClient.connect(self.service.address) as pool:
            server = pool.get(model, timeout=10.0).server
            if server is not None and server.pid:
                with suppress(ProcessLookupError):
                    os.kill(server.pid, signal.SIGKILL)


def cut_file(directory: Path, model: str) -> Path:
    """Return the file whose appearance cuts the connections to a model's server."""
    return directory / f"cut-{model}"


def start(directory: Path, stack: ExitStack, address: str = "127.0.0.1:0") -> RunningService:
    log = directory / f"service-{time.monotonic_ns()}.log"
    arguments = ["--config", str(directory / "pool.toml")]
    return stack.enter_context(running(directory / "state", [address], arguments, log=log))


@contextmanager
def place(directory: Path, models: list[str]) -> Iterator[Place]:
    named = "".join(
        f'[models."{one}"]\nruntime_model = "x?tokens={TOKENS}&delay=0.02'
        f'&cuts_when={cut_file(directory, one)}"\n'
        for one in models
    )
    (directory / "pool.toml").write_text(CONFIG + named)
    with ExitStack() as stack:
        service = start(directory, stack)
        proxy = Proxy(int(service.address.rpartition(":")[2]))
        stack.callback(proxy.close)
        yield Place(directory, service, stack, proxy, models)


def languages(theatre: Theatre) -> list[Language]:
    """Return the languages whose engines can be run here."""
    found = []
    for language in LANGUAGES:
        try:
            found.append(theatre.built(language))
        except NoToolchain:
            if NOTHING_IS_LEFT_OUT:
                raise
    # The two Python clients have one engine.
    return [one for one in found if one.key != "asyncio"]


@pytest.mark.long
def test_engines_lose_only_answers_in_flight_on_what_was_killed(
    theatre: Theatre, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr)
    chance = random.Random(seed)
    chosen = languages(theatre)
    with place(tmp_path, [one.key for one in chosen]) as where, ExitStack() as stack:
        engines = [stack.enter_context(engine(one, where, tmp_path)) for one in chosen]
        ended = threading.Event()
        asking = [
            threading.Thread(target=ask_on, args=(one, ended), daemon=True) for one in engines
        ]
        for one in engines:
            one.ask()
        for thread in asking:
            thread.start()
        until = time.monotonic() + HARM_S
        while time.monotonic() < until:
            time.sleep(chance.uniform(0, TRUCE_S))
            where.harm(chance)
        ended.set()
        for thread, one in zip(asking, engines, strict=True):
            thread.join(2 * LIMIT_S)
            assert not thread.is_alive(), f"{one.language.title} still waits for its answer"
        for one in engines:
            one.ask()
            check(one, where)
            assert one.end() == 0
    print(report(engines, where), file=sys.stderr)


@contextmanager
def engine(language: Language, where: Place, directory: Path) -> Iterator[Engine]:
    with (directory / f"{language.key}.stderr").open("w") as errors:
        process = subprocess.Popen(
            [*language.command(language.engine), language.key],
            env={**os.environ, ADDRESS_VARIABLE: where.proxy.address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        running_one = Engine(language, language.key, process)
        try:
            yield running_one
        finally:
            process.kill()
            process.wait()
            running_one.close()


def ask_on(engine: Engine, ended: threading.Event) -> None:
    while not ended.is_set():
        engine.ask()


def check(engine: Engine, where: Place) -> None:
    """Check that each answer is whole, or was lost with what was killed meanwhile."""
    done = [line for line, _, _ in engine.said if line == f"done {ANSWER}"]
    assert len(done) > 2, engine.said
    assert engine.said[-1][0] == f"done {ANSWER}", "in peace nothing is lost"
    for line, asked, told in engine.said:
        if line == f"done {ANSWER}":
            continue
        assert line.startswith("lost"), line
        own = [at for model, at in where.harms if model == engine.model and asked <= at <= told]
        assert own, f"{engine.language.title}: {line!r}, and nothing of it was killed meanwhile"


def report(engines: list[Engine], where: Place) -> str:
    """Return the numbers of answers and harms, for people."""
    lines = [f"harms: {where.done}"]
    for one in engines:
        lost = sum(line.startswith("lost") for line, _, _ in one.said)
        lines.append(f"{one.language.title}: {len(one.said) - lost} done, {lost} lost")
    return "\n".join(lines)
