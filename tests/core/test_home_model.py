"""When the home model comes back, and what keeps it away."""

from dataclasses import replace

import pytest

from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import CheckActivity, EstimateMemory, SampleMemory
from pool_service.core.events import CleanedUp, EvictRequested, Exited
from pool_service.core.home_model import (
    COMES_BACK,
    HOME_AFTER_S,
    MAX_PAUSE_S,
    MIN_PAUSE_S,
    QUEUED_LIMIT_S,
)
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase
from pool_service.core.types import FOREVER, Diagnosis
from tests.core.parts import DEFAULTS, NOW, Field, Parts, died, made, of_kind, sample

UNUSED_SINCE = NOW - HOME_AFTER_S
"""When a server was used last that has just become unused for long enough."""


def pool(**more: Field) -> Parts:
    """Return a pool whose home model is not there, and whose memory was just sampled."""
    parts = Parts(home_model="home", **more)
    parts.state.has_recovered = True
    parts.sampled()
    return parts


def starts(parts: Parts, now: float = NOW, *, changed: bool = True) -> bool:
    """Let the home model be updated; return whether it starts."""
    parts.state.capacity_changed = changed
    parts.home.update(now)
    begun = of_kind(parts.state.commands, EstimateMemory)
    return [one.server_id.model for one in begun] == ["home"]


def report(parts: Parts, requests: int | None, now: float = NOW) -> None:
    """Let the idle checks under way find so many requests in flight."""
    for check in of_kind(parts.taken(), CheckActivity):
        row = parts.state.table.find(check.server_id)
        assert row is not None
        parts.idle.on_activity_reported(row, Activity(requests), now)


def renamed(parts: Parts, home_model: str) -> None:
    """Let a new configuration name another home model, or none."""
    parts.state.catalogue = replace(parts.state.catalogue, home_model=home_model)


def why(parts: Parts) -> str:
    """Return what the story of the home model says of the last decision."""
    return parts.state.stories.of("home")[-1].why


def fails(parts: Parts) -> None:
    """Let the start of the home model come to nothing."""
    parts.state.waiters.take("home")
    parts.state.drop(parts.shown("home"))
    parts.taken()


def gone(parts: Parts, model: str, generation: int = 1) -> None:
    """Let a READY server end, whatever the reason."""
    parts.state.drop(parts.there(model, Phase.CLEANING_UP, generation).server)
    parts.taken()


# --- when it starts -------------------------------------------------------------------------


def test_in_an_empty_pool_it_starts_at_once_and_nobody_is_answered() -> None:
    parts = pool()
    assert starts(parts)
    assert parts.shown("home").phase is Phase.QUEUED
    assert parts.state.waiters.of("home")[0].request_id is None
    assert why(parts) == COMES_BACK
    assert parts.home.due_at == FOREVER


def test_it_may_be_named_by_an_alias() -> None:
    parts = Parts(home_model="chat", aliases={"chat": "home"})
    parts.state.has_recovered = True
    parts.sampled()
    assert starts(parts)


@pytest.mark.parametrize(
    "change", [{"home_model": ""}, {"has_recovered": False}, {"is_closing": True}]
)
def test_without_one_and_before_and_after_the_service_nothing_starts_or_is_due(
    change: dict[str, Field],
) -> None:
    parts = pool()
    for name, value in change.items():
        if name == "home_model":
            parts.state.catalogue = replace(parts.state.catalogue, home_model=value)
        else:
            setattr(parts.state, name, value)
    assert not starts(parts)
    assert parts.home.due_at == FOREVER


@pytest.mark.parametrize("phase", [one for one in Phase if one is not Phase.FAILED])
def test_what_is_there_in_any_phase_is_left_alone(phase: Phase) -> None:
    parts = pool()
    parts.there("home", phase)
    assert not starts(parts)
    assert parts.home.due_at == FOREVER, "nothing wakes a pool whose home model is there"


def test_what_has_failed_starts_again_as_soon_as_it_may() -> None:
    parts = pool()
    parts.there("home", Phase.FAILED, retry_at=NOW + 20)
    assert not starts(parts)
    assert parts.home.due_at == NOW + 20
    parts.sampled(now=NOW + 20)
    assert starts(parts, NOW + 20)


# --- the others -----------------------------------------------------------------------------


def test_it_waits_until_the_others_are_unused_for_a_while() -> None:
    parts = pool()
    parts.there("a", last_used_at=NOW - 30)
    parts.there("b", last_used_at=NOW - 10)
    assert not starts(parts)
    assert parts.home.due_at == NOW - 10 + HOME_AFTER_S
    assert parts.taken() == [], "nobody is asked before"


