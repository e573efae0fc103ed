"""Logging configuration: destination and format of all log lines, libraries' lines included.

A value cannot forge a log line or control a terminal: in text, unprintable characters are escaped
and values with spaces are quoted; JSON escapes them anyway.
"""

import json
import logging
import math
import os
import sys
from typing import Any, Literal, Protocol

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from pool_service.access.server_keys import strike

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_EVENT_WIDTH = 24


class Stream(Protocol):
    """The part of a text stream that logging uses."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


def configure_logging(
    log_format: LogFormat, log_level: LogLevel, stream: Stream | None = None
) -> None:
    """Send every log line of this process to `stream` (None: stderr), in one format.

    A further call replaces the configuration.
    """
    stream = stream or sys.stderr
    level = getattr(logging, log_level.upper())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_json() if log_format == "json" else _text(colors=_has_colors(stream))),
                _without_keys,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(capture=True)


def _without_keys(_logger: WrappedLogger, _method: str, line: Any) -> Any:  # noqa: ANN401
    """Strike keys of servers out of a rendered line, wherever they came from."""
    return strike(line)


def _json() -> list[Processor]:
    return [_replace_infinite, structlog.processors.JSONRenderer(serializer=json.dumps)]


def _text(*, colors: bool) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=_EVENT_WIDTH,
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [_escape_event, renderer]


def _has_colors(stream: Stream) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _replace_infinite(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace infinite numbers by text: JSON has no infinity, and keep_alive can be infinite."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in event.items()
    }


def _escape_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape all keys and values, so that an event stays on its line."""
    traceback = event.pop("exception", None)
    escaped: EventDict = {
        _escaped(key): _escaped(str(value)) if key == "event" else _escaped_value(value)
        for key, value in event.items()
    }
    if traceback is not None:
        # Indented, so that no line of the traceback looks like a log line.
        lines = str(traceback).splitlines()
        escaped["exception"] = "\n".join(f"    {_escaped(line)}" for line in lines)
    return escaped


def _escaped_value(value: object) -> object:
    """Return the value itself if it is printable, else escaped; the renderer adds quotes."""
    text = value if isinstance(value, str) else repr(value)
    return value if text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
