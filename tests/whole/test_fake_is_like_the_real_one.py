"""The same checks on the fake server and on the real vllm-mlx, whose answers they pin."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.whole

FAKE_SERVER = Path(__file__).parents[1] / "fake_server.py"
FAKE = (sys.executable, "-S", "-E", str(FAKE_SERVER))
REAL = (str(Path(sys.executable).parent / "vllm-mlx"),)
QUEUES = {"VLLM_MLX_SIMPLE_ENGINE_LOCK_ADMISSION": "wait"}
COUNTS = ("--auto-unload-idle-seconds", "86400")
LONG = 2000
"""Tokens, which take the real one seconds; those of the fake: see `Program.in_flight`."""

Json = dict[str, Any]


class Server:
    """A running one; what it writes is read to its end."""

    def __init__(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            argv, env=clean | dict(environment), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.port = self.wait_until_up()
        self.draining = threading.Event()
        self.reader = threading.Thread(target=self.read_on)
        self.reader.start()

    def output(self) -> Any:  # noqa: ANN401 - a pipe
        assert self.process.stderr
        return self.process.stderr

    def wait_until_up(self) -> int:
        lines = []
        for line in self.output():
            lines.append(line)
            if found := re.search(rb"Uvicorn running on http://127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise AssertionError(b"".join(lines).decode())

    def read_on(self) -> None:
        for line in self.output():
            # uvicorn says so when its listener is closed and a request is in flight.
            if b"Waiting for connections to close" in line:
                self.draining.set()

    def stop(self, by: signal.Signals) -> None:
        self.process.send_signal(by)

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            content = None if body is None else json.dumps(body)
            sent = {"Content-Type": "application/json", **(more or {})}
            connection.request(method, path, content, sent)
            with connection.getresponse() as response:
                yield response

    def answer(self, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
        with self.ask(method, path, body) as response:
            return response.status, json.loads(response.read())

    def chat(self, **more: Any) -> tuple[int, Json]:  # noqa: ANN401 - any field of a request
        return self.answer("POST", "/v1/chat/completions", request(**more))

    def stream(self, **more: Any) -> Generator[str, None, None]:  # noqa: ANN401 - any field of a request
        """The data of each event; it is asked for with the first."""
        body = request(stream=True, **more)
        with self.ask("POST", "/v1/chat/completions", body) as response:
            assert response.status == 200
            for line in response:
                if line.startswith(b"data: "):
                    yield line[6:].decode().strip()

    def health(self) -> Json:
        return self.answer("GET", "/health")[1]

    def idle(self) -> Json:
        """Return its health once it counts no request: that is a moment after the last byte."""
        while (health := self.health())["active_requests"]:
            pass
        return health

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.output().close()


def request(**more: Any) -> Json:  # noqa: ANN401 - any field of a request
    messages = [{"role": "user", "content": "hi"}]
    return {"model": "served", "messages": messages, "temperature": 0, "max_tokens": 5} | more


class Program:
    """One of the two: starts servers of its own, and lends one that nobody may stop."""

    def __init__(self, command: tuple[str, ...], model: str, over: Path) -> None:
        """over: the file that ends the answers of the fake."""
        self.command = command
        self.model = model
        self.over = over
        over.touch()
        self.cleanup = ExitStack()
        self.lent: Server | None = None

    def start(self, *options: str, environment: Mapping[str, str] = QUEUES) -> Server:
        ours = ("serve", self.model, "--port", "0", "--served-model-name", "served")
        server = Server((*self.command, *ours, *options), environment)
        self.cleanup.callback(server.close)
        return server

    def shared(self) -> Server:
        self.lent = self.lent or self.start(*COUNTS, "--download-retries", "1")
        return self.lent

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Within the block an answer of the fake does not end, for what needs it to be there."""
        self.over.unlink()
        try:
            yield
        finally:
            self.over.touch()

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [*self.command, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=["fake", "real"])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    over = tmp_path_factory.mktemp("fake") / "over"
    if request.param == "fake":
        the_program = Program(FAKE, f"fake/x?delay=0.001&answers_until={over}", over)
    else:
        from tools.demo.checkpoints import write_tiny_llama  # noqa: PLC0415 - slow, and of the real one

        write_tiny_llama(checkpoint := tmp_path_factory.mktemp("tiny"))
        the_program = Program(REAL, str(checkpoint), over)
    with the_program.cleanup:
        yield the_program


