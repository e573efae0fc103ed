import os
import socket
import sys

import pytest

from pool_service.adapters.sockets import listeners as module
from pool_service.adapters.sockets.listeners import Listener, listeners

NOBODY = 2**22 + 1


def test_a_listener_is_found_with_its_owner_and_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        expected = Listener(False, "127.0.0.1", port, os.getpid(), server.fileno())
        assert listeners([os.getpid()], port) == (expected,)
        assert expected in listeners([os.getpid()])
    assert listeners([os.getpid()], port) == ()


def test_a_bound_socket_that_does_not_listen_is_none() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert listeners([os.getpid()], bound.getsockname()[1]) == ()


def test_a_process_that_is_gone_listens_nowhere() -> None:
    assert listeners([NOBODY]) == ()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("127.0.0.2", "http://127.0.0.2:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_the_url_is_one_that_reaches_it_here(host: str, url: str) -> None:
    assert Listener(":" in host, host, 80, 1, 3).url == url


@pytest.mark.parametrize(
    ("host", "wanted", "is_there"),
    [
        ("10.0.0.2", "10.0.0.2", True),
        ("fd00::11", "fd00::11", True),
        ("10.0.0.2", "", True),
        ("10.0.0.2", "10.0.0.3", False),
        ("0.0.0.0", "10.0.0.2", False),
        ("::", "fd00::11", False),
        ("::", "10.0.0.2", False),
        ("127.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fd00::11", False),
    ],
)
def test_one_that_is_bound_to_all_addresses_is_at_none(
    host: str, wanted: str, is_there: bool
) -> None:
    assert Listener(":" in host, host, 80, 1, 3).is_at(wanted) is is_there


def test_the_bound_url_shows_that_it_stands_for_all() -> None:
    assert Listener(False, "0.0.0.0", 80, 1, 3).bound_url == "http://0.0.0.0:80"
    assert Listener(True, "::", 80, 1, 3).bound_url == "http://[::]:80"


def test_ipv4_is_tried_first() -> None:
    v4, v6 = Listener(False, "0.0.0.0", 80, 1, 4), Listener(True, "::", 80, 1, 3)
    assert sorted([v6, v4]) == [v4, v6]


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_the_kernel_tells_of_listeners_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "listeners_by_psutil", refused)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert len(listeners([os.getpid()], server.getsockname()[1])) == 1
