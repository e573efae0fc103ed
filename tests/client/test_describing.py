"""Claims about `describe` of both clients."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service_client import (
    Choice,
    Decision,
    EvictionCandidate,
    Expectation,
    Holder,
    Run,
    RunOrigin,
    ServerRole,
    ServerState,
    Setting,
    WaitingCall,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client
from tests.client.scripted import Script, ready

AT = Timestamp(seconds=1_700_000_000)
TIME = datetime.fromtimestamp(1_700_000_000, UTC)
CANDIDATE = pb.EvictionCandidate(model="m", generation=2, freed_bytes=5, retention_seconds=1.5)


def whole() -> pb.DescribeResponse:
    return pb.DescribeResponse(
        model="m",
        aliases=["a"],
        listed=True,
        settings=[pb.Setting(key="k", value="v", source="default", running="w")],
        servers=[ready("m")],
        expected_bytes=3,
        expected_by=pb.EXPECTATION_WEIGHTS,
        on_disk=False,
        usual_load=Duration(seconds=4),
        runs=[
            pb.Run(
                generation=1,
                origin=pb.RUN_ORIGIN_STANDBY,
                create_time=AT,
                exit=pb.Exit(generation=1, message="gone"),
            )
        ],
        holders=[pb.Holder(label="h", since=AT)],
        holds=7,
        waiting=[pb.WaitingCall(since=AT, hold=True, holder="h")],
        waiting_calls=9,
        next_to_go=[CANDIDATE],
        eviction_position=1,
        crash_times=[AT],
        crash_window=Duration(seconds=300),
        decisions=[
            pb.Decision(
                time=AT,
                generation=2,
                role=pb.SERVER_ROLE_CURRENT,
                after=pb.SERVER_STATE_QUEUED,
                why="w",
                choice=pb.Choice(needed_bytes=1, chosen=[CANDIDATE]),
            )
        ],
    )


async def test_all_of_a_description_is_returned(client: Client, service: Script) -> None:
    service.answer("Describe", whole())
    told = await client.call("describe", "m", timeout=20)
    assert service.asked["Describe"] == [pb.DescribeRequest(model="m")]
    assert told.settings == (Setting("k", "v", "default", "w"),)
    assert told.servers[0].state is ServerState.READY
    assert (told.expected_bytes, told.expected_by) == (3, Expectation.WEIGHTS)
    assert (told.on_disk, told.usual_load) == (False, timedelta(seconds=4))
    (run,) = told.runs
    assert isinstance(run, Run)
    assert (run.origin, run.create_time, run.ready_time) == (RunOrigin.STANDBY, TIME, None)
    assert run.exit is not None
    assert run.exit.message == "gone"
    assert (told.holders, told.holds) == ((Holder("h", TIME),), 7)
    assert told.waiting == (WaitingCall(TIME, hold=True, holder="h", own=False),)
    candidate = EvictionCandidate("m", 2, False, 5, 1.5, None)
    assert told.next_to_go == (candidate,)
    assert (told.crash_times, told.crash_window) == ((TIME,), timedelta(seconds=300))
    choice = Choice(1, None, 0, None, (candidate,), ())
    states = ServerState.UNSPECIFIED, ServerState.QUEUED
    assert told.decisions == (Decision(TIME, 2, ServerRole.CURRENT, *states, "w", "", choice),)
    assert told.message == whole()


async def test_what_is_not_told_is_none(client: Client, service: Script) -> None:
    service.answer("Describe", pb.DescribeResponse(model="m"))
    told = await client.call("describe", "m")
    assert told.on_disk is None
    assert told.usual_load is None
    assert told.queue_time is None
    assert told.retry_time is None
    assert told.last_exit is None
