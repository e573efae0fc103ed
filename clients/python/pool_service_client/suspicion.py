"""Decides whether a caller that lost a connection to a server gets the same server again.

A connection that broke is no death: the server may have closed it because it was idle, or something
in between may have broken it. Without I/O, for both clients.
"""

from dataclasses import dataclass, field
from typing import Final

from pool_service_client.types import Found, Server, ServerState
from pool_service_client.v1 import pool_service_pb2 as pb

GRACE_S: Final = 1.5
"""How long `ready(after=…)` waits for news of a server's death before it returns that server again.
The service learns of the end of a process in milliseconds, and of a lost listener in a second."""


@dataclass(slots=True)
class Suspicion:
    """Collects what is known of a server that a caller takes for dead.

    has_asked: whether the service was asked.
    """

    after: Server
    has_asked: bool = field(init=False, default=False)
    _lives: bool = field(init=False, default=False)
    _is_gone: bool = field(init=False, default=False)
    _grace_is_over: bool = field(init=False, default=False)

    @property
    def request(self) -> pb.GetRequest:
        """The request of the check, by the model's own name, whatever the caller calls it."""
        return pb.GetRequest(model=self.after.model, check=True)

    def is_of(self, server: Server) -> bool:
        """Return whether a state is of this very process."""
        return (server.generation, server.pid) == (self.after.generation, self.after.pid)

    def told(self, found: Found) -> None:
        """Take the service's answer to a check.

        An answer about another model says nothing: the hold's name for it may mean that by now.
        """
        server = found.server
        if server is not None and server.model != self.after.model:
            return
        is_same = server is not None and self.is_of(server)
        if is_same and server is not None and server.state is ServerState.READY:
            self._lives = found.answers
        else:
            self._is_gone = True

    def end_grace(self) -> None:
        """Note that the grace is over."""
        self._grace_is_over = True

    @property
    def is_dispelled(self) -> bool:
        """Whether the caller may have the server again.

        That is if the service says that it answers; or, after the grace, unless the service says
        that it is gone: then the caller waits for another one.
        """
        return self._lives or (self._grace_is_over and not self._is_gone)
