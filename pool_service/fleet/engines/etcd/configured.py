"""The access to an etcd that a configuration names."""

from pathlib import Path

from pool_service.config.etcd_section import EtcdKeys, EtcdSection
from pool_service.fleet.engines.etcd.endpoints import Access
from pool_service.fleet.engines.etcd.tls_files import TlsFiles


class AccessFlaw(Exception):
    """A file that etcd is reached with cannot be read; the text says why, and what to do."""


def access_of(section: EtcdSection, keys: EtcdKeys) -> Access:
    """Return how etcd is reached. Raises AccessFlaw."""
    tls = None if section.ca is None else TlsFiles(section.ca, section.cert, section.key)
    return Access(keys.endpoints, tls, section.user, _password(section.password_file))


def _password(file: Path | None) -> str:
    """Return the password in a file; empty without a file. Raises AccessFlaw."""
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AccessFlaw(f"etcd.password_file: cannot read {file}: {why}; correct it") from error
