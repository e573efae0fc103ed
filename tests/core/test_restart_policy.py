"""Whether, and when, a model whose process died is started again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core import restart_policy
from pool_service.core.errors import CrashLoop, ModelRejected, StartTimeout
from pool_service.core.server import Cause, Server
from pool_service.core.types import Diagnosis, ExitReport
from tests.core.ends import LIMITS, SERVER, ended


def test_only_deaths_within_the_window_count() -> None:
    server = replace(SERVER, crashes=(10.0, 100.0, 120.0))
    assert restart_policy.crash_times(server, LIMITS, 150.0) == (100.0, 120.0, 150.0)
    assert restart_policy.crash_times(server, LIMITS, 110.0 + 1e-9) == (100.0, 120.0, 110.0 + 1e-9)


@pytest.mark.parametrize(
    ("ready_at", "counted"),
    [(None, (100.0, 110.0)), (50.0 + 1e-3, (100.0, 110.0)), (50.0, (110.0,))],
)
def test_a_run_that_was_ready_for_long_enough_forgets_the_deaths_before_it(
    ready_at: float | None, counted: tuple[float, ...]
) -> None:
    server = replace(SERVER, crashes=(100.0,), ready_at=ready_at)
    assert restart_policy.crash_times(server, LIMITS, 110.0) == counted


@given(deaths=st.integers(1, 2000), generation=st.integers(1, 50), model=st.text(max_size=5))
def test_the_delay_doubles_up_to_its_most_and_at_most_half_of_it_is_chance(
    deaths: int, generation: int, model: str
) -> None:
    server = replace(SERVER, model=model, generation=generation, crashes=(0.0,) * min(deaths, 1000))
    full = min(2.0 ** min(deaths - 1, 10), 30.0)
    assert full / 2 <= restart_policy.delay(server, LIMITS) <= full


def test_the_first_pause_of_a_server_that_was_ready_is_that_of_its_second_crash() -> None:
    once = replace(SERVER, ready_at=1.0, crashes=(2.0,))
    twice = replace(once, crashes=(2.0, 3.0))
    initial = LIMITS.backoff_initial
    assert restart_policy.delay(once, LIMITS) == 0.0
    assert initial <= restart_policy.delay(twice, LIMITS) <= 2 * initial


def test_models_that_die_together_do_not_start_together() -> None:
    server = replace(SERVER, crashes=(0.0,))
    delays = {restart_policy.delay(replace(server, model=f"m{n}"), LIMITS) for n in range(20)}
    assert len(delays) == 20
    assert restart_policy.delay(server, LIMITS) == restart_policy.delay(server, LIMITS)


@pytest.mark.parametrize(("deaths", "loops"), [(1, False), (2, False), (3, True), (4, True)])
def test_so_many_deaths_are_a_loop(deaths: int, loops: bool) -> None:
    assert restart_policy.is_loop(replace(SERVER, crashes=(1.0,) * deaths), LIMITS) is loops


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


@pytest.mark.parametrize(
    ("died", "is_crash"),
    [
        (SERVER, False),
        (ended(), True),
        (ended(diagnosis=Diagnosis.OUT_OF_MEMORY), True),
        (ended(diagnosis=Diagnosis.MODEL_REJECTED), False),
        (ended(cause=Cause.WEDGED), True),
        (ended(cause=Cause.WEDGED, diagnosis=Diagnosis.MODEL_REJECTED), True),
        (ended(cause=Cause.EVICTED), False),
        (ended(cause=Cause.START_TIMEOUT), False),
    ],
)
def test_what_died_unasked_for_a_reason_that_may_pass_is_a_crash(
    died: Server, is_crash: bool
) -> None:
    assert restart_policy.has_crashed(died) is is_crash


def test_the_first_death_of_one_that_had_served_delays_nobody() -> None:
    served = replace(SERVER, ready_at=1.0, crashes=(5.0,))
    assert restart_policy.delay(served, LIMITS) == 0.0
    assert restart_policy.delay(replace(served, ready_at=None), LIMITS) > 0.0
    assert restart_policy.delay(replace(served, crashes=(4.0, 5.0)), LIMITS) > 0.0


def test_a_death_exactly_as_long_ago_as_the_window_counts_no_longer() -> None:
    server = replace(SERVER, crashes=(50.0, 50.1))
    assert restart_policy.crash_times(server, LIMITS, 150.0) == (50.1, 150.0)
