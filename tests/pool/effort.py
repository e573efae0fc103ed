"""How much the service's own code does, counted and not timed: the instructions that it runs."""

import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import pool_service

PACKAGE = str(Path(pool_service.__file__).parent)


class Effort:
    """Counts the bytecode instructions of `pool_service` while its context lasts.

    What runs inside one instruction (a sort, a copy of a list) counts as one.
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
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        self.instructions += event == "opcode"
        return self._trace
