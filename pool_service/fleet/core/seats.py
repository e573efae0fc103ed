"""Seats: where each call goes, and how a model is placed."""

from collections.abc import Iterable, Mapping
from itertools import count

from pool_service.core.errors import PoolError, PoolUnreachable
from pool_service.fleet.core import placing
from pool_service.fleet.core.commands import Answer, AskOffers, AsRefused, OfLeader
from pool_service.fleet.core.copies import kept
from pool_service.fleet.core.events import SeatRefused, SeatRequested
from pool_service.fleet.core.leading import RETRY_AFTER_S, Leading
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.placing import Pending
from pool_service.fleet.core.state import Claim, FleetState, Request, Round
from pool_service.fleet.core.values import Offer, Presence, Seat, SeenServer, ServerState

ASK_AGAIN_S = 0.5
"""The pause before members are asked again of whom none has answered."""

MOST_TRIES = 4
"""How often members are asked for offers, of whom none answers."""


class Seats:
    """Gives calls their seats, and places models."""

    def __init__(self, state: FleetState, leading: Leading) -> None:
        self._state = state
        self._leading = leading
        self._ids = count(1)

    def at_once(self, name: str) -> Seat | None:
        """Return the seat of a call for a READY server, without noting anything; None if none."""
        state = self._state
        model = state.aliases.get(name, name)
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
        state.seated.pop(request.request_id, None)
        claim = state.claims.get(request.model)
        refusals = {event.host: event.reason}
        if claim is not None:
            claim.calls.discard(request.request_id)
            if claim.host == event.host:
                refusals |= claim.refusals
                del state.claims[request.model]
        if request.model in state.claims:
            self._give(request)
        else:
            self._place(request, refusals)

    def _request(self, event: SeatRequested | SeatRefused) -> Request:
        return Request(
            event.request_id,
            event.name,
            self._state.resolve(event.name),
            event.runtime_model,
            event.download,
        )

    def on_left(self, request_id: int) -> None:
        """Forget a call that has ended, and the placing that only it waited for."""
        state = self._state
        request = state.waiting.pop(request_id, None)
        if request is not None:
            self._withdraw(request)
        model = state.seated.pop(request_id, None)
        if model is not None and model in state.claims:
            state.claims[model].calls.discard(request_id)
            self.refresh(model)

    def _withdraw(self, request: Request) -> None:
        """Take a call out of where it waits."""
        state, request_id = self._state, request.request_id
        state.unsettled.pop(request_id, None)
        for parked in state.parked.values():
            parked.pop(request_id, None)
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
            if stays is not None and model not in state.rounds:
                state.claims[model] = Claim(stays.host, stays.needed, stays.revision)
        elif stays is None:
            if not claim.calls:
                del state.claims[model]
        elif stays.host == claim.host:
            self._note(claim, stays)
        elif not claim.calls:
            state.claims[model] = Claim(stays.host, stays.needed, stays.revision)

    def on_seen(self, host: str) -> None:
        """Give the calls their seats that wait for a host."""
        for request in self._state.parked.pop(host, {}).values():
            self._give(request)

    def on_lost(self, host: str) -> None:
        """Take the models of a host that is lost off it; they are placed anew when asked for."""
        state = self._state
        models = [model for model, claim in state.claims.items() if claim.host == host]
        for model in models:
            del state.claims[model]
            self.refresh(model)
        for request in state.parked.pop(host, {}).values():
            self._give(request)

    def on_settled(self) -> None:
        """Give the calls their seats that wait until every member has told its servers."""
        waiting, self._state.unsettled = self._state.unsettled, {}
        for request in waiting.values():
            self._give(request)

    def on_time(self) -> None:
        """Ask members again for offers that none has given."""
        for placed in list(self._state.rounds.values()):
            if placed.ask_at is not None and placed.ask_at <= self._state.now:
                self._ask(placed)

    def reconsider(self) -> None:
        """Answer the calls that wait for a placing, if this front may place nothing any more."""
        if not self._state.rounds or (self._state.lead.leads and self._leading.flaw() is None):
            return
        for placed in list(self._state.rounds.values()):
            del self._state.rounds[placed.model]
            for request in placed.waiting.values():
                self._give(request)

    # --- one call ---------------------------------------------------------------------

    def _give(self, request: Request) -> None:
        state = self._state
        claim = state.claims.get(request.model)
        if claim is None:
            self._place(request, {})
        elif state.presence(claim.host) is Presence.PRESENT:
            claim.calls.add(request.request_id)
            state.seated[request.request_id] = request.model
            self._answer(request, self._seat(request.model, claim.host))
        else:
            self._wait(request, state.parked.setdefault(claim.host, {}))

    def _place(self, request: Request, refusals: Mapping[str, str]) -> None:
        """Add a call to the placing of its model; begin one if there is none."""
        state = self._state
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
        state = self._state
        placed.ask_at = None
        members = [one for one in state.members.values() if one.presence is Presence.PRESENT]
        hosts = [
            one.host for one in members if one.is_reachable and one.acknowledged == state.epoch
        ]
        placed.asked = tuple(host for host in hosts if host not in placed.refusals)
        if placed.asked:
            first = next(iter(placed.waiting.values()))
            placed.tries += 1
            state.give(
                AskOffers(
                    placed.round_id,
                    placed.asked,
                    first.name,
                    first.runtime_model,
                    first.download,
                )
            )
        elif any(host in placed.refusals for host in hosts):
            self._refuse(placed)
        else:
            self._ask_later(placed)

    def _ask_later(self, placed: Round) -> None:
        """Ask again after a pause; give up after some tries."""
        if not self._hosts_to_come() or placed.tries >= MOST_TRIES:
            self._fail(placed)
            return
        placed.tries += 1
        placed.ask_at = self._state.now + ASK_AGAIN_S

    def _hosts_to_come(self) -> bool:
        """Return whether there are members on which models may be placed, soon at least."""
        members = self._state.members.values()
        return any(one.presence is Presence.PRESENT and one.is_reachable for one in members)

    def _decide(self, placed: Round, offers: Mapping[str, Offer]) -> None:
        state = self._state
        valid = {
            host: offer
            for host, offer in offers.items()
            if state.presence(host) is Presence.PRESENT and host not in placed.refusals
        }
        model = self._model_of(placed, valid.values())
        pending = {host: self._pending(host, offer, model) for host, offer in valid.items()}
        host = placing.choose(valid, pending)
        if host is not None:
            self._claim(placed, model, host, valid[host].needed)
        elif not valid and not placed.refusals:
            self._ask_later(placed)
        else:
            self._refuse(placed, valid)

    def _model_of(self, placed: Round, offers: Iterable[Offer]) -> str:
        """Return the model that the members mean, to whom a name may be an alias.

        Another one than the round's if the front has not heard of that alias yet.
        """
        names = {offer.model for offer in offers if offer.model}
        return names.pop() if len(names) == 1 else placed.model

    def _claim(self, placed: Round, model: str, host: str, needed: int) -> None:
        """Place a model on a host, and give all that wait for it their seats."""
        state = self._state
        del state.rounds[placed.model]
        claim = state.claims.get(model)
        if claim is None:
            claim = state.claims[model] = Claim(host, needed, refusals=dict(placed.refusals))
        for request in placed.waiting.values():
            request.model = model
            self._give(request)

    def _refuse(self, placed: Round, offers: Mapping[str, Offer] | None = None) -> None:
        """Answer all that wait with a refusal: one that a call has had, or that a member will give.

        A member that offers nothing gives the error itself, with all its details.
        """
        state = self._state
        del state.rounds[placed.model]
        refused = placing.first_reason(placed.refusals)
        final = placing.least_final(offers or {})
        for request in placed.waiting.values():
            if refused is not None:
                self._answer(request, AsRefused(refused))
            elif final is not None:
                self._answer(request, self._seat(request.model, final, may_move=False))

    def _fail(self, placed: Round) -> None:
        """Answer all that wait that no member can be asked."""
        state = self._state
        del state.rounds[placed.model]
        told = "; ".join(f"{one.host}: {_state_in_words(one)}" for one in state.members.values())
        for request in placed.waiting.values():
            error = PoolUnreachable(
                f"no member of the fleet can start {request.name!r} now ({told or 'it has none'}). "
                "Try again, or look at the members.",
                model=request.model,
                retry_after=RETRY_AFTER_S,
            )
            self._answer(request, error)

    def _pending(self, host: str, offer: Offer, model: str) -> Pending:
        """Return what was placed on a host and is not in its offer yet."""
        needed = servers = 0
        for name, claim in self._state.claims.items():
            if claim.host != host or name == model:
                continue
            servers += 1
            if claim.seen_revision is None or claim.seen_revision > offer.revision:
                needed += claim.needed
        return Pending(needed, servers)

    # --- one claim --------------------------------------------------------------------

    def _server_of(self, model: str, claim: Claim) -> SeenServer | None:
        """Return the living server of a claim; None if it has none."""
        servers = self._state.by_model.get(model, {}).values()
        return next((one for one in servers if one.host == claim.host and one.lives), None)

    def _note(self, claim: Claim, server: SeenServer) -> None:
        if claim.seen_revision is None:
            claim.seen_revision = server.revision
        claim.needed = max(claim.needed, server.needed)
        if server.state is ServerState.READY:
            claim.refusals.clear()


def _state_in_words(member: Member) -> str:
    if member.presence is not Presence.PRESENT:
        return f"{member.presence.name.lower()}, {member.why}"
    if not member.is_reachable:
        return "no other host reaches its servers (fleet.advertise is not set there)"
    return "it does not answer"
