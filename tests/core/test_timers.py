"""What time brings, and what is made good after an absence."""

from dataclasses import replace

import pytest

from pool_service.core.commands import (
    CheckActivity,
    ProbeServer,
    Publish,
    ReadLog,
    SendSignal,
)
from pool_service.core.errors import RuntimeUnavailable, StartTimeout
from pool_service.core.events import (
    BoundElsewhere,
    LogRead,
    MemorySampled,
    TimeReached,
)
from pool_service.core.lifecycle import RESUMED_GRACE_S
from pool_service.core.liveness import Liveness
from pool_service.core.server import Cause, Phase, Role, StopSignal
from pool_service.core.timers import LOG_TIMEOUT_S
from pool_service.core.types import FOREVER, Work
from tests.core.acting import plan
from tests.core.parts import (
    DEFAULTS,
    LOADED_AT,
    M1,
    NOW,
    Field,
    Parts,
    answers,
    ended,
    identity,
    kinds,
    made,
    of_kind,
    refused,
    sample,
)
from tests.core.pools import LOST, aside, one_ready


def reach(parts: Parts, now: float = NOW, away: float = 0.0) -> None:
    parts.timers.on_time_reached(TimeReached(away), now)


def starting(parts: Parts, at: float = NOW, **changes: Field) -> None:
    """Let a start be out of time at `at`, for which two wait."""
    parts.waits(1)
    parts.waits(2)
    parts.there(phase=Phase.STARTING, step_deadline=at, **changes)


# --- where it listens ---------------------------------------------------------------------

ELSEWHERE = BoundElsewhere(M1, "http://0.0.0.0:5000")
AT_TEN = replace(plan("m", 1), host="10.0.0.11")


def test_a_start_that_others_cannot_reach_is_ended_and_its_waiters_are_told_what_to_do() -> None:
    parts = Parts()
    parts.waits(1)
    parts.waits(2)
    row = parts.there(phase=Phase.STARTING, plan=AT_TEN)
    parts.timers.on_bound_elsewhere(row, ELSEWHERE, NOW)
    server = parts.shown()
    assert (server.phase, server.stop_cause) == (Phase.STOPPING, Cause.START_TIMEOUT)
    assert "http://0.0.0.0:5000" in server.detail
    found = answers(parts.taken())
    assert found.keys() == {1, 2}
    for error in found.values():
        assert isinstance(error, RuntimeUnavailable)
        assert "listens at http://0.0.0.0:5000, and not at 10.0.0.11" in str(error)
        assert "Correct [runtime] command" in str(error)
        assert "{host}" in str(error)


@pytest.mark.parametrize("phase", [Phase.READY, Phase.STOPPING])
def test_where_a_process_listens_that_starts_no_more_changes_nothing(phase: Phase) -> None:
    parts = Parts()
    row = parts.there(phase=phase, plan=AT_TEN)
    parts.timers.on_bound_elsewhere(row, ELSEWHERE, NOW)
    assert parts.shown() == row.server
    assert parts.shown().phase is phase
    assert parts.taken() == []


# --- what is due ----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.STARTING, Phase.STOPPING, Phase.FAILED])
def test_nothing_happens_before_its_time(phase: Phase) -> None:
    parts = Parts()
    parts.there(phase=phase, step_deadline=NOW)
    before = parts.shown()
    parts.timers._sampler.postpone(FOREVER)
    reach(parts, NOW - 0.001)
    assert parts.taken() == []
    assert parts.shown() is before


def test_a_ready_server_is_probed_or_looked_at_whichever_is_due() -> None:
    parts = Parts()
    parts.there(step_deadline=NOW)
    parts.there("n", last_used_at=NOW - DEFAULTS.keep_alive)
    reach(parts)
    issued = parts.taken()
    assert [one.server_id.model for one in of_kind(issued, ProbeServer)] == ["m"]
    assert [one.server_id.model for one in of_kind(issued, CheckActivity)] == ["n"]


def test_a_server_that_was_used_meanwhile_is_due_later() -> None:
    parts = Parts()
    row = parts.there(keep_alive=20.0)
    used = replace(row.server, last_used_at=LOADED_AT + 10.0)
    parts.state.table.put(used)
    reach(parts, LOADED_AT + 20.0)
    assert of_kind(parts.taken(), CheckActivity) == []
    assert parts.state.deadlines.next() == LOADED_AT + 30.0


def test_who_waited_as_long_as_anybody_may_is_turned_away() -> None:
    parts = Parts()
    parts.queued()
    parts.state.put(replace(parts.shown(), step_deadline=NOW, detail="waits for memory"))
    parts.taken()
    reach(parts)
    told = answers(parts.taken())
    assert {key: type(one).__name__ for key, one in told.items()} == {100: "PoolFull"}
    assert "waits for memory" in str(told[100])
    assert parts.server() is None


