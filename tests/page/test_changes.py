"""The changes of state that the timeline shows: of this service, and of those before it."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pool_service.core.commands import Preemptor, Publish
from pool_service.core.server import Phase, Server
from pool_service.page import recent_changes
from pool_service.page.recent_changes import KEPT, RecentChanges, Record
from pool_service.v1 import pool_service_pb2 as pb
from tests.page.paging import paged
from tests.pool.running import DEFAULTS
from tests.world import Script, settled

NOW = datetime.now(UTC)
READY = "SERVER_STATE_READY"


def server(phase: Phase = Phase.READY, model: str = "m") -> Server:
    return Server(model, DEFAULTS, phase, 1, created_at=0.0, last_used_at=0.0, keep_alive=0.0)


def start_of(changes: RecentChanges, model: str) -> None:
    changes.observe(Publish(server(Phase.QUEUED, model), None))


def end_of(changes: RecentChanges, model: str) -> None:
    gone = server(Phase.CLEANING_UP, model)
    changes.observe(Publish(gone, Phase.CLEANING_UP, removed=True))


async def read(changes: RecentChanges, cursor: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await changes.as_json(cursor))
    return found


def models(found: dict[str, Any]) -> list[str]:
    return [one["model"] for one in found["changes"]]


def event(at: datetime = NOW - timedelta(minutes=1), **values: object) -> str:
    known = {"ts": at.isoformat(), "kind": "transition", "model": "m", "generation": 1}
    return json.dumps(known | {"before": "STARTING", "after": "READY"} | values)


# --- what is told -----------------------------------------------------------------------


async def test_the_phases_of_one_state_are_one_change(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        states = [one["state"] for one in (await told.called("Changes", b""))["changes"]]
    assert states == ["SERVER_STATE_QUEUED", "SERVER_STATE_STARTING", READY]


async def test_a_crash_is_told_with_its_cause_and_what_happened(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        told.service.world.script("m", Script(load=0.0))
        await told.service.ensure("m")
        told.service.world.of("m").end()
        phases = (Phase.BACKING_OFF, Phase.FAILED)
        await settled(lambda: told.service.pool.page(None, 1)[0].phase in phases)
        *_, stopping, _after = (await told.called("Changes", b""))["changes"]
    assert (stopping["state"], stopping["cause"]) == ("SERVER_STATE_STOPPING", "CRASHED")
    assert "exited with code 1" in stopping["why"]


async def test_an_eviction_is_told_with_its_cause(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        await told.service.stub.Evict(pb.EvictRequest(model="m"))
        *_, stopping, _gone = (await told.called("Changes", b""))["changes"]
    assert (stopping["cause"], stopping["why"]) == ("EVICTED", "it was evicted")


async def test_a_preemption_is_told_with_the_model_that_it_is_for(tmp_path: Path) -> None:
    changes = RecentChanges(tmp_path)
    changes.observe(Publish(server(Phase.STOPPING), Phase.READY, preemptor=Preemptor("big", 5)))
    (one,) = (await read(changes))["changes"]
    assert one["preemptor"] == "big"


# --- by cursor --------------------------------------------------------------------------


async def test_a_cursor_gives_what_came_after_it(tmp_path: Path) -> None:
    changes = RecentChanges(tmp_path)
    start_of(changes, "a")
    first = await read(changes)
    assert (models(first), first["whole"]) == (["a"], True)
    assert models(await read(changes, first["cursor"])) == []
    start_of(changes, "b")
    second = await read(changes, first["cursor"])
    assert (models(second), second["whole"]) == (["b"], False)


@pytest.mark.parametrize(
    "cursor_of",
    [
        lambda _cursor: "nonsense",
        lambda cursor: cursor.replace("20", "19", 1),
        lambda cursor: cursor.partition("/")[0],
        lambda cursor: cursor + "0" * 5000,
        lambda cursor: cursor + "0",
        lambda cursor: cursor.replace("/", "/-"),
        lambda cursor: cursor.replace("/1", "/\u00b9"),
    ],
    ids=["no cursor", "of another service", "cut", "huge", "future", "negative", "superscript"],
)
async def test_an_unknown_cursor_gives_all(cursor_of: Callable[[str], str], tmp_path: Path) -> None:
    changes = RecentChanges(tmp_path)
    start_of(changes, "a")
    cursor = (await read(changes))["cursor"]
    found = await read(changes, cursor_of(cursor))
    assert (models(found), found["whole"]) == (["a"], True)


async def test_a_cursor_that_is_too_old_gives_all_that_are_kept(tmp_path: Path) -> None:
    changes = RecentChanges(tmp_path)
    end_of(changes, "first")
    cursor = (await read(changes))["cursor"]
    for number in range(KEPT):
        end_of(changes, str(number))
    just = await read(changes, cursor)
    assert (len(just["changes"]), just["whole"]) == (KEPT, False)
    end_of(changes, "last")
    found = await read(changes, cursor)
    assert (len(found["changes"]), found["whole"]) == (KEPT, True)
    assert (models(found)[0], models(found)[-1]) == ("1", "last")


# --- of more than are kept --------------------------------------------------------------


async def test_a_server_that_runs_all_along_is_told_however_many_others_come_and_go(
    tmp_path: Path,
) -> None:
    changes = RecentChanges(tmp_path)
    for phase in (Phase.QUEUED, Phase.STARTING, Phase.READY):
        changes.observe(Publish(server(phase, "stays"), None))
    for number in range(KEPT):
        end_of(changes, f"m{number}")
    found = await read(changes)
    first, second, *_ = found["changes"]
    assert (first["model"], first["state"]) == ("stays", READY)
    assert (len(found["changes"]), second["model"]) == (KEPT + 1, "m0")
    assert found["since"] == second["at"] > first["at"]


async def test_a_server_that_is_gone_is_not_kept_besides(tmp_path: Path) -> None:
    changes = RecentChanges(tmp_path)
    start_of(changes, "m")
    end_of(changes, "m")
    for number in range(KEPT):
        end_of(changes, f"m{number}")
    found = await read(changes)
    assert (len(found["changes"]), models(found)[0]) == (KEPT, "m0")


async def test_all_changes_are_told_with_the_time_since_when_none_is_missing(
    tmp_path: Path,
) -> None:
    alone = await read(RecentChanges(tmp_path))
    assert alone["since"] == alone["began"]
    first = {"ts": (NOW - timedelta(hours=2)).isoformat(), "kind": "service", "what": "started"}
    (tmp_path / "events.jsonl").write_text(json.dumps(first) + "\n" + event() + "\n")
    changes = RecentChanges(tmp_path)
    found = await read(changes)
    assert found["since"] == (NOW - timedelta(hours=2)).timestamp()
    assert found["began"] <= found["now"]
    assert (await read(changes, found["cursor"]))["since"] is None


async def test_a_server_of_days_ago_is_told_if_it_is_still_there(tmp_path: Path) -> None:
    days = NOW - timedelta(days=3)
    (tmp_path / "events.jsonl").write_text(
        event(days, model="stays") + "\n" + event(days, model="lost") + "\n"
    )
    changes = RecentChanges(tmp_path)
    changes.observe(Publish(server(Phase.READY, "stays"), None))
    found = await read(changes)
    assert models(found) == ["stays", "stays"]
    assert found["changes"][0]["at"] == days.timestamp()
    assert found["since"] == pytest.approx(found["began"] - recent_changes.KEPT_S)


# --- of earlier services ----------------------------------------------------------------


async def test_changes_of_earlier_services_come_first(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(
        event(model="old") + "\n" + event(model="gone", before="CLEANING_UP", after=None) + "\n"
    )
    changes = RecentChanges(tmp_path)
    start_of(changes, "new")
    found = await read(changes)
    assert models(found) == ["old", "gone", "new"]
    assert [one["state"] for one in found["changes"]] == [READY, "", "SERVER_STATE_QUEUED"]
    assert found["changes"][0]["at"] == pytest.approx((NOW - timedelta(minutes=1)).timestamp())


async def test_a_crash_on_disk_is_told_as_one_of_this_service(tmp_path: Path) -> None:
    crash = {"cause": "CRASHED", "message": "it was killed"}
    (tmp_path / "events.jsonl").write_text(
        event(before="READY", after="CLEANING_UP", exit=crash) + "\n"
    )
    (one,) = (await read(RecentChanges(tmp_path)))["changes"]
    assert (one["cause"], one["why"]) == ("CRASHED", "it was killed")


async def test_events_that_are_none_of_these_are_left_out(tmp_path: Path) -> None:
    lines = [
        event(NOW - timedelta(days=2), model="too old"),
        event(NOW + timedelta(hours=1), model="of this service"),
        event(model="of one state", before="PREPARING", after="SPAWNING"),
        event(model="of no phase", after="DANCING"),
        event(model="without time", ts=None),
        event(model="of no time", ts="2026"),
        event(model="with a number", exit=3),
        json.dumps({"kind": "transition", "ts": (NOW - timedelta(minutes=1)).isoformat()}),
        json.dumps({"kind": "call", "ts": NOW.isoformat(), "method": "Evict", "model": "call"}),
        "[1]",
        '{"broken',
        event(model="m"),
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    assert models(await read(RecentChanges(tmp_path))) == ["m"]


async def test_changes_while_the_disk_is_read_come_with_the_next_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, reading, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def slow(*_arguments: object) -> Record:
        loop.call_soon_threadsafe(reading.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return Record()

    monkeypatch.setattr(recent_changes, "_read_earlier", slow)
    changes = RecentChanges(tmp_path)
    start_of(changes, "a")
    first = asyncio.create_task(read(changes))
    await reading.wait()
    start_of(changes, "b")
    go_on.set()
    assert models(await first) == ["a"]
    assert models(await read(changes, (await first)["cursor"])) == ["b"]


async def test_a_page_that_goes_does_not_end_the_reading_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, reading, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    reads = 0

    def slow(*_arguments: object) -> Record:
        nonlocal reads
        reads += 1
        loop.call_soon_threadsafe(reading.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return Record()

    monkeypatch.setattr(recent_changes, "_read_earlier", slow)
    changes = RecentChanges(tmp_path)
    gone, stays = (asyncio.create_task(read(changes)) for _ in range(2))
    await reading.wait()
    gone.cancel()
    await asyncio.wait((gone,))
    go_on.set()
    assert models(await stays) == []
    assert reads == 1


async def test_without_events_on_disk_there_are_those_of_this_service(tmp_path: Path) -> None:
    changes = RecentChanges(tmp_path / "missing")
    start_of(changes, "a")
    assert models(await read(changes)) == ["a"]


async def test_a_reading_that_fails_is_begun_again_by_the_next_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> Record:
        raise RuntimeError("can't start new thread")

    (tmp_path / "events.jsonl").write_text(event(model="old") + "\n")
    changes = RecentChanges(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(recent_changes, "_read_earlier", fails)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await read(changes)
    assert models(await read(changes)) == ["old"]
