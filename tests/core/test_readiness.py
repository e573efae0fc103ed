"""Servers that are READY: who gets them, how often they are probed, and when they serve no more."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import RecordLoad
from pool_service.core.errors import RuntimeModelConflict
from pool_service.core.events import (
    BecameReady,
    EnsureRequested,
    ReloadRequested,
    ServerProbed,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.readiness import (
    LISTENER_LOST,
    MAX_PROBES_PER_S,
    PROBES_AT_ONCE,
    UNHEALTHY,
)
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, Phase, Role
from pool_service.core.table import Row
from pool_service.core.types import FOREVER, ProbeResult, Settings
from tests.core.acting import drive
from tests.core.invariants import Ledger
from tests.core.parts import DEFAULTS, M1, NOW, Parts, answers, identity, kinds, of_kind
from tests.core.pools import DEFAULTS as POOL_DEFAULTS

WELL = ProbeResult(answered=True, progress=(1.0,))
SILENT = ProbeResult(answered=False, progress=(1.0,))
SICK = ProbeResult(answered=True, progress=(1.0,), healthy=False)
ELSEWHERE = replace(WELL, listens=False)


# --- becoming READY -------------------------------------------------------------------------


def test_all_who_wait_get_a_server_that_is_ready_and_only_one_has_started_it() -> None:
    parts = Parts()
    parts.waits(1)
    waiter = parts.state.waiters.of("m")[0]
    parts.state.waiters.add("m", replace(waiter, request_id=2, starts=False, keep_alive=77.0))
    row = parts.there(phase=Phase.STARTING)
    parts.ready.on_became_ready(row, BecameReady(M1, "http://m"), NOW)
    server = row.server
    assert (server.phase, server.endpoint, server.ready_at) == (Phase.READY, "http://m", NOW)
    assert server.keep_alive == 77.0, "as the last said it"
    assert answers(parts.taken()) == {
        1: Ensured(server, started=True),
        2: Ensured(server, started=False),
    }
    assert len(parts.state.waiters) == 0
    assert parts.state.unmeasured == {M1}
    assert parts.state.uses["m"].count(NOW) > 2


def test_the_time_of_a_load_is_recorded_if_this_service_saw_all_of_it() -> None:
    for is_spawned_here, recorded in ((True, [15.0]), (False, [])):
        parts = Parts()
        row = parts.there(phase=Phase.STARTING, spawned_at=NOW - 20.0, suspended_s=5.0)
        row.is_spawned_here = is_spawned_here
        parts.ready.on_became_ready(row, BecameReady(M1, "http://m"), NOW)
        loads = of_kind(parts.taken(), RecordLoad)
        assert [one.seconds for one in loads] == recorded


def test_nobody_gets_another_runtime_model_than_the_one_named() -> None:
    parts = Parts()
    parts.waits(1, runtime_model="org/other")
    parts.waits(2, runtime_model="m")
    row = parts.there(phase=Phase.STARTING)
    parts.ready.on_became_ready(row, BecameReady(M1, "http://m"), NOW)
    told = answers(parts.taken())
    assert isinstance(told[1], RuntimeModelConflict)
    assert told[2] == Ensured(row.server, started=True)


def test_a_runtime_model_that_was_named_is_remembered_once_it_is_ready() -> None:
    for named, remembered in (("org/named", "org/named"), ("", "")):
        parts = Parts()
        parts.waits(1, runtime_model=named)
        settings = replace(DEFAULTS, runtime_model="org/named", asked=True)
        row = parts.there(phase=Phase.STARTING, settings=settings)
        parts.ready.on_became_ready(row, BecameReady(M1, "http://m"), NOW)
        assert parts.state.namings.get("m") == remembered


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.CLEANING_UP])
def test_what_is_to_end_does_not_become_ready(phase: Phase) -> None:
    parts = Parts()
    parts.waits(1)
    row = parts.there(phase=phase)
    parts.ready.on_became_ready(row, BecameReady(M1, "http://m"), NOW)
    assert parts.taken() == []
    assert row.server.phase is phase


# --- how often ------------------------------------------------------------------------------


def test_servers_that_became_ready_together_are_probed_one_after_the_other() -> None:
    parts = Parts(probe_interval=15.0)
    for number in range(6):
        parts.there(f"m{number}")
    turns = [parts.ready.next_probe(NOW) for _ in range(6)]
    gaps = [after - before for before, after in pairwise(turns)]
    assert turns[0] == NOW + 15.0
    assert gaps == [pytest.approx(1 / MAX_PROBES_PER_S)] * 5


def test_where_servers_are_many_some_are_probed_together_and_no_more_often() -> None:
    parts = Parts(probe_interval=1.0)
    for number in range(40):
        parts.there(f"m{number}")
    turns = Counter(parts.ready.next_probe(NOW) for _ in range(40))
    assert max(turns.values()) == PROBES_AT_ONCE
    gaps = [after - before for before, after in pairwise(turns)]
    assert gaps == [pytest.approx(PROBES_AT_ONCE / MAX_PROBES_PER_S)] * len(gaps)


def test_where_servers_are_few_each_is_probed_as_often_as_is_configured() -> None:
    parts = Parts(probe_interval=15.0)
    parts.there()
    now = NOW
    for _ in range(5):
        due = parts.ready.next_probe(now)
        assert due == pytest.approx(now + 15.0)
        now = due


def test_a_server_is_not_due_while_it_is_probed() -> None:
    parts = Parts()
    row = parts.there(step_deadline=NOW)
    parts.ready.probe(row)
    assert kinds(parts.taken()) == ["ProbeServer"]
    assert row.server.step_deadline == FOREVER


# --- what a probe says ----------------------------------------------------------------------


def probed(parts: Parts, row: Row, *pulses: ProbeResult) -> float:
    """Let a server be probed every 15 s; return when the last was."""
    at = NOW
    for number, result in enumerate(pulses):
        at = NOW + 15.0 * number
        parts.ready.on_server_probed(row, ServerProbed(M1, result), at)
    return at


@pytest.mark.parametrize(
    ("result", "why"), [(SILENT, Cause.WEDGED.value), (SICK, UNHEALTHY)], ids=["silent", "sick"]
)
def test_so_many_bad_probes_after_the_first_supersede_a_server_and_one_less_does_not(
    result: ProbeResult, why: str
) -> None:
    parts = Parts(probe_interval=15.0, probe_limit=4)
    row = parts.there()
    at = probed(parts, row, *[result] * 4)
    assert (row.server.phase, row.server.step_deadline) == (Phase.READY, at + 15.0)
    parts.ready.on_server_probed(row, ServerProbed(M1, result), at + 15.0)
    assert (row.server.role, row.server.phase) == (Role.SUPERSEDED, Phase.STOPPING)
    assert row.server.detail == why


def test_what_is_wedged_is_signalled_at_once_and_what_is_sick_drains_first() -> None:
    for result, issued in ((SILENT, "SendSignal"), (SICK, "CheckActivity")):
        parts = Parts(probe_interval=15.0, probe_limit=1)
        probed(parts, parts.there(), result, result)
        assert kinds(parts.taken()) == [issued]


def test_a_good_probe_begins_the_count_of_silence_anew() -> None:
    parts = Parts(probe_interval=15.0, probe_limit=2)
    row = parts.there()
    probed(parts, row, SILENT, SILENT, WELL, SILENT)
    assert row.server.phase is Phase.READY


def test_a_gap_between_probes_is_no_silence() -> None:
    parts = Parts(probe_interval=15.0, probe_limit=1)
    for gap, phase in ((33.0, Phase.STOPPING), (33.1, Phase.READY)):
        row = parts.there("n" if gap > 33.0 else "m")
        for at in (NOW, NOW + gap):
            parts.ready.on_server_probed(row, ServerProbed(row.server.id, SILENT), at)
        assert row.server.phase is phase


def test_one_whose_endpoint_is_anothers_serves_no_longer_whatever_answers_there() -> None:
    parts = Parts()
    row = parts.there()
    parts.ready.on_server_probed(row, ServerProbed(M1, ELSEWHERE), NOW)
    assert (row.server.role, row.server.detail) == (Role.SUPERSEDED, LISTENER_LOST)


def test_a_probe_of_what_stops_changes_nothing() -> None:
    parts = Parts(probe_limit=1)
    row = parts.there(phase=Phase.STOPPING)
    probed(parts, row, ELSEWHERE, SILENT, SILENT)
    assert parts.taken() == []


# --- a lost listener ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "changes", "is_lost"),
    [
        (Phase.READY, {}, True),
        (Phase.STARTING, {"ready_at": 900.0, "identity": identity(M1)}, True),
        (Phase.STARTING, {"ready_at": None}, False),
        (Phase.STOPPING, {}, False),
    ],
)
def test_only_what_had_listened_loses_its_listener(
    phase: Phase, changes: dict[str, object], is_lost: bool
) -> None:
    for is_closing in (False, True):
        parts = Parts()
        row = parts.there("m", phase, 1, **changes)
        parts.state.is_closing = is_closing
        parts.ready.on_listener_lost(row, NOW)
        is_superseded = row.server.role is Role.SUPERSEDED
        assert is_superseded is (is_lost and not is_closing)


# --- through the machine ---------------------------------------------------------------------


def test_nobody_is_given_another_runtime_model_than_the_one_named() -> None:
    """Not even one who waits while its server is proven anew and a reload changes the model."""
    limits = Limits()
    catalogue = Catalogue(POOL_DEFAULTS, {"a": Settings(runtime_model="one")})
    ledger = Ledger(lambda: Machine(catalogue, limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    ledger.die(next(iter(ledger.processes.values())))
    ledger.restart(len(ledger.journal))
    ledger.handle(EnsureRequested(2, "a"))
    ledger.handle(ReloadRequested(3, Catalogue(POOL_DEFAULTS), limits))
    ledger.handle(EnsureRequested(4, "a", "one"))
    drive(ledger)
    assert isinstance(ledger.answers[4].result, RuntimeModelConflict)
