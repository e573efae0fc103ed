"""Records of servers and what callers said: neither holds up the other, nor hides its trouble."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.records import model_file
from pool_service.adapters.records.model_file import pins_file
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.system import own_files
from pool_service.adapters.system.own_files import read_own
from tests.adapters.disk import Disk, no_room
from tests.adapters.remembered import ready

LIMIT_S = 30.0
PINS = {"m": True}


class BusyDisk:
    """A disk that flushes nothing until it is free."""

    def __init__(self) -> None:
        self.flushes = threading.Event()
        self.is_free = threading.Event()

    def flush(self, _descriptor: int) -> None:
        self.flushes.set()
        assert self.is_free.wait(LIMIT_S)

    async def flushing(self) -> None:
        assert await asyncio.to_thread(self.flushes.wait, LIMIT_S)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[BusyDisk]:
    the_disk = BusyDisk()
    monkeypatch.setattr(own_files, "flush_to_disk", the_disk.flush)
    yield the_disk
    the_disk.is_free.set()


# --- a flush that takes long ---------------------------------------------------------------


async def test_a_server_is_recorded_while_what_callers_said_is_flushed(
    disk: Disk, busy: BusyDisk
) -> None:
    records = await disk.keeps(ready("a"))
    records.put_pins(PINS)
    everything = asyncio.create_task(records.settled())
    await busy.flushing()
    async with asyncio.timeout(LIMIT_S / 2):
        for number in range(3):
            records.put(ready("a", detail=f"{number}"))
            await records.servers_settled()
            assert disk.says("a") == ready("a", detail=f"{number}")
    assert not everything.done(), "who said it waits for the disk"
    busy.is_free.set()
    await everything
    assert pins_file(disk.state_dir).read().content == PINS


async def test_what_is_said_during_a_flush_is_settled_by_the_next_one(
    disk: Disk, busy: BusyDisk
) -> None:
    records = disk.service()
    records.put_pins(PINS)
    await busy.flushing()
    records.put_pins({"m": False})
    records.put_namings({"n": "org/n"})
    everything = asyncio.create_task(records.settled())
    busy.is_free.set()
    await everything
    remembered = await disk.loaded()
    assert (remembered.pins, remembered.namings) == ({"m": False}, {"n": "org/n"})


async def test_records_are_closed_only_after_the_flush(tmp_path: Path, busy: BusyDisk) -> None:
    records = FileRecords(tmp_path)
    records.put_pins(PINS)
    closing = asyncio.create_task(records.close())
    await busy.flushing()
    assert not closing.done()
    busy.is_free.set()
    await closing
    assert pins_file(tmp_path).read().content == PINS


async def test_a_state_directory_that_was_removed_is_made_again_for_what_callers_say(
    disk: Disk,
) -> None:
    records = disk.service()
    records.put_pins(PINS)
    await records.settled()
    assert records.degraded_reason == ""
    assert pins_file(disk.state_dir).read().content == PINS


async def test_changes_do_not_put_off_the_check_that_tries_again_what_has_failed(
    disk: Disk,
) -> None:
    records = await disk.keeps(ready("a"))
    timer = records._timer
    records.put(ready("b"))
    await records.settled()
    assert timer is not None
    assert records._timer is timer


# --- two kinds of trouble ------------------------------------------------------------------


def unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let files be unreadable, as by a mode that a user has set."""

    def failing(path: Path, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - as of `read_own`
        if path.name in names:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read_own(path, *given, **more)

    monkeypatch.setattr(model_file, "read_own", failing)


def said(disk: Disk, *names: str) -> list[Path]:
    """Let an earlier service have written files."""
    disk.state_dir.mkdir()
    paths = [disk.state_dir / name for name in names]
    for path in paths:
        path.write_text("{}")
    return paths


async def test_a_disk_that_fails_is_told_and_logged_beside_pins_that_could_not_be_read(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pins,) = said(disk, "pins.json")
    unreadable(monkeypatch, "pins.json")
    records = disk.service()
    with capture_logs() as at_start:
        await records.load()
        records.put(ready("a"))
        await records.settled()
    about_pins = records.degraded_reason
    assert str(pins) in about_pins
    with no_room() as while_full:
        for number in range(3):
            records.put(ready("a", detail=f"{number}"))
            records._check()
            await records.settled()
        both = records.degraded_reason
    assert both.endswith(f"; and {about_pins}")
    assert str(disk.servers) in both.removesuffix(about_pins)
    with capture_logs() as after:
        records._check()
        await records.settled()
        assert records.degraded_reason == about_pins
        pins.rename(disk.state_dir / "moved away")
        records._check()
        await records.settled()
    assert records.degraded_reason == ""
    logged = [(line["event"], line.get("why")) for line in (*at_start, *while_full, *after)]
    assert logged == [
        ("records cannot be written", about_pins),
        ("records cannot be written", both),
        ("records cannot be written", about_pins),
        ("records are written again", None),
    ]


async def test_namings_and_pins_that_could_not_be_read_are_both_told(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("runtime_models.json", "pins.json")
    paths = said(disk, *names)
    unreadable(monkeypatch, *names)
    records = disk.service()
    await records.load()
    for _ in range(2):
        assert [str(path) in records.degraded_reason for path in paths] == [True, True]
        records._check()
        await records.settled()
