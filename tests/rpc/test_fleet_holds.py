"""Holds of fronts outlive the connection of their front for the grace, and end by EndHold."""

import asyncio
import contextlib
import signal
import sys

import grpc
import pytest

from pool_service.access.fleet import FleetCall, FleetSettings
from pool_service.access.principal import LOCAL
from pool_service.access.quotas import Quotas
from pool_service.audit import Audit
from pool_service.change_history import History
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.pool import Pool
from pool_service.rpc import fleet_holds
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.wire import Wire
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.pool.running import BUDGET, DEFAULTS, ports
from tests.rpc.asking import Told, ask
from tests.rpc.serving import Service, failure, serving, settled_hold
from tests.rpc.test_fleet_calls import Metadata, says
from tests.world import CRASH, Script, World, settled

LONG = FleetSettings(hold_grace_s=600.0)
"""Longer than any test takes."""

SHORT = FleetSettings(hold_grace_s=0.05)

FRONT = """
import sys
import grpc
from pool_service.v1 import pool_service_pb2 as pb, pool_service_pb2_grpc as pb_grpc
call = pb.FleetCall(epoch=7, front="f", hold="h").SerializeToString()
stub = pb_grpc.PoolServiceStub(grpc.insecure_channel(sys.argv[1]))
for answer in stub.Hold(pb.HoldRequest(model="m"), metadata=(("pool-fleet-bin", call),)):
    if answer.server.state == pb.SERVER_STATE_READY:
        print("held", flush=True)
"""


def named(hold: str = "h") -> Metadata:
    return says(pb.FleetCall(epoch=7, front="f", hold=hold))


def hold(service: Service, name: str = "h", model: str = "m") -> "grpc.aio.UnaryStreamCall":  # type: ignore[type-arg]
    request = pb.HoldRequest(model=model, holder="engine")
    stream: grpc.aio.UnaryStreamCall[pb.HoldRequest, pb.HoldResponse] = service.stub.Hold(
        request, metadata=named(name)
    )
    return stream


def holds(service: Service, model: str = "m") -> int:
    return sum(one.holds for one in service.pool.page(None, 99) if one.model == model)


def told(service: Service) -> list[str]:
    """What the audit says of holds."""
    service.audit.close()
    kept = [str(one["why"]) for one in service.world.events.of("call") if one["method"] == "Hold"]
    return [one.removesuffix(" (engine)") for one in kept]


async def lingering(service: Service, count: int = 1) -> None:
    """Wait until so many holds go on without their fronts."""
    await settled(lambda: len(service.servicer.fleet_holds._lingering) == count)


async def test_a_hold_goes_on_without_its_front_for_the_grace() -> None:
    async with serving(fleet=SHORT) as service:
        stream = hold(service)
        await settled_hold(stream)
        stream.cancel()
        await settled(lambda: holds(service) == 0)
        assert told(service) == [
            "the hold begins",
            "the hold goes on without its front, for 0.05 s",
            "the hold has ended: its front has been away for 0.05 s",
        ]


@pytest.mark.parametrize("how", ["cancelled", "channel closed", "deadline"])
async def test_however_a_front_goes_its_server_stays_held(how: str) -> None:
    async with serving(fleet=LONG) as service:
        if how == "channel closed":
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(service.address, options=options) as channel:
                stub = pb_grpc.PoolServiceStub(channel)
                await settled_hold(stub.Hold(pb.HoldRequest(model="m"), metadata=named()))
        else:
            stream = service.stub.Hold(
                pb.HoldRequest(model="m"),
                metadata=named(),
                timeout=2.0 if how == "deadline" else None,
            )
            await settled_hold(stream)
            if how == "cancelled":
                stream.cancel()
        await lingering(service)
        assert holds(service) == 1
        evicted = await failure(service.stub.Evict(pb.EvictRequest(model="m")))
        assert evicted.reason == "SERVER_IN_USE"


