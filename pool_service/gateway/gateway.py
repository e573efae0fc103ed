"""The HTTP server of the gateway."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web
from opentelemetry.trace import TracerProvider

from pool_service.gateway.callers import Callers
from pool_service.gateway.counts import Counts
from pool_service.gateway.inference import PATHS, Inference
from pool_service.gateway.known_tokens import KnownTokens
from pool_service.gateway.pools import Pools, Service
from pool_service.gateway.queries import Queries
from pool_service.gateway.refusals import Refusal, internal_error, refusal_of
from pool_service.gateway.relay import refused
from pool_service.gateway.request_traces import RequestTraces
from pool_service.gateway.settings import Settings
from pool_service_client import PoolError

BACKLOG = 1024
"""Connections that may wait to be accepted. Linux drops more, and their callers try again after a
second: of 512 connections at once by aiohttp's default, 128."""

ACCEPTED_AT_ONCE = 1
"""Connections accepted in one step of the event loop: of many that come together, the first ones
are answered while others still wait. If all were accepted first, all would be answered last."""

STOP_TIMEOUT_S = 10.0
"""How long answers in flight may go on after `stop` is called."""

log = structlog.get_logger("pool_service.gateway")


class Gateway:
    """Serves the models of one service under one address."""

    def __init__(
        self, settings: Settings, service: Service, provider: TracerProvider | None = None
    ) -> None:
        """Create the gateway on the running event loop.

        provider: makes the spans of requests; None: there are none.
        """
        self._settings = settings
        self._callers = Callers(settings.sites)
        self._pools = Pools(service)
        tokens = KnownTokens(self._pools)
        parts = self._settings, self._callers, self._pools, Counts(), tokens
        self._inference = Inference(*parts, RequestTraces(provider))
        self._queries = Queries(*parts)
        # A caller that goes away ends its handler, and so the request to the server.
        self._runner = web.AppRunner(
            self._app(),
            handler_cancellation=True,
            access_log=None,
            # Its errors quote what callers have sent.
            logger=_silent(),
            # aiohttp waits for this time twice.
            shutdown_timeout=STOP_TIMEOUT_S / 2,
        )

    async def start(self) -> str:
        """Listen, and return the base URL. Raises OSError if the address cannot be had."""
        await self._runner.setup()
        settings = self._settings
        listener = _listener(settings.host, settings.port)
        site = web.SockSite(
            self._runner, listener, ssl_context=settings.tls, backlog=ACCEPTED_AT_ONCE
        )
        await site.start()
        # asyncio has one figure for both, and has just set the queue's, too.
        listener.listen(BACKLOG)
        host, port = self._runner.addresses[0][:2]
        scheme = "https" if settings.tls is not None else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Let requests in flight end, for at most STOP_TIMEOUT_S, and let all models go."""
        await self._runner.cleanup()
        await self._inference.close()
        await self._pools.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._errors])
        app.on_response_prepare.append(self._allow_origin)
        for path in PATHS:
            app.router.add_post(path, self._inference.handle)
        self._queries.add_to(app)
        app.router.add_options("/{path:.*}", self._preflight)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        return app

    @web.middleware
    async def _errors(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Answer with an error of the API whatever goes wrong."""
        try:
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal, request.path)
        except PoolError as error:
            return refused(refusal_of(error), request.path)
        except web.HTTPException as error:
            status = HTTPStatus(error.status)
            message = f"{request.method} {request.path}: {status.phrase}"
            return refused(Refusal(status, message, "http_error"), request.path)
        except Exception:
            log.exception("internal error in a request", path=request.path)
            return refused(internal_error(), request.path)

    async def _unknown(self, request: web.Request) -> web.Response:
        await self._callers.token_of(request)
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            f"the gateway has no {request.method} {request.path}: models answer to POST "
            f"{', '.join(PATHS)}.",
            "path_unknown",
        )

    async def _preflight(self, request: web.Request) -> web.Response:
        origin = request.headers.get(hdrs.ORIGIN, "")
        if not self._settings.sites.allows(origin):
            raise Refusal(HTTPStatus.FORBIDDEN, "not for web pages", "origin_refused")
        allowed = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: request.headers.get(
                hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "authorization, content-type"
            ),
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=allowed)

    async def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and self._settings.sites.allows(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.VARY] = hdrs.ORIGIN


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket bound to a numeric address. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _silent() -> logging.Logger:
    """Return a logger that writes nothing."""
    logger = logging.getLogger("pool_service.gateway.http")
    logger.disabled = True
    return logger


async def run(
    settings: Settings,
    service: Service,
    until: asyncio.Event,
    on_start: Callable[[str], None],
    provider: TracerProvider | None = None,
) -> None:
    """Serve until an event is set. Raises OSError if the address cannot be had.

    on_start: gets the base URL once requests are answered. provider: of the spans of requests.
    """
    gateway = Gateway(settings, service, provider)
    try:
        url = await gateway.start()
        log.info("serving", url=url, mode=settings.mode.value)
        on_start(url)
        await until.wait()
    finally:
        with suppress(asyncio.CancelledError):
            await gateway.stop()
