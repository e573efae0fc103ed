"""One HTTP request to a server that may misbehave: bounded in time and size."""

import asyncio
import socket
from dataclasses import dataclass

import h11

MAX_BODY = 64 * 1024
_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; of a redirect that itself."""

    status: int
    content_type: str
    body: bytes


async def get(host: str, port: int, path: str, timeout: float) -> Answer | None:  # noqa: ASYNC109 - one bound over connecting, sending and reading
    """GET `path`; None if no whole answer of at most MAX_BODY came within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            # A bare one costs less than a transport with streams, and when it is closed
            # it is so at once: whoever counts the peer's connections next does not count it.
            with socket.socket(family, socket.SOCK_STREAM) as peer:
                peer.settimeout(0)
                return await _exchange(peer, host, port, path)
    except (OSError, TimeoutError, h11.ProtocolError):
        return None


async def _exchange(peer: socket.socket, host: str, port: int, path: str) -> Answer | None:
    loop = asyncio.get_running_loop()
    connection = h11.Connection(h11.CLIENT)
    await loop.sock_connect(peer, (host, port))
    await loop.sock_sendall(peer, _request(connection, host, port, path))
    status, content_type, body = 0, "", b""
    while len(body) <= MAX_BODY:
        event = connection.next_event()
        match event:
            case h11.Response():
                status = event.status_code
                content_type = dict(event.headers).get(b"content-type", b"").decode("latin-1")
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return Answer(status, content_type, body)
            case h11.NEED_DATA:
                connection.receive_data(await loop.sock_recv(peer, _READ_BYTES))
            case _:
                # Interim responses only: what closes a connection raises.
                continue
    return None


def _request(connection: h11.Connection, host: str, port: int, path: str) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [
        ("Host", authority),
        ("Accept", "application/json"),
        ("User-Agent", "pool-service"),
        ("Connection", "close"),
    ]
    request = h11.Request(method="GET", target=path, headers=headers)
    return (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
