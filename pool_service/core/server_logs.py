"""Values for reading the logs of servers: positions, parts, and what a caller wants to read."""

from dataclasses import dataclass
from enum import Enum, auto

from pool_service.core.server import Exit


class Whence(Enum):
    """The generation of a model with which reading begins."""

    NEWEST = auto()
    PREVIOUS = auto()
    OLDEST = auto()


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A place in the logs of a model.

    file_id: the identity of the file; another file can get the same name.
    offset: in bytes.
    is_ended: the end of this file's process was handed out, too.
    is_alone: unless the reader follows, reading ends with this generation.
    """

    generation: int
    file_id: int
    offset: int
    is_ended: bool = False
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class LogState:
    """The state of a log's file; it is another one after each write.

    inode: 0 if the file cannot be looked at. written_ns: the time of the last write. size: bytes.
    """

    inode: int
    size: int
    written_ns: int


@dataclass(frozen=True, slots=True)
class LogPart:
    """Some lines of one generation, safe to show.

    position: the place after them.
    missed_bytes: bytes that were trimmed before they could be read.
    rest: the incomplete line after the position, as far as it is written, if it was asked for.
    at_end: nothing else was left to read.
    state: the state of the file just before it was read; None: it is not kept any more.
    """

    lines: tuple[str, ...]
    position: LogPosition
    missed_bytes: int = 0
    rest: str = ""
    at_end: bool = False
    state: LogState | None = None


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The end of the process of a generation, after its last line; exit: None if not known."""

    position: LogPosition
    exit: Exit | None


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A request to read the logs of a model.

    begin: the generation, or which one; a position: go on after that place.
    lines: how many of the last lines of the first generation; None: all of them. After a position
    all lines are read.
    follow: wait for new lines and new generations, without end.
    """

    begin: int | Whence | LogPosition = Whence.NEWEST
    lines: int | None = 100
    follow: bool = False
