"""The manifest that a server writes when all its entries are written, and its check.

    {"version": 1, "entries": [{"files": {PATH: BYTES}, "tokens": N}], "indexes": {PATH: BYTES}}

Paths are relative to the manifest's directory. Pure but for the reading of sizes.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters.records.record_members import (
    BadRecord,
    Members,
    to_count,
    to_list,
)
from pool_service.adapters.system.own_files import parse_json, read_own

VERSION = 1
MAX_BYTES = 1024 * 1024
"""The largest manifest that is read: of some thousands of entries."""

_PATH = re.compile(r"(?:[0-9A-Za-z_-]+/)?[0-9A-Za-z_-]+(?:\.[0-9A-Za-z]+)+")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files that a manifest names, with their sizes in bytes, and the tokens of all entries."""

    files: dict[str, int]
    tokens: int

    @property
    def disk_bytes(self) -> int:
        """The bytes of all files together."""
        return sum(self.files.values())


def read_manifest(path: Path) -> Manifest | None:
    """Return the manifest in a file, with every file that it names as large as it says.

    None if the file is missing, is no manifest, or does not fit the files beside it. Blocking.
    """
    try:
        manifest = _parsed(read_own(path, MAX_BYTES)[0])
        return manifest if _fits(manifest, path.parent) else None
    except (OSError, ValueError, BadRecord):
        return None


def _parsed(content: bytes) -> Manifest:
    """Return the manifest in the bytes of a file. Raises BadRecord, ValueError."""
    of = Members(parse_json(content))
    if of.integer("version") != VERSION:
        raise BadRecord("it has another version")
    entries = [Members(entry) for entry in of.required("entries", to_list)]
    files = of.required("indexes", _to_files)
    for entry in entries:
        files |= entry.required("files", _to_files)
    return Manifest(files, sum(entry.count("tokens") for entry in entries))


def _to_files(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or not all(map(_PATH.fullmatch, value)):
        raise BadRecord("it names no files")
    return {path: to_count(size) for path, size in value.items()}


def _fits(manifest: Manifest, directory: Path) -> bool:
    """Return whether all files are there, regular, and of their sizes. Raises OSError."""
    statuses = {path: os.lstat(directory / path) for path in manifest.files}
    return all(
        stat.S_ISREG(status.st_mode) and status.st_size == manifest.files[path]
        for path, status in statuses.items()
    )
