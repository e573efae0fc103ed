"""The server table: all servers with what is known of them in this run, and indexes."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from pool_service.core.activity import SeenUse
from pool_service.core.errors import StartTimeout
from pool_service.core.liveness import Liveness
from pool_service.core.server import Phase, Role, Server, ServerId
from pool_service.core.stall import StallWatch
from pool_service.core.types import FOREVER


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The reason why a start is to be ended, in words, and the error for its waiters."""

    why: str
    error: StartTimeout


@dataclass(slots=True, eq=False)
class Row:
    """One server, with its marks: what is known of it only while this service runs.

    server: the value that is published and recorded.
    is_adopting: the process that an earlier service started is being looked for.
    is_spawned_here: its process was started by this service, not by an earlier one.
    is_estimating: an estimate or a download is under way.
    timed_out: why a start is to be ended, while the last lines of its log are being read.
    stall_watch: how the start has got on, by the memory samples of this service.
    lost_ports: how many processes of this start lost their port to another program.
    is_checking: an idle check is under way.
    is_check_stale: that check began before the stop, so its result does not count.
    is_cordoned: a first idle check found the server unused, and the second is under way. An Ensure
    takes the cordon away, or waits if an eviction made it.
    is_preempted: the server is stopped as soon as it is unused.
    preempted_for: the model that it is to go for; None: none in particular.
    busy_until: the end of the time for which a busy server is not checked again; None: not busy.
    found_unused_at: when an idle check last found it unused.
    recycle_after: no successor is started for it before this time.
    seen_use: the counters of the last idle check.
    liveness: the findings of the last liveness probes.
    faults: how many checks and probes of it failed by internal errors.
    """

    server: Server
    is_adopting: bool = False
    is_spawned_here: bool = False
    is_estimating: bool = False
    timed_out: TimedOut | None = None
    stall_watch: StallWatch | None = None
    lost_ports: int = 0
    is_checking: bool = False
    is_check_stale: bool = False
    is_cordoned: bool = False
    is_preempted: bool = False
    preempted_for: str | None = None
    busy_until: float | None = None
    found_unused_at: float = -FOREVER
    recycle_after: float = 0.0
    seen_use: SeenUse | None = None
    liveness: Liveness | None = None
    faults: int = 0

    def clear_marks_of_current(self) -> None:
        """Clear the marks that only a current server has."""
        self.is_cordoned = False
        self.end_preemption()
        self.busy_until = self.liveness = None

    def preempt(self, model: str | None) -> None:
        """Mark a server to be stopped as soon as it is unused; model: see preempted_for."""
        self.is_preempted, self.preempted_for = True, model

    def end_preemption(self) -> None:
        """Take back the preemption of a server."""
        self.is_preempted, self.preempted_for = False, None

    def clear_marks_outside(self, phase: Phase) -> None:
        """Clear the marks that have no meaning in `phase`."""
        if phase is not Phase.READY:
            self.is_checking = self.is_cordoned = False
            self.end_preemption()
            self.busy_until = self.seen_use = self.liveness = None
        if phase is not Phase.STARTING:
            self.timed_out = self.stall_watch = None
        if phase is not Phase.STOPPING:
            self.is_check_stale = False
        if phase in (Phase.READY, Phase.FAILED):
            self.lost_ports = 0
        if phase is not Phase.QUEUED:
            self.is_estimating = False


