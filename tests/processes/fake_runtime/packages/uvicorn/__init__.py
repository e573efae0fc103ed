"""A server that takes connections on a free port and answers nothing."""

import asyncio
import signal


class Server:
    def __init__(self, *, request: str) -> None:
        self.request = request
        self.started = False

    async def startup(self, sockets: None = None) -> None:
        assert sockets is None
        if self.request == "stuck":
            print("Loading for ever", flush=True)
            await asyncio.Event().wait()
        if self.request == "unloaded":
            return
        listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        print(f"Uvicorn running on http://127.0.0.1:{port}", flush=True)
        self.started = True

    async def serve(self) -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        # As the real one does: it ends nothing that has not begun to listen.
        signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(ended.set))
        await self.startup()
        if self.started:
            await ended.wait()
