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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pool_service_client import ADDRESS_VARIABLE, PoolClient, PoolError
from tests.conformance.kinds import RUNTIME
from tests.conformance.languages import LANGUAGES, NOTHING_IS_LEFT_OUT, Language, NoToolchain
from tests.conformance.theatre import Theatre
from tools.demo.service import RunningService, running

HARM_S = float(os.environ.get("ENGINES_S", "45"))
"""Seconds of harm; the variable ENGINES_S sets another time."""

LIMIT_S = 120.0
"""For one answer: a server and the service may be started anew meanwhile."""

TOKENS = 20
ANSWER = "".join(f"t{number} " for number in range(TOKENS)).strip()
MAX_PAUSE_S = 2.0
"""The longest time between two harms."""

MAX_DOWNTIME_S = 3.0
"""The longest time for which nobody starts the service again."""

STREAM_REST_S = 12.0
"""The least time between two harms to the stream of a hold. A stream that lived for ten seconds is
opened again at once: of one that breaks sooner, the clients think that the service ends it."""

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said of one answer; when it was asked for, and when the engine said it."""

    line: str
    asked_at: float
    told_at: float

    @property
    def is_whole(self) -> bool:
        """Whether it was done, with all of its text."""
        return self.line == f"done {ANSWER}"


@dataclass(slots=True)
class Engine:
    """An engine at work."""

    language: Language
    model: str
    process: "subprocess.Popen[str]"
    answers: list[Answer] = field(default_factory=list)
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
        asked_at = time.monotonic()
        self.process.stdin.write("How are you?\n")
        self.process.stdin.flush()
        line = self._lines.get(timeout=LIMIT_S)
        assert line, f"the engine in {self.language.title} has ended: {self.process.poll()}"
        self.answers.append(Answer(line, asked_at, time.monotonic()))

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(LIMIT_S)


@dataclass(frozen=True, slots=True)
class Harm:
    """Harm to the server of a model, or to a connection to it, and when it was done."""

    model: str
    began_at: float
    ended_at: float

    def is_within(self, answer: "Answer") -> bool:
        """Return whether the harm was done while an answer was waited for."""
        return self.began_at <= answer.told_at and answer.asked_at <= self.ended_at


@dataclass(slots=True)
class HarmedService:
    """A service that is started again whenever it is killed, and the harm that is done to it.

    harms: what was done to the server of a model, or to a connection to it.
    harm_counts: how often each kind of harm was done.
    """

    directory: Path
    service: RunningService
    stack: ExitStack
    proxy: Proxy
    models: list[str]
    harms: list[Harm] = field(default_factory=list)
    harm_counts: dict[str, int] = field(default_factory=dict)
    _stream_harmed_at: float = field(init=False, default=0.0)

    def do_random_harm(self, chance: random.Random) -> None:
        """Do one harm at random."""
        kinds = ["server", "connection"]
        if time.monotonic() - self._stream_harmed_at > STREAM_REST_S:
            kinds += ["service", "call"]
        kind, model = chance.choice(kinds), chance.choice(self.models)
        self.harm_counts[kind] = self.harm_counts.get(kind, 0) + 1
        if kind == "service":
            self._kill_service(chance.uniform(0, MAX_DOWNTIME_S))
        elif kind == "call":
            self.proxy.cut()
        else:
            began_at = time.monotonic()
            self._harm_server(model, kind)
            self.harms.append(Harm(model, began_at, time.monotonic()))
        if kind in {"service", "call"}:
            self._stream_harmed_at = time.monotonic()

    def _kill_service(self, downtime_s: float) -> None:
        self.service.process.kill()
        self.service.process.wait()
        time.sleep(downtime_s)
        self.service = start(self.directory, self.stack, self.service.address)

    def _harm_server(self, model: str, kind: str) -> None:
        """Kill the server, or cut its connections; return when that is done."""
        if kind == "connection":
            file = cut_file(self.directory, model)
            file.touch()
            until = time.monotonic() + LIMIT_S
            while file.exists() and time.monotonic() < until:
                time.sleep(0.002)
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
def harmed_service(directory: Path, models: list[str]) -> Iterator[HarmedService]:
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
        yield HarmedService(directory, service, stack, proxy, models)


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


def ask_until(ended: threading.Event, engine: Engine) -> None:
    """Ask one question after the other."""
    while not ended.is_set():
        engine.ask()


@pytest.mark.long
def test_engines_lose_only_answers_in_flight_on_what_was_killed(
    theatre: Theatre, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr)
    chance, ended = random.Random(seed), threading.Event()
    chosen = languages(theatre)
    with (
        harmed_service(tmp_path, [one.key for one in chosen]) as service,
        ExitStack() as stack,
        ThreadPoolExecutor(len(chosen)) as askers,
    ):
        stack.callback(ended.set)
        engines = [stack.enter_context(engine(one, service, tmp_path)) for one in chosen]
        for one in engines:
            one.ask()
        asking = [askers.submit(ask_until, ended, one) for one in engines]
        until = time.monotonic() + HARM_S
        while time.monotonic() < until and not any(future.done() for future in asking):
            time.sleep(chance.uniform(0, MAX_PAUSE_S))
            service.do_random_harm(chance)
        ended.set()
        for future in asking:
            future.result(2 * LIMIT_S)
        print(summary_of(engines, service), file=sys.stderr)
        for one in engines:
            one.ask()
            check(one, service)
            assert one.end() == 0


@contextmanager
def engine(language: Language, service: HarmedService, directory: Path) -> Iterator[Engine]:
    with (directory / f"{language.key}.stderr").open("w") as errors:
        process = subprocess.Popen(
            [*language.command(language.engine), language.key],
            env={**os.environ, ADDRESS_VARIABLE: service.proxy.address},
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


def check(engine: Engine, service: HarmedService) -> None:
    """Check that each answer is whole, or was lost with what was killed meanwhile."""
    assert sum(answer.is_whole for answer in engine.answers) > 2, engine.answers
    assert engine.answers[-1].is_whole, "in peace nothing is lost"
    for answer in engine.answers:
        if answer.is_whole:
            continue
        assert answer.line.startswith("lost"), answer
        own = (harm for harm in service.harms if harm.model == engine.model)
        assert any(harm.is_within(answer) for harm in own), (
            f"{engine.language.title}: {answer}, and nothing of it was killed meanwhile"
        )


def summary_of(engines: list[Engine], service: HarmedService) -> str:
    """Return a summary for the test's output."""
    lines = [f"harms: {service.harm_counts}"]
    for one in engines:
        lost = sum(not answer.is_whole for answer in one.answers)
        lines.append(f"{one.language.title}: {len(one.answers) - lost} done, {lost} lost")
    return "\n".join(lines)
