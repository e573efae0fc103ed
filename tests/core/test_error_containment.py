"""What the pool does when a transition raised: it costs one server, and that is put right."""

from dataclasses import replace

import pytest

from pool_service.core import commands, events, lifecycle, replacement
from pool_service.core.activity import Activity
from pool_service.core.commands import Answer, LogInternalError, Publish
from pool_service.core.errors import ModelRejected, PoolError
from pool_service.core.events import (
    ActivityReported,
    EnsureRequested,
    Event,
    EvictRequested,
    Exited,
    Prepared,
    ServerProbed,
    ShutdownEscalated,
    TimeReached,
)
from pool_service.core.internal_error_policy import MAX_FAULTS, RETRY_PAUSE_S
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Phase, ServerId
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import FOREVER, ProbeResult
from tests.core.acting import drive, plan
from tests.core.breaking import PatientLedger, Place, breakable
from tests.core.parts import (
    M1,
    NOW,
    Parts,
    answers,
    died,
    kinds,
    made,
    of_kind,
    refused,
)
from tests.core.pools import LOST, aside, one_ready, shown

BUG = ValueError("a bug")


def breaks(parts: Parts, row: Row, event: Event | None) -> list[str]:
    """Let the transition of a server break at an event; return what is commanded."""
    parts.containment.event = event
    parts.containment.break_off(row.server.model, row.server.id, BUG, NOW)
    issued = kinds(parts.state.commands)
    assert issued[0] == "LogInternalError"
    assert "the repair" not in [
        one.during for one in of_kind(parts.state.commands, LogInternalError)
    ]
    return issued[1:]


# --- whom it costs --------------------------------------------------------------------------


def test_one_that_raises_costs_no_other_its_turn() -> None:
    parts = Parts()
    rows = [parts.there(model) for model in "abc"]
    done: list[str] = []

    def do(row: Row) -> None:
        if row.server.model == "b":
            raise BUG
        done.append(row.server.model)

    parts.containment.each(rows, do, NOW)
    assert done == ["a", "c"]
    (told,) = of_kind(parts.taken(), LogInternalError)
    assert (told.model, told.error) == ("b", BUG)
    assert parts.containment.is_damaged


def test_what_is_gone_by_its_turn_is_left_out() -> None:
    parts = Parts()
    first, second = parts.there("a", Phase.FAILED), parts.there("b", Phase.FAILED)
    done: list[str] = []

    def do(row: Row) -> None:
        done.append(row.server.model)
        parts.state.drop(second.server)

    parts.containment.each([first, second], do, NOW)
    assert done == ["a"]


def test_who_waits_for_a_model_whose_start_raised_is_told_and_no_other() -> None:
    parts = Parts()
    parts.waits(1)
    parts.waits(2, "n")

    def do(model: str) -> None:
        raise BUG

    parts.containment.attempt("m", do, NOW)
    issued = parts.taken()
    assert refused(issued) == {1: "PoolError"}
    assert [waiter.request_id for waiter in parts.state.waiters.of("n")] == [2]


# --- how the server goes on -----------------------------------------------------------------


def test_a_start_without_a_process_is_failed_for_a_moment_and_all_are_told() -> None:
    parts = Parts(failure_memory=2.0)
    row = parts.there(phase=Phase.PREPARING)
    parts.waits(1)
    parts.holds(7)
    breaks(parts, row, Prepared(M1, plan("m", 1)))
    assert refused(parts.taken()) == {1: "PoolError", 7: "PoolError"}
    server = parts.shown()
    assert (server.phase, server.retry_at, server.holds) == (Phase.FAILED, NOW + 2.0, 0)
    assert isinstance(server.failure, PoolError)


@pytest.mark.parametrize("deadline", [NOW + 100.0, FOREVER])
def test_a_load_goes_on_unless_what_it_waited_for_broke(deadline: float) -> None:
    for event, issued in ((None, []), (TimeReached(), ["SendSignal"])):
        parts = Parts()
        row = parts.there(phase=Phase.STARTING, step_deadline=deadline)
        assert breaks(parts, row, event) == issued
        assert row.server.phase is (Phase.STOPPING if issued else Phase.STARTING)


