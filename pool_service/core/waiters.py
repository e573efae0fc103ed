"""Who waits for which model, in the order in which they came."""

from dataclasses import dataclass

from pool_service.core.events import HoldRequested
from pool_service.core.types import Settings


@dataclass(frozen=True, slots=True)
class Waiter:
    """One who waits for a model.

    ticket: of its request, None if the pool itself wants it; runtime_model: what it
    named, empty if nothing; starts: its call is what started it; download: for it the
    model's files may be downloaded.
    """

    request_id: int | None
    runtime_model: str
    settings: Settings
    keep_alive: float | None
    starts: bool
    download: bool = False


class Waiters:
    """Callers of Ensure and Hold that are not answered yet, and what the pool itself wants."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int | None, Waiter]] = {}
        self._models: dict[int, str] = {}

    def add(self, model: str, wait: Waiter) -> None:
        """Let one wait; nothing changes if it does already."""
        self._by_model.setdefault(model, {}).setdefault(wait.request_id, wait)
        if wait.request_id is not None:
            self._models[wait.request_id] = model

    def first(self, model: str) -> Waiter | None:
        """The one who has waited longest for `model`."""
        return next(iter(self._by_model.get(model, {}).values()), None)

    def of(self, model: str) -> list[Waiter]:
        """All who wait for `model`."""
        return list(self._by_model.get(model, {}).values())

    def replace(self, model: str, waits: list[Waiter]) -> None:
        """The same, but that they wait for something else."""
        self._by_model[model] = {wait.request_id: wait for wait in waits}

    def leave(self, request_id: int) -> str | None:
        """Let one wait no longer; for which model it did, None if it did not."""
        model = self._models.pop(request_id, None)
        if model is not None:
            waits = self._by_model[model]
            del waits[request_id]
            if not waits:
                del self._by_model[model]
        return model

    def take(self, model: str) -> list[Waiter]:
        """All who wait for `model`; they wait no longer."""
        waits = list(self._by_model.pop(model, {}).values())
        for wait in waits:
            if wait.request_id is not None:
                self._models.pop(wait.request_id, None)
        return waits

    def models(self) -> list[str]:
        """The models that somebody waits for."""
        return list(self._by_model)

    def __len__(self) -> int:
        return len(self._models)


class Holds:
    """The holds by model and by ticket."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int, HoldRequested]] = {}
        self._models: dict[int, str] = {}

    def add(self, model: str, hold: HoldRequested) -> None:
        """From now on `hold` holds `model` (which it may have named by an alias)."""
        self._by_model.setdefault(model, {})[hold.request_id] = hold
        self._models[hold.request_id] = model

    def of(self, model: str) -> list[HoldRequested]:
        """Who holds `model`, the oldest first."""
        return list(self._by_model.get(model, {}).values())

    def count(self, model: str) -> int:
        """How many hold `model`."""
        return len(self._by_model.get(model, ()))

    def end(self, request_id: int) -> str | None:
        """It holds no longer; which model it held, None if it held none."""
        model = self._models.pop(request_id, None)
        if model is not None:
            holds = self._by_model[model]
            del holds[request_id]
            if not holds:
                del self._by_model[model]
        return model

    def has(self, request_id: int) -> bool:
        """Whether this is the ticket of a hold."""
        return request_id in self._models

    def models(self) -> list[str]:
        """The models that somebody holds."""
        return list(self._by_model)
