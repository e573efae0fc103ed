"""Members that register themselves in a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from pool_service.fleet.engines.etcd.client import EtcdClient, Span
from pool_service.fleet.engines.etcd.endpoints import Access
from pool_service.fleet.engines.etcd.errors import WatchEnded
from pool_service.fleet.engines.etcd.membership import EtcdMembership, Registration
from tests.fleet.engines.etcd_process import EtcdProcess, coded
from tests.fleet.engines.told import LIMIT_S, PREFIX, events, following, logged

pytestmark = pytest.mark.process

KEY = f"{PREFIX}members/mac-1"


@asynccontextmanager
async def registered(
    etcd: EtcdProcess, name: str, address: str, ttl_s: int = 3
) -> AsyncIterator["asyncio.Task[None]"]:
    """Register a member while the block runs, unless the task is ended in another way."""
    async with EtcdClient(Access((etcd.endpoint,))) as client:
        registration = Registration(client, prefix=PREFIX, name=name, address=address, ttl_s=ttl_s)
        task = asyncio.create_task(registration.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait((task,))


@asynccontextmanager
async def membership(etcd: EtcdProcess) -> AsyncIterator[EtcdMembership]:
    async with EtcdClient(Access((etcd.endpoint,))) as client:
        yield EtcdMembership(client, prefix=PREFIX)


async def test_a_fleet_without_members_is_told_as_such(own_etcd: EtcdProcess) -> None:
    async with membership(own_etcd) as members:
        with following(members) as told:
            assert await told.until(lambda known: True) == {}


async def test_members_come_and_go_as_they_run(own_etcd: EtcdProcess) -> None:
    async with membership(own_etcd) as members:
        with following(members) as told:
            async with registered(own_etcd, "mac-1", "10.0.0.1:7070"):
                await told.until(lambda known: known == {"mac-1": "10.0.0.1:7070"})
                async with registered(own_etcd, "mac-2", "10.0.0.2:7070"):
                    await told.until(lambda known: set(known) == {"mac-1", "mac-2"})
                await told.until(lambda known: set(known) == {"mac-1"})
            await told.until(lambda known: not known)


async def test_a_member_that_can_no_longer_renew_disappears(own_etcd: EtcdProcess) -> None:
    async with membership(own_etcd) as members:
        with following(members) as told:
            async with EtcdClient(Access((own_etcd.endpoint,))) as client:
                lease = await client.grant(2)
                await client.put(KEY.encode(), b"10.0.0.1:7070", lease.ident)
            await told.until(lambda known: known == {"mac-1": "10.0.0.1:7070"})
            await told.until(lambda known: not known)


async def test_a_registration_that_somebody_deletes_is_made_again(own_etcd: EtcdProcess) -> None:
    async with (
        membership(own_etcd) as members,
        registered(own_etcd, "mac-1", "10.0.0.1:7070"),
    ):
        with following(members) as told:
            await told.until(lambda known: "mac-1" in known)
            own_etcd.delete(KEY)
            await told.until(lambda known: not known)
            await told.until(lambda known: "mac-1" in known)


async def test_a_registration_survives_the_loss_of_all_of_etcds_data(
    own_etcd: EtcdProcess,
) -> None:
    async with (
        membership(own_etcd) as members,
        registered(own_etcd, "mac-1", "10.0.0.1:7070"),
    ):
        with following(members) as told:
            await told.until(lambda known: "mac-1" in known)
            own_etcd.kill()
            own_etcd.forget()
            own_etcd.start()
            async with registered(own_etcd, "mac-2", "10.0.0.2:7070"):
                await told.until(lambda known: set(known) == {"mac-1", "mac-2"})


async def test_the_last_known_members_hold_while_etcd_is_away(own_etcd: EtcdProcess) -> None:
    async with (
        membership(own_etcd) as members,
        registered(own_etcd, "mac-1", "10.0.0.1:7070"),
    ):
        with logged() as logs, following(members) as told:
            await told.until(lambda known: "mac-1" in known)
            own_etcd.kill()
            # Of the follower and of the member.
            await logs.until(lambda entry: len(logs.all) == 2)
            own_etcd.start()
            await logs.until(lambda entry: len(logs.all) == 4)
            assert [known for known in told.all if known] == [{"mac-1": "10.0.0.1:7070"}]
            assert told.last
        assert events(logs) == 2 * ["fleet_engine_failed"] + 2 * ["fleet_engine_answers_again"]


async def test_a_member_that_comes_while_etcd_was_away_is_found(own_etcd: EtcdProcess) -> None:
    async with membership(own_etcd) as members:
        with logged() as logs, following(members) as told:
            await told.until(lambda known: not known)
            own_etcd.kill()
            await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
            own_etcd.start()
            async with registered(own_etcd, "mac-1", "10.0.0.1:7070"):
                await told.until(lambda known: "mac-1" in known)


async def test_a_watch_of_what_is_compacted_ends(own_etcd: EtcdProcess) -> None:
    own_etcd.ask("kv/put", key=coded(KEY), value=coded("a"))
    written = own_etcd.ask("kv/put", key=coded(KEY), value=coded("b"))
    revision = written["header"]["revision"]
    own_etcd.ask("kv/compaction", revision=revision)
    async with EtcdClient(Access((own_etcd.endpoint,))) as client:
        with pytest.raises(WatchEnded, match="compacted"):
            async for _ in client._watch(Span.under(PREFIX), int(revision) - 1, 60):
                pass


@pytest.mark.parametrize("grown", [False, True])
async def test_keys_are_followed_on_when_etcd_loses_its_data_before_they_are_watched(
    own_etcd: EtcdProcess, *, grown: bool
) -> None:
    """The revisions of etcd are fewer than before then, or as many again."""
    for value in "abc":
        own_etcd.ask("kv/put", key=coded(KEY), value=coded(value))
    async with (
        asyncio.timeout(LIMIT_S),
        EtcdClient(Access((own_etcd.endpoint,))) as client,
        aclosing(client.follow(Span(KEY.encode()), 0.1)) as listings,
    ):
        assert (await anext(listings))[KEY.encode()].value == b"c"
        own_etcd.kill()
        own_etcd.forget()
        own_etcd.start()
        own_etcd.ask("kv/put", key=coded(KEY), value=coded("d"))
        for _ in range(5 if grown else 0):
            own_etcd.ask("kv/put", key=coded("another"), value=coded(""))
        if grown:
            assert (await anext(listings))[KEY.encode()].value == b"d"
        else:
            with pytest.raises(WatchEnded, match="lost data"):
                await anext(listings)


async def test_a_member_that_was_started_again_takes_its_name_over(own_etcd: EtcdProcess) -> None:
    async with membership(own_etcd) as members:
        with following(members) as told:
            own_etcd.ask("kv/put", key=coded(KEY), value=coded("10.0.0.1:7070"))
            await told.until(lambda known: "mac-1" in known)
            async with registered(own_etcd, "mac-1", "10.0.0.1:7070") as task:
                # Its end ends the key, so it has taken it over.
                await own_lease(own_etcd)
                task.cancel()
                await told.until(lambda known: not known)


async def own_lease(etcd: EtcdProcess) -> None:
    """Return once the member's key has a lease."""
    async with EtcdClient(Access((etcd.endpoint,))) as client:
        async for keys in client.follow(Span(KEY.encode()), 60):
            if keys[KEY.encode()].lease:
                return


