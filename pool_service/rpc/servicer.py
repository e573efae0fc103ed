"""The API handlers: each parses its request, calls the pool and writes the response."""

import asyncio
import functools
import math
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar, cast

import grpc
import structlog

from pool_service.audit import Audit
from pool_service.core.error_texts import watch_ended
from pool_service.core.errors import PoolError
from pool_service.core.results import Reloaded
from pool_service.event_records import Call
from pool_service.pool import Pool
from pool_service.rpc import validation
from pool_service.rpc.description_wire import DescriptionWire
from pool_service.rpc.status import internal_status, status_of
from pool_service.rpc.wire import Wire, model, reloaded, totals
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

PAGE_BYTES = 1024 * 1024
"""The size at which a page of servers or models is full; clients accept 4 MiB by default."""

CHANGING = frozenset({"Ensure", "Evict", "Forget", "Pin", "Pull", "Reload"})
"""The calls that may have changed something when their callers go away before the end. A Hold tells
its end by itself."""

USES = CHANGING | {"Hold"}
"""The calls that are no mere looks. Views repeat their looks by themselves, so that refusals of
them would fill the events."""

GONE = "the caller went away before the answer; what it asked for may go on"
ENDED = "the service ended before the answer"

LONGEST_NAME = 512
"""Characters of a model's name in an event; a valid name is not longer."""

log = structlog.get_logger("pool_service.rpc")

Request = TypeVar("Request")
Response = TypeVar("Response")
OnAPage = TypeVar("OnAPage", pb.Server, pb.Model)
Context = grpc.aio.ServicerContext[Any, Any]


def failure_status(error: Exception, method: str) -> grpc.Status:
    """Return an error's status: in full for the pool's errors; others are INTERNAL and logged."""
    if isinstance(error, PoolError) and type(error) is not PoolError:
        return status_of(error)
    request_id = secrets.token_hex(8)
    log.error("internal error in a call", method=method, request_id=request_id, exc_info=error)
    return internal_status(request_id)


def keep_refusal(audit: Audit, call: Call, error: Exception) -> grpc.Status:
    """Keep a call that failed; return the status of the failure."""
    status = failure_status(error, call.method)
    reason = error.reason if isinstance(error, PoolError) else PoolError.REASON
    audit.refused(call, status.code.name, reason, status.details)
    return status


def unary(
    method: Callable[[Any, Request, Context], Awaitable[Response]],
) -> Callable[[Any, Request, Context], Awaitable[Response]]:
    """Decorate a handler with one response, so that its errors become statuses with details."""

    @functools.wraps(method)
    async def answered(self: Any, request: Request, context: Context) -> Response:  # noqa: ANN401
        try:
            return await method(self, request, context)
        except asyncio.CancelledError:
            self.abandon(self.called(method.__name__, request, context))
            raise
        except Exception as error:  # noqa: BLE001  # raw texts must not reach the caller
            status = self.refuse(error, self.called(method.__name__, request, context))
        return await _abort(context, status)

    return answered


async def _abort(context: Context, status: grpc.Status) -> NoReturn:
    """End the call with this status, or silently if the client is gone."""
    try:
        await context.abort_with_status(status)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


async def _write(context: Context, response: object) -> None:
    """Send one response of a stream; end the call silently if the client is gone.

    The deadline may have passed, or the connection be lost, before gRPC cancels the call.
    """
    try:
        await context.write(response)
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


def streaming(
    method: Callable[[Any, Request, Context], AsyncGenerator[Response]],
) -> Callable[[Any, Request, Context], AsyncIterator[Response]]:
    """Decorate a handler with a stream of responses as `unary` does.

    The decorator writes the responses itself, so that the generator is closed as soon as the
    client is gone.
    """

    @functools.wraps(method)
    async def answered(
        self: Any,  # noqa: ANN401
        request: Request,
        context: Context,
    ) -> None:
        try:
            async with aclosing(method(self, request, context)) as responses:
                async for response in responses:
                    await _write(context, response)
        except asyncio.CancelledError:
            self.abandon(self.called(method.__name__, request, context))
            raise
        except Exception as error:  # noqa: BLE001  # raw texts must not reach the caller
            status = self.refuse(error, self.called(method.__name__, request, context))
        else:
            return
        await _abort(context, status)

    # grpc.aio accepts a coroutine that writes as well, which its types lack.
    return cast("Callable[[Any, Request, Context], AsyncIterator[Response]]", answered)


