"""A mistake of ours costs one model: everything else goes on, in virtual time."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from pool_service import announcer
from pool_service.core.errors import PoolError
from pool_service.core.eviction_requests import EvictionRequests
from pool_service.core.idle import IdleChecks
from pool_service.core.internal_error_policy import MAX_FAULTS, RETRY_PAUSE_S
from pool_service.core.readiness import ReadyServers
from pool_service.core.requests import Requests
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Phase
from pool_service.core.service_recovery import Recovery
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.timers import Timers
from tests.pool.running import running
from tests.world import CRASH, Script

pytestmark = pytest.mark.looptime

Patch = pytest.MonkeyPatch


@dataclass
class Bug:
    """A method of the machine raises where it is about the model `bad`, so many times more."""

    left: int
    struck: int = 0

    def strike(self, args: tuple[Any, ...]) -> None:
        if self.left and any(_model_of(arg) == "bad" for arg in args):
            self.left -= 1
            self.struck += 1
            raise RuntimeError("a bug")


def _model_of(arg: object) -> object:
    """Return the model that an argument is about: a record, a server, an event, or a name."""
    about = getattr(arg, "server", getattr(arg, "server_id", arg))
    return getattr(about, "model", about)


PARTS = (
    EvictionRequests,
    IdleChecks,
    PoolState,
    ReadyServers,
    Recovery,
    Requests,
    Sampler,
    Scheduler,
    Stopper,
    Supervisor,
    Timers,
)


def breaking(patch: Patch, name: str, *, times: int = 1) -> Bug:
    """Let a method, PART.NAME, raise so many times where it is about the model `bad`."""
    part = next(part for part in PARTS if part.__name__ == name.partition(".")[0])
    method = name.partition(".")[2]
    original, bug = getattr(part, method), Bug(times)

    def broken(self: object, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        bug.strike(args)
        return original(self, *args, **more)

    patch.setattr(part, method, broken)
    return bug


@pytest.mark.parametrize(
    "name",
    [
        "Timers._act_on_deadline",
        "IdleChecks.check",
        "IdleChecks.on_activity_reported",
        "IdleChecks._cause_to_go",
    ],
)
async def test_what_is_due_beside_a_broken_one_is_done_in_time(
    monkeypatch: Patch, name: str
) -> None:
    bug = breaking(monkeypatch, name)
    async with running(keep_alive=30.0) as run:
        await asyncio.gather(run.ensure("bad"), run.ensure("good"))
        await asyncio.sleep(35)
        assert bug.struck == 1
        assert run.phase("good") is None
        await asyncio.sleep(2 * RETRY_PAUSE_S)
        assert run.phase("bad") is None


async def test_a_server_that_cannot_be_probed_ends_after_a_few_failures(monkeypatch: Patch) -> None:
    bug = breaking(monkeypatch, "IdleChecks.check", times=10**6)
    async with running(keep_alive=30.0) as run:
        await run.pool.ensure("bad")
        await asyncio.sleep(30 + RETRY_PAUSE_S * MAX_FAULTS + 5)
        assert bug.struck == MAX_FAULTS
        assert run.phase("bad") in {None, Phase.FAILED}
        assert run.world.living == []


@pytest.mark.parametrize(
    "name",
    [
        "Scheduler.on_memory_estimated",
        "Scheduler._try",
        "Supervisor.start",
        "Supervisor.on_prepared",
        "Supervisor.on_spawned",
        "ReadyServers.on_became_ready",
    ],
)
async def test_the_callers_of_a_broken_start_get_an_error_and_the_next_start_succeeds(
    monkeypatch: Patch, name: str
) -> None:
    bug = breaking(monkeypatch, name)
    async with running() as run:
        calls = [run.ensure("bad"), run.ensure("bad"), run.ensure("good")]
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert bug.struck == 1
        assert [type(one) for one in told[:2]] == [PoolError, PoolError]
        assert not isinstance(told[2], BaseException)
        await asyncio.sleep(60)
        assert (await run.pool.ensure("bad")).server.phase is Phase.READY


@pytest.mark.parametrize(
    "name",
    [
        "Supervisor.on_exited",
        "Supervisor.on_cleaned_up",
        "Supervisor.conclude",
        "Supervisor._start_again",
        "PoolState.put",
    ],
)
async def test_no_process_is_lost_where_its_end_breaks(monkeypatch: Patch, name: str) -> None:
    bug = breaking(monkeypatch, name, times=0)
    async with running() as run:
        run.world.script("bad", Script(dies=20.0, report=CRASH), Script())
        await asyncio.gather(run.ensure("bad"), run.ensure("good"))
        bug.left = 1
        await asyncio.sleep(60)
        assert bug.struck == 1
        assert run.phase("good") is Phase.READY
        assert len(run.world.living) == 1
        assert (await run.pool.ensure("bad")).server.phase is Phase.READY


@pytest.mark.parametrize("name", ["Recovery._adopt", "Recovery.on_adopted", "Recovery._take_over"])
async def test_no_process_is_lost_where_its_adoption_breaks(monkeypatch: Patch, name: str) -> None:
    bug = breaking(monkeypatch, name, times=0)
    async with running() as run:
        await asyncio.gather(run.ensure("bad"), run.ensure("good"))
        bug.left = 1
        await run.restart()
        await asyncio.sleep(30)
        assert bug.struck == 1
        assert run.phase("good") is Phase.READY
        assert [process.model for process in run.world.living] == ["good"]


async def test_a_broken_request_costs_that_call_alone(monkeypatch: Patch) -> None:
    bug = breaking(monkeypatch, "Requests.ensure", times=0)
    async with running() as run:
        await run.pool.ensure("bad")
        await asyncio.sleep(1)
        bug.left = 1
        with pytest.raises(PoolError):
            await run.pool.ensure("bad", keep_alive=5.0)
        assert run.phase("bad") is Phase.READY
        assert not (await run.pool.ensure("bad")).started


@pytest.mark.parametrize(
    "name",
    [
        "PoolState.put",
        "Timers._act_on_deadline",
        "Stopper.signal",
        "Supervisor.stop",
        "PoolState.drop",
        "PoolState.arm",
        "PoolState.due",
    ],
)
async def test_what_breaks_for_ever_goes_round_seldom(monkeypatch: Patch, name: str) -> None:
    bug = breaking(monkeypatch, name, times=0)
    async with running(keep_alive=30.0) as run:
        await asyncio.gather(run.ensure("bad"), run.ensure("good"))
        bug.left = 10**6
        await asyncio.sleep(600)
        assert run.phase("good") is None
        assert bug.struck < 600
        bug.left = 0


@pytest.mark.parametrize("whom", ["records", "history", "subscribers", "log"])
async def test_a_subscriber_that_fails_does_not_keep_the_others_from_a_change(
    monkeypatch: Patch, whom: str
) -> None:
    def breaks(*_args: object, **_more: object) -> None:
        raise RuntimeError("a bug")

    async with running(keep_alive=30.0) as run:
        if whom == "records":
            monkeypatch.setattr(run.world.records, "remove", breaks)
        elif whom == "history":
            monkeypatch.setattr(run.pool.history, "append", breaks)
        elif whom == "subscribers":
            monkeypatch.setattr(run.pool._subscribers, "publish", breaks)
        else:
            monkeypatch.setattr(announcer, "_log_transition", breaks)
        await asyncio.gather(run.ensure("a"), run.ensure("b"))
        await asyncio.sleep(40)
        assert run.world.living == []


async def test_a_command_that_cannot_be_begun_is_reported_as_a_broken_step(
    monkeypatch: Patch,
) -> None:
    async with running() as run:
        begin = run.pool._tasks.carry_out

        def breaks(command: Any) -> None:  # noqa: ANN401
            if command.server_id.model == "bad":
                raise RuntimeError("a bug")
            begin(command)

        monkeypatch.setattr(run.pool._tasks, "carry_out", breaks)
        told = await asyncio.gather(run.ensure("bad"), run.ensure("good"), return_exceptions=True)
        assert type(told[0]) is PoolError
        assert not isinstance(told[1], BaseException)


async def test_a_failed_search_for_orphans_does_not_stop_the_service(
    monkeypatch: Patch,
) -> None:
    async def breaks(_nonces: object) -> tuple[()]:
        raise RuntimeError("a bug")

    async with running() as run:
        monkeypatch.setattr(run.world, "orphans", breaks)
        await run.restart()
        assert (await run.pool.ensure("m")).server.phase is Phase.READY
