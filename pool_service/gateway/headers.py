"""Headers of a message that are handed on, and those that are not."""

from collections.abc import Mapping

from aiohttp import hdrs
from multidict import CIMultiDict

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Of RFC 9110, section 7.6.1: for one connection, and not to be handed on."""

_DROPPED_FROM_REQUESTS = _HOP_BY_HOP | {
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "host",
    "origin",
    "referer",
    "x-api-key",
}
"""Headers that a server does not need: the caller's keys, names of the gateway itself, and how the
body was packed, as it is unpacked here."""

_DROPPED_FROM_ANSWERS = _HOP_BY_HOP | {"date", "server"}


def for_the_server(headers: Mapping[str, str], api_key: str) -> CIMultiDict[str]:
    """Return the headers of a request for its server, with the server's own key if it has one."""
    forwarded = _without(headers, _DROPPED_FROM_REQUESTS)
    # Comments are sent as they are, and so must be what follows them.
    forwarded[hdrs.ACCEPT_ENCODING] = "identity"
    if api_key:
        forwarded[hdrs.AUTHORIZATION] = f"Bearer {api_key}"
    return forwarded


def for_the_caller(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of a server's answer for the caller."""
    return _without(headers, _DROPPED_FROM_ANSWERS)


def _without(headers: Mapping[str, str], left_out: frozenset[str]) -> CIMultiDict[str]:
    """Return all headers but some, and but those that the message says are for one connection."""
    options = (value for name, value in headers.items() if name.lower() == "connection")
    named = ",".join(options).lower().replace(" ", "").split(",")
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (lower := name.lower()) not in left_out and lower not in named
    )
