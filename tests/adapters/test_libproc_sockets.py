"""Sockets of a process as macOS's libproc tells them, run over one that tells from /proc."""

import ctypes
import errno
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pool_service.adapters.probe import activity
from pool_service.adapters.sockets import connections, libproc_sockets
from pool_service.adapters.sockets.connections import port_has_unread_requests
from pool_service.adapters.sockets.libproc_sockets import (
    CLOSE_WAIT,
    ESTABLISHED,
    LISTEN,
    KnownListener,
    ProcessSocket,
    socket_at,
    sockets_of,
)
from pool_service.core.types import Identity

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="tells from /proc"),
]

ME = os.getpid()


@pytest.fixture(autouse=True)
def _by_libproc(libproc: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(libproc_sockets, "_libproc", lambda: libproc)
    yield
    libproc.set_refused(0, 0)


def told(one: socket.socket) -> ProcessSocket:
    found = socket_at(ME, one.fileno())
    assert found is not None
    assert found in list(sockets_of(ME))
    return found


@pytest.mark.parametrize(
    ("family", "host", "to"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
)
def test_where_a_socket_is_and_with_whom_is_told(
    family: socket.AddressFamily, host: str, to: str
) -> None:
    with (
        socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as server,
        socket.create_connection((to, server.getsockname()[1])) as client,
        server.accept()[0] as accepted,
    ):
        port, peer_port = server.getsockname()[1], client.getsockname()[1]
        listening = told(server)
        assert (listening.state, listening.host, listening.port) == (LISTEN, host, port)
        ours = told(accepted)
        assert (ours.state, ours.host, ours.port) == (ESTABLISHED, to, port)
        assert (ours.peer_host, ours.peer_port) == (to, peer_port)
        theirs = told(client)
        assert (theirs.port, theirs.peer_port) == (peer_port, port)
        assert len({listening.generation, ours.generation, theirs.generation}) == 3


def test_what_was_not_accepted_and_not_read_is_counted() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert told(server).queued == 1
        with server.accept()[0] as accepted:
            assert (told(server).queued, told(accepted).unread) == (0, 0)
            client.sendall(b"GET")
            assert told(accepted).unread == 3
            client.shutdown(socket.SHUT_WR)
            accepted.recv(3)
            assert (told(accepted).state, told(accepted).unread) == (CLOSE_WAIT, 0)


def test_what_is_no_tcp_socket_is_left_out_and_what_is_none_an_error() -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket(type=socket.SOCK_DGRAM) as udp:
        assert socket_at(ME, unix.fileno()) is None
        assert socket_at(ME, udp.fileno()) is None
        assert not {unix.fileno(), udp.fileno()} & {one.descriptor for one in sockets_of(ME)}
    with Path(os.devnull).open() as file, pytest.raises(OSError, match="Bad file descriptor"):
        socket_at(ME, file.fileno())


def test_of_a_process_that_may_not_be_asked_nothing_is_told(libproc: ctypes.CDLL) -> None:
    libproc.set_refused(ME, errno.EPERM)
    with pytest.raises(PermissionError):
        list(sockets_of(ME))
    libproc.set_refused(0, 0)
    with pytest.raises(ProcessLookupError):
        list(sockets_of(2**22 + 1))


def test_a_process_with_many_descriptors_is_told_of_whole() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(100)]
        found = {one.descriptor for one in sockets_of(ME)}
        assert {server.fileno() for server in servers} <= found


def test_descriptors_that_are_opened_during_the_look_are_told_of(
    libproc: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list that was asked for is full then: more room is made for it."""

    class Growing:
        proc_pidfdinfo = libproc.proc_pidfdinfo

        def proc_pidinfo(self, *arguments: object) -> int:
            return libproc.proc_pidinfo(*arguments) if arguments[4] else 16

    monkeypatch.setattr(libproc_sockets, "_libproc", Growing)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.fileno() in {one.descriptor for one in sockets_of(ME)}


def test_a_listener_is_known_until_it_is_closed_whatever_has_its_descriptor_then() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        known = KnownListener.at(ME, server.fileno())
        assert known.listens()
        with socket.create_server(("127.0.0.1", 0)) as other:
            os.dup2(other.fileno(), server.fileno())
            assert not known.listens()
    assert not known.listens()


def test_a_connection_is_no_listener() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert not KnownListener.at(ME, client.fileno()).listens()


# --- use ---------------------------------------------------------------------------------------


CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connected:
    connected.sendall(sys.argv[2].encode())
    sys.stdin.read()
"""


@contextmanager
def client(port: int, says: str) -> Iterator[None]:
    """Another process that is connected."""
    command = (sys.executable, "-S", "-E", "-c", CLIENT, str(port), says)
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield
        process.communicate()


def test_a_request_is_seen_in_the_queue_and_until_it_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_has_unread_requests(port, [ME])
        with client(port, "GET"):
            select.select([server], [], [])
            assert port_has_unread_requests(port, [ME]), "in the queue"
            with server.accept()[0] as accepted:
                assert accepted.recv(1) == b"G"
                assert port_has_unread_requests(port, [ME]), "there is more of it"
                assert accepted.recv(10) == b"ET"
                assert not port_has_unread_requests(port, [ME]), "it has read all"


def test_what_is_connected_elsewhere_is_no_request() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as other,
        client(other.getsockname()[1], "GET"),
    ):
        select.select([other], [], [])
        assert not port_has_unread_requests(server.getsockname()[1], [ME])


def test_what_the_server_itself_or_the_pool_sends_is_no_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as own, server.accept()[0]:
            own.sendall(b"GET")
            assert not port_has_unread_requests(port, [ME])
        with client(port, "GET"), server.accept()[0] as accepted:
            select.select([accepted], [], [])
            assert port_has_unread_requests(port, [ME])
            ours = frozenset({accepted.getpeername()[1]})
            monkeypatch.setattr(connections, "own_ports", lambda: ours)
            assert not port_has_unread_requests(port, [ME])


def test_of_who_may_not_be_asked_no_request_is_known(libproc: ctypes.CDLL) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with client(port, "GET"):
            select.select([server], [], [])
            libproc.set_refused(ME, errno.EPERM)
            assert not port_has_unread_requests(port, [ME])


def test_a_server_that_says_that_it_is_idle_is_busy_while_a_request_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, identity = server.getsockname()[1], Identity(ME, 0, "")
        endpoint = f"http://127.0.0.1:{port}"
        assert not activity._has_unread_requests(identity, "", endpoint)
        with client(port, "GET"):
            select.select([server], [], [])
            assert activity._has_unread_requests(identity, "", endpoint)
