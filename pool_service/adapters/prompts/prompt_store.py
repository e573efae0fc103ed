"""The store of kept prompts: a directory for each model, bounded in number of bytes.

    STATE/prompts/<model>/<key>/           entries, their index, and the manifest (`manifest.py`)
    STATE/prompts/<model>/<key>/kept.json  the note of what was written, and flushed (`notes.py`)

A server reads links to its model's directory (`lending.py`), and writes to another in its own
working directory (`children/kept_prompts.py`). After the end of its process that
directory takes the place of the first, by a rename, if all was written. So
- two servers of a model, and a server that is killed while it writes, harm nothing;
- other settings, weights or versions have another key, and what has an old key is removed;
- after a power failure only what was flushed to the disk before is read;
- a file that another program has written to since is not read.

What bounds the files, of kept prompts and of those that are being written, together:
1. A process that is told to end is allowed as many bytes as it has reported to need, within its
   model's bound, and within its fair share of what the total leaves.
2. What is kept of its own model stays until it has ended, in case it is killed as it writes. Other
   models' prompts are removed instead: those of no running server first, unused for longest.
3. Without a service that allows it (as when the guard ends the servers) a process writes little
   more than was kept of its model before. The next service applies the total again.
A removed file takes its room for as long as a server has it open. A lowered total holds once the
processes have ended that were allowed more.

Prompts are private: only the service's user can read them.
"""

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from pool_service.adapters.children.kept_prompts import MANIFEST, SAVED
from pool_service.adapters.prompts.disk_work import DiskWork
from pool_service.adapters.prompts.lending import lent_from
from pool_service.adapters.prompts.manifest import Manifest, read_manifest
from pool_service.adapters.prompts.notes import is_as_written, note_used, note_written, used_at
from pool_service.adapters.prompts.prompt_key import KEY_DIGITS
from pool_service.adapters.prompts.reports import (
    fair_share,
    read_allowed,
    unasked_bytes,
    wanted_bytes,
    write_allowed,
)
from pool_service.core.names import slug
from pool_service.core.types import LaunchPlan, PromptCache

_log = structlog.get_logger(__name__)

_MODEL = re.compile(r"(?:.*-)?[0-9a-f]{10}")
"""The names of the models' directories, as `slug` makes them."""

_KEY = re.compile(f"[0-9a-f]{{{KEY_DIGITS}}}")

_REPLACED = ".replaced-"
"""The beginning of the name of a directory that is being removed."""


@dataclass(slots=True)
class _Kept:
    """The prompts in one directory: their bytes, and when they were used last (Unix time)."""

    disk_bytes: int
    used_at: float


@dataclass(frozen=True, slots=True)
class _Ending:
    """A process that was told to end: its model's directory, and the bytes that it may write."""

    directory: Path
    allowed_bytes: int


