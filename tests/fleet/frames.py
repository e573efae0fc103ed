"""Watch the frames of HTTP/2 that go over a connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

PREFACE_BYTES = 24
HEAD_BYTES = 9

PING = 6
"""The type of a frame that its receiver acknowledges (RFC 9113, section 6.7)."""

ACKNOWLEDGEMENT = 1
"""The flag of a PING that answers one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was passed on, by its head. of_caller: whether the caller has sent it."""

    of_caller: bool
    kind: int
    flags: int

    @property
    def is_ping(self) -> bool:
        """Whether the other side is asked to acknowledge it."""
        return self.kind == PING and not self.flags & ACKNOWLEDGEMENT


@asynccontextmanager
async def passed_on(port: int, see: Callable[[Frame], None]) -> AsyncIterator[int]:
    """Yield a port of loopback that leads to another, and show each frame that goes through."""

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, of_caller: bool
    ) -> None:
        if of_caller:
            writer.write(await reader.readexactly(PREFACE_BYTES))
        while True:
            head = await reader.readexactly(HEAD_BYTES)
            see(Frame(of_caller, head[3], head[4]))
            writer.write(head + await reader.readexactly(int.from_bytes(head[:3])))

    async def pass_both_ways(caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        answers, to_port = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(
                pass_on(caller, to_port, of_caller=True),
                pass_on(answers, to_caller, of_caller=False),
            )
        finally:
            to_caller.close()
            to_port.close()

    def connected(caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        passing.append(asyncio.create_task(pass_both_ways(caller, to_caller)))

    passing: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in passing:
            one.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
