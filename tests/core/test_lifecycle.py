"""Transitions of one server, by values."""

from dataclasses import replace

import pytest

from pool_service.core import adoption, measuring
from pool_service.core import lifecycle as life
from pool_service.core.server import Cause, Exit, LastRun, Phase, Role, Server, ServerId, StopSignal
from pool_service.core.types import (
    FOREVER,
    Diagnosis,
    Estimate,
    EstimateSource,
    ExitReport,
    LaunchPlan,
    Settings,
)
from tests.core.invariants import deadline

SETTINGS = Settings(runtime_model="org/m")


def server(model: str = "m", phase: Phase = Phase.QUEUED) -> Server:
    return Server(model, SETTINGS, phase, 1, 0.0, 0.0, 300.0)


def test_the_signals_come_in_their_order_and_the_last_again() -> None:
    sent = []
    stopping = server(phase=Phase.STOPPING)
    for _ in range(4):
        stop = life.next_signal(stopping)
        stopping = life.signalled(stopping, stop, 0.0)
        sent.append(stop.value)
    assert sent == ["SIGTERM", "SIGINT", "SIGKILL", "SIGKILL"]


def test_a_server_expires_after_the_longer_of_keep_alive_and_residency() -> None:
    short = life.used(server(phase=Phase.READY), 0.0, 100.0)
    assert deadline(short) == 100.0 + SETTINGS.grace_period
    assert deadline(life.used(short, 50.0, 100.0)) == 150.0
    assert deadline(life.used(short, FOREVER, 100.0)) == FOREVER
    assert life.used(short, None, 200.0).keep_alive == 0.0


def test_a_failed_server_keeps_how_it_ended_and_nothing_of_its_process() -> None:
    report = ExitReport(1, None, Diagnosis.CRASHED, "it died")
    dead = life.exited(server(phase=Phase.READY), report, 5.0)
    failed = life.failed(dead, "it died", 6.0, 600.0)
    assert (failed.identity, failed.plan, failed.endpoint) == (None, None, "")
    assert failed.last_exit is not None
    assert (failed.last_exit.report, failed.last_exit.at) == (report, 5.0)
    assert deadline(failed) == 606.0


def test_the_next_generation_keeps_the_count_and_the_last_exit_only() -> None:
    report = ExitReport(1, None, Diagnosis.CRASHED, "it died")
    failed = life.failed(life.exited(server(), report, 5.0), "it died", 6.0, 600.0)
    again = life.queued(failed, ServerId("m", 2), Settings("org/other", keep_alive=1.0), 9.0)
    assert (again.generation, again.last_exit) == (2, failed.last_exit)
    assert (again.detail, again.log_path, again.spawned_at) == ("", "", None)
    assert (again.settings.runtime_model, again.keep_alive) == ("org/other", 1.0)
    assert (again.created_at, again.stop_cause) == (9.0, None)


SERVER = Server("m", Settings(runtime_model="org/m"), Phase.READY, 4, 0.0, 0.0, 300.0)


def ended(
    cause: Cause = Cause.CRASHED,
    diagnosis: Diagnosis = Diagnosis.CRASHED,
    code: int | None = 1,
    generation: int = 4,
) -> Server:
    report = ExitReport(code, None, diagnosis, "it died", ("last",))
    return replace(SERVER, last_exit=Exit(generation, cause, report, 5.0), log_path="/logs/m/4")


def test_a_model_goes_on_where_its_past_ended() -> None:
    last = ended().last_exit
    again = life.queued(LastRun("m", 7, last), ServerId("m", 8), Settings("org/m"), 9.0)
    assert (again.generation, again.last_exit, again.crashes) == (8, last, ())


@pytest.mark.parametrize(("runtime_model", "crashes"), [("org/m", (1.0, 2.0)), ("org/other", ())])
def test_deaths_count_for_the_runtime_model_that_died(
    runtime_model: str, crashes: tuple[float, ...]
) -> None:
    died = replace(SERVER, phase=Phase.FAILED, crashes=(1.0, 2.0))
    assert life.queued(died, ServerId("m", 2), Settings(runtime_model), 9.0).crashes == crashes


