"""The store of computed prompts: a directory for each model, bounded in number of bytes.

    STATE/prompts/<model>/<key>/           entries, their index, and the manifest (`manifest.py`)
    STATE/prompts/<model>/<key>/kept.json  {"boot_id": …, "synced": …, "stamp": …}

A server reads its model's directory, and writes to another in its own working directory
(`children/kept_prompts.py`). After the end of its process that directory takes the place of the
first, by a rename, if all was written. So
- two servers of a model, and a server that is killed while it writes, harm nothing;
- other settings, weights or versions have another key, and what has an old key is removed;
- after a power failure only what was flushed to the disk before is read (`synced`);
- a file that another program has written to since is not read (`stamp`).

The bound holds at every moment: a process that is told to end is allowed as many bytes as it has
reported to need, and what was unused for longest is removed until these and the kept prompts
together are within the bound. Without a service that allows it (as when the guard ends the servers)
a process writes little more than was kept of its model before.

Prompts are private: only the service's user can read them.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from pool_service.adapters.children.kept_prompts import (
    ALLOWED,
    MANIFEST,
    REPORT,
    REPORT_FORMAT,
    SAVED,
    SLACK_BYTES,
    UNKNOWN,
)
from pool_service.adapters.process.identity import boot_id
from pool_service.adapters.prompts.manifest import Manifest, read_manifest
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.system.own_files import parse_json, read_own, write_own
from pool_service.core.names import slug
from pool_service.core.types import LaunchPlan, PromptCache

_log = structlog.get_logger(__name__)

NOTE = "kept.json"
MAX_NOTE_BYTES = 4096

_MODEL = re.compile(r"(?:.*-)?[0-9a-f]{10}")
"""The names of the models' directories, as `slug` makes them."""

IN_FLIGHT_SHARE = 8
"""The part of a model's bound that is allowed for what its requests in flight compute."""

_REPLACED = ".replaced-"
"""The beginning of the name of a directory that is being removed."""


@dataclass(slots=True)
class _Kept:
    """The prompts in one directory: their bytes, and when they were used last (Unix time)."""

    disk_bytes: int
    used_at: float


