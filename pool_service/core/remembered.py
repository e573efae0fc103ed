"""Memories by model: runtime models that callers named, pins by callers, and failed starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pool_service.core.errors import PoolError

MAX_NAMINGS = 1024
"""The number of models whose runtime model is remembered; beyond it the oldest is forgotten."""


class Namings:
    """Remember the runtime model last named for each model, for callers that name none.

    is_reordered: only their order has changed, by names that were named again, since the last
    change of them: too frequent to be recorded each time.
    """

    def __init__(self) -> None:
        self._named: dict[str, str] = {}
        self.is_reordered = False

    def get(self, model: str) -> str:
        """Return the runtime model last named for a model, or ""."""
        return self._named.get(model, "")

    def add(self, model: str, runtime_model: str) -> bool:
        """Remember the runtime model of a model; return whether it was another before."""
        is_last = next(reversed(self._named), "") == model
        before = self._named.pop(model, "")
        self._named[model] = runtime_model
        self.is_reordered = before == runtime_model and (self.is_reordered or not is_last)
        if len(self._named) > MAX_NAMINGS:
            del self._named[next(iter(self._named))]
        return before != runtime_model

    def forget(self, models: Iterable[str]) -> list[str]:
        """Forget the runtime models of `models`; return those that were remembered."""
        return [self._named.pop(model) for model in models if model in self._named]

    def all(self) -> Mapping[str, str]:
        """Return a copy of all runtime models by model, those named longest ago first."""
        return dict(self._named)


MAX_PINS = 1024
"""The number of models whose pin is remembered; one more is refused, so that nobody can push out
the pins of others."""


class Pins:
    """Remember whether callers last said that a model is to be pinned, or is not."""

    def __init__(self) -> None:
        self._pinned: dict[str, bool] = {}

    def get(self, model: str) -> bool | None:
        """Return what callers said last of a model; None: nothing, or as the configuration says."""
        return self._pinned.get(model)

    def has_place(self, model: str) -> bool:
        """Return whether something can be remembered of a model beside all that is."""
        return model in self._pinned or len(self._pinned) < MAX_PINS

    def set(self, model: str, *, pinned: bool | None) -> bool:
        """Remember what callers say of a model, or nothing if None; return whether that is new."""
        if pinned is self._pinned.get(model):
            # Its place in the order stays as well, since nothing is recorded.
            return False
        self._pinned.pop(model, None)
        if pinned is not None:
            self._pinned[model] = pinned
        return True

    def move(self, aliases: Mapping[str, str]) -> None:
        """Move what callers say of aliases to the models that these stand for.

        What they say of a model by its own name counts first, then what they said last.
        """
        before = self._pinned
        said = [(name, pinned) for name, pinned in before.items() if name in aliases]
        self._pinned = {name: said for name, said in before.items() if name not in aliases}
        own = set(self._pinned)
        for alias, pinned in said:
            if aliases[alias] not in own:
                self._pinned[aliases[alias]] = pinned

    def changed_since(self, before: Mapping[str, bool]) -> list[str]:
        """Return the names of which something else is remembered now; before: as `all` was."""
        names = {**before, **self._pinned}
        return [name for name in names if self.get(name) is not before.get(name)]

    def all(self) -> Mapping[str, bool]:
        """Return a copy of all pins by model, those said longest ago first."""
        return dict(self._pinned)


MAX_FAILED_STARTS = 500
"""The number of failed starts that are remembered; beyond it the oldest are forgotten early."""


@dataclass(frozen=True, slots=True)
class _FailedStart:
    runtime_model: str
    error: PoolError
    until: float


class FailedStarts:
    """Remember the errors of failed starts that left no FAILED server, each for a short time."""

    def __init__(self) -> None:
        self._by_model: dict[str, _FailedStart] = {}

    def add(self, model: str, runtime_model: str, error: PoolError, until: float) -> None:
        """Remember that a start of `model` as `runtime_model` failed with `error`."""
        self._by_model.pop(model, None)
        self._by_model[model] = _FailedStart(runtime_model, error, until)
        if len(self._by_model) > MAX_FAILED_STARTS:
            del self._by_model[next(iter(self._by_model))]

    def find(self, model: str, runtime_model: str, now: float) -> PoolError | None:
        """Return the remembered error of such a start, or None if it may be tried."""
        known = self._by_model.get(model)
        if known is None or known.runtime_model != runtime_model:
            return None
        return known.error if now < known.until else None

    def until(self, model: str) -> float:
        """Return until when the error of a model's failed start is remembered; 0 if none is."""
        known = self._by_model.get(model)
        return known.until if known is not None else 0.0

    def forget(self, model: str) -> None:
        """Forget the failed start of a model, so that its next caller may try."""
        self._by_model.pop(model, None)

    def forget_all(self) -> None:
        """Forget all failed starts."""
        self._by_model.clear()
