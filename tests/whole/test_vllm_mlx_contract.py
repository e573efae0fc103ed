"""What the pool relies on in the real vllm-mlx; a version that breaks it is noticed here."""

import asyncio
import http.client
import json
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.core.blame import blamed_argument
from pool_service.core.server import StopSignal
from pool_service.core.types import Diagnosis, Settings
from tests.whole.runs import MODEL, PROBE_TIMEOUT, Runs, ask
from tests.whole.test_vllm_mlx_use import Up
from tools.demo.checkpoints import write_tiny_vlm

pytestmark = pytest.mark.whole

REJECTED = Diagnosis.MODEL_REJECTED


def chat(endpoint: str, model: str, tokens: int = 5) -> tuple[int, Any]:
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0}
    return ask(endpoint, "/v1/chat/completions", body)


async def test_it_chooses_a_port_and_answers_to_the_served_name(runs: Runs, llama: Path) -> None:
    _, plan, endpoint = await runs.ready(llama)
    assert plan.port is None
    assert (await asyncio.to_thread(chat, endpoint, plan.served_model_name))[0] == 200
    assert (await asyncio.to_thread(chat, endpoint, "another"))[0] == 404


async def test_its_health_reports_requests_in_flight_and_the_last_use(
    runs: Runs, llama: Path
) -> None:
    identity, plan, endpoint = await runs.ready(llama)
    status, health = await asyncio.to_thread(ask, endpoint, "/health")
    assert (status, health["status"], health["model_loaded"]) == (200, "healthy", True)
    assert health["active_requests"] == 0
    assert "last_used_at" in health

    answer = asyncio.create_task(asyncio.to_thread(chat, endpoint, MODEL, 3000))
    probe = HttpProbe()
    while not (await probe.check_activity(identity, plan, endpoint, PROBE_TIMEOUT)).requests:
        assert not answer.done()
    assert (await answer)[0] == 200
    used = await Up(identity, plan, endpoint).idle()
    seen = time.monotonic()
    assert used.idle_for is not None
    # Looking is no use: what it tells goes on from the request's end.
    while time.monotonic() < seen + 0.5:
        await probe.check_activity(identity, plan, endpoint, PROBE_TIMEOUT)
    later = await probe.check_activity(identity, plan, endpoint, PROBE_TIMEOUT)
    assert later.requests == 0
    assert later.idle_for is not None
    assert later.idle_for >= used.idle_for + 0.3


async def test_it_queues_a_second_request_instead_of_refusing_it(runs: Runs, llama: Path) -> None:
    _, plan, endpoint = await runs.ready(llama)
    name = plan.served_model_name
    chats = [asyncio.to_thread(chat, endpoint, name, 300) for _ in range(4)]
    assert [status for status, _ in await asyncio.gather(*chats)] == [200] * 4


async def test_a_multimodal_model_is_served_like_any_other(runs: Runs, tmp_path: Path) -> None:
    write_tiny_vlm(tmp_path / "vlm")
    identity, plan, endpoint = await runs.ready(tmp_path / "vlm")
    _, health = await asyncio.to_thread(ask, endpoint, "/health")
    assert health["model_type"] == "mllm"
    assert (await HttpProbe().check_activity(identity, plan, endpoint, PROBE_TIMEOUT)).requests == 0


async def test_sigterm_ends_it_also_while_it_loads(runs: Runs, llama: Path) -> None:
    identity, _ = await runs.start(str(llama))
    await runs.processes.signal(identity, StopSignal.TERMINATE)
    report = await runs.processes.exited(identity)
    assert report.signal == 15


def refused_architecture(model: Path) -> None:
    edit_config(model, model_type="foo")


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def corrupt_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(
        b"no safetensors, and longer than the length that they begin with"
    )


def empty_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"")


def truncated_weights(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20000])


def other_shapes(model: Path) -> None:
    edit_config(model, hidden_size=128)


def more_layers(model: Path) -> None:
    edit_config(model, num_hidden_layers=40)


def no_tokenizer(model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()


def broken_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def edit_config(model: Path, **changes: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (refused_architecture, "architecture 'foo' is not supported"),
        (no_weights, "it has no weights"),
        (corrupt_weights, "damaged"),
        (empty_weights, "damaged"),
        (truncated_weights, "damaged"),
        (other_shapes, "do not fit"),
        (more_layers, "do not fit"),
        (no_tokenizer, "tokenizer"),
        (broken_config, "config.json is missing or cannot be read"),
    ],
)
async def test_a_model_that_it_refuses_is_reported_in_words(
    runs: Runs,
    llama: Path,
    spoil: Callable[[Path], None],
    words: str,
) -> None:
    spoil(llama)
    report = await runs.failure(str(llama))
    assert report.diagnosis is REJECTED, report
    assert words in report.message


