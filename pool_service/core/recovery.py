"""What an earlier service left behind becomes the state of this one.

Each server goes on in the phase in which it was recorded: one that was READY proves
that it still is (STARTING until then, so that nobody is given what may be dead), one
that was starting goes on within what is left of its start limit, a wish to stop is
carried out, what died meanwhile is noticed like any death. FAILED stays FAILED; a start
that had no process yet is over with its callers.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.catalogue import Catalogue
from pool_service.core.failures import is_crash
from pool_service.core.limits import Limits
from pool_service.core.reloading import Reloading
from pool_service.core.requests import RecoveryBegan, RecoveryEnded, StraysFound
from pool_service.core.types import Cause, Phase, Server, Settings, SpawnedProcess

SETTLED = life.WITHOUT_PROCESS | {Phase.READY, Phase.STOPPING}
"""Phases in which it is known how a server is."""


class Recovery(Reloading):
    """The first moments of a service."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._unsettled: set[str] | None = None

    def _recovery_began(self, event: RecoveryBegan, now: float) -> None:
        self._unsettled = set()
        for past in event.remembered.pasts:
            self._pasts[past.model] = past
        for model, runtime_model in event.remembered.namings.items():
            self._namings.add(model, runtime_model)
        nonces: set[str] = set()
        for server in sorted(event.remembered.servers, key=lambda server: bool(server.serves)):
            try:
                self._take_back(server, nonces, now)
            except Exception as error:  # noqa: BLE001  # it costs that server alone
                self._take_back_broken(server, error, now)

    def _take_back(self, server: Server, nonces: set[str], now: float) -> None:
        """Nonces: of those that were taken back before it."""
        nonce = server.plan.nonce if server.plan else ""
        is_double = nonce in nonces
        nonces |= {nonce} - {""}
        if server.serves:
            self._stand_beside(server)
        if is_double:
            # The service died between the writes by which one takes the other's place.
            self._forget(server)
        elif server.phase in life.WITHOUT_PROCESS or _went_aside(server):
            self._restore(server, now)
        else:
            self._adopt(server, now)

    def _take_back_broken(self, server: Server, error: Exception, now: float) -> None:
        """Look for the process of a server all the same, so that it ends."""
        if self._roster.get(server.model) is None:
            self._roster.put(server)
        self._break_off(server.model, error, now)

    def _forget(self, server: Server) -> None:
        self._put(server)
        self._drop(server)

    def _restore(self, server: Server, now: float) -> None:
        """It has no process. How it failed stays known; what nobody waits for is dropped."""
        if server.phase is Phase.FAILED:
            self._put(server)
        elif is_crash(server):
            self._put_failed(server, server.detail, now, max(server.retry_at - now, 0.0), None)
        else:
            self._forget(server)

    def _adopt(self, server: Server, now: float) -> None:
        assert self._unsettled is not None
        self._unsettled.add(server.model)
        self._adopting.add(server.model)
        server = self._up_to_date(server)
        if server.serves and server.phase not in life.LEAVING:
            server = life.stopping(server, Cause.CEILING)
        self._put(life.unproven(server, now) if server.phase is Phase.READY else server)
        self._out.append(steps.Adopt(server.named, server.generation, server))

    def _adopted(self, server: Server, event: steps.Adopted, now: float) -> None:
        """Its process was found (alive or not), or it never came to have one."""
        if not self._is_answered(server):
            return
        if event.process is None:
            self._never_was(server, now)
        elif server.identity is None:
            self._settle(server.model)
            found = steps.Spawned(server.model, server.generation, event.process)
            self._spawned(server, found, now)
        else:
            self._take_over(server, event.process, now)

    def _never_was(self, server: Server, now: float) -> None:
        """The service died before it had a process; who waits by now gets the next one."""
        wanted = self._waiting.first(server.model) is not None
        if wanted and server.phase not in life.LEAVING:
            self._enqueue(server.model, now)
        else:
            self._gone(server, now)

    def _take_over(self, server: Server, process: SpawnedProcess, now: float) -> None:
        model, generation, identity = server.named, server.generation, process.identity
        server = replace(server, identity=identity)
        if server.phase is Phase.SWEEPING:
            self._put(server)
            self._out.append(steps.Sweep(model, generation, identity, server.endpoint, 0.0))
            return
        self._out.append(steps.AwaitExit(model, generation, identity))
        if server.phase is Phase.STOPPING:
            self._drain(server, now)
            return
        if server.ready_at is None:
            self._settle(server.model)
            self._put(life.rejoined(server, now))
        else:
            self._put(life.unproven(server, now))
        self._await_ready(server)

    def _strays_found(self, event: StraysFound, now: float) -> None:
        """Shown under a name that no caller can ask for, drained, and gone."""
        for identity in event.identities:
            stray = Server(
                model=f"(unknown: pid {identity.pid})",
                settings=Settings(runtime_model=""),
                phase=Phase.READY,
                generation=0,
                created_at=now,
                last_used_at=now,
                keep_alive=0.0,
                identity=identity,
                ready_at=now,
            )
            self._put(life.stopping(stray, Cause.ORPHANED))
            self._out.append(steps.AwaitExit(stray.model, stray.generation, identity))
            self._drain(self._roster[stray.model], now)
        # Not before: what is started is no stray.
        self._is_recovered = self._room_changed = True
        self._preload(set(self._catalogue.preloaded()), now)

    def _step_broke(self, server: Server, event: steps.StepBroke, now: float) -> None:
        """A bug of ours: go by the record, as far as that goes."""
        if event.command != "Adopt":
            super()._step_broke(server, event, now)
        elif not self._is_answered(server):
            return
        elif server.identity is not None:
            self._take_over(server, SpawnedProcess(server.identity, server.log_path), now)
        elif server.phase is Phase.SPAWNING:
            self._refuse(server.model, event.error)
            self._fail(server, str(event.error), event.error, now)
        else:
            self._gone(server, now)

    def _is_answered(self, server: Server) -> bool:
        """Whether this is what we waited for; from now on it is like any other."""
        waited = server.model in self._adopting
        self._adopting.discard(server.model)
        return waited

    def _settle(self, model: str) -> None:
        if self._unsettled is not None:
            self._unsettled.discard(model)

    def _tell_recovered(self, _now: float) -> None:
        """Once, when nothing is unsettled any more."""
        if self._unsettled is None:
            return
        for model in list(self._unsettled):
            server = self._roster.get(model)
            if server is None or server.phase in SETTLED:
                self._unsettled.discard(model)
        if not self._unsettled:
            self._unsettled = None
            self._out.append(RecoveryEnded())


def _went_aside(server: Server) -> bool:
    """Return whether a record is what was left to a model whose process went on aside."""
    return server.phase in life.LEAVING and server.plan is None and server.identity is None
