"""What a scenario expects of an answer, as data: a value, a part of a dict, or a word like ANY."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""What a runner says, and what is expected of that."""

Fill = Callable[[str], str]
"""Puts in what `{m}` and the like stand for."""


@dataclass(frozen=True, slots=True)
class Is:
    """Any value of which this holds."""

    what: str
    holds: Callable[[Any], bool]

    def __repr__(self) -> str:
        return f"<{self.what}>"


ANY = Is("anything but null", lambda value: value is not None)
TEXT = Is("a text that is not empty", lambda value: isinstance(value, str) and value != "")
TIME = Is("a time", lambda value: isinstance(value, int | float) and value > 1e9)
URL = Is("a URL", lambda value: isinstance(value, str) and value.startswith("http://127.0.0.1:"))
POSITIVE = Is("a positive number", lambda value: isinstance(value, int | float) and value > 0)


def at_least(least: float) -> Is:
    return Is(f"at least {least}", lambda value: isinstance(value, int | float) and value >= least)


def at_most(most: float) -> Is:
    return Is(f"at most {most}", lambda value: isinstance(value, int | float) and value <= most)


def saying(part: str) -> Is:
    """A text with this in it."""
    return Is(f"a text with {part!r} in it", lambda value: part in value)


@dataclass(frozen=True, slots=True)
class Including:
    """A list with one such element for each of these, and maybe others."""

    elements: Sequence[object]

    def filled(self, fill: Fill, said: Mapping[str, Any]) -> "Including":
        return Including([filled(each, fill, said) for each in self.elements])

    def holds(self, value: object) -> bool:
        return isinstance(value, list) and all(
            any(fits(each, one) for one in value) for each in self.elements
        )


def including(*elements: object) -> Including:
    return Including(elements)


@dataclass(frozen=True, slots=True)
class Said:
    """What an earlier step said, by its name and a path: `Said("first.server.pid")`."""

    path: str

    def find(self, said: Mapping[str, Any]) -> Any:
        value: Any = said
        for word in self.path.split("."):
            value = value[int(word) if isinstance(value, list) else word]
        return value

    def filled(self, _: Fill, said: Mapping[str, Any]) -> Any:
        return self.find(said)


@dataclass(frozen=True, slots=True)
class Other:
    """Anything but what an earlier step said."""

    path: str

    def filled(self, _: Fill, said: Mapping[str, Any]) -> Is:
        before = Said(self.path).find(said)
        return Is(f"anything but {before!r}", lambda value: value not in (None, before))


@dataclass(frozen=True, slots=True)
class Plus:
    """A number that an earlier step said, and so much more."""

    path: str
    more: int

    def filled(self, _: Fill, said: Mapping[str, Any]) -> Any:
        return Said(self.path).find(said) + self.more


def filled(pattern: Any, fill: Fill, said: Mapping[str, Any]) -> Any:
    """The pattern with its texts filled in, and what was said in place of what refers to it."""
    match pattern:
        case str():
            return fill(pattern)
        case Said() | Other() | Plus() | Including():
            return pattern.filled(fill, said)
        case Mapping():
            return {fill(name): filled(each, fill, said) for name, each in pattern.items()}
        case list() | tuple():
            return [filled(each, fill, said) for each in pattern]
        case _:
            return pattern


def fits(pattern: object, value: object) -> bool:
    return difference(pattern, value) is None


def difference(pattern: Any, value: Any, path: str = "it") -> str | None:
    """In what a value is not as the pattern says, in words; None: it is.

    A dict says nothing of the names that it does not have; a list is of all elements.
    """
    match pattern:
        case Is():
            return None if pattern.holds(value) else f"{path} is {value!r}, not {pattern.what}"
        case Including(elements):
            return None if pattern.holds(value) else f"{path} has not all of {elements}: {value!r}"
        case Mapping() if isinstance(value, Mapping):
            parts = [
                difference(each, value.get(name), f"{path}.{name}")
                for name, each in pattern.items()
            ]
        case list() if isinstance(value, list):
            if len(pattern) != len(value):
                return f"{path} has {len(value)} elements, not {len(pattern)}: {value!r}"
            parts = [
                difference(each, one, f"{path}[{index}]")
                for index, (each, one) in enumerate(zip(pattern, value, strict=True))
            ]
        case _:
            return None if pattern == value else f"{path} is {value!r}, not {pattern!r}"
    return next((part for part in parts if part is not None), None)
