"""Which argument of a server's command a runtime blames in its last words."""

import re
from collections.abc import Iterator, Sequence

from pool_service.core.server import Server
from pool_service.core.types import Settings

_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def blamed_argument(words: str, settings: Settings) -> str | None:
    """Return the configured argument that a runtime's message names, or None.

    An option counts if it stands in the message; a value only if it has a "/", since others occur
    in messages by chance, and only if it is not part of the runtime model.
    """
    return _blamed(words, settings.arguments, (settings.runtime_model,))


def blamed_of_runtime(words: str, server: Server) -> str | None:
    """Return the argument of the runtime's command that a message names, or None."""
    plan = server.plan
    if plan is None:
        return None
    names = (server.settings.runtime_model, server.model, plan.served_model_name)
    # The first word is the program.
    return _blamed(words, plan.argv[1:], names)


def _blamed(words: str, arguments: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first of the arguments that a message names; names: those of the model."""
    named = set(_OPTION.findall(words))
    for option, value in _pairs(arguments):
        if option in named:
            return option
        if "/" in value and value in words and not any(value in name for name in names):
            return f"{option} {value}".strip()
    return None


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option with "" or the value joined by "=", and again with each value after it."""
    option = ""
    for part in arguments:
        if part.startswith("-"):
            option, _, value = part.partition("=")
            yield option, value
        else:
            yield option, part
