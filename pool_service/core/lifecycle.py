"""The life of one server: its phases and the transitions between them.

Rules
- Transitions are functions of a Server and what happened; they return the next Server. Which
  commands go with them is decided by the parts (`supervisor.py`, `stopper.py`, ...).
- `TRANSITIONS` has every change of phase that there is; `PoolState.put` refuses any other. The
  pictures in the documents are drawn from it (`tools/draw_states.py`).
- Every event of a process carries its generation; a stale one changes nothing.
- Each phase has at most one deadline, `step_deadline`; READY has a second one, `expires_at`.
- A process is gone only when it was swept: nothing of it is left to hold a port
  or memory when the next generation starts.
"""

from collections.abc import Mapping
from dataclasses import replace

from pool_service.core.errors import PoolError
from pool_service.core.server import (
    NOT_BEGUN,
    Cause,
    Exit,
    LastRun,
    Phase,
    Role,
    Server,
    ServerId,
    StopSignal,
)
from pool_service.core.types import (
    FOREVER,
    Diagnosis,
    Estimate,
    EstimateSource,
    ExitReport,
    LaunchPlan,
    Settings,
    SpawnedProcess,
)

RESUMED_GRACE = 5.0
"""Seconds, at the least, for which no server goes unused after the service was away: those
who would have used it could not ask."""

WITHOUT_PROCESS = frozenset({Phase.QUEUED, Phase.PREPARING, Phase.BACKING_OFF, Phase.FAILED})
"""Phases in which there cannot be a process."""

TRANSITIONS: Mapping[Phase | None, frozenset[Phase | None]] = {
    # A server that is new, or that an earlier service left; no READY one is believed unproven.
    None: frozenset(Phase) - {Phase.READY},
    Phase.QUEUED: frozenset({Phase.PREPARING, Phase.FAILED, None}),
    Phase.PREPARING: frozenset({Phase.SPAWNING, Phase.FAILED, None}),
    Phase.SPAWNING: frozenset({Phase.STARTING, Phase.STOPPING, Phase.FAILED, None}),
    Phase.STARTING: frozenset({Phase.READY, Phase.STOPPING, Phase.CLEANING_UP}),
    Phase.READY: frozenset({Phase.STOPPING, Phase.CLEANING_UP}),
    # Without SWEEPING only where there never was a process.
    Phase.STOPPING: frozenset({Phase.CLEANING_UP, Phase.FAILED, None}),
    Phase.CLEANING_UP: frozenset({Phase.FAILED, None}),
    Phase.BACKING_OFF: frozenset({Phase.QUEUED, None}),
    Phase.FAILED: frozenset({None}),
}
"""The phases that follow each phase, beside itself; None: the server is not in the pool."""

TAKES_A_SLOT = frozenset({Phase.PREPARING, Phase.SPAWNING, Phase.STARTING})
"""Phases that count as a start under way."""

ESCALATION_PAUSE_S = 0.25
"""Seconds between the first signal and the next in haste: a process takes those that come
together in any order, and SIGINT forces its end only after another."""

LEAVING = frozenset({Phase.STOPPING, Phase.CLEANING_UP})
"""Phases on the way out: who asks for the model now waits for the next generation."""


def queued(
    before: Server | LastRun | None, server_id: ServerId, settings: Settings, now: float
) -> Server:
    """A server that wants to start; keeps what outlives a generation.

    How often it died says nothing of another runtime model.
    """
    same = isinstance(before, Server) and before.settings.runtime_model == settings.runtime_model
    return Server(
        model=server_id.model,
        settings=settings,
        phase=Phase.QUEUED,
        generation=server_id.generation,
        created_at=now,
        last_used_at=now,
        keep_alive=settings.keep_alive,
        last_exit=before.last_exit if before else None,
        crashes=before.crashes if isinstance(before, Server) and same else (),
    )


def estimated(server: Server, estimate: Estimate, turn_by: float, budget: float) -> Server:
    """What it will need is known; its turn must come in time. A guess is no reason to refuse."""
    guess = estimate.source is EstimateSource.UNKNOWN
    return replace(
        server,
        expected=int(min(estimate.expected, budget)) if guess else estimate.expected,
        expected_by=estimate.source,
        step_deadline=turn_by,
        detail="",
        progress=None,
    )


def fetching(server: Server, done: int, total: int) -> Server:
    """Its files are being downloaded."""
    share = min(done / total, 1.0) if total else None
    return replace(server, detail="downloads its files", progress=share)


def in_line(server: Server, position: int, why: str) -> Server:
    """It waits for its turn, and this is what it waits for."""
    return replace(server, position=position, detail=why)