def test_a_pause_that_is_over_begins_the_next_start_unless_nobody_waits() -> None:
    last_exit = ended(made()).last_exit
    for is_wanted, phase in ((True, Phase.QUEUED), (False, Phase.FAILED)):
        parts = Parts()
        parts.there(phase=Phase.BACKING_OFF, generation=2, step_deadline=NOW, last_exit=last_exit)
        if is_wanted:
            parts.waits(1)
        reach(parts)
        assert "LogInternalError" not in kinds(parts.taken())
        assert parts.shown().phase is phase
        assert parts.shown().generation == (2 if is_wanted else 1)


def test_a_failure_is_forgotten_in_its_time() -> None:
    parts = Parts()
    parts.there(phase=Phase.FAILED, step_deadline=NOW)
    reach(parts)
    assert parts.server() is None


def test_a_stop_that_takes_too_long_gets_its_next_signal() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING, stop_signal=StopSignal.TERMINATE, step_deadline=NOW)
    reach(parts)
    assert [one.stop for one in of_kind(parts.taken(), SendSignal)] == [StopSignal.INTERRUPT]


def test_one_that_breaks_costs_no_other_its_deadline() -> None:
    parts = Parts()
    # Probing it breaks: READY without a process.
    parts.there("a", step_deadline=NOW, identity=None)
    parts.there("b", Phase.STOPPING, stop_signal=StopSignal.TERMINATE, step_deadline=NOW)
    reach(parts)
    issued = parts.taken()
    assert "LogInternalError" in kinds(issued)
    assert [one.server_id.model for one in of_kind(issued, SendSignal)][-1] == "b"


# --- a start that takes too long ------------------------------------------------------------


def test_a_start_out_of_time_ends_when_its_last_lines_are_read() -> None:
    parts = Parts()
    starting(parts)
    reach(parts)
    issued = parts.taken()
    assert of_kind(issued, ReadLog) == [ReadLog(M1, "/logs/m/1")]
    assert answers(issued) == {}
    row = parts.state.table.find(M1)
    assert row is not None
    assert row.server.step_deadline == NOW + LOG_TIMEOUT_S
    parts.timers.on_log_read(row, LogRead(M1, ("slow",)), NOW + 0.5)
    issued = parts.taken()
    assert refused(issued) == {1: "StartTimeout", 2: "StartTimeout"}
    assert getattr(answers(issued)[1], "last_lines", None) == ("slow",)
    assert parts.shown().stop_cause is Cause.START_TIMEOUT
    assert [one.stop for one in of_kind(issued, SendSignal)] == [StopSignal.TERMINATE]


def test_a_disk_that_does_not_answer_holds_up_the_end_of_a_start_for_a_moment() -> None:
    parts = Parts()
    starting(parts)
    reach(parts)
    parts.taken()
    reach(parts, NOW + LOG_TIMEOUT_S)
    assert refused(parts.taken()) == {1: "StartTimeout", 2: "StartTimeout"}
    assert parts.shown().phase is Phase.STOPPING


def test_a_successor_out_of_time_costs_no_caller_anything() -> None:
    parts = Parts()
    parts.there()
    parts.waits(1)
    row = parts.there(phase=Phase.STARTING, generation=2, role=Role.SUCCESSOR, step_deadline=NOW)
    reach(parts)
    parts.timers.on_log_read(row, LogRead(row.server.id, ()), NOW)
    assert answers(parts.taken()) == {}
    assert row.server.phase is Phase.STOPPING


def test_a_log_that_is_read_late_ends_nothing() -> None:
    parts = Parts()
    row = parts.there()
    parts.timers.on_log_read(row, LogRead(M1, ()), NOW)
    assert parts.taken() == []


# --- a start that stands still --------------------------------------------------------------


def judge(parts: Parts, now: float, work: Work | None = None) -> None:
    """Let a sample end at `now` that tells the work of the server of `m`, and act on it."""
    works = {identity(M1): work} if work is not None else {}
    parts.sampler.on_memory_sampled(MemorySampled(replace(sample(), work=works)), now)
    parts.timers.end_stalled(now)


STALL = DEFAULTS.stall_timeout


