"""The bound of the store of prompts: how much a server may write, and what gives way to it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from structlog.testing import capture_logs

from pool_service.adapters.children.kept_prompts import ALLOWED, REPORT, SLACK_BYTES, UNKNOWN
from pool_service.adapters.prompts.notes import NOTE
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.prompts.reports import fair_share, reused_tokens
from pool_service.core.types import LaunchPlan
from tests.adapters.prompt_servers import (
    KEY,
    KIB,
    OLD,
    OpenStore,
    allow,
    allowed,
    end,
    entry_bytes,
    keep,
    plan_of,
    report,
    write,
)

# --- what a server reports ----------------------------------------------------------------


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
    plan = replace(plan_of(store.find("m", KEY, 40 * KIB)), argv=argv)
    allow(store, plan, tmp_path / "work")
    assert int((tmp_path / "work" / ALLOWED).read_text()) == expected


def test_what_a_server_reused_is_read(tmp_path: Path) -> None:
    report(tmp_path, UNKNOWN)
    assert reused_tokens(tmp_path) == 400


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(17)])
def test_a_report_that_cannot_be_read_counts_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / REPORT).write_bytes(content)
    assert reused_tokens(tmp_path) == 0


# --- the bound ----------------------------------------------------------------------------


def test_the_prompts_unused_for_longest_give_way(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    places = [keep(store, tmp_path, model=f"m{number}") for number in range(7)]
    store.flush()
    for at, place in enumerate(places):
        os.utime(Path(place.directory, NOTE), (at, at))
    again = open_store()
    # Used now, and so not the first to go.
    again.find("m0", KEY, 20 * KIB)
    (tmp_path / "new").mkdir()
    allow(again, plan_of(again.find("new", KEY, 45 * KIB)), tmp_path / "new")
    there = [Path(place.directory).exists() for place in places]
    assert there == [True, False, False, True, True, True, True]


def test_a_bound_that_others_are_about_to_use_up_allows_nothing(
    store: PromptStore, tmp_path: Path
) -> None:
    for name in "abcdef":
        (tmp_path / name).mkdir()
        allow(store, plan_of(store.find(name, KEY, 20 * KIB)), tmp_path / name)
    said = [int((tmp_path / name / ALLOWED).read_text()) for name in "abcdef"]
    assert said == [20 * KIB] * 5 + [0]


def test_what_an_earlier_service_has_allowed_still_counts(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    plan = allowed(store, tmp_path / "work")
    heir = open_store(30 * KIB)
    heir.note_allowed(plan, tmp_path / "work")
    (tmp_path / "other").mkdir()
    allow(heir, plan_of(heir.find("other", KEY, 20 * KIB)), tmp_path / "other")
    assert int((tmp_path / "other" / ALLOWED).read_text()) == 10 * KIB
    write(tmp_path / "work", 15 * KIB)
    heir.take(plan, tmp_path / "work")
    heir.close()
    assert heir.find("m", KEY, 20 * KIB).tokens == 7


@pytest.mark.parametrize(("size", "expected"), [(10 * KIB, 9), (10 * KIB + SLACK_BYTES + 1, 7)])
def test_a_process_that_nobody_has_allowed_to_may_replace_what_it_found(
    store: PromptStore, tmp_path: Path, size: int, expected: int
) -> None:
    keep(store, tmp_path)
    write(tmp_path / "alone", size, tokens=9)
    store.take(plan_of(store.find("m", KEY, 20 * KIB)), tmp_path / "alone")
    assert store.find("m", KEY, 20 * KIB).tokens == expected


def test_a_process_that_is_gone_is_allowed_nothing(store: PromptStore, tmp_path: Path) -> None:
    allow(store, plan_of(store.find("m", KEY, 20 * KIB)), tmp_path / "gone")
    store.take(plan_of(store.find("m", KEY, 20 * KIB)), tmp_path / "gone")
    assert store.disk_bytes == 0


def test_a_plan_without_a_place_keeps_nothing(store: PromptStore, tmp_path: Path) -> None:
    end(store, plan_of(None), tmp_path / "work")
    store.note_allowed(plan_of(None), tmp_path / "work")
    assert store.disk_bytes == 0


def test_of_what_leaves_no_room_the_prompts_of_running_servers_go_last(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    names = ("running", "unused", "used later")
    places = [keep(store, tmp_path, model=name) for name in names]
    store.flush()
    for at, place in enumerate(places):
        os.utime(Path(place.directory, NOTE), (at, at))
    again = open_store(45 * KIB)
    (tmp_path / "new").mkdir()
    others = {tmp_path / "running": plan_of(places[0])}
    allow(again, plan_of(again.find("new", KEY, 20 * KIB)), tmp_path / "new", others)
    assert [Path(place.directory).exists() for place in places] == [True, False, True]


def test_what_is_kept_of_a_model_stays_until_its_server_has_ended(
    store: PromptStore, tmp_path: Path
) -> None:
    end(store, plan_of(store.find("m", KEY, 60 * KIB)), tmp_path / "first", 50 * KIB)
    plan = plan_of(store.find("m", KEY, 60 * KIB))
    (tmp_path / "second").mkdir()
    allow(store, plan, tmp_path / "second")
    assert int((tmp_path / "second" / ALLOWED).read_text()) == 50 * KIB - 2
    # Killed before it has written anything.
    store.take(plan, tmp_path / "second")
    assert store.find("m", KEY, 60 * KIB).tokens == 7


def test_what_is_kept_of_a_server_that_is_ending_does_not_give_way_to_another(
    store: PromptStore, tmp_path: Path
) -> None:
    end(store, plan_of(store.find("m", KEY, 60 * KIB)), tmp_path / "first", 50 * KIB)
    ending = plan_of(store.find("m", KEY, 60 * KIB))
    unused = keep(store, tmp_path, model="unused, since later")
    for name in ("ending", "other"):
        (tmp_path / name).mkdir()
    report(tmp_path / "ending", 0)
    allow(store, ending, tmp_path / "ending")
    allow(store, plan_of(store.find("other", KEY, 80 * KIB)), tmp_path / "other")
    assert store.find("m", KEY, 60 * KIB).tokens == 7
    assert int((tmp_path / "other" / ALLOWED).read_text()) < 50 * KIB
    assert not Path(unused.directory).exists()


def test_servers_that_end_at_once_get_equal_shares(store: PromptStore, tmp_path: Path) -> None:
    plans = {}
    for name in "abcdefgh":
        report(tmp_path / name, UNKNOWN)
        plans[tmp_path / name] = plan_of(store.find(name, KEY, 20 * KIB))
    for work_dir, plan in plans.items():
        store.allow(plan, work_dir, plans)
    said = [int((work_dir / ALLOWED).read_text()) for work_dir in plans]
    assert said == [100 * KIB // 8] * 8


@pytest.mark.parametrize(
    ("left", "wanted", "others", "expected"),
    [
        *((10, 4, [], 4), (10, 20, [], 10), (10, 4, [6], 4), (12, 9, [1, 9], 5)),
        *((12, 2, [9, 9], 2), (0, 5, [5], 0), (10, 0, [20], 0), (9, 9, [0, 0, 0], 9)),
    ],
)
def test_who_wants_little_gets_it_and_the_rest_is_divided(
    left: int, wanted: int, others: list[int], expected: int
) -> None:
    assert fair_share(left, wanted, others) == expected


@given(st.integers(0, 99), st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_shares_are_within_what_is_left_and_leave_nothing_that_is_wanted(
    left: int, wants: list[int]
) -> None:
    shares = [
        fair_share(left, want, wants[:position] + wants[position + 1 :])
        for position, want in enumerate(wants)
    ]
    assert sum(shares) <= left
    assert min(left, sum(wants)) - sum(shares) < len(wants), "but for what cannot be divided"


@pytest.mark.parametrize("content", [None, b""], ids=["no report", "an empty one"])
def test_a_server_that_still_loads_costs_no_other(
    store: PromptStore, tmp_path: Path, content: bytes | None
) -> None:
    for number in range(9):
        keep(store, tmp_path, model=f"other{number}")
    before, work_dir = store.disk_bytes, tmp_path / "loads"
    work_dir.mkdir()
    if content is not None:
        (work_dir / REPORT).write_bytes(content)
    plan = replace(plan_of(store.find("m", KEY, 60 * KIB)), argv=("--kv-cache-quantization",))
    store.allow(plan, work_dir, {work_dir: plan})
    assert (work_dir / ALLOWED).read_text() == "0"
    assert store.disk_bytes == before


def test_a_process_that_is_told_to_end_again_may_write_what_it_was_told(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    plan, work_dir = allowed(store, tmp_path / "work"), tmp_path / "work"
    report(work_dir, 0)
    allow(store, plan, work_dir)
    heir = open_store()
    heir.note_allowed(plan, work_dir)
    allow(heir, plan, work_dir)
    assert int((work_dir / ALLOWED).read_text()) == 20 * KIB


def test_who_reads_what_it_may_write_finds_it_whole(store: PromptStore, tmp_path: Path) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    (work_dir / ALLOWED).write_text("1")
    with (work_dir / ALLOWED).open() as read_before:
        allow(store, plan_of(store.find("m", KEY, 20 * KIB)), work_dir)
        assert read_before.read() == "1"
    assert {path.name for path in work_dir.iterdir()} == {ALLOWED, REPORT}


def test_that_a_server_has_written_too_much_is_logged(store: PromptStore, tmp_path: Path) -> None:
    place = keep(store, tmp_path)
    plan = allowed(store, tmp_path / "more")
    write(tmp_path / "more", 21 * KIB, tokens=9)
    with capture_logs() as logs:
        store.take(plan, tmp_path / "more")
    assert store.find("m", KEY, 20 * KIB).tokens == 7
    (line,) = logs
    assert line["directory"] == place.directory
    assert (line["written_bytes"], line["allowed_bytes"]) == (21 * KIB + 2, 20 * KIB)


def test_a_lowered_total_is_applied_at_once(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    for name in "abcd":
        keep(store, tmp_path, model=name)
    assert 0 < open_store(25 * KIB).disk_bytes <= 25 * KIB
    assert not open_store(5 * KIB).disk_bytes


def test_a_store_that_knows_no_total_replaces_and_removes_nothing_else(
    open_store: OpenStore, store: PromptStore, tmp_path: Path
) -> None:
    for name in "abcdefghi":
        keep(store, tmp_path, model=name)
    keep(store, tmp_path)
    before, work_dir = store.disk_bytes, tmp_path / "last"
    plan, guards = plan_of(store.find("m", KEY, 20 * KIB)), open_store(None)
    guards.note_allowed(plan, work_dir)
    allow(guards, plan, work_dir)
    assert not (work_dir / ALLOWED).exists()
    write(work_dir, 11 * KIB, tokens=9)
    guards.take(plan, work_dir)
    guards.close()
    assert guards.disk_bytes == before + KIB
    assert guards.find("m", KEY, 20 * KIB).tokens == 9


class Servers(RuleBasedStateMachine):
    """Fifty models that start, end, are killed, and whose service dies at any moment."""

    TOTAL = 64 * KIB

    def __init__(self) -> None:
        super().__init__()
        self.running = dict[Path, LaunchPlan]()
        self.ending = dict[Path, LaunchPlan]()
        self.staying = dict[Path, Path]()
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
        report(work_dir, UNKNOWN)
        place = self.store.find(f"m{model}", (KEY, OLD)[key], bound * KIB)
        self.running[work_dir] = plan_of(place)
        self.staying = {
            ending: directory
            for ending, directory in self.staying.items()
            if directory.parent != Path(place.directory).parent
            or directory == Path(place.directory)
        }

    @rule(data=st.data(), whole=st.booleans())
    def tell_to_end(self, data: st.DataObject, *, whole: bool) -> None:
        if not self.running:
            return
        work_dir = data.draw(st.sampled_from(sorted(self.running)))
        plan = self.ending[work_dir] = self.running.pop(work_dir)
        assert plan.prompt_cache is not None
        directory = Path(plan.prompt_cache.directory)
        if directory.exists():
            self.staying[work_dir] = directory
        allow(self.store, plan, work_dir, self.running)
        allowed = int((work_dir / ALLOWED).read_text())
        if allowed >= 2:
            write(work_dir, data.draw(st.integers(0, allowed - 2)), whole=whole)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if not self.ending:
            return
        work_dir = data.draw(st.sampled_from(sorted(self.ending)))
        self.store.take(self.ending.pop(work_dir), work_dir)
        self.staying.pop(work_dir, None)
        shutil.rmtree(work_dir)

    @rule()
    def another_service(self) -> None:
        self.store.close()
        self.store = PromptStore(self.root, self.TOTAL)
        for work_dir, plan in (self.running | self.ending).items():
            self.store.note_allowed(plan, work_dir)

    @invariant()
    def within_the_bound(self) -> None:
        if hasattr(self, "root"):
            # What is deleted in the background was removed before it was needed.
            self.store._disk.await_deleted()
            assert entry_bytes(self.root) <= self.TOTAL

    @invariant()
    def keeps_what_is_not_yet_written_anew(self) -> None:
        assert all(directory.exists() for directory in self.staying.values())

    @invariant()
    def knows_what_it_keeps(self) -> None:
        if hasattr(self, "root"):
            self.store._disk.await_deleted()
            assert self.store.disk_bytes == entry_bytes(self.root / "prompts")

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
