"""How a command ends: its exit code, and one readable line where it failed."""

import difflib
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any

import click

from pool_service.adapters.system.os_errors import reason
from pool_service.cli.appearance import Mark, tell

if TYPE_CHECKING:
    from pool_service.config import ConfigError
    from pool_service_client import PoolError


class ExitCode(IntEnum):
    """What a script can tell an outcome by; part of the command line's promise."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    REFUSED = 5
    TRY_AGAIN = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES = """\b
Exit codes:
  0    done
  1    failed
  2    the command line or the configuration is not valid
  3    the service cannot be reached
  4    the time given by --timeout is over
  5    refused: the same request will be refused again
  6    not now: the same request may succeed later
  130  interrupted by Ctrl-C
  141  nobody reads the output any more
"""

# What will not change by itself, in the words of gRPC's status codes.
_FINAL = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE"})


class Failure(click.ClickException):
    """A command that failed: a line for a person, an exit code for a script."""

    exit_code: int  # type: ignore[misc] # click reads the instance's

    def __init__(self, message: str, code: ExitCode, last_lines: Sequence[str] = ()) -> None:
        """last_lines: what a server wrote last, shown below the message."""
        super().__init__(message)
        self.exit_code = code
        self.last_lines = last_lines

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it to stderr, with nothing in it that a terminal would obey."""
        del file
        tell(("pool-service:", Mark.BAD), f" {self.message}", err=True)
        for line in self.last_lines:
            tell(f"    {line}", err=True, indent=8)


class Group(click.Group):
    """A group whose commands end with an exit code and at most a line, never a traceback."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's
    ) -> click.Context:
        """Parse the arguments, of which --help and --version are carried out here already."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _forget_stdout()
            raise Failure(f"cannot write this text: {reason(error)}", ExitCode.FAILURE) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or lead from another program's word for it to the right one."""
        if args and ctx.parent is None and self.get_command(ctx, args[0]) is None:
            from pool_service.cli.exit_codes import hint

            if told := hint(args[0], self.list_commands(ctx)):
                ctx.fail(f"No such command {args[0]!r}. {told}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                _forget_stdout()
                ctx.exit(ExitCode.BROKEN_PIPE)
            raise failure_of(error) from error
        return result


def _forget_stdout() -> None:
    """Nobody reads any more: keep the interpreter from flushing, and complaining, at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def failure_of(error: Exception) -> Failure:
    """Return what to tell of an exception that ended a command."""
    from pool_service.core.errors import PoolError as LocalError
    from pool_service_client import PoolError

    if isinstance(error, PoolError):
        message, *more = _words(error).splitlines() or [type(error).__name__]
        return Failure(message, _code(error), (*more, *error.last_lines))
    if isinstance(error, LocalError | OSError):
        text = reason(error) if isinstance(error, OSError) else str(error)
        message, *more = text.splitlines() or [type(error).__name__]
        return Failure(message, ExitCode.FAILURE, more)
    return Failure(
        f"this is a bug, please report it: {type(error).__name__}: {error}", ExitCode.FAILURE
    )


def _words(error: "PoolError") -> str:
    from pool_service_client import ModelNotOnDisk, PoolUnavailable

    before = f"; the failure before that: {error.__cause__}" if error.__cause__ else ""
    request = f" (request {error.request_id})" if error.request_id else ""
    todo = " Here that is --download." if isinstance(error, ModelNotOnDisk) else ""
    if isinstance(error, PoolUnavailable) and str(error).startswith("cannot reach"):
        todo = "; 'pool-service serve' starts one, --address names another"
    return f"{error}{todo}{request}{before}"


def _code(error: "PoolError") -> ExitCode:
    from pool_service_client import (
        ConfigInvalid,
        CrashLoop,
        DeadlineExceeded,
        Evicted,
        PoolUnavailable,
        ServerInUse,
    )

    if isinstance(error, PoolUnavailable):
        return ExitCode.UNREACHABLE
    if isinstance(error, DeadlineExceeded):
        return ExitCode.TIMEOUT
    if isinstance(error, ConfigInvalid):
        return ExitCode.USAGE
    if isinstance(error, CrashLoop):
        # It may be tried again, but nothing says that it will end otherwise.
        return ExitCode.REFUSED
    passes = isinstance(error, Evicted | ServerInUse) or error.retry_after is not None
    if passes or error.code.name == "UNAVAILABLE":
        return ExitCode.TRY_AGAIN
    return ExitCode.REFUSED if error.code.name in _FINAL else ExitCode.FAILURE


def invalid(error: "ConfigError") -> Failure:
    """Return what to tell of a configuration that is not valid, a problem in each line."""
    if len(error.problems) > 1:
        return Failure(f"{error.headline}:", ExitCode.USAGE, error.problems)
    return Failure(str(error), ExitCode.USAGE)


OTHER_WORDS = {
    "ps": "list",
    "ls": "list",
    "status": "list",
    "start": "ensure",
    "load": "ensure",
    "up": "ensure",
    "chat": "run",
    "stop": "evict",
    "unload": "evict",
    "kill": "evict",
    "down": "evict",
    "rm": "evict",
    "events": "watch",
    "download": "pull",
    "logs": "list --json",
    "log": "list --json",
}
"""Map the words of Ollama, LM Studio, llama-swap and Docker to the command here."""

_BECAUSE = {
    "rm": "; the files of a model are yours, or the Hugging Face cache's, to remove",
    "logs": ", whose log_path says where each server writes its log",
    "log": ", whose log_path says where each server writes its log",
}


def hint(word: str, commands: Iterable[str]) -> str:
    """Return a sentence that leads from an unknown command to the right one, or nothing."""
    if word in OTHER_WORDS:
        return f"Here it is `pool-service {OTHER_WORDS[word]}`{_BECAUSE.get(word, '')}."
    near = difflib.get_close_matches(word, list(commands), n=1)
    return f"Did you mean `pool-service {near[0]}`?" if near else ""
