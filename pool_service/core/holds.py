"""Who holds which model: claims that last until their callers end them."""

from pool_service.core.events import HoldRequested


class Holds:
    """The holds by model and by ticket."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int, HoldRequested]] = {}
        self._models: dict[int, str] = {}

    def add(self, model: str, hold: HoldRequested) -> None:
        """From now on `hold` holds `model` (which it may have named by an alias)."""
        self._by_model.setdefault(model, {})[hold.ticket] = hold
        self._models[hold.ticket] = model

    def of(self, model: str) -> list[HoldRequested]:
        """Who holds `model`, the oldest first."""
        return list(self._by_model.get(model, {}).values())

    def count(self, model: str) -> int:
        """How many hold `model`."""
        return len(self._by_model.get(model, ()))

    def end(self, ticket: int) -> str | None:
        """It holds no longer; which model it held, None if it held none."""
        model = self._models.pop(ticket, None)
        if model is not None:
            holds = self._by_model[model]
            del holds[ticket]
            if not holds:
                del self._by_model[model]
        return model

    def has(self, ticket: int) -> bool:
        """Whether this is the ticket of a hold."""
        return ticket in self._models

    def models(self) -> list[str]:
        """The models that somebody holds."""
        return list(self._by_model)
