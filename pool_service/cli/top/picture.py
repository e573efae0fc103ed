"""The picture of the pool: what Watch, List, Describe and ListModels have told, merged."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pool_service_client import (
    Description,
    Event,
    EvictionCandidate,
    Model,
    Page,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerRole,
    ServerState,
    Synced,
    Totals,
)

Key = tuple[str, int, str]
"""A model, the generation of its server, and its host, which is empty outside of a fleet.

The generation of a model without a server is 0, and it has no host.
"""

MAX_DESCRIBED = 8
"""Models that are described at each look: the chosen one, and models that calls wait for."""

KEPT_S = 4.0
"""The age from which a description is none of the present, but that of a model waited for."""

AWAITED_STATES = {ServerState.QUEUED, ServerState.STARTING, ServerState.BACKING_OFF}
"""States in which calls wait for a server."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a server, or a model without one."""

    model: str
    server: Server | None = None
    known: Model | None = None

    @property
    def key(self) -> Key:
        """The row's identity over all pictures."""
        return _key(self.server) if self.server is not None else (self.model, 0, "")


@dataclass(frozen=True, slots=True)
class Outage:
    """The time since when the service does not do its job, and the last error.

    answers: it can be reached and says why, such as that it is still recovering.
    """

    since: datetime
    why: str
    answers: bool = False


