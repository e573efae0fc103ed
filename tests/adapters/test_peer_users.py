"""Whose a connection of this machine is, with real connections."""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from pool_service.adapters.sockets import exact_queries, peer_users
from pool_service.adapters.sockets.peer_users import SockDiagUsers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's netlink")

NOBODY = 65534


@contextmanager
def connected(
    listens_at: str, by: str = "", family: int | None = None
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and the service's end of its connection. by: the address that it connects to."""
    with ExitStack() as stack:
        own_family = socket.AF_INET6 if ":" in listens_at else socket.AF_INET
        listener = stack.enter_context(closing(socket.socket(own_family)))
        listener.bind((listens_at, 0))
        listener.listen()
        client = stack.enter_context(closing(socket.socket(family or own_family)))
        client.connect((by or listens_at, listener.getsockname()[1]))
        accepted, _ = listener.accept()
        stack.enter_context(closing(accepted))
        yield client, accepted


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the list that receives each question by netlink from now on."""
    asked: list[bytes] = []
    find = exact_queries.ExactQuery.find

    def counting(query: exact_queries.ExactQuery, question: bytes) -> bytes | None:
        asked.append(question)
        return find(query, question)

    monkeypatch.setattr(exact_queries.ExactQuery, "find", counting)
    return asked


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_of_mine_is_mine(host: str) -> None:
    with connected(host) as (client, accepted):
        peer, end = accepted.getpeername()[:2], accepted.getsockname()[:2]
        users = SockDiagUsers()
        assert users.user_at(peer, [end]) == os.getuid()
        assert users.user_at(peer, [("127.0.0.1", 1), ("::1", 1), end]) == os.getuid()
        client.shutdown(socket.SHUT_WR)
        assert users.user_at(peer, [end]) == os.getuid(), "it still waits for an answer"


def test_a_connection_by_a_mapped_address_is_mine() -> None:
    with connected("127.0.0.1", "::ffff:127.0.0.1", socket.AF_INET6) as (_, accepted):
        assert SockDiagUsers().user_at(accepted.getpeername(), [accepted.getsockname()]) == (
            os.getuid()
        )


def test_what_is_closed_or_never_was_is_nobodys() -> None:
    users = SockDiagUsers()
    with connected("127.0.0.1") as (client, accepted):
        peer, end = accepted.getpeername(), accepted.getsockname()
        assert users.user_at(peer, [(end[0], 1)]) is None
        assert users.user_at(("127.0.0.1", 1), [end]) is None
        assert users.user_at(end, [(peer[0], 1)]) is None, "that end listens"
        client.close()
        assert users.user_at(peer, [end]) is None
    assert users.user_at(peer, [end]) is None
    assert users.user_at(("no address", 1), [end]) is None


@pytest.mark.skipif(os.getuid() != 0, reason="makes a socket as another user")
def test_a_connection_of_another_user_is_that_users() -> None:
    with ExitStack() as stack:
        os.seteuid(NOBODY)
        stack.callback(os.seteuid, 0)
        _, accepted = stack.enter_context(connected("127.0.0.1"))
        peer, end = accepted.getpeername(), accepted.getsockname()
        os.seteuid(0)
        assert SockDiagUsers().user_at(peer, [end]) == NOBODY


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_frequent_caller_is_known_without_netlink_while_its_connection_is_open(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = SockDiagUsers()
    with connected(host) as (client, accepted):
        peer, end = accepted.getpeername()[:2], accepted.getsockname()[:2]
        asked = counted(monkeypatch)
        for _ in range(peer_users.CALLS_OF_A_FREQUENT_CALLER):
            assert users.user_at(peer, [end]) == os.getuid()
        before = len(asked)
        for _ in range(9):
            assert users.user_at(peer, [end]) == os.getuid()
        assert len(asked) == before > 0
        client.close()
        assert users.user_at(peer, [end]) is None
        assert accepted.fileno() >= 0, "what was borrowed stays open"


@pytest.mark.skipif(os.getuid() != 0, reason="makes a socket as another user")
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "not closed yet"])
def test_another_user_with_the_same_port_is_not_taken_for_a_frequent_caller(
    *, closed: bool
) -> None:
    """The service's end may be open still when its connection is gone, and its number reused."""
    users = SockDiagUsers()
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        end = listener.getsockname()
        client = stack.enter_context(closing(socket.create_connection(end)))
        accepted, peer = listener.accept()
        stack.enter_context(closing(accepted))
        for _ in range(2 * peer_users.CALLS_OF_A_FREQUENT_CALLER):
            assert users.user_at(peer, [end]) == os.getuid()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        if closed:
            accepted.close()
        os.seteuid(NOBODY)
        stack.callback(os.seteuid, 0)
        other = stack.enter_context(closing(socket.socket()))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(peer)
        other.connect(end)
        os.seteuid(0)
        again, _ = listener.accept()
        stack.enter_context(closing(again))
        assert users.user_at(peer, [end]) == NOBODY


@pytest.mark.skipif(os.getuid() != 0, reason="makes a socket as another user")
def test_another_user_with_the_same_port_to_another_address_is_not_taken_for_it() -> None:
    """A port is a connection's own only together with the address that it leads to."""
    users = SockDiagUsers()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(2)
        )
        client = stack.enter_context(closing(socket.socket()))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.connect(first.getsockname())
        peer = client.getsockname()
        for _ in range(2 * peer_users.CALLS_OF_A_FREQUENT_CALLER):
            assert users.user_at(peer, [first.getsockname()]) == os.getuid()
        os.seteuid(NOBODY)
        stack.callback(os.seteuid, 0)
        other = stack.enter_context(closing(socket.socket()))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(peer)
        other.connect(second.getsockname())
        os.seteuid(0)
        assert users.user_at(peer, [second.getsockname()]) == NOBODY
        assert users.user_at(peer, [first.getsockname()]) == os.getuid()


def test_a_caller_is_known_though_its_connection_cannot_be_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(exact_queries.ConnectionQuery, "cookie_of", refused)
    users = SockDiagUsers()
    with connected("127.0.0.1") as (_, accepted):
        peer, end = accepted.getpeername(), accepted.getsockname()
        for _ in range(2 * peer_users.CALLS_OF_A_FREQUENT_CALLER):
            assert users.user_at(peer, [end]) == os.getuid()


def test_where_netlink_is_refused_nobody_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(exact_queries.ExactQuery, "_ask", refused)
    with connected("127.0.0.1") as (_, accepted):
        peer, end = accepted.getpeername(), accepted.getsockname()
        assert SockDiagUsers().user_at(peer, [end]) is None
