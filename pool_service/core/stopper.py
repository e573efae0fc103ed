"""Stops: draining a server, then sending one signal after the other to its process."""

from pool_service.core import draining as drain
from pool_service.core import lifecycle as life
from pool_service.core.activity import Activity
from pool_service.core.commands import CheckActivity, EscalateCleanUp, SendSignal
from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.state import PoolState
from pool_service.core.table import Row


class Stopper:
    """Drain and signal the processes of servers that are STOPPING."""

    def __init__(self, state: PoolState) -> None:
        self._state = state

    def begin(self, server: Server, now: float, *, at_once: bool) -> None:
        """Begin the stop of a server that has just become STOPPING; at_once: without a drain.

        A server whose process is not known yet is signalled once it is.
        """
        row = self._state.table.find(server.id)
        is_sought = row is not None and row.is_adopting
        if server.identity is None or is_sought:
            self._state.put(server)
        elif at_once:
            self.signal(server, StopSignal.TERMINATE, now)
        else:
            self.drain(server, now)

    def drain(self, server: Server, now: float) -> None:
        """Drain a STOPPING server before its first signal, or signal it if no drain is needed."""
        if self._state.is_escalated or not drain.drains_first(server):
            self.signal(server, server.stop_signal or StopSignal.TERMINATE, now)
            return
        row = self._state.table.find(server.id)
        # Read before `put`, which clears the marks of the phase before.
        is_checking = row is not None and row.is_checking
        row = self._state.put(drain.draining(server, now))
        if is_checking:
            # The check began while the server was still handed out, so it proves nothing.
            row.is_check_stale = True
        else:
            self.check_activity(row.server)

    def go_on(self, server: Server, now: float) -> None:
        """Check again whether requests are in flight, or send the next signal if time is over."""
        if not drain.is_draining(server) or now >= (server.drain_by or now):
            self.signal(server, life.next_signal(server), now)
        else:
            self._state.put_unpublished(drain.draining(server, now))
            self.check_activity(server)

    def on_activity_reported(self, row: Row, activity: Activity, now: float) -> None:
        """Go on draining while requests are in flight on a server, else send SIGTERM."""
        server = row.server
        if not drain.is_draining(server):
            return
        if row.is_check_stale:
            row.is_check_stale = False
            self.check_activity(server)
        elif activity.requests == 0:
            self.signal(server, StopSignal.TERMINATE, now)
        else:
            busy = drain.seen_busy(server, now)
            # Each check moves the deadline, but only the first changes what is shown.
            if busy.detail == server.detail:
                self._state.put_unpublished(busy)
            else:
                self._state.put(busy)

    def check_activity(self, server: Server, pause: float = 0.0) -> None:
        """Read the activity of a server; pause: seconds to wait before."""
        assert server.identity is not None
        self._state.commands.append(
            CheckActivity(
                server.id,
                server.identity,
                server.plan,
                server.endpoint,
                server.settings.probe_timeout,
                pause,
            )
        )

    def signal(self, server: Server, stop: StopSignal, now: float) -> None:
        """Send a signal to the process of a server, and set the deadline of the next."""
        assert server.identity is not None
        self._state.put(life.signalled(server, stop, now, escalated=self._state.is_escalated))
        self._state.commands.append(SendSignal(server.id, server.identity, stop))

    def escalate(self, row: Row, now: float) -> None:
        """Send the next signal of a stop now, and end the drain of a clean-up.

        Stops that begin later, or have no process yet, escalate by themselves: see
        `PoolState.is_escalated`.
        """
        server = row.server
        if server.identity is None:
            return
        if server.phase is Phase.STOPPING and not row.is_adopting:
            self.signal(server, life.next_signal(server), now)
        elif server.phase is Phase.CLEANING_UP:
            self._state.commands.append(EscalateCleanUp(server.id, server.identity))
