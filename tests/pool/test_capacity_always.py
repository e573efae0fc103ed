"""Capacity and use with random callers, servers and programs, on the driver, in virtual time."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, cast

import looptime
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pool_service.core import commands
from pool_service.core.errors import PoolError, PoolFull, QueueFull
from pool_service.core.events import Event
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.types import Settings
from pool_service.pool import Pool
from tests.pool.capacity import BUDGET, limits, room, sized
from tests.pool.running import DEFAULTS, now
from tests.world import World

SIZES = {"a": 3, "b": 4, "c": 6, "d": 9, "e": 11}
"""Bytes, of the ten that there are; the last can never fit."""
MODELS = st.sampled_from(sorted(SIZES))
OWN_ACCORD = frozenset({Cause.IDLE, Cause.PREEMPTED, Cause.MEMORY_LIMIT, Cause.RELOADED})
"""Why the pool ends what nobody asked it to end."""
WITHIN = DEFAULTS.start_timeout + 200.0
"""Seconds in which every call is answered once nobody is in the way."""


class Strict(Pool):
    """A pool that tells its world when it breaks a promise."""

    def feed(self, event: Event) -> None:
        super().feed(event)
        totals = self.totals()
        self._promise(totals.memory_reserved <= totals.memory_budget, "over the budget")

    def _carry_out(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendSignal) and command.stop is StopSignal.TERMINATE:
            self._check_unused(command)
        super()._carry_out(command)

    def _check_unused(self, command: commands.SendSignal) -> None:
        server = self._machine.server(command.server_id)
        model = command.server_id.model
        assert server is not None
        if server.stop_cause in OWN_ACCORD:
            requests = self._fake.processes[command.identity].script.requests
            self._promise(requests == 0, f"{requests} requests of {model} were to end")
            self._promise(not server.holds, f"{model} is held and was to end")
            self._promise(now() >= server.resides_until, f"{model} was just handed out")

    def _promise(self, kept: bool, otherwise: str) -> None:
        if not kept:
            self._fake.violations.append(otherwise)

    @property
    def _fake(self) -> World:
        return cast("World", self._world.processes)


class Room(RuleBasedStateMachine):
    """Five models, room for two or three of them."""

    @initialize(
        grace_period=st.sampled_from([0.0, 5.0]),
        queue_limit=st.sampled_from([1, 8]),
        max_starts=st.integers(1, 2),
    )
    def begin(self, grace_period: float, queue_limit: int, max_starts: int) -> None:
        self.loop = looptime.new_event_loop()
        self.calls: list[asyncio.Task[None]] = []
        self.holds: list[asyncio.Task[None]] = []
        self.stack = AsyncExitStack()
        pool = room(
            kind=Strict,
            grace_period=grace_period,
            limits=limits(queue_limit=queue_limit, max_starts=max_starts, queue_timeout=100.0),
            models={"a": Settings(runtime_model="a", groups=("g",), grace_period=0.0)},
        )
        self.run_all(self._begin(pool))

    async def _begin(self, pool: Any) -> None:  # noqa: ANN401  # what `room` is
        self.run = await self.stack.enter_async_context(pool)
        for model, size in SIZES.items():
            self.run.world.script(model, *(sized(size, load=2.0) for _ in range(50)))

    def run_all(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, and let what follows at once follow."""

        async def done() -> None:
            await work
            await asyncio.sleep(0.001)
            taken = sum(process.footprint for process in self.run.world.living)
            assert taken <= BUDGET, "more than there is"

        self.loop.run_until_complete(done())

    # --- what happens -----------------------------------------------------------------------

    @rule(model=MODELS, patience=st.sampled_from([0.5, 20.0, 1000.0]))
    def ensure(self, model: str, patience: float) -> None:
        async def ask() -> None:
            try:
                async with asyncio.timeout(patience):
                    ensured = await self.run.pool.ensure(model)
            except (PoolError, TimeoutError) as error:
                told: Exception = error
            else:
                assert ensured.server.phase is Phase.READY
                return
            if isinstance(told, PoolFull | QueueFull):
                assert told.retry_after > 0

        async def begin() -> None:
            self.calls.append(asyncio.create_task(ask()))

        self.run_all(begin())

    @rule(model=MODELS)
    def hold(self, model: str) -> None:
        async def held() -> None:
            try:
                async with aclosing(self.run.pool.hold(model)) as states:
                    async for _ in states:
                        pass
            except PoolError:
                pass

        async def begin() -> None:
            self.holds.append(asyncio.create_task(held()))

        self.run_all(begin())

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        chosen = data.draw(st.integers(0, len(self.holds) - 1))
        self.run_all(self._end(self.holds.pop(chosen)))

    async def _end(self, hold: asyncio.Task[None]) -> None:
        hold.cancel()
        await asyncio.gather(hold, return_exceptions=True)

    @rule(model=MODELS, requests=st.sampled_from([0, 1, None]))
    def works(self, model: str, requests: int | None) -> None:
        for process in self.run.world.living:
            if process.model == model:
                process.script.requests = requests

    @rule(model=MODELS)
    def dies(self, model: str) -> None:
        async def end() -> None:
            for process in self.run.world.living:
                if process.model == model:
                    process.end()

        self.run_all(end())

    @rule(model=MODELS, force=st.booleans())
    def evict(self, model: str, force: bool) -> None:
        async def ask() -> None:
            with suppress(PoolError):
                await self.run.pool.evict(model, force=force)

        async def begin() -> None:
            self.calls.append(asyncio.create_task(ask()))

        self.run_all(begin())

    @rule(pressured=st.booleans(), others=st.sampled_from([0, 10**15]))
    def others_take_memory(self, pressured: bool, others: int) -> None:
        self.run.world.pressured, self.run.world.others = pressured, others

    @rule(seconds=st.sampled_from([0.5, 3.0, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.run_all(asyncio.sleep(seconds))

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "run"):
            return
        self.run.world.check()
        for call in self.calls:
            if call.done():
                call.result()

    def teardown(self) -> None:
        """When nobody is in the way any more all are answered, and at the end nothing is left."""
        if hasattr(self, "run"):
            try:
                self.run_all(self._finish())
            finally:
                self.loop.close()

    async def _finish(self) -> None:
        self.run.world.pressured, self.run.world.others = False, 0
        for process in self.run.world.living:
            process.script.requests = 0
        for hold in self.holds:
            await self._end(hold)
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*self.calls)
        await self.stack.aclose()


Room.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestRoom = Room.TestCase
