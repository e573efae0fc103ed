"""Claims about members that register themselves in etcd, where a front finds them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.fleet.hosts.fronts import Front, FrontSettings, start_front
from tests.fleet.hosts.led_fleets import EtcdHost, start_etcd, until_true
from tests.fleet.hosts.members import FRONT, PORT, Member, Members, MemberSettings
from tests.fleet.hosts.network import Host, Network
from tests.toolchain import needed

MODELS = ("one", "two", "three", "four")
LIMIT_S = 60.0
LEASE_S = 10.0
BUSY_S = 20.0
"""The time that a busy machine may add to any other."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A front that looks for its members in etcd. made: starts members."""

    network: Network
    etcd: EtcdHost
    made: Members
    front: Front
    client: PoolClient

    def start(self, host: Host, *arguments: str) -> Member:
        """Start a member on a host, which registers itself."""
        return self.made.start(host, registering(host, self.etcd), *arguments)

    def is_registered(self, member: Member) -> bool:
        return self.etcd.get(f"members/{member.host.name}") == member.address

    def told(self, member: Member, what: str) -> bool:
        """Return whether the front has logged something of a member."""
        lines = self.front.log.read_text().splitlines()
        return any(what in line and f"member={member.host.name}" in line for line in lines)


def registering(host: Host, etcd: EtcdHost) -> MemberSettings:
    return MemberSettings(
        models=dict.fromkeys(MODELS, "100 MiB"),
        client="fleet = true",
        more=f"""
[fleet]
name = "{host.name}"
advertise = "{host.address}"
registry = "{etcd.engine}"
registered_address = "{host.address}:{PORT}"
{etcd.section()}""",
    )


@pytest.fixture
def fleet(network: Network, tmp_path: Path) -> Iterator[Fleet]:
    needed("etcd")
    etcd, made = start_etcd(network.add("etcd")), Members(tmp_path)
    settings = FrontSettings(f'discovery = "{etcd.engine}"', etcd.section())
    front = start_front(network.add("front"), [], made.credentials[FRONT], settings)
    with front.client() as client:
        yield Fleet(network, etcd, made, front, client)


def test_a_front_finds_members_as_they_register_and_forgets_one_whose_lease_is_over(
    fleet: Fleet,
) -> None:
    one = fleet.start(fleet.network.add("a"))
    assert fleet.client.ensure("one", timeout=LIMIT_S).server.host == "a"
    other = fleet.start(fleet.network.add("b"))
    until_true(lambda: fleet.told(other, "a member is seen"))
    assert fleet.is_registered(one)
    one.host.kill()
    killed = time.monotonic()
    assert fleet.client.ensure("one", timeout=LIMIT_S).server.host == "b"
    until_true(lambda: not fleet.is_registered(one))
    took = time.monotonic() - killed
    print(f"member killed: no longer registered after {took:.1f} s")
    assert took < LEASE_S + BUSY_S
    # Not even its absence is told any more.
    until_true(lambda: not any("a:" in one for one in notices(fleet)))
    one.host.boot()
    fleet.start(one.host)
    until_true(lambda: fleet.is_registered(one))
    assert other.stop() == 0
    assert not fleet.is_registered(other)
    assert fleet.client.ensure("two", timeout=LIMIT_S).server.host == "a"


def notices(fleet: Fleet) -> tuple[str, ...]:
    return tuple(next(fleet.client.pages(timeout=LIMIT_S)).notices)


def test_a_member_that_is_replaced_is_not_lost_and_keeps_its_models(fleet: Fleet) -> None:
    first = fleet.start(fleet.network.add("a"))
    fleet.start(fleet.network.add("b"))
    before = {model: fleet.client.ensure(model, timeout=LIMIT_S).server for model in MODELS}
    second = fleet.start(first.host, "--replace")
    assert first.process.wait(LIMIT_S) == 0
    after = {model: fleet.client.ensure(model, timeout=LIMIT_S).server for model in MODELS}
    assert {model: one.endpoint for model, one in after.items()} == {
        model: one.endpoint for model, one in before.items()
    }
    assert fleet.is_registered(second)
    assert not fleet.told(first, "a member is lost")


def test_while_etcd_is_away_the_front_keeps_its_members_and_a_new_one_waits_for_it(
    fleet: Fleet,
) -> None:
    one = fleet.start(fleet.network.add("a"))
    assert fleet.client.ensure("one", timeout=LIMIT_S).server.host == "a"
    fleet.etcd.host.lose()
    other = fleet.start(fleet.network.add("b"))
    assert other.local_command("ensure", "two").returncode == 0
    until_true(lambda: "it is not registered" in other.local_command("list").stderr)
    assert fleet.client.ensure("three", timeout=LIMIT_S).server.host == "a"
    fleet.etcd.host.boot()
    fleet.etcd.process.start()
    until_true(lambda: fleet.told(other, "a member is seen"))
    until_true(lambda: fleet.is_registered(one))
    assert fleet.client.ensure("two", timeout=LIMIT_S).server.host == "b"
