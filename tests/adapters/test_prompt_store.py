"""The store of computed prompts: what is kept, for whom, and within which bound."""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pool_service.adapters.children.kept_prompts import (
    ALLOWED,
    MANIFEST,
    REPORT,
    SAVED,
    SLACK_BYTES,
    UNKNOWN,
)
from pool_service.adapters.prompts import prompt_store
from pool_service.adapters.prompts.prompt_store import NOTE, PromptStore, reused_tokens
from pool_service.core.types import LaunchPlan, PromptCache

KIB = 1024


def plan_of(cache: PromptCache | None) -> LaunchPlan:
    return LaunchPlan(("x",), (), None, "/health", "m", "nonce", prompt_cache=cache)


def write(work_dir: Path, size: int, *, tokens: int = 7, whole: bool = True) -> None:
    """Write entries of `size` bytes as a server does; not whole: as one that is killed."""
    saved = work_dir / SAVED
    (saved / "version").mkdir(parents=True)
    (saved / "version" / "entry_0.safetensors").write_bytes(b"k" * size)
    (saved / "version" / "index.json").write_text("{}")
    entry = {"files": {"version/entry_0.safetensors": size}, "tokens": tokens}
    manifest = {"version": 1, "entries": [entry], "indexes": {"version/index.json": 2}}
    if whole:
        (saved / MANIFEST).write_text(json.dumps(manifest))


def disk_bytes(*directories: Path) -> int:
    files = (path for one in directories for path in one.rglob("*") if path.is_file())
    # Notes come and go beside them, as they are flushed in the background.
    entries = (path for path in files if path.name not in (ALLOWED, MANIFEST, NOTE, f"{NOTE}.part"))
    return sum(path.stat().st_size for path in entries)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    the_store = PromptStore(tmp_path, 100 * KIB)
    yield the_store
    the_store.close()


def end(
    store: PromptStore,
    plan: LaunchPlan,
    work_dir: Path,
    size: int = 4 * KIB,
    *,
    tokens: int = 7,
    whole: bool = True,
) -> None:
    """Let the process of a plan end, as the service sees it."""
    work_dir.mkdir(parents=True, exist_ok=True)
    store.allow(plan, work_dir)
    write(work_dir, size, tokens=tokens, whole=whole)
    store.take(plan, work_dir)
    shutil.rmtree(work_dir)


def allowed(store: PromptStore, work_dir: Path) -> LaunchPlan:
    """Return the plan of a process that may write."""
    plan = plan_of(store.find("m", "k", 20 * KIB))
    work_dir.mkdir(parents=True)
    store.allow(plan, work_dir)
    return plan


def keep(store: PromptStore, tmp_path: Path, model: str = "m", key: str = "k") -> PromptCache:
    """Let a server of a model start, write 10 KiB and end; return its place."""
    plan = plan_of(store.find(model, key, 20 * KIB))
    end(store, plan, tmp_path / "work" / f"{model}{key}", 10 * KIB)
    assert plan.prompt_cache is not None
    return plan.prompt_cache


def test_what_a_server_has_written_is_there_for_the_next(
    store: PromptStore, tmp_path: Path
) -> None:
    first = store.find("m", "k", 20 * KIB)
    assert (first.disk_bytes, first.tokens) == (0, 0)
    keep(store, tmp_path)
    second = store.find("m", "k", 20 * KIB)
    assert second.directory == first.directory
    assert (second.disk_bytes, second.tokens) == (10 * KIB + 2, 7)
    entry = Path(second.directory, "version", "entry_0.safetensors")
    assert entry.read_bytes() == b"k" * 10 * KIB
    assert Path(second.directory).stat().st_mode & 0o077 == 0
    assert Path(second.directory).parent.stat().st_mode & 0o077 == 0


def test_another_service_finds_what_one_has_kept(store: PromptStore, tmp_path: Path) -> None:
    keep(store, tmp_path)
    assert PromptStore(tmp_path, 100 * KIB).find("m", "k", 20 * KIB).tokens == 7


