"""Slow work on the files of kept prompts, in threads of its own: flushing and deleting them.

Both take seconds for some gigabytes. Nothing is lost if they are ended halfway: what is not flushed
counts until the machine stops (`notes.py`), and the next store goes on with both.
"""

import contextlib
import os
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import structlog

from pool_service.adapters.children.kept_prompts import MANIFEST
from pool_service.adapters.prompts.manifest import Manifest
from pool_service.adapters.prompts.notes import NOTE, flush_file, is_to_be_flushed, note_flushed
from pool_service.adapters.system.own_files import remove_tree

_log = structlog.get_logger(__name__)


class DiskWork:
    """Flushes the files of directories to the disk, and deletes directories.

    lock: is held while the note of a directory is written, which must not be replaced meanwhile.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._flusher = ThreadPoolExecutor(1, "flush-prompts")
        self._deleter = ThreadPoolExecutor(1, "delete-prompts")
        self._is_closed = threading.Event()

    def flush_later(self, directory: Path, manifest: Manifest) -> None:
        """Flush the files of a manifest to the disk, unless that is done, and note it."""
        # RuntimeError: this is closed.
        with contextlib.suppress(RuntimeError):
            self._flusher.submit(self._flush, directory, manifest)

    def delete_later(self, path: Path) -> None:
        """Delete a directory, or what is in its place."""
        with contextlib.suppress(RuntimeError):
            self._deleter.submit(_delete, path)

    def await_flushed(self) -> None:
        """Wait until all is flushed, or this is closed."""
        _await(self._flusher)

    def await_deleted(self) -> None:
        """Wait until all is deleted, or this is closed."""
        _await(self._deleter)

    def close(self) -> None:
        """End the work, at the next file or directory."""
        self._is_closed.set()
        self._flusher.shutdown(cancel_futures=True)
        self._deleter.shutdown(cancel_futures=True)

    def _flush(self, directory: Path, manifest: Manifest) -> None:
        try:
            opened = os.open(directory, os.O_RDONLY)
            try:
                if is_to_be_flushed(directory) and self._flush_files(manifest, opened):
                    self._note_flushed(directory, opened)
            finally:
                os.close(opened)
        except FileNotFoundError:
            # Replaced or removed meanwhile.
            return
        except (OSError, ValueError, LookupError, TypeError) as error:
            _log.warning(
                "kept prompts cannot be flushed to the disk; they are lost if the machine stops",
                directory=str(directory),
                error=str(error),
            )

    def _flush_files(self, manifest: Manifest, opened: int) -> bool:
        """Flush the files in an open directory; return False if this is closed meanwhile."""
        for name in manifest.files:
            if self._is_closed.is_set():
                return False
            flush_file(name, opened, os.fsync)
        # The drive empties its cache of all of them at once.
        flush_file(MANIFEST, opened)
        return True

    def _note_flushed(self, directory: Path, opened: int) -> None:
        with self._lock:
            # Else the directory has been replaced meanwhile.
            if os.path.samestat(os.fstat(opened), directory.stat()):
                note_flushed(directory)
        flush_file(NOTE, opened)


def _await(executor: ThreadPoolExecutor) -> None:
    """Wait until an executor of one thread, which works in order, has done all, or is shut down."""
    with contextlib.suppress(CancelledError, RuntimeError):
        executor.submit(lambda: None).result()


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()
