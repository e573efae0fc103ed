"""When something is due, for many servers at the price of one timer."""

import heapq

from pool_service.core.server import ServerId
from pool_service.core.types import FOREVER


class Deadlines:
    """One moment a server, the earliest first; setting and popping cost O(log n)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, ServerId]] = []
        self._armed: dict[ServerId, float] = {}

    def set(self, server_id: ServerId, when: float) -> None:
        """Replace the moment of `server_id`; FOREVER means none."""
        if self._armed.get(server_id, FOREVER) == when:
            return
        if when == FOREVER:
            self._armed.pop(server_id, None)
            return
        self._armed[server_id] = when
        heapq.heappush(self._heap, (when, server_id))
        if len(self._heap) > 2 * len(self._armed) + 16:
            self._heap = [(when, server_id) for server_id, when in self._armed.items()]
            heapq.heapify(self._heap)

    def hasten(self, server_id: ServerId, when: float) -> None:
        """Make it earlier; a later moment is found out when the earlier one comes."""
        if when < self._armed.get(server_id, FOREVER):
            self.set(server_id, when)

    def next(self) -> float:
        """The earliest moment, FOREVER if there is none."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else FOREVER

    def pop_due(self, now: float) -> list[ServerId]:
        """The servers whose moment has come, each forgotten until it is set again."""
        due = []
        while self.next() <= now:
            _, server_id = heapq.heappop(self._heap)
            del self._armed[server_id]
            due.append(server_id)
        return due
