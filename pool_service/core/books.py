"""What the pool knows, and the ways in which it is written.

Everything above (`supervision.py` and what builds on it) changes the state by these
few methods, so that what is shown, what is due and who is told stay in step.
"""

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.deadlines import Deadlines
from pool_service.core.errors import PoolError
from pool_service.core.evictions import Evictions
from pool_service.core.requests import Answer, Ensured, Publish, RecoveryEnded
from pool_service.core.roster import Roster
from pool_service.core.types import FOREVER, Limits, Past, Phase, Server
from pool_service.core.vitality import Vitality
from pool_service.core.waiting import Waiting

Command = Answer | Publish | RecoveryEnded | steps.ServerCommand


class Books:
    """The state of the pool, and the commands that the present event has led to."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._roster = Roster()
        self._pasts: dict[str, Past] = {}
        self._waiting = Waiting()
        self._evictions = Evictions()
        self._deadlines = Deadlines()
        self._queue: dict[str, None] = {}
        self._checking: set[str] = set()
        self._marked: set[str] = set()
        self._adopting: set[str] = set()
        self._lost_ports: dict[str, int] = {}
        self._in_haste = False
        self._timed_out: set[str] = set()
        self._vitality = dict[str, Vitality]()
        self._out: list[Command] = []

    def _put(self, server: Server) -> None:
        before = self._roster.put(server)
        if server.phase is not Phase.READY:
            self._checking.discard(server.model)
            self._marked.discard(server.model)
            self._vitality.pop(server.model, None)
        if server.phase is not Phase.STARTING:
            self._timed_out.discard(server.model)
        if server.phase in (Phase.READY, Phase.FAILED):
            self._lost_ports.pop(server.model, None)
        self._arm(server)
        self._out.append(Publish(server, before.phase if before else None))

    def _keep(self, server: Server) -> None:
        """A change that nobody watches for."""
        self._roster.put(server)
        self._arm(server)

    def _arm(self, server: Server) -> None:
        """Nothing is due for one of which we wait to hear how it is."""
        held = server.model in self._checking or server.model in self._adopting
        self._deadlines.set(server.model, FOREVER if held else life.deadline(server))

    def _drop(self, server: Server) -> None:
        """It is no longer in the pool; its generation and last exit stay known."""
        model = server.model
        self._roster.remove(model)
        if server.generation:
            self._pasts[model] = Past(model, server.generation, server.last_exit)
        self._queue.pop(model, None)
        self._lost_ports.pop(model, None)
        self._deadlines.set(model, FOREVER)
        self._out.append(Publish(server, server.phase, removed=True))

    def _known(self, model: str) -> Server | Past | None:
        """The model's server, or what is left of its last."""
        return self._roster.get(model) or self._pasts.get(model)

    def _refuse(self, model: str, error: PoolError) -> None:
        """Everybody who waits for the model is told the same."""
        for wait in self._waiting.take(model):
            self._answer(wait.ticket, error)

    def _answer(self, ticket: int, result: Ensured | PoolError) -> None:
        self._out.append(Answer(ticket, result))