def test_a_ready_server_goes_on_with_its_holders_and_is_looked_at_after_a_pause() -> None:
    parts = Parts()
    row = parts.there()
    parts.holds(7)
    parts.waits(1)
    row.is_checking = row.is_cordoned = True
    assert breaks(parts, row, ActivityReported(M1, Activity(0))) == ["Answer"]
    assert refused(parts.taken()) == {1: "PoolError"}
    assert (row.server.phase, row.server.holds) == (Phase.READY, 1)
    assert (row.is_checking, row.is_cordoned) == (False, False)
    assert row.busy_until == NOW + RETRY_PAUSE_S


def test_a_probe_that_was_used_up_comes_again_after_a_pause() -> None:
    parts = Parts()
    row = parts.there(step_deadline=FOREVER)
    breaks(parts, row, ServerProbed(M1, ProbeResult(answered=True, progress=())))
    assert row.server.step_deadline == NOW + RETRY_PAUSE_S


def test_a_ready_server_of_which_too_many_looks_broke_ends() -> None:
    parts = Parts()
    row = parts.there()
    for number in range(1, MAX_FAULTS + 1):
        issued = breaks(parts, row, ActivityReported(M1, Activity(0)))
        parts.taken()
        assert issued == (["SendSignal"] if number == MAX_FAULTS else [])


def test_a_wish_that_broke_before_it_changed_anything_costs_nobody_else_anything() -> None:
    parts = Parts()
    server = parts.there(phase=Phase.STARTING).server
    parts.waits(1)
    row = parts.state.table.find(M1)
    assert row is not None
    assert breaks(parts, row, EnsureRequested(2, "m")) == []
    assert row.server == server
    assert len(parts.state.waiters) == 1


def test_a_process_that_ended_is_cleaned_up_whatever_broke() -> None:
    parts = Parts()
    row = parts.there()
    assert breaks(parts, row, Exited(M1, died())) == ["CleanUp"]
    assert row.server.phase is Phase.CLEANING_UP


def test_who_evicts_what_stays_is_told_so_and_of_what_is_gone_that_it_is() -> None:
    parts = Parts()
    row = parts.there()
    parts.evicts(9, row)
    breaks(parts, row, ActivityReported(M1, Activity(0)))
    assert refused(parts.taken()) == {9: "PoolError"}
    parts = Parts()
    row = parts.there(phase=Phase.PREPARING)
    parts.evicts(9, row)
    breaks(parts, row, Prepared(M1, plan("m", 1)))
    assert refused(parts.taken()) == {9: "tuple"}


