"""The HTTP server of the gateway: its paths, and what each request comes to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from http import HTTPStatus

import aiohttp
import msgspec
import structlog
from aiohttp import hdrs, web

from pool_service.gateway import catalogue
from pool_service.gateway.asked import MAX_MODEL_CHARACTERS, Asked, BodyFlaw, asked
from pool_service.gateway.callers import Callers, is_direct
from pool_service.gateway.counts import CONTENT_TYPE, Counts
from pool_service.gateway.outcome import Outcome
from pool_service.gateway.pools import Pools, Service
from pool_service.gateway.refusals import Refusal, bad_request, internal_error, refusal_of
from pool_service.gateway.relay import Answer, Late, Relay, broken_off, refused
from pool_service.gateway.settings import MAX_BODY_BYTES, Mode, Settings
from pool_service.gateway.shared_hold import SharedHold
from pool_service.gateway.turns import Turns
from pool_service_client import Model, PoolError, PoolUnavailable, Server

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
)
"""The paths of vllm-mlx (0.6) that name a model in their body, and that other runtimes have too."""

QUERY_TIMEOUT_S = 10.0
"""For questions that the service answers without waiting for anything."""

BACKLOG = 1024
"""Connections that may wait to be accepted. Linux drops more, and their callers try again after a
second: of 512 connections at once by aiohttp's default, 128."""

STOP_TIMEOUT_S = 10.0
"""How long answers may go on after the first signal to stop."""

OLLAMA_VERSION = "0.12.0"
"""The version of Ollama whose lists these are, which its clients ask for."""

log = structlog.get_logger("pool_service.gateway")


