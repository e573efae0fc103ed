"""The API handlers: each parses its request, calls the pool and writes the response."""

import asyncio
import functools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING

import grpc
import structlog

from pool_service.access.fleet import FleetSettings
from pool_service.access.principal import Principal, Scope
from pool_service.access.quotas import Quotas, Start
from pool_service.admission import check_logs, check_scope
from pool_service.audit import Audit
from pool_service.core.call_error_texts import watch_ended
from pool_service.core.errors import PoolError, ScopeMissing
from pool_service.core.results import Every, Reloaded
from pool_service.core.server import ServerId
from pool_service.event_records import Call
from pool_service.rpc import validation
from pool_service.rpc.answering import Context, failure_status, keep_refusal, streaming, unary
from pool_service.rpc.description_wire import DescriptionWire
from pool_service.rpc.error_redaction import redacted_error
from pool_service.rpc.fleet_calls import check_by_fleet
from pool_service.rpc.fleet_holds import FleetHolds
from pool_service.rpc.kept_calls import CHANGING, ENDED, GONE, LONGEST_NAME, USES
from pool_service.rpc.log_validation import log_query
from pool_service.rpc.pages import fitting
from pool_service.rpc.redaction import Redactions
from pool_service.rpc.visibility import Visibility
from pool_service.rpc.wire import Wire, model, reloaded, totals
from pool_service.v1 import pool_service_pb2 as pb

if TYPE_CHECKING:
    from pool_service.pool import Pool

log = structlog.get_logger("pool_service.rpc")


