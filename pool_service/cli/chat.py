"""The command that asks a model in the terminal, or answers what comes through a pipe."""

import os
import signal
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Unpack

import click

from pool_service.cli import completions
from pool_service.cli.completions import AnswerError, Message, NobodyListens, Refused
from pool_service.cli.connection import check_reachable, valid
from pool_service.cli.exit_codes import ExitCode, Failure, failure_of
from pool_service.cli.format import prose, safe
from pool_service.cli.hold_command import told
from pool_service.cli.message_input import edit_lines, read_message
from pool_service.cli.options import Asked
from pool_service_client import DeadlineExceeded, Hold, PoolClient, PoolError, Server

NOTICE_S: Final = 10.0
"""How long the service may take to notice that a server accepts no connections any more."""

ENDS: Final = frozenset({"/bye", "/exit", "/quit"})
HELP: Final = '''\
/clear   forgets what was said so far
/help    shows this
/bye     ends, as Ctrl-D does
"""      begins a message of several lines, and ends it
Ctrl-C   stops an answer; at the prompt it ends\
'''


@dataclass(slots=True)
class Conversation:
    """Questions and answers in turn.

    system: what the model is told before all else; empty: nothing.
    """

    system: str = ""
    _said: list[Message] = field(default_factory=list)

    def asking(self, question: str) -> list[Message]:
        """Return the messages that ask `question` after all that was said."""
        return [*_messages("system", self.system), *self._said, *_messages("user", question)]

    def add(self, question: str, answer: str) -> None:
        """Keep a question with its answer, or as much of that as came; none without an answer."""
        if answer:
            self._said += _messages("user", question) + _messages("assistant", answer)

    def clear(self) -> None:
        """Forget all questions and answers."""
        self._said.clear()


def _messages(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}] if content else []


def run(address: str | None, model: str, system: str, **asked: Unpack[Asked]) -> None:
    """Chat with a model in the terminal; or answer once what is piped in."""
    check_reachable(address)
    conversation = Conversation(system)
    with (
        PoolClient.connect(valid(address)) as pool,
        _ended_by_signals(),
        closing(_Model(pool, model, asked)) as held,
    ):
        if sys.stdin.isatty() and sys.stdout.isatty():
            _chat(held, conversation)
        else:
            _answer_once(held, conversation)


class _Model:
    """A model that is held for the whole chat, and held again after that was ended by others."""

    def __init__(self, pool: PoolClient, model: str, asked: Asked) -> None:
        self.name = model
        self._pool = pool
        self._asked = asked
        self._hold: Hold | None = None

    def close(self) -> None:
        """Release the model."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    def answer(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Yield the answer of its server, or of the next one if that is just going."""
        server = self.server()
        while True:
            try:
                yield from _awaited(
                    completions.stream(server.endpoint, server.served_model_name, messages)
                )
            except NobodyListens as error:
                server = self._next(server, error)
            else:
                return

    def server(self, after: Server | None = None) -> Server:
        """Wait for its server to be READY, and tell meanwhile how that is.

        after: wait for another one than this. Raises the PoolErrors of Hold.
        """
        try:
            return self._ready(self._held(), after)
        except PoolError:
            self.close()
            raise

    def _held(self) -> Hold:
        if self._hold is None:
            holder = f"pid {os.getpid()}, which chats"
            self._hold = self._pool.hold(self.name, **self._asked, holder=holder)
        return self._hold

    def _ready(self, hold: Hold, after: Server | None) -> Server:
        with suppress(DeadlineExceeded):
            return hold.ready(0, after)
        with told(self.name) as line:
            for server in hold:
                with suppress(DeadlineExceeded):
                    return hold.ready(0, after)
                line.show(server)
        return hold.ready(after=after)

    def _next(self, gone: Server, error: NobodyListens) -> Server:
        """Return the server after one that accepts no connections, once the service noticed."""
        hold = self._held()
        with suppress(DeadlineExceeded):
            return hold.ready(NOTICE_S, gone)
        with suppress(DeadlineExceeded):
            if hold.ready(0).pid == gone.pid:
                # Such as the endpoint of another machine, which only that can reach.
                raise error
        return self.server(gone)


def _awaited(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the pieces of an answer, and show that it is waited for until the first one comes."""
    with _sign_of_life():
        first = next(pieces, None)
    if first is not None:
        yield first
        yield from pieces


@contextmanager
def _sign_of_life() -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import SpinnerColumn, TimeElapsedColumn

    from pool_service.cli.terminal import display

    with display(SpinnerColumn(), TimeElapsedColumn(), transient=True) as progress:
        progress.add_task("", total=None)
        yield


def _answer_once(model: _Model, conversation: Conversation) -> None:
    """Answer what is piped in, and print nothing but the answer."""
    question = _piped()
    answer = ""
    try:
        with closing(model.answer(conversation.asking(question))) as pieces:
            for piece in pieces:
                _write(piece)
                answer = piece
    except AnswerError as error:
        code = ExitCode.REFUSED if isinstance(error, Refused) else ExitCode.TRY_AGAIN
        again = "" if isinstance(error, Refused) else ". Ask again: the next server answers"
        raise Failure(f"{model.name}: {error}{again}", code) from error
    finally:
        if answer and not answer.endswith("\n"):
            _write("\n")


def _piped() -> str:
    try:
        question = sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"what is piped in is not UTF-8: {error}") from None
    if not question:
        raise click.UsageError("nothing is piped in that could be answered")
    return question


def _chat(model: _Model, conversation: Conversation) -> None:
    """Answer message after message until the person ends it."""
    began = time.monotonic()
    model.server()
    took = time.monotonic() - began
    click.echo(safe(f"{model.name}: ready in {took:.1f} s; /help says more, Ctrl-D ends"))
    edit_lines()
    while (message := _typed()) is not None:
        command = message.strip()
        if command in ENDS:
            return
        if command in {"/help", "/?"}:
            click.echo(HELP)
        elif command == "/clear":
            conversation.clear()
            click.echo("What was said is forgotten.")
        elif _is_command(command):
            click.echo(safe(f"There is no {command}; /help shows what there is."))
        elif command:
            conversation.add(message, _shown_answer(model, conversation.asking(message)))


def _is_command(text: str) -> bool:
    """Return whether a message means a command: not so a path, or a sentence with one."""
    return text.startswith("/") and text[1:].isalpha()


def _typed() -> str | None:
    """Return the next message; None at the end of the input. Ctrl-C ends the line it is on."""
    try:
        return read_message()
    except EOFError:
        click.echo()
        return None
    except KeyboardInterrupt:
        click.echo()
        raise


def _shown_answer(model: _Model, messages: Sequence[Message]) -> str:
    """Show an answer as it comes, and return as much of it as came."""
    answer: list[str] = []
    failure = ""
    try:
        with closing(model.answer(messages)) as pieces:
            for piece in pieces:
                # First: Ctrl-C may come as soon as it is shown.
                answer.append(piece)
                _write(piece)
    except KeyboardInterrupt:
        _write("" if answer else "(stopped)")
    except AnswerError as error:
        failure = str(error) if isinstance(error, Refused) else f"{error}. Ask again."
    except PoolError as error:
        failure = failure_of(error).message
    if not answer or not answer[-1].endswith("\n"):
        click.echo()
    if failure:
        click.echo(safe(f"{model.name}: {failure}"), err=True)
    return "".join(answer)


def _write(text: str) -> None:
    """Write a piece of an answer at once: made harmless for a terminal, as it is else."""
    if sys.stdout.isatty():
        text = prose(text)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End by SIGTERM or SIGHUP as by any error: with the terminal as it was, the model released."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
