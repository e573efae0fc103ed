"""The scope that each method needs. A method that is not named here needs the highest."""

from collections.abc import Mapping
from typing import Final

from pool_service.access.principal import Scope

SERVICE: Final = "pool_service.v1.PoolService"
FLEET_MEMBER: Final = "pool_service.v1.FleetMemberService"
HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"

OPEN: Final = None
"""Needs nothing: anybody who reaches the address may call it."""

NEEDED: Final[Mapping[str, Scope | None]] = {
    # Load balancers and probes show nothing, and learn only whether the service serves.
    f"{HEALTH}/Check": OPEN,
    f"{HEALTH}/Watch": OPEN,
    f"{REFLECTION}/ServerReflectionInfo": Scope.READ,
    f"{SERVICE}/List": Scope.READ,
    f"{SERVICE}/Get": Scope.READ,
    f"{SERVICE}/ListModels": Scope.READ,
    f"{SERVICE}/Watch": Scope.READ,
    f"{SERVICE}/Describe": Scope.READ,
    # Also needs the right to read logs: they can hold parts of prompts.
    f"{SERVICE}/TailLogs": Scope.READ,
    f"{SERVICE}/Ensure": Scope.USE,
    f"{SERVICE}/Hold": Scope.USE,
    f"{SERVICE}/Pull": Scope.USE,
    # By force, of idle servers, or of all: ADMIN.
    f"{SERVICE}/Evict": Scope.USE,
    f"{SERVICE}/Pin": Scope.ADMIN,
    f"{SERVICE}/Forget": Scope.ADMIN,
    f"{SERVICE}/Reload": Scope.ADMIN,
    # The caller must also be a front.
    f"{FLEET_MEMBER}/Beat": Scope.READ,
    f"{FLEET_MEMBER}/Offer": Scope.READ,
    f"{FLEET_MEMBER}/EndHold": Scope.USE,
}
"""By SERVICE/METHOD."""

BY_FRONTS: Final = frozenset(path for path in NEEDED if path.startswith(f"{SERVICE}/"))
"""The methods that fronts call for their callers."""


def needed_by(path: str) -> Scope | None:
    """Return the scope that a method needs; OPEN if it needs none. path: SERVICE/METHOD."""
    return NEEDED.get(path, Scope.ADMIN)
