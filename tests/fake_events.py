"""A port for events that keeps them in memory."""

from collections.abc import Mapping
from typing import Any


class FakeEvents:
    """The events in the order in which they were written."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.times: list[float | None] = []
        """The time that was given for each event; None: that of its writing."""

    def write(self, event: Mapping[str, object], at: float | None = None) -> None:
        self.written.append(dict(event))
        self.times.append(at)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.written if event["kind"] == kind]