@pytest.mark.parametrize("harm", ["not whole", "cut", "empty", "none"])
def test_half_of_what_a_server_writes_is_not_kept(
    store: PromptStore, tmp_path: Path, harm: str
) -> None:
    keep(store, tmp_path)
    plan, work_dir = plan_of(store.find("m", "k", 20 * KIB)), tmp_path / "work" / "second"
    work_dir.mkdir()
    store.allow(plan, work_dir)
    if harm != "none":
        write(work_dir, 5 * KIB, whole=harm != "not whole", tokens=0 if harm == "empty" else 9)
    if harm == "cut":
        os.truncate(work_dir / SAVED / "version" / "entry_0.safetensors", 100)
    store.take(plan, work_dir)
    assert store.find("m", "k", 20 * KIB).tokens == 7


def test_of_two_servers_at_once_each_writes_for_itself_and_the_last_one_counts(
    store: PromptStore, tmp_path: Path
) -> None:
    plan = plan_of(store.find("m", "k", 20 * KIB))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store.allow(plan, tmp_path / name)
        write(tmp_path / name, 4 * KIB, tokens=ord(name))
    for name in ("a", "b"):
        store.take(plan, tmp_path / name)
        assert store.find("m", "k", 20 * KIB).tokens == ord(name)


def test_what_was_computed_with_other_settings_is_removed(
    store: PromptStore, tmp_path: Path
) -> None:
    old = keep(store, tmp_path, key="old")
    other = keep(store, tmp_path, model="other", key="old")
    assert store.find("m", "new", 20 * KIB).tokens == 0
    assert not Path(old.directory).exists()
    assert Path(other.directory).exists()


def test_a_server_with_old_settings_that_ends_late_keeps_nothing(
    store: PromptStore, tmp_path: Path
) -> None:
    late = plan_of(store.find("m", "old", 20 * KIB))
    store.find("m", "new", 20 * KIB)
    end(store, late, tmp_path / "late")
    assert late.prompt_cache is not None
    assert not Path(late.prompt_cache.directory).exists()


def test_a_model_that_keeps_nothing_any_more_is_forgotten(
    store: PromptStore, tmp_path: Path
) -> None:
    place = keep(store, tmp_path)
    store.forget("m")
    assert not Path(place.directory).parent.exists()
    assert store.disk_bytes == 0


def test_a_server_of_a_model_that_was_forgotten_keeps_nothing_and_costs_no_other(
    store: PromptStore, tmp_path: Path
) -> None:
    for number in range(9):
        keep(store, tmp_path, model=f"other{number}")
    before = store.disk_bytes
    late = plan_of(store.find("m", "k", 20 * KIB))
    store.forget("m")
    work_dir = tmp_path / "work" / "late"
    work_dir.mkdir(parents=True)
    store.allow(late, work_dir)
    assert (work_dir / ALLOWED).read_text() == "0"
    write(work_dir, 4 * KIB)
    store.take(late, work_dir)
    assert not list((tmp_path / "prompts").glob("m-*/*"))
    assert store.disk_bytes == before


def test_an_entry_that_another_program_has_written_to_is_not_used(
    store: PromptStore, tmp_path: Path
) -> None:
    place = keep(store, tmp_path)
    (entry,) = Path(place.directory).rglob("*.safetensors")
    entry.write_bytes(b"x" * entry.stat().st_size)
    assert store.find("m", "k", 20 * KIB).tokens == 0
    assert not entry.exists()


