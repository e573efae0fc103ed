"""Holds what the operator can choose of the gateway."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum

from pool_service.gateway.callers import Sites

DEFAULT_WAIT_S = 300.0

MAX_BODY_BYTES = 128 * 1024 * 1024
"""The largest request: prompts with images and sound have tens of megabytes."""


class Mode(StrEnum):
    """Names the ways to a server."""

    PROXY = "proxy"
    """Answers pass through the gateway."""

    REDIRECT = "redirect"
    """Callers are sent to the server (307) where they can go there: it asks for no key, and knows
    the model by the name that they use. Others' answers pass through."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Holds the choices of one gateway.

    Attributes:
        host: the address to listen on, port: its port; 0: any.
        wait_s: how long a request waits for its model, in seconds.
        tls: None: without TLS.
        with_aliases: whether lists of models have their aliases as entries.
    """

    host: str
    port: int
    mode: Mode = Mode.PROXY
    wait_s: float = DEFAULT_WAIT_S
    sites: Sites = field(default_factory=Sites)
    tls: ssl.SSLContext | None = None
    with_aliases: bool = False
