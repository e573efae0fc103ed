"""The guard's lock: who gives way to whom, by real locks and by processes that hold them."""

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.process.identity import MAX_PID, identity_of
from pool_service.adapters.state_dir import guard_lock
from pool_service.adapters.state_dir.guard_lock import (
    GUARD_LOCK,
    _is_unneeded,
    _is_younger,
    _read_holder,
    end_guard,
    take_if_free,
    take_over,
)
from pool_service.adapters.system.own_files import SET_ASIDE
from pool_service.core.types import Identity

# Holds the lock that it is named; ends with SIGTERM unless it is told to ignore that.
HOLDER = """
import fcntl, signal, sys
if sys.argv[2:]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def me() -> Identity:
    identity = identity_of(os.getpid())
    assert identity is not None
    return identity


def younger() -> Identity:
    return replace(me(), start_time=me().start_time + 1)


def older() -> Identity:
    return replace(me(), start_time=me().start_time - 1)


def note(directory: Path, holder: Identity, **more: Any) -> None:  # noqa: ANN401 - any JSON
    (directory / GUARD_LOCK).write_text(json.dumps(asdict(holder) | more))


def noted(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / GUARD_LOCK).read_text())
    return content


def is_free(directory: Path) -> bool:
    with (directory / GUARD_LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """The lock, held by another descriptor of this process."""
    with (directory / GUARD_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def holder(directory: Path, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that holds the lock, and has noted that."""
    lock = directory / GUARD_LOCK
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", HOLDER, str(lock), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        identity = identity_of(process.pid)
        assert identity
        note(directory, identity)
        yield process
        process.kill()


# --- taking it ----------------------------------------------------------------------------


@pytest.mark.parametrize("take", [take_over, take_if_free])
def test_a_free_lock_is_taken_and_its_holder_noted(tmp_path: Path, take: Any) -> None:  # noqa: ANN401
    descriptor = take(tmp_path)
    assert descriptor is not None
    assert noted(tmp_path) == asdict(me()) | {"needed": True}
    assert not is_free(tmp_path)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    assert is_free(tmp_path), "no other descriptor holds it"


def test_a_lock_that_is_held_is_not_waited_for_by_a_guard_that_comes_last(tmp_path: Path) -> None:
    with held(tmp_path):
        note(tmp_path, older())
        assert take_if_free(tmp_path) is None
        assert noted(tmp_path) == asdict(older())


@pytest.mark.parametrize(("of", "taken"), [(younger, False), (older, True), (me, True)])
def test_a_guard_leaves_a_lock_to_a_younger_one_though_that_has_ended(
    tmp_path: Path,
    of: Any,  # noqa: ANN401 - one of the three
    taken: bool,
) -> None:
    note(tmp_path, of())
    descriptor = take_over(tmp_path)
    assert (descriptor is not None) is taken
    if descriptor is not None:
        os.close(descriptor)
    assert noted(tmp_path) == (asdict(me()) | {"needed": True} if taken else asdict(younger()))


def test_a_lock_that_a_younger_guard_has_is_not_waited_for(tmp_path: Path) -> None:
    with held(tmp_path):
        note(tmp_path, younger())
        assert take_over(tmp_path) is None


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_guard_ends_the_one_before_it(tmp_path: Path, is_stopped: bool) -> None:
    with holder(tmp_path) as process:
        if is_stopped:
            process.send_signal(signal.SIGSTOP)
        end_guard(tmp_path, None)
        assert process.wait() == -signal.SIGTERM
    assert noted(tmp_path) == asdict(me()) | {"needed": False}


def started(process: "subprocess.Popen[bytes]") -> int:
    identity = identity_of(process.pid)
    assert identity is not None
    return identity.start_time


def ends_by_itself(process: "subprocess.Popen[bytes]") -> bool:
    """Let a holder end, and return whether no signal had ended it before."""
    assert process.stdin
    process.stdin.close()
    return process.wait() == 0


def test_a_guard_that_does_not_end_is_told_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_lock, "END_TIMEOUT_S", 0.05)
    with holder(tmp_path, "ignores") as process:
        with pytest.raises(TimeoutError, match=f"{GUARD_LOCK} and does not end"):
            end_guard(tmp_path, None)
        assert process.poll() is None
        assert noted(tmp_path)["pid"] == process.pid


def test_a_process_that_the_note_names_and_that_has_not_the_lock_open_is_not_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_lock, "END_TIMEOUT_S", 0.0)
    with held(tmp_path), holder_elsewhere(tmp_path) as stranger:
        note(tmp_path, Identity(stranger.pid, started(stranger), me().boot_id))
        with pytest.raises(TimeoutError):
            end_guard(tmp_path, None)
        assert ends_by_itself(stranger)


@contextmanager
def holder_elsewhere(directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    other = directory / "elsewhere"
    other.mkdir()
    with holder(other) as process:
        yield process


def test_an_earlier_process_with_the_pid_is_not_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_lock, "END_TIMEOUT_S", 0.0)
    with holder(tmp_path) as process:
        note(tmp_path, Identity(process.pid, started(process) - 1, me().boot_id))
        with pytest.raises(TimeoutError):
            end_guard(tmp_path, None)
        assert ends_by_itself(process)


