"""How a process is brought to its end: the drain, and one signal after the other."""

from dataclasses import replace

import pytest

from pool_service.core import commands, events
from pool_service.core import draining as drain
from pool_service.core import lifecycle as life
from pool_service.core.activity import Activity
from pool_service.core.commands import CheckActivity, EscalateCleanUp, Publish, SendSignal
from pool_service.core.events import (
    EvictRequested,
    TimeReached,
)
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase, Server, StopSignal
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Settings
from tests.core.acting import plan
from tests.core.parts import DEFAULTS, M1, NOW, Field, Parts, identity, kinds, of_kind
from tests.core.pools import LOST, answer_look, aside, looks, one_ready

DRAIN_BY = NOW + DEFAULTS.drain_timeout


def begun(parts: Parts, **changes: Field) -> Server:
    """Begin the stop of a READY server."""
    row = parts.there(**changes)
    parts.stopper.begin(life.stopping(row.server, Cause.IDLE), NOW, at_once=False)
    return parts.shown()


def draining(parts: Parts) -> Server:
    """Let a server drain, as it is after its first look."""
    begun(parts)
    parts.taken()
    return parts.shown()


def signals(parts: Parts) -> list[StopSignal]:
    sent = of_kind(parts.taken(), SendSignal)
    assert {(one.server_id, one.identity) for one in sent} <= {(M1, identity(M1))}
    return [one.stop for one in sent]


# --- the first signal -----------------------------------------------------------------------


def test_a_ready_server_is_asked_for_what_is_in_flight_before_its_first_signal() -> None:
    parts = Parts()
    server = begun(parts)
    assert (server.phase, server.drain_by, server.stop_signal) == (Phase.STOPPING, DRAIN_BY, None)
    assert kinds(parts.taken()) == ["CheckActivity"]
    assert parts.state.deadlines.next() == DRAIN_BY


def test_what_is_unused_as_was_just_seen_gets_its_signal_at_once() -> None:
    parts = Parts()
    row = parts.there()
    parts.stopper.begin(life.stopping(row.server, Cause.IDLE), NOW, at_once=True)
    assert signals(parts) == [StopSignal.TERMINATE]
    assert parts.shown().stop_signal is StopSignal.TERMINATE


def test_a_runtime_that_drains_by_itself_gets_its_signal_at_once() -> None:
    parts = Parts()
    begun(parts, plan=replace(plan("m", 1), drains=True))
    assert signals(parts) == [StopSignal.TERMINATE]


def test_what_never_was_ready_has_nothing_in_flight() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STARTING)
    parts.stopper.begin(life.stopping(row.server, Cause.EVICTED), NOW, at_once=False)
    assert signals(parts) == [StopSignal.TERMINATE]
    assert parts.shown().step_deadline == NOW + DEFAULTS.stop_timeout


def test_an_escalated_stop_does_not_drain() -> None:
    parts = Parts()
    parts.state.is_escalated = True
    begun(parts)
    assert signals(parts) == [StopSignal.TERMINATE]
    assert parts.shown().step_deadline == NOW + life.ESCALATION_PAUSE_S


@pytest.mark.parametrize("at_once", [False, True])
def test_what_has_no_process_yet_is_signalled_when_it_has_one(at_once: bool) -> None:
    parts = Parts()
    row = parts.there(phase=Phase.SPAWNING)
    parts.stopper.begin(life.stopping(row.server, Cause.EVICTED), NOW, at_once=at_once)
    assert kinds(parts.taken()) == []
    assert parts.shown().phase is Phase.STOPPING


def test_what_may_not_be_ours_is_not_signalled() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STARTING)
    row.is_adopting = True
    parts.stopper.begin(life.stopping(row.server, Cause.EVICTED), NOW, at_once=True)
    assert kinds(parts.taken()) == []


# --- what a look shows ----------------------------------------------------------------------


def test_a_look_that_began_before_the_stop_tells_nothing_and_is_made_again() -> None:
    parts = Parts()
    row = parts.there()
    row.is_checking = True
    state = parts.state
    stopping = life.stopping(row.server, Cause.IDLE)
    parts.stopper.begin(stopping, NOW, at_once=False)
    assert of_kind(parts.taken(), CheckActivity) == [], "one look at a time"
    parts.stopper.on_activity_reported(row, Activity(0), NOW)
    assert kinds(parts.taken()) == ["CheckActivity"]
    parts.stopper.on_activity_reported(row, Activity(0), NOW)
    assert signals(parts) == [StopSignal.TERMINATE]
    assert state.table.find(M1) is row


@pytest.mark.parametrize("requests", [1, None])
def test_what_is_in_flight_is_waited_for_with_longer_and_longer_pauses(
    requests: int | None,
) -> None:
    parts = Parts()
    draining(parts)
    row = parts.state.table.find(M1)
    assert row is not None
    for waited, pause in ((0.0, 0.1), (5.0, 0.5), (30.0, 1.0), (59.5, 0.5)):
        parts.stopper.on_activity_reported(row, Activity(requests), NOW + waited)
        assert row.server.step_deadline == pytest.approx(NOW + waited + pause)
        assert kinds(parts.taken()) == []


