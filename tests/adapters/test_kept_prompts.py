"""The part of a server that keeps its prompts, with small parts for the runtime's."""

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pool_service.adapters.children import kept_prompts
from pool_service.adapters.children.kept_prompts import (
    INDEX_BYTES,
    MANIFEST,
    OVERHEAD_BYTES,
    REPORT,
    SAVED,
    UNKNOWN,
    VARIABLE,
    EntryFiles,
    Report,
    keep_prompts,
)
from pool_service.adapters.prompts.manifest import read_manifest

BATCHED = ["vllm-mlx", "serve", "m", "--continuous-batching"]
ROOM = 10 * OVERHEAD_BYTES


class Layer:
    """A layer of an entry of so many bytes."""

    def __init__(self, size: int) -> None:
        self.state = [SimpleNamespace(nbytes=size)]


@pytest.fixture(autouse=True)
def in_its_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setattr(kept_prompts, "memory_of", lambda cache: cache[0].state[0].nbytes)


def write(path: str, cache: list[Layer], _metadata: dict[str, str]) -> None:
    Path(path).write_bytes(b"k" * cache[0].state[0].nbytes)


def read(path: str) -> list[Layer]:
    return [Layer(Path(path).stat().st_size)]


def files(room: int = ROOM) -> EntryFiles:
    return EntryFiles(room, write, read)


def save(into: EntryFiles, name: str, size: int, tokens: int = 10) -> None:
    into.save(name, [Layer(size)], {"num_tokens": str(tokens)})
    Path(kept_prompts.files_of(name)[1]).write_bytes(b"t" * 4 * tokens)


def there() -> set[str]:
    return {path.name for path in Path().iterdir()}


def test_entries_that_leave_no_room_give_way_the_longest_unused_first() -> None:
    saved = files(room=6 * OVERHEAD_BYTES)
    for name in ("a", "b", "c", "d"):
        save(saved, f"{name}.safetensors", 2 * OVERHEAD_BYTES)
        size = sum(path.stat().st_size for path in Path().iterdir())
        assert size <= 6 * OVERHEAD_BYTES
    assert list(saved.written) == ["c.safetensors", "d.safetensors"]
    assert "a.safetensors" not in there()
    assert "a_tokens.bin" not in there()


def test_an_entry_larger_than_the_bound_is_left_out_and_costs_no_other() -> None:
    saved = files()
    save(saved, "a.safetensors", 100)
    with pytest.raises(OSError, match="more than the"):
        save(saved, "b.safetensors", ROOM)
    assert list(saved.written) == ["a.safetensors"]


def test_a_full_disk_is_left_some_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1024**3))
    with pytest.raises(OSError, match="leaves the rest of the disk free"):
        save(files(), "a.safetensors", 100)
    assert there() == set()


def test_an_entry_that_was_read_is_not_written_again() -> None:
    Path("old.safetensors").write_bytes(b"kept")
    saved = files()
    entry = saved.load("old.safetensors")
    saved.save("new.safetensors", entry, {"num_tokens": "1"})
    assert Path("old.safetensors").samefile("new.safetensors")


def test_an_entry_whose_file_is_gone_is_written() -> None:
    Path("old.safetensors").write_bytes(b"kept")
    saved = files()
    entry = saved.load("old.safetensors")
    Path("old.safetensors").unlink()
    saved.save("new.safetensors", entry, {"num_tokens": "1"})
    assert Path("new.safetensors").read_bytes() == b"kkkk"


def test_an_entry_whose_file_another_server_has_replaced_is_written() -> None:
    Path("old.safetensors").write_bytes(b"kept")
    saved = files()
    entry = saved.load("old.safetensors")
    Path("another.safetensors").write_bytes(b"else")
    Path("another.safetensors").rename("old.safetensors")
    saved.save("new.safetensors", entry, {"num_tokens": "1"})
    assert Path("new.safetensors").read_bytes() == b"kkkk"


