"""Names of certificates (subjectAltName): their kinds, by which one is not taken for another."""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import ip_address

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_EMAIL = re.compile(rf"[!-.0-9;-?A-~]+@{_LABEL}(?:\.{_LABEL})*")
"""Without `:` and `/`, which belong to URIs."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")


class SanKind(Enum):
    """Names the kinds of names, each by a form that is that of no other kind."""

    URI = "a URI"
    DNS = "a DNS name"
    EMAIL = "an email address"
    IP = "an IP address"


def kind_of_san(name: str) -> SanKind | None:
    """Return the kind of a name; None: it has the form of none, or has a wildcard."""
    try:
        return SanKind.IP if str(ip_address(name)) == name else None
    except ValueError:
        pass
    if _URI.fullmatch(name):
        return SanKind.URI
    if _EMAIL.fullmatch(name):
        return SanKind.EMAIL
    return SanKind.DNS if _DNS.fullmatch(name) else None


def sans_of(shown: Mapping[SanKind, Iterable[str]]) -> tuple[str, ...]:
    """Return the names of a certificate. shown: by the kinds that the certificate says.

    Leaves out those of another form: an authority may let anybody choose a DNS name, and one that
    reads like a URI must not count as that.
    """
    return tuple(
        name for kind, names in shown.items() for name in names if kind_of_san(name) is kind
    )
