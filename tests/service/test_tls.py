"""Claims about a service that other machines reach, from its start to its end."""

import subprocess
from pathlib import Path

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import PoolClient
from tests.certificates import LOCAL, Authority, uri, written
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import command, running

pytestmark = pytest.mark.process

AUTHORITY = Authority("authority")
LISTEN = ("127.0.0.1:0", "0.0.0.0:0")
CONFIG = """
[service]
standby = 0
[tls]
cert = "service.pem"
key = "service.key"
client_ca = "authority.pem"
[clients.engine]
san = "spiffe://home/engine"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with certificates in the working directory."""
    monkeypatch.chdir(tmp_path)
    AUTHORITY.issue(*LOCAL).write(tmp_path, "service")
    written(tmp_path / "authority.pem", AUTHORITY.certificate)
    path = tmp_path / "pool.toml"
    path.write_text(CONFIG + FAKE_RUNTIME)
    return path


def listed(address: str, trusted: Authority) -> pb.ListResponse:
    """What a caller with a certificate is told, who trusts an authority. Raises RpcError."""
    engine = AUTHORITY.issue(uri("spiffe://home/engine"))
    shown = grpc.ssl_channel_credentials(trusted.certificate, engine.key, engine.chain)
    with grpc.secure_channel(f"localhost:{address.rpartition(':')[2]}", shown) as channel:
        answer: pb.ListResponse = pb_grpc.PoolServiceStub(channel).List(
            pb.ListRequest(), timeout=20
        )
        return answer


def test_certificates_are_replaced_without_a_restart_and_a_bad_one_is_told_of(
    config: Path,
) -> None:
    other = Authority("other")
    with (
        running(config.parent / "state", LISTEN, ["--config", str(config)]) as service,
        PoolClient.connect(service.addresses[0]) as pool,
    ):
        near = service.addresses[1]
        listed(near, AUTHORITY)
        with pytest.raises(grpc.RpcError):
            listed(near, other)
        # The key that comes after its certificate.
        newer = other.issue(*LOCAL)
        written(config.parent / "service.pem", newer.chain)
        (problem,) = pool.reload().problems
        assert "is not the key of" in problem
        assert next(pool.pages()).notices == (problem,)
        listed(near, AUTHORITY)
        written(config.parent / "service.key", newer.key)
        assert pool.reload().problems == ()
        assert next(pool.pages()).notices == ()
        listed(near, other)


def test_a_service_without_a_good_pair_does_not_start_and_says_why(config: Path) -> None:
    (config.parent / "service.key").chmod(0o644)
    serve = ("serve", "--config", str(config), "--state-dir", str(config.parent / "state"))
    done = subprocess.run(
        command(*serve, "--listen", "0.0.0.0:0"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pool-service: tls.key: other users can read the key" in done.stderr
    assert "chmod 600" in done.stderr
    assert not (config.parent / "state/lock").exists()