async def test_the_server_of_a_front_that_was_killed_stays_held() -> None:
    async with serving(fleet=LONG) as service:
        front = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FRONT, service.address, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert front.stdout is not None
            assert await asyncio.wait_for(front.stdout.readline(), 60) == b"held\n"
            front.send_signal(signal.SIGKILL)
            await front.wait()
            await lingering(service)
            assert holds(service) == 1
            await service.member.EndHold(pb.EndHoldRequest(hold="h"))
            await settled(lambda: holds(service) == 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                front.kill()
            await front.wait()


async def test_a_hold_without_a_name_ends_with_its_stream() -> None:
    async with serving(fleet=LONG) as service:
        metadata = says(pb.FleetCall(epoch=7, front="f"))
        stream = service.stub.Hold(pb.HoldRequest(model="m", holder="engine"), metadata=metadata)
        await settled_hold(stream)
        stream.cancel()
        await settled(lambda: holds(service) == 0)
        assert told(service) == ["the hold begins", "the hold has ended"]


async def test_a_front_ends_a_hold_that_goes_on_without_it() -> None:
    async with serving(fleet=LONG) as service:
        stream = hold(service)
        await settled_hold(stream)
        stream.cancel()
        await lingering(service)
        await service.member.EndHold(pb.EndHoldRequest(hold="h"))
        await settled(lambda: holds(service) == 0)
        assert told(service)[-1] == "the hold has ended: its front has ended it"
        assert not service.servicer.fleet_holds._lingering
        assert not service.servicer.fleet_holds._holds


async def test_a_front_ends_a_hold_whose_stream_is_open() -> None:
    async with serving(fleet=LONG) as service:
        stream = hold(service)
        await settled_hold(stream)
        await service.member.EndHold(pb.EndHoldRequest(hold="h"))
        while await stream.read() is not grpc.aio.EOF:
            pass
        assert await stream.code() is grpc.StatusCode.OK
        await settled(lambda: holds(service) == 0)
        await service.member.EndHold(pb.EndHoldRequest(hold="h"))
        assert told(service) == ["the hold begins", "the hold has ended: its front has ended it"]


async def test_a_held_server_that_dies_comes_back_without_the_front() -> None:
    async with serving(fleet=LONG) as service:
        stream = hold(service)
        await settled_hold(stream)
        stream.cancel()
        await lingering(service)
        service.world.of("m").end(CRASH)
        await settled(lambda: len(service.world.times("ready")) == 2)
        again = hold(service)
        assert (await settled_hold(again)).generation == 2
        again.cancel()


async def test_another_hold_of_the_same_name_takes_the_place_of_the_first() -> None:
    async with serving(fleet=LONG) as service:
        first = hold(service)
        await settled_hold(first)
        most = [0]
        watch = service.stub.Watch(pb.WatchRequest())
        least = [9]

        async def look() -> None:
            async for change in watch:
                if change.HasField("server"):
                    least[0] = min(least[0], change.server.holds)
                    most[0] = max(most[0], change.server.holds)

        looking = asyncio.create_task(look())
        await settled(lambda: most[0] == 1)
        second = hold(service)
        await settled_hold(second)
        while await first.read() is not grpc.aio.EOF:
            pass
        await settled(lambda: holds(service) == 1)
        looking.cancel()
        assert least == [1], "the server is held all the time"
        second.cancel()
        await lingering(service)
        third = hold(service)
        await settled_hold(third)
        await settled(lambda: not service.servicer.fleet_holds._lingering)
        assert holds(service) == 1
        assert told(service).count("the hold has ended: another hold of its name began") == 2
        third.cancel()


@pytest.mark.parametrize("is_followed", [True, False])
async def test_the_pool_ends_a_hold_by_force_with_or_without_its_front(is_followed: bool) -> None:
    async with serving(fleet=LONG) as service:
        stream = hold(service)
        await settled_hold(stream)
        if not is_followed:
            stream.cancel()
            await lingering(service)
        await service.stub.Evict(pb.EvictRequest(model="m", force=True))
        if is_followed:

            async def to_the_end() -> None:
                while await stream.read():
                    pass

            ended = await failure(to_the_end())
            assert (ended.code, ended.reason) == ("ABORTED", "EVICTED")
        await settled(lambda: not service.servicer.fleet_holds._holds)
        assert "the hold has ended: EVICTED" in told(service)
        assert not service.servicer.fleet_holds._lingering


async def test_holds_without_their_fronts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_holds, "MAX_LINGERING", 2)
    async with serving(fleet=LONG) as service:
        for number in range(4):
            stream = hold(service, f"h{number}", f"m{number}")
            await settled_hold(stream)
            stream.cancel()
            await lingering(service, min(number + 1, 2))
        await settled(lambda: not holds(service, "m0") and not holds(service, "m1"))
        assert holds(service, "m2") == holds(service, "m3") == 1


@pytest.mark.parametrize("leaves", [True, False], ids=["servers stay", "servers end"])
async def test_the_end_of_the_service_waits_for_no_hold(leaves: bool) -> None:
    async with serving(fleet=LONG) as service:
        followed, left = hold(service, "a"), hold(service, "b")
        for stream in (followed, left):
            await settled_hold(stream)
        left.cancel()
        await lingering(service)
        await asyncio.wait_for(service.pool.leave() if leaves else service.pool.shutdown(), 60)
        await asyncio.wait_for(service.server.stop(0), 60)
        assert not service.servicer.fleet_holds._holds
        assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("hold ")]


@pytest.mark.looptime
async def test_the_grace_begins_as_the_front_goes_and_a_hold_in_time_leaves_no_gap() -> None:
    world = World()
    world.default = Script(load=0.0)
    pool = Pool(ports(world), History(0), Catalogue(DEFAULTS), Limits())
    await pool.recover(BUDGET)
    servicer = PoolServicer(
        pool,
        Wire(world.clock),
        lambda: pool.reload(Catalogue(DEFAULTS), Limits()),
        Audit(world.events),
        Quotas(world.clock.now),
        FleetSettings(hold_grace_s=15.0),
    )

    def held() -> int:
        return sum(one.holds for one in pool.page(None, 9))

    def begin() -> "asyncio.Task[Told]":
        context = Told(LOCAL)
        context.fleet = FleetCall(7, "f", hold="h")
        return asyncio.create_task(ask(servicer, "Hold", pb.HoldRequest(model="m"), context))

    for wait_s in (1.0, 14.9):
        front = begin()
        await asyncio.sleep(100.0)
        assert held() == 1
        front.cancel()
        await asyncio.sleep(wait_s)
        assert held() == 1
    front = begin()
    await asyncio.sleep(100.0)
    assert held() == 1, "the grace of the hold before has ended with it"
    front.cancel()
    await asyncio.sleep(14.9)
    assert held() == 1
    await asyncio.sleep(0.2)
    assert held() == 0
    await pool.shutdown()
