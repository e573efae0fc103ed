"""Builds values from the bytes of a fuzzer, so that they get past the first parser."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

V = TypeVar("V")

DEEPEST = 6
NUMBERS: tuple[object, ...] = (
    0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 1e308, -1e308, 0.5, 10**18,
)  # fmt: skip
TEXTS = (
    "", "a", "\0", "\n", "\x1b[31m", "\ud800", "\u202e", "..", "/", "~", "-x", "inf", "nan",
    "1e400", "a" * 5000, "\U0010ffff", "READY", "healthy", "model.safetensors",
)  # fmt: skip


class Bytes:
    """Takes values from bytes; when they are used up, always the first of all choices."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        value = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return value

    def choose(self, choices: Sequence[V]) -> V:
        return choices[self.byte() % len(choices)]

    def rest(self) -> bytes:
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def text(self) -> str:
        if self.byte() % 4:
            return self.choose(TEXTS)
        return "".join(chr(self.byte() * 256 + self.byte()) for _ in range(self.byte() % 16))

    def value(self, keys: Sequence[str], depth: int = DEEPEST) -> Any:  # noqa: ANN401
        """Any JSON, whose objects have these keys more often than others."""
        kind = self.byte() % (8 if depth else 5)
        match kind:
            case 0:
                return self.choose((None, True, False))
            case 1 | 2:
                return self.choose(NUMBERS)
            case 3 | 4:
                return self.text()
            case 5:
                return [self.value(keys, depth - 1) for _ in range(self.byte() % 5)]
            case _:
                return {
                    self.choose(keys) if self.byte() % 8 else self.text(): self.value(
                        keys, depth - 1
                    )
                    for _ in range(self.byte() % 9)
                }

    def mutate(self, value: Any, keys: Sequence[str]) -> None:  # noqa: ANN401
        """Change some members of an object or a list, at any depth."""
        for _ in range(1 + self.byte() % 4):
            self._change(value, keys)

    def _change(self, value: Any, keys: Sequence[str]) -> None:  # noqa: ANN401
        while True:
            places = list(value) if isinstance(value, dict) else list(range(len(value)))
            if not places:
                return
            place = self.choose(places)
            if not isinstance(value[place], dict | list) or self.byte() % 4 == 0:
                break
            value = value[place]
        match self.byte() % 4:
            case 0:
                del value[place]
            case 1:
                value[place] = value[self.choose(places)]
            case 2:
                value[place] = self.choose((*NUMBERS, *TEXTS, None, True))
            case _:
                value[place] = self.value(keys, 2)


def as_json(value: object) -> bytes:
    """As a program in another language may write it: surrogates, infinities and all."""
    return json.dumps(value).encode()


def deep(count: int) -> bytes:
    """Nested deeper than a recursive parser goes."""
    return b"[" * count + b"]" * count
