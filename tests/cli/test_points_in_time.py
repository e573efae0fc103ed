"""Which moment a text means."""

from datetime import datetime, time, timedelta

import click
import pytest

from pool_service.cli.points_in_time import PointInTime


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
