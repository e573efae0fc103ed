"""Takeover of a state directory, by real locks, signals and processes."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool_service.adapters.state_dir import takeover
from pool_service.adapters.state_dir.directory_lock import (
    StateDir,
    StateDirError,
    StateDirHeld,
)
from pool_service.adapters.state_dir.holder import LOCK
from pool_service.adapters.state_dir.takeover import (
    CLAIM,
    GUARD_MODULE,
    LEAVE_SIGNAL,
    _guard_pids,
    is_claimed,
    make_claimable,
    take,
    take_back,
    take_over,
)
from pool_service.core.types import Identity

# Holds a state directory as a guard does; ends with SIGTERM unless it is told to ignore that.
GUARD = """
import fcntl, json, os, signal, sys
directory, notes, ignores = sys.argv[1], sys.argv[2] == "notes", sys.argv[3] == "ignores"
if ignores:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
locks = [os.open(directory, os.O_RDONLY), os.open(directory + "/lock", os.O_RDWR | os.O_CREAT)]
for lock in locks:
    fcntl.flock(lock, fcntl.LOCK_EX)
note = {"pid": os.getpid(), "addresses": [], "doing": "is the guard"} if notes else {}
os.write(locks[1], json.dumps(note).encode())
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@contextmanager
def guard(
    state_dir: Path, *, notes: bool = True, ignores: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    words = ("notes" if notes else "", "ignores" if ignores else "")
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", GUARD, str(state_dir), *words, GUARD_MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"holds\n"
        yield process
        process.kill()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The requests to leave that this process has got, as the service that holds the directory."""
    monkeypatch.setattr(takeover, "REPEAT_REQUEST_S", 0.0)
    requests = list[int]()
    before = signal.signal(LEAVE_SIGNAL, lambda number, _frame: requests.append(number))
    yield requests
    signal.signal(LEAVE_SIGNAL, before)


@contextmanager
def claimed(state_dir: Path) -> Iterator[int]:
    make_claimable(state_dir)
    descriptor = os.open(state_dir / CLAIM, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    with contextlib.suppress(OSError):
        os.close(descriptor)


def soon(step: Callable[[], object]) -> threading.Thread:
    """Do that while this thread waits."""
    thread = threading.Timer(0.05, step)
    thread.start()
    return thread


# --- the claim ----------------------------------------------------------------------------


def test_there_is_a_claim_while_another_service_has_its_lock(state_dir: Path) -> None:
    assert not is_claimed(state_dir)
    make_claimable(state_dir)
    assert (state_dir / CLAIM).is_file()
    assert not is_claimed(state_dir)
    with claimed(state_dir):
        assert is_claimed(state_dir)
    assert not is_claimed(state_dir)


def test_a_service_that_takes_over_has_the_claim_until_it_serves(state_dir: Path) -> None:
    state = take_over(state_dir)
    assert is_claimed(state_dir)
    state.release_claim()
    assert not is_claimed(state_dir)
    state.close()


def test_where_there_can_be_no_claim_it_is_take_over_without(state_dir: Path) -> None:
    (state_dir / CLAIM).mkdir()
    make_claimable(state_dir)
    assert not is_claimed(state_dir)
    take_over(state_dir).close()


def test_a_file_system_without_locks_has_no_claim(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_claimable(state_dir)

    def refused(*_: object) -> None:
        raise OSError("no locks")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        assert not is_claimed(state_dir)
        assert takeover._take_claim(state_dir, time.monotonic() + 60) is None


def test_of_two_that_take_over_the_second_is_refused_after_its_time(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "TAKEOVER_TIMEOUT_S", 0.05)
    before = os.dup(0)
    os.close(before)
    with (
        claimed(state_dir),
        pytest.raises(StateDirError, match=r"another service is taking .* over at present"),
    ):
        take_over(state_dir)
    after = os.dup(0)
    os.close(after)
    assert after == before, "no descriptor is left"


def test_a_claim_that_comes_free_in_time_is_taken(state_dir: Path) -> None:
    with claimed(state_dir) as descriptor:
        thread = soon(lambda: fcntl.flock(descriptor, fcntl.LOCK_UN))
        take_over(state_dir).close()
        thread.join()


# --- from a service -----------------------------------------------------------------------


def test_a_service_that_serves_keeps_another_one_out_at_once(
    state_dir: Path, asked: list[int]
) -> None:
    with StateDir(state_dir) as state:
        state.announce(["127.0.0.1:50051"])
        began = time.monotonic()
        with pytest.raises(StateDirHeld):
            take(state_dir)
        assert time.monotonic() - began < takeover.SETTLE_S
    assert asked == [], "it is asked for nothing"


def test_a_service_that_is_to_be_replaced_is_asked_until_it_leaves(
    state_dir: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir(state_dir)
    state.announce(["127.0.0.1:50051"])
    pause = time.sleep

    def paused(seconds: float) -> None:
        if len(asked) == 3:
            state.close()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", paused)
    take_over(state_dir).close()
    assert asked == [LEAVE_SIGNAL] * 3


def test_a_service_is_not_asked_again_before_its_time(
    state_dir: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "REPEAT_REQUEST_S", 1000.0)
    monkeypatch.setattr(takeover, "TAKEOVER_TIMEOUT_S", 0.1)
    with StateDir(state_dir) as state:
        state.announce(["127.0.0.1:50051"])
        with pytest.raises(StateDirError, match=r"asked to leave 0\.1 s ago and has not"):
            take_over(state_dir)
    assert asked == [LEAVE_SIGNAL]
    assert not is_claimed(state_dir)


def test_a_service_that_does_not_say_yet_that_it_serves_has_time_to_do_so(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "SETTLE_S", 0.1)
    began = time.monotonic()
    with StateDir(state_dir), pytest.raises(StateDirHeld):
        take(state_dir)
    assert time.monotonic() - began > 0.1


def test_a_holder_that_is_just_ending_is_waited_for(state_dir: Path) -> None:
    state = StateDir(state_dir)
    thread = soon(state.close)
    take(state_dir).close()
    thread.join()


@pytest.mark.parametrize("pid", [1, 0, -1, 2**40])
def test_a_service_that_has_the_lock_not_open_is_not_asked(
    state_dir: Path, asked: list[int], pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "TAKEOVER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(takeover, "SETTLE_S", 0.0)

    def refused(*_: object) -> None:
        raise AssertionError("nobody is to be signalled")

    with StateDir(state_dir):
        note = {"pid": pid, "addresses": ["127.0.0.1:50051"]}
        (state_dir / LOCK).write_text(json.dumps(note))
        monkeypatch.setattr(os, "kill", refused)
        with pytest.raises(StateDirError):
            take_over(state_dir)
    assert asked == []


def test_a_service_of_another_user_cannot_be_replaced(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    with StateDir(state_dir) as state:
        state.announce(["127.0.0.1:50051"])
        with pytest.raises(StateDirError, match="belongs to another user"):
            take_over(state_dir)


def test_a_service_that_has_just_ended_is_not_missed(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir(state_dir)
    state.announce(["127.0.0.1:50051"])

    def ended(*_: object) -> None:
        state.close()
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", ended)
    take_over(state_dir).close()


# --- back again ---------------------------------------------------------------------------


def test_a_service_that_has_left_serves_again_if_the_other_one_goes(state_dir: Path) -> None:
    with claimed(state_dir) as descriptor:
        thread = soon(lambda: os.close(descriptor))
        state = take_back(state_dir)
        assert state is not None
        assert not thread.is_alive() or not is_claimed(state_dir)
        state.close()
        thread.join()


def test_a_service_that_has_left_does_not_serve_beside_the_other_one(state_dir: Path) -> None:
    with StateDir(state_dir) as state:
        state.announce(["127.0.0.1:50051"])
        assert take_back(state_dir) is None


# --- from a guard -------------------------------------------------------------------------


@pytest.mark.parametrize("by", [take, take_over])
def test_a_guard_that_says_so_is_ended(state_dir: Path, by: Callable[[Path], StateDir]) -> None:
    with guard(state_dir) as process:
        by(state_dir).close()
        assert process.wait() == -signal.SIGTERM


def test_a_guard_that_is_stopped_is_ended(state_dir: Path) -> None:
    with guard(state_dir) as process:
        process.send_signal(signal.SIGSTOP)
        take(state_dir).close()
        assert process.wait() == -signal.SIGTERM


def test_a_guard_that_could_not_note_itself_is_found_by_its_command_line(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "SETTLE_S", 0.05)
    with guard(state_dir, notes=False) as process:
        assert list(_guard_pids(state_dir)) == [process.pid]
        assert list(_guard_pids(state_dir.parent)) == []
        take(state_dir).close()
        assert process.wait() == -signal.SIGTERM


def test_a_guard_that_ignores_sigterm_is_killed_after_its_time(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "GUARD_TIMEOUT_S", 0.1)
    began = time.monotonic()
    with guard(state_dir, ignores=True) as process:
        take(state_dir).close()
        assert process.wait() == -signal.SIGKILL
    assert time.monotonic() - began > 0.1


def test_a_guard_is_told_to_end_then_killed_then_left_each_after_its_time(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[tuple[Identity, int]]()
    monkeypatch.setattr(takeover, "_signal", lambda *told: sent.append(told))
    monkeypatch.setattr(takeover, "GUARD_TIMEOUT_S", 10.0)
    taking, held = takeover._Taking(state_dir), StateDirHeld("held")
    one, other = Identity(7, 1, "boot"), Identity(8, 1, "boot")
    ends = [(one, signal.SIGTERM), (one, signal.SIGCONT)]
    taking._end_guard(one, 100.0, held)
    taking._end_guard(one, 110.0, held)
    assert sent == ends
    taking._end_guard(one, 110.5, held)
    taking._end_guard(one, 120.0, held)
    assert sent == [*ends, (one, signal.SIGKILL), (one, signal.SIGKILL)]
    with pytest.raises(StateDirHeld):
        taking._end_guard(one, 120.5, held)
    taking._end_guard(other, 120.5, held)
    assert sent[4:] == [(other, signal.SIGTERM), (other, signal.SIGCONT)]


def test_when_its_guard_has_ended_the_next_holder_has_time_to_note_itself(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "SETTLE_S", 0.0)
    with guard(state_dir) as process:
        taking = takeover._Taking(state_dir)
        taking._make_leave(StateDirHeld("held", guard_pid=process.pid))
        assert process.wait() == -signal.SIGTERM
        monkeypatch.setattr(takeover, "SETTLE_S", 1000.0)
        nobody = StateDirHeld("held")
        taking._make_leave(nobody)
        taking._make_leave(nobody)
        monkeypatch.setattr(taking, "_settles_at", 0.0)
        with pytest.raises(StateDirHeld):
            taking._make_leave(nobody)


def test_the_time_of_a_takeover_ends_after_its_last_moment_and_the_search_for_guards_begins_at_it(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, searches = time.monotonic(), list[Path]()

    def none_found(path: Path) -> list[int]:
        searches.append(path)
        return []

    monkeypatch.setattr(takeover, "_guard_pids", none_found)
    taking = takeover._Taking(state_dir)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for begins_in, searched in ((0.001, 0), (0.0, 1)):
            taking._settles_at, taking._replace_until = now + begins_in, now
            taking._make_leave(StateDirHeld("held"))
            assert len(searches) == searched


def test_between_two_tries_a_claim_is_left_alone(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = takeover._take_claim(state_dir, time.monotonic())
    assert holder is not None
    monkeypatch.setattr(time, "sleep", lambda _: os.close(holder))
    claim = takeover._take_claim(state_dir, time.monotonic() + 1.0)
    assert claim is not None
    os.close(claim)


def test_a_service_is_asked_to_leave_again_from_its_moment_on(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = time.monotonic(), list[int]()
    taking = takeover._Taking(state_dir)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        patch.setattr(takeover, "_ask_to_leave", asked.append)
        patch.setattr(takeover, "holding_process", lambda _, pid: Identity(pid, 1, "boot"))
        taking._replace_until, taking._next_request_at = now, now
        for _ in range(2):
            taking._make_leave(StateDirHeld("held", serving_pid=7))
        assert asked == [7]
