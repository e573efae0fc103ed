"""Runtimes other than vllm-mlx, described by nothing but their names, through all that ends them.

mlx_lm.server and mlx_vlm.server are the real ones. llama-server and llama_cpp.server are real where
a variable names the program, since they have to be built; else they, and those that are not for
this machine, are fakes that answer like them.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pool_service_client import (
    PoolClient,
    Server,
    ServerChanged,
    ServerInUse,
    ServerRemoved,
    ServerState,
)
from tests.whole.fake_programs import JSON, write_program
from tests.whole.runs import headers
from tests.whole.tiny_gguf import write_tiny_gguf
from tools.demo.service import running

pytestmark = [pytest.mark.whole, pytest.mark.long]

BIN: Final = Path(sys.executable).parent
KEEP_ALIVE_S: Final = 1
LIMIT_S: Final = 120
FOREVER: Final = 100_000
LOADING: Final = '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


@dataclass(frozen=True)
class Kind:
    """A program under trial.

    command: the first word is the name of a program here, or of a fake.
    tokens: an answer of so many takes some seconds.
    counts: it counts its requests; asks_key: it refuses requests without its server's key.
    real: the variable that names the real program; empty: there is none here.
    """

    command: tuple[str, ...]
    model: str = "tiny"
    tokens: int = 2000
    counts: bool = False
    asks_key: bool = False
    real: str = ""

    @property
    def program(self) -> str:
        """The path of the real program; empty: its fake is tried."""
        here = str(BIN / self.command[0]) if self.command[0].startswith("mlx_") else ""
        return os.environ.get(self.real, here) if self.real else here


KINDS: Final = {
    "mlx_lm.server": Kind(("mlx_lm.server",), tokens=2000),
    "mlx_vlm.server": Kind(("mlx_vlm.server",), tokens=1200, counts=True),
    "llama-server": Kind(
        ("llama-server",), "tiny.gguf", counts=True, asks_key=True, real="POOL_TESTS_LLAMA_SERVER"
    ),
    "llama_cpp.server": Kind(
        ("python", "-m", "llama_cpp.server"), "tiny.gguf", real="POOL_TESTS_LLAMA_CPP_PYTHON"
    ),
    "vllm serve": Kind(("vllm",), counts=True, asks_key=True),
    "mlx-openai-server": Kind(("mlx-openai-server",)),
}
GROUPS = {name: pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in KINDS}
BY_GROUP = tuple(GROUPS.values())
WITH_KEYS = tuple(GROUPS[name] for name, kind in KINDS.items() if kind.asks_key)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_tiny_gguf(directory / "tiny.gguf", directory / "tiny")
    return directory


def configured(name: str, directory: Path, root: Path) -> Path:
    """Write the configuration in which a program is named, and nothing else is said of it."""
    kind = KINDS[name]
    program = kind.program or str(write_program(root, kind.command[0]))
    # llama-cpp-python has room for 2048 tokens by default.
    more = ("--n_ctx", "8192") if kind.real.endswith("CPP_PYTHON") and kind.program else ()
    command = json.dumps([program, *kind.command[1:], *more])
    file = root / "pool.toml"
    file.write_text(
        f"[defaults]\ngrace_period = 0\n[runtime]\ncommand = {command}\n"
        f"[models.m]\nruntime_model = '{directory / kind.model}'\n"
    )
    return file


@pytest.fixture(scope="module", params=BY_GROUP)
def pool(
    request: pytest.FixtureRequest, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Kind, PoolClient]]:
    """A service for one program, which several tests use one after another."""
    root = tmp_path_factory.mktemp("service")
    arguments = ["--config", str(configured(request.param, directory, root))]
    with (
        running(root / "state", arguments=arguments) as service,
        PoolClient.connect(service.address) as client,
    ):
        yield KINDS[request.param], client


class Asking:
    """Requests to one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._threads = ThreadPoolExecutor(1)

    def connect(self) -> http.client.HTTPConnection:
        host = self.server.endpoint.removeprefix("http://")
        return http.client.HTTPConnection(host, timeout=LIMIT_S)

    def send(self, connection: http.client.HTTPConnection, **more: object) -> bytes:
        """Ask on a connection, which stays open; return the answer."""
        return self._answer(connection, None, **more)

    def stream(self, tokens: int) -> Future[bytes]:
        """Return the answer, under way, of which the first bytes are there."""
        begun = threading.Event()

        def ask() -> bytes:
            with closing(self.connect()) as connection:
                return self._answer(connection, begun, stream=True, max_tokens=tokens)

        answer = self._threads.submit(ask)
        answer.add_done_callback(lambda _: begun.set())
        begun.wait()
        return answer

    def _answer(
        self, connection: http.client.HTTPConnection, begun: threading.Event | None, **more: object
    ) -> bytes:
        body = {
            "model": self.server.served_model_name,
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0,
            "max_tokens": 3,
        }
        text = json.dumps(body | more)
        connection.request("POST", "/v1/chat/completions", text, headers(self.server))
        response = connection.getresponse()
        first = response.read1()
        if begun:
            begun.set()
        answer = first + response.read()
        assert response.status == 200, answer
        return answer


def is_whole(answer: Future[bytes]) -> bool:
    return answer.result(LIMIT_S).rstrip().endswith(b"data: [DONE]")


def asking(pool: PoolClient, keep_alive: float = FOREVER) -> Asking:
    """Return an asker of a server that nothing else uses, started for it."""
    pool.evict("m", force=True)
    return Asking(pool.ensure("m", keep_alive=keep_alive).server)


