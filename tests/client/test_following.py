import pytest
from grpc import StatusCode

from pool_service_client import (
    Event,
    PoolError,
    PoolUnavailable,
    RetryPolicy,
    RevisionCompacted,
    ServerChanged,
    ServerRemoved,
    Synced,
)
from pool_service_client.following import Following
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import changed, removed, synced

BROKEN = PoolUnavailable("broken", code=StatusCode.UNAVAILABLE)
COMPACTED = RevisionCompacted("gone", code=StatusCode.OUT_OF_RANGE)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def following(
    after: int | None = None, *, clock: Clock | None = None, patience: float = 30.0
) -> Following:
    return Following(RetryPolicy(patience=patience), after, clock=clock or Clock())


def tell(follower: Following, *responses: pb.WatchResponse) -> list[Event]:
    return [event for response in responses for event in follower.receive(response)]


def names(events: list[Event]) -> list[tuple[str, str | None]]:
    return [
        (type(event).__name__, getattr(getattr(event, "server", None), "model", None))
        for event in events
    ]


def test_a_break_is_resumed_after_the_last_change() -> None:
    follower = following()
    assert follower.request() == pb.WatchRequest()
    tell(follower, changed(7, "a"), synced(7), changed(8, "a"), removed(9, "a"))
    follower.failed(BROKEN)
    assert follower.request() == pb.WatchRequest(after_revision=9)


def test_a_break_right_after_the_present_state_is_resumed_after_it() -> None:
    follower = following()
    follower.request()
    tell(follower, synced(0))
    follower.failed(BROKEN)
    assert follower.request() == pb.WatchRequest(after_revision=0)


def test_a_break_within_the_present_state_begins_it_again() -> None:
    follower = following()
    follower.request()
    tell(follower, changed(7, "a"))
    follower.failed(BROKEN)
    assert follower.request() == pb.WatchRequest()


def test_what_went_between_two_present_states_is_reported_before_the_second_is_complete() -> None:
    follower = following()
    follower.request()
    tell(follower, changed(7, "a"), changed(7, "b"), synced(7))
    assert 0.1 <= follower.failed(COMPACTED) <= 0.13
    assert follower.request() == pb.WatchRequest()
    events = tell(follower, changed(20, "b"), changed(20, "c"), synced(20))
    assert names(events) == [
        ("ServerChanged", "b"),
        ("ServerChanged", "c"),
        ("ServerRemoved", "a"),
        ("Synced", None),
    ]
    assert events[2].revision == 20


def test_what_went_while_the_present_state_broke_off_is_reported_too() -> None:
    follower = following()
    follower.request()
    tell(follower, changed(7, "a"))
    follower.failed(BROKEN)
    follower.request()
    assert names(tell(follower, synced(8))) == [("ServerRemoved", "a"), ("Synced", None)]


def test_a_watch_after_a_revision_cannot_begin_again() -> None:
    follower = following(after=3)
    assert follower.request() == pb.WatchRequest(after_revision=3)
    tell(follower, changed(4))
    with pytest.raises(RevisionCompacted):
        follower.failed(COMPACTED)


def test_an_error_that_is_final_ends_the_watch() -> None:
    error = PoolError("a bug", code=StatusCode.INTERNAL)
    with pytest.raises(PoolError) as raised:
        following().failed(error)
    assert raised.value is error


def test_patience_counts_from_the_last_sign_of_life() -> None:
    clock = Clock()
    follower = following(clock=clock, patience=5.0)
    follower.request()
    follower.failed(BROKEN)
    clock.now += 4.0
    tell(follower, synced(1))
    clock.now += 4.0
    follower.failed(BROKEN)
    follower.request()
    clock.now += 4.99
    with pytest.raises(PoolUnavailable):
        follower.failed(BROKEN)


def test_a_stream_that_was_quiet_for_long_is_resumed_like_any_other() -> None:
    clock = Clock()
    follower = following(after=3, clock=clock, patience=5.0)
    for _ in range(3):
        follower.request()
        clock.now += 3600.0
        follower.failed(BROKEN)


def test_an_event_of_a_kind_not_known_moves_the_revision_only() -> None:
    follower = following(after=3)
    assert follower.receive(pb.WatchResponse(revision=4)) == ()
    assert follower.revision == 4


def test_events_carry_their_revision_and_the_server() -> None:
    follower = following()
    follower.request()
    events = tell(follower, changed(7, "a"), synced(7), removed(8, "a"))
    assert [type(event) for event in events] == [ServerChanged, Synced, ServerRemoved]
    assert [event.revision for event in events] == [7, 7, 8]
