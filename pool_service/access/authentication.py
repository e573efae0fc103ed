"""Authentication: who a call is from, by what the call shows and by where it came in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple, Protocol

from pool_service.access import tokens
from pool_service.access.clients import Clients
from pool_service.access.principal import LOCAL, Principal
from pool_service.core.errors import CertificateUnknown, TokenMissing, TokenUnknown

MOST_TOLD = 8
"""The most names of a certificate that an error repeats, as the headers of a call are limited."""

LONGEST_TOLD = 256
"""Characters of a name that it repeats."""

End = tuple[str, int]
"""The host and the port of one end of a TCP connection."""


class Local(StrEnum):
    """Names the rule for callers of this machine without a token: `auth.local`."""

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


@dataclass(slots=True)
class ListenAddress:
    """An address on which the service listens.

    text: as users write it. ends: the service's end of its connections, one for IPv4 and one for
    IPv6, which is known once it listens. demands_certificate: whether every caller has shown a
    certificate of the operator's authority, as it could not connect otherwise.
    """

    kind: Kind
    text: str
    ends: tuple[End, ...] = ()
    demands_certificate: bool = False


class UserUnknown(Exception):
    """The owner of a connection is not known yet.

    search: finds out, which blocks the thread; returns the uid, or None if it cannot be told.
    """

    def __init__(self, search: Callable[[], int | None]) -> None:
        super().__init__("the owner of a connection is not known yet")
        self.search = search


class CallerUnknown(Exception):
    """The caller is not known yet.

    search: finds out, which blocks the thread; returns the caller, or raises a PoolError.
    """

    def __init__(self, search: Callable[[], Principal]) -> None:
        super().__init__("the caller is not known yet")
        self.search = search


class PeerUsers(Protocol):
    """Finds out whose a connection of this machine is."""

    def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
        """Return the uid that owns the other end of a connection; None if it cannot be told.

        peer: the other end. ends: the service's own end is one of these. Raises UserUnknown if
        that takes long.
        """


class Shown(NamedTuple):
    """Holds what a call shows of its caller.

    end: the caller's end of its TCP connection; None: there is none, or it is not known.
    authorization: the header of that name; None: there is none.
    sans: the names of its certificate (subjectAltName), which has been verified; None: it has
    shown none.
    """

    end: End | None = None
    authorization: str | None = None
    sans: tuple[str, ...] | None = None


@dataclass(slots=True)
class Rules:
    """Holds who is let in. A reload of the configuration changes these in place."""

    local: Local = Local.SAME_USER
    clients: Clients = field(default_factory=Clients)


class Authentication:
    """Identifies callers by token, certificate or user.

    own_users: uids that count as the service's own: its user, and root.
    unmapped_user: the uid of all users that the system does not know; None: there is none.
    now: the time in seconds since the epoch.
    """

    def __init__(
        self,
        rules: Rules,
        users: PeerUsers,
        own_users: frozenset[int],
        now: Callable[[], float],
        unmapped_user: int | None = None,
    ) -> None:
        self._rules = rules
        self._users = users
        self._own_users = own_users
        self._now = now
        self._unmapped_user = unmapped_user

    @property
    def local(self) -> Local:
        """Return the present rule for callers of this machine without a token."""
        return self._rules.local

    def principal(self, address: ListenAddress, shown: Shown) -> Principal:
        """Return the caller of a call that came in by an address.

        A token or a known certificate decides wherever the call comes from, so that a caller can
        give up rights. Raises TokenMissing, TokenUnknown or CertificateUnknown, or CallerUnknown
        if that takes long to find out.
        """
        if shown.authorization is not None and tokens.is_bearer(shown.authorization):
            return self._by_token(shown.authorization)
        if shown.sans is not None:
            return self._by_certificate(shown.sans)
        local = self._rules.local
        if local is Local.TOKEN:
            raise _missing("this service lets in nobody without a token (auth.local)")
        if address.kind is Kind.NETWORK:
            raise _missing(
                f"{address.text} can be reached from other machines, so every call there needs a "
                "token"
            )
        if local is Local.ANYONE or address.kind is Kind.SOCKET:
            return LOCAL
        return self._by_user(address, shown.end)

    def _by_token(self, authorization: str) -> Principal:
        token = tokens.of_authorization(authorization)
        known_by = tokens.digest(token) if token is not None else None
        found = self._rules.clients.by_token(known_by, self._now()) if known_by else None
        if found is None:
            raise TokenUnknown(
                "the token is not known to this service: it is mistyped, has expired or was "
                "revoked. Ask the service's operator for a new one."
            )
        return found

    def _by_certificate(self, sans: tuple[str, ...]) -> Principal:
        found = self._rules.clients.by_sans(sans)
        if found is None:
            told = tuple(name[:LONGEST_TOLD] for name in sans[:MOST_TOLD])
            why = (
                "no client of this service has one of the names of your certificate "
                f"({', '.join(told)}), or more than one has"
                if sans
                else "your certificate has no name that counts (subjectAltName): its common name "
                "does not"
            )
            raise CertificateUnknown(
                f"{why}. Ask the service's operator for one, or to add one as `san` of a "
                "[clients.NAME]; or show a token.",
                names=told,
            )
        return found

    def _by_user(self, address: ListenAddress, end: End | None) -> Principal:
        try:
            user = self._users.user_at(end, address.ends) if end is not None else None
        except UserUnknown as unknown:
            search = unknown.search
            raise CallerUnknown(lambda: self._of_user(address, search())) from None
        return self._of_user(address, user)

    def _of_user(self, address: ListenAddress, user: int | None) -> Principal:
        if user is not None and user in self._own_users:
            return LOCAL
        if user is None:
            raise _missing(f"the service cannot tell whose your connection to {address.text} is")
        raise _missing(
            f"you are the user with the id {user}, and by {address.text} only the service's own "
            "user may call without a token"
            if user != self._unmapped_user
            else f"your user id, {user}, stands for all users that the service's container does "
            f"not know, so that by {address.text} you need a token",
            user,
        )


def _missing(why: str, user: int | None = None) -> TokenMissing:
    """Return the error for a caller that shows nothing. why: it needs a token; user: its uid."""
    return TokenMissing(
        f"{why}. Ask the service's operator for a token (pool-service token create NAME), and name "
        "the file with it in POOL_SERVICE_TOKEN_FILE.",
        user=user,
    )
