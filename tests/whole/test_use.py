"""Use of real runtimes as the pool sees it: what is in flight is not ended, and each use counts."""

import http.client
import json
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pool_service_client import (
    PoolClient,
    Server,
    ServerChanged,
    ServerInUse,
    ServerRemoved,
    StartTimeout,
)
from tests.whole.runs import headers
from tests.whole.test_vllm_mlx_use import SPEAKS, write_tiny_bert
from tools.demo.checkpoints import write_tiny_llama
from tools.demo.service import running

pytestmark = pytest.mark.whole

KEEP_ALIVE = 3
KEEP_ALIVE_OF_THE_ASKED = 12
"""Longer than a busy machine keeps this from asking again."""

DEFAULTS = f"""
[defaults]
keep_alive = {KEEP_ALIVE}
grace_period = 0
"""
PLAIN = """
[runtimes.mlx-lm]
command = ["BIN/mlx_lm.server", "--model", "{runtime_model}", "--port", "{port}"]
ready_path = "/v1/completions"
ready_body = '{"model": "{runtime_model}", "prompt": "a", "max_tokens": 1}'
[runtimes.mlx-vlm]
command = ["BIN/mlx_vlm.server", "--host=127.0.0.1", "--port={port}", "--model", "{runtime_model}"]
busy_path = "/metrics"
busy_values = ["/summary/in_flight"]
drains = true
""".replace("BIN", str(Path(sys.executable).parent))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_tiny_llama(root / "llama")
    write_tiny_bert(root / "bert")
    return root


@pytest.fixture
def pool(directory: Path, tmp_path: Path) -> Iterator[PoolClient]:
    models = f"""
    [models.llama]
    runtime_model = '{directory / "llama"}'
    [models.embeds]
    runtime_model = '{directory / "llama"}'
    arguments = ["--embedding-model", '{directory / "bert"}']
    [models.lm]
    runtime = "mlx-lm"
    runtime_model = '{directory / "llama"}'
    [models.nothing]
    runtime = "mlx-lm"
    runtime_model = "/models/nothing-there"
    start_timeout = "20s"
    [models.vlm]
    runtime = "mlx-vlm"
    runtime_model = '{directory / "llama"}'
    """
    config = tmp_path / "pool.toml"
    config.write_text(DEFAULTS + PLAIN + models)
    with (
        running(tmp_path / "state", arguments=["--config", str(config)]) as service,
        PoolClient.connect(service.address) as client,
    ):
        yield client


class Answers:
    """Requests to one server, each on a connection of its own that is closed after it."""

    def __init__(self, server: Server, path: str, body: Mapping[str, Any]) -> None:
        self.server, self.path = server, path
        self.body = {"model": server.served_model_name, **body}
        self._threads = ThreadPoolExecutor(1)

    def ask(self, begun: Event | None = None, **more: object) -> bytes:
        host = self.server.endpoint.removeprefix("http://")
        with closing(http.client.HTTPConnection(host, timeout=200)) as connection:
            sent = {**headers(self.server), "Connection": "close"}
            connection.request("POST", self.path, json.dumps({**self.body, **more}), sent)
            response = connection.getresponse()
            first = response.read1()
            if begun:
                begun.set()
            answer = first + response.read()
            assert response.status == 200, answer
            return answer

    def begin(self) -> Future[bytes]:
        """Return the answer, under way and of some seconds, of which the first bytes are there."""
        begun = Event()
        answer = self._threads.submit(self.ask, begun, stream=True)
        answer.add_done_callback(lambda _: begun.set())
        begun.wait()
        return answer


def is_in_use(pool: PoolClient, model: str) -> bool:
    """Whether an eviction without force leaves it; it is evicted if not."""
    try:
        pool.evict(model)
    except ServerInUse:
        return True
    return False


@pytest.mark.parametrize("path", SPEAKS)
def test_a_stream_on_any_path_is_ended_neither_by_an_eviction_nor_as_unused(
    pool: PoolClient, path: str
) -> None:
    server = pool.ensure("llama").server
    alone = Answers(server, path, SPEAKS[path])
    whole = alone.ask(stream=True)
    stream = alone.begin()
    assert is_in_use(pool, "llama")
    assert not pool.evict_idle()
    begun = time.monotonic()
    while not stream.done() and time.monotonic() < begun + 2 * KEEP_ALIVE:
        time.sleep(0.1)
        assert pool.list()[0].pid == server.pid
    assert len(stream.result()) > 0.9 * len(whole)


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        ("llama", "/v1/responses", {"input": "hello", "max_output_tokens": 3}),
        ("llama", "/v1/completions", {"prompt": "hello", "max_tokens": 3}),
        ("embeds", "/v1/embeddings", {"input": "hello"}),
    ],
)
def test_requests_one_after_the_other_keep_a_server_and_then_it_goes(
    pool: PoolClient, directory: Path, model: str, path: str, body: Mapping[str, Any]
) -> None:
    server = pool.ensure(model, keep_alive=KEEP_ALIVE_OF_THE_ASKED).server
    answers = Answers(server, path, body)
    if model == "embeds":
        answers.body["model"] = str(directory / "bert")
    with pool.watch() as changes:
        assert isinstance(next(changes), ServerChanged)
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5 * KEEP_ALIVE_OF_THE_ASKED:
            answers.ask()
            time.sleep(0.3)
        gone = next(change for change in changes if isinstance(change, ServerRemoved))
    assert gone.server.generation == server.generation


def test_mlx_lm_is_ready_when_it_has_its_model_and_its_stream_is_not_cut(pool: PoolClient) -> None:
    server = pool.ensure("lm", keep_alive=600).server
    answers = Answers(server, "/v1/chat/completions", SPEAKS["/v1/chat/completions"])
    stream = answers.begin()
    assert is_in_use(pool, "lm")
    (evicted,) = pool.evict("lm", force=True)
    assert not evicted.killed
    assert b"[DONE]" in stream.result()


def test_mlx_lm_without_its_model_is_not_ready(pool: PoolClient) -> None:
    with pytest.raises(StartTimeout):
        pool.ensure("nothing")


def test_mlx_vlm_reports_how_busy_it_is_and_drains(pool: PoolClient) -> None:
    server = pool.ensure("vlm", keep_alive=600).server
    answers = Answers(server, "/v1/chat/completions", SPEAKS["/v1/chat/completions"])
    stream = answers.begin()
    with pytest.raises(ServerInUse) as refused:
        pool.evict("vlm")
    assert refused.value.metadata["requests"] == "1"
    (evicted,) = pool.evict("vlm", force=True)
    assert not evicted.killed
    assert b"[DONE]" in stream.result()