def test_an_entry_whose_file_is_replaced_as_it_is_read_is_written() -> None:
    Path("old.safetensors").write_bytes(b"kept")
    Path("another.safetensors").write_bytes(b"else")

    def read_late(path: str) -> list[Layer]:
        layers = read(path)
        Path("another.safetensors").rename("old.safetensors")
        return layers

    saved = EntryFiles(ROOM, write, read_late)
    entry = saved.load("old.safetensors")
    saved.save("new.safetensors", entry, {"num_tokens": "1"})
    assert Path("new.safetensors").read_bytes() == b"kkkk"


# --- what is replaced in the runtime ------------------------------------------------------


class Cache:
    """Do what the runtime's class of caches does, with a dictionary of entries."""

    entries: dict[tuple[int, ...], str]
    saved_to = loaded_from = ""
    _current_memory = 0
    replaces_as_it_reads: tuple[Path, Path] | None = None

    def __init__(self, entries: dict[tuple[int, ...], str]) -> None:
        self.entries = entries
        self._last_match_type = "miss"

    def fetch(self, tokens: list[int]) -> tuple[Any, list[int]]:
        for key, entry in self.entries.items():
            if key[: len(tokens)] == tuple(tokens):
                self._last_match_type = "exact" if len(key) == len(tokens) else "supersequence"
                return entry, []
            if tuple(tokens[: len(key)]) == key:
                self._last_match_type = "prefix"
                return entry, tokens[len(key) :]
        self._last_match_type = "miss"
        return None, tokens

    def save_to_disk(self, directory: str) -> bool:
        Cache.saved_to = directory
        place = Path(directory, "version")
        place.mkdir()
        for number, (tokens, _) in enumerate(self.entries.items()):
            path = str(place / f"entry_{number}.safetensors")
            metadata = {"num_tokens": str(len(tokens))}
            sys.modules["mlx_lm.models.cache"].save_prompt_cache(path, [Layer(50)], metadata)
            (place / f"entry_{number}_tokens.bin").write_bytes(bytes(4 * len(tokens)))
        (place / "index.json").write_text("{}")
        return bool(self.entries)

    def load_from_disk(self, directory: str) -> int:
        Cache.loaded_from = directory
        if self.replaces_as_it_reads is not None:
            there, another = self.replaces_as_it_reads
            shutil.rmtree(there)
            another.rename(there)
        return len(self.entries)

    def clear(self) -> None:
        self.entries.clear()


