"""Offers: what an Ensure would do now, after a look at the model's files and the memory."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from pool_service.change_history import History
from pool_service.command_tasks import CommandTasks
from pool_service.core.errors import PoolError
from pool_service.core.events import EnsureRequested
from pool_service.core.machine import Machine
from pool_service.core.offer import Look, LookNeeded, Offer
from pool_service.core.sampler import FRESH_S
from pool_service.core.server import Server
from pool_service.core.types import Account, Estimate, MemorySample, Settings
from pool_service.ports import World

SAMPLE_TIMEOUT_S = 0.1
"""The time limit of a memory sample for an offer, which is asked of several pools at once: a late
answer counts for less than one by an older sample."""

log = structlog.get_logger("pool_service.pool")


class Offers:
    """Makes offers. A look: nothing is used, started, queued or downloaded.

    A pool without servers takes no memory samples, so that its last one may be of hours ago, or
    there is none. An offer by that would promise memory that others have taken since. So if the
    last sample is not fresh enough to start a server by, an offer takes one of the machine alone,
    while the model's files are looked at. It measures no server, costs a fraction of a millisecond,
    and is not fed to the machine: a question changes nothing. Offers within a second share it.

    tasks: keeps the task of a sample. check_recovered: raises Recovering until the recovery has
    ended.
    """

    def __init__(
        self,
        machine: Machine,
        world: World,
        history: History[Server],
        tasks: CommandTasks,
        check_recovered: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._world = world
        self._history = history
        self._tasks = tasks
        self._check_recovered = check_recovered
        self._sampling: asyncio.Task[None] | None = None
        self._sample: MemorySample | None = None
        self._sampled_at = 0.0

    async def of(
        self,
        model: str,
        runtime_model: str = "",
        *,
        download: bool | None = None,
        account: Account | None = None,
    ) -> Offer:
        """Return what `Pool.ensure` with these arguments would do now; see there.

        The error that it would raise is in the offer. Raises Recovering.
        """
        self._check_recovered()
        asked = EnsureRequested(None, model, runtime_model, None, download, account)
        look: Look | None = None
        while True:
            told = self._machine.offer(asked, look, self._world.clock.now())
            if isinstance(told, Offer):
                return replace(told, revision=self._history.revision)
            look = await self._look(told)

    async def _look(self, needed: LookNeeded) -> Look:
        sampling = asyncio.create_task(self._sampled()) if needed.wants_sample else None
        try:
            estimate = await self._estimate(needed.model, needed.settings)
            sample = await sampling if sampling is not None else None
        finally:
            if sampling is not None:
                sampling.cancel()
        return Look(needed.settings, estimate, sample)

    async def _estimate(self, model: str, settings: Settings) -> Estimate | PoolError:
        try:
            return await self._world.runtime.estimate(model, settings)
        except PoolError as error:
            return error

    async def _sampled(self) -> MemorySample | None:
        """Return a sample of the last FRESH_S seconds; None if none comes in time."""
        if self._sample is not None and self._world.clock.now() - self._sampled_at <= FRESH_S:
            return self._sample
        if self._sampling is None or self._sampling.done():
            if self._tasks.is_closed:
                return None
            self._sample = None
            self._sampling = asyncio.create_task(self._take_sample(), name="sample for offers")
            self._tasks.keep(self._sampling)
        await asyncio.wait([self._sampling], timeout=SAMPLE_TIMEOUT_S)
        return self._sample

    async def _take_sample(self) -> None:
        began = self._world.clock.now()
        try:
            self._sample = await self._world.memory.sample(())
        except Exception as error:  # the offer is by an older one
            log.exception("the memory could not be sampled", error=repr(error))
        self._sampled_at = began