@pytest.mark.parametrize("timeout", [60.0, math.inf])
def test_a_lock_that_is_free_is_taken_without_a_wait(tmp_path: Path, timeout: float) -> None:
    with (tmp_path / GUARD_LOCK).open("a") as file:
        guard_lock._await_lock(file.fileno(), timeout)
        assert not is_free(tmp_path)


def test_between_two_tries_a_lock_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as holding, (tmp_path / GUARD_LOCK).open("a") as file:
        holding.enter_context(held(tmp_path))
        monkeypatch.setattr(time, "sleep", lambda _: holding.close())
        guard_lock._await_lock(file.fileno(), 1.0)
        assert not is_free(tmp_path)


def test_with_no_time_left_a_lock_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slept(_: float) -> None:
        raise AssertionError

    now = time.monotonic()
    with held(tmp_path), (tmp_path / GUARD_LOCK).open("a") as file, monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        patch.setattr(time, "sleep", slept)
        with pytest.raises(TimeoutError):
            guard_lock._await_lock(file.fileno(), 0.0)


# --- what is noted ------------------------------------------------------------------------


def test_a_service_notes_the_youngest_guard_that_it_has_started(tmp_path: Path) -> None:
    end_guard(tmp_path, younger())
    assert noted(tmp_path) == asdict(younger()) | {"needed": False}


@pytest.mark.parametrize(
    ("of", "more", "is_unneeded"),
    [
        (younger, {"needed": False}, True),
        (younger, {"needed": True}, False),
        (younger, {}, False),
        (younger, {"needed": 0}, False),
        (me, {"needed": False}, False),
        (older, {"needed": False}, False),
    ],
)
def test_a_guard_is_not_needed_if_a_later_service_says_so(
    tmp_path: Path,
    of: Any,  # noqa: ANN401 - one of the three
    more: dict[str, Any],
    is_unneeded: bool,
) -> None:
    note(tmp_path, of(), **more)
    with (tmp_path / GUARD_LOCK).open() as file:
        assert _is_unneeded(file.fileno(), me()) is is_unneeded
    descriptor = take_if_free(tmp_path)
    assert (descriptor is None) is is_unneeded
    if descriptor is not None:
        os.close(descriptor)


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 4096, b"null"])
def test_a_note_that_nobody_wrote_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / GUARD_LOCK).write_bytes(content)
    with (tmp_path / GUARD_LOCK).open() as file:
        assert _read_holder(file.fileno()) is None
        assert not _is_unneeded(file.fileno(), me())


@pytest.mark.parametrize(
    ("pid", "start_time", "boot_id", "counts"),
    [
        (2, 0, "boot", True),
        (MAX_PID, 5, "", True),
        (MAX_PID + 1, 5, "boot", False),
        (1, 5, "boot", False),
        (0, 5, "boot", False),
        (-7, 5, "boot", False),
        (True, 5, "boot", False),
        ("7", 5, "boot", False),
        (7, 5.0, "boot", False),
        (7, None, "boot", False),
        (7, 5, None, False),
    ],
)
def test_a_holder_is_a_process_that_there_may_be(
    tmp_path: Path, pid: object, start_time: object, boot_id: object, counts: bool
) -> None:
    told = {"pid": pid, "start_time": start_time, "boot_id": boot_id}
    (tmp_path / GUARD_LOCK).write_text(json.dumps(told))
    with (tmp_path / GUARD_LOCK).open() as file:
        found = _read_holder(file.fileno())
    assert (found is not None) is counts
    assert found is None or asdict(found) == told


@pytest.mark.parametrize(
    ("one", "other", "is_younger"),
    [
        (Identity(7, 6, "boot"), Identity(9, 5, "boot"), True),
        (Identity(7, 5, "boot"), Identity(9, 5, "boot"), False),
        (Identity(7, 4, "boot"), Identity(9, 5, "boot"), False),
        (Identity(7, 6, "another"), Identity(9, 5, "boot"), False),
        (None, Identity(9, 5, "boot"), False),
        (Identity(7, 6, "boot"), None, False),
    ],
)
def test_younger_is_who_started_later_on_the_same_boot(
    one: Identity | None, other: Identity | None, is_younger: bool
) -> None:
    assert _is_younger(one, other) is is_younger


# --- the file -----------------------------------------------------------------------------


def test_what_stands_in_its_place_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / GUARD_LOCK).symlink_to("precious")
    descriptor = take_over(tmp_path)
    assert descriptor is not None
    os.close(descriptor)
    assert (tmp_path / GUARD_LOCK).with_suffix(SET_ASIDE).is_symlink()
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize(
    ("number", "can_be_locked"),
    [(errno.EROFS, True), (errno.EACCES, True), (errno.ENOSPC, True), (errno.EIO, False)],
)
def test_a_lock_that_cannot_be_written_can_be_locked_all_the_same(
    tmp_path: Path, number: int, can_be_locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(tmp_path, older())
    opened = os.open

    def refused(path: str, flags: int, *more: int, **options: Any) -> int:  # noqa: ANN401 - as open's
        if flags & os.O_RDWR:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refused)
    if not can_be_locked:
        with pytest.raises(OSError, match=os.strerror(number)):
            take_over(tmp_path)
        return
    descriptor = take_over(tmp_path)
    monkeypatch.undo()
    assert descriptor is not None
    assert not is_free(tmp_path)
    assert noted(tmp_path) == asdict(older()), "that is all that can be known"
    os.close(descriptor)
