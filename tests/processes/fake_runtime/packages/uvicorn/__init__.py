"""A server that takes connections on a free port and answers nothing."""

import asyncio
import signal
import socket
from collections.abc import Sequence


def _close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class Server:
    def __init__(self, *, request: str) -> None:
        self.request = request
        self.started = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.request == "stuck":
            print("Loading for ever", flush=True)
            await asyncio.Event().wait()
        if self.request == "unloaded":
            return
        if sockets is None:
            listening = await asyncio.start_server(_close, "127.0.0.1", 0)
            self._log_started_message(listening.sockets)
        else:
            await asyncio.start_server(_close, sock=sockets[0])
        self.started = True

    def _log_started_message(self, listeners: Sequence[socket.socket]) -> None:
        port = listeners[0].getsockname()[1]
        print(f"Uvicorn running on http://127.0.0.1:{port}", flush=True)

    async def serve(self) -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        # As the real one does: it ends nothing that has not begun to listen.
        signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(ended.set))
        await self.startup()
        if self.started:
            await ended.wait()
