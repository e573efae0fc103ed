import errno
import os
import socket
import struct
import sys
from contextlib import ExitStack

import psutil
import pytest

from pool_service.adapters.sockets import listeners as module
from pool_service.adapters.sockets import sock_diag
from pool_service.adapters.sockets.listeners import Listener, listeners
from pool_service.adapters.sockets.sock_diag import (
    ListeningSocket,
    answers,
    listening_sockets,
    messages,
    parse,
    request,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
MANY = 700
"""So many that the kernel needs more than one message for them."""


def by_psutil() -> set[tuple[str, int, int]]:
    found = psutil.Process().net_connections("tcp")
    listening = [one for one in found if one.status == psutil.CONN_LISTEN]
    return {(one.laddr.ip, one.laddr.port, one.fd) for one in listening}


@on_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_it_tells_what_psutil_tells(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server, socket.socket() as bound:
        server.bind((host, 0))
        server.listen()
        bound.bind(("127.0.0.1", 0))
        name, port = server.getsockname()[:2]
        inode = os.fstat(server.fileno()).st_ino
        assert listening_sockets()[inode] == ListeningSocket(":" in host, name, port)
        assert inode in listening_sockets(port, is_v6=":" in host)
        assert inode not in listening_sockets(port, is_v6=":" not in host)
        on_port = listening_sockets(port)
        assert on_port[inode] == ListeningSocket(":" in host, name, port)
        assert {one.port for one in on_port.values()} == {port}
        told = {(one.host, one.port, one.descriptor) for one in listeners([os.getpid()])}
        assert told == by_psutil()
        assert (name, port, server.fileno()) in told


@on_linux
def test_of_very_many_none_is_left_out() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(MANY)]
        inodes = {os.fstat(server.fileno()).st_ino for server in servers}
        assert inodes <= listening_sockets().keys()


def test_where_netlink_is_forbidden_the_sockets_are_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(_port: int | None) -> dict[int, ListeningSocket]:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(module, "listening_sockets", forbidden)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        expected = Listener(False, "127.0.0.1", port, os.getpid(), server.fileno())
        assert listeners([os.getpid()], port) == (expected,)


@pytest.mark.parametrize("kind", [2, 3])
def test_a_list_that_could_not_be_made_is_an_error_and_no_empty_list(kind: int) -> None:
    """Without tcp_diag in the kernel its end (3) says ENOENT, and no error (2) comes before."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, ours:
        kernel.send(struct.pack("=IHHIIi", 20, kind, 2, 0, 0, -errno.ENOENT))
        with pytest.raises(FileNotFoundError):
            list(answers(ours))


@on_linux
def test_a_refusal_of_the_kernel_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no family 255."""
    monkeypatch.setattr(socket, "AF_INET", 255)
    with pytest.raises(OSError, match=r"No such file or directory|not supported|Invalid"):
        listening_sockets()


def test_messages_are_taken_apart_where_each_ends() -> None:
    first, second = request(socket.AF_INET), struct.pack("=IHHIIB3x", 17, 3, 0, 0, 0, 7)
    kinds = [(kind, len(body)) for kind, body in messages(first + second)]
    assert kinds == [(20, 56), (3, 1)]
    assert list(messages(b"short")) == []


def test_a_socket_of_the_kernels_answer_is_read() -> None:
    address = socket.inet_pton(socket.AF_INET, "127.0.0.1") + bytes(12)
    body = struct.pack("!B3xH2x16s44x", socket.AF_INET, 8080, address) + struct.pack("=I", 4711)
    assert parse(body) == (4711, ListeningSocket(False, "127.0.0.1", 8080))
    assert sock_diag.SOCKET.size == len(body)


def test_a_message_may_be_empty_and_one_that_is_cut_off_is_the_end() -> None:
    empty, full, cut = (sock_diag.HEADER.pack(length, 3, 0, 0, 0) for length in (16, 18, 15))
    assert list(sock_diag.messages(empty + full + b"ab\0\0" + empty[:15])) == [(3, b""), (3, b"ab")]
    assert list(sock_diag.messages(cut + full)) == []
