"""Deadlines: the next deadline of each server, so that the driver needs only one timer."""

import heapq

from pool_service.core.server import ServerId
from pool_service.core.types import FOREVER


class Deadlines:
    """Keep one deadline for each server in a heap; setting and popping take O(log n)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, ServerId]] = []
        self._armed: dict[ServerId, float] = {}

    def set(self, server_id: ServerId, when: float) -> None:
        """Set the deadline of a server in place of the one before; FOREVER: none."""
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
        """Set the deadline of a server only if it is earlier than the present one.

        A deadline that moves later on each use need not be written each time: when the earlier one
        is due, the caller finds that it is too early and sets the later one.
        """
        if when < self._armed.get(server_id, FOREVER):
            self.set(server_id, when)

    def next(self) -> float:
        """Return the earliest deadline, FOREVER if there is none."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else FOREVER

    def pop_due(self, now: float) -> list[ServerId]:
        """Remove and return the servers whose deadline has come."""
        due = []
        while self.next() <= now:
            _, server_id = heapq.heappop(self._heap)
            del self._armed[server_id]
            due.append(server_id)
        return due
