"""Get: the server of one model, and whether it answers."""

from pool_service.core.types import Settings
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import failure, serving
from tests.world import Script


async def test_the_server_of_a_model_is_what_list_returns_of_it() -> None:
    async with serving(models={"m": Settings("org/m")}, aliases={"short": "m"}) as service:
        await service.ensure("m")
        (listed,) = (await service.stub.List(pb.ListRequest())).servers
        for name in ("m", "short"):
            found = await service.stub.Get(pb.GetRequest(model=name))
            assert found == pb.GetResponse(server=listed)
        checked = await service.stub.Get(pb.GetRequest(model="m", check=True))
        assert checked == pb.GetResponse(server=listed, answers=True)


async def test_a_model_without_a_server_is_absent() -> None:
    async with serving() as service:
        found = await service.stub.Get(pb.GetRequest(model="m", check=True))
        assert not found.HasField("server")
        assert not found.answers


async def test_a_server_that_does_not_answer_is_told_as_such() -> None:
    async with serving() as service:
        service.world.script("m", Script(load=0.0, answers=False))
        await service.ensure("m")
        found = await service.stub.Get(pb.GetRequest(model="m", check=True))
        assert found.server.state == pb.SERVER_STATE_READY
        assert not found.answers


async def test_a_bad_name_is_refused_and_a_recovering_service_says_so() -> None:
    async with serving(recovers=False) as service:
        assert (await failure(service.stub.Get(pb.GetRequest(model="-x")))).reason == (
            "INVALID_MODEL"
        )
        assert (await failure(service.stub.Get(pb.GetRequest(model="m")))).reason == "RECOVERING"
        await service.pool.recover(60.0)
