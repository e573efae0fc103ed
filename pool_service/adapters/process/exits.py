"""Exits: waiting for the end of any process, a child of the service or not, and reaping it."""

import asyncio
import contextlib
import errno
import functools
import os
import select
import subprocess
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

_SHORTAGE_PAUSE_S = 1.0
"""Between two tries while file descriptors or memory are short."""

_STATUS_BITS = 0xFFFF
# From <sys/event.h> of xnu-11417.101.15; `select` does not name them.
_NOTE_EXITSTATUS = 0x04000000
_NOTE_EXIT_DETAIL = 0x02000000
_NOTE_EXIT_MEMORY = 0x00020000

POLL_INTERVAL_S = 0.05
"""The shortest interval of polling, where the system does not notify of exits."""

POLL_INTERVAL_PER_PROCESS_S = 0.001
"""The interval of polling for each watched process, if there are more than 50. Polling then takes
about a fiftieth of a processor core."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended, as far as the system reports that.

    code: the exit code, or minus the signal, as in subprocess; None if not reported.
    was_killed_for_memory: whether the system killed the process for want of memory.
    """

    code: int | None = None
    was_killed_for_memory: bool = False


class Watched(Protocol):
    """A watched process; its descriptor becomes readable when the process has ended."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def status(self) -> ExitStatus:
        """Return how the process ended, once the descriptor is readable."""
        ...


class ExitWatch(Protocol):
    """Opens descriptors that become readable when a process ends."""

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
    """The part of the module `select` that is used where it has kqueue."""

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
                # Only a user that may signal the process is told how it ends. Every user is told
                # that it ends.
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

    def status(self) -> ExitStatus:
        for event in self.queue.control([], 1, 0):
            has_status = event.fflags & _NOTE_EXITSTATUS
            code = os.waitstatus_to_exitcode(event.data & _STATUS_BITS) if has_status else None
            detailed = event.fflags & _NOTE_EXIT_DETAIL
            return ExitStatus(
                code, was_killed_for_memory=bool(detailed and event.data & _NOTE_EXIT_MEMORY)
            )
        return ExitStatus()


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """A descriptor that reports the end of a process, but not how it ended."""

    number: int

    def fileno(self) -> int:
        return self.number

    def status(self) -> ExitStatus:
        return ExitStatus()


@dataclass(slots=True, eq=False)
class _Polled:
    """A polled process; `writer` is closed when the process has ended or the watch ends."""

    identity: Identity
    writer: int

    def close(self) -> None:
        """Close the writer, once only: its number is soon another descriptor's."""
        descriptor, self.writer = self.writer, -1
        if descriptor >= 0:
            os.close(descriptor)


class PollWatch:
    """Polls watched processes from the event loop, where the system does not notify of exits."""

    def __init__(self) -> None:
        self._watched: set[_Polled] = set()
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def open(self, pid: int) -> Iterator[Watched]:
        identity = identity_of(pid)
        if identity is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        reader, writer = os.pipe()
        polled = _Polled(identity, writer)
        self._watched.add(polled)
        try:
            self._arm()
            yield _Descriptor(reader)
        finally:
            os.close(reader)
            self._close(polled)

    def _arm(self) -> None:
        if self._timer is None and self._watched:
            pace = max(POLL_INTERVAL_S, POLL_INTERVAL_PER_PROCESS_S * len(self._watched))
            self._timer = asyncio.get_running_loop().call_later(pace, self._poll)

    def _poll(self) -> None:
        self._timer = None
        for polled in list(self._watched):
            # Without a free descriptor the state cannot be read; the next poll may succeed.
            with contextlib.suppress(OSError):
                if not is_alive(polled.identity):
                    self._close(polled)
        self._arm()

    def _close(self, polled: _Polled) -> None:
        self._watched.discard(polled)
        polled.close()


if sys.platform == "darwin":

    def exit_watch() -> ExitWatch:
        """Return the exit watch of this platform."""
        return KqueueWatch(select)

else:

    class PidfdWatch:
        """Linux: a pidfd (since 5.3)."""

        @contextlib.contextmanager
        def open(self, pid: int) -> Iterator[Watched]:
            """Watch the process by a pidfd."""
            descriptor = os.pidfd_open(pid)
            try:
                yield _Descriptor(descriptor)
            finally:
                os.close(descriptor)

    def exit_watch() -> ExitWatch:
        """Return the exit watch of this platform; polls where pidfd_open is missing or denied."""
        return PollWatch() if _pidfd_refusal() else PidfdWatch()

    @functools.cache
    def _pidfd_refusal() -> str:
        """Return why pidfd_open cannot be used; empty if it can."""
        why = ""
        try:
            os.close(os.pidfd_open(os.getpid()))
        except AttributeError:
            why = "this Python was built without it"
        except OSError as error:
            # A shortage may pass: it does not rule pidfd_open out.
            if error.errno not in SHORTAGES:
                why = error.strerror or str(error)
        if why:
            _log.warning("pidfd_open cannot be used; polling processes instead", why=why)
        return why


async def wait_for_exit(watch: ExitWatch, identity: Identity) -> ExitStatus:
    """Wait until this very process has ended, and return how. A zombie has ended."""

    async def ended() -> ExitStatus:
        try:
            with watch.open(identity.pid) as watched:
                # Checked after `open`, which watches whichever process has the pid by then.
                if is_alive(identity):
                    await _readable(watched.fileno())
                    return watched.status()
        except ProcessLookupError:
            pass
        return ExitStatus()

    return await retry_on_shortage(ended)


def reap(popen: "subprocess.Popen[bytes]") -> int | None:
    """Reap a child; return its exit code, or minus the signal; None if it was reaped elsewhere.

    Blocks for a moment at most: macOS notifies of an exit shortly before the child can be reaped.
    """
    if popen.returncode is not None:
        return popen.returncode
    try:
        _, status = os.waitpid(popen.pid, 0)
    except ChildProcessError:
        popen.returncode = 0  # as Popen itself assumes; else it warns of a running process
        return None
    popen.returncode = os.waitstatus_to_exitcode(status)
    return popen.returncode


def reap_adopted(identity: Identity) -> int | None:
    """Reap an adopted process if it is a child; return its exit code as `reap` does, else None.

    An adopted process is a child only if this process started it before an exec, as an earlier
    service with the same pid.
    """
    if identity_of(identity.pid) != identity:
        return None
    try:
        _, status = os.waitpid(identity.pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)


async def retry_on_shortage(step: Callable[[], Awaitable[T]]) -> T:
    """Run a step and return its result; run it again while file descriptors or memory are short."""
    while True:
        try:
            return await step()
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            _log.warning("the system is short of resources; trying again", error=error.strerror)
        await asyncio.sleep(_SHORTAGE_PAUSE_S)


async def _readable(descriptor: int) -> None:
    """Wait until a descriptor is readable."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
