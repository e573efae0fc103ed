"""The way through pages, whatever a server answers."""

from dataclasses import dataclass, field

from pool_service_client.status import Peer, no_pool_service

_MOST_PAGES = 10_000


@dataclass(slots=True)
class Paging:
    """Which page comes next. token: of the one to ask for."""

    peer: Peer
    token: str = ""
    _seen: set[str] = field(init=False, default_factory=set)

    def turn(self, token: str) -> bool:
        """Go on to the page that the last one named; False if there is none.

        Raises PoolError if that one was read before, or there is no end to them.
        """
        if not token:
            return False
        if token in self._seen or len(self._seen) == _MOST_PAGES:
            raise no_pool_service(self.peer.address, "its pages have no end")
        self._seen.add(token)
        self.token = token
        return True
