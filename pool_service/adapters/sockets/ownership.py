"""Ownership of endpoints: whether a server still has the socket at which it was found ready.

A process may close its listener and live on, as while it drains, and another program may then take
the port. Therefore ownership is checked
1. in full at each probe (`prove`), by everything that the system says of the socket;
2. quickly before an endpoint is handed out (`check`): does the same descriptor still lead to that
   socket, and would a connection still reach it? Without netlink, as on macOS, only the first
   question is answered. What no quick check can answer is believed for PROOF_VALID_S after a full
   proof.
"""

import errno
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from pool_service.adapters.process.identity import is_alive, session_member_pids
from pool_service.adapters.sockets.exact_queries import ListenerQuery
from pool_service.adapters.sockets.libproc_sockets import KnownListener
from pool_service.adapters.sockets.listeners import Listener, listeners_by_psutil, socket_inodes
from pool_service.adapters.sockets.sock_diag import listening_sockets
from pool_service.core.types import EndpointState, Identity

MAX_PROOFS = 4096
"""The number of proofs that are kept; a dropped one is made anew when it is needed."""

PROOF_VALID_S = 1.0
"""How long a full proof is believed where a quick check cannot answer everything; a proof takes
some 100 microseconds."""

_LOOKS = 3
"""How often a listener is looked for that was closed while it was looked at: the server may have
opened another one."""

_CLOSED = frozenset({errno.EBADF, errno.ENOENT, errno.ENOTSOCK, errno.ESRCH})
"""Errors of a descriptor that does not lead to a TCP socket any more."""

_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to compare with


@dataclass(slots=True)
class _Proof:
    """The proof that a server owns its endpoint. All times are of time.monotonic().

    descriptor: the path in /proc of a descriptor of the listener; empty on macOS.
    link: the target of that path, which names the socket.
    inodes: the inodes of all listeners at the address (with SO_REUSEPORT several); empty if the
        kernel does not answer which one a connection would reach.
    known: the listener on macOS; None on Linux, or if macOS does not let it be read.
    at: the time of the proof.
    """

    endpoint: str
    host: str
    port: int
    descriptor: str = ""
    link: str = ""
    inodes: frozenset[int] = frozenset()
    known: KnownListener | None = None
    at: float = field(default_factory=time.monotonic)


