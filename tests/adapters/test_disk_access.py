"""Claims about looks at disks that do not answer."""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_service.adapters.models.disk_access import DiskReads, protection_hint
from pool_service.adapters.runtime.launch_plan import check_directory
from pool_service.core.errors import ModelRejected, StartFailed


class Disk:
    """One that holds up whoever looks, until it answers."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.looks = 0

    def look(self) -> str:
        self.looks += 1
        self.answers.wait()
        return "seen"


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.answers.set()


async def test_a_look_gives_what_it_sees_or_what_it_meets() -> None:
    looks = DiskReads()
    assert await looks.run("k", "m", "/m", lambda: 5) == 5

    def refuse() -> None:
        raise ModelRejected("no", model="m")

    with pytest.raises(ModelRejected):
        await looks.run("k", "m", "/m", refuse)

    def too_late() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await looks.run("k", "m", "/m", too_late)


async def test_who_waits_for_a_disk_that_does_not_answer_is_told(disk: Disk) -> None:
    looks = DiskReads(timeout=0.01)
    with pytest.raises(StartFailed, match=r"'/m' could not be read within 0\.01 s"):
        await looks.run("k", "m", "/m", disk.look)


async def test_one_thread_waits_for_a_disk_however_many_ask(disk: Disk) -> None:
    looks = DiskReads(timeout=0.01)
    for _ in range(3):
        with pytest.raises(StartFailed):
            await looks.run("k", "m", "/m", disk.look)
    patient = asyncio.create_task(DiskReads(timeout=30).run("k", "m", "/m", disk.look))
    await asyncio.sleep(0)
    disk.answers.set()
    assert await patient == "seen"
    async with asyncio.timeout(60):
        while looks._running:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    assert disk.looks == 2, "of the first three calls, and of the patient one"


async def test_an_error_for_which_nobody_waits_any_more_is_not_logged(disk: Disk) -> None:
    logged = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, told: logged.append(told))
    looks = DiskReads(timeout=0.01)

    def fail() -> None:
        disk.look()
        raise ModelRejected("no", model="m")

    with pytest.raises(StartFailed):
        await looks.run("k", "m", "/m", fail)
    disk.answers.set()
    async with asyncio.timeout(60):
        while looks._running:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    gc.collect()
    assert logged == []


async def test_other_models_are_looked_at_meanwhile(disk: Disk) -> None:
    looks = DiskReads(timeout=30)
    held = asyncio.create_task(looks.run("k", "m", "/m", disk.look))
    assert await looks.run("other", "o", "/o", lambda: 7) == 7
    disk.answers.set()
    assert await held == "seen"


@pytest.mark.parametrize(
    ("path", "system", "told"),
    [
        ("/Volumes/big/m", "darwin", True),
        ("/Users/me/Documents/m", "darwin", True),
        ("/opt/models/m", "darwin", False),
        ("/Volumes/big/m", "linux", False),
    ],
)
def test_what_macos_protects_is_told_with_the_remedy(path: str, system: str, told: bool) -> None:
    hint = protection_hint(Path(path), system, Path("/Users/me"))
    assert ("Full Disk Access" in hint) == told


def test_a_directory_that_can_be_seen_and_not_listed_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS has it; told as what it is, and not as code that cannot be checked."""
    (tmp_path / "config.json").write_text("{}")

    def refuse(_: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ModelRejected, match="cannot be loaded: Operation not permitted"):
        check_directory("m", str(tmp_path))
