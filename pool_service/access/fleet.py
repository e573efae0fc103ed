"""A member of a fleet: what a front says with its calls, and what its callers may do.

A front is a process that callers ask in the place of the members. It has authenticated its callers
itself, and names the one on whose behalf it calls; the member decides what that one may do.
"""

from dataclasses import dataclass
from typing import Final

from pool_service.access.principal import ModelPatterns, Principal, Scope


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How this service is a member of a fleet; by default it is none.

    name: of the member; "" outside a fleet. advertise: the address of its servers for other
    machines; "" if these cannot reach them. only_fleet: whether servers are started for the fleet
    only. hold_grace_s: how long a hold outlives the connection of its front.
    """

    name: str = ""
    advertise: str = ""
    only_fleet: bool = False
    hold_grace_s: float = 15.0


@dataclass(frozen=True, slots=True)
class FleetCall:
    """Holds what a front says with a call.

    epoch: of the fleet that the front leads or follows; 0: none. front: the name of its process.
    least_generation: of a server that the call starts. hold: the name of the hold, by which it is
    ended; "": it ends with its stream.
    """

    epoch: int = 0
    front: str = ""
    least_generation: int = 0
    hold: str = ""


OUTSIDE: Final = FleetCall()
"""A call of a caller that comes by no front."""


@dataclass(frozen=True, slots=True)
class FleetCaller:
    """The caller of a front, with what it may do by the front's own configuration."""

    name: str
    scope: Scope
    logs: bool
    models: ModelPatterns


def acting_for(front: Principal, caller: FleetCaller) -> Principal:
    """Return the principal that may do what both a front and its caller may.

    The limits are the front's, which knows what its callers have open at all members.
    """
    models = caller.models.both(front.models)
    scope = min(front.scope, caller.scope)
    if not models.is_everything:
        # An admin may stop every server, so that it must be allowed all models.
        scope = min(scope, Scope.USE)
    return Principal(
        f"{front.name}/{caller.name}", scope, front.logs and caller.logs, models, front.limits
    )