def test_nothing_is_looked_at_before_that_time_unless_something_changes() -> None:
    parts = pool()
    parts.there("a", last_used_at=NOW - 10)
    starts(parts)
    due = parts.home.due_at
    gone(parts, "a")
    assert not starts(parts, NOW + 1, changed=False)
    assert parts.home.due_at == due
    assert starts(parts, NOW + 1)


def test_it_starts_once_idle_checks_find_the_others_unused() -> None:
    parts = pool()
    parts.there("a", last_used_at=UNUSED_SINCE)
    parts.there("b", last_used_at=UNUSED_SINCE)
    assert not starts(parts)
    assert len(of_kind(parts.state.commands, CheckActivity)) == 2
    assert parts.home.due_at == FOREVER, "the results are on their way"
    report(parts, 0)
    assert starts(parts, changed=False)


@pytest.mark.parametrize("requests", [1, None])
def test_a_check_that_finds_one_in_use_puts_it_off(requests: int | None) -> None:
    parts = pool()
    parts.there("a", last_used_at=UNUSED_SINCE)
    starts(parts)
    report(parts, requests)
    assert not starts(parts, changed=False)
    assert NOW + HOME_AFTER_S <= parts.home.due_at <= NOW + HOME_AFTER_S + 1


def test_a_grace_period_counts_as_use() -> None:
    parts = pool()
    settings = replace(DEFAULTS, runtime_model="a", grace_period=90.0)
    parts.there("a", settings=settings, last_used_at=UNUSED_SINCE)
    assert not starts(parts)
    assert parts.home.due_at == UNUSED_SINCE + 90


@pytest.mark.parametrize(
    "phase", [Phase.QUEUED, Phase.STARTING, Phase.BACKING_OFF, Phase.STOPPING, Phase.CLEANING_UP]
)
def test_while_another_comes_or_goes_it_waits_for_that(phase: Phase) -> None:
    parts = pool()
    parts.there("a", phase, last_used_at=UNUSED_SINCE)
    assert not starts(parts)
    assert parts.home.due_at == FOREVER


def test_while_another_is_held_it_waits_for_that() -> None:
    parts = pool()
    parts.there("a", last_used_at=UNUSED_SINCE)
    parts.holds(1, "a")
    assert not starts(parts)
    assert parts.home.due_at == FOREVER


def test_while_somebody_waits_for_another_that_is_there_it_looks_again_later() -> None:
    parts = pool()
    parts.there("a", last_used_at=UNUSED_SINCE)
    parts.waits(1, "a")
    assert not starts(parts)
    assert parts.home.due_at == NOW + HOME_AFTER_S


def test_what_is_pinned_or_has_failed_does_not_count() -> None:
    parts = pool()
    pinned = replace(DEFAULTS, runtime_model="a", pinned=True)
    parts.there("a", settings=pinned, last_used_at=NOW)
    parts.there("b", Phase.FAILED, last_used_at=NOW)
    assert starts(parts)


# --- the machine ----------------------------------------------------------------------------


def test_it_starts_by_a_fresh_sample_only() -> None:
    parts = pool()
    assert not starts(parts, NOW + 30)
    assert of_kind(parts.taken(), SampleMemory)
    parts.sampled(now=NOW + 30)
    assert starts(parts, NOW + 30)


def test_a_machine_short_of_memory_is_asked_again_later() -> None:
    parts = pool()
    parts.sampled(replace(sample(), pressured=True))
    assert not starts(parts)
    assert parts.home.due_at == NOW + HOME_AFTER_S


# --- failures -------------------------------------------------------------------------------


def test_starts_that_fail_come_ever_less_often() -> None:
    parts = pool(backoff_max=30.0)
    now, pauses = NOW, []
    for _ in range(7):
        assert starts(parts, now)
        fails(parts)
        assert not starts(parts, now)
        pauses.append(parts.home.due_at - now)
        now = parts.home.due_at
        parts.sampled(now=now)
    assert pauses == [30, 60, 120, 240, 480, MAX_PAUSE_S, MAX_PAUSE_S]


def test_a_backoff_of_0_does_not_let_it_fail_all_the_time() -> None:
    parts = pool(backoff_max=0.0)
    assert starts(parts)
    fails(parts)
    assert not starts(parts)
    assert parts.home.due_at == NOW + MIN_PAUSE_S


def test_a_longer_backoff_does_not_keep_it_away_for_longer_than_the_longest_pause() -> None:
    parts = pool(backoff_max=2 * MAX_PAUSE_S)
    assert starts(parts)
    fails(parts)
    assert not starts(parts)
    assert parts.home.due_at == NOW + MAX_PAUSE_S


