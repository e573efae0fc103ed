"""Claims about a front before members on several hosts."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.fleet.hosts.fronts import Front, start_front
from tests.fleet.hosts.members import FRONT, Member, Members, MemberSettings, reaches
from tests.fleet.hosts.network import Network

HOSTS = ("a", "b", "c")
MODELS = tuple(f"org/m{number}" for number in range(9))
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Three members, and a front on a host of its own."""

    network: Network
    members: dict[str, Member]
    front: Front
    client: PoolClient


@pytest.fixture
def fleet(network: Network, tmp_path: Path) -> Iterator[Fleet]:
    made = Members(tmp_path)
    members = {}
    for name in HOSTS:
        host = network.add(name)
        settings = MemberSettings(
            models=dict.fromkeys(MODELS, "100 MiB"),
            client="fleet = true",
            more=f'[fleet]\nname = "{name}"\nadvertise = "{host.address}"\n',
        )
        members[name] = made.start(host, settings)
    credentials = made.credentials[FRONT]
    front = start_front(network.add("front"), list(members.values()), credentials)
    with front.client() as client:
        yield Fleet(network, members, front, client)


def ensure_all(fleet: Fleet) -> dict[str, str]:
    """Return the host of each model, all asked for at once."""
    with ThreadPoolExecutor(len(MODELS)) as pool:
        found = pool.map(lambda model: fleet.client.ensure(model, timeout=LIMIT_S), MODELS)
        return {one.server.model: one.server.endpoint for one in found}


def host_of(fleet: Fleet, endpoint: str) -> str:
    address = endpoint.removeprefix("http://").rpartition(":")[0]
    return next(name for name, one in fleet.members.items() if one.host.address == address)


def test_a_herd_of_models_is_spread_and_each_is_reached_from_another_host(fleet: Fleet) -> None:
    endpoints = ensure_all(fleet)
    spread = Counter(host_of(fleet, endpoint) for endpoint in endpoints.values())
    told = fleet.front.log.read_text()
    # A member that answers late on a busy machine gets less; otherwise all get the same.
    if "made no offer" not in told and "is not seen" not in told:
        assert spread == dict.fromkeys(HOSTS, 3), told
    assert reaches(fleet.front.host, endpoints[MODELS[0]])
    listed = fleet.client.list()
    assert {server.model: server.endpoint for server in listed} == endpoints
    # Asked again, each is where it was.
    assert ensure_all(fleet) == endpoints


def test_the_models_of_a_lost_host_start_elsewhere_when_they_are_asked_for(fleet: Fleet) -> None:
    before = ensure_all(fleet)
    lost = host_of(fleet, before[MODELS[0]])
    fleet.members[lost].host.lose()
    after = ensure_all(fleet)
    assert all(host_of(fleet, endpoint) != lost for endpoint in after.values())
    stayed = {model for model, endpoint in before.items() if host_of(fleet, endpoint) != lost}
    assert {model: after[model] for model in stayed} == {model: before[model] for model in stayed}


def test_a_front_that_was_killed_is_followed_by_one_that_finds_everything(fleet: Fleet) -> None:
    before = ensure_all(fleet)
    fleet.front.process.kill()
    fleet.front.process.wait()
    (fleet.front.host.directory / "front.sock").unlink()
    credentials = fleet.members["a"].credentials[FRONT]
    again = start_front(fleet.front.host, list(fleet.members.values()), credentials)
    with again.client() as client:
        assert {one.model: one.endpoint for one in client.list()} == before
        assert client.ensure(MODELS[0], timeout=LIMIT_S).server.endpoint == before[MODELS[0]]
