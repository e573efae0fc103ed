"""Clients of OpenAI's package that follow a hold, before servers that misbehave on demand."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import openai
import pytest
from grpc import StatusCode

from pool_service_client import AsyncPoolClient, Evicted, PoolClient
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Gate, Opens, Refusal, Script, Stay, ready

TIMEOUT_S = 60.0
MESSAGES: Any = [{"role": "user", "content": "?"}]
CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "t"}, "finish_reason": None}],
}


class Server(ThreadingHTTPServer):
    """A model server; `asked` has the headers of its requests."""

    daemon_threads = True

    def __init__(self, behaviour: str = "answers") -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.behaviour = behaviour
        self.asked: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        """Serve in a thread until the block ends."""
        with self:
            self.server_activate()
            thread = threading.Thread(target=self.serve_forever)
            thread.start()
            yield self
            self.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append({**self.headers, "path": self.path})
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.behaviour == "resets":
            self._reset()
            return
        if self.server.behaviour == "redirects":
            self.send_response(307)
            self.send_header("Location", f"{self.server.endpoint}/v1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send(f"data: {json.dumps(CHUNK)}\n\n".encode())
        if self.server.behaviour == "cuts":
            self._reset()
            return
        self._send(b"data: [DONE]\n\n")
        self._send(b"")

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().serving() as one:
        yield one


def nobody() -> str:
    """An endpoint at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


def state(endpoint: str, generation: int = 1, api_key: str = "") -> pb.HoldResponse:
    told = ready(endpoint=endpoint, generation=generation, pid=generation)
    return pb.HoldResponse(server=told, api_key=api_key)


class Asking(Protocol):
    """Holds `m`, and streams one answer; returns its text."""

    async def __call__(self, pool: str, **options: Any) -> str: ...  # noqa: ANN401


async def by_threads(pool: str, **options: Any) -> str:  # noqa: ANN401
    def ask() -> str:
        with (
            PoolClient.connect(pool) as client,
            client.hold("m") as hold,
            hold.openai(**{"timeout": TIMEOUT_S, **options}) as ai,
        ):
            answer = ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return "".join(one.choices[0].delta.content or "" for one in answer)

    return await asyncio.to_thread(ask)


async def by_tasks(pool: str, **options: Any) -> str:  # noqa: ANN401
    async with (
        AsyncPoolClient.connect(pool) as client,
        client.hold("m") as hold,
        hold.openai(**{"timeout": TIMEOUT_S, **options}) as ai,
    ):
        answer = await ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        return "".join([one.choices[0].delta.content or "" async for one in answer])


@pytest.fixture(params=[by_threads, by_tasks])
def ask(request: pytest.FixtureRequest) -> Asking:
    asking: Asking = request.param
    return asking


async def test_a_request_goes_to_the_server_of_the_hold_with_its_key_and_by_no_proxy(
    ask: Asking, service: Script, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", nobody())
    monkeypatch.setenv("OPENAI_API_KEY", "of another service")
    service.answer("Hold", state(server.endpoint, api_key="psk_1"), Stay())
    assert await ask(service.address) == "t"
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert asked["Authorization"] == "Bearer psk_1"
    assert f"http://{asked['Host']}" == server.endpoint


async def test_a_server_without_a_key_is_shown_none(
    ask: Asking, service: Script, server: Server
) -> None:
    service.answer("Hold", state(server.endpoint), Stay())
    await ask(service.address, api_key="mine")
    assert "Authorization" not in server.asked[0]


async def test_a_request_that_finds_no_server_waits_for_the_next_one(
    ask: Asking, service: Script, server: Server
) -> None:
    died = Gate()
    service.answer("Hold", state(nobody()), died, state(server.endpoint, 2), Stay())
    service.answer("Get", Opens(died), pb.GetResponse())
    assert await ask(service.address, max_retries=0) == "t"


async def test_a_server_that_lives_and_refuses_for_a_moment_is_tried_again(
    ask: Asking, service: Script
) -> None:
    """Its port is bound from the beginning, and listened on once the service was asked."""
    late = Server()
    asked = Gate()
    told = pb.GetResponse(server=state(late.endpoint).server, answers=True)
    service.answer("Hold", state(late.endpoint), Stay())
    service.answer("Get", Opens(asked), told)
    asking = asyncio.create_task(ask(service.address, max_retries=0))
    await asyncio.to_thread(asked.end, None)
    with late.serving():
        assert await asking == "t"


async def test_a_request_that_may_have_arrived_is_not_sent_again_by_the_transport(
    ask: Asking, service: Script
) -> None:
    with Server("resets").serving() as server:
        service.answer("Hold", state(server.endpoint), Stay())
        with pytest.raises(openai.APIConnectionError):
            await ask(service.address, max_retries=0)
        assert len(server.asked) == 1


async def test_openais_own_retry_goes_to_the_next_server(
    ask: Asking, service: Script, server: Server
) -> None:
    with Server("resets").serving() as first:
        died = Gate()
        service.answer("Hold", state(first.endpoint), died, state(server.endpoint, 2), Stay())
        service.answer("Get", Opens(died), pb.GetResponse())
        assert await ask(service.address, max_retries=1) == "t"
        assert (len(first.asked), len(server.asked)) == (1, 1)


async def test_an_answer_that_is_cut_is_an_error_and_is_not_asked_for_again(
    ask: Asking, service: Script
) -> None:
    with Server("cuts").serving() as server:
        service.answer("Hold", state(server.endpoint), Stay())
        with pytest.raises(openai.APIConnectionError):
            await ask(service.address)
        assert len(server.asked) == 1


async def test_a_wait_for_a_server_ends_with_the_time_of_the_request(
    ask: Asking, service: Script
) -> None:
    service.answer("Hold", Stay())
    with pytest.raises(openai.APITimeoutError):
        await ask(service.address, max_retries=0, timeout=0.2)


async def test_the_failure_that_ended_the_hold_is_raised(ask: Asking, service: Script) -> None:
    service.answer("Hold", Refusal(StatusCode.ABORTED, "evicted", "EVICTED"))
    with pytest.raises(Evicted):
        await ask(service.address, max_retries=0)


async def test_no_redirect_is_followed(ask: Asking, service: Script) -> None:
    with Server("redirects").serving() as server:
        service.answer("Hold", state(server.endpoint), Stay())
        with pytest.raises(openai.APIStatusError):
            await ask(service.address, max_retries=0)
        assert len(server.asked) == 1


def test_no_text_that_shows_a_client_has_the_key(service: Script, server: Server) -> None:
    service.answer("Hold", state(server.endpoint, api_key="psk_secret"), Stay())
    with PoolClient.connect(service.address) as pool, pool.hold("m") as hold:
        hold.ready(TIMEOUT_S)
        with hold.openai() as ai:
            assert "psk_secret" not in repr(vars(ai))
