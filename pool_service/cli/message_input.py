"""Read what a person types or pastes, a message at a time."""

import importlib
import os
import select
import sys
from typing import Final

PROMPT: Final = "> "
GOES_ON: Final = ". "
BLOCK: Final = '"""'

PASTE_PAUSE_S: Final = 0.05
"""A line that follows another one so soon was pasted with it: nobody types so fast."""


def edit_lines() -> None:
    """Let `input` edit lines and remember them, by readline or libedit where there is one."""
    try:
        readline = importlib.import_module("readline")
    except ImportError:
        return
    # Python turns it off for its own prompt. GNU readline takes what is pasted as one text then;
    # libedit, which macOS has, knows no such setting and says so on stderr.
    # A dumb terminal would show the characters that ask for it.
    if "libedit" not in (readline.__doc__ or "") and os.environ.get("TERM") != "dumb":
        readline.parse_and_bind("set enable-bracketed-paste on")


def read_message() -> str:
    """Return the next message: a line, all lines that were pasted, or a block in triple quotes.

    Raises EOFError where the input ends before a message.
    """
    text = input(PROMPT)
    if text.lstrip().startswith(BLOCK):
        return _block(text.lstrip().removeprefix(BLOCK))
    lines = [text]
    while _is_more_there():
        try:
            lines.append(input())
        except EOFError:
            break
    return "\n".join(lines)


def _block(text: str) -> str:
    """Return the text up to the quotes that end the block, or up to the end of the input."""
    while not text.rstrip().endswith(BLOCK):
        try:
            text += "\n" + input(GOES_ON)
        except EOFError:
            return text
    return text.rstrip().removesuffix(BLOCK).strip("\n")


def _is_more_there() -> bool:
    """Return whether a further line came with the last one."""
    return bool(select.select([sys.stdin], [], [], PASTE_PAUSE_S)[0])
