"""Steps that broke outside, and events whose handling raised: what is done in their place."""

import pytest

from pool_service.core import commands
from pool_service.core import commands as cmd
from pool_service.core import events as ev
from pool_service.core.commands import ServerCommand
from pool_service.core.errors import PoolError
from pool_service.core.events import (
    CommandFailed,
    Event,
)
from pool_service.core.internal_error_policy import RETRY_PAUSE_S
from pool_service.core.results import Every
from pool_service.core.server import Cause, LastRun, Phase, RecoveredState
from pool_service.core.service_recovery import Recovery
from pool_service.core.table import Row
from pool_service.core.types import FOREVER, SpawnedProcess
from tests.core.acting import badly, drive, plan
from tests.core.breaking import PatientLedger, breakable
from tests.core.parts import M1, NOW, Parts, answers, identity, kinds, made, refused
from tests.core.pools import one_ready

BUG = PoolError("a bug")
PLAN = plan("m", 1)
WATCH = cmd.AwaitExit(M1, identity(M1))
READY = cmd.AwaitReady(M1, identity(M1), PLAN, 3.0)
LOOK = cmd.CheckActivity(M1, identity(M1), PLAN, "http://m", 3.0)
PROBE = cmd.ProbeServer(M1, identity(M1), PLAN, "http://m", "/log", 3.0)


def breaks(parts: Parts, row: Row, command: ServerCommand) -> list[str]:
    """Let a command of a server break; return what follows."""
    parts.failed_commands.on_command_failed(row, CommandFailed(M1, command, BUG), NOW)
    return kinds(parts.state.commands)


# --- a step that broke ----------------------------------------------------------------------


def test_a_start_whose_need_cannot_be_found_out_fails() -> None:
    for command in (cmd.EstimateMemory(M1, made().settings), cmd.Fetch(M1, made().settings)):
        parts = Parts()
        row = parts.queued()
        row.is_estimating = True
        breaks(parts, row, command)
        assert answers(parts.taken()) == {100: BUG}
        assert parts.server() is None


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.SPAWNING])
def test_a_start_that_comes_to_no_process_fails(phase: Phase) -> None:
    parts = Parts()
    parts.waits(1)
    breaks(parts, parts.there(phase=phase), cmd.Prepare(M1, made().settings))
    assert answers(parts.taken()) == {1: BUG}
    assert parts.server() is None


def test_a_start_of_which_nobody_could_tell_when_it_is_ready_ends() -> None:
    parts = Parts()
    parts.waits(1)
    row = parts.there(phase=Phase.STARTING)
    assert breaks(parts, row, READY) == ["Answer", "SendSignal"]
    assert answers(parts.taken()) == {1: BUG}
    assert row.server.stop_cause is Cause.CRASHED


def test_what_became_ready_meanwhile_goes_on() -> None:
    parts = Parts()
    row = parts.there()
    assert breaks(parts, row, READY) == []
    assert row.server.phase is Phase.READY


def test_what_cannot_be_told_to_be_unused_counts_as_busy() -> None:
    parts = Parts()
    row = parts.there(last_used_at=0.0)
    row.is_checking = row.is_cordoned = True
    assert breaks(parts, row, LOOK) == []
    assert (row.server.phase, row.server.last_used_at) == (Phase.READY, NOW)
    assert row.busy_until is not None
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, drain_by=NOW + 60.0)
    assert breaks(parts, row, LOOK) == []
    assert row.server.stop_signal is None


def test_a_probe_that_broke_is_no_silence_and_the_next_one_comes() -> None:
    parts = Parts(probe_interval=15.0)
    row = parts.there(step_deadline=FOREVER)
    assert breaks(parts, row, PROBE) == []
    assert row.liveness is None
    assert NOW + 15.0 <= row.server.step_deadline < FOREVER


def test_a_process_that_is_watched_no_longer_is_taken_for_ended() -> None:
    parts = Parts()
    parts.waits(1)
    row = parts.there(phase=Phase.STARTING)
    assert breaks(parts, row, WATCH) == ["Answer", "CleanUp"]
    assert answers(parts.taken()) == {1: BUG}
    assert row.server.phase is Phase.CLEANING_UP


def test_what_could_not_be_cleaned_up_is_gone_all_the_same() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.CLEANING_UP)
    parts.evicts(9, row)
    breaks(parts, row, cmd.CleanUp(M1, identity(M1)))
    assert list(answers(parts.taken())) == [9]
    assert parts.server() is None


def test_where_a_process_cannot_be_looked_for_its_record_is_believed() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STARTING)
    row.is_adopting = True
    assert breaks(parts, row, cmd.Adopt(M1, row.server)) == ["AwaitExit", "AwaitReady"]


# --- an event whose handling raised ---------------------------------------------------------


def raised(parts: Parts, event: Event) -> list[str]:
    """Make up for an event that raised before it did anything; return what follows."""
    parts.containment.event = event
    parts.failed_events.make_up_for(event, ValueError("a bug"), NOW)
    return kinds(parts.state.commands)


