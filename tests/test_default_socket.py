"""The default socket: where it is, whose directory it is in, and a service that cannot have it."""

import asyncio
import os
import socket
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from pool_service.address import LONGEST_SOCKET_PATH, Address, AddressError
from pool_service.config import load
from pool_service.default_socket import make_private, socket_path
from pool_service.rpc.server import GrpcServer
from pool_service.rpc.servicer import PoolServicer
from tests.access.letting_in import admission
from tests.rpc.bare import server_of

STATE = Path("/home/me/state")
LOOPBACK = [Address.parse("127.0.0.1:0")]


def runtime_variable(value: object) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(value)}


# --- where it is --------------------------------------------------------------------------


def test_it_is_in_the_directory_for_sockets_of_the_user(tmp_path: Path) -> None:
    path = socket_path(STATE, runtime_variable(tmp_path))
    assert path == tmp_path / "pool-service/socket"


def test_without_one_it_is_in_the_state_directory(tmp_path: Path) -> None:
    here = os.path.relpath(tmp_path)
    for environment in ({}, *map(runtime_variable, ("", here, tmp_path / "none", __file__))):
        assert socket_path(STATE, environment) == STATE / "run/socket"


def test_the_directory_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert socket_path(STATE, runtime_variable(tmp_path)) == STATE / "run/socket"


@pytest.mark.parametrize("name", ["long" * 30, "50%", "a#b", "what?"])
def test_a_directory_whose_paths_are_no_addresses_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert socket_path(STATE, runtime_variable(tmp_path / name)) == STATE / "run/socket"


def test_the_longest_path_is_used(socket_dir: Path) -> None:
    rest = LONGEST_SOCKET_PATH - len(str(socket_dir)) - len("//pool-service/socket")
    for more, used in ((0, True), (1, False)):
        named = socket_dir / ("x" * (rest + more))
        named.mkdir()
        path = socket_path(STATE, runtime_variable(named))
        assert path.is_relative_to(named) == used


@pytest.mark.parametrize(("name", "why"), [("long" * 30, "longer than 103"), ("50%", "has '%'")])
def test_where_no_path_is_an_address_that_is_said(name: str, why: str) -> None:
    with pytest.raises(AddressError, match=f"{why}.*service.listen"):
        socket_path(STATE / name, {})


@pytest.mark.parametrize(
    ("overrides", "environ", "has_it"),
    [
        ({}, {}, True),
        ({"log_level": "info"}, {}, True),
        ({"listen": ("127.0.0.1:50051",)}, {}, False),
        ({}, {"POOL_SERVICE_LISTEN": "127.0.0.1:50051"}, False),
        ({"state_dir": "/elsewhere"}, {}, False),
    ],
)
def test_only_a_service_that_nobody_told_where_to_be_has_it(
    overrides: dict[str, object], environ: dict[str, str], has_it: bool
) -> None:
    assert load(None, overrides, environ).service.has_default_socket == has_it


# --- whose directory it is in -------------------------------------------------------------


def test_its_directory_is_made_for_the_user_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a/b")
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    make_private(tmp_path / "a/b")


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o777])
def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "my own").mkdir()
    (tmp_path / "my own").chmod(mode)
    with pytest.raises(AddressError, match=r"chmod 700 '.*my own'"):
        make_private(tmp_path / "my own")


def test_the_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(AddressError, match="belongs to another user"):
        make_private(tmp_path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(AddressError, match="is no directory but a link"):
        make_private(tmp_path / "link")


def test_a_directory_that_cannot_be_made_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AddressError, match="cannot be made: Not a directory"):
        make_private(tmp_path / "file/below")


# --- a service ----------------------------------------------------------------------------


def bare() -> GrpcServer:
    """A server whose own calls do not matter."""
    servicer = PoolServicer(None, None, None, None, None)  # type: ignore[arg-type]
    return server_of(servicer, admission())


async def is_answered(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
    return True


async def test_a_service_listens_there_too_and_for_the_user_alone(socket_dir: Path) -> None:
    path = socket_dir / "Application Support/pool-service/socket"
    server = bare()
    bound = await server.start(LOOPBACK, path)
    assert bound[1:] == [f"unix:{path}"]
    for address in bound:
        assert await is_answered(address)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await server.stop(0)
    assert not path.exists()


@pytest.fixture
def open_dir(socket_dir: Path) -> Path:
    """A directory that others can enter."""
    socket_dir.chmod(0o755)
    return socket_dir


async def test_without_the_socket_a_service_starts_and_says_why(open_dir: Path) -> None:
    server = bare()
    with capture_logs() as lines:
        (bound,) = await server.start(LOOPBACK, open_dir / "socket")
    assert await is_answered(bound)
    (said,) = [line for line in lines if line["log_level"] == "warning"]
    assert "chmod 700" in said["why"]
    await server.stop(0)


async def test_the_socket_is_made_once_that_is_possible(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_service.rpc.server.CHECK_INTERVAL_S", 0.01)
    path = open_dir / "socket"
    server = bare()
    await server.start(LOOPBACK, path)
    keeping = asyncio.create_task(server.keep_sockets())
    await asyncio.sleep(0)
    os.chmod(open_dir, 0o700)  # noqa: PTH101 - does not block
    assert await is_answered(f"unix:{path}")
    await server.stop(0)
    keeping.cancel()


async def test_a_socket_on_which_another_service_listens_is_left_to_it(socket_dir: Path) -> None:
    path = socket_dir / "socket"
    first, second = bare(), bare()
    await first.start(LOOPBACK, path)
    inode = path.stat().st_ino
    bound = await second.start(LOOPBACK, path)
    assert len(bound) == 1
    await second.stop(0)
    assert path.stat().st_ino == inode
    assert await is_answered(f"unix:{path}")
    await first.stop(0)


async def test_a_dead_socket_is_replaced(socket_dir: Path) -> None:
    path = socket_dir / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = bare()
    await server.start(LOOPBACK, path)
    assert await is_answered(f"unix:{path}")
    await server.stop(0)
