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

_SCHEME: Final = "bearer"
"""Of RFC 6750."""


def new_token() -> str:
    """Return a new token, which nobody else has."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest(token: str) -> bytes | None:
    """Return the SHA-256 by which the service knows a token; None for what has no token's form."""
    if not _FORM.fullmatch(token):
        return None
    return hashlib.sha256(token.encode()).digest()


def is_bearer(authorization: str) -> bool:
    """Return whether an `authorization` header is to show a token, or is none that can be read.

    One of another scheme is for somebody else, such as a proxy before the service.
    """
    scheme = authorization.split(maxsplit=1)[:1]
    return not scheme or scheme[0].lower() == _SCHEME


def of_authorization(value: str) -> str | None:
    """Return the token of an `authorization` header; None if it has none."""
    scheme, _, token = value.strip().partition(" ")
    return token.strip() or None if scheme.lower() == _SCHEME else None
