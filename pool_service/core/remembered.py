"""The runtime models that callers named for models which the configuration does not list."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pool_service.core.errors import PoolError

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


MOST_REMEMBERED = 500
"""Refusals; where there are more the oldest are forgotten before their time."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    runtime_model: str
    error: PoolError
    until: float


class Refusals:
    """The refusals of models that have no server, each for a moment."""

    def __init__(self) -> None:
        self._by_model: dict[str, _Refusal] = {}

    def add(self, model: str, runtime_model: str, error: PoolError, until: float) -> None:
        """Remember that a start of `model` as `runtime_model` was refused with `error`."""
        self._by_model.pop(model, None)
        self._by_model[model] = _Refusal(runtime_model, error, until)
        if len(self._by_model) > MOST_REMEMBERED:
            del self._by_model[next(iter(self._by_model))]

    def find(self, model: str, runtime_model: str, now: float) -> PoolError | None:
        """Return the error with which another such start would be refused now, if it is known."""
        known = self._by_model.get(model)
        if known is None or known.runtime_model != runtime_model:
            return None
        return known.error if now < known.until else None

    def forget(self, model: str) -> None:
        """Let the next caller for `model` try."""
        self._by_model.pop(model, None)

    def forget_all(self) -> None:
        """Let the next caller try, whatever the model."""
        self._by_model.clear()