class PromptStore:
    """The kept prompts under a state directory.

    All methods are blocking, and may be called in any thread.

    total_bytes: the bound of all kept prompts together.
    """

    def __init__(self, state_dir: Path, total_bytes: int) -> None:
        self._root = state_dir / "prompts"
        self._total_bytes = total_bytes
        self._lock = threading.RLock()
        # The bytes that each process that is to end may write, by its working directory.
        self._allowed: dict[Path, int] = {}
        # The key of the newest settings of each model, by the name of its directory.
        self._keys: dict[str, str] = {}
        self._kept: dict[Path, _Kept] | None = None
        self._flusher = ThreadPoolExecutor(1, "prompts")

    # --- starting a server ----------------------------------------------------------------

    def find(self, model: str, key: str, max_bytes: int) -> PromptCache:
        """Return the place of a model's prompts, and remove those of its other keys.

        max_bytes: the bound of this model.
        """
        name = slug(model)
        directory = self._root / name / key
        with self._lock:
            self._keys[name] = key
            for other in self._directories(name):
                if other != directory:
                    self._remove(other)
            manifest = read_manifest(directory / MANIFEST)
            if manifest is None or not _is_as_written(directory, manifest):
                self._remove(directory)
                return PromptCache(str(directory), max_bytes)
            with contextlib.suppress(OSError):
                os.utime(directory / NOTE)
            self._all().pop(directory, None)
            self._all()[directory] = _Kept(manifest.disk_bytes, _used_at(directory))
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

    def allow(self, plan: LaunchPlan, work_dir: Path) -> None:
        """Let the process of a plan write its prompts, as it is about to be told to end.

        Other models' prompts are removed as far as necessary, those unused for longest first.
        """
        cache = plan.prompt_cache
        if cache is None:
            return
        directory = Path(cache.directory)
        with self._lock:
            self._allowed.pop(work_dir, None)
            left = self._total_bytes - sum(self._allowed.values())
            wanted = _wanted_bytes(plan, cache, work_dir) if self._is_wanted(directory) else 0
            allowed = max(min(wanted, left), 0)
            self._allowed[work_dir] = allowed
            try:
                self._make_room(directory)
                write_own(work_dir / ALLOWED, str(allowed).encode())
            except OSError as error:
                _log.warning("computed prompts may not be kept", error=str(error))

    def adopt(self, plan: LaunchPlan, work_dir: Path) -> None:
        """Note what an earlier service has allowed the process of a plan to write."""
        if plan.prompt_cache is None:
            return
        with contextlib.suppress(OSError, ValueError), self._lock:
            allowed = int(read_own(work_dir / ALLOWED, MAX_NOTE_BYTES)[0])
            self._allowed[work_dir] = min(allowed, plan.prompt_cache.max_bytes)

    def take(self, plan: LaunchPlan, work_dir: Path) -> None:
        """Keep what the process of a plan has written in its working directory.

        It takes the place of what was kept. Does nothing if the process has not written all, as
        when it was killed, or if its model has other settings by now.
        """
        if plan.prompt_cache is None:
            return
        saved, directory = work_dir / SAVED, Path(plan.prompt_cache.directory)
        with self._lock:
            # Without leave it may write as much as was kept before.
            allowed = self._allowed.pop(work_dir, plan.prompt_cache.disk_bytes + SLACK_BYTES)
            if not self._is_wanted(directory):
                return
            manifest = read_manifest(saved / MANIFEST)
            if manifest is None or not manifest.tokens or manifest.disk_bytes > allowed:
                return
            try:
                self._replace(directory, saved, manifest)
                self._make_room(directory)
            except OSError as error:
                _log.warning("computed prompts cannot be kept", error=str(error))
                return
        self._flusher.submit(self._flush, directory, manifest)

    def _is_wanted(self, directory: Path) -> bool:
        """Return whether a directory has the form of this store's, and its model's newest key."""
        if directory.parent.parent != self._root or directory.name.startswith("."):
            return False
        return self._keys.get(directory.parent.name, directory.name) == directory.name

    def _replace(self, directory: Path, saved: Path, manifest: Manifest) -> None:
        """Put the files of a manifest in the place of a directory. Raises OSError."""
        _remove_others(saved, {*manifest.files, MANIFEST})
        _write_note(saved, _stamp_of(saved, manifest), synced=False)
        saved.chmod(0o700)
        for parent in (self._root, directory.parent):
            parent.mkdir(mode=0o700, exist_ok=True)
        self._remove(directory)
        saved.rename(directory)
        self._all()[directory] = _Kept(manifest.disk_bytes, _used_at(directory))

    def _flush(self, directory: Path, manifest: Manifest) -> None:
        """Flush the files of a directory to the disk, and note that."""
        try:
            opened = os.open(directory, os.O_RDONLY)
            try:
                for name in manifest.files:
                    _flush_file(name, opened)
                with self._lock:
                    # Else the directory has been replaced meanwhile.
                    if os.path.samestat(os.fstat(opened), directory.stat()):
                        _write_note(directory, _read_note(directory)["stamp"], synced=True)
            finally:
                os.close(opened)
        except FileNotFoundError:
            # Replaced or removed meanwhile.
            return
        except (OSError, ValueError, LookupError, TypeError) as error:
            _log.warning("computed prompts cannot be flushed", error=str(error))

    def close(self) -> None:
        """Wait until all that was kept is flushed to the disk."""
        self._flusher.shutdown()

    # --- the bound ------------------------------------------------------------------------

    @property
    def disk_bytes(self) -> int:
        """The bytes of all kept prompts."""
        with self._lock:
            return sum(one.disk_bytes for one in self._all().values())

    def _make_room(self, spared: Path) -> None:
        """Remove the prompts unused for longest, `spared` last, until the bound holds."""
        kept, allowed = self._all(), sum(self._allowed.values())
        order = sorted(kept, key=lambda one: (one == spared, kept[one].used_at))
        for directory in order:
            if self.disk_bytes + allowed <= self._total_bytes:
                return
            self._remove(directory)

    def _all(self) -> dict[Path, _Kept]:
        """Return all kept prompts by their directories; the first call reads the disk."""
        if self._kept is None:
            self._kept = dict(self._scan())
        return self._kept

    def _scan(self) -> Iterator[tuple[Path, _Kept]]:
        with contextlib.suppress(OSError):
            for model in list(self._root.iterdir()):
                for directory in self._directories(model.name):
                    manifest = read_manifest(directory / MANIFEST)
                    if manifest is None or directory.name.startswith(_REPLACED):
                        shutil.rmtree(directory, ignore_errors=True)
                    else:
                        yield directory, _Kept(manifest.disk_bytes, _used_at(directory))

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
        """Remove the prompts in a directory; nobody finds it half removed."""
        if self._kept is not None:
            self._kept.pop(directory, None)
        replaced = directory.with_name(f"{_REPLACED}{secrets.token_hex(4)}")
        try:
            directory.rename(replaced)
        except FileNotFoundError:
            return
        if not replaced.is_dir():
            replaced.unlink()
        shutil.rmtree(replaced, ignore_errors=True)