def test_that_a_drain_waits_is_published_once() -> None:
    parts = Parts()
    draining(parts)
    row = parts.state.table.find(M1)
    assert row is not None
    told = []
    for at in range(3):
        parts.stopper.on_activity_reported(row, Activity(1), NOW + at)
        told += of_kind(parts.taken(), Publish)
    assert [one.server.detail for one in told] == [f"{Cause.IDLE.value}; {drain.WAITS}"]


def test_a_look_after_the_first_signal_changes_nothing() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, stop_signal=StopSignal.TERMINATE, drain_by=DRAIN_BY)
    parts.stopper.on_activity_reported(row, Activity(0), NOW)
    assert parts.taken() == []


# --- one signal after the other -------------------------------------------------------------


def test_until_its_drain_is_over_a_server_is_looked_at_again_and_then_signalled() -> None:
    parts = Parts()
    parts.stopper.go_on(draining(parts), DRAIN_BY - 0.1)
    assert kinds(parts.taken()) == ["CheckActivity"]
    assert parts.shown().step_deadline == DRAIN_BY
    parts.stopper.go_on(parts.shown(), DRAIN_BY)
    assert signals(parts) == [StopSignal.TERMINATE]


def test_the_signals_follow_each_other_when_their_time_is_over() -> None:
    parts = Parts()
    server = draining(parts)
    sent = []
    for _ in range(4):
        now = server.step_deadline
        parts.stopper.go_on(server, now)
        sent += signals(parts)
        server = parts.shown()
        assert server.step_deadline == now + DEFAULTS.stop_timeout
    kill = StopSignal.KILL
    assert sent == [StopSignal.TERMINATE, StopSignal.INTERRUPT, kill, kill]


def test_an_escalated_stop_gets_its_next_signal_and_a_clean_up_drains_no_longer() -> None:
    parts = Parts()
    stopping = parts.there(phase=Phase.STOPPING, stop_signal=StopSignal.TERMINATE)
    parts.stopper.escalate(stopping, NOW)
    assert signals(parts) == [StopSignal.INTERRUPT]
    cleaning_up = parts.there("n", Phase.CLEANING_UP)
    parts.stopper.escalate(cleaning_up, NOW)
    assert parts.taken() == [
        EscalateCleanUp(cleaning_up.server.id, identity(cleaning_up.server.id))
    ]


def test_what_does_not_stop_yet_or_is_not_known_to_be_ours_is_not_escalated() -> None:
    parts = Parts()
    sought = parts.there("sought", Phase.STOPPING)
    sought.is_adopting = True
    unborn = parts.there("unborn", Phase.STOPPING, identity=None)
    for row in (parts.there(), sought, unborn):
        parts.stopper.escalate(row, NOW)
    assert parts.taken() == []


def test_a_stop_without_a_deadline_of_its_drain_is_signalled() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, step_deadline=FOREVER)
    parts.stopper.go_on(row.server, NOW)
    assert signals(parts) == [StopSignal.TERMINATE]


# --- through the machine ---------------------------------------------------------------------


@pytest.mark.parametrize("ending", [LOST, EvictRequested(3, "a", force=True)])
def test_a_look_that_began_before_the_drain_does_not_end_it(
    ending: events.ListenerLost | EvictRequested,
) -> None:
    ledger = one_ready()
    assert looks(ledger.handle(EvictRequested(2, Every.ALL))) == 1
    assert looks(ledger.handle(ending)) == 0, "one look at a time"
    again = answer_look(ledger)
    assert not [c for c in again if isinstance(c, commands.SendSignal)], "it could not tell"
    assert looks(again) == 1
    assert [c for c in answer_look(ledger) if isinstance(c, commands.SendSignal)]


def test_what_goes_on_aside_is_not_looked_at_twice_at_a_time() -> None:
    ledger = one_ready()
    ledger.now = 30.0
    asked = [c for _ in range(2) for c in ledger.handle(TimeReached())]
    assert looks(asked) == 1
    assert looks(ledger.handle(LOST)) == 0
    assert looks(answer_look(ledger)) == 1
    assert aside(ledger).phase is Phase.STOPPING


@pytest.mark.parametrize(
    ("deadline", "stop_signal", "seconds"),
    [
        (NOW + 3.0, StopSignal.TERMINATE, 3.0),
        (NOW + 3.0, None, 3.0),
        (NOW + 3.0, StopSignal.KILL, 0.0),
        (NOW - 3.0, StopSignal.TERMINATE, 0.0),
    ],
)
def test_what_a_stopped_server_left_has_the_rest_of_its_time_to_drain(
    deadline: float, stop_signal: StopSignal | None, seconds: float
) -> None:
    stopping = Server(
        model="m",
        settings=Settings("m"),
        phase=Phase.STOPPING,
        generation=1,
        created_at=0.0,
        last_used_at=0.0,
        keep_alive=FOREVER,
        ready_at=1.0,
        step_deadline=deadline,
        stop_signal=stop_signal,
    )
    report = ExitReport(None, 15, Diagnosis.CRASHED, "was ended by SIGTERM", ())
    assert drain.drain_time(stopping, report, NOW) == seconds
