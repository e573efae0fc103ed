"""The store of computed prompts: what is kept, for whom, and within which bound."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pool_service.adapters.children.kept_prompts import MANIFEST, REUSE, SAVED
from pool_service.adapters.prompts import prompt_store
from pool_service.adapters.prompts.prompt_store import NOTE, PromptStore, reused_tokens
from pool_service.core.types import LaunchPlan, PromptCache

KIB = 1024


def plan_of(cache: PromptCache | None, nonce: str = "n") -> LaunchPlan:
    return LaunchPlan(("x",), (), None, "/health", "m", nonce, prompt_cache=cache)


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
    entries = (path for path in files if path.name not in (MANIFEST, NOTE))
    return sum(path.stat().st_size for path in entries)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    the_store = PromptStore(tmp_path, 100 * KIB)
    yield the_store
    the_store.close()


def keep(store: PromptStore, tmp_path: Path, model: str = "m", key: str = "k") -> PromptCache:
    """Let a server of a model start, write 10 KiB and end; return its place."""
    plan = store.grant(plan_of(store.find(model, key, 20 * KIB), f"{model} {key}"))
    work_dir = tmp_path / "work" / f"{model}{key}"
    shutil.rmtree(work_dir, ignore_errors=True)
    write(work_dir, 10 * KIB)
    store.take(plan, work_dir)
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
    plan = store.grant(plan_of(store.find("m", "k", 20 * KIB)))
    work_dir = tmp_path / "work" / "second"
    if harm != "none":
        write(work_dir, 5 * KIB, whole=harm != "not whole", tokens=0 if harm == "empty" else 9)
    if harm == "cut":
        os.truncate(work_dir / SAVED / "version" / "entry_0.safetensors", 100)
    store.take(plan, work_dir)
    assert store.find("m", "k", 20 * KIB).tokens == 7


def test_of_two_servers_at_once_each_writes_for_itself_and_the_last_one_counts(
    store: PromptStore, tmp_path: Path
) -> None:
    place = store.find("m", "k", 20 * KIB)
    plans = [store.grant(plan_of(place, nonce)) for nonce in ("a", "b")]
    for plan in plans:
        write(tmp_path / plan.nonce, 4 * KIB, tokens=ord(plan.nonce))
    for plan in plans:
        store.take(plan, tmp_path / plan.nonce)
        assert store.find("m", "k", 20 * KIB).tokens == ord(plan.nonce)


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
    late = store.grant(plan_of(store.find("m", "old", 20 * KIB)))
    store.find("m", "new", 20 * KIB)
    write(tmp_path / "late", 4 * KIB)
    store.take(late, tmp_path / "late")
    assert late.prompt_cache is not None
    assert not Path(late.prompt_cache.directory).exists()


def test_a_model_that_keeps_nothing_any_more_is_forgotten(
    store: PromptStore, tmp_path: Path
) -> None:
    place = keep(store, tmp_path)
    store.forget("m")
    assert not Path(place.directory).parent.exists()
    assert store.disk_bytes == 0


@pytest.mark.parametrize(
    "place", ["/somewhere/else", "{root}/m/../../k", "{root}/k", "{root}/m/.k"]
)
def test_a_damaged_record_makes_it_write_nowhere_else(
    store: PromptStore, tmp_path: Path, place: str
) -> None:
    directory = place.format(root=tmp_path / "prompts")
    plan = store.grant(plan_of(PromptCache(directory, 20 * KIB)))
    write(tmp_path / "work", 4 * KIB)
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}
    store.take(plan, tmp_path / "work")
    assert {path for path in tmp_path.rglob("*") if "work" not in path.parts} == before


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "a/b/c", "version/..", ""])
def test_a_manifest_that_names_other_places_is_none(
    store: PromptStore, tmp_path: Path, name: str
) -> None:
    plan = store.grant(plan_of(store.find("m", "k", 20 * KIB)))
    write(tmp_path / "work", 4 * KIB)
    manifest = {"version": 1, "entries": [], "indexes": {name: 2}}
    (tmp_path / "work" / SAVED / MANIFEST).write_text(json.dumps(manifest))
    store.take(plan, tmp_path / "work")
    assert store.find("m", "k", 20 * KIB).tokens == 0


def test_a_link_in_the_place_of_an_entry_is_not_kept(store: PromptStore, tmp_path: Path) -> None:
    plan = store.grant(plan_of(store.find("m", "k", 20 * KIB)))
    write(tmp_path / "work", 4 * KIB)
    entry = tmp_path / "work" / SAVED / "version" / "entry_0.safetensors"
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    store.take(plan, tmp_path / "work")
    assert store.find("m", "k", 20 * KIB).tokens == 0


def test_files_that_no_manifest_names_are_not_kept(store: PromptStore, tmp_path: Path) -> None:
    plan = store.grant(plan_of(store.find("m", "k", 20 * KIB)))
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


def test_what_a_server_reused_is_read(tmp_path: Path) -> None:
    (tmp_path / REUSE).write_bytes((3).to_bytes(8, "little") + (400).to_bytes(8, "little"))
    assert reused_tokens(tmp_path) == 400


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(17)])
def test_a_report_that_cannot_be_read_counts_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / REUSE).write_bytes(content)
    assert reused_tokens(tmp_path) == 0


# --- the bound ----------------------------------------------------------------------------


def test_the_prompts_unused_for_longest_give_way(store: PromptStore, tmp_path: Path) -> None:
    places = [keep(store, tmp_path, model=f"m{number}") for number in range(7)]
    for at, place in enumerate(places):
        os.utime(Path(place.directory, NOTE), (at, at))
    again = PromptStore(tmp_path, 100 * KIB)
    # Used now, and so not the first to go.
    again.find("m0", "k", 20 * KIB)
    again.grant(plan_of(again.find("new", "k", 45 * KIB)))
    there = [Path(place.directory).exists() for place in places]
    assert there == [True, False, False, True, True, True, True]


def test_a_bound_that_others_have_used_up_grants_nothing(store: PromptStore) -> None:
    for nonce in "abcde":
        store.grant(plan_of(store.find(nonce, "k", 20 * KIB), nonce))
    last = store.grant(plan_of(store.find("f", "k", 20 * KIB), "f"))
    assert last.prompt_cache is not None
    assert last.prompt_cache.max_bytes == 0
    store.release(plan_of(None, "a"))
    assert store.grant(replace(last, nonce="g")).prompt_cache == last.prompt_cache


def test_a_plan_without_a_place_is_granted_nothing_and_keeps_nothing(
    store: PromptStore, tmp_path: Path
) -> None:
    assert store.grant(plan_of(None)) == plan_of(None)
    write(tmp_path / "work", KIB)
    store.take(plan_of(None), tmp_path / "work")
    assert store.disk_bytes == 0


class Servers(RuleBasedStateMachine):
    """Fifty models that start, end, are killed, and whose service dies at any moment."""

    TOTAL = 64 * KIB

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, LaunchPlan] = {}
        self.count = 0

    @initialize(directory=st.integers(0, 10**9))
    def begin(self, directory: int) -> None:
        self.root = Path(os.environ["PYTEST_STORE"], f"{directory}-{id(self)}")
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "work").mkdir(parents=True)
        self.store = PromptStore(self.root, self.TOTAL)

    @rule(model=st.integers(0, 49), key=st.integers(0, 1), bound=st.integers(1, 80))
    def start(self, model: int, key: int, bound: int) -> None:
        self.count += 1
        place = self.store.find(f"m{model}", f"k{key}", bound * KIB)
        nonce = f"n{self.count}"
        self.running[nonce] = self.store.grant(plan_of(place, nonce))

    @rule(data=st.data(), killed=st.booleans())
    def end(self, data: st.DataObject, killed: bool) -> None:
        if not self.running:
            return
        nonce = data.draw(st.sampled_from(sorted(self.running)))
        plan = self.running.pop(nonce)
        assert plan.prompt_cache is not None
        granted = plan.prompt_cache.max_bytes
        size = data.draw(st.integers(0, max(granted - 2, 0)))
        if granted > 2:
            write(self.root / "work" / nonce, size, whole=not killed)
        self.within_the_bound()
        self.store.take(plan, self.root / "work" / nonce)
        shutil.rmtree(self.root / "work" / nonce, ignore_errors=True)

    @rule()
    def another_service(self) -> None:
        self.store.close()
        self.store = PromptStore(self.root, self.TOTAL)
        for nonce, plan in list(self.running.items()):
            self.running[nonce] = self.store.grant(plan)

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
