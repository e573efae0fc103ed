"""The API handlers of FleetMemberService: what a front asks of a member beside PoolService."""

from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from pool_service.access.fence import Fence
from pool_service.access.fleet import FleetSettings
from pool_service.admission import check_front
from pool_service.core.errors import ModelUnknown, Recovering, ScopeMissing
from pool_service.rpc import validation
from pool_service.rpc.answering import Context, unary
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.visibility import Visibility
from pool_service.rpc.wire import offer, totals
from pool_service.v1 import pool_service_pb2 as pb

if TYPE_CHECKING:
    from pool_service.pool import Pool


class FleetMemberServicer:
    """FleetMemberService over one pool. The proto file has the promise of each call.

    servicer: of the same pool; refusals are kept, and answers redacted, as its own are.
    """

    def __init__(
        self, pool: "Pool", servicer: PoolServicer, fence: Fence, settings: FleetSettings
    ) -> None:
        self._pool = pool
        self._visibility = Visibility(pool)
        self._fence = fence
        self._settings = settings
        self._holds = servicer.fleet_holds
        self._version = version("pool-service")
        self.called = servicer.called
        self.refuse = servicer.refuse
        self.abandon = servicer.abandon
        self.redactions = servicer.redactions

    @unary
    async def Beat(self, request: pb.BeatRequest, context: Context) -> pb.BeatResponse:
        check_front(context.principal, "Beat")
        self._fence.admit(validation.epoch(request), validation.front(request), leads=True)
        leader, heard_s = self._fence.leader, self._fence.heard_s
        return pb.BeatResponse(
            host=self._settings.name,
            reachable=bool(self._settings.advertise),
            epoch=leader.epoch,
            front=leader.front,
            front_heard=None if heard_s is None else _duration(heard_s),
            totals=self._totals(),
            notices=self._pool.notices(),
            catalogue=self._pool.models.catalogue_version,
            version=self._version,
            hold_grace=_duration(self._settings.hold_grace_s),
        )

    def _totals(self) -> pb.PoolTotals | None:
        """Return the totals of the pool; None while it recovers."""
        with suppress(Recovering):
            self._pool.page(None, 1)
            return totals(self._pool.totals())
        return None

    @unary
    async def Offer(self, request: pb.OfferRequest, context: Context) -> pb.OfferResponse:
        principal = context.principal
        check_front(principal, "Offer")
        model = validation.model(request.model)
        runtime_model = validation.runtime_model(request.runtime_model)
        try:
            self._visibility.check_use(principal, model, runtime_model)
        except (ModelUnknown, ScopeMissing) as error:
            # As an Ensure of the front would fail.
            return pb.OfferResponse(
                verdict=pb.OFFER_VERDICT_NEVER,
                model=model,
                reason=error.reason,
                message=error.message,
            )
        offered = await self._pool.offer(
            model,
            runtime_model,
            download=validation.download(request),
            account=principal.account,
        )
        return offer(offered)

    @unary
    async def EndHold(self, request: pb.EndHoldRequest, context: Context) -> pb.EndHoldResponse:
        check_front(context.principal, "EndHold")
        self._holds.end(validation.hold(request))
        return pb.EndHoldResponse()


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
