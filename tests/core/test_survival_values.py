"""Backoff, vitality and what is remembered of a failure, by values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core import failures, restart_policy
from pool_service.core import lifecycle as life
from pool_service.core.errors import CrashLoop, ModelRejected, StartTimeout
from pool_service.core.limits import Limits
from pool_service.core.liveness import Liveness, judged
from pool_service.core.server import Cause, Exit, LastRun, Phase, Server, ServerId
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, ProbeResult, Settings

LIMITS = Limits(
    backoff_initial=1.0, backoff_max=30.0, crash_limit=3, crash_window=100.0, stable_run=60.0
)
SERVER = Server("m", Settings(runtime_model="org/m"), Phase.READY, 4, 0.0, 0.0, 300.0)


def ended(
    cause: Cause = Cause.CRASHED,
    diagnosis: Diagnosis = Diagnosis.CRASHED,
    code: int | None = 1,
    generation: int = 4,
) -> Server:
    report = ExitReport(code, None, diagnosis, "it died", ("last",))
    return replace(SERVER, last_exit=Exit(generation, cause, report, 5.0), log_path="/logs/m/4")


# --- backoff ------------------------------------------------------------------------------


def test_only_deaths_within_the_window_count() -> None:
    server = replace(SERVER, crashes=(10.0, 100.0, 120.0))
    assert restart_policy.deaths(server, LIMITS, 150.0) == (100.0, 120.0, 150.0)
    assert restart_policy.deaths(server, LIMITS, 110.0 + 1e-9) == (100.0, 120.0, 110.0 + 1e-9)


@pytest.mark.parametrize(
    ("ready_at", "counted"),
    [(None, (100.0, 110.0)), (50.0 + 1e-3, (100.0, 110.0)), (50.0, (110.0,))],
)
def test_a_run_that_was_ready_for_long_enough_forgets_the_deaths_before_it(
    ready_at: float | None, counted: tuple[float, ...]
) -> None:
    server = replace(SERVER, crashes=(100.0,), ready_at=ready_at)
    assert restart_policy.deaths(server, LIMITS, 110.0) == counted


@given(deaths=st.integers(1, 2000), generation=st.integers(1, 50), model=st.text(max_size=5))
def test_the_delay_doubles_up_to_its_most_and_at_most_half_of_it_is_chance(
    deaths: int, generation: int, model: str
) -> None:
    server = replace(SERVER, model=model, generation=generation, crashes=(0.0,) * min(deaths, 1000))
    full = min(2.0 ** min(deaths - 1, 10), 30.0)
    assert full / 2 <= restart_policy.delay(server, LIMITS) <= full


def test_models_that_die_together_do_not_start_together() -> None:
    server = replace(SERVER, crashes=(0.0,))
    delays = {restart_policy.delay(replace(server, model=f"m{n}"), LIMITS) for n in range(20)}
    assert len(delays) == 20
    assert restart_policy.delay(server, LIMITS) == restart_policy.delay(server, LIMITS)


@pytest.mark.parametrize(("deaths", "loops"), [(1, False), (2, False), (3, True), (4, True)])
def test_so_many_deaths_are_a_loop(deaths: int, loops: bool) -> None:
    assert restart_policy.is_loop(replace(SERVER, crashes=(1.0,) * deaths), LIMITS) is loops


# --- vitality -----------------------------------------------------------------------------

SILENT = ProbeResult(answered=False, progress=(3.0, 100.0))
BUSY = replace(SILENT, in_flight=True)


def test_silence_and_standstill_are_counted_from_the_second_look_on() -> None:
    seen = judged(None, SILENT, 0.0, 40.0)
    for look in range(1, 5):
        assert seen.missed == look - 1
        seen = judged(seen, SILENT, 15.0 * look, 40.0)
    assert seen == Liveness(60.0, SILENT.progress, 4)


@pytest.mark.parametrize(
    "sign_of_life",
    [
        ProbeResult(answered=True, progress=()),
        ProbeResult(answered=True, progress=SILENT.progress),
        # It works, though nobody waits for that any more.
        replace(SILENT, progress=(3.75, 100.0)),
        replace(BUSY, progress=(3.01, 100.0)),
        replace(BUSY, progress=(3.0, 101.0)),
    ],
)
def test_an_answer_or_work_or_with_requests_any_movement_begins_the_count_anew(
    sign_of_life: ProbeResult,
) -> None:
    before = Liveness(0.0, SILENT.progress, 3)
    assert judged(before, sign_of_life, 15.0, 40.0).missed == 0


@pytest.mark.parametrize("progress", [(3.0, 101.0), (3.01, 100.0), (3.7, 200.0)])
def test_of_one_that_is_silent_and_has_no_requests_a_stir_is_no_sign_of_life(
    progress: tuple[float, float],
) -> None:
    before = Liveness(0.0, SILENT.progress, 3)
    assert judged(before, replace(SILENT, progress=progress), 15.0, 40.0).missed == 4


@pytest.mark.parametrize(("at", "missed"), [(40.0, 4), (40.1, 0), (90_000.0, 0)])
def test_a_gap_in_our_own_looks_begins_the_count_anew(at: float, missed: int) -> None:
    assert judged(Liveness(0.0, SILENT.progress, 3), SILENT, at, 40.0).missed == missed


# --- failures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "error"),
    [
        (SERVER, None),
        (ended(), None),
        (ended(generation=3, cause=Cause.START_TIMEOUT), None),
        (replace(ended(), crashes=(1.0,) * 3), CrashLoop),
        (ended(cause=Cause.START_TIMEOUT), StartTimeout),
        (ended(cause=Cause.WEDGED), None),
        (ended(diagnosis=Diagnosis.PORT_TAKEN), None),
        (ended(diagnosis=Diagnosis.MODEL_REJECTED), ModelRejected),
    ],
)
def test_only_what_will_not_pass_at_once_bars_another_start(
    server: Server, error: type[Exception] | None
) -> None:
    told = restart_policy.lasting_failure(server, LIMITS)
    assert type(told) is (error or type(None))


@pytest.mark.parametrize(
    ("diagnosis", "code", "killed"),
    [
        (Diagnosis.CRASHED, None, True),
        (Diagnosis.CRASHED, 0, False),
        (Diagnosis.CRASHED, 1, False),
        (Diagnosis.MODEL_REJECTED, None, False),
    ],
)
def test_a_process_without_an_exit_code_was_killed_unless_its_words_say_more(
    diagnosis: Diagnosis, code: int | None, killed: bool
) -> None:
    assert restart_policy.was_killed(ExitReport(code, None, diagnosis, "")) is killed


def test_a_crash_loop_says_what_it_is_and_what_to_do() -> None:
    told = failures.crash_loop(replace(ended(), crashes=(1.0, 2.0, 3.0)), LIMITS)
    for words in ("'m'", "3 times", "100 s", "30 s", "/logs/m/4", "evict"):
        assert words in str(told)
    assert (told.model, told.retry_after, told.last_lines) == ("m", 30.0, ("last",))


def test_what_is_told_from_memory_names_the_time_that_is_left() -> None:
    loop = CrashLoop("died", retry_after=30.0)
    told = failures.still_barred(loop, 100.0, 90.0)
    assert isinstance(told, CrashLoop)
    assert (told.retry_after, loop.retry_after) == (10.0, 30.0)
    rejected = ModelRejected("no")
    assert failures.still_barred(rejected, 100.0, 90.0) is rejected


# --- lifecycle ----------------------------------------------------------------------------


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
    again = life.became_ready(life.unproven(before, 1000.0), "http://x", 1001.0, 1016.0)
    assert (again.ready_at, again.last_used_at) == (5.0, 7.0)
    assert again.expires_at == 1001.0 + life.RESUMED_GRACE


@pytest.mark.parametrize(("residency", "grace"), [(0.0, life.RESUMED_GRACE), (60.0, 60.0)])
def test_who_is_spared_stays_for_its_residency_and_a_few_seconds_at_the_least(
    residency: float, grace: float
) -> None:
    server = replace(SERVER, settings=Settings("m", grace_period=residency), keep_alive=0.0)
    assert life.spared(server, 100.0).expires_at == 100.0 + grace
    assert life.spared(replace(server, keep_alive=FOREVER), 100.0).expires_at == FOREVER


@pytest.mark.parametrize(("deadline", "left"), [(50.0, 50.0), (10.0, 13.0), (11.0, 13.0)])
def test_a_start_that_goes_on_has_what_is_left_of_its_limit_and_one_look(
    deadline: float, left: float
) -> None:
    server = replace(SERVER, phase=Phase.STARTING, step_deadline=deadline)
    assert life.rejoined(server, 10.0).step_deadline == left
