"""The users whose programs are at the other ends of connections, on Linux."""

from collections.abc import Sequence

from pool_service.access.authentication import End
from pool_service.adapters.sockets.sock_diag import ConnectionQuery


class SockDiagUsers:
    """Asks the kernel whose a connection of this machine is: by netlink, in some microseconds.

    Nothing is remembered from call to call, as ports are used again. A socket belongs to the user
    that made it, whoever has its descriptor now.
    """

    def __init__(self) -> None:
        self._query = ConnectionQuery()

    def user_at(self, peer: End, ends: Sequence[End]) -> int | None:
        """Return the uid that owns the other end of a connection; None if it cannot be told.

        peer: the other end. ends: the service's own end is one of these.
        """
        for end in ends:
            if (":" in end[0]) is not (":" in peer[0]):
                continue
            try:
                found = self._query.find(peer, end)
            except OSError:
                return None
            if found is not None:
                return found.user
        return None
