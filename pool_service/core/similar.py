"""Names that somebody may have meant who wrote another one."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import islice

MOST_MEANT = 3
NEAR = 0.75
"""Of 1. One wrong, missing or further letter in six is nearer; what only begins alike is not."""

MOST_COMPARED = 256
"""Names; each that has about the right length takes some ten microseconds."""


def similar(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are nearest to `name`, the nearest first, without `name` itself.

    Capitals make no difference, and the last part (of ORG/NAME) may be written alone.
    """
    asked = name.lower()
    scores: dict[str, float] = {}
    for other in islice(dict.fromkeys(known), MOST_COMPARED):
        if other != name:
            lower = other.lower()
            tails = (asked.rpartition("/")[2], lower.rpartition("/")[2])
            scores[other] = max(_likeness(asked, lower), _likeness(*tails))
    near = [other for other in scores if scores[other] >= NEAR]
    return tuple(sorted(near, key=lambda other: -scores[other])[:MOST_MEANT])


def did_you_mean(names: Iterable[str]) -> str:
    """Return a question, with a space before it, that offers these names; nothing for none."""
    quoted = [repr(name) for name in names]
    if not quoted:
        return ""
    *first, last = quoted
    return f" Did you mean {', '.join(first)} or {last}?" if first else f" Did you mean {last}?"


def _likeness(a: str, b: str) -> float:
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.real_quick_ratio() < NEAR or matcher.quick_ratio() < NEAR:
        return 0.0
    return matcher.ratio()
