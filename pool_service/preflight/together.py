"""Finds models that cannot start since others, or the budget, leave no room: pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pool_service.config.errors import key_name
from pool_service.core.limits import Limits
from pool_service.core.types import FOREVER, Estimate, EstimateSource, Settings
from pool_service.core.units import size
from pool_service.preflight.problem import Problem

_FEW = 5
"""So many models are named in one message."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Hold the models of a configuration, with what is known of what they need.

    Attributes:
        settings: how each model is run.
        estimates: what is known of each model; a model that cannot be estimated is not in it.
        limits: what holds for the pool as a whole.
        total: bytes of memory that the machine has.
    """

    settings: Mapping[str, Settings]
    estimates: Mapping[str, Estimate]
    limits: Limits
    total: int

    @property
    def staying(self) -> list[str]:
        """The models that start with the service and are never stopped to make room."""
        return [name for name, one in self.settings.items() if one.preload and one.pinned]

    @property
    def most(self) -> float:
        """Bytes that all servers together can have here."""
        return min(self.limits.memory_budget, self.total - self.limits.memory_reserve)

    def need(self, model: str) -> int:
        """Return the bytes that a model is known to need; 0 where that is only guessed."""
        known = self.estimates.get(model)
        return 0 if known is None or known.source is EstimateSource.UNKNOWN else known.expected

    def needs(self, models: list[str]) -> int:
        """Return the bytes that models are known to need together."""
        return sum(map(self.need, models))


def problems_together(listed: Listed) -> Iterator[Problem]:
    """Yield what keeps models from starting although each of them is right for itself."""
    yield from _preloads(listed)
    yield from _budget(listed)
    yield from _groups(listed)


def _preloads(listed: Listed) -> Iterator[Problem]:
    for model, known in listed.estimates.items():
        settings = listed.settings[model]
        if settings.preload and known.on_disk is False and not settings.download:
            what = (
                f"its files are not on this machine, so it will not start with the service; run "
                f"'pool-service pull {model}', or set download = true"
            )
            yield Problem(("models", model, "preload"), what, is_error=False)


def _budget(listed: Listed) -> Iterator[Problem]:
    if listed.most == FOREVER:
        return
    too_large = [model for model in listed.settings if listed.need(model) > listed.most]
    if len(too_large) > 1 and len(too_large) == len(listed.settings):
        least = min(too_large, key=listed.need)
        what = (
            f"no listed model fits: the smallest, {least}, is expected to need "
            f"{size(listed.need(least))}, and {_limit(listed)}; raise it, or list smaller models"
        )
        yield Problem(("memory", "budget"), what)
        return
    for model in too_large:
        declared = listed.estimates[model].source is EstimateSource.DECLARED
        path = ("models", model, "expected_memory" if declared else "runtime_model")
        what = (
            f"the model is expected to need {size(listed.need(model))} "
            f"({listed.estimates[model].source.value}), and {_limit(listed)}; raise "
            f"memory.budget, or choose a smaller model"
        )
        yield Problem(path, what)
    yield from _kept_memory(listed, too_large)


def _kept_memory(listed: Listed, too_large: list[str]) -> Iterator[Problem]:
    """Yield the models that never have room beside those that always run."""
    staying = [model for model in listed.staying if model not in too_large]
    kept = listed.needs(staying)
    if kept > listed.most:
        what = (
            f"the models that are pinned and preloaded ({_few(staying)}) are expected to need "
            f"{size(kept)} together, and {_limit(listed)}; raise it, or pin fewer"
        )
        yield Problem(("memory", "budget"), what)
        return
    for model in listed.settings:
        if model in staying or model in too_large or listed.need(model) + kept <= listed.most:
            continue
        what = (
            f"it is expected to need {size(listed.need(model))}, and the models that are pinned "
            f"and preloaded ({_few(staying)}) leave {size(listed.most - kept)}, so it can only "
            "start when you evict one of them; raise memory.budget, or pin fewer"
        )
        yield Problem(("models", model), what)
    pinned = [name for name, one in listed.settings.items() if one.pinned and name not in too_large]
    if listed.needs(pinned) > listed.most and len(pinned) > len(staying):
        what = (
            f"the pinned models ({_few(pinned)}) are expected to need "
            f"{size(listed.needs(pinned))} together, and {_limit(listed)}: while some of them "
            "run, the others cannot start"
        )
        yield Problem(("memory", "budget"), what, is_error=False)


def _limit(listed: Listed) -> str:
    if listed.limits.memory_budget <= listed.most:
        return f"the budget for all models (memory.budget) is {size(listed.most)} here"
    return f"memory.reserve leaves them {size(listed.most)} of this machine's memory"


def _groups(listed: Listed) -> Iterator[Problem]:
    for group, limit in listed.limits.groups.items():
        members = [name for name, one in listed.settings.items() if group in one.groups]
        staying = [model for model in members if model in listed.staying]
        pinned = [model for model in members if listed.settings[model].pinned]
        others = [model for model in members if model not in staying]
        path, place = ("groups", group, "limit"), key_name(("groups", group))
        if len(staying) > limit:
            what = (
                f"[{place}] allows {limit} at a time, and {len(staying)} of its models are pinned "
                f"and preloaded ({_few(staying)}), so not all of them can start; raise the limit, "
                "or pin fewer"
            )
            yield Problem(path, what)
        elif len(staying) == limit and others:
            what = (
                f"the models that are pinned and preloaded ({_few(staying)}) take all {limit}, so "
                f"{_few(others)} can only start when you evict one of them; raise the limit, or "
                "pin fewer"
            )
            yield Problem(path, what)
        elif len(pinned) > limit:
            what = (
                f"[{place}] allows {limit} at a time, and {len(pinned)} of its models are pinned "
                f"({_few(pinned)}): while some of them run, the others cannot start"
            )
            yield Problem(path, what, is_error=False)


def _few(models: list[str]) -> str:
    more = f" and {len(models) - _FEW} more" if len(models) > _FEW else ""
    return ", ".join(models[:_FEW]) + more
