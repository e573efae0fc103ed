"""TLS: which services a client trusts, and the certificate that it shows.

1. To another machine a client always speaks TLS.
2. To a loopback address it does if one of the options is given. Variables do not count there: they
   are for other machines.
3. By a unix socket it does not.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc

from pool_service_client import files
from pool_service_client.default_address import UNIX

CA_VARIABLE = "POOL_SERVICE_CA"
CERT_VARIABLE = "POOL_SERVICE_CERT"
KEY_VARIABLE = "POOL_SERVICE_KEY"
SERVER_NAME_VARIABLE = "POOL_SERVICE_SERVER_NAME"

PathText = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Holds what a caller says about TLS; None: nothing.

    ca: a file with the authorities that are trusted. cert, key: files with the certificate to show
    and its key. server_name: the name that the service's certificate must have.
    """

    ca: PathText | None = None
    cert: PathText | None = None
    key: PathText | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """Credentials of a channel, and its options besides."""

    credentials: grpc.ChannelCredentials
    options: tuple[tuple[str, str], ...] = ()


def tls_for(address: str, given: TlsOptions, environ: Mapping[str, str] = os.environ) -> Tls | None:
    """Return the TLS to speak to an address; None: none. Raises ValueError.

    address: as `connect.target` returns it.
    """
    is_given = given != TlsOptions()
    if address.startswith(UNIX):
        if is_given:
            raise ValueError(
                f"there is no TLS by a unix socket ({address}): give host:port, or none of ca, "
                "cert, key and server_name"
            )
        return None
    if is_this_machine(address) and not is_given:
        return None
    said = _with_environment(given, environ)
    if (said.cert is None) != (said.key is None):
        missing = "key" if said.key is None else "cert"
        raise ValueError(f"a certificate and its key belong together: give the {missing}, too")
    key, chain = _pair(said.cert, said.key)
    credentials = grpc.ssl_channel_credentials(_authorities(said.ca), key, chain)
    name = said.server_name
    return Tls(credentials, (("grpc.ssl_target_name_override", name),) if name else ())


def is_this_machine(address: str) -> bool:
    """Return whether what is sent to an address, or to each of several, stays on this machine.

    Every host name but localhost counts as another machine: an attacker may answer for it.
    """
    if address.startswith(UNIX):
        return True
    return all(map(_is_loopback, address.split(",")))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _with_environment(given: TlsOptions, environ: Mapping[str, str]) -> TlsOptions:
    """Return what is given, else what the environment says; of cert and key both are of one."""
    has_pair = given.cert is not None or given.key is not None
    return TlsOptions(
        ca=given.ca or environ.get(CA_VARIABLE) or None,
        cert=given.cert if has_pair else environ.get(CERT_VARIABLE) or None,
        key=given.key if has_pair else environ.get(KEY_VARIABLE) or None,
        server_name=given.server_name or environ.get(SERVER_NAME_VARIABLE) or None,
    )


def _pair(cert: PathText | None, key: PathText | None) -> tuple[bytes | None, bytes | None]:
    """Return a key and its certificate in PEM, which belong together."""
    if cert is None or key is None:
        return None, None
    import ssl  # noqa: PLC0415 - slow to import, and not needed without certificates

    cert_path, key_path = files.path_of(cert), files.path_of(key)
    _, chain = files.read(cert_path, "certificate file", "certificate", is_secret=False)
    _, private = files.read(key_path, "key file", "key", is_secret=True)
    # gRPC would say nothing about a pair that it cannot use, and connect nowhere.
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(cert_path, key_path, password=_refuse_password)
    except ssl.SSLError as error:
        raise ValueError(
            f"the certificate file {cert_path} and the key file {key_path} do not belong together, "
            f"or are not in PEM: {error}"
        ) from error
    return private, chain


def _refuse_password() -> str:
    # Else OpenSSL would ask for it in the terminal.
    raise ValueError("the key has a password: write it into a file without one (openssl pkey)")


def _authorities(ca: PathText | None) -> bytes | None:
    """Return the authorities in PEM; without any those of the system; None: those of gRPC."""
    import ssl  # noqa: PLC0415 - slow to import, and not needed without TLS

    if ca is None:
        system = ssl.get_default_verify_paths().cafile or ""
        return Path(system).read_bytes() if system else None
    path = files.path_of(ca)
    _, content = files.read(path, "CA file", "certificates that you trust", is_secret=False)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"the CA file {path} has no certificates in PEM: {error}") from error
    return content
