"""Notices the end of any process, a child of ours or not, at the moment it ends."""

import asyncio
import contextlib
import errno
import functools
import os
import select
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.system.os_errors import SHORTAGES
from pool_service.core.types import Identity

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_SHORTAGE_PAUSE = 1.0


_STATUS_BITS = 0xFFFF
# From <sys/event.h> of xnu-11417.101.15; `select` does not name them.
_NOTE_EXITSTATUS = 0x04000000
_NOTE_EXIT_DETAIL = 0x02000000
_NOTE_EXIT_MEMORY = 0x00020000

LOOK_PACE = 0.05
"""Seconds between two looks where the system tells of no end; of many at once each takes"""

LOOK_SHARE = 0.001
"""so many more, some fiftieth of a processor."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a process that may be no child, as far as the system tells it.

    code: as that of subprocess, None where it is not told.
    """

    code: int | None = None
    is_for_memory: bool = False


class Watched(Protocol):
    """A process that is watched; its descriptor is readable when the process has ended."""

    def fileno(self) -> int:
        """The descriptor."""
        ...

    def end(self) -> End:
        """Return how the process ended, once the descriptor is readable."""
        ...


class ExitWatch(Protocol):
    """Makes descriptors that become readable when a process ends."""

    def open(self, pid: int) -> contextlib.AbstractContextManager[Watched]:
        """Watch the process that has this pid now, until the context ends.

        Raises ProcessLookupError if there is none, OSError if no descriptor is left.
        """
        ...


class Kevent(Protocol):
    """The part of `select.kevent` that is used."""

    fflags: int
    data: int


class Kqueue(Protocol):
    """The part of `select.kqueue` that is used."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def control(
        self, changes: Sequence[Any], max_events: int, timeout: float
    ) -> Sequence[Kevent]: ...


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
    def open(self, pid: int) -> Iterator[Watched]:
        queue = self._api.kqueue()
        try:
            try:
                self._register(queue, pid, _NOTE_EXITSTATUS | _NOTE_EXIT_DETAIL)
            except PermissionError:
                # How it ends is for whoever may signal it; that it does is for everybody.
                self._register(queue, pid, 0)
            yield _Kqueued(queue)
        finally:
            queue.close()

    def _register(self, queue: Kqueue, pid: int, more: int) -> None:
        api = self._api
        event = api.kevent(
            pid,
            filter=api.KQ_FILTER_PROC,
            flags=api.KQ_EV_ADD | api.KQ_EV_ONESHOT,
            fflags=api.KQ_NOTE_EXIT | more,
        )
        queue.control([event], 0, 0)


@dataclass(frozen=True, slots=True)
class _Kqueued:
    queue: Kqueue

    def fileno(self) -> int:
        return self.queue.fileno()

    def end(self) -> End:
        for event in self.queue.control([], 1, 0):
            told = event.fflags & _NOTE_EXITSTATUS
            code = os.waitstatus_to_exitcode(event.data & _STATUS_BITS) if told else None
            detailed = event.fflags & _NOTE_EXIT_DETAIL
            return End(code, is_for_memory=bool(detailed and event.data & _NOTE_EXIT_MEMORY))
        return End()


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """A descriptor that tells only that the process has ended, not how."""

    number: int

    def fileno(self) -> int:
        return self.number

    def end(self) -> End:
        return End()


@dataclass(slots=True, eq=False)
class _Looked:
    """A process that is looked at; `writer` is closed when it has ended, or is watched no more."""

    identity: Identity
    writer: int

    def close(self) -> None:
        """Close the writer. Once: its number is soon another one's."""
        descriptor, self.writer = self.writer, -1
        if descriptor >= 0:
            os.close(descriptor)


class LookWatch:
    """Where no event tells of an end: looks at each process, all in one go, on a running loop."""

    def __init__(self) -> None:
        self._watched: set[_Looked] = set()
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def open(self, pid: int) -> Iterator[Watched]:
        identity = identity_of(pid)
        if identity is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        reader, writer = os.pipe()
        looked = _Looked(identity, writer)
        self._watched.add(looked)
        try:
            self._arm()
            yield _Descriptor(reader)
        finally:
            os.close(reader)
            self._close(looked)

    def _arm(self) -> None:
        if self._timer is None and self._watched:
            pace = max(LOOK_PACE, LOOK_SHARE * len(self._watched))
            self._timer = asyncio.get_running_loop().call_later(pace, self._look)

    def _look(self) -> None:
        self._timer = None
        for looked in list(self._watched):
            # Short of descriptors nothing is seen; the next look may.
            with contextlib.suppress(OSError):
                if not is_alive(looked.identity):
                    self._close(looked)
        self._arm()

    def _close(self, looked: _Looked) -> None:
        self._watched.discard(looked)
        looked.close()


if sys.platform == "darwin":

    def exit_watch() -> ExitWatch:
        """The one of this platform."""
        return KqueueWatch(select)

else:

    class PidfdWatch:
        """Linux: a pidfd (since 5.3)."""

        @contextlib.contextmanager
        def open(self, pid: int) -> Iterator[Watched]:
            """A pidfd of the process."""
            descriptor = os.pidfd_open(pid)
            try:
                yield _Descriptor(descriptor)
            finally:
                os.close(descriptor)

    def exit_watch() -> ExitWatch:
        """The one of this platform; looks, where a sandbox or an old kernel has no pidfd."""
        return LookWatch() if _pidfd_refusal() else PidfdWatch()

    @functools.cache
    def _pidfd_refusal() -> str:
        """Why a process cannot be watched by a pidfd; empty if it can."""
        why = ""
        try:
            os.close(os.pidfd_open(os.getpid()))
        except AttributeError:
            why = "this Python was built without it"
        except OSError as error:
            # What is short now may be there later.
            if error.errno not in SHORTAGES:
                why = error.strerror or str(error)
        if why:
            _log.warning("no pidfd_open; processes are looked at every 50 ms instead", why=why)
        return why


async def gone(watch: ExitWatch, identity: Identity) -> End:
    """Return when this process has ended (as a zombie, too), at once if it has already."""

    async def ended() -> End:
        try:
            with watch.open(identity.pid) as watched:
                # Only now: whoever has the pid when the descriptor is open is who it tells of.
                if is_alive(identity):
                    await _readable(watched.fileno())
                    return watched.end()
        except ProcessLookupError:
            pass
        return End()

    return await outlasting_shortage(ended)


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
