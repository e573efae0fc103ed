"""Authentication: who a call is from, by what the call shows and by where it came in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from urllib.parse import unquote

from pool_service.access import tokens
from pool_service.access.clients import Clients
from pool_service.access.principal import LOCAL, Principal
from pool_service.core.errors import CertificateUnknown, TokenMissing, TokenUnknown

End = tuple[str, int]
"""The host and the port of one end of a TCP connection."""


class Local(Enum):
    """Who may call without a token from this machine: `auth.local` of the configuration."""

    SAME_USER = "same-user"
    TOKEN = "token"  # noqa: S105 - the word of the configuration
    ANYONE = "anyone"


class Kind(Enum):
    """From where an address can be reached."""

    SOCKET = "socket"
    """By those who may open the file of a unix socket."""

    LOOPBACK = "loopback"
    """By every user of this machine."""

    NETWORK = "network"
    """By other machines."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address on which the service listens.

    text: as users write it. ends: its end of each connection, one for IPv4 and one for IPv6.
    """

    kind: Kind
    text: str
    ends: tuple[End, ...] = ()


class PeerUsers(Protocol):
    """Finds out whose a connection of this machine is."""

    def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
        """Return the uid that owns the other end of a connection; None if it cannot be told.

        peer: the other end. ends: the service's own end is one of these.
        """


@dataclass(frozen=True, slots=True)
class Shown:
    """What a call shows of its caller.

    peer: the other end of its connection as gRPC names it, such as "ipv4:127.0.0.1:4711".
    authorization: the header of that name; None: there is none.
    sans: the names of its client certificate (subjectAltName), which has been verified.
    """

    peer: str
    authorization: str | None = None
    sans: tuple[str, ...] = ()


class Authentication:
    """Tells whose a call is.

    clients: returns the present clients. local: returns the present rule for this machine.
    own_users: uids that count as the service's own: its user, and root.
    now: the time in seconds since the epoch.
    """

    def __init__(
        self,
        clients: Callable[[], Clients],
        local: Callable[[], Local],
        users: PeerUsers,
        own_users: frozenset[int],
        now: Callable[[], float],
    ) -> None:
        self._clients = clients
        self._local = local
        self._users = users
        self._own_users = own_users
        self._now = now

    def principal(self, address: ListenAddress, shown: Shown) -> Principal:
        """Return whose a call is that came in by an address.

        A token or a known certificate decides wherever the call comes from, so that a caller can
        give up rights. Raises TokenMissing, TokenUnknown or CertificateUnknown.
        """
        if shown.authorization is not None:
            return self._by_token(shown.authorization)
        if shown.sans:
            return self._by_certificate(shown.sans)
        if address.kind is Kind.NETWORK or self._local() is Local.TOKEN:
            raise _missing(address)
        if self._local() is Local.ANYONE or address.kind is Kind.SOCKET:
            return LOCAL
        return self._by_user(address, shown.peer)

    def _by_token(self, authorization: str) -> Principal:
        token = tokens.of_authorization(authorization)
        known_by = tokens.digest(token) if token is not None else None
        found = self._clients().by_token(known_by, self._now()) if known_by is not None else None
        if found is None:
            raise TokenUnknown(
                "the token is not known to this service: it is mistyped, has expired or was "
                "revoked. Ask the service's operator for a new one."
            )
        return found

    def _by_certificate(self, sans: tuple[str, ...]) -> Principal:
        found = self._clients().by_sans(sans)
        if found is None:
            raise CertificateUnknown(
                "no client of this service has one of the names of your certificate "
                f"({', '.join(sans)}), or more than one has. Ask the service's operator to add "
                "one as `san` of a [clients.NAME].",
                names=sans,
            )
        return found

    def _by_user(self, address: ListenAddress, peer: str) -> Principal:
        end = end_of(peer)
        user = self._users.user_at(end, address.ends) if end is not None else None
        if user is None or user not in self._own_users:
            raise _missing(address, user)
        return LOCAL


def end_of(peer: str) -> End | None:
    """Return the end of a TCP connection that gRPC names so; None if it is of another kind.

    gRPC writes "ipv4:127.0.0.1:4711" and "ipv6:%5B::1%5D:4711".
    """
    family, _, rest = peer.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if family not in {"ipv4", "ipv6"} or not (port.isascii() and port.isdigit()):
        return None
    return host.strip("[]"), int(port)


def _missing(address: ListenAddress, user: int | None = None) -> TokenMissing:
    """Return the error for a caller that shows nothing. user: the caller's uid, if known."""
    if user is not None:
        why = (
            f"you are the user with the id {user}, and by {address.text} only the service's own "
            "user may call without a token"
        )
    else:
        why = f"the service cannot tell who calls: by {address.text} it needs a token"
    return TokenMissing(
        f"{why}. Ask the service's operator for one (pool-service token create NAME), and put it "
        "into a file that POOL_SERVICE_TOKEN_FILE names.",
        user=user,
    )