def test_once_it_was_ready_its_failures_are_forgotten() -> None:
    parts = pool(backoff_max=30.0)
    for now in (NOW, NOW + 30):
        parts.sampled(now=now)
        assert starts(parts, now)
        fails(parts)
        starts(parts, now)
    assert parts.home.due_at == NOW + 30 + 60
    parts.there("home", generation=3)
    starts(parts, NOW + 40)
    gone(parts, "home", 3)
    now = NOW + 90
    parts.sampled(now=now)
    assert starts(parts, now)
    fails(parts)
    starts(parts, now)
    assert parts.home.due_at == now + 30


@pytest.mark.parametrize(
    ("cause", "ready_at", "pause"),
    [
        (Cause.PREEMPTED, NOW, 0),
        (Cause.MEMORY_LIMIT, NOW, 0),
        (Cause.CRASHED, NOW, 30),
        (Cause.CRASHED, NOW - 60, 0),
    ],
)
def test_only_after_a_failure_the_next_start_has_to_wait(
    cause: Cause, ready_at: float, pause: int
) -> None:
    parts = pool(backoff_max=30.0, stable_run=60.0)
    assert starts(parts)
    parts.state.drop(parts.shown("home"))
    parts.there("home", ready_at=ready_at)
    parts.there("home", Phase.CLEANING_UP, stop_cause=cause, ready_at=ready_at)
    starts(parts)
    gone(parts, "home")
    assert starts(parts) is (pause == 0)
    assert parts.home.due_at == (NOW + pause if pause else FOREVER)


def superseded(parts: Parts, **changes: Field) -> None:
    """Let a READY server of the home model be superseded, as it no longer answers."""
    server = parts.there("home", **changes).server
    starts(parts)
    parts.supervisor.supersede(server, Cause.WEDGED.value, NOW, at_once=True)
    parts.taken()


def test_a_superseded_server_in_a_crash_loop_bars_the_next_start_while_it_ends() -> None:
    parts = pool(crash_limit=2, backoff_max=30.0)
    superseded(parts, crashes=(NOW - 5.0,))
    assert not starts(parts)
    assert parts.home.due_at == NOW + 30.0


@pytest.mark.parametrize(("ready_at", "pause"), [(NOW, 30), (NOW - 60, 0)])
def test_a_server_superseded_after_a_stable_run_is_followed_by_another_at_once(
    ready_at: float, pause: int
) -> None:
    parts = pool(stable_run=60.0, backoff_max=30.0)
    assert starts(parts)
    fails(parts)
    superseded(parts, ready_at=ready_at)
    assert starts(parts) is (pause == 0)
    assert parts.home.due_at == (NOW + pause if pause else FOREVER)


def test_a_new_configuration_may_have_mended_it() -> None:
    parts = pool()
    starts(parts)
    fails(parts)
    assert not starts(parts)
    parts.state.catalogue = Catalogue(DEFAULTS, home_model="home")
    assert starts(parts)


# --- evictions ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["home", Every.ALL, Every.IDLE])
@pytest.mark.parametrize("is_there", [True, False])
def test_what_was_evicted_stays_away(target: str | Every, is_there: bool) -> None:
    parts = pool()
    if is_there:
        parts.there("home", Phase.QUEUED)
    parts.evicting.evict(EvictRequested(1, target, force=True), NOW)
    parts.taken()
    if is_there and target is Every.IDLE:
        assert parts.server("home") is not None
        return
    assert not starts(parts)
    assert parts.home.due_at == FOREVER


def test_until_somebody_asks_for_it() -> None:
    parts = pool()
    parts.evicting.evict(EvictRequested(1, "home"), NOW)
    parts.there("home")
    starts(parts)
    gone(parts, "home")
    assert starts(parts)


def test_the_eviction_of_another_lets_it_come() -> None:
    parts = pool()
    parts.there("a", Phase.QUEUED)
    parts.evicting.evict(EvictRequested(1, "a"), NOW)
    parts.taken()
    assert starts(parts)


# --- giving way -----------------------------------------------------------------------------


def begun(parts: Parts) -> None:
    """Let the home model be queued with its estimate, behind a server that is to make room."""
    parts.there("a", last_used_at=UNUSED_SINCE)
    starts(parts)
    report(parts, 0)
    assert starts(parts)
    parts.state.table.current("home").is_estimating = False  # type: ignore[union-attr]
    parts.taken()


def test_its_start_is_given_up_as_soon_as_another_is_used() -> None:
    parts = pool()
    begun(parts)
    row = parts.state.table.current("a")
    assert row is not None
    parts.state.put_unpublished(replace(row.server, last_used_at=NOW + 1))
    starts(parts, NOW + 1, changed=False)
    assert parts.server("home") is None
    assert parts.state.waiters.of("home") == []
    assert parts.home.due_at == NOW + 1 + HOME_AFTER_S, "which is no failure"
    assert why(parts) == "gives way to others"


