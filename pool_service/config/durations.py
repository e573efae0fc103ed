"""Types of durations, whose values are in seconds."""

import math
from typing import Annotated

from pydantic import BeforeValidator, Field

from pool_service.config.types import Form, number_of
from pool_service.core.types import FOREVER, MAX_DURATION_S
from pool_service.core.units import seconds_of


def _seconds(value: object) -> float:
    """Convert a number, or text with units, to seconds. Raises ValueError."""
    number = seconds_of(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError  # noqa: TRY004  # pydantic converts ValueError only
    # `not <=` rather than `>`, to refuse NaN too.
    if not number <= MAX_DURATION_S or number == -math.inf:
        raise ValueError
    return float(number)


def _keep_alive(value: object) -> float:
    if value == "forever":
        return FOREVER
    seconds = _seconds(value)
    return FOREVER if seconds < 0 else seconds


def _limit(value: object) -> float:
    return FOREVER if value == "forever" else _seconds(value)


_DURATION = 'seconds, or text with units such as "90s", "5m" or "1h30m"'
_LIMIT = "at most ten years"

Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0),
    Form("duration", f"{_DURATION} (0 or more, {_LIMIT})", number_of),
]
PositiveSeconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0),
    Form("duration over 0", f"{_DURATION} (more than 0, {_LIMIT})", number_of),
]
PositiveOrForever = Annotated[
    float,
    BeforeValidator(_limit),
    Field(gt=0),
    Form(
        "duration over 0, or forever",
        f'{_DURATION} (more than 0, {_LIMIT}) or "forever"',
        number_of,
    ),
]
KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    Form("duration, or forever", f'{_DURATION} ({_LIMIT}), "forever" or less than 0', number_of),
]
