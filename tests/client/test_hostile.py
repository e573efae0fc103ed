"""Claims about a server that is broken or hostile: no busy loop, no end without an error."""

import math

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode

from pool_service_client import (
    Evicted,
    ModelRejected,
    PoolError,
    PoolUnavailable,
    RetryPolicy,
    RevisionCompacted,
    ServerChanged,
)
from pool_service_client.following import Following
from pool_service_client.holding import Holding
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client, Connect
from tests.client.scripted import Refusal, Script, changed, held, ready, removed, starting, synced

MOST_TRIES = 6
"""Within a second: after 0.1, 0.2 and 0.4 s, and the first."""


@pytest.mark.parametrize(
    "delay",
    [
        Duration(),
        Duration(seconds=-5, nanos=-999_999_999),
        Duration(nanos=1),
        Duration(seconds=-315_576_000_000),
        Duration(nanos=-2_147_483_648),
    ],
    ids=["none", "negative", "tiny", "most negative", "nanos out of range"],
)
async def test_a_retry_delay_of_nothing_or_less_is_no_busy_loop(
    connect: Connect, service: Script, delay: Duration
) -> None:
    service.answer(
        "Ensure",
        Refusal(StatusCode.UNAVAILABLE, "no", "RECOVERING", (RetryInfo(retry_delay=delay),)),
    )
    client = connect(service.address, RetryPolicy(patience=1.0))
    with pytest.raises(PoolError) as raised:
        await client.call("ensure", "m")
    assert raised.value.reason == "RECOVERING"
    assert len(service.asked["Ensure"]) <= MOST_TRIES


@pytest.mark.parametrize("seconds", [315_576_000_000, 2**62])
async def test_a_retry_delay_of_for_ever_is_reported_at_once(
    client: Client, service: Script, seconds: int
) -> None:
    info = RetryInfo(retry_delay=Duration(seconds=seconds))
    service.answer("Ensure", Refusal(StatusCode.UNAVAILABLE, "no", "RECOVERING", (info,)))
    with pytest.raises(PoolError):
        await client.call("ensure", "m")
    assert len(service.asked["Ensure"]) == 1


async def test_details_that_are_garbage_are_passed_over(client: Client, service: Script) -> None:
    garbage = _packed_garbage("RetryInfo")
    refusal = Refusal(StatusCode.ABORTED, "evicted", "EVICTED", (garbage,), before=(garbage,))
    service.answer("Ensure", refusal)
    with pytest.raises(Evicted):
        await client.call("ensure", "m")


async def test_the_first_reason_of_the_service_is_the_one_that_counts(
    client: Client, service: Script
) -> None:
    before = (ErrorInfo(reason="EVICTED", domain="elsewhere"), _packed_garbage("ErrorInfo"))
    after = (ErrorInfo(reason="POOL_FULL", domain="pool_service"),)
    refusal = Refusal(StatusCode.FAILED_PRECONDITION, "no", "MODEL_REJECTED", after, before=before)
    service.answer("Ensure", refusal)
    with pytest.raises(ModelRejected):
        await client.call("ensure", "m")


def _packed_garbage(name: str) -> Packed:
    return Packed(type_url=f"type.googleapis.com/google.rpc.{name}", value=b"\xff\xff")


@pytest.mark.parametrize("tokens", [["again"], ["a", "b", "a"]])
async def test_pages_that_come_again_are_an_error(
    client: Client, service: Script, tokens: list[str]
) -> None:
    for token in tokens:
        service.answer("List", pb.ListResponse(servers=[ready()], next_page_token=token))
        service.answer("ListModels", pb.ListModelsResponse(next_page_token=token))
    for read in (client.servers, client.models):
        with pytest.raises(PoolError, match="its pages have no end"):
            await read()


async def test_an_answer_without_a_server_is_an_error(client: Client, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse())
    with pytest.raises(PoolError, match="names no server"):
        await client.call("ensure", "m")


async def test_a_server_that_is_nowhere_is_an_error(client: Client, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready(endpoint="")))
    with pytest.raises(PoolError, match="has no endpoint"):
        await client.call("ensure", "m")


@pytest.mark.parametrize("told", [math.nan, math.inf, -0.1, 1.5])
async def test_a_progress_that_is_no_share_is_none(
    client: Client, service: Script, told: float
) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready(progress=told)))
    assert (await client.call("ensure", "m")).server.progress is None


