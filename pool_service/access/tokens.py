"""Bearer tokens: made from randomness, and known to the service by their digests only."""

import hashlib
import re
import secrets
from typing import Final

PREFIX: Final = "pst_"
"""Begins each token, so that scanners for leaked secrets find it."""

RANDOM_BYTES: Final = 32
"""As many as the digest has. Guessing is hopeless, so no slow hash is needed."""

_FORM: Final = re.compile(r"pst_[A-Za-z0-9_-]{43}")
"""A token: the prefix, and RANDOM_BYTES in base64url without padding."""

_SCHEME: Final = "bearer "


def new_token() -> str:
    """Return a new token, which nobody else has."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest(token: str) -> bytes | None:
    """Return the SHA-256 by which the service knows a token; None for what has no token's form."""
    if not _FORM.fullmatch(token):
        return None
    return hashlib.sha256(token.encode()).digest()


def of_authorization(value: str) -> str | None:
    """Return the token of an `authorization` header; None without the scheme of RFC 6750."""
    if value[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return value[len(_SCHEME) :].strip()
