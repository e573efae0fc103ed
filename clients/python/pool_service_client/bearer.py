"""The bearer token of a client: its source, and the header that shows it in each call."""

import os
from collections.abc import Mapping
from typing import TypeVar

from pool_service_client import files, headers
from pool_service_client.headers import HeadersSource, Metadata

TOKEN_VARIABLE = "POOL_SERVICE_TOKEN"  # noqa: S105 - a name
TOKEN_FILE_VARIABLE = "POOL_SERVICE_TOKEN_FILE"  # noqa: S105 - a name

_MAX_CHARACTERS = 4096
_Stamp = tuple[int, int, int]
"""Changes when a file changes: its time of modification in ns, its size, its inode."""

C = TypeVar("C")


def header(
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    environ: Mapping[str, str] = os.environ,
) -> HeadersSource | None:
    """Return the header with the token to show; None if there is no token.

    The token is the one given, or the content of the file given, or that of POOL_SERVICE_TOKEN, or
    of the file that POOL_SERVICE_TOKEN_FILE names. No error repeats a token.

    Raises ValueError if both are given, or if there is no valid token.
    """
    if token is not None and token_file is not None:
        raise ValueError("token and token_file are both given: give one of them")
    if token is not None:
        return _fixed(token, "the token")
    if token_file is not None:
        return _TokenFile(token_file).header
    if environ.get(TOKEN_VARIABLE):
        return _fixed(environ[TOKEN_VARIABLE], f"the token in {TOKEN_VARIABLE}")
    if environ.get(TOKEN_FILE_VARIABLE):
        return _TokenFile(environ[TOKEN_FILE_VARIABLE]).header
    return None


def showing(channel: C, shown: HeadersSource | None) -> C:
    """Return a channel of grpc or of grpc.aio whose calls have the header; itself for None."""
    return channel if shown is None else headers.with_headers(channel, shown)


def _fixed(token: str, source: str) -> HeadersSource:
    """Return a header that stays the same. Raises ValueError. source: for the error."""
    metadata = _metadata(token, source)
    return lambda: metadata


class _TokenFile:
    """A file with a token, which is read again when it changes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file. Raises ValueError."""
        self._path = files.path_of(path)
        # One value, so that threads see a stamp and its own token.
        self._known = self._read()

    def header(self) -> Metadata:
        """Return the header for the token that the file has now.

        While the file cannot be used, the last token is shown: it may be valid still.
        """
        stamp, metadata = self._known
        try:
            if _stamp(self._path.stat()) == stamp:
                return metadata
            self._known = self._read()
        except (OSError, ValueError):
            return metadata
        return self._known[1]

    def _read(self) -> tuple[_Stamp, Metadata]:
        """Return the stamp of the file and its token. Raises ValueError."""
        status, content = files.read(self._path, "token file", "token", is_secret=True)
        token = content.decode("ascii", "replace").strip()
        return _stamp(status), _metadata(token, f"the token file {self._path}")


def _metadata(token: str, source: str) -> Metadata:
    """Return the header for a token. Raises ValueError if none can be one."""
    if not token:
        raise ValueError(f"{source} is empty: put the token there")
    if len(token) > _MAX_CHARACTERS:
        raise ValueError(f"{source} has more than {_MAX_CHARACTERS} characters: that is no token")
    if not all("!" <= character <= "~" for character in token):
        raise ValueError(
            f"{source} has white space or characters that are not ASCII: that is no token"
        )
    return (("authorization", f"Bearer {token}"),)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino
