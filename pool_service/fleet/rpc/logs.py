"""The logs of a model, which the members have on whose hosts it ran."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
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
from pool_service.rpc.validation import MAX_LOG_LINES
from pool_service.v1 import pool_service_pb2 as pb

REST_S = 0.5
"""The time without further lines after which a log is left whose model is on another host."""

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

        With `follow`, also those of the model's next processes, on whichever hosts.

        time_limit: in seconds; None: none. Raises InvalidField, PoolUnreachable, MemberLost, and
        AioRpcError with a member's own error.
        """
        call, host = self._forwarding.call_of(principal), self._left_host(request)
        has_moved = bool(host)
        if has_moved:
            asked, links = await self._moved(request.model, host)
        else:
            asked, links = await self._with_log(request, principal)
        while True:
            try:
                async with aclosing(self._of_one(asked, links, call, time_limit)) as answers:
                    async for host, answer in answers:
                        answer.cursor = f"{host}{CURSOR_MARK}{answer.cursor}"
                        yield answer
            except grpc.aio.AioRpcError as error:
                is_new = has_moved and host not in {link.host for link in links}
                if not is_new or reason_of(error) != LogNotFound.REASON:
                    raise
                # The process is there before its log.
                await asyncio.sleep(REST_S)
            if not asked.follow:
                return
            asked, links = await self._moved(asked.model, host)
            has_moved = True

    def _left_host(self, request: pb.TailLogsRequest) -> str:
        """Return the host of a cursor that is not seen, if a process elsewhere is followed instead.

        Empty: there is none, or it is not asked for.
        """
        host = request.cursor.partition(CURSOR_MARK)[0] if request.follow else ""
        current = self._fleet.current(request.model)
        is_seen = host in {link.host for link in self._fleet.present}
        return host if host and not is_seen and current and current.host != host else ""

    async def _moved(self, model: str, host: str) -> tuple[pb.TailLogsRequest, list[GrpcLink]]:
        """Return the request for the process of a model on another host, once there is one."""
        server = await self._fleet.moved(model, host)
        request = pb.TailLogsRequest(
            model=model, generation=server.generation, lines=MAX_LOG_LINES, follow=True
        )
        link = self._fleet.link(server.host)
        return request, [link] if link is not None else []

    async def _of_one(
        self,
        asked: pb.TailLogsRequest,
        links: Sequence[GrpcLink],
        call: bytes,
        time_limit: float | None,
    ) -> AsyncGenerator[tuple[str, pb.TailLogsResponse]]:
        """Yield what the first of these members tells that has the log, with its host."""
        refusal: grpc.aio.AioRpcError | None = None
        for link in links:
            told = link.stream("TailLogs", asked, call, time_limit)
            try:
                async with aclosing(self._until_moved(asked, link.host, told)) as answers:
                    async for answer in answers:
                        yield link.host, answer
            except grpc.aio.AioRpcError as error:
                if reason_of(error) != LogNotFound.REASON:
                    raise
                refusal = error
            else:
                return
        raise refusal or none_seen()

    async def _until_moved(
        self, asked: pb.TailLogsRequest, host: str, told: AsyncGenerator[pb.TailLogsResponse]
    ) -> AsyncGenerator[pb.TailLogsResponse]:
        """Yield what a member tells of a log.

        With `follow` the member itself never ends. Then this ends once the model has a process on
        another host, and the member has had no more lines for REST_S.
        """
        moving = [asyncio.create_task(self._fleet.moved(asked.model, host))] if asked.follow else []
        async with aclosing(told):
            try:
                while True:
                    step = asyncio.ensure_future(anext(told, None))
                    await asyncio.wait([step, *moving], return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.wait([step], timeout=REST_S)
                    answer = step.result() if step.done() else None
                    if answer is None:
                        return
                    yield answer
            finally:
                for task in (step, *moving):
                    task.cancel()
                await asyncio.gather(step, *moving, return_exceptions=True)

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
