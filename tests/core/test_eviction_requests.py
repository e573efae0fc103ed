"""Evictions, and the end of the service."""

from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import CheckActivity, SendSignal
from pool_service.core.errors import CrashLoop, PoolError
from pool_service.core.events import (
    EnsureRequested,
    EvictRequested,
    ShutdownRequested,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase, Role, StopSignal
from tests.core.acting import drive
from tests.core.invariants import Ledger
from tests.core.parts import (
    DEFAULTS,
    M1,
    NOW,
    Field,
    Parts,
    answers,
    ended,
    kinds,
    made,
    of_kind,
    refused,
)
from tests.core.pools import DEFAULTS as POOL_DEFAULTS
from tests.core.pools import LOST, aside, shown

NO = PoolError("no")


def evict(parts: Parts, target: str | Every = "m", request_id: int = 9, **more: Field) -> None:
    parts.evicting.evict(EvictRequested(request_id, target, **more), NOW)


def looked_at(parts: Parts) -> list[str]:
    return [one.server_id.model for one in of_kind(parts.taken(), CheckActivity)]


# --- one model ------------------------------------------------------------------------------


def test_a_ready_server_is_looked_at_first_and_its_holders_keep_it() -> None:
    parts = Parts(aliases={"alias": "m"})
    parts.there()
    evict(parts, "alias")
    assert kinds(parts.taken()) == ["CheckActivity"]
    parts = Parts()
    parts.there()
    parts.holds(7)
    evict(parts)
    assert refused(parts.taken()) == {9: "ServerInUse"}
    assert parts.state.evictions.servers() == set()
    assert parts.shown().phase is Phase.READY


def test_by_force_a_server_drains_at_once_and_all_who_hold_or_wait_are_told() -> None:
    parts = Parts()
    parts.there()
    parts.holds(7)
    parts.waits(1)
    evict(parts, force=True)
    issued = parts.taken()
    assert refused(issued) == {1: "Evicted", 7: "Evicted"}
    assert (parts.shown().phase, parts.shown().stop_cause) == (Phase.STOPPING, Cause.EVICTED)
    assert kinds(issued) == ["Answer", "Answer", "CheckActivity"]
    assert len(parts.state.waiters) == 0


def test_a_start_is_ended_without_a_look_and_who_waits_is_told() -> None:
    parts = Parts()
    parts.there(phase=Phase.STARTING)
    parts.waits(1)
    evict(parts)
    issued = parts.taken()
    assert refused(issued) == {1: "Evicted"}
    assert [one.stop for one in of_kind(issued, SendSignal)] == [StopSignal.TERMINATE]


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.BACKING_OFF, Phase.FAILED])
def test_what_has_no_process_is_gone_and_answered_at_once(phase: Phase) -> None:
    parts = Parts()
    parts.there(phase=phase)
    evict(parts)
    assert parts.server() is None
    assert list(answers(parts.taken())) == [9]


def test_who_evicts_what_is_leaving_waits_for_its_end() -> None:
    parts = Parts()
    parts.there(phase=Phase.CLEANING_UP)
    evict(parts)
    assert parts.taken() == []
    assert len(parts.state.evictions.of(M1)) == 1


def test_where_there_is_nothing_the_answer_is_nothing_and_a_failed_start_is_forgotten() -> None:
    parts = Parts()
    parts.state.failed_starts.add("m", "m", NO, NOW + 9.0)
    parts.state.failed_starts.add("n", "n", NO, NOW + 9.0)
    evict(parts)
    assert answers(parts.taken()) == {9: ()}
    assert parts.state.failed_starts.find("m", "m", NOW) is None
    assert parts.state.failed_starts.find("n", "n", NOW) is NO


@pytest.mark.parametrize(("force", "goes"), [(False, False), (True, True)])
def test_what_was_replaced_and_is_in_use_goes_by_itself_unless_by_force(
    force: bool, goes: bool
) -> None:
    parts = Parts()
    row = parts.there(role=Role.SUPERSEDED)
    parts.there(generation=2)
    evict(parts, force=force)
    assert (row.server.phase is Phase.STOPPING) is goes
    assert bool(parts.state.evictions.of(M1)) is goes


# --- more than one --------------------------------------------------------------------------


def test_of_the_idle_only_those_are_looked_at_that_nobody_is_about_to_use() -> None:
    parts = Parts()
    parts.there("idle")
    parts.there("just used", last_used_at=NOW - DEFAULTS.grace_period + 0.1)
    parts.there("settled", last_used_at=NOW - DEFAULTS.grace_period)
    parts.there("held")
    parts.holds(7, "held")
    parts.there("pinned", settings=replace(DEFAULTS, runtime_model="pinned", pinned=True))
    parts.there("starting", Phase.STARTING)
    parts.there("failed", Phase.FAILED)
    evict(parts, Every.IDLE)
    assert looked_at(parts) == ["idle", "settled"]
    (eviction,) = parts.state.evictions.take()
    assert eviction.only_idle
    assert not eviction.names_one


