"""A fleet as tests script it: members, fronts that follow them, and the network between."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.listing import UNLISTED_LIMIT_S
from pool_service.fleet.core.placing import MOVING_REASONS
from pool_service.fleet.core.values import (
    CatalogueNames,
    Lead,
    Offer,
    Presence,
    ServerState,
)
from tests.fleet.core.scripted_member import ALIASES, Member, Tell
from tests.fleet.core.watched_front import Call, WatchedFront

BEAT_S = 0.001


@dataclass
class Link:
    """What a front hears of a member. on_the_way: told, and not arrived yet, in order.

    cut: nothing passes. follows: the front has a connection, as far as it knows.
    """

    front: WatchedFront
    member: Member
    cut: bool = False
    follows: bool = False
    incarnation: int = 0
    on_the_way: list[ev.Event] = field(default_factory=list)


class Fleet:
    """The world around fronts, of which each step is one event or little more."""

    def __init__(self, fronts: int, members: Iterable[tuple[int | None, bool]]) -> None:
        """members: of each, for how many servers it has room, and whether callers reach it."""
        self.now = 100.0
        self.fronts = [WatchedFront(f"front{number}") for number in range(fronts)]
        self.members: dict[str, Member] = {}
        for number, (room, reachable) in enumerate(members):
            host = f"host{number}"
            tell = self._teller(host)
            self.members[host] = Member(host, tell, room, reachable)
        self.addresses = {host: f"{host}:1" for host in self.members}
        """Of those members that are listed now."""
        self.links = [Link(front, one) for front in self.fronts for one in self.members.values()]
        self.answering: list[tuple[WatchedFront, ev.Event]] = []
        """Answers of members on their way to fronts."""
        self.hanging: list[tuple[WatchedFront, int]] = []
        """Calls that were sent over a link that is cut."""
        self._ids = count(1)
        self.engine_epoch = 0
        self.tells_names = True
        """Fronts hear what aliases mean."""
        self.by_registry = False
        """A registry lists the members, and not an operator."""

    def _teller(self, host: str) -> Tell:
        return lambda server, removed: self._tell(host, ev.ServerChanged(server, removed))

    def _tell(self, host: str, event: ev.Event) -> None:
        for link in self.links:
            if link.member.host == host and link.follows:
                link.on_the_way.append(event)

    def link(self, front: WatchedFront, host: str) -> Link:
        return next(
            one for one in self.links if one.front is front and one.member is self.members[host]
        )

    # --- fronts ---------------------------------------------------------------------------

    def begin(self, front: WatchedFront) -> None:
        front.on_new_link = lambda host: self._connect(front, host)
        front.feed(self._listing(), self.now)

    def _connect(self, front: WatchedFront, host: str) -> None:
        """Let a front follow a member from the start, over a new connection."""
        link = self.link(front, host)
        link.follows, link.on_the_way = False, []

    def list_at(self, address: str, *hosts: str) -> None:
        """Let all fronts hear that members are at an address; empty: they are none any more."""
        self.addresses = self.addresses | dict.fromkeys(hosts, address)
        if not address:
            self.addresses = {one: at for one, at in self.addresses.items() if at}
        for front in self.fronts:
            front.feed(self._listing(), self.now)

    def _listing(self) -> ev.MembersListed:
        return ev.MembersListed(self.addresses, self.by_registry)

    def elect(self, chosen: WatchedFront) -> None:
        """Let one front lead, as an engine does; the others hear of it later."""
        self.engine_epoch += 1
        # What they have not heard yet is of the past.
        self.answering = [one for one in self.answering if not isinstance(one[1], ev.LeadChanged)]
        for front in self.fronts:
            heard = ev.LeadChanged(Lead(front is chosen, self.engine_epoch, chosen.name))
            if front is chosen:
                front.feed(heard, self.now)
            else:
                self.answering.append((front, heard))

    def carry_out(self, front: WatchedFront, command: cmd.Command) -> None:
        """Do what a front's driver was told to do, however long ago."""
        front.to_do.remove(command)
        match command:
            case cmd.Answer(request_id):
                if request_id in front.calls:
                    self._send(front, front.calls[request_id])
            case cmd.AskOffers(round_id):
                offers = dict(self._offers(front, command))
                self.answering.append((front, ev.OffersCame(round_id, offers)))
            case cmd.EvictCopy():
                self._evict(front, command)
            case cmd.TellLead(host):
                self.beat(front, host)
            case cmd.Interrupt(host):
                self._ask_anew(front, host)
            case _:
                raise AssertionError(command)
        self._answer_served()

    def _offers(self, front: WatchedFront, asked: cmd.AskOffers) -> Iterable[tuple[str, Offer]]:
        for host in asked.hosts:
            if self._passes(front, host):
                yield host, self.members[host].offer(asked.name)

    def _evict(self, front: WatchedFront, copy: cmd.EvictCopy) -> None:
        member = self.members[copy.host]
        if self._passes(front, copy.host) and member.obeys(copy.epoch, front.name, self.now):
            member.evict(copy.model)
        self.answering.append((front, ev.EvictionEnded(copy.host, copy.model)))

    def _passes(self, front: WatchedFront, host: str) -> bool:
        is_called = host in front.followed and not self.link(front, host).cut
        return is_called and self.members[host].runs

    def beat(self, front: WatchedFront, host: str) -> None:
        """Exchange a beat, if anything passes."""
        member, link = self.members[host], self.link(front, host)
        if self._passes(front, host) and link.follows:
            # No two beats come at the same time.
            self.now += BEAT_S
            epoch = front.machine.epoch
            if epoch:
                member.obeys(epoch, front.name, self.now)
            front.feed(ev.BeatAnswered(host, member.report(self.now)), self.now)

    # --- calls ------------------------------------------------------------------------------

    def ask(self, front: WatchedFront, name: str, *, by_stranger: bool = False) -> None:
        call = Call(next(self._ids), name, 0, by_stranger=by_stranger)
        self._request(front, call)

    def _request(self, front: WatchedFront, call: Call) -> None:
        call.request_id, call.seat, call.sent = next(self._ids), None, False
        front.calls[call.request_id] = call
        front.feed(ev.SeatRequested(call.request_id, call.name), self.now)

    def _send(self, front: WatchedFront, call: Call) -> None:
        """Send a call where it is to go, or end it with what it was answered."""
        seat = call.seat
        if seat is None:
            self.leave(front, call)
            return
        host, member = seat.host, self.members[seat.host]
        call.sent, call.incarnation = True, member.incarnation
        if not self._passes(front, host):
            if self.presence(front, host) in {Presence.PRESENT, Presence.SUSPECT}:
                # One that is silent is waited for, until it is lost.
                self.hanging.append((front, call.request_id))
            else:
                self._request_anew(front, call)
        elif seat.epoch and not member.obeys(seat.epoch, front.name, self.now):
            self.leave(front, call)
        elif reason := member.ensure(
            call.key, call.name, seat.least_generation, by_stranger=call.by_stranger
        ):
            if seat.may_move and reason in MOVING_REASONS:
                call.refused_by.add(host)
                refused = ev.SeatRefused(call.request_id, host, reason, call.name)
                front.feed(refused, self.now)
            else:
                self.leave(front, call)

    def leave(self, front: WatchedFront, call: Call) -> None:
        """End a call, wherever it is."""
        for member in self.members.values():
            member.leave(call.key)
        del front.calls[call.request_id]
        front.feed(ev.SeatLeft(call.request_id), self.now)

    def _request_anew(self, front: WatchedFront, call: Call) -> None:
        self.leave(front, call)
        self._request(front, call)

    def _ask_anew(self, front: WatchedFront, host: str) -> None:
        """Let the calls of a lost host ask where to go."""
        for call in list(front.calls.values()):
            if call.sent and call.seat is not None and call.seat.host == host:
                self._request_anew(front, call)

    def _answer_served(self) -> None:
        """End the calls whose server is READY, but for each second, which holds it."""
        for member in self.members.values():
            served, member.served = member.served, []
            failed, member.failed = member.failed, []
            for front in self.fronts:
                for call in list(front.calls.values()):
                    if call.key in failed or (call.key in served and call.key % 2):
                        self.leave(front, call)

    # --- members and the network ---------------------------------------------------------------

    def at_member(self, host: str) -> Member:
        return self.members[host]

    def load(self, host: str, model: str, *, well: bool) -> None:
        self.members[host].load(model, well=well)
        self._answer_served()

    def crash(self, host: str, model: str) -> None:
        self.members[host].crash(model)
        self._answer_served()

    def stop(self, host: str, *, keeps_servers: bool) -> None:
        """End a member's service; who follows it sees that at once, unless it is cut off."""
        self.members[host].stop(keeps_servers=keeps_servers)
        for link in self.links:
            if link.member.host == host and link.follows and not link.cut:
                self.notice(link)

    def notice(self, link: Link) -> None:
        """Let a front find out that a member is silent."""
        link.follows = False
        link.on_the_way.clear()
        link.front.feed(ev.SightLost(link.member.host, "silent"), self.now)
        if not link.cut:
            self._ask_anew(link.front, link.member.host)

    def mend(self, link: Link) -> None:
        """Let everything pass again over a link, also what was sent meanwhile."""
        link.cut = False
        if link.follows and (not link.member.runs or link.incarnation != link.member.incarnation):
            self.notice(link)
        hanging, self.hanging = self.hanging, []
        for front, request_id in hanging:
            if request_id in front.calls:
                self._send(front, front.calls[request_id])

    def follow(self, link: Link) -> None:
        """Let a front follow a member (again): a beat, all servers, then changes."""
        front, member = link.front, link.member
        if not self._passes(front, member.host) or link.follows:
            return
        link.follows = True
        self.beat(front, member.host)
        if link.incarnation not in (0, member.incarnation):
            self._ask_anew(front, member.host)
        link.incarnation = member.incarnation
        link.on_the_way = [
            ev.CatalogueTold(member.host, CatalogueNames(ALIASES if self.tells_names else {})),
            ev.MemberTold(member.host, member.snapshot(), member.revision),
        ]

    def arrive(self, link: Link) -> None:
        """Let the next word of a member arrive."""
        link.front.feed(link.on_the_way.pop(0), self.now)

    def answer(self, place: int) -> None:
        """Let an answer arrive, out of order."""
        front, event = self.answering.pop(place)
        front.feed(event, self.now)

    def presence(self, front: WatchedFront, host: str) -> Presence:
        return front.presence(host)

    def starting(self) -> list[tuple[str, str]]:
        return [
            (one.host, model)
            for one in self.members.values()
            if one.runs
            for model, at in one.servers.items()
            if at.state is ServerState.STARTING
        ]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end = self.now + seconds
        while True:
            due = min(front.machine.next_deadline() for front in self.fronts)
            if due > end:
                break
            self.now = max(self.now, due)
            for front in self.fronts:
                if front.machine.next_deadline() <= self.now:
                    front.feed(ev.TimeReached(), self.now)
                    assert front.machine.next_deadline() > self.now, "it comes again and again"
        self.now = end

    # --- the end ---------------------------------------------------------------------------

    def pass_time_until_listed(self) -> None:
        """Let time pass until no member stays where it is not listed."""
        for front in self.fronts:
            front.may_leave_many = True
        self.pass_time(UNLISTED_LIMIT_S)

    def heal(self) -> None:
        """Let everything pass again, and every member run, reachable and willing."""
        for member in self.members.values():
            member.refusing.clear()
            if not member.runs:
                member.start()
        for link in self.links:
            self.mend(link)

    def go_on(self) -> None:
        """Do all that can be done now, until nothing is left to do but to wait."""
        for _ in range(1000):
            if not self.go_on_once():
                return
        raise AssertionError("it never comes to rest")

    def go_on_once(self, *, starts: bool = True) -> bool:
        """Do each thing once that can be done now; return whether there was any.

        starts: starts end, too, well.
        """
        under_way = [one for one in self.links if one.on_the_way and not one.cut]
        to_do = [(front, command) for front in self.fronts for command in front.to_do]
        starting, answering = self.starting() if starts else [], len(self.answering)
        for link in self.links:
            self.follow(link)
            while link.on_the_way and not link.cut:
                self.arrive(link)
        for _ in range(answering):
            self.answer(0)
        for front, command in to_do:
            # What one of them led to may have made others pointless.
            if command in front.to_do:
                self.carry_out(front, command)
        for host, model in starting:
            if (host, model) in self.starting():
                self.load(host, model, well=True)
        return bool(under_way or to_do or starting or answering)

    def come_to_rest(self, seconds: float) -> None:
        """Go on for so long, with a beat each half second."""
        end = self.now + seconds
        while self.now < end:
            self.go_on()
            for link in self.links:
                self.beat(link.front, link.member.host)
            self.go_on()
            self.pass_time(0.5)
