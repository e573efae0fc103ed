"""Keys of servers with the real vllm-mlx, however it is started."""

import asyncio
import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from pool_service.access.server_keys import is_key
from pool_service_client import PoolClient, Server
from tests.whole.patient import PATIENT
from tests.whole.runs import MODEL, Runs
from tools.demo.service import RunningService, running

pytestmark = pytest.mark.whole

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
LIMIT_S = 120.0


def status(endpoint: str, path: str, headers: dict[str, str], model: str = "") -> int:
    """Return how a server answers to a request; one with a model asks it something."""
    body = {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}]}
    return asked(endpoint, "POST" if model else "GET", path, headers, body)


def asked(
    endpoint: str, method: str, path: str, headers: dict[str, str], body: object = None
) -> int:
    host = endpoint.removeprefix("http://")
    with closing(http.client.HTTPConnection(host, timeout=LIMIT_S)) as connection:
        sent = {"Content-Type": "application/json", **headers}
        connection.request(method, path, json.dumps(body or {}), sent)
        return connection.getresponse().status


def routes_of(endpoint: str) -> list[tuple[str, str]]:
    """Return all methods and paths of a server, by its own description."""
    with urlopen(f"{endpoint}/openapi.json", timeout=LIMIT_S) as response:
        paths = json.load(response)["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "x", path))
        for path, methods in paths.items()
        for method in methods
    ]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def check_key(server: Server) -> None:
    """Check that a server answers by its key alone, and that others can see it nowhere."""
    key, model = server.api_key, server.served_model_name
    assert is_key(key)
    assert status(server.endpoint, OPENAI, bearer(key), model) == 200
    for headers in ({}, bearer("psk_guessed"), {"X-Api-Key": key}):
        assert status(server.endpoint, OPENAI, headers, model) == 401
    process = psutil.Process(server.pid)
    for one in (process, *process.children(recursive=True)):
        assert "psk_" not in json.dumps([one.cmdline(), one.environ()])


async def test_with_a_key_its_health_and_metrics_alone_are_open(runs: Runs, llama: Path) -> None:
    runs.options = replace(runs.options, server_keys=True)
    _, plan, endpoint = await runs.ready(llama)
    assert is_key(plan.api_key)

    async def answer(path: str, headers: dict[str, str], model: str = "") -> int:
        return await asyncio.to_thread(status, endpoint, path, headers, model)

    routes = await asyncio.to_thread(routes_of, endpoint)
    assert {OPENAI, ANTHROPIC, "/v1/responses", "/v1/embeddings"} <= {path for _, path in routes}
    for method, path in routes:
        expected = 200 if path in {"/health", "/metrics"} else 401
        assert await asyncio.to_thread(asked, endpoint, method, path, {}) == expected, path
    for path in ("/v1/models", "/v1/status", "/v1/cache/stats"):
        assert await answer(path, bearer(plan.api_key)) == 200, path
    # Anthropic's SDK sends its auth_token so, and its api_key as X-Api-Key.
    assert await answer(ANTHROPIC, bearer(plan.api_key), MODEL) == 200
    assert await answer(ANTHROPIC, {"X-Api-Key": plan.api_key}, MODEL) == 401
    # The key opens no way for a web page.
    foreign = {**bearer(plan.api_key), "Host": "evil.example"}
    assert await answer("/v1/models", foreign) == 403


@pytest.fixture(params=[0, 1], ids=["at once", "standby"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningService]:
    config = tmp_path / "config.toml"
    config.write_text(f"[service]\nstandby = {request.param}\nreplace = true\n")
    arguments = ["--config", str(config)]
    with running(tmp_path / "state", arguments=arguments, wrapper=PATIENT) as one:
        yield one


def test_a_server_answers_by_its_key_alone_and_the_next_service_knows_it(
    service: RunningService, llama: Path, tmp_path: Path
) -> None:
    with PoolClient.connect(service.address) as pool:
        if "standby = 1" in (tmp_path / "config.toml").read_text():
            while not next(pool.pages()).totals.standbys:
                pass
        server = pool.ensure("m", runtime_model=str(llama)).server
        check_key(server)
        log = Path(server.log_path).read_text()
        assert "Authentication: ENABLED" in log
        assert not re.search("psk_", log)
    service.process.kill()
    service.process.wait()
    with (
        running(tmp_path / "state", wrapper=PATIENT) as later,
        PoolClient.connect(later.address) as pool,
    ):
        again = pool.ensure("m").server
        assert (again.pid, again.api_key) == (server.pid, server.api_key)
        check_key(again)
