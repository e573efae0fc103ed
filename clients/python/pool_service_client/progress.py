"""Reports the progress of a waiting `ensure` by calls of Get, which do not count as a use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pool_service_client import convert
from pool_service_client.types import Server, ServerState
from pool_service_client.v1 import pool_service_pb2 as pb

INTERVAL_S: Final = 0.5
"""The time between two calls of Get, and the longest time for one."""

OnProgress = Callable[[Server], None]
"""Receives the state of a server that is not READY yet, whenever that has changed."""


@dataclass(slots=True)
class StartProgress:
    """Tells a caller of the states of one model's server, each once."""

    model: str
    on_progress: OnProgress
    _last: pb.Server | None = field(init=False, default=None)

    @property
    def request(self) -> pb.GetRequest:
        """The request of Get."""
        return pb.GetRequest(model=self.model)

    def tell(self, response: pb.GetResponse) -> None:
        """Tell the caller of the state that Get has returned, unless it was told before."""
        server = convert.found(response).server
        if server is None or server.state is ServerState.READY or server.message == self._last:
            return
        self._last = server.message
        try:
            self.on_progress(server)
        except Exception as error:
            raise _CallbackFailed(error) from error


class _CallbackFailed(Exception):
    """An error of the callback, which is not to be taken for a failure of the call itself."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(error)


@contextmanager
def callback_errors() -> Iterator[None]:
    """Raise errors of the callback within the block as the callback has raised them."""
    try:
        yield
    except _CallbackFailed as failed:
        raise failed.error from failed.error.__cause__
