"""Calls of a servicer's handlers without a connection, with all that a caller is told as bytes."""

from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import Message

from pool_service.access.fleet import OUTSIDE
from pool_service.access.principal import Principal
from pool_service.rpc.servicer import PoolServicer

if TYPE_CHECKING:
    from pool_service.rpc.call_context import CallContext


class Told:
    """The context of one call; told: the bytes of each answer, and of what follows them."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.fleet = OUTSIDE
        self.told: list[bytes] = []
        self.method = ""
        self.code = ""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def write(self, message: Message) -> None:
        self.told.append(message.SerializeToString())

    async def abort_with_status(self, status: grpc.Status) -> None:
        self.code = status.code.name
        self.told.append(status.details.encode())
        for key, value in status.trailing_metadata or ():
            self.told += [key.encode(), value if isinstance(value, bytes) else value.encode()]
        raise grpc.aio.AbortError


async def ask(servicer: PoolServicer, method: str, request: Message, context: Told) -> Told:
    """Make a call; return its context once it has ended."""
    handler: Any = getattr(servicer, method)
    context.method = method
    try:
        answer = await handler(request, cast("CallContext", context))
    except grpc.aio.AbortError:
        return context
    if answer is not None:
        context.told.append(answer.SerializeToString())
    return context