@pytest.mark.parametrize("name", ["k", "another"])
def test_a_file_in_the_place_of_a_directory_is_removed(
    store: PromptStore, tmp_path: Path, name: str
) -> None:
    model = Path(store.find("m", "k", 20 * KIB).directory).parent
    model.mkdir(parents=True)
    (model / name).write_text("foreign")
    keep(store, tmp_path)
    assert [path.name for path in model.iterdir()] == ["k"]


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("end", ["whole", "removed meanwhile"])
def test_as_many_entries_as_there_may_be_take_few_descriptors_while_they_are_flushed(
    store: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    flush, seen = os.fsync, list[int]()

    def watched(descriptor: int) -> None:
        seen.append(open_descriptors())
        flush(descriptor)
        if end == "removed meanwhile" and len(seen) == 9:
            shutil.rmtree(tmp_path / "prompts")

    plan, work_dir = plan_of(store.find("m", "k", 20 * KIB)), tmp_path / "work"
    saved = work_dir / SAVED
    saved.mkdir(parents=True)
    names = [f"entry_{number}.safetensors" for number in range(99)]
    for name in names:
        (saved / name).write_bytes(b"k")
    entries = [{"files": {name: 1}, "tokens": 1} for name in names]
    manifest = {"version": 1, "entries": entries, "indexes": {}}
    (saved / MANIFEST).write_text(json.dumps(manifest))
    before = open_descriptors()
    monkeypatch.setattr(os, "fsync", watched)
    store.allow(plan, work_dir)
    store.take(plan, work_dir)
    store.close()
    assert len(seen) == (99 if end == "whole" else 9)
    assert max(seen) <= before + 2
    assert open_descriptors() == before


def test_directories_that_are_not_of_the_store_are_left_alone(tmp_path: Path) -> None:
    """Keep what else is on a larger disk that `prompts` is a link to."""
    disk = tmp_path / "disk"
    (tmp_path / "prompts").symlink_to(disk)
    (disk / "photos" / "2026").mkdir(parents=True)
    (disk / "link-0123456789").symlink_to(disk / "photos")
    assert PromptStore(tmp_path, 100 * KIB).disk_bytes == 0
    assert (disk / "photos" / "2026").is_dir()


def test_a_disk_that_refuses_hinders_no_server_from_ending(
    store: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, tmp_path)
    plan, work_dir = plan_of(store.find("other", "k", 20 * KIB)), tmp_path / "work" / "second"
    work_dir.mkdir()
    store._total_bytes = 21 * KIB

    def refuse(*_: object) -> None:
        raise OSError("it is read-only")

    monkeypatch.setattr(Path, "rename", refuse)
    store.allow(plan, work_dir)
    write(work_dir, 4 * KIB)
    store.take(plan, work_dir)
    assert not (work_dir / ALLOWED).exists()


def test_prompts_that_cannot_be_listed_hinder_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError("it is another user's")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert PromptStore(tmp_path, 100 * KIB).disk_bytes == 0


@pytest.mark.parametrize(
    "place", ["/somewhere/else", "{root}/m/../../k", "{root}/k", "{root}/m/.k"]
)
def test_a_damaged_record_makes_it_write_nowhere_else(
    store: PromptStore, tmp_path: Path, place: str
) -> None:
    directory = place.format(root=tmp_path / "prompts")
    plan, work_dir = plan_of(PromptCache(directory, 20 * KIB)), tmp_path / "work"
    work_dir.mkdir()
    store.allow(plan, work_dir)
    write(work_dir, 4 * KIB)
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}
    store.take(plan, tmp_path / "work")
    assert {path for path in tmp_path.rglob("*") if "work" not in path.parts} == before


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "a/b/c", "version/..", ""])
def test_a_manifest_that_names_other_places_is_none(
    store: PromptStore, tmp_path: Path, name: str
) -> None:
    plan = allowed(store, tmp_path / "work")
    write(tmp_path / "work", 4 * KIB)
    manifest = {"version": 1, "entries": [], "indexes": {name: 2}}
    (tmp_path / "work" / SAVED / MANIFEST).write_text(json.dumps(manifest))
    store.take(plan, tmp_path / "work")
    assert store.find("m", "k", 20 * KIB).tokens == 0


def test_a_link_in_the_place_of_an_entry_is_not_kept(store: PromptStore, tmp_path: Path) -> None:
    plan = allowed(store, tmp_path / "work")
    write(tmp_path / "work", 4 * KIB)
    entry = tmp_path / "work" / SAVED / "version" / "entry_0.safetensors"
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    store.take(plan, tmp_path / "work")
    assert store.find("m", "k", 20 * KIB).tokens == 0


def test_files_that_no_manifest_names_are_not_kept(store: PromptStore, tmp_path: Path) -> None:
    plan = allowed(store, tmp_path / "work")
    write(tmp_path / "work", 4 * KIB)
    (tmp_path / "work" / SAVED / "version" / "entry_1.safetensors").write_bytes(b"half")
    store.take(plan, tmp_path / "work")
    place = store.find("m", "k", 20 * KIB)
    names = {path.name for path in Path(place.directory).rglob("*") if path.is_file()}
    assert names == {"entry_0.safetensors", "index.json", MANIFEST, NOTE}


