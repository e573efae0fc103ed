"""The calls of `top`: the watch, the looks, the log that is followed, and what keys ask for.

What `top` does by itself (Watch, List, ListModels, Describe, TailLogs) is no use of a server.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pool_service.cli.appearance import Mark
from pool_service.cli.catalogue_commands import pinned_line
from pool_service.cli.client_commands import evicted_line
from pool_service.cli.connection import QUERY_TIMEOUT_S
from pool_service.cli.exit_codes import failure_of
from pool_service.cli.server_lines import ready_line
from pool_service.cli.top.actions import Call, Ensure, Evict, Pin
from pool_service.cli.top.controls import Controls, Mode
from pool_service.cli.top.picture import Picture
from pool_service.cli.top.text_views import LogText
from pool_service_client import (
    AsyncPoolClient,
    DeadlineExceeded,
    Description,
    EvictedServer,
    PoolError,
    PoolUnavailable,
    Recovering,
    Server,
    ServerInUse,
    ServerRemoved,
    ShuttingDown,
    Synced,
)

LOOK_EACH_S = 2.0
"""The time between two looks at what the service does not tell by itself."""

LIST_S_PER_SERVER = 0.04
"""The time between two Lists for each server, so that the load of a large pool stays small."""

MODELS_EACH_S = 60.0
"""The time between two lists of the models, which others pin, download and reload."""

MODELS_S_PER_MODEL = 0.04
"""The time for each model between two lists of them, however many servers go."""

_PAUSE_S = 0.2
"""The time after a look before the next one, and that a choice rests before it is described."""

_RETRY_S = 0.5
"""The time before the service is tried again."""

_PAGE_SIZE = 100
"""Servers that the service puts together in one piece of its time."""

_NO_ANSWERS = (PoolUnavailable, DeadlineExceeded, Recovering, ShuttingDown)
"""Errors of a call that say nothing about the model that it was for."""

_LOG_LINES = 500
"""The last lines of a log that its view begins with."""


class Session:
    """Keeps the picture of the pool up to date, and makes the calls that the user asks for."""

    def __init__(
        self,
        pool: AsyncPoolClient,
        patient: AsyncPoolClient,
        picture: Picture,
        controls: Controls,
        changed: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Make no call yet.

        pool: makes each attempt once. patient: tries again for as long as it takes.
        changed: is called after every change of what is shown.
        failed: is called with an error that is none of the service.
        """
        self._pool = pool
        self._patient = patient
        self._picture = picture
        self._controls = controls
        self._changed = changed
        self._failed = failed
        self._look_wanted = asyncio.Event()
        self._choice_wanted = asyncio.Event()
        self._models_wanted = asyncio.Event()
        self._list_at = 0.0
        """The time of the event loop from which on the next List is due."""
        self._models_at = 0.0
        """The time of the event loop from which on the next list of the models is due."""
        self._models_listed_at = -math.inf
        """The time of the last one."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._log_task: asyncio.Task[None] | None = None
        self.log = LogText()

    async def watch(self) -> None:
        """Follow the pool's changes until cancelled, over restarts of the service."""
        while True:
            self._picture.begin()
            try:
                async with self._pool.watch() as events:
                    async for event in events:
                        self._picture.receive(event)
                        if isinstance(event, Synced):
                            self.look()
                            self.list_models()
                        elif isinstance(event, ServerRemoved):
                            self._list_models_soon()
                        self._changed()
            except PoolError as error:
                answers = not isinstance(error, PoolUnavailable)
                self._picture.lose(str(error), datetime.now(UTC), answers=answers)
                self._controls.drop_questions("the connection to the service was lost")
                self._changed()
            await asyncio.sleep(_RETRY_S)

    async def look_regularly(self) -> None:
        """Ask for what the service does not tell by itself, until cancelled."""
        while True:
            if self._is_looking():
                await self._look()
                self._changed()
            await asyncio.sleep(_PAUSE_S)
            await _within(LOOK_EACH_S - _PAUSE_S, self._look_wanted)
            self._look_wanted.clear()

    async def follow_choice(self) -> None:
        """Describe the chosen model whenever it was asked for, and then rested, until cancelled."""
        while True:
            await self._choice_wanted.wait()
            while self._choice_wanted.is_set():
                self._choice_wanted.clear()
                await _within(_PAUSE_S, self._choice_wanted)
            if self._is_looking():
                await self._describe_choice()
                self._changed()

    def look_at_choice(self) -> None:
        """Describe the chosen model once the choice rests."""
        self._choice_wanted.set()
        if self._is_list_due():
            # After a view in which there was no look.
            self.look()

    def look(self) -> None:
        """Make the next look at once, or when there is one again, with a List."""
        self._list_at = 0.0
        self._look_wanted.set()

    def _is_looking(self) -> bool:
        is_shown = self._controls.mode in {Mode.TABLE, Mode.DESCRIPTION}
        return is_shown and self._picture.is_complete and self._picture.outage is None

    def _is_list_due(self) -> bool:
        return asyncio.get_running_loop().time() >= self._list_at

    async def _look(self) -> None:
        if not self._is_list_due():
            await self._describe_choice()
            return
        picture = self._picture
        pause = max(LOOK_EACH_S, LIST_S_PER_SERVER * len(picture.servers))
        # Before the List: a look that is wanted during it is another one.
        self._list_at = asyncio.get_running_loop().time() + pause - _PAUSE_S
        try:
            pages = self._pool.pages(page_size=_PAGE_SIZE, timeout=QUERY_TIMEOUT_S)
            picture.refresh([page async for page in pages])
        except PoolError as error:
            picture.notices = (_not_up_to_date(error),)
            return
        await self._describe(picture.models_to_describe(self._chosen_model()), anew=True)

    async def _describe_choice(self) -> None:
        await self._describe(self._picture.around_choice(self._chosen_model()), anew=False)

    def _chosen_model(self) -> str | None:
        chosen = self._controls.chosen
        return self._controls.subject or (chosen[0] if chosen is not None else None)

    async def _describe(self, models: Sequence[str], *, anew: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        described = await asyncio.gather(*map(self._described, models))
        told = dict(zip(models, described, strict=True))
        self._picture.learn(told, began, loop.time(), anew=anew)

    async def _described(self, model: str) -> Description | str | None:
        """Return the description of a model, or why there is none; None: no answer came."""
        try:
            described = await self._pool.describe(model, timeout=QUERY_TIMEOUT_S)
        except _NO_ANSWERS as error:
            self._picture.notices = (_not_up_to_date(error),)
            return None
        except PoolError as error:
            return failure_of(error).message
        if described.model != model:
            return f"the name '{model}' stands for '{described.model}' now"
        return described

    async def keep_models(self) -> None:
        """List the models whenever that is wanted, and regularly, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            is_wanted = await _within(self._models_at - loop.time(), self._models_wanted)
            self._models_wanted.clear()
            if is_wanted and loop.time() < self._models_at:
                continue
            self._models_at = loop.time() + MODELS_EACH_S
            if self._picture.is_complete and self._picture.outage is None:
                self._models_listed_at = loop.time()
                await self._list_models()
                self._changed()
                await asyncio.sleep(_PAUSE_S)

    async def _list_models(self) -> None:
        found = self._controls.shows_all
        try:
            models = await self._pool.models(found=found, timeout=QUERY_TIMEOUT_S)
            self._picture.models = models
        except PoolError as error:
            self._controls.say(failure_of(error).message, Mark.BAD)

    def list_models(self) -> None:
        """List the models at once."""
        self._models_at = asyncio.get_running_loop().time()
        self._models_wanted.set()

    def _list_models_soon(self) -> None:
        """List the models once the last list is old enough: many servers may go together."""
        pause = max(LOOK_EACH_S, MODELS_S_PER_MODEL * len(self._picture.models))
        self._models_at = min(self._models_at, self._models_listed_at + pause)
        self._models_wanted.set()

    def open_log(self, model: str) -> None:
        """Follow the log of a model."""
        self.close_log()
        self.log = LogText()
        self._log_task = asyncio.create_task(self._follow_log(model, self.log))
        self._keep(self._log_task)

    def close_log(self) -> None:
        """Follow no log any more."""
        if self._log_task is not None:
            self._log_task.cancel()
            self._log_task = None

    async def _follow_log(self, model: str, log: LogText) -> None:
        try:
            async with self._patient.logs(model, lines=_LOG_LINES, follow=True) as parts:
                async for part in parts:
                    rows = log.add(part)
                    # What was scrolled to stays where it is.
                    self._controls.scroll += rows if self._controls.scroll else 0
                    self._changed()
        except PoolError as error:
            log.error = failure_of(error).message
            self._changed()

    def call(self, call: Call) -> None:
        """Make a call beside everything else; its result or its refusal becomes a message.

        A second Ensure of a model would only get what the first one gets, and is not made.
        """
        words = _words(call)
        if isinstance(call, Ensure) and words in self._controls.calls:
            self._controls.say(f"{words} is under way already", Mark.NOTE)
            return
        self._controls.calls.append(words)
        self._keep(asyncio.create_task(self._call(call, words)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Keep a task until its end, and report its failure."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)

    async def _call(self, call: Call, words: str) -> None:
        self._changed()
        try:
            self._controls.say(await self._result(call), Mark.DONE)
        except ServerInUse as error:
            server = _with_holds(self._picture.current(call.model), error)
            again = f"{call.again}: " if isinstance(call, Evict) and call.again else ""
            self._controls.ask_before_evicting(call.model, f"{again}{error}", server)
        except PoolError as error:
            self._controls.say(f"{words}: {failure_of(error).message}", Mark.BAD)
        finally:
            self._controls.calls.remove(words)
            self.look()
            self.list_models()
            self._changed()

    async def _result(self, call: Call) -> str:
        match call:
            case Ensure():
                result = await self._pool.ensure(call.model)
                return ready_line(result.server, "started" if result.started else "ready")
            case Evict():
                evicted = await self._pool.evict(call.model, force=call.force)
                return _evicted_text(evicted)
            case Pin():
                pinned = await self._pool.pin(
                    call.model, pinned=call.pinned, timeout=QUERY_TIMEOUT_S
                )
                return pinned_line(call.model, pinned, pinned=call.pinned)


def _not_up_to_date(error: PoolError) -> str:
    return f"memory and use are not up to date: {error}"


def _with_holds(server: Server | None, refusal: ServerInUse) -> Server | None:
    """Return a server with the holds that a refusal tells, which may be news."""
    holds = refusal.metadata.get("holds", "")
    return replace(server, holds=int(holds)) if server is not None and holds.isdigit() else server


def _words(call: Call) -> str:
    match call:
        case Ensure():
            return f"ensure {call.model}"
        case Evict():
            return f"evict {call.model}"
        case Pin():
            return f"{'pin' if call.pinned else 'unpin'} {call.model}"


def _evicted_text(evicted: Sequence[EvictedServer]) -> str:
    return "; ".join(map(evicted_line, evicted)) or "nothing to evict"


async def _within(seconds: float, wanted: asyncio.Event) -> bool:
    """Wait for an event, but not longer; return whether it has come."""
    try:
        async with asyncio.timeout(seconds):
            return await wanted.wait()
    except TimeoutError:
        return False