class Gateway:
    """Serves the models of one service under one address."""

    def __init__(self, settings: Settings, service: Service) -> None:
        self._settings = settings
        self._callers = Callers(settings.sites)
        self._pools = Pools(service)
        self._turns = Turns()
        self._counts = Counts()
        self._created = int(time.time())
        self._relay: Relay | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and return the base URL. Raises OSError if the address cannot be had."""
        self._relay = Relay()
        # A caller that goes away ends its handler, and so the request to the server.
        self._runner = web.AppRunner(
            self._app(),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=STOP_TIMEOUT_S,
        )
        await self._runner.setup()
        settings = self._settings
        site = web.TCPSite(
            self._runner,
            settings.host,
            settings.port,
            ssl_context=settings.tls,
            backlog=BACKLOG,
        )
        await site.start()
        host, port = self._runner.addresses[0][:2]
        scheme = "https" if settings.tls is not None else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Let requests in flight end, for at most STOP_TIMEOUT_S, and let all models go."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._turns.close()
        await self._pools.close()
        if self._relay is not None:
            await self._relay.close()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._errors])
        app.on_response_prepare.append(self._allow_origin)
        for path in PATHS:
            app.router.add_post(path, self._infer)
        looks: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/v1/models": self._models,
            "/v1/models/{name:.+}": self._model,
            "/api/tags": self._tags,
            "/api/ps": self._running,
            "/api/version": self._version,
            "/health": self._health,
            "/metrics": self._metrics,
        }
        for path, handler in looks.items():
            app.router.add_get(path, handler)
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
        except web.HTTPRequestEntityTooLarge:
            most = MAX_BODY_BYTES // 2**20
            message = f"the request is larger than {most} MiB"
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            return refused(Refusal(status, message, "request_too_large"), request.path)
        except web.HTTPException as error:
            status = HTTPStatus(error.status)
            message = f"{request.method} {request.path}: {status.phrase}"
            return refused(Refusal(status, message, "http_error"), request.path)
        except Exception:
            log.exception("internal error in a request", path=request.path)
            return refused(internal_error(), request.path)

    # --- requests for a model ---------------------------------------------------------------

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        outcome = Outcome()
        with self._counts.in_flight():
            try:
                token = await self._callers.token_of(request)
                wanted = await _asked(request)
                outcome.asked = wanted.model
                answer = Answer(request, wanted, self._settings.wait_s)
                try:
                    async with AsyncExitStack() as stack:
                        return await self._answer(stack, request, answer, token, wanted, outcome)
                finally:
                    outcome.note(answer)
            except Refusal as refusal:
                outcome.status = refusal.status
                raise
            finally:
                self._report(request.path, outcome)

    def _report(self, path: str, outcome: Outcome) -> None:
        """Count a request, and log it: without its query and body, which have prompts and keys."""
        first_byte_s = outcome.first_byte_s
        self._counts.end(outcome.model, path, outcome.status, first_byte_s, outcome.sent_bytes)
        log.info(
            "request",
            path=path,
            model=outcome.asked[:MAX_MODEL_CHARACTERS],
            status=outcome.status,
            seconds=round(outcome.seconds, 3),
            first_byte_s=round(first_byte_s, 3) if first_byte_s is not None else None,
            bytes=outcome.sent_bytes,
        )

    async def _answer(
        self,
        stack: AsyncExitStack,
        request: web.Request,
        answer: Answer,
        token: str,
        wanted: Asked,
        outcome: Outcome,
    ) -> web.StreamResponse:
        """Answer a request, be it by an error."""
        hold: SharedHold | None = None
        try:
            hold = await self._held(stack, answer, token, wanted.model)
            server = hold.ready_at_once()
            if server is None:
                server = await answer.until(hold.ready(), partial(_newest, hold))
            outcome.model = server.model
            if self._may_go_there(request, answer, wanted, server):
                outcome.status = HTTPStatus.TEMPORARY_REDIRECT
                location = f"{server.endpoint}{request.raw_path}"
                return web.Response(status=outcome.status, headers={hdrs.LOCATION: location})
            async with await self._sent(request, answer, wanted, hold, server) as upstream:
                response = await answer.relay(upstream)
                outcome.status = upstream.status
                return response
        except Refusal as refusal:
            why = refusal
        except PoolError as error:
            why = refusal_of(error)
        except Late:
            why = _late(wanted.model, self._settings.wait_s, hold)
        except (aiohttp.ClientError, TimeoutError):
            why = broken_off()
        except Exception:
            log.exception("internal error in a request", path=request.path)
            why = internal_error()
        outcome.status = why.status
        return await answer.refuse(why)

    async def _held(
        self, stack: AsyncExitStack, answer: Answer, token: str, model: str
    ) -> SharedHold:
        """Return the shared hold of a model, once it is the model's turn; `stack` releases it."""
        key = token, model
        at_once = self._turns.at_once(key)
        if at_once is not None:
            return stack.enter_context(at_once)
        turn = self._turns.hold(key, partial(self._pools.of, token))
        return await answer.until(stack.enter_async_context(turn), lambda: None)

    async def _sent(
        self,
        request: web.Request,
        answer: Answer,
        wanted: Asked,
        hold: SharedHold,
        server: Server,
    ) -> aiohttp.ClientResponse:
        """Send a request to the server, or to the next one if that has just ended."""
        assert self._relay is not None
        try:
            return await self._relay.send(request, wanted, server)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            server = await answer.until(hold.ready(after=server), partial(_newest, hold))
            return await self._relay.send(request, wanted, server)

    def _may_go_there(
        self, request: web.Request, answer: Answer, wanted: Asked, server: Server
    ) -> bool:
        """Return whether a caller is sent to the server: it reaches that with what it has."""
        return (
            self._settings.mode is Mode.REDIRECT
            and self._settings.tls is None
            and not answer.has_begun
            and not server.api_key
            and wanted.model == server.served_model_name
            and is_direct(request)
        )

    # --- looks ------------------------------------------------------------------------------

    async def _entries(self, request: web.Request) -> list[tuple[str, Model]]:
        token = await self._callers.token_of(request)
        asked_for = self._pools.of(token).models(found=True, timeout=QUERY_TIMEOUT_S)
        models = [model async for model in asked_for]
        return catalogue.entries(models, with_aliases=self._settings.with_aliases)

    async def _models(self, request: web.Request) -> web.Response:
        return _json(catalogue.openai_list(await self._entries(request), self._created))

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        for model_name, model in await self._entries(request):
            if name == model_name or name in model.aliases:
                return _json(catalogue.openai_model(name, model, self._created))
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no model {name!r}", "model_unknown")

    async def _tags(self, request: web.Request) -> web.Response:
        return _json(catalogue.ollama_tags(await self._entries(request)))

    async def _running(self, request: web.Request) -> web.Response:
        pool = self._pools.of(await self._callers.token_of(request))
        servers = [server async for server in pool.list(timeout=QUERY_TIMEOUT_S)]
        return _json(catalogue.ollama_running(servers))

    async def _version(self, request: web.Request) -> web.Response:
        await self._callers.token_of(request)
        return _json({"version": OLLAMA_VERSION})

    async def _health(self, _request: web.Request) -> web.Response:
        """Tell whether the service answers; for probes, so that anybody may ask."""
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                async for _ in self._pools.of("").pages(page_size=1):
                    break
        except (PoolUnavailable, TimeoutError):
            return _json({"status": "the service does not answer"}, status=503)
        except PoolError:
            # It answers, if only that it does not tell the gateway.
            pass
        return _json({"status": "ok"})

    async def _metrics(self, request: web.Request) -> web.Response:
        token = await self._callers.token_of(request)
        if token:
            # The service knows whether the token is good.
            async for _ in self._pools.of(token).pages(page_size=1, timeout=QUERY_TIMEOUT_S):
                break
        return web.Response(body=self._counts.text(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    async def _unknown(self, request: web.Request) -> web.Response:
        await self._callers.token_of(request)
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            f"the gateway has no {request.method} {request.path}: models answer to POST "
            f"{', '.join(PATHS)}.",
            "path_unknown",
        )

    # --- web pages --------------------------------------------------------------------------

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


async def _asked(request: web.Request) -> Asked:
    """Return what a request asks for. Raises Refusal."""
    body = await request.read()
    try:
        return asked(request.headers.get(hdrs.CONTENT_TYPE, ""), body)
    except BodyFlaw as flaw:
        raise bad_request(str(flaw), "model" if "model" in str(flaw) else None) from None


def _newest(hold: SharedHold) -> Server | None:
    return hold.newest


def _late(model: str, wait_s: float, hold: SharedHold | None) -> Refusal:
    """Return the refusal of a request whose model was not ready in time."""
    newest = hold.newest if hold is not None else None
    state = f"it is {newest.state.name.lower()}" if newest is not None else "others have their turn"
    detail = f" ({newest.detail})" if newest is not None and newest.detail else ""
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{model!r} was not ready within {wait_s:g} s: {state}{detail}. Ask again later, or start "
        "the gateway with a longer --wait.",
        "not_ready",
        retry_after_s=5.0,
    )


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json"
    )


async def run(
    settings: Settings, service: Service, until: asyncio.Event, on_start: Callable[[str], None]
) -> None:
    """Serve until an event is set. Raises OSError if the address cannot be had.

    on_start: gets the base URL once requests are answered.
    """
    gateway = Gateway(settings, service)
    try:
        url = await gateway.start()
        log.info("serving", url=url, mode=settings.mode.value)
        on_start(url)
        await until.wait()
    finally:
        with suppress(asyncio.CancelledError):
            await gateway.stop()
