"""How many processes may wait to become servers."""

from dataclasses import replace

import pytest

from pool_service.core.commands import KeepStandbys
from pool_service.core.server import Phase
from pool_service.core.standby_need import NEED_MEMORY_S
from pool_service.core.standby_policy import STANDBY_BYTES
from pool_service.core.types import FOREVER
from tests.core.parts import DEFAULTS, NOW, Field, Parts, made, of_kind, sample


def policy(**limits: Field) -> Parts:
    named: dict[str, Field] = {"standby": 2}
    parts = Parts(**named | limits)
    parts.state.has_recovered = True
    return parts


def told(parts: Parts, now: float = NOW) -> tuple[int, bool] | None:
    """Return how many are allowed from now on and whether more may be started; None: no news."""
    command = command_of(parts, now)
    if command is None:
        return None
    assert (command.settings, command.wanted) == (DEFAULTS, parts.state.limits.standby)
    return command.allowed, command.refill


def command_of(parts: Parts, now: float) -> KeepStandbys | None:
    parts.standby.update(now)
    issued = parts.taken()
    if not issued:
        return None
    (command,) = issued
    assert isinstance(command, KeepStandbys)
    return command


def start_together(parts: Parts, models: str, now: float = NOW) -> int:
    """Let these models start at once, and be gone again; return how many are wanted then."""
    rows = [parts.there(model, Phase.PREPARING) for model in models]
    parts.standby.update(now)
    under_way = of_kind(parts.taken(), KeepStandbys)
    for row in rows:
        parts.state.drop(row.server)
    parts.standby.update(now)
    return [*under_way, *of_kind(parts.taken(), KeepStandbys)][-1].wanted


def test_as_many_wait_as_are_configured_where_there_is_no_limit() -> None:
    parts = policy()
    assert told(parts) == (2, True)
    assert told(parts) is None, "it is news once"


def test_before_the_end_of_a_recovery_none_may_wait() -> None:
    parts = policy()
    parts.state.has_recovered = False
    assert told(parts) is None


def test_where_none_are_configured_nothing_is_told_unless_some_were_before() -> None:
    parts = policy(standby=0)
    assert told(parts) is None
    parts = policy()
    told(parts)
    parts.state.limits = replace(parts.state.limits, standby=0)
    assert told(parts) == (0, True)


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [(3 * STANDBY_BYTES, 2), (2 * STANDBY_BYTES - 1, 1), (STANDBY_BYTES - 1, 0), (0, 0)],
)
def test_of_the_budget_they_get_what_no_server_takes(budget: int, allowed: int) -> None:
    parts = policy(memory_budget=budget + 500)
    parts.there(expected=500)
    assert told(parts) == (allowed, True)


def test_who_waits_for_its_turn_is_served_before_them_once_its_need_is_known() -> None:
    for is_estimating, allowed in ((True, 1), (False, 0)):
        parts = policy(memory_budget=STANDBY_BYTES + 500)
        parts.queued(needed=501).is_estimating = is_estimating
        assert told(parts) == (allowed, False)


def test_of_the_machine_they_get_what_is_left_with_what_they_take_already() -> None:
    parts = policy(memory_reserve=100)
    parts.there(expected=50)
    seen = replace(sample(available=STANDBY_BYTES + 149), standbys=STANDBY_BYTES)
    parts.sampled(seen)
    assert told(parts) == (1, True)
    parts.sampled(replace(seen, available=STANDBY_BYTES + 150))
    assert told(parts) == (2, True)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.QUEUED, Phase.BACKING_OFF])
def test_none_is_started_while_a_server_is_on_its_way(phase: Phase) -> None:
    parts = policy()
    parts.there(phase=phase)
    assert told(parts) == (2, False)


def test_a_machine_short_of_memory_has_none_and_a_service_that_ends_neither() -> None:
    parts = policy()
    parts.sampled(replace(sample(), pressured=True))
    assert told(parts) == (0, False)
    parts = policy()
    parts.state.is_closing = True
    assert told(parts) == (0, True)
    assert parts.state.limits.memory_budget == FOREVER


# --- by need --------------------------------------------------------------------------------


def test_as_many_are_wanted_as_models_started_together() -> None:
    parts = policy(standby=1)
    assert start_together(parts, "abcde") == 5


def test_while_models_start_none_is_added_and_afterwards_all_that_are_missing() -> None:
    parts = policy(standby=1)
    rows = [parts.there(model, Phase.PREPARING) for model in "ab"]
    assert command_of(parts, NOW) == KeepStandbys(DEFAULTS, 2, 2, refill=False)
    for row in rows:
        parts.state.drop(row.server)
    parts.taken()
    assert command_of(parts, NOW) == KeepStandbys(DEFAULTS, 2, 2, refill=True)


@pytest.mark.parametrize(
    ("standby", "most", "wanted"), [(1, 3, 3), (2, 1, 2), (4, 8, 5), (6, 8, 6), (0, 8, 0)]
)
def test_need_adds_up_to_the_most_and_takes_none_of_the_configured_away(
    standby: int, most: int, wanted: int
) -> None:
    parts = policy(standby=standby, standby_max=most)
    if standby:
        assert start_together(parts, "abcde") == wanted
    else:
        parts.there("a", Phase.PREPARING)
        assert command_of(parts, NOW) is None


def test_what_need_adds_gets_only_memory_that_servers_leave() -> None:
    parts = policy(standby=1, memory_budget=3 * STANDBY_BYTES + 500)
    start_together(parts, "abcde")
    parts.there("f", expected=501)
    told = command_of(parts, NOW)
    assert told is not None
    assert (told.wanted, told.allowed) == (5, 2)


def test_need_is_forgotten_by_a_deadline_of_its_own() -> None:
    parts = policy(standby=1)
    assert parts.standby.due_at == FOREVER
    start_together(parts, "abcde")
    assert parts.standby.due_at == NOW + NEED_MEMORY_S
    told = command_of(parts, parts.standby.due_at)
    assert told == KeepStandbys(DEFAULTS, 1, 1, refill=True)
    assert parts.standby.due_at == FOREVER, "nothing wakes a quiet pool"


@pytest.mark.parametrize(
    "other", [{"runtime": "another"}, {"environment": (("A", "1"),)}], ids=["runtime", "variables"]
)
def test_models_that_no_standby_can_run_are_no_need(other: dict[str, Field]) -> None:
    parts = policy(standby=1)
    for model in "abc":
        settings = replace(DEFAULTS, runtime_model=model, **other)
        parts.there(model, Phase.PREPARING, settings=settings)
    told = command_of(parts, NOW)
    assert told is not None
    assert told.wanted == 1


def test_servers_of_an_earlier_service_are_no_need() -> None:
    parts = policy(standby=1)
    for model in "abc":
        parts.state.put(made(model, Phase.STARTING))
    parts.taken()
    told = command_of(parts, NOW)
    assert told is not None
    assert told.wanted == 1
