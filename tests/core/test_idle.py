"""What goes because it is not used, and what an eviction without force is told by each look."""

from dataclasses import replace

import pytest

from pool_service.core import commands, events
from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Command
from pool_service.core.errors import RuntimeModelConflict, ServerInUse
from pool_service.core.events import EnsureRequested, EvictRequested
from pool_service.core.idle import AFTERGLOW_S, BUSY_PAUSE_S
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.results import Ensured, Every
from pool_service.core.server import Cause, Phase, Role, ServerId
from pool_service.core.table import Row
from pool_service.core.types import FOREVER, Settings
from tests.core.acting import drive
from tests.core.invariants import Ledger
from tests.core.parts import DEFAULTS, LOADED_AT, NOW, Field, Parts, answers, kinds, refused


def ready(grace_period: float = 0.0) -> Ledger:
    """A pool in which `a` is READY."""
    limits = Limits()
    defaults = Settings("", keep_alive=30.0, grace_period=grace_period, drain_timeout=300.0)
    ledger = Ledger(lambda: Machine(Catalogue(defaults), limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    return ledger


def pauses(issued: list[Command]) -> list[float]:
    """For how long each look that is commanded waits."""
    return [command.pause for command in issued if isinstance(command, commands.CheckActivity)]


def found(ledger: Ledger, requests: int | None) -> list[Command]:
    """The look under way finds so many requests in flight."""
    ledger.done(next(c for c in ledger.outstanding if isinstance(c, commands.CheckActivity)))
    return ledger.handle(events.ActivityReported(ServerId("a", 1), Activity(requests)))


@pytest.mark.parametrize("requests", [1, None])
@pytest.mark.parametrize("target", ["a", Every.ALL, Every.IDLE])
def test_what_is_found_busy_is_looked_at_once_more_a_moment_later(
    target: str | Every, requests: int | None
) -> None:
    ledger = ready()
    assert pauses(ledger.handle(EvictRequested(2, target))) == [0.0]
    first = found(ledger, requests)
    assert (pauses(first), answers(first)) == ([AFTERGLOW_S], {})
    second = found(ledger, requests)
    assert pauses(second) == []
    told = answers(second)[2]
    assert isinstance(told, ServerInUse) if target == "a" else told == ()


def test_an_unused_server_is_cordoned_checked_again_and_stopped() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, "a"))
    found(ledger, 1)
    assert pauses(found(ledger, 0)) == [0.0]
    assert [c for c in found(ledger, 0) if isinstance(c, commands.SendSignal)]


def test_what_is_unused_at_the_first_look_is_looked_at_without_a_pause() -> None:
    ledger = ready()
    assert pauses(ledger.handle(EvictRequested(2, "a"))) == [0.0]
    assert pauses(found(ledger, 0)) == [0.0]
    assert [c for c in found(ledger, 0) if isinstance(c, commands.SendSignal)]


def test_who_waits_behind_an_eviction_is_given_nothing_until_the_last_look() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, "a"))
    found(ledger, 0)
    ledger.handle(EnsureRequested(3, "a"))
    assert answers(found(ledger, 1)) == {}
    last = found(ledger, 0)
    assert [c for c in last if isinstance(c, commands.SendSignal)], "it was marked"
    assert answers(last) == {}
    drive(ledger)
    assert not ledger.waiting


def test_each_eviction_gets_a_look_that_began_after_it() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, "a"))
    found(ledger, 1)
    assert pauses(ledger.handle(EvictRequested(3, "a"))) == []
    settled = found(ledger, 1)
    assert list(answers(settled)) == [2]
    assert pauses(settled) == [AFTERGLOW_S]
    assert list(answers(found(ledger, 1))) == [3]


def test_what_has_to_reside_is_not_looked_at_twice_for_an_eviction_of_the_idle() -> None:
    ledger = ready(grace_period=10.0)
    ledger.now = 20.0
    assert pauses(ledger.handle(EvictRequested(2, Every.IDLE))) == [0.0]
    told = found(ledger, 1)
    assert (pauses(told), answers(told)) == ([], {2: ()})


