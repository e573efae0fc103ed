"""The command `run`: chats with a model in the terminal, or answers one question from a pipe."""

import os
import signal
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Unpack

import click

from pool_service.cli import chat_completions
from pool_service.cli.chat_completions import (
    AnswerError,
    Message,
    RequestRefused,
    ServerUnreachable,
)
from pool_service.cli.connection import check_reachable, connected
from pool_service.cli.exit_codes import ExitCode, Failure, failure_of
from pool_service.cli.format import safe, safe_lines
from pool_service.cli.hold_command import status_display
from pool_service.cli.message_input import enable_line_editing, read_message
from pool_service.cli.options import EnsureOptions, Target
from pool_service_client import DeadlineExceeded, Hold, PoolClient, PoolError, Server

LOSS_NOTICE_LIMIT_S: Final = 10.0
"""Time for the service to notice that a server no longer accepts connections."""

END_COMMANDS: Final = frozenset({"/bye", "/exit", "/quit"})
HELP: Final = '''\
/clear   forget the conversation so far
/help    show this help
/bye     end the chat, as Ctrl-D does
"""      begin and end a message of several lines
Ctrl-C   stop an answer; at the prompt, end the chat\
'''


@dataclass(slots=True)
class Conversation:
    """The questions and answers of a chat so far.

    system: the system prompt; empty: none.
    """

    system: str = ""
    _history: list[Message] = field(default_factory=list)

    def asking(self, question: str) -> list[Message]:
        """Return the whole conversation with `question` as its last message."""
        return [*_messages("system", self.system), *self._history, *_messages("user", question)]

    def add(self, question: str, answer: str) -> None:
        """Append a question and its answer, which may be incomplete; nothing if it is empty."""
        if answer:
            self._history += _messages("user", question) + _messages("assistant", answer)

    def clear(self) -> None:
        """Forget all questions and answers."""
        self._history.clear()


def _messages(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}] if content else []


def run(target: Target, model: str, system: str, **options: Unpack[EnsureOptions]) -> None:
    """Chat with a model in the terminal, or answer one question from standard input."""
    check_reachable(target)
    conversation = Conversation(system)
    with (
        connected(PoolClient, target) as pool,
        _exit_on_signals(),
        closing(_HeldModel(pool, model, options)) as held,
    ):
        if sys.stdin.isatty() and sys.stdout.isatty():
            _chat(held, conversation)
        else:
            _answer_once(held, conversation)


class _HeldModel:
    """A model that is held for the whole chat; held anew after an eviction ended the hold."""

    def __init__(self, pool: PoolClient, model: str, options: EnsureOptions) -> None:
        self.name = model
        self._pool = pool
        self._options = options
        self._hold: Hold | None = None

    def close(self) -> None:
        """Release the model."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    def answer(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Yield the answer of the model's server, or of the next one if that has just ended."""
        server = self.server()
        while True:
            try:
                yield from _with_spinner(chat_completions.stream(server, messages))
            except ServerUnreachable as error:
                server = self._next_server(server, error)
            else:
                return

    def server(self, after: Server | None = None) -> Server:
        """Wait until the model's server is READY, and show its state meanwhile.

        after: wait for another server than this one. Raises the PoolErrors of Hold.
        """
        try:
            return self._ready(self._get_hold(), after)
        except PoolError:
            self.close()
            raise

    def _get_hold(self) -> Hold:
        if self._hold is None:
            holder = f"pid {os.getpid()} (chat)"
            self._hold = self._pool.hold(self.name, **self._options, holder=holder)
        return self._hold

    def _ready(self, hold: Hold, after: Server | None) -> Server:
        """Return the server at once if it is READY; otherwise show its states until it is."""
        with suppress(DeadlineExceeded):
            return hold.ready(0, after)
        with status_display(self.name) as line:
            for server in hold:
                with suppress(DeadlineExceeded):
                    return hold.ready(0, after)
                line.show(server)
        return hold.ready(after=after)

    def _next_server(self, lost: Server, error: ServerUnreachable) -> Server:
        """Return the successor of a server that accepts no connections.

        Raises `error` if the service still reports that server as READY.
        """
        hold = self._get_hold()
        with suppress(DeadlineExceeded):
            return hold.ready(LOSS_NOTICE_LIMIT_S, lost)
        with suppress(DeadlineExceeded):
            if hold.ready(0).pid == lost.pid:
                # For example an endpoint on another machine's loopback, unreachable from here.
                raise error
        return self.server(lost)


