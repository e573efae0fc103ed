"""The sentry, a real shell: what ends it, and what it becomes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_service.adapters.state_dir import guard_sentry
from pool_service.adapters.state_dir.guard_sentry import COMMAND_VARIABLE, Sentry, stand_down, start

BECOMES = ("/bin/sh", "-c", f'echo "it is ${COMMAND_VARIABLE}.$HF_TOKEN" there')


@pytest.fixture
def output(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def one(output: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sentry]:
    monkeypatch.setenv("HF_TOKEN", "secret")
    the_sentry = start(BECOMES, output)
    yield the_sentry
    the_sentry.popen.returncode = None
    the_sentry.popen.kill()
    the_sentry.reap()


def said(output: int) -> bytes:
    return os.pread(output, 1000, 0)


def test_a_line_ends_it_without_a_word(one: Sentry, output: int) -> None:
    stand_down(one.pipe)
    assert one.reap() == 0
    assert said(output) == b""


def test_without_a_line_it_becomes_the_command_once_all_ends_are_closed(
    one: Sentry, output: int
) -> None:
    guards = os.dup(one.pipe)
    one.leave()
    assert one.popen.returncode == 0, "Popen does not warn of it"
    assert one.pipe == -1
    one.popen.returncode = None
    assert one.popen.poll() is None, "the guard still has its end"
    os.close(guards)
    assert one.reap() == 0
    assert said(output) == b"it is . there\n", "with neither secrets nor its own variable"


def test_it_leads_a_session_and_its_command_is_no_argument(one: Sentry) -> None:
    assert os.getsid(one.popen.pid) == one.identity.pid == one.popen.pid
    assert not any("echo" in word for word in map(str, one.popen.args))  # type: ignore[arg-type]


def test_it_is_ended_even_if_it_is_stopped(one: Sentry, output: int) -> None:
    os.kill(one.identity.pid, signal.SIGSTOP)
    one.dismiss()
    assert one.popen.returncode == -signal.SIGTERM
    assert one.pipe == -1
    assert said(output) == b""


def test_one_that_is_gone_already_is_stood_down_without_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stand_down(writer)
    os.close(writer)


def test_where_there_is_no_shell_both_ends_are_closed(
    output: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_sentry, "_SHELL", "/nonexistent/sh")
    before = os.dup(0)
    os.close(before)
    with pytest.raises(FileNotFoundError):
        start(BECOMES, output)
    after = os.dup(0)
    os.close(after)
    assert after == before
