"""Claims about which connections to a server are a use of it."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from pool_service.adapters.sockets import connections
from pool_service.adapters.sockets.connections import (
    Ends,
    ListeningPort,
    client_connections,
    connections_in_use,
    has_clients_by_psutil,
    has_unread_request,
    listening_ports,
    port_of_endpoint,
)
from pool_service.adapters.sockets.sock_diag import CLOSE_WAIT, ESTABLISHED, ConnectionEnd

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
PORT, PEER = 8000, 50_000
FIN_WAIT = 5
NOBODY = 2**22 + 1
CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))):
    sys.stdin.read()
"""


def end(
    state: int = ESTABLISHED, host: str = "127.0.0.1", peer: str = "", **more: int
) -> ConnectionEnd:
    fields = {"inode": 10, "unread": 0, **more}
    return ConnectionEnd(state, host, PORT, peer or host, PEER, **fields)


def client(state: int = ESTABLISHED, host: str = "127.0.0.1", inode: int = 20) -> ConnectionEnd:
    return ConnectionEnd(state, host, PEER, host, PORT, inode, 0)


def used(
    server: ConnectionEnd,
    *clients: ConnectionEnd,
    own: set[int] | None = None,
    ports: tuple[int, ...] = (),
) -> bool:
    ends = Ends((server,), clients, frozenset(own or ()), frozenset(ports))
    return bool(list(connections_in_use(ends)))


@pytest.mark.parametrize(
    ("server", "its_client"),
    [
        (end(), client()),
        # Its client sent all that it had to say, and waits for the answer.
        (end(CLOSE_WAIT), client(FIN_WAIT)),
        # Elsewhere, so that nothing of it is known.
        (end(host="10.0.0.2", peer="10.0.0.9"), None),
        (end(CLOSE_WAIT, host="10.0.0.2", peer="10.0.0.9"), None),
        # The other end as IPv4 within IPv6 shows it.
        (end(host="::ffff:127.0.0.1"), client()),
        (end(CLOSE_WAIT, host="::ffff:127.0.0.1"), client(FIN_WAIT)),
        # In the queue, taken by nobody yet.
        (end(inode=0), client()),
    ],
)
def test_a_connection_whose_client_may_wait_is_a_use(
    server: ConnectionEnd, its_client: ConnectionEnd | None
) -> None:
    assert used(server, *([its_client] if its_client else []))


@pytest.mark.parametrize(
    ("server", "its_client"),
    [
        (end(CLOSE_WAIT), None),
        (end(CLOSE_WAIT), client(FIN_WAIT, inode=0)),
        (end(CLOSE_WAIT, host="::ffff:127.0.0.1"), None),
        (end(CLOSE_WAIT, host="::1"), None),
        # Only this machine calls from the server's own address.
        (end(CLOSE_WAIT, host="10.0.0.2"), None),
    ],
)
def test_one_whose_client_is_gone_is_none(
    server: ConnectionEnd, its_client: ConnectionEnd | None
) -> None:
    assert not used(server, *([its_client] if its_client else []))


def test_what_the_server_itself_or_the_pool_opened_is_none() -> None:
    assert not used(end(), client(), own={20})
    assert used(end(), client(), own={10})
    assert not used(end(), client(), ports=(PEER,))
    assert not used(end(CLOSE_WAIT), client(FIN_WAIT), own={20})


def test_a_request_that_was_not_read_is_arriving() -> None:
    assert has_unread_request(end(inode=0))
    assert has_unread_request(end(unread=1))
    assert has_unread_request(end(CLOSE_WAIT, unread=2))
    assert not has_unread_request(end())
    # That is the end of what its client sends.
    assert not has_unread_request(end(CLOSE_WAIT, unread=1))


# --- with real sockets ---------------------------------------------------------------------


def at(server: socket.socket) -> set[ListeningPort]:
    return {ListeningPort(server.getsockname()[1], server.family == socket.AF_INET6)}


def test_a_server_at_one_address_has_the_connections_to_that_alone() -> None:
    anywhere = {ListeningPort(80, is_v6=False)}
    assert port_of_endpoint("http://127.0.0.1:80") == anywhere
    assert port_of_endpoint("http://127.0.0.2:80") == {ListeningPort(80, False, "127.0.0.2")}
    assert port_of_endpoint("http://[fd00::11]:80") == {ListeningPort(80, True, "fd00::11")}
    assert port_of_endpoint("http://[::1]:80") == {ListeningPort(80, is_v6=True)}
    assert port_of_endpoint("") == set()


@on_linux
def test_a_stranger_on_the_same_port_of_another_address_is_no_use() -> None:
    with (
        socket.create_server(("127.0.0.2", 0)) as ours,
        socket.create_server(("127.0.0.1", ours.getsockname()[1])) as theirs,
        socket.create_connection(theirs.getsockname()),
    ):
        ports = listening_ports([os.getpid()], f"http://127.0.0.2:{ours.getsockname()[1]}")
        ours_alone = {one for one in ports if one.host == "127.0.0.2"}
        assert len(ours_alone) == 1
        assert client_connections(ours_alone, [NOBODY]) == ()
        with socket.create_connection(ours.getsockname()):
            assert len(client_connections(ours_alone, [NOBODY])) == 1


def by_netlink(server: socket.socket) -> bool:
    return bool(client_connections(at(server), [NOBODY]))


@on_linux
@pytest.mark.parametrize(
    ("family", "host", "to"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.2", "127.0.0.2"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_a_connection_is_seen_from_its_queue_until_its_client_is_gone(
    family: socket.AddressFamily, host: str, to: str
) -> None:
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as server:
        port = server.getsockname()[1]
        assert not by_netlink(server)
        with socket.create_connection((to, port)) as peer:
            (queued,) = client_connections(at(server), [NOBODY])
            assert has_unread_request(queued)
            accepted, _ = server.accept()
            with accepted:
                (quiet,) = client_connections(at(server), [NOBODY])
                assert not has_unread_request(quiet)
                peer.sendall(b"GET")
                assert all(map(has_unread_request, client_connections(at(server), [NOBODY])))
                accepted.recv(10)
                peer.shutdown(socket.SHUT_WR)
                assert by_netlink(server)
                peer.close()
                assert not by_netlink(server)


@on_linux
def test_what_the_process_itself_opened_does_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            assert by_netlink(server)
            assert client_connections(at(server), [os.getpid()]) == ()
            assert has_clients_by_psutil({port}, [os.getpid()]) is False


@on_linux
def test_of_very_many_none_is_left_out() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=600))
        address = server.getsockname()
        for _ in range(500):
            stack.enter_context(socket.create_connection(address))
        assert len(client_connections(at(server), [NOBODY])) == 500
        assert client_connections(at(server), [os.getpid()]) == ()


def test_a_client_is_told_by_psutil_until_the_server_lets_go_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_SETTLE_S", 0.0)
    me = [os.getpid()]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", CLIENT, str(port)], stdin=subprocess.PIPE
        ) as peer:
            accepted, _ = server.accept()
            with accepted:
                assert has_clients_by_psutil({port}, me) is True
                assert has_clients_by_psutil({port + 1}, me) is False
                assert peer.stdin
                peer.stdin.close()
                assert accepted.recv(1) == b""
                assert has_clients_by_psutil({port}, me) is True
        assert has_clients_by_psutil({port}, me) is False


def test_of_a_process_that_is_gone_nothing_is_connected() -> None:
    assert has_clients_by_psutil({80}, [NOBODY]) is False
