"""Durations as people write them: in the configuration and on the command line the same."""

import re

_FORM = re.compile(
    r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+(?:\.\d+)?)s)?\s*(?:(\d+)ms)?"
)
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def seconds_of(text: str) -> float:
    """Return the seconds that text with units stands for, such as "90s", "5m" or "1h30m".

    Raises:
        ValueError: the text is nothing of the kind.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration")
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True))
