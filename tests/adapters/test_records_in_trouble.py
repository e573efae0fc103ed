"""Records on a disk that fails, and what is made of every kind of damage."""

import asyncio
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.records import record_files
from pool_service.adapters.records.record_files import (
    MAX_RECORD_BYTES,
    Found,
    RecordFiles,
    file_name,
)
from pool_service.adapters.records.record_format import Record, decode, encode
from pool_service.core.server import LastRun, RecoveredState
from tests.adapters.disk import Disk, Told, no_room
from tests.adapters.remembered import BOOT, ready

# --- a disk that fails -----------------------------------------------------------------


async def test_a_full_disk_is_told_and_all_is_written_when_there_is_room(disk: Disk) -> None:
    records = await disk.keeps(ready("a"), ready("b"))
    with no_room():
        records.put(ready("a", detail="new"))
        records.remove(ready("b"))
        records.put(ready("c"))
        await records.settled()
        assert "in memory only" in records.degraded_reason
        assert "ulimit -f" in records.degraded_reason
        assert disk.says("a") == ready("a")
    records.put(ready("d"))
    await records.settled()
    assert records.degraded_reason == ""
    assert disk.says("a") == ready("a", detail="new")
    assert disk.says("b") == LastRun("b", 1, None)
    assert (disk.says("c"), disk.says("d")) == (ready("c"), ready("d"))


async def test_a_failed_write_leaves_no_half_of_it(disk: Disk) -> None:
    records = await disk.keeps(ready("a"))
    with no_room():
        records.put(ready("b"))
        await records.settled()
        assert [path.name for path in disk.servers.iterdir()] == [file_name("a")]


async def test_trouble_is_logged_when_it_begins_and_when_it_ends(disk: Disk) -> None:
    records = await disk.keeps(ready("a"))
    with no_room() as while_full:
        for number in range(5):
            records.put(ready("a", detail=f"{number}"))
            await records.settled()
    with capture_logs() as after:
        for number in range(5):
            records.put(ready("b", detail=f"{number}"))
            await records.settled()
    assert [line["event"] for line in while_full] == ["records cannot be written"]
    assert [line["event"] for line in after] == ["records are written again"]


async def test_who_waits_for_a_change_is_told_when_trouble_begins_and_when_it_ends(
    disk: Disk,
) -> None:
    records = await disk.keeps(ready("a"))
    assert await records.wait_for_change(degraded=True) is False, "that is outdated"
    begins = asyncio.create_task(records.wait_for_change(degraded=False))
    await asyncio.sleep(0)
    with no_room():
        records.put(ready("b"))
        await records.settled()
        assert await begins is True
    ends = asyncio.create_task(records.wait_for_change(degraded=True))
    await asyncio.sleep(0)
    records.put(ready("c"))
    await records.settled()
    assert await ends is False