def _with_spinner(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the pieces of an answer, and show a spinner until the first one arrives."""
    with _spinner():
        first = next(pieces, None)
    if first is not None:
        yield first
        yield from pieces


@contextmanager
def _spinner() -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    from pool_service.cli.terminal import display

    with display(SpinnerColumn(), TimeElapsedColumn(), transient=True) as progress:
        progress.add_task("", total=None)
        yield


def _answer_once(model: _HeldModel, conversation: Conversation) -> None:
    """Answer the question on standard input, and print nothing but the answer."""
    question = _read_question()
    last_piece = ""
    try:
        with closing(model.answer(conversation.asking(question))) as pieces:
            for piece in pieces:
                _write(piece)
                last_piece = piece
    except AnswerError as error:
        code = ExitCode.REFUSED if isinstance(error, RequestRefused) else ExitCode.TRY_AGAIN
        todo = "" if isinstance(error, RequestRefused) else ". Ask again: the next server answers"
        raise Failure(f"{model.name}: {error}{todo}", code) from error
    finally:
        if last_piece and not last_piece.endswith("\n"):
            _write("\n")


def _read_question() -> str:
    try:
        question = sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8: {error}") from None
    if not question:
        raise click.UsageError("standard input has no question; pipe one in")
    return question


def _chat(model: _HeldModel, conversation: Conversation) -> None:
    """Answer message after message until the user ends the chat."""
    began = time.monotonic()
    model.server()
    took = time.monotonic() - began
    click.echo(safe(f"{model.name}: ready in {took:.1f} s; /help for help, Ctrl-D to end"))
    enable_line_editing()
    while (message := _next_message()) is not None:
        command = message.strip()
        if command in END_COMMANDS:
            return
        if command in {"/help", "/?"}:
            click.echo(HELP)
        elif command == "/clear":
            conversation.clear()
            click.echo("The conversation so far is forgotten.")
        elif _is_command(command):
            click.echo(safe(f"There is no command {command}; /help lists the commands."))
        elif command:
            conversation.add(message, _print_answer(model, conversation.asking(message)))


def _is_command(text: str) -> bool:
    """Return whether a message is a command rather than a path or a sentence that begins so."""
    return text.startswith("/") and text[1:].isalpha()


def _next_message() -> str | None:
    """Return the next message; None at the end of the input. Ctrl-C ends the prompt's line."""
    try:
        return read_message()
    except EOFError:
        click.echo()
        return None
    except KeyboardInterrupt:
        click.echo()
        raise


def _print_answer(model: _HeldModel, messages: Sequence[Message]) -> str:
    """Print an answer as it arrives; return it, incomplete if it was stopped or broke off."""
    answer: list[str] = []
    failure = ""
    try:
        with closing(model.answer(messages)) as pieces:
            for piece in pieces:
                # Append first: Ctrl-C may come as soon as the piece is shown.
                answer.append(piece)
                _write(piece)
    except KeyboardInterrupt:
        _write("" if answer else "(stopped)")
    except AnswerError as error:
        failure = str(error) if isinstance(error, RequestRefused) else f"{error}. Ask again."
    except PoolError as error:
        failure = failure_of(error).message
    if not answer or not answer[-1].endswith("\n"):
        click.echo()
    if failure:
        click.echo(safe(f"{model.name}: {failure}"), err=True)
    return "".join(answer)


def _write(text: str) -> None:
    """Write a piece of an answer at once; on a terminal with control characters escaped."""
    if sys.stdout.isatty():
        text = safe_lines(text)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Raise SystemExit at SIGTERM or SIGHUP, so that the terminal and the hold are cleaned up."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
