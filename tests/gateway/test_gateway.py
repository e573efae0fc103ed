"""Claims about the gateway, with a real service, its fake servers, and OpenAI's library."""

import http.client
import json
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from urllib.parse import urlsplit

import openai
import pytest

from pool_service.access import tokens
from pool_service_client import PoolClient, ServerState
from tests.gateway.conftest import MODELS, Begin, Setting, gateway
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import running

pytestmark = pytest.mark.process

Messages = list[openai.types.chat.ChatCompletionMessageParam]
SLOW = [f"org/slow-{number}" for number in range(8)]
"""Models with a stream each, as a fake server answers one request at a time."""

TOKENS = 100
NOBODY = 65534
LARGE_BYTES = 4 * 2**20
HEAD_OF_LARGE = b'{"model": "org/chat", "messages": [{"role": "user", "content": "hello"}]}'
HELLO: Messages = [{"role": "user", "content": "hello"}]


def sdk(setting: Setting, **options: object) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{setting.url}/v1",
        api_key="not needed",
        max_retries=0,
        **options,  # type: ignore[arg-type]
    )


def asks(setting: Setting, model: str) -> str:
    with sdk(setting) as client:
        answer = client.chat.completions.create(model=model, messages=HELLO)
        return str(answer.choices[0].message.content)


def streamed(setting: Setting, model: str, tokens: int = 5) -> Iterator[str]:
    with sdk(setting) as client:
        chunks = client.chat.completions.create(
            model=model, messages=HELLO, stream=True, max_tokens=tokens
        )
        for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def states(setting: Setting) -> dict[str, ServerState]:
    return {server.model: server.state for server in setting.pool.list()}


def fetched(setting: Setting, path: str, **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(setting.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_request_starts_its_model_and_an_alias_means_the_same(begin: Begin) -> None:
    setting = begin()
    assert asks(setting, "org/chat")
    assert asks(setting, "chat")
    assert "".join(streamed(setting, "chat"))
    assert states(setting) == {"org/chat": ServerState.READY}


def test_a_request_for_embeddings_goes_to_the_embedding_model_of_the_model(
    begin: Begin, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "config.json").write_text("{}")
    setting = begin(f"""{MODELS}
[models."org/embeds"]
arguments = ["--embedding-model", {str(second)!r}]
""")
    with sdk(setting) as client:
        answer = client.embeddings.create(
            model="org/embeds", input="hello", encoding_format="float"
        )
        assert answer.data[0].embedding == [0.0, 1.0]
        assert answer.model == str(second)
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="org/chat", input="hello")
    assert asks(setting, "org/embeds"), "chats go to the model itself"
    found = setting.pool.get("org/embeds").server
    assert found is not None
    assert found.embedding_model_name == str(second)


def test_lists_have_all_models_and_start_none(begin: Begin) -> None:
    setting = begin()
    with sdk(setting) as client:
        _check_lists(setting, client)


def _check_lists(setting: Setting, client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"org/chat", "org/other"}
    assert client.models.retrieve("org/chat").model_dump()["meta"]["state"] == "stopped"
    assert client.models.retrieve("chat").id == "chat"
    _, tags = fetched(setting, "/api/tags")
    assert {model["name"] for model in tags["models"]} == {"org/chat", "org/other"}  # type: ignore[attr-defined]
    assert fetched(setting, "/api/ps") == (200, {"models": []})
    assert fetched(setting, "/health") == (200, {"status": "ok"})
    assert states(setting) == {}
    asks(setting, "org/chat")
    assert client.models.retrieve("org/chat").model_dump()["meta"]["state"] == "ready"
    _, running = fetched(setting, "/api/ps")
    assert [model["name"] for model in running["models"]] == ["org/chat"]  # type: ignore[attr-defined]


def test_errors_are_those_of_the_api_and_say_whether_another_try_helps(begin: Begin) -> None:
    setting = begin(MODELS_THAT_FAIL + "[service]\nonly_listed = true\n")
    with pytest.raises(openai.NotFoundError) as unknown:
        asks(setting, "org/nobody")
    assert unknown.value.code == "model_unknown"
    assert unknown.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.InternalServerError) as failed:
        asks(setting, "org/dies")
    assert failed.value.code in {"start_failed", "crash_loop"}
    assert "no room for it" in failed.value.message, "the last lines of its log"
    assert int(failed.value.response.headers["retry-after"]) >= 1
    with pytest.raises(openai.BadRequestError):
        asks(setting, "")


MODELS_THAT_FAIL = """
[models."org/dies"]
runtime_model = "fake/dies?die=1&say=no+room+for+it"
"""


def test_a_failed_start_is_one_start_for_all_who_wait(begin: Begin) -> None:
    setting = begin(MODELS_THAT_FAIL)
    with pytest.raises(openai.InternalServerError):
        asks(setting, "org/dies")
    description = setting.pool.describe("org/dies")
    assert len(description.runs) == 1


def test_a_model_is_held_while_it_answers_and_not_for_ever(begin: Begin) -> None:
    setting = begin('[models."org/slow"]\nruntime_model = "fake/slow?delay=0.05"\n')
    answer = streamed(setting, "org/slow", tokens=40)
    next(answer)
    (server,) = setting.pool.list()
    assert server.holds == 1
    list(answer)
    with setting.pool.watch() as events:
        for event in events:
            held = getattr(event, "server", None)
            if held is not None and held.holds == 0:
                break


