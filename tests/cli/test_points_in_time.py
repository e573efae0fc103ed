"""Which moment a text means."""

from datetime import datetime, timedelta

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
