"""Recovery: takes over the servers that an earlier service recorded, each by its phase.

1. READY: is STARTING until its readiness is proven again, so that callers get no dead server.
2. STARTING: goes on, with the rest of its start timeout; whether it makes progress is judged anew.
3. STOPPING, CLEANING_UP: goes on.
4. FAILED, or a start after a crash: FAILED.
5. Any other start without a process: dropped, since its callers are gone.

A process that exited meanwhile is noticed like any exit.
"""

from dataclasses import replace

from pool_service.core import adoption
from pool_service.core import lifecycle as life
from pool_service.core.callers import Callers
from pool_service.core.commands import Adopt, AwaitExit, CleanUp, RecoveryEnded
from pool_service.core.error_containment import Containment
from pool_service.core.errors import PoolError
from pool_service.core.events import Adopted, OrphansFound, RecoveryBegan, Spawned
from pool_service.core.restart_policy import has_crashed
from pool_service.core.server import Cause, Phase, Role, Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import Identity, Settings

SETTLED = life.WITHOUT_PROCESS | {Phase.READY, Phase.STOPPING}
"""Phases in which a recovered server is settled."""


class Recovery:
    """Take over the servers of an earlier service.

    unsettled: servers whose state is not known yet; None before and after a recovery.
    """

    def __init__(
        self,
        state: PoolState,
        containment: Containment,
        callers: Callers,
        stopper: Stopper,
        supervisor: Supervisor,
    ) -> None:
        self._state = state
        self._containment = containment
        self._callers = callers
        self._stopper = stopper
        self._supervisor = supervisor
        self.unsettled: set[ServerId] | None = None

    def on_recovery_began(self, event: RecoveryBegan, now: float) -> None:
        """Take over all servers that were recorded."""
        self.unsettled = set()
        for past in event.remembered.pasts:
            self._state.pasts[past.model] = past
        for model, runtime_model in event.remembered.namings.items():
            self._state.namings.add(model, runtime_model)
        for model, pinned in event.remembered.pins.items():
            self._state.pins.set(model, pinned=pinned)
        # The configuration may have changed since.
        self._state.fit_to_catalogue()
        for server in sorted(event.remembered.servers, key=_order):
            try:
                self._take_over_one(server, now)
            except Exception as error:  # noqa: BLE001 - costs that server only
                self.take_over_after_error(server, error, now)

    def _take_over_one(self, server: Server, now: float) -> None:
        """Take over one server, unless another record of it was taken over before: see `_order`."""
        if self._state.table.find(server.id) is not None:
            return
        # A record does not say whether its server is pinned.
        settings = self._callers.with_present_pin(server.model, server.settings)
        server = replace(server, settings=settings)
        if server.phase in life.WITHOUT_PROCESS:
            self._restore(server, now)
        else:
            self._adopt(server, now)

    def take_over_after_error(self, server: Server, error: Exception, now: float) -> None:
        """Take over a server after an internal error, so that its process is found and ended."""
        if self._state.table.find(server.id) is None:
            self._state.table.put(server)
        self._containment.break_off(server.model, server.id, error, now)

    def _forget(self, server: Server) -> None:
        """Publish that a recorded server is gone; its model's last run stays known."""
        self._state.put(server, is_recorded=True)
        self._state.drop(server)

    def _restore(self, server: Server, now: float) -> None:
        """Take over a server without a process: keep it if it has failed, else drop it."""
        if server.phase is Phase.FAILED:
            self._state.put(server, is_recorded=True)
        elif has_crashed(server):
            self._state.put(server, is_recorded=True)
            self._supervisor.give_up(server, now)
        else:
            self._forget(server)

    def _adopt(self, server: Server, now: float) -> None:
        assert self.unsettled is not None
        self.unsettled.add(server.id)
        server = self._callers.with_present_settings(server)
        # Beside a current server only recycling leaves one that is not stopping.
        if not server.is_current and server.phase not in life.LEAVING:
            server = life.stopping(server, Cause.MEMORY_LIMIT)
        server = adoption.unproven(server, now) if server.phase is Phase.READY else server
        row = self._state.put(server, is_recorded=True)
        row.is_adopting = True
        self._state.arm(row)
        self._state.commands.append(Adopt(server.id, server))

    def on_adopted(self, row: Row, event: Adopted, now: float) -> None:
        """Go on with a server after its process was looked for."""
        if not self._end_adoption(row):
            return
        if event.process is None:
            self._go_on_without_process(row.server, now)
        elif row.server.identity is None:
            self._settle(row.server.id)
            found = Spawned(row.server.id, event.process)
            self._supervisor.on_spawned(row, found, now)
        else:
            self._take_over(row.server, event.process.identity, now)

    def adopt_as_recorded(self, row: Row, error: PoolError, now: float) -> None:
        """Go on with a server as it was recorded, after Adopt failed by an internal error."""
        server = row.server
        if not self._end_adoption(row):
            return
        if server.identity is not None:
            self._take_over(server, server.identity, now)
        elif server.phase is Phase.SPAWNING:
            self._supervisor.show_failed_start(server, error, now)
        else:
            self._supervisor.conclude(server, now)

    def _go_on_without_process(self, server: Server, now: float) -> None:
        """Go on with a server that never had a process: start it anew if it has waiters."""
        is_wanted = self._state.waiters.first(server.model) is not None
        if is_wanted and server.is_current and server.phase not in life.LEAVING:
            self._supervisor.enqueue(server.model, server, now)
        else:
            self._supervisor.conclude(server, now)

    def _take_over(self, server: Server, identity: Identity, now: float) -> None:
        state = self._state
        server = replace(server, identity=identity)
        if server.phase is Phase.CLEANING_UP:
            state.put(server)
            state.commands.append(CleanUp(server.id, identity, server.endpoint, 0.0))
            return
        state.commands.append(AwaitExit(server.id, identity))
        if server.phase is Phase.STOPPING:
            self._stopper.drain(server, now)
            return
        if server.was_ready:
            state.put(adoption.unproven(server, now))
        else:
            self._settle(server.id)
            state.put(adoption.rejoined(server, now))
        self._supervisor.await_ready(server)

    def on_orphans_found(self, event: OrphansFound, now: float) -> None:
        """Drain and stop processes of this pool that no record lists."""
        for identity in event.identities:
            orphan = Server(
                model="",
                settings=Settings(runtime_model=""),
                phase=Phase.READY,
                generation=identity.pid,
                created_at=now,
                last_used_at=now,
                keep_alive=0.0,
                identity=identity,
                ready_at=now,
                role=Role.ORPHAN,
            )
            row = self._state.put(life.stopping(orphan, Cause.ORPHANED))
            self._state.commands.append(AwaitExit(orphan.id, identity))
            self._stopper.drain(row.server, now)
        self._state.capacity_changed = True

    def tell_when_settled(self) -> None:
        """Issue RecoveryEnded once, when every server is settled."""
        if self.unsettled is None:
            return
        for server_id in list(self.unsettled):
            row = self._state.table.find(server_id)
            if row is None or row.server.phase in SETTLED:
                self.unsettled.discard(server_id)
        if not self.unsettled:
            self.unsettled = None
            self._state.commands.append(RecoveryEnded())

    def _end_adoption(self, row: Row) -> bool:
        """End the adoption of a server; return False if none was under way."""
        was_adopting, row.is_adopting = row.is_adopting, False
        return was_adopting

    def _settle(self, server_id: ServerId) -> None:
        if self.unsettled is not None:
            self.unsettled.discard(server_id)


def _order(server: Server) -> tuple[bool, bool]:
    """Return a sort key: servers that may have a process first, of these the current ones first.

    A server whose role changes gets another record. If the service died between the two writes,
    the server has both, and the first in this order counts.
    """
    return server.phase in life.WITHOUT_PROCESS, not server.is_current