async def test_an_unknown_id_is_refused_in_words(runs: Runs) -> None:
    report = await runs.failure("no-such-owner/no-such-model")
    assert (report.diagnosis, report.code) == (REJECTED, 1)
    assert "not on this machine" in report.message


async def test_an_option_that_it_does_not_know_is_the_commands_fault(
    runs: Runs, llama: Path
) -> None:
    report = await runs.failure(str(llama), "--nonsense")
    assert (report.diagnosis, report.code) == (Diagnosis.RUNTIME_UNUSABLE, 2)
    assert "--nonsense" in report.message


@pytest.mark.parametrize(
    ("arguments", "blamed"),
    [
        (("--mcp-config", "/nonexistent.json"), "--mcp-config"),
        (("--mcp-config", __file__), "--mcp-config"),
        # Its own frame is not among the last lines.
        (("--rerank-model", "/nonexistent/dir"), "--rerank-model /nonexistent/dir"),
        (("--embedding-model", "/nonexistent/dir"), "--embedding-model"),
        (("--embedding-model", "LLAMA"), "--embedding-model"),
        (("--enable-auto-tool-choice",), "--enable-auto-tool-choice"),
        (("--reasoning-parser", "nope"), "--reasoning-parser"),
        (("--mllm-draft-model", "/models/d", "--mllm-draft-kind", "mtp"), "--mllm-draft-model"),
    ],
)
async def test_an_argument_that_it_refuses_is_known_in_its_words(
    runs: Runs, llama: Path, arguments: tuple[str, ...], blamed: str
) -> None:
    # No model for embeddings.
    arguments = tuple(str(llama) if part == "LLAMA" else part for part in arguments)
    report = await runs.failure(str(llama), *arguments)
    assert report.diagnosis in (REJECTED, Diagnosis.RUNTIME_UNUSABLE), report
    settings = Settings(str(llama), arguments=arguments)
    assert blamed_argument(report.message, settings) == blamed, report


async def test_a_port_that_is_taken_is_distinguished(runs: Runs, llama: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        # The last of two counts.
        report = await runs.failure(str(llama), "--port", port)
    # By its words: it exits with 3, or now and then aborts on its way out (signal 6).
    assert report.diagnosis is Diagnosis.PORT_TAKEN
    assert (report.code, report.signal) in {(3, None), (None, signal.SIGABRT)}


async def test_a_hard_limit_of_too_few_files_is_reported(runs: Runs, llama: Path) -> None:
    prlimit = shutil.which("prlimit")
    if not prlimit:
        pytest.skip("needs prlimit")
    plan = await CommandRuntime(runs.options).prepare(MODEL, Settings(str(llama)))
    few = replace(plan, argv=(prlimit, "--nofile=1024:1024", *plan.argv))
    spawned = await runs.processes.spawn(MODEL, 1, few)
    runs.identities.append(spawned.identity)
    report = await runs.processes.exited(spawned.identity)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 1024
    assert report.diagnosis is Diagnosis.RUNTIME_UNUSABLE, report
    assert "4096" in report.message


async def test_it_runs_no_code_that_came_after_the_check(runs: Runs, llama: Path) -> None:
    content = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(content | {"model_file": "own.py"}))
    (llama / "own.py").write_text(f"open({str(llama / 'ran')!r}, 'w')\n")
    report = await runs.failure(str(llama))
    assert report.diagnosis is REJECTED
    assert "it needs code of its own, which is not trusted" in report.message
    assert not (llama / "ran").exists()


async def test_it_answers_only_to_names_of_this_machine(runs: Runs, llama: Path) -> None:
    _, _, endpoint = await runs.ready(llama)
    host, port = endpoint.removeprefix("http://").split(":")

    def status(headers: dict[str, str]) -> int:
        with closing(http.client.HTTPConnection(host, int(port), timeout=60)) as connection:
            connection.request("GET", "/v1/models", headers=headers)
            return connection.getresponse().status

    for headers, expected in (
        ({}, 200),
        ({"Host": f"localhost:{port}"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        assert await asyncio.to_thread(status, headers) == expected, headers
