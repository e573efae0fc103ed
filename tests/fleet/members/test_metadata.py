"""Claims about what members learn of the models that a front's caller may know of."""

import pytest

from pool_service.access.fleet import FleetCaller, acting_for
from pool_service.access.principal import ModelPatterns, Principal, Scope
from pool_service.core.errors import ScopeMissing
from pool_service.fleet.members.metadata import fleet_call
from pool_service.rpc import fleet_calls

NAMES = ("a", "b", "team-a", "team-b", "other")


def passed_on(of_caller: tuple[str, ...], *of_fronts: tuple[str, ...]) -> ModelPatterns:
    """Return what a member learns of a caller that calls by several fronts, one by another."""
    models = ModelPatterns(of_caller)
    principal = Principal("one", Scope.USE, models=models)
    for number, patterns in enumerate(of_fronts):
        front = Principal(
            f"front-{number}", Scope.ADMIN, logs=True, models=ModelPatterns(patterns), fleet=True
        )
        principal = acting_for(front, FleetCaller("one", Scope.USE, logs=False, models=models))
        _, caller = fleet_calls.fleet_call(fleet_call("f", 1, principal))
        assert caller is not None
        models = caller.models
    return models


@pytest.mark.parametrize(
    ("of_caller", "of_fronts"),
    [
        (("*",), [("*",)]),
        (("team-*",), [("*",)]),
        (("*",), [("team-*",)]),
        (("team-*",), [("team-*",)]),
        (("team-a",), [("team-b", "team-a")]),
        (("team-*", "other"), [("other",)]),
        ((), [("team-*",)]),
        (("team-*",), [()]),
        (("team-*",), [("*",), ("team-*",)]),
    ],
)
def test_members_know_of_both_limits(
    of_caller: tuple[str, ...], of_fronts: list[tuple[str, ...]]
) -> None:
    told = passed_on(of_caller, *of_fronts)
    every = [ModelPatterns(one) for one in (of_caller, *of_fronts)]
    for name in NAMES:
        assert told.allows((name,)) == all(one.allows((name,)) for one in every), name


def test_a_front_refuses_to_call_for_callers_with_limits_of_which_it_can_tell_one_only() -> None:
    with pytest.raises(ScopeMissing) as error:
        passed_on(("team-*",), ("*-a",))
    assert "front-0/one" in error.value.message
