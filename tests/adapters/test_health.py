import math

import pytest

from pool_service.adapters.probe.health import is_healthy, reported_use
from pool_service.adapters.probe.http_get import Answer

JSON = "application/json"


def answer(body: str, status: int = 200, content_type: str = JSON) -> Answer:
    return Answer(status, content_type, body.encode())


@pytest.mark.parametrize(
    "good",
    [
        answer('{"status": "healthy", "model_loaded": true}'),
        answer('{"status": "OK"}'),
        answer("{}"),
        answer("[]"),
        answer("ok", content_type="text/plain"),
        answer("ok", content_type=""),
        answer("", content_type=""),
    ],
)
def test_healthy(good: Answer) -> None:
    assert is_healthy(good)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        answer("{}", status=500),
        answer("", status=307),
        answer("ok", status=204, content_type=""),
        answer('{"status": "unhealthy"}'),
        answer('{"status": "loading"}'),
        answer('{"status": 7}'),
        answer('{"status": null}'),
        answer('{"status": "healthy", "model_loaded": false}'),
        answer("no JSON {"),
        answer("[" * 60000),
        # Whatever it calls itself, it says so.
        answer('{"status": "unhealthy"}', content_type="text/plain"),
    ],
)
def test_not_healthy(bad: Answer | None) -> None:
    assert not is_healthy(bad)


def test_requests_in_flight_are_read_as_a_count_or_not_at_all() -> None:
    assert reported_use(answer('{"active_requests": 2}')) == (2.0, None)
    assert reported_use(answer('{"active_requests": 0.5}')) == (0.5, None)
    assert reported_use(answer(f'{{"active_requests": 1{"0" * 400}}}')) == (math.inf, None)
    for value in ("true", "-1", '"1"', "null", "NaN", "-Infinity", "[1]", "{}"):
        assert reported_use(answer(f'{{"active_requests": {value}}}')) == (None, None)
    for body in ("{}", "ok", "[1]", "[" * 60000):
        assert reported_use(answer(body)) == (None, None)
    assert reported_use(answer('{"active_requests": 2}', status=500)) == (None, None)
    assert reported_use(None) == (None, None)


@pytest.mark.parametrize(
    ("last_used_at", "read"),
    [
        *(("90.5", 90.5), ("200", 200.0), ("-5", -5.0), ("true", None), ('"x"', None)),
        *(("NaN", None), ("Infinity", None), (f"1{'0' * 400}", None)),
    ],
)
def test_the_last_use_is_read_as_it_is_said_or_not_at_all(
    last_used_at: str, read: float | None
) -> None:
    body = f'{{"active_requests": 0, "last_used_at": {last_used_at}}}'
    assert reported_use(answer(body)) == (0.0, read)
