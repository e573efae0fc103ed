"""Credentials, refusals and watches of the client of an API server."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.fleet.engines.kubernetes.access import (
    Access,
    OutsideCluster,
    access_of_pod,
    namespace_of_pod,
)
from pool_service.fleet.engines.kubernetes.client import KubernetesClient
from pool_service.fleet.engines.kubernetes.errors import (
    Absent,
    Expired,
    KubernetesError,
    Outrun,
    Refused,
    Unreachable,
)
from tests.certificates import Authority, written
from tests.fleet.engines.kubernetes.api_server import LEASES, SLICES, ApiServer, Kubectl, slice_of
from tests.fleet.engines.kubernetes.fake_api_server import FakeApiServer
from tools.bench.turns import free_ports

pytestmark = pytest.mark.process


async def test_of_two_writers_of_one_version_the_second_is_refused(
    server: ApiServer, kubectl: Kubectl
) -> None:
    await kubectl.delete_if_there(LEASES, "conflict")
    client = KubernetesClient(server.access)
    body = {"metadata": {"name": "conflict"}, "spec": {}}
    with pytest.raises(Absent):
        await client.get(f"{LEASES}/conflict")
    first = await client.create(LEASES, body)
    with pytest.raises(Outrun):
        await client.create(LEASES, body)
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 3}
    second = await client.replace(f"{LEASES}/conflict", {**first, "spec": spec})
    with pytest.raises(Outrun):
        await client.replace(f"{LEASES}/conflict", {**first, "spec": spec})
    versions = [int(one["metadata"]["resourceVersion"]) for one in (first, second)]
    assert versions[0] < versions[1]
    await kubectl.delete(f"{LEASES}/conflict")
    # An API server creates a Lease that is replaced, unless what is replaced has an identity.
    with pytest.raises((Absent, Outrun)):
        await client.replace(f"{LEASES}/conflict", second)
    third = await client.create(LEASES, body)
    assert int(third["metadata"]["resourceVersion"]) > versions[1]
    await client.close()


async def test_a_watch_of_changes_that_are_forgotten_is_refused(server: ApiServer) -> None:
    # The real one keeps those since its start.
    await server.kill()
    await server.start()
    client = KubernetesClient(server.access)
    with pytest.raises(Expired):
        async for _ in client.watch(SLICES, "1", 30.0):
            pass
    await client.close()


async def test_a_watch_ends_in_time_and_tells_a_version(server: ApiServer) -> None:
    client = KubernetesClient(server.access)
    listing = await client.get(SLICES)
    version = listing["metadata"]["resourceVersion"]
    kinds = [event.kind async for event in client.watch(SLICES, version, 1.0)]
    assert set(kinds) <= {"BOOKMARK"}
    await client.close()


async def test_a_large_change_is_read_as_a_whole(server: ApiServer, kubectl: Kubectl) -> None:
    await kubectl.delete_if_there(SLICES, "large")
    client = KubernetesClient(server.access)
    version = (await client.get(SLICES))["metadata"]["resourceVersion"]
    endpoints = [
        {"addresses": [f"10.1.{n // 250}.{n % 250 + 1}"], "nodeName": f"node-{n:0200}"}
        for n in range(1000)
    ]
    await kubectl.create(SLICES, slice_of("large", "large", endpoints))
    events = client.watch(SLICES, version, 30.0)
    event = await anext(events)
    await events.aclose()
    assert len(json.dumps(event.object)) > 250_000
    assert len(event.object["endpoints"]) == 1000
    await kubectl.delete(f"{SLICES}/large")
    await client.close()


async def test_a_token_that_was_replaced_is_shown(fake: FakeApiServer) -> None:
    client = KubernetesClient(fake.access)
    await client.get(LEASES)
    fake.tokens = {"second"}
    with pytest.raises(Refused, match="401"):
        await client.get(LEASES)
    fake.token.write_text("second\n")
    await client.get(LEASES)
    await client.close()


async def test_a_missing_token_is_told(fake: FakeApiServer) -> None:
    client = KubernetesClient(fake.access)
    fake.token.unlink()
    with pytest.raises(Unreachable, match="cannot read the token"):
        await client.get(LEASES)
    await client.close()


async def test_an_address_where_nothing_listens_is_told(fake: FakeApiServer) -> None:
    await fake.kill()
    client = KubernetesClient(fake.access)
    with pytest.raises(Unreachable, match="does not answer"):
        await client.get(LEASES)
    with pytest.raises(Unreachable, match="does not answer"):
        async for _ in client.watch(LEASES, "1", 30.0):
            pass
    await client.close()


async def test_what_is_no_api_server_is_told(fake: FakeApiServer) -> None:
    fake.nonsense = b"<html>"
    client = KubernetesClient(fake.access)
    with pytest.raises(KubernetesError):
        await client.get(LEASES)
    with pytest.raises(KubernetesError):
        async for _ in client.watch(LEASES, "1", 1.0):
            pass
    await client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"items": null, "metadata": {"resourceVersion": "1"}}',
        b'{"items": [{"metadata": {}}], "metadata": {"resourceVersion": "1"}}',
        b'{"items": ["one"], "metadata": {"resourceVersion": "1"}}',
        b'{"items": [], "metadata": {}}',
    ],
)
async def test_an_answer_that_is_no_list_is_a_failure_of_the_server(
    fake: FakeApiServer, answer: bytes
) -> None:
    fake.nonsense = answer
    client = KubernetesClient(fake.access)
    with pytest.raises(KubernetesError):
        async for _ in client.follow(SLICES):
            pass
    await client.close()


@pytest.mark.parametrize(
    "change",
    [
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "1"}}}\n',
        b'{"type": "ADDED", "object": null}\n',
        b'{"type": "ERROR", "object": []}\n',
        b"[]\n",
    ],
)
async def test_an_answer_that_is_no_change_is_a_failure_of_the_server(
    fake: FakeApiServer, change: bytes
) -> None:
    fake.nonsense = change
    client = KubernetesClient(fake.access)
    with pytest.raises(KubernetesError):
        async for _ in client.watch(SLICES, "1", 30.0):
            pass
    await client.close()


def account(directory: Path) -> Path:
    for name, text in (("token", "t"), ("ca.crt", "c"), ("namespace", "fleet\n")):
        (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
def test_a_pod_knows_its_api_server(tmp_path: Path, host: str, server: str) -> None:
    files = account(tmp_path)
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    assert access_of_pod(environ, files) == Access(
        server=server, ca=files / "ca.crt", token=files / "token"
    )
    assert namespace_of_pod(files) == "fleet"


def test_whoever_is_in_no_pod_is_told_what_is_missing(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(OutsideCluster, match="KUBERNETES_SERVICE_HOST"):
        access_of_pod({}, account(tmp_path))
    with pytest.raises(OutsideCluster, match="no service account"):
        access_of_pod(environ, tmp_path / "none")
    with pytest.raises(OutsideCluster, match="namespace"):
        namespace_of_pod(tmp_path / "none")


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[FakeApiServer, Authority]]:
    """Yield an API server with TLS that asks for certificates, and its authority."""
    authority = Authority("of the cluster")
    server = FakeApiServer(free_ports(1), tmp_path, authority)
    await server.start()
    yield server, authority
    await server.kill()


async def test_an_authority_and_a_certificate_that_come_late_are_read_without_a_restart(
    secure: tuple[FakeApiServer, Authority], tmp_path: Path
) -> None:
    server, authority = secure
    chain, key = Authority("of nobody").issue(common_name="front").write(tmp_path, "front")
    written(server.ca, Authority("of another").certificate)
    client = KubernetesClient(replace(server.access, cert=chain, key=key))
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await client.get(LEASES)
    written(server.ca, authority.certificate)
    with pytest.raises(Unreachable):
        await client.get(LEASES)
    key.unlink()
    with pytest.raises(Unreachable, match="cannot use the certificates"):
        await client.get(LEASES)
    authority.issue(common_name="front").write(tmp_path, "front")
    await client.get(LEASES)
    await client.close()
