"""`top` takes a terminal and gives it back, however it ends."""

import os
import select
import signal
import subprocess
import termios

import pytest

from tests.cli.program import LIMIT_S, MAIN, Terminal, running, started, started_by
from tests.cli.top.viewing import ALL, PASTES_MARKED, PASTES_PLAIN, resize, top, watched
from tests.client.scripted import Script

ENTERED, LEFT, CURSOR_SHOWN = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


def settings(terminal: Terminal) -> list[object]:
    return termios.tcgetattr(terminal.writer)


def is_given_back(terminal: Terminal) -> bool:
    """Whether what was written last left the screen, showed the cursor and ended the marks."""
    pairs = ((ENTERED, LEFT), ("\x1b[?25l", CURSOR_SHOWN), (PASTES_MARKED, PASTES_PLAIN))
    return all(terminal.seen.rindex(end) > terminal.seen.rindex(begin) for begin, end in pairs)


def test_q_ends_the_view_and_the_terminal_is_as_before(service: Script, terminal: Terminal) -> None:
    watched(service)
    before = settings(terminal)
    with top(service, terminal) as process:
        assert settings(terminal) != before
        terminal.type("q")
        terminal.wait_for(LEFT)
        assert process.wait(LIMIT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert settings(terminal) == before
    assert is_given_back(terminal)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGQUIT, -signal.SIGQUIT),
    ],
)
def test_a_signal_ends_the_view_and_the_terminal_is_as_before(
    service: Script, terminal: Terminal, number: signal.Signals, code: int
) -> None:
    watched(service)
    before = settings(terminal)
    with top(service, terminal) as process:
        process.send_signal(number)
        terminal.wait_for(LEFT)
        assert process.wait(LIMIT_S) == code
    assert settings(terminal) == before
    assert is_given_back(terminal)


@pytest.mark.parametrize(
    "place",
    ["run.frame", "controls.Controls.press", "session.Session._look", "session.Session._result"],
)
def test_a_bug_ends_the_view_and_is_reported_on_the_terminal_as_it_was(
    service: Script, terminal: Terminal, place: str
) -> None:
    watched(service)
    before = settings(terminal)
    broken = (
        "from pool_service.cli.top import controls, run, session\n"
        "def fails(*arguments):\n"
        "    raise RuntimeError('it broke')\n"
        f"{place} = fails\n"
    )
    resize(terminal, 120, 30)
    process = started_by(
        broken + MAIN, service, "top", stdin=terminal.writer, stdout=terminal.writer
    )
    with running(process):
        if "press" in place or "result" in place:
            terminal.wait_for("> m")
            terminal.type("E")
        terminal.wait_for(LEFT)
        assert process.wait(LIMIT_S) == 1
        assert process.stderr is not None
        assert "this is a bug, please report it: RuntimeError: it broke" in process.stderr.read()
    assert settings(terminal) == before
    assert is_given_back(terminal)


