import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool_service.adapters.state_dir.directory_lock import (
    StateDir,
    StateDirError,
    StateDirHeld,
    await_free,
)
from pool_service.adapters.state_dir.holder import LOCK
from pool_service.adapters.system.own_files import SET_ASIDE

NOTES = [
    b"",
    b"{",
    b"[]",
    b'{"pid": 1}',
    b"\xff",
    b'{"pid": null}',
    b'{"pid": Infinity, "addresses": []}',
    b'{"pid": 1, "addresses": 1}',
    b'{"pid": 1, "addresses": ["\\u001b[2J"]}',
    b'{"pid": ' + b"9" * 5000 + b', "addresses": []}',
    b"[" * 60_000,
    bytes(4096),
]

HOLDER = """
import sys
from pathlib import Path
from pool_service.adapters.state_dir.directory_lock import StateDir
state = StateDir(Path(sys.argv[1]))
state.announce(["127.0.0.1:50051", "unix:/run/pool.sock"])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def child(*arguments: str, close_fds: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process that lives until it is killed or its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        close_fds=close_fds,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_it_is_made_for_its_user_alone(tmp_path: Path) -> None:
    with StateDir(tmp_path / "a" / "state") as state:
        assert state.path.stat().st_mode & 0o777 == 0o700
        assert (state.path / LOCK).stat().st_mode & 0o777 == 0o600


def test_it_is_taken_again_after_it_was_closed(tmp_path: Path) -> None:
    first = StateDir(tmp_path)
    first.close()
    first.close()
    with StateDir(tmp_path):
        pass


def test_a_second_service_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.announce(["127.0.0.1:50051"])
        for _ in range(2):
            with pytest.raises(StateDirError) as refused:
                StateDir(tmp_path)
            assert str(refused.value) == (
                f"another pool-service (pid {os.getpid()}, listening on 127.0.0.1:50051) uses "
                f"{tmp_path}; stop it, take over from it with --replace, or choose another "
                "--state-dir"
            )


def test_before_the_first_listens_its_pid_is_told(tmp_path: Path) -> None:
    with StateDir(tmp_path), pytest.raises(StateDirError, match=rf"\(pid {os.getpid()}\) uses"):
        StateDir(tmp_path)


def test_a_holder_says_what_it_does_and_what_to_do(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.announce((), doing="tidies up; try again in a moment")
        with pytest.raises(StateDirHeld) as refused:
            StateDir(tmp_path)
    assert str(refused.value) == (
        f"the state directory {tmp_path} is in use: pid {os.getpid()} tidies up; try again in a "
        "moment"
    )


@pytest.mark.parametrize("note", NOTES)
def test_a_second_service_is_refused_whatever_is_in_the_lock(tmp_path: Path, note: bytes) -> None:
    with StateDir(tmp_path):
        (tmp_path / LOCK).write_bytes(note)
        with pytest.raises(StateDirError, match="another pool-service uses"):
            StateDir(tmp_path)


def test_a_shorter_announcement_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.announce(["127.0.0.1:50051", "[::1]:50051"])
        state.announce(["h:1"])
        with pytest.raises(StateDirError, match="listening on h:1\\)"):
            StateDir(tmp_path)


def test_a_refused_service_leaves_no_descriptor(tmp_path: Path) -> None:
    with StateDir(tmp_path):
        before = set(os.listdir("/dev/fd"))  # noqa: PTH208 - the names
        with pytest.raises(StateDirError):
            StateDir(tmp_path)
        assert set(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_the_lock_goes_with_a_killed_holder(tmp_path: Path) -> None:
    with child(HOLDER, str(tmp_path)) as holder:
        with pytest.raises(StateDirError, match=rf"pid {holder.pid}, .*, unix:/run/pool.sock\)"):
            StateDir(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with StateDir(tmp_path):
            pass


def test_no_child_inherits_the_lock(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    waits = "print('held', flush=True); import sys; sys.stdin.read()"
    with child(waits, close_fds=False):
        state.close()
        with StateDir(tmp_path):
            pass


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_can_write_to_is_refused_and_left_alone(
    tmp_path: Path, mode: int
) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(StateDirError, match="chmod go-w it, or choose another --state-dir"):
        StateDir(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StateDirError, match="belongs to another user"):
        StateDir(tmp_path)


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(StateDirError, match="x is a file; choose another --state-dir"):
        StateDir(tmp_path / "x")
    with pytest.raises(StateDirError, match="cannot be used: Not a directory"):
        StateDir(tmp_path / "x" / "y")


def test_where_nothing_can_be_written_it_is_held_all_the_same() -> None:
    # Neither root nor anybody else can make a file there.
    directory = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    with StateDir(directory) as state:
        assert "a second service is not told who uses" in state.degraded_reason
        state.announce(["127.0.0.1:50051"])
        with pytest.raises(StateDirHeld, match="another pool-service uses"):
            StateDir(directory)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_keeps_no_service_from_its_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened = os.open

    def no_room(path: str, flags: int, *more: int, **options: int) -> int:
        if flags & (os.O_CREAT | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", no_room)
    with StateDir(tmp_path) as state:
        assert os.strerror(number) in state.degraded_reason
        with pytest.raises(StateDirHeld):
            StateDir(tmp_path)
    with StateDir(tmp_path):
        pass


def test_a_note_that_cannot_be_written_is_told_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with StateDir(tmp_path) as state:
        assert "No space left on device" in state.degraded_reason
        with pytest.raises(StateDirHeld):
            StateDir(tmp_path)


def test_a_service_of_an_older_version_that_has_the_file_alone_is_a_holder(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")
    with (tmp_path / LOCK).open() as older:
        fcntl.flock(older, fcntl.LOCK_EX)
        with pytest.raises(StateDirHeld):
            StateDir(tmp_path)


def link(lock: Path) -> None:
    lock.symlink_to(lock.with_name("precious"))


def hard_link(lock: Path) -> None:
    lock.hardlink_to(lock.with_name("precious"))


def of_another(lock: Path) -> None:
    lock.write_text("")
    os.chown(lock, 12345, 12345)


@pytest.mark.parametrize("obstacle", [link, hard_link, os.mkfifo, Path.mkdir, of_another])
def test_what_stands_in_place_of_the_lock_is_put_aside_and_not_touched(
    tmp_path: Path, obstacle: Callable[[Path], None]
) -> None:
    if obstacle is of_another and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    (tmp_path / "precious").write_text("kept")
    obstacle(tmp_path / LOCK)
    with StateDir(tmp_path) as state:
        assert state.degraded_reason == ""
        assert (tmp_path / LOCK).is_file()
        with pytest.raises(StateDirHeld, match=rf"pid {os.getpid()}"):
            StateDir(tmp_path)
    assert (tmp_path / f"{LOCK}{SET_ASIDE}").exists()
    assert (tmp_path / "precious").read_text() == "kept"


def test_one_that_others_could_replace_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(StateDirError, match="can be written by everybody; chmod o-w"):
        StateDir(parent / "state")
    parent.chmod(0o1777)
    with StateDir(parent / "state"):
        pass


def test_a_state_directory_is_waited_for_until_nobody_has_it(tmp_path: Path) -> None:
    before = os.dup(0)
    os.close(before)
    await_free(tmp_path)
    state = StateDir(tmp_path)
    waiting = threading.Thread(target=await_free, args=(tmp_path,), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    state.close()
    waiting.join(60)
    assert not waiting.is_alive()
    after = os.dup(0)
    os.close(after)
    assert after == before


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOLCK, "has no locks"), (errno.EOPNOTSUPP, "has no locks"), (errno.EIO, "cannot be")],
)
def test_a_file_system_without_locks_is_told_as_that(
    tmp_path: Path, number: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StateDirError, match=told):
        StateDir(tmp_path)