def test_a_server_is_put_right_though_what_writes_servers_is_what_broke(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(failure_ttl=600.0)
    row = parts.queued()
    monkeypatch.setattr(parts.state, "put", _raises)
    parts.containment.event = Prepared(M1, plan("m", 1))
    parts.containment.break_off("m", M1, BUG, NOW)
    issued = parts.taken()
    assert refused(issued) == {100: "PoolError"}
    assert row.server.phase is Phase.FAILED
    (told,) = of_kind(issued, Publish)
    assert (told.server, told.before) == (row.server, Phase.QUEUED)
    assert parts.state.queue == {}
    assert parts.state.deadlines.next() == NOW + 600.0


def _raises(*_: object) -> None:
    raise BUG


def test_nobody_is_answered_twice_in_one_transition() -> None:
    parts = Parts()
    parts.waits(1)
    parts.state.commands.append(Answer(1, "an answer"))
    parts.containment.fail_callers("m", PoolError("no"))
    assert answers(parts.taken()) == {1: "an answer"}
    assert len(parts.state.waiters) == 0


# --- the audit ------------------------------------------------------------------------------


def audited(parts: Parts) -> list[str]:
    parts.containment.audit(NOW)
    issued = parts.taken()
    assert not of_kind(issued, LogInternalError)
    return kinds(issued)


def test_a_state_in_step_is_left_as_it_is() -> None:
    parts = Parts()
    parts.queued(needed=4)
    parts.there("n")
    parts.holds(7, "n")
    before = [row.server for row in parts.state.table]
    parts.state.capacity_changed = False
    assert audited(parts) == []
    assert [row.server for row in parts.state.table] == before
    assert parts.state.capacity_changed


def test_a_start_that_is_not_in_line_or_that_nobody_wants_comes_to_nothing() -> None:
    parts = Parts()
    parts.queued()
    parts.state.queue.clear()
    audited(parts)
    assert parts.shown().phase is Phase.FAILED
    parts = Parts()
    parts.queued()
    parts.state.waiters.take("m")
    audited(parts)
    assert parts.shown().phase is Phase.FAILED


def test_who_waits_holds_or_evicts_what_does_not_come_is_let_go() -> None:
    parts = Parts()
    parts.waits(1)
    parts.holds(7)
    parts.evicts(9, Row(made()))
    audited(parts)
    assert len(parts.state.waiters) == 0
    assert not parts.state.holds.has(7)
    assert parts.state.evictions.servers() == set()


def test_deadlines_and_indexes_are_derived_anew() -> None:
    parts = Parts()
    row = parts.there(step_deadline=NOW + 5.0, expected=7)
    parts.state.deadlines.set(M1, FOREVER)
    parts.state.table.reserved = 99
    row.server = replace(row.server, expected=8)
    audited(parts)
    assert parts.state.deadlines.next() == NOW + 5.0
    assert parts.state.table.reserved == 8


# --- through the machine ---------------------------------------------------------------------


@pytest.mark.parametrize("escalated", [False, True])
@pytest.mark.parametrize(
    "place",
    [
        (lifecycle, "stopping"),
        (replacement, "superseded"),
        (lifecycle, "signalled"),
        (Stopper, "signal"),
        (Supervisor, "stop"),
    ],
    ids=lambda place: place[1] if isinstance(place, tuple) else None,
)
def test_what_was_told_to_end_is_not_handed_out_whatever_breaks_then(
    place: Place, escalated: bool
) -> None:
    with breakable() as fault:
        for at in (1, 2):
            for late in (False, True):
                ledger = one_ready(PatientLedger)
                if escalated:
                    ledger.handle(ShutdownEscalated())
                fault.arm(place, at, late=late)
                told = ledger.handle(LOST)
                fault.disarm()
                if any(isinstance(c, commands.SendSignal) for c in told):
                    given = ledger.machine.get("a")
                    assert given is None or given.phase is not Phase.READY
                drive(ledger)


def test_an_eviction_is_answered_whatever_breaks_as_its_server_is_gone() -> None:
    with breakable() as fault:
        ledger = one_ready(PatientLedger)
        fault.arm((lifecycle, "with_crashes"), 1, late=True)
        ledger.handle(EvictRequested(2, "a", force=True))
        drive(ledger)
        assert fault.struck == 1
    assert 2 in ledger.answers


def test_a_broken_estimate_fails_the_model_that_waits_and_not_its_predecessor() -> None:
    with breakable() as fault:
        ledger = one_ready(PatientLedger)
        ledger.handle(LOST)
        ledger.handle(EnsureRequested(2, "a"))
        assert shown(ledger, "a").phase is Phase.QUEUED
        fault.arm((Scheduler, "on_estimate_failed"), 1, late=False)
        ledger.handle(events.EstimateFailed(ServerId("a", 2), ModelRejected("no", model="a")))
        fault.disarm()
        assert ledger.machine.get("a") is None
        assert aside(ledger).phase is Phase.STOPPING
        assert isinstance(aside(ledger).failure, PoolError)
    drive(ledger)
    assert shown(ledger, "a").phase is Phase.FAILED


def test_the_number_of_a_superseded_server_is_not_given_again_when_its_end_breaks() -> None:
    with breakable() as fault:
        ledger = one_ready(PatientLedger)
        ledger.handle(LOST)
        fault.arm((Supervisor, "conclude"), 1, late=False)
        drive(ledger)
        fault.disarm()
        assert ledger.servers == []
        ledger.handle(EnsureRequested(2, "a"))
        drive(ledger)
        server = shown(ledger, "a")
        assert (server.phase, server.generation) == (Phase.READY, 2)
