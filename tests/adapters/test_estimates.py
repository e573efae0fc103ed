"""Claims about what is remembered of earlier runs."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.models.estimates import (
    DECAY_FACTOR,
    LOAD_STEP_SHARE,
    MAX_ENTRIES,
    MAX_NEEDED_BYTES,
    UsageKey,
    UsageStore,
    estimate_bytes,
)

KEY = UsageKey("", "0.6.0", "org/name")
OTHERS = [
    UsageKey("other", "0.6.0", "org/name"),
    UsageKey("", "0.7.0", "org/name"),
    UsageKey("", "0.6.0", "org/other"),
    UsageKey("", "0.6.0", "org/name", ("--max-kv-size", "9")),
    UsageKey("", "0.6.0", "org/name", prompt_cache=16),
    UsageKey("", "0.6.0", "org/name", warm_prompts=("Be brief.",)),
]


@pytest.fixture
def book(tmp_path: Path) -> Iterator[UsageStore]:
    """A store that has nothing left to write when its directory is removed."""
    book = UsageStore(tmp_path)
    yield book
    book.close()


def written(book: UsageStore) -> UsageStore:
    """Return the store of a later service, after the end of this one."""
    book.close()
    return UsageStore(book._path.parent)


def test_what_was_learnt_is_known_after_a_restart(tmp_path: Path) -> None:
    book = UsageStore(tmp_path)
    book.record_usage(KEY, 100)
    assert written(book).needed(KEY) == 100


@pytest.mark.parametrize("other", OTHERS)
def test_another_runtime_version_model_or_setting_needs_something_else(
    book: UsageStore, other: UsageKey
) -> None:
    book.record_usage(KEY, 100)
    assert book.needed(other) is None


def test_more_is_expected_at_once_and_less_by_and_by(book: UsageStore) -> None:
    book.record_usage(KEY, 100)
    book.record_usage(KEY, 200)
    assert book.needed(KEY) == 200
    book.record_usage(KEY, 100)
    assert book.needed(KEY) == int(200 * DECAY_FACTOR)
    for _ in range(10):
        book.record_usage(KEY, 100)
    assert book.needed(KEY) == 100


def test_of_too_many_those_are_forgotten_that_were_learnt_first(tmp_path: Path) -> None:
    book = UsageStore(tmp_path)
    keys = [UsageKey("", "", f"m{number}") for number in range(MAX_ENTRIES + 1)]
    book._write = lambda: None  # type: ignore[method-assign]
    for key in keys[:-1]:
        book.record_usage(key, 1)
    assert all(book.needed(key) == 1 for key in keys[:-1]), "so many are kept"
    book.record_usage(keys[0], 2)
    book.record_usage(keys[-1], 1)
    assert book.needed(keys[1]) is None
    assert book.needed(keys[0]) == 2
    assert book.needed(keys[-1]) == 1


def test_half_of_what_loads_took_is_the_last_one(tmp_path: Path) -> None:
    book = UsageStore(tmp_path)
    assert book.load_seconds(KEY) is None
    book.record_load(KEY, 10.0)
    book.record_load(KEY, 60.0)
    assert book.load_seconds(KEY) == 35.0
    assert [book.load_seconds(other) for other in OTHERS] == [None] * len(OTHERS)
    assert written(book).load_seconds(KEY) == 35.0


def test_a_small_change_of_loads_is_known_and_many_of_them_are_written(tmp_path: Path) -> None:
    book = UsageStore(tmp_path)
    book.record_load(KEY, 10.0)
    book.record_load(KEY, 11.0)
    assert book.load_seconds(KEY) == 10.5
    assert written(book).load_seconds(KEY) == 10.0, "the change is too small to be written"
    book = UsageStore(tmp_path)
    for _ in range(10):
        book.record_load(KEY, 11.5)
    assert book.load_seconds(KEY) == pytest.approx(11.5, abs=0.01)
    assert written(book).load_seconds(KEY) == pytest.approx(11.5, rel=LOAD_STEP_SHARE)
    assert UsageStore(tmp_path).load_seconds(KEY) != 10.0


def test_a_load_in_no_time_is_not_written_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr(UsageStore, "_replace", lambda _, content: writes.append(content))
    book = UsageStore(tmp_path)
    for seconds in (0.03, 0.04, 0.02):
        book.record_load(KEY, seconds)
    book.close()
    assert len(writes) == 1
    assert 0 < (book.load_seconds(KEY) or 0.0) < 0.04


def test_a_disk_that_hangs_holds_up_nobody_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    replace = UsageStore._replace

    def hang(book: UsageStore, content: bytes) -> None:
        answers.wait()
        replace(book, content)

    monkeypatch.setattr(UsageStore, "_replace", hang)
    book = UsageStore(tmp_path)
    book.record_usage(KEY, 100)
    book.record_load(KEY, 3.0)
    assert (book.needed(KEY), book.load_seconds(KEY)) == (100, 3.0)
    assert not (tmp_path / "expectations.json").exists()
    answers.set()
    assert (written(book).needed(KEY), UsageStore(tmp_path).load_seconds(KEY)) == (100, 3.0)


def test_what_an_earlier_version_wrote_is_read_and_what_it_needed_is_kept(tmp_path: Path) -> None:
    (tmp_path / "expectations.json").write_text('{"version": 1, "needed": {"a": 5}}')
    book = UsageStore(tmp_path)
    book.record_load(KEY, 3.0)
    book.close()
    kept = json.loads((tmp_path / "expectations.json").read_text())
    assert kept == {"version": 1, "needed": {"a": 5}, "seconds": {KEY.digest: 3.0}}


@pytest.mark.parametrize("seconds", [-1.0, 1e12, "3", True, None])
def test_what_a_load_took_is_a_time_that_there_may_be(tmp_path: Path, seconds: object) -> None:
    content = {"version": 1, "needed": {}, "seconds": {KEY.digest: seconds}}
    (tmp_path / "expectations.json").write_text(json.dumps(content))
    assert UsageStore(tmp_path).load_seconds(KEY) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "needed": {"a": "b"}}', "\x00"]
)
def test_a_damaged_book_is_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "expectations.json").write_text(content)
    book = UsageStore(tmp_path)
    assert book.needed(KEY) is None
    book.record_usage(KEY, 5)
    assert written(book).needed(KEY) == 5


@pytest.mark.parametrize(
    ("needed", "is_read"),
    [(0, True), (MAX_NEEDED_BYTES, True)]
    + [(wrong, False) for wrong in (-1, MAX_NEEDED_BYTES + 1, 0.5, True, None)],
)
def test_what_earlier_runs_needed_is_a_number_of_bytes_that_there_may_be(
    tmp_path: Path, needed: object, is_read: bool
) -> None:
    content = {"version": 1, "needed": {KEY.digest: needed}}
    (tmp_path / "expectations.json").write_text(json.dumps(content))
    with capture_logs() as logs:
        assert UsageStore(tmp_path).needed(KEY) == (needed if is_read else None)
    assert len(logs) == (0 if is_read else 1)


def test_that_what_runs_needed_cannot_be_written_is_logged_once_each_time(tmp_path: Path) -> None:
    book = UsageStore(tmp_path / "none")
    with capture_logs() as logs:
        for content in (b"5", b"6"):
            book._replace(content)
        assert len(logs) == 1
        (tmp_path / "none").mkdir()
        book._replace(b"7")
        shutil.rmtree(tmp_path / "none")
        book._replace(b"8")
    assert [line["event"] for line in logs] == ["cannot write what runs needed"] * 2


def test_where_the_disk_fails_it_is_known_all_the_same(tmp_path: Path) -> None:
    book = UsageStore(tmp_path / "none")
    book.record_usage(KEY, 5)
    assert book.needed(KEY) == 5
    book.close()


def test_larger_weights_need_more(tmp_path: Path) -> None:
    assert estimate_bytes(2 * 10**9) > estimate_bytes(10**9) > 10**9


@pytest.mark.parametrize("kind", ["fifo", "link", "deep", "directory"])
def test_what_stands_in_its_place_holds_nobody_up_and_is_not_touched(
    tmp_path: Path, kind: str
) -> None:
    path, precious = tmp_path / "expectations.json", tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "expectations.tmp").symlink_to(precious)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(precious)
        case "deep":
            path.write_text("[" * 100_000)
        case _:
            path.mkdir()
    book = UsageStore(tmp_path)
    key = UsageKey("r", "1", "m")
    assert book.needed(key) is None
    book.record_usage(key, 5)
    book.close()
    assert book.needed(key) == 5
    assert precious.read_text() == "kept"