def reused_tokens(work_dir: Path) -> int:
    """Return the tokens that a process did not compute anew, as it counts them; 0 if unknown."""
    report = _report(work_dir)
    return report[1] if report else 0


def _wanted_bytes(plan: LaunchPlan, cache: PromptCache, work_dir: Path) -> int:
    """Return the bytes that a process may want to write, within its bound.

    That is what it has reported, with room for requests in flight; the whole bound if that is not
    known, or is the size of something else than what is written.
    """
    report = _report(work_dir)
    if report is None or report[2] == UNKNOWN or vllm_mlx.KV_QUANTIZATION in plan.argv:
        return cache.max_bytes
    return min(report[2] + cache.max_bytes // IN_FLIGHT_SHARE, cache.max_bytes)


def _report(work_dir: Path) -> tuple[int, int, int] | None:
    """Return the numbers that a process reports; None without any."""
    try:
        content, _ = read_own(work_dir / REPORT, struct.calcsize(REPORT_FORMAT))
        prompts, tokens, disk_bytes = struct.unpack(REPORT_FORMAT, content)
    except (OSError, struct.error):
        return None
    return prompts, tokens, disk_bytes


def _is_as_written(directory: Path, manifest: Manifest) -> bool:
    """Return whether the files are what was written, also after a power failure."""
    try:
        note = _read_note(directory)
        is_durable = bool(note["synced"]) or note["boot_id"] == boot_id()
        return is_durable and bool(note["stamp"] == _stamp_of(directory, manifest))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _stamp_of(directory: Path, manifest: Manifest) -> str:
    """Return what changes when any file of a manifest is written to. Raises OSError."""
    times = [(name, (directory / name).stat().st_mtime_ns) for name in sorted(manifest.files)]
    return hashlib.sha256(json.dumps(times).encode()).hexdigest()


def _read_note(directory: Path) -> Any:  # noqa: ANN401 - whatever it says
    """Return the note of a directory. Raises OSError, ValueError."""
    return parse_json(read_own(directory / NOTE, MAX_NOTE_BYTES)[0])


def _write_note(directory: Path, stamp: str, *, synced: bool) -> None:
    """Write the note of a directory in place of the one before. Raises OSError."""
    note = json.dumps({"boot_id": boot_id(), "synced": synced, "stamp": stamp})
    part = directory / f"{NOTE}.part"
    write_own(part, note.encode())
    part.replace(directory / NOTE)


def _used_at(directory: Path) -> float:
    try:
        return (directory / NOTE).stat().st_mtime
    except OSError:
        return 0.0


def _remove_others(directory: Path, kept: set[str]) -> None:
    """Remove all files below a directory that `kept` does not name. Raises OSError."""
    for place, _, names in os.walk(directory):
        for name in names:
            path = Path(place, name)
            if str(path.relative_to(directory)) not in kept:
                path.unlink()


def _flush_file(name: str, directory: int) -> None:
    """Flush a file in an open directory to the disk. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
