"""Members in a Service; with POOL_TESTS_KUBE_APISERVER of a real API server."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager

import pytest

from pool_service.fleet.engines.kubernetes.access import Access
from pool_service.fleet.engines.kubernetes.client import Event, KubernetesClient
from pool_service.fleet.engines.kubernetes.membership import ServiceMembership
from tests.fleet.engines.kubernetes.api_server import (
    LEASES,
    NAMESPACE,
    SLICES,
    ApiServer,
    Kubectl,
    endpoint,
    slice_of,
)
from tests.fleet.engines.kubernetes.fake_api_server import FakeApiServer
from tests.fleet.engines.told import LIMIT_S, Told, following, logged

pytestmark = pytest.mark.process

ONE = endpoint("10.1.0.5", node="mac-1")
TWO = endpoint("10.1.0.6", node="mac-2")
MEMBER_ONE = {"mac-1": "10.1.0.5:50051"}
MEMBER_TWO = {"mac-2": "10.1.0.6:50051"}


@pytest.fixture
async def service(kubectl: Kubectl) -> str:
    """Return a Service's name, which has no slices yet."""
    for name in ("a", "b", "other"):
        await kubectl.delete_if_there(SLICES, name)
    return "members"


@contextmanager
def members_told(
    access: Access, service: str, watch_s: float = 30.0, port: int | str | None = None
) -> Iterator[Told[Mapping[str, str]]]:
    membership = ServiceMembership(
        KubernetesClient(access), namespace=NAMESPACE, service=service, port=port, watch_s=watch_s
    )
    with following(membership) as told:
        yield told


