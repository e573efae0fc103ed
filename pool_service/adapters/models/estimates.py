"""Memory estimates: the bytes that a model's server will need, before it runs.

Earlier runs are remembered in STATE/expectations.json, by the runtime with its version,
the model and the arguments: each of them changes what is needed.
"""

import hashlib
import json
import os
from dataclasses import astuple, dataclass
from pathlib import Path

import structlog

from pool_service.adapters.system.own_files import parse_json, read_own, write_own

_log = structlog.get_logger(__name__)

WEIGHTS_FACTOR = 1.15
"""Factor on the bytes of the weights for copies at loading and a request's key-value cache."""

BASE = 115 * 1024**2
"""Bytes that a vllm-mlx takes without weights: its interpreter and libraries.

Of vllm-mlx 0.6.0 on Linux, in MiB, weights against the footprint READY and after use: 0.4
against 79 and 107, 322 against 402 and 463, 513 against 645 and 649.
"""

GUESS = 4 * 1024**3
"""Bytes for a model of which nothing is known: that of seven billion weights of 4 bits."""

FADING = 0.9
"""Factor on the remembered need after each run that needed less, so that one outlier does not
reserve memory for ever."""

MOST_ENTRIES = 1000
LARGEST_BYTES = 1024 * 1024
LARGEST_NEED = 2**50
_VERSION = 1


def estimated(weights: int) -> int:
    """Return the bytes that a server needs at most, by the bytes of its weights."""
    return int(BASE + WEIGHTS_FACTOR * weights)


@dataclass(frozen=True, slots=True)
class ExpectationKey:
    """The properties that decide how much memory a run needs. version: empty if not known."""

    runtime: str
    version: str
    runtime_model: str
    arguments: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The key's name in the file."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:32]


class ExpectationBook:
    """The memory that earlier runs needed. Works from memory if the disk fails."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "expectations.json"
        self._needed: dict[str, int] | None = None
        self._troubled = False

    def needed(self, key: ExpectationKey) -> int | None:
        """Return the bytes that runs with this key needed; None if there was none."""
        return self._known().get(key.digest)

    def record_usage(self, key: ExpectationKey, needed: int) -> None:
        """Record that a run with this key needed `needed` bytes at most."""
        known = self._known()
        before = known.pop(key.digest, 0)
        # The newest entries are last; the first ones are dropped.
        known[key.digest] = recorded = max(needed, int(before * FADING))
        while len(known) > MOST_ENTRIES:
            del known[next(iter(known))]
        if recorded != before:
            self._write(known)

    def _known(self) -> dict[str, int]:
        if self._needed is None:
            self._needed = self._read()
        return self._needed

    def _read(self) -> dict[str, int]:
        try:
            content = parse_json(read_own(self._path, LARGEST_BYTES)[0])
            needed: dict[str, int] = content["needed"] if content["version"] == _VERSION else {}
            if all(type(count) is int and 0 <= count <= LARGEST_NEED for count in needed.values()):
                return needed
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        _log.warning("what earlier runs needed cannot be read; it is learnt anew")
        return {}

    def _write(self, known: dict[str, int]) -> None:
        """Replace the file atomically by a rename, so that it is never incomplete."""
        beside = self._path.with_suffix(".tmp")
        try:
            write_own(beside, json.dumps({"version": _VERSION, "needed": known}).encode())
            os.replace(beside, self._path)  # noqa: PTH105  # says what it does
        except OSError as error:
            if not self._troubled:
                _log.warning("what runs need cannot be remembered", error=str(error))
            self._troubled = True
        else:
            self._troubled = False
