"""All that scenarios are played with: worlds and runners, each started once for a session."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pool_service.access.tokens import new_token
from pool_service_client import ADDRESS_VARIABLE
from tests.client.scripted import running as scripted
from tests.conformance.credentials import write_certificates
from tests.conformance.homes import IN_STATE, Homes
from tests.conformance.kinds import HUB_FILES, PLAIN, QUICK, RUNTIME, TOKENS, Kind, Surroundings
from tests.conformance.languages import LANGUAGES, Language
from tests.conformance.runners import LIMIT, Runner
from tests.conformance.scenario import Scenario
from tests.conformance.stage import Place, Stage
from tests.conformance.worlds import World, Worlds
from tests.fake_hub import fake_hub
from tools.demo.service import command

STATE = "state"
"""The state directory, in that of a scenario, of a service that a client starts."""


class Theatre:
    """A scenario is played for all languages that want it at a time, and told to each.

    programme: what is to be played, by its scenario; make: what its worlds are.
    """

    def __init__(
        self, programme: dict[Scenario, list[Language]], make: type[World] = World
    ) -> None:
        self._programme = programme
        self._order = list(programme)
        self._stack = ExitStack()
        # Short: a socket's path has a limit of about 100 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="conf-"))
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        hub = self._stack.enter_context(fake_hub(HUB_FILES))
        self.worlds = Worlds(Surroundings(self.root, hub), make)
        self._stack.callback(self.worlds.close)
        self._places = {
            "nobody": self._stack.enter_context(_nobody()),
            "stranger": self._stack.enter_context(_stranger()),
        }
        write_certificates(self.root / "secrets")
        self._configuration = self.root / "started.toml"
        self._configuration.write_text(RUNTIME + QUICK)
        self._homes = self._stack.enter_context(Homes(self.root))
        self._players = ThreadPoolExecutor(len(LANGUAGES))
        self._stack.callback(self._players.shutdown)
        self._outcomes: dict[tuple[Scenario, str], Future[None]] = {}
        self._performers = {language.key: _Performer(self, language) for language in LANGUAGES}
        for performer in self._performers.values():
            self._stack.callback(performer.close)

    def play(self, scenario: Scenario, language: Language) -> None:
        """Raises what went wrong."""
        if (scenario, language.key) not in self._outcomes:
            for each in self._programme[scenario]:
                self._outcomes[scenario, each.key] = self._players.submit(
                    self._play, scenario, each
                )
        self._outcomes[scenario, language.key].result()

    def built(self, language: Language) -> Language:
        """The language, whose programs can be run. Raises NotBuilt."""
        self._performers[language.key].build()
        return language

    def environment(self, home: str = "") -> dict[str, str]:
        """What programs of clients get: it leads them to PLAIN, by its address or from a home.

        It has no token of who runs the tests, as tests/conftest.py removes these variables.
        """
        plain = self.worlds.of(PLAIN, "")
        found_by = self._homes.of(home) if home else {ADDRESS_VARIABLE: plain.address}
        return {**os.environ, **found_by}

    def _play(self, scenario: Scenario, language: Language) -> None:
        runner = self._performers[language.key].runner(scenario.home)
        number = self._order.index(scenario)
        prefix = f"{language.key}/{number}/"
        directory = self.root / language.key / str(number)
        directory.mkdir(parents=True)
        with self._place(scenario, language) as place:
            stage = Stage(runner, place, prefix, directory, self._texts(place, prefix, directory))
            with stage.stack:
                stage.stack.callback(self._clear, stage)
                scenario.play(stage)

    @contextmanager
    def _place(self, scenario: Scenario, language: Language) -> Iterator[Place]:
        if isinstance(scenario.world, Kind):
            yield self.worlds.of(scenario.world, language.key)
            return
        with contextmanager(scripted)() as script:
            scenario.world(script)
            yield script

    def _texts(self, place: Place, prefix: str, directory: Path) -> dict[str, str]:
        models = {name: f"{prefix}{name}" for name in ("m", "n", "o")}
        return {
            **models,
            **self._places,
            "who": prefix.partition("/")[0],
            "gate": str(directory / "gate"),
            "address": place.address,
            "socket": place.socket if isinstance(place, World) else "",
            "encrypted": place.encrypted if isinstance(place, World) else "",
            "unnamed": place.unnamed if isinstance(place, World) else "",
            "secrets": str(self.root / "secrets"),
            "plain": self.worlds.of(PLAIN, "").address,
            "host": place.host if isinstance(place, World) else "",
            "spaced": f"unix:{self.root}/{IN_STATE}",
            "file": str(directory / "token"),
            "unknown": new_token(),
            "program": command()[0],
            "state": str(directory / STATE),
            "configuration": str(self._configuration),
            **TOKENS,
        }

    def _clear(self, stage: Stage) -> None:
        """Leave the place as it was found, whatever became of the scenario."""
        for name, call in list(stage.calls.items()):
            if call.command["op"] == "connect" and "result" in call.end():
                stage.begin("close", {"client": name}).end()
        if isinstance(stage.place, World):
            stage.place.restore(stage.prefix)
            if stage.place.kind is not PLAIN:
                # Clients that are told of several addresses may have been there.
                self.worlds.of(PLAIN, "").restore(stage.prefix)
        if (state := stage.directory / STATE).exists():
            subprocess.run(command("stop", "--state-dir", str(state)), check=True, timeout=LIMIT)

    def close(self) -> None:
        """End all of it. Raises AssertionError if a runner ended otherwise than well."""
        self._stack.close()


class _Performer:
    """A language: built, and its runners started, when they are first needed."""

    def __init__(self, theatre: Theatre, language: Language) -> None:
        self._theatre = theatre
        self._language = language
        self._lock = threading.Lock()
        self._built: Exception | bool = False
        self._runners: dict[str, Runner] = {}

    def build(self) -> None:
        with self._lock:
            if isinstance(self._built, Exception):
                raise self._built
            if not self._built:
                try:
                    self._language.build()
                except Exception as error:
                    self._built = error
                    raise
                self._built = True

    def runner(self, home: str) -> Runner:
        """The one that runs with the environment of a home."""
        self.build()
        with self._lock:
            if home not in self._runners:
                language, root = self._language, self._theatre.root
                self._runners[home] = Runner(
                    language.command(language.runner),
                    language.directory,
                    self._theatre.environment(home),
                    root / f"{language.key}{home}.stderr",
                )
            return self._runners[home]

    def close(self) -> None:
        for runner in self._runners.values():
            code = runner.close()
            assert code == 0, f"the runner for {self._language.title} ended with code {code}"


@contextmanager
def _nobody() -> Iterator[str]:
    """An address where a connection is refused: its port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def _stranger() -> Iterator[str]:
    """The address of a program that is no gRPC server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Stranger(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""
