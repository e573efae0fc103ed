"""Leadership by a real etcd, within this process: tests may stop etcd, but not the leader."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pool_service.fleet.engines.etcd.endpoints import Access
from pool_service.fleet.engines.etcd.tls_files import TlsFiles
from tests.certificates import Authority
from tests.fleet.engines.etcd_process import EtcdProcess, coded
from tests.fleet.engines.told import LIMIT_S, PREFIX, events, front, leads, leads_not, logged

pytestmark = pytest.mark.process


async def test_one_of_20_leads_and_all_others_know_it(own_etcd: EtcdProcess) -> None:
    async with AsyncExitStack() as stack:
        fronts = [
            await stack.enter_async_context(front(f"front-{number}", own_etcd.endpoint))
            for number in range(20)
        ]
        for one in fronts:
            await one.told.until(lambda lead: lead.address != "")
        (leader,) = (one for one in fronts if one.told.last.leads)
        known = {(one.told.last.epoch, one.told.last.address) for one in fronts}
        assert known == {(leader.told.last.epoch, leader.told.last.address)}


async def test_a_leader_that_ends_leaves_the_lead_at_once(own_etcd: EtcdProcess) -> None:
    # Its lease would last longer than the test may wait.
    long_s = 10 * int(LIMIT_S)
    async with (
        front("one", own_etcd.endpoint, ttl_s=long_s) as one,
        front("other", own_etcd.endpoint, ttl_s=long_s) as other,
    ):
        both = {one: other, other: one}
        await asyncio.wait(
            [asyncio.create_task(each.told.until(leads)) for each in both],
            return_when=asyncio.FIRST_COMPLETED,
        )
        leader = next(each for each in both if each.told.all and each.told.last.leads)
        first = leader.told.last
        await leader.end()
        assert not leader.told.last.leads
        second = await both[leader].told.until(leads)
        assert second.epoch > first.epoch


async def test_a_leader_renews_its_lead_before_it_is_over(own_etcd: EtcdProcess) -> None:
    async with front("one", own_etcd.endpoint) as one:
        first = await one.told.until(leads)
        await one.told.until(lambda lead: lead.until > first.until + 3)
        assert all(lead.leads and lead.epoch == first.epoch for lead in one.told.all)


async def test_a_leader_steps_down_by_its_own_clock_when_etcd_hangs(own_etcd: EtcdProcess) -> None:
    async with front("one", own_etcd.endpoint) as one:
        await one.told.until(leads)
        own_etcd.pause()
        stopped = time.monotonic()
        try:
            await one.told.until(leads_not)
            last = next(lead for lead in reversed(one.told.all) if lead.leads)
            assert last.until < stopped + 3
        finally:
            own_etcd.resume()
        again = await one.told.until(leads)
        assert again.epoch > last.epoch


async def test_a_front_never_takes_itself_for_another_one_that_leads(own_etcd: EtcdProcess) -> None:
    """etcd comes back with the key of the front's earlier lease, which it lets live on."""
    async with front("one", own_etcd.endpoint) as one:
        first = await one.told.until(leads)
        own_etcd.kill()
        await one.told.until(leads_not)
        own_etcd.start()
        await one.told.until(lambda lead: lead.leads and lead.epoch > first.epoch)
        assert not [lead for lead in one.told.all if lead.address and not lead.leads]


async def test_somebody_leads_again_after_a_restart_of_etcd(own_etcd: EtcdProcess) -> None:
    async with front("one", own_etcd.endpoint) as one, front("other", own_etcd.endpoint) as other:
        await one.told.until(lambda lead: lead.address != "")
        await other.told.until(lambda lead: lead.address != "")
        before = one.told.last.epoch
        own_etcd.kill()
        leader = one if one.told.last.leads else other
        await leader.told.until(leads_not)
        own_etcd.start()
        for each in (one, other):
            await each.told.until(lambda lead: lead.epoch > before)
        assert one.told.last.leads != other.told.last.leads


async def test_a_leader_whose_key_somebody_deletes_steps_down(own_etcd: EtcdProcess) -> None:
    async with front("one", own_etcd.endpoint) as one:
        first = await one.told.until(leads)
        own_etcd.delete(f"{PREFIX}leader")
        second = await one.told.until(lambda lead: lead.leads and lead.epoch > first.epoch)
        between = one.told.all[one.told.all.index(first) : one.told.all.index(second)]
        assert any(not lead.leads for lead in between)


async def test_a_restart_of_etcd_that_is_shorter_than_the_lease_changes_no_leader(
    own_etcd: EtcdProcess,
) -> None:
    async with front("one", own_etcd.endpoint, ttl_s=30) as one:
        first = await one.told.until(leads)
        own_etcd.kill()
        own_etcd.start()
        await one.told.until(lambda lead: lead.until > first.until)
        assert {lead.epoch for lead in one.told.all} == {first.epoch}


async def test_an_endpoint_that_refuses_and_one_that_is_silent_are_left_for_the_next(
    own_etcd: EtcdProcess,
) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    silent_port = silent.sockets[0].getsockname()[1]
    async with silent:
        endpoints = (f"127.0.0.1:{own_etcd.port + 1}", f"127.0.0.1:{silent_port}")
        async with front("one", *endpoints, own_etcd.endpoint) as one:
            await one.told.until(leads)


