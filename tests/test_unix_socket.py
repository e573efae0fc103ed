"""The socket of a service that runs: removed, replaced, another's, and where there is no place."""

import asyncio
import errno
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest
from structlog.testing import capture_logs

from pool_service.address import LONGEST_SOCKET_PATH
from pool_service.unix_socket import UnixSocket


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[UnixSocket]:
    first = grpc.aio.server()
    unix_socket = UnixSocket(path, grpc.aio.server)
    unix_socket.bind(first)
    await first.start()
    yield unix_socket
    unix_socket.remove()
    await unix_socket.stop(0)
    await first.stop(0)


async def is_answered(path: Path) -> bool:
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
    return True


class Ending:
    """A server that ends only while others do."""

    def __init__(self, together: asyncio.Barrier) -> None:
        self._together = together

    def add_insecure_port(self, address: str) -> None:
        Path(address.removeprefix("unix:")).touch()

    async def start(self) -> None:
        pass

    async def stop(self, _grace: float) -> None:
        await self._together.wait()


async def test_what_was_made_again_twice_ends_within_one_grace(tmp_path: Path) -> None:
    together, path = asyncio.Barrier(2), tmp_path / "socket"
    unix_socket = UnixSocket(path, lambda: cast("grpc.aio.Server", Ending(together)))
    for _ in range(2):
        await unix_socket.restore()
        path.unlink()
    await asyncio.wait_for(unix_socket.stop(5.0), 10)


def gone(path: Path) -> None:
    path.unlink()


def gone_with_its_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def replaced_by_a_dead_one(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def moved_away(path: Path) -> None:
    path.rename(path.with_name("moved"))


@pytest.mark.parametrize(
    "harm", [gone, gone_with_its_directory, replaced_by_a_dead_one, moved_away]
)
async def test_a_socket_that_was_removed_is_made_again_and_who_is_connected_stays_so(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "run" / "pool.sock"
    channel = grpc.aio.insecure_channel(f"unix:{path}")
    async with listening(path) as unix_socket, channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
        for _ in range(2):
            harm(path)
            await unix_socket.restore()
            assert await is_answered(path)
            assert path.stat().st_mode & 0o077 == 0
            path.with_name("moved").unlink(missing_ok=True)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
    assert not path.exists()


async def test_a_check_of_a_socket_that_is_there_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pool.sock"
    async with listening(path) as unix_socket:
        before = path.lstat()
        with capture_logs() as logs:
            await unix_socket.restore()
        assert os.path.samestat(before, path.lstat())
        assert logs == []


async def test_the_socket_of_another_program_is_left_alone_and_ours_made_when_it_has_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pool.sock"
    async with listening(path) as unix_socket:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other, capture_logs() as logs:
            other.bind(str(path))
            other.listen()
            its = path.lstat()
            await unix_socket.restore()
            await unix_socket.restore()
            assert os.path.samestat(its, path.lstat())
        assert [line["event"] for line in logs] == ["there is no socket; trying again"]
        await unix_socket.restore()
        assert await is_answered(path)


async def test_at_the_end_the_socket_of_another_program_stays(tmp_path: Path) -> None:
    path = tmp_path / "pool.sock"
    with socket.socket(socket.AF_UNIX) as other:
        async with listening(path):
            path.unlink()
            other.bind(str(path))
            other.listen()
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pool.sock"
    async with listening(path) as unix_socket:
        path.unlink()
        if kind == "file":
            path.write_text("precious")
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "elsewhere")
        its = path.lstat()
        await unix_socket.restore()
        assert os.path.samestat(its, path.lstat())


async def test_a_disk_without_a_place_for_it_keeps_no_service_from_its_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pool.sock"
    full = True
    bind = socket.socket.bind

    def bound(self: socket.socket, address: str) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", bound)
    async with listening(path) as unix_socket:
        assert not path.exists()
        await unix_socket.restore()
        full = False
        await unix_socket.restore()
        assert await is_answered(path)


async def test_a_path_too_long_for_a_temporary_name_is_served(tmp_path: Path) -> None:
    room = LONGEST_SOCKET_PATH - len(os.fsencode(tmp_path)) - len("//s")
    directory = tmp_path / ("d" * room)
    if room < 1:
        pytest.skip("the temporary directory's own name is too long")
    async with listening(directory / "s"):
        assert await is_answered(directory / "s")
