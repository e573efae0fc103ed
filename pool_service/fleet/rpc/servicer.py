"""The API handlers of a front: each sends its call to the members that it is for."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from pool_service.access.principal import Principal
from pool_service.access.quotas import Quotas
from pool_service.admission import check_logs
from pool_service.audit import Audit
from pool_service.core.call_error_texts import watch_ended
from pool_service.core.errors import (
    PoolError,
    PoolUnreachable,
    ScopeMissing,
    StaleFleet,
)
from pool_service.event_records import Call
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.fleet.core.values import SeenServer
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.members.messages import as_sent
from pool_service.fleet.ports import MemberLost
from pool_service.fleet.rpc import merging
from pool_service.fleet.rpc.asking_all import (
    CATALOGUE_TIMEOUT_S,
    LOOK_TIMEOUT_S,
    Answers,
    ask_all,
    partly_done,
)
from pool_service.fleet.rpc.errors import is_of_connection, none_seen, reason_of, status_of
from pool_service.fleet.rpc.forwarding import Caller, Forwarding
from pool_service.fleet.rpc.last_runs import by_last_run
from pool_service.fleet.rpc.logs import MembersLogs
from pool_service.fleet.rpc.open_calls import OpenCalls
from pool_service.rpc import validation
from pool_service.rpc.answering import Context, failure_status, keep_refusal, streaming, unary
from pool_service.rpc.error_redaction import redacted_error
from pool_service.rpc.kept_calls import CHANGING, ENDED, GONE, LONGEST_NAME, USES
from pool_service.rpc.redaction import Redactions
from pool_service.v1 import pool_service_pb2 as pb

log = structlog.get_logger("pool_service.fleet")

Reload = Callable[[], Awaitable[tuple[str, ...]]]


class FleetServicer:
    """PoolService over all members of a fleet. The proto file has the promise of each call.

    The members check what callers may do, and leave out what they may not see: each call goes there
    with the caller's rights.
    """

    def __init__(
        self,
        fleet: Fleet[GrpcLink],
        forwarding: Forwarding,
        reload: Reload,
        audit: Audit,
        quotas: Quotas,
    ) -> None:
        """reload: reads the front's configuration again and applies it; raises ConfigInvalid.

        Returns the names of the keys that need a restart.
        """
        self._fleet = fleet
        self._forwarding = forwarding
        self._reload = reload
        self._audit = audit
        self._quotas = quotas
        self._open = OpenCalls()
        self._logs = MembersLogs(fleet, forwarding)
        self.redactions = Redactions()
        self.refused_at = -math.inf
        """The time of the event loop at which the last call was refused."""

    @property
    def is_ending(self) -> bool:
        """Whether calls in progress are cancelled soon, as the front ends."""
        return self._forwarding.is_ending

    @is_ending.setter
    def is_ending(self, value: bool) -> None:
        self._forwarding.is_ending = value

    def called(self, method: str, request: object, context: Context) -> Call:
        """Return a call as it is kept: its method, the model that it names, and its peer."""
        name = getattr(request, "model", "")
        principal = context.principal.name
        return Call(method, name[:LONGEST_NAME], context.peer(), principal=principal)

    def refuse(self, error: Exception, call: Call, principal: Principal) -> grpc.Status:
        """Return the status of a failed call: a member's as it is. Keep the call if it is a use."""
        self.refused_at = asyncio.get_running_loop().time()
        if isinstance(error, MemberLost):
            error = PoolUnreachable(
                "the member that answered this call is lost. Try again.",
                model=call.model,
                retry_after=RETRY_AFTER_S,
            )
        if isinstance(error, grpc.aio.AioRpcError):
            why = _why_of_front(error)
            if not why:
                return status_of(error)
            error = PoolUnreachable(why, model=call.model, retry_after=RETRY_AFTER_S)
        redacted = redacted_error(error, principal) if isinstance(error, PoolError) else error
        if call.method in USES or isinstance(error, ScopeMissing):
            keep_refusal(self._audit, call, error)
        return failure_status(redacted, call.method)

    def abandon(self, call: Call) -> None:
        """Keep a call that was cancelled before its answer, if it may change something."""
        if call.method in CHANGING:
            why = ENDED if self.is_ending else GONE
            self._audit.refused(call, grpc.StatusCode.CANCELLED.name, "", why)

    async def end_holds(self) -> None:
        """End calls in progress that may take long. Holds go on at the members for a grace."""
        self._fleet.end_watches()
        await self._open.end()

    # --- calls of one model ---------------------------------------------------------------

    @unary
    async def Ensure(self, request: pb.EnsureRequest, context: Context) -> pb.EnsureResponse:
        principal = context.principal
        waiting = self._quotas.open(principal, "waiting")
        with self._open.open():
            if not principal.models.is_everything:
                await self._known_link(request.model, context)
            return await self._forwarding.ensure(
                request, Caller(principal, context.time_remaining(), waiting)
            )

    @streaming
    async def Hold(
        self, request: pb.HoldRequest, context: Context
    ) -> AsyncGenerator[pb.HoldResponse]:
        held = self._forwarding.hold(request, _caller(context), context.fleet.hold)
        with self._quotas.open(context.principal, "holds"), self._open.open():
            await self._known_link(request.model, context)
            async with aclosing(held):
                async for answer in held:
                    yield answer

    @unary
    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        validation.model(request.model)
        link = await self._known_link(request.model, context)
        if link is None:
            await self._check_known(request.model, context)
            return pb.GetResponse()
        answer: pb.GetResponse = await self._asked(link, "Get", request, context)
        return answer

    @unary
    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        link = await self._known_link(request.model, context)
        links = [link] if link is not None else self._fleet.present
        answers = await self._ask_all(links, "Describe", request, context, context.time_remaining())
        described: dict[str, pb.DescribeResponse] = answers.any_or_raise()
        return described[by_last_run(described)[0]]

    @streaming
    async def Pull(
        self, request: pb.PullRequest, context: Context
    ) -> AsyncGenerator[pb.PullResponse]:
        name = validation.model(request.model)
        runtime_model = validation.runtime_model(request.runtime_model)
        call = self._forwarding.call_of(context.principal)
        with self._quotas.open(context.principal, "streams"), self._open.open():
            link = await self._known_link(name, context)
            if link is None:
                host = await self._fleet.best_host(name, runtime_model)
                link = self._fleet.link(host) or self._lister_of(name)
            pulled = link.stream("Pull", request, call, context.time_remaining())
            async with aclosing(pulled):
                async for answer in pulled:
                    yield answer

    @streaming
    async def TailLogs(
        self, request: pb.TailLogsRequest, context: Context
    ) -> AsyncGenerator[pb.TailLogsResponse]:
        check_logs(context.principal)
        validation.model(request.model)
        with self._quotas.open(context.principal, "streams"), self._open.open():
            await self._known_link(request.model, context)
            lines = self._logs.lines(request, context.principal, context.time_remaining())
            async with aclosing(lines):
                async for answer in lines:
                    yield answer

    # --- calls of several members ---------------------------------------------------------

    @unary
    async def Evict(self, request: pb.EvictRequest, context: Context) -> pb.EvictResponse:
        validation.check_target(request)
        links, unseen = self._fleet.present, dict[str, str]()
        if target := request.model:
            hosts = self._fleet.hosts_of(target)
            having = [link for link in links if link.host in hosts]
            if hosts and not having:
                await self._check_known(target, context)
                raise PoolUnreachable(
                    f"{target!r} is on {hosts[0]}, which is not seen now, so that nothing was "
                    "evicted. Try again.",
                    model=target,
                    retry_after=RETRY_AFTER_S,
                )
            seen = {link.host for link in links}
            unseen = {host: "it is not seen now" for host in hosts if host not in seen}
            links = having or links[:1]
        with self._open.open():
            await self._forwarding.let_holds_end()
            answers = await self._ask_all(
                links, "Evict", request, context, context.time_remaining()
            )
        if answers.refusals:
            raise next(iter(answers.refusals.values()))
        given, missing = answers.any_or_raise(), answers.missing | unseen
        if missing:
            raise partly_done(given, missing, request.model)
        evicted = [one for answer in given.values() for one in answer.evicted]
        return pb.EvictResponse(evicted=evicted)

    @unary
    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        _, size = validation.server_page(request)
        revision = self._fleet.history.revision
        asked = pb.ListRequest(page_size=size, page_token=request.page_token)
        answers = await self._ask_all(self._fleet.present, "List", asked, context, LOOK_TIMEOUT_S)
        if not answers.given:
            for error in answers.refusals.values():
                raise error
        pages = list(answers.given.values())
        shown, more = merging.servers(pages, size)
        return pb.ListResponse(
            servers=shown,
            next_page_token=validation.server_token(shown[-1]) if more and shown else "",
            revision=revision,
            totals=merging.totals(page.totals for page in pages),
            notices=self._notices(answers),
        )

    @unary
    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        _, size = validation.page(request)
        asked = pb.ListModelsRequest(
            page_size=size, page_token=request.page_token, found=request.found
        )
        answers = await self._ask_all(
            self._fleet.present, "ListModels", asked, context, CATALOGUE_TIMEOUT_S
        )
        shown, more = merging.models(list(answers.any_or_raise().values()), size)
        return pb.ListModelsResponse(
            models=shown,
            next_page_token=validation.page_token(shown[-1].model) if more and shown else "",
        )

    @streaming
    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncGenerator[pb.WatchResponse]:
        history, principal = self._fleet.history, context.principal
        after = validation.after_revision(request)
        with self._quotas.open(principal, "streams"):
            if after is None:
                after = history.revision
                for seen in sorted(self._fleet.servers(), key=_place):
                    if self._allows(principal, seen.model):
                        yield pb.WatchResponse(revision=after, server=as_sent(seen))
                yield pb.WatchResponse(revision=after, synced=pb.Synced())
            async for change in history.follow(after):
                if self._allows(principal, change.server.model):
                    message = as_sent(change.server)
                    event = pb.WatchResponse(revision=change.revision)
                    (event.removed if change.removed else event.server).CopyFrom(message)
                    yield event
        raise watch_ended()

    @unary
    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        answers = await self._ask_all(
            self._fleet.present, "Pin", request, context, context.time_remaining()
        )
        return merging.pinned(answers.all_or_raise(request.model))

    @unary
    async def Forget(self, request: pb.ForgetRequest, context: Context) -> pb.ForgetResponse:
        answers = await self._ask_all(
            self._fleet.present, "Forget", request, context, context.time_remaining()
        )
        forgotten = [one.runtime_model for one in answers.all_or_raise(request.model).values()]
        return pb.ForgetResponse(runtime_model=next(filter(None, forgotten), ""))

    @unary
    async def Reload(self, request: pb.ReloadRequest, context: Context) -> pb.ReloadResponse:
        restart_needed = await self._reload()
        self._audit.changed(self.called("Reload", request, context), "read the configuration again")
        return pb.ReloadResponse(restart_needed=restart_needed)

    # --- parts ----------------------------------------------------------------------------

    async def _asked(self, link: GrpcLink, method: str, request: object, context: Context) -> Any:  # noqa: ANN401 - of any method
        call = self._forwarding.call_of(context.principal)
        answers = await ask_all([link], method, request, call, context.time_remaining())
        if answers.refusals:
            raise answers.refusals[link.host]
        return answers.any_or_raise()[link.host]

    async def _ask_all(
        self,
        links: list[GrpcLink],
        method: str,
        request: object,
        context: Context,
        time_limit: float | None,
    ) -> Answers:
        call = self._forwarding.call_of(context.principal)
        return await ask_all(links, method, request, call, time_limit)

    async def _check_known(self, name: str, context: Context) -> None:
        """Raise a member's refusal if the caller may not know of a model.

        Else the front's own answer would tell it whether the model has a server.
        """
        if not context.principal.models.is_everything:
            await self._asked(self._lister_of(name), "Get", pb.GetRequest(model=name), context)

    async def _known_link(self, name: str, context: Context) -> GrpcLink | None:
        """Return what `_link_of` does. If that member is not seen, another one checks the caller.

        Raises as `_check_known`.
        """
        link = self._link_of(name)
        if link is not None and link not in self._fleet.present:
            await self._check_known(name, context)
        return link

    def _link_of(self, name: str) -> GrpcLink | None:
        """Return the link to the member that has a server of a model; None if none has."""
        hosts = self._fleet.hosts_of(name)
        return self._fleet.link(hosts[0]) if hosts else None

    def _lister_of(self, name: str) -> GrpcLink:
        """Return the link to a member that lists a model, else to any. Raises PoolUnreachable."""
        present = self._fleet.present
        if not present:
            raise none_seen()
        listing = self._fleet.listing(name)
        return next((link for link in present if link.host in listing), present[0])

    def _notices(self, answers: Answers) -> list[str]:
        """Return what works less well than it should, as the front and its members say."""
        notices = self._fleet.notices()
        refused = {host: error.details() or "" for host, error in answers.refusals.items()}
        for host, why in (answers.missing | refused).items():
            notices.append(f"{host}: not listed here: {why.rstrip('.')}.")
        for host, page in answers.given.items():
            notices += [f"{host}: {notice}" for notice in page.notices]
        return notices

    def _allows(self, principal: Principal, model: str) -> bool:
        patterns = principal.models
        return patterns.is_everything or patterns.allows((model, *self._fleet.aliases_of(model)))


def _why_of_front(error: grpc.aio.AioRpcError) -> str:
    """Return why a call has failed between the front and a member; empty if the member refuses it.

    Such an error says nothing to a caller, or that it cannot reach the front itself.
    """
    reason = reason_of(error)
    if reason == StaleFleet.REASON:
        return "another front leads the fleet than this front has heard of. Try again."
    if not reason and is_of_connection(error, reason):
        told = error.details() or error.code().name
        return f"the member that has the model cannot be called ({told}). Try again."
    return ""


def _caller(context: Context) -> Caller:
    return Caller(context.principal, context.time_remaining())


def _place(server: SeenServer) -> tuple[str, int, str]:
    return server.model, server.generation, server.host