def options(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*[a-z]", text))


def test_the_fake_takes_the_options_of_the_real_one_and_no_others() -> None:
    real, fake = (
        subprocess.run([*command, "serve", "--help"], capture_output=True, text=True, check=True)
        for command in (REAL, FAKE)
    )
    usage_of_real, usage_of_fake = (run.stdout.partition("\n\n")[0] for run in (real, fake))
    assert options(usage_of_fake) == options(usage_of_real)


def test_an_unknown_option_ends_it_with_2(program: Program) -> None:
    run = program.run("serve", program.model, "--no-such-option")
    assert run.returncode == 2
    assert "unrecognized arguments: --no-such-option" in run.stderr


def test_a_taken_port_ends_it_and_is_named_in_its_output(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host, port = taken.getsockname()
        run = program.run("serve", program.model, "--port", str(port))
    # 3, but at times the real one is aborted by a thread of its own on its way out.
    assert run.returncode in (3, -signal.SIGABRT)
    told = f"error while attempting to bind on address {(host, port)}: address already in use"
    assert told in run.stderr


def test_health_says_that_the_model_is_loaded_and_how_many_requests_there_are(
    program: Program,
) -> None:
    status, body = program.shared().answer("GET", "/health")
    assert status == 200
    facts = {key: value for key, value in body.items() if key not in {"last_used_at", "loaded_at"}}
    assert facts == {
        "status": "healthy",
        "model_loaded": True,
        "model_name": "served",
        "available_models": ["served"],
        "model_type": "llm",
        "engine_type": "simple",
        "mcp": None,
        "residency_state": "loaded",
        "active_requests": 0,
        "auto_unload_idle_seconds": 86400.0,
    }
    assert body["last_used_at"] >= body["loaded_at"] > 1e9


def test_the_models_are_the_one_it_serves(program: Program) -> None:
    status, body = program.shared().answer("GET", "/v1/models")
    assert (status, body["object"]) == (200, "list")
    assert [entry["id"] for entry in body["data"]] == ["served"]


def test_without_its_key_it_answers_401_but_for_its_health_and_metrics(program: Program) -> None:
    server = program.start("--api-key", "psk_x", "--enable-metrics")

    def answer(path: str, shown: dict[str, str], body: Json | None = None) -> tuple[int, Json]:
        with server.ask("GET" if body is None else "POST", path, body, shown) as response:
            text = response.read()
            return response.status, json.loads(text) if path != "/metrics" else {}

    right = {"Authorization": "Bearer psk_x"}
    for path, body in (("/v1/models", None), ("/v1/chat/completions", request())):
        assert answer(path, {}, body) == (401, {"detail": "API key required"})
        wrong = {"Authorization": "Bearer psk_y"}
        assert answer(path, wrong, body) == (401, {"detail": "Invalid API key"})
        # As Anthropic's SDK sends its api_key; its auth_token is sent as the right one.
        assert answer(path, {"X-Api-Key": "psk_x"}, body)[0] == 401
        assert answer(path, right, body)[0] == 200
    for path in ("/health", "/metrics"):
        assert answer(path, {})[0] == 200


def test_a_completion_has_a_choice_with_a_message(program: Program) -> None:
    status, body = program.shared().chat()
    assert (status, body["object"], body["model"]) == (200, "chat.completion", "served")
    (choice,) = body["choices"]
    assert choice["message"].keys() >= {"role", "content"}
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "length"
    assert body["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_a_stream_begins_with_the_role_and_ends_with_the_reason_and_done(program: Program) -> None:
    *events, done = program.shared().stream()
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_another_models_name_is_not_found(program: Program) -> None:
    status, body = program.shared().chat(model="another")
    assert status == 404
    assert body == {"detail": "The model `another` does not exist. Available model: `served`"}


def test_another_path_is_not_found(program: Program) -> None:
    assert program.shared().answer("GET", "/no/such/path")[0] == 404


def test_a_request_without_messages_is_refused(program: Program) -> None:
    body = {"model": "served"}
    assert program.shared().answer("POST", "/v1/chat/completions", body)[0] == 422


def test_a_request_in_flight_is_counted_and_a_check_is_no_use(program: Program) -> None:
    server = program.shared()
    with program.in_flight():
        stream = server.stream(max_tokens=LONG)
        next(stream)
        assert server.health()["active_requests"] == 1
    assert list(stream)[-1] == "[DONE]"
    after = server.idle()
    assert server.health()["last_used_at"] == after["last_used_at"]


def test_a_second_request_waits_for_the_first(program: Program) -> None:
    server = program.shared()
    first = server.stream(max_tokens=LONG)
    next(first)
    assert server.chat()[0] == 200
    assert list(first)[-1] == "[DONE]"


def test_without_the_variable_a_second_request_is_refused(program: Program) -> None:
    server = program.start(environment={})
    with program.in_flight():
        first = server.stream(max_tokens=LONG)
        next(first)
        assert server.chat()[0] == 503
    assert list(first)[-1] == "[DONE]"


def test_sigterm_closes_the_listener_and_lets_a_stream_end(program: Program) -> None:
    server = program.start()
    with program.in_flight():
        stream = server.stream(max_tokens=LONG)
        next(stream)
        server.stop(signal.SIGTERM)
        server.draining.wait()
        with pytest.raises(ConnectionRefusedError):
            server.health()
    server.stop(signal.SIGTERM)  # changes nothing
    *events, done = stream
    assert done == "[DONE]"
    assert json.loads(events[-1])["usage"]["completion_tokens"] == LONG
    assert server.process.wait() == -signal.SIGTERM


def test_sigint_after_sigterm_cuts_a_stream_off(program: Program) -> None:
    server = program.start()
    with program.in_flight(), closing(server.stream(max_tokens=10 * LONG)) as stream:
        next(stream)
        server.stop(signal.SIGTERM)
        server.draining.wait()
        server.stop(signal.SIGINT)
        assert server.process.wait() == -signal.SIGTERM


def test_sigint_alone_drains_and_exits_with_0(program: Program) -> None:
    server = program.start()
    stream = server.stream(max_tokens=LONG)
    next(stream)
    server.stop(signal.SIGINT)
    assert list(stream)[-1] == "[DONE]"
    assert server.process.wait() == 0
