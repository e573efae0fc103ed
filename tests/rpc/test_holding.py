"""Holds, the catalogue, downloads and reloads, as callers see them."""

import asyncio

import grpc
import pytest

from pool_service.core.types import Settings
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.rpc.serving import failure, gate, serving, settled_hold
from tests.world import NEVER, Script, settled


async def test_a_hold_sends_the_server_from_the_queue_until_it_is_ready() -> None:
    async with serving() as service:
        loaded = gate()
        service.world.script("m", Script(load=loaded))
        stream = service.stub.Hold(pb.HoldRequest(model="m"))
        first = await stream.read()
        assert first.server.state == pb.SERVER_STATE_QUEUED
        assert first.server.holds == 1
        await settled(lambda: service.world.times("ready"))
        loaded.set()
        server = await settled_hold(stream)
        assert server.endpoint
        assert server.holds == 1


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "queued"])
async def test_a_hold_is_released_at_once_when_its_caller_goes(ready: bool) -> None:
    async with serving() as service:
        service.world.script("m", Script(load=0.0, estimate=0.0 if ready else NEVER))
        stream = service.stub.Hold(pb.HoldRequest(model="m"))
        if ready:
            await settled_hold(stream)
        else:
            await stream.read()
        stream.cancel()
        await settled(lambda: not any(server.holds for server in service.pool.page(None, 9)))
        assert len(service.pool.page(None, 9)) == (1 if ready else 0)


async def test_a_hold_is_released_though_its_caller_does_not_read() -> None:
    async with serving() as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stream = pb_grpc.PoolServiceStub(channel).Hold(pb.HoldRequest(model="m"))
            await settled(lambda: service.world.times("ready"))
            assert stream is not None
        await settled(lambda: not any(server.holds for server in service.pool.page(None, 9)))


async def test_the_holder_of_a_server_that_dies_gets_the_new_endpoint() -> None:
    async with serving() as service:
        stream = service.stub.Hold(pb.HoldRequest(model="m"))
        before = await settled_hold(stream)
        service.world.of("m").end()
        states = []
        while True:
            server = (await stream.read()).server
            states.append(server.state)
            if server.state == pb.SERVER_STATE_READY:
                break
        assert server.generation == 2
        assert server.endpoint != before.endpoint


async def test_an_eviction_by_force_ends_a_hold_with_its_reason() -> None:
    async with serving() as service:
        stream = service.stub.Hold(pb.HoldRequest(model="m"))
        await settled_hold(stream)
        await service.stub.Evict(pb.EvictRequest(model="m", force=True))

        async def to_the_end() -> None:
            while await stream.read():
                pass

        told = await failure(to_the_end())
        assert (told.code, told.reason) == ("ABORTED", "EVICTED")


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [({"holder": "x" * 129}, "INVALID_HOLDER"), ({"holder": "a\nb"}, "INVALID_HOLDER")],
)
async def test_a_label_that_could_mislead_is_refused(
    request_fields: dict[str, str], reason: str
) -> None:
    async with serving() as service:
        request = pb.HoldRequest(model="m", **request_fields)  # type: ignore[arg-type]
        told = await failure(service.stub.Hold(request).read())
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", reason)


async def test_the_catalogue_is_listed_by_pages_with_what_each_model_needs() -> None:
    models = {name: Settings(f"org/{name}", pinned=name == "a") for name in "abc"}
    async with serving(models=models, aliases={"first": "a"}) as service:
        service.world.script("a", Script(needs=7, on_disk=True))
        service.world.script("b", Script(needs=8, on_disk=False))
        one: pb.ListModelsResponse = await service.stub.ListModels(
            pb.ListModelsRequest(page_size=2)
        )
        two: pb.ListModelsResponse = await service.stub.ListModels(
            pb.ListModelsRequest(page_size=2, page_token=one.next_page_token)
        )
        a, b, c = [*one.models, *two.models]
        assert (a.model, a.runtime_model, list(a.aliases)) == ("a", "org/a", ["first"])
        assert (a.expected_bytes, a.on_disk, a.pinned) == (7, True, True)
        assert (b.expected_bytes, b.on_disk, b.pinned) == (8, False, False)
        assert a.expected_by == pb.EXPECTATION_WEIGHTS
        assert c.model == "c"
        assert not two.next_page_token


