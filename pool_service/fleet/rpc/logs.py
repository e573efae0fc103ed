"""The logs of a model, which the members have on whose hosts it ran."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from pool_service.access.principal import Principal
from pool_service.core.errors import InvalidField, LogNotFound, PoolUnreachable
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.rpc.asking_all import LOOK_TIMEOUT_S, ask_all
from pool_service.fleet.rpc.errors import none_seen, reason_of
from pool_service.fleet.rpc.forwarding import Forwarding
from pool_service.fleet.rpc.last_runs import by_last_run
from pool_service.v1 import pool_service_pb2 as pb

CURSOR_MARK = "~"
"""Stands between the host of a log and the member's own cursor; no host's name has it."""


class MembersLogs:
    """Finds the log of a model among the members, and reads it there."""

    def __init__(self, fleet: Fleet[GrpcLink], forwarding: Forwarding) -> None:
        self._fleet = fleet
        self._forwarding = forwarding

    async def lines(
        self, request: pb.TailLogsRequest, principal: Principal, time_limit: float | None
    ) -> AsyncGenerator[pb.TailLogsResponse]:
        """Yield the lines of a log of the first member that has one.

        time_limit: in seconds; None: none. Raises InvalidField, PoolUnreachable, MemberLost, and
        AioRpcError with a member's own error.
        """
        asked, links = await self._with_log(request, principal)
        call = self._forwarding.call_of(principal)
        refusal: grpc.aio.AioRpcError | None = None
        for link in links:
            try:
                lines = link.stream("TailLogs", asked, call, time_limit)
                async with aclosing(lines):
                    async for answer in lines:
                        answer.cursor = f"{link.host}{CURSOR_MARK}{answer.cursor}"
                        yield answer
            except grpc.aio.AioRpcError as error:
                if reason_of(error) != LogNotFound.REASON:
                    raise
                refusal = error
            else:
                return
        raise refusal or none_seen()

    async def _with_log(
        self, request: pb.TailLogsRequest, principal: Principal
    ) -> tuple[pb.TailLogsRequest, list[GrpcLink]]:
        """Return the request for members, and the members that may have the log, in this order."""
        if request.WhichOneof("begin") == "cursor":
            return self._after_cursor(request)
        present = self._fleet.present
        first = self._fleet.hosts_of(request.model)
        if not first and len(present) > 1:
            asked, call = (
                pb.DescribeRequest(model=request.model),
                self._forwarding.call_of(principal),
            )
            answers = await ask_all(present, "Describe", asked, call, LOOK_TIMEOUT_S)
            first = by_last_run(answers.given)
        links = [link for host in first if (link := self._fleet.link(host)) is not None]
        return request, links + [one for one in present if one not in links]

    def _after_cursor(
        self, request: pb.TailLogsRequest
    ) -> tuple[pb.TailLogsRequest, list[GrpcLink]]:
        host, mark, cursor = request.cursor.partition(CURSOR_MARK)
        if not mark:
            raise InvalidField("cursor is not one that this front returned.", field_name="cursor")
        link = self._fleet.link(host)
        if link is None:
            raise PoolUnreachable(
                f"the log is on {host}, which is no member any more. Begin without a cursor.",
                model=request.model,
                retry_after=RETRY_AFTER_S,
            )
        asked = pb.TailLogsRequest()
        asked.CopyFrom(request)
        asked.cursor = cursor
        return asked, [link]
