"""The state of the front, shared by the parts of its machine."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pool_service.fleet.core.commands import Command
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.names import Names
from pool_service.fleet.core.values import Lead, Presence, SeenServer

MOST_GENERATIONS = 100_000
"""The most models whose last generation is remembered, some hundred bytes each."""

MOST_LEFT = 10_000
"""The most former members whose names are remembered."""


@dataclass(slots=True)
class Request:
    """A call that asks where to go. name: as the caller wrote it. model: what it means."""

    request_id: int
    name: str
    model: str
    runtime_model: str
    download: bool | None


@dataclass(slots=True)
class Claim:
    """A model, and the host that it has been placed on or was seen on.

    calls: the ids of the calls that were sent there and have not ended, besides those of a server
    that is READY. is_seen: its server was seen. counted_revision: the host's revision from which
    its offers count the server's memory, which they do once it is QUEUED no more; None: they do not
    yet. needed: bytes. refusals: why other hosts have refused it, by host.

    There is one for each model, nearly always with neither: None takes less than an empty dict.
    """

    host: str
    needed: int = 0
    is_seen: bool = False
    counted_revision: int | None = None
    calls: dict[int, None] | None = None
    refusals: Mapping[str, str] | None = None

    def begin_call(self, request_id: int) -> None:
        """Count a call that is sent there."""
        if self.calls is None:
            self.calls = {}
        self.calls[request_id] = None

    def end_call(self, request_id: int) -> None:
        """Count a call no more, if it was counted."""
        if self.calls is not None:
            self.calls.pop(request_id, None)
            self.calls = self.calls or None


@dataclass(slots=True)
class Round:
    """One placing of a model, for all calls that wait for it.

    asked: the hosts whose offers are awaited. asked_for: the call for which they were asked.
    tries: how often they were asked. ask_at: when they are asked again; None: an answer is awaited.
    """

    round_id: int
    model: str
    waiting: dict[int, Request] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    asked_for: Request | None = None
    tries: int = 0
    ask_at: float | None = None


@dataclass(slots=True)
class FleetState:
    """What the front knows and has decided; changed inside `Machine.handle` alone.

    name: of this front's process. lost_after: seconds of silence after which a member is lost, and
    within which members vanish at once. lost_after_of: that of members that have their own.
    began: when this front did. is_listed: the members are known.
    epoch: with which this front leads; 0: it does not, or has not chosen one yet.
    rival: the name of another front that has taken over; empty: none.
    parked: calls by the host that they wait for to be seen again.
    """

    name: str
    lost_after: float
    lost_after_of: Mapping[str, float] = field(default_factory=dict)
    now: float = 0.0
    commands: list[Command] = field(default_factory=list)
    began: float = math.inf
    is_listed: bool = False
    """The front has been told at least once who the members are."""
    members: dict[str, Member] = field(default_factory=dict)
    unseen: dict[str, Member] = field(default_factory=dict)
    """The members that are not present."""
    listed: Mapping[str, str] = field(default_factory=dict)
    """The addresses of the members as they were listed last."""
    unlisted: dict[str, Member] = field(default_factory=dict)
    """The members that a registry does not list any more where they are."""
    review_at: float = math.inf
    """When to look again whether these stay."""
    known: set[str] = field(default_factory=set)
    """The members that were seen at least once."""
    left: dict[str, None] = field(default_factory=dict)
    """Hosts that were followed at another address, or are followed no more; the oldest first."""
    has_settled: bool = False
    """There were members, and each had told its servers or was lost."""
    lead: Lead = field(default_factory=lambda: Lead(leads=False))
    epoch: int = 0
    epoch_at: float = 0.0
    own_epoch: int = 0
    """The highest epoch with which this front has led."""
    rival: str = ""
    rival_at: float = float("-inf")
    """When a member has heard the rival last, as far as known."""
    claims: dict[str, Claim] = field(default_factory=dict)
    """By model; changed by `claim` and `unclaim` alone."""
    claimed_at: dict[str, dict[str, Claim]] = field(default_factory=dict)
    """The same by host, then by model."""
    rounds: dict[str, Round] = field(default_factory=dict)
    parked: dict[str, dict[int, Request]] = field(default_factory=dict)
    unsettled: dict[int, Request] = field(default_factory=dict)
    waiting: dict[int, Request] = field(default_factory=dict)
    """All calls that have no seat yet: those of a round, parked and unsettled ones."""
    seated: dict[int, str] = field(default_factory=dict)
    """The model of each call that counts to a claim."""
    refused: dict[int, dict[str, str]] = field(default_factory=dict)
    """Why hosts have refused each call, by host."""
    evicting: dict[tuple[str, str], float | None] = field(default_factory=dict)
    """Copies that are being evicted, by host and model: when to try again; None: an answer is
    awaited."""
    by_model: dict[str, tuple[SeenServer, ...]] = field(default_factory=dict)
    """All servers that members have told, by their models: nearly always one."""
    doubled: set[str] = field(default_factory=set)
    """The models that have more than one server."""
    untidy: set[str] = field(default_factory=set)
    """Models with copies of which something has changed since the copies were looked at."""
    generations: dict[str, int] = field(default_factory=dict)
    """The highest generation of each model of servers that are gone."""
    names: Names = field(default_factory=Names)
    told_epoch: int = 0
    """The highest epoch that a member has seen."""

    def give(self, command: Command) -> None:
        """Add a command to those that the driver carries out after this event."""
        self.commands.append(command)

    @property
    def followed_epoch(self) -> int:
        """The epoch with which calls are sent: this front's, or that of the leader that is known.

        Members that a leader has told of a higher one have told that to this front.
        """
        return self.epoch or max(self.lead.epoch, self.told_epoch)

    @property
    def listed_by(self) -> float:
        """The time until which calls wait to hear who the members are; infinity if it is known."""
        return math.inf if self.is_listed else self.began + self.lost_after

    @property
    def is_settled(self) -> bool:
        """Whether each member that is awaited has told its servers, or is lost.

        While none is seen, each new one is awaited.
        """
        sees_none = len(self.unseen) == len(self.members)
        return self.is_listed and not any(
            one.presence is Presence.EXPECTED and (one.is_awaited or sees_none)
            for one in self.unseen.values()
        )

    def presence(self, host: str) -> Presence:
        """Return how the front sees a host; one that is no member any more is lost."""
        member = self.members.get(host)
        return member.presence if member is not None else Presence.LOST

    def leave(self, host: str) -> None:
        """Note that a member is followed no more where it was."""
        if host in self.known:
            self.known.discard(host)
            self.left[host] = None
            if len(self.left) > MOST_LEFT:
                del self.left[next(iter(self.left))]

    def claim(self, model: str, claim: Claim) -> None:
        """Note that a model has been placed on a host, or was seen there."""
        self.unclaim(model)
        self.claims[model] = claim
        self.claimed_at.setdefault(claim.host, {})[model] = claim

    def unclaim(self, model: str) -> None:
        """Forget where a model is."""
        self.touch(model)
        claim = self.claims.pop(model, None)
        if claim is not None:
            of_host = self.claimed_at[claim.host]
            del of_host[model]
            if not of_host:
                del self.claimed_at[claim.host]

    def touch(self, model: str) -> None:
        """Let the copies of a model be looked at after this event, if it has any."""
        if model in self.doubled:
            self.untidy.add(model)

    def touch_all(self) -> None:
        """Let the copies of all models be looked at after this event."""
        self.untidy |= self.doubled

    def seen(self, model: str) -> Iterator[SeenServer]:
        """Yield the servers of a model whose endpoints callers can reach."""
        for server in self.by_model.get(model, ()):
            if self.members[server.host].is_reachable:
                yield server

    def next_generation(self, model: str) -> int:
        """Return the least generation for the next server of a model, above all that were told."""
        highest = self.generations.get(model, 0)
        for server in self.by_model.get(model, ()):
            highest = max(highest, server.generation)
        return highest + 1

    def remember_generation(self, server: SeenServer) -> None:
        """Remember the generation of a server that is gone, if it is the highest of its model."""
        if server.generation <= self.generations.get(server.model, 0):
            return
        self.generations[server.model] = server.generation
        if len(self.generations) > MOST_GENERATIONS:
            del self.generations[next(iter(self.generations))]
