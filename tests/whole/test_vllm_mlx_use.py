"""How the real vllm-mlx tells that it is in use, on every path that does work."""

import asyncio
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.probe.probe import HttpProbe
from pool_service.core.activity import Activity
from pool_service.core.types import Identity, LaunchPlan
from tests.whole.runs import MODEL, PROBE_TIMEOUT, Runs, ask
from tools.demo.checkpoints import END, LAYERS, write_byte_tokenizer
from tools.demo.huggingface import write_json

pytestmark = pytest.mark.whole

SLOW = 3000
"""Tokens: some seconds."""

HELLO = [{"role": "user", "content": "hello"}]
Json = dict[str, Any]

SPEAKS: dict[str, Json] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": SLOW, "temperature": 0},
    "/v1/completions": {"prompt": "hello", "max_tokens": SLOW, "temperature": 0},
    "/v1/responses": {"input": "hello", "max_output_tokens": SLOW, "temperature": 0},
    "/v1/messages": {"messages": HELLO, "max_tokens": SLOW, "temperature": 0},
}


@dataclass(frozen=True)
class Up:
    identity: Identity
    plan: LaunchPlan
    endpoint: str

    async def use(self) -> Activity:
        return await HttpProbe().check_activity(
            self.identity, self.plan, self.endpoint, PROBE_TIMEOUT
        )

    async def idle(self) -> Activity:
        """What it says once it says that it works on nothing."""
        while (use := await self.use()).requests != 0:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.05)
        return use

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])


async def up(runs: Runs, model: Path, *more: str) -> Up:
    return Up(*await runs.ready(model, *more))


def send(port: int, path: str, body: Json) -> socket.socket:
    """A request of which nothing was read yet."""
    peer = socket.create_connection(("127.0.0.1", port))
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    peer.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
    return peer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", SPEAKS)
async def test_a_request_on_any_path_is_seen_while_it_is_in_flight_and_after(
    runs: Runs, llama: Path, path: str, *, stream: bool
) -> None:
    server = await up(runs, llama)
    before = await server.idle()
    body = {"model": MODEL, "stream": stream, **SPEAKS[path]}
    loop = asyncio.get_running_loop()
    with send(server.port, path, body) as peer:
        peer.setblocking(False)  # its name
        first = await asyncio.wait_for(loop.sock_recv(peer, 65536), 60) if stream else b""
        looks = [await server.use() for _ in range(5)]
        answer = first
        while b"0\r\n\r\n" not in answer[-10:] if stream else b"\r\n\r\n{" not in answer:
            answer += (read := await asyncio.wait_for(loop.sock_recv(peer, 65536), 60))
            assert read
    assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
    # Counted, and not merely connected.
    assert [look.requests for look in looks] == [1] * 5
    after = await server.idle()
    assert after.mark != before.mark
    assert after.served


async def test_every_request_changes_the_mark_and_no_check_does(runs: Runs, llama: Path) -> None:
    server = await up(runs, llama)
    marks = [(await server.idle()).mark]
    for _ in range(3):
        for path, body in SPEAKS.items():
            short = {key: 3 if key.startswith("max_") else value for key, value in body.items()}
            status, _ = await asyncio.to_thread(
                ask, server.endpoint, path, {"model": MODEL, **short}
            )
            assert status == 200
            looks = {(await server.idle()).mark for _ in range(3)}
            assert len(looks) == 1, path
            marks += looks
    assert len(set(marks)) == len(marks)


@pytest.mark.parametrize("path", SPEAKS)
async def test_who_goes_away_in_the_middle_is_not_counted_for_ever(
    runs: Runs, llama: Path, path: str
) -> None:
    server = await up(runs, llama)
    loop = asyncio.get_running_loop()
    body = {"model": MODEL, "stream": True, **SPEAKS[path]}
    with send(server.port, path, body) as peer:
        peer.setblocking(False)  # its name
        assert await asyncio.wait_for(loop.sock_recv(peer, 100), 60)
    assert (await asyncio.wait_for(server.idle(), 60)).requests == 0


async def test_an_embedding_is_seen_though_health_does_not_count_it(
    runs: Runs, llama: Path, tmp_path: Path
) -> None:
    bert = write_tiny_bert(tmp_path / "bert")
    server = await up(runs, llama, "--embedding-model", str(bert))
    before = await server.idle()
    asked = {"model": str(bert), "input": ["some words to embed"] * 3000}
    answer = asyncio.create_task(asyncio.to_thread(ask, server.endpoint, "/v1/embeddings", asked))
    while not answer.done():
        # It holds up its loop: either a look is in time to see it, or it ends before the look.
        use = await server.use()
        if use.requests == 0 and use.mark == before.mark:
            assert not answer.done(), "it was in flight, or had been, and nothing told of it"
    assert (await answer)[0] == 200
    assert (await server.idle()).mark != before.mark


async def test_a_request_of_which_only_the_head_was_sent_is_seen(runs: Runs, llama: Path) -> None:
    server = await up(runs, llama)
    await server.idle()
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 1000\r\n\r\n{"
        )
        while (await server.use()).requests == 0:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
        assert [(await server.use()).requests for _ in range(3)] == [1] * 3


async def test_a_connection_on_which_nothing_is_asked_is_no_use(runs: Runs, llama: Path) -> None:
    server = await up(runs, llama)
    with socket.create_connection(("127.0.0.1", server.port)):
        while (await server.use()).requests != 0:  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
        assert [(await server.use()).requests for _ in range(5)] == [0] * 5


async def test_without_a_count_of_health_the_metrics_tell(runs: Runs, llama: Path) -> None:
    server = await up(runs, llama, "--gpu-memory-utilization", "0.8")
    _, health = await asyncio.to_thread(ask, server.endpoint, "/health")
    assert "active_requests" not in health
    assert (await server.idle()).requests == 0
    body = {"model": MODEL, "stream": True, **SPEAKS["/v1/chat/completions"]}
    with send(server.port, "/v1/chat/completions", body) as peer:
        peer.settimeout(60)
        await asyncio.to_thread(peer.recv, 100)
        assert (await server.use()).requests == 1


def write_tiny_bert(directory: Path) -> Path:
    """Write a two-layer BERT with random weights."""
    import mlx.core as mx  # noqa: PLC0415
    from mlx.utils import tree_flatten  # noqa: PLC0415
    from mlx_embeddings.models.bert import (  # type: ignore[import-untyped]  # noqa: PLC0415
        Model,
        ModelArgs,
    )

    directory.mkdir()
    tokens = write_byte_tokenizer(directory, (END,))
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    }
    write_json(directory / "config.json", config)
    fields = {key: value for key, value in config.items() if key != "architectures"}
    weights = dict(tree_flatten(Model(ModelArgs(**fields)).parameters()))
    mx.save_safetensors(str(directory / "model.safetensors"), weights, metadata={"format": "mlx"})
    return directory
