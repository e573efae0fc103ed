import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Script, ready


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text without colours in it, in ASCII, so that it is found in what was written."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("LC_ALL", "C")


@pytest.fixture
def service(service: Script) -> Script:
    """Return a service with a READY server, which tells no change."""
    service.answer("List", pb.ListResponse(servers=[ready()], totals=pb.PoolTotals(servers=1)))
    service.answer("ListModels", pb.ListModelsResponse())
    service.answer("Describe", pb.DescribeResponse(model="m"))
    return service
