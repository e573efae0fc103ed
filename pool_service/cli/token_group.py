"""The group of commands `token`, with their arguments and help."""

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

import click

from pool_service.access.principal import CallerLimits
from pool_service.cli.options import Duration, Share, Utf8Text, config_option, json_option

Command = TypeVar("Command", bound=Callable[..., object])

MOST = 100_000
"""More than the calls that a service takes at a time."""

_LIMITS = CallerLimits()

state_dir_option = click.option(
    "--state-dir",
    type=Utf8Text(),
    metavar="DIR",
    help="Use DIR, the state directory of the service.",
)


class LimitOptions(TypedDict):
    """The limits of a client, by their options."""

    max_holds: int
    max_waiting: int
    max_streams: int
    starts_per_minute: int
    memory_share: float


def _limit(name: str, default: float, what: str) -> Callable[[Command], Command]:
    """Return an option for a limit of the client's calls."""
    return click.option(
        name, type=click.IntRange(0, MOST), default=int(default), show_default=True, help=what
    )


@click.group()
def token() -> None:
    """Let callers in by tokens: programs of other users, containers, other machines.

    The commands change a file in the state directory, whether a service runs or not. A running one
    notices it within a second.
    """


@token.command()
@click.argument("name", type=Utf8Text())
@click.option(
    "--scope",
    type=click.Choice(["read", "use", "admin"]),
    default="read",
    show_default=True,
    help="read: see servers and models. use: also start and hold listed models, and evict unused "
    "servers. admin: everything.",
)
@click.option("--logs", is_flag=True, help="Also let it read logs, which can hold prompts.")
@click.option(
    "--model",
    "models",
    type=Utf8Text(),
    multiple=True,
    metavar="PATTERN",
    help="Let it know of no other models; `*` and `?` are wildcards. May be repeated.",
)
@click.option(
    "--expires-in",
    type=Duration(positive=True),
    metavar="DURATION",
    help="Let it expire after this time, such as 720h. Default: never.",
)
@_limit("--max-holds", _LIMITS.holds, "How many holds it may have open.")
@_limit("--max-waiting", _LIMITS.waiting, "How many of its calls may wait for a server.")
@_limit("--max-streams", _LIMITS.streams, "How many streams of watch, logs and pull it may have.")
@_limit("--starts-per-minute", _LIMITS.starts_per_minute, "How many servers it may have started.")
@click.option(
    "--memory-share",
    type=Share(),
    default="100%",
    show_default=True,
    metavar="PERCENT",
    help="What the servers that are started for it may take of the memory budget, such as 50%.",
)
@config_option
@state_dir_option
def create(
    name: str,
    *,
    scope: str,
    logs: bool,
    models: tuple[str, ...],
    expires_in: float | None,
    config_file: Path | None,
    state_dir: str | None,
    **limits: Unpack[LimitOptions],
) -> None:
    """Make a token for the client NAME, and print it.

    It is shown this once: the service keeps only its SHA-256. Put it into a file that only the
    client can read, and name the file in POOL_SERVICE_TOKEN_FILE.

    For example: pool-service token create engine --scope use --model 'qwen*' > engine.token
    """
    from pool_service.cli import token_commands

    token_commands.create(
        config_file,
        state_dir,
        name,
        scope=scope,
        logs=logs,
        models=models or ("*",),
        limits=CallerLimits(
            limits["max_holds"],
            limits["max_waiting"],
            limits["max_streams"],
            limits["starts_per_minute"],
            limits["memory_share"],
        ),
        expires_in=expires_in,
    )


@token.command("list")
@config_option
@state_dir_option
@json_option
def list_tokens(config_file: Path | None, state_dir: str | None, *, as_json: bool) -> None:
    """Show the clients that have a token, and what they may do."""
    from pool_service.cli import token_commands

    token_commands.print_list(config_file, state_dir, as_json=as_json)


@token.command()
@click.argument("name", type=Utf8Text())
@config_option
@state_dir_option
def revoke(name: str, config_file: Path | None, state_dir: str | None) -> None:
    """Revoke the token of the client NAME. Its open streams end within ten seconds."""
    from pool_service.cli import token_commands

    token_commands.revoke(config_file, state_dir, name)
