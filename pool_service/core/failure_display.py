"""Failure display: which server of a model shows its failure, and until when starts are barred.

The server that shows a failure
1. A superseded server, whose process is still ending: it keeps its phase, and is FAILED once it is
   gone (`Supervisor.conclude`) if nothing newer is known of its model by then.
2. A start that had not begun is dropped. The generation before it stands for it: as in 1 if its
   process is still ending, else as FAILED again (`life.failed`).
3. Any other server: it is FAILED.
"""

from pool_service.core import lifecycle as life
from pool_service.core.errors import CrashLoop, PoolError
from pool_service.core.server import Phase, Role, Server
from pool_service.core.state import PoolState

MAX_FAILED = 500
"""The number of FAILED servers that are kept; beyond it the oldest are dropped early."""


class FailureDisplay:
    """Show failures, and bar the starts that would only fail again."""

    def __init__(self, state: PoolState) -> None:
        self._state = state

    def remember(self, server: Server, detail: str, error: PoolError, now: float) -> None:
        """Show a failure, and give the same error to further callers for a while."""
        limits = self._state.limits
        loops = isinstance(error, CrashLoop)
        pause = limits.backoff_max if loops else limits.failure_memory
        self.show(server, detail, now, pause, error)

    def show(
        self, server: Server, detail: str, now: float, pause: float, error: PoolError | None
    ) -> None:
        """Show a failure, and bar starts of the model for `pause` seconds.

        detail: the failure in words; error: for callers meanwhile; None: they wait.
        """
        state = self._state
        failed = life.failed(server, detail, now, state.limits.failure_ttl)
        shown = server if server.role is Role.SUPERSEDED else failed
        if failed.id != server.id:
            state.drop(server)
            before = state.table.find(failed.id)
            shown = before.server if before is not None else failed
        state.put(life.barred(shown, now + pause, error))
        if shown is failed and state.table.count({Phase.FAILED}) > MAX_FAILED:
            state.drop(state.table.of(Phase.FAILED)[0].server)
