"""Starts that were refused before there was a process, so that a herd does not cost a look each."""

from dataclasses import dataclass

from pool_service.core.errors import PoolError

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
