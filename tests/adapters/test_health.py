import pytest

from pool_service.adapters.health import active_requests, is_healthy
from pool_service.adapters.http_get import Answer

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
    assert active_requests(answer('{"active_requests": 2}')) == 2
    for body in ('{"active_requests": true}', '{"active_requests": -1}', "{}", "ok", "[1]"):
        assert active_requests(answer(body)) is None
    assert active_requests(answer('{"active_requests": 2}', status=500)) is None
    assert active_requests(None) is None
