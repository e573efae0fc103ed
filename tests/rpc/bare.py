"""A server over a servicer whose pool does not matter."""

import time

from pool_service.access.fence import Fence, Leader
from pool_service.access.fleet import FleetSettings
from pool_service.admission import Admission
from pool_service.rpc.authorization import Authorization
from pool_service.rpc.fleet_calls import FleetCalls
from pool_service.rpc.fleet_member import FleetMemberServicer
from pool_service.rpc.server import GrpcServer
from pool_service.rpc.servicer import PoolServicer


def fence() -> Fence:
    """A fence that nothing has seen, and that keeps nothing."""
    return Fence(Leader(), lambda _: "", time.monotonic)


def server_of(servicer: PoolServicer, admission: Admission) -> GrpcServer:
    nobody = fence()
    member = FleetMemberServicer(None, servicer, nobody, FleetSettings())  # type: ignore[arg-type]
    return GrpcServer(servicer, member, Authorization(admission, FleetCalls(nobody)))
