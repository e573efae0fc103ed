"""The life of one server: its phases and the transitions between them.

Rules
- A transition is a function of a Server and what happened, which returns the next Server. Its name
  is what the server then is: `life.spawned(server, ...)` is the server, spawned. Transitions are
  called by their module (`life.`, `drain.`, `replacement.`); see `machine.py` for the names of
  events and handlers.
- The parts (`supervisor.py`, `stopper.py`, ...) decide which commands go with a transition.
- `TRANSITIONS` lists every change of phase; `PoolState.put` asserts it. `tools/draw_states.py`
  draws the pictures in the documents from it.
- Every event of a process carries its generation; a stale event changes nothing.
- Each phase has at most one deadline, `step_deadline`; READY has a second one, `expires_at`.
- A process is gone only after it was cleaned up, so that nothing of it holds a port or memory
  when the next generation starts.
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

RESUMED_GRACE_S = 5.0
"""The shortest time for which no server is stopped for being unused after the service did not
run: clients could not use it meanwhile."""

WITHOUT_PROCESS = frozenset({Phase.QUEUED, Phase.PREPARING, Phase.BACKING_OFF, Phase.FAILED})
"""Phases in which a server cannot have a process."""

TRANSITIONS: Mapping[Phase | None, frozenset[Phase | None]] = {
    # A new server, or one of an earlier service. None begins READY: readiness has to be proven.
    None: frozenset(Phase) - {Phase.READY},
    Phase.QUEUED: frozenset({Phase.PREPARING, Phase.FAILED, None}),
    Phase.PREPARING: frozenset({Phase.SPAWNING, Phase.FAILED, None}),
    Phase.SPAWNING: frozenset({Phase.STARTING, Phase.STOPPING, Phase.FAILED, None}),
    Phase.STARTING: frozenset({Phase.READY, Phase.STOPPING, Phase.CLEANING_UP}),
    Phase.READY: frozenset({Phase.STOPPING, Phase.CLEANING_UP}),
    # FAILED, or gone, without CLEANING_UP only if there never was a process.
    Phase.STOPPING: frozenset({Phase.CLEANING_UP, Phase.FAILED, None}),
    Phase.CLEANING_UP: frozenset({Phase.FAILED, None}),
    Phase.BACKING_OFF: frozenset({Phase.QUEUED, None}),
    Phase.FAILED: frozenset({None}),
}
"""The phases that each phase may change to; None: the server is not in the pool."""

TAKES_A_SLOT = frozenset({Phase.PREPARING, Phase.SPAWNING, Phase.STARTING})
"""Phases of a start under way, of which at most `max_starts` are allowed."""

ON_THE_WAY = TAKES_A_SLOT | NOT_BEGUN
"""Phases of a server that is to be READY, and is not yet."""

ESCALATION_PAUSE_S = 0.25
"""The time between the first signal and the next of an escalated stop: a process receives signals
sent together in any order, and SIGINT forces its end only after another signal."""

LEAVING = frozenset({Phase.STOPPING, Phase.CLEANING_UP})
"""Phases of a server on the way out: callers of its model wait for the next generation."""


def queued(
    before: Server | LastRun | None,
    server_id: ServerId,
    settings: Settings,
    now: float,
    why: str = "",
) -> Server:
    """Return a server that waits for its turn, with the last exit of its model.

    Crashes are carried over only if the runtime model is the same. why: it is started, in words,
    if no caller asked for it.
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
        detail=why,
        last_exit=before.last_exit if before else None,
        crashes=before.crashes if isinstance(before, Server) and same else (),
    )


def estimated(server: Server, estimate: Estimate, turn_by: float, budget: float) -> Server:
    """Return the server with its memory estimate and the deadline of its turn.

    A guess is cut to the budget, since a guess is no reason to fail the start.
    """
    guess = estimate.source is EstimateSource.UNKNOWN
    return replace(
        server,
        expected=int(min(estimate.expected, budget)) if guess else estimate.expected,
        expected_by=estimate.source,
        usual_load_s=estimate.load_s,
        step_deadline=turn_by,
        detail="",
        progress=None,
    )


def fetching(server: Server, done: int, total: int) -> Server:
    """Return the server with the progress of its download; total: bytes, 0 if unknown."""
    share = min(done / total, 1.0) if total else None
    return replace(server, detail="downloads its files", progress=share)


