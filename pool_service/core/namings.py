"""The runtime models that callers named for models which the configuration does not list."""

from collections.abc import Iterable, Mapping

MOST_NAMINGS = 1024
"""Models whose runtime model is remembered; the one that was named longest ago is forgotten."""


class Namings:
    """Remember the runtime model that was named last for each model, for callers who name none."""

    def __init__(self) -> None:
        self._named: dict[str, str] = {}

    def get(self, model: str) -> str:
        """Return the runtime model that was named last, or nothing."""
        return self._named.get(model, "")

    def add(self, model: str, runtime_model: str) -> bool:
        """Remember a runtime model; return whether that is news."""
        before = self._named.pop(model, "")
        self._named[model] = runtime_model
        if len(self._named) > MOST_NAMINGS:
            del self._named[next(iter(self._named))]
        return before != runtime_model

    def forget(self, models: Iterable[str]) -> list[str]:
        """Forget these models; return the runtime models that were remembered of them."""
        return [self._named.pop(model) for model in models if model in self._named]

    def all(self) -> Mapping[str, str]:
        """Return a copy of all that is remembered, named longest ago first."""
        return dict(self._named)
