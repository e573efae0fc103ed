"""One HTTP request to a server that may misbehave: bounded in time and size."""

import asyncio
from contextlib import suppress
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
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await _exchange(reader, writer, host, port, path)
            finally:
                # At once, and nothing is sent any more: a peer that does not read cannot hold it.
                writer.transport.abort()
                # Else whoever counts the peer's connections next may still count this one.
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, h11.ProtocolError):
        return None


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, path: str
) -> Answer | None:
    connection = h11.Connection(h11.CLIENT)
    writer.write(_request(connection, host, port, path))
    await writer.drain()
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
                connection.receive_data(await reader.read(_READ_BYTES))
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
