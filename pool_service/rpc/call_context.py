"""The context of a call, with its caller."""

from typing import Any, NoReturn

import grpc

from pool_service.access.fleet import OUTSIDE, FleetCall
from pool_service.access.principal import Principal

Context = grpc.aio.ServicerContext[Any, Any]


class CallContext:
    """The context of a call, with its caller. Handlers get it in the place of gRPC's.

    fleet: what a front says with the call.
    """

    __slots__ = ("_context", "fleet", "principal")

    def __init__(self, context: Context, principal: Principal, fleet: FleetCall = OUTSIDE) -> None:
        self.principal = principal
        self.fleet = fleet
        self._context = context

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a status. Raises grpc.aio.AbortError, or BaseError if it has ended."""
        await self._context.abort_with_status(status)
        raise AssertionError("gRPC went on after an abort")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever gRPC's has
        return getattr(self._context, name)