def _fitting(messages: Iterable[OnAPage]) -> Iterator[OnAPage]:
    """Yield the first messages, up to the one that fills a page."""
    left = PAGE_BYTES
    for message in messages:
        yield message
        left -= message.ByteSize()
        if left <= 0:
            return


class PoolServicer(pb_grpc.PoolServiceServicer):
    """PoolService over one pool. The proto file has the promise of each call."""

    def __init__(
        self, pool: Pool, wire: Wire, reload: Callable[[], Awaitable[Reloaded]], audit: Audit
    ) -> None:
        """reload: reads the configuration again and applies it; raises ConfigInvalid."""
        self._audit = audit
        self._pool = pool
        self._wire = wire
        self._description_wire = DescriptionWire(wire)
        self._reload = reload
        self.refused_at = -math.inf
        """The time of the event loop at which the last call was refused."""
        self.is_ending = False
        """Whether calls in progress are cancelled soon, as the service ends."""

    def called(self, method: str, request: object, context: Context) -> Call:
        """Return a call as it is kept: its method, the model or target it names, and its peer."""
        name = getattr(request, "model", "")
        model = self._pool.models.resolve(name)
        target = ""
        if isinstance(request, pb.EvictRequest) and not name:
            target = request.WhichOneof("target") or ""
        return Call(
            method,
            model[:LONGEST_NAME],
            context.peer(),
            alias=name[:LONGEST_NAME] if name != model else "",
            target=target,
        )

    def refuse(self, error: Exception, call: Call) -> grpc.Status:
        """Return the status of a failed call; note the time, and keep the call if it is a use."""
        self.refused_at = asyncio.get_running_loop().time()
        if call.method in USES:
            return keep_refusal(self._audit, call, error)
        return failure_status(error, call.method)

    def abandon(self, call: Call) -> None:
        """Keep a call that was cancelled before its answer, if it may change something."""
        if call.method in CHANGING:
            why = ENDED if self.is_ending else GONE
            self._audit.refused(call, grpc.StatusCode.CANCELLED.name, "", why)

    @unary
    async def Ensure(self, request: pb.EnsureRequest, context: Context) -> pb.EnsureResponse:
        if not request.runtime_model and not request.HasField("keep_alive"):
            # The frequent case, as from an inference gateway: no check of the name and no event.
            server = self._pool.at_once(request.model)
            if server is not None:
                return self._wire.unchanged(server)
        name = validation.model(request.model)
        runtime_model = validation.runtime_model(request.runtime_model)
        ensured = await self._pool.ensure(
            name,
            runtime_model,
            validation.keep_alive(request),
            download=validation.download(request),
        )
        if ensured.started:
            self._audit.changed(
                self.called("Ensure", request, context),
                f"started generation {ensured.server.generation}",
            )
        return self._wire.ensured(ensured)

    @unary
    async def Evict(self, request: pb.EvictRequest, context: Context) -> pb.EvictResponse:
        removed = await self._pool.evict(validation.target(request), force=request.force)
        call = self.called("Evict", request, context)
        self._audit.evicted(call, [one.server for one in removed], is_forced=request.force)
        return pb.EvictResponse(evicted=[self._wire.removed(each) for each in removed])

    @unary
    async def List(self, request: pb.ListRequest, _context: Context) -> pb.ListResponse:
        after, size = validation.server_page(request)
        servers = self._pool.page(after, size + 1)
        shown = list(_fitting(map(self._wire.server, servers[:size])))
        more = len(shown) < len(servers)
        return pb.ListResponse(
            servers=shown,
            next_page_token=validation.server_token(shown[-1]) if more else "",
            revision=self._pool.history.revision,
            totals=totals(self._pool.totals()),
            notices=[self._pool.degraded_reason] if self._pool.degraded_reason else [],
        )

    @streaming
    async def Watch(
        self, request: pb.WatchRequest, _context: Context
    ) -> AsyncGenerator[pb.WatchResponse]:
        history = self._pool.history
        after = validation.after_revision(request)
        if after is None:
            after = history.revision
            for server in self._pool.page(None, self._pool.totals().servers):
                yield pb.WatchResponse(revision=after, server=self._wire.server(server))
            yield pb.WatchResponse(revision=after, synced=pb.Synced())
        async for change in history.follow(after):
            yield self._wire.change(change)
        raise watch_ended()

    @streaming
    async def Hold(
        self, request: pb.HoldRequest, context: Context
    ) -> AsyncGenerator[pb.HoldResponse]:
        held = self._pool.hold(
            validation.model(request.model),
            validation.runtime_model(request.runtime_model),
            validation.keep_alive(request),
            download=validation.download(request),
            holder=validation.holder(request.holder),
        )
        call, is_holding = self.called("Hold", request, context), False
        try:
            async with aclosing(held):
                async for server in held:
                    if not is_holding:
                        is_holding = True
                        self._audit.held(call, "the hold begins", request.holder)
                    yield pb.HoldResponse(server=self._wire.server(server))
        finally:
            # By the pool, by the client, or by a lost connection: gRPC does not say which of these.
            log.info("hold ended", model=request.model, holder=request.holder)
            if is_holding:
                self._audit.held(call, "the hold has ended", request.holder)

    @streaming
    async def TailLogs(
        self, request: pb.TailLogsRequest, _context: Context
    ) -> AsyncGenerator[pb.TailLogsResponse]:
        query = validation.log_query(request)
        async with aclosing(self._pool.logs.read(validation.model(request.model), query)) as parts:
            async for part in parts:
                yield self._wire.log(part)

    @unary
    async def ListModels(
        self, request: pb.ListModelsRequest, _context: Context
    ) -> pb.ListModelsResponse:
        after, size = validation.page(request)
        entries = await self._pool.models.page(after, size + 1, found=request.found)
        shown = list(_fitting(map(model, entries[:size])))
        more = len(shown) < len(entries)
        return pb.ListModelsResponse(
            models=shown,
            next_page_token=validation.page_token(shown[-1].model) if more else "",
        )

    @streaming
    async def Pull(
        self, request: pb.PullRequest, context: Context
    ) -> AsyncGenerator[pb.PullResponse]:
        pulled = self._pool.models.pull(
            validation.model(request.model), validation.runtime_model(request.runtime_model)
        )
        reached: list[int] = []
        async with aclosing(pulled):
            async for done, total in pulled:
                reached = [*reached[:1], done]
                yield pb.PullResponse(done_bytes=done, total_bytes=total)
        downloaded = reached[-1] - reached[0] if reached else 0
        self._audit.pulled(self.called("Pull", request, context), downloaded)

    @unary
    async def Forget(self, request: pb.ForgetRequest, context: Context) -> pb.ForgetResponse:
        forgotten = await self._pool.forget(validation.model(request.model))
        if forgotten:
            self._audit.changed(self.called("Forget", request, context), f"forgot {forgotten}")
        return pb.ForgetResponse(runtime_model=forgotten)

    @unary
    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        pinned = validation.pinned(request)
        now = await self._pool.pin(validation.model(request.model), pinned=pinned)
        if now.changed or now.noted:
            self._audit.changed(self.called("Pin", request, context), now.in_words)
        return pb.PinResponse(pinned=now.pinned, changed=now.changed, configured=now.configured)

    @unary
    async def Reload(self, request: pb.ReloadRequest, context: Context) -> pb.ReloadResponse:
        result = await self._reload()
        self._audit.reloaded(self.called("Reload", request, context), result)
        return reloaded(result)

    @unary
    async def Describe(self, request: pb.DescribeRequest, _context: Context) -> pb.DescribeResponse:
        described = await self._pool.descriptions.of(validation.model(request.model))
        return self._description_wire.response(described)
