"""Formatting: text made safe for a terminal, durations, and JSON."""

import json
import unicodedata
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that control a terminal or break a line."""

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text after them, and can make it look different."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def safe(text: str) -> str:
    """Return one line of text with all unprintable characters escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def safe_lines(text: str) -> str:
    """Return a text of several lines with characters escaped that would control a terminal.

    Keeps unprintable characters that belong to writing, such as the joiners of emoji and Persian.
    """
    return "".join(_safe_char(char) for char in text.replace("\r", ""))


def _safe_char(char: str) -> str:
    if char in "\n\t" or not (
        char in _REORDERING or unicodedata.category(char) in _CONTROL_CATEGORIES
    ):
        return char
    return char.encode("unicode_escape").decode()


def human_duration(seconds: float) -> str:
    """Return a duration in one or two units: 45s, 3m, 2h 5m, 4d 1h; 0s if it is negative."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return _in_two_units(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "m")
    return _in_two_units(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _in_two_units(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit} {second}{smaller}" if second else f"{first}{unit}"


def json_line(**values: object) -> str:
    """Return a JSON object on one line, in ASCII, with the arguments' names as keys.

    Times are RFC 3339 in UTC, enum members their names, missing values null.
    """
    return json.dumps({name: _json_value(value) for name, value in values.items()})


def json_object(value: object) -> str:
    """Return a dataclass as a JSON object on one line, with its fields' names as keys.

    A field that no text shows is a secret, and is left out where it is empty.
    """
    return json.dumps(_json_value(value))


def _json_value(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds()}s"
    if isinstance(value, tuple):
        return [_json_value(one) for one in value]
    if is_dataclass(value):
        return {
            field.name: _json_value(getattr(value, field.name))
            for field in fields(value)
            if field.compare and (field.repr or getattr(value, field.name))
        }
    return value
