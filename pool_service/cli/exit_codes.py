"""Exit codes and error output: every failure becomes an exit code and a readable line."""

import errno
import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any

import click

from pool_service.adapters.system.os_errors import reason
from pool_service.cli.appearance import Mark, print_line
from pool_service.cli.command_hints import command_hint

if TYPE_CHECKING:
    from pool_service.config import ConfigError
    from pool_service_client import PoolError


class ExitCode(IntEnum):
    """The exit codes, by which a script tells outcomes apart; promised to users."""

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

# gRPC status codes of failures that will not change by themselves.
_FINAL_CODES = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    }
)


class Failure(click.ClickException):
    """A failure of a command: a message for the user, an exit code for scripts."""

    exit_code: int  # type: ignore[misc] # click reads the instance's

    def __init__(self, message: str, code: ExitCode, last_lines: Sequence[str] = ()) -> None:
        """last_lines: the last lines of a server's log, shown below the message."""
        super().__init__(message)
        self.exit_code = code
        self.last_lines = last_lines

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message and the last lines to stderr, with control characters escaped."""
        del file
        print_line(("pool-service:", Mark.BAD), f" {self.message}", err=True)
        for line in self.last_lines:
            print_line(f"    {line}", err=True, indent=8)


class Group(click.Group):
    """A group whose commands end with an exit code and an error message, never a traceback."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's
    ) -> click.Context:
        """Parse the arguments. Here click also prints the text of --help and --version."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _discard_stdout()
            raise Failure(f"cannot write this text: {reason(error)}", ExitCode.FAILURE) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; fail with a hint for a misspelt one or another program's word."""
        if args and ctx.parent is None and self.get_command(ctx, args[0]) is None:
            hint = command_hint(args[0], self.list_commands(ctx))
            if hint:
                ctx.fail(f"No such command {args[0]!r}. {hint}")
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
                _discard_stdout()
                ctx.exit(ExitCode.BROKEN_PIPE)
            raise failure_of(error) from error
        return result


def _discard_stdout() -> None:
    """Redirect stdout, whose reader has gone, so that the flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def failure_of(error: Exception) -> Failure:
    """Return the Failure that reports an exception which ended a command."""
    from pool_service.core.errors import PoolError as LocalError
    from pool_service_client import PoolError

    if isinstance(error, PoolError):
        message, *more = _message(error).splitlines() or [type(error).__name__]
        return Failure(message, _exit_code(error), (*more, *error.last_lines))
    if isinstance(error, LocalError | OSError):
        text = reason(error) if isinstance(error, OSError) else str(error)
        message, *more = text.splitlines() or [type(error).__name__]
        return Failure(message, ExitCode.FAILURE, more)
    return Failure(
        f"this is a bug, please report it: {type(error).__name__}: {error}", ExitCode.FAILURE
    )


def _message(error: "PoolError") -> str:
    """Return an error's message with the command's own advice, its request id and its cause."""
    from pool_service_client import ModelNotOnDisk, PoolUnavailable, TokenMissing

    before = f"; the failure before that: {error.__cause__}" if error.__cause__ else ""
    request = f" (request {error.request_id})" if error.request_id else ""
    todo = ""
    if isinstance(error, ModelNotOnDisk):
        todo = " Here that is --download."
    elif isinstance(error, TokenMissing):
        todo = " Or name the file with --token-file."
    elif isinstance(error, PoolUnavailable) and "its certificate is not accepted" in str(error):
        todo = "; name the authority that has issued it with --ca, and a name that it has"
    elif isinstance(error, PoolUnavailable) and str(error).startswith("cannot reach"):
        todo = "; start it with 'pool-service start', or name another one with --address"
    return f"{error}{todo}{request}{before}"


def _exit_code(error: "PoolError") -> ExitCode:
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
        # A retry is allowed, but nothing suggests that it would succeed.
        return ExitCode.REFUSED
    may_pass = isinstance(error, Evicted | ServerInUse) or error.retry_after is not None
    if may_pass or error.code.name == "UNAVAILABLE":
        return ExitCode.TRY_AGAIN
    return ExitCode.REFUSED if error.code.name in _FINAL_CODES else ExitCode.FAILURE


def config_failure(error: "ConfigError") -> Failure:
    """Return the Failure that reports an invalid configuration, with one problem per line."""
    if len(error.problems) > 1:
        return Failure(f"{error.headline}:", ExitCode.USAGE, error.problems)
    return Failure(str(error), ExitCode.USAGE)