async def test_a_time_that_no_calendar_has_is_none(client: Client, service: Script) -> None:
    server = ready()
    server.create_time.CopyFrom(Timestamp(seconds=2**62, nanos=-5))
    service.answer("Ensure", pb.EnsureResponse(server=server))
    assert (await client.call("ensure", "m")).server.create_time is None


BROKEN = PoolUnavailable("broken", code=StatusCode.UNAVAILABLE)
COMPACTED = RevisionCompacted("gone", code=StatusCode.OUT_OF_RANGE)


class Clock:
    """Stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def waits_of(watch: Following | Holding, clock: Clock, message: Message | None) -> list[float]:
    """How long it waits after each of 8 streams that end after this message, or at once."""
    waits = []
    for _ in range(8):
        watch.request()
        if message is not None:
            watch.receive(message)  # type: ignore[arg-type]
        waits.append(watch.failed(BROKEN))
        clock.now += waits[-1]
    return waits


def assert_grows(waits: list[float]) -> None:
    for wait, least in zip(waits, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0), strict=True):
        assert least <= wait <= 1.3 * least


@pytest.mark.parametrize("message", [None, synced(7), changed(7)], ids=["none", "synced", "change"])
def test_a_watch_whose_streams_end_soon_asks_ever_more_slowly(
    message: pb.WatchResponse | None,
) -> None:
    clock = Clock()
    assert_grows(waits_of(Following(RetryPolicy(), clock=clock), clock, message))


@pytest.mark.parametrize("message", [None, starting(), held()], ids=["none", "starting", "ready"])
def test_a_hold_whose_streams_end_soon_asks_ever_more_slowly(
    message: pb.HoldResponse | None,
) -> None:
    clock = Clock()
    holding = Holding(pb.HoldRequest(model="m"), RetryPolicy(), clock)
    assert_grows(waits_of(holding, clock, message))


@pytest.mark.parametrize(("alive", "longest"), [(9.9, 26.0), (10.0, 0.13), (3600.0, 0.13)])
def test_who_was_alive_for_a_while_is_asked_soon(alive: float, longest: float) -> None:
    clock = Clock()
    watch = Following(RetryPolicy(), clock=clock)
    hold = Holding(pb.HoldRequest(model="m"), RetryPolicy(), clock)
    waits_of(watch, clock, synced(7))
    waits_of(hold, clock, held())
    watch.request(), hold.request()
    watch.receive(changed(8))
    hold.receive(held())
    clock.now += alive
    for wait in (watch.failed(BROKEN), hold.failed(BROKEN)):
        assert 0.1 <= wait <= longest
        assert (wait > 1.0) == (alive < 10.0)


def test_a_history_that_is_gone_again_and_again_is_asked_for_ever_more_slowly() -> None:
    clock = Clock()
    watch = Following(RetryPolicy(), clock=clock)
    waits = []
    for _ in range(8):
        watch.request()
        watch.receive(synced(7))
        waits.append(watch.failed(COMPACTED))
        clock.now += waits[-1]
    assert_grows(waits)


def test_a_revision_never_goes_back() -> None:
    watch = Following(RetryPolicy(), clock=Clock())
    watch.request()
    for message in (changed(7), synced(7), changed(9, "a")):
        watch.receive(message)
    for message in (changed(8, "a"), removed(8, "a"), synced(8), pb.WatchResponse(revision=3)):
        assert watch.receive(message) == ()
    assert watch.revision == 9
    (event,) = watch.receive(changed(10, "a"))
    assert isinstance(event, ServerChanged)


def test_a_hold_is_of_one_model() -> None:
    hold = Holding(pb.HoldRequest(model="alias"), RetryPolicy(), Clock())
    hold.request()
    assert [one.model for one in hold.receive(held("m"))] == ["m"]
    assert hold.receive(held("other")) == ()
    hold.request()
    assert [one.model for one in hold.receive(held("other"))] == ["other"]


def test_a_held_server_that_is_nowhere_is_not_ready() -> None:
    hold = Holding(pb.HoldRequest(model="m"), RetryPolicy(), Clock())
    hold.request()
    assert hold.receive(held(endpoint="")) == ()
