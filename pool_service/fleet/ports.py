"""The ports of the front: what it needs of the outside world."""

import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from pool_service.fleet.core.values import Lead, Offer

__all__ = ["MAY_NOT_PLACE", "Lead", "Leadership", "Link", "MemberLost", "Membership"]

MAY_NOT_PLACE = -math.inf
"""`Lead.until` of a front that does not lead."""


class Membership(Protocol):
    """Tells which members there are."""

    def changes(self) -> AsyncIterator[Mapping[str, str]]:
        """Yield the gRPC address of each member by its name: all that are known, at each change.

        The first mapping comes as soon as one is known, which is at once unless discovery fails.
        While discovery fails, the last one holds: no other is yielded, and nothing is raised.
        """


class Leadership(Protocol):
    """Tells which front may place."""

    async def run(self, changed: Callable[[Lead], None]) -> None:
        """Stand for leader until cancelled, and call `changed` with each change.

        Until the first call nobody is known to lead. A leader is told each new `until`, several
        times before the last one has passed. When this ends, the lead is over, and the next leader
        need not wait.
        """


class Link(Protocol):
    """Follows one member, and feeds what it sees as events."""

    def close(self) -> None:
        """Follow it no longer; its calls in progress are cancelled."""

    def beat_now(self) -> None:
        """Send it the next beat at once."""

    def interrupt(self) -> None:
        """Cancel its calls in progress, which then raise MemberLost."""

    async def offer(self, name: str, runtime_model: str, *, download: bool | None) -> Offer | None:
        """Return what an Ensure would do there; None if it does not answer."""

    async def evict_copy(self, model: str, epoch: int) -> None:
        """Evict the server of a model without force; return when it is gone, or in use."""


class CallCounts(Protocol):
    """Receives the calls to members. code: the name of a gRPC status, or LOST."""

    def end(self, host: str, method: str, code: str, seconds: float) -> None:
        """Count a call with one response."""

    def open_stream(self, host: str, method: str) -> None:
        """Count a stream as open."""

    def close_stream(self, method: str, code: str) -> None:
        """Count the end of a stream."""


class MemberLost(Exception):
    """The member of a call is lost, so that the call has to go elsewhere."""
