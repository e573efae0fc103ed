"""The whole: the service as a subprocess, the real vllm-mlx, real and tiny models."""

import base64
import json
import struct
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pool_service_client import (
    ModelNotOnDisk,
    ModelRejected,
    PoolClient,
    RuntimeUnavailable,
    Server,
    ServerRemoved,
    ServerState,
    Synced,
)
from tests.whole.runs import headers
from tools.demo.chat import ask
from tools.demo.checkpoints import write_tiny_llama, write_tiny_vlm
from tools.demo.service import RunningService, running
from tools.demo.smollm2 import prepare_smollm2

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_llama(directory)
    return str(directory)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running(tmp_path / "state") as one:
        yield one


@pytest.fixture
def pool(service: RunningService) -> Iterator[PoolClient]:
    with PoolClient.connect(service.address) as client:
        yield client


def chat(server: Server, **fields: Any) -> Any:  # noqa: ANN401  # an open response
    body = {"model": server.served_model_name, "max_tokens": 8, **fields}
    body.setdefault("messages", [{"role": "user", "content": "hello"}])
    return urllib.request.urlopen(
        urllib.request.Request(
            f"{server.endpoint}/v1/chat/completions",
            json.dumps(body).encode(),
            headers(server),
        )
    )


@pytest.mark.promise(1)
def test_a_real_model_answers_at_the_endpoint_that_ensure_returns(pool: PoolClient) -> None:
    directory = prepare_smollm2(Path(".cache/models"), print)
    ensured = pool.ensure("smollm2", runtime_model=str(directory.absolute()))
    assert ensured.started
    server = ensured.server
    assert server.state is ServerState.READY
    answer = ask(server, "What is the capital of France?")
    assert "Paris" in answer
    assert not pool.ensure("smollm2").started
    (evicted,) = pool.evict("smollm2")
    assert not evicted.killed
    assert not psutil.pid_exists(server.pid)


def test_a_multimodal_model_is_ensured_like_any_other(pool: PoolClient, tmp_path: Path) -> None:
    write_tiny_vlm(tmp_path / "vlm")
    server = pool.ensure("vlm", runtime_model=str(tmp_path / "vlm")).server
    image = f"data:image/png;base64,{base64.b64encode(png(56, 56)).decode()}"
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": image}},
    ]
    with chat(server, messages=[{"role": "user", "content": content}]) as response:
        answer = json.load(response)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] > 0


def png(width: int, height: int) -> bytes:
    """A grey image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\0" + b"\x80" * 3 * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.promise(6)
def test_five_models_start_side_by_side_and_a_ready_one_stays_quick(
    pool: PoolClient, tiny: str
) -> None:
    models = [f"tiny/{number}" for number in range(5)]
    with ThreadPoolExecutor(5) as callers:
        servers = list(
            callers.map(lambda model: pool.ensure(model, runtime_model=tiny).server, models)
        )
    assert len({server.pid for server in servers}) == 5
    started = [server.start_time for server in servers if server.start_time]
    ready = [server.ready_time for server in servers if server.ready_time]
    assert max(started) < min(ready)
    for server in servers:
        with chat(server) as response:
            assert json.load(response)["model"] == server.model


def test_a_refused_model_is_distinguished_with_its_reason(
    pool: PoolClient, tiny: str, tmp_path: Path
) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    for file in Path(tiny).iterdir():
        (strange / file.name).write_bytes(file.read_bytes())
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "model_type": "perceptron"}))
    with pytest.raises(ModelRejected, match="perceptron") as raised:
        pool.ensure("strange", runtime_model=str(strange))
    assert raised.value.last_lines
    assert "Traceback" not in raised.value.message


def test_a_model_that_is_not_on_disk_is_not_downloaded_unasked(pool: PoolClient) -> None:
    with pytest.raises(ModelNotOnDisk, match="no-such-org/no-such-model"):
        pool.ensure("vllm-mlx/no-such-org/no-such-model", timeout=100)


def test_a_runtime_that_is_too_old_is_refused(tmp_path: Path, tiny: str) -> None:
    old = tmp_path / "vllm-mlx"
    old.write_text("#!/bin/sh\necho vllm-mlx 0.2.9\n")
    old.chmod(0o755)
    config = tmp_path / "old.toml"
    command = [str(old), "serve", "{runtime_model}", "--port", "{port}"]
    config.write_text(f"[runtime]\ncommand = {command}\n")
    with (
        running(tmp_path / "state", arguments=["--config", str(config)]) as service,
        PoolClient.connect(service.address) as pool,
        pytest.raises(RuntimeUnavailable, match=r"0\.2\.9"),
    ):
        pool.ensure("any", runtime_model=tiny)


@pytest.mark.promise(3)
def test_a_stream_in_flight_is_neither_cut_by_idleness_nor_by_eviction(
    tmp_path: Path,
) -> None:
    directory = prepare_smollm2(Path(".cache/models"), print).absolute()
    config = tmp_path / "short.toml"
    config.write_text("[defaults]\nkeep_alive = 0\ngrace_period = 0.5\n")
    with (
        running(tmp_path / "state", arguments=["--config", str(config)]) as service,
        PoolClient.connect(service.address) as pool,
        pool.watch() as events,
    ):
        assert isinstance(next(events), Synced)
        prompt = [{"role": "user", "content": "Count from one to one hundred in words."}]
        # Held until it is in use: it may go half a second after it is ready.
        with pool.hold("smollm2", runtime_model=str(directory), keep_alive=0) as hold:
            response = chat(hold.ready(), messages=prompt, max_tokens=48, stream=True)
            response.readline()
        with response:
            evicting = threading.Thread(target=pool.evict, args=["smollm2"], kwargs={"force": True})
            evicting.start()
            lines = response.read().split(b"\n\n")
        evicting.join()
        removed = next(event for event in events if isinstance(event, ServerRemoved))
    assert lines[-2].strip() == b"data: [DONE]"
    assert removed.server.last_exit is not None
    assert removed.server.last_exit.signal == 15
