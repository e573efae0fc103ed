"""Settings belong to what is loaded, and not to the name that a caller gives it."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ModelUnknown
from pool_service.core.results import Reloaded
from pool_service.core.server import Phase, StopSignal
from pool_service.core.types import FOREVER, Settings
from tests.pool.holds import holding
from tests.pool.running import DEFAULTS, LIMITS, Running, running
from tests.world import KILLED, Script

OWN = "/models/own"
SECTION = Settings(
    runtime_model=OWN,
    keep_alive=FOREVER,
    runtime="special",
    arguments=("--special",),
    environment=(("SECRET", "s"),),
    trust_remote_code=True,
    download=True,
    config_hash="of the section",
    pinned=True,
    preload=True,
    expected_memory=5,
    memory_limit=7,
    groups=("g",),
)
OTHERS = (
    *("/models/other", "org/name", "/models/own/", "/models//own", "/models/x/../own"),
    *("/models/./own", "/MODELS/own", "models/own", "own", "/models/own "),
)
"""Other models, and other spellings, which may come to mean other files at any time."""

pytestmark = pytest.mark.looptime


def catalogue(*, only_listed: bool = False, section: Settings = SECTION) -> Catalogue:
    return Catalogue(DEFAULTS, {"m": section}, {"alias": "m"}, only_listed)


async def reload(run: Running, catalogue: Catalogue) -> Reloaded:
    return await run.pool.reload(catalogue, LIMITS)


@pytest.mark.parametrize("other", OTHERS)
def test_another_runtime_model_is_run_as_one_without_a_section(other: str) -> None:
    expected = replace(DEFAULTS, runtime_model=other, asked=True)
    assert catalogue().settings_for("m", other) == expected
    assert not catalogue(only_listed=True).serves("m", other)


def test_the_sections_own_runtime_model_keeps_its_settings_when_a_caller_names_it() -> None:
    assert catalogue().settings_for("m", OWN) == catalogue().settings_for("m") == SECTION
    assert catalogue(only_listed=True).serves("m", OWN)


def test_a_section_without_a_runtime_model_speaks_of_its_name() -> None:
    models = {"vllm-mlx/org/name": replace(SECTION, runtime_model="")}
    listed = Catalogue(DEFAULTS, models, {}, only_listed=True)
    own = listed.settings_for("vllm-mlx/org/name", "org/name")
    assert own.trust_remote_code
    assert not own.asked
    assert listed.serves("vllm-mlx/org/name", "org/name")
    assert not listed.serves("vllm-mlx/org/name", "vllm-mlx/org/name")


@pytest.mark.parametrize("name", ["m", "alias"])
async def test_where_only_what_is_listed_counts_another_runtime_model_is_refused(name: str) -> None:
    models = {"m": replace(SECTION, preload=False, runtime="", groups=())}
    async with running(models=models, aliases={"alias": "m"}, only_listed=True) as run:
        with pytest.raises(ModelUnknown, match="not in the catalogue as '/models/other'"):
            await run.pool.ensure(name, runtime_model="/models/other")
        async with holding(run, name, runtime_model="/models/other") as holder:
            assert isinstance(holder.end, ModelUnknown)
        with pytest.raises(ModelUnknown, match="not in the catalogue as '/models/other'"):
            await anext(run.pool.models.pull(name, "/models/other"))
        assert run.world.times("spawn") == []
        assert (await run.pool.ensure(name, runtime_model=OWN)).server.settings.trust_remote_code


async def test_a_pin_of_the_section_does_not_bring_another_runtime_model_back() -> None:
    models = {"m": Settings(runtime_model=OWN, pinned=True)}
    async with running(models=models) as run:
        await run.pool.ensure("m", runtime_model="/models/other")
        run.world.of("m").end(KILLED)
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.FAILED


async def test_a_server_that_was_adopted_is_no_more_trusted_than_it_was() -> None:
    section = replace(SECTION, preload=False, runtime="", groups=(), pinned=False)
    async with running(models={"m": section}, keep_alive=1000.0) as run:
        await run.pool.ensure("m", runtime_model="/models/other")
        before = run.server("m").settings
        await run.restart()
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.READY
        assert run.server("m").settings == before
        assert not run.server("m").settings.trust_remote_code


async def test_a_section_that_names_another_runtime_model_trusts_what_runs_no_longer() -> None:
    section = replace(SECTION, preload=False, runtime="", groups=())
    async with running(models={"m": section}) as run:
        await run.pool.ensure("m", runtime_model=OWN)
        elsewhere = replace(section, runtime_model="/models/elsewhere")
        assert await reload(run, catalogue(section=elsewhere)) == Reloaded(replaced=("m",))
        assert run.server("m").outdated
        again = catalogue(section=elsewhere).settings_for("m", OWN)
        assert not again.trust_remote_code


async def test_what_is_no_longer_listed_as_what_it_runs_is_handed_out_no_more() -> None:
    section = replace(SECTION, preload=False, runtime="", groups=(), pinned=False)
    async with running(models={"m": section}) as run:
        await run.pool.ensure("m", runtime_model="/models/other")
        listed = catalogue(only_listed=True, section=section)
        assert await reload(run, listed) == Reloaded(removed=("m",))
        with pytest.raises(ModelUnknown, match="not in the catalogue as '/models/other'"):
            await run.pool.ensure("m")
        await asyncio.sleep(DEFAULTS.grace_period + 1)
        assert run.phase("m") is None
        assert (await run.pool.ensure("m")).server.settings.runtime_model == OWN


async def test_who_holds_what_is_listed_no_longer_as_that_gets_what_is_listed() -> None:
    section = replace(SECTION, preload=False, runtime="", groups=())
    async with running(models={"m": section}) as run:
        await run.pool.ensure("m", runtime_model="/models/other")
        async with holding(run, "m"):
            await reload(run, catalogue(only_listed=True, section=section))
            run.world.of("m").end(KILLED)
            await asyncio.sleep(1)
            assert run.server("m").settings.runtime_model == OWN


async def test_what_died_is_not_repaired_as_what_is_listed_no_longer() -> None:
    section = replace(SECTION, preload=False, runtime="", groups=(), pinned=False)
    async with running(models={"m": section}) as run:
        await run.pool.ensure("m", runtime_model="/models/other")
        run.world.of("m").end(KILLED)
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.FAILED
        await reload(run, catalogue(only_listed=True, section=section))
        assert (await run.pool.ensure("m")).server.settings.runtime_model == OWN


async def test_a_waiting_hold_of_a_model_that_is_no_longer_listed_gets_one_error() -> None:
    section = replace(SECTION, preload=False, runtime="", groups=(), pinned=False)
    async with running(models={"m": section}) as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 20.0}))
        await run.pool.ensure("m", keep_alive=0.0)
        await asyncio.sleep(DEFAULTS.grace_period + 5)
        assert run.phase("m") is Phase.STOPPING
        async with holding(run, "m", runtime_model="/models/other") as holder:
            await reload(run, catalogue(only_listed=True, section=section))
            await asyncio.sleep(100)
            assert isinstance(holder.end, ModelUnknown)
            assert run.phase("m") is None
