"""An API server for the tests: the real one if its program is named, else the fake one."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fleet.engines.etcd_process import etcd
from tests.fleet.engines.kubernetes.api_server import ApiServer, Kubectl
from tests.fleet.engines.kubernetes.fake_api_server import FakeApiServer
from tests.fleet.engines.kubernetes.kube_apiserver import KubeApiServer
from tools.bench.turns import free_ports

REAL = os.environ.get("POOL_TESTS_KUBE_APISERVER", "")


@pytest.fixture(scope="session")
def kube_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer | None]:
    """Yield the real API server; None: its program is not named."""
    if not REAL:
        yield None
        return
    directory = tmp_path_factory.mktemp("kube-apiserver")
    with etcd(directory / "etcd") as store:
        server = KubeApiServer(REAL, directory, store)
        try:
            server.begin()
            yield server
        finally:
            server.end()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeApiServer]:
    """Yield an API server whose tokens and changes the test may alter."""
    server = FakeApiServer(free_ports(1), tmp_path)
    await server.start()
    try:
        yield server
    finally:
        server.resume()
        await server.kill()


@pytest.fixture
def server(kube_apiserver: KubeApiServer | None, request: pytest.FixtureRequest) -> ApiServer:
    """Return the API server for tests of what both do."""
    if kube_apiserver is not None:
        return kube_apiserver
    found: FakeApiServer = request.getfixturevalue("fake")
    return found


@pytest.fixture
async def kubectl(server: ApiServer) -> AsyncIterator[Kubectl]:
    """Yield what changes the objects of the API server."""
    administrator = Kubectl(server.access)
    yield administrator
    await administrator.close()