def test_ctrl_z_gives_the_terminal_back_and_the_view_goes_on_after_it(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    before = settings(terminal)
    with top(service, terminal) as process:
        during = settings(terminal)
        for _ in range(2):
            # A paste whose end is dropped with what was not read.
            terminal.type("\x1b[200~E")
            process.send_signal(signal.SIGTSTP)
            terminal.wait_for(LEFT)
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            assert settings(terminal) == before
            terminal.forget()
            process.send_signal(signal.SIGCONT)
            terminal.wait_for(ENTERED)
            terminal.wait_for("> m")
            terminal.wait_for(ALL)
            assert settings(terminal) == during
            terminal.forget()
        terminal.type("q")
        assert process.wait(LIMIT_S) == 0
    assert settings(terminal) == before


READS_LATE = """
from pool_service.cli.top import run
stop = run._Top._stop
def stop_and_read(view):
    stop(view)
    view._read_keys()
run._Top._stop = stop_and_read
"""
"""Makes the view read keys that it has noticed and then dropped."""


def test_keys_that_are_dropped_before_they_are_read_do_not_hold_up_the_view(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    with top(service, terminal, READS_LATE + MAIN) as process:
        process.send_signal(signal.SIGTSTP)
        terminal.wait_for(LEFT)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        terminal.forget()
        process.send_signal(signal.SIGCONT)
        terminal.wait_for(ENTERED)
        terminal.wait_for("> m")
        terminal.type("q")
        assert process.wait(LIMIT_S) == 0


def test_a_view_that_others_have_stopped_takes_the_terminal_again(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    before = settings(terminal)
    with top(service, terminal) as process:
        during = settings(terminal)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        termios.tcsetattr(terminal.writer, termios.TCSANOW, before)  # type: ignore[arg-type]
        terminal.forget()
        process.send_signal(signal.SIGCONT)
        terminal.wait_for(ENTERED)
        terminal.wait_for(ALL)
        assert settings(terminal) == during


def test_another_size_of_the_terminal_is_drawn_for_at_once(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    with top(service, terminal) as process:
        assert "WAITING" in terminal.seen
        resize(terminal, 60, 20)
        process.send_signal(signal.SIGWINCH)
        terminal.wait_for_screen("> m", "choose", without="WAITING")


def test_the_size_is_the_terminals_own_whatever_a_shell_has_exported(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    exported = "import os; os.environ.update(COLUMNS='60', LINES='12')\n"
    with top(service, terminal, exported + MAIN):
        terminal.wait_for_screen("> m", "WAITING", ALL)


@pytest.mark.parametrize(
    "variables",
    [{"FORCE_COLOR": ""}, {"TTY_COMPATIBLE": "0"}, {"TTY_INTERACTIVE": "0"}],
    ids=lambda variables: next(iter(variables)),
)
def test_frames_are_drawn_whatever_is_said_about_terminals_for_other_output(
    service: Script, terminal: Terminal, variables: dict[str, str]
) -> None:
    watched(service)
    with top(service, terminal, f"import os; os.environ.update({variables!r})\n" + MAIN):
        terminal.wait_for_screen("> m", ALL)


def test_a_frame_for_a_terminal_that_has_gone_ends_the_view_as_its_hangup_would(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    gone = (
        "import errno, os\n"
        "from pool_service.cli.top import screen\n"
        "def fails(*arguments, **options):\n"
        "    raise OSError(errno.EIO, os.strerror(errno.EIO))\n"
        "screen.Screen.draw = fails\n"
    )
    process = started_by(gone + MAIN, service, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        assert process.wait(LIMIT_S) == -signal.SIGHUP


@pytest.mark.parametrize("lacking", ["stdin", "stdout"])
def test_without_a_terminal_the_error_names_what_works_there(
    service: Script, terminal: Terminal, lacking: str
) -> None:
    stdin, stdout = (
        subprocess.DEVNULL if name == lacking else terminal.writer for name in ("stdin", "stdout")
    )
    with running(started(service, "top", stdin=stdin, stdout=stdout)) as process:
        assert process.wait(LIMIT_S) == 2
        assert process.stderr is not None
        told = process.stderr.read()
    assert "`pool-service list`" in told
    assert "`pool-service watch`" in told
    assert not service.asked


@pytest.mark.parametrize("kind", ["dumb", "unknown", ""])
def test_a_terminal_that_cannot_move_its_cursor_is_none(
    service: Script, terminal: Terminal, kind: str
) -> None:
    dumb = f"import os; os.environ['TERM'] = {kind!r}\n"
    process = started_by(dumb + MAIN, service, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        assert process.wait(LIMIT_S) == 2
    assert not service.asked


def test_without_a_service_nothing_is_waited_for(terminal: Terminal) -> None:
    nowhere = Script()
    nowhere.address = "unix:/none"
    process = started(nowhere, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        assert process.wait(LIMIT_S) == 3
        assert process.stderr is not None
        assert "cannot reach" in process.stderr.read()


def test_what_is_typed_while_the_view_ends_is_no_command_for_the_shell(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    slow = (
        "import select\n"
        "from pool_service.cli.top import screen\n"
        "give_back = screen.Screen.give_back\n"
        "def give_back_late(self):\n"
        "    print('at its end', flush=True)\n"
        "    select.select([0], [], [])\n"
        "    give_back(self)\n"
        "screen.Screen.give_back = give_back_late\n"
    )
    with top(service, terminal, slow + MAIN) as process:
        terminal.type("q")
        terminal.wait_for("at its end")
        terminal.type("rm\n")
        assert process.wait(LIMIT_S) == 0
    assert not select.select([terminal.writer], [], [], 0)[0]