def in_line(server: Server, position: int, why: str) -> Server:
    """Return the server with its place in the queue, and what it waits for."""
    return replace(server, position=position, detail=why)


def admitted(server: Server) -> Server:
    """Return the server as its start begins, which fixes its generation."""
    return replace(
        server,
        phase=Phase.PREPARING,
        position=0,
        detail="",
        step_deadline=FOREVER,
    )


def released(server: Server, now: float) -> Server:
    """Return the server after its last hold ended: used until now, without a grace period.

    The grace period is for callers that were just given the server and are about to use it.
    """
    past_grace = now - server.settings.grace_period
    return replace(server, last_used_at=max(server.last_used_at, past_grace))


def prepared(server: Server, plan: LaunchPlan) -> Server:
    """Return the server with the launch plan of its process."""
    return replace(server, phase=Phase.SPAWNING, plan=plan)


def spawned(server: Server, process: SpawnedProcess, now: float) -> Server:
    """Return the server with its process; the start timeout begins unless it is to stop."""
    found = replace(
        server,
        identity=process.identity,
        log_path=process.log_path,
        spawned_at=now,
        from_standby=process.from_standby,
    )
    if process.nonce and server.plan is not None:
        found = replace(found, plan=replace(server.plan, nonce=process.nonce))
    if server.phase is Phase.STOPPING:
        return found
    usual = server.usual_load_s
    expected_ready_at = None if usual is None else now + usual
    starting = replace(found, phase=Phase.STARTING, expected_ready_at=expected_ready_at)
    return with_start_limit(starting, now)


def with_start_limit(server: Server, now: float) -> Server:
    """Return a STARTING server with the deadline of its start, by its start timeout.

    The timeout begins with the process; or at `now`, if the server was READY under an earlier
    service and has to prove that anew.
    """
    began = now
    if server.spawned_at is not None and not server.was_ready:
        began = server.spawned_at + server.suspended_s
    return replace(server, step_deadline=began + server.settings.start_timeout)


def became_ready(server: Server, endpoint: str, now: float, next_probe: float) -> Server:
    """Return the server READY; its keep alive begins, or goes on if it was READY before."""
    server = replace(
        server,
        phase=Phase.READY,
        endpoint=endpoint,
        step_deadline=next_probe,
        progress=None,
        expected_ready_at=None,
    )
    if server.was_ready:
        return spared(server, now)
    return replace(server, ready_at=now, last_used_at=now)


def timed_out(server: Server, error: PoolError) -> Server:
    """Return a server whose start took too long, with the error for its waiters."""
    return replace(server, failure=error)


def out_of_time(server: Server, at: float) -> Server:
    """Return the server with `at` as the deadline by which its log has to be read."""
    return replace(server, step_deadline=at)


def used(server: Server, keep_alive: float | None, now: float) -> Server:
    """Return the server as used at `now`; keep_alive: seconds, None: as before."""
    kept = server.keep_alive if keep_alive is None else keep_alive
    return replace(server, last_used_at=now, keep_alive=kept)


def spared(server: Server, now: float) -> Server:
    """Return the server with a new grace period, since the service did not run for a while."""
    grace = max(server.settings.grace_period, RESUMED_GRACE_S)
    return replace(server, spared_until=now + grace)


def delayed(server: Server, seconds: float) -> Server:
    """Return the server with its deadlines put off by the seconds that the service did not run."""
    is_start = server.phase is Phase.STARTING and not server.was_ready
    return replace(
        server,
        step_deadline=server.step_deadline + seconds,
        drain_by=None if server.drain_by is None else server.drain_by + seconds,
        suspended_s=server.suspended_s + (seconds if is_start else 0.0),
    )


def stopping(server: Server, cause: Cause, why: str = "") -> Server:
    """Return the server STOPPING; `signalled` follows, as soon as it has a process."""
    return replace(
        server,
        phase=Phase.STOPPING,
        stop_cause=cause,
        detail=why or cause.value,
        step_deadline=FOREVER,
        expected_ready_at=None,
    )


