"""Input of `run`: reads what the user types or pastes, a message at a time."""

import importlib
import os
import select
import sys
from typing import Final

PROMPT: Final = "> "
BLOCK_PROMPT: Final = ". "
BLOCK_QUOTES: Final = '"""'

PASTE_PAUSE_S: Final = 0.05
"""Time within which a further line belongs to the same paste: nobody types so fast."""


def enable_line_editing() -> None:
    """Give `input` line editing and a history, by readline or libedit if Python has one."""
    try:
        readline = importlib.import_module("readline")
    except ImportError:
        return
    # Bracketed paste makes GNU readline take pasted lines as one text; Python turns it off.
    # libedit, on macOS, would report an unknown setting on stderr, and a dumb terminal would
    # show the characters that turn it on.
    if "libedit" not in (readline.__doc__ or "") and os.environ.get("TERM") != "dumb":
        readline.parse_and_bind("set enable-bracketed-paste on")


def read_message() -> str:
    """Return the next message: a line, pasted lines, or a block in triple quotes.

    Raises EOFError at the end of the input.
    """
    text = input(PROMPT)
    if text.lstrip().startswith(BLOCK_QUOTES):
        return _read_block(text.lstrip().removeprefix(BLOCK_QUOTES))
    lines = [text]
    while _is_input_pending():
        try:
            lines.append(input())
        except EOFError:
            break
    return "\n".join(lines)


def _read_block(text: str) -> str:
    """Return a block that begins with `text`, up to its closing quotes or the end of the input."""
    while not text.rstrip().endswith(BLOCK_QUOTES):
        try:
            text += "\n" + input(BLOCK_PROMPT)
        except EOFError:
            return text
    return text.rstrip().removesuffix(BLOCK_QUOTES).strip("\n")


def _is_input_pending() -> bool:
    """Return whether a further line arrives within PASTE_PAUSE_S."""
    return bool(select.select([sys.stdin], [], [], PASTE_PAUSE_S)[0])