class ServerTable:
    """Keep all servers by their ids: a look-up is O(1), a page O(its size).

    reserved: bytes of the budget that all servers together take up.
    growth: bytes by which all servers together may still grow.
    """

    def __init__(self) -> None:
        self._rows: dict[ServerId, Row] = {}
        self._current: dict[str, Row] = {}
        self._beside: dict[str, list[ServerId]] = {}
        self._ids: list[ServerId] = []
        self._by_phase: dict[Phase, dict[ServerId, None]] = {phase: {} for phase in Phase}
        self._group_counts: Counter[str] = Counter()
        self._reserved_by: Counter[str] = Counter()
        self._turns: OrderedDict[ServerId, None] = OrderedDict()
        self.reserved = 0
        self.growth = 0

    # --- looking up -----------------------------------------------------------------------

    def find(self, server_id: ServerId) -> Row | None:
        """Return the row of a server, or None."""
        return self._rows.get(server_id)

    def current(self, model: str) -> Row | None:
        """Return the row of a model's current server, or None."""
        return self._current.get(model)

    def beside(self, model: str) -> list[Row]:
        """Return the rows of a model's servers that are not current."""
        return [self._rows[server_id] for server_id in self._beside.get(model, ())]

    def of(self, phase: Phase) -> list[Row]:
        """Return the rows of the servers in a phase, those longest in it first."""
        return [self._rows[server_id] for server_id in self._by_phase[phase]]

    def count(self, phases: AbstractSet[Phase]) -> int:
        """Return how many servers are in one of the phases."""
        return sum(len(self._by_phase[phase]) for phase in phases)

    def page(self, after: ServerId | None, size: int) -> list[Server]:
        """Return at most `size` servers in the order of their ids, after `after`."""
        start = 0 if after is None else bisect_right(self._ids, after)
        return [self._rows[server_id].server for server_id in self._ids[start : start + size]]

    def take_turns(self, most: int) -> list[Server]:
        """Return the next `most` servers that have a process, round robin."""
        ids = list(islice(self._turns, most))
        for server_id in ids:
            self._turns.move_to_end(server_id)
        return [self._rows[server_id].server for server_id in ids]

    @property
    def group_counts(self) -> Mapping[str, int]:
        """The number of servers in each group that take up memory; absent: none."""
        return self._group_counts

    @property
    def reserved_by(self) -> Mapping[str, int]:
        """The bytes of the budget that the servers of each account take up; absent: none."""
        return self._reserved_by

    def __iter__(self) -> Iterator[Row]:
        return iter([self._rows[server_id] for server_id in self._ids])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def has_any_beside(self) -> bool:
        """Whether the pool has any server that is not current."""
        return bool(self._beside)

    @property
    def all_beside(self) -> list[Row]:
        """The rows of all servers that are not current."""
        return [self._rows[one] for ids in self._beside.values() for one in ids]

    # --- changing -------------------------------------------------------------------------

    def put(self, server: Server) -> Server | None:
        """Add a server or replace the one with its id; return the value replaced, or None."""
        server_id = server.id
        row = self._rows.get(server_id)
        if row is None:
            self._rows[server_id] = Row(server)
            insort(self._ids, server_id)
            self._enter(server)
            return None
        before = row.server
        self._count(before, -1)
        if before.phase is not server.phase:
            del self._by_phase[before.phase][server_id]
        if before.role is not server.role:
            self._leave_role(before)
        row.server = server
        self._enter(server)
        return before

    def remove(self, server_id: ServerId) -> Row:
        """Remove a server and return its row."""
        row = self._rows.pop(server_id)
        server = row.server
        self._count(server, -1)
        del self._by_phase[server.phase][server_id]
        self._turns.pop(server_id, None)
        del self._ids[bisect_left(self._ids, server_id)]
        self._leave_role(server)
        return row

    def rebuild(self) -> None:
        """Derive every index from the rows anew, after a change that may have been half done."""
        servers = [row.server for row in self._rows.values()]
        self._current, self._beside = {}, {}
        self._ids = sorted(self._rows)
        self._by_phase = {phase: {} for phase in Phase}
        self._group_counts, self._reserved_by = Counter(), Counter()
        self._turns = OrderedDict()
        self.reserved = self.growth = 0
        for server in servers:
            self._enter(server)

    def _enter(self, server: Server) -> None:
        server_id = server.id
        self._count(server, 1)
        self._by_phase[server.phase][server_id] = None
        if server.role is Role.CURRENT:
            self._current[server.model] = self._rows[server_id]
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
            current = self._current.get(server.model)
            if current is not None and current.server.id == server.id:
                del self._current[server.model]
            return
        beside = self._beside[server.model]
        beside.remove(server.id)
        if not beside:
            del self._beside[server.model]

    def _count(self, server: Server, sign: int) -> None:
        if server.takes_memory:
            for group in server.settings.groups:
                self._group_counts[group] += sign
        if server.account:
            self._reserved_by[server.account] += sign * server.reserved
        self.reserved += sign * server.reserved
        self.growth += sign * server.growth
