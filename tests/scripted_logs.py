"""The port `Logs` over texts in memory, which a test writes."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from pool_service.core.server_logs import LogPart, LogPosition, LogState

LINES_OF_PART = 3
"""So few that a log of some lines is read in several parts."""


@dataclass
class ScriptedLogs:
    """Logs of any model and generation. A position's offset is a number of lines."""

    lines: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    trimmed: dict[tuple[str, int], int] = field(default_factory=dict)
    rest: dict[tuple[str, int], str] = field(default_factory=dict)
    probed: set[frozenset[str]] = field(default_factory=set)
    files: Counter[tuple[str, int]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    """How often each method was called."""

    def replace(self, model: str, generation: int, *lines: str) -> None:
        """Let another file have the name of a log."""
        self.files[model, generation] += 1
        self.lines[model, generation] = list(lines)

    def _file_id(self, model: str, generation: int) -> int:
        return 1000 * generation + self.files[model, generation]

    def write(self, model: str, generation: int, *lines: str) -> None:
        self.lines.setdefault((model, generation), []).extend(lines)

    async def generations(self, model: str) -> tuple[int, ...]:
        self.calls["generations"] += 1
        return tuple(sorted(generation for name, generation in self.lines if name == model))

    async def seek(
        self, model: str, generation: int, lines: int | None, probed: Collection[str]
    ) -> LogPosition | None:
        self.calls["seek"] += 1
        written = self.lines.get((model, generation))
        if written is None:
            return None
        offset = 0 if lines is None else max(0, len(written) - lines)
        return LogPosition(generation, self._file_id(model, generation), offset)

    async def states(self, logs: Sequence[tuple[str, int]]) -> list[LogState | None]:
        self.calls["states"] += 1
        return [self._state(log) for log in logs]

    def _state(self, log: tuple[str, int]) -> LogState | None:
        if log not in self.lines:
            return None
        # A line that grows, and a head that is trimmed, are writes as well.
        size = len("".join(self.lines[log])) + len(self.rest.get(log, ""))
        return LogState(self._file_id(*log), size, self.trimmed.get(log, 0))

    async def read(
        self,
        model: str,
        position: LogPosition,
        probed: Collection[str],
        *,
        ended: bool,
        with_rest: bool,
    ) -> LogPart | None:
        self.calls["read"] += 1
        self.probed.add(frozenset(probed))
        written = self.lines.get((model, position.generation))
        if written is None:
            return None
        file_id = self._file_id(model, position.generation)
        is_same = file_id == position.file_id
        wanted = position.offset if is_same and position.offset <= len(written) else 0
        begin = max(wanted, self.trimmed.get((model, position.generation), 0))
        lines = tuple(written[begin : begin + LINES_OF_PART])
        end = begin + len(lines)
        return LogPart(
            lines,
            replace(
                position,
                file_id=file_id,
                offset=end,
                is_ended=position.is_ended and is_same,
            ),
            missed_bytes=begin - wanted,
            rest=self.rest.get((model, position.generation), "") if with_rest else "",
            at_end=end == len(written),
            state=self._state((model, position.generation)),
        )