def admitted(server: Server) -> Server:
    """Its turn has come: its generation begins."""
    return replace(
        server,
        phase=Phase.PREPARING,
        position=0,
        detail="",
        step_deadline=FOREVER,
    )


def measured(server: Server, footprint: int, sampled_at: float) -> Server:
    """Return a server with its footprint of a memory sample that began at `sampled_at`.

    What was sampled before it was READY tells how far the load is, and not what it needs: right
    after its exec a process has next to nothing.
    """
    tells_need = server.phase is Phase.READY and is_of_ready(server, sampled_at)
    is_known = server.sampled_ready or not tells_need
    if server.phase is Phase.READY and is_known and footprint == server.footprint:
        # What rests is not made anew at each sample.
        return server
    server = replace(server, footprint=footprint, peak=max(server.peak, footprint))
    if server.phase is Phase.STARTING and server.expected:
        progress = max(server.progress or 0.0, min(footprint / server.expected, 0.99))
        return replace(server, progress=progress)
    if not tells_need:
        return server
    if server.expected_by in (EstimateSource.WEIGHTS, EstimateSource.UNKNOWN):
        # From now on what is seen counts, and no longer a guess.
        server = replace(server, expected=server.peak, expected_by=EstimateSource.OBSERVED)
    return replace(server, sampled_ready=True)


def is_of_ready(server: Server, sampled_at: float) -> bool:
    """Return whether a memory sample that began then saw the server after it was READY."""
    return server.ready_at is not None and server.ready_at <= sampled_at


def load_seconds(server: Server, usual: float) -> float:
    """How long its load took; `usual` where that was not seen."""
    if server.ready_at is None or server.spawned_at is None:
        return usual
    return server.ready_at - server.spawned_at


def bounded(server: Server, count: int) -> int:
    """So many bytes, or what it is allowed to grow to if that is less."""
    ceiling = server.settings.memory_limit
    return count if ceiling is None else min(count, ceiling)


def released(server: Server, now: float) -> Server:
    """Its last holder has gone: it was used until now, but nobody is about to use it."""
    settled_since = now - server.settings.grace_period
    return replace(server, last_used_at=max(server.last_used_at, settled_since))


def prepared(server: Server, plan: LaunchPlan) -> Server:
    """How to start it is known."""
    return replace(server, phase=Phase.SPAWNING, plan=plan)


def spawned(server: Server, process: SpawnedProcess, now: float) -> Server:
    """It has a process; from now on its start limit counts."""
    found = replace(server, identity=process.identity, log_path=process.log_path, spawned_at=now)
    if process.nonce and server.plan is not None:
        found = replace(found, plan=replace(server.plan, nonce=process.nonce))
    if server.phase is Phase.STOPPING:
        return found
    return replace(found, phase=Phase.STARTING, step_deadline=now + server.settings.start_timeout)


def became_ready(server: Server, endpoint: str, now: float, next_probe: float) -> Server:
    """It answers; from now on its keep alive counts (one that is READY again goes on)."""
    server = replace(
        server, phase=Phase.READY, endpoint=endpoint, step_deadline=next_probe, progress=None
    )
    if server.ready_at is not None:
        return spared(server, now)
    return replace(server, ready_at=now, last_used_at=now)


def unproven(server: Server, now: float) -> Server:
    """It was READY under an earlier service, and has to show that it still is."""
    return replace(
        server,
        phase=Phase.STARTING,
        endpoint="",
        step_deadline=now + server.settings.start_timeout,
    )


def rejoined(server: Server, now: float) -> Server:
    """It was starting under an earlier service: what is left of its limit, and one look."""
    left = max(server.step_deadline, now + server.settings.probe_timeout)
    return replace(server, step_deadline=left)


def out_of_time(server: Server, at: float) -> Server:
    """Its start limit is over; it is stopped when its last lines are read, at the latest then."""
    return replace(server, step_deadline=at)


def used(server: Server, keep_alive: float | None, now: float) -> Server:
    """Somebody used it, and may have said how long it should stay from now on."""
    kept = server.keep_alive if keep_alive is None else keep_alive
    return replace(server, last_used_at=now, keep_alive=kept)


def spared(server: Server, now: float) -> Server:
    """The service was away, so that nobody could use it: it does not go at once."""
    grace = max(server.settings.grace_period, RESUMED_GRACE)
    return replace(server, spared_until=now + grace)


def delayed(server: Server, seconds: float) -> Server:
    """The service was away for so long: its step gets the time back."""
    drain_by = None if server.drain_by is None else server.drain_by + seconds
    return replace(server, step_deadline=server.step_deadline + seconds, drain_by=drain_by)