Runtime = Callable[..., type[Cache]]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """Install small modules for the runtime's, start, and return the class of its caches."""
    counters: list[Report] = []

    class Closed(Report):
        def __init__(self) -> None:
            super().__init__()
            counters.append(self)

    monkeypatch.setattr(kept_prompts, "Report", Closed)

    def start(argv: list[str] = BATCHED, **place: object) -> type[Cache]:
        kept = type("MemoryAwarePrefixCache", (Cache,), dict(vars(Cache)))
        names = ("vllm_mlx.memory_cache", "vllm_mlx.scheduler", "vllm_mlx.server")
        for name in (*names, "mlx_lm.models.cache"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for name in names[:2]:
            monkeypatch.setattr(sys.modules[name], "MemoryAwarePrefixCache", kept, raising=False)
        entry_format = sys.modules["mlx_lm.models.cache"]
        monkeypatch.setattr(entry_format, "save_prompt_cache", write, raising=False)
        monkeypatch.setattr(entry_format, "load_prompt_cache", read, raising=False)
        keep_prompts(argv, {VARIABLE: json.dumps(place)} if place else {})
        made: type[Cache] = sys.modules["vllm_mlx.scheduler"].MemoryAwarePrefixCache
        return made

    yield start
    for counter in counters:
        with suppress(OSError):
            os.close(counter._file)


PLACE = {"directory": "/kept", "unasked_bytes": INDEX_BYTES + ROOM}


def test_entries_are_read_where_the_service_says_and_written_to_the_working_directory(
    runtime: Runtime, tmp_path: Path
) -> None:
    cache = runtime(**PLACE | {"directory": str(tmp_path)})({(1, 2): "e"})
    assert cache.load_from_disk("/home/somebody") == 1
    assert cache.save_to_disk("/home/somebody")
    assert (Cache.loaded_from, Cache.saved_to) == (str(tmp_path), SAVED)
    assert Path(SAVED).stat().st_mode & 0o777 == 0o700
    manifest = read_manifest(Path(SAVED, MANIFEST))
    assert manifest is not None
    assert manifest.tokens == 2
    assert set(manifest.files) == {
        "version/entry_0.safetensors",
        "version/entry_0_tokens.bin",
        "version/index.json",
    }


def test_entries_of_a_directory_that_is_replaced_as_it_is_read_are_not_used(
    runtime: Runtime, tmp_path: Path
) -> None:
    kept, another = tmp_path / "kept", tmp_path / "another"
    kept.mkdir()
    another.mkdir()
    cache = runtime(**PLACE | {"directory": str(kept)})({(1, 2): "e"})
    cache.replaces_as_it_reads = (kept, another)
    assert cache.load_from_disk("") == 0
    assert cache.entries == {}


def test_nothing_is_read_where_nothing_is_kept(runtime: Runtime) -> None:
    assert runtime(**PLACE)({(1, 2): "e"}).load_from_disk("") == 0


def test_the_manifest_is_written_last(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(kept_prompts, "files_of", fail)
    cache = runtime(**PLACE)({(1, 2): "e"})
    with pytest.raises(OSError, match="full"):
        cache.save_to_disk("")
    assert not Path(SAVED, MANIFEST).exists()


def test_an_entry_whose_tokens_could_not_be_written_costs_no_other(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_all = Cache.save_to_disk

    def lose_one(cache: Cache, directory: str) -> bool:
        saved = save_all(cache, directory)
        Path(directory, "version", "entry_0_tokens.bin").unlink()
        return saved

    monkeypatch.setattr(Cache, "save_to_disk", lose_one)
    cache = runtime(**PLACE)({(1, 2): "e", (3, 4, 5): "f"})
    assert cache.save_to_disk("")
    manifest = read_manifest(Path(SAVED, MANIFEST))
    assert manifest is not None
    assert manifest.tokens == 3
    assert "version/entry_0.safetensors" not in manifest.files


def test_without_a_directory_nothing_is_read_or_written(runtime: Runtime) -> None:
    cache = runtime()({(1, 2): "e"})
    Cache.loaded_from = Cache.saved_to = ""
    assert not cache.save_to_disk("/home/somebody")
    assert cache.load_from_disk("/home/somebody") == 0
    assert (Cache.loaded_from, Cache.saved_to) == ("", "")


def test_the_log_names_the_directory_that_is_used(runtime: Runtime) -> None:
    runtime(**PLACE)
    assert sys.modules["vllm_mlx.server"]._get_cache_dir() == "/kept"


def test_the_default_engine_is_left_as_it_is(runtime: Runtime) -> None:
    assert runtime(["vllm-mlx", "serve", "m"], **PLACE).fetch is Cache.fetch
    assert not Path(REPORT).exists()


def test_a_runtime_that_lacks_what_is_replaced_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("vllm_mlx.memory_cache", "vllm_mlx.scheduler", "mlx_lm.models.cache"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    keep_prompts(BATCHED, {VARIABLE: json.dumps(PLACE)})
    monkeypatch.setitem(sys.modules, "vllm_mlx.scheduler", None)
    keep_prompts(BATCHED, {VARIABLE: json.dumps(PLACE)})
    assert not Path(REPORT).exists()


def reused() -> int:
    tokens: int = struct.unpack("<QQ", Path(REPORT).read_bytes())[0]
    return tokens


@pytest.mark.parametrize("key", [(1, 2, 3), (1, 2, 3, 4)], ids=["repeated", "the start of one"])
def test_a_prompt_that_an_entry_covers_is_found_but_for_its_last_token(
    runtime: Runtime, key: tuple[int, ...]
) -> None:
    cache = runtime(**PLACE)({key: "e"})
    assert cache.fetch([1, 2, 3]) == ("e", [3])
    assert cache._last_match_type == "prefix"
    assert reused() == 2


def test_other_lookups_are_as_before_and_counted(runtime: Runtime) -> None:
    cache = runtime(**PLACE)({(1, 2): "e"})
    assert cache.fetch([1, 2, 3, 4]) == ("e", [3, 4])
    assert cache.fetch([7]) == (None, [7])
    assert cache._last_match_type == "miss"
    assert reused() == 2


def test_nothing_is_reported_before_there_are_prompts(runtime: Runtime) -> None:
    cache = runtime(**PLACE)({})
    assert Path(REPORT).read_bytes() == b""
    assert cache.fetch([7]) == (None, [7])
    assert reported() == UNKNOWN, "as this runtime tells no size"


def test_a_lookup_of_another_form_is_passed_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(_cache: Cache, tokens: list[int], *more: str, **named: int) -> object:
        return tokens, more, named

    monkeypatch.setattr(Cache, "fetch", fetch)
    text: Any = runtime(**PLACE)({})
    multimodal: Any = sys.modules["vllm_mlx.memory_cache"].MemoryAwarePrefixCache({})
    for cache in (text, multimodal):
        assert cache.fetch([7], "more", named=1) == ([7], ("more",), {"named": 1})
    assert reused() == 0


def test_a_lookup_with_further_arguments_leaves_out_the_last_token(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Cache.fetch

    def fetch_of(cache: Cache, tokens: list[int], who: str, *, why: str) -> tuple[Any, list[int]]:
        assert (who, why) == ("me", "so")
        return fetch(cache, tokens)

    monkeypatch.setattr(Cache, "fetch", fetch_of)
    cache: Any = runtime(**PLACE)({(1, 2, 3): "e"})
    assert cache.fetch([1, 2, 3], "me", why="so") == ("e", [3])


def test_a_server_that_cannot_report_works_all_the_same(runtime: Runtime) -> None:
    Path(REPORT).mkdir()
    cache = runtime(**PLACE)({(1, 2): "e"})
    assert cache.fetch([1, 2, 3]) == ("e", [3])
    cache._current_memory = 9
    assert cache._current_memory == 9


def test_an_entry_that_cannot_do_without_its_last_token_is_not_found(runtime: Runtime) -> None:
    # As of a model whose state cannot be taken back by a token.
    class Untrimmable(Cache):
        def fetch(self, tokens: list[int]) -> tuple[Any, list[int]]:
            return ("e", []) if tuple(tokens) in self.entries else (None, tokens)

    runtime(**PLACE)
    scheduler = SimpleNamespace()
    kept_prompts.replace_lookup(Untrimmable, scheduler, kept_prompts.Report())
    found, _ = scheduler.MemoryAwarePrefixCache({(1, 2): "e"}).fetch([1, 2])
    assert found is None


def test_lookups_of_multimodal_models_are_only_counted(runtime: Runtime) -> None:
    runtime(**PLACE)
    multimodal = sys.modules["vllm_mlx.memory_cache"].MemoryAwarePrefixCache({(1, 2): "e"})
    assert multimodal.fetch([1, 2]) == ("e", [])
    assert reused() == 2


def test_the_bytes_that_would_be_written_are_reported(runtime: Runtime) -> None:
    cache = runtime(**PLACE)({})
    cache.fetch([7])
    for size in (500_000, 100_000):
        cache._current_memory = size
        assert cache._current_memory == size
        written = files(room=reported() - INDEX_BYTES)
        save(written, "one.safetensors", size)
        assert list(written.written) == ["one.safetensors"]
        assert reported() < size + 3 * INDEX_BYTES


def reported() -> int:
    number: int = struct.unpack("<QQ", Path(REPORT).read_bytes())[1]
    return number
