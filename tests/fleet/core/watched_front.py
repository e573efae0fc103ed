"""A front of a scripted fleet: its machine, and what is asserted after every event."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pool_service.core.errors import PoolError
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.machine import Machine
from pool_service.fleet.core.values import Presence, Seat, SeenServer, ServerState

LOST_AFTER_S = 3.0


@dataclass
class Call:
    """A call of a caller. seat: where it is sent; sent: it has arrived there.

    by_stranger: its caller may not know the model, on whichever host.
    """

    key: int
    name: str
    request_id: int
    seat: Seat | None = None
    sent: bool = False
    incarnation: int = 0
    refused_by: set[str] = field(default_factory=set)
    by_stranger: bool = False


class WatchedFront:
    """A front whose machine is asserted to keep its promises at each event."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.machine = Machine(name, LOST_AFTER_S)
        self.calls: dict[int, Call] = {}
        """By the ids of their requests."""
        self.to_do: list[cmd.Command] = []
        """What its driver has not carried out yet."""
        self.asking: set[int] = set()
        self.published: dict[tuple[str, str, int], SeenServer] = {}
        self.placed: dict[str, str] = {}
        """Where the calls of each model go, since the front leads with its epoch."""
        self.released: set[tuple[str, str]] = set()
        """Models and hosts that have refused them, were lost, or have them no more, since then."""
        self.epoch = 0
        self.followed: set[str] = set()
        """The members that it has links to."""
        self.on_new_link: Callable[[str], None] = lambda _: None
        """Is called with each member that it begins to follow."""
        self.may_leave_many = False
        """Whether many members may be left at once, as the registry has long not listed them."""

    def feed(self, event: ev.Event, now: float) -> None:
        self._note(event)
        present = self._present()
        if isinstance(event, ev.SightLost):
            present.discard(event.host)
        commands = self.machine.handle(event, now)
        if not isinstance(event, ev.MembersListed) or event.by_registry:
            self._assert_few_left(present, commands)
        if self.machine.epoch != self.epoch:
            assert self.machine.epoch == 0 or self.machine.epoch > self.epoch or not self.epoch
            self.epoch = self.machine.epoch
            self.placed.clear()
            self.released.clear()
        for command in commands:
            self._take(command)
        self._release_gone()
        self._assert_consistent()

    def _note(self, event: ev.Event) -> None:
        if isinstance(event, ev.SeatRequested | ev.SeatRefused):
            assert event.request_id not in self.asking
            self.asking.add(event.request_id)
        if isinstance(event, ev.SeatLeft):
            self.asking.discard(event.request_id)
        if isinstance(event, ev.SeatRefused):
            call = self.calls[event.request_id]
            assert call.seat is not None
            model, call.seat = call.seat.model, None
            if call.by_stranger:
                # It is there for all others, unless nobody else waits for it.
                self._release_gone()
            else:
                self.released.add((model, event.host))

    def _take(self, command: cmd.Command) -> None:
        match command:
            case cmd.Answer():
                self._answer(command)
            case cmd.EvictCopy():
                self._assert_evictable(command)
                self.to_do.append(command)
            case cmd.Publish(server, removed):
                key = server.host, server.model, server.generation
                if removed:
                    del self.published[key]
                else:
                    self.published[key] = server
            case cmd.Interrupt(host):
                self.released |= {(model, at) for model, at in self.placed.items() if at == host}
                self.to_do.append(command)
            case cmd.Connect() | cmd.Disconnect():
                self._follow(command)
            case cmd.NotePresence() | cmd.NoteUnlisted():
                pass
            case _:
                self.to_do.append(command)

    def _follow(self, command: cmd.Connect | cmd.Disconnect) -> None:
        if isinstance(command, cmd.Disconnect):
            self.followed.remove(command.host)
        else:
            assert command.host not in self.followed
            self.followed.add(command.host)
            self.on_new_link(command.host)

    def _assert_few_left(self, present: set[str], commands: list[cmd.Command]) -> None:
        """Check that at most half of the seen members are left at once, whatever is listed."""
        left = {one.host for one in commands if isinstance(one, cmd.Disconnect)} & present
        assert self.may_leave_many or 2 * len(left) <= len(present | self._present())

    def _answer(self, answer: cmd.Answer) -> None:
        assert answer.request_id in self.asking, "nobody asks, or it was answered before"
        self.asking.remove(answer.request_id)
        call = self.calls[answer.request_id]
        match answer.result:
            case Seat() as seat:
                call.seat, call.sent = seat, False
                if seat.may_move:
                    self._assert_one_host(seat)
            case cmd.AsRefused(host):
                assert host in call.refused_by, "its caller has no such refusal"
                call.seat = None
            case cmd.OfLeader():
                assert not self.machine.lead.leads
                call.seat = None
            case PoolError():
                call.seat = None
        self.to_do.append(answer)

    def _assert_one_host(self, seat: Seat) -> None:
        """All calls of a model go to one host, until it is lost, refuses, or has it no more."""
        assert self.presence(seat.host) is Presence.PRESENT
        assert seat.host in self._reachable()
        if not self.epoch:
            return
        assert seat.epoch == self.epoch
        before = self.placed.get(seat.model, seat.host)
        if before != seat.host:
            self._release_gone()
            assert (seat.model, before) in self.released, "it has moved from where it is"
        self.placed[seat.model] = seat.host
        self.released.discard((seat.model, seat.host))

    def _release_gone(self) -> None:
        """Note which models are no more where they were placed, nor calls of them under way."""
        reachable = self._reachable()
        for model, host in self.placed.items():
            under_way = any(
                (one.seat.model, one.seat.host, one.seat.epoch) == (model, host, self.epoch)
                and one.seat.may_move
                for one in self.calls.values()
                if one.seat is not None
            )
            if host not in reachable or not (under_way or host in self._living(model)):
                self.released.add((model, host))

    def _assert_evictable(self, copy: cmd.EvictCopy) -> None:
        assert copy.epoch == self.machine.epoch != 0
        assert self.presence(copy.host) is Presence.PRESENT
        living = self._living(copy.model)
        assert living.pop(copy.host) is ServerState.READY
        seen = {host for host in living if self.presence(host) is Presence.PRESENT}
        assert seen & self._reachable(), "no other copy is seen"

    def _living(self, model: str) -> dict[str, ServerState]:
        servers = [one for one in self.machine.servers() if one.model == model and one.lives]
        return {one.host: one.state for one in servers}

    def presence(self, host: str) -> Presence:
        """Return how the front sees a host; one that is no member is lost."""
        found = [one.presence for one in self.machine.members if one.host == host]
        return found[0] if found else Presence.LOST

    def _present(self) -> set[str]:
        members = self.machine.members
        return {one.host for one in members if one.presence is Presence.PRESENT}

    def _reachable(self) -> set[str]:
        return {one.host for one in self.machine.members if one.is_reachable}

    def _assert_consistent(self) -> None:
        state = self.machine._state
        servers = list(self.machine.servers())
        assert {(one.host, one.model, one.generation): one for one in servers} == self.published
        assert state.doubled == {m for m, at in state.by_model.items() if len(at) > 1}
        assert set(state.waiting) == self.asking
        parts = [
            state.unsettled,
            *(one.waiting for one in state.rounds.values()),
            *state.parked.values(),
        ]
        ids = [request_id for part in parts for request_id in part]
        assert sorted(ids) == sorted(state.waiting)
        assert not state.waiting.keys() & state.seated.keys()
        for model, claim in state.claims.items():
            assert claim.host in state.members
            assert state.members[claim.host].presence is not Presence.LOST
            assert all(state.seated[one] == model for one in claim.calls or ())
            assert claim.calls or claim.host in self._living(model)
        for host in state.parked:
            assert state.members[host].presence is Presence.SUSPECT
        for model, placed in state.rounds.items():
            assert placed.model == model
            assert placed.waiting
        assert state.refused.keys() <= self.calls.keys()
        assert not state.rounds or self.epoch
