import pytest
from grpc import StatusCode

from pool_service_client import (
    Cancelled,
    DeadlineExceeded,
    Evicted,
    FetchFailed,
    Found,
    PoolError,
    PoolFull,
    PoolUnavailable,
    Progress,
    RetryPolicy,
    Server,
    ServerState,
    ShuttingDown,
    StartFailed,
    convert,
)
from pool_service_client.holding import Held, Holding, Pulling
from pool_service_client.suspicion import Suspicion
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import held, ready, starting
from tests.client.test_following import BROKEN, Clock

DIED = StartFailed("died", code=StatusCode.UNAVAILABLE)
ENDS = ShuttingDown("ends", code=StatusCode.UNAVAILABLE)
ASKED = pb.HoldRequest(model="m", holder="me")


def holding(clock: Clock, patience: float = 5.0) -> Holding:
    return Holding(ASKED, RetryPolicy(patience), clock=clock)


def test_a_hold_is_asked_for_again_as_it_was() -> None:
    hold = holding(Clock())
    assert hold.request() == ASKED
    hold.failed(BROKEN)
    assert hold.request() == ASKED


def test_a_start_that_fails_is_given_up_though_each_stream_sends_a_state() -> None:
    clock = Clock()
    hold = holding(clock)
    hold.request()
    hold.receive(starting())
    hold.failed(DIED)
    clock.now += 6.0
    hold.request()
    hold.receive(starting())
    with pytest.raises(StartFailed):
        hold.failed(DIED)


def test_once_it_is_ready_failures_of_starts_are_counted_anew() -> None:
    clock = Clock()
    hold = holding(clock)
    for _ in range(3):
        hold.request()
        hold.receive(held())
        hold.failed(DIED)
        clock.now += 6.0


@pytest.mark.parametrize("error", [BROKEN, ENDS], ids=["broken", "shutting down"])
def test_a_break_of_a_stream_that_was_alive_is_a_first_failure(error: PoolError) -> None:
    clock = Clock()
    hold = holding(clock)
    for _ in range(3):
        hold.request()
        hold.receive(starting())
        hold.failed(error)
        clock.now += 6.0


def test_a_service_that_stays_away_is_reported_when_patience_is_over() -> None:
    clock = Clock()
    hold = holding(clock)
    hold.request()
    hold.receive(held())
    hold.failed(BROKEN)
    clock.now += 6.0
    hold.request()
    with pytest.raises(PoolUnavailable):
        hold.failed(BROKEN)


def test_an_error_that_is_final_ends_a_hold() -> None:
    with pytest.raises(Evicted):
        holding(Clock()).failed(Evicted("gone", code=StatusCode.ABORTED))


def test_a_pool_that_is_full_is_asked_again_when_it_said_so() -> None:
    full = PoolFull("full", code=StatusCode.RESOURCE_EXHAUSTED, retry_after=4.0)
    assert 4.0 <= holding(Clock(), patience=30.0).failed(full) <= 4.0 * 1.3


def test_a_download_that_gets_further_is_a_new_beginning() -> None:
    clock = Clock()
    pull = Pulling(pb.PullRequest(model="m"), RetryPolicy(5.0), clock=clock)
    failed = FetchFailed("no network", code=StatusCode.UNAVAILABLE)
    for done in (10, 20, 30):
        pull.request()
        pull.receive(pb.PullResponse(done_bytes=done - 5, total_bytes=40))
        assert pull.receive(pb.PullResponse(done_bytes=done, total_bytes=40)) == (
            Progress(done, 40),
        )
        pull.failed(failed)
        clock.now += 6.0
    pull.receive(pb.PullResponse(done_bytes=30, total_bytes=40))
    with pytest.raises(FetchFailed):
        pull.failed(failed)


def server(state: ServerState, detail: str = "") -> Server:
    return convert.server(ready(state=int(state), detail=detail))


STARTING, READY = server(ServerState.STARTING, "loads"), server(ServerState.READY)


def test_of_states_that_were_not_taken_the_newest_is_reported_once() -> None:
    hold = Held("m")
    assert not hold.has_news()
    hold.update(STARTING)
    hold.update(READY)
    assert hold.has_news()
    assert hold.take() is READY
    assert not hold.has_news()


