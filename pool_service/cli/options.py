"""Options and argument types that several commands share."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypedDict, TypeVar

import click

from pool_service.core.units import seconds_of, share_of

FILE = click.Path(dir_okay=False, path_type=Path)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Target:
    """The service that a command calls; None: as the client decides.

    address: host:port or unix:PATH. token_file: a file with the token to show. ca: a file with the
    authorities to trust. cert, key: files with the certificate to show, and its key.
    """

    address: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class EnsureOptions(TypedDict):
    """The options of an Ensure; None: as the service is configured."""

    runtime_model: str | None
    keep_alive: float | None
    download: bool | None


class HoldOptions(EnsureOptions):
    """The options of a Hold. holder: a label of the caller."""

    holder: str


class LogOptions(TypedDict):
    """The options of a read log; see `PoolClient.logs`."""

    generation: int | None
    previous: bool
    oldest: bool
    cursor: str
    lines: int | None
    follow: bool


class Utf8Text(click.ParamType[str]):
    """Text that is valid UTF-8, as gRPC requires; arguments may be any bytes."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{text!r} is not UTF-8", param, ctx)
        return text


class Duration(click.ParamType[float]):
    """A finite duration: a number of seconds, or text with units; its value is in seconds."""

    name = "duration"

    def __init__(self, *, positive: bool = False, forever: bool = False) -> None:
        """positive: refuse zero and less. forever: accept the word "forever", as -1."""
        self._positive = positive
        self._forever = forever

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        if self._forever and text == "forever":
            return -1.0
        try:
            seconds = _seconds(text)
        except ValueError:
            word = ' or "forever"' if self._forever else ""
            form = f'write seconds, or units such as "90s", "5m" or "1h30m"{word}'
            self.fail(f"{value!r} is not a duration; {form}", param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not finite", param, ctx)
        if self._positive and seconds <= 0:
            self.fail(f"{value!r} must be more than 0", param, ctx)
        return seconds


class Share(click.ParamType[float]):
    """A share in percent, above 0 and up to 100; its value is 0 to 1."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return share_of(str(value))
        except ValueError as error:
            self.fail(f"{error}", param, ctx)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return seconds_of(text)


def _noted(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Put an option's value into the Target of the context, which its parent's command began."""
    target = ctx.obj or Target()
    ctx.obj = replace(target, **{str(param.name): value}) if value else target


_TARGET_OPTIONS = (
    (
        "--address",
        "ADDR",
        (
            "Address of the service: host:port or unix:PATH. Default: POOL_SERVICE_ADDRESS, else "
            "your service's socket, else 127.0.0.1:50051."
        ),
    ),
    (
        "--token-file",
        "FILE",
        (
            "File with the token that you show, if the service asks for one; only you may read it. "
            "Default: POOL_SERVICE_TOKEN, else the file that POOL_SERVICE_TOKEN_FILE names."
        ),
    ),
    (
        "--ca",
        "FILE",
        (
            "File with the authorities in PEM that you trust to know a service on another machine. "
            "Default: POOL_SERVICE_CA, else those of your system."
        ),
    ),
    (
        "--cert",
        "FILE",
        (
            "File with the certificate in PEM that you show there. Default: POOL_SERVICE_CERT, "
            "else none."
        ),
    ),
    (
        "--key",
        "FILE",
        "File with its private key; only you may read it. Default: POOL_SERVICE_KEY.",
    ),
)
"""The options of a Target: each with its metavar and its help before a command."""


def target_options(command: Callable[P, R], *, is_group: bool = True) -> Callable[P, R]:
    """Give a command the options of a Target, which becomes the context's object.

    is_group: the command has commands, whose own options override these.
    """
    for name, metavar, text in reversed(_TARGET_OPTIONS):
        command = click.option(
            name,
            metavar=metavar,
            type=FILE if metavar == "FILE" else None,
            help=text if is_group else f"Overrides {name} before the command.",
            callback=_noted,
            expose_value=False,
        )(command)
    return command


def calls_service(command: Callable[Concatenate[Target, P], R]) -> Callable[P, R]:
    """Give a command the options of a Target, and pass that as the first argument."""
    return click.pass_obj(target_options(command, is_group=False))


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line."
)
timeout_option = click.option(
    "--timeout",
    type=Duration(positive=True),
    metavar="DURATION",
    help="Give up after this time, such as 90s. Failures that may pass are retried until then.",
)
config_option = click.option(
    "--config",
    "config_file",
    type=FILE,
    metavar="FILE",
    help="Read the configuration, in TOML, from FILE.",
)
runtime_model_option = click.option(
    "--runtime-model",
    type=Utf8Text(),
    metavar="R",
    help="Load R for MODEL: a Hugging Face id or a directory.",
)
keep_alive_option = click.option(
    "--keep-alive",
    type=Duration(forever=True),
    metavar="DURATION",
    help="Stop the server when it has been unused for this time, such as 5m; 0: at once; forever: "
    "only when you evict it.",
)
download_option = click.option(
    "--download/--no-download",
    default=None,
    help="Whether missing files may be downloaded. Default: as the service is configured.",
)
