"""A runtime model that was named once is meant until it is forgotten."""

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ModelUnknown, StartFailed
from pool_service.core.remembered import MAX_NAMINGS, Namings
from pool_service.core.server import Phase
from pool_service.core.types import Settings
from tests.pool.running import DEFAULTS, LIMITS, Running, now, running
from tests.world import Script

pytestmark = pytest.mark.looptime


async def runs(run: Running, model: str, runtime_model: str = "") -> str:
    ensured = await run.pool.ensure(model, runtime_model)
    return ensured.server.settings.runtime_model


async def test_what_was_named_is_meant_after_an_eviction_and_after_a_restart() -> None:
    async with running() as run:
        assert await runs(run, "q", "/models/q") == "/models/q"
        await run.pool.evict("q")
        assert await runs(run, "q") == "/models/q"
        await run.pool.evict("q")
        await run.restart()
        assert await runs(run, "q") == "/models/q"


async def test_a_hold_names_it_as_well() -> None:
    async with running() as run:
        stream = run.pool.hold("q", "/models/q")
        async for server in stream:
            if server.phase is Phase.READY:
                break
        await stream.aclose()
        await run.pool.evict("q")
        assert await runs(run, "q") == "/models/q"


async def test_the_last_one_named_counts_and_the_models_own_ends_it() -> None:
    async with running() as run:
        for named, meant in (("/a", "/a"), ("/b", "/b"), ("q", "q")):
            assert await runs(run, "q", named) == named
            await run.pool.evict("q")
            assert await runs(run, "q") == meant
            await run.pool.evict("q")
    assert run.world.records.namings == {}


async def test_what_never_became_ready_is_not_remembered() -> None:
    async with running() as run:
        run.world.script("q", Script(dies=0.1))
        with pytest.raises(StartFailed):
            await run.pool.ensure("q", "/typo")
        assert run.world.records.namings == {}


async def test_forget_returns_when_the_disk_has_forgotten_it_too() -> None:
    async with running() as run:
        await runs(run, "q", "/models/q")
        run.world.records.write()
        run.world.records.flushing, began = 2.0, now()
        await run.pool.forget("q")
        assert now() - began == 2.0
        assert run.world.records.namings == {}


async def test_forget_returns_it_and_leaves_the_server_as_it_is() -> None:
    async with running() as run:
        await runs(run, "q", "/models/q")
        assert await run.pool.forget("q") == "/models/q"
        assert await run.pool.forget("q") == ""
        assert run.world.records.namings == {}
        assert await runs(run, "q") == "/models/q"
        await run.pool.evict("q")
        assert await runs(run, "q") == "q"


async def test_the_configuration_wins_and_a_reload_that_lists_the_model_ends_it() -> None:
    listed = Catalogue(DEFAULTS, {"q": Settings(runtime_model="/listed")})
    async with running() as run:
        await runs(run, "q", "/models/q")
        await run.pool.evict("q")
        await run.pool.reload(listed, LIMITS)
        run.world.records.write()
        assert run.world.records.namings == {}
        assert await runs(run, "q") == "/listed"
        await run.pool.evict("q")
        assert await runs(run, "q", "/other") == "/other"
        await run.pool.evict("q")
        assert await runs(run, "q") == "/listed"
        await run.pool.evict("q")
        await run.pool.reload(Catalogue(DEFAULTS), LIMITS)
        assert await runs(run, "q") == "q"


async def test_where_only_listed_models_are_served_a_memory_opens_nothing() -> None:
    async with running() as run:
        await runs(run, "q", "/models/q")
        await run.pool.evict("q")
        await run.pool.reload(Catalogue(DEFAULTS, only_listed=True), LIMITS)
        with pytest.raises(ModelUnknown):
            await run.pool.ensure("q")


async def test_a_pull_means_the_same_model() -> None:
    async with running() as run:
        await runs(run, "q", "org/q")
        assert run.pool._machine.settings_for("q", "")[1].runtime_model == "org/q"


async def test_a_server_that_is_there_costs_no_write_however_often_it_is_named() -> None:
    async with running() as run:
        await runs(run, "q", "/models/q")
        namings = run.world.records._unwritten_namings
        for _ in range(3):
            await runs(run, "q", "/models/q")
        assert run.world.records._unwritten_namings is namings
        server = run.pool._machine.get("q")
        assert server is not None
        assert server.phase is Phase.READY


async def test_what_is_found_is_what_runs_what_was_named_and_what_the_cache_has() -> None:
    listed = Catalogue(DEFAULTS, {"own": Settings(runtime_model="org/loaded")})
    async with running() as run:
        run.world.in_cache = ("org/cached", "org/loaded", "bad name\n", "q")
        await run.pool.reload(listed, LIMITS)
        await runs(run, "named", "/models/n")
        await run.pool.evict("named")
        await runs(run, "runs")
        entries = await run.pool.models.page(None, 99, found=True)
        assert [(one.model, one.listed, one.phase) for one in entries] == [
            ("named", False, None),
            ("org/cached", False, None),
            ("own", True, None),
            ("q", False, None),
            ("runs", False, Phase.READY),
        ]
        assert entries[0].settings.runtime_model == "/models/n"
        assert [one.model for one in await run.pool.models.page("own", 1, found=True)] == ["q"]
        assert [one.model for one in await run.pool.models.page(None, 99)] == ["own"]


@pytest.mark.parametrize("leaves", [True, False])
async def test_the_order_in_which_they_were_named_is_recorded_when_the_service_ends(
    *, leaves: bool
) -> None:
    async with running() as run:
        for model in ("q", "r", "q"):
            await runs(run, model, f"/models/{model}")
        run.world.records.write()
        assert list(run.world.records.namings) == ["q", "r"], "a repeated name is not written"
        await (run.pool.leave() if leaves else run.pool.shutdown())
        assert list(run.world.records.namings) == ["r", "q"]
        await run.start()


def test_only_a_changed_order_is_new() -> None:
    namings = Namings()
    for model in ("q", "r", "r"):
        namings.add(model, "x")
    assert not namings.is_reordered
    namings.add("q", "x")
    assert namings.is_reordered


def test_the_one_named_longest_ago_is_forgotten() -> None:
    namings = Namings()
    for number in range(MAX_NAMINGS):
        assert namings.add(f"m{number}", "r")
    assert not namings.add("m0", "r")
    assert namings.add("further", "r")
    assert (namings.get("m0"), namings.get("m1"), len(namings.all())) == ("r", "", MAX_NAMINGS)
