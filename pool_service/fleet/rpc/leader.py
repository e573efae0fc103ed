"""The way of calls to the leader, of a front that does not lead."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.fleet.core.values import Lead
from pool_service.fleet.members.channel import Channel
from pool_service.fleet.members.metadata import FLEET_CALL
from pool_service.fleet.members.security import Secure
from pool_service.fleet.rpc.errors import is_of_connection, reason_of

PATIENCE_S = 15.0
"""How long callers wait for a leader that cannot be called. Longer than another front takes to lead
once the leader is lost, with any engine."""

LEAST_AGE_S = 1.0
"""The age from which a connection that fails is replaced, as its certificates can be old ones."""

log = structlog.get_logger("pool_service.fleet")


class Leader:
    """Makes calls of the API at the front that leads."""

    def __init__(
        self,
        lead: Callable[[], Lead],
        secure: Secure,
        own: str,
        now: Callable[[], float],
    ) -> None:
        """own: the address of this front, which is never called: it does not lead."""
        self._lead = lead
        self._secure = secure
        self._own = own
        self._now = now
        self._asked: tuple[str, int] = ("", 0)
        """The address and the epoch of the front that the connection is to."""
        self._channel: Channel | None = None
        self._opened_at = 0.0
        self._retired: list[Channel] = []
        """Connections that have failed, on which other calls may still be answered."""
        self._failing_since: float | None = None
        self._failed_at = 0.0

    async def unary(
        self,
        method: str,
        request: object,
        call: bytes,
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own
    ) -> Any:  # noqa: ANN401 - of any method
        """Return the leader's answer to a call; see `GrpcLink.unary`.

        Raises PoolUnreachable if no leader is known or it could not be called for a while, and
        AioRpcError.
        """
        channel = self._connected()
        opened = getattr(channel.pool, method)(
            request, timeout=timeout, metadata=((FLEET_CALL, call),)
        )
        try:
            answer = await channel.unary(opened)
        except grpc.aio.AioRpcError as error:
            self._note(channel, error)
            raise
        self._failing_since = None
        return answer

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
        try:
            async with aclosing(channel.stream(opened)) as answers:
                async for answer in answers:
                    self._failing_since = None
                    yield answer
        except grpc.aio.AioRpcError as error:
            self._note(channel, error)
            raise

    def follow(self, lead: Lead) -> None:
        """Cancel the calls at an earlier leader once there is another; they raise MemberLost.

        The earlier one may be lost, and its connection silent for as long as TCP is patient.
        """
        is_known = lead.leads or bool(lead.address)
        if is_known and self._asked != _place(lead):
            self.close()

    def close(self) -> None:
        """Close the connection to the leader; its calls raise MemberLost."""
        for channel in (*self._retired, self._channel):
            if channel is not None:
                channel.interrupt()
        self._retired, self._channel, self._failing_since = [], None, None

    def _note(self, channel: Channel, error: grpc.aio.AioRpcError) -> None:
        """Note a failed call. Raises PoolUnreachable if the leader could not be called for long."""
        reason, now = reason_of(error), self._now()
        if not is_of_connection(error, reason):
            self._failing_since = None
            return
        address, why = self._asked[0], error.details() or error.code().name
        # Failures with nothing between them for long are not of one time.
        if self._failing_since is None or now - self._failed_at > PATIENCE_S:
            self._failing_since = now
            log.warning("the front that leads cannot be called", leader=address, why=why)
        self._failed_at = now
        if not reason and channel is self._channel and now - self._opened_at >= LEAST_AGE_S:
            channel.retire()
            self._retired = [one for one in (*self._retired, channel) if not one.is_closed]
            self._channel = None
        if now - self._failing_since >= PATIENCE_S:
            raise PoolUnreachable(
                f"the front at {address} leads the fleet, and could not be called for "
                f"{PATIENCE_S:g} s ({why}), so that nothing new is started; models that are READY "
                "are still given out. Try again, or look at that front.",
                retry_after=RETRY_AFTER_S,
            ) from error

    def _connected(self) -> Channel:
        lead = self._lead()
        if lead.leads or lead.address in ("", self._own):
            raise PoolUnreachable(
                "no front leads the fleet now, so that nothing new is started; models that are "
                "READY are still given out. Try again.",
                retry_after=RETRY_AFTER_S,
            )
        if self._channel is None:
            self._asked, self._opened_at = _place(lead), self._now()
            self._channel = Channel(lead.address, self._secure("", lead.address))
        return self._channel


def _place(lead: Lead) -> tuple[str, int]:
    return lead.address, lead.epoch
