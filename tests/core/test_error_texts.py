"""The errors that callers are told, by values."""

from dataclasses import replace

import pytest

from pool_service.core import error_texts
from pool_service.core.errors import (
    CrashLoop,
    ModelRejected,
    RuntimeUnavailable,
    ServerInUse,
    StartFailed,
)
from pool_service.core.server import Phase, Server
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Settings
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
    told = error_texts.in_use("m", requests, holders)
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
