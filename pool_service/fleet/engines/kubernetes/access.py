"""The way to an API server: its address, and the files that are shown to it and checked."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pool_service.fleet.engines.kubernetes.errors import Unreachable

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The files of a pod's service account, which the kubelet replaces as they expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Says how an API server is reached. All files are read again when they have changed.

    Attributes:
        server: its URL, without a path.
        ca: the authorities of its certificate; None: those of the system.
        token: the file with the bearer token; None: none is sent.
        cert, key: the client certificate; None: none is shown.
        call_limit_s: how long it may take for an answer.
    """

    server: str
    ca: Path | None = None
    token: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    call_limit_s: float = 2.0


class OutsideCluster(Exception):
    """This process is in no pod; the text says what is missing."""


def access_of_pod(environ: Mapping[str, str], account: Path = ACCOUNT) -> Access:
    """Return the way to the API server of the cluster that this pod is in.

    Raises OutsideCluster.
    """
    host, port = (environ.get(f"KUBERNETES_SERVICE_{end}", "") for end in ("HOST", "PORT"))
    if not host or not port:
        raise OutsideCluster("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    if not (account / "token").exists():
        raise OutsideCluster(f"there is no {account / 'token'}: the pod has no service account")
    bracketed = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{bracketed}:{port}", ca=account / "ca.crt", token=account / "token"
    )


def namespace_of_pod(account: Path = ACCOUNT) -> str:
    """Return the namespace that this pod is in. Raises OutsideCluster."""
    file = account / "namespace"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise OutsideCluster(f"cannot read {file}: {error.strerror}") from error


class Credentials:
    """Reads the files of an Access, as they are now. Each method raises Unreachable."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._context: ssl.SSLContext | None = None
        self._read_from: tuple[object, ...] = ()

    def headers(self) -> dict[str, str]:
        """Return the headers of a call."""
        if self._access.token is None:
            return {}
        try:
            token = self._access.token.read_text().strip()
        except (OSError, ValueError) as error:
            raise Unreachable(self._access.server, f"cannot read the token: {error}") from error
        return {"Authorization": f"Bearer {token}"}

    def context(self) -> ssl.SSLContext:
        """Return what a connection is made with: the same one until a file changes."""
        access = self._access
        try:
            states = tuple(_state(file) for file in (access.ca, access.cert, access.key))
            if self._context is None or states != self._read_from:
                context = ssl.create_default_context(cafile=access.ca)
                if access.cert is not None:
                    context.load_cert_chain(access.cert, access.key, password=_refuse_password)
                self._context, self._read_from = context, states
        except (OSError, ValueError) as error:
            reason = f"cannot use the certificates: {error}"
            raise Unreachable(access.server, reason) from error
        return self._context


def _state(file: Path | None) -> tuple[int, int, int] | None:
    """Return what differs between two states of a file."""
    if file is None:
        return None
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")
