"""Validation of the fields of TailLogs; see `validation`. A front leaves it to the members."""

import re
from dataclasses import astuple

from pool_service.core.server_logs import LogPosition, LogQuery, Whence
from pool_service.rpc.validation import MAX_LOG_LINES, invalid
from pool_service.v1 import pool_service_pb2 as pb

DEFAULT_LOG_LINES = 100
MAX_CURSOR_NUMBER = 2**64 - 1
_CURSOR = re.compile(r"(?:(?:0|[1-9][0-9]{0,19})\.){3}[01]\.[01]")


def log_query(request: pb.TailLogsRequest) -> LogQuery:
    """Return what a caller wants to read of the logs of a model."""
    which = request.WhichOneof("begin")
    begin: int | Whence | LogPosition
    match which:
        case None:
            begin = Whence.NEWEST
        case "generation":
            begin = request.generation
        case "previous" if request.previous:
            begin = Whence.PREVIOUS
        case "oldest" if request.oldest:
            begin = Whence.OLDEST
        case "cursor":
            begin = log_position(request.cursor)
        case _:
            raise invalid("begin", f"cannot be {which} = false: leave it out")
    if which in {"oldest", "cursor"}:
        if request.HasField("lines"):
            raise invalid("lines", f"cannot go with {which}, with which all lines are sent")
        return LogQuery(begin, None, request.follow)
    return LogQuery(begin, _log_lines(request), request.follow)


def _log_lines(request: pb.TailLogsRequest) -> int:
    """Return how many of the last lines to begin with."""
    lines = request.lines if request.HasField("lines") else DEFAULT_LOG_LINES
    if lines > MAX_LOG_LINES:
        raise invalid("lines", f"cannot be over {MAX_LOG_LINES}; begin with oldest to read all")
    return lines


def log_position(cursor: str) -> LogPosition:
    """Return the position that a cursor stands for."""
    if not _CURSOR.fullmatch(cursor):
        raise invalid("cursor", "is not one that this call returned")
    generation, file_id, offset, is_ended, is_alone = map(int, cursor.split("."))
    if max(generation, file_id, offset) > MAX_CURSOR_NUMBER:
        raise invalid("cursor", "is not one that this call returned")
    return LogPosition(generation, file_id, offset, bool(is_ended), bool(is_alone))


def log_cursor(position: LogPosition) -> str:
    """Return the cursor that stands for a position."""
    return ".".join(str(int(number)) for number in astuple(position))
