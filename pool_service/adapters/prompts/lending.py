"""Lends kept prompts to a server: hard links in its working directory, which it reads.

    WORK_DIR/lent-<inode of the kept directory>/

So a server needs nothing outside of its working directory, and links what it has not changed to
what it writes at its end. The links end with the working directory. If what they lead to is removed
before, they are too, so that its room is free.

A server could change the files through its links. They are of its own model, whose prompts it
decides on anyway.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pool_service.adapters.children.kept_prompts import MANIFEST
from pool_service.adapters.prompts.manifest import read_manifest
from pool_service.core.types import PromptCache

_LENT = "lent-{}"


def lend(cache: PromptCache, work_dir: Path) -> Path:
    """Link what is kept into the working directory of a process; return where it is to be read.

    That is the kept directory itself on a disk without hard links. Blocking.
    """
    kept = Path(cache.directory)
    manifest = read_manifest(kept / MANIFEST)
    if manifest is None:
        return kept
    try:
        opened = os.open(kept, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return kept
    try:
        status = os.fstat(opened)
        lent = work_dir / _LENT.format(status.st_ino)
        with contextlib.suppress(OSError):
            lent.mkdir(mode=0o700)
            _link(manifest.files, opened, lent)
            # Else it was removed meanwhile, perhaps before there was a link to remove.
            if os.path.samestat(status, kept.stat()):
                return lent
        shutil.rmtree(lent, ignore_errors=True)
        return kept
    finally:
        os.close(opened)


def lent_from(inode: int, work_dirs: Path) -> list[Path]:
    """Return the directories of processes that have links to what is in a directory."""
    return list(work_dirs.glob(f"*/{_LENT.format(inode)}"))


def _link(names: Iterable[str], opened: int, lent: Path) -> None:
    """Link the files of these names in an open directory. Raises OSError."""
    for name in names:
        target = lent / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        os.link(name, target, src_dir_fd=opened, follow_symlinks=False)
