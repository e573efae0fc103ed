"""Waiters and holds: the callers that wait for, or hold, each model, in order of arrival."""

from dataclasses import dataclass

from pool_service.core.events import HoldRequested
from pool_service.core.types import Account, Settings


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for a model to be READY.

    request_id: None for a request of the pool itself.
    runtime_model: as the caller named it; empty if it named none.
    settings: to start the model with.
    keep_alive: seconds; None: as configured.
    starts: the request began the start, and did not join one.
    download: the request allows to download the model's files.
    since: when the request was made, or when the server that it holds was lost, in seconds of the
    pool's clock.
    account: to whom the start counts; None: to nobody.
    for_pin: the pool makes it since the model is pinned, and for no other reason.
    least_generation: the least generation of the server that is started for it.
    """

    request_id: int | None
    runtime_model: str
    settings: Settings
    keep_alive: float | None
    starts: bool
    download: bool = False
    since: float = 0.0
    account: Account | None = None
    for_pin: bool = False
    least_generation: int = 0


class Waiters:
    """Keep the requests that wait for models: Ensures, Holds, and starts by the pool itself."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int | None, Waiter]] = {}
        self._models: dict[int, str] = {}

    def add(self, model: str, waiter: Waiter) -> None:
        """Add a waiter, unless its request waits already."""
        self._by_model.setdefault(model, {}).setdefault(waiter.request_id, waiter)
        if waiter.request_id is not None:
            self._models[waiter.request_id] = model

    def first(self, model: str) -> Waiter | None:
        """Return the waiter that has waited longest for `model`, or None."""
        return next(iter(self._by_model.get(model, {}).values()), None)

    def of(self, model: str) -> list[Waiter]:
        """Return the waiters of `model`."""
        return list(self._by_model.get(model, {}).values())

    def counts(self) -> dict[str, int]:
        """Return the number of calls that wait for each model, without the pool's own."""
        return {
            model: count
            for model, waiters in self._by_model.items()
            if (count := len(waiters) - (None in waiters))
        }

    def account(self, model: str) -> Account | None:
        """Return to whom the start of `model` counts, of all that wait: the one with most room.

        None: one of them may use the whole budget, or nobody waits.
        """
        accounts = [waiter.account for waiter in self._by_model.get(model, {}).values()]
        limited = [account for account in accounts if account is not None]
        if len(limited) < len(accounts):
            return None
        return max(limited, key=lambda one: one.memory_share, default=None)

    def least_generation(self, model: str) -> int:
        """Return the least generation that the next server of `model` may have; 0: any."""
        waiters = self._by_model.get(model, {}).values()
        return max((waiter.least_generation for waiter in waiters), default=0)

    def replace(self, model: str, waiters: list[Waiter]) -> None:
        """Replace the waiters of `model`, which are the same requests with other settings.

        The pool's own request for a pinned model ends if the model is pinned no more.
        """
        self._by_model[model] = {waiter.request_id: waiter for waiter in waiters}
        if any(waiter.for_pin and not waiter.settings.pinned for waiter in waiters):
            self.withdraw(model)

    def leave(self, request_id: int) -> str | None:
        """Remove the waiter of a request; return its model, or None if it did not wait."""
        model = self._models.pop(request_id, None)
        if model is not None:
            waiters = self._by_model[model]
            del waiters[request_id]
            if not waiters:
                del self._by_model[model]
        return model

    def withdraw(self, model: str) -> None:
        """Remove the pool's own request for `model`, if there is one."""
        waiters = self._by_model.get(model, {})
        waiters.pop(None, None)
        if not waiters:
            self._by_model.pop(model, None)

    def take(self, model: str) -> list[Waiter]:
        """Remove and return the waiters of `model`."""
        waiters = list(self._by_model.pop(model, {}).values())
        for waiter in waiters:
            if waiter.request_id is not None:
                self._models.pop(waiter.request_id, None)
        return waiters

    def models(self) -> list[str]:
        """Return the models that have waiters."""
        return list(self._by_model)

    def __len__(self) -> int:
        return len(self._models)


class Holds:
    """Keep the holds by model and by request id."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[int, HoldRequested]] = {}
        self._models: dict[int, str] = {}
        self._since: dict[int, float] = {}

    def add(self, model: str, hold: HoldRequested, now: float) -> None:
        """Add a hold of `model`, which the caller may have named by an alias."""
        self._by_model.setdefault(model, {})[hold.request_id] = hold
        self._since[hold.request_id] = now
        self._models[hold.request_id] = model

    def of(self, model: str) -> list[HoldRequested]:
        """Return the holds of `model`, the oldest first."""
        return list(self._by_model.get(model, {}).values())

    def count(self, model: str) -> int:
        """Return the number of holds of `model`."""
        return len(self._by_model.get(model, ()))

    def since(self, request_id: int) -> float:
        """Return when a hold began, in seconds of the pool's clock."""
        return self._since[request_id]

    def end(self, request_id: int) -> str | None:
        """Remove a hold; return its model, or None if there is no such hold."""
        model = self._models.pop(request_id, None)
        self._since.pop(request_id, None)
        if model is not None:
            holds = self._by_model[model]
            del holds[request_id]
            if not holds:
                del self._by_model[model]
        return model

    def has(self, request_id: int) -> bool:
        """Return whether a request id is that of a hold."""
        return request_id in self._models

    def models(self) -> list[str]:
        """Return the models that are held."""
        return list(self._by_model)
