"""The store of kept prompts: what is kept, and for whom."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from pool_service.adapters.children.kept_prompts import ALLOWED, MANIFEST, SAVED
from pool_service.adapters.prompts import disk_work, notes
from pool_service.adapters.prompts.disk_work import DiskWork
from pool_service.adapters.prompts.manifest import Manifest
from pool_service.adapters.prompts.notes import NOTE
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.system.own_files import remove_tree
from pool_service.core.types import PromptCache
from tests.adapters.prompt_servers import (
    KEY,
    KIB,
    NEW,
    OLD,
    OpenStore,
    allow,
    allowed,
    end,
    keep,
    nested,
    plan_of,
    write,
)


def test_what_a_server_has_written_is_there_for_the_next(
    store: PromptStore, tmp_path: Path
) -> None:
    first = store.find("m", KEY, 20 * KIB)
    assert (first.disk_bytes, first.tokens) == (0, 0)
    keep(store, tmp_path)
    second = store.find("m", KEY, 20 * KIB)
    assert second.directory == first.directory
    assert (second.disk_bytes, second.tokens) == (10 * KIB + 2, 7)
    entry = Path(second.directory, "version", "entry_0.safetensors")
    assert entry.read_bytes() == b"k" * 10 * KIB
    assert Path(second.directory).stat().st_mode & 0o077 == 0
    assert Path(second.directory).parent.stat().st_mode & 0o077 == 0


def test_a_server_that_nests_directories_without_end_harms_only_its_own_prompts(
    store: PromptStore, tmp_path: Path
) -> None:
    plan, work_dir = plan_of(store.find("m", KEY, 20 * KIB)), tmp_path / "work" / "deep"
    work_dir.mkdir(parents=True)
    allow(store, plan, work_dir)
    write(work_dir, KIB)
    with nested(work_dir / SAVED, tmp_path):
        store.take(plan, work_dir)
        store.forget("m")
        store.flush()
        remove_tree(work_dir)
        assert list(tmp_path.glob("prompts/*")) == []


def test_another_service_finds_what_one_has_kept(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    keep(store, tmp_path)
    assert open_store().find("m", KEY, 20 * KIB).tokens == 7


@pytest.mark.parametrize("harm", ["not whole", "cut", "empty", "none"])
def test_half_of_what_a_server_writes_is_not_kept(
    store: PromptStore, tmp_path: Path, harm: str
) -> None:
    keep(store, tmp_path)
    plan, work_dir = plan_of(store.find("m", KEY, 20 * KIB)), tmp_path / "work" / "second"
    work_dir.mkdir()
    allow(store, plan, work_dir)
    if harm != "none":
        write(work_dir, 5 * KIB, whole=harm != "not whole", tokens=0 if harm == "empty" else 9)
    if harm == "cut":
        os.truncate(work_dir / SAVED / "version" / "entry_0.safetensors", 100)
    store.take(plan, work_dir)
    assert store.find("m", KEY, 20 * KIB).tokens == 7


def test_of_two_servers_at_once_each_writes_for_itself_and_the_last_one_counts(
    store: PromptStore, tmp_path: Path
) -> None:
    plan = plan_of(store.find("m", KEY, 20 * KIB))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        allow(store, plan, tmp_path / name)
        write(tmp_path / name, 4 * KIB, tokens=ord(name))
    for name in ("a", "b"):
        store.take(plan, tmp_path / name)
        assert store.find("m", KEY, 20 * KIB).tokens == ord(name)


def test_what_was_computed_with_other_settings_is_removed(
    store: PromptStore, tmp_path: Path
) -> None:
    old = keep(store, tmp_path, key=OLD)
    other = keep(store, tmp_path, model="other", key=OLD)
    assert store.find("m", NEW, 20 * KIB).tokens == 0
    assert not Path(old.directory).exists()
    assert Path(other.directory).exists()


def test_a_server_with_old_settings_that_ends_late_keeps_nothing(
    store: PromptStore, tmp_path: Path
) -> None:
    late = plan_of(store.find("m", OLD, 20 * KIB))
    store.find("m", NEW, 20 * KIB)
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
    late = plan_of(store.find("m", KEY, 20 * KIB))
    store.forget("m")
    work_dir = tmp_path / "work" / "late"
    work_dir.mkdir(parents=True)
    allow(store, late, work_dir)
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
    assert store.find("m", KEY, 20 * KIB).tokens == 0
    assert not entry.exists()


@pytest.mark.parametrize("name", [KEY, "another"])
def test_a_file_in_the_place_of_a_directory_is_removed(
    store: PromptStore, tmp_path: Path, name: str
) -> None:
    model = Path(store.find("m", KEY, 20 * KIB).directory).parent
    model.mkdir(parents=True)
    (model / name).write_text("foreign")
    keep(store, tmp_path)
    assert [path.name for path in model.iterdir()] == [KEY]


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

    plan, work_dir = plan_of(store.find("m", KEY, 20 * KIB)), tmp_path / "work"
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
    allow(store, plan, work_dir)
    store.take(plan, work_dir)
    store.flush()
    assert len(seen) == (99 + len([MANIFEST, NOTE]) if end == "whole" else 9)
    assert max(seen) <= before + 2
    assert open_descriptors() == before


def test_directories_that_are_not_of_the_store_are_left_alone(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """Keep what else is on a larger disk that `prompts` is a link to."""
    disk = tmp_path / "disk"
    (tmp_path / "prompts").symlink_to(disk)
    (disk / "photos" / "2026").mkdir(parents=True)
    (disk / "link-0123456789").symlink_to(disk / "photos")
    assert open_store().disk_bytes == 0
    assert (disk / "photos" / "2026").is_dir()


def test_a_disk_that_refuses_hinders_no_server_from_ending(
    store: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, tmp_path)
    plan, work_dir = plan_of(store.find("other", KEY, 20 * KIB)), tmp_path / "work" / "second"
    work_dir.mkdir()
    store._total_bytes = 21 * KIB

    def refuse(*_: object) -> None:
        raise OSError("it is read-only")

    monkeypatch.setattr(Path, "rename", refuse)
    allow(store, plan, work_dir)
    write(work_dir, 4 * KIB)
    store.take(plan, work_dir)
    assert not (work_dir / ALLOWED).exists()


def test_prompts_that_cannot_be_listed_hinder_nothing(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError("it is another user's")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert open_store().disk_bytes == 0


@pytest.mark.parametrize(
    "place",
    [
        *("/somewhere/else", "{root}/m-0123456789/../../{key}", "{root}/{key}"),
        *("{root}/../{key}", "{root}/m/{key}", "{root}/m-0123456789/.{key}"),
        *("{root}/m-0123456789/k", "{root}/link-0123456789/{key}"),
    ],
)
def test_a_damaged_record_makes_it_write_nowhere_else(
    store: PromptStore, tmp_path: Path, place: str
) -> None:
    root = tmp_path / "prompts"
    root.mkdir()
    (root / "link-0123456789").symlink_to(tmp_path)
    directory = place.format(root=root, key=KEY)
    plan, work_dir = plan_of(PromptCache(directory, 20 * KIB)), tmp_path / "work"
    work_dir.mkdir()
    allow(store, plan, work_dir)
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
    assert store.find("m", KEY, 20 * KIB).tokens == 0


def test_a_link_in_the_place_of_an_entry_is_not_kept(store: PromptStore, tmp_path: Path) -> None:
    plan = allowed(store, tmp_path / "work")
    write(tmp_path / "work", 4 * KIB)
    entry = tmp_path / "work" / SAVED / "version" / "entry_0.safetensors"
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    store.take(plan, tmp_path / "work")
    assert store.find("m", KEY, 20 * KIB).tokens == 0


def test_files_that_no_manifest_names_are_not_kept(store: PromptStore, tmp_path: Path) -> None:
    plan = allowed(store, tmp_path / "work")
    write(tmp_path / "work", 4 * KIB)
    (tmp_path / "work" / SAVED / "version" / "entry_1.safetensors").write_bytes(b"half")
    store.take(plan, tmp_path / "work")
    place = store.find("m", KEY, 20 * KIB)
    names = {path.name for path in Path(place.directory).rglob("*") if path.is_file()}
    assert names == {"entry_0.safetensors", "index.json", MANIFEST, NOTE}


# --- a power failure ----------------------------------------------------------------------


def test_only_what_was_flushed_to_the_disk_counts_after_a_reboot(
    open_store: OpenStore, store: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, tmp_path)
    store.flush()
    monkeypatch.setattr(notes, "boot_id", lambda: "another boot")
    assert open_store().find("m", KEY, 20 * KIB).tokens == 7


def test_what_was_not_flushed_counts_until_a_reboot(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiskWork, "_flush", lambda *_: None)
    unflushed = open_store()
    keep(unflushed, tmp_path)
    unflushed.close()
    assert open_store().find("m", KEY, 20 * KIB).tokens == 7
    monkeypatch.setattr(notes, "boot_id", lambda: "another boot")
    assert open_store().find("m", KEY, 20 * KIB).tokens == 0


def test_a_store_that_is_closed_flushes_no_further_file_and_the_next_goes_on(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, has_begun, may_go_on, flushed = os.fsync, threading.Event(), threading.Event(), [0]

    def slow(descriptor: int) -> None:
        flushed[0] += 1
        has_begun.set()
        may_go_on.wait()
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    first = open_store()
    keep(first, tmp_path)
    keep(first, tmp_path, model="waits")
    has_begun.wait()
    closing = threading.Thread(target=first.close)
    closing.start()
    first._disk._is_closed.wait()
    may_go_on.set()
    closing.join()
    first.flush()
    assert flushed == [1]
    second = open_store()
    assert second.disk_bytes > 0
    second.flush()
    second.close()
    monkeypatch.setattr(notes, "boot_id", lambda: "another boot")
    third = open_store()
    assert [third.find(model, KEY, 20 * KIB).tokens for model in ("m", "waits")] == [7, 7]


def test_what_was_not_flushed_before_a_reboot_is_not_called_flushed_after_it(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as unflushed:
        unflushed.setattr(DiskWork, "_flush", lambda *_: None)
        first = open_store()
        keep(first, tmp_path)
        first.close()
    monkeypatch.setattr(notes, "boot_id", lambda: "another boot")
    second = open_store()
    assert second.disk_bytes > 0
    second.flush()
    second.close()
    assert second.find("m", KEY, 20 * KIB).tokens == 0


def test_that_prompts_are_flushed_is_no_use_of_them(store: PromptStore, tmp_path: Path) -> None:
    place = keep(store, tmp_path)
    os.utime(Path(place.directory, NOTE), (7, 7))
    store._disk.flush_later(Path(place.directory), Manifest({}, 0))
    store.flush()
    note = Path(place.directory, NOTE)
    assert json.loads(note.read_text())["synced"]
    assert note.stat().st_mtime == 7


def test_nobody_waits_while_prompts_are_deleted_but_who_gets_their_room(
    store: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, is_waiting = threading.Event(), threading.Event()
    for number in range(9):
        keep(store, tmp_path, model=f"m{number}")
    store.flush()

    def slow(path: Path) -> None:
        may_go_on.wait()
        remove_tree(path)

    await_deleted = store._disk.await_deleted

    def wait() -> None:
        is_waiting.set()
        await_deleted()

    with monkeypatch.context() as while_slow:
        while_slow.setattr(disk_work, "remove_tree", slow)
        while_slow.setattr(store._disk, "await_deleted", wait)
        (tmp_path / "new").mkdir()
        plan = plan_of(store.find("new", KEY, 20 * KIB))
        evicting = threading.Thread(target=allow, args=(store, plan, tmp_path / "new"))
        evicting.start()
        while evicting.is_alive() and not is_waiting.is_set():
            pass
        try:
            assert store.find("m8", KEY, 20 * KIB).tokens == 7
            assert not (tmp_path / "new" / ALLOWED).exists()
        finally:
            may_go_on.set()
            evicting.join()
    assert (tmp_path / "new" / ALLOWED).exists()


def test_what_was_not_deleted_is_deleted_by_the_next_store(
    store: PromptStore, open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, tmp_path)
    with monkeypatch.context() as undeleted:
        undeleted.setattr(DiskWork, "delete_later", lambda *_: None)
        store.forget("m")
    assert list((tmp_path / "prompts").rglob("*.safetensors"))
    later = open_store()
    assert later.disk_bytes == 0
    later.flush()
    assert list((tmp_path / "prompts").iterdir()) == []
