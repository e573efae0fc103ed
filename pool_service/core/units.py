"""Units: formatting sizes, parsing durations and shares, the same everywhere."""

import re

_STEP = 1000
# Units with the number of their decimal places.
_SIZES = (("B", 0), ("kB", 0), ("MB", 0), ("GB", 1), ("TB", 1))


def size(count: float) -> str:
    """Return a number of bytes in decimal units: 0 B, 512 MB, 3.2 GB."""
    amount = float(count)
    for unit, digits in _SIZES[:-1]:
        if round(amount, digits) < _STEP:
            return f"{amount:.{digits}f} {unit}"
        amount /= _STEP
    unit, digits = _SIZES[-1]
    return f"{amount:.{digits}f} {unit}"


_FORM = re.compile(
    r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+(?:\.\d+)?)s)?\s*(?:(\d+)ms)?"
)
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def seconds_of(text: str) -> float:
    """Return a duration such as "90s", "5m" or "1h30m" in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration")
    return sum(float(part or 0) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True))


_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_HUNDRED = 100


def share_of(text: str) -> float:
    """Return a share such as "50%" or "62.5 %" as a number above 0 and up to 1.

    Raises:
        ValueError: the text is not such a share.
    """
    match = _PERCENT.fullmatch(text.strip())
    share = float(match[1]) / _HUNDRED if match else 0.0
    if not 0 < share <= 1:
        raise ValueError(f'{text!r} is not a share such as "50%", above 0% and up to 100%')
    return share
