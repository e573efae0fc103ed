"""Sightings: which members the front sees, and what they have told."""

from collections.abc import Mapping

from pool_service.fleet.core.commands import Connect, Disconnect, Interrupt, NotePresence, Publish
from pool_service.fleet.core.leading import Leading
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.seats import Seats
from pool_service.fleet.core.state import FleetState
from pool_service.fleet.core.values import CatalogueNames, Presence, Report, SeenServer


class Sightings:
    """Keeps the view of all members."""

    def __init__(self, state: FleetState, leading: Leading, seats: Seats) -> None:
        self._state = state
        self._leading = leading
        self._seats = seats

    def follow(self, host: str, address: str) -> None:
        """Follow a member from now on."""
        state = self._state
        member = Member(
            host,
            address,
            state.lost_after_of.get(host, state.lost_after),
            state.now,
            expected_for=state.lost_after,
            # One that was never seen has nothing that callers here have had.
            is_awaited=not state.has_settled or host in state.left,
        )
        state.members[host] = state.unseen[host] = member
        state.names.join(host)
        state.give(Connect(host, address))

    def on_patience(self, usual: float, of_members: Mapping[str, float]) -> None:
        """Lose members after other times of silence from now on."""
        state = self._state
        state.lost_after, state.lost_after_of = usual, of_members
        for member in state.members.values():
            member.lost_after = of_members.get(member.host, usual)
            member.expected_for = usual

    def on_told(self, member: Member, servers: tuple[SeenServer, ...], revision: int) -> None:
        """Take what a member has told of all its servers."""
        told = {server.key: server for server in servers}
        gone = [server for key, server in member.servers.items() if key not in told]
        for server in gone:
            self._remove(member, server)
        for server in servers:
            if member.servers.get(server.key) != server:
                self._put(member, server)
        member.revision = revision
        self._turn(member, Presence.PRESENT, "")
        # Only now: a model is still there whose server is another one since it was told last.
        for model in {server.model for server in (*gone, *servers)}:
            self._seats.refresh(model)
        self._seats.on_seen(member.host, revision)
        self.settle()

    def on_changed(self, member: Member, server: SeenServer, *, removed: bool) -> None:
        """Take a change of a server that its member has told."""
        member.revision = server.revision
        if not removed:
            self._put(member, server)
        elif server.key in member.servers:
            self._remove(member, server)
        self._seats.refresh(server.model)

    def on_report(self, member: Member, report: Report) -> None:
        """Take what a member says of itself."""
        was_reachable, acknowledged = member.is_reachable, member.acknowledged
        member.report = report
        self._leading.on_report(member)
        if member.acknowledged != acknowledged:
            self._seats.on_acknowledged()
        if was_reachable and not member.is_reachable:
            self._seats.on_lost(member.host)
        elif member.is_reachable != was_reachable:
            self._state.touch_all()
            for model in {server.model for server in member.servers.values()}:
                self._seats.refresh(model)

    def on_names(self, member: Member, names: CatalogueNames) -> None:
        """Take the names of a member's catalogue; of several members' the first counts."""
        member.names = names
        self._state.names.tell(member.host, names.aliases)

    def on_sight_lost(self, member: Member, why: str) -> None:
        """Suspect a member that has fallen silent."""
        if member.presence is Presence.PRESENT:
            self._turn(member, Presence.SUSPECT, why)
        else:
            member.why = why

    def on_time(self) -> None:
        """Give up the members that have been silent for too long."""
        for member in self._state.unseen.values():
            lost_at = member.lost_at
            if lost_at is not None and lost_at <= self._state.now:
                self._lose(member)
        self.settle()

    def _lose(self, member: Member) -> None:
        self._turn(member, Presence.LOST, member.why)
        for server in list(member.servers.values()):
            self._remove(member, server)
        member.acknowledged = -1
        self._state.give(Interrupt(member.host))
        self._seats.on_lost(member.host)

    def forget(self, member: Member) -> None:
        """Follow a member no longer that is not listed any more, or is at another address."""
        state = self._state
        self._lose(member)
        del state.members[member.host], state.unseen[member.host]
        state.unlisted.pop(member.host, None)
        state.leave(member.host)
        state.names.leave(member.host)
        state.give(Disconnect(member.host))

    def _turn(self, member: Member, presence: Presence, why: str) -> None:
        state = self._state
        if member.presence is not presence:
            state.give(NotePresence(member.host, presence, why))
            state.touch_all()
        member.turn(presence, why, state.now)
        if presence is Presence.PRESENT:
            state.unseen.pop(member.host, None)
            state.left.pop(member.host, None)
            state.known.add(member.host)
        else:
            state.unseen[member.host] = member

    def _put(self, member: Member, server: SeenServer) -> None:
        state = self._state
        member.servers[server.key] = server
        servers = *_without(state.by_model.get(server.model, ()), server), server
        state.by_model[server.model] = servers
        if len(servers) > 1:
            state.doubled.add(server.model)
            state.touch(server.model)
        state.give(Publish(server, removed=False))

    def _remove(self, member: Member, server: SeenServer) -> None:
        state = self._state
        del member.servers[server.key]
        state.remember_generation(server)
        servers = _without(state.by_model[server.model], server)
        if len(servers) <= 1:
            state.doubled.discard(server.model)
            state.untidy.discard(server.model)
        state.touch(server.model)
        if servers:
            state.by_model[server.model] = servers
        else:
            del state.by_model[server.model]
        state.give(Publish(server, removed=True))

    def settle(self) -> None:
        """Go on with what waits for members to tell their servers, if all have."""
        state = self._state
        if state.is_settled:
            state.has_settled |= bool(state.members)
            self._leading.choose_epoch()
            self._seats.on_settled()


def _without(servers: tuple[SeenServer, ...], server: SeenServer) -> tuple[SeenServer, ...]:
    """Return the servers of a model without one of a host and a generation."""
    place = server.host, server.generation
    return tuple(one for one in servers if (one.host, one.generation) != place)
