"""The bearer token of a client: its source, and the header that shows it in each call."""

import os
import stat
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar, cast

from pool_service_client.connect import UNIX

TOKEN_VARIABLE = "POOL_SERVICE_TOKEN"  # noqa: S105 - a name
TOKEN_FILE_VARIABLE = "POOL_SERVICE_TOKEN_FILE"  # noqa: S105 - a name

_MAX_CHARACTERS = 4096
_MAX_FILE_BYTES = 1024 * 1024
_NOT_PRIVATE = stat.S_IWGRP | stat.S_IRWXO
"""The bits of a mode that let others use a token or replace it. A group may read one."""

Metadata = tuple[tuple[str, str], ...]
"""Headers of a call."""

Header = Callable[[], Metadata]
"""Returns the header that shows the present token. Its repr does not contain the token."""

_Stamp = tuple[int, int, int]
"""Changes when a file changes: its time of modification in ns, its size, its inode."""

C = TypeVar("C")


def header(
    address: str,
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    environ: Mapping[str, str] = os.environ,
) -> Header | None:
    """Return the header with the token to show; None if there is no token.

    The token is the one given, or the content of the file given, or that of POOL_SERVICE_TOKEN, or
    of the file that POOL_SERVICE_TOKEN_FILE names. No error repeats a token.

    address: as `connect.target` returns it.

    Raises ValueError if both are given, if there is no valid token, or if the address is another
    machine's, as the connection is not encrypted.
    """
    if token is not None and token_file is not None:
        raise ValueError("token and token_file are both given: give one of them")
    found: Header | None = None
    if token is not None:
        found = _fixed(token, "the token")
    elif token_file is not None:
        found = _TokenFile(token_file).header
    elif environ.get(TOKEN_VARIABLE):
        found = _fixed(environ[TOKEN_VARIABLE], f"the token in {TOKEN_VARIABLE}")
    elif environ.get(TOKEN_FILE_VARIABLE):
        found = _TokenFile(environ[TOKEN_FILE_VARIABLE]).header
    if found is not None and not _is_this_machine(address):
        raise ValueError(
            f"{address} is another machine, and the connection is not encrypted: a token is sent "
            "only to this machine, by a unix socket or a loopback address."
        )
    return found


def showing(channel: C, shown: Header | None) -> C:
    """Return a channel of grpc or of grpc.aio whose calls have the header; itself for None."""
    return channel if shown is None else cast("C", _Channel(channel, shown))


class _Channel:
    """The methods of a channel that a client and its stub use, with a header in each call.

    gRPC for Python refuses call credentials on connections that are not encrypted, and with
    interceptors grpc.aio makes calls of another, slower kind.
    """

    def __init__(self, channel: Any, shown: Header) -> None:  # noqa: ANN401 - of grpc or grpc.aio
        self._channel = channel
        self._shown = shown
        self.close = channel.close

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        return self._call(self._channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        return self._call(self._channel.unary_stream(*arguments, **options))

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        shown = self._shown

        def call(request: object, timeout: float | None = None) -> Any:  # noqa: ANN401
            return method(request, timeout=timeout, metadata=shown())

        return call


def _fixed(token: str, source: str) -> Header:
    """Return a header that stays the same. Raises ValueError. source: for the error."""
    metadata = _metadata(token, source)
    return lambda: metadata


class _TokenFile:
    """A file with a token, which is read again when it changes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file. Raises ValueError."""
        self._path = _expanded(path)
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
        path = self._path
        try:
            with open(path, "rb", buffering=0, opener=_opened) as file:
                status = os.fstat(file.fileno())
                self._check(status)
                content = file.read(_MAX_FILE_BYTES)
        except OSError as error:
            raise ValueError(
                f"the token file {path} cannot be read: {error.strerror}. Name a file that has the "
                "token, and that you may read"
            ) from error
        token = content.decode("ascii", "replace").strip()
        return _stamp(status), _metadata(token, f"the token file {path}")

    def _check(self, status: os.stat_result) -> None:
        """Raise ValueError unless the file may be used."""
        path = self._path
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(
                f"the token file {path} is no regular file: name one that has the token"
            )
        if status.st_mode & _NOT_PRIVATE:
            raise ValueError(
                f"the token file {path} is not private, since others may read it or change it: "
                f"chmod 600 {quote(str(path))}"
            )
        if status.st_size > _MAX_FILE_BYTES:
            raise ValueError(
                f"the token file {path} is larger than 1 MiB: name the file that has only the token"
            )


def _opened(path: str, flags: int) -> int:
    """Return the descriptor of an opened file, without waiting for the writer of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


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


def _expanded(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r} names a home directory that is not known") from error


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _is_this_machine(address: str) -> bool:
    """Return whether what is sent to an address stays on this machine.

    Every host name but localhost counts as another machine: an attacker may answer for it.
    """
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
