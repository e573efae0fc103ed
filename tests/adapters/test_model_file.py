"""What callers said of models, on disk: the runtime models that they named, and their pins."""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.records import model_file
from pool_service.adapters.records.model_file import Found, ModelFile, namings_file, pins_file
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.system import own_files
from pool_service.adapters.system.own_files import SET_ASIDE, read_own
from pool_service.core.remembered import MAX_NAMINGS, MAX_PINS
from tests.adapters.disk import Disk, no_room
from tests.adapters.remembered import ready

NAMINGS = {"q": "/models/q", "vllm-mlx/p": "org/p é"}
PINS = {"q": True, "vllm-mlx/p": False}

NAMINGS_FILE = (namings_file, "runtime_models.json", NAMINGS)
PINS_FILE = (pins_file, "pins.json", PINS)
each_file = pytest.mark.parametrize(
    ("at", "name", "content"), [NAMINGS_FILE, PINS_FILE], ids=["namings", "pins"]
)

At = Callable[[Path], ModelFile[Any]]


def write(file: ModelFile[Any], content: dict[str, Any]) -> None:
    file.put(content)
    file.write(check=False)


def put(records: FileRecords, content: dict[str, Any]) -> None:
    """Put all namings or all pins, whichever it is."""
    if content == NAMINGS:
        records.put_namings(content)
    else:
        records.put_pins(content)


@each_file
def test_what_was_written_is_read(
    tmp_path: Path, at: At, name: str, content: dict[str, Any]
) -> None:
    file = at(tmp_path)
    assert file.read() == Found({})
    write(file, content)
    assert at(tmp_path).read() == Found(content)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("at", "name", "content"),
    [
        *(
            (at, name, content)
            for at, name, _ in (NAMINGS_FILE, PINS_FILE)
            for content in ("", "[" * 100_000, "7", '{"version": 1}')
        ),
        *(
            (namings_file, "runtime_models.json", content)
            for content in (
                '{"version": 2, "runtime_models": {}}',
                '{"version": 1, "runtime_models": {"q": 7}}',
                '{"version": 1, "runtime_models": {"q": "--option"}}',
                '{"version": 1, "runtime_models": {"../q": "r"}}',
                json.dumps(
                    {"version": 1, "runtime_models": {f"m{n}": "r" for n in range(MAX_NAMINGS + 1)}}
                ),
            )
        ),
        *(
            (pins_file, "pins.json", content)
            for content in (
                '{"version": 2, "pinned": {}}',
                '{"version": 1, "pinned": {"q": 1}}',
                '{"version": 1, "pinned": {"q": null}}',
                '{"version": 1, "pinned": {"../q": true}}',
                json.dumps({"version": 1, "pinned": {f"m{n}": True for n in range(MAX_PINS + 1)}}),
            )
        ),
    ],
)
def test_a_damaged_file_is_set_aside_and_told(
    tmp_path: Path, at: At, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    file = at(tmp_path)
    assert file.read() == Found({}, (name,))
    assert (tmp_path / f"{name}.set-aside").read_text() == content
    assert file.read() == Found({})


def test_as_many_as_are_remembered_are_read_again(tmp_path: Path) -> None:
    namings = {f"m{number}": "r" for number in range(MAX_NAMINGS)}
    write(namings_file(tmp_path), namings)
    assert namings_file(tmp_path).read() == Found(namings)
    pins = {f"m{number}": True for number in range(MAX_PINS)}
    write(pins_file(tmp_path), pins)
    assert pins_file(tmp_path).read() == Found(pins)


@each_file
def test_what_is_no_file_of_ours_is_not_read(
    tmp_path: Path, at: At, name: str, content: dict[str, Any]
) -> None:
    os.mkfifo(tmp_path / name)
    assert at(tmp_path).read().damaged
    write(at(tmp_path), content)
    assert at(tmp_path).read() == Found(content)


@each_file
async def test_records_keep_them_and_write_them_again_where_they_are_gone(
    disk: Disk, at: At, name: str, content: dict[str, Any]
) -> None:
    records = await disk.keeps()
    put(records, content)
    await records.settled()
    found = await disk.loaded()
    assert content in (found.namings, found.pins)
    # Of an earlier service as well, which put nothing itself.
    records = disk.service()
    await records.load()
    path = disk.state_dir / name
    path.unlink()
    records._check()
    await records.settled()
    assert at(disk.state_dir).read() == Found(content)


@each_file
async def test_what_is_on_disk_and_stays_the_same_is_not_written_again(
    disk: Disk, at: At, name: str, content: dict[str, Any]
) -> None:
    records = await disk.keeps()
    put(records, content)
    await records.settled()
    path = disk.state_dir / name
    with path.open() as written:
        records.put(ready("a"))
        await records.settled()
        records._check()
        await records.settled()
        assert os.path.samestat(os.fstat(written.fileno()), path.stat())


@each_file
async def test_what_a_full_disk_does_not_take_is_said_and_written_when_it_does(
    disk: Disk, at: At, name: str, content: dict[str, Any]
) -> None:
    records = await disk.keeps(ready("a"))
    with no_room():
        put(records, content)
        await records.settled()
        assert str(disk.state_dir) in records.degraded_reason
        assert at(disk.state_dir).read() == Found({})
    records._check()
    await records.settled()
    assert records.degraded_reason == ""
    assert at(disk.state_dir).read() == Found(content)


def unreadable(monkeypatch: pytest.MonkeyPatch, name: str, error: int) -> None:
    """Let every read of a file fail as by a bad sector, or a mode that a user has set."""

    def failing(path: Path, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - as of `read_own`
        if path.name == name:
            raise OSError(error, os.strerror(error), str(path))
        return read_own(path, *given, **more)

    monkeypatch.setattr(model_file, "read_own", failing)


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE])
@each_file
async def test_a_file_that_cannot_be_read_is_left_as_it_is_and_that_is_told_until_it_is_gone(
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
    at: At,
    name: str,
    content: dict[str, Any],
) -> None:
    disk.state_dir.mkdir()
    write(at(disk.state_dir), content)
    path = disk.state_dir / name
    before = path.read_bytes()
    records = disk.service()
    unreadable(monkeypatch, name, error)
    assert (await records.load()).damaged == ()
    assert f"{path}: it could not be read ({os.strerror(error)}" in records.degraded_reason
    if content == PINS:
        records.put_pins({"more": True})
    else:
        records.put_namings({"more": "/models/more"})
    for _ in range(2):
        records._check()
        await records.settled()
        assert path.read_bytes() == before
        assert "is left as it is" in records.degraded_reason
    path.rename(disk.state_dir / "moved away")
    records._check()
    await records.settled()
    assert records.degraded_reason == ""
    monkeypatch.undo()
    assert "more" in at(disk.state_dir).read().content


