"""Claims about forwarding to a caller that reads slowly."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter

from pool_service.gateway.forwarder import Forwarder


class Transport(asyncio.Transport):
    """A connection to a caller, who has read nothing yet."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep nothing."""

    def is_closing(self) -> bool:
        return False


class Answer:
    """A server's answer of one piece."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.closed = asyncio.Event()

    async def pass_on(self, sink: Callable[[bytes], None]) -> None:
        sink(b"x")

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def close(self) -> None:
        self.calls.append("close")
        self.closed.set()


async def test_an_answer_ends_well_whose_caller_has_not_read_it_yet() -> None:
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.transport = Transport()
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    response: Any = SimpleNamespace(headers={}, write_eof=writer.drain)
    request: Any = SimpleNamespace(transport=protocol.transport, protocol=protocol)
    answer: Any = Answer()
    protocol.pause_writing()
    forwarding = asyncio.create_task(Forwarder(answer, request, response, writer).forward())
    await answer.closed.wait()
    protocol.resume_writing()
    await forwarding
    assert answer.calls == ["pause", "close"], "the server is not waited for, nor read any more"
