"""Whose a call is: every way in, with everything that a call can show."""

from collections.abc import Sequence

import pytest

from pool_service.access import tokens
from pool_service.access.authentication import (
    Authentication,
    CallerUnknown,
    End,
    Kind,
    ListenAddress,
    Local,
    PeerUsers,
    Rules,
    Shown,
    UserUnknown,
)
from pool_service.access.clients import Client, Clients
from pool_service.access.principal import LOCAL, Principal, Scope
from pool_service.core.errors import (
    CertificateUnknown,
    PoolError,
    TokenMissing,
    TokenUnknown,
)

ME, ROOT, OTHER = 1000, 0, 1001
ENGINE = Principal("engine", Scope.USE)
TOKEN = tokens.new_token()
SAN = "spiffe://home/engine"
ADDRESSES = {
    kind: ListenAddress(kind, f"the {kind.value}", (("127.0.0.1", 50051), ("::1", 50051)))
    for kind in Kind
}


class Users:
    """Knows whose the other ends are; a port that is not listed cannot be told."""

    def __init__(self) -> None:
        self.asked: list[tuple[End, Sequence[End]]] = []

    def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
        self.asked.append((peer, ends))
        return {1: ME, 2: ROOT, 3: OTHER}.get(peer[1])


def authentication(
    local: Local, users: PeerUsers | None = None, now: float = 0.0
) -> Authentication:
    known = tokens.digest(TOKEN)
    clients = Clients([Client(ENGINE, known, frozenset({SAN}), expires_at=100.0)])
    rules = Rules(local, clients)
    return Authentication(rules, users or Users(), frozenset({ME, ROOT}), lambda: now)


MINE, ROOTS, OTHERS, UNKNOWN = (Shown(("127.0.0.1", port)) for port in (1, 2, 3, 4))
NOTHING = Shown()


@pytest.mark.parametrize(
    ("local", "kind", "shown", "expected"),
    [
        (Local.SAME_USER, Kind.SOCKET, NOTHING, LOCAL),
        (Local.SAME_USER, Kind.LOOPBACK, MINE, LOCAL),
        (Local.SAME_USER, Kind.LOOPBACK, ROOTS, LOCAL),
        (Local.SAME_USER, Kind.LOOPBACK, OTHERS, TokenMissing),
        (Local.SAME_USER, Kind.LOOPBACK, UNKNOWN, TokenMissing),
        (Local.SAME_USER, Kind.LOOPBACK, NOTHING, TokenMissing),
        (Local.SAME_USER, Kind.NETWORK, MINE, TokenMissing),
        (Local.TOKEN, Kind.SOCKET, NOTHING, TokenMissing),
        (Local.TOKEN, Kind.LOOPBACK, MINE, TokenMissing),
        (Local.TOKEN, Kind.NETWORK, MINE, TokenMissing),
        (Local.ANYONE, Kind.SOCKET, NOTHING, LOCAL),
        (Local.ANYONE, Kind.LOOPBACK, OTHERS, LOCAL),
        (Local.ANYONE, Kind.NETWORK, MINE, TokenMissing),
    ],
)
def test_who_shows_nothing_is_known_by_the_way_in(
    local: Local, kind: Kind, shown: Shown, expected: Principal | type[PoolError]
) -> None:
    if isinstance(expected, Principal):
        assert authentication(local).principal(ADDRESSES[kind], shown) is expected
        return
    with pytest.raises(expected) as refused:
        authentication(local).principal(ADDRESSES[kind], shown)
    assert reason_of(local, kind) in str(refused.value)


def reason_of(local: Local, kind: Kind) -> str:
    """What a caller is told who shows nothing."""
    if local is Local.TOKEN:
        return "auth.local"
    return "other machines" if kind is Kind.NETWORK else f"the {kind.value}"


