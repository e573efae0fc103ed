"""Runs: when each of the last generations of a model went through its stages, and how it ended.

Only changes of phase are noted, so that handing out a READY server costs nothing more.
"""

from dataclasses import dataclass, replace
from enum import Enum

from pool_service.core import measuring
from pool_service.core.server import Exit, Phase, Server, ServerId

RUNS_KEPT = 16
"""The number of generations kept of each model."""

MODELS_KEPT = 1024
"""The number of models whose runs are kept; beyond it those longest unchanged are dropped."""


class Origin(Enum):
    """How a process came to be."""

    UNKNOWN = "it has no process yet"
    COLD = "a new process"
    STANDBY = "a standby, which had imported everything"
    ADOPTED = "a process that an earlier service started"


@dataclass(frozen=True, slots=True)
class Run:
    """One generation. Times in seconds of the pool's clock; None: not yet, or not known.

    queued_at: it was requested. admitted_at: its start began. spawned_at: its process was there.
    stopped_at: a stop began. ended_at: its process had ended.
    load_s: seconds that its load took, without those for which the machine was suspended.
    peak: the most bytes that it took.
    """

    generation: int
    queued_at: float | None = None
    admitted_at: float | None = None
    spawned_at: float | None = None
    ready_at: float | None = None
    stopped_at: float | None = None
    ended_at: float | None = None
    origin: Origin = Origin.UNKNOWN
    exit: Exit | None = None
    peak: int = 0
    load_s: float | None = None


class Runs:
    """Keep the last runs of each model."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int, Run]] = {}

    def of(self, model: str) -> tuple[Run, ...]:
        """Return the last runs of a model, the oldest first."""
        runs = self._by_model.get(model, {})
        return tuple(runs[generation] for generation in sorted(runs))

    def note(self, server: Server, now: float, *, is_recorded: bool = False) -> None:
        """Note that a server has come into its phase.

        is_recorded: that was under an earlier service, and it is not known when.
        """
        if server.phase in (Phase.BACKING_OFF, Phase.FAILED) or not server.model:
            return
        run = self._known(server) or Run(server.generation, queued_at=server.created_at)
        self._put(server.id, _with_phase(run, server, None if is_recorded else now))

    def note_standby(self, server_id: ServerId) -> None:
        """Note that the process of a server was a standby."""
        run = self._by_model.get(server_id.model, {}).get(server_id.generation)
        if run is not None:
            self._put(server_id, replace(run, origin=Origin.STANDBY))

    def withdraw(self, server: Server) -> None:
        """Forget the run of a start that had not begun: the next one gets the same generation."""
        run = self._known(server)
        if run is not None and run.admitted_at is None and run.spawned_at is None:
            del self._by_model[server.model][server.generation]

    def _known(self, server: Server) -> Run | None:
        return self._by_model.get(server.model, {}).get(server.generation)

    def _put(self, server_id: ServerId, run: Run) -> None:
        runs = self._by_model.pop(server_id.model, {})
        self._by_model[server_id.model] = runs
        runs[server_id.generation] = run
        if len(runs) > RUNS_KEPT:
            del runs[min(runs)]
        if len(self._by_model) > MODELS_KEPT:
            del self._by_model[next(iter(self._by_model))]


def _with_phase(run: Run, server: Server, at: float | None) -> Run:
    """Return the run of a server that came into its phase at a time; None: not known."""
    if server.spawned_at is not None and run.spawned_at is None:
        # An earlier service started it unless its start began here.
        is_own = run.admitted_at is not None
        run = replace(
            run,
            spawned_at=server.spawned_at,
            ready_at=server.ready_at,
            load_s=_load_seconds(server),
            origin=Origin.COLD if is_own else Origin.ADOPTED,
        )
    match server.phase:
        case Phase.PREPARING:
            return replace(run, admitted_at=at)
        case Phase.READY:
            return replace(run, ready_at=server.ready_at, load_s=_load_seconds(server))
        case Phase.STOPPING:
            return replace(run, stopped_at=at)
        case Phase.CLEANING_UP:
            end = server.last_exit
            is_own_end = end is not None and end.generation == run.generation
            own_end = _without_lines(end) if end is not None and is_own_end else None
            ended_at = own_end.at if at is None and own_end is not None else at
            return replace(run, ended_at=ended_at, exit=own_end, peak=server.peak)
        case _:
            return run


def _load_seconds(server: Server) -> float | None:
    if server.ready_at is None or server.spawned_at is None:
        return None
    return measuring.load_seconds(server, 0.0)


def _without_lines(end: Exit) -> Exit:
    """Return an exit without the last lines, which can be long and are kept with the server."""
    return replace(end, report=replace(end.report, last_lines=()))
