"""The address of a service that nobody named."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pool_service.default_socket import socket_path
from pool_service_client import DEFAULT_ADDRESS
from pool_service_client.connect import target

APPLICATION = Path("Application Support/pool-service")


class Places:
    """The directories of a user in which a socket may be. environ: what names them."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.environ = {
            "XDG_RUNTIME_DIR": str(root / "run"),
            "XDG_STATE_HOME": str(root / APPLICATION.parent),
        }
        self.first, self.second = root / "run/pool-service", root / APPLICATION / "run"
        for directory in (self.first, self.second):
            directory.mkdir(parents=True, mode=0o700)

    def listen_in(self, directory: Path) -> socket.socket:
        """Listen on the socket of a directory, which is dead once it is closed."""
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(directory / "socket"))
        listener.listen(1)
        return listener

    @property
    def found(self) -> str:
        return target(None, self.environ)


@pytest.fixture
def places(socket_dir: Path) -> Iterator[Places]:
    with ExitStack() as stack:
        yield Places(socket_dir, stack)


def test_the_first_socket_on_which_a_program_listens_is_it(places: Places) -> None:
    assert places.found == DEFAULT_ADDRESS
    places.listen_in(places.second)
    assert places.found == f"unix:{places.second}/socket"
    listener = places.listen_in(places.first)
    assert places.found == f"unix:{places.first}/socket"
    listener.close()
    assert places.found == f"unix:{places.second}/socket"


def test_an_address_goes_before_a_socket(places: Places) -> None:
    places.listen_in(places.first)
    assert target("h:1", places.environ) == "h:1"
    assert target(None, places.environ | {"POOL_SERVICE_ADDRESS": "h:2"}) == "h:2"


def test_a_program_too_busy_to_accept_listens(places: Places) -> None:
    listener = places.listen_in(places.first)
    with ExitStack() as stack:
        while True:
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.settimeout(0)
            try:
                caller.connect(listener.getsockname())
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                pytest.skip("this system refuses what a full queue does not take")
        assert places.found == f"unix:{places.first}/socket"


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o750, 0o777])
def test_a_socket_in_a_directory_that_others_can_enter_does_not_count(
    places: Places, mode: int
) -> None:
    places.listen_in(places.first)
    places.first.chmod(mode)
    assert places.found == DEFAULT_ADDRESS


def test_a_socket_in_a_directory_of_another_user_does_not_count(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.listen_in(places.first)
    monkeypatch.setattr(os, "geteuid", lambda: places.first.stat().st_uid + 1)
    assert places.found == DEFAULT_ADDRESS


def test_a_directory_behind_a_link_does_not_count(places: Places) -> None:
    places.listen_in(places.first)
    moved = places.first.with_name("moved")
    places.first.rename(moved)
    places.first.symlink_to(moved)
    assert places.found == DEFAULT_ADDRESS


@pytest.mark.parametrize(
    ("platform", "below"),
    [("linux", ".local/state"), ("darwin", "Library/Application Support")],
)
def test_without_variables_it_is_in_the_home_directory(
    socket_dir: Path,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    below: str,
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("HOME", str(socket_dir))
    directory = socket_dir / below / "pool-service/run"
    directory.mkdir(parents=True, mode=0o700)
    places.listen_in(directory)
    places.environ = {"XDG_RUNTIME_DIR": "", "XDG_STATE_HOME": "relative"}
    assert places.found == f"unix:{directory}/socket"


def test_a_client_looks_where_the_service_listens(places: Places) -> None:
    for directory, environ in (
        (places.first, places.environ),
        (places.second, {"XDG_STATE_HOME": places.environ["XDG_STATE_HOME"]}),
    ):
        path = socket_path(places.second.parent, environ)
        places.listen_in(directory)
        assert target(None, environ) == f"unix:{path}"
