"""Checks of how callers reach the service: the default socket, and certificates."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from pool_service.adapters.tls.certificate_files import CertificateFiles, CertificateFlaw, load
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


def certificate_findings(config: Config, now: float) -> Iterator[Finding]:
    """Check that the certificates of [tls] can be used, and for how long. now: time.time()."""
    tls = config.tls
    if tls.cert is None or tls.key is None:
        return
    try:
        found = load(CertificateFiles(tls.cert, tls.key, tls.client_ca))
    except CertificateFlaw as flaw:
        yield Finding("certificates", Verdict.BROKEN, str(flaw), "see [tls] of the configuration")
        return
    notices = list(filter(None, (each.notice(now) for each in found.validities)))
    for notice in notices:
        what, _, remedy = notice.partition(": ")
        yield Finding("certificates", Verdict.WARNING, what, remedy)
    if not notices:
        end = datetime.fromtimestamp(min(each.ends_at for each in found.validities), UTC)
        yield Finding("certificates", Verdict.OK, f"they are valid until {end:%Y-%m-%d %H:%M} UTC")
