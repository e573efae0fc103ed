"""Notices the end of any process, a child of ours or not, at the moment it ends."""

import asyncio
import contextlib
import os
import select
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from pool_service.adapters.identity import is_alive
from pool_service.adapters.os_errors import SHORTAGES
from pool_service.core.types import Identity

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_SHORTAGE_PAUSE = 1.0


class ExitWatch(Protocol):
    """Makes descriptors that become readable when a process ends."""

    def open(self, pid: int) -> contextlib.AbstractContextManager[int]:
        """A descriptor for the process that has this pid now, closed on leaving.

        Raises ProcessLookupError if there is none, OSError if no descriptor is left.
        """


class Kqueue(Protocol):
    """What is used of `select.kqueue`."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def control(self, changes: Sequence[Any], max_events: int, timeout: float) -> Sequence[Any]: ...


class KqueueApi(Protocol):
    """What is used of the module `select` where it has kqueue."""

    KQ_FILTER_PROC: int
    KQ_NOTE_EXIT: int
    KQ_EV_ADD: int
    KQ_EV_ONESHOT: int

    def kqueue(self) -> Kqueue: ...
    def kevent(self, ident: int, *, filter: int, flags: int, fflags: int) -> object: ...  # noqa: A002 - its name


class KqueueWatch:
    """macOS: a kqueue with one filter; it is readable when it has an event."""

    def __init__(self, api: KqueueApi) -> None:
        self._api = api

    @contextlib.contextmanager
    def open(self, pid: int) -> Iterator[int]:
        api = self._api
        queue = api.kqueue()
        try:
            event = api.kevent(
                pid,
                filter=api.KQ_FILTER_PROC,
                flags=api.KQ_EV_ADD | api.KQ_EV_ONESHOT,
                fflags=api.KQ_NOTE_EXIT,
            )
            queue.control([event], 0, 0)
            yield queue.fileno()
        finally:
            queue.close()


if sys.platform == "darwin":

    def exit_watch() -> ExitWatch:
        """The one of this platform."""
        return KqueueWatch(select)

else:

    class PidfdWatch:
        """Linux: a pidfd (since 5.3)."""

        @contextlib.contextmanager
        def open(self, pid: int) -> Iterator[int]:
            """A pidfd of the process."""
            descriptor = os.pidfd_open(pid)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def exit_watch() -> ExitWatch:
        """The one of this platform."""
        return PidfdWatch()


async def gone(watch: ExitWatch, identity: Identity) -> None:
    """Return when this process has ended (as a zombie, too), at once if it has already."""

    async def ended() -> None:
        try:
            with watch.open(identity.pid) as descriptor:
                # Only now: whoever has the pid when the descriptor is open is who it tells of.
                if is_alive(identity):
                    await _readable(descriptor)
        except ProcessLookupError:
            return

    await outlasting_shortage(ended)


async def outlasting_shortage(step: Callable[[], Awaitable[T]]) -> T:
    """Do a step again while descriptors or memory are short: no process is lost sight of."""
    while True:
        try:
            return await step()
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            _log.warning("cannot look after processes; trying again", error=error.strerror)
        await asyncio.sleep(_SHORTAGE_PAUSE)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