@each_file
async def test_a_damaged_file_that_cannot_be_moved_is_not_replaced_either(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, at: At, name: str, content: dict[str, Any]
) -> None:
    records = await disk.keeps(ready("a"))
    path = disk.state_dir / name
    path.write_text("{")
    (disk.state_dir / f"{name}{SET_ASIDE}").mkdir()
    records = disk.service()
    assert [one.model for one in (await records.load()).servers] == ["a"]
    put(records, content)
    await records.settled()
    assert path.read_text() == "{"
    assert "is left as it is" in records.degraded_reason


async def test_a_directory_of_servers_that_cannot_be_read_costs_no_pins(disk: Disk) -> None:
    records = await disk.keeps(ready("a"))
    records.put_pins(PINS)
    records.put_namings(NAMINGS)
    await records.settled()
    disk.servers.rename(disk.state_dir / "elsewhere")
    disk.servers.write_text("in the way")
    records = disk.service()
    remembered = await records.load()
    assert (remembered.pins, remembered.namings) == (PINS, NAMINGS)
    assert "move it away" in records.degraded_reason
    records.put_pins({**PINS, "more": True})
    await records.settled()
    assert pins_file(disk.state_dir).read().content == {**PINS, "more": True}


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_said_is_on_the_disk_itself_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    done = list[str]()
    replace = os.replace

    def flushed(descriptor: int) -> None:
        status, content = os.fstat(descriptor), tmp_path / "pins.tmp"
        is_directory = os.path.samestat(status, tmp_path.stat())
        assert is_directory or os.path.samestat(status, content.stat())
        done.append("directory" if is_directory else content.read_text())
        if fails:
            raise OSError(errno.EIO, "the disk failed")

    def renamed(before: Path, after: Path) -> None:
        done.append("rename")
        replace(before, after)

    monkeypatch.setattr(own_files, "flush_to_disk", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    file = pins_file(tmp_path)
    if fails:
        with pytest.raises(OSError, match="the disk failed"):
            write(file, PINS)
        assert pins_file(tmp_path).read().content == {}
        return
    write(file, PINS)
    assert done == [(tmp_path / "pins.json").read_text(), "rename", "directory"]


@each_file
async def test_a_damaged_file_costs_nothing_else(
    disk: Disk, at: At, name: str, content: dict[str, Any]
) -> None:
    records = await disk.keeps(ready("a"))
    records.put_namings(NAMINGS)
    records.put_pins(PINS)
    await records.settled()
    (disk.state_dir / name).write_text("{")
    remembered = await disk.loaded()
    assert [server.model for server in remembered.servers] == ["a"]
    assert remembered.damaged == (name,)
    lost_namings = content == NAMINGS
    assert remembered.namings == ({} if lost_namings else NAMINGS)
    assert remembered.pins == (PINS if lost_namings else {})
