"""The front as a state machine: events in, commands out.

`Machine.handle` is the only way in. Invariants, which the tests assert after every event:

- A model has one seat at a time: all its callers are sent to one host.
- Each call that asks where to go is answered once, and none waits for ever while a member may get
  its model.
- Nothing is evicted with force, and nothing at all by a front that does not lead.
- What watchers were told, one after the other, is what the view is.
"""

from collections.abc import Iterable
from typing import assert_never

from pool_service.core.errors import PoolError
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.commands import Command
from pool_service.fleet.core.copies import kept
from pool_service.fleet.core.leading import Leading
from pool_service.fleet.core.listing import Listing
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.seats import Seats
from pool_service.fleet.core.sightings import Sightings
from pool_service.fleet.core.state import FleetState
from pool_service.fleet.core.tidying import Tidying
from pool_service.fleet.core.values import Lead, Presence, Seat, SeenServer

MemberEvent = ev.MemberTold | ev.ServerChanged | ev.BeatAnswered | ev.CatalogueTold | ev.SightLost
FleetEvent = (
    ev.MembersListed
    | ev.PatienceChanged
    | ev.LeadChanged
    | ev.SeatRequested
    | ev.SeatRefused
    | ev.SeatLeft
    | ev.OffersCame
    | ev.EvictionEnded
    | ev.TimeReached
)


class Machine:
    """Dispatches events to the parts of the front."""

    def __init__(self, name: str, lost_after: float) -> None:
        """name: of this front's process. lost_after: the seconds after which members are lost."""
        state = self._state = FleetState(name, lost_after)
        leading = self._leading = Leading(state)
        seats = self._seats = Seats(state, leading)
        self._sightings = Sightings(state, leading, seats)
        self._listing = Listing(state, self._sightings)
        self._tidying = Tidying(state, leading)

    def handle(self, event: ev.Event, now: float) -> list[Command]:
        """Change the state by an event; return the commands that follow, in order."""
        state = self._state
        state.commands, state.now, state.began = [], now, min(state.began, now)
        if isinstance(event, MemberEvent):
            self._of_member(event)
        else:
            self._of_fleet(event)
        self._seats.reconsider()
        self._tidying.tidy()
        return state.commands

    def next_deadline(self) -> float:
        """Return when the next `TimeReached` is due; infinity if nothing waits for a time."""
        state = self._state
        times: list[float | None] = [one.lost_at for one in state.unseen.values()]
        times += [one.ask_at for one in state.rounds.values()]
        times += state.evicting.values()
        times.append(state.review_at)
        if state.unsettled:
            times.append(state.listed_by)
        return min((time for time in times if time is not None), default=float("inf"))

    def at_once(self, name: str) -> Seat | None:
        """Return the seat of a call for a model whose server is READY; None if it has none."""
        return self._seats.at_once(name)

    # --- what others may look at --------------------------------------------------------

    @property
    def lead(self) -> Lead:
        """Who may place."""
        return self._state.lead

    @property
    def epoch(self) -> int:
        """The epoch with which this front leads; 0 if it does not."""
        return 0 if self._state.rival else self._state.epoch

    @property
    def followed_epoch(self) -> int:
        """The epoch of the present leader, as far as this front knows it."""
        return self._state.followed_epoch

    @property
    def is_settled(self) -> bool:
        """Whether each member has told its servers, or is lost, but for new ones."""
        return self._state.is_settled

    @property
    def members(self) -> Iterable[Member]:
        """The members, in the order in which they are listed; not to be changed."""
        return self._state.members.values()

    def servers(self) -> Iterable[SeenServer]:
        """Return all servers that are seen, in no order."""
        return [one for servers in self._state.by_model.values() for one in servers]

    def hosts_of(self, name: str) -> list[str]:
        """Return the hosts that have a server of a model, the one first that callers get."""
        model = self._state.names.resolve(name)
        claim = self._state.claims.get(model)
        hosts = sorted({one.host for one in self._state.by_model.get(model, ())})
        if claim is not None and claim.host in hosts:
            hosts.remove(claim.host)
            hosts.insert(0, claim.host)
        return hosts

    def current(self, name: str) -> SeenServer | None:
        """Return the server of a model that callers get; None if it has none that lives."""
        model = self._state.names.resolve(name)
        claim = self._state.claims.get(model)
        return kept(self._state.by_model.get(model, ()), claim.host if claim is not None else "")

    def aliases_of(self, model: str) -> tuple[str, ...]:
        """Return the other names of a model."""
        return self._state.names.aliases_of(model)

    def listing(self, name: str) -> list[str]:
        """Return the hosts whose catalogue lists a model."""
        model = self._state.names.resolve(name)
        return [one.host for one in self._state.members.values() if one.names.lists(model)]

    def flaw(self) -> PoolError | None:
        """Return why this front may not place anything now, though it leads.

        None: it may, or it is not the one to place.
        """
        return self._leading.flaw() if self._state.lead.leads else None

    # --- dispatch -----------------------------------------------------------------------

    def _of_member(self, event: MemberEvent) -> None:
        host = event.server.host if isinstance(event, ev.ServerChanged) else event.host
        member = self._state.members.get(host)
        if member is None:
            return
        match event:
            case ev.MemberTold():
                self._sightings.on_told(member, event.servers, event.revision)
                self._listing.review()
            case ev.ServerChanged():
                if member.presence is Presence.PRESENT:
                    self._sightings.on_changed(member, event.server, removed=event.removed)
            case ev.BeatAnswered():
                self._sightings.on_report(member, event.report)
            case ev.CatalogueTold():
                self._sightings.on_names(member, event.names)
            case ev.SightLost():
                self._sightings.on_sight_lost(member, event.why)
                self._listing.review()
            case _:
                assert_never(event)

    def _of_fleet(self, event: FleetEvent) -> None:  # noqa: C901 - a case for each event
        match event:
            case ev.MembersListed():
                self._listing.on_listed(event.addresses, by_registry=event.by_registry)
            case ev.PatienceChanged():
                self._sightings.on_patience(event.usual, event.of_members)
            case ev.LeadChanged():
                if self._leading.on_lead_changed(event.lead):
                    self._seats.forget_unseen()
            case ev.SeatRequested():
                self._seats.on_requested(event)
            case ev.SeatRefused():
                self._seats.on_refused(event)
            case ev.SeatLeft():
                self._seats.on_left(event.request_id)
            case ev.OffersCame():
                self._seats.on_offers(event.round_id, event.offers)
            case ev.EvictionEnded():
                self._tidying.on_ended(event.host, event.model)
            case ev.TimeReached():
                self._sightings.on_time()
                self._listing.review()
                self._seats.on_time()
                self._tidying.on_time()
            case _:
                assert_never(event)