def test_a_server_that_dies_in_the_middle_is_told_and_the_next_request_is_answered(
    begin: Begin,
) -> None:
    setting = begin('[models."org/slow"]\nruntime_model = "fake/slow?delay=0.05"\n')
    answer = streamed(setting, "org/slow", tokens=1000)
    next(answer)
    (server,) = setting.pool.list()
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="went away"):
        list(answer)
    assert asks(setting, "org/slow")


def test_a_caller_that_goes_away_ends_its_request(begin: Begin) -> None:
    setting = begin('[models."org/slow"]\nruntime_model = "fake/slow?delay=0.05"\n')
    answer = streamed(setting, "org/slow", tokens=100_000)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    with setting.pool.watch() as events:
        for event in events:
            held = getattr(event, "server", None)
            if held is not None and held.holds == 0:
                break
    assert setting.pool.evict("org/slow"), "nothing is in flight"


def test_a_web_page_and_a_name_that_leads_here_by_a_trick_are_refused(begin: Begin) -> None:
    setting = begin(MODELS, "--origin", "http://mine.example")
    assert fetched(setting, "/v1/models", Origin="http://evil.example")[0] == 403
    assert fetched(setting, "/v1/models", Host="evil.example")[0] == 403
    assert fetched(setting, "/v1/models", Origin="http://mine.example")[0] == 200


@pytest.mark.skipif(os.getuid() != 0, reason="connects as another user")
def test_another_user_of_the_machine_needs_a_token(begin: Begin) -> None:
    host, port = setting_end(begin())
    os.seteuid(NOBODY)
    try:
        connection = socket.create_connection((host, port))
    finally:
        os.seteuid(0)
    with connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def setting_end(setting: Setting) -> tuple[str, int]:
    url = urlsplit(setting.url)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def test_tokens_are_the_callers_own(begin: Begin) -> None:
    setting = begin()
    status, error = fetched(setting, "/v1/models", Authorization=f"Bearer pst_{'x' * 43}")
    assert (status, error["error"]["code"]) == (401, "token_unknown")  # type: ignore[index]


def large_request(setting: Setting, token: str, sent_bytes: int) -> http.client.HTTPConnection:
    """Send so much of a request of LARGE_BYTES."""
    connection = http.client.HTTPConnection(*setting_end(setting), timeout=60)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(LARGE_BYTES))
    connection.endheaders()
    connection.send(HEAD_OF_LARGE.ljust(sent_bytes))
    return connection


def test_a_large_request_is_read_only_of_a_caller_whom_the_service_knows(begin: Begin) -> None:
    token = tokens.new_token()
    digest = tokens.digest(token)
    assert digest is not None
    setting = begin(f"[clients.mine]\ntoken_sha256 = '{digest.hex()}'\nscope = 'use'\n{MODELS}")
    stranger = large_request(setting, tokens.new_token(), LARGE_BYTES // 2)
    answer = stranger.getresponse()
    assert (answer.status, json.load(answer)["error"]["code"]) == (401, "token_unknown")
    stranger.close()
    mine = large_request(setting, token, LARGE_BYTES)
    assert mine.getresponse().status == 200
    mine.close()


def test_the_access_log_has_no_prompts(begin: Begin) -> None:
    setting = begin()
    with sdk(setting) as client:
        client.chat.completions.create(
            model="org/chat", messages=[{"role": "user", "content": "a secret prompt"}]
        )
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="", messages=HELLO)
    log = setting.gateway.log.read_text()
    assert "model=org/chat" in log
    assert "status=200" in log
    assert "status=400" in log
    assert "secret" not in log


def test_it_counts_what_it_does(begin: Begin) -> None:
    setting = begin()
    asks(setting, "org/chat")
    with urllib.request.urlopen(f"{setting.url}/metrics") as response:
        text = response.read().decode()
    path = "/v1/chat/completions"
    wanted = f'pool_gateway_requests_total{{code="200",model="org/chat",path="{path}"}} 1.0'
    assert wanted in text
    assert 'pool_gateway_in_flight_requests{model=""} 0.0' in text
    assert 'pool_gateway_in_flight_requests{model="org/chat"} 0.0' in text
    assert 'pool_gateway_output_tokens_total{model="org/chat"} 5.0' in text


def test_no_stream_is_cut_while_the_service_is_killed_and_another_takes_over(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        FAKE_RUNTIME
        + "".join(f'[models."{one}"]\nruntime_model = "fake/x?delay=0.05"\n' for one in SLOW)
    )
    address, arguments = f"unix:{tmp_path}/s", ["--config", str(config)]
    with ExitStack() as stack:
        first = stack.enter_context(running(tmp_path / "state", (address,), arguments))
        setting = Setting(
            first,
            stack.enter_context(PoolClient.connect(address)),
            stack.enter_context(gateway(address, tmp_path / "gateway.log")),
        )
        with ThreadPoolExecutor(len(SLOW)) as threads:
            begun = Barrier(len(SLOW) + 1)

            def stream(model: str) -> int:
                answer = streamed(setting, model, tokens=TOKENS)
                next(answer)
                begun.wait(120)
                return 1 + len(list(answer))

            lengths = threads.map(stream, SLOW)
            begun.wait(120)
            first.process.kill()
            first.process.wait()
            stack.enter_context(running(tmp_path / "state", (address,), arguments))
            assert set(lengths) == {TOKENS}
        servers = list(setting.pool.list())
        assert {server.model for server in servers} == set(SLOW)
        assert {server.generation for server in servers} == {1}, "the same processes, adopted"
        assert asks(setting, SLOW[0])
