"""Progress on a terminal: the state of a server, while a command waits for it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Self

from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TimeElapsedColumn
from rich.text import Text

from pool_service.cli.appearance import has_symbols
from pool_service.cli.format import safe
from pool_service.cli.server_lines import status_line
from pool_service.cli.terminal import display
from pool_service_client import AsyncPoolClient, PoolError, Server, ServerChanged, ServerRole


class StatusLine:
    """A line on stderr that changes, and disappears at the end of the context."""

    def __init__(self, model: str) -> None:
        """model: the name that the user gave."""
        self._shown = ExitStack()
        self._progress: Progress | None = None
        self._server: Server | None = None
        self._model = model

    def __enter__(self) -> Self:
        self._display()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.hide()

    def show(self, server: Server) -> None:
        """Show the server's state and progress."""
        self._server = server
        self._display()

    def hide(self) -> None:
        """Remove the line until the next `show`."""
        self._shown.close()
        self._progress = None

    def _display(self) -> None:
        if self._progress is None:
            spinner = SpinnerColumn("dots" if has_symbols(sys.stderr) else "line")
            columns = (spinner, _LineColumn(self._line), TimeElapsedColumn())
            self._progress = self._shown.enter_context(display(*columns, transient=True))
            self._progress.add_task("", total=None)

    def _line(self) -> str:
        if self._server is None:
            return safe(f"{self._model}: waiting for the service")
        return status_line(self._server)


class _LineColumn(ProgressColumn):
    """A text that is made anew at each refresh, so that the time that is left goes down."""

    def __init__(self, line: Callable[[], str]) -> None:
        super().__init__()
        self._line = line

    def render(self, _task: Task) -> Text:
        return Text(self._line())


@asynccontextmanager
async def show_progress(pool: AsyncPoolClient, model: str) -> AsyncIterator[None]:
    """Show the state of the model's server on stderr while the block runs."""
    with StatusLine(model) as line:
        follower = asyncio.create_task(_follow(pool, model, line))
        try:
            yield
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower


async def _follow(pool: AsyncPoolClient, model: str, line: StatusLine) -> None:
    """Show each state until cancelled. Errors are ignored, as the Ensure reports them."""
    with suppress(PoolError):
        async with pool.watch() as events:
            async for event in events:
                if isinstance(event, ServerChanged) and _is_current(event.server, model):
                    line.show(event.server)


def _is_current(server: Server, model: str) -> bool:
    return server.model == model and server.role is ServerRole.CURRENT
