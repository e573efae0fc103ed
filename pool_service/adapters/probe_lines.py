"""Tells the lines that a server writes about the pool's own probes from all others."""

import re
from collections.abc import Collection, Sequence

ONLY_PROBES = "(nothing but answers to the pool's own health checks)"
"""Stands for the lines of a server that wrote of nothing else."""

_CLIENT = re.compile(r"HTTP/[\d.]+|\b127\.0\.0\.1\b|::1\b|\blocalhost\b")
_FAILURE = re.compile(r"error|exception|traceback|fatal|panic", re.IGNORECASE)


def without_probes(lines: Sequence[str], paths: Collection[str]) -> list[str]:
    """Return the lines that are not of the pool's probes.

    A line is of a probe if it is an access log's: it has `GET` or `POST` and one of the paths,
    and the client's loopback address or the version of HTTP. One that speaks of an error stays.

    Args:
        lines: what a server wrote.
        paths: what the pool asks: the health path, and others where they are configured.
    """
    known = sorted(path for path in set(paths) if path)
    if not known:
        return list(lines)
    asked = re.compile(rf"\b(?:GET|POST)\s+(?:{'|'.join(map(re.escape, known))})(?=[?\s\"']|$)")
    return [line for line in lines if not _is_probe(line, asked)]


def _is_probe(line: str, asked: re.Pattern[str]) -> bool:
    return bool(asked.search(line) and _CLIENT.search(line)) and not _FAILURE.search(line)
