"""The runners of the languages: processes that read calls as lines of JSON."""

import json
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tests.conformance.expected import Json

LIMIT = 60.0
"""Seconds after which what does not come is taken to never come; nothing takes a tenth of it."""


class Call:
    """One command: its events so far, and how it ended."""

    def __init__(self, runner: "Runner", number: int, command: Json) -> None:
        self.number = number
        self.command = command
        self._runner = runner
        self._unread: deque[Json] = deque()
        self._all: list[Json] = []
        self._end: Json | None = None

    def take(self, line: Json) -> None:
        """What the runner says of it."""
        if "event" in line:
            self._unread.append(line["event"])
            self._all.append(line["event"])
        else:
            self._end = line

    @property
    def ended(self) -> bool:
        return self._end is not None

    @property
    def events(self) -> list[Json]:
        """All so far, whether they were waited for or not."""
        with self._runner.changed:
            return list(self._all)

    def event(self, suits: Callable[[Json], bool]) -> Json:
        """The next event that suits; those before it are passed over."""
        with self._runner.changed:
            while True:
                self._runner.wait_for(lambda: self._unread or self.ended, self)
                if not self._unread:
                    raise AssertionError(f"it ended without such an event: {self._end}")
                event = self._unread.popleft()
                if suits(event):
                    return event

    def end(self) -> Json:
        """`{"result": …}` or `{"error": …}`, when it has ended."""
        with self._runner.changed:
            self._runner.wait_for(lambda: self.ended, self)
            assert self._end is not None
            return self._end


class Runner:
    """One language's, for one scenario at a time."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        stderr: Path,
    ) -> None:
        self.changed = threading.Condition()
        self._stderr = stderr
        with stderr.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._numbers = count(1)
        self._calls: dict[int, Call] = {}
        self._stray: list[str] = []
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def begin(self, op: str, **fields: Any) -> Call:
        """Tell it a command."""
        number = next(self._numbers)
        call = Call(self, number, {"id": number, "op": op, **fields})
        with self.changed:
            self._calls[number] = call
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(call.command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(self._obituary()) from None
        return call

    def ask(self, op: str, **fields: Any) -> Json:
        """The result of a command that cannot fail."""
        end = self.begin(op, **fields).end()
        assert "result" in end, end
        result: Json = end["result"]
        return result

    def wait_for(self, holds: Callable[[], object], call: Call) -> None:
        """With the lock: wait for what this call is to do, longer than it may take itself."""
        limit = LIMIT + call.command.get("timeout", 0)
        if not self.changed.wait_for(lambda: self._over or holds(), limit):
            raise AssertionError(f"nothing came within {limit:g} s of {call.command}")
        if not holds():
            raise AssertionError(self._obituary())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            with self.changed:
                try:
                    line = json.loads(text)
                    self._calls[line["id"]].take(line)
                except (ValueError, LookupError, TypeError):
                    self._stray.append(text)
                self.changed.notify_all()
        with self.changed:
            self._over = True
            self.changed.notify_all()

    def _obituary(self) -> str:
        said = self._stderr.read_text()[-2000:]
        return f"the runner has ended. Its stderr: {said}\nNot of the protocol: {self._stray}"

    def close(self) -> int:
        """End it as its protocol says, by the end of its input; its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            code = self._process.wait(LIMIT)
            self._reader.join()
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
        assert not self._stray, f"not of the protocol: {self._stray}"
        return code