def test_what_is_ready_again_keeps_its_times_and_does_not_go_at_once() -> None:
    before = replace(SERVER, ready_at=5.0, last_used_at=7.0, keep_alive=10.0)
    again = life.became_ready(adoption.unproven(before, 1000.0), "http://x", 1001.0, 1016.0)
    assert (again.ready_at, again.last_used_at) == (5.0, 7.0)
    assert again.expires_at == 1001.0 + life.RESUMED_GRACE_S


@pytest.mark.parametrize(("residency", "grace"), [(0.0, life.RESUMED_GRACE_S), (60.0, 60.0)])
def test_who_is_spared_stays_for_its_residency_and_a_few_seconds_at_the_least(
    residency: float, grace: float
) -> None:
    server = replace(SERVER, settings=Settings("m", grace_period=residency), keep_alive=0.0)
    assert life.spared(server, 100.0).expires_at == 100.0 + grace
    assert life.spared(replace(server, keep_alive=FOREVER), 100.0).expires_at == FOREVER


@pytest.mark.parametrize(
    ("spawned_at", "left"), [(90.0, 150.0), (40.0, 103.0), (41.0, 103.0), (None, 160.0)]
)
def test_a_start_that_goes_on_has_what_is_left_of_its_limit_and_one_look(
    spawned_at: float | None, left: float
) -> None:
    settings = replace(SETTINGS, start_timeout=60.0)
    server = replace(SERVER, settings=settings, phase=Phase.STARTING, spawned_at=spawned_at)
    assert adoption.rejoined(server, 100.0).step_deadline == left


def test_a_start_whose_limit_was_taken_out_of_the_configuration_has_none_any_more() -> None:
    server = replace(SERVER, phase=Phase.STARTING, spawned_at=5.0, step_deadline=50.0)
    assert adoption.rejoined(server, 10.0).step_deadline == FOREVER


def test_a_load_took_no_longer_because_the_machine_was_suspended_meanwhile() -> None:
    loading = replace(SERVER, phase=Phase.STARTING, spawned_at=10.0)
    slept = life.delayed(loading, 3600.0)
    ready = life.became_ready(slept, "http://m", 3630.0, 3640.0)
    assert measuring.load_seconds(ready, 7.0) == 20.0
    assert measuring.load_seconds(slept, 7.0) == 7.0


# --- what it needs ------------------------------------------------------------------------


def test_a_guess_of_more_than_the_budget_is_the_budget_and_an_estimate_is_kept() -> None:
    guess = life.estimated(server(), Estimate(20, EstimateSource.UNKNOWN), 5.0, budget=10.0)
    assert (guess.expected, guess.step_deadline) == (10, 5.0)
    estimate = life.estimated(server(), Estimate(20, EstimateSource.WEIGHTS), 5.0, budget=10.0)
    assert estimate.expected == 20


def test_how_far_a_download_is_is_told_where_its_size_is_known() -> None:
    assert life.fetching(server(), 5, 10).progress == 0.5
    assert life.fetching(server(), 12, 10).progress == 1.0
    assert life.fetching(server(), 12, 0).progress is None


def test_a_load_tells_its_progress_by_what_it_takes_and_never_goes_back() -> None:
    loading = replace(SERVER, phase=Phase.STARTING, expected=100)
    half = measuring.measured(loading, 50, sampled_at=1.0)
    assert half.progress == 0.5
    assert measuring.measured(half, 20, sampled_at=2.0).progress == 0.5
    assert measuring.measured(half, 500, sampled_at=2.0).progress == 0.99


