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

_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
"""Begin and end a pasted text, if the terminal was asked to mark it."""

_LETTERS = {"k": "up", "j": "down", "g": "home", "G": "end", " ": "page down", "\r": "\n"}
"""Keys that mean the same as another one."""


@dataclass(slots=True)
class Keyboard:
    """Reads keys from bytes; the part of a sequence that has not come yet is waited for.

    Text that is pasted, and a letter that was typed with Alt, are no keys.
    """

    _left: bytes = b""
    _is_pasting: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether what has come so far may be Escape, or the beginning of a sequence."""
        return bool(self._left) and not self._is_pasting

    def read(self, data: bytes) -> list[str]:
        """Return the keys that `data` completes; sequences that mean no key are left out."""
        data, self._left = self._left + data, b""
        keys = []
        while data:
            if self._is_pasting:
                data = self._without_paste(data)
                continue
            end = _end_of_key(data)
            if end is None:
                self._left = data
                break
            one, data = data[:end], data[end:]
            self._is_pasting = one == _PASTE_BEGINS
            keys.append(_SEQUENCES.get(one, "") if one[0] == _ESCAPE else chr(one[0]))
        return [_LETTERS.get(key, key) for key in keys if key]

    def flush(self) -> list[str]:
        """Return the key that was waited for in vain: an Escape alone is one, a part is none."""
        if not self.is_waiting:
            return []
        left, self._left = self._left, b""
        return ["escape"] if left == b"\x1b" else []

    def _without_paste(self, data: bytes) -> bytes:
        """Return what follows the pasted text; keep its end, in which its last mark may begin."""
        _, mark, rest = data.partition(_PASTE_ENDS)
        self._is_pasting = not mark
        self._left = b"" if mark else data[-len(_PASTE_ENDS) + 1 :]
        return rest


def _end_of_key(data: bytes) -> int | None:
    """Return the length of the key that `data` begins with; None: its end is missing."""
    if data[0] != _ESCAPE or data[:2] == b"\x1b\x1b":
        # Escape twice is Escape once; Alt and an arrow is that arrow.
        return 1
    if len(data) == 1:
        return None
    return _end_of_sequence(data) if data[1] in _INTRODUCERS else 2


def _end_of_sequence(data: bytes) -> int | None:
    # The function keys of the Linux console are ESC [ [ and a letter.
    first = 3 if data[1:3] == b"[[" else 2
    for place in range(first, len(data)):
        if data[place] == _ESCAPE:
            return place
        if data[place] in _FINAL:
            return place + 1
    return None
