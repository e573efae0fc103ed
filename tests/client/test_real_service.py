"""Both clients and the service's own gRPC side, over a scripted world."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pool_service.core.types import Settings
from pool_service_client import (
    Evicted,
    Expectation,
    ModelNotOnDisk,
    ModelUnknown,
    Progress,
    Reloaded,
    RetryPolicy,
    ServerInUse,
    ServerState,
)
from tests.client.conftest import Connect, Holder
from tests.rpc.serving import gate, serving
from tests.world import Script, settled

MODELS = {"a": Settings("org/a", pinned=True), "b": Settings("org/b")}


async def test_a_hold_shows_the_start_and_keeps_the_server_until_it_is_left(
    connect: Connect,
) -> None:
    async with serving() as service:
        client = connect(service.address)
        loaded = gate()
        service.world.script("m", Script(load=loaded))
        async with client.hold("m", holder="me") as hold:
            first = await hold.next()
            assert first is not None
            assert first.state in {ServerState.QUEUED, ServerState.STARTING}
            loaded.set()
            server = await hold.ready()
            assert (server.state, server.holds) == (ServerState.READY, 1)
            with pytest.raises(ServerInUse, match=r"held by 1 \(me\)") as raised:
                await client.call("evict", "m")
            assert raised.value.metadata["holders"] == "me"
        await settled(lambda: not any(one.holds for one in service.pool.page(None, 9)))
        (evicted,) = await client.call("evict", "m")
        assert evicted.server.model == "m"


async def test_a_server_that_dies_while_it_is_held_comes_back_elsewhere(connect: Connect) -> None:
    async with serving() as service, connect(service.address).hold("m") as hold:
        before = await hold.ready()
        service.world.of("m").end()
        while (after := await hold.ready()).generation == before.generation:
            await hold.next()
        assert after.endpoint != before.endpoint


async def to_the_end(hold: Holder) -> None:
    while await hold.next():
        pass


async def test_an_eviction_by_force_ends_a_hold(connect: Connect) -> None:
    async with serving() as service:
        client = connect(service.address)
        async with client.hold("m") as hold:
            await hold.ready()
            await client.call("evict", "m", force=True)
            with pytest.raises(Evicted):
                await to_the_end(hold)


async def test_the_catalogue_says_what_each_model_needs(connect: Connect) -> None:
    async with serving(models=MODELS, aliases={"first": "a"}) as service:
        service.world.script("a", Script(needs=7))
        service.world.script("b", Script(on_disk=False))
        a, b = await connect(service.address).models()
        assert (a.model, a.aliases, a.runtime_model, a.pinned) == ("a", ("first",), "org/a", True)
        assert (a.expected_bytes, a.expected_by) == (7, Expectation.WEIGHTS)
        assert (a.on_disk, b.on_disk) == (True, False)


async def test_what_is_not_on_disk_is_reported_until_it_was_pulled(connect: Connect) -> None:
    async with serving() as service:
        service.world.script("m", Script(load=0.0, on_disk=False))
        client = connect(service.address)
        with pytest.raises(ModelNotOnDisk):
            await client.call("ensure", "m")
        assert (await client.pulled("m"))[-1] == Progress(400, 400)
        assert (await client.call("ensure", "m")).started


async def test_a_model_that_is_not_listed_is_unknown_where_only_those_are_served(
    connect: Connect,
) -> None:
    async with serving(models=MODELS, only_listed=True) as service:
        client = connect(service.address, RetryPolicy(attempts=1))
        with pytest.raises(ModelUnknown):
            await client.call("ensure", "m")


async def test_a_reload_of_the_same_changes_nothing(connect: Connect) -> None:
    async with serving() as service:
        assert await connect(service.address).call("reload") == Reloaded((), (), (), ())


async def test_a_hold_goes_on_at_the_next_service(connect: Connect, socket_dir: Path) -> None:
    address = f"unix:{socket_dir}/s"
    async with serving(address=address), AsyncExitStack() as stack:
        hold = await stack.enter_async_context(connect(address).hold("m"))
        await hold.ready()
        staying = stack.pop_all()
    async with serving(address=address) as successor, staying:
        while not successor.pool.page(None, 9):
            await hold.next()
        (server,) = successor.pool.page(None, 9)
        assert server.holds == 1
        assert (await hold.ready()).endpoint
