"""Seats: where each call goes, and how a model is placed."""

from collections.abc import Mapping
from itertools import count

from pool_service.core.errors import PoolError
from pool_service.fleet.core import placing
from pool_service.fleet.core.commands import Answer, AskOffers, AsRefused, OfLeader
from pool_service.fleet.core.copies import kept
from pool_service.fleet.core.error_texts import members_unknown, nobody_starts
from pool_service.fleet.core.events import SeatRefused, SeatRequested
from pool_service.fleet.core.leading import Leading
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.state import Claim, FleetState, Request, Round
from pool_service.fleet.core.values import Offer, Presence, Seat, SeenServer, ServerState

ASK_AGAIN_S = 0.5
"""The pause before members are asked again of whom none has answered."""

MOST_TRIES = 4
"""How often members are asked for offers, of whom none answers or has heard who leads."""


class Seats:
    """Gives calls their seats, and places models."""

    def __init__(self, state: FleetState, leading: Leading) -> None:
        self._state = state
        self._leading = leading
        self._ids = count(1)

    def at_once(self, name: str) -> Seat | None:
        """Return the seat of a call for a READY server, without noting anything; None if none."""
        state = self._state
        model = state.names.resolve(name)
        claim = state.claims.get(model)
        if claim is None or state.presence(claim.host) is not Presence.PRESENT:
            return None
        server = self._server_of(model, claim)
        is_ready = server is not None and server.state is ServerState.READY
        return self._seat(model, claim.host) if is_ready else None

    def on_requested(self, event: SeatRequested) -> None:
        """Give a call its seat, or let it wait for one."""
        self._give(self._request(event))

    def on_refused(self, event: SeatRefused) -> None:
        """Find another host for a call that its host has refused."""
        state, request = self._state, self._request(event)
        # The front may not have heard what the name means, but the seat was of a model.
        request.model = self._unseat(request.request_id) or request.model
        if event.reason in placing.OF_ENDING_MEMBERS:
            self._give_after_end(request, event.host)
            return
        refusals = state.refused.setdefault(request.request_id, {})
        refusals[event.host] = event.reason
        claim = state.claims.get(request.model)
        if claim is None:
            self._place(request, refusals)
        elif claim.host == event.host:
            if self._is_of_caller(request.model, claim, event.reason):
                self._answer(request, AsRefused(event.host))
                return
            state.unclaim(request.model)
            self._place(request, {**(claim.refusals or {}), **refusals})
        elif claim.host in refusals:
            self._answer(request, AsRefused(placing.first_reason(refusals) or event.host))
        else:
            self._give(request)

    def _give_after_end(self, request: Request, host: str) -> None:
        """Give a call its seat whose host is ending; the model leaves it if its server has.

        Or calls that come back one by one would keep each other's place until it has ended.
        """
        claim = self._state.claims.get(request.model)
        if claim is not None and claim.host == host and not self._server_of(request.model, claim):
            self._state.unclaim(request.model)
            self.refresh(request.model)
        self._give(request)

    def _is_of_caller(self, model: str, claim: Claim, reason: str) -> bool:
        """Return whether the host of a model refuses this caller alone, and keeps the model.

        Otherwise callers who may not know a model would take it off its host for all others.
        """
        if reason not in placing.OF_CALLERS:
            return False
        members = self._state.members.values()
        present = [one for one in members if one.presence is Presence.PRESENT]
        listing = [one.host for one in present if one.names.lists(model)]
        # A host that does not list it refuses also callers whom one that lists it would serve.
        is_known = claim.host in listing or not listing
        return is_known and bool(claim.calls or self._server_of(model, claim))

    def _request(self, event: SeatRequested | SeatRefused) -> Request:
        return Request(
            event.request_id,
            event.name,
            self._state.names.resolve(event.name),
            event.runtime_model,
            event.download,
        )

    def on_left(self, request_id: int) -> None:
        """Forget a call that has ended, and the placing that only it waited for."""
        state = self._state
        request = state.waiting.pop(request_id, None)
        if request is not None:
            self._withdraw(request)
        state.refused.pop(request_id, None)
        model = self._unseat(request_id)
        if model is not None:
            self.refresh(model)

    def _unseat(self, request_id: int) -> str | None:
        """Count a call to its claim no longer; return the model of its seat, None if none."""
        state = self._state
        model = state.seated.pop(request_id, None)
        if model is not None and model in state.claims:
            state.claims[model].end_call(request_id)
        return model

    def _withdraw(self, request: Request) -> None:
        """Take a call out of where it waits."""
        state, request_id = self._state, request.request_id
        state.unsettled.pop(request_id, None)
        for host, parked in list(state.parked.items()):
            if parked.pop(request_id, None) is not None and not parked:
                del state.parked[host]
        placed = state.rounds.get(request.model)
        if placed is not None and request_id in placed.waiting:
            del placed.waiting[request_id]
            if not placed.waiting:
                del state.rounds[request.model]

    def on_offers(self, round_id: int, offers: Mapping[str, Offer]) -> None:
        """Place a model by the offers of the members."""
        found = [one for one in self._state.rounds.values() if one.round_id == round_id]
        for placed in found:
            self._decide(placed, offers)

    def refresh(self, model: str) -> None:
        """Note where a model is, after a change of its servers or its calls."""
        state = self._state
        claim = state.claims.get(model)
        stays = kept(state.seen(model), claim.host if claim is not None else "")
        if claim is None:
            if stays is not None and self._may_stay(model, stays.host):
                self._claim_seen(model, stays)
                self._end_placing(model)
        elif stays is None:
            if not claim.calls:
                state.unclaim(model)
        elif stays.host == claim.host:
            self._note(claim, stays)
        elif not claim.calls:
            self._claim_seen(model, stays)

    def _may_stay(self, model: str, host: str) -> bool:
        """Return whether calls of a model may go to a host that has it, also those being placed."""
        placed = self._state.rounds.get(model)
        is_present = self._state.presence(host) is Presence.PRESENT
        return placed is None or (is_present and host not in placed.refusals)

    def _end_placing(self, model: str) -> None:
        """Give the calls their seats that wait for a model to be placed, which is somewhere now."""
        placed = self._state.rounds.pop(model, None)
        for request in placed.waiting.values() if placed is not None else ():
            self._give(request)

    def on_seen(self, host: str, revision: int) -> None:
        """Give the calls their seats that wait for a host, which has told all its servers."""
        for claim in self._state.claimed_at.get(host, {}).values():
            if claim.counted_revision is not None:
                # A member that has started anew counts its revisions anew.
                claim.counted_revision = min(claim.counted_revision, revision)
        for request in self._state.parked.pop(host, {}).values():
            self._give(request)

    def on_lost(self, host: str) -> None:
        """Take the models of a host that is lost off it; they are placed anew when asked for."""
        state = self._state
        for model in list(state.claimed_at.get(host, ())):
            state.unclaim(model)
            self.refresh(model)
        for request in state.parked.pop(host, {}).values():
            self._give(request)

    def on_settled(self) -> None:
        """Give the calls their seats that wait until every member has told its servers."""
        waiting, self._state.unsettled = self._state.unsettled, {}
        for request in waiting.values():
            self._give(request)

    def on_time(self) -> None:
        """Ask members again for offers that none has given; give up to wait for a list of them."""
        if self._state.now >= self._state.listed_by:
            self.on_settled()
        for placed in list(self._state.rounds.values()):
            if placed.ask_at is not None and placed.ask_at <= self._state.now:
                self._ask(placed)

    def reconsider(self) -> None:
        """Answer the calls that wait for a placing, if this front may place nothing any more."""
        if not self._state.rounds or (self._state.epoch and self._leading.flaw() is None):
            return
        for placed in list(self._state.rounds.values()):
            del self._state.rounds[placed.model]
            for request in placed.waiting.values():
                self._give(request)

    def on_acknowledged(self) -> None:
        """Ask members for offers that have heard now who leads, if all have."""
        late = [one for one in self._state.rounds.values() if one.ask_at is not None]
        if late and all(one.acknowledged == self._state.epoch for one in self._able()):
            for placed in late:
                self._ask(placed)

    def forget_unseen(self) -> None:
        """Forget where models were placed whose servers were not seen; others lead since then."""
        claims = self._state.claims
        for model in [model for model, claim in claims.items() if not claim.is_seen]:
            self._state.unclaim(model)
            self.refresh(model)

    # --- one call ---------------------------------------------------------------------

    def _give(self, request: Request) -> None:
        state = self._state
        claim = state.claims.get(request.model)
        if claim is None or state.rival:
            # The members refuse whatever this front sends while another one leads.
            self._place(request, state.refused.get(request.request_id, {}))
        elif not state.lead.leads and self._server_of(request.model, claim) is None:
            self._answer(request, OfLeader())
        elif state.presence(claim.host) is Presence.PRESENT:
            claim.begin_call(request.request_id)
            state.seated[request.request_id] = request.model
            self._answer(request, self._seat(request.model, claim.host))
        else:
            self._wait(request, state.parked.setdefault(claim.host, {}))

    def _place(self, request: Request, refusals: Mapping[str, str]) -> None:
        """Add a call to the placing of its model; begin one if there is none."""
        state = self._state
        if state.now >= state.listed_by:
            self._answer(request, members_unknown())
            return
        if not state.is_settled:
            self._wait(request, state.unsettled)
            return
        if not state.lead.leads:
            self._answer(request, OfLeader())
            return
        flaw = self._leading.flaw()
        if flaw is not None:
            self._answer(request, flaw)
            return
        placed = state.rounds.get(request.model)
        is_new = placed is None
        if placed is None:
            placed = state.rounds[request.model] = Round(next(self._ids), request.model)
        self._wait(request, placed.waiting)
        placed.refusals |= refusals
        if is_new:
            self._ask(placed)

    def _wait(self, request: Request, queue: dict[int, Request]) -> None:
        self._state.waiting[request.request_id] = queue[request.request_id] = request

    def _answer(self, request: Request, result: Seat | OfLeader | AsRefused | PoolError) -> None:
        self._state.waiting.pop(request.request_id, None)
        self._state.give(Answer(request.request_id, result))

    def _seat(self, model: str, host: str, *, may_move: bool = True) -> Seat:
        state = self._state
        return Seat(host, model, state.next_generation(model), state.followed_epoch, may_move)

    # --- one placing ------------------------------------------------------------------

    def _ask(self, placed: Round) -> None:
        """Ask all members for offers that may get the model and have not refused it."""
        placed.ask_at = None
        placed.tries += 1
        able = self._able()
        others = [one for one in able if one.host not in placed.refusals]
        heard = [one.host for one in others if one.acknowledged == self._state.epoch]
        # Who has not heard yet who leads does so with the next beat.
        if heard and (len(heard) == len(others) or placed.tries > 1):
            placed.asked = tuple(heard)
            first = placed.asked_for = next(iter(placed.waiting.values()))
            self._state.give(
                AskOffers(
                    placed.round_id, placed.asked, first.name, first.runtime_model, first.download
                )
            )
        elif others:
            self._ask_later(placed)
        else:
            self._refuse(placed, {})

    def _able(self) -> list[Member]:
        """Return the members on which models may be placed, once they have heard who leads."""
        return [one for one in self._state.members.values() if one.is_able]

    def _ask_later(self, placed: Round) -> None:
        """Ask again after a pause; give up after some tries."""
        if placed.tries >= MOST_TRIES or not self._able():
            self._refuse(placed, {})
        else:
            placed.ask_at = self._state.now + ASK_AGAIN_S

    def _decide(self, placed: Round, offers: Mapping[str, Offer]) -> None:
        asked = [self._state.members.get(host) for host in offers]
        able = {one.host for one in asked if one and one.is_able} - placed.refusals.keys()
        valid = {host: offer for host, offer in offers.items() if host in able}
        # Another model than the round's if the front has not heard of an alias yet.
        models = {host: offer.model or placed.model for host, offer in valid.items()}
        claims = self._state.claimed_at
        pending = {
            host: placing.pending(claims.get(host, {}), valid[host], model)
            for host, model in models.items()
        }
        host = placing.choose(valid, pending)
        if host is not None:
            self._claim(placed, models[host], host, valid[host].needed)
        elif valid:
            self._refuse(placed, {host: offer.reason for host, offer in valid.items()})
        else:
            self._ask_later(placed)

    def _claim(self, placed: Round, model: str, host: str, needed: int) -> None:
        """Place a model on a host, and give all that wait for it their seats.

        It stays where it was placed meanwhile by another of its names, though that host has refused
        some of these calls: those get their refusals. So do calls whose own placing ends with this.
        """
        state = self._state
        del state.rounds[placed.model]
        claim = state.claims.get(model)
        if claim is None:
            claim = Claim(host, needed, refusals=dict(placed.refusals))
            state.claim(model, claim)
        # One that another of the names has begun: it would find a second host, or none.
        other = state.rounds.pop(model, None)
        for request in (*placed.waiting.values(), *(other.waiting.values() if other else ())):
            request.model = model
            refusals = state.refused.get(request.request_id, {})
            if claim.host in refusals:
                self._answer(request, AsRefused(placing.first_reason(refusals) or claim.host))
            else:
                self._give(request)
        self.refresh(model)

    def _refuse(self, placed: Round, unwilling: Mapping[str, str]) -> None:
        """Answer all that wait that no member starts the model.

        Who was refused gets the first of its own refusals. Others are sent to a member that will
        refuse them itself, with all details, if there is one; members are asked anew for a call
        that it may not refuse. unwilling: the reasons of those that have offered nothing, by host.
        """
        state = self._state
        del state.rounds[placed.model]
        able = {one.host for one in self._able()}
        refusing = {host: why for host, why in placed.refusals.items() if host in able}
        final = placing.first_reason({**refusing, **unwilling})
        for request in placed.waiting.values():
            own = placing.first_reason(state.refused.get(request.request_id, {}))
            if own is not None:
                self._answer(request, AsRefused(own))
            elif final is not None and not placing.is_for(placed, request):
                self._place(request, {})
            elif final is not None:
                self._answer(request, self._seat(request.model, final, may_move=False))
            else:
                members = state.members.values()
                self._answer(request, nobody_starts(request.name, request.model, members))

    # --- one claim --------------------------------------------------------------------

    def _server_of(self, model: str, claim: Claim) -> SeenServer | None:
        """Return the living server of a claim; None if it has none."""
        servers = self._state.by_model.get(model, ())
        return next((one for one in servers if one.host == claim.host and one.lives), None)

    def _claim_seen(self, model: str, server: SeenServer) -> None:
        """Claim a model for the host where its server was seen."""
        claim = Claim(server.host)
        self._state.claim(model, claim)
        self._note(claim, server)

    def _note(self, claim: Claim, server: SeenServer) -> None:
        claim.is_seen = True
        if claim.counted_revision is None and server.state is not ServerState.QUEUED:
            claim.counted_revision = server.revision
        claim.needed = max(claim.needed, server.needed)
        if server.state is ServerState.READY:
            claim.refusals = None
