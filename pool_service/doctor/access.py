"""Checks of how callers reach the service: the default socket."""

from collections.abc import Iterator, Mapping
from typing import Final

from pool_service.address import AddressError
from pool_service.config import Config
from pool_service.default_socket import directory_flaw, socket_path
from pool_service.doctor.finding import Finding, Verdict

_SUBJECT: Final = "default socket"


def socket_findings(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check that clients will find the service by its default socket, if it has one."""
    if not config.service.has_default_socket:
        return
    try:
        path = socket_path(config.service.state_dir, environment)
        flaw = directory_flaw(path.parent) if path.parent.exists() else None
    except (AddressError, OSError) as error:
        yield Finding(_SUBJECT, Verdict.WARNING, f"there can be none: {error}")
        return
    if flaw is None:
        yield Finding(_SUBJECT, Verdict.OK, str(path))
        return
    found, remedy = flaw
    yield Finding(_SUBJECT, Verdict.WARNING, f"there can be none: {found}", remedy)
