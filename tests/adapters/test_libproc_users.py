"""Whose a connection is on macOS: found among the sockets of processes, by made-up answers."""

import os
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from pool_service.access.authentication import End, UserUnknown
from pool_service.adapters.sockets import peer_users
from pool_service.adapters.sockets.libproc_sockets import ESTABLISHED, ProcessSocket
from pool_service.adapters.sockets.peer_users import LibprocUsers

SERVICE: End = ("127.0.0.1", 50051)
PEER: End = ("127.0.0.1", 4711)
HERE = os.getpid()
CONNECTED = ProcessSocket(5, 77, ESTABLISHED, *PEER, *SERVICE, unread=0, queued=0)


class Sockets:
    """The sockets of this process, as libproc tells them; looks: how often all were asked for."""

    def __init__(self) -> None:
        self.there: list[ProcessSocket] = [CONNECTED]
        self.looks = 0

    def of(self, pid: int) -> Iterator[ProcessSocket]:
        if pid != HERE:
            raise PermissionError
        self.looks += 1
        return iter(self.there)

    def at(self, pid: int, descriptor: int) -> ProcessSocket | None:
        for one in self.there:
            if (pid, descriptor) == (HERE, one.descriptor):
                return one
        raise OSError


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    told = Sockets()
    monkeypatch.setattr(peer_users, "sockets_of", told.of)
    monkeypatch.setattr(peer_users, "socket_at", told.at)
    monkeypatch.setattr(psutil, "pids", lambda: [1, HERE])
    return told


def user_at(users: LibprocUsers, peer: End = PEER) -> int | None:
    """Who is at the other end, after a search if one is needed."""
    try:
        return users.user_at(peer, [SERVICE])
    except UserUnknown as unknown:
        return unknown.search()


def test_a_connection_is_searched_for_once_and_then_known(sockets: Sockets) -> None:
    users = LibprocUsers()
    with pytest.raises(UserUnknown):
        users.user_at(PEER, [SERVICE])
    for _ in range(3):
        assert user_at(users) == os.getuid()
    assert sockets.looks == 1


def test_a_connection_that_no_process_of_ones_own_has_is_nobodys(sockets: Sockets) -> None:
    sockets.there = []
    assert user_at(LibprocUsers()) is None


def test_what_is_at_a_port_that_is_used_again_is_searched_for_again(sockets: Sockets) -> None:
    users = LibprocUsers()
    assert user_at(users) == os.getuid()
    # Another socket has the descriptor by now, which another user's program may have made.
    sockets.there = [replace(CONNECTED, generation=78, peer_port=1)]
    assert user_at(users) is None
    assert sockets.looks == 2


def test_a_closed_descriptor_is_no_proof(sockets: Sockets) -> None:
    users = LibprocUsers()
    assert user_at(users) == os.getuid()
    sockets.there = []
    assert user_at(users) is None


def test_the_other_direction_of_a_connection_is_not_taken_for_it(sockets: Sockets) -> None:
    sockets.there = [replace(CONNECTED, host=SERVICE[0], port=SERVICE[1], peer_port=PEER[1])]
    assert user_at(LibprocUsers()) is None
