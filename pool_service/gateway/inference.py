"""Requests for a model: what each comes to."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from pool_service.gateway.callers import Callers, is_direct
from pool_service.gateway.counts import Counts
from pool_service.gateway.forwarder import CallerGone
from pool_service.gateway.headers import for_the_server
from pool_service.gateway.known_tokens import KnownTokens
from pool_service.gateway.model_request import BodyFlaw, ModelRequest, parse_request
from pool_service.gateway.outcome import Outcome
from pool_service.gateway.pools import Pools
from pool_service.gateway.refusals import Refusal, bad_request, internal_error, refusal_of
from pool_service.gateway.relay import CallerResponse, Late, broken_off, late
from pool_service.gateway.request_traces import RequestTraces
from pool_service.gateway.server_connection import ServerGone
from pool_service.gateway.servers import ServerAnswer, Servers, ServerUnreachable
from pool_service.gateway.settings import MAX_BODY_BYTES, Mode, Settings
from pool_service.gateway.shared_hold import SharedHold
from pool_service.gateway.turns import Key, Turns
from pool_service_client import PoolError, Server

EMBEDDINGS = "/v1/embeddings"
"""The path whose requests are for the embedding model of a server that has one."""

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    EMBEDDINGS,
    "/v1/rerank",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
)
"""The paths of vllm-mlx (0.6) that name a model in their body, and that other runtimes have too."""

BODY_TIMEOUT_S = 300.0
"""How long the body of a request may take to arrive."""

MAX_READING_BYTES = 8 * MAX_BODY_BYTES
"""The most bytes of bodies that have arrived in part; what is more is to come later."""

MAX_STRANGERS_BODY_BYTES = 2**20
"""The most of a request that is read before the service has been asked for the caller's token."""

_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    f"the request is larger than {MAX_BODY_BYTES // 2**20} MiB",
    "request_too_large",
)
_BUSY = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "the gateway is reading as many large requests as it may. Ask again later.",
    "busy",
    retry_after_s=2.0,
)

log = structlog.get_logger("pool_service.gateway")


@dataclass(frozen=True, slots=True)
class _Work:
    """A request for a model, and what has come of it.

    token: the caller's, or empty. wanted: what it asks for. holds: released at the end.
    """

    request: web.Request
    token: str
    wanted: ModelRequest
    response: CallerResponse
    outcome: Outcome
    holds: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def key(self) -> Key:
        """Return the key of the shared hold: the caller's token and the model as asked for."""
        return self.token, self.wanted.model


