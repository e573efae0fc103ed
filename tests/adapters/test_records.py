"""Records as files: what comes back, and how it is written."""

import asyncio
import threading
from dataclasses import replace

import pytest

from pool_service.adapters.records import records as module
from pool_service.adapters.records.record_files import Outcome, RecordFiles, file_name
from pool_service.adapters.records.record_format import Entry
from pool_service.core.server import LastRun, RecoveredState, Role, Server
from tests.adapters.disk import END, ENDED, NOW, Disk
from tests.adapters.remembered import ready

# --- what comes back -------------------------------------------------------------------


async def test_the_next_service_knows_every_server(disk: Disk) -> None:
    await disk.keeps(ready("a"), ready("b", 7))
    remembered = await disk.loaded()
    assert {server.model: server for server in remembered.servers} == {
        "a": ready("a"),
        "b": ready("b", 7),
    }
    assert (remembered.pasts, remembered.damaged) == ((), ())


async def test_nothing_is_remembered_where_nothing_was(disk: Disk) -> None:
    assert await disk.loaded() == RecoveredState()


async def test_of_a_removed_server_its_generation_and_last_exit_stay(disk: Disk) -> None:
    records = await disk.keeps(ENDED)
    records.remove(ENDED)
    await records.settled()
    assert await disk.loaded() == RecoveredState(pasts=(LastRun("ended", 3, END),))


async def test_a_server_that_never_had_a_process_leaves_nothing(disk: Disk) -> None:
    never = ready("never", generation=0)
    records = await disk.keeps(never)
    records.remove(never)
    await records.settled()
    assert not disk.path("never").exists()


async def test_what_ran_beside_another_server_of_its_model_leaves_nothing(disk: Disk) -> None:
    retired = replace(ENDED, role=Role.SUPERSEDED)
    records = await disk.keeps(retired)
    records.remove(retired)
    await records.settled()
    assert await disk.loaded() == RecoveredState()


async def test_a_model_that_comes_back_is_no_past_any_more(disk: Disk) -> None:
    records = await disk.keeps(ENDED)
    records.remove(ENDED)
    records.put(replace(ENDED, generation=4))
    await records.settled()
    remembered = await disk.loaded()
    assert (len(remembered.servers), remembered.pasts) == (1, ())


async def test_only_the_newest_pasts_are_kept(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PASTS", 3)
    records = disk.service()
    for number in range(5):
        records.remove(ready(f"m{number}"))
        await records.settled()
    assert sorted(path.name for path in disk.servers.iterdir()) == sorted(
        file_name(f"m{number}") for number in (2, 3, 4)
    )
    again = disk.service()
    await again.load()
    again.remove(ready("m5"))
    await again.settled()
    assert not disk.path("m2").exists()
    assert disk.path("m3").exists()


async def test_a_model_that_came_back_is_no_past_that_is_dropped(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PASTS", 1)
    records = disk.service()
    records.remove(ready("a"))
    records.put(ready("a"))
    records.remove(ready("b"))
    await records.settled()
    assert (disk.says("a"), disk.says("b")) == (ready("a"), LastRun("b", 1, None))


async def test_servers_of_another_boot_are_past_and_ended_by_now(disk: Disk) -> None:
    await disk.keeps(ENDED, ready("fresh", 2))
    remembered = await disk.loaded(boot="the next boot")
    assert remembered.servers == ()
    assert set(remembered.pasts) == {
        LastRun("ended", 3, replace(END, at=NOW)),
        LastRun("fresh", 2, None),
    }


async def test_a_record_is_its_owners_alone(disk: Disk) -> None:
    await disk.keeps(ready("a"))
    assert disk.path("a").stat().st_mode & 0o777 == 0o600
    assert disk.servers.stat().st_mode & 0o777 == 0o700


# --- writing ---------------------------------------------------------------------------


async def test_put_returns_before_anything_is_written(disk: Disk) -> None:
    records = disk.service()
    records.put(ready("a"))
    assert not disk.servers.exists()
    await records.settled()
    assert disk.says("a") == ready("a")


async def test_of_a_burst_only_the_newest_is_written_and_one_at_a_time(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    rounds: list[list[str]] = []
    write = RecordFiles.write

    def slow(
        self: RecordFiles, changed: dict[str, Server], known: dict[str, Entry], **how: bool
    ) -> Outcome:
        rounds.append([entry.detail for entry in changed.values()])
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(30)
        return write(self, changed, known, check=how["check"])

    monkeypatch.setattr(RecordFiles, "write", slow)
    records = disk.service()
    records.put(ready("a", detail="first"))
    await began.wait()
    for number in range(100):
        records.put(ready("a", detail=f"{number}"))
        records.put(ready("b", detail=f"{number}"))
    go_on.set()
    await records.settled()
    assert rounds == [["first"], ["99", "99"]]
    assert disk.says("a") == ready("a", detail="99")


async def test_a_reader_at_any_moment_sees_a_whole_record(disk: Disk) -> None:
    records = await disk.keeps(ready("a"))
    stop = threading.Event()

    def read() -> int:
        seen = 0
        while not stop.is_set():
            assert disk.says("a").model == "a"
            seen += 1
        return seen

    reading = asyncio.create_task(asyncio.to_thread(read))
    for number in range(50):
        records.put(ready("a", detail="x" * number * 100))
        await records.settled()
    stop.set()
    assert await reading > 0


async def test_what_a_write_that_was_cut_short_left_is_cleared_away(disk: Disk) -> None:
    await disk.keeps(ready("a"))
    half = disk.servers / f".{file_name('a')}.tmp"
    half.write_bytes(b'{"version"')
    remembered = await disk.loaded()
    assert (remembered.servers, remembered.damaged) == ((ready("a"),), ())
    assert not half.exists()


async def test_only_what_a_write_of_ours_left_is_cleared_away(disk: Disk) -> None:
    await disk.keeps(ready("a"))
    strangers = [disk.servers / name for name in (".notes", "a.json.tmp", "b.tmp")]
    for path in strangers:
        path.touch()
    await disk.loaded()
    assert [path for path in strangers if not path.exists()] == []


async def test_what_a_write_that_was_cut_short_left_does_not_hinder_the_next(disk: Disk) -> None:
    disk.servers.mkdir(parents=True)
    (disk.servers / f".{file_name('a')}.tmp").write_bytes(b'{"version"')
    await disk.keeps(ready("a"))
    assert disk.says("a") == ready("a")


async def test_without_anything_put_it_is_settled(disk: Disk) -> None:
    await disk.service().settled()


@pytest.mark.parametrize("fails", [False, True])
async def test_after_a_load_it_is_looked_again_whether_all_is_on_disk(
    disk: Disk, fails: bool
) -> None:
    if fails:
        disk.state_dir.write_text("no directory")
    records = disk.service()
    await records.load()
    assert records._timer is not None
    assert bool(records.degraded_reason) is fails
