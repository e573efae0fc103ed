"""Keeping a guard, with a shell in the place of the guard's own program."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.state_dir import guard_keeper
from pool_service.adapters.state_dir.guard_keeper import GUARD_LOG, GuardKeeper
from pool_service.core.types import Identity

# Notes its pid and its arguments, and ends with its input.
WAITS = 'echo "guard $$ $*"; while read -r line; do :; done; exit 7'
MAX_CONCURRENT_DOWNLOADS = 0.001


class Keeper(GuardKeeper):
    """One whose guard is a shell, and whose sentry would become one."""

    script = WAITS

    def _command(self) -> tuple[str, ...]:
        return ("/bin/sh", "-c", self.script, "sh")

    @property
    def sentry(self) -> Identity | None:
        return self._sentry.identity if self._sentry else None


def keeper(state_dir: Path, **more: object) -> Keeper:
    pauses = {"first_pause_s": MAX_CONCURRENT_DOWNLOADS, "max_pause_s": MAX_CONCURRENT_DOWNLOADS}
    return Keeper(state_dir, 60.0, **(pauses | more))  # type: ignore[arg-type]


async def another(one: Keeper, before: int | None) -> int:
    """The pid of the next guard."""
    async with asyncio.timeout(60):
        while one.guard_pid in (None, before):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    assert one.guard_pid
    return one.guard_pid


def alive(pid: int | None) -> Identity:
    identity = identity_of(pid) if pid else None
    assert identity is not None
    assert is_alive(identity)
    return identity


@pytest.fixture
async def left() -> AsyncIterator[list[Identity]]:
    """The guards and sentries that keepers leave; they are ended after the test."""
    identities: list[Identity] = []
    yield identities
    for identity in identities:
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGKILL)
    for identity in identities:
        await wait_for_exit(exit_watch(), identity)
        with suppress(ChildProcessError):
            os.waitpid(identity.pid, 0)  # noqa: ASYNC222  # it has ended


Left = list[Identity]


async def test_a_guard_stays_when_its_service_ends_and_sees_that_by_its_input(
    tmp_path: Path, left: Left
) -> None:
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            guard, sentry = alive(one.guard_pid), one.sentry
            assert sentry is not None
            assert left == []
    assert left == [guard, sentry]
    assert [line["pid"] for line in logs if line["event"] == "leaving the guard"] == [guard.pid]
    await wait_for_exit(exit_watch(), guard)
    _, status = os.waitpid(guard.pid, 0)  # noqa: ASYNC222  # it has ended
    assert os.waitstatus_to_exitcode(status) == 7
    log = (tmp_path / GUARD_LOG).read_text()
    assert log.startswith(f"guard {guard.pid} --sentry ")


async def test_what_an_earlier_keeper_left_is_reaped_by_the_next(
    tmp_path: Path, left: Left
) -> None:
    async with keeper(tmp_path, left=left):
        pass
    guard = left[0]
    async with keeper(tmp_path, left=left), asyncio.timeout(60):
        while guard in left:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        assert identity_of(guard.pid) != guard, "it is no zombie any more"


async def test_a_guard_that_was_killed_is_followed_by_another_and_that_is_logged(
    tmp_path: Path, left: Left
) -> None:
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            sentry, guard = one.sentry, alive(one.guard_pid)
            os.kill(guard.pid, signal.SIGKILL)
            alive(await another(one, guard.pid))
            assert one.sentry == sentry, "its sentry lives and serves the next one"
            assert identity_of(guard.pid) != guard, "it was reaped"
    (ended,) = [line for line in logs if "has ended; starting another" in line["event"]]
    assert ended["event"] == "the guard has ended; starting another"
    assert (ended["status"], ended["log"]) == (-signal.SIGKILL, str(tmp_path / GUARD_LOG))


async def test_a_sentry_that_was_killed_is_followed_by_another_with_another_guard(
    tmp_path: Path, left: Left
) -> None:
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            sentry, guard = one.sentry, alive(one.guard_pid)
            assert sentry is not None
            os.kill(sentry.pid, signal.SIGKILL)
            alive(await another(one, guard.pid))
            assert one.sentry not in (None, sentry)
            assert one.sentry is not None
            assert is_alive(one.sentry)
            assert not is_alive(guard)
    events = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert events == ["the guard's sentry has ended; starting another, and another guard"]


async def test_a_sentry_that_has_ended_is_reaped_and_followed_and_one_that_lives_stays(
    tmp_path: Path, left: Left
) -> None:
    async with keeper(tmp_path, left=left) as one:
        first = one.sentry
        assert first is not None
        await one._stop_keeping()
        os.kill(first.pid, signal.SIGKILL)
        await wait_for_exit(exit_watch(), first)
        with guard_keeper._log_of(tmp_path) as output:
            one._start_sentry(output)
            second = one.sentry
            assert second not in (None, first)
            assert identity_of(first.pid) != first
            one._start_sentry(output)
            assert one.sentry == second


async def test_when_no_server_is_left_guard_and_sentry_end(tmp_path: Path, left: Left) -> None:
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            guard, sentry = alive(one.guard_pid), one.sentry
            assert sentry is not None
            os.kill(guard.pid, signal.SIGSTOP)
            await one.dismiss()
            assert one.guard_pid is None
            for ended in (guard, sentry):
                assert identity_of(ended.pid) != ended
    assert left == []
    assert logs == []
    assert f'"pid": {guard.pid}' in (tmp_path / "guard.lock").read_text()


@pytest.mark.parametrize("grace", [0.0, 1.0])
async def test_without_grace_there_is_no_guard_and_an_earlier_one_is_ended(
    tmp_path: Path, left: Left, grace: float
) -> None:
    async with Keeper(tmp_path, grace, left=left) as one:
        assert (one.guard_pid is None) is (grace == 0)
        assert (tmp_path / "guard.lock").exists() is (grace == 0)


async def test_a_guard_that_cannot_be_started_is_tried_again(
    tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn, failures = guard_keeper._spawn, [OSError("no processes"), OSError("no processes")]

    def spawned(*given: object) -> object:
        if failures:
            raise failures.pop()
        return spawn(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(guard_keeper, "_spawn", spawned)
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            assert one.guard_pid is None
            alive(await another(one, None))
    told = [(line["event"], line.get("error")) for line in logs if "error" in line]
    assert told == [("cannot start a guard; trying again", "no processes")] * 2


async def test_without_a_sentry_there_is_a_guard_all_the_same(
    tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no shell")

    monkeypatch.setattr("pool_service.adapters.state_dir.guard_sentry.start", refused)
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            guard = alive(one.guard_pid)
            assert one.sentry is None
            os.kill(guard.pid, signal.SIGKILL)
            await another(one, guard.pid)
    assert logs[0]["event"] == "cannot start the guard's sentry"
    await wait_for_exit(exit_watch(), left[0])
    assert "--sentry" not in (tmp_path / GUARD_LOG).read_text()


async def test_a_guard_whose_log_cannot_be_opened_runs_without(tmp_path: Path, left: Left) -> None:
    (tmp_path / GUARD_LOG).mkdir()
    with capture_logs() as logs:
        async with keeper(tmp_path, left=left) as one:
            alive(one.guard_pid)
    assert logs[0]["event"] == "the guard has no log"
    assert list((tmp_path / GUARD_LOG).iterdir()) == []


async def test_the_guards_log_does_not_grow_for_ever(tmp_path: Path, left: Left) -> None:
    log = tmp_path / GUARD_LOG
    log.write_bytes(b"x" * 1023 + b"\n")
    with guard_keeper._log_of(tmp_path):
        assert log.stat().st_size == 1024
    log.write_bytes((b"x" * 1023 + b"\n") * 1024)
    with guard_keeper._log_of(tmp_path) as output:
        assert len(log.read_bytes().lstrip(b"\0")) <= 128 * 1024
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(output)


async def test_an_earlier_guard_that_cannot_be_looked_for_is_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        guard_keeper._end_earlier_guard(tmp_path / "gone", None)
    assert [line["event"] for line in logs] == ["cannot look for a guard of an earlier service"]


async def pauses(monkeypatch: pytest.MonkeyPatch, one: Keeper, lives: list[float]) -> list[float]:
    """The pauses before a guard is started again that has lived so many seconds each time."""
    paused, now, left = list[float](), 0.0, list(lives)

    class Clock:
        def now(self) -> float:
            return now

    class Enough(Exception):
        pass

    async def slept(seconds: float) -> None:
        paused.append(seconds)
        if not left:
            raise Enough

    async def ended(guard: object) -> None:
        nonlocal now
        now += left.pop(0)

    def started() -> None:
        one._guard = guard_keeper._Guard(None, Identity(7, 7, ""), now)  # type: ignore[arg-type]

    monkeypatch.setattr(one, "_clock", Clock())
    monkeypatch.setattr(one, "_await_end", ended)
    monkeypatch.setattr(one, "_start", started)
    started()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", slept)
        with pytest.raises(Enough):
            await one._keep()
    one._guard = None
    return paused


async def test_a_guard_that_keeps_ending_is_started_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Keeper(tmp_path, 60.0, first_pause_s=1.0, max_pause_s=5.0)
    assert await pauses(monkeypatch, one, [1.0] * 5) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert await pauses(monkeypatch, one, [1.0, 1.0, 59.5, 60.0, 1.0]) == [1.0, 2.0, 4.0, 1.0, 2.0]