class Inference:
    """Answers requests for models."""

    def __init__(
        self,
        settings: Settings,
        callers: Callers,
        pools: Pools,
        counts: Counts,
        tokens: KnownTokens,
        traces: RequestTraces,
    ) -> None:
        """Create the handlers; needs the running event loop, as it keeps connections."""
        self._settings = settings
        self._callers = callers
        self._pools = pools
        self._counts = counts
        self._tokens = tokens
        self._traces = traces
        self._turns = Turns()
        self._servers = Servers()
        self._reading_bytes = 0

    async def close(self) -> None:
        """Let all models go, and close the connections to servers."""
        await self._turns.close()
        self._servers.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a model. Raises Refusal if it is none."""
        outcome = Outcome()
        with self._counts.in_flight(outcome), self._traces.request(request, outcome):
            try:
                token = await self._callers.token_of(request)
                wanted = _parsed(request, await self._body(request, token))
                outcome.requested_model = wanted.model
                response = CallerResponse(request, wanted, self._settings.wait_s)
                work = _Work(request, token, wanted, response, outcome)
                try:
                    async with work.holds:
                        return await self._answer(work)
                finally:
                    outcome.note(response)
            except Refusal as refusal:
                outcome.status = refusal.status
                raise
            except Exception:
                outcome.status = HTTPStatus.INTERNAL_SERVER_ERROR
                raise
            finally:
                self._report(request.path, outcome)

    async def _body(self, request: web.Request, token: str) -> bytes:
        """Return the body of a request; a large one only of a caller that the service knows.

        Raises Refusal.
        """
        body, is_known = bytearray(), False
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._reading_bytes += len(chunk)
                    if len(body) > MAX_BODY_BYTES:
                        raise replace(_TOO_LARGE)
                    if self._reading_bytes > MAX_READING_BYTES:
                        raise replace(_BUSY)
                    if len(body) > MAX_STRANGERS_BODY_BYTES and not is_known:
                        await self._tokens.verify_once(token)
                        is_known = True
        except TimeoutError:
            message = f"the request did not arrive within {BODY_TIMEOUT_S:g} s"
            status = HTTPStatus.REQUEST_TIMEOUT
            raise Refusal(status, message, "request_timeout", retry_after_s=1.0) from None
        except PoolError as error:
            raise refusal_of(error) from error
        except web.RequestPayloadError as error:
            raise bad_request(f"the body cannot be read: {error}") from None
        finally:
            self._reading_bytes -= len(body)
        return bytes(body)

    def _report(self, path: str, outcome: Outcome) -> None:
        """Count a request, and log it: without its query and body, which have prompts and keys."""
        first_byte_s = outcome.first_byte_s
        self._counts.end(path, outcome)
        log.info(
            "request",
            path=path,
            model=outcome.requested_model,
            status=int(outcome.status),
            seconds=round(outcome.seconds, 3),
            first_byte_s=round(first_byte_s, 3) if first_byte_s is not None else None,
            bytes=outcome.sent_bytes,
            tokens=outcome.tokens,
        )

    async def _answer(self, work: _Work) -> web.StreamResponse:
        """Answer a request, be it by an error."""
        try:
            return await self._relay_or_redirect(work)
        except (Refusal, PoolError, Late, ServerGone) as error:
            why = _refusal_for(error)
        except CallerGone:
            # As if aiohttp had noticed it first.
            raise asyncio.CancelledError from None
        except Exception:
            log.exception("internal error in a request", path=work.request.path)
            why = internal_error()
        work.outcome.status = why.status
        return await work.response.refuse(why)

    async def _relay_or_redirect(self, work: _Work) -> web.StreamResponse:
        """Relay the answer of the model's server, or return a redirect to it."""
        hold = self._held_at_once(work)
        server = hold.ready_at_once() if hold is not None else None
        if hold is None or server is None:
            with self._traces.waiting():
                hold = hold or await self._held(work)
                server = await work.response.until(hold.ready(), partial(_newest, hold))
        work.outcome.model = server.model
        if self._may_go_there(work, server):
            return _redirect(work, server)
        with await self._sent(work, hold, server) as upstream:
            response = await work.response.relay(upstream)
            work.outcome.status = upstream.status
            return response

    def _held_at_once(self, work: _Work) -> SharedHold | None:
        """Return the shared hold of the model if it is the model's turn, else None."""
        at_once = self._turns.at_once(work.key)
        return work.holds.enter_context(at_once) if at_once is not None else None

    async def _held(self, work: _Work) -> SharedHold:
        """Return the shared hold of the model, once it is the model's turn."""
        turn = self._turns.hold(work.key, partial(self._pools.of, work.token))
        return await work.response.until(work.holds.enter_async_context(turn), lambda: None)

    async def _sent(self, work: _Work, hold: SharedHold, server: Server) -> ServerAnswer:
        """Send a request to the server, or to the next one if that has just ended."""
        try:
            return await self._send(work, server)
        except ServerUnreachable as error:
            if not error.has_ended:
                raise
            with self._traces.waiting():
                next_ready = hold.ready(after=server)
                server = await work.response.until(next_ready, partial(_newest, hold))
            return await self._send(work, server)

    async def _send(self, work: _Work, server: Server) -> ServerAnswer:
        headers = for_the_server(work.request.headers, server.api_key)
        self._traces.hand_on(headers)
        return await self._servers.send(
            work.request.method,
            f"{server.endpoint}{work.request.rel_url.raw_path_qs}",
            headers,
            work.wanted.with_model(_name_for(work.request, server)),
        )

    def _may_go_there(self, work: _Work, server: Server) -> bool:
        """Return whether a caller is sent to the server: it reaches that with what it has."""
        return (
            self._settings.mode is Mode.REDIRECT
            and self._settings.tls is None
            and not work.response.has_begun
            and not server.api_key
            and work.wanted.model == _name_for(work.request, server)
            and is_direct(work.request)
            # A server answers no page of another origin.
            and hdrs.ORIGIN not in work.request.headers
        )


def _name_for(request: web.Request, server: Server) -> str:
    """Return the name by which a server knows the model that a request is for."""
    if request.path == EMBEDDINGS and server.embedding_model_name:
        return server.embedding_model_name
    return server.served_model_name


def _redirect(work: _Work, server: Server) -> web.Response:
    """Return the answer that sends a caller to the model's server."""
    work.outcome.status = HTTPStatus.TEMPORARY_REDIRECT
    location = f"{server.endpoint}{work.request.rel_url.raw_path_qs}"
    return web.Response(status=work.outcome.status, headers={hdrs.LOCATION: location})


def _parsed(request: web.Request, body: bytes) -> ModelRequest:
    """Return what a request asks for. Raises Refusal."""
    try:
        return parse_request(request.headers.get(hdrs.CONTENT_TYPE, ""), body)
    except BodyFlaw as flaw:
        raise bad_request(str(flaw), flaw.param) from None


def _newest(hold: SharedHold) -> Server | None:
    return hold.newest


def _refusal_for(error: Refusal | PoolError | Late | ServerGone) -> Refusal:
    """Return the refusal of a request that has failed."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, PoolError):
        return refusal_of(error)
    return late(error) if isinstance(error, Late) else broken_off()
