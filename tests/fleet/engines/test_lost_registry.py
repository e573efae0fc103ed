"""A whole front whose registry, a real etcd, loses the members that are there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from pool_service_client import AsyncPoolClient
from tests.certificates import LOCAL, Authority
from tests.fleet.engines.etcd_process import EtcdProcess, coded
from tests.fleet.engines.told import LIMIT_S
from tests.fleet.rpc.front_in_process import ScriptedMember
from tools.bench.turns import free_ports
from tools.demo.service import command

pytestmark = pytest.mark.process

LOST_AFTER_S = 5
"""So long that members on a busy machine are not lost."""

HOSTS = "abc"
UNLISTED = "does not list it any more"


def configuration(directory: Path, etcd: EtcdProcess, port: int) -> Path:
    authority = Authority("of the fleet")
    (directory / "ca.pem").write_bytes(authority.certificate)
    cert, key = authority.issue(*LOCAL).write(directory, "front")
    file = directory / "fleet.toml"
    file.write_text(f"""
[front]
listen = ["127.0.0.1:{port}"]
discovery = "etcd:{etcd.endpoint}/test"
lost_after = {LOST_AFTER_S}
[member_tls]
ca = "{directory / "ca.pem"}"
cert = "{cert}"
key = "{key}"
""")
    return file


@asynccontextmanager
async def front(directory: Path, etcd: EtcdProcess) -> AsyncIterator[AsyncPoolClient]:
    """Yield a client of a front that finds its members in etcd."""
    port = free_ports(1)
    file = configuration(directory, etcd, port)
    with (directory / "front.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *command("fleet", "serve", "--config", str(file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout
        async with asyncio.timeout(LIMIT_S):
            assert b"listening" in await process.stdout.readline()
        async with AsyncPoolClient.connect(f"127.0.0.1:{port}") as client:
            yield client
    finally:
        process.terminate()
        assert await process.wait() == 0


async def told(client: AsyncPoolClient, is_right: Callable[[list[str]], bool]) -> list[str]:
    """Return the notices of a front once they are right."""
    notices: list[str] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                notices = list((await anext(client.pages(timeout=LIMIT_S))).notices)
                if is_right(notices):
                    return notices
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"the notices stay {notices}")


def all_unlisted(notices: list[str]) -> bool:
    return len(notices) == len(HOSTS) and all(UNLISTED in one for one in notices)


async def test_members_that_answer_stay_though_etcd_has_lost_all_their_keys(
    own_etcd: EtcdProcess, tmp_path: Path
) -> None:
    members = [ScriptedMember(name) for name in HOSTS]
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(AsyncExitStack()) for _ in members]
        addresses = {
            one.host: await its.enter_async_context(one.running())
            for one, its in zip(members, running, strict=True)
        }

        def register() -> None:
            for name, address in addresses.items():
                key = f"test/members/{name}"
                own_etcd.ask("kv/put", key=coded(key), value=coded(address))

        register()
        client = await stack.enter_async_context(front(tmp_path, own_etcd))
        await told(client, lambda notices: not notices)

        own_etcd.ask("kv/deleterange", key=coded("test/"), range_end=coded("test0"))
        notices = await told(client, all_unlisted)
        for one, notice in zip(members, notices, strict=True):
            assert f"{one.host}: the registry that front.discovery names {UNLISTED}" in notice
            assert addresses[one.host] in notice
        # Each is asked as before.
        for one in members:
            one.got.clear()
        await anext(client.pages(timeout=LIMIT_S))
        assert all(one.requests("List") for one in members)

        # One that ends is no member any more, after a while in which it might come back.
        await running.pop().aclose()
        await told(client, lambda notices: any("c: its servers" in one for one in notices))
        notices = await told(client, lambda notices: not any("c:" in one for one in notices))
        assert [notice[0] for notice in notices] == ["a", "b"]

        del addresses["c"]
        register()
        await told(client, lambda notices: not notices)
    log = (tmp_path / "front.log").read_text()
    assert log.count("a member stays that is not listed any more") == len(members)
