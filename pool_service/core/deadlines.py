"""When something is due, for many servers at the price of one timer."""

import heapq

from pool_service.core.types import FOREVER


class Deadlines:
    """One moment a name, the earliest first; setting and popping cost O(log n)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._armed: dict[str, float] = {}

    def set(self, name: str, when: float) -> None:
        """Replace the moment of `name`; FOREVER means none."""
        if self._armed.get(name, FOREVER) == when:
            return
        if when == FOREVER:
            self._armed.pop(name, None)
            return
        self._armed[name] = when
        heapq.heappush(self._heap, (when, name))
        if len(self._heap) > 2 * len(self._armed) + 16:
            self._heap = [(when, name) for name, when in self._armed.items()]
            heapq.heapify(self._heap)

    def hasten(self, name: str, when: float) -> None:
        """Make it earlier; a later moment is found out when the earlier one comes."""
        if when < self._armed.get(name, FOREVER):
            self.set(name, when)

    def next(self) -> float:
        """The earliest moment, FOREVER if there is none."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else FOREVER

    def pop_due(self, now: float) -> list[str]:
        """The names whose moment has come, each forgotten until it is set again."""
        due = []
        while self.next() <= now:
            _, name = heapq.heappop(self._heap)
            del self._armed[name]
            due.append(name)
        return due
