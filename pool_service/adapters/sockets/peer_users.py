"""The users whose programs are at the other ends of connections of this machine.

Linux tells the owner of any socket, at once. macOS tells a user only about that user's own
processes, which have to be searched: whoever is not found there is somebody else.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from pool_service.access.authentication import End, PeerUsers, UserUnknown
from pool_service.adapters.sockets.exact_queries import ConnectionQuery
from pool_service.adapters.sockets.libproc_sockets import socket_at, sockets_of
from pool_service.adapters.sockets.own_connections import OwnConnection, own_connection

ROOT = 0

CALLS_OF_A_FREQUENT_CALLER = 32
"""Calls by one connection after which its descriptor is searched, to ask more quickly from then on.
A search takes as long as some hundred questions by netlink."""

MAX_REMEMBERED = 1024
"""Connections of which something is remembered; then all is forgotten."""


def peer_users() -> PeerUsers:
    """Return the PeerUsers of this system."""
    return LibprocUsers() if sys.platform == "darwin" else SockDiagUsers()


def own_users() -> frozenset[int]:
    """Return the uids that count as the service's own: its user, and root.

    In a container Linux shows all users from outside as one, the overflow user. A service that is
    itself that user could not tell them from its own.
    """
    return frozenset({ROOT, os.geteuid()} - {unmapped_user()})


def unmapped_user() -> int | None:
    """Return Linux's uid for users that a container does not have; None if there is none."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    return None


class SockDiagUsers:
    """Asks Linux's kernel by netlink, in some microseconds.

    The answer is remembered only for a connection that has made CALLS_OF_A_FREQUENT_CALLER calls,
    and as long as the service's own end of it is seen to be open, as ports are used again. A socket
    belongs to the user that made it, whoever has its descriptor now.
    """

    def __init__(self) -> None:
        self._query = ConnectionQuery()
        # By both ends: a peer may have the same port for connections to several addresses.
        self._calls: dict[tuple[End, End], int] = {}
        self._known: dict[tuple[End, End], tuple[OwnConnection, int]] = {}

    def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
        """Return the uid that owns the other end of a connection; see PeerUsers."""
        is_v6 = ":" in peer[0]
        for end in ends:
            if (":" in end[0]) is is_v6:
                user = self._user_of(peer, end)
                if user is not None:
                    return user
        return None

    def _user_of(self, peer: End, end: End) -> int | None:
        known = self._known.get((peer, end))
        if known is not None:
            connection, user = known
            if connection.is_open():
                return user
            del self._known[peer, end]
        with suppress(OSError):
            found = self._query.user_of(peer, end)
            if found is not None:
                self._count(peer, end)
            return found
        return None

    def _count(self, peer: End, end: End) -> None:
        if len(self._calls) >= MAX_REMEMBERED:
            self._calls.clear()
            self._known.clear()
        calls = self._calls[peer, end] = self._calls.get((peer, end), 0) + 1
        if calls % CALLS_OF_A_FREQUENT_CALLER == 0:
            # Without it the next calls are as slow as this one, and nothing else is lost.
            with suppress(OSError):
                self._remember(peer, end)

    def _remember(self, peer: End, end: End) -> None:
        cookie = self._query.cookie_of(end, peer)
        connection = own_connection(cookie) if cookie is not None else None
        if connection is None:
            return
        user = self._query.user_of(peer, end)
        # Open after the question as before it, so that the answer was about this connection.
        if user is not None and connection.is_open():
            self._known[peer, end] = connection, user


@dataclass(frozen=True, slots=True)
class _Found:
    """A socket of an own process. generation: no other socket has had this number."""

    pid: int
    descriptor: int
    generation: int
    user: int

    def is_there(self) -> bool:
        """Return whether the descriptor still leads to this socket; quick."""
        try:
            found = socket_at(self.pid, self.descriptor)
        except OSError:
            return False
        return found is not None and found.generation == self.generation


class LibprocUsers:
    """Searches the user's own processes on macOS for the other end, once for each connection.

    A search takes some ten milliseconds, finds the connections of all own processes, and is made
    in a thread, one at a time. Not yet run on a Mac.
    """

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._began_at = -math.inf
        self._found: Mapping[tuple[End, End], _Found] = {}

    def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
        """Return the uid that owns the other end of a connection; see PeerUsers."""
        known = self._known(peer, ends)
        if known is None:
            raise UserUnknown(partial(self._search, time.monotonic(), peer, ends))
        return known

    def _known(self, peer: End, ends: Sequence[End]) -> int | None:
        for end in ends:
            found = self._found.get((peer, end))
            if found is not None and found.is_there():
                return found.user
        return None

    def _search(self, asked_at: float, peer: End, ends: Sequence[End]) -> int | None:
        with self._one_at_a_time:
            # Another search may have begun after this connection was made.
            if self._began_at < asked_at:
                self._began_at = time.monotonic()
                self._found = _connections()
            return self._known(peer, ends)


def _connections() -> dict[tuple[End, End], _Found]:
    """Return the connected sockets of all processes that may be asked, by both of their ends."""
    found: dict[tuple[End, End], _Found] = {}
    for pid in psutil.pids():
        # Of others' processes nothing is told, except to root.
        with suppress(OSError, psutil.Error):
            connected = [one for one in sockets_of(pid) if one.peer_port]
            user = psutil.Process(pid).uids().real if connected else 0
            for one in connected:
                ends = (one.host, one.port), (one.peer_host, one.peer_port)
                found[ends] = _Found(pid, one.descriptor, one.generation, user)
    return found
