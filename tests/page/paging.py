"""The page of a pool over a scripted world, and raw requests to it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pool_service.access.authentication import Rules
from pool_service.address import Address
from pool_service.http.exchange import Routes
from pool_service.http.listener import HttpListener
from pool_service.page.page import Page
from tests.access.letting_in import admission
from tests.http.speaking import Answer, Site
from tests.rpc.serving import Service, serving

OURS = ("Host: localhost", "X-Pool: 1", "Sec-Fetch-Site: same-origin")
"""The headers that the page's own calls have."""


@dataclass
class Paged:
    """A service, and the page that it serves."""

    service: Service
    site: Site
    page: Page
    routes: Routes = field(default_factory=Routes)

    async def post(
        self, method: str, body: object = None, headers: tuple[str, ...] = OURS
    ) -> Answer:
        """One call on a connection of its own. body: bytes as they are, or what JSON has."""
        peer = await self.site.connect()
        sent = (
            body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        )
        lines = [f"POST /api/{method} HTTP/1.1", *headers, f"Content-Length: {len(sent)}", "", ""]
        peer.send("\r\n".join(lines).encode() + sent)
        answer = await peer.answer()
        peer.close()
        return answer

    async def called(self, method: str, body: object = None) -> Any:  # noqa: ANN401
        """What a call that succeeds is answered."""
        answer = await self.post(method, body)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    async def refused(self, method: str, body: object = None) -> tuple[int, dict[str, str]]:
        """The status and the error of a call that fails."""
        answer = await self.post(method, body)
        error = json.loads(answer.body)
        assert set(error) == {"code", "reason", "message"}
        return answer.status, error


@asynccontextmanager
async def paged(
    state_dir: Path,
    *,
    listen: str = "127.0.0.1:0",
    rules: Rules | None = None,
    **options: Any,  # noqa: ANN401
) -> AsyncIterator[Paged]:
    """A page of a pool; options: of `serving`."""
    page, routes = Page(state_dir), Routes()
    async with serving(observers=[page.observe], **options) as service:
        page.add_to(routes, service.pool, service.servicer, service.world.clock)
        listener = HttpListener(Address.parse(listen), routes, admission(service.audit, rules))
        site = Site(listener, await listener.start(), [])
        try:
            yield Paged(service, site, page, routes)
        finally:
            await listener.stop()
            for peer in site.peers:
                peer.close()