async def test_a_page_of_models_fits_into_a_message_whatever_they_load() -> None:
    models = {f"m{number:0300}": Settings("/" + "x" * 4000) for number in range(999)}
    async with serving(models=models) as service:
        seen: list[str] = []
        token, more = "", True
        while more:
            page: pb.ListModelsResponse = await service.stub.ListModels(
                pb.ListModelsRequest(page_size=1000, page_token=token)
            )
            assert page.ByteSize() < 2 * 1024 * 1024
            seen += [model.model for model in page.models]
            token = page.next_page_token
            more = bool(token)
        assert seen == sorted(models)


async def test_a_download_reports_its_bytes_and_starts_nothing() -> None:
    async with serving() as service:
        service.world.script("m", Script(on_disk=False))
        told = [each async for each in service.stub.Pull(pb.PullRequest(model="m"))]
        assert [each.done_bytes for each in told] == [0, 100, 200, 300, 400]
        assert {each.total_bytes for each in told} == {400}
        assert not service.world.times("prepare")
        assert (await service.ensure()).started


async def test_a_caller_of_pull_that_goes_gives_the_download_up() -> None:
    async with serving() as service:
        service.world.script("m", Script(on_disk=False, fetch=NEVER))
        stream = service.stub.Pull(pb.PullRequest(model="m"))
        await stream.read()
        stream.cancel()
        await settled(lambda: not any(task.get_name() == "pull m" for task in asyncio.all_tasks()))


async def test_a_download_at_the_end_of_the_service_is_asked_to_retry() -> None:
    async with serving() as service:
        service.world.script("m", Script(on_disk=False, fetch=NEVER))
        stream = service.stub.Pull(pb.PullRequest(model="m"))
        await stream.read()
        await service.pool.shutdown()
        told = await failure(stream.read())
        assert (told.code, told.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")


async def test_a_reload_reports_what_it_changed() -> None:
    async with serving() as service:
        await service.ensure()
        told = await service.stub.Reload(pb.ReloadRequest())
        assert told == pb.ReloadResponse()


async def test_a_pin_shows_wherever_the_model_and_its_server_do() -> None:
    async with serving(models={"m": Settings("org/m")}, aliases={"alias": "m"}) as service:
        watch = service.stub.Watch(pb.WatchRequest())
        await service.ensure("m")
        held = service.stub.Hold(pb.HoldRequest(model="m"))
        first = await settled_hold(held)
        assert (first.pinned, first.HasField("expire_time")) == (False, False)
        told = await service.stub.Pin(pb.PinRequest(model="alias", pinned=True))
        assert told == pb.PinResponse(pinned=True, changed=True)
        assert (await held.read()).server.pinned
        held.cancel()
        async for response in watch:
            if response.server.pinned:
                break
        await settled(lambda: not any(server.holds for server in service.pool.page(None, 9)))
        for pinned, shown in ((None, True), (False, False), (True, True)):
            if pinned is not None:
                await service.stub.Pin(pb.PinRequest(model="m", pinned=pinned))
            (server,) = (await service.stub.List(pb.ListRequest())).servers
            (model,) = (await service.stub.ListModels(pb.ListModelsRequest())).models
            assert (server.pinned, server.HasField("expire_time")) == (shown, not shown)
            assert model.pinned is shown
        assert (await service.stub.Pin(pb.PinRequest(model="m"))).changed


async def test_a_pin_that_the_configuration_contradicts_says_so() -> None:
    async with serving(models={"m": Settings("org/m", pinned=True)}) as service:
        told = await service.stub.Pin(pb.PinRequest(model="m", pinned=False))
        assert told == pb.PinResponse(pinned=False, changed=True, configured=True)
        told = await service.stub.Pin(pb.PinRequest(model="m"))
        assert told == pb.PinResponse(pinned=True, changed=True, configured=True)


async def test_where_only_listed_models_are_served_no_other_can_be_pinned() -> None:
    async with serving(models={"qwen3": Settings("org/q")}, only_listed=True) as service:
        told = await failure(service.stub.Pin(pb.PinRequest(model="qwen", pinned=True)))
        assert (told.code, told.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")
        assert "qwen3" in told.message
