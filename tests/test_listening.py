"""Addresses that others have, as the kernel of each system shows it."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from pool_service import listening
from pool_service.address import AddressError
from pool_service.listening import make_way, resolve


@pytest.fixture
def bsd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: with SO_REUSEADDR what another listens on can be bound as well."""
    bind = listening._try_to_bind

    def shared(family: int, address: object, *, reuse: bool = True) -> None:
        if not reuse:
            bind(family, address, reuse=False)

    monkeypatch.setattr(listening, "_try_to_bind", shared)
    monkeypatch.setattr(listening, "_SHARES_PORTS", True)


@pytest.fixture
def everywhere() -> Iterator[int]:
    """A port on all addresses of this machine on which another program listens."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.usefixtures("bsd")
async def test_a_port_that_is_taken_on_all_addresses_is_taken(everywhere: int) -> None:
    with pytest.raises(AddressError, match="taken by another program"):
        await resolve(f"127.0.0.1:{everywhere}")


@pytest.mark.usefixtures("bsd")
async def test_a_connection_that_still_closes_is_in_nobodys_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        caller = socket.create_connection((host, port))
        server.accept()[0].close()  # first, so that it is the server's side that waits
        caller.close()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((host, port))
    assert await resolve(f"{host}:{port}")


@pytest.mark.usefixtures("bsd")
async def test_a_port_that_the_system_is_to_choose_is_asked_of_nobody() -> None:
    assert await resolve("127.0.0.1:0")


def test_a_socket_whose_queue_is_full_is_listened_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ExitStack() as stack:
        server = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        server.bind(str(path))
        server.listen(0)
        with suppress(BlockingIOError):
            while True:
                caller = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
                caller.setblocking(False)
                caller.connect(str(path))
        with pytest.raises(AddressError, match="another program listens there"):
            make_way(path)
    assert path.is_socket()


def test_a_socket_that_refuses_once_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS answers so while the queue of a living one is full."""
    answers = [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), None]

    class Busy(socket.socket):
        def connect(self, _address: object) -> None:
            answer = answers.pop(0)
            if answer is not None:
                raise answer

    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        monkeypatch.setattr(socket, "socket", Busy)
        with pytest.raises(AddressError, match="another program listens there"):
            make_way(path)
    assert path.is_socket()
