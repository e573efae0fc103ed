"""The runtime models that callers named, on disk."""

import json
import os
import stat
from pathlib import Path

import pytest

from pool_service.adapters.records.namings_file import FoundNamings, NamingsFile
from pool_service.core.remembered import MAX_NAMINGS
from tests.adapters.disk import Disk
from tests.adapters.remembered import ready

NAMINGS = {"q": "/models/q", "vllm-mlx/p": "org/p é"}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = NamingsFile(tmp_path)
    assert file.read() == FoundNamings()
    file.write(NAMINGS)
    assert file.read() == FoundNamings(NAMINGS)
    assert stat.S_IMODE((tmp_path / "runtime_models.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["runtime_models.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "7",
        '{"version": 2, "runtime_models": {}}',
        '{"version": 1}',
        '{"version": 1, "runtime_models": {"q": 7}}',
        '{"version": 1, "runtime_models": {"q": "--option"}}',
        '{"version": 1, "runtime_models": {"../q": "r"}}',
        json.dumps(
            {"version": 1, "runtime_models": {f"m{n}": "r" for n in range(MAX_NAMINGS + 1)}}
        ),
    ],
)
def test_a_damaged_file_is_set_aside_and_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "runtime_models.json"
    path.write_text(content)
    file = NamingsFile(tmp_path)
    assert file.read() == FoundNamings(damaged=("runtime_models.json",))
    assert (tmp_path / "runtime_models.json.set-aside").read_text() == content
    assert file.read() == FoundNamings()


def test_as_many_as_are_remembered_are_read_again(tmp_path: Path) -> None:
    namings = {f"m{number}": "r" for number in range(MAX_NAMINGS)}
    NamingsFile(tmp_path).write(namings)
    assert NamingsFile(tmp_path).read() == FoundNamings(namings)


def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runtime_models.json")
    assert NamingsFile(tmp_path).read().damaged
    NamingsFile(tmp_path).write(NAMINGS)
    assert NamingsFile(tmp_path).read() == FoundNamings(NAMINGS)


async def test_records_keep_them_and_write_them_again_where_they_are_gone(disk: Disk) -> None:
    records = await disk.keeps()
    records.put_namings(NAMINGS)
    await records.settled()
    assert (await disk.loaded()).namings == NAMINGS
    path = disk.state_dir / "runtime_models.json"
    path.unlink()
    records._check()
    await records.settled()
    assert path.exists()


async def test_what_is_on_disk_and_stays_the_same_is_not_written_again(disk: Disk) -> None:
    records = await disk.keeps()
    records.put_namings(NAMINGS)
    await records.settled()
    path = disk.state_dir / "runtime_models.json"
    with path.open() as written:
        records.put(ready("a"))
        await records.settled()
        records._check()
        await records.settled()
        assert os.path.samestat(os.fstat(written.fileno()), path.stat())


async def test_a_damaged_file_costs_no_record(disk: Disk) -> None:
    disk.state_dir.mkdir()
    (disk.state_dir / "runtime_models.json").write_text("{")
    remembered = await disk.loaded()
    assert (remembered.namings, remembered.damaged) == ({}, ("runtime_models.json",))
