"""Who is found by a token or a certificate."""

import pytest

from pool_service.access.clients import Client, Clients, merged
from pool_service.access.principal import Principal, Scope

A, B = (Principal(name, Scope.USE) for name in "ab")


def test_a_token_is_its_clients_until_it_expires() -> None:
    clients = Clients([Client(A, b"1", expires_at=100.0), Client(B, b"2")])
    assert clients.by_token(b"1", now=99.9) is A
    assert clients.by_token(b"1", now=100.0) is None
    assert clients.by_token(b"2", now=1e12) is B
    assert clients.by_token(b"3", now=0.0) is None


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (["spiffe://home/a"], A),
        (["b.example"], B),
        (["other", "b.example"], B),
        (["spiffe://home/a", "second-of-a"], A),
        (["spiffe://home/a", "b.example"], None),
        (["other"], None),
        ([], None),
    ],
)
def test_a_certificate_is_the_clients_whose_names_it_has_alone(
    shown: list[str], found: Principal | None
) -> None:
    clients = Clients(
        [
            Client(A, sans=frozenset({"spiffe://home/a", "second-of-a"})),
            Client(B, sans=frozenset({"b.example"})),
        ]
    )
    assert clients.by_sans(shown) is found


def test_the_configurations_client_counts_before_one_of_the_file() -> None:
    clients, flaws = merged([Client(A, b"1")], [Client(A, b"2"), Client(B, b"3")])
    assert clients.by_token(b"1", 0.0) is A
    assert clients.by_token(b"2", 0.0) is None
    assert clients.by_token(b"3", 0.0) is B
    assert len(clients) == 2
    (flaw,) = flaws
    assert "[clients.a]" in flaw


def test_of_two_with_the_same_token_the_configurations_counts() -> None:
    clients, _ = merged([Client(A, b"1")], [Client(B, b"1")])
    assert clients.by_token(b"1", 0.0) is A
