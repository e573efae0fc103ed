"""The errors that callers are told, by values."""

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import pytest

from pool_service.core import call_error_texts, error_texts
from pool_service.core.errors import (
    CrashLoop,
    ModelRejected,
    RuntimeUnavailable,
    ServerInUse,
    StartFailed,
)
from pool_service.core.server import Phase, Server
from pool_service.core.stall import after_sample, has_stalled
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Settings, Work
from pool_service.core.units import size
from tests.core.ends import LIMITS, ended

SETTINGS = Settings(runtime_model="org/m")


def server(model: str = "m", phase: Phase = Phase.QUEUED) -> Server:
    return Server(model, SETTINGS, phase, 1, 0.0, 0.0, 300.0)


@pytest.mark.parametrize(
    ("diagnosis", "error"),
    [
        (Diagnosis.CRASHED, StartFailed),
        (Diagnosis.PORT_TAKEN, StartFailed),
        (Diagnosis.MODEL_REJECTED, ModelRejected),
        (Diagnosis.RUNTIME_UNUSABLE, RuntimeUnavailable),
    ],
)
def test_the_diagnosis_of_an_exit_says_what_the_caller_can_do(
    diagnosis: Diagnosis, error: type[Exception]
) -> None:
    told = error_texts.start_failure(server(), ExitReport(1, None, diagnosis, "the cause", ("x",)))
    assert type(told) is error
    assert told.model == "m"
    assert "the cause" in str(told)


@pytest.mark.parametrize(
    ("requests", "holders", "said"),
    [
        (2, (), "has 2 request(s) in flight"),
        (None, (), "cannot tell"),
        (0, ("b", "a", ""), "is held by 3 (a, b), so"),
        (0, ("",), "is held by 1, so"),
        (1, ("a",), "is held by 1 (a) and has 1 request(s)"),
    ],
)
def test_a_refused_eviction_says_how_the_server_is_used(
    requests: int | None, holders: tuple[str, ...], said: str
) -> None:
    told = call_error_texts.in_use("m", requests, holders)
    assert isinstance(told, ServerInUse)
    assert said in str(told)


@pytest.mark.parametrize(
    ("limit", "told"),
    [(120.0, "within its start limit of 120 s and"), (FOREVER, "within its start limit and")],
)
def test_a_start_limit_is_told_in_seconds_unless_it_was_raised_since(
    limit: float, told: str
) -> None:
    settings = replace(SETTINGS, start_timeout=limit)
    assert told in str(error_texts.start_timeout(replace(server(), settings=settings)))


def stalled_by(
    works: Iterable[Work | None], footprint: int | None, stall_timeout: float, every: float = 1.0
) -> str:
    """Return the reason why a start of such works, sample after sample, is ended."""
    now, watch = 0.0, after_sample(None, None, footprint, now=0.0, stall_timeout=stall_timeout)
    for work in works:
        if has_stalled(watch, now, stall_timeout):
            break
        now += every
        watch = after_sample(watch, work, footprint, now=now, stall_timeout=stall_timeout)
    return error_texts.stall_reason(watch, now)


@pytest.mark.parametrize("stall_timeout", [60.0, 900.0])
def test_a_start_that_slept_is_not_said_to_have_computed(stall_timeout: float) -> None:
    asleep = repeat(Work(requested=5_000_000, processor_s=7.0))
    told = stalled_by(asleep, 3 * 10**9, stall_timeout)
    assert told == (
        f"it stood still for {stall_timeout:.0f} s while it started; it had read {size(5_000_000)} "
        f"and used 7 s of processor time; it took {size(3 * 10**9)} of memory"
    )


def test_a_start_that_only_computed_is_told_from_one_that_then_stood_still() -> None:
    computed = [Work(processor_s=float(second)) for second in range(2000)]
    told = stalled_by(computed, 0, 60.0)
    assert re.match(r"it computed for 6[56]\d s without reading anything or taking memory; ", told)
    slept = [*computed[:400], *repeat(computed[400], 100)]
    assert stalled_by(slept, 0, 60.0).startswith("it stood still for 60 s while it started; ")


def test_nothing_is_said_of_a_start_that_could_not_be_read() -> None:
    told = stalled_by(repeat(None), 3 * 10**9, 60.0)
    assert re.match(r"it took no more memory for 6\d\d s, and its work could not be read; ", told)
    assert told.endswith(f"; it took {size(3 * 10**9)} of memory")
    told = stalled_by(repeat(None), None, 60.0)
    assert told.endswith("its work could not be read")


def test_a_crash_loop_says_what_it_is_and_what_to_do() -> None:
    told = error_texts.crash_loop(replace(ended(), crashes=(1.0, 2.0, 3.0)), LIMITS)
    for words in ("'m'", "3 times", "100 s", "30 s", "/logs/m/4", "evict"):
        assert words in str(told)
    assert (told.model, told.retry_after, told.last_lines) == ("m", 30.0, ("last",))


def test_what_is_told_from_memory_names_the_time_that_is_left() -> None:
    loop = CrashLoop("died", retry_after=30.0)
    told = error_texts.still_barred(loop, 100.0, 90.0)
    assert isinstance(told, CrashLoop)
    assert (told.retry_after, loop.retry_after) == (10.0, 30.0)
    rejected = ModelRejected("no")
    assert error_texts.still_barred(rejected, 100.0, 90.0) is rejected


@pytest.mark.parametrize(
    ("detail", "why"),
    [("", "it waits for its turn."), ("waits for memory", "it waits for memory.")],
)
def test_a_model_without_room_is_refused_with_what_it_waited_for(detail: str, why: str) -> None:
    error = error_texts.pool_full(replace(server(), detail=detail), LIMITS)
    assert why in error.message


@pytest.mark.parametrize(
    ("pinned", "advice"),
    [
        (True, "or pin the model in the configuration."),
        (False, "or take the pin of the model out of the configuration."),
    ],
)
def test_a_refused_pin_says_how_the_configuration_does_the_same(pinned: bool, advice: str) -> None:
    assert str(call_error_texts.too_many_pins("m", 7, pinned=pinned)).endswith(advice)
