"""Keys of servers: whoever gets an endpoint by Ensure or Hold gets the key with it, nobody else."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from pool_service.access.principal import Scope
from pool_service.rpc.methods import SERVICE, needed_by
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import gate, serving, settled_hold
from tests.world import CRASH, Script, key_of, settled

METHODS = pb.DESCRIPTOR.services_by_name["PoolService"].methods


async def test_each_caller_of_ensure_gets_the_key_of_the_present_process() -> None:
    async with serving() as service:
        service.world.script("m", Script(load=0.0), Script(load=0.0))
        started, again = await service.ensure(), await service.ensure()
        assert (started.started, again.started) == (True, False)
        assert started.api_key == again.api_key == key_of("m", 1)
        service.world.of("m").end(CRASH)
        await settled(lambda: service.world.times("clean_up"))
        assert (await service.ensure()).api_key == key_of("m", 2)


async def test_a_holder_gets_the_key_with_each_endpoint_and_not_before() -> None:
    async with serving() as service:
        loaded = gate()
        service.world.script("m", Script(load=loaded), Script(load=0.0))
        stream = service.stub.Hold(pb.HoldRequest(model="m"))
        assert (await stream.read()).api_key == ""
        await settled(lambda: service.world.times("ready"))
        loaded.set()
        seen = list[pb.HoldResponse]()
        while not seen or seen[-1].server.state != pb.SERVER_STATE_READY:
            seen.append(await stream.read())
        service.world.of("m").end()
        while seen[-1].server.state != pb.SERVER_STATE_READY or seen[-1].server.generation == 1:
            seen.append(await stream.read())
        for one in seen:
            is_ready = one.server.state == pb.SERVER_STATE_READY
            assert bool(one.server.endpoint) == is_ready
            assert one.api_key == (key_of("m", one.server.generation) if is_ready else "")
        assert {one.server.generation for one in seen} == {1, 2}


async def test_a_server_without_a_key_is_handed_out_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.world.key_of", lambda _model, _generation: "")
    async with serving() as service:
        assert (await service.ensure()).api_key == ""
        stream = service.stub.Hold(pb.HoldRequest(model="m"))
        assert (await settled_hold(stream)).endpoint


def secrets_of(message: Descriptor, seen: tuple[str, ...] = ()) -> Iterator[FieldDescriptor]:
    """Yield the fields of a message, and of those in it, that hold keys."""
    for field in message.fields:
        if "api_key" in field.name:
            yield field
        if field.message_type and field.message_type.full_name not in seen:
            yield from secrets_of(field.message_type, (*seen, field.message_type.full_name))


def test_only_methods_that_need_the_scope_use_answer_with_a_key() -> None:
    found = {
        method.name: [field.name for field in secrets_of(method.output_type)]
        for method in METHODS
        if list(secrets_of(method.output_type))
    }
    assert found == {"Ensure": ["api_key"], "Hold": ["api_key"]}
    for name in found:
        scope = needed_by(f"{SERVICE}/{name}")
        assert scope is not None
        assert scope >= Scope.USE
