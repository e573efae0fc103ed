"""Calls to several members at once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from pool_service.core.errors import ModelUnknown, PoolUnreachable
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.ports import MemberLost
from pool_service.fleet.rpc.errors import is_of_connection, reason_of

LOOK_TIMEOUT_S = 2.0
"""The time for a member to answer a look; a later one is left out, and named in the notices."""


CATALOGUE_TIMEOUT_S = 30.0
"""The time for a member to list its models: it looks at files, and waits 20 s for a file server."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What members have answered, by their hosts in the order in which they are listed.

    missing: why there is no answer of a member that could not be asked, or was late.
    refusals: the errors that members have answered with.
    """

    given: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, grpc.aio.AioRpcError] = field(default_factory=dict)

    def any_or_raise(self) -> dict[str, Any]:
        """Return the answers; raise a member's error if there are none.

        Raises PoolUnreachable if no member could be asked at all.
        """
        if self.given:
            return self.given
        for error in self.refusals.values():
            raise error
        told = "; ".join(f"{host}: {why}" for host, why in self.missing.items())
        raise PoolUnreachable(
            f"no member of the fleet answers ({told or 'none is seen'}). Try again, or look at the "
            "members.",
            retry_after=RETRY_AFTER_S,
        )

    def all_or_raise(self, model: str = "") -> dict[str, Any]:
        """Return the answers to a change; raise unless it was made at each member.

        Members that do not know the model are left out if others do. Raises a member's error, or
        PoolUnreachable, which says where it was made.
        """
        given = self.any_or_raise()
        for error in self.refusals.values():
            if reason_of(error) != ModelUnknown.REASON:
                raise error
        if self.missing:
            raise partly_done(given, self.missing, model)
        return given


def partly_done(done: Iterable[str], missing: Mapping[str, str], model: str) -> PoolUnreachable:
    """Return the error of a change that was made at some hosts. missing: why not at others."""
    told = "; ".join(f"{host}: {why}" for host, why in missing.items())
    return PoolUnreachable(
        f"this was done on {', '.join(done)}, and may not have been done elsewhere ({told}). Try "
        "again.",
        model=model,
        retry_after=RETRY_AFTER_S,
    )


async def ask_all(
    links: Sequence[GrpcLink], method: str, request: object, call: bytes, time_limit: float | None
) -> Answers:
    """Return what members answer to one call, each within a time in seconds (None: for ever)."""
    results = await asyncio.gather(
        *(link.unary(method, request, call, time_limit) for link in links), return_exceptions=True
    )
    answers = Answers()
    for link, result in zip(links, results, strict=True):
        if isinstance(result, MemberLost):
            answers.missing[link.host] = "it is lost"
        elif isinstance(result, grpc.aio.AioRpcError):
            _sort(answers, link.host, result)
        elif isinstance(result, BaseException):
            raise result
        else:
            answers.given[link.host] = result
    return answers


def _sort(answers: Answers, host: str, error: grpc.aio.AioRpcError) -> None:
    reason = reason_of(error)
    late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    if late or is_of_connection(error, reason):
        answers.missing[host] = "it does not answer in time" if late else error.details() or reason
    else:
        answers.refusals[host] = error
