"""The clients of a running service: those of its configuration, and those with a created token."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from pool_service.access.authentication import Rules
from pool_service.access.clients import Client, merged
from pool_service.config.auth_section import AuthSection
from pool_service.config.client_section import ClientSection

log = structlog.get_logger("pool_service.access")


class CallerConfig(Protocol):
    """Says who may call: the configuration of a service, or of a front."""

    @property
    def auth(self) -> AuthSection: ...

    @property
    def clients(self) -> Mapping[str, ClientSection]: ...


class ClientRegistry:
    """Changes the rules by which callers are let in. Runs on the event loop only."""

    def __init__(self, rules: Rules, config: CallerConfig) -> None:
        self._rules = rules
        self._configured: tuple[Client, ...] = ()
        self._created: tuple[Client, ...] = ()
        self._flaws: frozenset[str] = frozenset()
        self.configure(config)

    def configure(self, config: CallerConfig) -> None:
        """Apply what a configuration says of callers."""
        self._rules.local = config.auth.local
        self._configured = tuple(section.client(name) for name, section in config.clients.items())
        self._merge()

    def create(self, clients: Iterable[Client]) -> None:
        """Apply the clients of the file of tokens."""
        self._created = tuple(clients)
        self._merge()

    def _merge(self) -> None:
        self._rules.clients, flaws = merged(self._configured, self._created)
        for flaw in sorted(frozenset(flaws) - self._flaws):
            log.warning("a token is ignored", why=flaw)
        self._flaws = frozenset(flaws)
