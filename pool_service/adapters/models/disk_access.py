"""Reading of model directories with a time limit, however long the disk blocks.

A read can block without end: on a file server that is gone, or on macOS in a directory for which
the system asks a person for permission.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from pool_service.core.errors import StartFailed
from pool_service.paths import home_directory

T = TypeVar("T")

LOOK_TIMEOUT_S = 20.0
"""The time limit; a hundred shards on a disk that has to spin up first take a few seconds."""


class DiskLooks:
    """Runs blocking reads of model files in separate threads, one at a time for each key.

    The event loop's own threads are few, and the service waits for them at its end.
    """

    def __init__(self, timeout: float = LOOK_TIMEOUT_S) -> None:
        self._timeout = timeout
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, key: Hashable, model: str, place: str, look: Callable[[], T]) -> T:
        """Return the result of `look`, or raise its error.

        place: the path for the error message. Raises StartFailed after the time limit. While a
        read runs, calls with the same key wait for it and start no other.
        """
        answer = self._running.get(key)
        if answer is None:
            answer = self._running[key] = _in_a_thread(look)
            answer.add_done_callback(lambda done: self._forget(key, done))
        try:
            result: T = await asyncio.wait_for(asyncio.shield(answer), self._timeout)
        except TimeoutError:
            if answer.done():
                return answer.result()  # type: ignore[no-any-return]  # it raised that itself
            raise _held_up(model, place, self._timeout) from None
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


def _in_a_thread(look: Callable[[], T]) -> "asyncio.Future[T]":
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)  # type: ignore[arg-type]  # of a look that returned
        else:
            answer.set_exception(error)

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = look()
        except Exception as raised:  # noqa: BLE001  # whatever it is, who asked is told
            error = raised
        # The loop may have closed meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="look at a model's files", daemon=True).start()
    return answer


def _held_up(model: str, place: str, timeout: float) -> StartFailed:
    hint = protection_hint(Path(place), home=home_directory())
    return StartFailed(
        f"{model!r} cannot be started: a look at the files of {place!r} has not come back within "
        f"{timeout:g} s. Look whether that disk or file server answers{hint}; then try again.",
        model=model,
    )
