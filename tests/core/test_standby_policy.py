"""How many processes may wait to become servers."""

from dataclasses import replace

import pytest

from pool_service.core.commands import KeepStandbys
from pool_service.core.server import Phase
from pool_service.core.standby_policy import STANDBY_BYTES
from pool_service.core.types import FOREVER
from tests.core.parts import DEFAULTS, Field, Parts, sample


def policy(**limits: Field) -> Parts:
    named: dict[str, Field] = {"standby": 2}
    parts = Parts(**named | limits)
    parts.standby.is_allowed = True
    return parts


def told(parts: Parts) -> tuple[int, bool] | None:
    """Return how many are allowed from now on and whether more may be started; None: no news."""
    parts.standby.update()
    issued = parts.taken()
    if not issued:
        return None
    (command,) = issued
    assert isinstance(command, KeepStandbys)
    assert (command.settings, command.wanted) == (DEFAULTS, parts.state.limits.standby)
    return command.allowed, command.refill


def test_as_many_wait_as_are_configured_where_there_is_no_limit() -> None:
    parts = policy()
    assert told(parts) == (2, True)
    assert told(parts) is None, "it is news once"


def test_before_the_end_of_a_recovery_none_may_wait() -> None:
    parts = policy()
    parts.standby.is_allowed = False
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
