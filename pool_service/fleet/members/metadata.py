"""What a front sends with each call to a member."""

from functools import lru_cache
from typing import Final

import grpc

from pool_service.access.principal import Principal
from pool_service.core.errors import ScopeMissing
from pool_service.v1 import pool_service_pb2 as pb

FLEET_CALL: Final = "pool-fleet-bin"
"""The key of a FleetCall in the metadata of a call."""

_KEPT_CALLS = 1024
"""The calls whose metadata is kept: those to READY servers are the same for all of a caller."""


def fleet_call(
    front: str,
    epoch: int,
    principal: Principal | None = None,
    *,
    least_generation: int = 0,
    hold: str = "",
) -> bytes:
    """Return the FleetCall of a call. principal: on whose behalf; None: of the front itself.

    Raises ScopeMissing if a FleetCall cannot say which models the principal may know of.
    """
    caller = None
    if principal is not None:
        models = principal.models.alone
        if models is None:
            raise _two_limits(principal)
        caller = pb.FleetCaller(
            name=principal.name,
            scope=principal.scope.name.lower(),
            logs=principal.logs,
            models=models,
        )
    return pb.FleetCall(
        epoch=epoch, front=front, least_generation=least_generation, hold=hold, caller=caller
    ).SerializeToString()


@lru_cache(_KEPT_CALLS)
def metadata(call: bytes) -> grpc.aio.Metadata:
    """Return the metadata with a FleetCall, which gRPC would make of pairs for each call."""
    return grpc.aio.Metadata((FLEET_CALL, call))


def _two_limits(principal: Principal) -> ScopeMissing:
    return ScopeMissing(
        f"{principal.name!r} may know of some models only, and the front that calls for it of other"
        " ones, and this front cannot tell its members both. Take `models` out of the [clients] "
        "section that this front has for the other front.",
        needed="every model",
        scope=principal.scope.name.lower(),
    )
