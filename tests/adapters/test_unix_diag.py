"""Claims about who is connected to a server's unix sockets."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pool_service.adapters.sockets import unix_diag
from pool_service.adapters.sockets.connections import has_clients
from pool_service.adapters.sockets.unix_diag import (
    UnixSocket,
    has_unix_clients,
    parse,
    unix_sockets,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")

# Listens at a name of the kernel's own, and accepts when it is told to.
SERVER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1].replace("@", chr(0)))
listener.listen()
kept = []
print("up", flush=True)
for line in sys.stdin:
    if line.strip() == "connect":
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].connect(listener.getsockname())
    kept.append(listener.accept()[0])
    print("done", flush=True)
"""


class Served:
    def __init__(self) -> None:
        self.name = f"@unix-diag-{os.getpid()}-{os.urandom(4).hex()}"
        arguments = (sys.executable, "-S", "-E", "-c", SERVER, self.name)
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._await()

    def _await(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self._await()

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.name.replace("@", "\0"))
        return client

    def is_used(self) -> bool | None:
        return has_clients((), [self.process.pid])


@pytest.fixture
def server() -> Iterator[Served]:
    with _ended(Served()) as served:
        yield served


@contextmanager
def _ended(served: Served) -> Iterator[Served]:
    try:
        yield served
    finally:
        served.process.kill()
        served.process.communicate()


@on_linux
def test_who_is_connected_at_a_unix_socket_uses_the_server(server: Served) -> None:
    assert server.is_used() is False
    with server.client():
        assert server.is_used() is True, "it waits to be accepted"
        server.tell("accept")
        assert server.is_used() is True
    assert server.is_used() is False, "the client is gone"


@on_linux
def test_a_server_that_talks_to_itself_over_one_is_not_used(server: Served) -> None:
    server.tell("connect")
    assert server.is_used() is False


@on_linux
def test_what_a_server_is_connected_to_elsewhere_is_no_use_of_it(server: Served) -> None:
    with server.client() as client:
        server.tell("accept")
        assert not has_unix_clients(frozenset({os.fstat(client.fileno()).st_ino}))
        assert any(one.is_listening for one in unix_sockets())


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        (b"", UnixSocket(True, b"", 7, 0, 0)),
        (struct.pack("=HH4s", 8, 0, b"name"), UnixSocket(True, b"name", 7, 0, 0)),
        (struct.pack("=HHII", 12, 4, 3, 9), UnixSocket(True, b"", 7, 0, 3)),
        (struct.pack("=HH", 0, 2), UnixSocket(True, b"", 7, 0, 0)),
        (struct.pack("=HHH", 6, 2, 1), UnixSocket(True, b"", 7, 0, 0)),
    ],
)
def test_a_message_is_read_also_where_it_is_cut_off(attributes: bytes, told: UnixSocket) -> None:
    assert parse(struct.pack("=BBBxIII", 1, 1, 10, 7, 0, 0) + attributes) == told
    with pytest.raises(OSError, match="too short"):
        parse(b"\x01" * 15)


def test_an_attribute_may_be_empty_and_one_that_is_cut_off_is_the_end() -> None:
    empty, full = struct.pack("HH", 4, 1), struct.pack("HH", 6, 2) + b"ab\0\0"
    assert list(unix_diag._attributes(empty + full)) == [(1, b""), (2, b"ab")]
    assert list(unix_diag._attributes(full + struct.pack("HH", 3, 3))) == [(2, b"ab")]
