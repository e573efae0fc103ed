"""Reads of model files with a time limit, however long the disk blocks.

A read can block without end: on a file server that is gone, or on macOS in a directory for which
the system asks a person for permission.
"""

import _thread
import asyncio
import contextlib
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from pool_service.core.errors import StartFailed
from pool_service.paths import home_directory

T = TypeVar("T")

READ_TIMEOUT_S = 20.0
"""The time limit; a hundred shards on a disk that has to spin up take a few seconds."""


class DiskReads:
    """Runs blocking reads of model files in separate threads, one at a time for each key.

    The event loop's own threads are few, and the service waits for them at its end.
    """

    def __init__(self, timeout: float = READ_TIMEOUT_S) -> None:
        self._timeout = timeout
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, key: Hashable, model: str, place: str, read: Callable[[], T]) -> T:
        """Return the result of `read`, or raise its error.

        key: names the read: while it runs, calls with the same key share its result and start no
            other, so they must ask for the same.
        model, place: the model and the path that the error message names.

        Raises StartFailed after the time limit.
        """
        answer = self._running.get(key)
        if answer is None:
            answer = self._running[key] = _run_in_thread(read)
            answer.add_done_callback(lambda done: self._forget(key, done))
        try:
            result: T = await asyncio.wait_for(asyncio.shield(answer), self._timeout)
        except TimeoutError:
            if answer.done():
                # The read itself has raised TimeoutError.
                return answer.result()  # type: ignore[no-any-return]
            raise _timeout_error(model, place, self._timeout) from None
        return result

    def _forget(self, key: Hashable, answer: asyncio.Future[Any]) -> None:
        del self._running[key]
        # Retrieved, as asyncio logs errors that nobody has awaited.
        if not answer.cancelled():
            answer.exception()


def protection_hint(path: Path, system: str = sys.platform, home: Path | None = None) -> str:
    """Return advice about a directory that macOS may protect; "" for others.

    system: a value of sys.platform. home: the user's home directory.
    """
    if system != "darwin":
        return ""
    guarded = [Path("/Volumes"), *([home] if home else [])]
    if not any(path.is_relative_to(each) for each in guarded):
        return ""
    return (
        "; macOS may protect it: give the Python that runs the service Full Disk Access (System "
        "Settings, Privacy & Security), or keep the model outside of Documents, Desktop, "
        "Downloads and /Volumes"
    )


def _run_in_thread(read: Callable[[], T]) -> "asyncio.Future[T]":
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)  # type: ignore[arg-type]  # set, as there was no error
        else:
            answer.set_exception(error)

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = read()
        except Exception as raised:  # noqa: BLE001  # passed to the caller
            error = raised
        # The loop may have closed meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    # threading.Thread.start() would hold the event loop until the thread runs, half a millisecond.
    _thread.start_new_thread(run, ())
    return answer


def _timeout_error(model: str, place: str, timeout: float) -> StartFailed:
    hint = protection_hint(Path(place), home=home_directory())
    return StartFailed(
        f"{model!r} cannot be started: the files of {place!r} could not be read within "
        f"{timeout:g} s. Check that the disk or file server answers{hint}; then try again.",
        model=model,
    )
