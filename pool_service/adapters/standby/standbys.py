"""Implementation of the port `Standbys`.

A vllm-mlx server is started by the first of these that works:
1. a warm standby;
2. a new standby that gets its arguments as soon as it runs;
3. the plain command, without a standby.
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
from pool_service.adapters.standby.process import Recipe, Standby, begin
from pool_service.core.errors import PoolError
from pool_service.core.types import Identity, LaunchPlan, Settings

WAITING_TIMEOUT_S = 2.0
"""Time for a waiting standby to accept its arguments; it may first have to finish an import."""

NEW_TIMEOUT_S = 10.0
"""Time for a new standby to start and to accept its arguments."""

RETRY_AFTER_S = 600.0
"""Time without standbys for a recipe whose standby has failed."""

log = structlog.get_logger("pool_service.standbys")

RecipeFor = Callable[[Settings], Awaitable[Recipe | None]]
"""Returns the recipe of servers with these settings; None if they can have no standby."""


class Standbys:
    """Keeps the standbys, on one running event loop.

    recipe_for: returns the recipe of the standbys to keep.
    signs: receives the ready notifications of standbys that have become servers.
    on_working_set: called with the bytes that Metal recommends, as standbys report them.
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
        self._is_changed = False
        self._settings = Settings(runtime_model="")
        self._waiting: list[Standby] = []
        self._changed = asyncio.Event()
        self._asking: asyncio.Future[Recipe | None] | None = None
        self._filling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._broken: dict[Recipe, float] = {}
        self._doubted: set[str] = set()

    # --- the port -----------------------------------------------------------------------

    def keep(self, settings: Settings, *, wanted: int, allowed: int, refill: bool) -> None:
        """Set how many standbys to keep, and for which settings; see the port."""
        if settings != self._settings:
            self._settings = settings
            self._broken.clear()
        self._is_on = wanted > 0
        self._allowed, self._refills = min(wanted, allowed), refill
        while len(self._waiting) > self._allowed:
            self._dismiss(self._waiting[-1])
        self._is_changed = True
        if refill and self._allowed and self._filling is None:
            self._filling = asyncio.create_task(self._fill(), name="standbys")
            self._filling.add_done_callback(_log_error)

    @property
    def count(self) -> int:
        """The number of warm standbys."""
        return sum(waiting.is_warm for waiting in self._waiting)

    async def close(self) -> None:
        """End all standbys."""
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
        """The processes of all standbys."""
        return tuple(waiting.identity for waiting in self._waiting)

    async def start(self, model: str, generation: int, plan: LaunchPlan) -> Child | None:
        """Turn a standby into a server of this plan; None if the plain command is to start it.

        Raises StartFailed if the log or the directory cannot be made.
        """
        recipe = Recipe.of(plan)
        if recipe is None or not self._is_on or model in self._doubted:
            self._doubted.discard(model)
            return None
        for take, timeout in ((self._take, WAITING_TIMEOUT_S), (self._begin, NEW_TIMEOUT_S)):
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
                self._await_ready(model, waiting)
                return Child(waiting.popen, waiting.identity, log_path, waiting.nonce)
            self._give_up(waiting)
        return None

    def _give_up(self, waiting: Standby) -> None:
        """End a standby that did not accept its arguments; a live one was only slow."""
        if waiting.popen.poll() is None:
            log.info("a process that was to become a server was too slow")
            self._spin_off(self._end(waiting))
        else:
            self._spin_off(self._fail(waiting))

    def _await_ready(self, model: str, waiting: Standby) -> None:
        """Await a server's ready notification; without one, start its model plainly next time."""
        if waiting.is_ready:
            waiting.channel.close()
            return
        said = self._signs.listen(waiting.identity, waiting.channel)

        def judge(ended: "asyncio.Future[bool]") -> None:
            if not ended.result():
                self._doubted.add(model)

        said.add_done_callback(judge)

    async def _take(self, recipe: Recipe) -> Standby | None:
        """Take the best standby of a recipe; None if there is none."""
        fit = [one for one in self._waiting if one.recipe == recipe]
        for waiting in sorted(fit, key=lambda one: not one.is_warm):
            if waiting.is_outdated:
                self._dismiss(waiting)
            else:
                self._let_go(waiting)
                return waiting
        return None

    async def _begin(self, recipe: Recipe) -> Standby | None:
        if self._is_broken(recipe):
            return None
        try:
            waiting = await asyncio.to_thread(begin, recipe, self._state_dir)
        except OSError as error:
            log.warning("cannot start a process ahead", why=str(error))
            return None
        if waiting is None:
            self._broken[recipe] = time.monotonic() + RETRY_AFTER_S
            log.info(
                "the program does more than to run vllm-mlx, so nothing is started ahead of it",
                program=recipe.program,
            )
        return waiting

    # --- keeping them -----------------------------------------------------------------------

    async def _fill(self) -> None:
        try:
            while self._is_changed:
                self._is_changed = False
                await self._fill_up()
        finally:
            # In the same step of the loop, so that a later `keep` starts a new task.
            self._filling = None

    async def _fill_up(self) -> None:
        """Start the missing standbys one by one, until `keep` is called again."""
        recipe = await self._recipe()
        for old in list(self._waiting):
            if old.recipe != recipe or old.is_outdated:
                self._dismiss(old)
        while recipe and self._lacks_some and not self._is_changed:
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
        """Return the recipe of the standbys to keep; None to keep none."""
        self._asking = asyncio.ensure_future(self._recipe_for(self._settings))
        try:
            return await self._asking
        except PoolError as error:
            log.debug("nothing is started ahead", why=str(error))
        except asyncio.CancelledError:
            log.debug("nothing is started ahead any more")
        return None

    async def _warm(self, waiting: Standby) -> None:
        """Wait until a standby is warm, gone or taken."""
        self._waiting.append(waiting)
        waiting.channel.settimeout(0)

        def listen() -> None:
            try:
                waiting.receive()
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

    def _let_go(self, waiting: Standby) -> None:
        """Remove a standby from the list, without ending it."""
        asyncio.get_running_loop().remove_reader(waiting.channel)
        self._waiting.remove(waiting)
        self._changed.set()

    def _lost(self, waiting: Standby) -> None:
        """Discard a standby that ended by itself or sent a malformed message."""
        if waiting.is_warm:
            # It was ended from outside. Another one follows the next start of a server.
            self._dismiss(waiting)
        else:
            self._let_go(waiting)
            self._spin_off(self._fail(waiting))

    def _dismiss(self, waiting: Standby) -> None:
        self._let_go(waiting)
        self._spin_off(self._end(waiting))

    def _spin_off(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, waiting: Standby) -> str:
        return await asyncio.to_thread(waiting.end)

    def _fail(self, waiting: Standby) -> Coroutine[Any, Any, None]:
        """Suspend standbys of its recipe, and log the failure."""
        self._broken[waiting.recipe] = time.monotonic() + RETRY_AFTER_S
        return self._log_failure(waiting)

    async def _log_failure(self, waiting: Standby) -> None:
        wrote = await self._end(waiting)
        log.warning(
            "a process that was to become a server failed; the plain command is used",
            program=waiting.recipe.program,
            wrote=(wrote.splitlines() or ["nothing"])[-1],
        )

    def _is_broken(self, recipe: Recipe) -> bool:
        return time.monotonic() < self._broken.get(recipe, 0.0)


def _tell(
    waiting: Standby,
    model: str,
    generation: int,
    plan: LaunchPlan,
    state_dir: Path,
    logs: LogStore,
    timeout: float,
) -> Path | None:
    """Send a standby the plan's arguments; return its log, None if it refused. Blocking."""
    with contextlib.ExitStack() as undo, start_failures(model, state_dir):
        log_path = logs.create(model, generation)
        undo.callback(logs.remove, log_path)
        output = open_for_append(log_path)
        try:
            taken = waiting.send_arguments(plan.argv, output, timeout)
        finally:
            os.close(output)
        if taken:
            waiting.close_output()
            undo.pop_all()
            return log_path
    return None


def _log_error(filled: "asyncio.Task[None]") -> None:
    if not filled.cancelled() and filled.exception() is not None:
        log.error("nothing is started ahead", exc_info=filled.exception())