@pytest.mark.parametrize(
    "event",
    [
        ev.EnsureRequested(1, "m"),
        ev.HoldRequested(1, "m"),
        ev.ForgetRequested(1, "m"),
        ev.PinRequested(1, "m", pinned=True),
        ev.EvictRequested(1, "m"),
        ev.EvictRequested(1, Every.ALL),
    ],
)
def test_who_asked_is_told_once_and_neither_waits_nor_holds(event: Event) -> None:
    parts = Parts()
    parts.there()
    parts.waits(1)
    parts.holds(1)
    raised(parts, event)
    assert refused(parts.taken()) == {1: "PoolError"}
    assert len(parts.state.waiters) == 0
    assert not parts.state.holds.has(1)
    assert parts.shown().phase is Phase.READY


def test_an_eviction_that_began_is_answered_when_what_is_going_is_gone() -> None:
    parts = Parts()
    going, stays = parts.there("a", Phase.STOPPING), parts.there("b")
    eviction = parts.evicts(1, going, names_one=False)
    parts.state.evictions.add(eviction, stays.server.id)
    raised(parts, ev.EvictRequested(1, Every.ALL))
    assert answers(parts.taken()) == {}
    assert eviction.pending == {going.server.id}


def test_what_else_was_due_is_put_right_and_the_next_sample_waits() -> None:
    parts = Parts()
    parts.there("a", step_deadline=NOW)
    parts.there("b", Phase.STOPPING, step_deadline=NOW)
    raised(parts, ev.TimeReached())
    assert parts.state.deadlines.next() > NOW
    assert parts.shown("a").phase is Phase.READY
    assert "SendSignal" in kinds(parts.taken())
    assert parts.sampler.next_at() >= NOW + RETRY_PAUSE_S


def test_nobody_waits_for_a_sample_that_broke() -> None:
    parts = Parts()
    parts.state.unmeasured.add(parts.there().server.id)
    parts.sampler.take(NOW)
    raised(parts, ev.MemorySampled(None))
    assert parts.state.unmeasured == set()
    assert parts.sampler.next_at() == NOW + RETRY_PAUSE_S


def test_what_an_earlier_service_left_is_looked_for_all_the_same() -> None:
    parts = Parts()
    left = RecoveredState((made(), made("n")), (LastRun("o", 4, None),))
    issued = raised(parts, ev.RecoveryBegan(left))
    assert issued.count("Adopt") == 2
    assert parts.state.known("o") == LastRun("o", 4, None)
    assert parts.recovery.unsettled is not None


def test_after_orphans_that_could_not_be_ended_standbys_may_come() -> None:
    parts = Parts()
    raised(parts, ev.OrphansFound(()))
    assert parts.state.has_recovered


def test_a_shutdown_that_broke_ends_all_and_is_answered() -> None:
    parts = Parts()
    parts.there("a")
    parts.there("b", Phase.FAILED)
    raised(parts, ev.ShutdownRequested(9))
    assert parts.state.is_closing
    assert parts.shown("a").phase is Phase.STOPPING
    assert [one.model for one in parts.state.evictions.servers()] == ["a"]
    parts = Parts()
    raised(parts, ev.ShutdownRequested(9))
    assert answers(parts.taken()) == {9: ()}


def test_a_detach_that_broke_lets_nobody_wait_and_everything_run() -> None:
    parts = Parts()
    row = parts.there()
    parts.holds(7)
    parts.evicts(9, row)
    parts.waits(1, "n")
    raised(parts, ev.DetachRequested())
    assert refused(parts.taken()) == dict.fromkeys((1, 7, 9), "ShuttingDown")
    assert parts.state.is_detaching
    assert row.server.phase is Phase.READY


def test_an_escalation_that_raised_counts_for_later_stops() -> None:
    parts = Parts()
    raised(parts, ev.ShutdownEscalated())
    assert parts.state.is_escalated


def test_a_process_that_an_event_told_of_is_watched_and_ends_whatever_broke() -> None:
    parts = Parts()
    parts.waits(1)
    parts.there(phase=Phase.SPAWNING, plan=PLAN)
    issued = raised(parts, ev.Spawned(M1, SpawnedProcess(identity(M1), "/log")))
    assert issued[-2:] == ["AwaitExit", "SendSignal"]
    assert refused(parts.taken()) == {1: "PoolError"}
    assert parts.shown().identity == identity(M1)


# --- through the machine ---------------------------------------------------------------------


def test_a_process_whose_adoption_broke_twice_is_watched_until_it_has_ended() -> None:
    with breakable() as fault:
        ledger = one_ready(PatientLedger)
        ledger.restart(len(ledger.journal))
        adopt = next(c for c in ledger.outstanding if isinstance(c, commands.Adopt))
        ledger.find_process(adopt.server)
        ledger.done(adopt)
        fault.arm((Recovery, "_end_adoption"), 1, late=True)
        ledger.handle(badly(adopt))
        fault.disarm()
    assert [c for c in ledger.outstanding if isinstance(c, commands.AwaitExit)]
    drive(ledger)
    assert ledger.processes == {}
