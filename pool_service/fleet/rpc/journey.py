"""The journey of one call: to the host of its model, and on to others as long as that helps."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.asking import Asking
from pool_service.fleet.core.commands import AsRefused, OfLeader
from pool_service.fleet.core.placing import MOVING_REASONS, OF_ENDING_MEMBERS
from pool_service.fleet.core.values import Seat
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.ports import MemberLost
from pool_service.fleet.rpc.errors import is_of_connection, reason_of

RETRY_PAUSE_S = 0.05
"""The pause before a call is sent again whose member is just away: its loss is noticed by then."""

STALE = "STALE_FLEET"


class Route(Protocol):
    """A way to a member, or to the leader."""

    async def unary(
        self,
        method: str,
        request: object,
        call: bytes,
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own
    ) -> Any: ...  # noqa: ANN401 - of any method

    def stream(
        self, method: str, request: object, call: bytes, timeout: float | None
    ) -> AsyncGenerator[Any]: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One host on the journey, or the leader. seat: None: it is the leader."""

    route: Route
    seat: Seat | None


class Journey:
    """Finds host after host for one call. The leader is asked if this front may not place."""

    def __init__(self, fleet: Fleet[GrpcLink], asking: Asking, leader: Route) -> None:
        self._fleet = fleet
        self._asking = asking
        self._leader = leader
        self._refusals: dict[str, grpc.aio.AioRpcError] = {}
        self._stage: Stage | None = None

    async def begin(self) -> Stage:
        """Return the first stage. Raises PoolError."""
        self._fleet.check_lead()
        return await self._go(await self._asking.seat())

    async def after(self, error: MemberLost | grpc.aio.AioRpcError) -> Stage:
        """Return the next stage after one has failed; raise its error if no other one helps."""
        stage = self._stage
        assert stage is not None
        if isinstance(error, MemberLost):
            return await self.begin()
        reason = reason_of(error)
        seat = stage.seat
        if is_of_connection(error, reason) or reason == STALE:
            await asyncio.sleep(RETRY_PAUSE_S)
            if seat is None or reason not in OF_ENDING_MEMBERS:
                return await self.begin()
            self._fleet.check_lead()
            return await self._go(await self._asking.after_refusal(seat.host, reason))
        if seat is None or not seat.may_move or reason not in MOVING_REASONS:
            raise error
        self._refusals[seat.host] = error
        return await self._go(await self._asking.after_refusal(seat.host, reason))

    async def _go(self, place: Seat | OfLeader | AsRefused) -> Stage:
        if isinstance(place, OfLeader):
            self._asking.leave()
            self._stage = Stage(self._leader, None)
            return self._stage
        if isinstance(place, AsRefused):
            if place.host in self._refusals:
                raise self._refusals[place.host]
            # Another call had the refusal; this one asks for its own.
            place = Seat(place.host, "", 0, self._fleet.followed_epoch, may_move=False)
        # It can have taken long to come here, or this process was stopped meanwhile.
        if self._fleet.check_lead():
            return await self.begin()
        link = self._fleet.link(place.host)
        if link is None or link.is_closed:
            raise PoolUnreachable(f"{place.host} is no member any more. Try again.", retry_after=0)
        self._stage = Stage(link, place)
        return self._stage
