"""Certificates for connections to etcd."""

import socket
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
        _checked(files)
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


def handshake_flaw(endpoint: str, files: TlsFiles, limit_s: float) -> str:
    """Return why a TLS handshake with an endpoint fails, as a clause; empty if it does not.

    Of a certificate that the other end refuses, which it does after gRPC's part of the handshake,
    gRPC says only that data were corrupted, or that the connection was closed. To be called in a
    thread.
    """
    host, _, port = endpoint.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        with (
            socket.create_connection((host, int(port)), limit_s) as plain,
            _checked(files).wrap_socket(plain, server_hostname=host) as secure,
        ):
            # The other end says nothing before it is asked, unless it refuses.
            secure.recv(1)
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of {endpoint} is not believed ({error.verify_message}): set etcd.ca "
            "to the authority that has issued it, and call it by a name that it has"
        )
    except ssl.SSLError as error:
        return (
            f"{endpoint} refuses the certificate of this client, or that there is none "
            f"({error.reason}): set etcd.cert and etcd.key to one that etcd trusts"
        )
    except (OSError, ValueError):
        return ""
    return ""


def _checked(files: TlsFiles) -> ssl.SSLContext:
    """Return what the files stand for. Raises OSError or ValueError unless they fit."""
    context = ssl.create_default_context(cafile=files.authority)
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    return context


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")