class CountingClient(KubernetesClient):
    """Counts the watches that begin."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self.watches: Told[int] = Told()

    def watch(
        self, path: str, version: str, watch_s: float, **parameters: str
    ) -> AsyncGenerator[Event]:
        self.watches(len(self.watches.all) + 1)
        return super().watch(path, version, watch_s, **parameters)


async def test_members_come_and_go_with_their_endpoints(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE]))
    with members_told(server.access, service) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await kubectl.replace(f"{SLICES}/a", endpoints=[ONE, TWO])
        await told.until(lambda known: known == MEMBER_ONE | MEMBER_TWO)
        await kubectl.replace(f"{SLICES}/a", endpoints=[TWO])
        await told.until(lambda known: known == MEMBER_TWO)
        await kubectl.replace(f"{SLICES}/a", endpoints=[])
        await told.until(lambda known: known == {})


async def test_members_of_all_slices_of_this_service_alone_are_told(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE]))
    await kubectl.create(SLICES, slice_of("something-else", "other", [endpoint("10.1.0.9")]))
    with members_told(server.access, service) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await kubectl.create(SLICES, slice_of(service, "b", [TWO]))
        await told.until(lambda known: known == MEMBER_ONE | MEMBER_TWO)
        await kubectl.delete(f"{SLICES}/a")
        await told.until(lambda known: known == MEMBER_TWO)


async def test_a_pod_that_is_replaced_on_its_node_is_the_same_member_elsewhere(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE]))
    leaving = {"ready": False, "serving": True, "terminating": True}
    new = endpoint("10.1.0.7", node="mac-1")
    with members_told(server.access, service) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await kubectl.replace(f"{SLICES}/a", endpoints=[{**ONE, "conditions": leaving}, new])
        await told.until(lambda known: known == {"mac-1": "10.1.0.7:50051"})
        assert told.all == [MEMBER_ONE, {"mac-1": "10.1.0.7:50051"}]


async def test_a_service_that_nothing_fills_is_told_in_the_log_and_found_when_it_comes(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    with logged() as logs, members_told(server.access, service) as told:
        entry = await logs.until(lambda entry: True)
        assert "default/members" in entry["reason"]
        await kubectl.create(SLICES, slice_of(service, "a", []))
        await told.until(lambda known: known == {})


async def test_the_last_members_hold_while_the_service_is_deleted(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE]))
    with logged() as logs, members_told(server.access, service) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await kubectl.delete(f"{SLICES}/a")
        await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
        assert told.all == [MEMBER_ONE]


async def test_a_port_that_the_service_has_not_is_told_and_found_when_it_comes(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE], ports=[("metrics", 9090)]))
    with logged() as logs, members_told(server.access, service, port="control") as told:
        entry = await logs.until(lambda entry: True)
        assert "no port 'control'" in entry["reason"]
        ports = [{"name": "control", "port": 7000, "protocol": "TCP"}]
        await kubectl.replace(f"{SLICES}/a", ports=ports)
        await told.until(lambda known: known == {"mac-1": "10.1.0.5:7000"})


async def test_the_last_members_hold_while_the_api_server_is_away(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE]))
    with logged() as logs, members_told(server.access, service) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await server.kill()
        await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
        await server.start()
        await logs.until(lambda entry: entry["event"] == "fleet_engine_answers_again")
        assert told.all == [MEMBER_ONE]
        await kubectl.replace(f"{SLICES}/a", endpoints=[ONE, TWO])
        await told.until(lambda known: known == MEMBER_ONE | MEMBER_TWO)


async def test_a_watch_goes_on_where_the_one_before_has_ended(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    await kubectl.create(SLICES, slice_of(service, "a", [ONE]))
    client = CountingClient(server.access)
    membership = ServiceMembership(client, namespace=NAMESPACE, service=service, watch_s=1.0)
    with logged() as logs, following(membership) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await client.watches.until(lambda count: count >= 3)
        await kubectl.replace(f"{SLICES}/a", endpoints=[TWO])
        await told.until(lambda known: known == MEMBER_TWO)
        begun = client.watches.last
        await client.watches.until(lambda count: count >= begun + 2)
        await kubectl.replace(f"{SLICES}/a", endpoints=[ONE])
        await told.until(lambda known: known == MEMBER_ONE)
        assert logs.all == []


async def test_a_connection_that_hangs_is_left(fake: FakeApiServer) -> None:
    administrator = Kubectl(fake.access)
    await administrator.create(SLICES, slice_of("members", "a", [ONE]))
    with logged() as logs, members_told(fake.access, "members", watch_s=1.0) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        fake.pause()
        await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
        fake.resume()
        await logs.until(lambda entry: entry["event"] == "fleet_engine_answers_again")
        await administrator.replace(f"{SLICES}/a", endpoints=[TWO])
        await told.until(lambda known: known == MEMBER_TWO)
    await administrator.close()


async def test_members_are_listed_anew_when_changes_were_forgotten(fake: FakeApiServer) -> None:
    administrator = Kubectl(fake.access)
    await administrator.create(SLICES, slice_of("members", "a", [ONE]))
    fake.bookmarks = False
    with logged() as logs, members_told(fake.access, "members", watch_s=1.0) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        # Of another collection: the watch of slices stays at the version of its list.
        await administrator.create(LEASES, {"metadata": {"name": "any"}, "spec": {}})
        fake.forget_changes()
        async with asyncio.timeout(LIMIT_S):
            await fake.expired.wait()
        await administrator.replace(f"{SLICES}/a", endpoints=[TWO])
        await told.until(lambda known: known == MEMBER_TWO)
        assert logs.all == []
    await administrator.close()


async def test_two_ready_pods_of_one_node_are_told_once(
    server: ApiServer, kubectl: Kubectl, service: str
) -> None:
    pods = [
        endpoint("10.1.0.5", node="mac-1", pod="a"),
        endpoint("10.1.0.6", node="mac-1", pod="b"),
    ]
    await kubectl.create(SLICES, slice_of(service, "a", pods))
    with logged() as logs, members_told(server.access, service) as told:
        await told.until(lambda known: known == MEMBER_ONE)
        await kubectl.replace(f"{SLICES}/a", endpoints=[*pods, TWO])
        await told.until(lambda known: known == MEMBER_ONE | MEMBER_TWO)
    assert [(entry["event"], entry["name"], entry["pods"]) for entry in logs.all] == [
        ("fleet_name_taken", "mac-1", ("a", "b"))
    ]