def stopping(server: Server, cause: Cause, why: str = "") -> Server:
    """It is to end: `signalled` follows, at once or as soon as it has a process."""
    return replace(
        server,
        phase=Phase.STOPPING,
        stop_cause=cause,
        detail=why or cause.value,
        step_deadline=FOREVER,
    )


def signalled(server: Server, stop: StopSignal, now: float, *, escalated: bool = False) -> Server:
    """The signal goes out; the next step is due if it does not help in time.

    The drain limit is for what is in flight, so only for one that was READY, and what was
    waited for before is part of it. In haste nothing is waited for after the first signal.
    """
    gentle = stop is StopSignal.TERMINATE
    drains = gentle and server.ready_at is not None
    limit = server.settings.drain_timeout if drains else server.settings.stop_timeout
    if drains and server.drain_by is not None:
        limit = max(server.drain_by - now, server.settings.stop_timeout)
    if escalated and gentle:
        limit = min(limit, ESCALATION_PAUSE_S)
    why = "hurried" if escalated else "did not end in time"
    detail = server.detail if gentle else f"{server.detail}; {why}: {stop.value} sent"
    return replace(
        server,
        stop_signal=stop,
        step_deadline=now + limit,
        detail=server.detail if server.stop_signal is stop else detail,
    )


def next_signal(server: Server) -> StopSignal:
    """What to try after the last signal; SIGKILL again if even that did not do."""
    if server.stop_signal is StopSignal.TERMINATE:
        return StopSignal.INTERRUPT
    return StopSignal.KILL if server.stop_signal else StopSignal.TERMINATE


def exited(server: Server, report: ExitReport, now: float) -> Server:
    """Its process ended, asked or not; what it left behind is still to be swept."""
    cause = server.stop_cause or Cause.CRASHED
    return replace(
        server,
        phase=Phase.CLEANING_UP,
        step_deadline=FOREVER,
        stop_cause=cause,
        detail=report.message if cause is Cause.CRASHED else server.detail,
        last_exit=Exit(server.generation, cause, _as_asked(server, report), now),
    )


def _as_asked(server: Server, report: ExitReport) -> ExitReport:
    """Where the pool ended it: without guesses of the runtime's log about who did."""
    if server.stop_signal is None or report.diagnosis is not Diagnosis.CRASHED:
        return report
    if server.stop_signal is StopSignal.KILL:
        return replace(report, message="It did not end when it was told to: ended by SIGKILL.")
    unknown = report.code is None and report.signal is None
    return replace(report, message="It ended after it was told to.") if unknown else report


def died(server: Server, crashes: tuple[float, ...]) -> Server:
    """It died unasked, as it did at these times; none: that is forgotten."""
    return replace(server, crashes=crashes)


def forgiven(server: Server) -> Server:
    """Return a server whose deaths no longer keep its model from being started at once."""
    return replace(server, crashes=(), retry_at=0.0, failure=None)


def failed(server: Server, detail: str, now: float, forget_after: float) -> Server:
    """It has no process, and why is remembered for a while (`forget_after` seconds).

    Of a start that had not begun it is the generation before that failed.
    """
    end = server.last_exit
    is_before = server.phase in NOT_BEGUN and end is not None
    return replace(
        without_process(server),
        phase=Phase.FAILED,
        generation=end.generation if is_before and end is not None else server.generation,
        given=server.latest if is_before else server.given,
        detail=detail,
        step_deadline=now + forget_after,
        retry_at=now,
        failure=None,
    )


def barred(server: Server, until: float, failure: PoolError | None) -> Server:
    """A FAILED one is not started again before `until`; who asks is told `failure` or waits."""
    return replace(server, retry_at=until, failure=failure)


def backing_off(server: Server, generation: int, settings: Settings, until: float) -> Server:
    """The next generation is started at `until`, as they want it who wait for it."""
    return replace(
        without_process(server),
        phase=Phase.BACKING_OFF,
        role=Role.CURRENT,
        generation=generation,
        given=0,
        outdated=False,
        settings=settings,
        step_deadline=until,
        retry_at=until,
        failure=None,
    )


def without_process(server: Server) -> Server:
    """Return it as it is when there is nothing left of its process."""
    return replace(
        server,
        identity=None,
        plan=None,
        endpoint="",
        stop_cause=None,
        stop_signal=None,
        drain_by=None,
        footprint=0,
        sampled_ready=False,
        position=0,
        progress=None,
    )


def probe_due(server: Server, at: float) -> Server:
    """When a READY server is looked at next; FOREVER while somebody looks."""
    return replace(server, step_deadline=at)