class Ownership:
    """Proves and remembers the owners of endpoints.

    `check` is quick enough for the event loop; `prove` may be called from any thread.
    """

    def __init__(self) -> None:
        self._query = ListenerQuery()
        self._proofs: OrderedDict[Identity, _Proof] = OrderedDict()

    def check(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether the server still owns its endpoint: by a quick check, else by a proof."""
        proof = self._proofs.get(identity)
        if proof is not None and proof.endpoint == endpoint and self._holds(proof):
            return EndpointState.KEPT
        return self.prove(identity, endpoint)

    def is_sole(self, identity: Identity, endpoint: str) -> bool:
        """Return whether the quick check shows that every listener at the endpoint is the server's.

        False may mean that the check cannot tell: call `prove` then. Unlike `prove` this does not
        read all descriptors of the server's processes.
        """
        proof = self._proofs.get(identity)
        if proof is None or proof.endpoint != endpoint or not proof.inodes:
            return False
        try:
            return self._holds(proof) and _inodes_at(proof.host, proof.port) <= proof.inodes
        except OSError:
            return False

    def prove(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether every listener at the endpoint is of the server or of its session.

        On macOS, and on Linux without netlink, one such listener suffices.
        """
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
        """Return whether the quick check confirms a proof; False as well if it cannot tell."""
        if proof.known is not None:
            return proof.known.listens()
        try:
            if proof.descriptor and _link_of(proof.descriptor) != proof.link:
                return False
            if not proof.inodes:
                return time.monotonic() - proof.at < PROOF_VALID_S
            return self._query.inode_at(proof.host, proof.port) in proof.inodes
        except OSError:
            return False

    def _proof(self, pid: int, endpoint: str, host: str, port: int) -> _Proof | None:
        """Return the proof that a server owns the listeners at an address; None if it does not.

        pid: the server's process. Raises OSError if that cannot be found out.
        """
        inodes: frozenset[int] | None = None
        if sys.platform == "linux":
            # OSError: netlink is forbidden, as in some sandboxes.
            with suppress(OSError):
                inodes = _inodes_at(host, port)
        if inodes is None:
            return _proof_without_netlink(pid, endpoint, host, port)
        found_by = _descriptor_of(pid, inodes) if inodes else None
        if found_by is None:
            return None
        can_ask = self._query_finds(host, port, inodes)
        return _Proof(endpoint, host, port, *found_by, inodes if can_ask else frozenset())

    def _query_finds(self, host: str, port: int, inodes: frozenset[int]) -> bool:
        """Return whether the kernel names one of these sockets for a connection to the address.

        If it does not do so now, later quick checks do not ask it: there may be kinds of sockets
        that this query does not find.
        """
        try:
            return self._query.inode_at(host, port) in inodes
        except OSError:
            return False


def _proof_without_netlink(pid: int, endpoint: str, host: str, port: int) -> _Proof | None:
    """Return the proof that a server owns a listener at an address; None if it does not.

    Raises OSError if that cannot be found out.
    """
    failure = OSError()
    for _ in range(_LOOKS):
        found = _listener(pid, host, port)
        if found is None:
            return None
        try:
            return _proof_by(found, endpoint, host, port)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            failure = error
    raise failure


def _proof_by(found: Listener, endpoint: str, host: str, port: int) -> _Proof:
    """Return the proof by a listener that was found. Raises OSError if it is closed by now."""
    if sys.platform == "darwin":
        return _Proof(endpoint, host, port, known=_known(found))
    path = f"/proc/{found.pid}/fd/{found.descriptor}"
    return _Proof(endpoint, host, port, path, _link_of(path))


def _known(found: Listener) -> KnownListener | None:
    """Return the listener for macOS's quick check; None if macOS does not let it be read.

    Raises OSError if it is closed by now: it must not be believed to listen for another second.
    """
    try:
        return KnownListener.at(found.pid, found.descriptor)
    except OSError as error:
        if error.errno in _CLOSED:
            raise
        return None


def _link_of(path: str) -> str:
    """Return the target of a descriptor's path in /proc. Raises OSError."""
    return os.readlink(path)  # noqa: PTH115 - no path


def _inodes_at(host: str, port: int) -> frozenset[int]:
    """Return the inodes of sockets that a connection to this address can reach. Raises OSError."""
    sockets = listening_sockets(port, is_v6=":" in host)
    exact = frozenset(inode for inode, one in sockets.items() if one.host == host)
    # A socket bound to this very address takes precedence over one bound to all addresses.
    return exact or frozenset(inode for inode, one in sockets.items() if one.host in _ANYWHERE)


def _descriptor_of(pid: int, inodes: frozenset[int]) -> tuple[str, str] | None:
    """Return the path in /proc of a descriptor of one of these sockets, and the path's target.

    None unless each of the sockets is of the process or its session. Raises OSError if that cannot
    be found out.
    """
    found: dict[int, str] = {}
    failure: OSError | None = None
    for member in _session_pids(pid):
        try:
            for descriptor, inode in socket_inodes(member):
                if inode in inodes:
                    found.setdefault(inode, f"/proc/{member}/fd/{descriptor}")
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


def _listener(pid: int, host: str, port: int) -> Listener | None:
    """Return a listener of the process or its session at this address; None if there is none.

    Raises OSError if that cannot be found out.
    """
    failure: psutil.Error | None = None
    for member in _session_pids(pid):
        try:
            sockets = listeners_by_psutil(member)
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
    """Yield the pid, then the other pids of its session.

    The session is listed only if the caller goes on, as that reads every process of the machine.
    """
    yield pid
    yield from session_member_pids(pid)
