"""Callers: who may use the gateway, and by which token they call the service.

1. A token of the service (`Authorization: Bearer` or `x-api-key`) is the caller's own, and is
   handed on: the service decides what it allows.
2. Without one, a caller of this machine counts as the gateway's user, if it is that user: the
   gateway then calls the service in its own name. Libraries demand a key, so that any other key is
   taken for none. What a proxy hands on is its own caller's, whoever that is.
3. Others are refused, and so are web pages of other sites, which a browser would let call.
"""

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from aiohttp import web

from pool_service.access.authentication import UserUnknown
from pool_service.adapters.sockets.peer_users import own_users, peer_users
from pool_service.gateway.refusals import Refusal

TOKEN_PREFIX = "pst_"  # noqa: S105 - how a token of the service begins
_TOKEN = re.compile(re.escape(TOKEN_PREFIX) + r"[A-Za-z0-9_-]{43}")

_LOCAL_NAMES = frozenset({"localhost"})

_PROXIED = frozenset(
    {"cf-connecting-ip", "forwarded", "true-client-ip", "via", "x-client-ip", "x-real-ip"}
)
"""Headers by which proxies say that a request is somebody else's; and all X-Forwarded-…."""


@dataclass(frozen=True, slots=True)
class Sites:
    """Holds by which names callers reach the gateway, which pages may call, and who needs a token.

    Attributes:
        hosts: names besides addresses and `localhost`, in lower case.
        origins: such as "http://localhost:3000"; "*": all.
        demands_token: whether callers of the gateway's own user need a token, too.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    demands_token: bool = False

    def allows(self, origin: str) -> bool:
        """Return whether the web pages of an origin may call."""
        return "*" in self.origins or origin in self.origins


class Callers:
    """Finds out by which token the caller of a request calls the service."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._users = peer_users()
        self._own_users = own_users()
        self._is_own_by_connection = WeakKeyDictionary[asyncio.Transport, bool]()

    async def token_of(self, request: web.Request) -> str:
        """Return the caller's token; "" for the gateway's own user. Raises Refusal."""
        self._check_site(request)
        shown = _shown(request)
        if _TOKEN.fullmatch(shown):
            return shown
        if shown.startswith(TOKEN_PREFIX):
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "the API key begins like a token of the service and is none: it is cut or mistyped",
                "token_unknown",
            )
        if not self._sites.demands_token and await self._is_own(request):
            return ""
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            "the gateway does not know who calls. Send a token of the service as the API key: its "
            "operator makes one with 'pool-service token create NAME'.",
            "token_missing",
        )

    def _check_site(self, request: web.Request) -> None:
        """Raise Refusal for a name that leads here by a trick, or a web page of another site."""
        try:
            host = urlsplit(f"//{request.host}").hostname or ""
        except ValueError:
            host = ""
        if not (_is_address(host) or host in _LOCAL_NAMES or host in self._sites.hosts):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"the gateway is not known as {host!r}. Call it by its address, or start it with "
                "--host and this name.",
                "host_unknown",
            )
        origin = request.headers.get("Origin")
        if origin is not None and not self._sites.allows(origin):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"web pages of {origin!r} may not call the gateway. Start it with --origin and "
                "this origin if they are to.",
                "origin_refused",
            )

    async def _is_own(self, request: web.Request) -> bool:
        """Return whether a request is of the gateway's own user; asked once for a connection."""
        transport = request.transport
        if transport is None or not is_direct(request):
            return False
        known = self._is_own_by_connection.get(transport)
        if known is None:
            known = await self._is_own_connection(transport)
            self._is_own_by_connection[transport] = known
        return known

    async def _is_own_connection(self, transport: asyncio.Transport) -> bool:
        own, peer = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        if not own or not peer:
            return False
        try:
            user = self._users.user_at(peer[:2], [own[:2]])
        except UserUnknown as unknown:
            user = await asyncio.to_thread(unknown.search)
        return user is not None and user in self._own_users


def is_direct(request: web.Request) -> bool:
    """Return whether a request comes from this machine, and not by a proxy that says so."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not peer or not ip_address(peer[0].partition("%")[0]).is_loopback:
        return False
    names = (name.lower() for name in request.headers)
    return not any(name in _PROXIED or name.startswith("x-forwarded-") for name in names)


def _shown(request: web.Request) -> str:
    """Return the key of a request, a token if it has one; "" if it has none."""
    scheme, _, bearer = request.headers.get("Authorization", "").strip().partition(" ")
    keys = [bearer.strip()] if scheme.lower() == "bearer" else []
    keys.append(request.headers.get("x-api-key", "").strip())
    return next((key for key in keys if key.startswith(TOKEN_PREFIX)), keys[0])


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