class PromptStore:
    """The kept prompts under a state directory.

    All methods are blocking, and may be called in any thread.

    total_bytes: the bound of all kept prompts together; None if it is not known, as to the guard:
        no process is allowed more than it may write by itself, and none is removed for another.
    """

    def __init__(self, state_dir: Path, total_bytes: int | None = None) -> None:
        self._root = state_dir / "prompts"
        self._work_dirs = state_dir / "work"
        self._total_bytes = total_bytes
        self._lock = threading.RLock()
        # By working directory, from the order to end to the end.
        self._ending: dict[Path, _Ending] = {}
        # The key of the newest settings of each model, by the name of its directory.
        self._keys: dict[str, str] = {}
        self._kept: dict[Path, _Kept] | None = None
        self._disk = DiskWork(self._lock)

    # --- starting a server ----------------------------------------------------------------

    def find(self, model: str, key: str, max_bytes: int) -> PromptCache:
        """Return the place of a model's prompts, and remove those of its other keys.

        max_bytes: the bound of this model.
        """
        name = slug(model)
        directory = self._root / name / key
        with self._lock:
            self._all()
            self._keys[name] = key
            for other in self._directories(name):
                if other != directory:
                    self._remove(other)
            manifest = read_manifest(directory / MANIFEST)
            if manifest is None or not is_as_written(directory, manifest):
                self._remove(directory)
                return PromptCache(str(directory), max_bytes)
            with contextlib.suppress(OSError):
                note_used(directory)
            self._all()[directory] = _Kept(manifest.disk_bytes, used_at(directory))
            return PromptCache(str(directory), max_bytes, manifest.disk_bytes, manifest.tokens)

    def forget(self, model: str) -> None:
        """Remove a model's prompts."""
        name = slug(model)
        with self._lock:
            # A server with earlier settings may still run, and end later.
            self._keys[name] = ""
            for directory in self._directories(name):
                self._remove(directory)
            with contextlib.suppress(OSError):
                (self._root / name).rmdir()

    # --- the end of a server --------------------------------------------------------------

    def allow(self, plan: LaunchPlan, work_dir: Path, running: Mapping[Path, LaunchPlan]) -> None:
        """Let the process of a plan write its prompts, as it is about to be told to end.

        running: the plans of all processes that run, by their working directories.
        """
        cache = plan.prompt_cache
        if cache is None or self._total_bytes is None:
            return
        try:
            with self._lock:
                if work_dir in self._ending:
                    # It is told again, and may have read already what it is allowed.
                    return
                allowed = self._make_room_for(plan, work_dir, running, self._total_bytes)
            # Nobody else has to wait for the deletion of some gigabytes.
            self._disk.await_deleted()
            write_allowed(work_dir, allowed)
        except OSError as error:
            _log.warning(
                "a server may keep no more prompts than before, as it cannot be allowed any",
                directory=cache.directory,
                error=str(error),
            )

    def note_allowed(self, plan: LaunchPlan, work_dir: Path) -> None:
        """Note what an earlier service has allowed the process of a plan to write."""
        cache = plan.prompt_cache
        if cache is None:
            return
        with contextlib.suppress(OSError, ValueError), self._lock:
            allowed = min(read_allowed(work_dir), cache.max_bytes)
            self._ending[work_dir] = _Ending(Path(cache.directory), allowed)

    def take(self, plan: LaunchPlan, work_dir: Path) -> None:
        """Keep what the process of a plan has written in its working directory.

        It takes the place of what was kept. Does nothing if the process has not written all, as
        when it was killed, or if its model has other settings by now.
        """
        cache = plan.prompt_cache
        if cache is None:
            return
        saved, directory = work_dir / SAVED, Path(cache.directory)
        with self._lock:
            told = self._ending.pop(work_dir, None)
            if not self._is_wanted(directory):
                return
            manifest = read_manifest(saved / MANIFEST)
            if manifest is None or not manifest.tokens:
                return
            allowed = told.allowed_bytes if told else unasked_bytes(cache)
            if manifest.disk_bytes > allowed:
                _log.warning(
                    "a server has written more prompts than it may; those before it stay",
                    directory=cache.directory,
                    written_bytes=manifest.disk_bytes,
                    allowed_bytes=allowed,
                )
                return
            try:
                self._replace(directory, saved, manifest)
                self._make_room()
            except (OSError, RecursionError) as error:
                # A server can nest directories deeper than Python walks through.
                _log.warning(
                    "the prompts of a server are lost, as they cannot be moved to their place",
                    directory=cache.directory,
                    error=str(error),
                )
                return
        self._disk.flush_later(directory, manifest)

    def _is_wanted(self, directory: Path) -> bool:
        """Return whether a directory is of this store, and of its model's newest key."""
        model = directory.parent
        if model.parent != self._root or model.is_symlink() or directory.is_symlink():
            return False
        if not _MODEL.fullmatch(model.name) or not _KEY.fullmatch(directory.name):
            return False
        return self._keys.get(model.name, directory.name) == directory.name

    def _replace(self, directory: Path, saved: Path, manifest: Manifest) -> None:
        """Put the files of a manifest in the place of a directory. Raises OSError."""
        _remove_others(saved, {*manifest.files, MANIFEST})
        note_written(saved, manifest)
        saved.chmod(0o700)
        for parent in (self._root, directory.parent):
            parent.mkdir(mode=0o700, exist_ok=True)
        self._remove(directory)
        saved.rename(directory)
        self._all()[directory] = _Kept(manifest.disk_bytes, used_at(directory))

    def flush(self) -> None:
        """Wait until all is flushed to the disk and deleted, or the store is closed."""
        self._disk.await_flushed()
        self._disk.await_deleted()

    def close(self) -> None:
        """End the flushing and deleting at the next file; the next store goes on with it."""
        self._disk.close()

    # --- the bound ------------------------------------------------------------------------

    @property
    def disk_bytes(self) -> int:
        """The bytes of all kept prompts."""
        with self._lock:
            return sum(one.disk_bytes for one in self._all().values())

    @property
    def _allowed_bytes(self) -> int:
        return sum(one.allowed_bytes for one in self._ending.values())

    def _make_room_for(
        self, plan: LaunchPlan, work_dir: Path, running: Mapping[Path, LaunchPlan], total: int
    ) -> int:
        """Make room for what the process of a plan may write; return its bytes. Raises OSError."""
        (directory,) = _directories_of([plan])
        is_wanted = self._is_wanted(directory)
        allowed = self._share(plan, work_dir, running, total) if is_wanted else 0
        self._ending[work_dir] = _Ending(directory, allowed)
        self._make_room(_directories_of(running.values()))
        return allowed

    def _share(
        self, plan: LaunchPlan, work_dir: Path, running: Mapping[Path, LaunchPlan], total: int
    ) -> int:
        """Return what a process may write beside those that are ending, and those that run on."""
        others = [
            wanted_bytes(other, directory)
            for directory, other in running.items()
            if directory != work_dir and directory not in self._ending
        ]
        staying = {*_directories_of([plan]), *self._directories_of_ending()}
        stay = sum(one.disk_bytes for path, one in self._all().items() if path in staying)
        left = max(total - self._allowed_bytes - stay, 0)
        return fair_share(left, wanted_bytes(plan, work_dir), others)

    def _make_room(self, in_use: Collection[Path] = ()) -> None:
        """Remove the prompts unused for longest, those `in_use` last, until the bound holds.

        Those of a process that is ending stay: it may be killed before it has written them anew.
        """
        if self._total_bytes is None:
            return
        kept = self._all()
        order = sorted(
            kept.keys() - self._directories_of_ending(),
            key=lambda one: (one in in_use, kept[one].used_at),
        )
        for directory in order:
            if self.disk_bytes + self._allowed_bytes <= self._total_bytes:
                return
            self._remove(directory)

    def _directories_of_ending(self) -> set[Path]:
        return {one.directory for one in self._ending.values()}

    def _all(self) -> dict[Path, _Kept]:
        """Return all kept prompts by their directories; the first call reads the disk."""
        if self._kept is None:
            self._kept = dict(self._scan())
            # The total may have been larger before.
            with contextlib.suppress(OSError):
                self._make_room()
        return self._kept

    def _scan(self) -> Iterator[tuple[Path, _Kept]]:
        with contextlib.suppress(OSError):
            for model in list(self._root.iterdir()):
                if model.name.startswith(_REPLACED):
                    self._disk.delete_later(model)
                for directory in self._directories(model.name):
                    manifest = read_manifest(directory / MANIFEST)
                    if manifest is None:
                        self._remove(directory)
                    else:
                        # An earlier service may have ended before it was flushed.
                        self._disk.flush_later(directory, manifest)
                        yield directory, _Kept(manifest.disk_bytes, used_at(directory))

    def _directories(self, name: str) -> list[Path]:
        """Return what is in a model's directory; nothing where it is not of this store's making.

        A name of another form, or a link, may lead to anything, which is not removed.
        """
        model = self._root / name
        if not _MODEL.fullmatch(name) or model.is_symlink():
            return []
        try:
            return [one for one in model.iterdir() if not one.is_symlink()]
        except OSError:
            return []

    def _remove(self, directory: Path) -> None:
        """Remove the prompts in a directory; nobody finds it half removed. Raises OSError."""
        if self._kept is not None:
            self._kept.pop(directory, None)
        with contextlib.suppress(FileNotFoundError):
            inode = directory.lstat().st_ino
            self._set_aside(directory)
            # A server that is lent something only now sees that the directory is gone.
            for links in lent_from(inode, self._work_dirs):
                self._set_aside(links)

    def _set_aside(self, directory: Path) -> None:
        """Give a directory a name under which nobody looks for it, and delete it later."""
        replaced = self._root / f"{_REPLACED}{secrets.token_hex(8)}"
        directory.rename(replaced)
        self._disk.delete_later(replaced)


def _directories_of(plans: Collection[LaunchPlan]) -> set[Path]:
    """Return where the processes of these plans keep their prompts."""
    return {Path(plan.prompt_cache.directory) for plan in plans if plan.prompt_cache}


def _remove_others(directory: Path, kept: set[str]) -> None:
    """Remove all files below a directory that `kept` does not name. Raises OSError."""
    for place, _, names in os.walk(directory):
        for name in names:
            path = Path(place, name)
            if str(path.relative_to(directory)) not in kept:
                path.unlink()
