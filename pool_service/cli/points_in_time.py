"""The argument type of a moment: so long ago, or a local date and time."""

from datetime import datetime, timedelta

import click

from pool_service.core.units import seconds_of

_TIMES_OF_DAY = ("%H:%M", "%H:%M:%S")


class PointInTime(click.ParamType[datetime]):
    """A moment: a duration before now, the last time of day, or a date with or without a time.

    Local time, unless the text has an offset from UTC.
    """

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        text, now = str(value).strip(), datetime.now().astimezone()
        moment = _ago(text, now) or _last_at(text, now) or _date(text)
        if moment is None:
            self.fail(
                f"{value!r} is not a time; write how long ago, such as 90s or 1h30m, a time of "
                "day, such as 18:00, or a date, such as 2026-11-26 or 2026-11-26T18:00",
                param,
                ctx,
            )
        return moment


def _ago(text: str, now: datetime) -> datetime | None:
    try:
        return now - timedelta(seconds=seconds_of(text))
    except (ValueError, OverflowError):
        return None


def _last_at(text: str, now: datetime) -> datetime | None:
    """Return the last moment at a time of day: of today, or of yesterday if it has not come yet."""
    for form in _TIMES_OF_DAY:
        try:
            time = datetime.strptime(text, form).time()  # noqa: DTZ007  # only a time of day
        except ValueError:
            continue
        today = datetime.combine(now.date(), time).astimezone()
        yesterday = now.date() - timedelta(days=1)
        return today if today <= now else datetime.combine(yesterday, time).astimezone()
    return None


def _date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None