def test_a_user_that_stands_for_many_is_told_so() -> None:
    asked = Authentication(Rules(), Users(), frozenset({0}), lambda: 0.0, unmapped_user=OTHER)
    with pytest.raises(TokenMissing, match="stands for all users"):
        asked.principal(ADDRESSES[Kind.LOOPBACK], OTHERS)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("local", Local)
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, ENGINE),
        ({"authorization": f"Bearer {tokens.new_token()}"}, TokenUnknown),
        ({"authorization": "Bearer"}, TokenUnknown),
        ({"authorization": ""}, TokenUnknown),
        ({"sans": (SAN,)}, ENGINE),
        ({"sans": ("spiffe://home/nobody",)}, CertificateUnknown),
        ({"sans": ()}, CertificateUnknown),
        ({"authorization": f"Bearer {tokens.new_token()}", "sans": (SAN,)}, TokenUnknown),
    ],
)
def test_what_is_shown_decides_wherever_the_call_comes_from(
    local: Local, kind: Kind, more: dict[str, object], expected: Principal | type[PoolError]
) -> None:
    users = Users()
    asked = authentication(local, users)
    shown = MINE._replace(**more)  # type: ignore[arg-type]
    if isinstance(expected, Principal):
        assert asked.principal(ADDRESSES[kind], shown) is expected
    else:
        with pytest.raises(expected):
            asked.principal(ADDRESSES[kind], shown)
    assert users.asked == []


def test_a_user_who_is_searched_for_is_let_in_or_refused_after_the_search() -> None:
    class Searching:
        def __init__(self, user: int | None) -> None:
            self.user = user

        def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
            raise UserUnknown(lambda: self.user)

    for user, is_let_in in ((ME, True), (OTHER, False), (None, False)):
        asked = authentication(Local.SAME_USER, Searching(user))
        with pytest.raises(CallerUnknown) as unknown:
            asked.principal(ADDRESSES[Kind.LOOPBACK], MINE)
        if is_let_in:
            assert unknown.value.search() is LOCAL
        else:
            with pytest.raises(TokenMissing):
                unknown.value.search()


def test_a_header_for_somebody_else_is_no_token() -> None:
    shown = MINE._replace(authorization="Basic YTpi")
    asked = authentication(Local.SAME_USER)
    assert asked.principal(ADDRESSES[Kind.LOOPBACK], shown) is LOCAL
    with pytest.raises(TokenMissing):
        authentication(Local.TOKEN).principal(ADDRESSES[Kind.LOOPBACK], shown)


def test_an_expired_token_is_unknown() -> None:
    shown = MINE._replace(authorization=f"Bearer {TOKEN}")
    with pytest.raises(TokenUnknown):
        authentication(Local.ANYONE, now=100.0).principal(ADDRESSES[Kind.LOOPBACK], shown)


def test_no_error_repeats_the_token() -> None:
    secret = tokens.new_token()
    shown = MINE._replace(authorization=f"Bearer {secret}")
    with pytest.raises(TokenUnknown) as refused:
        authentication(Local.TOKEN).principal(ADDRESSES[Kind.NETWORK], shown)
    assert secret not in str(refused.value)


def test_an_error_repeats_a_few_names_of_a_certificate_and_their_beginnings() -> None:
    shown = MINE._replace(sans=tuple(f"spiffe://{number}/{'x' * 1000}" for number in range(100)))
    with pytest.raises(CertificateUnknown) as refused:
        authentication(Local.TOKEN).principal(ADDRESSES[Kind.NETWORK], shown)
    assert len(refused.value.names) == 8
    assert max(map(len, refused.value.names)) == 256
    assert len(str(refused.value)) < 2500


def test_another_user_is_told_by_the_id() -> None:
    with pytest.raises(TokenMissing) as refused:
        authentication(Local.SAME_USER).principal(ADDRESSES[Kind.LOOPBACK], OTHERS)
    assert refused.value.user == OTHER
    assert str(OTHER) in str(refused.value)


def test_a_change_of_the_rules_counts_from_the_next_call_on() -> None:
    rules = Rules(Local.TOKEN)
    asked = Authentication(rules, Users(), frozenset({ME}), lambda: 0.0)
    address = ADDRESSES[Kind.SOCKET]
    with pytest.raises(TokenMissing):
        asked.principal(address, NOTHING)
    rules.local = Local.SAME_USER
    assert asked.principal(address, NOTHING) is LOCAL
    rules.clients = Clients([Client(ENGINE, tokens.digest(TOKEN))])
    assert asked.principal(address, Shown(authorization=f"Bearer {TOKEN}")) is ENGINE
    rules.clients = Clients()
    with pytest.raises(TokenUnknown):
        asked.principal(address, Shown(authorization=f"Bearer {TOKEN}"))
