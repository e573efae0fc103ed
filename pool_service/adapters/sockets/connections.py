"""Connections: finding clients that are connected to a server.

The kernel lists both ends of a connection within this machine with their owners. A connection does
not count as use of the server if the server's own processes or the pool opened it, or if its
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

_SETTLE_S = 0.1
"""Time after which a server has closed its end of a connection that its client has closed."""


class Place(NamedTuple):
    """A port at which a server listens, of IPv4 or of IPv6."""

    port: int
    is_v6: bool


def places_of(pids: Collection[int], endpoint: str) -> set[Place]:
    """Return the places at which these processes listen, and that of `endpoint` ("": not known)."""
    found = {Place(one.port, one.is_v6) for one in listeners(pids)}
    return found | place_of(endpoint)


def place_of(endpoint: str) -> set[Place]:
    """Return the place of an endpoint; empty for an endpoint that is not known ("")."""
    url = urlsplit(endpoint)
    return {Place(url.port, ":" in (url.hostname or ""))} if url.port else set()


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of all connections to a server, and the clients that do not count.

    own: inodes of the server's own sockets.
    own_ports: local ports of the pool's own requests.
    """

    servers: tuple[Connection, ...]
    clients: tuple[Connection, ...]
    own: frozenset[int]
    own_ports: frozenset[int]


def connections_in_use(ends: Ends) -> Iterator[Connection]:
    """Yield the server's ends of the connections on which a request may be in flight. Pure."""
    clients = {(_plain(one.host), one.port): one for one in ends.clients}
    for end in ends.servers:
        client = clients.get((_plain(end.peer_host), end.peer_port))
        if client is None:
            # The client is on another machine; or it was on this one, and is gone.
            is_gone = end.state == CLOSE_WAIT and ip_address(_plain(end.peer_host)).is_loopback
        else:
            is_gone = client.inode == 0 and client.state != ESTABLISHED
        is_own = client is not None and (client.inode in ends.own or client.port in ends.own_ports)
        if not is_gone and not is_own:
            yield end


def has_unread_request(end: Connection) -> bool:
    """Return whether a connection has a request that the server has not read yet. Pure.

    That is so if the connection is not accepted yet (inode 0) or has unread bytes; in CLOSE_WAIT
    the client's FIN counts as one byte.
    """
    return end.inode == 0 or end.unread > (end.state == CLOSE_WAIT)


def port_has_unread_requests(port: int, own_pids: Iterable[int]) -> bool:
    """Return whether a request on this port waits to be accepted or read, by macOS's libproc.

    Not yet run on a Mac. libproc does not name the client of a connection that waits to be
    accepted, so each of those counts.
    """
    sockets: list[libproc_sockets.ProcessSocket] = []
    for pid in own_pids:
        # The process has ended, or has changed its user.
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


def has_clients(places: Collection[Place], own_pids: Collection[int]) -> bool | None:
    """Return whether clients are connected at these places; None if that cannot be found out.

    On Linux this includes connections to unix sockets of the processes.
    """
    if sys.platform == "linux":
        # OSError: netlink is forbidden, as in some sandboxes.
        with contextlib.suppress(OSError):
            return bool(client_connections(places, own_pids)) or _has_unix_clients(own_pids)
    return has_clients_by_psutil({place.port for place in places}, own_pids)


def _has_unix_clients(own_pids: Iterable[int]) -> bool:
    # OSError: the kernel has no unix_diag.
    with contextlib.suppress(OSError):
        return unix_diag.has_unix_clients(_inodes(own_pids))
    return False


def client_connections(
    places: Collection[Place], own_pids: Iterable[int]
) -> tuple[Connection, ...]:
    """Return the server's ends of connections of clients at these places.

    own_pids: iterated only if there is any connection. Raises OSError if netlink fails.
    """
    servers = tuple(
        end
        for place in places
        for end in sock_diag.connections(local_port=place.port, is_v6=place.is_v6)
    )
    if not servers:
        return ()
    ports = {place.port for place in places}
    # Of both families: an IPv6 socket may be connected to an IPv4 address.
    clients = tuple(end for port in ports for end in sock_diag.connections(peer_port=port))
    return tuple(connections_in_use(Ends(servers, clients, _inodes(own_pids), own_ports())))


def has_clients_by_psutil(ports: Collection[int], own_pids: Collection[int]) -> bool | None:
    """Return whether clients are connected to these ports, by psutil; None if it cannot say.

    psutil does not show that a client is gone, but the connection of such a client has disappeared
    from a second sample.
    """
    first = _ends(ports, own_pids)
    if first is None or not first:
        return None if first is None else False
    if any(state == psutil.CONN_ESTABLISHED for _, state in first):
        return True
    time.sleep(_SETTLE_S)
    second = _ends(ports, own_pids)
    return None if second is None else bool(first & second)


def _ends(
    ports: Collection[int], own_pids: Collection[int]
) -> set[tuple[tuple[str, int], str]] | None:
    """Return the clients on these ports and the states of their connections; None if not known."""
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
    """Return the inodes of the sockets that these processes have open."""
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.update(inode for _, inode in socket_inodes(pid))
    return frozenset(found)


def _plain(host: str) -> str:
    """Return an address without its zone, and an IPv4-mapped one as IPv4."""
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
