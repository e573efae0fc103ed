"""Keys of servers: each server has its own, which only callers of Ensure and Hold get."""

import re
import secrets
from typing import Final

PREFIX: Final = "psk_"
"""Begins each key: it is found wherever it was written, and is never read as an option."""

RANDOM_BYTES: Final = 32

STRUCK: Final = "psk_***"
"""Stands in a text in the place of a key."""

_FORM: Final = re.compile(r"psk_[A-Za-z0-9_-]{43}")
"""A key: the prefix, and RANDOM_BYTES in base64url without padding."""

_WRITTEN: Final = re.compile(r"psk_[A-Za-z0-9_-]{16,}")
"""A key or its beginning, as of one that was cut; what is shorter gives too little away."""

_CUT: Final = re.compile(rb"(?:p|ps|psk|psk_[A-Za-z0-9_-]{0,42})\Z")
"""The beginning of a key at the end of some bytes."""


def new_key() -> str:
    """Return a new key, which no other server has."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key."""
    return _FORM.fullmatch(text) is not None


def strike(text: str) -> str:
    """Return a text with STRUCK in the place of each key, whichever server's it is."""
    return _WRITTEN.sub(STRUCK, text) if PREFIX in text else text


def length_before_cut(data: bytes) -> int:
    """Return the length of some bytes without the beginning of a key at their end."""
    cut = _CUT.search(data)
    return cut.start() if cut else len(data)
