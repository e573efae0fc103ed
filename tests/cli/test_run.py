"""Chatting with a model: through a pipe, and on a terminal."""

import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode

from pool_service.cli.commands import pool_service
from pool_service.cli.message_input import enable_line_editing
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.answering import Answering, Break, Status, Wait, answering
from tests.cli.program import Terminal, running, started
from tests.client.scripted import Gate, Refusal, Script, Stay, held

PROMPT = "> "
GONE = "http://127.0.0.1:1"
"""Where nobody listens."""


@pytest.fixture
def model() -> Iterator[Answering]:
    with answering() as one:
        yield one


@pytest.fixture
def service(service: Script, model: Answering) -> Script:
    """One whose model is ready."""
    service.answer("List", pb.ListResponse())
    service.answer("Hold", held(endpoint=model.endpoint), Stay())
    return service


def piped(service: Script, text: str, *arguments: str) -> Result:
    environment = {"POOL_SERVICE_ADDRESS": service.address}
    return CliRunner().invoke(pool_service, ["run", "m", *arguments], text, env=environment)


@contextmanager
def chat(service: Script, terminal: Terminal, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    ends = {"stdin": terminal.writer, "stdout": terminal.writer, "stderr": terminal.writer}
    with running(started(service, "run", "m", *arguments, **ends)) as process:
        terminal.wait_for(PROMPT)
        yield process
    assert service.closed("Hold")
    assert "Traceback" not in terminal.seen


def say(terminal: Terminal, text: str, shown: str) -> None:
    """Type a message, and wait for what is shown and for the next prompt."""
    terminal.forget()
    terminal.type(f"{text}\n")
    terminal.wait_for(shown)
    terminal.seen = terminal.seen.partition(shown)[2]
    terminal.wait_for(PROMPT)


def wait_until_it_reads(terminal: Terminal, process: subprocess.Popen[str]) -> None:
    """Python notices a signal within `input` only once that waits for a key."""
    terminal.type("x")
    terminal.wait_for("x")
    while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
        time.sleep(0.001)


# --- through a pipe ---------------------------------------------------------------------


def test_what_is_piped_in_is_answered_once_with_the_answer_alone(
    service: Script, model: Answering
) -> None:
    model.answer("It is ", "\x1b[1mParis\x1b[0m.")
    result = piped(service, "Which\ncity?\n", "--system", "Be brief.", "--runtime-model", "r")
    assert (result.exit_code, result.output) == (0, "It is \x1b[1mParis\x1b[0m.\n")
    assert model.asked[0]["model"] == "served-m"
    assert model.said(0) == [("system", "Be brief."), ("user", "Which\ncity?")]
    (asked,) = service.asked["Hold"]
    assert isinstance(asked, pb.HoldRequest)
    assert (asked.model, asked.runtime_model) == ("m", "r")
    assert service.closed("Hold")


@pytest.mark.parametrize(
    ("steps", "output", "code", "failure"),
    [
        (
            ("Half", Break()),
            "Half\n",
            6,
            "m: the answer broke off: connection closed. Ask again: the next server answers",
        ),
        (
            (Status(400, '{"error": {"message": "too\\nlong"}}'),),
            "",
            5,
            r"m: its server answered 400: too\nlong",
        ),
        (
            (Status(422, '{"detail": "no messages"}'),),
            "",
            5,
            "m: its server answered 422: no messages",
        ),
        (
            (Status(500, "no JSON"),),
            "",
            5,
            "m: its server answered 500: Internal Server Error",
        ),
    ],
)
def test_an_answer_that_fails_is_a_line_and_an_exit_code(
    service: Script,
    model: Answering,
    steps: tuple[str | Break | Status, ...],
    output: str,
    code: int,
    failure: str,
) -> None:
    model.answer(*steps)
    result = piped(service, "?")
    assert (result.exit_code, result.stdout) == (code, output)
    assert result.stderr == f"pool-service: {failure}\n"


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_piped_in_is_no_question(service: Script, text: str) -> None:
    result = piped(service, text)
    assert result.exit_code == 2
    assert "standard input has no question" in result.stderr
    assert not service.asked["Hold"]


def test_a_model_that_cannot_be_started_is_reported_as_by_ensure(
    service: Script, model: Answering
) -> None:
    service._steps.pop("Hold")
    refusal = Refusal(StatusCode.FAILED_PRECONDITION, "Pull it.", "MODEL_NOT_ON_DISK")
    service.answer("Hold", refusal)
    result = piped(service, "?")
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == "pool-service: Pull it. Here that is --download.\n"


def test_where_nobody_listens_any_more_the_next_server_is_asked(
    service: Script, model: Answering
) -> None:
    service._steps.pop("Hold")
    service.answer("Hold", held(endpoint=GONE), held(endpoint=model.endpoint, generation=2), Stay())
    model.answer("Here.")
    result = piped(service, "?")
    assert (result.exit_code, result.stdout) == (0, "Here.\n")


# --- on a terminal ----------------------------------------------------------------------


def test_a_chat_keeps_what_was_said_until_it_is_cleared(
    service: Script, model: Answering, terminal: Terminal
) -> None:
    for answer in ("One.", "Two.", "Three."):
        model.answer(answer)
    with chat(service, terminal) as process:
        say(terminal, "a", "One.")
        say(terminal, "b", "Two.")
        say(terminal, "/clear", "The conversation so far is forgotten.")
        say(terminal, "c", "Three.")
        terminal.type("/bye\n")
        assert process.wait(20) == 0
    assert model.said(1) == [("user", "a"), ("assistant", "One."), ("user", "b")]
    assert model.said(2) == [("user", "c")]


def test_words_with_a_slash_are_commands_but_a_path_is_not(
    service: Script, model: Answering, terminal: Terminal
) -> None:
    model.answer("A file.")
    with chat(service, terminal) as process:
        say(terminal, "/help", "stop an answer")
        say(terminal, "/foo", "There is no command /foo")
        say(terminal, "/etc/hosts", "A file.")
        terminal.type("\x04")
        assert process.wait(20) == 0
    assert model.said(0) == [("user", "/etc/hosts")]


def test_what_a_model_writes_cannot_command_the_terminal(
    service: Script, model: Answering, terminal: Terminal
) -> None:
    model.answer("\x1b]0;title\x07", "\u202egnp\r\n", "tab\there 👩\u200d👧")
    with chat(service, terminal) as process:
        say(terminal, "a", "\\x1b]0;title\\x07\\u202egnp\r\ntab\there 👩\u200d👧\r\n")
        wait_until_it_reads(terminal, process)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_chat_with_the_terminal_as_it_was(
    service: Script, model: Answering, terminal: Terminal, number: signal.Signals
) -> None:
    before = termios.tcgetattr(terminal.writer)
    model.answer("Yes.")
    with chat(service, terminal) as process:
        say(terminal, "a", "Yes.")
        wait_until_it_reads(terminal, process)
        assert termios.tcgetattr(terminal.writer) != before
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert termios.tcgetattr(terminal.writer) == before


def test_ctrl_c_stops_an_answer_and_at_the_prompt_the_chat(
    service: Script, model: Answering, terminal: Terminal
) -> None:
    before = termios.tcgetattr(terminal.writer)
    waits = Wait()
    model.answer("Once upon", waits)
    model.answer("Two.")
    with chat(service, terminal) as process:
        terminal.forget()
        terminal.type("tell\n")
        terminal.wait_for("Once upon")
        assert waits.reached.wait(20)
        process.send_signal(signal.SIGINT)
        assert waits.left.wait(20)
        terminal.wait_for(PROMPT)
        say(terminal, "b", "Two.")
        wait_until_it_reads(terminal, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert model.said(1) == [("user", "tell"), ("assistant", "Once upon"), ("user", "b")]
    assert termios.tcgetattr(terminal.writer) == before


def test_a_model_that_dies_in_its_answer_costs_a_line_and_the_next_message_goes_on(
    service: Script, model: Answering, terminal: Terminal
) -> None:
    died = Gate()
    service._steps.pop("Hold")
    with answering() as dying:
        moved = held(endpoint=model.endpoint, generation=2, pid=4712)
        service.answer("Hold", held(endpoint=dying.endpoint), died, moved, Stay())
        dying.answer("Half", Break())
        model.answer("Whole.")
        with chat(service, terminal) as process:
            say(terminal, "a", "Half\r\nm: the answer broke off: connection closed. Ask again.")
            dying.close()
            died.open()
            say(terminal, "b", "Whole.")
            terminal.type("/bye\n")
            assert process.wait(20) == 0
    assert model.said(0) == [("user", "a"), ("assistant", "Half"), ("user", "b")]


def test_pasted_lines_are_one_message(
    service: Script, model: Answering, terminal: Terminal
) -> None:
    model.answer("Seen.")
    with chat(service, terminal) as process:
        say(terminal, "one\n  two\nthree", "Seen.")
        say(terminal, "\x1b[200~four\nfive\x1b[201~", "Seen.")
        say(terminal, '"""six\n\n"seven"\n"""', "Seen.")
        terminal.type("/bye\n")
        assert process.wait(20) == 0
    said = [asked["messages"][-1]["content"] for asked in model.asked]
    assert said == ["one\n  two\nthree", "four\nfive", 'six\n\n"seven"']


@pytest.mark.parametrize(("term", "asks"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_is_not_asked_to_mark_what_is_pasted(
    term: str, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[str] = []
    readline = SimpleNamespace(parse_and_bind=settings.append, __doc__="GNU readline")
    monkeypatch.setitem(sys.modules, "readline", readline)
    monkeypatch.setenv("TERM", term)
    enable_line_editing()
    assert bool(settings) == asks