def test_a_start_that_stands_still_is_ended_and_its_error_says_how_far_it_was() -> None:
    parts = Parts()
    starting(parts, FOREVER)
    judge(parts, NOW - 100.0, Work())
    judge(parts, NOW, Work(requested=5_000_000, processor_s=7.0))
    judge(parts, NOW + STALL - 0.1, Work(requested=5_000_100, processor_s=7.2))
    parts.taken()
    judge(parts, NOW + STALL, Work(requested=5_000_100, processor_s=7.2))
    assert of_kind(parts.taken(), ReadLog) == [ReadLog(M1, "/logs/m/1")]
    judge(parts, NOW + STALL + 0.5, Work(requested=5_000_100, processor_s=7.2))
    assert of_kind(parts.taken(), ReadLog) == [], "its log is read once"
    row = parts.state.table.find(M1)
    assert row is not None
    parts.timers.on_log_read(row, LogRead(M1, ("waits for a lock",)), NOW + STALL + 0.5)
    issued = parts.taken()
    assert refused(issued) == {1: "StartTimeout", 2: "StartTimeout"}
    error = answers(issued)[1]
    assert isinstance(error, StartTimeout)
    assert error.last_lines == ("waits for a lock",)
    for told in ("stood still for 60 s", "5 MB", "7 s of processor time", "stall_timeout"):
        assert told in str(error)
    assert parts.shown().stop_cause is Cause.START_TIMEOUT
    assert "stood still for 60 s" in parts.shown().detail
    assert parts.shown().failure == error, "for those who ask while it ends, too"


def test_a_start_that_is_being_adopted_is_not_judged() -> None:
    parts = Parts()
    starting(parts, FOREVER)
    judge(parts, NOW - 100.0, Work())
    row = parts.state.table.find(M1)
    assert row is not None
    row.is_adopting = True
    judge(parts, NOW, Work())
    assert of_kind(parts.taken(), ReadLog) == []


def test_a_start_gets_back_the_time_for_which_nothing_ran() -> None:
    parts = Parts()
    starting(parts, FOREVER)
    judge(parts, NOW, Work())
    reach(parts, NOW + 1e5, away=1e5 - 10.0)
    judge(parts, NOW + 1e5, Work())
    assert of_kind(parts.taken(), ReadLog) == []
    judge(parts, NOW + 1e5 + STALL - 10.0, Work())
    assert of_kind(parts.taken(), ReadLog) == [ReadLog(M1, "/logs/m/1")]


# --- after an absence -----------------------------------------------------------------------


def test_nobody_pays_for_the_time_in_which_the_service_did_not_run() -> None:
    parts = Parts()
    row = parts.there(last_used_at=0.0)
    row.liveness = Liveness(NOW, (), missed=3)
    parts.there("starting", Phase.STARTING, step_deadline=500.0)
    parts.queued("queued")
    reach(parts, NOW, away=600.0)
    known = parts.state.table.find(M1)
    assert known is not None
    assert known.liveness is None
    assert row.server.spared_until == NOW + RESUMED_GRACE_S
    assert of_kind(parts.taken(), CheckActivity) == []
    assert parts.shown("starting").step_deadline == 1100.0
    assert parts.shown("queued").step_deadline == NOW + 300.0 + 600.0


def test_a_drain_that_gets_time_back_is_published_and_a_stop_without_one_is_not() -> None:
    parts = Parts()
    parts.there("drains", Phase.STOPPING, drain_by=NOW + 10.0)
    parts.there("signalled", Phase.STOPPING, stop_signal=StopSignal.TERMINATE)
    reach(parts, NOW, away=600.0)
    told = [one.server for one in of_kind(parts.taken(), Publish)]
    assert [(one.model, one.drain_by) for one in told] == [("drains", NOW + 610.0)]
    assert parts.shown("signalled").step_deadline == NOW + 700.0


def test_the_time_for_which_a_start_was_suspended_is_recorded_with_its_deadline() -> None:
    parts = Parts()
    for model, ready_at in (("loads", None), ("proves", LOADED_AT)):
        parts.there(model, Phase.STARTING, step_deadline=NOW + 10.0, ready_at=ready_at)
    for _ in range(2):
        reach(parts, NOW, away=600.0)
    told = [one.server for one in of_kind(parts.taken(), Publish)]
    assert [(one.model, one.suspended_s, one.step_deadline) for one in told] == [
        ("loads", 600.0, NOW + 610.0),
        ("loads", 1200.0, NOW + 1210.0),
    ]


def test_a_failure_is_forgotten_in_its_time_whatever_the_absence() -> None:
    parts = Parts()
    parts.there(phase=Phase.FAILED, step_deadline=NOW + 1.0)
    reach(parts, NOW, away=600.0)
    assert parts.shown().step_deadline == NOW + 1.0


# --- through the machine ---------------------------------------------------------------------


def test_the_time_that_a_drain_gets_back_after_a_stall_is_recorded() -> None:
    ledger = one_ready()
    ledger.handle(LOST)
    before = aside(ledger).drain_by
    assert before is not None
    ledger.now = 3600.0
    told = ledger.handle(TimeReached(away=3600.0))
    recorded = [c.server.drain_by for c in told if isinstance(c, Publish)]
    assert before + 3600.0 in recorded