def test_a_look_after_a_busy_one_that_no_eviction_waits_for_has_no_pause() -> None:
    ledger = ready()
    ledger.now = 30.0
    ledger.reach_time(0.0)
    assert pauses(found(ledger, 1)) == []


# --- one look after the other -------------------------------------------------------------


def looked(parts: Parts, row: Row, requests: int | None = 0, now: float = NOW) -> list[str]:
    """Return what follows when a look has found so many requests."""
    parts.idle.on_activity_reported(row, Activity(requests), now)
    return kinds(parts.taken())


def test_a_server_is_looked_at_once_at_a_time_and_is_not_due_meanwhile() -> None:
    parts = Parts()
    row = parts.there()
    parts.idle.check(row)
    parts.idle.check(row)
    assert pauses(parts.taken()) == [0.0]
    assert parts.state.deadlines.next() == FOREVER


EXPIRED: dict[str, Field] = {"last_used_at": NOW - DEFAULTS.keep_alive}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (EXPIRED, Cause.IDLE),
        (EXPIRED | {"outdated": True}, Cause.RELOADED),
        ({"role": Role.SUPERSEDED}, Cause.MEMORY_LIMIT),
    ],
)
def test_what_has_expired_and_is_unused_at_two_looks_is_stopped_without_a_drain(
    changes: dict[str, Field], cause: Cause
) -> None:
    parts = Parts()
    row = parts.there(**changes)
    assert looked(parts, row) == ["CheckActivity"]
    assert parts.shown(generation=1).phase is Phase.READY
    assert looked(parts, row) == ["SendSignal"]
    assert (row.server.phase, row.server.stop_cause) == (Phase.STOPPING, cause)


@pytest.mark.parametrize(
    "changes",
    [
        {"last_used_at": NOW - DEFAULTS.keep_alive + 0.1},
        EXPIRED | {"spared_until": NOW + 0.1},
        EXPIRED | {"settings": replace(DEFAULTS, runtime_model="m", pinned=True)},
    ],
    ids=["one moment before", "spared", "pinned"],
)
def test_what_has_not_expired_stays(changes: dict[str, Field]) -> None:
    parts = Parts()
    row = parts.there(**changes)
    assert looked(parts, row) == []
    assert not row.is_cordoned
    assert not row.is_checking


@pytest.mark.parametrize("is_preempted", [False, True])
def test_a_held_server_stays_however_long_it_is_unused_and_whoever_needs_its_memory(
    is_preempted: bool,
) -> None:
    parts = Parts()
    row = parts.there(**EXPIRED)
    parts.holds(7)
    row.is_preempted = is_preempted
    assert looked(parts, row) == []
    assert row.server.phase is Phase.READY


@pytest.mark.parametrize("requests", [1, None])
def test_what_is_busy_was_used_just_now_and_is_looked_at_again_later(requests: int | None) -> None:
    parts = Parts()
    row = parts.there(**EXPIRED)
    row.is_cordoned = True
    assert looked(parts, row, requests) == []
    assert row.server.last_used_at == NOW
    assert row.busy_until == NOW + BUSY_PAUSE_S
    assert not row.is_cordoned


@pytest.mark.parametrize(("busy_until", "is_news"), [(None, False), (NOW, True)])
def test_the_queue_is_tried_again_when_a_busy_server_is_so_no_longer(
    busy_until: float | None, is_news: bool
) -> None:
    parts = Parts()
    row = parts.there()
    row.busy_until = busy_until
    looked(parts, row)
    assert parts.state.capacity_changed is is_news
    assert row.busy_until is None


def test_a_request_that_came_since_the_last_look_is_a_use() -> None:
    parts = Parts()
    row = parts.there()
    parts.idle.on_activity_reported(row, Activity(0, mark=(5.0,)), NOW)
    assert row.server.last_used_at == LOADED_AT
    parts.idle.on_activity_reported(row, Activity(0, mark=(6.0,)), NOW + 9.0)
    assert row.server.last_used_at == NOW + 9.0
    parts.idle.on_activity_reported(row, Activity(0, mark=(6.0,)), NOW + 99.0)
    assert row.server.last_used_at == NOW + 9.0


