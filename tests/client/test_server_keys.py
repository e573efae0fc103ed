"""Keys of servers: on what `ensure` and `hold` return, and in no text that shows it."""

import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client
from tests.client.scripted import Script, Stay, held, ready, starting

KEY = "psk_secret"


@pytest.mark.parametrize("key", [KEY, ""], ids=["a key", "none"])
async def test_ensure_returns_the_key_with_the_server(
    client: Client, service: Script, key: str
) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready(), api_key=key))
    assert (await client.call("ensure", "m")).server.api_key == key


async def test_a_hold_returns_the_key_of_the_server_that_is_ready(
    client: Client, service: Script
) -> None:
    first, second = held(), held(endpoint="http://127.0.0.1:2", generation=2)
    first.api_key, second.api_key = KEY, f"{KEY}-2"
    service.answer("Hold", starting(), first, second, Stay())
    async with client.hold("m") as hold:
        server = await hold.ready()
        if server.generation == 1:
            assert server.api_key == KEY
            server = await hold.ready(after=server)
        assert server.api_key == f"{KEY}-2"


async def test_no_text_shows_a_key(client: Client, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready(), api_key=KEY))
    result = await client.call("ensure", "m")
    assert result.server.api_key == KEY
    for shown in (result, result.server, result.server.message, [result], {"a": result.server}):
        assert KEY not in f"{shown} {shown!r}"
