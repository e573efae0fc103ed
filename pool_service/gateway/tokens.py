"""Counting of the tokens of an answer, without parsing its events."""

import re
from typing import Final

_USAGE: Final = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,9})')
"""The count at the end of an answer, by OpenAI's and Anthropic's APIs. In the text of an answer the
quotes have a backslash before them."""

_EVENT: Final = b"data: {"


def events_of(piece: bytes) -> int:
    """Return how many events begin in a piece of a stream."""
    return piece.count(_EVENT)


def tokens_of(end: bytes, events: int) -> int:
    """Return the tokens of an answer as its server has counted them, else its number of events.

    end: the end of the answer; events: of a stream, else 0. A server sends an event for each token,
    and one or two more.
    """
    counts = _USAGE.findall(end)
    return int(counts[-1]) if counts else events
