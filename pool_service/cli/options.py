"""What several commands take."""

import math
from pathlib import Path
from typing import TypedDict

import click

from pool_service.durations import seconds_of

FILE = click.Path(dir_okay=False, path_type=Path)


class Asked(TypedDict):
    """What is asked of a server besides its model; None is as the service has it."""

    runtime_model: str | None
    keep_alive: float | None
    download: bool | None


class AskedToHold(Asked):
    """The same, and who asks."""

    holder: str


class Name(click.ParamType[str]):
    """Text that can travel: arguments may hold any bytes."""

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
    """A finite length of time: a number of seconds, or text with units."""

    name = "duration"

    def __init__(self, *, positive: bool = False, forever: bool = False) -> None:
        """positive: refuse zero and less; forever: take that word, as a negative number."""
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
            self.fail(f"{value!r} is no duration; {form}", param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not finite", param, ctx)
        if self._positive and seconds <= 0:
            self.fail(f"{value!r} is not more than 0", param, ctx)
        return seconds


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return seconds_of(text)


address_option = click.option(
    "--address",
    metavar="ADDR",
    help="Address of the service; overrides the global --address.",
    callback=lambda ctx, _param, given: given or ctx.obj,
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON objects, one a line."
)
timeout_option = click.option(
    "--timeout",
    type=Duration(positive=True),
    metavar="DURATION",
    help="Give up after this time, as in 90s; until then retry failures that may pass.",
)
config_option = click.option(
    "--config", "config_file", type=FILE, metavar="FILE", help="The configuration, in TOML."
)
runtime_model_option = click.option(
    "--runtime-model",
    type=Name(),
    metavar="R",
    help="Model that the runtime loads: an id of the hub, or a directory.",
)
keep_alive_option = click.option(
    "--keep-alive",
    type=Duration(forever=True),
    metavar="DURATION",
    help="Time that the server stays unused, as in 5m; 0: none; forever: until it is evicted.",
)
download_option = click.option(
    "--download/--no-download",
    default=None,
    help="Allow or forbid to download missing files. Default: as the service is configured.",
)
