"""How much the service's own code does, counted and not timed: the instructions that it runs."""

import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import pool_service

PACKAGE = str(Path(pool_service.__file__).parent)
GENERATED = "<string>"
"""The file of the methods that `dataclass` makes, as those that compare and hash."""


class Effort:
    """Counts the bytecode instructions of `pool_service` while its context lasts.

    What runs inside one instruction (a sort, a copy of a list) counts as one, but for the generated
    methods that it calls: a search of a list by comparison costs as much as it compares.
    """

    def __init__(self) -> None:
        self.instructions = 0

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Any:  # noqa: ANN401  # itself
        if not (frame.f_code.co_filename.startswith(PACKAGE) or _is_generated_part(frame)):
            return None
        frame.f_trace_opcodes = True
        self.instructions += event == "opcode"
        return self._trace


def _is_generated_part(frame: FrameType) -> bool:
    """Return whether a generated method was called by code that is counted, and not by a test."""
    caller = frame.f_back
    is_counted = caller is not None and caller.f_trace is not None
    return is_counted and frame.f_code.co_filename == GENERATED
