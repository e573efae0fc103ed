"""Durations in seconds."""

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from pool_service.config.values import Form, number_of
from pool_service.core.types import FOREVER, LONGEST_DURATION

_DURATION = re.compile(
    r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+(?:\.\d+)?)s)?\s*(?:(\d+)ms)?"
)
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def _seconds(value: object) -> float:
    """Return the seconds that a number, or text with units, stands for. Raises ValueError."""
    number = _seconds_of_text(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError  # noqa: TRY004  # what pydantic turns into its own
    # Written so that what is no number is refused as well.
    if not number <= LONGEST_DURATION or number == -math.inf:
        raise ValueError
    return float(number)


def _seconds_of_text(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), _UNITS, strict=True))


def _keep_alive(value: object) -> float:
    if value == "forever":
        return FOREVER
    length = _seconds(value)
    return FOREVER if length < 0 else length


_LENGTH = 'seconds, or text with units such as "90s", "5m" or "1h30m"'
_MOST = "at most ten years"

Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0),
    Form("duration", f"{_LENGTH} (0 or more, {_MOST})", number_of),
]
PositiveSeconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0),
    Form("duration over 0", f"{_LENGTH} (more than 0, {_MOST})", number_of),
]
KeepAlive = Annotated[
    float,
    BeforeValidator(_keep_alive),
    Form("duration, or forever", f'{_LENGTH} ({_MOST}), "forever" or less than 0', number_of),
]
