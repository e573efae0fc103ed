"""The way of calls to the leader, of a front that does not lead."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.fleet.core.values import Lead
from pool_service.fleet.members.channel import Channel
from pool_service.fleet.members.metadata import FLEET_CALL
from pool_service.fleet.members.security import Secure


class Leader:
    """Makes calls of the API at the front that leads."""

    def __init__(
        self,
        lead: Callable[[], Lead],
        secure: Secure,
        own: str,
    ) -> None:
        """own: the address of this front, which is never called: it does not lead."""
        self._lead = lead
        self._secure = secure
        self._own = own
        self._asked: tuple[str, int] = ("", 0)
        """The address and the epoch of the front that the connection is to."""
        self._channel: Channel | None = None

    async def unary(
        self,
        method: str,
        request: object,
        call: bytes,
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own
    ) -> Any:  # noqa: ANN401 - of any method
        """Return the leader's answer to a call; see `GrpcLink.unary`.

        Raises PoolUnreachable if no leader is known, and AioRpcError.
        """
        channel = self._connected()
        opened = getattr(channel.pool, method)(
            request, timeout=timeout, metadata=((FLEET_CALL, call),)
        )
        return await channel.unary(opened)

    async def stream(
        self,
        method: str,
        request: object,
        call: bytes,
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own
    ) -> AsyncGenerator[Any]:
        """Yield the leader's answers to a call. Raises as `unary`."""
        channel = self._connected()
        opened = getattr(channel.pool, method)(
            request, timeout=timeout, metadata=((FLEET_CALL, call),)
        )
        async with aclosing(channel.stream(opened)) as answers:
            async for answer in answers:
                yield answer

    def follow(self, lead: Lead) -> None:
        """Cancel the calls at an earlier leader once there is another; they raise MemberLost.

        The earlier one may be lost, and its connection silent for as long as TCP is patient.
        """
        is_known = lead.leads or bool(lead.address)
        if self._channel is not None and is_known and self._asked != _place(lead):
            self._channel.interrupt()
            self._channel = None

    def close(self) -> None:
        """Close the connection to the leader."""
        if self._channel is not None:
            self._channel.interrupt()

    def _connected(self) -> Channel:
        lead = self._lead()
        if lead.leads or lead.address in ("", self._own):
            raise PoolUnreachable(
                "no front leads the fleet now, so that nothing new is started; models that are "
                "READY are still given out. Try again.",
                retry_after=RETRY_AFTER_S,
            )
        if self._channel is None:
            self._asked = _place(lead)
            self._channel = Channel(lead.address, self._secure("", lead.address))
        return self._channel


def _place(lead: Lead) -> tuple[str, int]:
    return lead.address, lead.epoch