@dataclass(slots=True)
class Picture:
    """All that is shown of the pool.

    Watch tells which servers there are. List tells their memory and use, which change without an
    event, and the totals. Describe tells the order of evictions, holders and waiting calls.

    Attributes:
        is_complete: whether Watch has told all servers at least once.
        models: the models that the service knows, with or without a server.
        descriptions: of the models that were described lately, the newest first.
        refusals: why the service did not describe a model, by model.
        outage: None while the service does its job.
    """

    servers: dict[Key, Server] = field(default_factory=dict)
    totals: Totals | None = None
    notices: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()
    descriptions: Mapping[str, Description] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    outage: Outage | None = None
    is_complete: bool = False
    _told: Mapping[str, tuple[float, Description | str]] = field(default_factory=dict)
    """The descriptions and refusals, each with the time at which it came."""
    _revisions: dict[Key, int] = field(default_factory=dict)
    _reported: set[Key] = field(default_factory=set)

    def begin(self) -> None:
        """Prepare for a new stream of Watch, which first reports all present servers."""
        self._reported.clear()

    def receive(self, event: Event) -> None:
        """Apply an event of Watch."""
        match event:
            case ServerChanged():
                key = _key(event.server)
                self.servers[key] = event.server
                self._revisions[key] = event.revision
                self._reported.add(key)
            case ServerRemoved():
                self._forget(_key(event.server))
            case Synced():
                for key in self.servers.keys() - self._reported:
                    self._forget(key)
                self.is_complete = True
                self.outage = None

    def _forget(self, key: Key) -> None:
        self.servers.pop(key, None)
        self._revisions.pop(key, None)

    def lose(self, why: str, now: datetime, *, answers: bool = False) -> None:
        """Keep the picture, and say that the service does not do its job; answers: see Outage."""
        since = self.outage.since if self.outage is not None else now
        self.outage = Outage(since, why, answers)

    def refresh(self, pages: Sequence[Page]) -> None:
        """Apply the pages of a List; servers that Watch has told later news of stay as they are."""
        for page in pages:
            for server in page.servers:
                key = _key(server)
                if key in self.servers and page.revision >= self._revisions[key]:
                    self.servers[key] = server
        self.totals = pages[-1].totals
        self.notices = pages[-1].notices

    def rows(self) -> list[Row]:
        """Return the rows of the table: servers by model, then models without a server."""
        servers = sorted(self.servers.values(), key=_key)
        taken = {server.model for server in servers}
        return [
            *(Row(server.model, server) for server in servers),
            *(Row(one.model, known=one) for one in self.models if one.model not in taken),
        ]

    def current(self, model: str) -> Server | None:
        """Return the server that callers of a model get; None if there is none.

        Of several hosts, that with the newest one.
        """
        servers = (one for one in self.servers.values() if one.model == model)
        current = (one for one in servers if one.role is ServerRole.CURRENT)
        return max(current, key=lambda one: one.generation, default=None)

    def stands_for(self, name: str) -> str:
        """Return the listed model that a name is an alias of; empty if it is none."""
        return next((one.model for one in self.models if name in one.aliases), "")

    def next_to_go(self) -> Mapping[Key, tuple[int, EvictionCandidate]]:
        """Return the servers that would be stopped next, each with its place on its host from 1."""
        return {
            (one.model, one.generation, host): (place, one)
            for host, described in self.orders().items()
            for place, one in enumerate(described.next_to_go, 1)
        }

    def orders(self) -> Mapping[str, Description]:
        """Return by host the newest description that has the order of evictions there."""
        found: dict[str, Description] = {}
        for described in self.descriptions.values():
            found.setdefault(self._host_of(described), described)
        return found

    def _host_of(self, described: Description) -> str:
        """Return the host that has described a model: that of the servers that it tells of."""
        for server in described.servers:
            return server.host
        for one in described.next_to_go:
            for model, generation, host in self.servers:
                if (model, generation) == (one.model, one.generation):
                    return host
        return ""

    def hosts(self) -> list[str]:
        """Return the hosts of the servers, in order; none outside of a fleet."""
        return sorted({one.host for one in self.servers.values()} - {""})

    def used_bytes(self) -> int:
        """Return the memory that all servers take."""
        return sum(server.footprint_bytes for server in self.servers.values())

    def learn(
        self,
        described: Mapping[str, Description | str | None],
        began: float,
        now: float,
        *,
        anew: bool,
    ) -> None:
        """Apply descriptions, or why there is none, by model; None: no answer came.

        Old ones of other models are forgotten, unless no answer came at all.

        began, now: when these were asked for and told, in seconds; what was learnt in between is
            newer. anew: forget the other models that calls wait for, too.
        """
        told = {
            model: (now, one)
            for model, one in described.items()
            if one is not None and self._told.get(model, (began, one))[0] <= began
        }
        if described and not told:
            return
        spared = {*described, *(() if anew else self._awaited())}
        oldest = began if anew else began - KEPT_S
        for model, (at, one) in self._told.items():
            if model not in told and (at >= oldest or model in spared):
                told[model] = at, one
        self._told = dict(sorted(told.items(), key=lambda item: -item[1][0]))
        texts = [(model, one) for model, (_, one) in self._told.items()]
        self.descriptions = {model: one for model, one in texts if isinstance(one, Description)}
        self.refusals = {model: one for model, one in texts if isinstance(one, str)}

    def _awaited(self) -> Iterator[str]:
        """Yield the models whose servers calls may wait for."""
        return (one.model for one in self._named() if one.state in AWAITED_STATES)

    def models_to_describe(self, chosen: str | None) -> list[str]:
        """Return the models that a look describes, at most MAX_DESCRIBED.

        Those of `around_choice`, one of each host, whose order of evictions is its own, and those
        that calls wait for.
        """
        models = self.around_choice(chosen)
        described = {one.host for one in self._named() if one.model in models}
        for server in self._named():
            if server.host not in described:
                described.add(server.host)
                models.append(server.model)
        if self.totals is not None and self.totals.waiting_calls:
            models += self._awaited()
        return list(dict.fromkeys(models))[:MAX_DESCRIBED]

    def around_choice(self, chosen: str | None) -> list[str]:
        """Return the chosen model and, unless it has a server, another one that has.

        Only the description of a model that the service knows has the order of evictions.
        """
        models = [one.model for one in self._named()]
        others = models[:1] if chosen not in models else []
        return [chosen, *others] if chosen else others

    def _named(self) -> list[Server]:
        """Return the servers that have a model's name."""
        return [one for one in self.servers.values() if one.role is not ServerRole.ORPHAN]


def _key(server: Server) -> Key:
    return server.model, server.generation, server.host


def row_of(rows: Sequence[Row], key: Key | None, index: int = 0) -> int:
    """Return the index of the row with a key, else of its model, else the nearest to `index`."""
    keys: Iterable[Key] = (row.key for row in rows)
    if key is not None:
        for place, one in enumerate(keys):
            if one == key:
                return place
        for place, row in enumerate(rows):
            if row.model == key[0]:
                return place
    return max(0, min(index, len(rows) - 1))
