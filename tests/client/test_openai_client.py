"""Clients of OpenAI's package that follow a hold, before servers that misbehave on demand."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import openai
import pytest
from grpc import StatusCode

from pool_service_client import AsyncPoolClient, Evicted, PoolClient
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.model_server import Server, nobody, state
from tests.client.scripted import Gate, Opens, Refusal, Script, Stay

TIMEOUT_S = 60.0
MESSAGES: Any = [{"role": "user", "content": "?"}]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().serving() as one:
        yield one


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


def test_a_request_beside_another_one_asks_the_service_nothing(
    service: Script, server: Server
) -> None:
    with Server("stalls").serving() as busy:
        service.answer("Hold", state(busy.endpoint), Stay())
        with (
            PoolClient.connect(service.address) as pool,
            pool.hold("m") as hold,
            hold.openai(timeout=TIMEOUT_S) as ai,
            ThreadPoolExecutor(2) as askers,
        ):
            asking = [askers.submit(stream, ai) for _ in range(2)]
            for _ in asking:
                busy.arrived.get(timeout=TIMEOUT_S)
            busy.goes_on.set()
            assert [one.result(TIMEOUT_S) for one in asking] == ["t", "t"]
    assert "Get" not in service.asked


def stream(ai: openai.OpenAI) -> str:
    """Return the whole text of one answer."""
    answer = ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return "".join(one.choices[0].delta.content or "" for one in answer)


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
