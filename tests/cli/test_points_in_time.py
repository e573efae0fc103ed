"""Which moment a text means."""

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from time import tzset

import click
import pytest

from pool_service.cli.points_in_time import PointInTime, moment_of


@pytest.mark.parametrize("minutes", [-90, -1, 1, 90])
def test_a_time_of_day_is_the_last_one_and_never_one_to_come(minutes: int) -> None:
    before = datetime.now().astimezone()
    text = (before + timedelta(minutes=minutes)).strftime("%H:%M")
    moment = PointInTime().convert(text, None, None)
    after = datetime.now().astimezone()
    assert moment <= after
    assert after - moment < timedelta(hours=26), "a day, or longer where the clocks are set back"
    assert moment.strftime("%H:%M") == text


@pytest.mark.parametrize(
    ("text", "days", "at"),
    [
        ("yesterday", 1, time(0)),
        ("yesterday 18:00", 1, time(18)),
        ("yesterday  23:59:59", 1, time(23, 59, 59)),
        ("today", 0, time(0)),
        ("today 08:30", 0, time(8, 30)),
    ],
)
def test_a_day_by_its_word_is_counted_from_the_present_one(text: str, days: int, at: time) -> None:
    before = datetime.now().astimezone().date()
    moment = PointInTime().convert(text, None, None)
    after = datetime.now().astimezone().date()
    assert moment.date() in {day - timedelta(days=days) for day in (before, after)}
    assert moment.time() == at


@pytest.mark.parametrize("text", ["tomorrow", "yesterday evening", "yesterday 25:00", "yesterdays"])
def test_a_word_that_is_no_day_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(click.BadParameter, match="'yesterday 18:00'"):
        PointInTime().convert(text, None, None)


BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
"""Clocks are set forward on 2026-03-29 at 02:00, and back on 2026-10-25 at 03:00."""


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let local time be that of Berlin, without a database of time zones."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", BERLIN)
        tzset()
        yield
    tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "text", "meant"),
    [
        ("2026-11-27T00:10:00+01:00", "00:05", "2026-11-27T00:05:00+01:00"),
        ("2026-11-27T00:10:00+01:00", "23:50", "2026-11-26T23:50:00+01:00"),
        ("2026-11-27T00:00:00+01:00", "00:00", "2026-11-27T00:00:00+01:00"),
        ("2026-11-27T23:59:59+01:00", "00:00", "2026-11-27T00:00:00+01:00"),
        ("2026-12-01T00:10:00+01:00", "23:50:30", "2026-11-30T23:50:30+01:00"),
        # The clocks were set forward in between.
        ("2026-03-29T12:00:00+02:00", "01:30", "2026-03-29T01:30:00+01:00"),
        ("2026-03-29T12:00:00+02:00", "18:00", "2026-03-28T18:00:00+01:00"),
        # There was no such time on this day.
        ("2026-03-29T12:00:00+02:00", "02:30", "2026-03-29T03:30:00+02:00"),
        # The clocks were set back in between.
        ("2026-10-25T12:00:00+01:00", "01:30", "2026-10-25T01:30:00+02:00"),
        ("2026-10-25T12:00:00+01:00", "18:00", "2026-10-24T18:00:00+02:00"),
        # It was that time twice: the last of these that is not to come.
        ("2026-10-25T12:00:00+01:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:40:00+01:00", "02:30", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:10:00+01:00", "02:30", "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T02:10:00+02:00", "02:30", "2026-10-24T02:30:00+02:00"),
        ("2026-11-27T00:10:00+01:00", "yesterday", "2026-11-26T00:00:00+01:00"),
        ("2026-03-29T12:00:00+02:00", "yesterday 18:00", "2026-03-28T18:00:00+01:00"),
        ("2026-03-30T00:30:00+02:00", "yesterday 01:30", "2026-03-29T01:30:00+01:00"),
        ("2026-10-26T00:30:00+01:00", "yesterday", "2026-10-25T00:00:00+02:00"),
        # Durations are by the clock of the world.
        ("2026-10-25T12:00:00+01:00", "12h", "2026-10-25T01:00:00+02:00"),
    ],
)
def test_a_time_of_day_around_midnight_and_a_change_of_the_clocks(
    now: str, text: str, meant: str
) -> None:
    assert moment_of(text, datetime.fromisoformat(now)) == datetime.fromisoformat(meant)
