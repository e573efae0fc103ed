"""Where a client speaks TLS, whom it trusts there, and what it shows."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pool_service_client import AsyncPoolClient, PoolClient, PoolUnavailable, RetryPolicy
from pool_service_client.tls import TlsOptions, tls_for
from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1 import pool_service_pb2_grpc as pb_grpc
from tests.certificates import LOCAL, Authority, Issued, dns, uri, written

AUTHORITY, CALLERS, OTHER = (Authority(name) for name in ("authority", "callers", "other"))
ENGINE = CALLERS.issue(uri("spiffe://home/engine"))
NOTHING = TlsOptions()
ONCE = RetryPolicy(attempts=1)
FAR = [
    "192.0.2.1:50051",
    "0.0.0.0:50051",
    "128.0.0.1:50051",
    "[::]:50051",
    "[2001:db8::1]:50051",
    "localhost.example:50051",
    "127.0.0.1.example:50051",
    "this-very-machine:50051",
]
NEAR = ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "localhost:1", "LOCALHOST:1"]
SOCKETS = ["unix:/a", "unix:b"]


class Telling(pb_grpc.PoolServiceServicer):
    """Tells a caller the token and the names of the certificate that it shows."""

    def Forget(  # noqa: N802 - its name on the wire
        self,
        _: pb.ForgetRequest,
        context: Any,  # noqa: ANN401 - its types are wrong
    ) -> pb.ForgetResponse:
        names = context.auth_context().get("x509_subject_alternative_name") or ()
        token = dict(context.invocation_metadata()).get("authorization", "")
        shown = [str(token), *(name.decode() for name in names)]
        return pb.ForgetResponse(runtime_model=" ".join(filter(None, shown)))


@contextmanager
def service(issued: Issued, client_ca: Authority | None = None) -> Iterator[int]:
    """A service with a certificate, which may demand one of its callers; yields its port."""
    with ThreadPoolExecutor() as threads:
        server = grpc.server(threads)
        pb_grpc.add_PoolServiceServicer_to_server(Telling(), server)  # type: ignore[abstract]
        credentials = grpc.ssl_server_credentials(
            [(issued.key, issued.chain)],
            root_certificates=client_ca.certificate if client_ca else None,
            require_client_auth=client_ca is not None,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield port
        server.stop(None)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return written(tmp_path / "ca.pem", AUTHORITY.certificate)


@pytest.mark.parametrize("address", FAR)
def test_to_another_machine_a_client_always_speaks_tls(address: str) -> None:
    assert tls_for(address, NOTHING, {}) is not None


@pytest.mark.parametrize("address", NEAR + SOCKETS)
def test_on_this_machine_it_does_not_whatever_the_variables_say(address: str, ca: Path) -> None:
    assert tls_for(address, NOTHING, {}) is None
    assert tls_for(address, NOTHING, {"POOL_SERVICE_CA": str(ca)}) is None


@pytest.mark.parametrize("address", NEAR)
def test_by_loopback_it_does_if_that_is_asked_for(address: str, ca: Path) -> None:
    assert tls_for(address, TlsOptions(ca=ca), {}) is not None
    assert tls_for(address, TlsOptions(server_name="pool.example"), {}) is not None


@pytest.mark.parametrize("address", SOCKETS)
def test_by_a_socket_that_is_refused(address: str, ca: Path) -> None:
    with pytest.raises(ValueError, match="no TLS by a unix socket"):
        tls_for(address, TlsOptions(ca=ca), {})


def test_a_client_calls_the_service_that_it_trusts_and_no_other(ca: Path, tmp_path: Path) -> None:
    wrong = written(tmp_path / "wrong.pem", OTHER.certificate)
    with service(AUTHORITY.issue(*LOCAL)) as port:
        with PoolClient.connect(f"localhost:{port}", ca=ca) as pool:
            assert pool.forget("m") == ""
        with (
            PoolClient.connect(f"localhost:{port}", ca=wrong, retry=ONCE) as pool,
            pytest.raises(PoolUnavailable, match="certificate is not accepted: unable to get"),
        ):
            pool.forget("m")


async def test_so_does_the_client_for_asyncio(ca: Path, tmp_path: Path) -> None:
    wrong = written(tmp_path / "wrong.pem", OTHER.certificate)
    with service(AUTHORITY.issue(*LOCAL)) as port:
        async with AsyncPoolClient.connect(f"localhost:{port}", ca=ca, token="hush") as pool:
            assert await pool.forget("m") == "Bearer hush"
        async with AsyncPoolClient.connect(f"localhost:{port}", ca=wrong, retry=ONCE) as pool:
            with pytest.raises(PoolUnavailable, match="certificate is not accepted: unable to get"):
                await pool.forget("m")


def test_the_variables_say_the_same_for_another_machine(
    ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = ENGINE.write(tmp_path, "engine")
    monkeypatch.setattr("pool_service_client.tls.is_this_machine", lambda _: False)
    for name, value in (
        ("CA", ca),
        ("CERT", cert),
        ("KEY", key),
        ("SERVER_NAME", "pool.example"),
        ("TOKEN", "hush"),
    ):
        monkeypatch.setenv(f"POOL_SERVICE_{name}", str(value))
    with (
        service(AUTHORITY.issue(dns("pool.example")), CALLERS) as port,
        PoolClient.connect(f"localhost:{port}") as pool,
    ):
        assert pool.forget("m") == "Bearer hush spiffe://home/engine"


def test_the_name_of_the_service_is_checked_and_can_be_another(ca: Path) -> None:
    with service(AUTHORITY.issue(dns("pool.example"))) as port:
        address = f"localhost:{port}"
        with (
            PoolClient.connect(address, ca=ca, retry=ONCE) as pool,
            pytest.raises(PoolUnavailable, match="certificate is not accepted: Hostname"),
        ):
            pool.forget("m")
        with PoolClient.connect(address, ca=ca, server_name="pool.example") as pool:
            assert pool.forget("m") == ""


def test_what_is_given_goes_before_the_variables(ca: Path, tmp_path: Path) -> None:
    cert, key = ENGINE.write(tmp_path, "engine")
    wrong = {"POOL_SERVICE_CA": "/none", "POOL_SERVICE_CERT": "/none", "POOL_SERVICE_KEY": "/none"}
    assert tls_for("far:1", TlsOptions(ca, cert, key), wrong) is not None
    # A pair is of one source.
    with pytest.raises(ValueError, match="give the key, too"):
        tls_for("far:1", TlsOptions(ca, cert), {"POOL_SERVICE_KEY": str(key)})


def no_key(cert: Path, key: Path) -> TlsOptions:
    return TlsOptions(cert=cert)


def no_cert(cert: Path, key: Path) -> TlsOptions:
    return TlsOptions(key=key)


def of_another(cert: Path, key: Path) -> TlsOptions:
    written(key, CALLERS.issue().key)
    return TlsOptions(cert=cert, key=key)


def with_password(cert: Path, key: Path) -> TlsOptions:
    written(key, ENGINE.encrypted_key(b"secret"))
    return TlsOptions(cert=cert, key=key)


def open_key(cert: Path, key: Path) -> TlsOptions:
    key.chmod(0o644)
    return TlsOptions(cert=cert, key=key)


def missing_key(cert: Path, key: Path) -> TlsOptions:
    key.unlink()
    return TlsOptions(cert=cert, key=key)


def no_pem(cert: Path, key: Path) -> TlsOptions:
    written(cert, b"no PEM")
    return TlsOptions(cert=cert, key=key)


def no_ca(cert: Path, key: Path) -> TlsOptions:
    return TlsOptions(ca=written(cert.parent / "ca.pem", b"no PEM"))


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (no_key, "give the key, too"),
        (no_cert, "give the cert, too"),
        (of_another, "do not belong together"),
        (with_password, "has a password"),
        (open_key, "is not private.*chmod 600"),
        (missing_key, "the key file .* cannot be read: No such file"),
        (no_pem, "not in PEM"),
        (no_ca, "has no certificates in PEM"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_call(
    tmp_path: Path, spoilt: Callable[[Path, Path], TlsOptions], told: str
) -> None:
    options = spoilt(*ENGINE.write(tmp_path, "engine"))
    with pytest.raises(ValueError, match=told):
        tls_for("far:1", options, {})
