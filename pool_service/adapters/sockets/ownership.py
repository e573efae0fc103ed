"""Whether a server still has the socket at which it was found ready.

A process may close its listener and live on, as one does that drains, and any other program may
then take the port. So that a socket is a server's own is proven at each look, by all that the
system says of it; and when an endpoint is handed out, by two short questions: does the very
descriptor still lead to that socket, and would a connection still reach it? The answer holds for a
millisecond, so that a crowd asks once. macOS answers the first question alone. Where the system
answers only slower questions, a proof holds for a second.
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
from pool_service.adapters.sockets.sock_diag import ListenerQuestion, listening_sockets
from pool_service.core.types import EndpointState, Identity

MOST_REMEMBERED = 4096
"""Proofs; what is not remembered is proven anew when it is needed."""

QUICK_S = 0.001
"""For so long the answer to the short questions holds: they take some 40 microseconds where the
caches are cold, and of a crowd of callers each would ask."""

FRESH_S = 1.0
"""For so long a proof holds that cannot be repeated quickly: that takes some 100 microseconds."""

_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to compare with


@dataclass(slots=True)
class _Proof:
    """What was found to be a server's own, and when.

    descriptor: the path of one of its descriptors in /proc, empty where there is no such; link:
    to which socket that leads; inodes: of all its sockets there, none where the system cannot
    be asked which a connection would reach; known: the same where macOS tells it;
    asked_at: when it was found to hold still.
    """

    endpoint: str
    host: str
    port: int
    descriptor: str = ""
    link: str = ""
    inodes: frozenset[int] = frozenset()
    known: KnownListener | None = None
    at: float = field(default_factory=time.monotonic)
    asked_at: float = -math.inf


class Ownership:
    """Remembers which socket is whose. `now` is for the event loop, `prove` for any thread."""

    def __init__(self) -> None:
        self._question = ListenerQuestion()
        self._proofs: OrderedDict[Identity, _Proof] = OrderedDict()

    def now(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether it has the socket that was proven; of a doubt the whole proof decides."""
        proof = self._proofs.get(identity)
        if proof is not None and proof.endpoint == endpoint:
            now = time.monotonic()
            if now - proof.asked_at < QUICK_S:
                return EndpointState.KEPT
            if self._holds(proof):
                proof.asked_at = now
                return EndpointState.KEPT
        return self.prove(identity, endpoint)

    def is_sole(self, identity: Identity, endpoint: str) -> bool:
        """Whether it has its socket, and nobody else one there; no: the whole proof decides.

        It does not look at all descriptors of its processes, as a whole proof does.
        """
        proof = self._proofs.get(identity)
        if proof is None or proof.endpoint != endpoint or not proof.inodes:
            return False
        try:
            return self._holds(proof) and _inodes_at(proof.host, proof.port) <= proof.inodes
        except OSError:
            return False

    def prove(self, identity: Identity, endpoint: str) -> EndpointState:
        """Return whether all that listens at its endpoint is its own, or of its session."""
        url = urlsplit(endpoint)
        host, port = url.hostname or "", url.port or 0
        try:
            proof = self._proof(identity.pid, endpoint, host, port)
            # Afterwards: one that has ended meanwhile has closed all with that.
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
        # Another thread may forget it at any moment.
        self._proofs.pop(identity, None)
        self._proofs[identity] = proof
        while len(self._proofs) > MOST_REMEMBERED:
            with suppress(KeyError):
                self._proofs.popitem(last=False)

    def _holds(self, proof: _Proof) -> bool:
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
            return self._question.inode_at(proof.host, proof.port) in proof.inodes
        except OSError:
            return False

    def _proof(self, pid: int, endpoint: str, host: str, port: int) -> _Proof | None:
        """Return what proves that the socket there is its own; None: it is not.

        Raises OSError where that cannot be told.
        """
        there: frozenset[int] | None = None
        if sys.platform == "linux":
            # Not where netlink is forbidden, as by some sandboxes.
            with suppress(OSError):
                there = _inodes_at(host, port)
        if there is None:
            found = _listener(pid, host, port)
            return _Proof(endpoint, host, port, known=_known(found)) if found else None
        owner = _owner(pid, there) if there else None
        if owner is None:
            return None
        asked = there if self._is_told(host, port, there) else frozenset[int]()
        return _Proof(endpoint, host, port, *owner, asked)

    def _is_told(self, host: str, port: int, inodes: frozenset[int]) -> bool:
        """Whether the short question knows these sockets: there may be kinds that it does not."""
        try:
            return self._question.inode_at(host, port) in inodes
        except OSError:
            return False


def _holds_without_netlink(proof: _Proof) -> bool:
    if proof.known is not None:
        return proof.known.listens()
    return time.monotonic() - proof.at < FRESH_S


def _inodes_at(host: str, port: int) -> frozenset[int]:
    """Return the sockets that can get a connection to this address. Raises OSError."""
    is_v6 = ":" in host
    sockets = {i: one for i, one in listening_sockets(port).items() if one.is_v6 == is_v6}
    exact = frozenset(inode for inode, one in sockets.items() if one.host == host)
    # Who listens everywhere gets only what nobody listens for there.
    return exact or frozenset(inode for inode, one in sockets.items() if one.host in _ANYWHERE)


def _owner(pid: int, inodes: frozenset[int]) -> tuple[str, str] | None:
    """Return a descriptor of one and its link if all are of this process or its session.

    None: one is not. Raises OSError where that cannot be told.
    """
    found: dict[int, str] = {}
    doubt: OSError | None = None
    for one in _with_members(pid):
        try:
            for descriptor, inode in socket_inodes(one):
                if inode in inodes:
                    found.setdefault(inode, f"/proc/{one}/fd/{descriptor}")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            doubt = error
        if inodes <= found.keys():
            inode, path = next(iter(found.items()))
            return path, f"socket:[{inode}]"
    if doubt is not None:
        raise doubt
    return None


def _known(found: TcpSocket) -> KnownListener | None:
    """Return what macOS is asked quickly; None: it is not, or did not tell."""
    if sys.platform == "darwin":
        with suppress(OSError):
            return KnownListener.at(found.pid, found.descriptor)
    return None


def _listener(pid: int, host: str, port: int) -> TcpSocket | None:
    """Return a socket of it, or of its session, that listens there; None: there is none.

    Raises OSError where that is not told.
    """
    doubt: psutil.Error | None = None
    for one in _with_members(pid):
        try:
            sockets = listening_sockets_of(one)
        except psutil.NoSuchProcess:
            continue
        except psutil.Error as error:
            doubt = error
            continue
        for socket in sockets:
            if socket.port == port and socket.connect_host == host:
                return socket
    if doubt is not None:
        raise PermissionError(str(doubt))
    return None


def _with_members(pid: int) -> Iterator[int]:
    """Yield it, and the others of its session only if they are asked for: that takes longer."""
    members: Iterable[Iterable[int]] = (member_pids(pid) for _ in range(1))
    return chain((pid,), chain.from_iterable(members))
