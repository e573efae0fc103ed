"""A streaming chat completion straight from a server, and what became of it."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit

from pool_service_client import Server

STUCK: Final = 90.0
"""Seconds. A stopped server is found wedged and drained in a third of it."""

READ: Final = 65536


class Fate(Enum):
    """What became of a stream."""

    WHOLE = auto()
    REFUSED = auto()
    """It never began: not one byte came."""
    CUT = auto()
    STUCK = auto()
    WRONG = auto()
    """An answer, but not the one to what was asked."""


@dataclass(frozen=True, slots=True)
class Stream:
    """How one ended; times of time.monotonic."""

    fate: Fate
    asked_at: float
    ended_at: float
    text: bytes


async def stream(server: Server, tokens: int) -> Stream:
    """Ask for that many tokens and read to the end."""
    asked_at = time.monotonic()
    received = bytearray()
    stuck = False
    try:
        async with asyncio.timeout(STUCK):
            await _exchange(server, tokens, received)
    except TimeoutError:
        stuck = True
    except OSError:
        pass  # refused, or reset: the bytes tell how far it got
    text = bytes(received)
    fate = Fate.STUCK if stuck else fate_of(text, server.served_model_name)
    return Stream(fate, asked_at, time.monotonic(), text)


async def _exchange(server: Server, tokens: int, received: bytearray) -> None:
    url = urlsplit(server.endpoint)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(_request(server, tokens))
        while block := await reader.read(READ):
            received += block
            if received.endswith(b"\r\n0\r\n\r\n"):
                return
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _request(server: Server, tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": server.served_model_name,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": tokens,
            "stream": True,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"authorization: Bearer {server.api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def fate_of(text: bytes, model: str) -> Fate:
    """What the bytes of an answer, up to the end of the connection, say of it."""
    if not text:
        return Fate.REFUSED
    if not text.startswith(b"HTTP/1.1 200 "):
        return Fate.WRONG
    if not (text.endswith(b"\r\n0\r\n\r\n") and b"data: [DONE]" in text):
        return Fate.CUT
    named = json.dumps(model).encode()
    return Fate.WHOLE if named in text and b'"finish_reason"' in text else Fate.WRONG
