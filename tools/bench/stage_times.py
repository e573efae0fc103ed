"""Where the time of a start goes, seen from outside: the kernel says when files are touched.

Nothing in what is measured is changed for it. Linux only, since only inotify tells who opened
a file.
"""

import ctypes
import os
import select
import struct
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

MODIFIED, CLOSED, OPENED = 0x2, 0x10, 0x20
"""IN_MODIFY, IN_CLOSE_NOWRITE and IN_OPEN of <sys/inotify.h>."""

EVENT = struct.Struct("iIII")
WEIGHTS = "model.safetensors"
LINES = {
    "loaded": ("Model loaded successfully", "BatchedEngine loaded"),
    "bound": ("Uvicorn running on",),
}
"""The log lines of vllm-mlx by stage: the model is there (a line for each engine); it listens."""

STAGES = ("spawn", "import", "weights", "tokenizer", "bind", "answer")
IS_POSSIBLE = sys.platform == "linux"


class Stamps:
    """Follows one start while the block runs. logs: the directory that its log is made in.

    The log of an earlier start, and what is read before the weights, are not looked at.
    """

    def __init__(self, model: Path, logs: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._logs = logs
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC)
        self._model = self._watch(model, OPENED | CLOSED)
        self._watch(logs, MODIFIED)
        self._done, self._end = os.pipe()
        self._thread = threading.Thread(target=self._follow)
        self._sizes = {path.name: path.stat().st_size for path in logs.iterdir()}
        self._seen: dict[str, float] = {}

    def _watch(self, path: Path, kinds: int) -> int:
        watch: int = self._libc.inotify_add_watch(self._inotify, os.fsencode(path), kinds)
        if watch < 0:
            raise OSError(ctypes.get_errno(), "cannot watch", str(path))
        return watch

    def __enter__(self) -> Self:
        self._began = time.time()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._end)
        self._thread.join()
        os.close(self._done)
        os.close(self._inotify)

    def _follow(self) -> None:
        while True:
            ready, _, _ = select.select([self._inotify, self._done], [], [])
            if self._inotify not in ready:
                return
            data, now = os.read(self._inotify, 1 << 16), time.time()
            while data:
                watch, kinds, _, length = EVENT.unpack_from(data)
                name = data[EVENT.size :][:length].rstrip(b"\0").decode()
                data = data[EVENT.size + length :]
                self._note(watch == self._model, kinds, name, now)

    def _note(self, is_model: bool, kinds: int, name: str, now: float) -> None:  # noqa: FBT001
        if is_model and name == WEIGHTS:
            if kinds & OPENED:
                self._seen.setdefault("opened", now)
            else:
                # Closed again: the last time counts.
                self._seen["read"] = now
        elif not is_model:
            with (self._logs / name).open() as log:
                log.seek(self._sizes.get(name, 0))
                written = log.read()
            for stage, lines in LINES.items():
                if any(line in written for line in lines):
                    self._seen.setdefault(stage, now)

    def stages(self, spawned: float, answered: float) -> dict[str, float]:
        """Seconds by stage. spawned, answered: times of day. Call it after the block."""
        ends = [spawned, *(self._seen[name] for name in ("opened", "read", "loaded", "bound"))]
        starts = [self._began, *ends]
        return {
            stage: end - start
            for stage, start, end in zip(STAGES, starts, [*ends, answered], strict=True)
        }
