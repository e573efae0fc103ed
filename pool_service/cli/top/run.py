"""Running `top`: the terminal, its signals and keys, the calls, and when a frame is drawn."""

import asyncio
import errno
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from pool_service.cli.connection import check_reachable, connected, valid_address
from pool_service.cli.options import Target
from pool_service.cli.top.actions import Action, CloseLog, ListModels, LookAtChoice, OpenLog, Quit
from pool_service.cli.top.canvas import Canvas
from pool_service.cli.top.controls import Controls
from pool_service.cli.top.frame import frame
from pool_service.cli.top.keyboard import Keyboard
from pool_service.cli.top.picture import Picture
from pool_service.cli.top.screen import Screen, opened
from pool_service.cli.top.session import Session
from pool_service_client import AsyncPoolClient, RetryPolicy

CLOCK_S = 1.0
"""A frame is drawn at least so often, if a time in it has changed."""

_ESCAPE_S = 0.05
"""The time in which the rest of a sequence comes that begins like Escape."""

_SHORTEST_FRAME_S = 0.05
"""The least time between two frames, however much changes."""

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_WITHOUT_CURSOR = {"", "dumb", "unknown"}
"""Values of TERM of terminals that cannot move their cursor."""

_GONE = {errno.EIO, errno.ENXIO}
"""Errors of writing to a terminal whose window was closed."""

_NO_TERMINAL = (
    "top needs a terminal for its keys and its screen, and there is none here. "
    "`pool-service list` prints the servers once, and `pool-service watch` every change"
)


def top(target: Target) -> None:
    """Show the pool in the terminal until the user ends the view.

    Raises UsageError without a terminal, and PoolError if the service does not answer.
    """
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not is_terminal or os.environ.get("TERM", "").lower() in _WITHOUT_CURSOR:
        raise click.UsageError(_NO_TERMINAL)
    check_reachable(target)
    ended_by = asyncio.run(_show(target))
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt
    if ended_by is not None:
        # The terminal is restored: end as if the signal had not been handled.
        signal.raise_signal(ended_by)


async def _show(target: Target) -> signal.Signals | None:
    """Show the pool; return the signal that ended the view, or None if the user did."""
    once = connected(AsyncPoolClient, target, RetryPolicy(attempts=1))
    patient = connected(AsyncPoolClient, target, RetryPolicy(patience=math.inf))
    # Before the terminal is taken, so that no signal ends the program without giving it back.
    ended = _ending_signal()
    async with once, patient:
        with opened() as screen:
            return await _Top(screen, once, patient, valid_address(target), ended).run()


def _ending_signal() -> "asyncio.Future[signal.Signals | None]":
    """Return a future that is done when a signal asks the program to end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals | None] = loop.create_future()

    def end(number: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(number)

    for number in _ENDING_SIGNALS:
        loop.add_signal_handler(number, end, number)
    return ended


class _Top:
    """Connects the terminal's keys and signals with the calls and the frames."""

    def __init__(
        self,
        screen: Screen,
        once: AsyncPoolClient,
        patient: AsyncPoolClient,
        address: str,
        ended: "asyncio.Future[signal.Signals | None]",
    ) -> None:
        self._screen = screen
        self._address = address
        self._picture = Picture()
        self._controls = Controls()
        self._keyboard = Keyboard()
        self._escape: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._is_anew = False
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._session = Session(
            once, patient, self._picture, self._controls, self._changed.set, self._fail
        )

    async def run(self) -> signal.Signals | None:
        """Show the pool until a key or a signal ends that."""
        self._handle_signals()
        self._loop.add_reader(self._screen.descriptor, self._guarded(self._read_keys))
        # They never all end by themselves, but each with a failure.
        work = asyncio.gather(
            self._session.watch(),
            self._session.look_regularly(),
            self._session.follow_choice(),
            self._session.keep_models(),
            self._draw_frames(),
        )
        both: tuple[asyncio.Future[Any], ...] = (self._ended, work)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            return await self._ended
        finally:
            self._loop.remove_reader(self._screen.descriptor)
            if work.cancel():
                with suppress(asyncio.CancelledError):
                    await work

    def _handle_signals(self) -> None:
        self._loop.add_signal_handler(signal.SIGWINCH, self._draw_anew)
        self._loop.add_signal_handler(signal.SIGTSTP, self._guarded(self._stop))
        self._loop.add_signal_handler(signal.SIGCONT, self._guarded(self._go_on))

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Return a callback whose error ends the view instead of being logged onto it."""

        def run() -> None:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  # raised again by `run`
                self._fail(error)

        return run

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _end(self, by: signal.Signals | None = None) -> None:
        if not self._ended.done():
            self._ended.set_result(by)

    def _stop(self) -> None:
        """Give the terminal back and stop, as Ctrl-Z asks for; go on when the shell says so."""
        self._give_back()
        # SIGCONT, too, means only to go on here: the terminal would be taken twice.
        for number in (signal.SIGTSTP, signal.SIGCONT):
            self._loop.remove_signal_handler(number)
        signal.raise_signal(signal.SIGTSTP)
        self._handle_signals()
        self._screen.take()
        self._draw_anew()

    def _go_on(self) -> None:
        """Take the terminal again: after SIGSTOP, others have changed it without a notice."""
        self._give_back()
        self._screen.take()
        self._draw_anew()

    def _give_back(self) -> None:
        """Give the terminal back, and wait no more for the rest of what was typed or pasted."""
        self._screen.give_back()
        self._keyboard = Keyboard()

    def _draw_anew(self) -> None:
        self._is_anew = True
        self._changed.set()

    async def _draw_frames(self) -> None:
        while True:
            self._changed.clear()
            try:
                self._draw()
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                return self._end(signal.SIGHUP)
            await asyncio.sleep(_SHORTEST_FRAME_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOCK_S):
                    await self._changed.wait()

    def _draw(self) -> None:
        anew, self._is_anew = self._is_anew, False
        width, height = self._screen.measure()
        canvas = Canvas(width, height, datetime.now(UTC), self._screen.has_symbols)
        log = self._session.log
        lines = frame(self._picture, self._controls, log, self._address, canvas)
        self._screen.draw(lines, anew=anew)
        self._controls.drawn()

    def _read_keys(self) -> None:
        data = self._screen.read()
        if data is None:
            return
        if not data:
            self._end(signal.SIGHUP)
        if self._escape is not None:
            self._escape.cancel()
        self._press(self._keyboard.read(data))
        if self._keyboard.is_waiting:
            self._escape = self._loop.call_later(_ESCAPE_S, self._guarded(self._end_of_sequence))

    def _end_of_sequence(self) -> None:
        self._press(self._keyboard.flush())

    def _press(self, keys: Sequence[str]) -> None:
        for key in keys:
            if self._ended.done():
                break
            action = self._controls.press(key, self._picture)
            if action is not None:
                self._do(action)
        self._changed.set()

    def _do(self, action: Action) -> None:
        match action:
            case Quit():
                self._end()
            case OpenLog():
                self._session.open_log(action.model)
            case CloseLog():
                self._session.close_log()
                self._session.look_at_choice()
            case LookAtChoice():
                self._session.look_at_choice()
            case ListModels():
                self._session.list_models()
            case _:
                self._session.call(action)
