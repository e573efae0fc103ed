"""Looks at the directories of models that end in time, whatever the disk does.

A disk can hold up whoever looks: a file server that is gone, and on macOS a directory that asks
a person whether this program may see it, for as long as nobody answers.
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
"""A checkpoint of a hundred shards on a disk that first has to spin up takes a few seconds."""


class DiskLooks:
    """Runs blocking looks in threads of their own, one at a time for each key.

    Not in those of the event loop, which are few, and which the end of the service waits for.
    """

    def __init__(self, timeout: float = LOOK_TIMEOUT_S) -> None:
        self._timeout = timeout
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, key: Hashable, model: str, place: str, look: Callable[[], T]) -> T:
        """Return what `look` returns, or raise what it raises.

        place: what is looked at, for the message. Raises StartFailed where it takes too long; as
        long as it does, whoever asks for the same key waits for the same look.
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
        # Else one that failed when nobody waited any more would be logged as a bug.
        if not answer.cancelled():
            answer.exception()


def protection_hint(path: Path, system: str = sys.platform, home: Path | None = None) -> str:
    """Return what to do about a directory that macOS protects, or "" where it protects none.

    system: as sys.platform says; home: of the user.
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