def test_what_was_declared_or_seen_before_is_not_replaced_by_what_one_sample_shows() -> None:
    ready = replace(SERVER, ready_at=1.0, expected=100, expected_by=EstimateSource.DECLARED)
    seen = measuring.measured(ready, 30, sampled_at=2.0)
    assert (seen.expected, seen.peak, seen.sampled_ready) == (100, 30, True)
    guessed = replace(ready, expected_by=EstimateSource.UNKNOWN)
    seen = measuring.measured(guessed, 30, sampled_at=2.0)
    assert (seen.expected, seen.expected_by) == (30, EstimateSource.OBSERVED)


@pytest.mark.parametrize(("mapped", "needed"), [(0, 30), (20, 30), (80, 80)])
def test_weights_that_no_sample_sees_are_needed_all_the_same(mapped: int, needed: int) -> None:
    plan = LaunchPlan(("run",), (), None, "/health", "m", "n", mapped_bytes=mapped)
    estimated = replace(
        SERVER, plan=plan, ready_at=1.0, expected=100, expected_by=EstimateSource.WEIGHTS
    )
    seen = measuring.measured(estimated, 30, sampled_at=2.0)
    assert (seen.expected, seen.reserved, seen.growth) == (needed, needed, needed - 30)


@pytest.mark.parametrize(("sampled_at", "counts"), [(9.9, False), (10.0, True)])
def test_a_sample_tells_the_need_of_what_was_ready_when_it_began(
    sampled_at: float, counts: bool
) -> None:
    ready = replace(SERVER, ready_at=10.0)
    assert measuring.measured(ready, 30, sampled_at).sampled_ready is counts


def test_the_most_that_was_ever_seen_stays_its_need() -> None:
    ready = replace(SERVER, ready_at=1.0)
    grown = measuring.measured(measuring.measured(ready, 30, 2.0), 10, 3.0)
    assert (grown.footprint, grown.peak, grown.reserved, grown.growth) == (10, 30, 30, 20)


def test_a_sample_that_tells_nothing_new_makes_no_new_server() -> None:
    once = measuring.measured(replace(SERVER, ready_at=0.0), 4, sampled_at=1.0)
    assert (once.peak, once.sampled_ready) == (4, True)
    assert measuring.measured(once, 4, sampled_at=2.0) is once


def test_no_more_is_expected_of_a_server_than_it_may_grow_to() -> None:
    assert measuring.bounded(SERVER, 30) == 30
    limited = replace(SERVER, settings=replace(SETTINGS, memory_limit=20))
    assert (measuring.bounded(limited, 30), measuring.bounded(limited, 10)) == (20, 10)


# --- when it expires ----------------------------------------------------------------------

READY = replace(SERVER, last_used_at=100.0, keep_alive=50.0)


@pytest.mark.parametrize(
    ("ready", "expires_at"),
    [
        (READY, 150.0),
        (replace(READY, spared_until=200.0), 200.0),
        (replace(READY, holds=1), FOREVER),
        (replace(READY, settings=replace(SETTINGS, pinned=True)), FOREVER),
        (replace(READY, settings=replace(SETTINGS, pinned=True), outdated=True), 103.0),
        (replace(READY, outdated=True), 103.0),
        (replace(READY, outdated=True, holds=1), FOREVER),
        (replace(READY, role=Role.SUPERSEDED, spared_until=120.0), 120.0),
    ],
)
def test_a_server_expires_by_its_use_its_pin_its_holders_and_its_role(
    ready: Server, expires_at: float
) -> None:
    assert ready.expires_at == expires_at


def test_what_its_last_holder_released_was_used_until_now_but_has_no_residency() -> None:
    released = life.released(READY, 500.0)
    assert released.last_used_at == 500.0 - SETTINGS.grace_period
    assert released.resides_until == 500.0
    assert life.released(replace(READY, last_used_at=499.0), 500.0).last_used_at == 499.0


# --- stopping -----------------------------------------------------------------------------

STOPPING = life.stopping(replace(SERVER, ready_at=1.0), Cause.IDLE)


