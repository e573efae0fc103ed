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
    seconds = _or_forever(value)
    return FOREVER if seconds < 0 else seconds


def _or_forever(value: object) -> float:
    return FOREVER if value == "forever" else _seconds(value)


_DURATION = 'seconds, or text with units such as "90s", "5m" or "1h30m"'
_AT_MOST = "at most ten years"

Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0),
    Form("duration", f"{_DURATION} (0 or more, {_AT_MOST})", number_of),
]
_OVER_ZERO = Form("duration over 0", f"{_DURATION} (more than 0, {_AT_MOST})", number_of)
PositiveSeconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0), _OVER_ZERO]
PositiveOrUnset = Annotated[
    Annotated[float, BeforeValidator(_seconds), Field(gt=0)] | None, _OVER_ZERO
]
PositiveOrForever = Annotated[
    float,
    BeforeValidator(_or_forever),
    Field(gt=0),
    Form(
        "duration over 0, or forever",
        f'{_DURATION} (more than 0, {_AT_MOST}) or "forever"',
        number_of,
    ),
]
KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    Form("duration, or forever", f'{_DURATION} ({_AT_MOST}), "forever" or less than 0', number_of),
]
