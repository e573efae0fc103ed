"""What each version of vllm-mlx that the pool takes counts, against the table of the pool."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.probe.http_get import get, post_json
from pool_service.adapters.probe.metrics_text import total
from pool_service.adapters.runtime.descriptions.vllm_mlx_counts import (
    PATHS,
    REQUESTS,
    Counts,
    counts_of,
)
from pool_service.adapters.runtime.search import release_of
from pool_service.adapters.runtime.vllm_mlx import use_signals
from tests.whole.installations import overlay
from tests.whole.runs import MODEL, PROBE_TIMEOUT, Runs, ask
from tests.whole.test_vllm_mlx_use import SPEAKS, Up, send, write_tiny_bert

pytestmark = [pytest.mark.whole, pytest.mark.long]

VERSIONS = ("0.3.0", "0.4.1", "0.5.0", "0.6.0")
GAUGES = use_signals(None, with_metrics=True).gauges
LOOKS = 3
LIMIT_S = 120.0


def use_program(runs: Runs, program: Path) -> None:
    runs.options = replace(runs.options, command=(str(program), *runs.options.command[1:]))


@pytest.fixture(params=VERSIONS)
async def server(
    request: pytest.FixtureRequest, runs: Runs, llama: Path, tmp_path: Path
) -> tuple[Up, Counts]:
    """A server of one version as the pool starts it, and what it counts by the table."""
    program = await asyncio.to_thread(overlay, f"vllm-mlx=={request.param}")
    use_program(runs, program / "vllm-mlx")
    bert = write_tiny_bert(tmp_path / "bert")
    server = Up(*await runs.ready(llama, "--embedding-model", str(bert)))
    assert server.plan.use == use_signals(release_of(request.param), with_metrics=True)
    return server, counts_of(release_of(request.param))


async def counted(server: Up) -> tuple[float | None, float | None]:
    """Return the requests that the health path and the metrics count."""
    health, metrics = await asyncio.gather(
        *(get("127.0.0.1", server.port, path, PROBE_TIMEOUT) for path in ("/health", "/metrics"))
    )
    assert health is not None
    assert metrics is not None
    active: float | None = json.loads(health.body)["active_requests"]
    return active, total(metrics.body, GAUGES)


async def look_at(
    server: Up, path: str, *, streams: bool
) -> set[tuple[float | None, float | None]]:
    """Return what is counted of a request while it is in flight, and go away from it."""
    body = {"model": MODEL, "stream": streams, **SPEAKS[path]}
    loop = asyncio.get_running_loop()
    with send(server.port, path, body) as peer:
        peer.setblocking(False)  # its name
        answer = asyncio.ensure_future(loop.sock_recv(peer, 65536))
        if streams:
            assert (await asyncio.wait_for(answer, LIMIT_S)).startswith(b"HTTP/1.1 200")
        else:
            # It has read the request as soon as a signal tells of it.
            while not any(await counted(server)):
                assert not answer.done(), "it was answered, and never counted"
        looks = set()
        for _ in range(LOOKS):
            use, counts = await server.use(), await counted(server)
            assert use.requests != 0
            looks.add(counts)
        if not streams:
            assert not answer.done()
            answer.cancel()
            with suppress(asyncio.CancelledError):
                await answer
    return looks


async def test_a_version_counts_what_the_table_says_and_work_is_seen_in_any(
    server: tuple[Up, Counts],
) -> None:
    up, counts = server
    marks: list[Any] = [(await up.idle()).mark]
    for path in PATHS:
        for streams in (True, False):
            looks = await look_at(up, path, streams=streams)
            one = (path, streams)
            assert looks == {(float(one in counts.health), float(one in counts.metrics))}, one
            marks.append((await asyncio.wait_for(up.idle(), LIMIT_S)).mark)
    # Each of them was a use.
    assert len(set(marks)) == 1 + len(REQUESTS)


async def test_an_embedding_is_not_taken_for_nothing_in_any_version(
    server: tuple[Up, Counts],
) -> None:
    up, _ = server
    before = await up.idle()
    asked = {"model": up.plan.embedding_model_name, "input": ["some words to embed"] * 1000}
    answer = asyncio.create_task(asyncio.to_thread(ask, up.endpoint, "/v1/embeddings", asked))
    while not answer.done():
        # It holds up its loop: either a look is in time to see it, or it ends before the look.
        use = await up.use()
        if use.requests == 0 and use.mark == before.mark:
            assert not answer.done(), "it was in flight, or had been, and nothing told of it"
    assert (await answer)[0] == 200
    assert (await up.idle()).mark != before.mark


@pytest.mark.parametrize(("mlx_lm", "status"), [("0.31.0", 500), ("0.31.1", 200)])
async def test_before_0_31_1_of_mlx_lm_a_server_that_does_not_batch_is_ready_and_answers_500(
    runs: Runs, llama: Path, mlx_lm: str, status: int
) -> None:
    pins = ("vllm-mlx==0.6.0", f"mlx-lm=={mlx_lm}")
    program = await asyncio.to_thread(overlay, *pins)
    use_program(runs, program / "vllm-mlx")
    # An option beside which the pool does not add batching.
    server = Up(*await runs.ready(llama, "--disable-prefix-cache"))
    assert "--continuous-batching" not in server.plan.argv
    body = {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}]}
    said = json.dumps(body).encode()
    answer = await post_json("127.0.0.1", server.port, PATHS[0], said, LIMIT_S)
    assert answer is not None
    assert answer.status == status, answer
