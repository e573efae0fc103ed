"""A port for events that keeps them in memory."""

from collections.abc import Mapping
from typing import Any


class FakeEvents:
    """The events in the order in which they were written."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, event: Mapping[str, object]) -> None:
        self.written.append(dict(event))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.written if event["kind"] == kind]
