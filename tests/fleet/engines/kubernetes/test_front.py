"""Whole fronts, started by the command, that ask an API server for the members and the leader."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pool_service_client import AsyncPoolClient
from tests.certificates import LOCAL, Authority
from tests.fleet.engines.kubernetes.api_server import LEASES, SLICES, Kubectl, endpoint, slice_of
from tests.fleet.engines.kubernetes.fake_api_server import FakeApiServer
from tests.fleet.engines.told import LIMIT_S
from tools.bench.turns import free_ports
from tools.demo.service import command

pytestmark = pytest.mark.process


def configuration(directory: Path, port: int, more: str) -> Path:
    authority = Authority("of the fleet")
    (directory / "fleet-ca.pem").write_bytes(authority.certificate)
    cert, key = authority.issue(*LOCAL).write(directory, "front")
    file = directory / f"fleet-{port}.toml"
    file.write_text(f"""
[front]
listen = ["127.0.0.1:{port}"]
address = "127.0.0.1:{port}"
leader = "kubernetes:default/fleet"
discovery = "kubernetes:default/members"
[member_tls]
ca = "{directory / "fleet-ca.pem"}"
cert = "{cert}"
key = "{key}"
{more}
""")
    return file


@asynccontextmanager
async def front(file: Path) -> AsyncIterator[None]:
    """Run a front, which is SERVING, while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *command("fleet", "serve", "--config", str(file)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        async with asyncio.timeout(LIMIT_S):
            assert b"listening" in await process.stdout.readline()
        yield
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_fronts_know_the_members_and_the_leader_by_kubernetes(
    fake: FakeApiServer, tmp_path: Path
) -> None:
    kubectl = Kubectl(fake.access)
    silent = endpoint("127.0.0.1", node="mac-1")
    ports = [("grpc", free_ports(1))]
    await kubectl.create(SLICES, slice_of("members", "a", [silent], ports=ports))
    more = f'[kubernetes]\nserver = "{fake.access.server}"\ntoken_file = "{fake.token}"\n'
    first, second = free_ports(2), free_ports(2)
    async with front(configuration(tmp_path, first, more)):
        held = await kubectl.get(f"{LEASES}/fleet")
        assert held["spec"]["holderIdentity"].startswith(f"127.0.0.1:{first}/")
        async with (
            front(configuration(tmp_path, second, more)),
            AsyncPoolClient.connect(f"127.0.0.1:{second}") as client,
        ):
            page = await anext(client.pages())
            assert any("mac-1" in notice for notice in page.notices)
    # Each has left the Lease at its end.
    assert not (await kubectl.get(f"{LEASES}/fleet"))["spec"]["holderIdentity"]
    await kubectl.close()


def test_a_front_in_no_pod_is_told_what_to_set(tmp_path: Path) -> None:
    file = configuration(tmp_path, free_ports(1), "")
    environ = {key: value for key, value in os.environ.items() if "KUBERNETES" not in key}
    ended = subprocess.run(
        command("fleet", "serve", "--config", str(file)),
        capture_output=True,
        text=True,
        env=environ,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "is in no pod of Kubernetes" in ended.stderr
    assert "set kubernetes.server" in ended.stderr


def test_a_front_without_the_extra_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "aiohttp.py").write_text("raise ImportError('none here', name='aiohttp')")
    file = configuration(tmp_path, free_ports(1), "")
    ended = subprocess.run(
        command("fleet", "serve", "--config", str(file)),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "pip install 'pool-service[kubernetes]'" in ended.stderr
    assert "Traceback" not in ended.stderr