def test_all_are_evicted_but_the_held_unless_by_force() -> None:
    parts = Parts()
    parts.there("a")
    parts.there("b", Phase.FAILED)
    parts.there("c")
    parts.holds(7, "c")
    parts.state.failed_starts.add("n", "n", NO, NOW + 9.0)
    evict(parts, Every.ALL)
    assert looked_at(parts) == ["a"]
    assert parts.server("b") is None
    assert [one.model for one in parts.state.evictions.servers()] == ["a"]
    assert parts.state.failed_starts.find("n", "n", NOW) is None
    evict(parts, Every.ALL, 10, force=True)
    assert parts.shown("c").phase is Phase.STOPPING


# --- the end of the service -----------------------------------------------------------------


def test_a_shutdown_drains_all_and_is_answered_when_nothing_is_left() -> None:
    parts = Parts()
    parts.there("a")
    parts.queued("b")
    parts.holds(7, "a")
    parts.evicting.shut_down(ShutdownRequested(9), NOW)
    assert parts.state.is_closing
    assert refused(parts.taken()) == {100: "ShuttingDown", 7: "ShuttingDown"}
    assert (parts.shown("a").phase, parts.shown("a").stop_cause) == (
        Phase.STOPPING,
        Cause.SHUTDOWN,
    )
    assert parts.server("b") is None


@pytest.mark.parametrize("stops", [True, False])
def test_the_order_of_namings_is_recorded_after_what_is_done_to_servers(*, stops: bool) -> None:
    parts = Parts()
    for model in ("q", "r", "q"):
        parts.state.namings.add(model, "x")
    parts.there("a")
    parts.there("b", Phase.PREPARING)
    if stops:
        parts.evicting.shut_down(ShutdownRequested(9), NOW)
    else:
        parts.evicting.detach(NOW)
    issued = kinds(parts.taken())
    assert len(issued) > 1
    assert issued.index("RecordNamings") == len(issued) - 1


def test_a_shutdown_of_an_empty_pool_is_answered_at_once() -> None:
    parts = Parts()
    parts.evicting.shut_down(ShutdownRequested(9), NOW)
    assert answers(parts.taken()) == {9: ()}


def test_who_leaves_lets_the_servers_run_and_lets_nobody_wait() -> None:
    parts = Parts()
    last_exit = ended(made()).last_exit
    running = parts.there("ready")
    parts.holds(7, "ready")
    starting = parts.there("starting", Phase.STARTING)
    parts.waits(1, "starting")
    parts.there("backing", Phase.BACKING_OFF, 2, last_exit=last_exit)
    parts.there("preparing", Phase.PREPARING)
    parts.queued("queued")
    parts.evicts(9, running)
    parts.evicting.detach(NOW)
    issued = parts.taken()
    assert refused(issued) == dict.fromkeys((1, 7, 9, 100), "ShuttingDown")
    assert not of_kind(issued, SendSignal)
    assert (running.server.phase, starting.server.phase) == (Phase.READY, Phase.STARTING)
    assert (parts.server("queued"), parts.server("preparing")) == (None, None)
    assert parts.shown("backing").phase is Phase.FAILED


def test_after_that_nothing_is_evicted_or_stopped_any_more() -> None:
    parts = Parts()
    row = parts.there()
    parts.evicting.detach(NOW)
    evict(parts, force=True)
    parts.evicting.shut_down(ShutdownRequested(10), NOW)
    assert refused(parts.taken()) == {9: "ShuttingDown", 10: "tuple"}
    assert row.server.phase is Phase.READY


def test_an_escalation_counts_for_stops_of_now_and_later() -> None:
    parts = Parts()
    parts.there("a", Phase.STOPPING, drain_by=NOW + 60.0)
    parts.there("b")
    parts.evicting.escalate(NOW)
    sent = of_kind(parts.taken(), SendSignal)
    assert [one.server_id.model for one in sent] == ["a"]
    evict(parts, "b", force=True)
    assert kinds(parts.taken()) == ["SendSignal"]


# --- through the machine ---------------------------------------------------------------------


@pytest.mark.parametrize("target", ["a", Every.ALL])
def test_an_eviction_forgets_a_crash_loop_of_what_still_drains(target: str | Every) -> None:
    limits = Limits(crash_limit=1)
    ledger = Ledger(lambda: Machine(Catalogue(POOL_DEFAULTS), limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    ledger.handle(LOST)
    ledger.handle(EnsureRequested(2, "a"))
    assert isinstance(ledger.answers[2].result, CrashLoop)
    ledger.handle(EvictRequested(3, target))
    ledger.handle(EnsureRequested(4, "a"))
    assert aside(ledger).phase is Phase.STOPPING
    next_one = shown(ledger, "a")
    assert (next_one.phase, next_one.crashes) == (Phase.QUEUED, ())
    drive(ledger)
    assert shown(ledger, "a").phase is Phase.READY
