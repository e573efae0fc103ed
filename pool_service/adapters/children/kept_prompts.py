"""Keeps the prompts that a vllm-mlx server has computed.

The next process of its model can go on from them.

With continuous batching vllm-mlx keeps the key-value cache of each prompt as an entry, writes its
entries at a clean end and reads them at the next start. Its own directory for them (in the home
directory) has no bound, is shared by all servers of one model path, and a file that is half
written is read again. So this module, which runs in the server, replaces the directory:
- entries are read from the directory that the service names;
- entries are written to SAVED in the process's own working directory. The service takes them over
  after the end of the process, and only if MANIFEST is there, which is written last.

Without a directory nothing is read or written at all.

It also mends a lookup: an entry that covers a whole prompt is of no use to vllm-mlx, which needs a
last token to go on with, so it computes the prompt anew (0.5 and later), or feeds the last token
twice (before). Here the lookup leaves out the last token.

The runtime's interpreter runs this file, so it imports only the standard library and the runtime.
What it replaces is verified by tests/whole/test_kept_prompts.py for vllm-mlx 0.6.0; the same names
are in the sources of 0.3.0 to 0.5.0, with which it has not been run.
"""

import contextlib
import errno
import importlib
import json
import os
import shutil
import struct
import weakref
from collections.abc import Callable, Mapping
from typing import Any

VARIABLE = "POOL_SERVICE_PROMPT_CACHE"
"""The variable with {"directory": path, "unasked_bytes": bytes}, as JSON; empty: keep nothing.

unasked_bytes is what may be written if the service has not left ALLOWED, as when it is gone: what
was kept before, and SLACK_BYTES."""

BATCHING = "--continuous-batching"

SAVED = "prompts"
"""The directory of the written entries, in the working directory of the process."""

ALLOWED = "prompts.allowed"
"""The file in the working directory with the bytes that may be written, in decimal digits. The
service leaves it there before it tells the process to end."""

MANIFEST = "saved.json"
"""The file in SAVED that names the written files with their sizes, and counts their tokens."""

REPORT = "prompts.report"
"""The file in the working directory with two numbers, as REPORT_FORMAT: the tokens of prompts that
were not computed anew, and the bytes that the entries would take on disk; UNKNOWN if the runtime
does not tell. It is empty until the runtime makes its cache of entries, or looks one up."""

REPORT_FORMAT = "<QQ"
UNKNOWN = 2**64 - 1

OVERHEAD_BYTES = 64 * 1024
"""More than the header of an entry's file takes."""

INDEX_BYTES = 1024**2
"""More than the manifest and the runtime's own index take."""

TOKEN_BYTES = 4
"""Bytes of a token in the file beside each entry."""

TOKEN_SHARE = 1 / 64
"""The tokens of an entry take at most this share of its bytes: a token has 256 bytes or more."""

SLACK_BYTES = INDEX_BYTES + OVERHEAD_BYTES
"""Bytes to allow beyond the entries themselves, for all of them to be written."""

