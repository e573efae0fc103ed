"""Which of a model's own arguments a runtime complains of, so that not its files are blamed."""

import re
from collections.abc import Iterator, Sequence

from pool_service.core.types import Settings

_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def blamed_argument(words: str, settings: Settings) -> str | None:
    """Return the argument of the configuration that a runtime's words name, or None.

    An option is named as itself. Of the values only paths and ids of models can be told from
    what a runtime says of anything else, and not where the runtime model is named so.
    """
    named = set(_OPTION.findall(words))
    for option, value in _pairs(settings.arguments):
        if option in named:
            return option
        if "/" in value and value in words and value not in settings.runtime_model:
            return f"{option} {value}".strip()
    return None


def runtime_section(settings: Settings) -> str:
    """Return the section of the configuration that describes their runtime."""
    return f"[runtimes.{settings.runtime}]" if settings.runtime else "[runtime]"


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, and with "" where none is told yet."""
    option = ""
    for part in arguments:
        if part.startswith("-"):
            option, _, value = part.partition("=")
            yield option, value
        else:
            yield option, part
