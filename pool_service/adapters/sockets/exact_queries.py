"""Questions to Linux's kernel about one TCP socket, by netlink's sock_diag.

Each takes some microseconds, whatever the number of sockets.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import socket
import struct
import sys
import threading
from functools import lru_cache

from pool_service.adapters.sockets.sock_diag import (
    CLIENT_STATES,
    HEADER,
    NETLINK_SOCK_DIAG,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    SOCK_DIAG_BY_FAMILY,
    SOCKET,
    TCP_LISTEN,
    errno_of,
    messages,
    unpack,
)

_EXACT = struct.Struct("=BBBxI2s2s16s16sI8s")
"""struct inet_diag_req_v2 for one socket: family, protocol, extensions and states, ports and
addresses of its own end and of its peer's, any interface (0), any cookie (INET_DIAG_NOCOOKIE)."""

_PEER_PORT = HEADER.size + 10
"""Where such a request has the peer's port."""

_PORTS = 0x10000

_REMEMBERED = 1024
"""Requests that are kept ready: as many as connections at one address."""

_ANY_COOKIE = b"\xff" * 8

_IDENTITY, _STATE, _COOKIE = slice(4, 40), 1, slice(44, 52)
_USER, _INODE = slice(64, 68), slice(68, 72)
"""Where SOCKET has the ports and addresses of both ends, the state, the cookie, the uid and the
inode."""

_WORDS = struct.Struct("=II")

_MAX_ANSWER_BYTES = 4096
"""The largest answer that is read; most have some hundred bytes."""

# Calls of the `socket` module let another thread run, such as gRPC's. On a busy service they wait
# longer for their turn than the kernel needs for its answer.
_KEEPING_GIL = ctypes.PyDLL(None, use_errno=True)
_SIZES = (ctypes.c_size_t, ctypes.c_int)
_KEEPING_GIL.send.argtypes = (ctypes.c_int, ctypes.c_char_p, *_SIZES)
_KEEPING_GIL.recv.argtypes = (ctypes.c_int, ctypes.c_void_p, *_SIZES)
_KEEPING_GIL.send.restype = _KEEPING_GIL.recv.restype = ctypes.c_ssize_t


class ExactQuery:
    """Asks the kernel about one socket, in some microseconds. Thread-safe."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._one_at_a_time = threading.Lock()
        self._answer = ctypes.create_string_buffer(_MAX_ANSWER_BYTES)
        # Opened now, as descriptors may be short later.
        with contextlib.suppress(OSError):
            self._open()

    def find(self, question: bytes) -> bytes | None:
        """Return the kernel's answer about the socket of a request; None if there is none.

        Raises OSError if netlink fails.
        """
        with self._one_at_a_time:
            try:
                return self._ask(question)
            except BaseException:
                # An answer that was not read would be taken for that of the next question.
                self.close()
                raise

    def close(self) -> None:
        """Close the netlink socket; the next question opens another."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def __del__(self) -> None:
        self.close()

    def _ask(self, question: bytes) -> bytes | None:
        netlink = (self._netlink or self._open()).fileno()
        # No wait: the kernel has answered by the time that `send` returns.
        if _KEEPING_GIL.send(netlink, question, len(question), socket.MSG_DONTWAIT) < 0:
            raise _last_error()
        size = _KEEPING_GIL.recv(netlink, self._answer, len(self._answer), socket.MSG_DONTWAIT)
        if size < 0:
            raise _last_error()
        return _body_of(self._answer.raw[:size])

    def _open(self) -> socket.socket:
        self._netlink = socket.socket(
            getattr(socket, "AF_NETLINK", -1), socket.SOCK_RAW, NETLINK_SOCK_DIAG
        )
        return self._netlink


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class ListenerQuery:
    """Asks the kernel which listening socket a connection would reach. Thread-safe.

    The kernel looks the socket up as for a new connection. Among sockets that share a port
    (SO_REUSEPORT) it chooses by the client's address. So each question names another client port,
    and several questions will reach every socket that shares the port.
    """

    def __init__(self) -> None:
        self._query = ExactQuery()
        self._client_ports = itertools.cycle(range(1, _PORTS))

    def inode_at(self, host: str, port: int) -> int | None:
        """Return the inode of the socket that listens at this address; None if none does.

        Raises OSError if netlink fails.
        """
        before, after = _listener_request(host, port)
        client_port = next(self._client_ports).to_bytes(2, "big")
        body = self._query.find(before + client_port + after)
        return None if body is None else _inode_of(body)

    def close(self) -> None:
        """Close the netlink socket; the next question opens another."""
        self._query.close()