async def test_a_check_tries_to_write_as_long_as_nothing_was_written(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes, write = list[bool](), RecordFiles.write

    def noted(*given: Any, probe: bool, **more: Any) -> Any:  # noqa: ANN401 - as of `write`
        probes.append(probe)
        return write(*given, probe=probe, **more)

    monkeypatch.setattr(RecordFiles, "write", noted)
    records = disk.service()
    for expected in (True, False):
        records._check()
        await records.settled()
        assert probes.pop() is expected
    with no_room():
        records.put(ready("a"))
        await records.settled()
        assert probes.pop() is False
        records._check()
        await records.settled()
        assert probes.pop() is True


async def test_what_an_earlier_try_left_hinders_no_later_one(disk: Disk) -> None:
    disk.servers.mkdir(parents=True)
    left = disk.servers / record_files._PROBE
    left.touch()
    records = disk.service()
    records._check()
    await records.settled()
    assert records.degraded_reason == ""
    assert not left.exists()


async def test_it_tries_again_by_itself(disk: Disk) -> None:
    records = Told(disk)
    with no_room():
        records.put(ready("a"))
        assert await records.rounds.get()
        assert await records.rounds.get()
    while await records.rounds.get():
        pass
    assert disk.says("a") == ready("a")


async def test_a_directory_that_was_removed_is_made_again_with_all_that_is_known(
    disk: Disk,
) -> None:
    records = await disk.keeps(ready("a"), ready("b"))
    records.remove(ready("past", 4))
    await records.settled()
    shutil.rmtree(disk.state_dir)
    records.put(ready("c"))
    await records.settled()
    assert records.degraded_reason == ""
    remembered = await disk.loaded()
    assert {server.model for server in remembered.servers} == {"a", "b", "c"}
    assert remembered.pasts == (LastRun("past", 4, None),)


async def test_files_that_somebody_removed_are_written_again_by_itself(disk: Disk) -> None:
    records = Told(disk)
    records.put(ready("a"))
    records.put(ready("b"))
    await records.settled()
    disk.path("a").unlink()
    while not disk.path("a").exists():
        await records.rounds.get()
    assert disk.says("a") == ready("a")


async def test_what_was_loaded_is_written_again_as_well(disk: Disk) -> None:
    await disk.keeps(ready("a"))
    records = disk.service()
    await records.load()
    shutil.rmtree(disk.servers)
    records.put(ready("b"))
    await records.settled()
    assert disk.says("a") == ready("a")


@pytest.mark.parametrize("obstacle", ["file", "link", "dangling"])
async def test_something_in_the_place_of_the_directory_is_told_and_not_touched(
    disk: Disk, tmp_path: Path, obstacle: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    disk.state_dir.mkdir()
    if obstacle == "file":
        disk.servers.write_text("mine")
    else:
        disk.servers.symlink_to(elsewhere)
    if obstacle == "link":
        elsewhere.mkdir()
    records = disk.service()
    assert await records.load() == RecoveredState()
    assert f"{disk.servers} is no directory; move it away" in records.degraded_reason
    records.put(ready("a"))
    await records.settled()
    assert not elsewhere.exists() or not list(elsewhere.iterdir())
    disk.servers.rename(tmp_path / "moved")
    records.put(ready("b"))
    await records.settled()
    assert records.degraded_reason == ""
    assert (disk.says("a"), disk.says("b")) == (ready("a"), ready("b"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a directory to another user")
async def test_a_directory_of_another_user_is_told_and_not_used(disk: Disk) -> None:
    disk.servers.mkdir(parents=True)
    os.chown(disk.servers, 12345, -1)
    records = await disk.keeps(ready("a"))
    assert "belongs to another user" in records.degraded_reason
    assert list(disk.servers.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold root back")
async def test_a_directory_without_permission_is_told_with_what_to_do(disk: Disk) -> None:
    disk.servers.mkdir(parents=True)
    disk.servers.chmod(0o500)
    records = await disk.keeps(ready("a"))
    assert "writable for the service's user" in records.degraded_reason
    disk.servers.chmod(0o700)


@contextmanager
def file_system(path: Path, options: str) -> Iterator[None]:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def remounted(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


async def test_a_file_system_that_becomes_read_only_is_told_until_it_is_not(disk: Disk) -> None:
    with file_system(disk.state_dir, "size=1m"):
        records = await disk.keeps(ready("a"))
        remounted(disk.state_dir, "ro")
        records.put(ready("b"))
        await records.settled()
        assert "--state-dir that can be written" in records.degraded_reason
        remounted(disk.state_dir, "rw")
        records.put(ready("c"))
        await records.settled()
        assert records.degraded_reason == ""
        assert disk.says("b") == ready("b")


async def test_a_disk_without_room_is_told_with_what_to_do(disk: Disk) -> None:
    with file_system(disk.state_dir, "size=64k"):
        records = await disk.keeps(ready("a"))
        fill = disk.state_dir / "fill"
        with pytest.raises(OSError, match="No space"):
            fill.write_bytes(bytes(100_000))
        records.put(ready("b"))
        await records.settled()
        assert "free some space" in records.degraded_reason
        fill.unlink()
        records.put(ready("c"))
        await records.settled()
        assert (records.degraded_reason, disk.says("b")) == ("", ready("b"))


async def test_one_record_that_cannot_be_written_does_not_keep_the_others(disk: Disk) -> None:
    disk.servers.mkdir(parents=True)
    (disk.servers / f".{file_name('a')}.tmp").mkdir()
    records = await disk.keeps(ready("a"), ready("b"))
    assert file_name("a") in records.degraded_reason
    assert disk.says("b") == ready("b")


async def test_a_record_that_cannot_be_made_does_not_keep_the_others(disk: Disk) -> None:
    records = await disk.keeps(replace(ready("a"), ready_at=float("nan")), ready("b"))
    assert "a fault of ours" in records.degraded_reason
    assert disk.says("b") == ready("b")


# --- damage ----------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(os.urandom(500))


def of_a_later_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":99'))


def of_another_model(path: Path) -> None:
    path.write_bytes(encode(Record(BOOT, ready("other"))))


def of_a_model_without_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"model":"bad"', b'"model":"\\ud800"'))


def endless(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * MAX_RECORD_BYTES)


def a_link(path: Path) -> None:
    real = path.parents[1] / "real.json"
    path.rename(real)
    path.symlink_to(real)


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs to give a file to another user")
    os.chown(path, 12345, -1)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


Damage = Callable[[Path], None]

DAMAGES: list[Damage] = [
    truncated,
    emptied,
    garbled,
    of_a_later_version,
    of_another_model,
    of_a_model_without_bytes,
    endless,
    a_link,
    a_link_to_nothing,
    a_directory,
    a_fifo,
    of_another_user,
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_record_is_set_aside_and_the_others_go_on(
    disk: Disk, damage: Damage
) -> None:
    await disk.keeps(ready("good"), ready("bad"), ready("fine"))
    damage(disk.path("bad"))
    damaged = os.lstat(disk.path("bad"))
    remembered = await disk.loaded()
    assert {server.model for server in remembered.servers} == {"good", "fine"}
    assert remembered.damaged == (file_name("bad"),)
    aside = disk.damaged / file_name("bad")
    assert (os.lstat(aside).st_ino, os.lstat(aside).st_mode) == (damaged.st_ino, damaged.st_mode)
    assert file_name("bad") not in names(disk.servers)
    assert (await disk.loaded()).damaged == ()


@pytest.mark.parametrize("damage", [a_link, a_link_to_nothing, a_directory, of_another_user])
async def test_what_took_the_place_of_a_record_is_set_aside_before_it_is_written(
    disk: Disk, damage: Damage
) -> None:
    records = await disk.keeps(ready("a"))
    damage(disk.path("a"))
    records.put(ready("a", detail="new"))
    await records.settled()
    assert disk.says("a") == ready("a", detail="new")
    assert not disk.path("a").is_symlink()
    assert names(disk.damaged) == [file_name("a")]
    assert not (disk.servers / "nowhere").exists()


async def test_what_was_set_aside_is_never_replaced(disk: Disk) -> None:
    for content in (b"one", b"two", b"three"):
        await disk.keeps(ready("a"))
        disk.path("a").write_bytes(content)
        await disk.loaded()
    kept = {path.name: path.read_bytes() for path in disk.damaged.iterdir()}
    name = file_name("a")
    assert kept == {name: b"one", f"{name}.1": b"two", f"{name}.2": b"three"}


async def test_a_damaged_record_that_cannot_be_set_aside_is_not_overwritten(disk: Disk) -> None:
    await disk.keeps(ready("a"), ready("b"))
    disk.path("a").write_bytes(b"garbage")
    disk.damaged.write_text("in the way")
    records = disk.service()
    remembered = await records.load()
    assert ([server.model for server in remembered.servers], remembered.damaged) == (
        ["b"],
        (file_name("a"),),
    )
    records.put(ready("a"))
    await records.settled()
    assert "damaged is no directory; move it away" in records.degraded_reason
    assert disk.path("a").read_bytes() == b"garbage"
    disk.damaged.unlink()
    records.put(ready("a"))
    await records.settled()
    assert (records.degraded_reason, disk.says("a")) == ("", ready("a"))
    assert (disk.damaged / file_name("a")).read_bytes() == b"garbage"


async def test_records_that_could_not_be_read_are_set_aside_before_others_take_their_place(
    disk: Disk,
) -> None:
    await disk.keeps(ready("a", 7), ready("b", 8))
    moved = disk.servers.rename(disk.state_dir / "moved")
    disk.servers.write_text("in the way")
    records = disk.service()
    assert await records.load() == RecoveredState()
    disk.servers.unlink()
    moved.rename(disk.servers)
    records.put(ready("a", 1))
    records.put(ready("c", 1))
    await records.settled()
    records.put(ready("a", 2))
    await records.settled()
    assert (disk.says("a"), disk.says("b"), disk.says("c")) == (
        ready("a", 2),
        ready("b", 8),
        ready("c", 1),
    )
    assert names(disk.damaged) == [file_name("a")]
    assert decode((disk.damaged / file_name("a")).read_bytes()).entry == ready("a", 7)


async def test_what_is_no_record_is_left_alone(disk: Disk) -> None:
    await disk.keeps(ready("a"))
    names = ("notes.txt", ".hidden", "a.json.tmp")
    for name in names:
        (disk.servers / name).write_text("mine")
    remembered = await disk.loaded()
    assert (len(remembered.servers), remembered.damaged) == (1, ())
    assert [(disk.servers / name).read_text() for name in names] == ["mine"] * 3


async def test_without_descriptors_loading_waits_and_sets_nothing_aside(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_service.adapters.process.exits._SHORTAGE_PAUSE_S", 0)
    await disk.keeps(ready("a"))
    records = disk.service()
    refused = asyncio.Event()
    loop = asyncio.get_running_loop()
    read_all = RecordFiles.read_all

    def told(self: RecordFiles) -> Found:
        try:
            return read_all(self)
        except OSError:
            loop.call_soon_threadsafe(refused.set)
            raise

    monkeypatch.setattr(RecordFiles, "read_all", told)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        loading = asyncio.create_task(records.load())
        await refused.wait()
        assert not loading.done()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert await loading == RecoveredState(servers=(ready("a"),))
