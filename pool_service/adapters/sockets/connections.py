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
from pool_service.adapters.sockets.sock_diag import CLOSE_WAIT, ESTABLISHED, ConnectionEnd

_SETTLE_S = 0.1
"""Time after which a server has closed its end of a connection that its client has closed."""


class ListeningPort(NamedTuple):
    """A port on which a server listens, of IPv4 or of IPv6.

    host: the one address of this machine at which it listens; empty: any may be one of its own.
    """

    port: int
    is_v6: bool
    host: str = ""


_SHARED_HOSTS = ("127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 - to compare with
"""Addresses that endpoints have of servers that may listen at all."""


def listening_ports(pids: Collection[int], endpoint: str) -> set[ListeningPort]:
    """Return the ports on which these processes listen, and that of `endpoint` ("": not known)."""
    found = {_port_at(one.host, one.port) for one in listeners(pids)}
    return found | port_of_endpoint(endpoint)


def port_of_endpoint(endpoint: str) -> set[ListeningPort]:
    """Return the port of an endpoint as a set, which is empty if the endpoint is not known ("")."""
    url = urlsplit(endpoint)
    return {_port_at(url.hostname or "", url.port)} if url.port else set()


def _port_at(host: str, port: int) -> ListeningPort:
    plain = _plain(host) if host else ""
    return ListeningPort(port, ":" in host, "" if plain in _SHARED_HOSTS else plain)


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of all connections to a server, and the clients that do not count.

    server_inodes: the inodes of the server's own sockets, so of connections to itself too.
    pool_ports: the local ports of the pool's requests.
    """

    server_ends: tuple[ConnectionEnd, ...]
    client_ends: tuple[ConnectionEnd, ...]
    server_inodes: frozenset[int]
    pool_ports: frozenset[int]


def connections_in_use(ends: Ends) -> Iterator[ConnectionEnd]:
    """Yield the server's ends of the connections on which a request may be in flight. Pure."""
    clients = {(_plain(one.host), one.port): one for one in ends.client_ends}
    for end in ends.server_ends:
        client = clients.get((_plain(end.peer_host), end.peer_port))
        if client is None:
            # The client is on another machine; or it was on this one, and its end is gone.
            is_gone = end.state == CLOSE_WAIT and _is_of_this_machine(end)
        else:
            is_gone = client.inode == 0 and client.state != ESTABLISHED
        does_not_count = client is not None and (
            client.inode in ends.server_inodes or client.port in ends.pool_ports
        )
        if not is_gone and not does_not_count:
            yield end


def has_unread_request(end: ConnectionEnd) -> bool:
    """Return whether the server has a request to read at its end of a connection. Pure.

    1. A connection that the server has not accepted yet (inode 0) has one.
    2. So has a connection with unread bytes. In CLOSE_WAIT one of them is the client's FIN.
    """
    return end.inode == 0 or end.unread > (end.state == CLOSE_WAIT)


def port_has_unread_requests(port: int, own_pids: Iterable[int]) -> bool:
    """Return whether a request on this port waits to be accepted or read, by macOS's libproc.

    own_pids: the server's processes. A connection that waits to be accepted counts even if it is
    the pool's or the server's own, as libproc does not name its client. Not yet run on a Mac.
    """
    sockets: list[libproc_sockets.ProcessSocket] = []
    for pid in own_pids:
        # The process has ended, or has changed its user.
        with contextlib.suppress(OSError):
            sockets += libproc_sockets.sockets_of(pid)
    own = {(_plain(one.host), one.port) for one in sockets if one.peer_port == port}
    pool_ports = own_ports()

    def waits(one: libproc_sockets.ProcessSocket) -> bool:
        if one.state == libproc_sockets.LISTEN:
            return one.queued > 0
        if one.state not in (libproc_sockets.ESTABLISHED, libproc_sockets.CLOSE_WAIT):
            return False
        if one.peer_port in pool_ports or (_plain(one.peer_host), one.peer_port) in own:
            return False
        return one.unread > 0

    return any(waits(one) for one in sockets if one.port == port)


def has_clients(ports: Collection[ListeningPort], own_pids: Collection[int]) -> bool | None:
    """Return whether clients are connected to a server; None if that cannot be found out.

    ports: the server's ports. own_pids: its processes, whose unix sockets count too on Linux.
    """
    if sys.platform == "linux":
        # OSError: netlink is forbidden, as in some sandboxes.
        with contextlib.suppress(OSError):
            return bool(client_connections(ports, own_pids)) or _has_unix_clients(own_pids)
    return has_clients_by_psutil({one.port for one in ports}, own_pids)


def _has_unix_clients(own_pids: Iterable[int]) -> bool:
    # OSError: the kernel has no unix_diag.
    with contextlib.suppress(OSError):
        return unix_diag.has_unix_clients(_inodes(own_pids))
    return False


def client_connections(
    ports: Collection[ListeningPort], own_pids: Iterable[int]
) -> tuple[ConnectionEnd, ...]:
    """Return the server's ends of the connections of clients to these ports.

    own_pids: the server's processes; iterated only if there is any connection. Raises OSError if
    netlink fails.
    """
    server_ends = tuple(
        end
        for one in ports
        for end in sock_diag.connections(local_port=one.port, is_v6=one.is_v6)
        if one.host in ("", _plain(end.host))
    )
    if not server_ends:
        return ()
    numbers = {one.port for one in ports}
    # Of both families: an IPv6 socket may be connected to an IPv4 address.
    client_ends = tuple(
        end for number in numbers for end in sock_diag.connections(peer_port=number)
    )
    ends = Ends(server_ends, client_ends, _inodes(own_pids), own_ports())
    return tuple(connections_in_use(ends))


def has_clients_by_psutil(ports: Collection[int], own_pids: Collection[int]) -> bool | None:
    """Return whether clients are connected to these ports, by psutil; None if not known.

    psutil does not show that a client is gone. But the server closes the connection of such a
    client, so that a second sample no longer has it.
    """
    first = _client_states(ports, own_pids)
    if not first:
        return None if first is None else False
    if any(state == psutil.CONN_ESTABLISHED for _, state in first):
        return True
    time.sleep(_SETTLE_S)
    second = _client_states(ports, own_pids)
    return None if second is None else bool(first & second)


def _client_states(
    ports: Collection[int], own_pids: Collection[int]
) -> set[tuple[tuple[str, int], str]] | None:
    """Return the address of each client on these ports, with the state of the server's end.

    None if that is not known.
    """
    clients: set[tuple[tuple[str, int], str]] = set()
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
                clients.add(((_plain(one.raddr[0]), one.raddr[1]), one.status))
            elif one.raddr[1] in ports:
                own.add((_plain(one.laddr[0]), one.laddr[1]))
    pool_ports = own_ports()
    return {
        (peer, state) for peer, state in clients if peer not in own and peer[1] not in pool_ports
    }


def _inodes(pids: Iterable[int]) -> frozenset[int]:
    """Return the inodes of the sockets that these processes have open."""
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.update(inode for _, inode in socket_inodes(pid))
    return frozenset(found)


def _is_of_this_machine(end: ConnectionEnd) -> bool:
    """Return whether the client of a connection is certainly on this machine, by its address."""
    peer = _plain(end.peer_host)
    return ip_address(peer).is_loopback or peer == _plain(end.host)


def _plain(host: str) -> str:
    """Return an address without its zone, and an IPv4-mapped one as IPv4."""
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
