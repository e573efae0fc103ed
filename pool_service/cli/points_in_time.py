"""The argument type of a moment: so long ago, a time of day, or a local date and time."""

from datetime import date, datetime, time, timedelta

import click

from pool_service.core.units import seconds_of

_TIMES_OF_DAY = ("%H:%M", "%H:%M:%S")
_DAYS = {"today": 0, "yesterday": 1}
"""The words for a day, with how many days before today it is."""


class PointInTime(click.ParamType[datetime]):
    """A moment: a duration before now, the last time of day, or a day with or without a time.

    A day is `today`, `yesterday` or a date; without a time its beginning.

    Local time, unless the text has an offset from UTC.
    """

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        moment = moment_of(str(value).strip(), datetime.now().astimezone())
        if moment is None:
            self.fail(
                f"{value!r} is not a time; write how long ago, such as 90s or 1h30m, a time of "
                "day, such as 18:00 or 'yesterday 18:00', or a date, such as 2026-11-26 or "
                "2026-11-26T18:00",
                param,
                ctx,
            )
        return moment


def moment_of(text: str, now: datetime) -> datetime | None:
    """Return the moment that a text means; None if it means none."""
    return _ago(text, now) or _last_at(text, now) or _on_a_day(text, now.date()) or _date(text)


def _ago(text: str, now: datetime) -> datetime | None:
    try:
        return now - timedelta(seconds=seconds_of(text))
    except (ValueError, OverflowError):
        return None


def _last_at(text: str, now: datetime) -> datetime | None:
    """Return the last moment at a time of day: of today, or of yesterday if it has not come yet.

    Where clocks are set back, it may be the same time of day twice.
    """
    at = _time_of_day(text)
    if at is None:
        return None
    days = (now.date(), now.date() - timedelta(days=1))
    moments = (
        datetime.combine(day, at.replace(fold=fold)).astimezone() for day in days for fold in (0, 1)
    )
    return max(moment for moment in moments if moment <= now)


def _on_a_day(text: str, today: date) -> datetime | None:
    """Return the moment of a text such as `yesterday` or `yesterday 18:00`, or None."""
    word, _, clock = text.partition(" ")
    at = _time_of_day(clock.strip() or "00:00")
    if word not in _DAYS or at is None:
        return None
    return datetime.combine(today - timedelta(days=_DAYS[word]), at).astimezone()


def _time_of_day(text: str) -> time | None:
    for form in _TIMES_OF_DAY:
        try:
            return datetime.strptime(text, form).time()  # noqa: DTZ007  # only a time of day
        except ValueError:
            continue
    return None


def _date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None