# --- a power failure ----------------------------------------------------------------------


def test_only_what_was_flushed_to_the_disk_counts_after_a_reboot(
    store: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, tmp_path)
    store.close()
    monkeypatch.setattr(prompt_store, "boot_id", lambda: "another boot")
    assert PromptStore(tmp_path, 100 * KIB).find("m", "k", 20 * KIB).tokens == 7


def test_what_was_not_flushed_counts_until_a_reboot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptStore, "_flush", lambda *_: None)
    unflushed = PromptStore(tmp_path, 100 * KIB)
    keep(unflushed, tmp_path)
    unflushed.close()
    assert PromptStore(tmp_path, 100 * KIB).find("m", "k", 20 * KIB).tokens == 7
    monkeypatch.setattr(prompt_store, "boot_id", lambda: "another boot")
    assert PromptStore(tmp_path, 100 * KIB).find("m", "k", 20 * KIB).tokens == 0


# --- what a server reports ----------------------------------------------------------------


def report(work_dir: Path, disk_bytes: int) -> None:
    work_dir.mkdir(exist_ok=True)
    (work_dir / REPORT).write_bytes(struct.pack("<QQQ", 3, 400, disk_bytes))


@pytest.mark.parametrize(
    ("reported", "argv", "expected"),
    [
        (10 * KIB, (), 15 * KIB),
        (38 * KIB, (), 40 * KIB),
        (UNKNOWN, (), 40 * KIB),
        (10 * KIB, ("--kv-cache-quantization",), 40 * KIB),
    ],
    ids=["what it needs", "at most its bound", "not known", "of another size on disk"],
)
def test_a_process_is_allowed_what_it_reports_to_need_and_some_for_requests_in_flight(
    store: PromptStore, tmp_path: Path, reported: int, argv: tuple[str, ...], expected: int
) -> None:
    report(tmp_path / "work", reported)
    plan = replace(plan_of(store.find("m", "k", 40 * KIB)), argv=argv)
    store.allow(plan, tmp_path / "work")
    assert int((tmp_path / "work" / ALLOWED).read_text()) == expected


def test_what_a_server_reused_is_read(tmp_path: Path) -> None:
    report(tmp_path, UNKNOWN)
    assert reused_tokens(tmp_path) == 400


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(25)])
def test_a_report_that_cannot_be_read_counts_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / REPORT).write_bytes(content)
    assert reused_tokens(tmp_path) == 0


# --- the bound ----------------------------------------------------------------------------


def test_the_prompts_unused_for_longest_give_way(store: PromptStore, tmp_path: Path) -> None:
    places = [keep(store, tmp_path, model=f"m{number}") for number in range(7)]
    for at, place in enumerate(places):
        os.utime(Path(place.directory, NOTE), (at, at))
    again = PromptStore(tmp_path, 100 * KIB)
    # Used now, and so not the first to go.
    again.find("m0", "k", 20 * KIB)
    (tmp_path / "new").mkdir()
    again.allow(plan_of(again.find("new", "k", 45 * KIB)), tmp_path / "new")
    there = [Path(place.directory).exists() for place in places]
    assert there == [True, False, False, True, True, True, True]


def test_a_bound_that_others_are_about_to_use_up_allows_nothing(
    store: PromptStore, tmp_path: Path
) -> None:
    for name in "abcdef":
        (tmp_path / name).mkdir()
        store.allow(plan_of(store.find(name, "k", 20 * KIB)), tmp_path / name)
    said = [int((tmp_path / name / ALLOWED).read_text()) for name in "abcdef"]
    assert said == [20 * KIB] * 5 + [0]


