"""Keys: their names, read from the bytes that a terminal sends."""

from dataclasses import dataclass

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
}
_ESCAPE = 0x1B
_INTRODUCERS = b"[O"
_FINAL = range(0x40, 0x7F)
"""Bytes that end a sequence which ESC [ has begun."""

_LETTERS = {"k": "up", "j": "down", "g": "home", "G": "end", " ": "page down", "\r": "\n"}
"""Keys that mean the same as another one."""


@dataclass(slots=True)
class Keyboard:
    """Reads keys from bytes; the part of a sequence that has not come yet is waited for."""

    _left: bytes = b""

    def read(self, data: bytes) -> list[str]:
        """Return the keys that `data` completes; sequences that mean no key are left out."""
        data, self._left = self._left + data, b""
        keys = []
        while data:
            if data[0] != _ESCAPE:
                keys.append(chr(data[0]))
                data = data[1:]
                continue
            if len(data) == 1 or data[1] not in _INTRODUCERS:
                keys.append("escape")
                data = data[1:]
                continue
            end = _end_of_sequence(data)
            if end is None:
                self._left = data
                break
            keys.append(_SEQUENCES.get(data[:end], ""))
            data = data[end:]
        return [_LETTERS.get(key, key) for key in keys if key]


def _end_of_sequence(data: bytes) -> int | None:
    """Return the length of the sequence that `data` begins with; None: its end is missing."""
    for place in range(2, len(data)):
        if data[place] in _FINAL:
            return place + 1
    return None
