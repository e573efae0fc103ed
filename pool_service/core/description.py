"""Description: all that the pool knows about one model. A look: nothing is changed or used."""

from dataclasses import dataclass, replace

from pool_service.core.admission import PreemptionClass, Resident, preemption_order
from pool_service.core.callers import Callers
from pool_service.core.effective_settings import EffectiveSetting, effective_settings
from pool_service.core.errors import PoolError
from pool_service.core.preemption_policy import worth
from pool_service.core.runs import Run
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import LastRun, Phase, Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.story import Decision
from pool_service.core.types import Estimate, Settings


@dataclass(frozen=True, slots=True)
class Holder:
    """A hold: the label of its caller, and since when."""

    label: str
    since: float


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call that waits for the model to be READY.

    since: when it came, or when the server that it holds was lost.
    is_own: it is no call: the pool itself wants the model.
    """

    since: float
    holder: str
    is_hold: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class InLine:
    """A server in the order in which servers are preempted for models that need little memory.

    freed: bytes that its end frees. worth: its retention value in seconds (`preemption_policy.py`).
    resides_until: the end of its grace period.
    """

    server_id: ServerId
    is_busy: bool
    freed: int
    worth: float
    resides_until: float


@dataclass(frozen=True, slots=True)
class Restarts:
    """The crashes that count, when the model may be started again, and the error until then.

    retry_at: 0: at once. limit, window: so many crashes within so many seconds are a crash loop.
    """

    crashes: tuple[float, ...]
    limit: int
    window: float
    retry_at: float
    failure: PoolError | None


@dataclass(frozen=True, slots=True)
class Description:
    """The knowledge of the pool about a model. Times in seconds of the pool's clock.

    settings: those of its next server. sources: the same as text, with where they come from.
    servers: the current one first. last_run: None: it never ran, or it has a server.
    queued_since: when its server was queued; None: it is not queued.
    order: the servers that may be preempted, the next one first. protected: the reason why its own
    server is not among them; empty if it is, or if there is none.
    estimate: what its next server needs; None: that cannot be told.
    flaw: why it cannot be started; empty if nothing is known to be wrong.
    """

    model: str
    aliases: tuple[str, ...]
    is_listed: bool
    settings: Settings
    sources: tuple[EffectiveSetting, ...]
    servers: tuple[Server, ...]
    last_run: LastRun | None
    runs: tuple[Run, ...]
    holders: tuple[Holder, ...]
    waiting: tuple[WaitingCall, ...]
    queued_since: float | None
    order: tuple[InLine, ...]
    protected: str
    restarts: Restarts
    decisions: tuple[Decision, ...]
    estimate: Estimate | None = None
    flaw: str = ""


_WITHOUT_MEMORY = {
    Phase.QUEUED: "it waits for its turn and takes no memory yet",
    Phase.BACKING_OFF: "it waits to be started again and takes no memory",
    Phase.FAILED: "it has failed and takes no memory",
}

_PROTECTION = {
    PreemptionClass.LEAVING: "it is on its way out",
    PreemptionClass.PROTECTED: "it is held or pinned",
    PreemptionClass.STARTING: "it is starting",
}


class Describer:
    """Describe models."""

    def __init__(self, state: PoolState, callers: Callers, scheduler: Scheduler) -> None:
        self._state = state
        self._callers = callers
        self._scheduler = scheduler

    def describe(self, name: str, now: float) -> Description:
        """Return all that is known about the model that a name or alias stands for.

        Raises ModelUnknown if nothing is known of it, and the catalogue does not allow it.
        """
        state = self._state
        model = state.catalogue.resolve(name)
        current = state.table.current(model)
        server = current.server if current is not None else None
        beside = tuple(row.server for row in state.table.beside(model))
        servers = (server, *beside) if server is not None else beside
        past = state.pasts.get(model)
        if not (servers or past or state.catalogue.serves(model)):
            raise self._callers.not_served(model)
        settings = state.settings_for(model, self._callers.named_before(model))
        residents = self._scheduler.capacity(now).residents()
        aliases = (alias for alias, meant in state.catalogue.aliases.items() if meant == model)
        return Description(
            model=model,
            aliases=tuple(sorted(aliases)),
            is_listed=model in state.catalogue.models,
            settings=settings,
            sources=effective_settings(
                state.catalogue, model, settings, server, has_pin=state.pins.get(model) is not None
            ),
            servers=servers,
            last_run=None if servers else past,
            runs=tuple(_with_peak(run, servers) for run in state.runs.of(model)),
            holders=tuple(
                Holder(hold.holder, state.holds.since(hold.request_id))
                for hold in state.holds.of(model)
            ),
            waiting=self._waiting(model),
            queued_since=state.queue.get(server.id) if server is not None else None,
            order=tuple(map(_in_line, preemption_order(residents, now))),
            protected=_protection(residents, server),
            restarts=self._restarts(server, settings, model, now),
            decisions=state.stories.of(model),
            flaw=state.catalogue.why_not_served(model),
        )

    def order(self, now: float) -> tuple[InLine, ...]:
        """Return the servers that may be preempted, the next one first."""
        order = preemption_order(self._scheduler.capacity(now).residents(), now)
        return tuple(map(_in_line, order))

    def _waiting(self, model: str) -> tuple[WaitingCall, ...]:
        labels = {hold.request_id: hold.holder for hold in self._state.holds.of(model)}
        return tuple(
            WaitingCall(
                one.since,
                labels.get(one.request_id, "") if one.request_id is not None else "",
                is_hold=one.request_id in labels,
                is_own=one.request_id is None,
            )
            for one in self._state.waiters.of(model)
        )

    def _restarts(
        self, server: Server | None, settings: Settings, model: str, now: float
    ) -> Restarts:
        state, limits = self._state, self._state.limits
        # A superseded server that is ending stands for a model that has no other.
        newest = state.known(model)
        crashes: tuple[float, ...] = ()
        retry_at, failure = 0.0, None
        if isinstance(newest, Server):
            crashes = tuple(at for at in newest.crashes if now - at < limits.crash_window)
            if newest.retry_at > now:
                retry_at, failure = newest.retry_at, newest.failure
        if failure is None and server is None:
            failure = state.failed_starts.find(model, settings.runtime_model, now)
            if failure is not None:
                retry_at = state.failed_starts.until(model)
        return Restarts(crashes, limits.crash_limit, limits.crash_window, retry_at, failure)


def _with_peak(run: Run, servers: tuple[Server, ...]) -> Run:
    """Return a run with the most memory that its server, if it is still there, has taken so far."""
    peaks = [one.peak for one in servers if one.generation == run.generation]
    return replace(run, peak=max([run.peak, *peaks]))


def _in_line(one: Resident) -> InLine:
    candidate = one.candidate
    is_busy = one.preemption_class is PreemptionClass.BUSY
    return InLine(
        candidate.server_id, is_busy, candidate.freed, worth(candidate), one.resides_until
    )


def _protection(residents: tuple[Resident, ...], server: Server | None) -> str:
    """Return why a server is not preempted; empty if it is, or if there is none."""
    if server is None:
        return ""
    for one in residents:
        if one.candidate.server_id == server.id:
            return _PROTECTION.get(one.preemption_class, "")
    return _WITHOUT_MEMORY.get(server.phase, "")