class ConnectionQuery:
    """Asks the kernel about one end of one connection. Thread-safe."""

    def __init__(self) -> None:
        self._query = ExactQuery()

    def user_of(self, end: tuple[str, int], peer: tuple[str, int]) -> int | None:
        """Return the uid that made the socket at one end of a connection; None if none has it.

        end: its own address. peer: the other end's. Raises OSError if netlink fails.
        """
        body = self._find(end, peer)
        return int.from_bytes(body[_USER], sys.byteorder) if body is not None else None

    def cookie_of(self, end: tuple[str, int], peer: tuple[str, int]) -> bytes | None:
        """Return the cookie of the socket at one end, as SO_COOKIE has it; see `user_of`."""
        body = self._find(end, peer)
        if body is None:
            return None
        # Two words, the lower one first, of a number of eight bytes.
        low, high = _WORDS.unpack(body[_COOKIE])
        return int(high << 32 | low).to_bytes(_WORDS.size, sys.byteorder)

    def _find(self, end: tuple[str, int], peer: tuple[str, int]) -> bytes | None:
        question, identities = _connection_request(end, peer)
        body = self._query.find(question)
        if body is None:
            return None
        if len(body) < SOCKET.size:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        # Without such a connection, the kernel answers with a socket that listens there. What
        # has been closed but lingers has no inode, and a uid that is not its owner's.
        is_it = body[_IDENTITY] in identities
        is_open = any(body[_INODE]) and bool(1 << body[_STATE] & CLIENT_STATES)
        return body if is_it and is_open else None


def _body_of(received: bytes) -> bytes | None:
    """Return the answer about one socket; None if there is no such socket.

    Raises OSError if the answer is another error or malformed.
    """
    for kind, body in messages(received):
        if kind == NLMSG_ERROR:
            number = errno_of(body)
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number))
        return body
    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))


def _inode_of(body: bytes) -> int:
    return int.from_bytes(unpack(SOCKET, body)[-1], sys.byteorder)


def exact_request(states: int, end: tuple[str, int], peer: tuple[str, int]) -> bytes:
    """Return the request for the socket with these ends.

    states: a bit for each state of the socket. end: its own address; peer: the other end's.
    """
    host, port = end
    peer_host, peer_port = peer
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = (one.to_bytes(2, "big") for one in (port, peer_port))
    addresses = (socket.inet_pton(family, one) for one in (host, peer_host))
    body = _EXACT.pack(family, socket.IPPROTO_TCP, 0, states, *ports, *addresses, 0, _ANY_COOKIE)
    length = HEADER.size + len(body)
    return HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + body


@lru_cache(_REMEMBERED)
def _listener_request(host: str, port: int) -> tuple[bytes, bytes]:
    """Return the request for what listens at an address, before and after the client's port."""
    anywhere = "::" if ":" in host else "0.0.0.0"  # noqa: S104  # the address of a question
    whole = exact_request(1 << TCP_LISTEN, (host, port), (anywhere, 0))
    return whole[:_PEER_PORT], whole[_PEER_PORT + 2 :]


@lru_cache(_REMEMBERED)
def _connection_request(
    end: tuple[str, int], peer: tuple[str, int]
) -> tuple[bytes, frozenset[bytes]]:
    """Return the request for one end of a connection, and what an answer about it has as _IDENTITY.

    A socket for IPv6 may have a connection of IPv4, with addresses that are mapped (RFC 4291).
    """
    ports = b"".join(one.to_bytes(2, "big") for _, one in (end, peer))
    identities = {ports + b"".join(_packed(host) for host, _ in (end, peer))}
    if ":" not in end[0]:
        identities.add(ports + b"".join(_packed(f"::ffff:{host}") for host, _ in (end, peer)))
    return exact_request(CLIENT_STATES, end, peer), frozenset(identities)


def _packed(host: str) -> bytes:
    """Return an address as the kernel has it in its answers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host).ljust(16, b"\0")
