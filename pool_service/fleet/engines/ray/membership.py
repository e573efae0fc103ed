"""Members from the nodes of a Ray cluster, which a child process lists."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import structlog

from pool_service.fleet.engines.trouble import Trouble

LISTER = Path(__file__).with_name("lister.py")

SILENCE_LIMIT_S = 30.0
"""How long the lister may write nothing, which writes once a second, before another one is started.
The import of Ray and the connection take several seconds."""

LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
"""The bounds of the pause before the next lister; it doubles with each that has written nothing."""

END_LIMIT_S = 5.0
"""How long a killed lister may take to end; a process that it has started may hold its pipes."""

LONGEST_LINE_BYTES = 1024 * 1024

LONGEST_REASON = 300
"""Characters of what a lister said last that are logged."""

log = structlog.get_logger("pool_service.fleet")


class ListerEnded(Exception):
    """The lister has ended, or is of no use; the text says why."""


class RayMembership:
    """Knows the members that are living nodes of a Ray cluster, by their labels.

    Ray ends a process that uses it when its head is away for a minute, and runs with one version of
    Python alone. So a child asks it, by an interpreter that may be another one than the front's.
    """

    def __init__(
        self,
        address: str,
        python: Path | None = None,
        silence_limit_s: float = SILENCE_LIMIT_S,
        least_pause_s: float = LEAST_PAUSE_S,
    ) -> None:
        """Prepare to follow a cluster.

        address: of its head, as HOST:PORT. python: the interpreter that has Ray; None: this one.
        """
        self._command = (str(python or sys.executable), str(LISTER), address)
        self._silence_limit_s = silence_limit_s
        self._least_pause_s = least_pause_s
        self._trouble = Trouble(f"asking Ray at {address} for the members")
        self._doubled: frozenset[str] = frozenset()

    async def changes(self) -> AsyncIterator[Mapping[str, str]]:
        known: Mapping[str, str] | None = None
        pause_s = self._least_pause_s
        while True:
            try:
                async with aclosing(self._listings()) as listings:
                    async for listed in listings:
                        self._trouble.over()
                        pause_s = self._least_pause_s
                        members = self._members(listed)
                        if members != known:
                            known = members
                            yield members
            except ListerEnded as error:
                self._trouble.met("ended", str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)

    async def _listings(self) -> AsyncGenerator[Sequence[tuple[str, str]]]:
        """Run a lister and yield what it writes. Raises ListerEnded in the end."""
        pipe = asyncio.subprocess.PIPE
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=pipe, limit=LONGEST_LINE_BYTES
            )
        except OSError as error:
            raise ListerEnded(f"cannot run {self._command[0]}: {error.strerror}") from error
        assert child.stdout is not None
        assert child.stderr is not None
        last_words = asyncio.create_task(_last_words(child.stderr))
        try:
            while line := await self._line(child.stdout):
                yield _read(line)
            raise ListerEnded(await last_words or "the process that asks it has ended")
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            last_words.cancel()
            await asyncio.gather(last_words, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_LIMIT_S):
                    # To the end of its pipes, which closes them.
                    await child.communicate()

    async def _line(self, output: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._silence_limit_s):
                return await output.readline()
        except TimeoutError as error:
            limit = f"{self._silence_limit_s:g} s"
            raise ListerEnded(f"the process that asks it was silent for {limit}") from error
        except ValueError as error:
            raise ListerEnded("the process that asks it wrote a line without an end") from error

    def _members(self, listed: Sequence[tuple[str, str]]) -> Mapping[str, str]:
        """Return the members by name; of two nodes with one name the first by its address."""
        members: dict[str, str] = {}
        doubled = set[str]()
        for name, address in sorted(listed):
            if name in members:
                doubled.add(name)
            members.setdefault(name, address)
        for name in sorted(doubled - self._doubled):
            log.warning(
                "fleet_name_taken",
                name=name,
                address=members[name],
                hint="Two nodes of Ray have this name, and only one of them is used: give each a"
                " label pool-name of its own.",
            )
        self._doubled = frozenset(doubled)
        return members


def _read(line: bytes) -> Sequence[tuple[str, str]]:
    """Return the names and addresses of a line. Raises ListerEnded if it is another one."""
    try:
        return [(str(name), str(address)) for name, address in json.loads(line)]
    except (ValueError, TypeError) as error:
        said = line[:LONGEST_REASON].decode(errors="replace").strip()
        raise ListerEnded(f"the process that asks it wrote {said!a}") from error


async def _last_words(errors: asyncio.StreamReader) -> str:
    """Return the last line on stderr that says something, once that is closed."""
    last = b""
    while piece := await errors.read(LONGEST_LINE_BYTES):
        last = (last + piece)[-LONGEST_LINE_BYTES:]
    lines = [line.strip() for line in last.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:LONGEST_REASON] if lines else ""
