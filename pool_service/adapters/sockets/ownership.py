"""Ownership of endpoints: whether a server still has the socket at which it was found ready.

A process may close its listener and live on, as while it drains, and another program may then take
the port. Therefore ownership is checked
1. in full at each probe, by everything that the system says of the socket;
2. quickly whenever an endpoint is handed out: does the same descriptor still lead to that socket,
   and would a connection still reach it? The result holds for QUICK_S. macOS answers only the first
   question. Where no quick check is possible, a full proof holds for FRESH_S.
"""

import math
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import urlsplit

import psutil

from pool_service.adapters.process.identity import is_alive, member_pids
from pool_service.adapters.sockets.libproc_sockets import KnownListener
from pool_service.adapters.sockets.listeners import TcpSocket, listening_sockets_of, socket_inodes
from pool_service.adapters.sockets.sock_diag import ListenerQuery, listening_sockets
from pool_service.core.types import EndpointState, Identity

MAX_PROOFS = 4096
"""Proofs kept; one that was dropped is made anew when it is needed."""

QUICK_S = 0.001
"""The validity of a quick check, so that many concurrent callers check only once: a check takes
some 40 microseconds with cold caches."""

FRESH_S = 1.0
"""The validity of a full proof without a quick check; a proof takes some 100 microseconds."""

_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to compare with


@dataclass(slots=True)
class _Proof:
    """The proof that a server owns its endpoint.

    descriptor: the path in /proc of a descriptor of the socket; empty without netlink.
    link: the socket to which that path leads.
    inodes: those of all its sockets at the address; empty if the kernel cannot say which of them a
        connection would reach.
    known: the socket on macOS.
    at: the time of the proof. confirmed_at: the time of the last quick check that confirmed it.
    """

    endpoint: str
    host: str
    port: int
    descriptor: str = ""
    link: str = ""
    inodes: frozenset[int] = frozenset()
    known: KnownListener | None = None
    at: float = field(default_factory=time.monotonic)
    confirmed_at: float = -math.inf


