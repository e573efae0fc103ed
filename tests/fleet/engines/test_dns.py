import dns.rcode
import pytest

from pool_service.fleet.engines.checked import CheckedMembership
from pool_service.fleet.engines.dns import DnsMembership
from tests.fleet.engines.dns_server import DnsServer, serving
from tests.fleet.engines.told import events, following, logged

SERVICE = "_pool._tcp.fleet.example."
NAME = "fleet.example."
TWO = {(SERVICE, "SRV"): ["0 0 7070 mac-1.example.", "0 0 7071 mac-2.example."]}
ONE = {(SERVICE, "SRV"): ["0 0 7070 mac-1.example."]}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            ["0 0 7070 mac-1.example.", "0 0 7071 mac-2.example."],
            {"mac-1.example": "mac-1.example:7070", "mac-2.example": "mac-2.example:7071"},
        ),
        (
            ["0 0 7070 mac-1.example.", "0 0 7071 mac-1.example."],
            {
                "mac-1.example-7070": "mac-1.example:7070",
                "mac-1.example-7071": "mac-1.example:7071",
            },
        ),
        (["0 0 0 ."], {}),
    ],
    ids=["hosts", "ports of one host", "none"],
)
async def test_members_are_the_targets_of_srv_records(
    records: list[str], expected: dict[str, str]
) -> None:
    async with serving(DnsServer({(SERVICE, "SRV"): records})) as resolver:
        membership = CheckedMembership(DnsMembership(SERVICE, resolver=resolver))
        with following(membership) as told:
            assert await told.until(lambda known: True) == expected


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({(NAME, "A"): ["10.0.0.1"]}, {"10.0.0.1": "10.0.0.1:7070"}),
        ({(NAME, "AAAA"): ["fd00::1"]}, {"fd00--1": "[fd00::1]:7070"}),
        (
            {(NAME, "A"): ["10.0.0.2", "10.0.0.1"], (NAME, "AAAA"): ["fd00::1"]},
            {
                "10.0.0.1": "10.0.0.1:7070",
                "10.0.0.2": "10.0.0.2:7070",
            },
        ),
    ],
    ids=["IPv4", "IPv6", "both"],
)
async def test_members_are_the_addresses_of_a_name_at_one_port(
    records: dict[tuple[str, str], list[str]], expected: dict[str, str]
) -> None:
    async with serving(DnsServer(records)) as resolver:
        membership = CheckedMembership(DnsMembership("fleet.example", 7070, resolver))
        with following(membership) as told:
            assert await told.until(lambda known: True) == expected


async def test_a_change_is_told_when_the_records_have_lived_their_time() -> None:
    server = DnsServer(ONE, ttl_s=2)
    async with serving(server) as resolver:
        with following(DnsMembership(SERVICE, resolver=resolver)) as told:
            await told.until(lambda known: len(known) == 1)
            server.records = TWO
            await told.until(lambda known: len(known) == 2)
    assert server.asked[1] - server.asked[0] > 1.9


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, dns.rcode.REFUSED])
async def test_the_last_known_members_hold_while_dns_fails(code: dns.rcode.Rcode) -> None:
    server = DnsServer(TWO)
    async with serving(server) as resolver:
        with following(DnsMembership(SERVICE, resolver=resolver)) as told, logged() as logs:
            await told.until(lambda known: len(known) == 2)
            server.fails = code
            await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
            server.fails, server.records = None, ONE
            await told.until(lambda known: len(known) == 1)
    assert [len(known) for known in told.all] == [2, 1]
    assert events(logs) == ["fleet_engine_failed", "fleet_engine_answers_again"]


async def test_records_that_are_missing_are_no_fleet_without_members() -> None:
    server = DnsServer({(SERVICE, "TXT"): ["other"]})
    async with serving(server) as resolver:
        with following(DnsMembership(SERVICE, resolver=resolver)) as told, logged() as logs:
            await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
            assert not told.all
            server.records = ONE
            await told.until(lambda known: len(known) == 1)