async def test_a_second_member_of_the_same_name_is_told_so_and_waits(
    own_etcd: EtcdProcess,
) -> None:
    async with membership(own_etcd) as members:
        with following(members) as told, logged() as logs:
            async with registered(own_etcd, "mac-1", "10.0.0.1:7070") as first:
                await told.until(lambda known: "mac-1" in known)
                async with registered(own_etcd, "mac-1", "10.0.0.2:7070"):
                    entry = await logs.until(lambda entry: True)
                    assert entry["event"] == "fleet_name_taken"
                    assert entry["registered"] == "10.0.0.1:7070"
                    first.cancel()
                    await told.until(lambda known: known == {"mac-1": "10.0.0.2:7070"})
            assert all(len(known) < 2 for known in told.all)


async def test_a_member_needs_no_right_but_to_its_own_key(own_etcd: EtcdProcess) -> None:
    own_etcd.ask("auth/user/add", name="root", password="secret of root")
    own_etcd.ask("auth/user/grant", user="root", role="root")
    own_etcd.ask("auth/role/add", name="member")
    permission = {"permType": "READWRITE", "key": coded(KEY)}
    own_etcd.ask("auth/role/grant", name="member", perm=permission)
    own_etcd.ask("auth/user/add", name="mac-1", password="secret")
    own_etcd.ask("auth/user/grant", user="mac-1", role="member")
    own_etcd.ask("auth/enable")
    access = Access((own_etcd.endpoint,), user="mac-1", password="secret")
    seeing = Access((own_etcd.endpoint,), user="root", password="secret of root")
    async with EtcdClient(access) as client, EtcdClient(seeing) as other:
        with following(EtcdMembership(other, prefix=PREFIX)) as told:
            one = Registration(
                client, prefix=PREFIX, name="mac-1", address="10.0.0.1:1", ttl_s=1000
            )
            task = asyncio.create_task(one.run())
            await told.until(lambda known: known == {"mac-1": "10.0.0.1:1"})
            task.cancel()
            await told.until(lambda known: not known)
