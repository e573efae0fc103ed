"""Values as text, for people and for programs."""

import json
import unicodedata
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum

_OBEYED = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Turn the direction in which what follows is shown, so that it can look like something else."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def safe(text: str) -> str:
    """The text with all that a terminal would obey, or would show as nothing, written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def prose(text: str) -> str:
    """Return a text of several lines with all that a terminal would obey written out.

    What belongs to a language's letters, such as the joiners of emoji and of Persian, stays.
    """
    return "".join(_prose_of(char) for char in text.replace("\r", ""))


def _prose_of(char: str) -> str:
    if char in "\n\t" or not (char in _REORDERING or unicodedata.category(char) in _OBEYED):
        return char
    return char.encode("unicode_escape").decode()


def span(seconds: float) -> str:
    """A length of time in one or two units: 45s, 3m, 2h 5m, 4d 1h. Never negative."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "m")
    return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit} {second}{smaller}" if second else f"{first}{unit}"


def json_line(**values: object) -> str:
    """Write a JSON object on one line, in ASCII, with the fields' names as keys.

    Times are RFC 3339 in UTC, enum values their names, what is not there null.
    """
    return json.dumps({name: _plain(value) for name, value in values.items()})


def json_object(value: object) -> str:
    """A value of the client's as `json_line` writes it."""
    return json.dumps(_plain(value))


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in fields(value)
            if field.compare
        }
    return value