class Ownership:
    """Proves and remembers the owners of endpoints.

    `now` is quick enough for the event loop; `prove` may be called from any thread.
    """

    def __init__(self) -> None:
        self._query = ListenerQuery()
        self._proofs: OrderedDict[Identity, _Proof] = OrderedDict()

    def now(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether the server still has the proven socket; prove it anew if not certain."""
        proof = self._proofs.get(identity)
        if proof is not None and proof.endpoint == endpoint:
            now = time.monotonic()
            if now - proof.confirmed_at < QUICK_S:
                return EndpointState.KEPT
            if self._holds(proof):
                proof.confirmed_at = now
                return EndpointState.KEPT
        return self.prove(identity, endpoint)

    def is_sole(self, identity: Identity, endpoint: str) -> bool:
        """Return whether the server has its socket and no other socket is at that address.

        False is no proof of the contrary: call `prove` then. Unlike `prove` this does not read
        all descriptors of the server's processes.
        """
        proof = self._proofs.get(identity)
        if proof is None or proof.endpoint != endpoint or not proof.inodes:
            return False
        try:
            return self._holds(proof) and _inodes_at(proof.host, proof.port) <= proof.inodes
        except OSError:
            return False

    def prove(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether every listener at the endpoint is the server's or of its session."""
        url = urlsplit(endpoint)
        host, port = url.hostname or "", url.port or 0
        try:
            proof = self._proof(identity.pid, endpoint, host, port)
            # Checked last: a process that has ended meanwhile has closed its sockets.
            if not is_alive(identity):
                return EndpointState.ENDED
        except OSError:
            return EndpointState.UNKNOWN
        if proof is None:
            self._proofs.pop(identity, None)
            return EndpointState.LOST
        self._remember(identity, proof)
        return EndpointState.KEPT

    def _remember(self, identity: Identity, proof: _Proof) -> None:
        # Another thread may remove the entry at any moment.
        self._proofs.pop(identity, None)
        self._proofs[identity] = proof
        while len(self._proofs) > MAX_PROOFS:
            with suppress(KeyError):
                self._proofs.popitem(last=False)

    def _holds(self, proof: _Proof) -> bool:
        """Return whether the quick check confirms a proof."""
        if not proof.descriptor:
            return _holds_without_netlink(proof)
        try:
            if os.readlink(proof.descriptor) != proof.link:  # noqa: PTH115 - no path
                return False
        except OSError:
            return False
        if not proof.inodes:
            return True
        try:
            return self._query.inode_at(proof.host, proof.port) in proof.inodes
        except OSError:
            return False

    def _proof(self, pid: int, endpoint: str, host: str, port: int) -> _Proof | None:
        """Return the proof that the listener at this address is the server's; None if it is not.

        Raises OSError if that cannot be found out.
        """
        there: frozenset[int] | None = None
        if sys.platform == "linux":
            # OSError: netlink is forbidden, as in some sandboxes.
            with suppress(OSError):
                there = _inodes_at(host, port)
        if there is None:
            found = _listener(pid, host, port)
            return _Proof(endpoint, host, port, known=_known(found)) if found else None
        owner = _owner(pid, there) if there else None
        if owner is None:
            return None
        asked = there if self._query_finds(host, port, there) else frozenset[int]()
        return _Proof(endpoint, host, port, *owner, asked)

    def _query_finds(self, host: str, port: int, inodes: frozenset[int]) -> bool:
        """Return whether the quick check finds these sockets; it may not know every kind."""
        try:
            return self._query.inode_at(host, port) in inodes
        except OSError:
            return False


def _holds_without_netlink(proof: _Proof) -> bool:
    if proof.known is not None:
        return proof.known.listens()
    return time.monotonic() - proof.at < FRESH_S


def _inodes_at(host: str, port: int) -> frozenset[int]:
    """Return the inodes of sockets that a connection to this address can reach. Raises OSError."""
    is_v6 = ":" in host
    sockets = {i: one for i, one in listening_sockets(port).items() if one.is_v6 == is_v6}
    exact = frozenset(inode for inode, one in sockets.items() if one.host == host)
    # A socket bound to this very address takes precedence over one bound to all addresses.
    return exact or frozenset(inode for inode, one in sockets.items() if one.host in _ANYWHERE)


def _owner(pid: int, inodes: frozenset[int]) -> tuple[str, str] | None:
    """Return a descriptor's path and link if all sockets are of the process or its session.

    None if one is not. Raises OSError if that cannot be found out.
    """
    found: dict[int, str] = {}
    failure: OSError | None = None
    for one in _session_pids(pid):
        try:
            for descriptor, inode in socket_inodes(one):
                if inode in inodes:
                    found.setdefault(inode, f"/proc/{one}/fd/{descriptor}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            failure = error
        if inodes <= found.keys():
            inode, path = next(iter(found.items()))
            return path, f"socket:[{inode}]"
    if failure is not None:
        raise failure
    return None


def _known(found: TcpSocket) -> KnownListener | None:
    """Return the listener for macOS's quick check; None on Linux, or if it cannot be read."""
    if sys.platform == "darwin":
        with suppress(OSError):
            return KnownListener.at(found.pid, found.descriptor)
    return None


def _listener(pid: int, host: str, port: int) -> TcpSocket | None:
    """Return a listener of the process or its session at this address; None if there is none.

    Raises OSError if that cannot be found out.
    """
    failure: psutil.Error | None = None
    for one in _session_pids(pid):
        try:
            sockets = listening_sockets_of(one)
        except psutil.NoSuchProcess:
            continue
        except psutil.Error as error:
            failure = error
            continue
        for socket in sockets:
            if socket.port == port and socket.connect_host == host:
                return socket
    if failure is not None:
        raise PermissionError(str(failure))
    return None


def _session_pids(pid: int) -> Iterator[int]:
    """Yield the pid, then those of its session, which are listed only if the caller goes on."""
    members: Iterable[Iterable[int]] = (member_pids(pid) for _ in range(1))
    return chain((pid,), chain.from_iterable(members))
