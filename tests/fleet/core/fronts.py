"""A front in tests: its machine, with what was asked, told and answered so far."""

from itertools import count

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.machine import Machine
from pool_service.fleet.core.values import (
    Lead,
    Offer,
    Report,
    Seat,
    SeenServer,
    ServerState,
    Verdict,
)

NAME = "front"
LOST_AFTER_S = 3.0

FITS = Offer(Verdict.FITS, "m", on_disk=True, needed=100, free=1000)
WARM = Offer(Verdict.WARM, "m", on_disk=True)
WAITS = Offer(Verdict.WAITS, "m", on_disk=True, needed=100, free=0)


def never(reason: str) -> Offer:
    return Offer(Verdict.NEVER, "m", reason=reason)


def server(
    host: str,
    model: str = "m",
    generation: int = 1,
    state: ServerState = ServerState.READY,
    *,
    revision: int = 1,
    needed: int = 100,
) -> SeenServer:
    return SeenServer(host, model, generation, state, needed=needed, revision=revision)


class Front:
    """A front, driven event by event."""

    def __init__(self, *hosts: str, lead: Lead | None = None) -> None:
        """Begin with members that are seen, and have acknowledged the front's epoch."""
        self.machine = Machine(NAME, LOST_AFTER_S)
        self.now = 100.0
        self.commands: list[cmd.Command] = []
        self.answers: dict[int, object] = {}
        self.hosts = hosts
        self._ids = count(1)
        if hosts:
            self.feed(ev.LeadChanged(lead or Lead(leads=True)))
            self.listed(*hosts)
            for host in hosts:
                self.beat(host)
                self.told(host)
            self.acknowledge()

    # --- events ---------------------------------------------------------------------------

    def feed(self, event: ev.Event) -> list[cmd.Command]:
        """Give the machine an event; return the commands that follow."""
        commands = self.machine.handle(event, self.now)
        self.commands += commands
        for command in commands:
            if isinstance(command, cmd.Answer):
                assert command.request_id not in self.answers, "a call is answered twice"
                self.answers[command.request_id] = command.result
        return commands

    def listed(self, *hosts: str) -> list[cmd.Command]:
        return self.feed(ev.MembersListed({host: f"{host}:1" for host in hosts}))

    def registered(self, *hosts: str, **elsewhere: str) -> list[cmd.Command]:
        """Let a registry list hosts where they are, and others at the addresses of these names."""
        addresses = {host: f"{host}:1" for host in hosts} | elsewhere
        return self.feed(ev.MembersListed(addresses, by_registry=True))

    def told(self, host: str, *servers: SeenServer, revision: int = 1) -> list[cmd.Command]:
        return self.feed(ev.MemberTold(host, servers, revision))

    def changed(self, one: SeenServer, *, removed: bool = False) -> list[cmd.Command]:
        return self.feed(ev.ServerChanged(one, removed))

    def beat(
        self,
        host: str,
        epoch: int = 0,
        front: str = "",
        heard: float | None = None,
        *,
        reachable: bool = True,
    ) -> list[cmd.Command]:
        return self.feed(ev.BeatAnswered(host, Report(reachable, epoch, front, heard)))

    def acknowledge(self, *hosts: str) -> None:
        """Let members hear the front's epoch; all of them if none is named."""
        for host in hosts or self.hosts:
            self.beat(host, self.machine.epoch, NAME, 0.0)

    def lose_sight(self, *hosts: str) -> list[cmd.Command]:
        return [one for host in hosts for one in self.feed(ev.SightLost(host, "cut"))]

    def lead(self, lead: Lead) -> list[cmd.Command]:
        return self.feed(ev.LeadChanged(lead))

    def pass_time(self, seconds: float) -> list[cmd.Command]:
        """Let time pass, deadline by deadline."""
        end, commands = self.now + seconds, list[cmd.Command]()
        while (due := self.machine.next_deadline()) <= end:
            assert due >= self.now - 1e-6 or due <= self.now, "a deadline is left behind"
            self.now = max(self.now, due)
            commands += self.feed(ev.TimeReached())
            assert self.machine.next_deadline() > self.now, "a deadline comes again and again"
        self.now = end
        return commands

    def ask(self, name: str = "m", *, download: bool | None = None) -> int:
        request_id = next(self._ids)
        self.feed(ev.SeatRequested(request_id, name, download=download))
        return request_id

    def refuse(self, request_id: int, host: str, reason: str, name: str = "m") -> None:
        """Let a host refuse a call, which then asks again."""
        del self.answers[request_id]
        self.feed(ev.SeatRefused(request_id, host, reason, name))

    def leave(self, request_id: int) -> list[cmd.Command]:
        return self.feed(ev.SeatLeft(request_id))

    def offer(self, **offers: Offer) -> list[cmd.Command]:
        """Answer the newest question for offers."""
        return self.feed(ev.OffersCame(self.asked().round_id, offers))

    def place(self, host: str, name: str = "m") -> int:
        """Place a model on a host; return the call for which that was."""
        request_id = self.ask(name)
        self.offer(**{host: Offer(Verdict.FITS, name, on_disk=True, needed=100, free=1000)})
        assert self.host_of(request_id) == host
        return request_id

    # --- what followed ----------------------------------------------------------------------

    def asked(self) -> cmd.AskOffers:
        return [one for one in self.commands if isinstance(one, cmd.AskOffers)][-1]

    def seat(self, request_id: int) -> Seat:
        seat = self.answers[request_id]
        assert isinstance(seat, Seat), seat
        return seat

    def host_of(self, request_id: int) -> str:
        return self.seat(request_id).host

    def waits(self, request_id: int) -> bool:
        return request_id not in self.answers


def evicted(commands: list[cmd.Command]) -> list[str]:
    """Return the hosts on which copies are to be evicted."""
    return [one.host for one in commands if isinstance(one, cmd.EvictCopy)]


def told_lead(commands: list[cmd.Command]) -> list[str]:
    return [one.host for one in commands if isinstance(one, cmd.TellLead)]
