"""Certificates for connections to etcd."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from pool_service.fleet.engines.etcd.errors import EtcdError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Names the PEM files of a TLS connection; they are read again for each new connection.

    authority: of etcd's certificates; None: the system's authorities.
    certificate: of this client; None: it has none.
    key: of the certificate; None: it is in the certificate's file.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Return what a channel needs. Raises EtcdError if a file is not what it should be.

    gRPC ends the whole process when it gets a broken certificate, so that ssl reads them first.
    """
    paths = (files.authority, files.key or files.certificate, files.certificate)
    try:
        contents = [_content(path) for path in paths]
        _check(files)
        unchanged = contents == [_content(path) for path in paths]
    except (OSError, ValueError) as error:
        names = ", ".join(sorted({str(path) for path in paths if path is not None}))
        message = f"cannot use the certificates that etcd is reached with ({names}): {error}"
        raise EtcdError(message, "certificates") from error
    if not unchanged:
        raise EtcdError("the certificates that etcd is reached with change now", "certificates")
    authority, key, certificate = contents
    return grpc.ssl_channel_credentials(
        root_certificates=authority, private_key=key, certificate_chain=certificate
    )


def _check(files: TlsFiles) -> None:
    """Raise OSError or ValueError unless the files fit."""
    context = ssl.create_default_context(cafile=files.authority)
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")