@pytest.mark.parametrize(
    ("stopping", "stop", "due"),
    [
        (STOPPING, StopSignal.TERMINATE, 10.0 + SETTINGS.drain_timeout),
        (replace(STOPPING, ready_at=None), StopSignal.TERMINATE, 10.0 + SETTINGS.stop_timeout),
        (STOPPING, StopSignal.INTERRUPT, 10.0 + SETTINGS.stop_timeout),
        (replace(STOPPING, drain_by=100.0), StopSignal.TERMINATE, 100.0),
        (replace(STOPPING, drain_by=12.0), StopSignal.TERMINATE, 10.0 + SETTINGS.stop_timeout),
        (replace(STOPPING, drain_by=100.0), StopSignal.INTERRUPT, 10.0 + SETTINGS.stop_timeout),
    ],
)
def test_the_drain_limit_is_for_what_is_in_flight_after_the_first_signal_only(
    stopping: Server, stop: StopSignal, due: float
) -> None:
    assert life.signalled(stopping, stop, 10.0).step_deadline == due


def test_escalated_the_next_signal_follows_the_first_at_once_and_the_others_in_their_time() -> None:
    first = life.signalled(STOPPING, StopSignal.TERMINATE, 10.0, escalated=True)
    assert first.step_deadline == 10.0 + life.ESCALATION_PAUSE_S
    second = life.signalled(first, StopSignal.INTERRUPT, 10.25, escalated=True)
    assert second.step_deadline == 10.25 + SETTINGS.stop_timeout
    assert second.detail == f"{Cause.IDLE.value}; escalated: SIGINT sent"
    again = life.signalled(second, StopSignal.INTERRUPT, 11.0, escalated=True)
    assert again.detail == second.detail


def test_the_end_of_a_process_is_what_was_wanted_or_else_a_crash() -> None:
    report = ExitReport(None, 9, Diagnosis.CRASHED, "killed by the system")
    crashed = life.exited(SERVER, report, 5.0)
    assert (crashed.stop_cause, crashed.detail) == (Cause.CRASHED, "killed by the system")
    asked = life.exited(replace(STOPPING, stop_signal=StopSignal.TERMINATE), report, 5.0)
    assert (asked.stop_cause, asked.detail) == (Cause.IDLE, Cause.IDLE.value)
    assert asked.last_exit is not None
    assert asked.last_exit.report.message == "killed by the system"
    forced = life.exited(replace(STOPPING, stop_signal=StopSignal.KILL), report, 5.0)
    assert forced.last_exit is not None
    assert "ended by SIGKILL" in forced.last_exit.report.message


def test_the_next_generation_does_not_show_the_times_of_the_process_that_died() -> None:
    died = replace(ended(generation=4), created_at=1.0, spawned_at=2.0, ready_at=3.0)
    died = replace(died, suspended_s=0.5)
    waiting = life.backing_off(died, 5, SETTINGS, 6.0, 10.0)
    assert waiting.suspended_s == 0.0
    assert (waiting.created_at, waiting.spawned_at, waiting.ready_at) == (6.0, None, None)


def test_of_a_start_that_had_not_begun_the_generation_before_it_failed() -> None:
    before = ended(generation=4)
    waiting = life.backing_off(before, 5, SETTINGS, 6.0, 10.0)
    failed = life.failed(waiting, "it died", 6.0, 600.0)
    assert (failed.generation, failed.last_generation) == (4, 4)
    begun = life.failed(replace(before, phase=Phase.PREPARING, generation=5), "no", 6.0, 600.0)
    assert (begun.generation, begun.last_generation) == (5, 5)


def test_a_stop_that_gets_time_back_keeps_the_length_of_its_drain() -> None:
    drains = replace(STOPPING, step_deadline=20.0, drain_by=30.0)
    later = life.delayed(drains, 100.0)
    assert (later.step_deadline, later.drain_by) == (120.0, 130.0)
    assert life.delayed(replace(drains, drain_by=None), 100.0).drain_by is None