def test_what_an_earlier_service_has_allowed_still_counts(
    store: PromptStore, tmp_path: Path
) -> None:
    plan = allowed(store, tmp_path / "work")
    heir = PromptStore(tmp_path, 30 * KIB)
    heir.adopt(plan, tmp_path / "work")
    (tmp_path / "other").mkdir()
    heir.allow(plan_of(heir.find("other", "k", 20 * KIB)), tmp_path / "other")
    assert int((tmp_path / "other" / ALLOWED).read_text()) == 10 * KIB
    write(tmp_path / "work", 15 * KIB)
    heir.take(plan, tmp_path / "work")
    heir.close()
    assert heir.find("m", "k", 20 * KIB).tokens == 7


@pytest.mark.parametrize(("size", "expected"), [(10 * KIB, 9), (10 * KIB + SLACK_BYTES + 1, 7)])
def test_a_process_that_nobody_has_allowed_to_may_replace_what_it_found(
    store: PromptStore, tmp_path: Path, size: int, expected: int
) -> None:
    keep(store, tmp_path)
    write(tmp_path / "alone", size, tokens=9)
    store.take(plan_of(store.find("m", "k", 20 * KIB)), tmp_path / "alone")
    assert store.find("m", "k", 20 * KIB).tokens == expected


def test_a_process_that_is_gone_is_allowed_nothing(store: PromptStore, tmp_path: Path) -> None:
    store.allow(plan_of(store.find("m", "k", 20 * KIB)), tmp_path / "gone")
    store.take(plan_of(store.find("m", "k", 20 * KIB)), tmp_path / "gone")
    assert store.disk_bytes == 0


def test_a_plan_without_a_place_keeps_nothing(store: PromptStore, tmp_path: Path) -> None:
    end(store, plan_of(None), tmp_path / "work")
    store.adopt(plan_of(None), tmp_path / "work")
    assert store.disk_bytes == 0


class Servers(RuleBasedStateMachine):
    """Fifty models that start, end, are killed, and whose service dies at any moment."""

    TOTAL = 64 * KIB

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[Path, LaunchPlan] = {}
        self.ending: dict[Path, LaunchPlan] = {}
        self.count = 0

    @initialize(directory=st.integers(0, 10**9))
    def begin(self, directory: int) -> None:
        self.root = Path(os.environ["PYTEST_STORE"], f"{directory}-{id(self)}")
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self.store = PromptStore(self.root, self.TOTAL)

    @rule(model=st.integers(0, 49), key=st.integers(0, 1), bound=st.integers(1, 80))
    def start(self, model: int, key: int, bound: int) -> None:
        self.count += 1
        work_dir = self.root / "work" / str(self.count)
        work_dir.mkdir(parents=True)
        self.running[work_dir] = plan_of(self.store.find(f"m{model}", f"k{key}", bound * KIB))

    @rule(data=st.data(), whole=st.booleans())
    def tell_to_end(self, data: st.DataObject, *, whole: bool) -> None:
        if not self.running:
            return
        work_dir = data.draw(st.sampled_from(sorted(self.running)))
        plan = self.ending[work_dir] = self.running.pop(work_dir)
        self.store.allow(plan, work_dir)
        allowed = int((work_dir / ALLOWED).read_text())
        if allowed >= 2:
            write(work_dir, data.draw(st.integers(0, allowed - 2)), whole=whole)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if not self.ending:
            return
        work_dir = data.draw(st.sampled_from(sorted(self.ending)))
        self.store.take(self.ending.pop(work_dir), work_dir)
        shutil.rmtree(work_dir)

    @rule()
    def another_service(self) -> None:
        self.store.close()
        self.store = PromptStore(self.root, self.TOTAL)
        for work_dir, plan in (self.running | self.ending).items():
            self.store.adopt(plan, work_dir)

    @invariant()
    def within_the_bound(self) -> None:
        if hasattr(self, "root"):
            assert disk_bytes(self.root) <= self.TOTAL

    @invariant()
    def knows_what_it_keeps(self) -> None:
        if hasattr(self, "root"):
            assert self.store.disk_bytes == disk_bytes(self.root / "prompts")

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.store.close()
            shutil.rmtree(self.root)


@pytest.fixture(autouse=True, scope="module")
def _directory_of_the_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    os.environ["PYTEST_STORE"] = str(tmp_path_factory.mktemp("servers"))
    yield
    del os.environ["PYTEST_STORE"]


Servers.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestServers = Servers.TestCase
