"""Who waits for which model, in the order in which they came."""

from pool_service.core.requests import Wait


class Waiting:
    """Callers of Ensure that are not answered yet."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int, Wait]] = {}
        self._count = 0

    def add(self, model: str, wait: Wait) -> None:
        """Let one wait."""
        self._by_model.setdefault(model, {})[wait.ticket] = wait
        self._count += 1

    def first(self, model: str) -> Wait | None:
        """The one who has waited longest for `model`."""
        return next(iter(self._by_model.get(model, {}).values()), None)

    def leave(self, model: str, ticket: int) -> None:
        """Let one wait no longer; nothing if it does not wait."""
        waits = self._by_model.get(model, {})
        if waits.pop(ticket, None) is not None:
            self._count -= 1
        if not waits:
            self._by_model.pop(model, None)

    def take(self, model: str) -> list[Wait]:
        """All who wait for `model`; they wait no longer."""
        waits = list(self._by_model.pop(model, {}).values())
        self._count -= len(waits)
        return waits

    def __len__(self) -> int:
        return self._count
