"""Odd entries of a registry, which are left out, in words once."""

from pathlib import Path

import pytest

from pool_service.fleet.config import front_source
from pool_service.fleet.engine_choice import membership_of
from pool_service.fleet.engines.checked import CheckedMembership
from pool_service.fleet.engines.static import StaticMembership
from tests.fleet.engines.etcd_process import EtcdProcess, coded
from tests.fleet.engines.told import events, following, logged

GOOD = {"mac-1": "10.0.0.1:7070"}


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("mac-2", "foo"),
        ("mac-2", "10.0.0.2:abc"),
        ("mac-2", "10.0.0.2:0"),
        ("mac-2", "0.0.0.0:7070"),
        ("mac-2", ""),
        ("mac-2", "unix:/run/pool.sock"),
        ("mac-2", "unix:~nobody-at-all/\ufffd%"),
        ("", "10.0.0.2:7070"),
        ("mac 2", "10.0.0.2:7070"),
        ("mac-2/old", "10.0.0.2:7070"),
        ("m" * 65, "10.0.0.2:7070"),
    ],
)
async def test_what_is_no_member_is_left_out_and_told_once(name: str, address: str) -> None:
    listed = StaticMembership({**GOOD, name: address})
    with logged() as log, following(CheckedMembership(listed)) as told:
        assert await told.until(lambda known: True) == GOOD
        more = {**GOOD, "mac-3": "10.0.0.3:7070"}
        listed.replace({**more, name: address})
        await told.until(lambda known: known == more)
        assert events(log) == ["fleet_member_left_out"]
        assert log.last["name"] == name
        assert log.last["reason"]


async def test_an_entry_that_is_corrected_is_a_member() -> None:
    listed = StaticMembership({"mac-1": "foo"})
    with logged() as log, following(CheckedMembership(listed)) as told:
        assert await told.until(lambda known: True) == {}
        listed.replace({"mac-1": "bar"})
        await log.until(lambda entry: "bar" in entry["reason"])
        listed.replace(GOOD)
        await told.until(lambda known: known == GOOD)
        assert told.all == [{}, GOOD]


@pytest.mark.process
async def test_the_registry_of_a_front_is_checked(own_etcd: EtcdProcess, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(
        f'[front]\ndiscovery = "etcd:{own_etcd.endpoint}/test"\n'
        '[member_tls]\nca = "/f/ca"\ncert = "/f/cert"\nkey = "/f/key"\n'
    )
    members = membership_of(front_source(file, {}, {}).load())
    for name, address in {**GOOD, "mac-2": "foo"}.items():
        own_etcd.ask("kv/put", key=coded(f"test/members/{name}"), value=coded(address))
    with following(members) as told:
        assert await told.until(lambda known: True) == GOOD
