import time

import pytest

from pool_service.adapters.system.clock import SystemClock


def test_the_clock_never_goes_back() -> None:
    clock = SystemClock()
    times = [clock.now() for _ in range(1000)]
    assert times == sorted(times)


def test_the_wall_time_of_a_moment_is_the_same_after_the_wall_clock_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    moment = clock.now()
    before = clock.wall(moment)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.wall(moment) == before


def test_wall_times_are_unix_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    monkeypatch.setattr(time, "clock_gettime", lambda _: 40.0)
    assert SystemClock().wall(50.0) == 1_000_010.0
