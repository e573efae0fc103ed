"""Claims about bounds: on names that callers invent, and of a machine short of processes."""

import asyncio

import pytest

from pool_service.core import remembered
from pool_service.core.errors import ModelRejected, RuntimeUnavailable, StartFailed
from pool_service.core.failure_display import MAX_FAILED
from pool_service.core.server import Phase
from pool_service.core.state import MAX_MODELS_REMEMBERED
from tests.pool.running import running
from tests.world import REJECTED, Script

pytestmark = pytest.mark.looptime


async def test_of_many_models_that_fail_the_newest_are_listed() -> None:
    async with running() as run:
        for number in range(MAX_FAILED + 20):
            model = f"m{number}"
            run.world.script(model, Script(load=0.02, dies=0.01, report=REJECTED))
            with pytest.raises(ModelRejected):
                await run.pool.ensure(model)
        await asyncio.sleep(1)
        assert run.pool.totals().by_phase[Phase.FAILED] == MAX_FAILED
        assert run.phase("m0") is None
        assert run.phase(f"m{MAX_FAILED + 19}") is Phase.FAILED
        assert len(run.pool._machine._state.pasts) <= MAX_MODELS_REMEMBERED


async def test_of_refused_starts_only_so_many_are_remembered() -> None:
    async with running() as run:
        for number in range(remembered.MAX_FAILED_STARTS + 20):
            model = f"m{number}"
            run.world.script(model, Script(raises={"prepare": RuntimeUnavailable("none")}))
            with pytest.raises(RuntimeUnavailable):
                await run.pool.ensure(model)
        assert len(run.pool._machine._state.failed_starts._by_model) == remembered.MAX_FAILED_STARTS
        assert run.pool.totals().servers == 0


@pytest.mark.parametrize("step", ["estimate", "prepare", "spawn"])
async def test_where_the_system_allows_no_more_threads_the_start_fails_with_the_cause(
    step: str,
) -> None:
    async with running() as run:
        short = RuntimeError("can't start new thread")
        run.world.script("m", Script(raises={step: short}), Script())
        with pytest.raises(StartFailed, match=r"pids\.max"):
            await run.pool.ensure("m")
        await asyncio.sleep(60)
        assert not run.world.living
