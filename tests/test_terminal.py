"""Whether the terminal is gone at which the service was started."""

import fcntl
import os
import pty
from collections.abc import Iterator

import psutil
import pytest

from pool_service import shutdown
from pool_service.shutdown import has_hung_up, open_terminal


class Terminal:
    """Its two ends."""

    def __init__(self) -> None:
        self.ours, self.its = pty.openpty()
        self.name = os.ttyname(self.its)
        self.is_open = True

    def close(self) -> None:
        """As a window that is closed."""
        if self.is_open:
            self.is_open = False
            os.close(self.ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """One whose session's leader goes on: this process is of another."""
    one = Terminal()
    monkeypatch.setattr(psutil.Process, "terminal", lambda _: one.name)
    monkeypatch.setattr(shutdown, "TERMINAL", one.name)
    yield one
    one.close()
    os.close(one.its)


@pytest.fixture
def kept(terminal: Terminal) -> Iterator[int]:
    descriptor = open_terminal()
    assert descriptor is not None
    yield descriptor
    os.close(descriptor)


def test_a_terminal_at_which_somebody_is_has_not_hung_up(terminal: Terminal, kept: int) -> None:
    assert not has_hung_up(kept)
    os.write(terminal.ours, b"typed\n")
    assert not has_hung_up(kept)


def test_a_terminal_that_was_closed_has_hung_up(terminal: Terminal, kept: int) -> None:
    terminal.close()
    assert has_hung_up(kept)


def test_a_terminal_is_opened_without_waiting_and_for_no_child(
    terminal: Terminal, kept: int
) -> None:
    assert os.ttyname(kept) == terminal.name
    assert fcntl.fcntl(kept, fcntl.F_GETFL) & os.O_NONBLOCK
    assert not os.get_inheritable(kept)


def test_where_its_device_may_not_be_opened_the_terminal_is_kept_by_its_other_name(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil.Process, "terminal", lambda _: "/nowhere/tty")
    descriptor = open_terminal()
    assert descriptor is not None
    terminal.close()
    assert has_hung_up(descriptor)
    os.close(descriptor)


def test_without_a_terminal_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "TERMINAL", "/nowhere/tty")
    monkeypatch.setattr(psutil.Process, "terminal", lambda _: None)
    assert open_terminal() is None