class PoolServicer:
    """PoolService over one pool. The proto file has the promise of each call."""

    def __init__(
        self,
        pool: "Pool",
        wire: Wire,
        reload: Callable[[], Awaitable[Reloaded]],
        audit: Audit,
        quotas: Quotas,
        fleet: FleetSettings | None = None,
    ) -> None:
        """Create the servicer.

        reload: reads the configuration again and applies it; raises ConfigInvalid. fleet: None: the
        service is no member of a fleet.
        """
        settings = fleet or FleetSettings()
        self._only_fleet = settings.only_fleet
        self.fleet_holds = FleetHolds(settings.hold_grace_s)
        self._audit = audit
        self._pool = pool
        self._quotas = quotas
        self._visibility = Visibility(pool)
        self._wire = wire
        self._description_wire = DescriptionWire(wire)
        self._reload = reload
        self.redactions = Redactions()
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
            principal=context.principal.name,
            alias=name[:LONGEST_NAME] if name != model else "",
            target=target,
        )

    def refuse(self, error: Exception, call: Call, principal: Principal) -> grpc.Status:
        """Return the status of a failed call; note the time, and keep the call if it is a use.

        A call that the caller may not make is kept, too. The event has the error in full; the
        status has what the caller may know.
        """
        self.refused_at = asyncio.get_running_loop().time()
        redacted = redacted_error(error, principal) if isinstance(error, PoolError) else error
        if call.method in USES or isinstance(error, ScopeMissing):
            status = keep_refusal(self._audit, call, error)
            return status if redacted is error else failure_status(redacted, call.method)
        return failure_status(redacted, call.method)

    def abandon(self, call: Call) -> None:
        """Keep a call that was cancelled before its answer, if it may change something."""
        if call.method in CHANGING:
            why = ENDED if self.is_ending else GONE
            self._audit.refused(call, grpc.StatusCode.CANCELLED.name, "", why)

    async def end_holds(self) -> None:
        """End the holds of fronts that go on without a call, as the service ends."""
        await self.fleet_holds.close()

    @unary
    async def Ensure(self, request: pb.EnsureRequest, context: Context) -> pb.EnsureResponse:
        if self._only_fleet:
            check_by_fleet(context.fleet)
        principal, name, runtime_model = context.principal, request.model, request.runtime_model
        if not principal.sees_all:
            self._visibility.check_use(principal, validation.model(name), runtime_model)
        if not runtime_model and not request.HasField("keep_alive"):
            # The frequent case, as from an inference gateway: no check of the name and no event.
            server = self._pool.at_once(name)
            if server is not None:
                return self._wire.unchanged(server)
        name, runtime_model = validation.model(name), validation.runtime_model(runtime_model)
        with self._quotas.open(principal, "waiting"), self._start(principal, name) as start:
            ensured = await self._pool.ensure(
                name,
                runtime_model,
                validation.keep_alive(request),
                download=validation.download(request),
                account=principal.account,
                least_generation=context.fleet.least_generation,
            )
            start.counts = ensured.started
        if ensured.started:
            self._audit.changed(
                self.called("Ensure", request, context),
                f"started generation {ensured.server.generation}",
            )
        return self._wire.ensured(ensured)

    def _start(self, principal: Principal, name: str) -> AbstractContextManager[Start]:
        """Count a start for a caller, unless the model has a server that does not end."""
        if self._pool.models.is_served(name):
            return nullcontext(Start())
        return self._quotas.start(principal)

    @unary
    async def Evict(self, request: pb.EvictRequest, context: Context) -> pb.EvictResponse:
        validation.check_target(request)
        if request.force or not request.model:
            what = "Evict with force" if request.force else "Evict of several models"
            check_scope(context.principal, Scope.ADMIN, what)
        if request.model:
            self._visibility.check_evict(context.principal, request.model)
        removed = await self._pool.evict(_target(request), force=request.force)
        call = self.called("Evict", request, context)
        self._audit.evicted(call, [one.server for one in removed], is_forced=request.force)
        return pb.EvictResponse(evicted=[self._wire.removed(each) for each in removed])

    @unary
    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        begin, size = validation.server_page(request)
        after = ServerId(*begin) if begin is not None else None
        servers = self._visibility.servers(context.principal, after, size + 1)
        shown = list(fitting(map(self._wire.server, servers[:size])))
        more = len(shown) < len(servers)
        return pb.ListResponse(
            servers=shown,
            next_page_token=validation.server_token(shown[-1]) if more else "",
            revision=self._pool.history.revision,
            totals=totals(self._pool.totals()),
            notices=self._pool.notices(),
        )

    @unary
    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        name = validation.model(request.model)
        self._visibility.check(context.principal, name)
        found = await self._pool.lookup.get(name, check=request.check)
        server = None if found.server is None else self._wire.server(found.server)
        return pb.GetResponse(server=server, answers=found.answers)

    @streaming
    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncGenerator[pb.WatchResponse]:
        history, principal = self._pool.history, context.principal
        after = validation.after_revision(request)
        with self._quotas.open(principal, "streams"):
            if after is None:
                after = history.revision
                count = self._pool.totals().servers
                for server in self._visibility.servers(principal, None, count):
                    yield pb.WatchResponse(revision=after, server=self._wire.server(server))
                yield pb.WatchResponse(revision=after, synced=pb.Synced())
            async for change in history.follow(after):
                if self._visibility.allows(principal, change.server.model):
                    yield self._wire.change(change)
        raise watch_ended()

    @streaming
    async def Hold(
        self, request: pb.HoldRequest, context: Context
    ) -> AsyncGenerator[pb.HoldResponse]:
        if self._only_fleet:
            check_by_fleet(context.fleet)
        principal = context.principal
        name = validation.model(request.model)
        self._visibility.check_use(principal, name, request.runtime_model)
        held = self._pool.hold(
            name,
            validation.runtime_model(request.runtime_model),
            validation.keep_alive(request),
            download=validation.download(request),
            holder=validation.holder(request.holder),
            account=principal.account,
            least_generation=context.fleet.least_generation,
        )
        call, is_holding = self.called("Hold", request, context), False
        if context.fleet.hold:
            # Its end is told by the hold itself, which can outlive this call.
            tell = functools.partial(self._tell_hold, call, request)
            held = self.fleet_holds.follow(context.fleet.hold, held, tell)
        with self._quotas.open(principal, "holds"), self._start(principal, name):
            try:
                async with aclosing(held):
                    async for server in held:
                        if not is_holding:
                            is_holding = True
                            self._audit.held(call, "the hold begins", request.holder)
                        yield self._wire.held(server)
            finally:
                if not context.fleet.hold:
                    # By the pool, the client, or a lost connection: gRPC does not say which.
                    self._tell_hold(call, request, "the hold has ended", is_kept=is_holding)

    def _tell_hold(
        self, call: Call, request: pb.HoldRequest, what: str, *, is_kept: bool = True
    ) -> None:
        """Log what became of a hold, and keep it if it has begun."""
        log.info(what, model=request.model, holder=request.holder)
        if is_kept:
            self._audit.held(call, what, request.holder)

    @streaming
    async def TailLogs(
        self, request: pb.TailLogsRequest, context: Context
    ) -> AsyncGenerator[pb.TailLogsResponse]:
        check_logs(context.principal)
        query, model = log_query(request), validation.model(request.model)
        self._visibility.check(context.principal, model)
        with self._quotas.open(context.principal, "streams"):
            async with aclosing(self._pool.logs.read(model, query)) as parts:
                async for part in parts:
                    yield self._wire.log(part)

    @unary
    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        after, size = validation.page(request)
        entries = await self._visibility.models(
            context.principal, after, size + 1, found=request.found
        )
        shown = list(fitting(map(model, entries[:size])))
        more = len(shown) < len(entries)
        return pb.ListModelsResponse(
            models=shown,
            next_page_token=validation.page_token(shown[-1].model) if more else "",
        )

    @streaming
    async def Pull(
        self, request: pb.PullRequest, context: Context
    ) -> AsyncGenerator[pb.PullResponse]:
        name = validation.model(request.model)
        self._visibility.check_use(context.principal, name, request.runtime_model)
        pulled = self._pool.models.pull(name, validation.runtime_model(request.runtime_model))
        reached: list[int] = []
        with self._quotas.open(context.principal, "streams"):
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
    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        name = validation.model(request.model)
        self._visibility.check_described(context.principal, name)
        described = await self._pool.descriptions.of(name)
        return self._description_wire.response(described)


def _target(request: pb.EvictRequest) -> str | Every:
    """Return the servers to evict, of a request that was checked."""
    return request.model or Every(request.WhichOneof("target"))
