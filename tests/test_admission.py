"""Callers are let in or refused in one place, and the refused ones are kept."""

import asyncio
from typing import Any

import pytest

from pool_service.access.authentication import CallerUnknown, Kind, ListenAddress, Shown
from pool_service.access.principal import LOCAL, Principal, Scope
from pool_service.address import Address
from pool_service.admission import Admission, check_logs, kind_of
from pool_service.audit import Audit
from pool_service.core.errors import PoolError, ScopeMissing, TokenMissing
from pool_service.event_records import Call
from tests.access.letting_in import nothing_new
from tests.fake_events import FakeEvents

ADDRESS = ListenAddress(Kind.LOOPBACK, "127.0.0.1:50051")
CALL = Call("Reload", "", "ipv4:127.0.0.1:4711")
READER = Principal("reader", Scope.READ)


class Scripted:
    """An authentication that answers so, or raises this."""

    def __init__(self, outcome: Principal | Exception) -> None:
        self._outcome = outcome

    def principal(self, _address: ListenAddress, _shown: Shown) -> Principal:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def let_in(outcome: Principal | Exception, needed: Scope = Scope.ADMIN) -> Principal:
    authentication: Any = Scripted(outcome)
    admission = Admission(authentication, Audit(FakeEvents()), nothing_new)
    return await admission.principal(ADDRESS, Shown(), needed, CALL)


async def test_who_has_the_scope_is_let_in() -> None:
    assert await let_in(LOCAL) is LOCAL
    assert await let_in(READER, Scope.READ) is READER


async def test_who_is_searched_for_is_known_after_that_in_a_thread() -> None:
    loop = asyncio.get_running_loop()

    def search() -> Principal:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return LOCAL

    assert await let_in(CallerUnknown(search)) is LOCAL
    assert loop is asyncio.get_running_loop()


@pytest.mark.parametrize(
    ("outcome", "raised", "code", "reason"),
    [
        (TokenMissing("no token"), TokenMissing, "UNAUTHENTICATED", "TOKEN_MISSING"),
        (READER, ScopeMissing, "PERMISSION_DENIED", "SCOPE_MISSING"),
        (LookupError("a bug"), PoolError, "INTERNAL", "INTERNAL"),
    ],
    ids=["nobody", "too little", "a fault"],
)
async def test_who_is_refused_is_kept_with_the_reason(
    outcome: Principal | Exception, raised: type[PoolError], code: str, reason: str
) -> None:
    events = FakeEvents()
    authentication: Any = Scripted(outcome)
    admission = Admission(authentication, Audit(events), nothing_new)
    with pytest.raises(PoolError) as refused:
        await admission.principal(ADDRESS, Shown(), Scope.ADMIN, CALL)
    assert type(refused.value) is raised
    (kept,) = events.of("call")
    assert (kept["method"], kept["code"], kept["reason"]) == ("Reload", code, reason)
    assert kept["why"] == str(refused.value)
    assert "a bug" not in kept["why"]


async def test_a_fault_of_a_search_lets_nobody_in() -> None:
    def search() -> Principal:
        raise OSError("no descriptors")

    with pytest.raises(PoolError, match="could not find out"):
        await let_in(CallerUnknown(search))


def test_the_scope_that_is_missing_is_named() -> None:
    with pytest.raises(ScopeMissing) as refused:
        asyncio.run(let_in(READER))
    assert (refused.value.needed, refused.value.scope) == ("admin", "read")
    assert str(refused.value).startswith("Reload needs the scope admin, and 'reader' has read.")


def test_logs_need_a_right_of_their_own() -> None:
    check_logs(LOCAL)
    check_logs(Principal("debugger", Scope.READ, logs=True))
    with pytest.raises(ScopeMissing) as refused:
        check_logs(Principal("engine", Scope.ADMIN))
    assert refused.value.needed == "logs"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("unix:/run/pool/socket", Kind.SOCKET),
        ("127.0.0.1:50051", Kind.LOOPBACK),
        ("[::1]:50051", Kind.LOOPBACK),
        ("localhost:50051", Kind.LOOPBACK),
        ("0.0.0.0:50051", Kind.NETWORK),
        ("192.168.0.2:50051", Kind.NETWORK),
        ("[::]:50051", Kind.NETWORK),
    ],
)
def test_an_address_tells_from_where_it_can_be_reached(address: str, kind: Kind) -> None:
    assert kind_of(Address.parse(address)) is kind
