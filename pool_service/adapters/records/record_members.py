"""Typed access to the members of a JSON object. Pure; standard library only."""

import math
import re
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from pool_service.core.types import FOREVER

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

FOREVER_WORD = "forever"

MAX_INTEGER = 2**63 - 1
"""The largest integer of a protobuf message."""

MAX_DURATION_S = 1e12
"""The longest duration and the latest deadline."""

MAX_TIME_S = 1e11
"""Three thousand years; later times have no date."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRecord(ValueError):
    """A record cannot be read; the message says why, as a clause about the file."""


class Members:
    """A JSON object whose members are read by name and checked. Methods raise BadRecord."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise BadRecord("it has not the structure of a record")
        self._members: dict[str, object] = value

    def required(self, name: str, read: Callable[[object], T]) -> T:
        """Return the member, converted by `read`."""
        if name not in self._members:
            raise BadRecord(f"it lacks {name!r}")
        try:
            return read(self._members[name])
        except (TypeError, KeyError, OverflowError) as error:
            raise BadRecord(f"its {name!r} is not valid") from error

    def optional(self, name: str, read: Callable[[object], T]) -> T | None:
        """Return the member, converted by `read`; None if it is null or missing."""
        return None if self._members.get(name) is None else self.required(name, read)

    def text(self, name: str) -> str:
        """Return a string."""
        return self.required(name, to_text)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return self.required(name, lambda value: tuple(map(to_text, to_list(value))))

    def integer(self, name: str) -> int:
        """Return an integer of 64 bits."""
        return self.required(name, to_integer)

    def count(self, name: str) -> int:
        """Return an integer of 64 bits that is not negative."""
        return self.required(name, to_count)

    def seconds(self, name: str, missing: float | None = None) -> float:
        """Return a duration in seconds that is not negative; FOREVER if the member is "forever".

        missing: the value where earlier versions wrote none; None: the member is required.
        """
        if missing is None:
            return self.required(name, to_seconds)
        found = self.optional(name, to_seconds)
        return missing if found is None else found

    def elapsed(self, name: str, missing: float) -> float:
        """Return the seconds that have passed of something.

        missing: the value where earlier versions wrote none.
        """
        found = self.optional(name, to_elapsed)
        return missing if found is None else found

    def moment(self, name: str) -> float:
        """Return a time in seconds that has a date."""
        return self.required(name, to_moment)

    def number(self, name: str) -> float:
        """Return a time or a duration in seconds; FOREVER if the member is "forever"."""
        return self.required(name, to_number)

    def enum(self, name: str, kind: type[E]) -> E:
        """Return the member of an enum by its name."""
        return self.required(name, lambda value: kind[to_text(value)])


def to_text(value: object) -> str:
    """Return the value if it is a string without surrogates. Raises TypeError."""
    if not isinstance(value, str) or _SURROGATE.search(value):
        raise TypeError  # a protobuf message cannot hold half a character
    return value


def to_boolean(value: object) -> bool:
    """Return the value if it is true or false. Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def to_list(value: object) -> list[object]:
    """Return the value if it is a list. Raises TypeError."""
    if not isinstance(value, list):
        raise TypeError
    return value


def to_integer(value: object) -> int:
    """Return the value if it is an integer of 64 bits. Raises TypeError."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_INTEGER:
        raise TypeError
    return value


def to_count(value: object) -> int:
    """Return the value if it is an integer of 64 bits that is not negative. Raises TypeError."""
    count = to_integer(value)
    if count < 0:
        raise TypeError
    return count


def to_number(value: object) -> float:
    """Return a time or a duration in seconds; FOREVER for "forever". Raises TypeError."""
    if value == FOREVER_WORD:
        return FOREVER
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    if abs(value) > MAX_DURATION_S:
        raise TypeError
    return float(value)


def to_moment(value: object) -> float:
    """Return the value if it is a time that has a date. Raises TypeError."""
    moment = to_number(value)
    if abs(moment) > MAX_TIME_S:
        raise TypeError
    return moment


def to_seconds(value: object) -> float:
    """Return the value if it is a number that is not negative. Raises TypeError."""
    seconds = to_number(value)
    if seconds < 0:
        raise TypeError
    return seconds


def to_elapsed(value: object) -> float:
    """Return the value if it is seconds that may have passed: not "forever". Raises TypeError."""
    seconds = to_seconds(value)
    if seconds == FOREVER:
        raise TypeError
    return seconds
