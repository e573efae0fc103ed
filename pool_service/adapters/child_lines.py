"""Reads what a program writes, line by line, whatever it writes."""

import asyncio
from collections.abc import AsyncIterator

LONGEST_LINE = 64 * 1024
"""Bytes. Of a longer line the beginning is lost, since nobody knows where it ends."""

_CHUNK = 16 * 1024


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield each line without its end; after each chunk others have their turn."""
    held = b""
    while chunk := await stream.read(_CHUNK):
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line
        held = held[-LONGEST_LINE:]
        # What is there already is read without waiting.
        await asyncio.sleep(0)
    if held:
        yield held
