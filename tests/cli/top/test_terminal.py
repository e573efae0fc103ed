"""`top` on a terminal, over a service that answers what its script says."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.program import LIMIT_S, MAIN, Terminal, running, started, started_by
from tests.client.scripted import Gate, Refusal, Script, Stay, changed, ready, synced

ENTERED, LEFT, CURSOR_SHOWN = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
PASTES_MARKED, PASTES_PLAIN = "\x1b[?2004h", "\x1b[?2004l"
ALL = "q quit"
"""The end of each frame with the table."""


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text without colours in it, in ASCII, so that it is found in what was written."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("LC_ALL", "C")


@pytest.fixture
def service(service: Script) -> Script:
    """One with a READY server, which tells no change."""
    service.answer("List", pb.ListResponse(servers=[ready()], totals=pb.PoolTotals(servers=1)))
    service.answer("ListModels", pb.ListModelsResponse())
    service.answer("Describe", pb.DescribeResponse(model="m"))
    return service


def watched(service: Script, *more: pb.WatchResponse | Gate | Refusal) -> None:
    """Watch tells the server, then this."""
    service.answer("Watch", changed(1), synced(1), *more, Stay())


def resize(terminal: Terminal, width: int, height: int) -> None:
    fcntl.ioctl(terminal.writer, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


@contextmanager
def top(service: Script, terminal: Terminal, main: str = MAIN) -> Iterator["subprocess.Popen[str]"]:
    """The view, once it shows the server and what a look has told."""
    resize(terminal, 120, 30)
    process = started_by(main, service, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        terminal.wait_for("1 server")
        terminal.wait_for("> m")
        yield process


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


def test_what_the_view_asks_by_itself_is_no_use_of_a_server(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    with top(service, terminal):
        terminal.type("jjkl")
        terminal.wait_for("log of m")
        terminal.type("qd")
        terminal.wait_for("description of m")
        terminal.type("q?")
        terminal.wait_for("up, down, j, k")
    assert set(service.asked) == {"List", "Watch", "ListModels", "Describe", "TailLogs"}


def test_pasted_text_does_nothing(service: Script, terminal: Terminal) -> None:
    watched(service)
    with top(service, terminal):
        terminal.wait_for(PASTES_MARKED)
        terminal.type("\x1b[200~EeyqE\n\x1b[201~?")
        terminal.wait_for_screen("up, down, j, k")
    assert service.asked.keys().isdisjoint({"Ensure", "Evict"})


def test_what_is_typed_at_once_is_no_answer_to_the_question_that_it_raises(
    service: Script, terminal: Terminal
) -> None:
    service.answer("Watch", changed(1, pinned=True), synced(1), Stay())
    with top(service, terminal):
        terminal.type("ey")
        terminal.wait_for_screen("(y/n)", ALL)
        terminal.type("n")
        terminal.wait_for_screen("nothing was stopped", ALL)
    assert not service.asked["Evict"]


def test_nothing_that_is_typed_after_q_has_an_effect(service: Script, terminal: Terminal) -> None:
    watched(service)
    with top(service, terminal) as process:
        terminal.type("qE")
        assert process.wait(LIMIT_S) == 0
    assert not service.asked["Ensure"]


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


def test_escape_alone_leaves_a_text(service: Script, terminal: Terminal) -> None:
    watched(service)
    with top(service, terminal):
        terminal.type("?")
        terminal.wait_for_screen("up, down, j, k")
        terminal.type("\x1b")
        terminal.wait_for_screen("> m", ALL)


def test_a_call_under_way_does_not_hold_up_the_view(service: Script, terminal: Terminal) -> None:
    gate = Gate()
    watched(service, gate, changed(2, "another"))
    service.answer("Ensure", Stay())
    with top(service, terminal):
        terminal.type("E")
        terminal.wait_for("under way: ensure m")
        gate.open()
        terminal.wait_for("another")
        terminal.forget()
        terminal.type("k")
        terminal.wait_for("> another")
    assert service.asked["Ensure"] == [pb.EnsureRequest(model="m")]


def test_the_refusal_of_a_call_is_shown_with_its_text(service: Script, terminal: Terminal) -> None:
    watched(service)
    refusal = Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, "its files are missing", "MODEL_NOT_ON_DISK"
    )
    service.answer("Ensure", refusal)
    with top(service, terminal):
        terminal.type("E")
        terminal.wait_for("ensure m: its files are missing")


def test_a_server_found_in_use_is_stopped_only_after_a_yes(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "m has 1 request", "SERVER_IN_USE")
    service.answer("Evict", refusal)
    service.answer("Evict", pb.EvictResponse(evicted=[pb.EvictedServer(server=ready())]))
    with top(service, terminal):
        terminal.type("e")
        terminal.wait_for("Stop m all the same? (y/n) m has 1 request.")
        assert service.asked["Evict"] == [pb.EvictRequest(model="m")]
        terminal.type("y")
        terminal.wait_for("evicted m (generation 1)")
    assert service.asked["Evict"][1:] == [pb.EvictRequest(model="m", force=True)]


def test_p_pins_the_chosen_model(service: Script, terminal: Terminal) -> None:
    watched(service)
    service.answer("Pin", pb.PinResponse(pinned=True, changed=True))
    with top(service, terminal):
        terminal.type("p")
        terminal.wait_for("m: is now pinned")
    assert service.asked["Pin"] == [pb.PinRequest(model="m", pinned=True)]


def test_a_log_is_followed_until_it_is_left(service: Script, terminal: Terminal) -> None:
    watched(service)
    gate = Gate()
    lines = (pb.TailLogsResponse(generation=1, lines=[text], cursor=text) for text in "ab")
    service.answer("TailLogs", next(lines), gate, next(lines), Stay())
    with top(service, terminal):
        terminal.type("l")
        terminal.wait_for("log of m")
        terminal.wait_for("\na ")
        gate.open()
        terminal.wait_for("\nb ")
        terminal.forget()
        terminal.type("q")
        terminal.wait_for("> m")
        assert service.closed("TailLogs")


def test_a_service_that_is_still_recovering_is_said_to_answer(
    service: Script, terminal: Terminal
) -> None:
    recovering = Refusal(grpc.StatusCode.UNAVAILABLE, "it is recovering", "RECOVERING")
    service.answer("Watch", changed(1), synced(1), recovering)
    service.answer("Watch", recovering)
    resize(terminal, 120, 30)
    process = started(service, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        terminal.wait_for_screen("NOT READY for ", "s, trying again: it is recovering", ALL)


def test_the_view_outlives_the_service(service: Script, terminal: Terminal) -> None:
    gate = Gate()
    service.answer(
        "Watch", changed(1), synced(1), gate, Refusal(grpc.StatusCode.UNAVAILABLE, "it ends")
    )
    again = Gate()
    service.answer("Watch", again, changed(9, "newer"), synced(9), Stay())
    service.answer("Evict", Refusal(grpc.StatusCode.FAILED_PRECONDITION, "used", "SERVER_IN_USE"))
    with top(service, terminal):
        terminal.type("e")
        terminal.wait_for_screen("(y/n)", ALL)
        gate.open()
        terminal.wait_for("m: nothing was stopped, as the service did not answer")
        terminal.wait_for("NO ANSWER for 0s, trying again")
        terminal.wait_for("> m")
        again.open()
        terminal.wait_for_screen("> newer", ALL, without="NO ANSWER")
