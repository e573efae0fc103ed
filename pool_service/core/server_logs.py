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
class LogPart:
    """Some lines of one generation, safe to show.

    position: the place after them.
    missed_bytes: bytes that were trimmed before they could be read.
    rest: the incomplete line after the position, as far as it is written.
    at_end: nothing else was left to read.
    """

    lines: tuple[str, ...]
    position: LogPosition
    missed_bytes: int = 0
    rest: str = ""
    at_end: bool = False


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
