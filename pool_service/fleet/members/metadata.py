"""What a front sends with each call to a member."""

from typing import Final

from pool_service.access.principal import Principal
from pool_service.v1 import pool_service_pb2 as pb

FLEET_CALL: Final = "pool-fleet-bin"
"""The key of a FleetCall in the metadata of a call."""


def fleet_call(
    front: str,
    epoch: int,
    principal: Principal | None = None,
    *,
    least_generation: int = 0,
    hold: str = "",
) -> bytes:
    """Return the FleetCall of a call. principal: on whose behalf; None: of the front itself."""
    caller = None
    if principal is not None:
        caller = pb.FleetCaller(
            name=principal.name,
            scope=principal.scope.name.lower(),
            logs=principal.logs,
            models=principal.models.patterns,
        )
    return pb.FleetCall(
        epoch=epoch, front=front, least_generation=least_generation, hold=hold, caller=caller
    ).SerializeToString()
