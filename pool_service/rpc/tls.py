"""TLS: the credentials with which gRPC listens where other machines connect."""

from collections.abc import Collection
from typing import Any, Protocol

import grpc

MAX_CONNECTION_S = 3600
"""The age at which a connection is closed to new calls. gRPC checks certificates at its beginning
only: one that was replaced, or whose authority was removed, counts this long at most."""

MAX_CONNECTION_GRACE_S = 600
"""The time after that for open calls to end. Clients open broken streams again."""

OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_connection_age_ms", MAX_CONNECTION_S * 1000),
    ("grpc.max_connection_age_grace_ms", MAX_CONNECTION_GRACE_S * 1000),
]


class Certificates(Protocol):
    """Certificates that can be used, in PEM; see `certificate_files.Certificates`."""

    @property
    def chain(self) -> bytes: ...

    @property
    def key(self) -> bytes: ...

    @property
    def client_ca(self) -> bytes | None: ...


class Keeper(Protocol):
    """Has the present certificates."""

    @property
    def current(self) -> Certificates: ...


class Tls:
    """Makes the credentials of addresses.

    token_addresses: where callers show no certificate, although there is an authority for them.
    """

    def __init__(self, keeper: Keeper, token_addresses: Collection[str] = ()) -> None:
        self._keeper = keeper
        self._token_addresses = frozenset(token_addresses)

    def demands_certificate(self, address: str) -> bool:
        """Return whether callers can connect to an address only with a certificate."""
        has_authority = self._keeper.current.client_ca is not None
        return has_authority and address not in self._token_addresses

    def credentials(self, address: str) -> grpc.ServerCredentials:
        """Return credentials that show the newest certificate to each new connection."""
        demands = self.demands_certificate(address)
        given = self._keeper.current

        def newest() -> Any:  # noqa: ANN401 - the stubs do not know None
            # Called by gRPC's threads, before each handshake. None: as before.
            nonlocal given
            now = self._keeper.current
            if now is given:
                return None
            given = now
            return _configuration(now, demands=demands)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(given, demands=demands), newest, require_client_authentication=demands
        )


def _configuration(
    certificates: Certificates, *, demands: bool
) -> grpc.ServerCertificateConfiguration:
    roots = certificates.client_ca if demands else None
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=roots
    )