def test_ready_is_the_last_received_state_and_nothing_older() -> None:
    hold = Held("m")
    assert hold.ready() is None
    hold.update(READY)
    assert hold.ready() is READY
    hold.update(STARTING)
    assert hold.ready() is None


def test_ready_after_a_server_is_another_process() -> None:
    hold = Held("m")
    hold.update(READY)
    assert hold.ready(Suspicion(STARTING)) is None, "the same process, as it was before"
    assert hold.ready(Suspicion(READY)) is None
    for other in (
        convert.server(ready(generation=2, pid=4711)),
        convert.server(ready(generation=1, pid=4712)),
    ):
        hold.update(other)
        assert hold.ready(Suspicion(READY)) is other
        assert hold.ready() is other


@pytest.mark.parametrize(
    ("found", "in_grace", "after_grace"),
    [
        (None, False, True),
        (Found(READY, answers=True), True, True),
        (Found(READY, answers=False), False, True),
        (Found(None, answers=False), False, False),
        (Found(STARTING, answers=False), False, False),
        (Found(convert.server(ready(generation=2)), answers=True), False, False),
        (Found(convert.server(ready("other", generation=2)), answers=True), False, True),
    ],
    ids=[
        "says nothing",
        "answers",
        "is slow",
        "is gone",
        "is not ready",
        "is another one",
        "is of another model, which the hold's name means by now",
    ],
)
def test_a_suspect_that_lives_is_handed_out_again(
    found: Found | None, in_grace: bool, after_grace: bool
) -> None:
    hold, suspicion = Held("m"), Suspicion(READY)
    hold.update(READY)
    if found is not None:
        suspicion.told(found)
    assert hold.ready(suspicion) is (READY if in_grace else None)
    suspicion.end_grace()
    assert hold.ready(suspicion) is (READY if after_grace else None)
    hold.update(STARTING)
    assert hold.ready(suspicion) is None, "whatever is suspected, it is not READY"


def test_the_service_is_asked_once_and_only_about_a_server_that_is_ready() -> None:
    hold, suspicion = Held("m"), Suspicion(READY)
    assert not hold.wants_check(suspicion)
    hold.update(STARTING)
    assert not hold.wants_check(suspicion)
    hold.update(convert.server(ready(generation=2)))
    assert not hold.wants_check(suspicion)
    hold.update(READY)
    assert hold.wants_check(suspicion)
    assert not hold.wants_check(suspicion)


def test_a_hold_that_is_over_asks_nothing() -> None:
    hold, suspicion = Held("m"), Suspicion(READY)
    hold.update(READY)
    hold.end()
    assert not hold.wants_check(suspicion)


def test_what_ended_a_hold_is_reported_after_its_last_state_and_from_then_on() -> None:
    hold = Held("m")
    hold.update(READY)
    hold.end(Evicted("gone"))
    assert hold.take() is READY
    for _ in range(2):
        with pytest.raises(Evicted):
            hold.take()
        with pytest.raises(Evicted):
            hold.ready()


def test_a_hold_that_was_closed_has_ended_and_not_failed() -> None:
    hold = Held("m")
    hold.update(READY)
    hold.end()
    hold.end(Cancelled("the call was cancelled"))
    assert hold.has_news()
    assert hold.take() is None
    with pytest.raises(Cancelled, match="the hold of 'm' was closed"):
        hold.ready()


def test_a_caller_that_gives_up_its_wait_gets_the_present_state() -> None:
    hold = Held("m")
    unknown = "'m' was not READY within 2 s: it is not known; the hold goes on"
    assert str(hold.late(2.0)) == unknown
    hold.update(STARTING)
    late = hold.late(0.5)
    assert isinstance(late, DeadlineExceeded)
    assert str(late) == "'m' was not READY within 0.5 s: it is STARTING (loads); the hold goes on"
    hold.update(READY)
    same = (
        "no other server of 'm' than generation 1 was READY within 0.5 s, and that one has not "
        "answered; the hold goes on"
    )
    assert str(hold.late(0.5, after=READY)) == same
