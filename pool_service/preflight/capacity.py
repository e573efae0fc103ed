"""Checks of capacity: models that cannot start beside each other, or within the budget. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pool_service.config.errors import KeyPath, key_name
from pool_service.core.limits import Limits
from pool_service.core.types import Estimate, EstimateSource, Settings
from pool_service.core.units import size
from pool_service.preflight.problem import Problem

MAX_NAMED_MODELS = 5
"""The most models that a message names."""


@dataclass(frozen=True, slots=True)
class ListedModels:
    """The listed models of a configuration, with the memory that they need.

    Attributes:
        settings: the settings of each model.
        estimates: the memory estimate of each model that has one.
        limits: the limits of the pool.
        total: the machine's memory in bytes.
    """

    settings: Mapping[str, Settings]
    estimates: Mapping[str, Estimate]
    limits: Limits
    total: int

    @property
    def permanent(self) -> list[str]:
        """The models that start with the service and are never preempted."""
        return [name for name, one in self.settings.items() if one.preload and one.pinned]

    @property
    def capacity(self) -> float:
        """The bytes that all servers together can have on this machine."""
        return min(self.limits.memory_budget, self.total - self.limits.memory_reserve)

    def need(self, model: str) -> int:
        """Return the bytes that a model needs; 0 if there is only a guess."""
        known = self.estimates.get(model)
        return 0 if known is None or known.source is EstimateSource.UNKNOWN else known.expected

    def needs(self, models: list[str]) -> int:
        """Return the bytes that several models need together, without guesses."""
        return sum(map(self.need, models))


def capacity_problems(listed: ListedModels) -> Iterator[Problem]:
    """Yield the problems of models whose settings are right, but which lack files or capacity."""
    yield from _preload_problems(listed)
    yield from _budget_problems(listed)
    yield from _group_problems(listed)


def _preload_problems(listed: ListedModels) -> Iterator[Problem]:
    for model, known in listed.estimates.items():
        problem = missing_files(model, listed.settings[model], known)
        if problem is not None:
            yield problem


def missing_files(model: str, settings: Settings, known: Estimate) -> Problem | None:
    """Return the problem if a model that starts without a call lacks files; None otherwise."""
    is_unasked = settings.preload or settings.home
    if not is_unasked or known.on_disk is not False or settings.download:
        return None
    whose = "its files" if settings.preload else f"the files of the home model {model}"
    what = (
        f"{whose} are not on this machine, so it will not start with the service; run "
        f"'pool-service pull {model}', or set download = true"
    )
    path: KeyPath = ("models", model, "preload") if settings.preload else ("service", "home_model")
    return Problem(path, what, is_error=False)


def _budget_problems(listed: ListedModels) -> Iterator[Problem]:
    too_large = [model for model in listed.settings if listed.need(model) > listed.capacity]
    if len(too_large) > 1 and len(too_large) == len(listed.settings):
        least = min(too_large, key=listed.need)
        what = (
            f"no listed model fits: the smallest, {least}, is expected to need "
            f"{size(listed.need(least))}, and {_limit_text(listed)}; raise it, or list smaller "
            "models"
        )
        yield Problem(("memory", "budget"), what)
        return
    for model in too_large:
        declared = listed.estimates[model].source is EstimateSource.DECLARED
        path = ("models", model, "expected_memory" if declared else "runtime_model")
        what = (
            f"the model is expected to need {size(listed.need(model))} "
            f"({listed.estimates[model].source.value}), and {_limit_text(listed)}; raise "
            f"memory.budget, or choose a smaller model"
        )
        yield Problem(path, what)
    yield from _permanent_problems(listed, too_large)


def _permanent_problems(listed: ListedModels, too_large: list[str]) -> Iterator[Problem]:
    """Yield models that have no room beside the permanent ones, or beside the pinned ones."""
    permanent = [model for model in listed.permanent if model not in too_large]
    kept = listed.needs(permanent)
    if kept > listed.capacity:
        what = (
            f"the models that are pinned and preloaded ({_names(permanent)}) are expected to need "
            f"{size(kept)} together, and {_limit_text(listed)}; raise it, or pin fewer"
        )
        yield Problem(("memory", "budget"), what)
        return
    for model in listed.settings:
        if model in permanent or model in too_large or listed.need(model) + kept <= listed.capacity:
            continue
        what = (
            f"it is expected to need {size(listed.need(model))}, and the models that are pinned "
            f"and preloaded ({_names(permanent)}) leave {size(listed.capacity - kept)}, so it can "
            "only start when you evict one of them; raise memory.budget, or pin fewer"
        )
        yield Problem(("models", model), what)
    pinned = [name for name, one in listed.settings.items() if one.pinned and name not in too_large]
    if listed.needs(pinned) > listed.capacity and len(pinned) > len(permanent):
        what = (
            f"the pinned models ({_names(pinned)}) are expected to need "
            f"{size(listed.needs(pinned))} together, and {_limit_text(listed)}: while some of them "
            "run, the others cannot start"
        )
        yield Problem(("memory", "budget"), what, is_error=False)


def _limit_text(listed: ListedModels) -> str:
    """Return a clause that says which limit leaves how much memory to the models."""
    if listed.limits.memory_budget <= listed.capacity:
        return f"the budget for all models (memory.budget) is {size(listed.capacity)} here"
    return f"memory.reserve leaves them {size(listed.capacity)} of this machine's memory"


def _group_problems(listed: ListedModels) -> Iterator[Problem]:
    for group, limit in listed.limits.groups.items():
        members = [name for name, one in listed.settings.items() if group in one.groups]
        permanent = [model for model in members if model in listed.permanent]
        pinned = [model for model in members if listed.settings[model].pinned]
        others = [model for model in members if model not in permanent]
        path, place = ("groups", group, "limit"), key_name(("groups", group))
        if len(permanent) > limit:
            what = (
                f"[{place}] allows {limit} at a time, and {len(permanent)} of its models are "
                f"pinned and preloaded ({_names(permanent)}), so not all of them can start; raise "
                "the limit, or pin fewer"
            )
            yield Problem(path, what)
        elif len(permanent) == limit and others:
            what = (
                f"the models that are pinned and preloaded ({_names(permanent)}) take all {limit}, "
                f"so {_names(others)} can only start when you evict one of them; raise the limit, "
                "or pin fewer"
            )
            yield Problem(path, what)
        elif len(pinned) > limit:
            what = (
                f"[{place}] allows {limit} at a time, and {len(pinned)} of its models are pinned "
                f"({_names(pinned)}): while some of them run, the others cannot start"
            )
            yield Problem(path, what, is_error=False)


def _names(models: list[str]) -> str:
    more = f" and {len(models) - MAX_NAMED_MODELS} more" if len(models) > MAX_NAMED_MODELS else ""
    return ", ".join(models[:MAX_NAMED_MODELS]) + more