def signalled(server: Server, stop: StopSignal, now: float, *, escalated: bool = False) -> Server:
    """Return the server as a signal is sent to it, with the deadline of the next signal.

    1. After SIGTERM a server that was READY has the rest of its drain timeout, but at least its
       stop timeout.
    2. After any other signal, or if it never was READY, it has its stop timeout.
    3. An escalated stop waits only ESCALATION_PAUSE_S after SIGTERM.
    """
    gentle = stop is StopSignal.TERMINATE
    drains = gentle and server.was_ready
    limit = server.settings.drain_timeout if drains else server.settings.stop_timeout
    if drains and server.drain_by is not None:
        limit = max(server.drain_by - now, server.settings.stop_timeout)
    if escalated and gentle:
        limit = min(limit, ESCALATION_PAUSE_S)
    why = "escalated" if escalated else "did not end in time"
    detail = server.detail if gentle else f"{server.detail}; {why}: {stop.value} sent"
    return replace(
        server,
        stop_signal=stop,
        step_deadline=now + limit,
        detail=server.detail if server.stop_signal is stop else detail,
    )


def next_signal(server: Server) -> StopSignal:
    """Return the signal to send after the last one: SIGTERM, SIGINT, then SIGKILL repeatedly."""
    if server.stop_signal is StopSignal.TERMINATE:
        return StopSignal.INTERRUPT
    return StopSignal.KILL if server.stop_signal else StopSignal.TERMINATE


def exited(server: Server, report: ExitReport, now: float) -> Server:
    """Return the server after the exit of its process, which is to be cleaned up."""
    cause = server.stop_cause or Cause.CRASHED
    return replace(
        server,
        phase=Phase.CLEANING_UP,
        step_deadline=FOREVER,
        expected_ready_at=None,
        stop_cause=cause,
        detail=report.message if cause is Cause.CRASHED else server.detail,
        last_exit=Exit(server.generation, cause, _with_own_message(server, report), now),
    )


def _with_own_message(server: Server, report: ExitReport) -> ExitReport:
    """Return the report, with a message of ours if the pool itself ended the process."""
    if server.stop_signal is None or report.diagnosis is not Diagnosis.CRASHED:
        return report
    if server.stop_signal is StopSignal.KILL:
        return replace(report, message="It did not end when it was told to: ended by SIGKILL.")
    unknown = report.code is None and report.signal is None
    return replace(report, message="It ended after it was told to.") if unknown else report


def with_crashes(server: Server, crashes: tuple[float, ...]) -> Server:
    """Return the server with these times as those of its crashes."""
    return replace(server, crashes=crashes)


def forgiven(server: Server) -> Server:
    """Return the server without its crashes, so that its model may start again at once."""
    return replace(server, crashes=(), retry_at=0.0, failure=None)


def failed(server: Server, detail: str, now: float, forget_after: float) -> Server:
    """Return the server FAILED, to be dropped after `forget_after` seconds.

    A start that had not begun was given no generation yet, so the one before fails in its place.
    """
    end = server.last_exit
    generation, successor_generation = server.generation, server.successor_generation
    if server.phase in NOT_BEGUN and end is not None:
        generation, successor_generation = end.generation, server.last_generation
    return replace(
        without_process(server),
        phase=Phase.FAILED,
        generation=generation,
        successor_generation=successor_generation,
        detail=detail,
        step_deadline=now + forget_after,
        retry_at=now,
        failure=None,
    )


def barred(server: Server, until: float, failure: PoolError | None) -> Server:
    """Return the server barred from a start before `until`.

    failure: the error for callers until then; None: they wait.
    """
    return replace(server, retry_at=until, failure=failure)


def backing_off(
    server: Server, generation: int, settings: Settings, now: float, until: float
) -> Server:
    """Return the server BACKING_OFF: `generation` starts at `until`, with the waiters' settings.

    The times of the process before are cleared, and `created_at` is `now`.
    """
    return replace(
        without_process(server),
        phase=Phase.BACKING_OFF,
        role=Role.CURRENT,
        generation=generation,
        created_at=now,
        spawned_at=None,
        ready_at=None,
        suspended_s=0.0,
        successor_generation=0,
        outdated=False,
        settings=settings,
        step_deadline=until,
        retry_at=until,
        failure=None,
    )


def without_process(server: Server) -> Server:
    """Return the server without anything that belongs to its process."""
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
        expected_ready_at=None,
        from_standby=False,
    )


def probed(server: Server, reused_tokens: int, due: float) -> Server:
    """Return a READY server after a probe. due: when the next is. Reused tokens never fall."""
    reused = max(reused_tokens, server.reused_tokens)
    return replace(server, reused_tokens=reused, step_deadline=due)


def probe_due(server: Server, at: float) -> Server:
    """Return a READY server with the time of its next probe; FOREVER while one is under way."""
    return replace(server, step_deadline=at)
