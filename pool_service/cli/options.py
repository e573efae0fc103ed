"""Options and argument types that several commands share."""

import math
from pathlib import Path
from typing import TypedDict

import click

from pool_service.core.units import seconds_of

FILE = click.Path(dir_okay=False, path_type=Path)


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


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return seconds_of(text)


address_option = click.option(
    "--address",
    metavar="ADDR",
    help="Address of the service; overrides --address before the command.",
    callback=lambda ctx, _param, given: given or ctx.obj,
)
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