# --- what is to go for others -------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "cause"), [("n", Cause.PREEMPTED), (None, Cause.PREEMPTED), ("m", Cause.MEMORY_LIMIT)]
)
def test_a_preempted_server_ends_before_it_expires(model: str | None, cause: Cause) -> None:
    parts = Parts()
    row = parts.there()
    row.preempt(model)
    assert looked(parts, row) == ["CheckActivity"]
    assert looked(parts, row) == ["SendSignal"]
    assert row.server.stop_cause is cause


@pytest.mark.parametrize(
    ("requests", "used"), [(1, NOW - 100.0), (0, NOW - DEFAULTS.grace_period + 0.1)]
)
def test_whether_a_busy_or_resident_server_stays_preempted_is_decided_anew(
    requests: int, used: float
) -> None:
    parts = Parts()
    row = parts.there(last_used_at=used)
    row.preempt("n")
    row.is_cordoned = True
    parts.waits(1)
    assert looked(parts, row, requests) == []
    assert parts.state.capacity_changed
    assert not row.is_cordoned
    assert len(parts.state.waiters) == 1, "nobody is given what may be about to go"


# --- who came since it was cordoned -------------------------------------------------------


def test_who_came_meanwhile_gets_what_stays_unless_it_runs_something_else() -> None:
    parts = Parts()
    row = parts.there()
    row.is_cordoned = True
    parts.waits(1, keep_alive=77.0)
    parts.waits(2, runtime_model="org/other")
    parts.waits(3, runtime_model="m")
    parts.idle.uncordon(row, NOW)
    told = answers(parts.taken())
    assert told[1] == told[3] == Ensured(row.server, started=False)
    assert isinstance(told[2], RuntimeModelConflict)
    assert (row.server.keep_alive, row.server.last_used_at) == (77.0, NOW)
    assert (row.is_cordoned, len(parts.state.waiters)) == (False, 0)
    assert parts.state.uses["m"].soon == 2, "the preemption policy weighs who was given it"


def test_what_is_superseded_is_given_to_nobody() -> None:
    parts = Parts()
    row = parts.there(role=Role.SUPERSEDED)
    parts.waits(1)
    parts.idle.uncordon(row, NOW)
    assert answers(parts.taken()) == {}
    assert len(parts.state.waiters) == 1


# --- evictions ----------------------------------------------------------------------------


def test_an_eviction_of_many_is_answered_when_the_last_is_settled() -> None:
    parts = Parts()
    first, second = parts.there("a"), parts.there("b")
    eviction = parts.evicts(9, first, names_one=False)
    parts.state.evictions.add(eviction, second.server.id)
    parts.idle.leave_out(eviction, first.server, 1)
    assert answers(parts.taken()) == {}
    parts.idle.leave_out(eviction, second.server, 1)
    assert answers(parts.taken()) == {9: ()}
    assert parts.state.evictions.servers() == set()


def test_a_refused_eviction_of_one_model_waits_for_none_of_its_servers_any_more() -> None:
    parts = Parts()
    row = parts.there(generation=2)
    beside = parts.there(phase=Phase.STOPPING, role=Role.SUPERSEDED)
    eviction = parts.evicts(9, row)
    parts.state.evictions.add(eviction, beside.server.id)
    parts.holds(7)
    parts.idle.leave_out(eviction, row.server, 0)
    assert refused(parts.taken()) == {9: "ServerInUse"}
    assert parts.state.evictions.servers() == set()


def test_a_held_server_is_refused_to_an_eviction_without_force_at_the_first_look() -> None:
    for force, told in ((False, {9: "ServerInUse"}), (True, {})):
        parts = Parts()
        row = parts.there()
        parts.holds(7)
        parts.evicts(9, row, force=force)
        parts.idle.on_activity_reported(row, Activity(0), NOW)
        assert refused(parts.taken()) == told
