"""Claims about models that leave each other no memory, by values."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pool_service.core.limits import Limits
from pool_service.core.types import FOREVER, Estimate, EstimateSource, Settings
from pool_service.preflight.capacity import ListedModels, capacity_problems

GB = 10**9
PLAIN = Settings(runtime_model="r")
KEPT = Settings(runtime_model="r", preload=True, pinned=True)
PINNED = Settings(runtime_model="r", pinned=True)


def found(
    settings: Mapping[str, Settings],
    needs: Mapping[str, int] | None = None,
    source: EstimateSource = EstimateSource.WEIGHTS,
    limits: Limits | None = None,
    *,
    on_disk: bool | None = None,
) -> list[tuple[str, bool, str]]:
    estimates = {name: Estimate(n * GB, source, on_disk) for name, n in (needs or {}).items()}
    limits = limits or Limits(memory_budget=10 * GB)
    listed = ListedModels(settings, estimates, limits, total=16 * GB)
    return [(".".join(one.path), one.is_error, one.what) for one in capacity_problems(listed)]


def test_models_that_fit_are_no_problem() -> None:
    assert found({"a": PLAIN, "b": KEPT}, {"a": 4, "b": 6}) == []
    assert found({"a": PINNED, "b": PLAIN}, {"a": 10, "b": 10}) == []


@pytest.mark.parametrize(
    ("source", "key"),
    [(EstimateSource.WEIGHTS, "runtime_model"), (EstimateSource.DECLARED, "expected_memory")],
)
def test_a_model_that_never_fits_is_an_error_at_the_key_that_sets_its_need(
    source: EstimateSource, key: str
) -> None:
    ((path, is_error, what),) = found({"a": PLAIN, "b": PLAIN}, {"a": 11, "b": 3}, source)
    assert (path, is_error) == (f"models.a.{key}", True)
    assert f"need 11.0 GB ({source.value}), and the budget" in what
    assert "is 10.0 GB here; raise memory.budget" in what


def test_a_guess_is_no_reason() -> None:
    assert found({"a": PLAIN}, {"a": 99}, EstimateSource.UNKNOWN) == []


def test_a_budget_that_no_model_fits_is_one_error() -> None:
    ((path, is_error, what),) = found({"a": PLAIN, "b": PLAIN}, {"a": 12, "b": 11})
    assert (path, is_error) == ("memory.budget", True)
    assert what.startswith("no listed model fits: the smallest, b, is expected to need 11.0 GB")


def test_without_a_budget_the_machine_is_the_limit() -> None:
    limits = Limits(memory_budget=FOREVER, memory_reserve=2 * GB)
    ((path, _, what),) = found({"a": PLAIN}, {"a": 15}, limits=limits)
    assert path == "models.a.runtime_model"
    assert "memory.reserve leaves them 14.0 GB" in what
    assert found({"a": PLAIN}, {"a": 14}, limits=limits) == []


def test_models_that_always_run_must_leave_memory_for_each_other_model() -> None:
    ((path, is_error, what),) = found({"a": KEPT, "b": PLAIN, "c": PLAIN}, {"a": 6, "b": 5, "c": 4})
    assert (path, is_error) == ("models.b", True)
    assert "(a) leave 4.0 GB" in what


def test_what_always_runs_must_fit_together() -> None:
    ((path, is_error, what),) = found({"a": KEPT, "b": KEPT, "c": PLAIN}, {"a": 6, "b": 5, "c": 1})
    assert (path, is_error) == ("memory.budget", True)
    assert what.startswith("the models that are pinned and preloaded (a, b) are expected to need")


def test_pinned_models_that_do_not_fit_together_are_a_warning() -> None:
    ((path, is_error, _),) = found({"a": PINNED, "b": PINNED}, {"a": 6, "b": 5})
    assert (path, is_error) == ("memory.budget", False)


@pytest.mark.parametrize(
    ("settings", "limit", "is_error", "told"),
    [
        ((KEPT, KEPT), 1, True, "2 of its models are pinned and preloaded (m0, m1)"),
        ((KEPT, PLAIN), 1, True, "(m0) take all 1, so m1 can only start when you evict"),
        ((PINNED, PINNED), 1, False, "2 of its models are pinned (m0, m1): while some"),
    ],
)
def test_pinned_models_must_leave_a_place_in_their_group(
    settings: tuple[Settings, ...], limit: int, *, is_error: bool, told: str
) -> None:
    listed = {f"m{i}": replace(one, groups=("g",)) for i, one in enumerate(settings)}
    limits = Limits(memory_budget=FOREVER, groups={"g": limit})
    ((path, error, what),) = found(listed, limits=limits)
    assert (path, error) == ("groups.g.limit", is_error)
    assert told in what
    assert found(listed, limits=Limits(groups={"g": limit + 1})) == []


@pytest.mark.parametrize(("download", "told"), [(True, 0), (False, 1)])
@pytest.mark.parametrize(
    ("unasked", "key"), [("preload", "models.a.preload"), ("home", "service.home_model")]
)
def test_what_starts_unasked_needs_its_files_or_leave_to_download_them(
    unasked: str, key: str, *, download: bool, told: int
) -> None:
    settings = {"a": replace(PLAIN, download=download, **{unasked: True})}  # type: ignore[arg-type]
    problems = found(settings, {"a": 1}, on_disk=False)
    assert [(path, error) for path, error, _ in problems] == [(key, False)] * told
    assert found(settings, {"a": 1}, on_disk=True) == []
    assert found(settings, {"a": 1}, on_disk=None) == []
