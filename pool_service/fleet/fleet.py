"""The driver of the front: feeds events to its machine and carries out the commands.

`feed` is synchronous and the only place where state changes, as in `pool_service/pool.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, assert_never

import structlog

from pool_service.answers import Answers
from pool_service.change_history import History
from pool_service.core.errors import Recovering
from pool_service.fleet.asking import Asking
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core import placing
from pool_service.fleet.core.machine import Machine
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.values import Lead, Offer, Presence, Seat, SeenServer, ServerState
from pool_service.fleet.ports import Leadership, Link, Membership
from pool_service.suspension_timer import SuspensionTimer

if TYPE_CHECKING:
    # Its other ports are a pool's.
    from pool_service.ports import Clock

log = structlog.get_logger("pool_service.fleet")

L = TypeVar("L", bound=Link)

CATCH_UP_S = 0.1
"""The longest time for changes to come that a member had made before its offer: they are on their
way, unless the front may not see all models there."""

Feed = Callable[[ev.Event], None]
Observe = Callable[[ev.Event, Sequence[cmd.Command]], None]
"""Receives each event and the commands that follow, before they are carried out."""


class Fleet(Generic[L]):
    """All members of a fleet, seen from one front, on one running event loop."""

    def __init__(
        self,
        machine: Machine,
        clock: "Clock",
        history: History[SeenServer],
        connect: Callable[[str, str, Feed], L],
        observers: Sequence[Observe] = (),
    ) -> None:
        """connect: begins to follow a member, of a name and an address, and returns its link."""
        self._machine = machine
        self._clock = clock
        self._history = history
        self._connect = connect
        self._observers = observers
        self._links: dict[str, L] = {}
        self._answers = Answers[ev.Event](self.feed)
        self._timer = SuspensionTimer(clock, lambda: self.feed(ev.TimeReached()))
        self._tasks = set[asyncio.Task[None]]()
        self._told = asyncio.Event()
        """Set whenever members have told changes."""
        self.on_seen: Callable[[str], None] = lambda _: None
        """Is called with each member that is seen again, or for the first time."""
        self._noted_lead = Lead(leads=False)
        self.on_lead: Callable[[Lead], None] = lambda _: None
        """Is called when another front leads, or none."""
        self.settled = asyncio.Event()
        """Set once each member has told its servers, or is lost, and for ever."""

    async def run(
        self, membership: Membership, leadership: Leadership, *, by_registry: bool = False
    ) -> None:
        """Follow the members and the leader until cancelled.

        by_registry: a registry knows the members, which may lose what it knows.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_members(membership, by_registry=by_registry))
                group.create_task(leadership.run(lambda lead: self.feed(ev.LeadChanged(lead))))
        finally:
            self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            for link in self._links.values():
                link.close()

    def set_lost_after(self, usual: float, of_members: Mapping[str, float]) -> None:
        """Set the seconds of silence after which members are lost: usually, and of some."""
        self.feed(ev.PatienceChanged(usual, of_members))

    async def _follow_members(self, membership: Membership, *, by_registry: bool) -> None:
        async for addresses in membership.changes():
            self.feed(ev.MembersListed(addresses, by_registry))

    def end_watches(self) -> None:
        """End all that follow the history, as the front ends."""
        self._history.close()

    # --- calls ------------------------------------------------------------------------

    def check_lead(self) -> bool:
        """Lead no longer if the time has passed until which this front may; return whether so.

        To be called before each sending of a call that may place: after a pause of the process
        nobody else has told it yet.
        """
        lead = self._machine.lead
        if not lead.leads or self._clock.now() < lead.until:
            return False
        self.feed(ev.LeadChanged(replace(lead, leads=False, address="")))
        return True

    def at_once(self, name: str) -> Seat | None:
        """Return the seat of a call for a model whose server is READY; None if it has none.

        What the call then does needs no note: the server is there.
        """
        return self._machine.at_once(name)

    @contextmanager
    def asking(
        self, name: str, runtime_model: str = "", *, download: bool | None = None
    ) -> Iterator[Asking]:
        """Return what finds the seats of one call, until the call ends."""
        asking = Asking(self._answers, name, runtime_model, download)
        try:
            yield asking
        finally:
            asking.leave()

    def link(self, host: str) -> L | None:
        """Return the link to a member; None if there is no such member any more."""
        return self._links.get(host)

    # --- what the front sees ------------------------------------------------------------

    @property
    def history(self) -> History[SeenServer]:
        """The history of changes. Raises Recovering until `settled`."""
        if not self.settled.is_set():
            raise Recovering(
                "the front has just started, and waits for its members to tell their servers. Try "
                "again."
            )
        return self._history

    @property
    def lead(self) -> Lead:
        """Who may place."""
        return self._machine.lead

    @property
    def epoch(self) -> int:
        """The epoch with which this front leads; 0 if it does not."""
        return self._machine.epoch

    @property
    def followed_epoch(self) -> int:
        """The epoch of the present leader, as far as this front knows it."""
        return self._machine.followed_epoch

    @property
    def may_place(self) -> bool:
        """Whether this front leads, and may start servers now."""
        return self._machine.epoch > 0 and self._machine.flaw() is None

    @property
    def members(self) -> list[Member]:
        """The members, in the order in which they are listed; not to be changed."""
        return list(self._machine.members)

    @property
    def present(self) -> list[L]:
        """The links to the members that are seen, in the order in which they are listed."""
        hosts = [one.host for one in self._machine.members if one.presence is Presence.PRESENT]
        return [self._links[host] for host in hosts]

    def servers(self) -> Iterable[SeenServer]:
        """Return all servers that are seen, in no order."""
        return self._machine.servers()

    def hosts_of(self, name: str) -> list[str]:
        """Return the hosts that have a server of a model, the one first that callers get."""
        return self._machine.hosts_of(name)

    def current(self, name: str) -> SeenServer | None:
        """Return the server of a model that callers get; None if it has none that lives."""
        return self._machine.current(name)

    async def moved(self, name: str, host: str) -> SeenServer:
        """Return the server of a model that callers get, once it has a process on another host."""
        while True:
            current = self._machine.current(name)
            if current and current.host != host and current.state is not ServerState.QUEUED:
                return current
            self._told.clear()
            await self._told.wait()

    def aliases_of(self, model: str) -> tuple[str, ...]:
        """Return the other names of a model."""
        return self._machine.aliases_of(model)

    def listing(self, name: str) -> list[str]:
        """Return the hosts whose catalogue lists a model."""
        return self._machine.listing(name)

    def notices(self) -> list[str]:
        """Return what works less well than it should: a sentence each."""
        flaw, lead = self._machine.flaw(), self.lead
        notices = [flaw.message[0].upper() + flaw.message[1:]] if flaw is not None else []
        if not lead.leads and not lead.address:
            notices.append(
                "No front leads the fleet that is known here, so that nothing new is started: look "
                "at what chooses the leader (front.leader)."
            )
        for member in self._machine.members:
            if member.presence is not Presence.PRESENT:
                notices.append(
                    f"{member.host}: its servers are not listed: {member.presence.name.lower()}, "
                    f"{member.why}."
                )
            elif not member.is_reachable:
                notices.append(
                    f"{member.host}: nothing is started there, as no other host reaches its "
                    "servers: set fleet.advertise there."
                )
            elif member.is_kept:
                notices.append(
                    f"{member.host}: the registry that front.discovery names does not list it any "
                    f"more at {member.address}, nor most other members. It answers, so it stays, "
                    "for an hour at most: look at the registry. If members are to go, end their "
                    "services, or restart the front."
                )
        return notices

    async def best_host(self, name: str, runtime_model: str) -> str:
        """Return the host where a model would be placed; empty if nowhere. Nothing is placed."""
        hosts = [one.host for one in self._machine.members if one.is_able]
        offers = await self._offers(hosts, name, runtime_model, download=True)
        best = placing.choose(offers, {})
        refusing = {host: offer.reason for host, offer in offers.items()}
        return best or placing.first_reason(refusing) or ""

    # --- events in, commands out --------------------------------------------------------

    def feed(self, event: ev.Event) -> None:
        """Let the machine handle an event, and carry out the commands that follow."""
        now = self._clock.now()
        try:
            commands = self._machine.handle(event, now)
            for observe in self._observers:
                observe(event, commands)
            for command in commands:
                self._carry_out(command)
            if isinstance(event, ev.LeadChanged):
                self._note_lead(event.lead)
            if isinstance(event, ev.ServerChanged | ev.MemberTold):
                self._told.set()
            if not self.settled.is_set() and self._machine.is_settled:
                self.settled.set()
        finally:
            self._timer.arm(self._machine.next_deadline())

    def _note_lead(self, lead: Lead) -> None:
        """Log who leads, and call `on_lead`, if that has changed."""
        is_known = lead.leads or bool(lead.address)
        now = Lead(lead.leads, lead.epoch if is_known else 0, lead.address)
        if now != self._noted_lead:
            self._noted_lead = now
            _log_lead(now)
            self.on_lead(now)

    def _carry_out(self, command: cmd.Command) -> None:
        match command:
            case cmd.Answer(request_id, result):
                self._answers.give(request_id, result)
            case cmd.Publish(server, removed):
                self._history.append(server, removed=removed)
            case cmd.AskOffers():
                self._in_background(self._ask_offers(command))
            case cmd.EvictCopy():
                self._in_background(self._evict_copy(command))
            case cmd.NotePresence(host, presence, why):
                _log_presence(host, presence, why)
                if presence is Presence.PRESENT:
                    self.on_seen(host)
            case cmd.NoteUnlisted(host, address):
                log.warning(
                    "a member stays that is not listed any more, like most of those that are seen",
                    member=host,
                    address=address,
                )
            case _:
                self._of_link(command)

    def _of_link(
        self, command: cmd.Connect | cmd.Disconnect | cmd.TellLead | cmd.Interrupt
    ) -> None:
        match command:
            case cmd.Connect(host, address):
                self._links[host] = self._connect(host, address, self.feed)
            case cmd.Disconnect(host):
                self._links.pop(host).close()
            case cmd.TellLead(host):
                self._links[host].beat_now()
            case cmd.Interrupt(host):
                self._links[host].interrupt()
            case _:
                assert_never(command)

    async def _ask_offers(self, asked: cmd.AskOffers) -> None:
        offers = await self._offers(
            asked.hosts, asked.name, asked.runtime_model, download=asked.download
        )
        await self._catch_up(offers)
        self.feed(ev.OffersCame(asked.round_id, offers))

    async def _catch_up(self, offers: Mapping[str, Offer]) -> None:
        """Wait until the changes have come that members had made before their offers.

        They come by another stream. Until then a server that was just placed could be in its host's
        offer and count as not seen, so that it counts twice.
        """

        def is_behind() -> bool:
            told = {one.host: one.revision for one in self._machine.members}
            return any(told.get(host, 0) < offer.revision for host, offer in offers.items())

        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S):
                while is_behind():
                    self._told.clear()
                    await self._told.wait()

    async def _offers(
        self, hosts: Iterable[str], name: str, runtime_model: str, *, download: bool | None
    ) -> dict[str, Offer]:
        """Return the offers of those members that answer."""
        links = {host: self._links[host] for host in hosts if host in self._links}
        answers = await asyncio.gather(
            *(_offer(link, name, runtime_model, download=download) for link in links.values())
        )
        return {host: offer for host, offer in zip(links, answers, strict=True) if offer}

    async def _evict_copy(self, copy: cmd.EvictCopy) -> None:
        link = self._links.get(copy.host)
        if link is not None:
            log.info("evicting a copy of a model", model=copy.model, host=copy.host)
            try:
                await link.evict_copy(copy.model, copy.epoch)
            except Exception:
                log.exception("a copy of a model could not be evicted")
        self.feed(ev.EvictionEnded(copy.host, copy.model))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log.error("internal error in a task of the fleet", exc_info=error)

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)


async def _offer(
    link: Link, name: str, runtime_model: str, *, download: bool | None
) -> Offer | None:
    """Return a member's offer; None if it has none: whatever it is, callers wait for the others."""
    try:
        return await link.offer(name, runtime_model, download=download)
    except Exception:
        log.exception("a member could not be asked what it offers")
        return None


def _log_lead(lead: Lead) -> None:
    if lead.leads and lead.epoch:
        log.info("this front leads the fleet", epoch=lead.epoch)
    elif lead.address:
        log.info("another front leads the fleet", leader=lead.address, epoch=lead.epoch)
    elif not lead.leads:
        log.warning("no front leads the fleet that is known here; nothing new is started")


def _log_presence(host: str, presence: Presence, why: str) -> None:
    if presence is Presence.PRESENT:
        log.info("a member is seen", member=host)
    elif presence is Presence.SUSPECT:
        log.warning("a member is not seen; its models wait for it", member=host, why=why)
    else:
        log.warning("a member is lost; its models start elsewhere", member=host, why=why)
