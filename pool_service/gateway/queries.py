"""Queries about the models and the gateway itself, which start and keep no model."""

import asyncio
import math
import time
from http import HTTPStatus

import msgspec
from aiohttp import hdrs, web

from pool_service.gateway import catalogue
from pool_service.gateway.callers import Callers
from pool_service.gateway.counts import CONTENT_TYPE, Counts
from pool_service.gateway.known_tokens import QUERY_TIMEOUT_S, KnownTokens
from pool_service.gateway.pools import Pools
from pool_service.gateway.refusals import Refusal
from pool_service.gateway.settings import Settings
from pool_service_client import Model, PoolError, PoolUnavailable

HEALTH_VALID_S = 1.0
"""How long an answer to /health is given again, as anybody may ask."""

OLLAMA_VERSION = "0.12.0"
"""The version of Ollama whose lists these are, which its clients ask for."""


class Queries:
    """Answers what callers ask about models, and what operators ask about the gateway."""

    def __init__(
        self,
        settings: Settings,
        callers: Callers,
        pools: Pools,
        counts: Counts,
        tokens: KnownTokens,
    ) -> None:
        self._settings = settings
        self._callers = callers
        self._pools = pools
        self._counts = counts
        self._tokens = tokens
        self._created = int(time.time())
        # The loop's time of the last answer to /health, and whether the service answered.
        self._health_at = -math.inf
        self._is_healthy = False

    def add_to(self, app: web.Application) -> None:
        """Add the paths to an application."""
        handlers = {
            "/v1/models": self.models,
            "/v1/models/{name:.+}": self.model,
            "/api/tags": self.tags,
            "/api/ps": self.running,
            "/api/version": self.version,
            "/health": self.health,
            "/metrics": self.metrics,
        }
        for path, handler in handlers.items():
            app.router.add_get(path, handler)

    async def _entries(self, request: web.Request) -> list[tuple[str, Model]]:
        token = await self._callers.token_of(request)
        models = await self._pools.of(token).models(found=True, timeout=QUERY_TIMEOUT_S)
        return catalogue.entries(models, with_aliases=self._settings.with_aliases)

    async def models(self, request: web.Request) -> web.Response:
        """Answer /v1/models."""
        return _json(catalogue.openai_list(await self._entries(request), self._created))

    async def model(self, request: web.Request) -> web.Response:
        """Answer /v1/models/NAME."""
        name = request.match_info["name"]
        for model_name, model in await self._entries(request):
            if name == model_name or name in model.aliases:
                return _json(catalogue.openai_model(name, model, self._created))
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no model {name!r}", "model_unknown")

    async def tags(self, request: web.Request) -> web.Response:
        """Answer Ollama's /api/tags."""
        return _json(catalogue.ollama_tags(await self._entries(request)))

    async def running(self, request: web.Request) -> web.Response:
        """Answer Ollama's /api/ps."""
        pool = self._pools.of(await self._callers.token_of(request))
        servers = await pool.list(timeout=QUERY_TIMEOUT_S)
        return _json(catalogue.ollama_running(servers))

    async def version(self, request: web.Request) -> web.Response:
        """Answer Ollama's /api/version."""
        await self._callers.token_of(request)
        return _json({"version": OLLAMA_VERSION})

    async def health(self, _request: web.Request) -> web.Response:
        """Tell whether the service answers; for probes, so that anybody may ask."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._health_at >= HEALTH_VALID_S:
            self._is_healthy = await self._service_answers()
            self._health_at = loop.time()
        if self._is_healthy:
            return _json({"status": "ok"})
        return _json({"status": "the service does not answer"}, status=503)

    async def _service_answers(self) -> bool:
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                async for _ in self._pools.of("").pages(page_size=1):
                    break
        except (PoolUnavailable, TimeoutError):
            return False
        except PoolError:
            # It answers, if only that it does not tell the gateway.
            return True
        return True

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer /metrics."""
        await self._tokens.verify(await self._callers.token_of(request))
        return web.Response(body=self._counts.text(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json"
    )
