"""Estimates of the memory that a model's server will need, and of the time that it will load.

The usage of earlier runs is remembered in STATE/expectations.json, by all that changes it
(`UsageKey`).
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self, TypeVar

import structlog

from pool_service.adapters.system.own_files import parse_json, read_own, write_own
from pool_service.core.types import MAX_DURATION_S

T = TypeVar("T")
_log = structlog.get_logger(__name__)

WEIGHTS_FACTOR = 1.15
"""Factor on the bytes of the weights, for copies while loading and a request's key-value cache."""

PROMPTS_SHARE = 0.25
"""The share of the weights that kept prompts are expected to take, within their bound: some 8,000
tokens of a model of eight billion weights of 4 bits (128 KiB a token). What they really take is
measured and remembered."""

BASE_BYTES = 115 * 1024**2
"""The bytes of a vllm-mlx without weights: its interpreter and libraries.

Measured with vllm-mlx 0.6.0 on Linux, in MiB:

    weights    footprint when READY    after use
    0.4        79                      107
    322        402                     463
    513        645                     649
"""

GUESS_BYTES = 4 * 1024**3
"""The estimate for an unknown model: about that of seven billion weights of 4 bits."""

DECAY_FACTOR = 0.9
"""Factor on the remembered usage after each run that used less, so that one outlier does not
reserve memory for ever."""

LOAD_STEP_SHARE = 0.1
"""The share by which the time of loads has to differ from what is written, to be written."""

LOAD_STEP_S = 0.1
"""The seconds by which it has to differ at least."""

MAX_ENTRIES = 1000
MAX_FILE_BYTES = 1024 * 1024
MAX_NEEDED_BYTES = 2**50
"""A file with a larger number is not valid."""

_VERSION = 1


def estimate_bytes(weight_bytes: int, prompt_cache: int = 0) -> int:
    """Return the bytes that a server needs, by the bytes of its weights (see the factors above).

    prompt_cache: the bytes that it may keep of computed prompts.
    """
    prompts = min(prompt_cache, PROMPTS_SHARE * weight_bytes)
    return int(BASE_BYTES + WEIGHTS_FACTOR * weight_bytes + prompts)


@dataclass(frozen=True, slots=True)
class UsageKey:
    """The properties of a run that decide how much memory and time it needs.

    version: "" if not known. prompt_cache: the bytes of computed prompts that it may keep.
    """

    runtime: str
    version: str
    runtime_model: str
    arguments: tuple[str, ...] = ()
    prompt_cache: int = 0
    warm_prompts: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The key's name in the file."""
        return _digest(self)


@lru_cache(1024)
def _digest(key: UsageKey) -> str:
    return hashlib.sha256(json.dumps(astuple(key)).encode()).hexdigest()[:32]


class UsageStore:
    """Remembers the memory and the time that earlier runs needed.

    Reads the file when it is made, and writes it in a thread of its own. If the disk fails, works
    in memory alone.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "expectations.json"
        self._has_failed = False
        self._known = self._read()
        # The seconds as they are in the file: others that hardly differ are not written.
        self._written = dict(self._known.seconds)
        self._writer = ThreadPoolExecutor(1, "usage")

    def needed(self, key: UsageKey) -> int | None:
        """Return the bytes that runs with this key needed; None without such a run."""
        return self._known.needed.get(key.digest)

    def load_seconds(self, key: UsageKey) -> float | None:
        """Return the seconds that loads with this key took; None without such a load."""
        return self._known.seconds.get(key.digest)

    def record_usage(self, key: UsageKey, needed: int) -> None:
        """Record that a run with this key needed `needed` bytes at most."""
        entries = self._known.needed
        before = entries.get(key.digest, 0)
        _remember(entries, key, recorded := max(needed, int(before * DECAY_FACTOR)))
        if recorded != before:
            self._write()

    def record_load(self, key: UsageKey, seconds: float) -> None:
        """Record that a load with this key took `seconds`: half of it counts, half what was before.

        Small changes are not written, since there is one with each start.
        """
        entries = self._known.seconds
        before = entries.get(key.digest)
        after = seconds if before is None else (seconds + before) / 2
        _remember(entries, key, after)
        written = self._written.get(key.digest)
        step = 0.0 if written is None else max(LOAD_STEP_SHARE * written, LOAD_STEP_S)
        if written is None or abs(after - written) > step:
            self._write()

    def close(self) -> None:
        """Wait until all that was recorded is written. Blocking."""
        self._writer.shutdown()

    def _read(self) -> "_Known":
        try:
            content = parse_json(read_own(self._path, MAX_FILE_BYTES)[0])
            if content["version"] == _VERSION:
                # Earlier versions wrote no seconds.
                return _Known(content["needed"], content.get("seconds", {})).checked()
        except FileNotFoundError:
            return _Known({}, {})
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        _log.warning("cannot read what earlier runs needed; it is measured anew")
        return _Known({}, {})

    def _write(self) -> None:
        """Write what is known in the thread, in the order of the calls."""
        content = json.dumps({"version": _VERSION, **asdict(self._known)}).encode()
        self._written = dict(self._known.seconds)
        self._writer.submit(self._replace, content)

    def _replace(self, content: bytes) -> None:
        """Replace the file atomically by a rename, so that it is never incomplete."""
        beside = self._path.with_suffix(".tmp")
        try:
            write_own(beside, content)
            os.replace(beside, self._path)  # noqa: PTH105  # says what it does
        except OSError as error:
            if not self._has_failed:
                _log.warning("cannot write what runs needed", error=str(error))
            self._has_failed = True
        else:
            self._has_failed = False


@dataclass(frozen=True, slots=True)
class _Known:
    """Hold what is known of earlier runs, by the digests of their keys, the newest last."""

    needed: dict[str, int]
    seconds: dict[str, float]

    def checked(self) -> Self:
        """Return this. Raises ValueError if a number is not valid."""
        for count in self.needed.values():
            if type(count) is not int or not 0 <= count <= MAX_NEEDED_BYTES:
                raise ValueError
        for seconds in self.seconds.values():
            if type(seconds) not in {int, float} or not 0 <= seconds <= MAX_DURATION_S:
                raise ValueError
        return self


def _remember(entries: dict[str, T], key: UsageKey, value: T) -> None:
    """Put the newest entry last, and drop the first ones if there are too many."""
    entries.pop(key.digest, None)
    entries[key.digest] = value
    while len(entries) > MAX_ENTRIES:
        del entries[next(iter(entries))]
