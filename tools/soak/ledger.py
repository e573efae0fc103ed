"""What happened in a soak: counts, the last events, and what must not have happened."""

import time
from collections import Counter, deque
from pathlib import Path

LAST = 60


class Ledger:
    """Everybody writes into it; every event also goes to a file, with the time since the start."""

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.violations: list[str] = []
        self._recent: deque[str] = deque(maxlen=LAST)
        self._began = time.monotonic()
        self._file = path.open("w", buffering=1)

    def count(self, what: str, number: int = 1) -> None:
        """One more of these."""
        self.counts[what] += number

    def measure(self, what: str, seconds: float) -> None:
        """Keep the longest."""
        self.longest[what] = max(seconds, self.longest.get(what, 0.0))

    def event(self, text: str) -> None:
        """Something that helps to understand what follows."""
        line = f"{time.monotonic() - self._began:8.3f} {text}"
        self._recent.append(line)
        self._file.write(line + "\n")

    def violation(self, text: str) -> None:
        """A promise was broken: note it with what happened just before."""
        self.event(f"VIOLATION {text}")
        self.violations.append("\n    ".join([text, *self._recent]))

    def close(self) -> None:
        """No more events."""
        self._file.close()
