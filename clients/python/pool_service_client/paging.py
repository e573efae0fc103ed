"""Paging that ends whatever the peer answers."""

from dataclasses import dataclass, field

from pool_service_client.status import Peer, no_pool_service_error

_MAX_PAGES = 10_000


@dataclass(slots=True)
class Paging:
    """The position in the pages of a listing. token: of the next page to request."""

    peer: Peer
    token: str = ""
    _seen: set[str] = field(init=False, default_factory=set)

    def turn(self, token: str) -> bool:
        """Go on to the page with this token; return False if the token is empty.

        Raises PoolError if that page was read already, or after too many pages.
        """
        if not token:
            return False
        if token in self._seen or len(self._seen) == _MAX_PAGES:
            raise no_pool_service_error(self.peer.address, "its pages have no end")
        self._seen.add(token)
        self.token = token
        return True