FREE_BYTES = 1024**3
"""Bytes of the disk that are left free."""

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of change (ns) of a file."""


class EntryFiles:
    """Writes and reads the files of entries.

    unasked_bytes: what may be written of entries if there is no ALLOWED.
    save, load: `mlx_lm.models.cache.save_prompt_cache` and `load_prompt_cache`.
    """

    def __init__(
        self, unasked_bytes: int, save: "Callable[..., None]", load: "Callable[..., Any]"
    ) -> None:
        self._max_bytes = unasked_bytes
        self._save = save
        self._load = load
        # The file that an entry was read from and which file that was, by the entry's first layer:
        # the entry is not changed later, but by then another file may have the name.
        self._sources: weakref.WeakKeyDictionary[Any, tuple[str, Stamp]] = (
            weakref.WeakKeyDictionary()
        )
        # The bytes and tokens of the written entries, those unused for longest first.
        self._written: dict[str, tuple[int, int]] = {}

    def load(self, file_name: str, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        """Read an entry, and note its file."""
        stamp = stamp_of(file_name)
        loaded = self._load(file_name, *arguments, **named)
        layers = loaded[0] if isinstance(loaded, tuple) else loaded
        if stamp == stamp_of(file_name):
            with contextlib.suppress(LookupError, TypeError):
                self._sources[layers[0]] = file_name, stamp
        return loaded

    def save(self, file_name: str, cache: "list[Any]", metadata: "dict[str, str]") -> None:
        """Write an entry, after removing those before it that leave it no room.

        vllm-mlx writes the entries that were unused for longest first, and goes on after an error.
        An entry that was read from a file gets a hard link to it. Raises OSError.
        """
        tokens = int(metadata.get("num_tokens", 0))
        size = memory_of(cache) + OVERHEAD_BYTES + TOKEN_BYTES * tokens
        if size > self._max_bytes:
            may = f"more than the {max(self._max_bytes, 0)} that may be kept"
            raise OSError(errno.EFBIG, f"an entry of {size} bytes is {may}")
        self._make_room(size)
        if not self._link(cache, file_name):
            if shutil.disk_usage(".").free < size + FREE_BYTES:
                raise OSError(errno.ENOSPC, "the prompt cache leaves the rest of the disk free")
            self._save(file_name, cache, metadata)
        size = os.path.getsize(file_name)  # noqa: PTH202  # as the runtime does
        self._written[file_name] = size + TOKEN_BYTES * tokens, tokens

    def read_allowed(self) -> None:
        """Read how much may be written, if the service says so."""
        with contextlib.suppress(OSError, ValueError), open(ALLOWED) as file:  # noqa: PTH123
            self._max_bytes = int(file.read()) - INDEX_BYTES

    @property
    def written(self) -> "dict[str, tuple[int, int]]":
        """The bytes and tokens of the written entries, by the paths of their files."""
        return dict(self._written)

    def _make_room(self, size: int) -> None:
        while self._written and self._bytes + size > self._max_bytes:
            oldest = next(iter(self._written))
            del self._written[oldest]
            for name in files_of(oldest):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)  # noqa: PTH108

    @property
    def _bytes(self) -> int:
        return sum(size for size, _ in self._written.values())

    def _link(self, cache: "list[Any]", file_name: str) -> bool:
        """Link an unchanged entry to the file that it was read from; return whether it was."""
        found = None
        with contextlib.suppress(LookupError, TypeError):
            found = self._sources.get(cache[0])
        if found is None:
            return False
        source, stamp = found
        with contextlib.suppress(OSError):
            os.link(source, file_name)
            if stamp_of(file_name) == stamp:
                return True
            # What another server of the model has kept meanwhile, of other prompts.
            os.unlink(file_name)  # noqa: PTH108
        return False


class Report:
    """Reports what was not computed anew and what there is to keep, in a file for the service.

    A server that cannot write the file works as any other, and keeps nothing new.
    """

    def __init__(self) -> None:
        self._tokens = 0
        self._disk_bytes = UNKNOWN
        self._file = -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            self._file = os.open(REPORT, flags, 0o600)

    def count(self, tokens: int) -> None:
        """Count a prompt of which `tokens` tokens are not computed anew."""
        self._tokens += tokens
        self._write()

    def put_size(self, memory_bytes: int, entries: int) -> None:
        """Report the disk space that `entries` entries of `memory_bytes` bytes need."""
        beside = entries * OVERHEAD_BYTES + int(memory_bytes * TOKEN_SHARE)
        self._disk_bytes = memory_bytes + beside + INDEX_BYTES
        self._write()

    def _write(self) -> None:
        numbers = struct.pack(REPORT_FORMAT, self._tokens, self._disk_bytes)
        with contextlib.suppress(OSError):
            os.pwrite(self._file, numbers, 0)


def keep_prompts(argv: "list[str]", environment: "Mapping[str, str]") -> None:
    """Let the server of these arguments read and write its entries as VARIABLE says.

    Does nothing without continuous batching, and if the runtime lacks what is replaced: it then
    works as it does by itself.
    """
    if BATCHING not in argv:
        return
    try:
        memory_cache = importlib.import_module("vllm_mlx.memory_cache")
        scheduler = importlib.import_module("vllm_mlx.scheduler")
        entry_format: Any = importlib.import_module("mlx_lm.models.cache")
        cache_class = memory_cache.MemoryAwarePrefixCache
        save_and_load = cache_class.save_to_disk, cache_class.load_from_disk
        formats = entry_format.save_prompt_cache, entry_format.load_prompt_cache
    except (ImportError, AttributeError):
        return
    report = Report()
    replace_lookup(cache_class, scheduler, report)
    report_size(cache_class, report)
    sent = environment.get(VARIABLE)
    if not sent:
        cache_class.save_to_disk = lambda *_, **__: False
        cache_class.load_from_disk = lambda *_, **__: 0
        name_directory("nowhere")
        return
    target = json.loads(sent)
    name_directory(target["directory"])
    files = EntryFiles(target["unasked_bytes"] - INDEX_BYTES, *formats)
    entry_format.save_prompt_cache = files.save
    entry_format.load_prompt_cache = files.load
    replace_directory(cache_class, save_and_load, files, target["directory"])


def name_directory(directory: str) -> None:
    """Let the lines of the log name the directory that is used."""
    with contextlib.suppress(ImportError):
        server: Any = importlib.import_module("vllm_mlx.server")
        server._get_cache_dir = lambda: directory  # noqa: SLF001


def replace_directory(
    cache_class: Any,  # noqa: ANN401
    save_and_load: "tuple[Callable[..., bool], Callable[..., int]]",
    files: EntryFiles,
    directory: str,
) -> None:
    """Let all entries be read from `directory`, and written to SAVED.

    save_and_load: the functions of `cache_class` that write and read all entries.
    """
    save, load = save_and_load

    def save_to_disk(cache: Any, _directory: str, *arguments: Any, **named: Any) -> bool:  # noqa: ANN401
        files.read_allowed()
        os.mkdir(SAVED, 0o700)  # noqa: PTH102
        saved = save(cache, SAVED, *arguments, **named)
        write_manifest(files.written)
        return saved

    def load_from_disk(cache: Any, _directory: str, *arguments: Any, **named: Any) -> int:  # noqa: ANN401
        try:
            opened = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            # Nothing is kept; or it is outside of what a confined process may read.
            return 0
        try:
            found = load(cache, directory, *arguments, **named)
            if is_still_there(opened, directory):
                return found
        finally:
            os.close(opened)
        # Replaced meanwhile: the tokens of an entry may be of one, and its layers of the other.
        cache.clear()
        return 0

    cache_class.save_to_disk, cache_class.load_from_disk = save_to_disk, load_from_disk


def write_manifest(written: "dict[str, tuple[int, int]]") -> None:
    """Write the manifest of the written entries; it is there whole, or not at all."""
    entries, directories = [], set()
    for path, (_, tokens) in written.items():
        try:
            files = {os.path.relpath(name, SAVED): os.path.getsize(name) for name in files_of(path)}  # noqa: PTH202
        except FileNotFoundError:
            # The runtime could not write its part, and has left the entry out of its index.
            continue
        entries.append({"files": files, "tokens": tokens})
        directories.add(os.path.dirname(path))  # noqa: PTH120
    indexes = [os.path.join(directory, "index.json") for directory in directories]  # noqa: PTH118
    manifest = {
        "version": 1,
        "entries": entries,
        "indexes": {os.path.relpath(name, SAVED): os.path.getsize(name) for name in indexes},  # noqa: PTH202
    }
    path = os.path.join(SAVED, MANIFEST)  # noqa: PTH118
    with open(f"{path}.part", "w") as file:  # noqa: PTH123
        json.dump(manifest, file)
    os.rename(f"{path}.part", path)  # noqa: PTH104


def replace_lookup(cache_class: Any, scheduler: Any, report: Report) -> None:  # noqa: ANN401
    """Let lookups be counted, and those of text models leave out the last token.

    scheduler: the module that makes the caches of text models.
    """
    fetch = cache_class.fetch

    def counted(cache: Any, tokens: "list[int]", *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        result = fetch(cache, tokens, *arguments, **named)
        report.count(len(tokens) - len(result[1]) if is_hit(result) else 0)
        return result

    def all_but_last(cache: Any, tokens: "list[int]", *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        result = fetch(cache, tokens, *arguments, **named)
        if is_hit(result) and not result[1]:
            found, remaining = fetch(cache, tokens[:-1], *arguments, **named)
            result = found, [*remaining, tokens[-1]]
        if is_hit(result):
            # Else vllm-mlx may take it for an entry that covers the whole prompt.
            cache._last_match_type = "prefix"  # noqa: SLF001
        report.count(len(tokens) - len(result[1]) if is_hit(result) else 0)
        return result

    cache_class.fetch = counted
    scheduler.MemoryAwarePrefixCache = type(
        cache_class.__name__, (cache_class,), {"fetch": all_but_last}
    )


def is_hit(result: Any) -> bool:  # noqa: ANN401
    """Return whether a lookup has found an entry.

    result: the entry, or what is none, and the list of tokens that remain to be computed. What has
        another form, as a later version may return, is passed on as it is.
    """
    is_pair = isinstance(result, tuple) and len(result) == 2  # noqa: PLR2004
    return is_pair and isinstance(result[1], list) and bool(result[0])


def report_size(cache_class: Any, report: Report) -> None:  # noqa: ANN401
    """Let the size of a cache be reported as it changes: the caches count it in an attribute."""
    name = "_current_memory"

    def get(cache: Any) -> int:  # noqa: ANN401
        size: int = vars(cache)[name]
        return size

    def put(cache: Any, size: int) -> None:  # noqa: ANN401
        vars(cache)[name] = size
        report.put_size(size, len(getattr(cache, "_entries", ())) + 1)

    setattr(cache_class, name, property(get, put))


def is_still_there(opened: int, directory: str) -> bool:
    """Return whether a path leads to the same directory as this descriptor."""
    try:
        return os.path.samestat(os.fstat(opened), os.stat(directory))  # noqa: PTH116
    except OSError:
        return False


def stamp_of(file_name: str) -> "Stamp":
    """Return what tells a file from another, and from what it was before. Raises OSError."""
    status = os.stat(file_name)  # noqa: PTH116
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def files_of(entry: str) -> "tuple[str, str]":
    """Return the two files of an entry, by the path of the first."""
    return entry, entry.removesuffix(".safetensors") + "_tokens.bin"


def memory_of(cache: "list[Any]") -> int:
    """Return the bytes of all arrays of an entry."""
    flatten = importlib.import_module("mlx.utils").tree_flatten
    return sum(array.nbytes for _, array in flatten([layer.state for layer in cache]))
