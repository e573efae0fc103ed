"""The metrics of a front as lines of text, from what one scrape shows."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pool_service.fleet.core.member import Member
from pool_service.fleet.core.values import Lead, Presence, SeenServer, ServerState
from pool_service.fleet.metrics import families as f
from pool_service.fleet.metrics.front_counts import ForwardCounts, FrontCounts
from pool_service.metrics import text
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.values import Histogram

SERVERS_A_PIECE = 1000
"""Servers that are looked at at a time, in less than a millisecond."""

STATES: Mapping[Presence, str] = {
    Presence.EXPECTED: "expected",
    Presence.PRESENT: "present",
    Presence.SUSPECT: "suspect",
    Presence.LOST: "lost",
}
"""The values of the label `state` of members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """The state of a front at one scrape.

    epoch: of the present leader. may_place: whether this front may start servers now.
    wall: converts a time of the front's clock to Unix time. started_at: Unix time of its start.
    """

    version: str
    started_at: float
    members: Sequence[Member]
    lead: Lead
    epoch: int
    may_place: bool
    wall: Callable[[float], float]
    counts: FrontCounts
    forwards: ForwardCounts
    calls: CallCounts
    loop_lag: Histogram
    log_lines_dropped: int


class _Member:
    """What a scrape shows of one member, of one moment."""

    __slots__ = ("beat_at", "host", "is_reachable", "presence", "servers")

    def __init__(self, member: Member, beat_at: float | None) -> None:
        self.host = member.host
        self.presence = member.presence
        self.is_reachable = member.is_reachable
        self.beat_at = beat_at
        self.servers = dict.fromkeys(ServerState, 0)


def pieces(view: FrontView) -> Iterator[str]:
    """Yield the text of all metrics in pieces, some of which may be empty."""
    return text.pieces(_lines(view))


def _lines(view: FrontView) -> Iterator[str]:
    """Yield all lines; an empty one asks for the end of the piece."""
    members: list[_Member] = []
    hosts: dict[str, str] = {}
    doubled: set[str] = set()
    unseen = SERVERS_A_PIECE
    for member in view.members:
        members.append(_seen(member, view, hosts, doubled))
        unseen -= 1 + len(member.servers)
        if unseen <= 0:
            unseen = SERVERS_A_PIECE
            yield ""
    yield from _of_front(view)
    yield from _of_members(view, members)
    yield from text.family_lines(f.DOUBLED, [("", len(doubled))])
    yield from _of_placing(view)
    yield from _of_calls(view)


def _seen(member: Member, view: FrontView, hosts: dict[str, str], doubled: set[str]) -> _Member:
    """Return what is shown of a member; note which models are on several.

    hosts: where each model was seen so far.
    """
    shown = _Member(member, view.counts.beats.get(member.host))
    for server in member.servers.values():
        shown.servers[server.state] += 1
        _note_place(server, hosts, doubled)
    return shown


def _note_place(server: SeenServer, hosts: dict[str, str], doubled: set[str]) -> None:
    if server.lives and hosts.setdefault(server.model, server.host) != server.host:
        doubled.add(server.model)


def _of_front(view: FrontView) -> Iterator[str]:
    labels = text.labels_of(f.BUILD_INFO, (view.version, platform.python_version()))
    yield from text.family_lines(f.BUILD_INFO, [(labels, 1)])
    lead = view.lead
    single = {
        f.START_TIME: view.started_at,
        f.LEADS: int(lead.leads),
        f.LEADER_KNOWN: int(lead.leads or bool(lead.address)),
        f.MAY_PLACE: int(view.may_place),
        f.EPOCH: view.epoch,
        f.LEAD_CHANGES: view.counts.lead_changes,
        f.LOG_LINES_DROPPED: view.log_lines_dropped,
    }
    for family, value in single.items():
        yield from text.family_lines(family, [("", value)])
    yield from text.histogram_lines(f.LOOP_LAG, {(): view.loop_lag})


def _of_members(view: FrontView, members: Sequence[_Member]) -> Iterator[str]:
    counts = dict.fromkeys(Presence, 0)
    for one in members:
        counts[one.presence] += 1
    yield from text.family_lines(
        f.MEMBERS,
        [(text.labels_of(f.MEMBERS, (STATES[state],)), count) for state, count in counts.items()],
    )
    yield from text.family_lines(
        f.MEMBER_STATE,
        (
            (text.labels_of(f.MEMBER_STATE, (one.host, name)), int(one.presence is presence))
            for one in members
            for presence, name in STATES.items()
        ),
    )
    reachable = ((_label(one), int(one.is_reachable)) for one in members)
    yield from text.family_lines(f.MEMBER_REACHABLE, reachable)
    beats = ((_label(one), view.wall(one.beat_at)) for one in members if one.beat_at is not None)
    yield from text.family_lines(f.MEMBER_BEAT, beats)
    yield from text.family_lines(
        f.SERVERS,
        (
            (text.labels_of(f.SERVERS, (one.host, state.name)), count)
            for one in members
            for state, count in one.servers.items()
        ),
    )


def _of_placing(view: FrontView) -> Iterator[str]:
    counts = view.counts
    yield from text.counter_lines(f.MEMBERS_LOST, counts.losses)
    yield from text.counter_lines(f.PLACINGS, counts.placings)
    yield from text.counter_lines(f.MOVES, counts.moves)
    yield from text.counter_lines(f.UNPLACED, counts.unplaced)
    yield from text.family_lines(f.COPY_EVICTIONS, [("", counts.copy_evictions)])


def _of_calls(view: FrontView) -> Iterator[str]:
    forwards = view.forwards
    yield from text.counter_lines(f.ENSURES, view.counts.ensures)
    yield from text.call_lines(
        forwards.calls, f.FORWARDED, f.FORWARDED_DURATION, f.FORWARDED_STREAMS
    )
    yield from text.counter_lines(f.MEMBER_CALLS, forwards.by_host)
    yield from text.call_lines(view.calls, f.RPCS, f.RPC_DURATION, f.STREAMS)


def _label(member: _Member) -> str:
    return text.labels_of(f.MEMBER_REACHABLE, (member.host,))
