"""Calls of fronts: what the metadata `pool-fleet-bin` says, and what its caller may do."""

from typing import Any, Final

from google.protobuf.message import DecodeError

from pool_service.access.fence import MAX_EPOCH, Fence
from pool_service.access.fleet import FleetCall, FleetCaller, acting_for
from pool_service.access.principal import ModelPatterns, Principal, Scope
from pool_service.admission import check_front
from pool_service.core.errors import FleetOnly, InvalidField
from pool_service.core.names import holder_flaw
from pool_service.rpc.malformed import FLEET_CALL
from pool_service.v1 import pool_service_pb2 as pb

MAX_KNOWN = 1024
"""The most FleetCalls that are kept, at most 8 KiB each, and some hundred bytes usually."""

MAX_GENERATION = 2**62
"""The largest generation that a front may name: those after it must fit on the wire."""

_SCOPES: Final = {scope.name.lower(): scope for scope in Scope}

_NONE: Final = b"\0"
"""Bytes that are no FleetCall."""

Known = tuple[Principal, Principal, FleetCall]
"""A front, the principal of one of its calls, and what it has said."""


class FleetCalls:
    """Reads what fronts say with their calls, and refuses calls of fronts that are out of date."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._known: dict[bytes, Known] = {}

    def admit(self, front: Principal, raw: bytes) -> tuple[Principal, FleetCall]:
        """Return on whose behalf a front calls, and what it says with the call.

        raw: the metadata. Raises ScopeMissing if the caller is no front, InvalidField if the
        metadata is no FleetCall, or StaleFleet.
        """
        check_front(front, "a call on behalf of others")
        known = self._known.get(raw)
        # Another principal after a reload, even if it has the same rights.
        if known is None or known[0] is not front:
            known = self._read(front, raw)
        _, principal, call = known
        self._fence.admit(call.epoch, call.front)
        return principal, call

    def _read(self, front: Principal, raw: bytes) -> Known:
        call, caller = fleet_call(raw)
        principal = front if caller is None else acting_for(front, caller)
        known = front, principal, call
        # A hold has a name of its own, so that its metadata does not come again.
        if not call.hold:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[raw] = known
        return known


def check_by_fleet(call: FleetCall) -> None:
    """Raise FleetOnly unless a call comes by a front that leads or follows a leader."""
    if not call.epoch:
        raise FleetOnly(
            "this member starts servers for its fleet only (fleet.only_fleet); call the front of "
            "the fleet."
        )


def raw_fleet_call(metadata: Any) -> bytes | None:  # noqa: ANN401  # pairs of gRPC
    """Return the FleetCall in a call's metadata; None if there is none, _NONE if not just one."""
    found: bytes | None = None
    for key, value in metadata or ():
        if key == FLEET_CALL:
            found = value if found is None and isinstance(value, bytes) else _NONE
    return found


def fleet_call(raw: bytes) -> tuple[FleetCall, FleetCaller | None]:
    """Return what a front says with a call, and its caller if it names one. Raises InvalidField."""
    message = pb.FleetCall()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise _invalid("is no FleetCall of this service's proto file") from None
    for name in ("front", "hold"):
        text = getattr(message, name)
        if text and (flaw := holder_flaw(text)):
            raise _invalid(f"has a {name} that {flaw}")
    if message.epoch and not message.front:
        raise _invalid("has an epoch and no front")
    if message.epoch > MAX_EPOCH:
        raise _invalid(f"has an epoch over {MAX_EPOCH}")
    if message.least_generation > MAX_GENERATION:
        raise _invalid(f"has a least_generation over {MAX_GENERATION}")
    call = FleetCall(message.epoch, message.front, message.least_generation, message.hold)
    return call, _caller(message.caller) if message.HasField("caller") else None


def _caller(message: pb.FleetCaller) -> FleetCaller:
    scope = _SCOPES.get(message.scope)
    if scope is None:
        raise _invalid(f"has a caller whose scope is none of {', '.join(_SCOPES)}")
    if flaw := holder_flaw(message.name):
        raise _invalid(f"has a caller whose name {flaw}")
    return FleetCaller(message.name, scope, message.logs, ModelPatterns(tuple(message.models)))


def _invalid(what: str) -> InvalidField:
    return InvalidField(
        f"the metadata {FLEET_CALL} {what}. Send the bytes of one FleetCall.",
        field_name="fleet_call",
    )
