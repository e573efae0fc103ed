"""Addresses to listen on. Not in `rpc`, so that the configuration checks them without gRPC."""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pool_service.paths import PathFlaw, absolute

LONGEST_SOCKET_PATH = 103
"""Bytes: the limit of macOS (Linux: 107)."""

LARGEST_PORT = 65535


class AddressError(Exception):
    """An address cannot be listened on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on: host and port, or (`path`) a unix socket."""

    text: str
    path: Path | None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address that `host:port` or `unix:PATH` means. Raises AddressError."""
        if text.startswith("unix:"):
            path = _socket_path(text.removeprefix("unix:").removeprefix("//"))
            return cls(f"unix:{path}", path)
        host, _, port = text.rpartition(":")
        if not (_is_host(host) and _is_port(port)):
            raise AddressError(f"{text!r} is not an address; write host:port or unix:PATH.")
        return cls(text, None)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach it: on loopback, or a unix socket."""
        return self.path is not None or is_loopback(self.text.rpartition(":")[0])

    def overlaps(self, other: "Address") -> bool:
        """Return whether both cannot be listened on: one host and port, or one socket.

        Names other than localhost are compared as they are written. Port 0 is any free one.
        """
        if self.path is not None or other.path is not None:
            return self.path == other.path
        (host, _, port), (other_host, _, other_port) = (
            one.text.rpartition(":") for one in (self, other)
        )
        if int(port) != int(other_port) or int(port) == 0:
            return False
        ours, theirs = _hosts(host), _hosts(other_host)
        return bool(ours & theirs) or not _WILDCARDS.isdisjoint(ours | theirs)


_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on
"""All addresses of the machine; gRPC listens on those of both families for either."""


def _hosts(host: str) -> frozenset[str]:
    """Return the addresses that a host stands for, in one spelling each; or its name."""
    bare = host.strip("[]").lower()
    if bare == "localhost":
        return frozenset({"127.0.0.1", "::1"})
    try:
        return frozenset({str(ip_address(bare))})
    except ValueError:
        return frozenset({bare})


def is_loopback(host: str) -> bool:
    """Return whether a host, without a port, is localhost or a loopback address."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return bare.lower() == "localhost" or ip_address(bare).is_loopback
    except ValueError:
        return False


def names_loopback(host_header: str) -> bool:
    """Return whether a Host header, with a port or without, is for localhost or loopback."""
    host, colon, port = host_header.rpartition(":")
    return is_loopback(host if colon and port.isdigit() else host_header)


def _socket_path(text: str) -> Path:
    if not text or "\0" in text:
        raise AddressError(f"{f'unix:{text}'!r} is not an address; write host:port or unix:PATH.")
    if "%" in text:
        raise AddressError(
            f"the socket path {text!r} has a '%', which gRPC takes for the start of an escaped "
            "character; choose a path without one."
        )
    try:
        path = absolute(text)
    except PathFlaw as error:
        raise AddressError(f"the socket path {text!r} {error}.") from error
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise AddressError(
            f"the socket path {path} is longer than {LONGEST_SOCKET_PATH} bytes, the limit "
            "of macOS; choose a shorter one."
        )
    return path


def _is_host(host: str) -> bool:
    """Return whether a text is a host; IPv6 needs brackets, or its end would count as the port."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host.replace(":", "/")
    return bool(bare) and bare.isprintable() and "/" not in bare and " " not in bare


def _is_port(digits: str) -> bool:
    # The length first: Python refuses to convert thousands of digits.
    short = len(digits) <= len(str(LARGEST_PORT))
    return short and digits.isascii() and digits.isdigit() and int(digits) <= LARGEST_PORT
