"""What an earlier service left behind becomes the state of this one.

Each server goes on in the phase in which it was recorded: one that was READY proves
that it still is (STARTING until then, so that nobody is given what may be dead), one
that was starting goes on within what is left of its start limit, a wish to stop is
carried out, what died meanwhile is noticed like any death. FAILED stays FAILED; a start
that had no process yet is over with its callers.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.callers import Callers
from pool_service.core.commands import Adopt, AwaitExit, CleanUp, RecoveryEnded
from pool_service.core.containment import Containment
from pool_service.core.errors import PoolError
from pool_service.core.events import Adopted, OrphansFound, RecoveryBegan, Spawned
from pool_service.core.restart_policy import is_crash
from pool_service.core.server import Cause, Phase, Role, Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Record
from pool_service.core.types import Identity, Settings

SETTLED = life.WITHOUT_PROCESS | {Phase.READY, Phase.STOPPING}
"""Phases in which it is known how a server is."""


class Recovery:
    """Take over the servers of an earlier service.

    unsettled: servers of which it is not known yet how they are; None before a recovery began
    and after it ended.
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

    def begin(self, event: RecoveryBegan, now: float) -> None:
        """Take back all servers that were recorded."""
        self.unsettled = set()
        for past in event.remembered.pasts:
            self._state.pasts[past.model] = past
        for model, runtime_model in event.remembered.namings.items():
            self._state.namings.add(model, runtime_model)
        nonces: set[str] = set()
        for server in sorted(event.remembered.servers, key=_order):
            try:
                self._take_back(server, nonces, now)
            except Exception as error:  # noqa: BLE001 - it costs that server alone
                self.take_back_broken(server, error, now)

    def _take_back(self, server: Server, nonces: set[str], now: float) -> None:
        """Take back one server; nonces: of those that were taken back before it."""
        if self._state.table.find(server.id) is not None:
            # It is FAILED, written before its process was known to be gone.
            return
        nonce = server.plan.nonce if server.plan else ""
        is_double = nonce in nonces
        nonces |= {nonce} - {""}
        if is_double:
            # The service died between the writes by which one takes the other's place.
            self._forget(replace(server, phase=Phase.FAILED))
        elif server.phase in life.WITHOUT_PROCESS:
            self._restore(server, now)
        else:
            self._adopt(server, now)

    def take_back_broken(self, server: Server, error: Exception, now: float) -> None:
        """Look for the process of a server all the same, so that it ends."""
        if self._state.table.find(server.id) is None:
            self._state.table.put(server)
        self._containment.break_off(server.model, server.id, error, now)

    def _forget(self, server: Server) -> None:
        self._state.put(server)
        self._state.drop(server)

    def _restore(self, server: Server, now: float) -> None:
        """Keep how a server without a process failed; drop what nobody waits for."""
        if server.phase is Phase.FAILED:
            self._state.put(server)
        elif is_crash(server):
            self._state.put(server)
            self._supervisor.give_up(server, now)
        else:
            self._forget(server)

    def _adopt(self, server: Server, now: float) -> None:
        assert self.unsettled is not None
        self.unsettled.add(server.id)
        server = self._callers.up_to_date(server)
        if not server.is_current and server.phase not in life.LEAVING:
            server = life.stopping(server, Cause.MEMORY_LIMIT)
        server = life.unproven(server, now) if server.phase is Phase.READY else server
        record = self._state.put(server)
        record.is_adopting = True
        self._state.arm(record)
        self._state.commands.append(Adopt(server.id, server))

    def adopted(self, record: Record, event: Adopted, now: float) -> None:
        """Go on with a server whose process was found, alive or not, or never was."""
        if not self._is_answered(record):
            return
        if event.process is None:
            self._never_was(record.server, now)
        elif record.server.identity is None:
            self._settle(record.server.id)
            found = Spawned(record.server.id, event.process)
            self._supervisor.spawned(record, found, now)
        else:
            self._take_over(record.server, event.process.identity, now)

    def adopt_broke(self, record: Record, error: PoolError, now: float) -> None:
        """Go by the record of a server, as far as that goes, where looking for it broke."""
        server = record.server
        if not self._is_answered(record):
            return
        if server.identity is not None:
            self._take_over(server, server.identity, now)
        elif server.phase is Phase.SPAWNING:
            self._supervisor.fail_start(server, error, now)
        else:
            self._supervisor.gone(server, now)

    def _never_was(self, server: Server, now: float) -> None:
        """Let who waits for a server that had no process yet have the next one."""
        is_wanted = self._state.waiters.first(server.model) is not None
        if is_wanted and server.is_current and server.phase not in life.LEAVING:
            self._supervisor.enqueue(server.model, server, now)
        else:
            self._supervisor.gone(server, now)

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
        if server.ready_at is None:
            self._settle(server.id)
            state.put(life.rejoined(server, now))
        else:
            state.put(life.unproven(server, now))
        self._supervisor.await_ready(server)

    def end_orphans(self, event: OrphansFound, now: float) -> None:
        """Drain and end processes of this pool of which no record tells."""
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
            record = self._state.put(life.stopping(orphan, Cause.ORPHANED))
            self._state.commands.append(AwaitExit(orphan.id, identity))
            self._stopper.drain(record.server, now)
        self._state.capacity_changed = True

    def tell_when_settled(self) -> None:
        """Tell once that nothing is unsettled any more."""
        if self.unsettled is None:
            return
        for server_id in list(self.unsettled):
            record = self._state.table.find(server_id)
            if record is None or record.server.phase in SETTLED:
                self.unsettled.discard(server_id)
        if not self.unsettled:
            self.unsettled = None
            self._state.commands.append(RecoveryEnded())

    def _is_answered(self, record: Record) -> bool:
        """Return whether this is what was waited for; the server is like any other from now on."""
        was_adopting, record.is_adopting = record.is_adopting, False
        return was_adopting

    def _settle(self, server_id: ServerId) -> None:
        if self.unsettled is not None:
            self.unsettled.discard(server_id)


def _order(server: Server) -> tuple[bool, bool]:
    """Sort what may have a process first, and of those the models' own servers."""
    return server.phase in life.WITHOUT_PROCESS, not server.is_current
