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
from pool_service.adapters.process.control_groups import ControlGroups
from pool_service.adapters.process.launch import (
    Child,
    as_start_failed,
    furnish,
)
from pool_service.adapters.standby.process import Standby, StandbySpec, launch
from pool_service.core.errors import PoolError
from pool_service.core.types import Identity, LaunchPlan, Settings

WAITING_TIMEOUT_S = 2.0
"""Time for a running standby to take its arguments; it may first have to finish an import."""

NEW_TIMEOUT_S = 10.0
"""Time for a new standby to start and to take its arguments."""

RETRY_AFTER_S = 600.0
"""Time without standbys of a spec after one of them has failed."""

log = structlog.get_logger("pool_service.standbys")

SpecFor = Callable[[Settings], Awaitable[StandbySpec | None]]
"""Returns the spec of standbys for servers with these settings; None if there can be none."""


class Standbys:
    """Keeps the standbys, on one running event loop.

    spec_for: returns the spec of the standbys to keep.
    notifications: receives the ready notifications of standbys that have become servers.
    on_working_set: called with the bytes that Metal recommends, as standbys report them.
    groups: the control groups of the processes; None: they have none.
    """

    def __init__(
        self,
        spec_for: SpecFor,
        state_dir: Path,
        logs: LogStore,
        notifications: ReadyNotifications,
        on_working_set: Callable[[int], object] = lambda _bytes: None,
        groups: ControlGroups | None = None,
    ) -> None:
        self._spec_for = spec_for
        self._state_dir = state_dir
        self._logs = logs
        self._notifications = notifications
        self._on_working_set = on_working_set
        self._groups = groups or ControlGroups()
        self._is_on = False
        self._allowed = 0
        self._refills = False
        # Set by `keep`, so that a running fill begins again with the new numbers.
        self._keep_called = False
        self._settings = Settings(runtime_model="")
        self._standbys: list[Standby] = []
        self._standby_changed = asyncio.Event()
        self._spec_query: asyncio.Future[StandbySpec | None] | None = None
        self._fill_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._suspended_until: dict[StandbySpec, float] = {}
        # Models whose last server, a standby before, did not become ready.
        self._suspect_models: set[str] = set()

    # --- the port -----------------------------------------------------------------------

    def keep(self, settings: Settings, *, wanted: int, allowed: int, refill: bool) -> None:
        """Set how many standbys to keep, and for which settings; see the port."""
        if settings != self._settings:
            self._settings = settings
            self._suspended_until.clear()
        self._is_on = wanted > 0
        self._allowed, self._refills = min(wanted, allowed), refill
        while len(self._standbys) > self._allowed:
            self._discard(self._standbys[-1])
        self._keep_called = True
        if refill and self._allowed and self._fill_task is None:
            self._fill_task = asyncio.create_task(self._fill(), name="standbys")
            self._fill_task.add_done_callback(_log_error)

    @property
    def count(self) -> int:
        """The number of warm standbys."""
        return sum(standby.is_warm for standby in self._standbys)

    async def close(self) -> None:
        """End all standbys."""
        self._allowed, self._refills = 0, False
        for standby in list(self._standbys):
            self._discard(standby)
        if self._spec_query is not None:
            self._spec_query.cancel()
        if self._fill_task is not None:
            await asyncio.gather(self._fill_task, return_exceptions=True)
        await asyncio.gather(*self._tasks)

    # --- for other adapters --------------------------------------------------------------

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The processes of all standbys."""
        return tuple(standby.identity for standby in self._standbys)

    async def start(self, model: str, generation: int, plan: LaunchPlan) -> Child | None:
        """Turn a standby into a server of this plan; None if the plain command is to start it.

        Raises StartFailed if the log or the directory cannot be made.
        """
        # The end of the model's last server may be known before its channel was looked at.
        self._notifications.receive_all()
        spec = StandbySpec.of(plan)
        if spec is None or not self._is_on or model in self._suspect_models:
            # The plain command shows whether the standby was to blame; one such start is enough.
            self._suspect_models.discard(model)
            return None
        for get, timeout in ((self._pick, WAITING_TIMEOUT_S), (self._launch, NEW_TIMEOUT_S)):
            standby = await get(spec)
            if standby is None:
                continue
            was_warm = standby.is_warm
            try:
                log_path = await asyncio.to_thread(
                    _send_plan,
                    standby,
                    model,
                    generation,
                    plan,
                    self._state_dir,
                    self._logs,
                    timeout,
                )
            except PoolError:
                self._run_in_background(self._end(standby))
                raise
            if log_path is not None:
                self._watch_for_ready(model, standby)
                return Child(
                    standby.popen, standby.identity, log_path, standby.nonce, from_standby=was_warm
                )
            self._give_up(standby)
        return None

    def _give_up(self, standby: Standby) -> None:
        """End a standby that did not take its arguments.

        The spec of a standby that was only slow is not suspended.
        """
        if standby.has_failed:
            self._fail(standby)
        else:
            log.info("a standby did not accept its arguments in time")
            self._run_in_background(self._end(standby))

    def _watch_for_ready(self, model: str, standby: Standby) -> None:
        """Receive the ready notification of a standby that has become a server; return at once.

        If none comes, the model's next server is started by the plain command.
        """
        if standby.is_ready:
            standby.channel.close()
            return

        def judge(is_ready: bool) -> None:  # noqa: FBT001 - the only thing that is told
            if not is_ready:
                self._suspect_models.add(model)

        self._notifications.listen(standby.identity, standby.channel, judge)

    async def _pick(self, spec: StandbySpec) -> Standby | None:
        """Take a standby that fits off the list, preferably a warm one; None without one."""
        fit = [one for one in self._standbys if one.spec.fits(spec)]
        for standby in sorted(fit, key=lambda one: not one.is_warm):
            if standby.is_outdated:
                self._discard(standby)
            else:
                self._release(standby)
                return standby
        return None

    async def _launch(self, spec: StandbySpec) -> Standby | None:
        """Start a new standby; None if the spec can have none, or the start fails."""
        if self._is_suspended(spec):
            return None
        try:
            standby = await asyncio.to_thread(self._launch_in_group, spec)
        except OSError as error:
            log.warning("cannot start a standby", why=str(error))
            return None
        if standby is None:
            self._suspended_until[spec.without_sandbox] = time.monotonic() + RETRY_AFTER_S
            log.info(
                "the program does more than run vllm-mlx, so it has no standbys",
                program=spec.program,
            )
        return standby

    def _launch_in_group(self, spec: StandbySpec) -> Standby | None:
        standby = launch(spec, self._state_dir)
        if standby is not None:
            self._groups.join(standby.nonce, standby.identity.pid)
        return standby

    # --- keeping standbys -------------------------------------------------------------------

    async def _fill(self) -> None:
        """Start the missing standbys, and again for each call of `keep` meanwhile."""
        try:
            while self._keep_called:
                self._keep_called = False
                await self._fill_once()
        finally:
            # Nothing awaits after the check, so that a later `keep` starts a new task.
            self._fill_task = None

    async def _fill_once(self) -> None:
        """Start the missing standbys one by one, until `keep` is called again."""
        spec = await self._spec()
        for old in list(self._standbys):
            if old.spec != spec or old.is_outdated:
                self._discard(old)
        while spec and self._is_short and not self._keep_called:
            standby = await self._launch(spec)
            if standby is None:
                return
            if len(self._standbys) < self._allowed:
                await self._warm(standby)
            else:
                await self._end(standby)

    @property
    def _is_short(self) -> bool:
        """Whether another standby is to be started."""
        return self._refills and len(self._standbys) < self._allowed

    async def _spec(self) -> StandbySpec | None:
        """Return the spec of the standbys to keep; None to keep none."""
        self._spec_query = asyncio.ensure_future(self._spec_for(self._settings))
        try:
            return await self._spec_query
        except PoolError as error:
            log.debug("no standbys are kept", why=str(error))
        except asyncio.CancelledError:
            log.debug("no standbys are kept any more")
        return None

    async def _warm(self, standby: Standby) -> None:
        """Add a standby to the list, and wait until it is warm, discarded or picked."""
        self._standbys.append(standby)
        standby.channel.settimeout(0)

        def on_message() -> None:
            try:
                standby.receive()
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, EOFError, ValueError):
                self._on_lost(standby)
            if standby.is_warm and standby.working_set:
                self._on_working_set(standby.working_set)
            self._standby_changed.set()

        asyncio.get_running_loop().add_reader(standby.channel, on_message)
        while standby in self._standbys and not standby.is_warm:
            self._standby_changed.clear()
            await self._standby_changed.wait()

    def _release(self, standby: Standby) -> None:
        """Remove a standby from the list, without ending it."""
        asyncio.get_running_loop().remove_reader(standby.channel)
        self._standbys.remove(standby)
        self._standby_changed.set()

    def _on_lost(self, standby: Standby) -> None:
        """Discard a standby that ended by itself or sent a malformed message."""
        if standby.is_warm:
            # It was ended from outside, which says nothing about its spec.
            self._discard(standby)
        else:
            self._release(standby)
            self._fail(standby)

    def _discard(self, standby: Standby) -> None:
        """Remove a standby from the list, and end it in the background."""
        self._release(standby)
        self._run_in_background(self._end(standby))

    def _run_in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, standby: Standby) -> str:
        """End a standby, and return the end of its output."""
        wrote = await asyncio.to_thread(standby.end)
        await asyncio.to_thread(self._groups.kill_and_remove, standby.nonce)
        return wrote

    def _fail(self, standby: Standby) -> None:
        """Suspend the standbys of this one's spec at once; end it and log why in the background."""
        self._suspended_until[standby.spec.without_sandbox] = time.monotonic() + RETRY_AFTER_S
        self._run_in_background(self._end_and_log_failure(standby))

    async def _end_and_log_failure(self, standby: Standby) -> None:
        wrote = await self._end(standby)
        log.warning(
            "a standby has failed; servers are started by the plain command for now",
            program=standby.spec.program,
            wrote=(wrote.splitlines() or ["nothing"])[-1],
        )

    def _is_suspended(self, spec: StandbySpec) -> bool:
        return time.monotonic() < self._suspended_until.get(spec.without_sandbox, 0.0)


def _send_plan(
    standby: Standby,
    model: str,
    generation: int,
    plan: LaunchPlan,
    state_dir: Path,
    logs: LogStore,
    timeout: float,
) -> Path | None:
    """Send a standby the plan's arguments; return its log's path, None if not taken. Blocking."""
    with contextlib.ExitStack() as undo, as_start_failed(model, state_dir):
        log_path = logs.create(model, generation)
        undo.callback(logs.remove, log_path)
        output = open_for_append(log_path)
        try:
            variables = furnish(plan, standby.work_dir)
            taken = standby.send_arguments(
                plan.argv, output, timeout, variables, plan.api_key, plan.sandbox
            )
        finally:
            os.close(output)
        if taken:
            standby.close_output()
            undo.pop_all()
            return log_path
    return None


def _log_error(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("no standbys are kept", exc_info=task.exception())
