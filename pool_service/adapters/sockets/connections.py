"""Which connections to a server are in use by others than itself and the pool.

A connection of this machine has two ends, and the kernel tells whose each is: what a server's
own processes or the pool itself opened is no use of the server, and neither is one whose
client is gone. Blocking: for a worker thread.
"""

import contextlib
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from pool_service.adapters.probe.http_get import own_ports
from pool_service.adapters.sockets import libproc_sockets, sock_diag, unix_diag
from pool_service.adapters.sockets.listeners import listeners, socket_inodes
from pool_service.adapters.sockets.sock_diag import CLOSE_WAIT, ESTABLISHED, Connection

_SETTLING = 0.1
"""Seconds: a server closes its end so soon after its client did."""


class Place(NamedTuple):
    """Where a server listens: a port, and whether its sockets are of IPv6."""

    port: int
    is_v6: bool


def places_of(pids: Collection[int], endpoint: str) -> set[Place]:
    """Return where these processes listen, and the server's endpoint ("": not known)."""
    found = {Place(one.port, one.is_v6) for one in listeners(pids)}
    return found | place_of(endpoint)


def place_of(endpoint: str) -> set[Place]:
    """Return the place of an endpoint; none of one that is not known."""
    url = urlsplit(endpoint)
    return {Place(url.port, ":" in (url.hostname or ""))} if url.port else set()


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of connections, and which clients do not count, by inodes or ports of sockets."""

    servers: tuple[Connection, ...]
    clients: tuple[Connection, ...]
    own: frozenset[int]
    own_ports: frozenset[int]


def in_use(ends: Ends) -> Iterator[Connection]:
    """The servers' ends of the connections on which a request may be in flight. Pure."""
    clients = {(_plain(one.host), one.port): one for one in ends.clients}
    for end in ends.servers:
        client = clients.get((_plain(end.peer_host), end.peer_port))
        if client is None:
            # It runs elsewhere; or it ran here, and is gone.
            is_gone = end.state == CLOSE_WAIT and ip_address(_plain(end.peer_host)).is_loopback
        else:
            is_gone = client.inode == 0 and client.state != ESTABLISHED
        is_own = client is not None and (client.inode in ends.own or client.port in ends.own_ports)
        if not is_gone and not is_own:
            yield end


def is_arriving(end: Connection) -> bool:
    """Whether it is of a request that the server has not read: in its queue, or unread bytes.

    The end of what the client sends counts as one byte. Pure.
    """
    return end.inode == 0 or end.unread > (end.state == CLOSE_WAIT)


def is_any_unread(port: int, own_pids: Iterable[int]) -> bool:
    """Whether a request on this port waits to be accepted or read, as libproc tells it.

    Not yet run on a Mac. Whose is one that waits to be accepted is not told: each counts.
    """
    sockets: list[libproc_sockets.ProcessSocket] = []
    for pid in own_pids:
        # It has ended; or became another user's, and is then not told of.
        with contextlib.suppress(OSError):
            sockets += libproc_sockets.sockets_of(pid)
    own = {(_plain(one.host), one.port) for one in sockets if one.peer_port == port}
    ours = own_ports()
    return any(
        one.queued
        if one.state == libproc_sockets.LISTEN
        else one.unread
        and one.state in (libproc_sockets.ESTABLISHED, libproc_sockets.CLOSE_WAIT)
        and one.peer_port not in ours
        and (_plain(one.peer_host), one.peer_port) not in own
        for one in sockets
        if one.port == port
    )


def anybody_connected(places: Collection[Place], own_pids: Collection[int]) -> bool | None:
    """Return whether others are connected at these places; None: that cannot be told.

    On Linux also whether they are at any unix socket of the processes.
    """
    if sys.platform == "linux":
        # Not where netlink is forbidden, as by some sandboxes.
        with contextlib.suppress(OSError):
            return bool(connected(places, own_pids)) or _is_unix_used(own_pids)
    return is_connected({place.port for place in places}, own_pids)


def _is_unix_used(own_pids: Iterable[int]) -> bool:
    # Not told by a kernel without unix_diag.
    with contextlib.suppress(OSError):
        return unix_diag.is_any_used(_inodes(own_pids))
    return False


def connected(places: Collection[Place], own_pids: Iterable[int]) -> tuple[Connection, ...]:
    """Return the servers' ends of connections at these places that others use.

    own_pids: taken only if there are any. Raises OSError where netlink does not tell.
    """
    servers = tuple(
        end
        for place in places
        for end in sock_diag.connections(local_port=place.port, is_v6=place.is_v6)
    )
    if not servers:
        return ()
    ports = {place.port for place in places}
    # Of either family: one of IPv6 may connect to IPv4.
    clients = tuple(end for port in ports for end in sock_diag.connections(peer_port=port))
    return tuple(in_use(Ends(servers, clients, _inodes(own_pids), own_ports())))


def is_connected(ports: Collection[int], own_pids: Collection[int]) -> bool | None:
    """The same where only psutil tells of sockets, if anybody is; None: it cannot be told.

    It does not tell of clients that are gone: their connections are not there at a second look.
    """
    first = _ends(ports, own_pids)
    if first is None or not first:
        return None if first is None else False
    if any(state == psutil.CONN_ESTABLISHED for _, state in first):
        return True
    time.sleep(_SETTLING)
    second = _ends(ports, own_pids)
    return None if second is None else bool(first & second)


def _ends(
    ports: Collection[int], own_pids: Collection[int]
) -> set[tuple[tuple[str, int], str]] | None:
    """The peers of the own processes' connections on these ports, but for own ones."""
    servers: set[tuple[tuple[str, int], str]] = set()
    own: set[tuple[str, int]] = set()
    for pid in own_pids:
        try:
            sockets = psutil.Process(pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except (psutil.Error, OSError):
            return None
        for one in sockets:
            if one.status not in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT):
                continue
            if one.laddr[1] in ports:
                servers.add(((_plain(one.raddr[0]), one.raddr[1]), one.status))
            elif one.raddr[1] in ports:
                own.add((_plain(one.laddr[0]), one.laddr[1]))
    ours = own_ports()
    return {(peer, state) for peer, state in servers if peer not in own and peer[1] not in ours}


def _inodes(pids: Iterable[int]) -> frozenset[int]:
    """The sockets that these processes have, by Linux's names of their descriptors."""
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.update(inode for _, inode in socket_inodes(pid))
    return frozenset(found)


def _plain(host: str) -> str:
    """An address as it is written without a zone, one of IPv4 as such."""
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
