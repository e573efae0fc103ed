"""The context of a call, with its caller."""

from typing import Any

import grpc

from pool_service.access.principal import Principal

Context = grpc.aio.ServicerContext[Any, Any]


class CallContext:
    """The context of a call, with its caller. Handlers get it in the place of gRPC's."""

    __slots__ = ("_context", "abort_with_status", "peer", "principal", "write")

    def __init__(self, context: Context, principal: Principal) -> None:
        self.principal = principal
        self._context = context
        self.peer = context.peer
        self.write = context.write
        self.abort_with_status = context.abort_with_status

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever gRPC's has
        return getattr(self._context, name)
