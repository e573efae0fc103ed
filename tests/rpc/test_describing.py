"""Claims about Describe over a real connection."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pool_service.core.admission import PreemptionClass
from pool_service.core.description import Description, Holder, InLine, Restarts, WaitingCall
from pool_service.core.effective_settings import KEYS, LONGEST_VALUE, SANDBOX, EffectiveSetting
from pool_service.core.errors import CrashLoop
from pool_service.core.runs import RUNS_KEPT, Origin, Run
from pool_service.core.server import Cause, Exit, Phase, Role, Server, ServerId
from pool_service.core.story import DECISIONS_KEPT, Choice, Decision, Weighed
from pool_service.core.types import Diagnosis, ExitReport, Settings
from pool_service.rpc.description_wire import DescriptionWire
from pool_service.rpc.wire import Wire
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import Service, failure, serving
from tests.world import WALL, FakeClock


async def describe(service: Service, model: str = "m") -> pb.DescribeResponse:
    response: pb.DescribeResponse = await service.stub.Describe(pb.DescribeRequest(model=model))
    return response


async def test_a_ready_server_is_described_with_its_start_and_its_settings() -> None:
    async with serving() as service:
        await service.ensure("m")
        described = await describe(service)
        (server,) = described.servers
        assert server.state == pb.SERVER_STATE_READY
        (run,) = described.runs
        assert run.origin == pb.RUN_ORIGIN_COLD
        assert run.HasField("ready_time")
        assert not run.HasField("stop_time")
        assert {one.key: one.source for one in described.settings}["keep_alive"] == "default"
        assert described.next_to_go[described.eviction_position - 1].model == "m"
        assert [one.after for one in described.decisions][-1] == pb.SERVER_STATE_READY


async def test_a_model_that_nobody_used_is_described_without_a_server() -> None:
    async with serving() as service:
        described = await describe(service)
        assert (described.model, described.listed) == ("m", False)
        assert not described.servers
        assert described.eviction_position == 0
        assert [one.key for one in described.settings] == [*KEYS, SANDBOX]


async def test_what_is_no_name_and_what_is_not_served_is_refused() -> None:
    async with serving(only_listed=True) as service:
        assert (await failure(describe(service, "-x"))).reason == "INVALID_MODEL"
        assert (await failure(describe(service))).reason == "MODEL_UNKNOWN"


async def test_a_description_is_no_event() -> None:
    async with serving() as service:
        await describe(service)
        assert service.world.events.written == []


async def test_before_the_recovery_has_ended_it_is_refused() -> None:
    async with serving(recovers=False) as service:
        assert (await failure(describe(service))).reason == "RECOVERING"
        await service.pool.recover(1.0)


LONG = "ü" * 4000
NAME = "x" * 512
REPORT = ExitReport(1, None, Diagnosis.CRASHED, LONG, tuple(["ü" * 500] * 20))
END = Exit(1, Cause.CRASHED, REPORT, 5.0)


def servers() -> Iterator[Server]:
    settings = Settings(runtime_model="r" * 4096)
    for role in (Role.CURRENT, Role.SUPERSEDED):
        yield Server(NAME, settings, Phase.READY, 1, 0.0, 0.0, 5.0, LONG, last_exit=END, role=role)


@pytest.fixture
def largest() -> Description:
    """A description of a crowded pool, all of whose texts are long."""
    weighed = tuple(
        Weighed(ServerId(NAME, n), PreemptionClass.UNUSED, 10**12, 1e9) for n in range(1000)
    )
    choice = Choice(1, 1.0, 1, -5.0, weighed, weighed)
    decision = Decision(
        1.0, "E" * 40, ServerId(NAME, 1), Role.CURRENT, Phase.QUEUED, Phase.QUEUED, LONG, choice
    )
    run = Run(1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, Origin.COLD, END, 10**12)
    return Description(
        model=NAME,
        aliases=tuple(f"{n}{NAME}"[:512] for n in range(1000)),
        is_listed=True,
        settings=Settings(runtime_model=""),
        sources=tuple(EffectiveSetting(key, "ü" * LONGEST_VALUE, NAME, "") for key in KEYS),
        servers=tuple(servers()),
        last_run=None,
        runs=(run,) * RUNS_KEPT,
        holders=(Holder("h" * 128, 1.0),) * 5000,
        waiting=(WaitingCall(1.0, "h" * 128, is_hold=True, is_own=False),) * 5000,
        queued_since=1.0,
        order=tuple(InLine(one.server_id, False, 1, 1.0, 1.0) for one in weighed),
        protected="",
        restarts=Restarts((1.0,) * 5, 5, 300.0, 9.0, CrashLoop(LONG, retry_after=1.0)),
        decisions=(decision,) * DECISIONS_KEPT,
        flaw=LONG,
    )


async def test_no_description_has_a_mebibyte_and_what_is_cut_is_counted(
    largest: Description,
) -> None:
    message = DescriptionWire(Wire(FakeClock())).response(largest)
    assert message.ByteSize() <= 1024 * 1024
    assert len(message.decisions) == DECISIONS_KEPT
    assert (message.holds, message.waiting_calls) == (5000, 5000)
    assert (len(message.next_to_go), message.eviction_candidates) == (32, 1000)
    assert message.eviction_position == 2, "generation 1 is the second"


async def test_the_oldest_decisions_are_left_out_of_a_description_that_is_too_large(
    largest: Description,
) -> None:
    newest = replace(largest.decisions[0], why="the newest")
    decisions = (*largest.decisions, newest)
    crowd = tuple(replace(one, detail="x" * 200_000) for one in largest.servers)
    large = replace(largest, servers=crowd, decisions=decisions)
    message = DescriptionWire(Wire(FakeClock())).response(large)
    assert message.ByteSize() <= 1024 * 1024
    assert 0 < len(message.decisions) < len(decisions)
    assert message.decisions[-1].why == "the newest"


async def test_the_pool_s_own_request_is_told_but_is_no_waiting_call(largest: Description) -> None:
    own = WaitingCall(1.0, "", is_hold=False, is_own=True)
    message = DescriptionWire(Wire(FakeClock())).response(replace(largest, waiting=(own,)))
    assert ([one.own for one in message.waiting], message.waiting_calls) == ([True], 0)
    assert message.waiting[0].since.seconds == WALL + 1
    assert message.decisions[0].choice.available_bytes == 0
