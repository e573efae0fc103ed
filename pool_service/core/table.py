"""The servers of the pool with the marks that its parts keep of them, and indexes over both."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from pool_service.core.activity import SeenUse
from pool_service.core.liveness import Liveness
from pool_service.core.server import Phase, Role, Server, ServerId


@dataclass(slots=True, eq=False)
class Record:
    """One server, and what is known of it only while this service runs.

    server: the value that is published and recorded.
    is_adopting: its process of an earlier service is being looked for.
    is_appraising: what it needs is being found out, or its files are downloaded.
    is_timed_out: its start limit is over, and its last lines are being read.
    lost_ports: how many processes of this start lost their port to another program.
    is_checking: a use check is under way; is_check_stale: that began while it was handed out.
    is_cordoned: a first use check found it unused; it is not handed out until the second.
    is_claimed: it is to go as soon as it is unused; claimed_for: for which model, None: for none
    in particular.
    busy_until: until when it counts as busy, since a use check found it so.
    renewal_at: before that no successor is started for it.
    seen_use, vitality: what the last use check and the last liveness probes showed.
    faults: how many looks at it broke.
    """

    server: Server
    is_adopting: bool = False
    is_estimating: bool = False
    is_timed_out: bool = False
    lost_ports: int = 0
    is_checking: bool = False
    is_check_stale: bool = False
    is_cordoned: bool = False
    is_preempted: bool = False
    preempted_for: str | None = None
    busy_until: float | None = None
    renewal_at: float = 0.0
    seen_use: SeenUse | None = None
    liveness: Liveness | None = None
    faults: int = 0

    def withdraw(self) -> None:
        """Clear the marks of a server that callers get, since they get it no longer."""
        self.is_cordoned = False
        self.release()
        self.busy_until = self.liveness = None

    def claim(self, model: str | None) -> None:
        """Let a server go as soon as it is unused."""
        self.is_preempted, self.preempted_for = True, model

    def release(self) -> None:
        """Let a server stay that was to go."""
        self.is_preempted, self.preempted_for = False, None

    def keep_marks_of(self, phase: Phase) -> None:
        """Clear the marks that have no meaning in `phase`."""
        if phase is not Phase.READY:
            self.is_checking = self.is_cordoned = False
            self.release()
            self.busy_until = self.seen_use = self.liveness = None
        if phase is not Phase.STARTING:
            self.is_timed_out = False
        if phase is not Phase.STOPPING:
            self.is_check_stale = False
        if phase in (Phase.READY, Phase.FAILED):
            self.lost_ports = 0
        if phase is not Phase.QUEUED:
            self.is_estimating = False


class ServerTable:
    """All servers by their ids. Looking one up is O(1), a page O(its size).

    reserved, growth: bytes that all servers together take up of the budget, and may still grow
    by.
    """

    def __init__(self) -> None:
        self._records: dict[ServerId, Record] = {}
        self._current: dict[str, ServerId] = {}
        self._beside: dict[str, list[ServerId]] = {}
        self._ids: list[ServerId] = []
        self._by_phase: dict[Phase, dict[ServerId, None]] = {phase: {} for phase in Phase}
        self._groups: Counter[str] = Counter()
        self._turns: OrderedDict[ServerId, None] = OrderedDict()
        self.reserved = 0
        self.growth = 0

    # --- looking up -----------------------------------------------------------------------

    def find(self, server_id: ServerId) -> Record | None:
        """Return the record of a server, or None."""
        return self._records.get(server_id)

    def current(self, model: str) -> Record | None:
        """Return the record of the server that the model's callers get, or None."""
        server_id = self._current.get(model)
        return None if server_id is None else self._records[server_id]

    def beside(self, model: str) -> list[Record]:
        """Return the records of the model's other servers: a successor, one superseded."""
        return [self._records[server_id] for server_id in self._beside.get(model, ())]

    def of(self, phase: Phase) -> list[Record]:
        """Return the records of the servers in a phase, the longest in it first."""
        return [self._records[server_id] for server_id in self._by_phase[phase]]

    def count(self, phases: AbstractSet[Phase]) -> int:
        """Return how many servers are in one of the phases."""
        return sum(len(self._by_phase[phase]) for phase in phases)

    def page(self, after: ServerId | None, size: int) -> list[Server]:
        """Return at most `size` servers in the order of their ids, after `after`."""
        start = 0 if after is None else bisect_right(self._ids, after)
        return [self._records[server_id].server for server_id in self._ids[start : start + size]]

    def take_turns(self, most: int) -> list[Server]:
        """Return the next `most` servers that have a process, in turn."""
        ids = list(islice(self._turns, most))
        for server_id in ids:
            self._turns.move_to_end(server_id)
        return [self._records[server_id].server for server_id in ids]

    @property
    def groups(self) -> Mapping[str, int]:
        """Return how many servers that take up room count for each group; absent: none."""
        return self._groups

    def __iter__(self) -> Iterator[Record]:
        return iter([self._records[server_id] for server_id in self._ids])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def has_any_beside(self) -> bool:
        """Return whether any server runs beside its model's."""
        return bool(self._beside)

    @property
    def all_beside(self) -> list[Record]:
        """Return the records of all servers beside their models' own."""
        return [self._records[one] for ids in self._beside.values() for one in ids]

    # --- changing -------------------------------------------------------------------------

    def put(self, server: Server) -> Server | None:
        """Add a server, or replace the value of the one with its id; return that."""
        server_id = server.id
        record = self._records.get(server_id)
        if record is None:
            self._records[server_id] = Record(server)
            insort(self._ids, server_id)
            self._enter(server)
            return None
        before = record.server
        self._count(before, -1)
        if before.phase is not server.phase:
            del self._by_phase[before.phase][server_id]
        if before.role is not server.role:
            self._leave_role(before)
        record.server = server
        self._enter(server)
        return before

    def remove(self, server_id: ServerId) -> Record:
        """Take out a server and return its record."""
        record = self._records.pop(server_id)
        server = record.server
        self._count(server, -1)
        del self._by_phase[server.phase][server_id]
        self._turns.pop(server_id, None)
        del self._ids[bisect_left(self._ids, server_id)]
        self._leave_role(server)
        return record

    def rebuild(self) -> None:
        """Derive every index from the records anew."""
        servers = [record.server for record in self._records.values()]
        self._current, self._beside = {}, {}
        self._ids = sorted(self._records)
        self._by_phase = {phase: {} for phase in Phase}
        self._groups, self._turns = Counter(), OrderedDict()
        self.reserved = self.growth = 0
        for server in servers:
            self._enter(server)

    def _enter(self, server: Server) -> None:
        server_id = server.id
        self._count(server, 1)
        self._by_phase[server.phase][server_id] = None
        if server.role is Role.CURRENT:
            self._current[server.model] = server_id
        else:
            beside = self._beside.setdefault(server.model, [])
            if server_id not in beside:
                beside.append(server_id)
        if server.identity is None:
            self._turns.pop(server_id, None)
        else:
            self._turns.setdefault(server_id)

    def _leave_role(self, server: Server) -> None:
        if server.role is Role.CURRENT:
            if self._current.get(server.model) == server.id:
                del self._current[server.model]
            return
        beside = self._beside[server.model]
        beside.remove(server.id)
        if not beside:
            del self._beside[server.model]

    def _count(self, server: Server, sign: int) -> None:
        if server.takes_room:
            for group in server.settings.groups:
                self._groups[group] += sign
        self.reserved += sign * server.reserved
        self.growth += sign * server.growth
