"""Processes that have imported all that a server needs, and become one when they are told to.

Implements the port `Standbys`. Each start of a vllm-mlx goes by the first of these that works:
a process that waits; one that is told its arguments as soon as it is there; the plain command,
which needs nothing of this.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from pool_service.adapters.logs.logs import LogStore, open_for_append
from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.adapters.process.launch import Child, start_failures
from pool_service.adapters.standby.process import Recipe, Waiting, begin
from pool_service.core.errors import PoolError
from pool_service.core.types import Identity, LaunchPlan, Settings

WAITING_TIMEOUT = 2.0
"""Seconds for one that waits to take its arguments. One that still imports may first have to
end what it began in the background."""

NEW_TIMEOUT = 10.0
"""Seconds for one that was just started."""

TRY_AGAIN = 600.0
"""Seconds for which nothing is tried again with a runtime with which it failed."""

log = structlog.get_logger("pool_service.standbys")

RecipeFor = Callable[[Settings], Awaitable[Recipe | None]]
"""That of servers with these settings; None if they cannot be started ahead."""


class Standbys:
    """Keeps the processes that wait. All of it lives on one running event loop.

    recipe_for: of what to keep; signs: where is heard that what was started is ready;
    on_working_set: is told the bytes that Metal recommends to keep resident, of each that says so.
    """

    def __init__(
        self,
        recipe_for: RecipeFor,
        state_dir: Path,
        logs: LogStore,
        signs: ReadyNotifications,
        on_working_set: Callable[[int], object] = lambda _bytes: None,
    ) -> None:
        self._recipe_for = recipe_for
        self._state_dir = state_dir
        self._logs = logs
        self._signs = signs
        self._on_working_set = on_working_set
        self._is_on = False
        self._allowed = 0
        self._refills = False
        self._is_told_anew = False
        self._settings = Settings(runtime_model="")
        self._waiting: list[Waiting] = []
        self._changed = asyncio.Event()
        self._asking: asyncio.Future[Recipe | None] | None = None
        self._filling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._broken: dict[Recipe, float] = {}
        self._doubted: set[str] = set()

    # --- the port -----------------------------------------------------------------------

    def keep(self, settings: Settings, *, wanted: int, allowed: int, refill: bool) -> None:
        """How many may wait from now on, and for servers with which settings; see the port."""
        if settings != self._settings:
            self._settings = settings
            self._broken.clear()
        self._is_on = wanted > 0
        self._allowed, self._refills = min(wanted, allowed), refill
        while len(self._waiting) > self._allowed:
            self._dismiss(self._waiting[-1])
        self._is_told_anew = True
        if refill and self._allowed and self._filling is None:
            self._filling = asyncio.create_task(self._fill(), name="standbys")
            self._filling.add_done_callback(_tell_of_error)

    @property
    def count(self) -> int:
        """How many wait that have nothing left to do ahead."""
        return sum(waiting.is_warm for waiting in self._waiting)

    async def close(self) -> None:
        """End all that wait."""
        self._allowed, self._refills = 0, False
        for waiting in list(self._waiting):
            self._dismiss(waiting)
        if self._asking is not None:
            self._asking.cancel()
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)
        await asyncio.gather(*self._tasks)

    # --- what the other adapters ask -----------------------------------------------------

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The processes that wait."""
        return tuple(waiting.identity for waiting in self._waiting)

    async def start(self, model: str, generation: int, plan: LaunchPlan) -> Child | None:
        """A process of this plan, which was there already or is told its arguments by a socket.

        None: it is to be started by the plain command. Raises StartFailed where the log or
        the directory cannot be made.
        """
        recipe = Recipe.of(plan)
        if recipe is None or not self._is_on or model in self._doubted:
            self._doubted.discard(model)
            return None
        for take, timeout in ((self._take, WAITING_TIMEOUT), (self._begin, NEW_TIMEOUT)):
            waiting = await take(recipe)
            if waiting is None:
                continue
            try:
                log_path = await asyncio.to_thread(
                    _tell, waiting, model, generation, plan, self._state_dir, self._logs, timeout
                )
            except PoolError:
                self._spin_off(self._end(waiting))
                raise
            if log_path is not None:
                self._hear(model, waiting)
                return Child(waiting.popen, waiting.identity, log_path, waiting.nonce)
            self._give_up(waiting)
        return None

    def _give_up(self, waiting: Waiting) -> None:
        """End one that took no arguments; one that lives was slow, as any is on a busy machine."""
        if waiting.popen.poll() is None:
            log.info("a process that was to become a server was too slow")
            self._spin_off(self._end(waiting))
        else:
            self._spin_off(self._fail(waiting))

    def _hear(self, model: str, waiting: Waiting) -> None:
        """Listen to a server: what it was told ahead may be to blame if it does not get ready."""
        if waiting.is_ready:
            waiting.channel.close()
            return
        said = self._signs.listen(waiting.identity, waiting.channel)

        def judge(ended: "asyncio.Future[bool]") -> None:
            if not ended.result():
                self._doubted.add(model)

        said.add_done_callback(judge)

    async def _take(self, recipe: Recipe) -> Waiting | None:
        """The best of those that wait for this."""
        fit = [one for one in self._waiting if one.recipe == recipe]
        for waiting in sorted(fit, key=lambda one: not one.is_warm):
            if waiting.is_outdated:
                self._dismiss(waiting)
            else:
                self._let_go(waiting)
                return waiting
        return None

    async def _begin(self, recipe: Recipe) -> Waiting | None:
        if self._is_broken(recipe):
            return None
        try:
            waiting = await asyncio.to_thread(begin, recipe, self._state_dir)
        except OSError as error:
            log.warning("cannot start a process ahead", why=str(error))
            return None
        if waiting is None:
            self._broken[recipe] = time.monotonic() + TRY_AGAIN
            log.info(
                "the program does more than to run vllm-mlx, so nothing is started ahead of it",
                program=recipe.program,
            )
        return waiting

    # --- keeping them -----------------------------------------------------------------------

    async def _fill(self) -> None:
        try:
            while self._is_told_anew:
                self._is_told_anew = False
                await self._fill_up()
        finally:
            # In the same step: whoever wants something else from now on begins another.
            self._filling = None

    async def _fill_up(self) -> None:
        """Start what is wanted now, one after the other, while nothing else is to be done."""
        recipe = await self._recipe()
        for old in list(self._waiting):
            if old.recipe != recipe or old.is_outdated:
                self._dismiss(old)
        while recipe and self._lacks_some and not self._is_told_anew:
            waiting = await self._begin(recipe)
            if waiting is None:
                return
            if len(self._waiting) < self._allowed:
                await self._warm(waiting)
            else:
                await self._end(waiting)

    @property
    def _lacks_some(self) -> bool:
        return self._refills and len(self._waiting) < self._allowed

    async def _recipe(self) -> Recipe | None:
        """Return the recipe of what to keep; None: of nothing."""
        self._asking = asyncio.ensure_future(self._recipe_for(self._settings))
        try:
            return await self._asking
        except PoolError as error:
            log.debug("nothing is started ahead", why=str(error))
        except asyncio.CancelledError:
            log.debug("nothing is started ahead any more")
        return None

    async def _warm(self, waiting: Waiting) -> None:
        """Return when there is nothing left that it could do ahead, or it is gone or taken."""
        self._waiting.append(waiting)
        waiting.channel.settimeout(0)

        def listen() -> None:
            try:
                waiting.hear()
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, EOFError, ValueError):
                self._lost(waiting)
            if waiting.is_warm and waiting.working_set:
                self._on_working_set(waiting.working_set)
            self._changed.set()

        asyncio.get_running_loop().add_reader(waiting.channel, listen)
        while waiting in self._waiting and not waiting.is_warm:
            self._changed.clear()
            await self._changed.wait()

    def _let_go(self, waiting: Waiting) -> None:
        """Take a process from those that wait."""
        asyncio.get_running_loop().remove_reader(waiting.channel)
        self._waiting.remove(waiting)
        self._changed.set()

    def _lost(self, waiting: Waiting) -> None:
        """Give up one that ended by itself, or says what nobody understands."""
        if waiting.is_warm:
            # Somebody else ended it. Another is made when something was started again.
            self._dismiss(waiting)
        else:
            self._let_go(waiting)
            self._spin_off(self._fail(waiting))

    def _dismiss(self, waiting: Waiting) -> None:
        self._let_go(waiting)
        self._spin_off(self._end(waiting))

    def _spin_off(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, waiting: Waiting) -> str:
        return await asyncio.to_thread(waiting.end)

    def _fail(self, waiting: Waiting) -> Coroutine[Any, Any, None]:
        """From now on nothing is expected of it and its like."""
        self._broken[waiting.recipe] = time.monotonic() + TRY_AGAIN
        return self._tell_of_failure(waiting)

    async def _tell_of_failure(self, waiting: Waiting) -> None:
        wrote = await self._end(waiting)
        log.warning(
            "a process that was to become a server failed; the plain command is used",
            program=waiting.recipe.program,
            wrote=(wrote.splitlines() or ["nothing"])[-1],
        )

    def _is_broken(self, recipe: Recipe) -> bool:
        return time.monotonic() < self._broken.get(recipe, 0.0)


def _tell(
    waiting: Waiting,
    model: str,
    generation: int,
    plan: LaunchPlan,
    state_dir: Path,
    logs: LogStore,
    timeout: float,
) -> Path | None:
    """Make it the server of the plan; returns its log. Blocking."""
    with contextlib.ExitStack() as undo, start_failures(model, state_dir):
        log_path = logs.create(model, generation)
        undo.callback(logs.remove, log_path)
        output = open_for_append(log_path)
        try:
            taken = waiting.tell(plan.argv, output, timeout)
        finally:
            os.close(output)
        if taken:
            waiting.close_output()
            undo.pop_all()
            return log_path
    return None


def _tell_of_error(filled: "asyncio.Task[None]") -> None:
    if not filled.cancelled() and filled.exception() is not None:
        log.error("nothing is started ahead", exc_info=filled.exception())
