"""The lines of a log as text that is safe to show, and which of them the pool itself caused."""

import re
import unicodedata
from collections.abc import Collection, Sequence

from pool_service.access.server_keys import strike

MAX_LINE_CHARS = 500
"""A longer line is cut where only some lines are shown, as in an error."""

ONLY_PROBES = "(nothing but answers to the pool's own health checks)"
"""The one line returned for a log that has nothing but answers to probes."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_CLIENT = re.compile(r"HTTP/[\d.]+|\b\d{1,3}(?:\.\d{1,3}){3}\b|::1\b|\blocalhost\b")
_FAILURE = re.compile(r"error|exception|traceback|fatal|panic", re.IGNORECASE)


def safe_line(line: str) -> str:
    """Return a line without escape sequences and keys; control characters are replaced.

    Of a line that was overwritten (a progress bar), the last state is kept.
    """
    # The frequent case; with many lines to read, the other one would hold up the event loop.
    return strike(line.rstrip() if line.isprintable() else _printable(line))


def _printable(line: str) -> str:
    shown = _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs(4).rstrip()
    if shown.isprintable():
        return shown
    return "".join("\ufffd" if unicodedata.category(c) in _UNSAFE else c for c in shown)


def short(line: str) -> str:
    """Return a line cut to MAX_LINE_CHARS."""
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - 1] + "…"


class ProbeFilter:
    """Recognizes the access log lines of the pool's own probes.

    A line is one of theirs if it has `GET` or `POST` with one of the paths, and an address (of
    loopback, or any of IPv4, as a server of a fleet is asked at) or the HTTP version. A line that
    mentions an error is none.

    paths: the URL paths of the pool's probes.
    """

    def __init__(self, paths: Collection[str]) -> None:
        known = "|".join(re.escape(path) for path in sorted(set(paths)) if path)
        self._asked = re.compile(rf"\b(?:GET|POST)\s+(?:{known})(?=[?\s\"']|$)") if known else None
        self._typical = re.compile(
            rb'^INFO: +\d+\.\d+\.\d+\.\d+:\d+ - "(?:GET|POST) (?:%s) HTTP/1\.[01]" 200 OK\n'
            % (known or "(?!)").encode(),
            re.MULTILINE,
        )

    def has(self, line: str) -> bool:
        """Return whether a line of a server's log is the answer to a probe."""
        if self._asked is None or not self._asked.search(line):
            return False
        return bool(_CLIENT.search(line)) and not _FAILURE.search(line)

    def without_typical(self, lines: bytes) -> bytes:
        """Return a log's lines without most of those that `has` recognizes.

        The usual form is removed from all lines at once, forty times as fast as line by line; a log
        may have hundreds of thousands of them.
        """
        return self._typical.sub(b"", lines)


def without_probes(lines: Sequence[str], paths: Collection[str]) -> list[str]:
    """Return the lines that are no access log lines of the pool's probes at these paths."""
    probes = ProbeFilter(paths)
    return [line for line in lines if not probes.has(line)]
