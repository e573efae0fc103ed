"""Claims about a running front that reads another configuration."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_service.core.errors import ConfigInvalid
from pool_service.fleet.composition import Parts, compose
from pool_service.fleet.config import FrontSource, front_source
from pool_service.fleet.members.security import Security
from tests.certificates import Authority, Files, uri, written

NEAR, FAR, FARTHER = "127.0.0.1:9", "192.0.2.1:9", "192.0.2.2:9"
"""Addresses where nobody answers. Those of other machines are for documentation."""


@dataclass
class RunningFront:
    """A front, and its file."""

    parts: Parts
    file: Path

    async def reload(self, text: str) -> tuple[str, ...]:
        self.file.write_text(text)
        needed = await self.parts.reloader.reload()
        await self.go_on()
        return needed

    async def go_on(self) -> None:
        """Let what knows the members tell the front."""
        for _ in range(10):
            await asyncio.sleep(0)

    @property
    def members(self) -> dict[str, str]:
        return {one.host: one.address for one in self.parts.fleet.members}

    def security(self, host: str) -> Security | None:
        """Return that of the next connection to a member."""
        link = self.parts.fleet.link(host)
        assert link is not None
        return link._manner.secure(host, self.members[host])


def source_of(directory: Path, text: str) -> FrontSource:
    file = written(directory / "fleet.toml", text.encode())
    return front_source(file, {}, {})


@pytest.fixture
def own() -> Files:
    """Return the certificates that the front shows to members on other machines."""
    authority = Authority("fleet")
    return Files(authority.issue(uri("spiffe://home/front")), authority.certificate)


@asynccontextmanager
async def front(directory: Path, text: str, own: Files | None) -> AsyncIterator[RunningFront]:
    source = source_of(directory, text)
    keeper: object = own
    parts = compose(source, source.load(), None, keeper)  # type: ignore[arg-type]
    following = asyncio.create_task(parts.fleet.run(parts.membership, parts.leadership))
    running = RunningFront(parts, directory / "fleet.toml")
    try:
        await running.go_on()
        yield running
    finally:
        following.cancel()
        await asyncio.wait((following,))
        parts.audit.close()


def with_tls(directory: Path, own: Files, members: str) -> str:
    """Return a configuration with certificates."""
    assert own.client_ca is not None
    ca = written(directory / "ca.pem", own.client_ca)
    cert, key = own.issued.write(directory, "front")
    files = f'ca = "{ca}"\ncert = "{cert}"\nkey = "{key}"\n'
    return f"[member_tls]\n{files}[members]\n{members}"


async def test_the_name_that_a_certificate_must_have_applies_at_once(
    tmp_path: Path, own: Files
) -> None:
    before = with_tls(tmp_path, own, f'a = "{FAR}"\n')
    async with front(tmp_path, before, own) as running:
        await running.reload(
            f'{before}b = {{ address = "{FARTHER}", san = "b.example" }}\n'.replace(
                f'"{FAR}"', f'{{ address = "{FAR}", san = "a.example" }}'
            )
        )
        for host in ("a", "b"):
            security = running.security(host)
            assert security is not None
            assert security.name == f"{host}.example"


async def test_no_member_on_another_machine_is_called_in_the_clear(
    tmp_path: Path, own: Files
) -> None:
    near = f'[members]\na = "{NEAR}"\n'
    far = with_tls(tmp_path, own, f'a = "{NEAR}"\nb = "{FAR}"\n')
    async with front(tmp_path, near, None) as running:
        with pytest.raises(ConfigInvalid, match=r"member_tls.*Restart"):
            await running.reload(far)
        assert running.members == {"a": NEAR}


async def test_members_stay_until_a_restart_if_something_else_is_to_know_them(
    tmp_path: Path, own: Files
) -> None:
    before = with_tls(tmp_path, own, f'a = {{ address = "{FAR}", san = "a.example" }}\n')
    etcd = f'[front]\ndiscovery = "etcd:{NEAR}"\n'
    async with front(tmp_path, before, own) as running:
        needed = await running.reload(etcd + before.partition("[members]")[0])
        assert "front.discovery" in needed
        assert running.members == {"a": FAR}
        security = running.security("a")
        assert security is not None
        assert security.name == "a.example"