def test_its_start_is_given_up_if_its_turn_does_not_come_soon() -> None:
    parts = pool(backoff_max=30.0)
    begun(parts)
    starts(parts, NOW + 1)
    assert parts.home.due_at == NOW + 1 + QUEUED_LIMIT_S
    starts(parts, NOW + 1 + QUEUED_LIMIT_S, changed=False)
    assert parts.server("home") is None
    assert parts.home.due_at == NOW + 1 + QUEUED_LIMIT_S + 30, "which is a failure"
    assert why(parts) == f"found no room within {QUEUED_LIMIT_S:g} s"


def test_while_a_server_is_leaving_for_it_its_turn_may_take_longer() -> None:
    parts = pool()
    begun(parts)
    starts(parts, NOW + 1)
    parts.there("a", Phase.STOPPING, stop_cause=Cause.PREEMPTED)
    starts(parts, NOW + 1 + QUEUED_LIMIT_S)
    assert parts.shown("home").phase is Phase.QUEUED
    assert parts.home.due_at == NOW + 1 + 2 * QUEUED_LIMIT_S


def test_its_start_is_not_given_up_once_somebody_asks_for_it() -> None:
    parts = pool()
    begun(parts)
    parts.waits(1, "a")
    parts.waits(2, "home")
    starts(parts, NOW + 1)
    assert parts.shown("home").phase is Phase.QUEUED


def test_a_start_that_somebody_else_began_is_not_given_up() -> None:
    parts = pool()
    parts.queued("home")
    parts.waits(1, "a")
    starts(parts)
    assert parts.shown("home").phase is Phase.QUEUED


def loses_its_port(parts: Parts) -> None:
    """Let another program take the port of the home model's process, so that a second follows."""
    parts.there("home", Phase.PREPARING)
    parts.there("home", Phase.SPAWNING)
    row = parts.there("home", Phase.STARTING)
    parts.supervisor.on_exited(row, Exited(row.server.id, died(Diagnosis.PORT_TAKEN)), NOW)
    starts(parts)
    parts.supervisor.on_cleaned_up(row, CleanedUp(row.server.id), NOW)
    second = parts.state.table.current("home")
    assert second is not None
    assert (second.server.phase, second.server.generation) == (Phase.QUEUED, 2)
    second.is_estimating = False
    parts.taken()


def test_the_second_process_of_its_start_gives_way_as_the_first_one_would() -> None:
    parts = pool()
    begun(parts)
    starts(parts)
    loses_its_port(parts)
    later = NOW + QUEUED_LIMIT_S
    starts(parts, later)
    assert parts.shown("home").phase is Phase.QUEUED
    assert parts.home.due_at == later + QUEUED_LIMIT_S, "its turn is waited for anew"
    parts.waits(1, "a")
    starts(parts, later)
    assert parts.server("home") is None


def test_a_second_process_stays_if_somebody_asks_for_it_or_it_is_pinned() -> None:
    for is_pinned in (True, False):
        settings = replace(DEFAULTS, runtime_model="home", pinned=is_pinned)
        parts = pool(models={"home": settings})
        begun(parts)
        loses_its_port(parts)
        parts.waits(1, "a")
        if not is_pinned:
            parts.waits(2, "home")
        starts(parts)
        assert parts.shown("home").phase is Phase.QUEUED


# --- another home model ---------------------------------------------------------------------


@pytest.mark.parametrize("home_model", ["other", ""])
def test_a_start_is_given_up_once_the_model_is_the_home_model_no_longer(home_model: str) -> None:
    parts = pool()
    begun(parts)
    renamed(parts, home_model)
    starts(parts, NOW + 1)
    assert parts.server("home") is None
    assert parts.state.waiters.of("home") == []
    assert why(parts) == "is the home model no longer"


def test_a_start_that_somebody_waits_for_stays_without_the_request_of_the_pool() -> None:
    parts = pool()
    begun(parts)
    parts.waits(1, "home")
    renamed(parts, "other")
    starts(parts)
    assert parts.shown("home").phase is Phase.QUEUED
    assert [one.request_id for one in parts.state.waiters.of("home")] == [1]


def test_what_runs_as_the_home_model_before_is_no_failure_of_the_next_one() -> None:
    parts = pool()
    starts(parts)
    fails(parts)
    parts.there("home", last_used_at=UNUSED_SINCE)
    renamed(parts, "other")
    starts(parts)
    report(parts, 0)
    starts(parts)
    assert parts.shown("other").phase is Phase.QUEUED


# --- staying --------------------------------------------------------------------------------


def test_it_does_not_end_because_it_is_unused_whatever_keep_alive_a_caller_asked_for() -> None:
    catalogue = Catalogue(DEFAULTS, home_model="home")
    server = made("home", settings=catalogue.settings_for("home"), keep_alive=0.0)
    assert server.expires_at == FOREVER
    assert made("a", settings=catalogue.settings_for("a"), keep_alive=0.0).expires_at < FOREVER
