"""Memory estimates: the bytes that a model's server will need.

The usage of earlier runs is remembered in STATE/expectations.json, by runtime, version, model and
arguments, as each of them changes it.
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
"""Factor on the bytes of the weights, for copies while loading and a request's key-value cache."""

PROMPTS_FACTOR = 0.25
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

MAX_ENTRIES = 1000
MAX_FILE_BYTES = 1024 * 1024
MAX_NEEDED_BYTES = 2**50
"""A file with a larger number is not valid."""

_VERSION = 1


def estimate_bytes(weight_bytes: int, prompt_cache: int = 0) -> int:
    """Return the bytes that a server needs, by the bytes of its weights (see the factors above).

    prompt_cache: the bytes that it may keep of computed prompts.
    """
    prompts = min(prompt_cache, PROMPTS_FACTOR * weight_bytes)
    return int(BASE_BYTES + WEIGHTS_FACTOR * weight_bytes + prompts)


@dataclass(frozen=True, slots=True)
class UsageKey:
    """The properties of a run that decide how much memory it needs. version: "" if not known."""

    runtime: str
    version: str
    runtime_model: str
    arguments: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The key's name in the file."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:32]


class UsageStore:
    """Remembers the memory that earlier runs needed. If the disk fails, works in memory alone."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "expectations.json"
        self._entries: dict[str, int] | None = None
        self._has_failed = False

    def needed(self, key: UsageKey) -> int | None:
        """Return the bytes that runs with this key needed; None without such a run."""
        return self._loaded().get(key.digest)

    def record_usage(self, key: UsageKey, needed: int) -> None:
        """Record that a run with this key needed `needed` bytes at most."""
        entries = self._loaded()
        before = entries.pop(key.digest, 0)
        # The newest entries are last; the first ones are dropped.
        entries[key.digest] = recorded = max(needed, int(before * DECAY_FACTOR))
        while len(entries) > MAX_ENTRIES:
            del entries[next(iter(entries))]
        if recorded != before:
            self._write(entries)

    def _loaded(self) -> dict[str, int]:
        """Return the bytes needed, by digest; the first call reads them from the file."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, int]:
        try:
            content = parse_json(read_own(self._path, MAX_FILE_BYTES)[0])
            entries: dict[str, int] = content["needed"] if content["version"] == _VERSION else {}
            if all(
                type(count) is int and 0 <= count <= MAX_NEEDED_BYTES for count in entries.values()
            ):
                return entries
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        _log.warning("cannot read the memory that earlier runs needed; it is measured anew")
        return {}

    def _write(self, entries: dict[str, int]) -> None:
        """Replace the file atomically by a rename, so that it is never incomplete."""
        beside = self._path.with_suffix(".tmp")
        try:
            write_own(beside, json.dumps({"version": _VERSION, "needed": entries}).encode())
            os.replace(beside, self._path)  # noqa: PTH105  # says what it does
        except OSError as error:
            if not self._has_failed:
                _log.warning("cannot write the memory that runs needed", error=str(error))
            self._has_failed = True
        else:
            self._has_failed = False
