"""HTTP requests to a server that may misbehave: bounded in time, bytes and event loop use.

The peer may be broken, or another user's program on a port that the server has lost. No answer may
block the event loop: each read yields to other tasks, and tiny pieces are read at intervals.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import h11

MAX_BODY_BYTES = 64 * 1024
MAX_ANSWER_BYTES = MAX_BODY_BYTES + 32 * 1024
"""The largest body, and the largest answer with its head, interim responses and trailers."""

MAX_PARTS = 256
"""Interim responses and pieces of a body. A health answer has a few; each takes some ten
microseconds, and a read of 4 KiB can contain hundreds."""

_READ_BYTES = 4 * 1024
_EAGER_READS = 8
_CRUMB_PAUSE_S = 0.001
"""Between two reads after the first few, so that tiny pieces accumulate."""

_open_ports: set[int] = set()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. Redirects are not followed."""

    status: int
    content_type: str
    body: bytes


async def get(
    host: str,
    port: int,
    path: str,
    timeout: float,  # noqa: ASYNC109 - one bound over connecting, sending and reading
    *,
    max_bytes: int = MAX_BODY_BYTES,
    key: str = "",
) -> Answer | None:
    """GET `path`; return None without a complete answer within `timeout` seconds and the bounds.

    max_bytes: the largest body that is accepted. key: to show to the server; empty: none.
    """
    request = h11.Request(method="GET", target=path, headers=_headers(host, port, key))
    return await _request(host, port, request, b"", timeout, max_bytes)


async def post_json(
    host: str,
    port: int,
    path: str,
    body: bytes,
    timeout: float,  # noqa: ASYNC109 - one bound over connecting, sending and reading
    *,
    key: str = "",
) -> Answer | None:
    """POST JSON to `path`; return None without a complete answer within `timeout` seconds.

    key: to show to the server; empty: none.
    """
    more = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    request = h11.Request(method="POST", target=path, headers=[*_headers(host, port, key), *more])
    return await _request(host, port, request, body, timeout, MAX_BODY_BYTES)


async def _request(
    host: str,
    port: int,
    request: h11.Request,
    body: bytes,
    timeout: float,  # noqa: ASYNC109 - one bound over connecting, sending and reading
    max_bytes: int,
) -> Answer | None:
    try:
        async with asyncio.timeout(timeout):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            # A bare socket costs less than a transport with streams, and closes at once, so that
            # the next count of the peer's connections does not include it.
            with socket.socket(family, socket.SOCK_STREAM) as peer:
                peer.settimeout(0)
                await asyncio.get_running_loop().sock_connect(peer, (host, port))
                with _own_port(peer.getsockname()[1]):
                    return await _exchange(peer, request, body, max_bytes)
    except (OSError, TimeoutError, h11.ProtocolError):
        return None


def own_ports() -> frozenset[int]:
    """Return the local ports of the pool's requests in flight. Thread-safe."""
    return frozenset(_open_ports)


@contextlib.contextmanager
def _own_port(port: int) -> Iterator[None]:
    """List a local port in `own_ports` until the block ends."""
    _open_ports.add(port)
    try:
        yield
    finally:
        _open_ports.discard(port)


async def _exchange(
    peer: socket.socket, request: h11.Request, body: bytes, max_bytes: int
) -> Answer | None:
    loop = asyncio.get_running_loop()
    connection = h11.Connection(h11.CLIENT)
    parts = (request, h11.Data(data=body), h11.EndOfMessage())
    await loop.sock_sendall(peer, b"".join(connection.send(part) or b"" for part in parts))
    answer = _Reading(connection, max_bytes)
    reads, data = 0, b""
    while (whole := answer.read_on()) is None:
        if reads:
            # Reading available data does not wait, so that other tasks would not run.
            is_crumb = reads >= _EAGER_READS and len(data) < _READ_BYTES
            await asyncio.sleep(_CRUMB_PAUSE_S if is_crumb else 0)
        reads += 1
        data = await loop.sock_recv(peer, _READ_BYTES)
        answer.receive(data)
    return whole


class _Reading:
    """Parses an answer piece by piece."""

    def __init__(self, connection: h11.Connection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        self._status, self._content_type, self._body = 0, "", bytearray()
        self._received = self._parts = 0

    def receive(self, data: bytes) -> None:
        """Parse the bytes of a read (empty: the peer has closed). Raises h11.ProtocolError."""
        self._received += len(data)
        if self._received > self._max_bytes + MAX_ANSWER_BYTES - MAX_BODY_BYTES:
            raise h11.RemoteProtocolError("the answer is too long")
        self._connection.receive_data(data)

    def read_on(self) -> Answer | None:
        """Return the answer once it is complete, else None. Raises h11.ProtocolError."""
        while (event := self._connection.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.Response():
                    self._status = event.status_code
                    types = dict(event.headers).get(b"content-type", b"")
                    self._content_type = types.decode("latin-1")
                case h11.EndOfMessage():
                    return Answer(self._status, self._content_type, bytes(self._body))
                case h11.Data():
                    self._body += event.data
                case _:
                    # An interim response; h11 raises an error if the peer has closed.
                    pass
            self._parts += 1
            if (
                self._parts > MAX_PARTS * max(self._max_bytes // MAX_BODY_BYTES, 1)
                or len(self._body) > self._max_bytes
            ):
                raise h11.RemoteProtocolError("the answer has too many parts")
        return None


def _headers(host: str, port: int, key: str) -> list[tuple[str, str]]:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return [
        ("Host", authority),
        *([("Authorization", f"Bearer {key}")] if key else []),
        ("Accept", "application/json"),
        ("User-Agent", "pool-service"),
        ("Connection", "close"),
    ]
