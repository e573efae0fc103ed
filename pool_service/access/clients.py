"""The clients that the operator has allowed in: by their tokens and by their certificates."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from pool_service.access.principal import Principal


@dataclass(frozen=True, slots=True)
class Client:
    """A caller that is known by a token, a certificate, or both.

    token_sha256: the digest of its token; None: it has none.
    sans: names of which its certificate has one (subjectAltName): a URI, a DNS name or an address.
    expires_at: the time.time() from which on the token is not valid.
    """

    principal: Principal
    token_sha256: bytes | None = None
    sans: frozenset[str] = field(default_factory=frozenset)
    expires_at: float = math.inf


class Clients:
    """Finds clients by what they show; the first of several that have the same counts.

    Does not change; a reload makes another one.
    """

    def __init__(self, clients: Iterable[Client] = ()) -> None:
        self._by_name: dict[str, Client] = {}
        self._by_token: dict[bytes, Client] = {}
        self._by_san: dict[str, Client] = {}
        for client in clients:
            self._by_name[client.principal.name] = client
            if client.token_sha256 is not None:
                self._by_token.setdefault(client.token_sha256, client)
            for san in client.sans:
                self._by_san.setdefault(san, client)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def by_token(self, token_sha256: bytes, now: float) -> Principal | None:
        """Return who has a token; None if nobody has, or if it has expired. now: time.time()."""
        client = self._by_token.get(token_sha256)
        return client.principal if client is not None and now < client.expires_at else None

    def by_sans(self, sans: Iterable[str]) -> Principal | None:
        """Return who has a certificate with these names; None if nobody has, or if several have."""
        found = {self._by_san[san].principal.name for san in sans if san in self._by_san}
        return self._by_name[found.pop()].principal if len(found) == 1 else None


def merged(configured: Iterable[Client], created: Iterable[Client]) -> tuple[Clients, list[str]]:
    """Return the clients of the configuration and of the file of tokens, and what is ignored.

    Where both have a client of one name, the configuration's counts.
    """
    own = list(configured)
    names = {client.principal.name for client in own}
    others = list(created)
    ignored = sorted(client.principal.name for client in others if client.principal.name in names)
    flaws = [
        f"the token that was created for {name!r} is ignored, as [clients.{name}] of the "
        "configuration counts. Revoke it, or remove that section."
        for name in ignored
    ]
    return Clients([*own, *(one for one in others if one.principal.name not in names)]), flaws