async def test_failures_of_etcd_are_logged_once(own_etcd: EtcdProcess) -> None:
    async with front("one", own_etcd.endpoint) as one, front("other", own_etcd.endpoint) as other:
        await one.told.until(lambda lead: lead.address != "")
        await other.told.until(lambda lead: lead.address != "")
        before = one.told.last.epoch
        with logged() as logs:
            own_etcd.kill()
            await (one if one.told.last.leads else other).told.until(leads_not)
            own_etcd.start()
            for each in (one, other):
                await each.told.until(lambda lead: lead.epoch > before)
        assert events(logs).count("fleet_engine_failed") == 2
        assert events(logs).count("fleet_engine_answers_again") == 2


def tls_files(directory: Path, authority: Authority, common_name: str) -> TlsFiles:
    directory.mkdir()
    (directory / "ca.pem").write_bytes(authority.certificate)
    chain, key = authority.issue(common_name=common_name).write(directory, "front")
    return TlsFiles(directory / "ca.pem", chain, key)


async def test_a_front_with_a_certificate_leads_by_an_etcd_that_asks_for_it(
    secure_etcd: EtcdProcess, tmp_path: Path
) -> None:
    assert secure_etcd.authority
    tls = tls_files(tmp_path / "front", secure_etcd.authority, "front")
    async with front("one", access=Access((secure_etcd.endpoint,), tls)) as one:
        await one.told.until(leads)


@pytest.mark.parametrize("before", [None, b"", b"no certificate"], ids=["none", "empty", "broken"])
async def test_a_certificate_that_comes_late_is_read_without_a_restart(
    secure_etcd: EtcdProcess, tmp_path: Path, before: bytes | None
) -> None:
    assert secure_etcd.authority
    tls = tls_files(tmp_path / "front", secure_etcd.authority, "front")
    assert tls.certificate
    tls.certificate.unlink()
    if before is not None:
        tls.certificate.write_bytes(before)
    with logged() as logs:
        async with front("one", access=Access((secure_etcd.endpoint,), tls)) as one:
            await logs.until(lambda entry: True)
            assert not one.told.all
            secure_etcd.authority.issue(common_name="front").write(tmp_path / "front", "front")
            await one.told.until(leads)
    assert events(logs)[0] == "fleet_engine_failed"
    assert events(logs)[-1] == "fleet_engine_answers_again"


@pytest.mark.parametrize("shown", ["of another authority", "none"])
async def test_an_etcd_that_refuses_the_certificate_is_told_as_such(
    secure_etcd: EtcdProcess, tmp_path: Path, shown: str
) -> None:
    assert secure_etcd.authority
    tls = tls_files(tmp_path / "front", Authority("of others"), "front")
    assert tls.authority
    tls.authority.write_bytes(secure_etcd.authority.certificate)
    if shown == "none":
        tls = TlsFiles(tls.authority)
    with logged() as logs:
        async with front("one", access=Access((secure_etcd.endpoint,), tls)):
            entry = await logs.until(lambda entry: True)
    assert "refuses the certificate of this client, or that there is none" in entry["reason"]


async def test_an_etcd_of_another_authority_is_not_asked(
    secure_etcd: EtcdProcess, tmp_path: Path
) -> None:
    assert secure_etcd.authority
    tls = tls_files(tmp_path / "front", secure_etcd.authority, "front")
    assert tls.authority
    tls.authority.write_bytes(Authority("of nobody").certificate)
    with logged() as logs:
        async with front("one", access=Access((secure_etcd.endpoint,), tls)) as one:
            await logs.until(lambda entry: "unable to get local issuer" in entry["reason"])
            assert not one.told.all


def permit(etcd: EtcdProcess, *users: tuple[str, str]) -> None:
    """Have etcd ask who its callers are. The users may use the keys of the tests."""
    end = PREFIX[:-1] + "0"
    etcd.ask("auth/user/add", name="root", password="secret of root")
    etcd.ask("auth/user/grant", user="root", role="root")
    etcd.ask("auth/role/add", name="fronts")
    permission = {"permType": "READWRITE", "key": coded(PREFIX), "range_end": coded(end)}
    etcd.ask("auth/role/grant", name="fronts", perm=permission)
    for name, password in users:
        etcd.ask("auth/user/add", name=name, password=password)
        etcd.ask("auth/user/grant", user=name, role="fronts")
    etcd.ask("auth/enable")


async def test_a_front_leads_by_its_password_also_after_its_token_is_lost(
    own_etcd: EtcdProcess,
) -> None:
    permit(own_etcd, ("front", "secret"))
    access = Access((own_etcd.endpoint,), user="front", password="secret")
    async with front("one", access=access) as one:
        first = await one.told.until(leads)
        # Tokens are in memory only.
        own_etcd.kill()
        await one.told.until(leads_not)
        own_etcd.start()
        await one.told.until(lambda lead: lead.leads and lead.epoch > first.epoch)


async def test_a_front_is_known_to_etcd_by_the_name_in_its_certificate(
    secure_etcd: EtcdProcess, tmp_path: Path
) -> None:
    permit(secure_etcd, ("front", "secret"))
    assert secure_etcd.authority
    unknown = tls_files(tmp_path / "unknown", secure_etcd.authority, "stranger")
    known = tls_files(tmp_path / "front", secure_etcd.authority, "front")
    async with (
        front("one", access=Access((secure_etcd.endpoint,), unknown)) as one,
        front("other", access=Access((secure_etcd.endpoint,), known)) as other,
    ):
        await other.told.until(leads)
        assert not one.told.all


async def test_a_wrong_password_is_logged_and_ends_nothing(own_etcd: EtcdProcess) -> None:
    permit(own_etcd, ("front", "secret"))
    access = Access((own_etcd.endpoint,), user="front", password="guessed")
    with logged() as logs:
        async with front("one", access=access):
            await logs.until(lambda entry: "authentication failed" in entry["reason"])
    assert "guessed" not in repr(logs.all) + repr(access)
