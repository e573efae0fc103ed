"""Takes the members of a JSON object by name, as what they have to be. Pure; stdlib only."""

import math
import re
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from pool_service.core.types import FOREVER

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

FOREVER_WORD = "forever"

LARGEST_INTEGER = 2**63 - 1
"""What a message takes."""

LONGEST_S = 1e12
"""No length of time is longer, nor is a deadline later."""

LATEST_S = 1e11
"""Three thousand years: moments that are later have no date."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRecord(ValueError):
    """It is no record that can be read; the message says why, to follow the file's name."""


class Members:
    """A JSON object, whose members are taken by name and as what they have to be."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise BadRecord("it is not made as a record is")
        self._members: dict[str, object] = value

    def required(self, name: str, read: Callable[[object], T]) -> T:
        """The member, which `read` turns into what it stands for."""
        if name not in self._members:
            raise BadRecord(f"it lacks {name!r}")
        try:
            return read(self._members[name])
        except (TypeError, KeyError, OverflowError) as error:
            raise BadRecord(f"its {name!r} is not valid") from error

    def optional(self, name: str, read: Callable[[object], T]) -> T | None:
        """Return the same; None where it is null or not there."""
        return None if self._members.get(name) is None else self.required(name, read)

    def text(self, name: str) -> str:
        """A member that is text."""
        return self.required(name, to_text)

    def texts(self, name: str) -> tuple[str, ...]:
        """A member that is a list of texts."""
        return self.required(name, lambda value: tuple(map(to_text, to_list(value))))

    def integer(self, name: str) -> int:
        """A member that is a whole number."""
        return self.required(name, to_integer)

    def count(self, name: str) -> int:
        """A member that is a whole number, none below zero."""
        return self.required(name, to_count)

    def seconds(self, name: str) -> float:
        """A member that is a length of time, none below zero, or for ever."""
        return self.required(name, to_seconds)

    def moment(self, name: str) -> float:
        """A member that is a moment."""
        return self.required(name, to_moment)

    def number(self, name: str) -> float:
        """A member that is a number, or for ever."""
        return self.required(name, to_number)

    def enum(self, name: str, kind: type[E]) -> E:
        """A member that is the name of one of these."""
        return self.required(name, lambda value: kind[to_text(value)])


def to_text(value: object) -> str:
    """Return the value if it is text. Raises TypeError."""
    if not isinstance(value, str) or _SURROGATE.search(value):
        raise TypeError  # of half a character no message can be made
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
    """Return the value if it is a whole number of 64 bits. Raises TypeError."""
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > LARGEST_INTEGER:
        raise TypeError
    return value


def to_count(value: object) -> int:
    """Return the value if it is a whole number that is not negative. Raises TypeError."""
    count = to_integer(value)
    if count < 0:
        raise TypeError
    return count


def to_number(value: object) -> float:
    """Return a moment or a length of time; FOREVER for its word. Raises TypeError."""
    if value == FOREVER_WORD:
        return FOREVER
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    if abs(value) > LONGEST_S:
        raise TypeError
    return float(value)


def to_moment(value: object) -> float:
    """Return the value if it is a moment that has a date. Raises TypeError."""
    moment = to_number(value)
    if abs(moment) > LATEST_S:
        raise TypeError
    return moment


def to_seconds(value: object) -> float:
    """Return the value if it is a number that is not negative. Raises TypeError."""
    seconds = to_number(value)
    if seconds < 0:
        raise TypeError
    return seconds