def test_work_in_flight_refuses_an_eviction_and_counts_where_it_is_counted(
    pool: tuple[Kind, PoolClient],
) -> None:
    kind, client = pool
    ask = asking(client)
    stream = ask.stream(kind.tokens)
    with pytest.raises(ServerInUse) as refused:
        client.evict("m")
    assert not client.evict_idle()
    assert is_whole(stream)
    if kind.counts:
        assert refused.value.metadata["requests"] == "1"


def test_a_server_with_work_is_not_idle_and_goes_after_it(pool: tuple[Kind, PoolClient]) -> None:
    kind, client = pool
    with client.watch() as changes:
        ask = asking(client, KEEP_ALIVE_S)
        stream = ask.stream(kind.tokens)
        seen = (
            change.server.state
            for change in changes
            if isinstance(change, ServerChanged) and change.server.pid == ask.server.pid
        )
        assert (
            next(state for state in seen if state is not ServerState.READY) is ServerState.STOPPING
        )
        # It is idle, so the stream has ended some time ago.
        assert stream.done()
        assert is_whole(stream)


def test_a_forced_eviction_lets_a_stream_end(pool: tuple[Kind, PoolClient]) -> None:
    kind, client = pool
    ask = asking(client)
    stream = ask.stream(kind.tokens)
    (evicted,) = client.evict("m", force=True)
    assert not evicted.killed
    assert is_whole(stream)


def test_a_kept_connection_keeps_no_server_for_long(pool: tuple[Kind, PoolClient]) -> None:
    _, client = pool
    with client.watch() as changes:
        ask = asking(client, KEEP_ALIVE_S)
        with closing(ask.connect()) as connection:
            ask.send(connection)
            removed = (change.server.pid for change in changes if isinstance(change, ServerRemoved))
            assert ask.server.pid in removed


def test_a_held_server_that_is_killed_comes_back(pool: tuple[Kind, PoolClient]) -> None:
    kind, client = pool
    client.evict("m", force=True)
    with client.hold("m") as hold, client.watch() as changes:
        first = hold.ready()
        assert first.pid
        os.kill(first.pid, signal.SIGKILL)
        again = next(
            change.server
            for change in changes
            if isinstance(change, ServerChanged)
            and change.server.state is ServerState.READY
            and change.server.generation > first.generation
        )
        ask = Asking(client.ensure("m").server)
        assert ask.server.generation == again.generation
        with closing(ask.connect()) as connection:
            assert ask.send(connection)
        if kind.asks_key:
            assert ask.server.api_key
            assert ask.server.api_key != first.api_key


@pytest.mark.parametrize("name", BY_GROUP)
def test_the_end_of_the_service_lets_a_stream_end(
    name: str, directory: Path, tmp_path: Path
) -> None:
    arguments = ["--config", str(configured(name, directory, tmp_path))]
    with running(tmp_path / "state", arguments=arguments) as service:
        with PoolClient.connect(service.address) as client:
            ask = Asking(client.ensure("m").server)
        stream = ask.stream(KINDS[name].tokens)
        assert service.stop() == 0
        assert is_whole(stream)
        with pytest.raises(OSError, match="refused"), closing(ask.connect()) as connection:
            connection.connect()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n, k in KINDS.items() if k.asks_key],
)
def test_a_server_with_a_key_refuses_who_has_none(
    name: str, directory: Path, tmp_path: Path
) -> None:
    arguments = ["--config", str(configured(name, directory, tmp_path))]
    with (
        running(tmp_path / "state", arguments=arguments) as service,
        PoolClient.connect(service.address) as client,
    ):
        ask = Asking(client.ensure("m").server)
        with closing(ask.connect()) as connection:
            connection.request("POST", "/v1/chat/completions", "{}")
            assert connection.getresponse().status == 401


def answer_of(port: int, path: str, key: str) -> tuple[int, str | None, str]:
    """Return status, type and content of an answer, without the numbers of metrics."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)) as connection:
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("GET", path, headers=sent)
        answer = connection.getresponse()
        content = re.sub(r"(?m)^(\S+) [\d.e+-]+$", r"\1", answer.read().decode())
        return answer.status, answer.getheader("Content-Type"), content


@contextmanager
def llama_server(program: str, model: Path, *more: str) -> Iterator[int]:
    """Start a llama-server with a key; yield its port as soon as it has its model."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "-m", str(model), "--host", "127.0.0.1", "--port", str(port), *more]
    with subprocess.Popen(
        command, env={**os.environ, "LLAMA_API_KEY": "key"}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                assert process.poll() is None
                with suppress(OSError):
                    status, kind, content = answer_of(port, "/health", "")
                    if status == 200:
                        break
                    assert (kind, content) == (JSON, LOADING)
            yield port
        finally:
            process.kill()


def test_the_fake_llama_server_answers_like_the_real_one(directory: Path, tmp_path: Path) -> None:
    real = KINDS["llama-server"].program
    if not real:
        pytest.skip("POOL_TESTS_LLAMA_SERVER names no program")
    fake, model = str(write_program(tmp_path, "llama-server")), directory / "tiny.gguf"
    asked = [(path, key) for path in ("/health", "/metrics", "/none") for key in ("", "key")]
    for more in ((), ("--metrics",)):
        answers = []
        for program in (real, fake):
            with llama_server(program, model, *more) as port:
                answers.append([answer_of(port, path, key) for path, key in asked])
        assert answers[0] == answers[1]
