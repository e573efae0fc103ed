"""What an earlier service left behind becomes the state of this one.

Each server goes on in the phase in which it was recorded: one that was READY proves
that it still is, one that was starting goes on within what is left of its start limit,
a wish to stop is carried out, what died meanwhile is noticed like any death.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.requests import RecoveryBegan, RecoveryEnded, StraysFound
from pool_service.core.supervision import Supervision
from pool_service.core.types import Cause, Limits, Phase, Server, Settings, StopSignal

SETTLED = frozenset({Phase.READY, Phase.STOPPING, Phase.FAILED})
"""Phases in which it is known how a server is."""


class Recovery(Supervision):
    """The first moments of a service."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._unsettled: set[str] | None = None

    def _recovery_began(self, event: RecoveryBegan, now: float) -> None:
        self._unsettled = set()
        for past in event.remembered.pasts:
            self._generations[past.model] = past.generation
        for server in event.remembered.servers:
            self._generations[server.model] = server.generation
            self._restore(server, now)

    def _restore(self, server: Server, now: float) -> None:
        if server.phase in life.WITHOUT_PROCESS:
            if server.last_exit is not None:
                self._put_failed(server, server.detail, now, 0.0, None)
            return
        assert self._unsettled is not None
        self._unsettled.add(server.model)
        self._put(server)
        self._out.append(life.Adopt(server.model, server.generation, server))

    def _adopted(self, server: Server, event: life.Adopted, now: float) -> None:
        """Its process was found (alive or not), or it never came to have one."""
        if event.process is None:
            self._drop(server)
            return
        if server.phase is Phase.SPAWNING:
            self._settle(server.model)
            self._spawned(server, life.Spawned(server.model, server.generation, event.process), now)
            return
        server = replace(server, identity=event.process.identity)
        if server.phase is Phase.SWEEPING:
            self._put(server)
            self._out.append(life.Sweep(server.model, server.generation, event.process.identity))
            return
        self._out.append(life.AwaitExit(server.model, server.generation, event.process.identity))
        if server.phase is Phase.STOPPING:
            self._signal(server, server.stop_signal or StopSignal.TERMINATE, now)
            return
        if server.phase is Phase.STARTING:
            self._settle(server.model)
            self._put(server)
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
            self._out.append(life.AwaitExit(stray.model, stray.generation, identity))
            self._signal(self._roster[stray.model], StopSignal.TERMINATE, now)

    def _settle(self, model: str) -> None:
        if self._unsettled is not None:
            self._unsettled.discard(model)

    def _tell_recovered(self) -> None:
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
