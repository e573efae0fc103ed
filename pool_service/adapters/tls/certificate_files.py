"""Reads the certificates of the service and checks that they can be used. Blocking.

gRPC says nothing of a pair that it cannot use, and goes on with the one before. So everything that
can be wrong with the files is found here first.
"""

import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from pool_service.adapters.models.files import read_within
from pool_service.adapters.system.writers import first_flaw

MAX_FILE_BYTES = 1024 * 1024
"""The largest file that is read; a bundle of all public authorities has a quarter of it."""

_READABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IRWXO
"""The bits of a mode that make a key no secret. A group may read it."""

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: a certificate that has expired is reported, not refused."""

_SOON_S = 14 * 86400.0
_SOON_SHARE = 1 / 3
"""A certificate expires soon when less than this share of its life and less than _SOON_S is left:
authorities that renew by themselves do so after two thirds, for some after a day."""

_OTHER_KEY = "KEY_VALUES_MISMATCH"
"""OpenSSL's name for a key that is not the certificate's."""

_HOURS_TOLD = 48
"""Below this, a length of time is told in hours."""


class CertificateFlaw(Exception):
    """Certificates cannot be used.

    key: the one of its section that names the file. what: the reason, and what to do. name: of the
    key with its section; empty: it is in [tls].
    """

    def __init__(self, key: str, what: str, name: str = "") -> None:
        super().__init__(f"{name or f'tls.{key}'}: {what}")
        self.key = key
        self.what = what


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The files that a section of the configuration names.

    client_ca: the authorities of those at the other end; None: they show no certificates. section,
    ca_key: the section, and its key for the authorities.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None
    section: str = "tls"
    ca_key: str = "client_ca"

    def name_of(self, key: str) -> str:
        """Return the name that a key (cert, key or client_ca) has in the configuration."""
        return f"{self.section}.{self.ca_key if key == 'client_ca' else key}"

    def named(self) -> Iterator[tuple[str, Path]]:
        """Yield each file with the key that names it."""
        yield "cert", self.cert
        yield "key", self.key
        if self.client_ca is not None:
            yield "client_ca", self.client_ca


Stamps = tuple[tuple[int, int, int] | None, ...]
"""Of each file: the time of its last change in ns, of its mode too; its size and its inode. None:
it is missing."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Says when a certificate is valid, in seconds since the epoch. key: of its file, in full."""

    key: str
    begins_at: float
    ends_at: float

    def notice(self, now: float) -> str:
        """Return a sentence if it is not valid now, or not for long any more; else ""."""
        left = self.ends_at - now
        if now < self.begins_at:
            return f"the certificate in {self.key} is not valid yet: callers will refuse it"
        if left <= 0:
            return f"the certificate in {self.key} has expired: replace it"
        if left < min(_SOON_S, _SOON_SHARE * (self.ends_at - self.begins_at)):
            return f"the certificate in {self.key} expires in {_span(left)}: replace it"
        return ""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates that can be used, in PEM.

    chain: what the service shows; key: its key; client_ca: the authorities of callers; None: there
    are none.
    """

    chain: bytes
    key: bytes
    client_ca: bytes | None
    validities: tuple[Validity, ...]


def stamps_of(files: CertificateFiles) -> Stamps:
    """Return what changes when one of the files changes."""
    return tuple(_stamp(path) for _, path in files.named())


def load(files: CertificateFiles) -> Certificates:
    """Read and check the files. Raises CertificateFlaw."""
    try:
        return _loaded(files)
    except CertificateFlaw as flaw:
        raise CertificateFlaw(flaw.key, flaw.what, files.name_of(flaw.key)) from flaw


def _loaded(files: CertificateFiles) -> Certificates:
    content = {key: _content(key, path) for key, path in files.named()}
    _check_secret(files.key)
    own = _own_validity(files)
    authorities = _authorities(files.client_ca) if files.client_ca is not None else ()
    validities = (replace(one, key=files.name_of(one.key)) for one in (own, *authorities))
    return Certificates(
        content["cert"], content["key"], content.get("client_ca"), tuple(validities)
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino


def _content(key: str, path: Path) -> bytes:
    try:
        found = first_flaw([path])
        content = read_within(path, MAX_FILE_BYTES)
    except OSError as error:
        raise CertificateFlaw(key, f"cannot read {path}: {error.strerror or error}") from error
    if found is not None:
        raise CertificateFlaw(key, f"other users could replace the file: {found}")
    return content


def _check_secret(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CertificateFlaw("key", f"cannot read {path}: {error.strerror}") from error
    if mode & _READABLE_BY_OTHERS:
        what = f"other users can read the key in {path}; chmod 600 {quote(str(path))}"
        raise CertificateFlaw("key", what)


def _own_validity(files: CertificateFiles) -> Validity:
    """Return when the certificate of the service is valid, which it can show with its key."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(files.cert, files.key, password=_refuse_password)
    except OSError as error:
        raise _pair_flaw(files, error) from error
    try:
        seen = _seen_by_client(server, files.cert)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason
        raise CertificateFlaw("cert", f"callers would refuse {files.cert}: {why}") from error
    return _validity("cert", seen)


def _pair_flaw(files: CertificateFiles, error: OSError) -> CertificateFlaw:
    if getattr(error, "reason", "") == _OTHER_KEY:
        return CertificateFlaw("key", f"{files.key} is not the key of {files.cert}")
    return CertificateFlaw(
        "cert",
        f"{files.cert} has to begin with a certificate in PEM, and {files.key} with a private key "
        f"({error})",
    )


def _refuse_password() -> str:
    # Else OpenSSL would ask for it in the terminal.
    raise CertificateFlaw("key", "the key has a password; write it without one (openssl pkey)")


def _seen_by_client(server: ssl.SSLContext, cert: Path) -> dict[str, object]:
    """Return the certificate as a client sees it who trusts it. Raises ssl.SSLError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    # The client has the certificate once its first answer is read.
    for end in (*ends, ends[0]):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    seen: dict[str, object] = dict(ends[0].getpeercert() or {})
    return seen


def _authorities(path: Path) -> tuple[Validity, ...]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        what = f"{path} has no certificates in PEM ({error})"
        raise CertificateFlaw("client_ca", what) from error
    found = context.get_ca_certs()
    if not found:
        what = f"{path} has no certificate of an authority, only such that authorities issue"
        raise CertificateFlaw("client_ca", what)
    return tuple(_validity("client_ca", dict(one)) for one in found)


def _validity(key: str, certificate: dict[str, object]) -> Validity:
    begins, ends = (
        float(ssl.cert_time_to_seconds(str(certificate[name])))
        for name in ("notBefore", "notAfter")
    )
    return Validity(key, begins, ends)


def _span(seconds: float) -> str:
    """Return a length of time in whole days, or in hours."""
    hours = int(seconds // 3600)
    return f"{hours} h" if hours < _HOURS_TOLD else f"{hours // 24} days"
